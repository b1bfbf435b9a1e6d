//! Rules for the files of the repository, whatever is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use foreline_tests::root;
use sha2::{Digest as _, Sha256};

use super::{Complaint, File, none, paths, repository, text};

/// The folders at the root; another one needs a place in the design.
const FOLDERS: &[&str] = &[
    ".cargo",
    ".ci",
    "benches",
    "contrib",
    "docs",
    "engine",
    "operators",
    "pipelines",
    "plugins",
    "sql",
    "tests",
];
/// The files at the root.
const ROOT_FILES: &[&str] = &[
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "deny.toml",
    "rustfmt.toml",
];
/// Files larger than this make every clone slow; recorded data and built things lie elsewhere.
const MAX_BYTES: u64 = 1_000_000;
/// Built plugins may be larger: users and tests need no wasm toolchain because of them.
const PREBUILT: &str = "plugins/prebuilt/";
/// A map that is longer is not read.
const MAX_MAP_LINES: usize = 200;
/// Paths of somebody's machine.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Files and folders at the root that have no place there.
fn strays(paths: &[String]) -> Vec<Complaint> {
    let stray = |path: &&String| match path.split_once('/') {
        Some((folder, _)) => !FOLDERS.contains(&folder),
        None => !ROOT_FILES.contains(&path.as_str()),
    };
    paths.iter().filter(stray).map(|path| format!("{path}: has no place at the root")).collect()
}

/// A file that is too large.
fn large(path: &str, bytes: u64) -> Option<Complaint> {
    let too_large = bytes > MAX_BYTES && !path.starts_with(PREBUILT);
    too_large.then(|| format!("{path}: {bytes} bytes are more than {MAX_BYTES}"))
}

/// Paths that are those of one machine only.
fn machine_paths(file: &File) -> Vec<Complaint> {
    let found = |line: &str| {
        MACHINE_PATHS.iter().any(|path| {
            // Part of an address or of a longer path is none: `https://example.org/work/`.
            line.match_indices(path).any(|(at, _)| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || ".}_-".contains(c))
            })
        })
    };
    let lines = file.text.lines().enumerate().filter(|(_, line)| found(line));
    lines
        .map(|(at, line)| format!("{}:{}: a path of one machine: {line}", file.path, at + 1))
        .collect()
}

/// Plugins whose digest is not the one that is written down, in the format of `sha256sum`.
fn digests(list: &str, plugins: &BTreeMap<String, Vec<u8>>) -> Vec<Complaint> {
    let listed: BTreeMap<&str, &str> = list
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(digest, name)| (name, digest))
        .collect();
    let mut complaints = Vec::new();
    for (name, bytes) in plugins {
        let digest: String =
            Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if listed.get(name.as_str()) != Some(&digest.as_str()) {
            complaints.push(format!(
                "{PREBUILT}{name}: its digest is {digest}; `cargo xtask plugins` writes it down"
            ));
        }
    }
    let gone = listed.keys().filter(|name| !plugins.contains_key(**name));
    complaints.extend(gone.map(|name| format!("{PREBUILT}digests.txt: there is no '{name}'")));
    complaints
}

/// Those of `files`, or of the modules they declare, that are not as `rustfmt` would have them.
fn unformatted(files: &[String]) -> BTreeSet<String> {
    let output = Command::new("rustfmt")
        .args(["--edition", "2024", "--check", "--files-with-diff", "--config-path"])
        .arg(root().join("rustfmt.toml"))
        .args(files)
        .current_dir(root())
        .output()
        .expect("rustfmt is there; `cargo xtask test` installs it");
    let mut found: BTreeSet<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    // A file that does not parse is an error, and no difference.
    found.extend(String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned));
    found
}

#[test]
fn the_root_holds_what_it_should() {
    none(&strays(&paths()));
}

#[test]
fn no_file_is_large() {
    let bytes = |path: &String| root().join(path).metadata().map_or(0, |metadata| metadata.len());
    none(&paths().iter().filter_map(|path| large(path, bytes(path))).collect::<Vec<_>>());
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    none(&repository().iter().flat_map(machine_paths).collect::<Vec<_>>());
}

#[test]
fn the_map_is_short() {
    let lines = text("ARCHITECTURE.md").map_or(0, |text| text.lines().count());
    assert!((1..=MAX_MAP_LINES).contains(&lines), "ARCHITECTURE.md has {lines} lines");
}

#[test]
fn prebuilt_plugins_have_their_digests() {
    let mut plugins = BTreeMap::new();
    for path in paths() {
        if let Some(name) = path.strip_prefix(PREBUILT).filter(|name| name.ends_with(".wasm")) {
            plugins
                .insert(name.to_owned(), std::fs::read(root().join(&path)).expect("it is there"));
        }
    }
    assert!(!plugins.is_empty(), "there is no plugin in {PREBUILT}");
    none(&digests(&text("plugins/prebuilt/digests.txt").unwrap_or_default(), &plugins));
}

/// `cargo fmt` formats what it finds from the crates' roots; a file that only a macro declares is not found.
#[test]
fn every_rust_file_is_formatted() {
    let files: Vec<String> = paths().into_iter().filter(|path| path.ends_with(".rs")).collect();
    let advice = |file: String| format!("{file}: run `cargo fmt --all`, or `rustfmt` on it");
    let complaints: Vec<Complaint> = unformatted(&files).into_iter().map(advice).collect();
    none(&complaints);
}

#[test]
fn a_file_that_is_not_formatted_is_found() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let file = dir.path().join("bad.rs");
    std::fs::write(&file, "//! Bad.\nfn  f( ) { }\n").expect("it can be written");
    let path = file.to_str().expect("temporary paths are UTF-8").to_owned();
    assert_eq!(unformatted(std::slice::from_ref(&path)).len(), 1);
    std::fs::write(&file, "//! Good.\nfn f() {}\n").expect("it can be written");
    assert_eq!(unformatted(std::slice::from_ref(&path)).len(), 0);
    std::fs::write(&file, "//! Broken.\nfn f( {\n").expect("it can be written");
    assert!(!unformatted(&[path]).is_empty());
}

#[test]
fn bad_files_are_found() {
    let paths = ["engine/src/lib.rs", "helpers/a.rs", "notes.md", "LICENSE"].map(str::to_owned);
    assert_eq!(
        strays(&paths),
        ["helpers/a.rs: has no place at the root", "notes.md: has no place at the root"]
    );
    assert!(large("docs/film.mp4", MAX_BYTES + 1).is_some());
    assert_eq!(large("docs/film.mp4", MAX_BYTES), None);
    assert_eq!(large("plugins/prebuilt/onnx.wasm", MAX_BYTES + 1), None);
}

#[test]
fn paths_of_one_machine_are_found() {
    for path in MACHINE_PATHS {
        let bad = File::new("a.md", &format!("fine\nlook in {path}x\n"));
        assert_eq!(machine_paths(&bad).len(), 1, "{path}");
        let good = File::new("a.md", &format!("https://example.org{path}x and $dir{path}"));
        assert_eq!(machine_paths(&good), [""; 0], "{path}");
    }
}

#[test]
fn a_wrong_digest_is_found() {
    let plugins = BTreeMap::from([("a.wasm".to_owned(), b"abc".to_vec())]);
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digests(&format!("{digest}  a.wasm\n"), &plugins), [""; 0]);
    assert_eq!(digests("", &plugins).len(), 1);
    assert_eq!(digests(&format!("{}  a.wasm\n", digest.replace('b', "c")), &plugins).len(), 1);
    assert_eq!(digests(&format!("{digest}  a.wasm\n{digest}  gone.wasm\n"), &plugins).len(), 1);
}
