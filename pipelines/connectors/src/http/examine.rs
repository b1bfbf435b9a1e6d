//! Looks through a body at the door, and decodes it again from the journal.

use std::sync::Arc;

use foreline_engine::{Chunk, ConfigError, Decoded, Decoder, Position};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{ALL, Body, HttpConfig, REQUESTS, columns};
use crate::format::{Format, JsonOptions, PlannedFormat, RecordDecoder};
use crate::kind::SourceInputs;
use crate::reference::Say;

/// Most errors that an answer lists; how many more there are is said.
const ERRORS_MAX: usize = 100;

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
    /// The payload of a relation: what its rows are, and then the body.
    pub(crate) fn said(&self, say: Say) -> Vec<u8> {
        [&[say.tag()], &self.payload[..]].concat()
    }

    /// The same body as what is said of a relation's rows.
    #[must_use]
    pub fn for_relation(self, gone: bool) -> Self {
        let say = if gone { Say::Gone } else { Say::Stands };
        Examined { payload: self.said(say), ..self }
    }

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

impl BadBody {
    /// What is wrong, with the first row that is.
    pub(crate) fn first(&self) -> String {
        match self {
            BadBody::NothingUsable { errors, .. } => match errors.first() {
                Some(e) => format!("{self}; row {}: {}", e.index, e.detail),
                None => self.to_string(),
            },
            BadBody::MediaType { .. } | BadBody::Malformed(_) => self.to_string(),
        }
    }
}

impl Examiner {
    pub(crate) fn plan(
        config: &HttpConfig,
        inputs: &SourceInputs<'_>,
    ) -> Result<Self, Vec<ConfigError>> {
        if config.formats.is_empty() {
            return Err(vec![ConfigError::new("formats", "no format is taken")]);
        }
        let taken = ALL.into_iter().filter(|body| config.formats.contains(body));
        Examiner::of(taken.map(|body| (body, format(body, config))).collect(), inputs)
    }

    /// Reads bodies of these kinds.
    pub(crate) fn of(
        bodies: Vec<(Body, Format)>,
        inputs: &SourceInputs<'_>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut mistakes: Vec<ConfigError> = Vec::new();
        let mut formats = Vec::new();
        for (body, format) in bodies {
            let columns = columns::of(body, inputs.columns);
            let inputs = SourceInputs { columns: &columns, schema: inputs.schema };
            match format.plan(&inputs, &[]) {
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

    pub(crate) fn decoder(&self) -> HttpDecoder {
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

/// Decodes bodies as they stand in the journal.
pub(crate) struct HttpDecoder {
    decoders: Vec<(u8, RecordDecoder)>,
}

impl Decoder for HttpDecoder {
    fn decode(&mut self, chunk: &Chunk, out: &mut Decoded) {
        let first = Position::new(chunk.partition, chunk.range.first_ordinal);
        self.body(&chunk.payload, first, out);
    }
}

impl HttpDecoder {
    /// Decodes a body with its tag before it, whose first record stands at `first`.
    pub(crate) fn body(&mut self, tagged: &[u8], first: Position, out: &mut Decoded) {
        let Some((tag, body)) = tagged.split_first() else { return };
        // A format that was taken out of the file since is read as the first one, which says what is wrong with it.
        let at = self.decoders.iter().position(|(t, _)| t == tag).unwrap_or(0);
        let (_, decoder) = &mut self.decoders[at];
        decoder.payload(body, &[], first, out);
        decoder.finish(out);
    }
}
