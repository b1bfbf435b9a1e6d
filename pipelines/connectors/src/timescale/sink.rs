//! Brings rows and epochs into the database.

use std::cell::Cell;
use std::sync::Arc;

use foreline_engine::{Batch, Committed, RunId, Schema, Sink, SinkError};

use super::Target;
use super::commit::{Commit, Outcome};
use super::encode::{Buffer, Contents, LeftOut};
use super::inspect::CutBy;
use super::pool::{Job, Pool};
use super::statements::Statements;
use super::takeover::{Open, open};

/// The table of one stream.
pub(super) struct TableSink {
    target: Target,
    statements: Statements,
    pool: Arc<Pool>,
    open: Option<Open>,
    buffer: Buffer,
    left_out: LeftOut,
    /// A commit whose outcome is not known, with what it left out.
    uncertain: Option<(u64, LeftOut)>,
    /// A refresh that failed is said once.
    refresh_failed: bool,
}

impl TableSink {
    pub(super) fn new(target: Target) -> Result<Self, SinkError> {
        Ok(TableSink {
            statements: Statements::of(&target.table),
            pool: Pool::of(&target.address, target.timeout)?,
            target,
            open: None,
            buffer: Buffer::default(),
            left_out: LeftOut::default(),
            uncertain: None,
            refresh_failed: false,
        })
    }

    /// What took too long.
    fn too_long(&self) -> SinkError {
        let (timeout, address) = (self.target.timeout, &self.target.address);
        SinkError::Retry(format!("{address} does not answer after {timeout:?}"))
    }

    /// Brings continuous aggregates up to date where rows were corrected. The rows are there whether it succeeds or not.
    fn refresh(&mut self, contents: &Contents) {
        let (Some((first, last)), Some(open)) = (contents.corrected, &self.open) else { return };
        if open.cut_by != CutBy::Timescale {
            return;
        }
        for aggregate in &self.target.table.aggregates {
            let call = aggregate.refresh(first, last);
            let what = "refresh an aggregate";
            let refreshed = self.pool.run(async |db| db.run(what, &call).await.map(Job::Done));
            let failure = match refreshed {
                Some(Ok(())) => continue,
                Some(Err(error)) => error.to_string(),
                None => "it takes too long".to_owned(),
            };
            if !std::mem::replace(&mut self.refresh_failed, true) {
                let view = &aggregate.view;
                tracing::warn!("aggregate {view} is behind until its policy runs: {failure}");
            }
        }
    }
}

impl Sink for TableSink {
    fn open(&mut self, run: RunId, generation: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        if self.open.take().is_some() {
            // What was wrong may have been the connection.
            self.pool.hang_up();
        }
        self.buffer = Buffer::default();
        let (target, statements) = (&self.target, &self.statements);
        let opened = self
            .pool
            .run(async |db| open(db, target, statements, run, generation).await.map(Job::Done))
            .unwrap_or_else(|| Err(self.too_long()))?;
        let committed = opened.committed;
        if let Some((upto, left_out)) = self.uncertain.take()
            && committed.is_some_and(|has| has >= upto)
        {
            self.left_out.add(left_out);
        }
        self.open = Some(opened);
        Ok(committed)
    }

    fn write(&mut self, epoch: u64, rows: &[Batch]) -> Result<(), SinkError> {
        let open = self.open.as_ref().ok_or_else(not_open)?;
        for batch in rows.iter().filter(|b| !b.is_empty()) {
            let pushed = self.buffer.push(&self.target.table, open.generation, epoch, batch);
            pushed.map_err(|why| {
                SinkError::Fatal(format!(
                    "rows cannot be encoded for {}: {why}",
                    self.target.table.name
                ))
            })?;
        }
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        let open = self.open.as_ref().ok_or_else(not_open)?;
        if let Some(has) = open.committed.filter(|&has| has >= upto) {
            return Ok(Committed::Yes(has));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let contents = buffer.contents(self.target.table.cut);
        let before = buffer.left_out;
        let asked = Cell::new(false);
        let (target, statements) = (&self.target, &self.statements);
        let outcome = self.pool.run(async |db| {
            let commit = Commit { db, target, statements, open, asked: &asked };
            Ok(match commit.carry_out(upto, &mut buffer, &contents).await? {
                Outcome::Unknown => Job::Spoilt(Outcome::Unknown),
                known => Job::Done(known),
            })
        });
        let outcome = match outcome {
            Some(outcome) => outcome,
            None if asked.get() => Ok(Outcome::Unknown),
            None => Err(self.too_long()),
        };
        match outcome {
            Ok(Outcome::Done(left_out)) => {
                self.left_out.add(before);
                self.left_out.add(left_out);
                if let Some(open) = &mut self.open {
                    open.committed = Some(upto);
                }
                self.refresh(&contents);
                Ok(Committed::Yes(upto))
            }
            Ok(Outcome::Had(has)) => Ok(Committed::Yes(has)),
            Ok(Outcome::Unknown) => {
                self.open = None;
                self.uncertain = Some((upto, before));
                Ok(Committed::Unknown)
            }
            Err(error) => {
                self.open = None;
                Err(error)
            }
        }
    }

    fn full(&self) -> bool {
        self.buffer.is_full(self.target.commit_rows)
    }

    fn prompt(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn left_out(&self) -> Vec<(&'static str, u64)> {
        self.left_out.by_reason()
    }
}

fn not_open() -> SinkError {
    SinkError::Retry("the sink is not open".to_owned())
}
