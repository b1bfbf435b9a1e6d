//! The reading side: hands out the files of a source in chunks.

use std::sync::Arc;

use foreline_engine::{
    Chunk, Decoder, Partition, Poll, Position, Range, Replay, Source, SourceError,
};

use super::FileOrder;
use super::decoder::CsvDecoder;
use super::files::{self, TextFile};
use super::merge::Merge;
use super::plan::Plan;
use super::reader::Reader;

/// An opened source.
pub(super) struct CsvSource {
    plan: Arc<Plan>,
    files: Arc<[TextFile]>,
    state: State,
}

enum State {
    /// Reading file `next - 1`, if there is a reader; then from file `next` on.
    InTurn {
        next: usize,
        reader: Option<Reader>,
    },
    Merged(Box<Merge>),
}

impl CsvSource {
    /// Finds the files and looks at the beginning of each.
    pub(super) fn open(plan: &Arc<Plan>) -> Result<Self, SourceError> {
        let files: Arc<[TextFile]> = files::list(plan)?.into();
        let state = match plan.order {
            FileOrder::Merge => State::Merged(Box::new(Merge::open(plan, &files)?)),
            FileOrder::Name | FileOrder::FirstTime => State::InTurn { next: 0, reader: None },
        };
        Ok(CsvSource { plan: Arc::clone(plan), files, state })
    }

    fn next_chunk(&mut self, budget_bytes: usize) -> Result<Option<Chunk>, SourceError> {
        let (next, reader) = match &mut self.state {
            State::Merged(merge) => return merge.next_chunk(budget_bytes),
            State::InTurn { next, reader } => (next, reader),
        };
        loop {
            if let Some(open) = reader {
                let chunk = open.next_chunk(partition(*next - 1), budget_bytes)?;
                if chunk.is_some() {
                    return Ok(chunk);
                }
                *reader = None;
            }
            let Some(file) = self.files.get(*next) else { return Ok(None) };
            *reader = Some(file.open(&self.plan)?);
            *next += 1;
        }
    }

    fn read_in_turn(&self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        let file = self.files.get(partition.0 as usize).ok_or_else(|| {
            SourceError::Io(format!("'{}' has no file {}", self.plan.place.written, partition.0))
        })?;
        file.check_unchanged()?;
        let mut reader = Reader::open(&self.plan, &file.path, range.start, range.first_ordinal)?
            .until(range.end);
        let mut whole = Chunk { partition, range, rows: 0, payload: Vec::new() };
        let mut end = range.start;
        while let Some(chunk) = reader.next_chunk(partition, usize::MAX)? {
            whole.payload.extend_from_slice(&chunk.payload);
            whole.rows += chunk.rows;
            end = chunk.range.end;
        }
        if end == range.end {
            Ok(whole)
        } else {
            Err(file.changed(format!("its text ends at byte {end}, before {}", range.end)))
        }
    }
}

/// The partition of file `index`.
fn partition(index: usize) -> Partition {
    Partition(u32::try_from(index).expect("the number of files was checked"))
}

impl Source for CsvSource {
    fn replay(&self) -> Replay {
        Replay::ByRange
    }

    fn poll(&mut self, budget_bytes: usize) -> Result<Poll, SourceError> {
        Ok(self.next_chunk(budget_bytes)?.map_or(Poll::Ended, Poll::Ready))
    }

    fn read(&mut self, partition: Partition, range: Range) -> Result<Chunk, SourceError> {
        match self.plan.order {
            FileOrder::Name | FileOrder::FirstTime => self.read_in_turn(partition, range),
            FileOrder::Merge => {
                self.files.iter().try_for_each(TextFile::check_unchanged)?;
                let chunk = Merge::open(&self.plan, &self.files)?.read(range)?;
                chunk.filter(|c| c.range == range).ok_or_else(|| SourceError::Changed {
                    what: self.plan.place.written.clone(),
                    how: "its files have fewer records".to_owned(),
                })
            }
        }
    }

    /// Files stay where they are, so there is nobody to tell.
    fn durable(&mut self, _: Partition, _: Position) {}

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(CsvDecoder::new(Arc::clone(&self.plan), Arc::clone(&self.files)))
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        match self.plan.order {
            FileOrder::Merge => Some(format!("{} (merged by time)", self.plan.place.written)),
            _ => self.files.get(partition.0 as usize).map(|f| f.path.display().to_string()),
        }
    }
}
