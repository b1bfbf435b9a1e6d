//! The reading side: hands out the files of a source in chunks.

use std::sync::Arc;

use foreline_engine::{
    Chunk, Decoder, KnownPartition, Partition, Poll, Position, Range, ReadUpTo, Replay, Source,
    SourceError,
};

use super::FileOrder;
use super::decoder::CsvDecoder;
use super::files::{self, Identity, TextFile};
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

impl CsvSource {
    /// The files that were known keep their numbers; what was found since comes behind them.
    fn resume_in_turn(
        &mut self,
        were: &[Identity],
        last: Option<(Partition, ReadUpTo)>,
    ) -> Result<(), SourceError> {
        let mut found = files::list(&self.plan)?;
        let mut files = Vec::with_capacity(found.len());
        for known in were {
            let at = found.iter().position(|f| f.path == known.path).ok_or_else(|| gone(known))?;
            files.push(found.remove(at));
        }
        files.append(&mut found);
        self.files = files.into();
        let Some((partition, read)) = last else { return Ok(()) };
        let next = partition.0 as usize + 1;
        let Some(file) = self.files.get(next - 1) else { return Ok(()) };
        let reader = Reader::open(&self.plan, &file.path, read.end, read.end_ordinal)?;
        self.state = State::InTurn { next, reader: Some(reader) };
        Ok(())
    }

    fn resume_merged(
        &mut self,
        were: &[Identity],
        read: Option<ReadUpTo>,
    ) -> Result<(), SourceError> {
        let Some(read) = read else { return Ok(()) };
        let same = were.len() == self.files.len()
            && were.iter().zip(self.files.iter()).all(|(w, f)| w.path == f.path);
        let mut merge = Merge::open(&self.plan, &self.files)?;
        if !same || !merge.pass_over(read.end_ordinal)? {
            return Err(SourceError::Changed {
                what: self.plan.place.written.clone(),
                how: "other files are merged than before".to_owned(),
            });
        }
        self.state = State::Merged(Box::new(merge));
        Ok(())
    }
}

fn gone(file: &Identity) -> SourceError {
    let what = file.path.display().to_string();
    SourceError::Changed { what, how: "the source does not find it any more".to_owned() }
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

    fn identity(&self, partition: Partition) -> Vec<u8> {
        let of: Vec<&Identity> = match self.plan.order {
            FileOrder::Merge => self.files.iter().map(TextFile::identity).collect(),
            _ => self.files.get(partition.0 as usize).map(TextFile::identity).into_iter().collect(),
        };
        serde_json::to_vec(&of).unwrap_or_default()
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        let mut were = Vec::new();
        for partition in known {
            let of: Vec<Identity> = serde_json::from_slice(&partition.identity).map_err(|_| {
                SourceError::Io(format!("what is known of '{}' cannot be read", partition.name))
            })?;
            of.iter().try_for_each(Identity::check)?;
            were.extend(of);
        }
        let last = known.iter().filter_map(|k| Some((k.partition, k.read?))).max_by_key(|k| k.0);
        match self.plan.order {
            FileOrder::Merge => self.resume_merged(&were, last.map(|(_, read)| read)),
            FileOrder::Name | FileOrder::FirstTime => self.resume_in_turn(&were, last),
        }
    }

    fn partition_name(&self, partition: Partition) -> Option<String> {
        match self.plan.order {
            FileOrder::Merge => Some(format!("{} (merged by time)", self.plan.place.written)),
            _ => self.files.get(partition.0 as usize).map(|f| f.path.display().to_string()),
        }
    }
}
