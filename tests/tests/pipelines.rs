//! Whole pipelines: from files to files, through everything that a user's pipeline goes through.

mod cases;
mod clocks;
mod diagnosis;
mod fleet;
mod late;
mod real_data;
mod sameness;
mod turbofan;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foreline::commands::{Format, Running};
use foreline::session::{Kept, Purpose, keep, load};
use foreline_spec::Plan;

/// The folder of the real data sets, or a loud word that the test does not run.
fn real_data(set: &str) -> Option<PathBuf> {
    foreline_tests::data(set).and_then(|folder| std::fs::canonicalize(folder).ok())
}

fn example(name: &str) -> PathBuf {
    foreline_tests::root().join("pipelines/examples").join(name)
}

fn running(workers: u16) -> Running {
    Running { workers: Some(workers), quiet: true }
}

/// The plan of a file, to be run.
pub(super) fn plan(file: &Path) -> Plan {
    load(file, Format::Text, Purpose::default()).expect("the file has no mistakes")
}

/// The rows of streams of a pipeline that is written here, run on `workers`.
fn rows_of(text: &str, streams: &[&str], workers: usize) -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.yaml");
    std::fs::write(&file, text).unwrap();
    let looked_at = Purpose { checking: true, ..Purpose::default() };
    let plan = load(&file, Format::Text, looked_at).expect("the file has no mistakes");
    keep(&plan, streams, workers, None).expect("the pipeline runs")
}

/// Every file below a folder with its bytes, by path relative to it.
fn files_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}
