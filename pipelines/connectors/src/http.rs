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

use foreline_engine::{
    Chunk, ConfigError, Decoded, Decoder, KnownPartition, Partition, Poll, Position, Range, Replay,
    Resolver, Source, SourceError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::door::{Door, DoorLimits};
use crate::format::{CsvOptions, Format, JsonOptions, PlannedFormat, RecordDecoder};
use crate::kind::{PlannedSource, SourceInputs, SourceKind, Tap};

mod columns;
#[cfg(test)]
mod tests;

/// Most errors that an answer lists; how many more there are is said.
const ERRORS_MAX: usize = 100;
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

/// A row that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowError {
    /// Its place in the body, from 0.
    pub index: u64,
    /// The reason, as dead letters have it.
    pub reason: String,
    /// The offending value and what was expected.
    pub detail: String,
}

/// A body that was looked through.
#[derive(Debug)]
pub struct Examined {
    /// How many ordinals it takes.
    pub(crate) records: u64,
    /// How many rows can be used.
    pub accepted: u64,
    /// How many cannot.
    pub rejected: u64,
    /// The first of those, with their reasons.
    pub errors: Vec<RowError>,
    /// As the decoder takes it.
    pub(crate) payload: Vec<u8>,
}

impl Examined {
    /// What tells the body from others.
    pub(crate) fn digest(&self) -> String {
        Sha256::digest(&self.payload).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Why nothing of a body can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// The source does not take its media type.
    #[error("the content type '{found}' is not taken; send {}", .taken.join(", "))]
    MediaType {
        /// What it was.
        found: String,
        /// What there is.
        taken: Vec<&'static str>,
    },
    /// It is not what its media type says.
    #[error("{0}")]
    Malformed(String),
    /// Not one row can be used.
    #[error("none of the {rejected} rows can be used")]
    NothingUsable {
        /// How many there are.
        rejected: u64,
        /// The first of them.
        errors: Vec<RowError>,
    },
}

/// Reads bodies as the source's columns ask for.
#[derive(Debug, Clone)]
pub(crate) struct Examiner {
    formats: Vec<(Body, PlannedFormat)>,
    /// By declared column: what an Arrow stream calls it.
    columns: Arc<[(String, String)]>,
}

impl Examiner {
    fn plan(config: &HttpConfig, inputs: &SourceInputs<'_>) -> Result<Self, Vec<ConfigError>> {
        let mut mistakes: Vec<ConfigError> = Vec::new();
        let mut formats = Vec::new();
        if config.formats.is_empty() {
            mistakes.push(ConfigError::new("formats", "no format is taken"));
        }
        for body in ALL.into_iter().filter(|body| config.formats.contains(body)) {
            let columns = columns::of(body, inputs.columns);
            let inputs = SourceInputs { columns: &columns, schema: inputs.schema };
            match format(body, config).plan(&inputs, &[]) {
                Ok(planned) => formats.push((body, planned)),
                Err(errors) => {
                    let fresh = errors.into_iter().filter(|e| !mistakes.contains(e));
                    mistakes.extend(fresh.collect::<Vec<_>>());
                }
            }
        }
        let names = inputs.columns.iter().map(columns::name_in_arrow).collect();
        if mistakes.is_empty() { Ok(Examiner { formats, columns: names }) } else { Err(mistakes) }
    }

    /// Looks through a body.
    pub(crate) fn examine(&self, content_type: &str, body: &[u8]) -> Result<Examined, BadBody> {
        let of = |body: Body| self.formats.iter().find(|(b, _)| *b == body);
        let Some((kind, format)) = Body::of(content_type).and_then(of) else {
            let taken = self.formats.iter().map(|(body, _)| body.media_type()).collect();
            return Err(BadBody::MediaType { found: content_type.to_owned(), taken });
        };
        let mut payload = vec![kind.tag()];
        match kind {
            Body::Arrow => columns::to_ndjson(body, &self.columns, &mut payload)
                .map_err(|e| BadBody::Malformed(format!("not an Arrow IPC stream: {e}")))?,
            Body::Json | Body::Ndjson | Body::Csv => payload.extend_from_slice(body),
        }
        let mut out = Decoded::default();
        let first = Position::new(REQUESTS, 0);
        let mut decoder = format.decoder();
        decoder.payload(&payload[1..], &[], first, &mut out);
        decoder.finish(&mut out);
        let rejected = out.dead.len() as u64;
        let errors = out.dead.iter().take(ERRORS_MAX).map(|dead| RowError {
            index: dead.position.unwrap_or(0),
            reason: dead.reason.0.to_owned(),
            detail: dead.detail.clone(),
        });
        let errors = errors.collect();
        let accepted = out.records - rejected;
        if accepted == 0 && rejected > 0 {
            return Err(BadBody::NothingUsable { rejected, errors });
        }
        let records = format.records(&payload[1..]).max(out.records);
        Ok(Examined { records, accepted, rejected, errors, payload })
    }

    fn decoder(&self) -> HttpDecoder {
        let decoders = self.formats.iter().map(|(body, f)| (body.tag(), f.decoder())).collect();
        HttpDecoder { decoders }
    }
}

fn format(body: Body, config: &HttpConfig) -> Format {
    match body {
        Body::Json => Format::Json(config.json.clone()),
        Body::Ndjson => Format::Ndjson(config.json.clone()),
        Body::Csv => Format::Csv(config.csv.clone()),
        Body::Arrow => Format::Ndjson(JsonOptions::default()),
    }
}

struct HttpDecoder {
    decoders: Vec<(u8, RecordDecoder)>,
}

impl Decoder for HttpDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let Some((tag, body)) = chunk.payload.split_first() else { return };
        let first = Position::new(chunk.partition, chunk.range.first_ordinal);
        // A format that was taken out of the file since is read as the first one, which says what is wrong with it.
        let at = self.decoders.iter().position(|(t, _)| t == tag).unwrap_or(0);
        let (_, decoder) = &mut self.decoders[at];
        decoder.payload(body, &[], first, out);
        decoder.finish(out);
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
        let mib = |n: u32| (n as usize) << 20;
        let limits = DoorLimits {
            body_bytes: mib(config.max_body_mib),
            inbox_bytes: mib(config.inbox_mib),
            requests_per_s: config.max_requests_per_s,
            keys: config.idempotency_keys,
        };
        let door = Arc::new(Door::new(limits, examiner.clone()));
        let opened = Arc::clone(&door);
        let open = move || {
            let source = HttpSource { door: Arc::clone(&opened), examiner: examiner.clone() };
            Ok(Box::new(source) as Box<dyn Source>)
        };
        Ok(PlannedSource {
            open: Arc::new(open),
            bounded: false,
            replay: Replay::ByPayload,
            notes: Vec::new(),
            probe: None,
            door: Some(door),
            tap: Tap::Refused(
                "what is pushed goes to the run that takes it, and to nobody else; look at a sink, or send a copy here",
            ),
        })
    }
}

struct HttpSource {
    door: Arc<Door>,
    examiner: Examiner,
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

    fn poll(&mut self, _: usize) -> Result<Poll, SourceError> {
        let Some(parcel) = self.door.take()? else { return Ok(Poll::Pending) };
        let (start, end) = (parcel.first, parcel.first + parcel.records);
        let range = Range { start, end, first_ordinal: start, end_ordinal: end };
        let rows = usize::try_from(parcel.records).unwrap_or(usize::MAX);
        Ok(Poll::Ready(Chunk { partition: REQUESTS, range, rows, payload: parcel.payload }))
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
