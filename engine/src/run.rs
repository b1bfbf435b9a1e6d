//! Carries a [`Graph`] out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;

use crate::account::Account;
use crate::clock::{Clock, SystemClock};
use crate::graph::Graph;
use crate::sink::{RunId, SinkError};
use crate::source::SourceError;

/// How a graph is run. None of it changes a result.
#[derive(Debug, Clone)]
pub struct Options {
    /// Worker threads, 1 to 256.
    pub workers: usize,
    /// An epoch closes after this many records.
    pub epoch_rows: usize,
    /// An epoch that is not empty closes after this long when the sources have nothing more at hand.
    pub epoch_interval: Duration,
    /// Most epochs between the sources and the sinks.
    pub epochs_in_flight: usize,
    /// The number of this run, greater than that of every run before it.
    pub run: RunId,
    /// Where epochs get their time.
    pub clock: Arc<dyn Clock>,
    /// Set from outside to end at the next epoch boundary. Open windows are not flushed.
    pub stop: Arc<AtomicBool>,
    /// Told about each epoch once its rows are with the sinks.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            workers: 1,
            epoch_rows: 65_536,
            epoch_interval: Duration::from_millis(100),
            epochs_in_flight: 8,
            run: RunId(1),
            clock: Arc::new(SystemClock),
            stop: Arc::default(),
            observer: None,
        }
    }
}

/// Someone who wants to know how a run goes: a progress bar, a metrics registry.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// An epoch is through; `report` is the sum so far.
    fn epoch(&self, epoch: u64, report: &Report);
}

/// What a run did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Epochs carried out.
    pub epochs: u64,
    /// The account of every source and step, by name.
    pub accounts: BTreeMap<String, Account>,
    /// Dead letters by operator and reason.
    pub dead: BTreeMap<String, BTreeMap<String, u64>>,
    /// Rows written, by sink and stream.
    pub written: BTreeMap<String, u64>,
    /// Whether the run was stopped from outside before its sources ended.
    pub stopped: bool,
}

/// A run failed. Nothing of the epoch it failed in was committed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A step failed in a way no row can be blamed for.
    #[error("step '{step}' ({kind}): {message}")]
    Step {
        /// The step's name.
        step: String,
        /// Its kind.
        kind: String,
        /// What happened.
        message: String,
    },
    /// A source could not be read.
    #[error("source '{0}': {1}")]
    Source(String, #[source] SourceError),
    /// A sink could not be written.
    #[error("sink '{0}': {1}")]
    Sink(String, #[source] SinkError),
    /// The engine could not start.
    #[error("{0}")]
    Engine(String),
}
