//! The runs of a pipeline: when each began, how it ended, how much it read. `runs.ndjson` in the data directory, a line each.
//!
//! What a reader would get wrong: a run that was killed has no end in the file. Whoever reads it knows, because another run came
//! behind it, or none runs.

use std::path::{Path, PathBuf};

use foreline_engine::{Clock as _, Report, RunError, RunId, SystemClock};
use serde::{Deserialize, Serialize};

use crate::train::write_whole;

/// The latest runs that are remembered.
const RUNS_MAX: usize = 1_000;
/// Most of what is told of a failure.
const CHARS_MAX: usize = 500;

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Its number: later ones have greater.
    pub(crate) run: u64,
    /// The version of the program.
    pub(crate) version: String,
    pub(crate) workers: u64,
    /// In nanoseconds since 1970.
    pub(crate) started: i64,
    /// In nanoseconds since 1970.
    pub(crate) ended: Option<i64>,
    /// `ended`, `stopped`, or why it failed.
    pub(crate) outcome: Option<String>,
    /// Records that its sources read.
    pub(crate) rows: Option<u64>,
    /// Epochs that got through.
    pub(crate) epochs: Option<u64>,
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("runs.ndjson")
}

/// The latest runs, oldest first. A line that cannot be read is left out: it was written by another version.
pub(crate) fn runs(data_dir: &Path) -> std::io::Result<Vec<Run>> {
    let text = match std::fs::read_to_string(path(data_dir)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// A run that is written down.
#[derive(Debug)]
pub(crate) struct Noted {
    data_dir: PathBuf,
    run: Run,
}

impl Noted {
    /// It begins.
    pub(crate) fn begun(data_dir: &Path, run: RunId, workers: usize) -> Self {
        let run = Run {
            run: run.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            workers: workers as u64,
            started: SystemClock.now_ns(),
            ended: None,
            outcome: None,
            rows: None,
            epochs: None,
        };
        let noted = Noted { data_dir: data_dir.to_owned(), run };
        noted.write();
        noted
    }

    /// It has ended.
    pub(crate) fn ended(
        mut self,
        report: &Result<Report, RunError>,
        rows: impl Fn(&Report) -> u64,
    ) {
        self.run.ended = Some(SystemClock.now_ns());
        self.run.outcome = Some(match report {
            Ok(report) if report.stopped => "stopped".to_owned(),
            Ok(_) => "ended".to_owned(),
            Err(e) => format!("failed: {e}").chars().take(CHARS_MAX).collect(),
        });
        self.run.rows = report.as_ref().ok().map(rows);
        self.run.epochs = report.as_ref().ok().map(|report| report.epochs);
        self.write();
    }

    /// Nothing depends on it: a full disk is the run's to find.
    fn write(&self) {
        let written = runs(&self.data_dir).map_err(anyhow::Error::from).and_then(|mut all| {
            all.retain(|run| run.run != self.run.run);
            all.push(self.run.clone());
            let mut text = Vec::new();
            for run in &all[all.len().saturating_sub(RUNS_MAX)..] {
                serde_json::to_writer(&mut text, run)?;
                text.push(b'\n');
            }
            write_whole(&path(&self.data_dir), &text)
        });
        if let Err(e) = written {
            tracing::warn!("the run could not be noted: {e:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_runs_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(runs(folder.path()).unwrap(), []);
        let old: Vec<String> = (1..=RUNS_MAX as u64)
            .map(|run| {
                format!("{{\"run\":{run},\"version\":\"0\",\"workers\":1,\"started\":{run}}}\n")
            })
            .collect();
        std::fs::write(path(folder.path()), old.concat() + "damaged\n").unwrap();
        let noted = Noted::begun(folder.path(), RunId(5_000), 2);
        let all = runs(folder.path()).unwrap();
        assert_eq!((all.len(), all[0].run, all[RUNS_MAX - 1].run), (RUNS_MAX, 2, 5_000));
        assert_eq!(all[RUNS_MAX - 1].ended, None);
        let report = Report { stopped: true, epochs: 7, ..Report::default() };
        noted.ended(&Ok(report), |_| 42);
        let all = runs(folder.path()).unwrap();
        let last = &all[all.len() - 1];
        assert_eq!((all.len(), last.rows, last.epochs), (RUNS_MAX, Some(42), Some(7)));
        assert_eq!(last.outcome.as_deref(), Some("stopped"));
    }
}
