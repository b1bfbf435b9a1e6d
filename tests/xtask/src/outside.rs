//! Programs as a person would start them in a shell, not as somebody whom cargo has started.
//!
//! Cargo tells the programs that it runs what package they are. Build scripts of dependencies look at the same variables,
//! so that a cargo started from here would find them changed, and build those dependencies and all that needs them once
//! more whenever this program and a person take turns.

use std::process::Command;

/// What cargo says of the package of this program.
fn is_of_our_package(name: &str) -> bool {
    let begins = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    begins.iter().any(|start| name.starts_with(start))
        || ["CARGO_PRIMARY_PACKAGE", "OUT_DIR"].contains(&name)
}

/// A command that knows nothing of our package.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_our_package) {
            command.env_remove(name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_says_of_us_is_forgotten_and_nothing_else() {
        // Cargo has told this test, too, or it would prove nothing.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
        let command = command("cargo");
        let gone: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).collect();
        assert!(gone.iter().any(|(name, _)| *name == "CARGO_PKG_NAME"), "{gone:?}");
        for kept in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_INCREMENTAL", "PATH"] {
            assert!(gone.iter().all(|(name, _)| *name != kept), "{kept}");
        }
    }
}
