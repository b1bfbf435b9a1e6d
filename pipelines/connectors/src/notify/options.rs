//! The options that all kinds of message have in common, and their check.

use std::path::Path;
use std::time::Duration;

use chrono::NaiveTime;
use foreline_engine::{ConfigError, Extent, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use super::pace::{Pace, Rate};
use super::quiet::Quiet;
use super::template::{Template, Texts, default_body, default_subject, severity_of};

/// Most notices of a rate: their times are kept.
const RATE_MAX: usize = 10_000;
/// The longest time of a rate or a group.
const SPREAD_NS_MAX: i64 = 86_400_000_000_000;
/// The smallest spool: room for a few of the largest rows.
const SPOOL_BYTES_MIN: u64 = 1 << 20;
/// The largest spool: what waits is in memory, too.
const SPOOL_BYTES_MAX: u64 = 4 << 30;
/// The longest time that a receiver may take.
const TIMEOUT_NS_MAX: i64 = 600_000_000_000;

/// How many messages go out at most.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// Messages, 1 to 10,000. What is over the rate is not dropped: it waits, and goes out as one message that lists it.
    pub messages: usize,
    /// In any time so long, such as `1m`. At most a day.
    pub per: Extent,
}

/// Messages that go out as one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// The columns in which they agree. Empty or left out: all messages are one group.
    #[serde(default)]
    pub by: Vec<String>,
    /// How long after the first the others may come; no message waits longer for others. At most a day.
    pub within: Extent,
}

/// Hours in which messages wait.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietConfig {
    /// When they begin, as `"22:00"`.
    pub from: String,
    /// When they end, as `"06:00"`; the next day where that is not later. What has waited goes out together then.
    pub to: String,
    /// The time zone, such as `Europe/Berlin`.
    pub zone: String,
    /// Messages whose column `severity` is at least this go out all the same: `info`, `minor`, `warning`, `major`,
    /// `critical`, or 1 to 5.
    #[serde(default)]
    pub except: Option<SeverityConfig>,
}

/// A severity by name or number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SeverityConfig {
    /// 1 to 5.
    Number(i64),
    /// `info`, `minor`, `warning`, `major` or `critical`.
    Name(String),
}

/// Texts for people. `{column}` stands for the value of a column, `{#pipeline}`, `{#sink}`, `{#stream}` and `{#id}` for what
/// they say, `{{` and `}}` for braces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// One line: the subject of an e-mail. Default: of an alert its severity, rule, change and key, else the key.
    #[serde(default)]
    pub subject: Option<String>,
    /// The text itself. Default: of an alert what happened and why, else all columns.
    #[serde(default)]
    pub body: Option<String>,
}

/// The options in common, as they stand in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Common<'a> {
    pub(crate) rate: Option<&'a RateConfig>,
    pub(crate) group: Option<&'a GroupConfig>,
    pub(crate) quiet: Option<&'a QuietConfig>,
    pub(crate) template: &'a TemplateConfig,
    pub(crate) spool: &'a Path,
    pub(crate) spool_limit: u64,
    pub(crate) give_up_after: Extent,
    pub(crate) timeout: Extent,
}

/// The options in common, checked.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) pace: Pace,
    pub(crate) group_by: Vec<usize>,
    pub(crate) texts: Texts,
    pub(crate) spool_bytes: u64,
    pub(crate) give_up_after: Duration,
    pub(crate) timeout: Duration,
}

impl Common<'_> {
    /// Checks the options against the stream.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn check(&self, schema: &Schema) -> Result<Rules, Vec<ConfigError>> {
        let mut found = Vec::new();
        let rate = self.rate.and_then(|r| note(rate(r), &mut found));
        let quiet = self.quiet.and_then(|q| note(quiet(q, schema), &mut found));
        let within = self
            .group
            .and_then(|g| note(nanos("group.within", g.within, SPREAD_NS_MAX), &mut found));
        let group_by = self.group.map(|g| columns(g, schema, &mut found)).unwrap_or_default();
        let texts = note_all(texts(self.template, schema), &mut found);
        let give_up = note(nanos("give_up_after", self.give_up_after, i64::MAX), &mut found);
        let timeout = note(nanos("timeout", self.timeout, TIMEOUT_NS_MAX), &mut found);
        if self.spool.as_os_str().is_empty() {
            let e = ConfigError::new("spool", "the path is empty");
            found.push(e.help("name a folder for what waits to be delivered, such as spool"));
        }
        if !(SPOOL_BYTES_MIN..=SPOOL_BYTES_MAX).contains(&self.spool_limit) {
            let limit = self.spool_limit;
            let message = format!("{limit} is not between {SPOOL_BYTES_MIN} and {SPOOL_BYTES_MAX}");
            found.push(ConfigError::new("spool_limit", message));
        }
        let (Some(texts), Some(give_up), Some(timeout), true) =
            (texts, give_up, timeout, found.is_empty())
        else {
            return Err(found);
        };
        Ok(Rules {
            pace: Pace { rate, within_ns: within, quiet },
            group_by,
            texts,
            spool_bytes: self.spool_limit,
            give_up_after: Duration::from_nanos(give_up.unsigned_abs()),
            timeout: Duration::from_nanos(timeout.unsigned_abs()),
        })
    }
}

/// The templates of a sink, without a topic.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn texts(config: &TemplateConfig, schema: &Schema) -> Result<Texts, Vec<ConfigError>> {
    let or = |given: &Option<String>, default: String| given.clone().unwrap_or(default);
    let subject = or(&config.subject, default_subject(schema));
    let body = or(&config.body, default_body(schema));
    let subject = Template::parse("template.subject", &subject, schema);
    let body = Template::parse("template.body", &body, schema);
    match (subject, body) {
        (Ok(subject), Ok(body)) => Ok(Texts { subject, body, topic: None }),
        (subject, body) => Err(subject.err().into_iter().chain(body.err()).collect()),
    }
}

fn note<T>(result: Result<T, ConfigError>, found: &mut Vec<ConfigError>) -> Option<T> {
    result.map_err(|e| found.push(e)).ok()
}

fn note_all<T>(result: Result<T, Vec<ConfigError>>, found: &mut Vec<ConfigError>) -> Option<T> {
    result.map_err(|e| found.extend(e)).ok()
}

/// A duration in nanoseconds, above 0 and at most `max`.
pub(crate) fn nanos(at: &str, extent: Extent, max: i64) -> Result<i64, ConfigError> {
    match extent {
        Extent::Nanos(n) if n > 0 && n <= max => Ok(n),
        Extent::Nanos(n) if n > max => {
            let most = Extent::Nanos(max);
            Err(ConfigError::new(at, format!("'{extent}' is longer than {most}")))
        }
        _ => {
            let message = format!("'{extent}' is not a time that can pass");
            Err(ConfigError::new(at, message).help("give a duration, such as 30s"))
        }
    }
}

fn rate(config: &RateConfig) -> Result<Rate, ConfigError> {
    if !(1..=RATE_MAX).contains(&config.messages) {
        let message = format!("{} is not between 1 and {RATE_MAX}", config.messages);
        return Err(ConfigError::new("rate.messages", message));
    }
    let per_ns = nanos("rate.per", config.per, SPREAD_NS_MAX)?;
    Ok(Rate { notices: config.messages, per_ns })
}

fn columns(config: &GroupConfig, schema: &Schema, found: &mut Vec<ConfigError>) -> Vec<usize> {
    let place = |(i, name): (usize, &String)| {
        schema.index_of(name).ok_or_else(|| {
            let names = schema.columns().iter().map(|c| &c.name);
            let message = format!("the stream has no column '{name}'");
            ConfigError::new(format!("group.by[{i}]"), message).unknown(name, names)
        })
    };
    config.by.iter().enumerate().filter_map(|named| note(place(named), found)).collect()
}

fn quiet(config: &QuietConfig, schema: &Schema) -> Result<Quiet, ConfigError> {
    let time = |at: &str, text: &str| {
        NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| {
            let e = ConfigError::new(at, format!("'{text}' is not a time of day"));
            e.help("write hours and minutes in quotes, such as \"22:00\"")
        })
    };
    let (from, to) = (time("quiet.from", &config.from)?, time("quiet.to", &config.to)?);
    if from == to {
        let e = ConfigError::new("quiet.to", "quiet hours that end when they begin are none");
        return Err(e.help("give another time, or remove `quiet`"));
    }
    let zone = config.zone.parse().map_err(|_| {
        let e = ConfigError::new("quiet.zone", format!("'{}' is not a time zone", config.zone));
        e.help("use a name such as Europe/Berlin or UTC")
    })?;
    let except = config.except.as_ref().map(|least| exception(least, schema)).transpose()?;
    Ok(Quiet { from, to, zone, except })
}

fn exception(config: &SeverityConfig, schema: &Schema) -> Result<i64, ConfigError> {
    let text = match config {
        SeverityConfig::Number(number) => number.to_string(),
        SeverityConfig::Name(name) => name.clone(),
    };
    let Some(least) = severity_of(&text) else {
        let e = ConfigError::new("quiet.except", format!("'{text}' is not a severity"));
        return Err(e.help("use info, minor, warning, major, critical, or 1 to 5"));
    };
    let column = schema.column("severity");
    if column.is_some_and(|c| c.data_type.is_integer()) {
        return Ok(least);
    }
    let message = "the stream has no column 'severity' of whole numbers";
    Err(ConfigError::new("quiet.except", message).help("remove `except`, or derive such a column"))
}
