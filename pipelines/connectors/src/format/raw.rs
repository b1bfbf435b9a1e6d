//! Raw waveforms: a payload is one burst of little-endian 32-bit floats, and becomes one row a sample, or one row.
//!
//! With several channels the samples of one instant stand side by side. The burst has one stamp.
//!
//! Channels that are `float64` make a row a sample: each sample's time follows from the stamp and the sample rate, rounded
//! to the nanosecond from the burst's own stamp, so that errors do not add up. A NaN is null; an infinite sample is a dead
//! letter of its own.
//!
//! Channels that are waveforms make one row, at the time of the first sample. There a sample that is NaN or infinite makes
//! the whole burst a dead letter.

use std::sync::Arc;

use foreline_engine::{ConfigError, SampleRate, Schema, TimeDomain};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Layout, Taker, Wanted};
use crate::kind::{ColumnType, FieldRef};
use crate::record::{Form, Need, NullWords, Packed, Rejected, Samples, Value, Writing};

const SAMPLE_BYTES: usize = 4;
const STAMP_BYTES: usize = 8;
const NANOS_PER_SECOND: f64 = 1e9;
/// Faster than any vibration sensor, and slow enough that samples have different stamps.
const SAMPLE_RATE_HZ_MAX: f64 = 1e9;

/// Options of raw waveforms. The float64 columns are the channels, in their order; the timestamp column is the time of
/// the sample, an int64 column with `field: "#sample"` its number in the burst from 0. Or the waveform columns are the
/// channels, and a burst is one row; its time is that of the first sample.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOptions {
    /// Samples a second and channel. May be left out where the channels are waveforms, whose columns say it.
    #[serde(default)]
    pub sample_rate: Option<f64>,
    /// Where the burst's stamp comes from.
    #[serde(default)]
    pub stamp: StampedBy,
    /// Which sample the stamp is that of.
    #[serde(default)]
    pub stamped: Stamped,
}

/// Where a burst's stamp comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StampedBy {
    /// From the envelope: the event time's column says from which part of it, such as the time of arrival.
    #[default]
    Envelope,
    /// From the payload's first eight bytes: nanoseconds since 1970, a little-endian whole number.
    EpochNs,
}

/// Which sample a burst's stamp is that of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stamped {
    /// The last, as when a device stamps or sends a burst once it has it.
    #[default]
    Last,
    /// The first.
    First,
}

/// What is wanted of raw waveforms.
#[derive(Debug)]
struct Raw {
    options: RawOptions,
    sample_rate: f64,
    /// What each column takes, by its place; `None` where the envelope has it.
    cells: Vec<Option<Cell>>,
    n_channels: u32,
    /// Whether a burst is one row, as the channels say.
    whole: bool,
    time: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Channel(u32),
    Number,
}

pub(super) fn plan(
    options: &RawOptions,
    schema: &Schema,
    wanted: &[Wanted<'_>],
    mistakes: &mut Vec<ConfigError>,
) -> Option<(Arc<dyn Layout>, Writing)> {
    if schema.domain() != TimeDomain::UtcNanos {
        let name = &schema.columns()[schema.time()].name;
        let message = "the samples of a burst are told apart by their time, which is no count";
        let e = ConfigError::new(format!("columns.{name}.type"), message);
        mistakes.push(e.help("declare a timestamp column and make it the event time"));
    }
    let n_columns = wanted.iter().map(|w| w.index + 1).max().unwrap_or(0);
    let mut raw = Raw {
        options: options.clone(),
        sample_rate: 0.0,
        cells: vec![None; n_columns],
        n_channels: 0,
        whole: wanted.iter().any(|w| w.config.data_type == ColumnType::Waveform),
        time: schema.time(),
    };
    match raw.rate(schema, wanted) {
        Ok(rate) => raw.sample_rate = rate,
        Err(e) => mistakes.push(e),
    }
    let n_mistakes = mistakes.len();
    for column in wanted {
        match raw.cell(column) {
            Ok(cell) => raw.cells[column.index] = cell,
            Err(e) => mistakes.push(e),
        }
    }
    if raw.n_channels == 0 && mistakes.len() == n_mistakes {
        let e = ConfigError::new("raw", "no column takes the samples");
        mistakes.push(e.help("declare a waveform for each channel, or a float64 column"));
    }
    let writing = Writing { decimal: b'.', null: NullWords::default(), is_transcoded: false };
    Some((Arc::new(raw), writing))
}

impl Raw {
    /// Samples a second and channel: as the option says, and the columns of waveforms.
    fn rate(&self, schema: &Schema, wanted: &[Wanted<'_>]) -> Result<f64, ConfigError> {
        let mut rate = self.options.sample_rate;
        let channels = wanted.iter().filter(|w| w.config.data_type == ColumnType::Waveform);
        for channel in channels {
            let declared = schema.columns()[channel.index].sample_rate.map(SampleRate::hertz);
            if rate.is_some() && rate != declared {
                let message = "the channels of a burst have one sample rate";
                let e = channel.error("sample_rate", message);
                return Err(e.help("say the same everywhere, or leave it out of the format"));
            }
            rate = declared;
        }
        let error = |message: String| {
            let e = ConfigError::new("raw.sample_rate", message);
            Err(e.help("give a number above zero, such as 25600"))
        };
        match rate {
            None => error("the sample rate is not said".to_owned()),
            Some(rate) if rate > 0.0 && rate <= SAMPLE_RATE_HZ_MAX => Ok(rate),
            Some(rate) => error(format!("{rate} samples a second cannot be")),
        }
    }

    fn cell(&mut self, column: &Wanted<'_>) -> Result<Option<Cell>, ConfigError> {
        let in_payload = self.options.stamp == StampedBy::EpochNs;
        match (column.config.data_type, &column.config.field) {
            (ColumnType::Timestamp, None) if column.need == Need::Time && in_payload => Ok(None),
            (ColumnType::Timestamp, _) if column.need == Need::Time => {
                Err(column.error("field", "a raw payload has no time of its own").help(
                    "set `stamp: epoch_ns` where its first eight bytes are one, or give the column the field that has the \
                     envelope's, such as \"#received\"",
                ))
            }
            (ColumnType::Int64, Some(FieldRef::Name(name))) if name == "#sample" && !self.whole => {
                Ok(Some(Cell::Number))
            }
            (ColumnType::Float64, _) if self.whole => Err(column
                .error("type", "a burst is one row where a channel is a waveform, and else a row a sample")
                .help("make all channels waveforms, or all of them float64")),
            (ColumnType::Float64 | ColumnType::Waveform, None) => {
                self.n_channels += 1;
                Ok(Some(Cell::Channel(self.n_channels - 1)))
            }
            (ColumnType::Float64 | ColumnType::Waveform, Some(_)) => {
                Err(column.error("field", "channels are taken in the order of their columns"))
            }
            _ => Err(column
                .error("type", "a raw payload has samples only")
                .help("give the column a field of the envelope")),
        }
    }

    /// The burst's stamp, if it is in the payload, and its samples.
    fn split<'a>(&self, payload: &'a [u8]) -> Result<(Option<i64>, &'a [u8]), Rejected> {
        let (stamp, samples) = match self.options.stamp {
            StampedBy::Envelope => (None, payload),
            StampedBy::EpochNs => {
                let (stamp, samples) = payload
                    .split_first_chunk::<STAMP_BYTES>()
                    .ok_or_else(|| Rejected::malformed("the payload is too short for its stamp"))?;
                (Some(i64::from_le_bytes(*stamp)), samples)
            }
        };
        let row_bytes = self.row_bytes();
        if samples.is_empty() || !samples.len().is_multiple_of(row_bytes) {
            let n = samples.len();
            let detail = format!("{n} bytes are no whole number of samples of {row_bytes} bytes");
            return Err(Rejected::malformed(detail));
        }
        Ok((stamp, samples))
    }

    /// The bytes of the samples of one instant.
    fn row_bytes(&self) -> usize {
        SAMPLE_BYTES * self.n_channels.max(1) as usize
    }

    /// The time of sample `index` of `n`.
    fn time(&self, stamp: i64, index: usize, n: usize) -> i64 {
        let from = match self.options.stamped {
            Stamped::First => 0,
            Stamped::Last => n - 1,
        };
        #[expect(clippy::cast_precision_loss, reason = "a burst has far fewer than 2^53 samples")]
        let steps = index as f64 - from as f64;
        #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, as the sum does")]
        let nanos = (steps * NANOS_PER_SECOND / self.sample_rate).round() as i64;
        stamp.saturating_add(nanos)
    }

    /// The burst as one row.
    fn burst(&self, payload: &[u8], samples: &[u8], time: Option<i64>, to: &mut Taker<'_>) {
        to.record(payload, |column| {
            if column == self.time {
                return time.map(Value::Time);
            }
            let Cell::Channel(channel) = (*self.cells.get(column)?)? else { return None };
            let n_channels = self.n_channels;
            let packed = Packed { bytes: samples, form: Form::F32, channel, n_channels };
            Some(Value::Samples(Samples::Packed(packed)))
        });
    }

    /// The burst as a row a sample.
    fn samples(&self, samples: &[u8], stamp: i64, to: &mut Taker<'_>) {
        let row_bytes = self.row_bytes();
        let n = samples.len() / row_bytes;
        for (index, row) in samples.chunks_exact(row_bytes).enumerate() {
            let time = self.time(stamp, index, n);
            to.record(row, |column| {
                if column == self.time {
                    return Some(Value::Time(time));
                }
                Some(match (*self.cells.get(column)?)? {
                    Cell::Number => Value::Int(i64::try_from(index).unwrap_or(i64::MAX)),
                    Cell::Channel(channel) => {
                        let at = channel as usize * SAMPLE_BYTES;
                        let bytes = *row[at..].first_chunk::<SAMPLE_BYTES>()?;
                        Value::Float(f64::from(f32::from_le_bytes(bytes)))
                    }
                })
            });
        }
    }
}

impl Layout for Raw {
    fn records(&self, payload: &[u8]) -> u64 {
        match self.whole {
            true => 1,
            false => (payload.len() / self.row_bytes()) as u64,
        }
    }

    fn read(&self, payload: &[u8], to: &mut Taker<'_>) -> Result<(), Rejected> {
        let (stamp, samples) = self.split(payload)?;
        let stamp = match (stamp, to.given(self.time)) {
            (Some(stamp), _) | (None, Some(Value::Time(stamp))) => Some(stamp),
            // A stamp as text, such as a level of the topic, is read by its column, and can be that of the row as it is.
            (None, Some(_)) if self.whole && self.options.stamped == Stamped::First => None,
            (None, _) => return Err(Rejected::malformed("the burst has no stamp")),
        };
        match (self.whole, stamp) {
            (false, Some(stamp)) => self.samples(samples, stamp, to),
            (_, stamp) => {
                let n = samples.len() / self.row_bytes();
                self.burst(payload, samples, stamp.map(|stamp| self.time(stamp, 0, n)), to);
            }
        }
        Ok(())
    }
}
