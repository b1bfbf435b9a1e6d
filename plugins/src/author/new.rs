//! The beginning of a plugin in Rust: a model that works, its tests, its cases, and the SDK beside it.

use crate::sandbox::PRESENT;

/// The files of the SDK of this version, by their place below `src`.
pub const SDK_SOURCES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk_sources.rs"));

/// What stands for the plugin's name in a template.
const NAME: &str = "{{name}}";
/// What stands for the name of the file that Cargo makes, in which a hyphen is an underscore.
const MODULE: &str = "{{module}}";

/// The templates, by the name of the file that becomes of each.
const TEMPLATES: &[(&str, &str)] = &[
    (".gitignore", "/target\n*.wasm\n"),
    ("Cargo.toml", include_str!("../../template/Cargo.toml.in")),
    ("README.md", include_str!("../../template/README.md")),
    ("card.yaml", include_str!("../../template/card.yaml")),
    ("cases.yaml", include_str!("../../template/cases.yaml")),
    ("sdk/Cargo.toml", include_str!("../../template/sdk.toml.in")),
    ("src/lib.rs", include_str!("../../template/lib.rs")),
    ("wit/model.wit", PRESENT.wit),
];

/// A file of a new plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Its place below the plugin's folder.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// The files of a new plugin called `name`, in the order of their paths.
///
/// # Errors
/// When Cargo would not take the name: lower-case letters, digits, `-` and `_`, a letter first.
pub fn files(name: &str) -> Result<Vec<NewFile>, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.chars().all(fits)
        || name.len() > 64
    {
        return Err(format!(
            "'{name}' cannot be a plugin's name; use lower-case letters, digits, '-' and '_', a letter first"
        ));
    }
    let module = name.replace('-', "_");
    let fill = |text: &str| text.replace(NAME, name).replace(MODULE, &module);
    let templates = TEMPLATES.iter().map(|(path, text)| ((*path).to_owned(), fill(text)));
    let sdk =
        SDK_SOURCES.iter().map(|(path, text)| (format!("sdk/src/{path}"), (*text).to_owned()));
    let mut files: Vec<NewFile> =
        templates.chain(sdk).map(|(path, text)| NewFile { path, text }).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The template compiled natively, so that its own tests run here.
#[cfg(test)]
#[path = "../../template/lib.rs"]
mod template;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_of_a_new_plugin_has_the_versions_of_this_repository() {
        let manifest = include_str!("../../template/sdk.toml.in");
        let root = include_str!("../../../Cargo.toml");
        let (_, dependencies) = manifest.split_once("[dependencies]\n").unwrap();
        for line in dependencies.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let line = line.replace(", optional = true", "");
            assert!(root.lines().any(|known| known == line), "{line}");
        }
        let ours = include_str!("../../sdk/Cargo.toml");
        let names = |text: &str| text.lines().filter(|l| l.contains("workspace = true")).count();
        // Six of them are about the package and its lints.
        assert_eq!(names(ours) - 6, dependencies.lines().filter(|l| l.contains(" = ")).count());
    }

    #[test]
    fn a_new_plugin_has_its_name_everywhere() {
        let files = files("pump-drift").unwrap();
        for file in &files {
            assert!(!file.text.contains("{{"), "{}", file.path);
        }
        let text = |path: &str| &files.iter().find(|f| f.path == path).unwrap().text;
        assert!(text("Cargo.toml").contains("name = \"pump-drift\""));
        assert!(text("README.md").contains("pump_drift.wasm"));
        assert!(text("sdk/src/lib.rs").contains("pub mod own;"));
        for name in ["", "Pump", "9", "a/b", "..", "a b"] {
            assert!(super::files(name).is_err(), "{name}");
        }
    }
}
