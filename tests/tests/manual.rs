//! The manual of the steps, `docs/operators`: made from the code, and held against it.
//!
//! What a reader would get wrong: nothing in those pages is written by hand. The head of an operator's file says what it
//! does, its configuration's doc comments what it takes, and its example is run by the engine over the streams of
//! `operators/examples/streams.yaml`; the rows and the picture are what came out. `FORELINE_UPDATE=1` writes the pages.

mod head;
mod options;
mod page;
mod picture;
mod streams;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foreline::session::{Kept, keep};
use foreline_engine::{Family, Registration};
use foreline_tests::root;

/// The page of a family of steps.
fn page_of(family: Family) -> String {
    format!("{}.md", family.name())
}

fn folder() -> PathBuf {
    root().join("docs/operators")
}

fn kinds() -> Vec<Registration> {
    foreline_spec::Kinds::all().steps
}

/// The stream that an example is about: the entry that uses the kind.
fn shown_stream(kind: &Registration) -> &str {
    let mut entry = "";
    for line in kind.example.lines() {
        if !line.starts_with(' ') {
            entry = line.split(':').next().unwrap_or_default();
        }
        if line.contains(&format!("{}:", kind.name)) {
            break;
        }
    }
    entry
}

/// What comes out of an example, and the stream that it reads.
fn carried_out(data: &Path, kind: &Registration) -> Option<(Kept, String)> {
    // A model is a file beside the pipeline, and there is none here.
    if kind.family == Family::Models {
        return None;
    }
    let steps: String = kind.example.lines().map(|line| format!("  {line}\n")).collect();
    let file = data.join(format!("{}.yaml", kind.name));
    std::fs::write(&file, format!("{}steps:\n{steps}", streams::declared())).unwrap();
    let plan = super::pipelines::plan(&file);
    let shown = shown_stream(kind);
    let read = page::reads(kind.example, shown);
    let kept = keep(&plan, &[shown, &read], 1, None).unwrap_or_else(|_| {
        panic!("the example of '{}' does not run: {}", kind.name, kind.example)
    });
    Some((kept, read))
}

/// All pages and pictures, by name.
fn manual() -> BTreeMap<String, String> {
    let data = tempfile::tempdir().unwrap();
    streams::write(data.path());
    let kinds = kinds();
    let mut files = BTreeMap::from([("README.md".to_owned(), page::index(&kinds))]);
    for &family in Family::ALL {
        let mut text = page::opening(family);
        for kind in kinds.iter().filter(|k| k.family == family) {
            let shown = carried_out(data.path(), kind);
            let rows = shown.as_ref().map(|(kept, read)| {
                let (name, kept) = (shown_stream(kind), kept);
                if let Some(picture) = picture::draw(&kept.streams[name], kept.streams.get(read)) {
                    files.insert(format!("{}.svg", kind.name), picture);
                }
                table::of(&kept.streams[name])
            });
            let has_picture = files.contains_key(&format!("{}.svg", kind.name));
            text += &page::of(kind, rows.as_deref(), has_picture);
        }
        files.insert(page_of(family), text);
    }
    files
}

#[test]
fn the_manual_says_what_the_steps_do() {
    let made = manual();
    let folder = folder();
    if std::env::var_os("FORELINE_UPDATE").is_some() {
        std::fs::remove_dir_all(&folder).ok();
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in &made {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    let read = |name: &String| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let stale: Vec<&String> =
        made.iter().filter(|(name, text)| read(name) != **text).map(|(name, _)| name).collect();
    let there = std::fs::read_dir(&folder).unwrap();
    let there = there.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let strays: Vec<String> = there.filter(|name| !made.contains_key(name)).collect();
    assert!(stale.is_empty(), "not as the code says: {stale:?}; FORELINE_UPDATE=1 writes them");
    assert!(strays.is_empty(), "of no step: {strays:?}");
}
