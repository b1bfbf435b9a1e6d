//! Brings rows and epochs into the database.

use std::cell::Cell;

use foreline_engine::{Batch, Committed, RunId, Schema, Sink, SinkError};
use tokio::runtime::{Builder, Runtime};

use super::Target;
use super::commit::{Commit, Outcome};
use super::encode::{Buffer, Contents, LeftOut};
use super::inspect::CutBy;
use super::statements::Statements;
use super::takeover::{Open, open};

/// The table of one stream.
pub(super) struct TableSink {
    target: Target,
    statements: Statements,
    /// One thread serves the connection, and only while the sink is at work.
    runtime: Runtime,
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
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|e| SinkError::Fatal(format!("cannot start a runtime: {e}")))?;
        Ok(TableSink {
            statements: Statements::of(&target.table),
            target,
            runtime,
            open: None,
            buffer: Buffer::default(),
            left_out: LeftOut::default(),
            uncertain: None,
            refresh_failed: false,
        })
    }

    fn hang_up(&mut self) {
        if let Some(open) = self.open.take() {
            self.runtime.block_on(open.db.hang_up());
        }
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
            let refreshed = async {
                let refreshed = open.db.run("refresh an aggregate", &call);
                tokio::time::timeout(self.target.timeout, refreshed).await
            };
            let failure = match self.runtime.block_on(refreshed) {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it takes too long".to_owned(),
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
        self.hang_up();
        self.buffer = Buffer::default();
        let opening = open(&self.target, &self.statements, run, generation);
        let limited = async { tokio::time::timeout(self.target.timeout, opening).await };
        let opened = self.runtime.block_on(limited);
        let opened = opened.unwrap_or_else(|_| Err(self.too_long()))?;
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
        let commit =
            Commit { target: &self.target, statements: &self.statements, open, asked: &asked };
        let committing = commit.carry_out(upto, &mut buffer, &contents);
        let limited = async { tokio::time::timeout(self.target.timeout, committing).await };
        let outcome = match self.runtime.block_on(limited) {
            Ok(outcome) => outcome,
            Err(_) if asked.get() => Ok(Outcome::Unknown),
            Err(_) => Err(self.too_long()),
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
                self.hang_up();
                self.uncertain = Some((upto, before));
                Ok(Committed::Unknown)
            }
            Err(error) => {
                self.hang_up();
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
