//! Cepstrum of waveforms: families of lines that are equally far apart, such as sidebands and harmonics of gears.
//!
//! Input   keyed rows with a column of waveforms
//! Output  the same rows and, called after the column or after `as`: `_quefrency1` (s) and `_rahmonic1` (without unit), the
//!         place and height of the highest peak of the cepstrum within `from` and `to`, and so on; with `keep` `_cepstrum` and
//!         `_cepstrum_step` (s)
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  a waveform not longer than twice `to` goes to the dead letters as `waveform_too_short`, one with a sample that is
//!         no finite number as `non_finite`
//! Source  `irfft(log(abs(rfft(w (x - mean x)))))`, lines below `1e-12` of the highest lifted to that
//!
//! Lines `d` Hz apart show as a peak at a quefrency of `1 / d` seconds: sidebands of a shaft at 25 Hz at 0.04 s. A null
//! waveform has null findings.

use foreline_engine::{Column, ConfigError, Family, OperatorKind, Planned, Resolver, Schema, Unit};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::signal::shape::{lines_in, peaks};
use crate::signal::taper::Taper;
use crate::signal::{cepstrum, count, place};
use crate::waveforms::{Analysis, Found, Reading, Refusal, Source, Wave, at_least, planned};

/// Most peaks: each is two columns.
const MAX_PEAKS: usize = 20;

/// Finds the peaks of the cepstrum of waveforms.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CepstrumConfig {
    /// The column of waveforms.
    pub column: String,
    /// The least quefrency that is looked at, in seconds, above 0: below it is the shape of the spectrum.
    pub from: f64,
    /// The greatest, in seconds; above `from`.
    pub to: f64,
    /// How many of the highest peaks come out, from 1 to 20; 1 unless given.
    #[serde(default = "one")]
    pub peaks: usize,
    /// What samples are weighed with; `hann` unless given.
    #[serde(default)]
    pub window: Taper,
    /// The cepstrum up to this quefrency in seconds comes out too, to store or draw.
    #[serde(default)]
    pub keep: Option<f64>,
    /// What the names of new columns begin with; the column's name unless given.
    #[serde(default, rename = "as")]
    pub rename: Option<String>,
}

fn one() -> usize {
    1
}

/// The kind `cepstrum`.
#[derive(Debug, Clone, Copy)]
pub struct Cepstrum;

impl OperatorKind for Cepstrum {
    type Config = CepstrumConfig;

    const NAME: &'static str = "cepstrum";
    const SUMMARY: &'static str = "finds families of equally spaced lines in waveforms";
    const FAMILY: Family = Family::Spectrum;
    const EXAMPLE: &'static str = "\
bursts: { from: samples, waveform: { columns: [acceleration], sample_rate: 12000, samples: 12000 } }
families: { from: bursts, cepstrum: { column: acceleration, from: 0.005, to: 0.2, peaks: 2, keep: 0.1 } }";

    fn plan(
        config: &CepstrumConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let source = Source::plan(input, "column", &config.column, config.rename.as_ref());
        let source = source.map_err(|e| errors.push(e));
        let (from, to) = (config.from, config.to);
        if !(from > 0.0 && from < to && to.is_finite()) {
            let error = ConfigError::new("from", format!("'{from}' to '{to}' is no range"));
            errors.push(error.help("let 'from' be above 0 s and 'to' above 'from'"));
        }
        if !(1..=MAX_PEAKS).contains(&config.peaks) {
            let what = format!("'{}' is not a number of peaks", config.peaks);
            let help = format!("give a number from 1 to {MAX_PEAKS}");
            errors.push(ConfigError::new("peaks", what).help(help));
        }
        if let Some(keep) = config.keep.filter(|&keep| keep <= 0.0 || !keep.is_finite()) {
            let error = ConfigError::new("keep", format!("'{keep}' is out of range"));
            errors.push(error.help("give the greatest quefrency to keep, in seconds"));
        }
        let (Ok(source), true) = (source, errors.is_empty()) else { return Err(errors) };
        let columns = columns(config, &source);
        let (config, rate) = (config.clone(), source.rate);
        let reading = Reading { source, speed: None, companion: None };
        planned(input, reading, &columns, move || Peaks {
            rate,
            config: config.clone(),
            cepstrum: cepstrum::Cepstrum::new(config.window),
        })
    }
}

fn columns(config: &CepstrumConfig, source: &Source) -> Vec<Column> {
    let (seconds, ratio) = (Some(Unit::new("s")), Some(Unit::new("1")));
    let mut columns = Vec::new();
    for i in 1..=config.peaks {
        columns.push(source.number(&format!("quefrency{i}"), seconds.clone()));
        columns.push(source.number(&format!("rahmonic{i}"), ratio.clone()));
    }
    if config.keep.is_some() {
        columns.push(source.list("cepstrum", ratio));
        columns.push(source.number("cepstrum_step", seconds));
    }
    columns
}

/// The analysis.
#[derive(Debug)]
struct Peaks {
    rate: f64,
    config: CepstrumConfig,
    cepstrum: cepstrum::Cepstrum,
}

impl Analysis for Peaks {
    fn analyse(&mut self, wave: &Wave<'_>, found: &mut Vec<Found>) -> Result<(), Refusal> {
        let CepstrumConfig { from, to, peaks: n_peaks, keep, .. } = self.config;
        let wanted = place((2.0 * to * self.rate).ceil()) + 3;
        at_least(wave.samples.len(), wanted, "make 'to' shorter, or send longer ones")?;
        let values = self.cepstrum.of(wave.samples);
        let step = 1.0 / self.rate;
        // A peak needs its neighbours, which may lie outside.
        let inside = lines_in(from, to + step / 2.0, step, values.len() - 1);
        let first = inside.start.max(1) - 1;
        let mut highest = peaks(&values[first..=inside.end], n_peaks).into_iter();
        for _ in 0..n_peaks {
            match highest.next().map(|k| first + k) {
                Some(k) => found.extend([count(k) * step, values[k]].map(Found::Number)),
                None => found.extend([Found::Null, Found::Null]),
            }
        }
        if let Some(keep) = keep {
            let kept = lines_in(0.0, keep + step / 2.0, step, values.len());
            found.push(Found::List(values[kept].to_vec()));
            found.push(Found::Number(step));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
