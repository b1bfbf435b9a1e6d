//! What is told: a row as a message, and the notice that goes out with one message or several.

use foreline_engine::{Batch, Schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::cells;
use super::template::Texts;

/// Bytes of a row as JSON. A larger one (a waveform) is left out and counted: receivers refuse such messages for good.
pub(crate) const ROW_BYTES_MAX: usize = 256 * 1024;
/// What a message takes in memory and in the spool beside its texts.
const OVERHEAD_BYTES: usize = 160;

/// A row that is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// Counted from 1 in the order in which the spool took them; 0 while it has not.
    pub(crate) number: u64,
    /// The same for the same row, whatever happened in between.
    pub(crate) id: String,
    /// When the spool took it, nanoseconds since 1970.
    pub(crate) arrived_ns: i64,
    /// The value of the column `severity`, where that is a whole number.
    pub(crate) severity: Option<i64>,
    /// The values that `group: { by }` names, as one text.
    pub(crate) group: String,
    /// Where it is published; only MQTT has topics.
    pub(crate) topic: String,
    pub(crate) subject: String,
    pub(crate) text: String,
    /// The row as a JSON object.
    pub(crate) row: String,
}

impl Message {
    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let texts = [&self.id, &self.group, &self.topic, &self.subject, &self.text, &self.row];
        OVERHEAD_BYTES + texts.iter().map(|t| t.len()).sum::<usize>()
    }
}

/// Where messages come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) pipeline: String,
    pub(crate) sink: String,
    pub(crate) stream: String,
}

/// Rows that became no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Passed {
    /// A correction made them vanish.
    pub(crate) deleted: u64,
    /// They are no longer in the view.
    pub(crate) gone: u64,
    /// Their JSON is larger than [`ROW_BYTES_MAX`].
    pub(crate) too_large: u64,
}

impl Passed {
    pub(crate) fn add(&mut self, other: Passed) {
        self.deleted += other.deleted;
        self.gone += other.gone;
        self.too_large += other.too_large;
    }
}

/// Makes messages of rows.
#[derive(Debug, Clone)]
pub(crate) struct Composer {
    pub(crate) origin: Origin,
    pub(crate) schema: Schema,
    pub(crate) texts: Texts,
    /// Columns that `group: { by }` names.
    pub(crate) group_by: Vec<usize>,
    /// A whole number called `severity`.
    pub(crate) severity: Option<usize>,
    /// A truth value called `gone`.
    pub(crate) gone: Option<usize>,
}

impl Composer {
    /// Appends the messages of `batch`, which are not numbered yet.
    pub(crate) fn compose(&self, batch: &Batch, to: &mut Vec<Message>) -> Passed {
        let mut passed = Passed::default();
        for row in 0..batch.len() {
            if batch.deleted.as_ref().is_some_and(|d| d.value(row)) {
                passed.deleted += 1;
            } else if self.gone.is_some_and(|c| cells::is_true(batch.rows.column(c), row)) {
                passed.gone += 1;
            } else if let Some(message) = self.message(batch, row) {
                to.push(message);
            } else {
                passed.too_large += 1;
            }
        }
        passed
    }

    fn message(&self, batch: &Batch, row: usize) -> Option<Message> {
        let columns = self.schema.columns().iter().zip(batch.rows.columns());
        let object: serde_json::Map<String, serde_json::Value> =
            columns.map(|(c, values)| (c.name.clone(), cells::json(values, row))).collect();
        let text = serde_json::Value::Object(object).to_string();
        if text.len() > ROW_BYTES_MAX {
            let id = self.id(batch, row, &text);
            let (sink, bytes) = (&self.origin.sink, text.len());
            tracing::warn!("sink '{sink}': message {id} of {bytes} bytes is too large, left out");
            return None;
        }
        let part = |c: usize| cells::text(batch.rows.column(c), row);
        let group = self.group_by.iter().map(|&c| part(c)).collect::<Vec<_>>().join("\u{1f}");
        let id = self.id(batch, row, &text);
        let place = self.texts.render(&self.origin, &id, batch, row);
        Some(Message {
            number: 0,
            arrived_ns: 0,
            severity: self.severity.and_then(|c| cells::whole(batch.rows.column(c), row)),
            group,
            topic: place.topic,
            subject: place.subject,
            text: place.body,
            row: text,
            id,
        })
    }

    /// A hash of pipeline, sink, stream, primary key, revision and contents. The contents are among it because two changes
    /// of a row in a view have one primary key.
    fn id(&self, batch: &Batch, row: usize, text: &str) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        for name in [&self.origin.pipeline, &self.origin.sink, &self.origin.stream] {
            add(name.as_bytes());
        }
        let primary = self.schema.primary_key();
        for &column in &primary.columns {
            add(cells::json(batch.rows.column(column), row).to_string().as_bytes());
        }
        let position = if primary.position { batch.position.value(row) } else { 0 };
        add(&position.to_le_bytes());
        let revision = batch.revision.as_ref().map_or(0, |r| r.value(row));
        add(&revision.to_le_bytes());
        add(text.as_bytes());
        short(hash)
    }
}

/// What goes out at a time: one message, or several together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// The message's id, or one made of the ids of all.
    pub(crate) id: String,
    pub(crate) messages: Vec<std::sync::Arc<Message>>,
}

impl Notice {
    /// The notice of these messages, of which there is at least one.
    pub(crate) fn of(messages: Vec<std::sync::Arc<Message>>) -> Self {
        let id = match &messages[..] {
            [one] => one.id.clone(),
            many => {
                let mut hash = Sha256::new();
                many.iter().for_each(|m| hash.update(m.id.as_bytes()));
                short(hash)
            }
        };
        Notice { id, messages }
    }

    /// One line for people.
    pub(crate) fn subject(&self) -> String {
        match &self.messages[..] {
            [one] => one.subject.clone(),
            [first, ..] => format!("{} messages: {}, …", self.messages.len(), first.subject),
            [] => String::new(),
        }
    }

    /// Text for people: that of the message, or a list.
    pub(crate) fn text(&self) -> String {
        if let [one] = &self.messages[..] {
            return one.text.clone();
        }
        let head = format!("{} messages:\n", self.messages.len());
        self.messages.iter().fold(head, |all, m| all + "- " + &m.text.replace('\n', "\n  ") + "\n")
    }

    /// What machines read: `id`, `pipeline`, `sink`, `stream`, `rows` (each with its `id` beside, in `ids`) and `text`.
    pub(crate) fn json(&self, origin: &Origin) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let rows: Vec<&str> = self.messages.iter().map(|m| m.row.as_str()).collect();
        let ids: Vec<&str> = self.messages.iter().map(|m| m.id.as_str()).collect();
        // The rows are JSON already; parsing them again would only cost time.
        format!(
            r#"{{"id":{},"pipeline":{},"sink":{},"stream":{},"rows":[{}],"ids":{},"text":{}}}"#,
            quoted(&self.id),
            quoted(&origin.pipeline),
            quoted(&origin.sink),
            quoted(&origin.stream),
            rows.join(","),
            serde_json::Value::from(ids),
            quoted(&self.text()),
        )
    }
}

/// The first 16 bytes of a hash, in hexadecimal.
fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The column `severity`, where it is a whole number.
pub(crate) fn severity_column(schema: &Schema) -> Option<usize> {
    schema.index_of("severity").filter(|&c| schema.columns()[c].data_type.is_integer())
}

/// The column `gone`, where it is a truth value.
pub(crate) fn gone_column(schema: &Schema) -> Option<usize> {
    use arrow::datatypes::DataType;
    schema.index_of("gone").filter(|&c| schema.columns()[c].data_type == DataType::Boolean)
}
