//! Lists the files of the SDK, which `foreline model new` writes into a new plugin: whoever has the command has the SDK
//! of the same version, with no repository to find.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let sources = here.join("sdk/src");
    let mut files = Vec::new();
    collect(&sources, &mut files)?;
    files.sort();
    let mut list = "&[\n".to_owned();
    for file in &files {
        let name = file.strip_prefix(&sources).unwrap_or(file).display().to_string();
        let name = name.replace('\\', "/");
        // The text and not the path: checkouts may share a target folder, and one of them be gone.
        let text = fs::read_to_string(file)?;
        let _ = writeln!(list, "    ({name:?}, {text:?}),");
    }
    list.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("sdk_sources.rs"), list)?;
    // A folder is watched with everything in it.
    println!("cargo::rerun-if-changed=sdk/src");
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
