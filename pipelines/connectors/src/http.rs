//! Records that are pushed to us over HTTP; the server is elsewhere and comes in by the source's [`Door`].
//!
//! What a reader would get wrong:
//!
//! * A body is decoded twice: at the door, so that the answer can say which rows cannot be used, and by a worker from the
//!   journal. Both give the same, as decoding depends on nothing but the body.
//! * A body of which nothing can be used is refused and leaves nothing behind. Of any other the rows that cannot be used
//!   become dead letters.
//! * All requests are one partition, in the order in which they were taken. A request takes as many ordinals as its body
//!   may have records, so some ordinals stand for none.

use std::sync::Arc;

use arrow::datatypes::DataType;
use foreline_engine::{
    Chunk, Column, ConfigError, Decoder, KnownPartition, Partition, Poll, Position, Range, Replay,
    Resolver, Schema, Source, SourceError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::{Door, DoorLimits};
use crate::format::{CsvOptions, Format, JsonOptions};
use crate::kind::{ColumnConfig, ColumnType, PlannedSource, SourceInputs, SourceKind, Tap};

mod columns;
mod examine;
#[cfg(test)]
mod tests;

pub use examine::{BadBody, Examined, RowError};
pub(crate) use examine::{Examiner, HttpDecoder};

/// The only partition.
const REQUESTS: Partition = Partition(0);

/// Takes records by `POST /api/v1/sources/NAME/rows`; needs the section `serve`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// What a body may be. Default: all of them.
    #[serde(default = "all_bodies")]
    pub formats: Vec<Body>,
    /// How JSON is read.
    #[serde(default)]
    pub json: JsonOptions,
    /// How CSV is read. Default: comma-separated, with a header.
    #[serde(default = "with_header")]
    pub csv: CsvOptions,
    /// Largest body in mebibytes, after decompression. Default 8.
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 64))]
    pub max_body_mib: u32,
    /// Most mebibytes that wait for the journal; beyond that the answer is 503. Default 64.
    #[serde(default = "sixty_four")]
    #[schemars(range(min = 1, max = 1024))]
    pub inbox_mib: u32,
    /// Most requests a second, and as many at once; beyond that the answer is 429. Default 1000.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests_per_s: u32,
    /// How many of the latest idempotency keys are known, across restarts. Default 100000.
    #[serde(default = "hundred_thousand")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub idempotency_keys: usize,
}

/// What the body of a request may be.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// `application/json`: one object, or an array of them.
    Json,
    /// `application/x-ndjson`: an object a line.
    Ndjson,
    /// `text/csv`.
    Csv,
    /// `application/vnd.apache.arrow.stream`: an Arrow IPC stream whose columns are called like ours.
    Arrow,
}

const ALL: [Body; 4] = [Body::Json, Body::Ndjson, Body::Csv, Body::Arrow];

fn all_bodies() -> Vec<Body> {
    ALL.to_vec()
}

fn with_header() -> CsvOptions {
    CsvOptions { header: true, ..CsvOptions::default() }
}

fn eight() -> u32 {
    8
}

fn sixty_four() -> u32 {
    64
}

fn thousand() -> u32 {
    1000
}

fn hundred_thousand() -> usize {
    100_000
}

impl Body {
    /// Its usual media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Body::Json => "application/json",
            Body::Ndjson => "application/x-ndjson",
            Body::Csv => "text/csv",
            Body::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    fn of(content_type: &str) -> Option<Self> {
        let name = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "application/json" => Some(Body::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                Some(Body::Ndjson)
            }
            "text/csv" => Some(Body::Csv),
            "application/vnd.apache.arrow.stream" => Some(Body::Arrow),
            _ => None,
        }
    }

    /// What stands before a body in the journal.
    fn tag(self) -> u8 {
        match self {
            Body::Json => b'j',
            Body::Ndjson => b'n',
            Body::Csv => b'c',
            Body::Arrow => b'a',
        }
    }
}

/// The kind of source that takes records over HTTP.
#[derive(Debug)]
pub struct Http;

impl SourceKind for Http {
    type Config = HttpConfig;
    const NAME: &'static str = "http";
    const SUMMARY: &'static str =
        "takes records that are pushed over HTTP, and answers when they are durable";

    fn plan(
        config: &Self::Config,
        inputs: &SourceInputs<'_>,
        _: &dyn Resolver,
    ) -> Result<PlannedSource, Vec<ConfigError>> {
        let examiner = Examiner::plan(config, inputs)?;
        let door = Arc::new(Door::new(limits(config), examiner.clone()));
        let opened = Arc::clone(&door);
        let open = move || {
            let source =
                HttpSource { door: Arc::clone(&opened), examiner: examiner.clone(), serves: false };
            Ok(Box::new(source) as Box<dyn Source>)
        };
        Ok(PlannedSource {
            open: Arc::new(open),
            bounded: false,
            replay: Replay::ByPayload,
            notes: Vec::new(),
            probe: None,
            door: Some(door),
            bell: None,
            tap: Tap::Refused(
                "what is pushed goes to the run that takes it, and to nobody else; look at a sink, or send a copy here",
            ),
        })
    }
}

/// The source of what people do with the alerts of a pipeline, of `schema`: nobody names it, and no run waits for its end. Also
/// its columns as declared.
///
/// # Panics
/// When a column of the schema is neither text nor a number nor a timestamp, which is a bug.
#[must_use]
pub fn commands(schema: &Schema) -> (Vec<(String, ColumnConfig)>, PlannedSource) {
    let (columns, examiner) = own(schema, schema.columns());
    let door = Arc::new(Door::new(COMMANDS, examiner.clone()));
    let opened = Arc::clone(&door);
    let open = move || {
        let source =
            HttpSource { door: Arc::clone(&opened), examiner: examiner.clone(), serves: true };
        Ok(Box::new(source) as Box<dyn Source>)
    };
    let planned = PlannedSource {
        open: Arc::new(open),
        bounded: true,
        replay: Replay::ByPayload,
        notes: Vec::new(),
        probe: None,
        door: Some(door),
        bell: None,
        tap: Tap::Refused("what people do with alerts is in the table of alerts"),
    };
    (columns, planned)
}

/// The columns as declared of a source that no file names, and what reads its rows.
pub(crate) fn own(schema: &Schema, columns: &[Column]) -> (Vec<(String, ColumnConfig)>, Examiner) {
    let declared = |column: &Column| {
        let data_type = match &column.data_type {
            DataType::Timestamp(..) => ColumnType::Timestamp,
            DataType::Float64 => ColumnType::Float64,
            _ => ColumnType::String,
        };
        (column.name.clone(), ColumnConfig::of(data_type))
    };
    let columns: Vec<_> = columns.iter().map(declared).collect();
    let inputs = SourceInputs { columns: &columns, schema };
    let formats = vec![(Body::Ndjson, Format::Ndjson(JsonOptions::default()))];
    let examiner = Examiner::of(formats, &inputs);
    (columns, examiner.expect("text, numbers and timestamps can be read"))
}

/// What may come in of what people do.
pub(crate) const COMMANDS: DoorLimits =
    DoorLimits { body_bytes: 64 << 10, inbox_bytes: 4 << 20, requests_per_s: 1000, keys: 10_000 };

/// What may come in.
pub(crate) fn limits(config: &HttpConfig) -> DoorLimits {
    let mib = |n: u32| (n as usize) << 20;
    DoorLimits {
        body_bytes: mib(config.max_body_mib),
        inbox_bytes: mib(config.inbox_mib),
        requests_per_s: config.max_requests_per_s,
        keys: config.idempotency_keys,
    }
}

struct HttpSource {
    door: Arc<Door>,
    examiner: Examiner,
    /// Whether it is there for other sources.
    serves: bool,
}

impl Drop for HttpSource {
    fn drop(&mut self) {
        self.door.close();
    }
}

impl Source for HttpSource {
    fn replay(&self) -> Replay {
        Replay::ByPayload
    }

    fn serves(&self) -> bool {
        self.serves
    }

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        let Some(parcel) = self.door.take()? else { return Ok(Poll::Pending) };
        Ok(Poll::Ready(parcel.chunk(REQUESTS)))
    }

    fn read(&mut self, _: Partition, range: Range) -> Result<Chunk, SourceError> {
        let first = range.first_ordinal;
        Err(SourceError::Io(format!(
            "what was pushed from record {first} on is in the journal alone"
        )))
    }

    fn durable(&mut self, _: Partition, upto: Position) {
        self.door.durable(upto.ordinal());
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(self.examiner.decoder())
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
