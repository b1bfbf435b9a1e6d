//! The history of alerts as rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use foreline_engine::{
    Batch, Column, ConfigError, Fault, Keyed, PrimaryKey, Schema, TimeDomain, hash_keys,
};

use super::life::{Change, Event, Life};
use crate::columns::{output, time_column};
use crate::held::Marks;

/// A row a change.
pub(super) fn schema(input: &Schema) -> Result<Schema, ConfigError> {
    let mut columns: Vec<Column> =
        input.key().iter().map(|&k| input.columns()[k].clone()).collect();
    let n_key = columns.len();
    let time = &input.columns()[input.time()];
    let moment =
        |name: &str| Column::new(name, time.data_type.clone()).with_unit(time.unit.clone());
    let text = |name: &str| Column::new(name, DataType::Utf8);
    columns.extend([
        moment(&time.name),
        text("alert"),
        text("rule"),
        Column::new("severity", DataType::Int64),
        text("change"),
        Column::new("sequence", DataType::Int64),
        moment("raised_at"),
        moment("cleared_at"),
        Column::new("flapping", DataType::Boolean),
        Column::new("inhibited", DataType::Boolean),
        text("message"),
        text("evidence"),
        moment("first_seen"),
    ]);
    // The time belongs to it, because a table that is cut by time wants it there.
    let primary = (0..n_key).chain([n_key, n_key + 1, n_key + 5]).collect();
    let primary_key = PrimaryKey { columns: primary, position: false };
    output(columns, (0..n_key).collect(), n_key, primary_key)
        .map_err(|e| e.help("rename the column before"))
}

/// A change of the alert of a key.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) slot: u32,
    pub(super) event: Event,
    pub(super) evidence: Option<String>,
}

/// What all changes of a rule have.
#[derive(Debug, Clone)]
pub(super) struct Told {
    rule: String,
    message: String,
    output: Schema,
}

impl Told {
    pub(super) fn new(rule: &str, message: String, output: Schema) -> Self {
        Told { rule: rule.to_owned(), message, output }
    }

    /// The changes as rows. Those of a key are in order.
    pub(super) fn batch(&self, entries: &[Entry], lives: &mut Keyed<Life>) -> Result<Batch, Fault> {
        let slots: Vec<u32> = entries.iter().map(|entry| entry.slot).collect();
        let domain = self.output.domain();
        let events = || entries.iter().map(|entry| &entry.event);
        let times: Vec<i64> = events().map(|event| event.at).collect();
        let raised_at: Vec<i64> = events().map(|event| event.alert.raised_at).collect();
        let first_seen = events().map(|event| event.alert.first_seen).collect();
        let cleared: BooleanArray =
            events().map(|event| Some(event.change == Change::Cleared)).collect();
        let whole = |value: &dyn Fn(&Event) -> i64| -> ArrayRef {
            Arc::new(events().map(value).collect::<Int64Array>())
        };
        let truth = |value: &dyn Fn(&Event) -> bool| -> ArrayRef {
            Arc::new(events().map(|event| Some(value(event))).collect::<BooleanArray>())
        };
        let same = |text: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(entries.iter().map(|_| text)))
        };
        let at = time_column(times, domain);
        let never = arrow::array::new_null_array(at.data_type(), entries.len());
        let evidence = entries.iter().map(|entry| entry.evidence.as_deref());
        let keys = lives.key_columns(&slots);
        let ids = self.ids(entries, &keys)?;
        let mut columns = keys;
        columns.extend([
            Arc::clone(&at),
            Arc::new(ids) as ArrayRef,
            same(&self.rule),
            whole(&|event| i64::from(event.alert.severity)),
            Arc::new(StringArray::from_iter_values(events().map(|event| event.change.name()))),
            whole(&|event| i64::from(event.sequence)),
            time_column(raised_at, domain),
            zip(&cleared, &at, &never)?,
            truth(&|event| event.alert.flaps()),
            truth(&|event| event.alert.inhibited),
            same(&self.message),
            Arc::new(evidence.collect::<StringArray>()),
            time_column(first_seen, domain),
        ]);
        let mut marks = Marks::default();
        for entry in entries {
            marks.push(lives.hash(entry.slot), entry.event.position);
        }
        marks.batch(&self.output, columns)
    }

    /// The ids: 64 bits, so that among a million alerts two are the same with a chance of 1 in 4·10⁷.
    fn ids(&self, entries: &[Entry], keys: &[ArrayRef]) -> Result<StringArray, Fault> {
        let kind = match self.output.domain() {
            TimeDomain::UtcNanos => "utc",
            TimeDomain::Logical => "count",
        };
        let text = |text: &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(entries.iter().map(|_| text)))
        };
        let alerts = || entries.iter().map(|entry| entry.event.alert);
        let raised = alerts().map(|alert| alert.raised_at).collect::<Int64Array>();
        let twins = alerts().map(|alert| i64::from(alert.twin)).collect::<Int64Array>();
        let mut columns = vec![text(&self.rule), text(kind), Arc::new(raised), Arc::new(twins)];
        columns.extend(keys.iter().cloned());
        let fields = columns.iter().enumerate();
        let fields = fields.map(|(i, c)| Field::new(i.to_string(), c.data_type().clone(), true));
        let schema = ArrowSchema::new(fields.collect::<Vec<_>>());
        let all: Vec<usize> = (0..columns.len()).collect();
        let hashes = hash_keys(&RecordBatch::try_new(Arc::new(schema), columns)?, &all);
        let texts = hashes.values().iter().map(|hash| format!("{hash:016x}"));
        Ok(StringArray::from_iter_values(texts))
    }
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Change::Raised => "raised",
            Change::Updated => "updated",
            Change::Cleared => "cleared",
        }
    }
}
