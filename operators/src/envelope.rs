//! Envelope spectrum of waveforms, and the lines of a rolling bearing in it.
//!
//! Input   keyed rows with a column of waveforms; for `speed`, a column in rpm or Hz
//! Output  the same rows and, called after the column or after `as`, for each line: `_<line>_found`, true or false; where it
//!         was found `_<line>_hz` and `_<line>_error`, the frequency over the expected one less 1; `_<line>_ratio` over the
//!         background and `_<line>_amplitude` (the column's unit) of the highest line there in any case; with `harmonics`
//!         `_<line>_harmonics`, with `sidebands` `_<line>_sidebands`, how many were found, and `_<line>_energy`, their share and
//!         the line's own of the squares of all lines; `_band_low` and `_band_high` in Hz; with `keep` `_envelope_spectrum`
//!         and `_envelope_spectrum_step`
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  a waveform shorter than 8 / `background` seconds, or than 264 samples where the band is chosen, goes to the dead
//!         letters as `waveform_too_short`, one with a sample that is no finite number as `non_finite`
//! Source  `e = abs(hilbert(band-pass(x)))`, the band-pass with the gain of a Butterworth filter of order 4 and no delay;
//!         lines are `2 abs(rfft(w (e - mean e))) / sum w`. A line is the highest within `tolerance` of the expected one,
//!         its ratio that to the median of the lines within `background`; it is found where the ratio is above `threshold`.
//!         With n balls of diameter d on a circle of D at contact angle a and `r = d / D cos a`: `bpfo = n / 2 (1 - r)`,
//!         `bpfi = n / 2 (1 + r)`, `bsf2 = D / d (1 - r^2)` (twice the ball spin), `ftf = (1 - r) / 2` of the speed
//!
//! Without `band` the band is chosen for each waveform by spectral kurtosis: `<|X|^4> / <|X|^2>^2 - 2` over frames of 16 to
//! 256 samples, among bands at least three times as wide as the highest expected line. A given band that is known to be
//! good is better.
//!
//! What cannot be said is null and not false: all of a line where the speed is null, or where it is beyond half the sample
//! rate. The ratio grows with the length of the waveform; four seconds resolve a line at 100 Hz to half a percent. On
//! recordings of one bearing, lines of another damage than the one there is reach ratios of 20, which is why the threshold
//! is 30. A line that is not found does not prove a bearing sound: ball damage rarely shows this way.

use arrow::datatypes::DataType;
use foreline_engine::{Column, ConfigError, Family, OperatorKind, Planned, Resolver, Schema, Unit};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::entries::Entries;
use crate::signal::bearing::{Geometry, Search};
use crate::signal::taper::Taper;
use crate::waveforms::{Reading, Source, Speed, SpeedConfig, planned};
use lines::{Lines, Settings};

mod lines;

/// Most harmonics of a line, and most sidebands at each side.
const MAX_MULTIPLES: usize = 20;

/// Looks for the lines of a rolling bearing in the envelope spectrum of waveforms. Lines come from `bearing`, from
/// `lines`, or from both.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeConfig {
    /// The column of waveforms.
    pub column: String,
    /// How fast the shaft turns: revolutions a minute, or the name of a column in rpm or Hz.
    pub speed: SpeedConfig,
    /// The shape of the bearing: gives the lines `bpfo`, `bpfi`, `bsf2` and `ftf`.
    #[serde(default)]
    pub bearing: Option<BearingConfig>,
    /// Lines by name, as multiples of the speed: `{ bpfo: 3.58, bpfi: 5.42 }`; one of a bearing's names replaces it.
    #[serde(default)]
    pub lines: Entries<f64>,
    /// The band whose envelope is taken, from one frequency to another in Hz: where the machine resonates. Left out: it
    /// is chosen for each waveform by spectral kurtosis.
    #[serde(default)]
    pub band: Option<[f64; 2]>,
    /// How far a line may be from where it is expected, as a share of its frequency, above 0 and up to 0.2; 0.02 unless
    /// given. Bearings slip a little.
    #[serde(default = "usual_tolerance")]
    pub tolerance: f64,
    /// How far to both sides the background of a line reaches, in Hz, above 0; 30 unless given.
    #[serde(default = "usual_background")]
    pub background: f64,
    /// How many times the background a line must exceed to be found, above 1; 30 unless given.
    #[serde(default = "usual_threshold")]
    pub threshold: f64,
    /// How many harmonics of each line are looked for beside the line itself, from 0 to 20; 0 unless given.
    #[serde(default)]
    pub harmonics: usize,
    /// How many sidebands of each line are looked for at either side, one speed of the shaft apart, from 0 to 20; 0 unless
    /// given.
    #[serde(default)]
    pub sidebands: usize,
    /// What the envelope is weighed with; `hann` unless given.
    #[serde(default)]
    pub window: Taper,
    /// The lines of the envelope spectrum up to this frequency in Hz come out too, to store or draw.
    #[serde(default)]
    pub keep: Option<f64>,
    /// What the names of new columns begin with; the column's name unless given.
    #[serde(default, rename = "as")]
    pub rename: Option<String>,
}

/// The shape of a rolling bearing. The inner ring turns with the shaft.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BearingConfig {
    /// Rolling elements of a row, at least 3.
    pub balls: u32,
    /// Diameter of a rolling element, in the unit of `pitch_diameter`.
    pub ball_diameter: f64,
    /// Diameter of the circle of their centres; above `ball_diameter`.
    pub pitch_diameter: f64,
    /// Contact angle in degrees, from 0 and below 90; 0 unless given.
    #[serde(default)]
    pub contact_angle: f64,
}

fn usual_tolerance() -> f64 {
    0.02
}

fn usual_background() -> f64 {
    30.0
}

fn usual_threshold() -> f64 {
    30.0
}

/// The kind `envelope`.
#[derive(Debug, Clone, Copy)]
pub struct Envelope;

impl OperatorKind for Envelope {
    type Config = EnvelopeConfig;

    const NAME: &'static str = "envelope";
    const SUMMARY: &'static str =
        "looks for the lines of a rolling bearing in the envelope spectrum of waveforms";
    const FAMILY: Family = Family::Spectrum;
    const EXAMPLE: &'static str = "\
bursts: { from: samples, waveform: { columns: [acceleration], sample_rate: 12000, samples: 48000, mean: [speed] } }
bearing: { from: bursts, envelope: { column: acceleration, speed: speed, band: [2000, 5000], keep: 500, bearing: { balls: 9, ball_diameter: 7.94, pitch_diameter: 39.04 } } }";

    fn plan(
        config: &EnvelopeConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let source = Source::plan(input, "column", &config.column, config.rename.as_ref());
        let source = source.map_err(|e| errors.push(e));
        let speed = Speed::plan(&config.speed, input).map_err(|e| errors.push(e));
        errors.extend(mistakes(config));
        let orders = orders(config, &mut errors);
        if let Ok(source) = &source {
            errors.extend(config.band.and_then(|band| source.band("band", band).err()));
            errors.extend(config.keep.and_then(|hz| source.holds("keep", hz).err()));
        }
        let (Ok(source), Ok(speed), true) = (source, speed, errors.is_empty()) else {
            return Err(errors);
        };
        let columns = columns(config, &source, &orders);
        let settings = Settings {
            rate: source.rate,
            orders: orders.into_iter().map(|(_, order)| order).collect(),
            band: config.band,
            search: Search { tolerance: config.tolerance, background_hz: config.background },
            threshold: config.threshold,
            harmonics: config.harmonics,
            sidebands: config.sidebands,
            taper: config.window,
            keep_hz: config.keep,
        };
        let reading = Reading { source, speed: Some(speed), companion: None };
        planned(input, reading, &columns, move || Lines::new(settings.clone()))
    }
}

/// What is wrong without a look at the input.
fn mistakes(config: &EnvelopeConfig) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut check = |ok: bool, at: &str, value: f64, help: &str| {
        if !ok {
            errors.push(ConfigError::new(at, format!("'{value}' is out of range")).help(help));
        }
    };
    let tolerance = config.tolerance;
    check(tolerance > 0.0 && tolerance <= 0.2, "tolerance", tolerance, "give a share up to 0.2");
    let background = config.background;
    check(background > 0.0 && background.is_finite(), "background", background, "give Hz above 0");
    let threshold = config.threshold;
    check(threshold > 1.0 && threshold.is_finite(), "threshold", threshold, "give a ratio above 1");
    for (at, n) in [("harmonics", config.harmonics), ("sidebands", config.sidebands)] {
        let help = format!("give a number from 0 to {MAX_MULTIPLES}");
        check(n <= MAX_MULTIPLES, at, crate::signal::count(n), &help);
    }
    if let Some(keep) = config.keep {
        check(keep > 0.0, "keep", keep, "give the highest frequency to keep, in Hz");
    }
    errors
}

/// The lines by name, as orders; what is wrong with them is added to `errors`.
fn orders(config: &EnvelopeConfig, errors: &mut Vec<ConfigError>) -> Vec<(String, f64)> {
    let mut orders = Vec::new();
    if let Some(bearing) = config.bearing {
        let geometry = Geometry {
            balls: bearing.balls,
            ball_diameter: bearing.ball_diameter,
            pitch_diameter: bearing.pitch_diameter,
            contact_angle: bearing.contact_angle,
        };
        let fits = bearing.balls >= 3
            && bearing.ball_diameter > 0.0
            && bearing.ball_diameter < bearing.pitch_diameter
            && bearing.pitch_diameter.is_finite()
            && (0.0..90.0).contains(&bearing.contact_angle);
        if fits {
            orders.extend(geometry.orders().map(|(name, order)| (name.to_owned(), order)));
        } else {
            let error = ConfigError::new("bearing", "there is no such bearing");
            errors.push(error.help("give at least 3 balls, a ball diameter above 0 and below the pitch diameter, and an angle from 0 and below 90 degrees"));
        }
    }
    for (name, &order) in config.lines.iter() {
        if !(order > 0.0 && order.is_finite()) {
            let error = ConfigError::new(format!("lines.{name}"), format!("'{order}' is no order"));
            errors.push(error.help("give a multiple of the speed, above 0"));
        }
        orders.retain(|(other, _)| other != name);
        orders.push((name.to_owned(), order));
    }
    if orders.is_empty() && config.bearing.is_none() {
        let error = ConfigError::new("", "nothing says which lines to look for");
        errors.push(error.help("add 'bearing' with its geometry, or 'lines' with orders"));
    }
    orders
}

fn columns(config: &EnvelopeConfig, source: &Source, orders: &[(String, f64)]) -> Vec<Column> {
    let (hz, ratio) = (Some(Unit::new("Hz")), Some(Unit::new("1")));
    let unit = source.unit.clone();
    let mut columns = Vec::new();
    for (line, _) in orders {
        columns.push(source.finding(&format!("{line}_found"), DataType::Boolean));
        columns.push(source.number(&format!("{line}_hz"), hz.clone()));
        columns.push(source.number(&format!("{line}_error"), ratio.clone()));
        columns.push(source.number(&format!("{line}_ratio"), ratio.clone()));
        columns.push(source.number(&format!("{line}_amplitude"), unit.clone()));
        for (n, what) in [(config.harmonics, "harmonics"), (config.sidebands, "sidebands")] {
            if n > 0 {
                let column = source.finding(&format!("{line}_{what}"), DataType::Int64);
                columns.push(column.with_unit(Some(Unit::new("{count}"))));
            }
        }
        if config.harmonics + config.sidebands > 0 {
            columns.push(source.number(&format!("{line}_energy"), ratio.clone()));
        }
    }
    columns.push(source.number("band_low", hz.clone()));
    columns.push(source.number("band_high", hz.clone()));
    if config.keep.is_some() {
        columns.push(source.list("envelope_spectrum", unit));
        columns.push(source.number("envelope_spectrum_step", hz));
    }
    columns
}

#[cfg(test)]
mod tests;
