//! A sink that keeps the rows of each epoch, and the epoch, in one transaction.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use foreline_engine::{Batch, Committed, RunId, Schema, Sink, SinkError};

use crate::Dice;

/// What a sink has for certain.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub upto: Option<u64>,
    pub pages: BTreeMap<u64, Vec<Batch>>,
}

/// A connection to a book.
pub(crate) struct Clerk {
    pub book: Arc<Mutex<Book>>,
    pub waiting: BTreeMap<u64, Vec<Batch>>,
    pub dice: Dice,
    pub faults: bool,
}

impl Sink for Clerk {
    fn open(&mut self, _: RunId, _: u64, _: &Schema) -> Result<Option<u64>, SinkError> {
        self.waiting.clear();
        Ok(self.book.lock().unwrap().upto)
    }

    fn write(&mut self, epoch: u64, rows: &[Batch]) -> Result<(), SinkError> {
        let rows = rows.iter().filter(|batch| !batch.is_empty()).cloned();
        self.waiting.entry(epoch).or_default().extend(rows);
        Ok(())
    }

    fn commit(&mut self, upto: u64) -> Result<Committed, SinkError> {
        if self.faults && self.dice.one_in(60) {
            return Err(SinkError::Fatal("the book has burned".to_owned()));
        }
        if self.faults && self.dice.one_in(40) {
            return Err(SinkError::Retry("the clerk is away".to_owned()));
        }
        let mut book = self.book.lock().unwrap();
        let has = book.upto.unwrap_or(0);
        if has < upto {
            let waiting = std::mem::take(&mut self.waiting);
            assert!(waiting.keys().all(|e| (has + 1..=upto).contains(e)), "an epoch comes once");
            book.pages.extend(waiting);
            book.upto = Some(upto);
        }
        if self.faults && self.dice.one_in(40) {
            // Nobody hears of it.
            return Ok(Committed::Unknown);
        }
        Ok(Committed::Yes(upto))
    }

    fn full(&self) -> bool {
        self.waiting.len() > 4
    }
}
