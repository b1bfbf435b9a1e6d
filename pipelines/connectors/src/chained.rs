//! A history that is read to its end before a live source: backfill, then live, with nothing lost between them.
//!
//! What a reader would get wrong:
//!
//! * The live source is polled from the beginning. What it brings meanwhile is journaled and acknowledged, and waits for
//!   the history's end ([`Source::holds_back`]), so a broker need not keep it.
//! * What waits is bounded. When it has reached the bound the live source is polled no more until the history has ended,
//!   and a broker keeps what comes then, as far as its own limits go.
//! * History and live overlap: `dedupe` takes a row out that came both ways, so it is demanded.
//! * Partitions of the two are numbered apart: those of the live source have the highest bit of a partition's number.

use std::sync::Arc;

use foreline_engine::{
    Chunk, ConfigError, Decoded, Decoder, KnownPartition, Partition, Poll, Position, Range, Replay,
    Resolver, Source, SourceError,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::csv::{Csv, CsvConfig};
use crate::kind::{PlannedSource, Probe, SourceInputs, SourceKind as _};
use crate::parquet::{ParquetFiles, ParquetSourceConfig};
use crate::s3::{S3, S3Config};

/// The partitions of the live source begin here.
const LIVE: u32 = Position::SECOND_PARTITIONS;
/// The same in a position.
const LIVE_POSITION: u64 = 1 << 63;

/// What is read to its end before a source's own records.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// Delimited text files.
    Csv(Box<CsvConfig>),
    /// Parquet files, such as those that a sink has written.
    Parquet(ParquetSourceConfig),
    /// Objects of an S3 store; with `poll: once`.
    S3(Box<S3Config>),
}

impl History {
    /// Checks the configuration.
    ///
    /// # Errors
    /// Everything that is wrong; `at` begins with `history.` or `columns.`.
    pub fn plan(
        &self,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>> {
        let (at, planned) = match self {
            History::Csv(config) => ("history.csv", Csv::plan(config, inputs, given)),
            History::Parquet(config) => {
                ("history.parquet", ParquetFiles::plan(config, inputs, given))
            }
            History::S3(config) => ("history.s3", S3::plan(config, inputs, given)),
        };
        let under = |e: ConfigError| match e.at.starts_with("columns.") {
            true => e,
            false => e.under(at),
        };
        match planned {
            Ok(planned) if !planned.bounded => Err(vec![
                ConfigError::new(at, "a history comes to an end, and this one does not")
                    .help("read it once: `poll: once` for s3, no `follow` for csv"),
            ]),
            Ok(planned) => Ok(planned),
            Err(errors) => Err(errors.into_iter().map(under).collect()),
        }
    }
}

/// `history`, and then `live`.
#[must_use]
pub fn chained(history: PlannedSource, live: PlannedSource) -> PlannedSource {
    let (open_history, open_live) = (Arc::clone(&history.open), Arc::clone(&live.open));
    let open = move || Ok(Box::new(Chained::new(open_history()?, open_live()?)) as Box<dyn Source>);
    let probe = match (history.probe, live.probe) {
        (Some(history), Some(live)) => {
            let both = move || Ok(format!("{}; {}", history()?, live()?));
            Some(Arc::new(both) as Probe)
        }
        (one, other) => one.or(other),
    };
    let notes = history.notes.into_iter().chain(live.notes.clone()).collect();
    PlannedSource { open: Arc::new(open), probe, notes, ..live }
}

/// Two sources, one after the other.
struct Chained {
    history: Box<dyn Source>,
    live: Box<dyn Source>,
    history_has_ended: bool,
    live_has_ended: bool,
    /// Bytes of live records that may still be handed out while the history is read.
    room: u64,
    /// Whether it was said that there is none.
    said_full: bool,
    /// Whether it is the live source's turn: neither keeps the other waiting.
    live_is_next: bool,
}

impl Chained {
    fn new(history: Box<dyn Source>, live: Box<dyn Source>) -> Self {
        let (history_has_ended, live_has_ended) = (false, false);
        Chained {
            history,
            live,
            history_has_ended,
            live_has_ended,
            room: 0,
            said_full: false,
            live_is_next: true,
        }
    }

    /// Records of the live source, under the number that they have here.
    fn poll_live(&mut self, budget_bytes: usize) -> Result<Poll, SourceError> {
        if self.live_has_ended {
            return Ok(Poll::Ended);
        }
        Ok(match self.live.poll(budget_bytes)? {
            Poll::Ready(chunk) => Poll::Ready(outward(chunk)?),
            Poll::Pending => Poll::Pending,
            Poll::Ended => {
                self.live_has_ended = true;
                Poll::Ended
            }
        })
    }

    /// Live records that wait for the end of the history, if it is their turn and there is room for them.
    fn poll_held(&mut self, budget_bytes: usize) -> Result<Option<Chunk>, SourceError> {
        let turn = self.live_is_next;
        self.live_is_next = !turn;
        if !turn || self.live.replay() != Replay::ByPayload {
            return Ok(None);
        }
        if self.room == 0 {
            if !self.said_full {
                tracing::warn!(
                    "as many live records wait for the end of the history as may; no more are taken until then"
                );
            }
            self.said_full = true;
            return Ok(None);
        }
        match self.poll_live(budget_bytes)? {
            Poll::Ready(chunk) => Ok(Some(chunk)),
            Poll::Pending | Poll::Ended => Ok(None),
        }
    }

    /// The source that a partition belongs to, and its number there.
    fn side(&self, partition: Partition) -> (&dyn Source, Partition) {
        match inward(partition) {
            Some(inner) => (&*self.live, inner),
            None => (&*self.history, partition),
        }
    }
}

/// The number of a live partition in the live source.
fn inward(partition: Partition) -> Option<Partition> {
    partition.0.checked_sub(LIVE).map(Partition)
}

fn outward(chunk: Chunk) -> Result<Chunk, SourceError> {
    if chunk.partition.0 >= LIVE {
        return Err(too_many("live source"));
    }
    Ok(Chunk { partition: Partition(chunk.partition.0 + LIVE), ..chunk })
}

fn too_many(what: &str) -> SourceError {
    SourceError::Limit(format!("the {what} has more than {LIVE} partitions"))
}

impl Source for Chained {
    fn replay(&self) -> Replay {
        self.live.replay()
    }

    fn replay_of(&self, partition: Partition) -> Replay {
        let (source, inner) = self.side(partition);
        source.replay_of(inner)
    }

    /// Live records that can be read again are not polled before their time, so only the others are held back.
    fn holds_back(&self, partition: Partition) -> bool {
        inward(partition).is_some() && !self.history_has_ended
    }

    fn may_hold_back(&mut self, bytes: u64) {
        self.room = bytes;
    }

    fn poll(&mut self, budget_bytes: usize) -> Result<Poll, SourceError> {
        if self.history_has_ended {
            return self.poll_live(budget_bytes);
        }
        if let Some(chunk) = self.poll_held(budget_bytes)? {
            return Ok(Poll::Ready(chunk));
        }
        match self.history.poll(budget_bytes)? {
            Poll::Ready(chunk) if chunk.partition.0 >= LIVE => Err(too_many("history")),
            Poll::Ended => {
                tracing::info!("the history has been read; from here on it is live");
                self.history_has_ended = true;
                Ok(Poll::Pending)
            }
            other => Ok(other),
        }
    }

    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        match inward(partition) {
            Some(inner) => outward(self.live.read(inner, range)?),
            None => self.history.read(partition, range),
        }
    }

    fn durable(&mut self, partition: Partition, upto: Position) {
        match inward(partition) {
            Some(inner) => self.live.durable(inner, Position::new(inner, upto.ordinal())),
            None => self.history.durable(partition, upto),
        }
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        let (history, live) = (self.history.decoder(), self.live.decoder());
        Box::new(ChainedDecoder { history, live })
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        let (source, inner) = self.side(partition);
        source.partition_name(inner)
    }

    fn identity(&self, partition: Partition) -> Vec<u8> {
        let (source, inner) = self.side(partition);
        source.identity(inner)
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        let (mut history, mut live) = (Vec::new(), Vec::new());
        for one in known {
            match inward(one.partition) {
                Some(partition) => live.push(KnownPartition { partition, ..one.clone() }),
                None => history.push(one.clone()),
            }
        }
        self.history.resume(&history)?;
        self.live.resume(&live)
    }
}

/// Decodes the chunks of both.
struct ChainedDecoder {
    history: Box<dyn Decoder>,
    live: Box<dyn Decoder>,
}

impl Decoder for ChainedDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let Some(partition) = inward(chunk.partition) else {
            return self.history.decode(chunk, out);
        };
        let (n_rows, n_dead) = (out.rows.len(), out.dead.len());
        self.live.decode(&Chunk { partition, ..chunk.clone() }, out);
        for (_, positions) in &mut out.rows[n_rows..] {
            *positions = positions.values().iter().map(|at| at | LIVE_POSITION).collect();
        }
        for letter in &mut out.dead[n_dead..] {
            letter.position = letter.position.map(|at| at | LIVE_POSITION);
        }
    }
}

#[cfg(test)]
mod tests;
