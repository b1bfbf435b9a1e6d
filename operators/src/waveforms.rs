//! What the steps that look at waveforms share: the column they read, the speed of the shaft, the columns they add.
//!
//! A row goes on with what was found in its waveform behind it; the waveform stays, for the next step to look at. A null
//! waveform has null findings. One that cannot be used makes its row a dead letter.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use foreline_engine::{Column, ConfigError, Reason, Schema, Unit, waveform_type};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{numeric, place};
pub(crate) use analysed::planned;

mod analysed;
#[cfg(test)]
pub(crate) mod tests;

/// A waveform has too few samples for what is asked of it.
pub(crate) const TOO_SHORT: Reason = Reason("waveform_too_short");

/// Two waveforms of a row that belong together differ in length or rate.
pub(crate) const MISMATCH: Reason = Reason("waveform_mismatch");

/// Most samples of a waveform: at 51.2 kHz 20 seconds, and 8 MB for each buffer that a step works in.
pub(crate) const MAX_SAMPLES: usize = 1 << 20;

/// How fast the shaft turns: a number of revolutions a minute, or a column in rpm or Hz (rpm where it has no unit).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected revolutions a minute, or the name of a column")]
pub enum SpeedConfig {
    /// Revolutions a minute, above 0.
    Rpm(f64),
    /// The column that says so; null where it is missing, 0 or below.
    Column(String),
}

/// How fast the shaft turns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// So many turns a second.
    Constant(f64),
    /// The column times a factor.
    Column(usize, f64),
}

impl Speed {
    pub(crate) fn plan(config: &SpeedConfig, input: &Schema) -> Result<Self, ConfigError> {
        match config {
            SpeedConfig::Rpm(rpm) if *rpm > 0.0 && rpm.is_finite() => {
                Ok(Speed::Constant(rpm / 60.0))
            }
            SpeedConfig::Rpm(rpm) => Err(ConfigError::new("speed", format!("'{rpm}' is no speed"))
                .help("give revolutions a minute, above 0")),
            SpeedConfig::Column(name) => {
                let index = numeric(input, "speed", name)?;
                Ok(Speed::Column(index, per_second("speed", &input.columns()[index])?))
            }
        }
    }
}

/// Turns a second in one of `column`'s unit.
pub(crate) fn per_second(at: &str, column: &Column) -> Result<f64, ConfigError> {
    match column.unit.as_ref().map(Unit::code) {
        None | Some("{rpm}" | "1/min" | "/min" | "r/min" | "{rev}/min") => Ok(1.0 / 60.0),
        Some("Hz" | "1/s" | "/s" | "{rev}/s") => Ok(1.0),
        Some(other) => {
            let what = format!("column '{}' is in '{other}', which is no speed", column.name);
            Err(ConfigError::new(at, what).help("name a column in rpm or Hz"))
        }
    }
}

/// A column of waveforms.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) index: usize,
    /// Samples a second.
    pub(crate) rate: f64,
    /// The unit of the samples.
    pub(crate) unit: Option<Unit>,
    /// What the names of findings begin with.
    pub(crate) prefix: String,
}

impl Source {
    /// The column `name`, configured at `at`; findings are called after it, or after `rename`.
    pub(crate) fn plan(
        input: &Schema,
        at: &str,
        name: &str,
        rename: Option<&String>,
    ) -> Result<Self, ConfigError> {
        let index = place(input, at, name)?;
        let column = &input.columns()[index];
        let rate = column.sample_rate.filter(|_| column.data_type == waveform_type());
        let Some(rate) = rate else {
            let what = format!("column '{name}' has no waveforms but {}", column.data_type);
            let help = "declare it as 'type: waveform' where bursts come, or cut its rows by the step 'waveform' before";
            return Err(ConfigError::new(at, what).help(help));
        };
        Ok(Source {
            index,
            rate: rate.hertz(),
            unit: column.unit.clone(),
            prefix: rename.map_or(name, String::as_str).to_owned(),
        })
    }

    /// A finding that is a number.
    pub(crate) fn number(&self, what: &str, unit: Option<Unit>) -> Column {
        self.finding(what, DataType::Float64).with_unit(unit)
    }

    /// A finding.
    pub(crate) fn finding(&self, what: &str, data_type: DataType) -> Column {
        Column::new(format!("{}_{what}", self.prefix), data_type)
    }

    /// A finding that is a list of numbers: a spectrum to store or draw.
    pub(crate) fn list(&self, what: &str, unit: Option<Unit>) -> Column {
        self.finding(what, DataType::List(Arc::new(list_field()))).with_unit(unit)
    }

    /// That `hz`, configured at `at`, is a frequency which the sample rate can hold.
    pub(crate) fn holds(&self, at: &str, hz: f64) -> Result<(), ConfigError> {
        if hz <= self.rate / 2.0 {
            return Ok(());
        }
        let what = format!("'{hz}' Hz is above half the sample rate of {} Hz", self.rate);
        let help = format!("give at most {}", self.rate / 2.0);
        Err(ConfigError::new(at, what).help(help))
    }

    /// A range of frequencies that is one, and that the sample rate can hold.
    pub(crate) fn band(&self, at: &str, [low, high]: [f64; 2]) -> Result<(), ConfigError> {
        if low >= 0.0 && low < high && high.is_finite() {
            return self.holds(at, high);
        }
        let what = format!("'{low}' to '{high}' is no band");
        Err(ConfigError::new(at, what).help("give the lower limit and then the upper one"))
    }
}

fn list_field() -> Field {
    Field::new_list_field(DataType::Float64, false)
}

/// What a step has of a row.
#[derive(Debug)]
pub(crate) struct Wave<'a> {
    /// The samples, all finite, at least one.
    pub(crate) samples: &'a [f64],
    /// Turns a second, above 0; `None` where the column says nothing else, or none was named.
    pub(crate) speed_hz: Option<f64>,
    /// How the shaft turned, as another waveform of the row; as long as `samples`.
    pub(crate) companion: Option<&'a [f64]>,
}

/// One finding; its kind is that of its column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// A number; null where it is not finite.
    Number(f64),
    /// A number of things.
    Count(i64),
    /// Yes or no.
    Flag(bool),
    /// A word.
    Word(&'static str),
    /// Lines of a spectrum.
    List(Vec<f64>),
    /// Nothing that could be said.
    Null,
}

/// Why a waveform cannot be used.
pub(crate) type Refusal = (Reason, String);

/// A step's view of one waveform.
pub(crate) trait Analysis: Debug {
    /// Appends a finding for each column that the step adds.
    fn analyse(&mut self, wave: &Wave<'_>, found: &mut Vec<Found>) -> Result<(), Refusal>;
}

/// What a step reads of each row.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) source: Source,
    pub(crate) speed: Option<Speed>,
    /// Another column of waveforms, of the same rate.
    pub(crate) companion: Option<usize>,
}

/// That a waveform of `n` samples has `wanted`; `fix` says what to do where it has not.
pub(crate) fn at_least(n: usize, wanted: usize, fix: &str) -> Result<(), Refusal> {
    if n >= wanted {
        return Ok(());
    }
    Err((TOO_SHORT, format!("the waveform has {n} samples, {wanted} are needed: {fix}")))
}
