//! What is written under `s3:`, and its check.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foreline_engine::{ConfigError, Extent, Resolver};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Plan;
use super::keys::Keys;
use crate::csv::{Compression, CsvConfig, ExtraFields, JsonLines, Text};
use crate::cut::Format;
use crate::format::JsonOptions;
use crate::kind::SourceInputs;
use crate::objects::{Connection, Hidden, Place, mistakes};
use crate::parquet::Groups;

/// The shortest time between two listings: each asks for all keys, and the store may charge for it.
const POLL_NS_MIN: i64 = 100_000_000;
/// Most requests under way.
const PARALLEL_MAX: usize = 64;

/// Reads objects of an S3 store.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The bucket and the prefix to read, such as `s3://plant-a/vibration/`. The prefix ends at a `/`.
    pub url: String,
    /// How the objects are written.
    pub format: ObjectFormat,
    /// What the objects are compressed with. Parquet is compressed within.
    #[serde(default)]
    pub compression: Compression,
    /// How JSON is written, where it is not as usual.
    #[serde(default)]
    pub ndjson: Option<JsonOptions>,
    /// How delimited text is written, where it is not with a header, commas and quotes.
    #[serde(default)]
    pub csv: Option<TextConfig>,
    /// `once`: what is there is read, and the source ends. A duration: the prefix is listed again each time it has
    /// passed, and when `POST /api/v1/sources/{source}/wake` says that there is something new. Default `30s`.
    #[serde(default)]
    pub poll: Listing,
    /// The parts of a key that are columns, as in `line={line}/day={day}/`. It is compared with what follows the prefix;
    /// a key that does not begin so is an error.
    #[serde(default)]
    pub partitions: Option<String>,
    /// Only keys whose part behind the prefix matches this glob are read, such as `**/*.csv.gz`. Default: all.
    #[serde(default)]
    pub include: Option<String>,
    /// In which order objects that are found at the same time are read.
    #[serde(default)]
    pub order: ObjectOrder,
    /// What happens when an object that was read to its end is found to be another one.
    #[serde(default)]
    pub on_change: OnChange,
    /// Requests that are under way at a time, 1 to 64. Each takes up to 2 MiB of memory. Default 8.
    #[serde(default = "eight")]
    pub parallel: usize,
    /// The address of a store other than AWS, such as `https://minio.plant.example:9000`.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The region. Default: that of the environment (`AWS_REGION`), or `us-east-1`.
    #[serde(default)]
    pub region: Option<String>,
    /// The access key, as in `${env:LAKE_KEY}`. Without keys, those of the environment are used (`AWS_ACCESS_KEY_ID` and
    /// `AWS_SECRET_ACCESS_KEY`, a web identity token, a container's or an instance's role).
    #[serde(default)]
    pub access_key_id: Option<Hidden>,
    /// The secret key, as in `${file:/run/secrets/lake}`.
    #[serde(default)]
    pub secret_access_key: Option<Hidden>,
    /// The token that belongs to temporary keys.
    #[serde(default)]
    pub session_token: Option<Hidden>,
    /// Whether requests go unsigned, for buckets that anybody may read.
    #[serde(default)]
    pub anonymous: bool,
    /// Whether the bucket is part of the path, not of the host's name. Default: with an `endpoint` yes, else no.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// Whether an `endpoint` without TLS (`http://`) may be used.
    #[serde(default)]
    pub allow_http: bool,
    /// A file with certificates (PEM) of authorities to trust beside those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long one request may take; it is then tried again. Default `30s`.
    #[serde(default)]
    pub timeout: Option<Extent>,
}

/// How objects are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectFormat {
    /// Delimited text.
    Csv,
    /// JSON, one object a line.
    Ndjson,
    /// Apache Parquet. Row groups are decoded by several workers at a time.
    Parquet,
}

/// How delimited text is written.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Whether the first record names the fields. Default yes.
    #[serde(default)]
    pub header: Option<bool>,
    /// What stands between fields: one character, or `blank` for any run of spaces and tabs. Default `,`.
    #[serde(default)]
    pub delimiter: Option<String>,
    /// What a field may be wrapped in, one character or `none`. Default `"`.
    #[serde(default)]
    pub quote: Option<String>,
    /// The decimal point of numbers, `.` or `,`. Default `.`.
    #[serde(default)]
    pub decimal: Option<String>,
    /// The text encoding by name. Default `utf-8`.
    #[serde(default)]
    pub encoding: Option<String>,
    /// Fields that mean "no value". Default: as for files.
    #[serde(default)]
    pub null: Option<Vec<String>>,
    /// Lines that begin with this are passed over, such as `#`.
    #[serde(default)]
    pub comment: Option<String>,
    /// Lines at the top of every object that are passed over, before the header. Default 0.
    #[serde(default)]
    pub skip_lines: Option<u32>,
    /// What becomes of a record with more fields than there should be.
    #[serde(default)]
    pub extra_fields: ExtraFields,
    /// Longest record in bytes; a longer one becomes a dead letter. Default 1048576.
    #[serde(default)]
    pub max_row_bytes: Option<usize>,
}

/// How often the prefix is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// Once.
    Once,
    /// Each time this has passed.
    Every(Extent),
}

/// In which order objects that are found at the same time are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectOrder {
    /// By key, compared byte by byte.
    #[default]
    Key,
    /// By the time they were written at, by the store's clock; ties by key.
    Modified,
}

/// What happens when an object that was read to its end is found to be another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnChange {
    /// The run ends with the object's name.
    #[default]
    Error,
    /// The new one is read as well, from its start. `dedupe` tells the records apart that were in both.
    Reprocess,
    /// The new one is not read; it is said once.
    Ignore,
}

impl Default for Listing {
    fn default() -> Self {
        Listing::Every(Extent::Nanos(30_000_000_000))
    }
}

impl<'de> Deserialize<'de> for Listing {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "once" => Ok(Listing::Once),
            text => text.parse().map(Listing::Every).map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for Listing {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Listing".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "`once`, or the time between two listings, such as 30s",
            "type": "string",
        })
    }
}

fn eight() -> usize {
    8
}

impl S3Config {
    pub(super) fn plan(
        &self,
        inputs: &SourceInputs<'_>,
        given: &dyn Resolver,
    ) -> Result<Plan, Vec<ConfigError>> {
        let mut found = Vec::new();
        let place = Place::parse(&self.url).map_err(|e| found.push(ConfigError::new("url", e)));
        let connection = self.connection(given);
        found.extend(mistakes(&connection));
        let keys = Keys::new(self.partitions.as_deref(), self.include.as_deref(), inputs);
        let keys = keys.map_err(|errors| found.extend(errors));
        let columns = keys.as_ref().map(|k| k.columns().to_vec()).unwrap_or_default();
        let format = self.object_format(inputs, &columns).map_err(|errors| found.extend(errors));
        let poll = self.poll().map_err(|e| found.push(e));
        if !(1..=PARALLEL_MAX).contains(&self.parallel) {
            let message = format!("{} is not between 1 and {PARALLEL_MAX}", self.parallel);
            found.push(ConfigError::new("parallel", message));
        }
        match (place, keys, format, poll) {
            (Ok(place), Ok(keys), Ok(format), Ok(poll)) if found.is_empty() => Ok(Plan {
                place,
                connection,
                format,
                keys,
                poll,
                order: self.order,
                on_change: self.on_change,
                parallel: self.parallel,
                bell: Arc::default(),
            }),
            _ => Err(found),
        }
    }

    fn connection(&self, given: &dyn Resolver) -> Connection {
        Connection {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone(),
            session_token: self.session_token.clone(),
            anonymous: self.anonymous,
            path_style: self.path_style,
            allow_http: self.allow_http,
            ca_file: self.ca_file.as_ref().map(|file| given.path(file)),
            timeout: self.timeout,
            ..Connection::default()
        }
    }

    fn poll(&self) -> Result<Option<Duration>, ConfigError> {
        match self.poll {
            Listing::Once => Ok(None),
            Listing::Every(Extent::Nanos(ns)) if ns >= POLL_NS_MIN => {
                Ok(Some(Duration::from_nanos(ns.unsigned_abs())))
            }
            Listing::Every(extent) => {
                let message = format!("'{extent}' is not a time between two listings");
                Err(ConfigError::new("poll", message).help("give `once`, or at least 100ms"))
            }
        }
    }

    fn object_format(
        &self,
        inputs: &SourceInputs<'_>,
        keyed: &[String],
    ) -> Result<Box<dyn Format>, Vec<ConfigError>> {
        let options = [("csv", self.csv.is_some()), ("ndjson", self.ndjson.is_some())];
        let named = match self.format {
            ObjectFormat::Csv => "csv",
            ObjectFormat::Ndjson => "ndjson",
            ObjectFormat::Parquet => "parquet",
        };
        if let Some((option, _)) = options.iter().find(|(name, is)| *is && *name != named) {
            let message = format!("'{option}' belongs to `format: {option}`");
            return Err(vec![ConfigError::new(*option, message)]);
        }
        match self.format {
            ObjectFormat::Ndjson => {
                let options = self.ndjson.clone().unwrap_or_default();
                JsonLines::new(&self.url, &options, self.compression, inputs, keyed)
                    .map(|lines| Box::new(lines) as Box<dyn Format>)
            }
            ObjectFormat::Parquet
                if !matches!(self.compression, Compression::Auto | Compression::None) =>
            {
                Err(vec![
                    ConfigError::new("compression", "parquet is compressed within")
                        .help("remove `compression`"),
                ])
            }
            ObjectFormat::Parquet => {
                Groups::new(inputs, keyed).map(|groups| Box::new(groups) as Box<dyn Format>)
            }
            ObjectFormat::Csv => {
                let text = self.csv.clone().unwrap_or_default().as_file(&self.url);
                let under = |e: ConfigError| match e.at.starts_with("columns.") {
                    true => e,
                    false => e.under("csv"),
                };
                Text::new(&text, self.compression, inputs, keyed)
                    .map(|text| Box::new(text) as Box<dyn Format>)
                    .map_err(|errors| errors.into_iter().map(under).collect())
            }
        }
    }
}

impl TextConfig {
    /// The same as for a file that lies at `path`.
    fn as_file(&self, path: &str) -> CsvConfig {
        let mut file = CsvConfig::at(path);
        let TextConfig { header, delimiter, quote, decimal, encoding, null, .. } = self.clone();
        let set = |to: &mut String, from: Option<String>| *to = from.unwrap_or(to.clone());
        file.header = header.unwrap_or(file.header);
        set(&mut file.delimiter, delimiter);
        set(&mut file.quote, quote);
        set(&mut file.decimal, decimal);
        set(&mut file.encoding, encoding);
        file.null = null.unwrap_or(file.null);
        file.comment.clone_from(&self.comment);
        file.skip_lines = self.skip_lines.unwrap_or(file.skip_lines);
        file.extra_fields = self.extra_fields;
        file.max_row_bytes = self.max_row_bytes.unwrap_or(file.max_row_bytes);
        file
    }
}
