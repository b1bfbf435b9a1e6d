//! One word names an operator: its file, its module, its line in the table, its key in a pipeline file.

use std::collections::BTreeSet;

use super::{Complaint, File, none, repository};

/// The folder of the operators.
const FOLDER: &str = "operators/src/";
/// What an operator's file holds.
const MARK: &str = "impl OperatorKind for ";

/// The operators by their files: the name of the file and the name inside.
fn declared(files: &[File]) -> Vec<(&str, Option<&str>)> {
    let mut operators = Vec::new();
    for file in files.iter().filter(|file| file.text.contains(MARK)) {
        let Some(stem) = file.path.strip_prefix(FOLDER).and_then(|name| name.strip_suffix(".rs"))
        else {
            continue;
        };
        // The harness has operators of its own, which are not for users.
        if stem == "testing" || stem.starts_with("testing/") {
            continue;
        }
        // Sections of the pipeline file have a table of their own.
        if foreline_operators::SECTIONS.iter().any(|section| section.name == stem) {
            continue;
        }
        let (_, after) = file.text.split_once(MARK).expect("it was just found");
        let name = after
            .split_once("const NAME: &'static str = \"")
            .and_then(|(_, name)| name.split_once('"'));
        operators.push((stem, name.map(|(name, _)| name)));
    }
    operators
}

/// Operators that are not in the table, lines in the table without a file, and names that differ.
fn complete(files: &[File], table: &[&str]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let declared = declared(files);
    for (stem, name) in &declared {
        if *name != Some(*stem) {
            complaints.push(format!("{FOLDER}{stem}.rs: `NAME` is {name:?}, not the file's name"));
        }
        if !table.contains(stem) {
            complaints.push(format!("{FOLDER}{stem}.rs: give it a line in `OPERATORS`"));
        }
    }
    let stems: BTreeSet<&str> = declared.iter().map(|(stem, _)| *stem).collect();
    let strays = table.iter().filter(|name| !stems.contains(*name));
    complaints.extend(
        strays.map(|name| format!("`OPERATORS` has '{name}', but no {FOLDER}{name}.rs does")),
    );
    if !table.is_sorted() {
        complaints.push("`OPERATORS` is not in alphabetical order".to_owned());
    }
    complaints
}

#[test]
fn the_table_of_operators_is_complete() {
    let files = repository();
    let table: Vec<&str> = foreline_operators::OPERATORS.iter().map(|entry| entry.name).collect();
    assert!(!table.is_empty());
    none(&complete(&files, &table));
}

#[test]
fn an_operator_that_is_not_in_the_table_is_found() {
    let operator = |path: &str, name: &str| {
        File::new(
            path,
            &format!(
                "//! An operator.\nimpl OperatorKind for X {{\n    const NAME: &'static str = \"{name}\";\n}}\n"
            ),
        )
    };
    let files = [
        operator("operators/src/ema.rs", "ema"),
        operator("operators/src/select.rs", "choose"),
        operator("operators/src/testing.rs", "echo"),
        operator("plugins/src/model.rs", "model"),
    ];
    assert_eq!(complete(&files[..1], &["ema"]), [""; 0]);
    assert_eq!(
        complete(&files, &["window", "ema"]),
        [
            "operators/src/select.rs: `NAME` is Some(\"choose\"), not the file's name",
            "operators/src/select.rs: give it a line in `OPERATORS`",
            "`OPERATORS` has 'window', but no operators/src/window.rs does",
            "`OPERATORS` is not in alphabetical order",
        ]
    );
}
