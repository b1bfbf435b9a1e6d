//! What must hold for the repository itself, beyond what the compiler and the lints check.
//!
//! A rule is a function from text to complaints. Each is used twice: on the repository, where it must find nothing,
//! and on a bad example, where it must find what is bad; a rule that finds nothing anywhere would be no rule.

mod crates;
mod files;
mod links;
mod registry;
mod source;

use std::path::PathBuf;
use std::process::Command;

use foreline_tests::root;

/// Something that must not be so: where, and what.
type Complaint = String;

/// A file of the repository.
#[derive(Debug, Clone)]
struct File {
    /// From the root, with `/`.
    path: String,
    /// Its text; empty for a file that is none.
    text: String,
}

impl File {
    fn new(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether it is compiled by us.
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The paths of the repository from its root: what git tracks or would track, so that a build or the output of a
/// demo does not count.
fn paths() -> Vec<String> {
    let output = Command::new("git")
        // Whoever owns the checkout: a container often runs as another user.
        .args(["-c", "safe.directory=*"])
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files of the repository; `cargo xtask test` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("paths are UTF-8 here");
    let there = |path: &&str| !path.is_empty() && root().join(path).is_file();
    let mut paths: Vec<String> = text.split('\0').filter(there).map(str::to_owned).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The files of the repository.
fn repository() -> Vec<File> {
    let read = |path: String| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
        File { path, text }
    };
    paths().into_iter().map(read).collect()
}

/// The text of a file of the repository, `None` where there is none.
fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(root().join(path)).ok()
}

/// Ends a test on the repository.
#[track_caller]
fn none(complaints: &[Complaint]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_repository_is_seen() {
    let paths: Vec<PathBuf> = paths().into_iter().map(PathBuf::from).collect();
    for path in ["Cargo.toml", "engine/src/lib.rs", "tests/tests/tidy.rs"] {
        assert!(paths.contains(&PathBuf::from(path)), "{path}");
    }
    assert!(!paths.iter().any(|path| path.starts_with("target") || path.starts_with(".git/")));
}
