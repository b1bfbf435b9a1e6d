//! Where tests find recorded data that is too large for the repository.

use std::path::{Path, PathBuf};

/// A file or folder of the recorded data, or `None` and a line that says so.
pub(crate) fn recorded(path: &str) -> Option<PathBuf> {
    let given = std::env::var_os("FORELINE_DATA").map(PathBuf::from);
    // Asked for at run time: checkouts that share a target folder share what is compiled, not where they are.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let beside = || Path::new(&own).join("../../shared/data");
    let path = given.unwrap_or_else(beside).join(path);
    if path.exists() {
        return Some(path);
    }
    println!("SKIPPED: there is no '{}' (FORELINE_DATA)", path.display());
    None
}
