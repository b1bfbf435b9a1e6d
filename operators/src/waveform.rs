//! Cuts the rows of a sampled signal into waveforms.
//!
//! Input   keyed rows, one a sample, at the times of a sample rate; the columns are `Float64` or `Int64`
//! Output  key, event time, a waveform for each column (`List<Float32>` in the column's unit, under its name or that in
//!         `as`), the columns of `mean`; one row every `every` samples, its event time that of the first sample, its
//!         primary key the key and that time
//! State   the samples of the waveform that is open, at most `samples` rows of each key
//! Late    honours `late: { correct }`; a late sample moves every cut that follows up to the next gap
//! Errors  a row at the very time of the one before goes to the dead letters as `same_time`, an infinite sample, or one
//!         too large for 32 bits, as `non_finite`
//! Source  sample `i` of a waveform is at `t0 + i / sample_rate`, give or take `tolerance` sample intervals
//!
//! A row that comes at another time than its place says ends the waveform that is open, and starts the next: a gap is
//! never bridged. So does a null, which starts nothing. What was cut off before it made a waveform is counted as
//! `filtered`, as are rows between waveforms where `every` is above `samples`; until then rows are `in_flight`. A rate
//! that is declared wrongly therefore shows as rows that are filtered, and not as waveforms that are out of tune.
//!
//! Steps that look at waveforms leave them in the row, for the next one; `select` leaves them out.

use std::collections::BTreeMap;
use std::sync::Arc;

use foreline_engine::{
    Column, ConfigError, Family, LateSupport, OperatorKind, Planned, PrimaryKey, Resolver,
    SampleRate, Schema, TimeDomain,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{numeric, only, output};
use crate::signal::count;
use crate::waveforms::MAX_SAMPLES;
use cut::Cutter;
use open::Grid;

mod cut;
mod open;

/// Raised whenever the saved state changes.
const STATE_VERSION: u32 = 1;

const NANOS_PER_SECOND: f64 = 1e9;

/// Cuts the rows of a sampled signal into waveforms.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaveformConfig {
    /// The columns to cut; each row of the output has a waveform of each.
    pub columns: Vec<String>,
    /// Samples a second: how far rows are apart.
    pub sample_rate: f64,
    /// Samples of a waveform, from 2 to 1,048,576.
    pub samples: usize,
    /// Samples from the start of a waveform to that of the next; `samples` unless given, so that waveforms follow one
    /// another. Half of `samples` makes them overlap by half; a larger number leaves samples out.
    #[serde(default)]
    pub every: Option<usize>,
    /// How far a sample may be from its place in time, in sample intervals; 0.5 unless given. Stamps that are rounded to
    /// more than that need more: with milliseconds at 12 kHz, 12.
    #[serde(default)]
    pub tolerance: Option<f64>,
    /// Columns of which each row of the output has the mean over its waveform, nulls left out, such as the speed.
    #[serde(default)]
    pub mean: Vec<String>,
    /// Names for the waveforms, by column. Left out: the column's name.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// The kind `waveform`.
#[derive(Debug, Clone, Copy)]
pub struct Waveform;

impl OperatorKind for Waveform {
    type Config = WaveformConfig;

    const NAME: &'static str = "waveform";
    const SUMMARY: &'static str = "cuts the rows of a sampled signal into waveforms";
    const FAMILY: Family = Family::Spectrum;
    const EXAMPLE: &'static str = "bursts: { from: samples, waveform: { columns: [acceleration], sample_rate: 12000, samples: 4096, mean: [speed] } }";

    fn plan(
        config: &WaveformConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let columns = places(input, "columns", &config.columns, &mut errors);
        let means = places(input, "mean", &config.mean, &mut errors);
        if config.columns.is_empty() {
            errors.push(ConfigError::new("columns", "no column is named"));
        }
        for name in config.rename.keys().filter(|name| !config.columns.contains(name)) {
            let what = format!("column '{name}' is not among the columns to cut");
            let error = ConfigError::new(format!("as.{name}"), what);
            errors.push(error.unknown(name, &config.columns));
        }
        let grid = grid(config, input.domain(), &mut errors);
        let Some((grid, rate)) = grid else { return Err(errors) };
        let names = (columns.as_slice(), means.as_slice());
        let output = output_schema(config, input, names, rate, grid);
        match output {
            Ok(output) if errors.is_empty() => Ok(planned(input, output, columns, means, grid)),
            Ok(_) => Err(errors),
            Err(e) => {
                errors.push(e.under("as"));
                Err(errors)
            }
        }
    }
}

/// The places of numeric columns; what is wrong with them is added to `errors`.
fn places(input: &Schema, at: &str, names: &[String], errors: &mut Vec<ConfigError>) -> Vec<usize> {
    let mut places = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let at = format!("{at}[{i}]");
        match numeric(input, &at, name) {
            Ok(place) if places.contains(&place) => {
                errors.push(ConfigError::new(at, format!("column '{name}' is there twice")));
            }
            Ok(place) => places.push(place),
            Err(e) => errors.push(e),
        }
    }
    places
}

/// Where samples belong; all that is wrong with it is added to `errors`.
fn grid(
    config: &WaveformConfig,
    domain: TimeDomain,
    errors: &mut Vec<ConfigError>,
) -> Option<(Grid, SampleRate)> {
    let n_before = errors.len();
    if domain == TimeDomain::Logical {
        let what = "the event time is a count, and samples a second need timestamps";
        errors.push(ConfigError::new("sample_rate", what).help("make the time a timestamp"));
    }
    let rate = SampleRate::new(config.sample_rate).filter(|r| r.hertz() <= NANOS_PER_SECOND);
    if rate.is_none() {
        let what = format!("'{}' is not a rate", config.sample_rate);
        let help = "give samples a second, above 0 and at most 1e9";
        errors.push(ConfigError::new("sample_rate", what).help(help));
    }
    if !(2..=MAX_SAMPLES).contains(&config.samples) {
        let what = format!("'{}' is not a number of samples of a waveform", config.samples);
        let help = format!("give a number from 2 to {MAX_SAMPLES}");
        errors.push(ConfigError::new("samples", what).help(help));
    }
    let every = config.every.unwrap_or(config.samples);
    if every == 0 {
        let error = ConfigError::new("every", "waveforms that start every 0 samples do not end");
        errors.push(error.help("give 1 for a waveform a sample, or leave it out"));
    }
    let tolerance = config.tolerance.unwrap_or(0.5);
    if tolerance < 0.0 || tolerance >= count(config.samples) || tolerance.is_nan() {
        let what = format!("'{tolerance}' is not a number of sample intervals");
        errors.push(ConfigError::new("tolerance", what).help("give 0 or more, below 'samples'"));
    }
    let rate = rate.filter(|_| errors.len() == n_before)?;
    let period = NANOS_PER_SECOND / rate.hertz();
    let slack = tolerance * period;
    Some((Grid { samples: config.samples, every, period, slack }, rate))
}

fn output_schema(
    config: &WaveformConfig,
    input: &Schema,
    (columns, means): (&[usize], &[usize]),
    rate: SampleRate,
    grid: Grid,
) -> Result<Schema, ConfigError> {
    let mut out: Vec<Column> = input.key().iter().map(|&k| input.columns()[k].clone()).collect();
    let n_key = out.len();
    out.push(input.columns()[input.time()].clone());
    for &c in columns {
        let column = &input.columns()[c];
        let name = config.rename.get(&column.name).unwrap_or(&column.name);
        out.push(Column::waveform(name, rate).with_unit(column.unit.clone()));
    }
    for &c in means {
        let column = &input.columns()[c];
        let mean = Column::new(&column.name, arrow::datatypes::DataType::Float64);
        out.push(mean.with_unit(column.unit.clone()));
    }
    // Two waveforms of a key can start at one time only where stamps are so coarse that samples share one.
    let position = count(grid.every) * grid.period <= 2.0 * grid.slack;
    let primary_key = PrimaryKey { columns: (0..=n_key).collect(), position };
    output(out, (0..n_key).collect(), n_key, primary_key)
}

fn planned(
    input: &Schema,
    output: Schema,
    columns: Vec<usize>,
    means: Vec<usize>,
    grid: Grid,
) -> Planned {
    let (input, out) = (input.clone(), output.clone());
    Planned {
        output,
        late: LateSupport::Corrects,
        state_version: STATE_VERSION,
        build: Arc::new(move |_| {
            let channels = [columns.as_slice(), &means].concat();
            let cutter = Cutter::new(input.clone(), out.clone(), grid, channels, columns.len());
            Ok(Box::new(cutter))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
