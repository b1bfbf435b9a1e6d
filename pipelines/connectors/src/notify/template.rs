//! Texts with `{column}` in them.
//!
//! What a reader would get wrong: a template is checked against the schema when the pipeline is planned, so that rendering
//! never fails; and `{severity}` of a whole number is its name (`critical`), since nobody reads a 5.

use foreline_engine::{Batch, ConfigError, Schema};

use super::cells;
use super::message::Origin;

/// Names of severities, from 1.
const SEVERITIES: [&str; 5] = ["info", "minor", "warning", "major", "critical"];
/// Bytes of a text that was filled in; what is longer is cut.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// The severity that a name or a number stands for.
pub(super) fn severity_of(text: &str) -> Option<i64> {
    let by_name = SEVERITIES.iter().position(|name| *name == text).map(|i| i + 1);
    let number = by_name.or_else(|| text.parse().ok().filter(|n| (1..=5).contains(n)))?;
    i64::try_from(number).ok()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Column(usize),
    /// The column `severity`, a whole number.
    Severity(usize),
    Pipeline,
    Sink,
    Stream,
    Id,
}

/// A text with places to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

impl Template {
    /// Reads a template; `at` is where it stands in the configuration.
    ///
    /// # Errors
    /// When a brace has no other, or a name is no column.
    pub(crate) fn parse(at: &str, text: &str, schema: &Schema) -> Result<Self, ConfigError> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(brace) = rest.find(['{', '}']) {
            plain.push_str(&rest[..brace]);
            let tail = &rest[brace..];
            if let Some(after) = tail.strip_prefix("{{").or_else(|| tail.strip_prefix("}}")) {
                plain.push_str(&tail[..1]);
                rest = after;
                continue;
            }
            let inner = tail.strip_prefix('{').and_then(|t| t.split_once('}'));
            let Some((name, after)) = inner else {
                let message = "a brace has no other to go with it";
                let help = "write {column}; {{ and }} stand for braces themselves";
                return Err(ConfigError::new(at, message).help(help));
            };
            parts.push(Part::Text(std::mem::take(&mut plain)));
            parts.push(part(at, name, schema)?);
            rest = after;
        }
        plain.push_str(rest);
        parts.push(Part::Text(plain));
        parts.retain(|p| !matches!(p, Part::Text(t) if t.is_empty()));
        Ok(Template(parts))
    }

    /// What does not come from a row.
    pub(crate) fn plain(&self) -> String {
        let text = |p: &Part| match p {
            Part::Text(text) => Some(text.clone()),
            _ => None,
        };
        self.0.iter().filter_map(text).collect()
    }

    /// The text for a row; `put` makes of a value what may stand there.
    fn fill(
        &self,
        origin: &Origin,
        id: &str,
        batch: &Batch,
        row: usize,
        put: fn(&str) -> String,
    ) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Column(c) => text.push_str(&put(&cells::text(batch.rows.column(*c), row))),
                Part::Severity(c) => text.push_str(&put(&severity(batch, *c, row))),
                Part::Pipeline => text.push_str(&put(&origin.pipeline)),
                Part::Sink => text.push_str(&put(&origin.sink)),
                Part::Stream => text.push_str(&put(&origin.stream)),
                Part::Id => text.push_str(id),
            }
        }
        cut(text)
    }
}

fn part(at: &str, name: &str, schema: &Schema) -> Result<Part, ConfigError> {
    Ok(match (name, schema.index_of(name)) {
        ("severity", Some(c)) if schema.columns()[c].data_type.is_integer() => Part::Severity(c),
        (_, Some(c)) => Part::Column(c),
        ("#pipeline", None) => Part::Pipeline,
        ("#sink", None) => Part::Sink,
        ("#stream", None) => Part::Stream,
        ("#id", None) => Part::Id,
        _ => {
            let columns = schema.columns().iter().map(|c| &c.name);
            let message = format!("the stream has no column '{name}'");
            return Err(ConfigError::new(at, message).unknown(name, columns));
        }
    })
}

fn severity(batch: &Batch, column: usize, row: usize) -> String {
    let values = batch.rows.column(column);
    let name = cells::whole(values, row)
        .and_then(|n| usize::try_from(n - 1).ok())
        .and_then(|i| SEVERITIES.get(i));
    name.map_or_else(|| cells::text(values, row), |name| (*name).to_owned())
}

/// `text` up to [`TEXT_BYTES_MAX`], with a mark where it was longer.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The templates of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Texts {
    pub(crate) subject: Template,
    pub(crate) body: Template,
    /// Where messages are published; only MQTT has topics.
    pub(crate) topic: Option<Template>,
}

/// What the templates of a sink make of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) subject: String,
    pub(crate) body: String,
    pub(crate) topic: String,
}

impl Texts {
    /// Fills in the values of a row.
    pub(crate) fn render(&self, origin: &Origin, id: &str, batch: &Batch, row: usize) -> Rendered {
        let as_it_is = |value: &str| value.to_owned();
        let topic = self.topic.as_ref().map(|t| t.fill(origin, id, batch, row, level));
        Rendered {
            // A subject is one line, whatever is in a column.
            subject: one_line(&self.subject.fill(origin, id, batch, row, as_it_is)),
            body: self.body.fill(origin, id, batch, row, as_it_is),
            topic: topic.unwrap_or_default(),
        }
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A value as a level of a topic: what would be more than one level, or a wildcard, or no text, is `_`; so is an empty one.
pub(crate) fn level(value: &str) -> String {
    if value.is_empty() {
        return "_".to_owned();
    }
    let odd = |c: char| matches!(c, '+' | '#' | '/') || c.is_control();
    value.chars().map(|c| if odd(c) { '_' } else { c }).collect()
}

/// The subject where none is configured.
pub(super) fn default_subject(schema: &Schema) -> String {
    let keys: Vec<String> = key_columns(schema).map(|name| format!("{{{name}}}")).collect();
    let keys = keys.join(" ");
    if is_alert(schema) {
        return format!("[{{severity}}] {{rule}} {{change}}: {keys}");
    }
    format!("{{#stream}}: {keys}")
}

/// The body where none is configured.
pub(super) fn default_body(schema: &Schema) -> String {
    if is_alert(schema) {
        let keys: Vec<String> =
            key_columns(schema).map(|name| format!("{name} {{{name}}}")).collect();
        let mut text = format!("{{rule}} {{change}} ({{severity}}), {}", keys.join(", "));
        for (name, form) in [("message", ": {message}"), ("evidence", " {evidence}")] {
            if schema.index_of(name).is_some() {
                text += form;
            }
        }
        return text;
    }
    let names = schema.columns().iter().map(|c| &c.name).filter(|n| !n.contains(['{', '}']));
    let pairs: Vec<String> = names.map(|name| format!("{name}={{{name}}}")).collect();
    format!("{{#stream}}: {}", pairs.join(", "))
}

/// The key, less what an alert's own id would say again, and less what a template cannot name.
fn key_columns(schema: &Schema) -> impl Iterator<Item = &str> {
    let is_shown = |name: &&str| !is_alert(schema) || *name != "alert";
    let named = |name: &&str| is_shown(name) && !name.contains(['{', '}']);
    let keys: Vec<&str> =
        schema.key().iter().map(|&c| schema.columns()[c].name.as_str()).filter(named).collect();
    // The table of alerts has the alert's id for its key, and the machine beside it.
    let machine = schema.column("machine").map(|c| c.name.as_str()).filter(|_| is_alert(schema));
    let keys = if keys.is_empty() { machine.into_iter().collect() } else { keys };
    keys.into_iter()
}

fn is_alert(schema: &Schema) -> bool {
    ["alert", "rule", "severity", "change"].iter().all(|name| schema.index_of(name).is_some())
}
