//! A relation that is kept up over HTTP, row by row.

use std::sync::Arc;

use foreline_engine::{
    Chunk, ConfigError, Decoder, KnownPartition, Partition, Poll, Position, Range, Replay,
    Resolver, Schema, Source, SourceError,
};

use super::RelationDecoder;
use crate::door::{Door, DoorLimits};
use crate::http::{COMMANDS, Examiner, HttpConfig, limits, own};
use crate::kind::{ColumnConfig, PlannedSource, SourceInputs, SourceKind, Tap};

/// The only partition.
const REQUESTS: Partition = Partition(0);

/// The kind of relation that is kept up over HTTP.
#[derive(Debug)]
pub struct Http;

impl SourceKind for Http {
    type Config = HttpConfig;
    const NAME: &'static str = "http";
    const SUMMARY: &'static str = "keeps a relation that is changed over HTTP; it is in the journal and in snapshots, and nowhere else";

    fn plan(
        config: &Self::Config,
        inputs: &SourceInputs<'_>,
        _: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>> {
        Ok(planned(Examiner::plan(config, inputs)?, limits(config)))
    }
}

/// The relation that says which models act, of `schema`, whose last column is the engine's own: nobody names it, and no run
/// waits for its end. Also its columns as declared.
///
/// # Panics
/// When a column of the schema is neither text nor a number, which is a bug.
#[must_use]
pub fn swaps(schema: &Schema) -> (Vec<(String, ColumnConfig)>, PlannedSource) {
    let (columns, examiner) = own(schema, &schema.columns()[..schema.columns().len() - 1]);
    (columns, planned(examiner, COMMANDS))
}

fn planned(examiner: Examiner, limits: DoorLimits) -> PlannedSource {
    let door = Arc::new(Door::new(limits, examiner.clone()));
    let opened = Arc::clone(&door);
    let open = move || {
        let source = Changes { door: Arc::clone(&opened), examiner: examiner.clone() };
        Ok(Box::new(source) as Box<dyn Source>)
    };
    PlannedSource {
        open: Arc::new(open),
        bounded: false,
        replay: Replay::ByPayload,
        notes: Vec::new(),
        probe: None,
        door: Some(door),
        bell: None,
        tap: Tap::Refused("a relation is not a stream; look at its table"),
    }
}

struct Changes {
    door: Arc<Door>,
    examiner: Examiner,
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.door.close();
    }
}

impl Source for Changes {
    fn serves(&self) -> bool {
        true
    }

    fn replay(&self) -> Replay {
        Replay::ByPayload
    }

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        let Some(parcel) = self.door.take()? else { return Ok(Poll::Pending) };
        Ok(Poll::Ready(parcel.chunk(REQUESTS)))
    }

    fn read(&mut self, _: Partition, range: Range) -> Result<Chunk, SourceError> {
        let first = range.first_ordinal;
        Err(SourceError::Io(format!("change {first} is in the journal alone")))
    }

    fn durable(&mut self, _: Partition, upto: Position) {
        self.door.durable(upto.ordinal());
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(RelationDecoder(self.examiner.decoder()))
    }

    fn partition_name(&self, _: Partition) -> Option<String> {
        Some("requests".to_owned())
    }

    fn identity(&self, _: Partition) -> Vec<u8> {
        Vec::new()
    }

    fn resume(&mut self, known: &[KnownPartition]) -> Result<(), SourceError> {
        let read = known.iter().find(|k| k.partition == REQUESTS).and_then(|k| k.read);
        self.door.resume(read.map_or(1, |r| r.end_ordinal));
        Ok(())
    }
}
