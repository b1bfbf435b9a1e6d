//! Sparkplug B payloads: a column takes the metric of its name.
//!
//! What a reader would get wrong:
//!
//! * Metrics of one timestamp make one row; a metric that comes again, or another timestamp, begins the next. Devices
//!   report what has changed, so a row mostly has values in a few of its columns and null in the others.
//! * A metric that no column takes is passed over, and a payload without any that is taken (a death, say) has no row.
//! * After its birth a device may name metrics by alias only. [`Births`] puts the names back before a payload is kept, so
//!   that decoding needs no memory of earlier payloads.
//! * A waveform is a metric that is an array of numbers of up to 32 bits or of doubles, or bytes: little-endian 32-bit floats.

use std::collections::BTreeMap;
use std::sync::Arc;

use foreline_engine::ConfigError;
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Layout, Taker, Wanted};
use crate::kind::{ColumnType, FieldRef};
use crate::record::{Form, Need, NullWords, Packed, Rejected, Samples, Value, Writing};

mod births;
mod message;
mod sequence;

pub(crate) use births::{Arrival, Births, Resolved};
use message::{DataType, Metric, MetricValue, Payload};

const NANOS_PER_MILLISECOND: i64 = 1_000_000;
/// The field of a payload that holds a metric.
const METRIC_FIELD: u32 = 2;

/// Options of Sparkplug B payloads. The event time, when it is a timestamp without a `field`, is that of the metrics, as is
/// every column with `field: "#timestamp"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SparkplugOptions {
    /// Whether an edge node is asked to be born again (`Node Control/Rebirth`) when a message has come whose birth is not
    /// known, or when one is missing, as the specification has host applications do; at most every 10 s. Switch it off
    /// where Foreline may not publish. Default true.
    #[serde(default = "yes")]
    pub rebirth: bool,
}

impl Default for SparkplugOptions {
    fn default() -> Self {
        SparkplugOptions { rebirth: true }
    }
}

fn yes() -> bool {
    true
}

/// What is wanted of Sparkplug payloads.
#[derive(Debug, Default)]
struct Sparkplug {
    /// The columns that take a metric, by its name.
    metrics: BTreeMap<String, Vec<usize>>,
    /// The columns that take the timestamp.
    stamps: Vec<usize>,
    n_columns: usize,
}

pub(super) fn plan(
    wanted: &[Wanted<'_>],
    mistakes: &mut Vec<ConfigError>,
) -> Option<(Arc<dyn Layout>, Writing)> {
    let mut sparkplug = Sparkplug::default();
    for column in wanted {
        sparkplug.n_columns = sparkplug.n_columns.max(column.index + 1);
        if let Err(e) = sparkplug.find(column) {
            mistakes.push(e);
        }
    }
    if sparkplug.metrics.is_empty() {
        let e = ConfigError::new("sparkplug", "no column takes a metric");
        mistakes.push(e.help("name a column, or its `field`, as the metric is named"));
    }
    let writing = Writing { decimal: b'.', null: NullWords::default(), is_transcoded: false };
    Some((Arc::new(sparkplug), writing))
}

impl Sparkplug {
    fn find(&mut self, column: &Wanted<'_>) -> Result<(), ConfigError> {
        let stamp = match &column.config.field {
            Some(FieldRef::Name(name)) => name == "#timestamp",
            Some(FieldRef::Place(_)) => false,
            None => column.need == Need::Time && column.config.data_type == ColumnType::Timestamp,
        };
        if !stamp {
            let name = column.field_name("Sparkplug")?.to_owned();
            self.metrics.entry(name).or_default().push(column.index);
            return Ok(());
        }
        if column.config.data_type != ColumnType::Timestamp {
            let e = column.error("field", "'#timestamp' is an instant");
            return Err(e.help("give the column the type timestamp"));
        }
        self.stamps.push(column.index);
        Ok(())
    }
}

/// A row that is being put together.
struct Row<'v> {
    millis: Option<u64>,
    values: Vec<Option<Value<'v>>>,
}

impl Layout for Sparkplug {
    fn records(&self, payload: &[u8]) -> u64 {
        let (mut rest, mut metrics) = (payload, 0);
        while let Ok((field, wire)) = decode_key(&mut rest) {
            metrics += u64::from(field == METRIC_FIELD);
            if wire == WireType::EndGroup
                || skip_field(wire, field, &mut rest, DecodeContext::default()).is_err()
            {
                break;
            }
        }
        metrics
    }

    fn read(&self, payload: &[u8], to: &mut Taker<'_>) -> Result<(), Rejected> {
        let message = Payload::decode(payload)
            .map_err(|e| Rejected::malformed(format!("not a Sparkplug payload: {e}")))?;
        let mut row: Option<Row<'_>> = None;
        for metric in &message.metrics {
            let name = metric.name.as_deref().unwrap_or_default();
            if name.is_empty() && metric.alias.is_some() {
                let alias = metric.alias.unwrap_or_default();
                let detail = format!("no birth has said which metric has the alias {alias}");
                return Err(Rejected::malformed(detail));
            }
            let Some(columns) = self.metrics.get(name) else { continue };
            let millis = metric.timestamp.or(message.timestamp);
            let goes_on = |row: &Row<'_>| row.millis == millis && row.values[columns[0]].is_none();
            if !row.as_ref().is_some_and(goes_on)
                && let Some(done) = row.replace(Row { millis, values: vec![None; self.n_columns] })
            {
                self.hand_on(payload, &done, to);
            }
            for &column in columns {
                if let Some(row) = &mut row {
                    row.values[column] = Some(value(metric));
                }
            }
        }
        if let Some(last) = row {
            self.hand_on(payload, &last, to);
        }
        Ok(())
    }
}

impl Sparkplug {
    fn hand_on(&self, payload: &[u8], row: &Row<'_>, to: &mut Taker<'_>) {
        let stamp = match row.millis {
            None => Value::Null,
            Some(millis) => instant(millis).map_or(Value::Unsigned(millis), Value::Time),
        };
        to.record(payload, |column| {
            if self.stamps.contains(&column) { Some(stamp) } else { *row.values.get(column)? }
        });
    }
}

fn instant(millis: u64) -> Option<i64> {
    i64::try_from(millis).ok()?.checked_mul(NANOS_PER_MILLISECOND)
}

/// The value of a metric. Whole numbers with a sign are sent as their two's complement without one.
fn value(metric: &Metric) -> Value<'_> {
    let data_type = metric.datatype.and_then(DataType::of);
    match &metric.value {
        _ if metric.is_null == Some(true) => Value::Null,
        None => Value::Nested(b"(a data set or a template)"),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "two's complement is meant"
        )]
        Some(MetricValue::Int(v)) => match data_type {
            Some(DataType::Int8) => Value::Int(i64::from(*v as i8)),
            Some(DataType::Int16) => Value::Int(i64::from(*v as i16)),
            Some(DataType::Int32) => Value::Int(i64::from(*v as i32)),
            _ => Value::Int(i64::from(*v)),
        },
        #[expect(clippy::cast_possible_wrap, reason = "two's complement is meant")]
        Some(MetricValue::Long(v)) => match data_type {
            Some(DataType::Int64) => Value::Int(*v as i64),
            Some(DataType::DateTime) => instant(*v).map_or(Value::Unsigned(*v), Value::Time),
            _ => i64::try_from(*v).map_or(Value::Unsigned(*v), Value::Int),
        },
        Some(MetricValue::Float(v)) => Value::Float(f64::from(*v)),
        Some(MetricValue::Double(v)) => Value::Float(*v),
        Some(MetricValue::Boolean(v)) => Value::Bool(*v),
        Some(MetricValue::String(v)) => Value::Text(v),
        Some(MetricValue::Bytes(v)) => match data_type {
            Some(DataType::Packed(form)) => Value::Samples(Samples::Packed(Packed::alone(v, form))),
            Some(DataType::OtherArray) => Value::Nested(b"(an array)"),
            None if metric.datatype.is_none() => {
                Value::Samples(Samples::Packed(Packed::alone(v, Form::F32)))
            }
            _ => Value::Bytes(v),
        },
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Payloads for tests.

    pub(crate) use super::message::{Metric, MetricValue, Payload};

    pub(crate) fn metric(name: &str, alias: Option<u64>, value: MetricValue) -> Metric {
        let name = (!name.is_empty()).then(|| name.to_owned());
        Metric { name, alias, timestamp: None, datatype: None, is_null: None, value: Some(value) }
    }

    pub(crate) fn payload(millis: u64, metrics: Vec<Metric>) -> Payload {
        Payload { timestamp: Some(millis), metrics, seq: None }
    }
}
