//! What the server says of the pipeline itself: metrics, `GET /api/v1/pipeline`, the graph, dead letters, what holds it up.
//!
//! What a reader would get wrong: nothing is counted twice. The figures of the pipeline are those of the run ([`Vitals`]), the
//! models' those of their boards, the views' those of their tables; only requests are counted here.

mod dead;
mod metrics;
mod requests;
mod status;
mod stuck;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foreline_engine::{Clock as _, Recent, Seen, SystemClock, Vitals};
use tokio::sync::{Semaphore, watch};

pub(crate) use dead::dead_letters;
pub use metrics::{Family, Figures, METRICS, Metric};
pub(crate) use metrics::{figures, metrics};
pub(crate) use requests::{Requests, count};
pub(crate) use status::{graph, pipeline};
pub(crate) use stuck::why_stuck;

/// How often the counts are looked at for rates.
const LOOK: Duration = Duration::from_secs(1);
/// Rates are over so many looks: long enough not to jump, short enough to show what happens.
const LOOKS: usize = 11;

/// What is known of a pipeline that runs.
#[derive(Debug)]
pub struct Watched {
    /// Its name.
    pub pipeline: String,
    /// The version of the program.
    pub version: &'static str,
    /// How the run goes.
    pub vitals: Arc<Vitals>,
    /// What it is made of, each behind what it reads.
    pub nodes: Vec<NodeAbout>,
    /// The streams whose last rows are kept in memory, by name.
    pub kept: Vec<(String, Arc<Recent>)>,
}

/// A part of a pipeline, as its graph shows it.
#[derive(Debug, Clone)]
pub struct NodeAbout {
    /// Whether it is a source, a step, a view, an alert or a sink.
    pub sort: Sort,
    /// Its name.
    pub name: String,
    /// Its kind, as in the file: `mqtt`, `window`, `parquet`.
    pub kind: String,
    /// The streams that it reads, by name.
    pub reads: Vec<String>,
}

/// What a part of a pipeline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Rows come in.
    Source,
    /// Rows are computed.
    Step,
    /// A table is kept up.
    View,
    /// Somebody is told.
    Alert,
    /// Rows go out.
    Sink,
}

impl Sort {
    fn word(self) -> &'static str {
        match self {
            Sort::Source => "source",
            Sort::Step => "step",
            Sort::View => "view",
            Sort::Alert => "alert",
            Sort::Sink => "sink",
        }
    }
}

/// The sinks that fill what is kept in memory are called so; no sink of a file can be.
pub const KEEPS: &str = "(kept)";

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) about: Watched,
    pub(crate) requests: Requests,
    /// Connections that may still be opened, of all.
    pub(crate) connections: (Arc<Semaphore>, usize),
    begun: Instant,
    looks: Mutex<VecDeque<Look>>,
}

/// Rows in and out of each source and step at some time.
#[derive(Debug)]
struct Look {
    at: Instant,
    rows: Vec<(u64, u64)>,
}

impl Watch {
    pub(crate) fn new(about: Watched, connections: (Arc<Semaphore>, usize)) -> Self {
        #[expect(clippy::disallowed_methods, reason = "how long it runs is for people")]
        let begun = Instant::now();
        let looks = Mutex::default();
        Watch { about, requests: Requests::default(), connections, begun, looks }
    }

    /// How the run goes now.
    pub(crate) fn seen(&self) -> Seen {
        self.about.vitals.look(SystemClock.now_ns())
    }

    fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A stream whose last rows are kept in memory.
    pub(crate) fn kept(&self, name: &str) -> Option<&Arc<Recent>> {
        self.about.kept.iter().find(|(kept, _)| kept == name).map(|(_, recent)| recent)
    }

    fn counts(&self, seen: &Seen) -> Vec<(u64, u64)> {
        let of = |node: &NodeAbout| {
            if node.sort == Sort::Sink {
                return (given(node, seen), 0);
            }
            let account = seen.report.accounts.get(&node.name).copied().unwrap_or_default();
            (account.input, account.emitted)
        };
        self.about.nodes.iter().map(of).collect()
    }

    /// Notes the counts, for rates.
    fn note(&self) {
        let rows = self.counts(&self.seen());
        #[expect(clippy::disallowed_methods, reason = "rates are for people")]
        let at = Instant::now();
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.push_back(Look { at, rows });
        if looks.len() > LOOKS {
            looks.pop_front();
        }
    }

    /// Rows in and out a second of each part, over the last ten seconds.
    fn rates(&self) -> Vec<(f64, f64)> {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(first), Some(last)) = (looks.front(), looks.back()) else {
            return vec![(0.0, 0.0); self.about.nodes.len()];
        };
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        let rate = |before: u64, after: u64| match seconds > 0.0 {
            true => after.saturating_sub(before) as f64 / seconds,
            false => 0.0,
        };
        let pairs = first.rows.iter().zip(&last.rows);
        pairs.map(|(a, b)| (rate(a.0, b.0), rate(a.1, b.1))).collect()
    }
}

/// Rows that a sink was given in this run, of all its streams.
fn given(sink: &NodeAbout, seen: &Seen) -> u64 {
    let is_its = |name: &str| name.split_once('/').is_some_and(|(own, _)| own == sink.name);
    seen.sinks.iter().filter(|s| is_its(&s.name)).map(|s| s.rows).sum()
}

/// Looks at the counts now and then until the server ends.
pub(crate) async fn look(watched: Arc<Watch>, mut stopped: watch::Receiver<bool>) {
    loop {
        watched.note();
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

/// The seconds that something at `ns` of the clock is behind it.
fn behind(ns: i64) -> f64 {
    SystemClock.now_ns().saturating_sub(ns) as f64 / 1e9
}

/// The bytes that the process has in memory, where the system says.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
