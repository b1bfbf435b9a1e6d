//! Spectrum of waveforms by Welch's method, and what it looks like in a few numbers.
//!
//! Input   keyed rows with a column of waveforms
//! Output  the same rows and, called after the column or after `as`: `_centroid`, `_spread` (Hz) and `_entropy`; for each
//!         band `_<band>_rms` in the column's unit and `_<band>_energy`, its share of the whole; `_peak1_hz` and `_peak1`,
//!         the frequency and amplitude of the highest peak, and so on; with `keep` `_spectrum` and `_spectrum_step`
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  a waveform shorter than `segment` goes to the dead letters as `waveform_too_short`, one with a sample that is no
//!         finite number as `non_finite`
//! Source  `P = scipy.signal.welch(x, rate, window, segment, overlap, detrend="constant", scaling="density")`;
//!         `centroid = sum f P / sum P`, `spread = sqrt(sum (f - centroid)^2 P / sum P)`, `entropy = -sum p ln p` with
//!         `p = P / sum P`; of a band `rms = sqrt(sum P step)` and `energy = sum P / sum of all P` over `low <= f < high`;
//!         a peak is a line above its neighbours, its amplitude `sqrt(2 P step b)` with the noise bandwidth `b` of the window
//!
//! A null waveform has null findings. Bands of `orders` are multiples of the shaft's speed; they are null where the speed is,
//! or where they reach beyond half the sample rate. Samples behind the last whole segment are not looked at.

use foreline_engine::{Column, ConfigError, Family, OperatorKind, Planned, Resolver, Schema, Unit};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::entries::Entries;
use crate::signal::shape::{Shape, lines_in, peaks};
use crate::signal::taper::Taper;
use crate::signal::welch::Welch;
use crate::signal::{count, place};
use crate::waveforms::{
    Analysis, Found, MAX_SAMPLES, Reading, Refusal, Source, Speed, SpeedConfig, Wave, at_least,
    planned,
};

/// Most peaks of a spectrum: each is two columns.
const MAX_PEAKS: usize = 20;

/// Finds the spectrum of waveforms and says what it looks like.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpectrumConfig {
    /// The column of waveforms.
    pub column: String,
    /// Samples of a segment, from 8 to 1,048,576; 1024 unless given. Lines are `sample rate / segment` Hz apart.
    #[serde(default = "usual_segment")]
    pub segment: usize,
    /// The share of a segment that the next one has too, from 0 and below 1; 0.5 unless given.
    #[serde(default = "half")]
    pub overlap: f64,
    /// What segments are weighed with; `hann` unless given.
    #[serde(default)]
    pub window: Taper,
    /// What is said of the shape of the whole spectrum; all three unless given.
    #[serde(default = "all_features")]
    pub features: Vec<ShapeFeature>,
    /// Bands by name, each from a frequency up to, but without, another, in Hz: `{ low: [10, 1000] }`.
    #[serde(default)]
    pub bands: Entries<[f64; 2]>,
    /// Bands by name in shaft orders, that is in multiples of `speed`: `{ unbalance: [0.8, 1.2] }`.
    #[serde(default)]
    pub orders: Entries<[f64; 2]>,
    /// How fast the shaft turns, for `orders`: revolutions a minute, or the name of a column in rpm or Hz.
    #[serde(default)]
    pub speed: Option<SpeedConfig>,
    /// How many of the highest peaks come out, from 0 to 20; 1 unless given.
    #[serde(default = "one")]
    pub peaks: usize,
    /// The spectrum itself comes out, to store or draw: as `density` (the unit squared per Hz) or as `amplitude` (the unit).
    #[serde(default)]
    pub keep: Option<Kept>,
    /// What the names of new columns begin with; the column's name unless given.
    #[serde(default, rename = "as")]
    pub rename: Option<String>,
}

/// What of a spectrum comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Power per Hz.
    Density,
    /// The amplitude that a sine on each line would have.
    Amplitude,
}

/// A number that says what a spectrum looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShapeFeature {
    /// The mean frequency.
    Centroid,
    /// How far power is from it.
    Spread,
    /// How evenly power is spread over the lines.
    Entropy,
}

impl ShapeFeature {
    fn name(self) -> &'static str {
        match self {
            ShapeFeature::Centroid => "centroid",
            ShapeFeature::Spread => "spread",
            ShapeFeature::Entropy => "entropy",
        }
    }

    fn of(self, shape: &Shape<'_>) -> f64 {
        match self {
            ShapeFeature::Centroid => shape.centroid(),
            ShapeFeature::Spread => shape.spread(),
            ShapeFeature::Entropy => shape.entropy(),
        }
    }
}

fn all_features() -> Vec<ShapeFeature> {
    vec![ShapeFeature::Centroid, ShapeFeature::Spread, ShapeFeature::Entropy]
}

fn usual_segment() -> usize {
    1024
}

fn half() -> f64 {
    0.5
}

fn one() -> usize {
    1
}

/// The kind `spectrum`.
#[derive(Debug, Clone, Copy)]
pub struct Spectrum;

impl OperatorKind for Spectrum {
    type Config = SpectrumConfig;

    const NAME: &'static str = "spectrum";
    const SUMMARY: &'static str = "finds the spectrum of waveforms, its bands, shape and peaks";
    const FAMILY: Family = Family::Spectrum;
    const EXAMPLE: &'static str = "\
bursts: { from: samples, waveform: { columns: [acceleration], sample_rate: 12000, samples: 4096, mean: [speed] } }
lines: { from: bursts, spectrum: { column: acceleration, segment: 2048, bands: { low: [10, 1000], high: [1000, 5000] }, orders: { unbalance: [0.8, 1.2] }, speed: speed, peaks: 3, keep: amplitude } }";

    fn plan(
        config: &SpectrumConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let source = Source::plan(input, "column", &config.column, config.rename.as_ref());
        let source = source.map_err(|e| errors.push(e));
        let speed = config.speed.as_ref().map(|speed| Speed::plan(speed, input)).transpose();
        let speed = speed.map_err(|e| errors.push(e));
        errors.extend(mistakes(config));
        if let Ok(source) = &source {
            let bands = config.bands.iter();
            let bands = bands.map(|(name, band)| source.band(&format!("bands.{name}"), *band));
            errors.extend(bands.filter_map(Result::err));
        }
        let (Ok(source), Ok(speed), true) = (source, speed, errors.is_empty()) else {
            return Err(errors);
        };
        let columns = columns(config, &source);
        let (config, rate) = (config.clone(), source.rate);
        let reading = Reading { source, speed, companion: None };
        planned(input, reading, &columns, move || Lines::new(&config, rate))
    }
}

/// What is wrong without a look at the input.
fn mistakes(config: &SpectrumConfig) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    if !(8..=MAX_SAMPLES).contains(&config.segment) {
        let what = format!("'{}' is not a number of samples of a segment", config.segment);
        let help = format!("give a number from 8 to {MAX_SAMPLES}");
        errors.push(ConfigError::new("segment", what).help(help));
    }
    if !(0.0..1.0).contains(&config.overlap) {
        let what = format!("'{}' is not a share of a segment", config.overlap);
        errors.push(ConfigError::new("overlap", what).help("give a number from 0 and below 1"));
    }
    if config.peaks > MAX_PEAKS {
        let what = format!("'{}' is more than {MAX_PEAKS}", config.peaks);
        errors.push(ConfigError::new("peaks", what).help("use 'keep' for the whole spectrum"));
    }
    for (name, [low, high]) in config.orders.iter() {
        if !(*low >= 0.0 && low < high && high.is_finite()) {
            let what = format!("'{low}' to '{high}' is no band");
            let error = ConfigError::new(format!("orders.{name}"), what);
            errors.push(error.help("give the lower limit and then the upper one"));
        }
    }
    if !config.orders.is_empty() && config.speed.is_none() {
        let error =
            ConfigError::new("orders", "orders are multiples of a speed, and none is given");
        errors.push(error.help("add 'speed': a number of rpm, or a column"));
    }
    errors
}

fn columns(config: &SpectrumConfig, source: &Source) -> Vec<Column> {
    let (hz, ratio, unit) = (Some(Unit::new("Hz")), Some(Unit::new("1")), source.unit.clone());
    let mut columns = Vec::new();
    for feature in &config.features {
        let unit = if *feature == ShapeFeature::Entropy { &ratio } else { &hz };
        columns.push(source.number(feature.name(), unit.clone()));
    }
    for (name, _) in config.bands.iter().chain(config.orders.iter()) {
        columns.push(source.number(&format!("{name}_rms"), unit.clone()));
        columns.push(source.number(&format!("{name}_energy"), ratio.clone()));
    }
    for i in 1..=config.peaks {
        columns.push(source.number(&format!("peak{i}_hz"), hz.clone()));
        columns.push(source.number(&format!("peak{i}"), unit.clone()));
    }
    if let Some(kept) = config.keep {
        let density = || unit.as_ref().map(|u| Unit::new(&format!("({u})2/Hz")));
        let unit = if kept == Kept::Density { density() } else { unit.clone() };
        columns.push(source.list("spectrum", unit));
        columns.push(source.number("spectrum_step", hz));
    }
    columns
}

/// The analysis.
#[derive(Debug)]
struct Lines {
    welch: Welch,
    rate: f64,
    features: Vec<ShapeFeature>,
    bands: Vec<[f64; 2]>,
    orders: Vec<[f64; 2]>,
    peaks: usize,
    keep: Option<Kept>,
}

impl Lines {
    fn new(config: &SpectrumConfig, rate: f64) -> Self {
        let overlap = place(config.overlap * count(config.segment)).min(config.segment - 1);
        Lines {
            welch: Welch::new(config.segment, overlap, config.window),
            rate,
            features: config.features.clone(),
            bands: config.bands.iter().map(|(_, band)| *band).collect(),
            orders: config.orders.iter().map(|(_, band)| *band).collect(),
            peaks: config.peaks,
            keep: config.keep,
        }
    }
}

impl Analysis for Lines {
    fn analyse(&mut self, wave: &Wave<'_>, found: &mut Vec<Found>) -> Result<(), Refusal> {
        at_least(wave.samples.len(), self.welch.segment(), "make 'segment' shorter")?;
        let step = self.welch.resolution(self.rate);
        let square = self.welch.mean_square_per_density(self.rate);
        let powers = self.welch.density(wave.samples, self.rate);
        let shape = Shape::of(powers, step);
        found.extend(self.features.iter().map(|feature| Found::Number(feature.of(&shape))));
        let in_orders = self.orders.iter().map(|[low, high]| {
            let hz = wave.speed_hz.unwrap_or(f64::NAN);
            [low * hz, high * hz]
        });
        for [low, high] in self.bands.iter().copied().chain(in_orders) {
            if high.is_nan() || high > self.rate / 2.0 {
                found.extend([Found::Null, Found::Null]);
                continue;
            }
            let power: f64 = powers[lines_in(low, high, step, powers.len())].iter().sum();
            found.push(Found::Number((power * step).sqrt()));
            found.push(Found::Number(power / shape.total()));
        }
        let amplitude = |power: f64| (2.0 * power * square).sqrt();
        let mut highest = peaks(powers, self.peaks).into_iter();
        for _ in 0..self.peaks {
            match highest.next() {
                Some(k) => found.extend([count(k) * step, amplitude(powers[k])].map(Found::Number)),
                None => found.extend([Found::Null, Found::Null]),
            }
        }
        match self.keep {
            None => return Ok(()),
            Some(Kept::Density) => found.push(Found::List(powers.to_vec())),
            Some(Kept::Amplitude) => {
                found.push(Found::List(powers.iter().map(|&p| amplitude(p)).collect()));
            }
        }
        found.push(Found::Number(step));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
