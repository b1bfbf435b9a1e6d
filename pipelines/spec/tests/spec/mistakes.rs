//! Every file of `tests/mistakes` with the exact text that a user sees for it.
//!
//! `FORELINE_UPDATE=1` writes the texts anew, for a review by eye.

use std::collections::BTreeSet;
use std::path::PathBuf;

use foreline_spec::RenderStyle;

use crate::kinds::check;

/// How many different mistakes there are at least.
const LEAST: usize = 45;

fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .join("tests/mistakes")
}

#[test]
fn every_mistake_has_its_message() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= LEAST, "only {} files", files.len());
    let update = std::env::var_os("FORELINE_UPDATE").is_some();
    let mut wrong = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let checked = check(name, &text);
        assert!(!checked.diagnostics.all().is_empty(), "{name} has no mistake");
        assert_eq!(checked.plan.is_none(), checked.diagnostics.has_errors(), "{name}");
        let rendered = checked.diagnostics.render(RenderStyle::PLAIN);
        let golden = path.with_extension("txt");
        if update {
            std::fs::write(&golden, &rendered).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != rendered {
            wrong.push(format!("{name}:\n{rendered}"));
        }
    }
    assert!(wrong.is_empty(), "FORELINE_UPDATE=1 accepts these:\n{}", wrong.join("\n"));
}

/// A message alone must suffice: it has a place inside the file, follows the style, and says what to do.
#[test]
fn messages_follow_the_rules() {
    let mut codes = BTreeSet::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let checked = check(path.file_name().unwrap().to_str().unwrap(), &text);
        for d in checked.diagnostics.all() {
            let context = format!("{}: {}", path.display(), d.message);
            codes.insert(d.code);
            assert!(d.span.start <= d.span.end && d.span.end <= text.len(), "{context}");
            assert!(!d.message.ends_with('.'), "full stop: {context}");
            assert!(!d.message.contains('\n'), "one line: {context}");
            let first = d.message.chars().next().unwrap();
            assert!(!first.is_uppercase(), "lower case: {context}");
        }
    }
    assert!(codes.len() >= 20, "only {codes:?}");
}

#[test]
fn json_has_the_same_content() {
    let checked = check("f.yaml", "version: 1\nsuorces: {}\n");
    let json = checked.diagnostics.to_json();
    let unknown = json["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["code"] == "FL0201")
        .unwrap()
        .clone();
    assert_eq!(unknown["severity"], "error");
    assert_eq!(unknown["file"], "f.yaml");
    assert_eq!((&unknown["at"]["line"], &unknown["at"]["column"]), (&2.into(), &1.into()));
    assert_eq!(unknown["suggestion"], "sources");
}

#[test]
fn hostile_files_are_refused_quickly() {
    let bomb = (0..12).fold("a0: &a0 [x]\n".to_owned(), |text, i| {
        let many = vec![format!("*a{i}"); 10].join(", ");
        format!("{text}a{}: &a{} [{many}]\n", i + 1, i + 1)
    });
    let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
    let long = format!("a: {}", "x".repeat(foreline_spec::MAX_FILE_BYTES));
    for text in [bomb, deep, long, "\0".to_owned(), "a: b: c: [".to_owned()] {
        let checked = check("hostile.yaml", &text);
        assert!(checked.plan.is_none());
        assert_eq!(checked.diagnostics.all()[0].code.0, "FL0101", "{:.60}", text);
    }
}
