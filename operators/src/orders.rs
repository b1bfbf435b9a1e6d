//! Order tracking: waveforms of a shaft whose speed varies, resampled to equal angles, and the lines of their spectrum.
//!
//! Input   keyed rows with a column of waveforms, and how the shaft turned: `speed`, a number, a column, or a column of
//!         waveforms in rpm or Hz; or `tachometer`, a column of waveforms of the same rate
//! Output  the same rows and, called after the column or after `as`: `_turns`, the whole turns that were looked at; for each
//!         order `_<order>`, the amplitude of the highest line there, in the column's unit; with `keep` `_order_spectrum` and
//!         `_order_spectrum_step` in orders
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  a waveform with fewer than `min_turns` whole turns goes to the dead letters as `too_few_turns`, one that would have
//!         more than 4,194,304 samples as `too_many_turns`, one whose
//!         tachometer or speed has another length as `waveform_mismatch`, one with a sample that is no finite number as
//!         `non_finite`
//! Source  the shaft's angle is linear between pulses, or the trapezoidal integral of the speed; the signal between samples
//!         is `scipy.interpolate.CubicHermiteSpline` with the tangents `(x[k + 1] - x[k - 1]) / 2`; lines are
//!         `2 abs(rfft(w (y - mean y))) / sum w` of the whole turns, `1 / turns` apart
//!
//! A pulse is where the tachometer rises through `level`; its time is found between samples. What is before the first pulse
//! and after the last is left out. Before the resampling, all above `samples_per_turn / 2` orders at the slowest speed is
//! taken out, so that it does not come back as another order. Findings are null where a `speed` is.

use foreline_engine::{
    Column, ConfigError, Family, OperatorKind, Planned, Reason, Resolver, Schema, Unit,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::entries::Entries;
use crate::signal::angle::Course;
use crate::signal::bearing::Search;
use crate::signal::envelope::Envelope;
use crate::signal::fourier::Fourier;
use crate::signal::taper::Taper;
use crate::signal::{count, place};
use crate::waveforms::{
    Analysis, Found, MAX_SAMPLES, Reading, Refusal, Source, SpeedConfig, Wave, planned,
};
use shaft::{Shaft, Turning};

mod shaft;

/// The shaft turned too little during a waveform.
const TOO_FEW_TURNS: Reason = Reason("too_few_turns");

/// The shaft turned too often during a waveform.
const TOO_MANY_TURNS: Reason = Reason("too_many_turns");

/// Most samples that a waveform is resampled to: 32 MB for each buffer that the step works in.
const MAX_RESAMPLED: usize = 4 * MAX_SAMPLES;

/// Most samples of a turn.
const MAX_PER_TURN: usize = 4096;

/// Resamples waveforms to equal angles of a shaft and finds their orders. Exactly one of `speed` and `tachometer` says
/// how the shaft turned.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrdersConfig {
    /// The column of waveforms.
    pub column: String,
    /// How fast the shaft turns: revolutions a minute, or the name of a column in rpm or Hz. A column of waveforms has the
    /// speed at each sample.
    #[serde(default)]
    pub speed: Option<SpeedConfig>,
    /// A pulse or more each turn.
    #[serde(default)]
    pub tachometer: Option<TachometerConfig>,
    /// The orders to find, by name: `{ unbalance: 1, misalignment: 2, mesh: 23 }`.
    pub orders: Entries<f64>,
    /// How far a line may be from its order, as a share of it, from 0 to 0.2; 0.02 unless given. The line nearest to
    /// the order is looked at in any case.
    #[serde(default = "usual_tolerance")]
    pub tolerance: f64,
    /// Samples of a turn, from 8 to 4096; 256 unless given. Orders up to half of it can be found.
    #[serde(default = "usual_per_turn")]
    pub samples_per_turn: usize,
    /// Whole turns that a waveform must have, at least 1; 4 unless given.
    #[serde(default = "usual_turns")]
    pub min_turns: usize,
    /// What the samples are weighed with; `hann` unless given.
    #[serde(default)]
    pub window: Taper,
    /// The lines up to this order come out too, to store or draw.
    #[serde(default)]
    pub keep: Option<f64>,
    /// What the names of new columns begin with; the column's name unless given.
    #[serde(default, rename = "as")]
    pub rename: Option<String>,
}

/// A column of waveforms with pulses.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TachometerConfig {
    /// The column, of the same rate as that of the signal.
    pub column: String,
    /// A pulse is where the column rises through this.
    pub level: f64,
    /// How far below `level` the column must have fallen before it can rise again, at least 0; 0 unless given.
    #[serde(default)]
    pub hysteresis: f64,
    /// Pulses a turn, above 0; 1 unless given.
    #[serde(default = "one")]
    pub pulses_per_turn: f64,
}

fn one() -> f64 {
    1.0
}

fn usual_tolerance() -> f64 {
    0.02
}

fn usual_per_turn() -> usize {
    256
}

fn usual_turns() -> usize {
    4
}

/// The kind `orders`.
#[derive(Debug, Clone, Copy)]
pub struct Orders;

impl OperatorKind for Orders {
    type Config = OrdersConfig;

    const NAME: &'static str = "orders";
    const SUMMARY: &'static str =
        "resamples waveforms to equal angles of a shaft and finds their orders";
    const FAMILY: Family = Family::Spectrum;
    const EXAMPLE: &'static str = "\
bursts: { from: samples, waveform: { columns: [acceleration, tacho], sample_rate: 12000, samples: 24000 } }
tracked: { from: bursts, orders: { column: acceleration, tachometer: { column: tacho, level: 2.5 }, orders: { unbalance: 1, misalignment: 2 }, keep: 10 } }";

    fn plan(
        config: &OrdersConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let source = Source::plan(input, "column", &config.column, config.rename.as_ref());
        let source = source.map_err(|e| errors.push(e));
        let shaft = Shaft::plan(config, input, source.as_ref().ok()).map_err(|e| errors.push(e));
        errors.extend(mistakes(config));
        let (Ok(source), Ok(shaft), true) = (source, shaft, errors.is_empty()) else {
            return Err(errors);
        };
        let columns = columns(config, &source);
        let (config, rate) = (config.clone(), source.rate);
        let reading = Reading { source, speed: shaft.speed, companion: shaft.companion };
        planned(input, reading, &columns, move || Tracked {
            rate,
            turning: shaft.turning,
            config: config.clone(),
            fourier: Fourier::default(),
            course: Course::default(),
            even: Vec::new(),
            low: Vec::new(),
            around: Vec::new(),
            envelope: Envelope::new(config.window),
        })
    }
}

/// What is wrong without a look at the input.
fn mistakes(config: &OrdersConfig) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut check = |ok: bool, at: &str, value: f64, help: String| {
        if !ok {
            errors.push(ConfigError::new(at, format!("'{value}' is out of range")).help(help));
        }
    };
    let per_turn = config.samples_per_turn;
    let help = format!("give a number from 8 to {MAX_PER_TURN}");
    check((8..=MAX_PER_TURN).contains(&per_turn), "samples_per_turn", count(per_turn), help);
    let tolerance = config.tolerance;
    let help = "give a share up to 0.2".to_owned();
    check((0.0..=0.2).contains(&tolerance), "tolerance", tolerance, help);
    check(config.min_turns > 0, "min_turns", 0.0, "give at least 1".to_owned());
    let highest = count(per_turn) / 2.0;
    let help = || format!("give orders above 0 and below {highest}, or raise 'samples_per_turn'");
    for (name, &order) in config.orders.iter() {
        check(order > 0.0 && order < highest, &format!("orders.{name}"), order, help());
    }
    if let Some(keep) = config.keep {
        check(keep > 0.0 && keep <= highest, "keep", keep, help());
    }
    if let Some(tachometer) = &config.tachometer {
        let TachometerConfig { level, hysteresis, pulses_per_turn, .. } = *tachometer;
        check(level.is_finite(), "tachometer.level", level, "give a number".to_owned());
        let ok = hysteresis >= 0.0 && hysteresis.is_finite();
        check(ok, "tachometer.hysteresis", hysteresis, "give 0 or more".to_owned());
        let ok = pulses_per_turn > 0.0 && pulses_per_turn.is_finite();
        let help = "give a number above 0".to_owned();
        check(ok, "tachometer.pulses_per_turn", pulses_per_turn, help);
    }
    if config.orders.is_empty() && config.keep.is_none() {
        let error = ConfigError::new("orders", "no order is named");
        errors.push(error.help("name one, as in { unbalance: 1 }, or keep the spectrum"));
    }
    errors
}

fn columns(config: &OrdersConfig, source: &Source) -> Vec<Column> {
    let mut columns = vec![
        source
            .finding("turns", arrow::datatypes::DataType::Int64)
            .with_unit(Some(Unit::new("{count}"))),
    ];
    let orders = config.orders.iter();
    columns.extend(orders.map(|(name, _)| source.number(name, source.unit.clone())));
    if config.keep.is_some() {
        columns.push(source.list("order_spectrum", source.unit.clone()));
        columns.push(source.number("order_spectrum_step", Some(Unit::new("1"))));
    }
    columns
}

/// The analysis.
#[derive(Debug)]
struct Tracked {
    rate: f64,
    turning: Turning,
    config: OrdersConfig,
    fourier: Fourier,
    course: Course,
    even: Vec<f64>,
    low: Vec<f64>,
    around: Vec<f64>,
    envelope: Envelope,
}

impl Analysis for Tracked {
    fn analyse(&mut self, wave: &Wave<'_>, found: &mut Vec<Found>) -> Result<(), Refusal> {
        let n_columns =
            1 + self.config.orders.iter().len() + 2 * usize::from(self.config.keep.is_some());
        if !self.turning.course(wave, self.rate, &mut self.course) {
            found.resize(n_columns, Found::Null);
            return Ok(());
        }
        let (turns, per_turn) = (self.course.whole_turns(), self.config.samples_per_turn);
        if turns.saturating_mul(per_turn) > MAX_RESAMPLED {
            let why = format!(
                "the shaft turned {turns} times, which is more than {MAX_RESAMPLED} samples: lower 'samples_per_turn'"
            );
            return Err((TOO_MANY_TURNS, why));
        }
        if turns < self.config.min_turns {
            let wanted = self.config.min_turns;
            let why = format!(
                "the shaft turned {turns} times, and {wanted} are needed: send longer ones, or look at the level of the tachometer"
            );
            return Err((TOO_FEW_TURNS, why));
        }
        self.low_pass(wave.samples);
        self.course.resample(&self.low, per_turn, &mut self.even);
        let lines = self.envelope.amplitudes(&self.even);
        let step = 1.0 / count(turns);
        found.push(Found::Count(i64::try_from(turns).expect("turns are fewer than samples")));
        let search = Search { tolerance: self.config.tolerance, background_hz: 0.0 };
        for (_, &order) in self.config.orders.iter() {
            let line = search.find(lines, step, order, &mut self.around);
            found.push(line.map_or(Found::Null, |line| Found::Number(line.amplitude)));
        }
        if let Some(keep) = self.config.keep {
            let n_lines = place(keep / step + 1e-9) + 1;
            found.push(Found::List(lines[..n_lines.min(lines.len())].to_vec()));
            found.push(Found::Number(step));
        }
        Ok(())
    }
}

impl Tracked {
    /// Puts into `low` what the samples of a turn can hold at the slowest speed.
    fn low_pass(&mut self, samples: &[f64]) {
        let n = samples.len();
        let highest = self.course.slowest() * count(self.config.samples_per_turn) / 2.0 * count(n);
        self.low.clear();
        if highest >= count(n) / 2.0 {
            self.low.extend_from_slice(samples);
            return;
        }
        let plan = self.fourier.plan(n);
        plan.fill(samples, |x, _| x);
        plan.forward();
        for line in plan.lines.iter_mut().skip(place(highest) + 1) {
            *line = realfft::num_complex::Complex::default();
        }
        plan.inverse();
        self.low.extend(plan.samples.iter().map(|x| x / count(n)));
    }
}

#[cfg(test)]
mod tests;
