//! What the steps that look at waveforms share: the column they read, the speed of the shaft, the columns they add.
//!
//! A row goes on with what was found in its waveform behind it; the waveform stays, for the next step to look at. A null
//! waveform has null findings. One that cannot be used makes its row a dead letter.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Float32Type};
use foreline_engine::{
    Column, ConfigError, Fault, LateSupport, Planned, Reason, Schema, Unit, waveform_type,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{channel, nullable, numeric, output, place};
use crate::signal::angle::Course;
use crate::stateless::{Fate, PerRow, Stateless};

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
            let help = "cut its rows into waveforms by the step 'waveform' before";
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

/// The plan of a step that adds `columns` to each row, as `make`'s analysis finds them.
pub(crate) fn planned<A: Analysis + 'static>(
    input: &Schema,
    reading: Reading,
    columns: Vec<Column>,
    make: impl Fn() -> A + Send + Sync + 'static,
) -> Result<Planned, Vec<ConfigError>> {
    let n_before = input.columns().len();
    let all = [input.columns(), &columns].concat();
    let (key, primary_key) = (input.key().to_vec(), input.primary_key().clone());
    let schema = output(all, key, input.time(), primary_key).map_err(|e| vec![e.under("as")])?;
    let (input, out) = (input.clone(), schema.clone());
    Ok(Planned {
        output: schema,
        late: LateSupport::Stateless,
        state_version: 0,
        build: Arc::new(move |_| {
            let work = Work { analysis: make(), samples: Vec::new(), companion: Vec::new() };
            let function = Analysed {
                reading: reading.clone(),
                n_before,
                output: out.clone(),
                work: RefCell::new(work),
            };
            Ok(Box::new(Stateless { input: input.clone(), function }))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    })
}

/// The function of rows. What is in `work` are plans and buffers, which show in nothing that comes out.
#[derive(Debug)]
struct Analysed<A> {
    reading: Reading,
    n_before: usize,
    output: Schema,
    work: RefCell<Work<A>>,
}

#[derive(Debug)]
struct Work<A> {
    analysis: A,
    samples: Vec<f64>,
    companion: Vec<f64>,
}

impl<A: Analysis> PerRow for Analysed<A> {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let n_found = self.output.columns().len() - self.n_before;
        let speeds = self.speeds(rows)?;
        let waves = rows.column(self.reading.source.index).as_list::<i32>();
        let companions = self.reading.companion.map(|c| rows.column(c).as_list::<i32>());
        let mut found: Vec<Vec<Found>> = vec![Vec::with_capacity(rows.num_rows()); n_found];
        let mut fates = Vec::with_capacity(rows.num_rows());
        let (work, mut row_found) = (&mut *self.work.borrow_mut(), Vec::new());
        for row in 0..rows.num_rows() {
            row_found.clear();
            let speed_hz = speeds.as_ref().map(|s| s[row]).filter(|&hz| hz > 0.0);
            let looked = work.look(row, waves, companions, speed_hz, &mut row_found);
            if looked != Ok(true) {
                row_found.clear();
                row_found.resize(n_found, Found::Null);
            }
            fates.push(looked.map_or_else(|(reason, why)| Fate::Dead(reason, why), |_| Fate::Kept));
            for (column, one) in found.iter_mut().zip(row_found.drain(..)) {
                column.push(one);
            }
        }
        let mut columns = rows.columns().to_vec();
        let added = &self.output.columns()[self.n_before..];
        columns.extend(added.iter().zip(found).map(|(column, f)| finished(column, f)));
        let all_kept = fates.iter().all(|f| *f == Fate::Kept);
        let rows = RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?;
        Ok((rows, (!all_kept).then_some(fates)))
    }
}

impl<A> Analysed<A> {
    /// Turns a second, row by row; NaN where missing.
    fn speeds(&self, rows: &RecordBatch) -> Result<Option<ScalarBuffer<f64>>, Fault> {
        Ok(match self.reading.speed {
            None => None,
            Some(Speed::Constant(hz)) => Some(vec![hz; rows.num_rows()].into()),
            Some(Speed::Column(index, factor)) => {
                let values = channel(rows.column(index))?;
                Some(values.iter().map(|v| v * factor).collect())
            }
        })
    }
}

impl<A: Analysis> Work<A> {
    /// What is found in a row: `false` where there is no waveform.
    fn look(
        &mut self,
        row: usize,
        waves: &ListArray,
        companions: Option<&ListArray>,
        speed_hz: Option<f64>,
        found: &mut Vec<Found>,
    ) -> Result<bool, Refusal> {
        if waves.is_null(row) || companions.is_some_and(|c| c.is_null(row)) {
            return Ok(false);
        }
        read(waves, row, &mut self.samples)?;
        if let Some(companions) = companions {
            read(companions, row, &mut self.companion)?;
            if self.companion.len() != self.samples.len() {
                let (n, m) = (self.samples.len(), self.companion.len());
                let why = format!("the waveforms of the row have {n} and {m} samples");
                return Err((MISMATCH, why));
            }
        }
        let companion = companions.map(|_| self.companion.as_slice());
        let wave = Wave { samples: &self.samples, speed_hz, companion };
        self.analysis.analyse(&wave, found).map(|()| true)
    }
}

/// Reads the waveform of a row.
fn read(waves: &ListArray, row: usize, to: &mut Vec<f64>) -> Result<(), Refusal> {
    let samples = waves.value(row);
    let samples = samples.as_primitive::<Float32Type>();
    if samples.is_empty() {
        return Err((TOO_SHORT, "the waveform is empty".to_owned()));
    }
    if samples.len() > MAX_SAMPLES {
        let n = samples.len();
        let why = format!("the waveform has {n} samples, more than {MAX_SAMPLES}: split it");
        return Err((Reason("waveform_too_long"), why));
    }
    to.clear();
    to.extend(samples.values().iter().map(|&x| f64::from(x)));
    let bad = samples.null_count() > 0 || to.iter().any(|x| !x.is_finite());
    if let Some(k) = (0..to.len()).find(|&k| bad && (samples.is_null(k) || !to[k].is_finite())) {
        let value = if samples.is_null(k) { "null".to_owned() } else { to[k].to_string() };
        return Err((Reason::NON_FINITE, format!("sample {k} of the waveform is {value}")));
    }
    Ok(())
}

/// That a waveform of `n` samples has `wanted`; `fix` says what to do where it has not.
pub(crate) fn at_least(n: usize, wanted: usize, fix: &str) -> Result<(), Refusal> {
    if n >= wanted {
        return Ok(());
    }
    Err((TOO_SHORT, format!("the waveform has {n} samples, {wanted} are needed: {fix}")))
}

/// Findings as a column.
fn finished(column: &Column, found: Vec<Found>) -> ArrayRef {
    match &column.data_type {
        DataType::Int64 => Arc::new(Int64Array::from_iter(found.iter().map(|f| match f {
            Found::Count(n) => Some(*n),
            _ => None,
        }))),
        DataType::Boolean => Arc::new(BooleanArray::from_iter(found.iter().map(|f| match f {
            Found::Flag(flag) => Some(*flag),
            _ => None,
        }))),
        DataType::Utf8 => Arc::new(StringArray::from_iter(found.iter().map(|f| match f {
            Found::Word(word) => Some(*word),
            _ => None,
        }))),
        DataType::List(_) => Arc::new(lists(found)),
        _ => {
            let number = |f: &Found| match f {
                Found::Number(x) if x.is_finite() => *x,
                _ => f64::NAN,
            };
            Arc::new(nullable(found.iter().map(number).collect()))
        }
    }
}

fn lists(found: Vec<Found>) -> ListArray {
    let lengths = found.iter().map(|f| if let Found::List(list) = f { list.len() } else { 0 });
    let offsets = OffsetBuffer::from_lengths(lengths);
    let valid: NullBuffer = found.iter().map(|f| matches!(f, Found::List(_))).collect();
    let values = found.into_iter().flat_map(|f| match f {
        Found::List(list) => list,
        _ => Vec::new(),
    });
    let values = Arc::new(Float64Array::from_iter_values(values));
    ListArray::new(Arc::new(list_field()), offsets, values, Some(valid))
}

/// How a shaft turned during a waveform.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Turning {
    /// At the row's speed.
    Evenly,
    /// The companion is the speed: turns a second in one of its unit.
    Speed(f64),
    /// The companion is a tachometer's signal.
    Pulses {
        /// A pulse rises through this.
        level: f64,
        /// How far the signal must have fallen below before.
        hysteresis: f64,
        /// Pulses a turn.
        per_turn: f64,
    },
}

impl Turning {
    /// The course of the shaft; `false` where the row does not say how it turned.
    pub(crate) fn course(self, wave: &Wave<'_>, rate: f64, course: &mut Course) -> bool {
        match (self, wave.companion, wave.speed_hz) {
            (Turning::Evenly, _, Some(speed)) => {
                course.from_constant(speed, rate, wave.samples.len());
            }
            (Turning::Speed(factor), Some(speeds), _) => {
                let speeds: Vec<f64> = speeds.iter().map(|v| v * factor).collect();
                course.from_speed(&speeds, rate);
            }
            (Turning::Pulses { level, hysteresis, per_turn }, Some(signal), _) => {
                course.from_pulses(signal, level, hysteresis, per_turn);
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
pub(crate) mod tests;
