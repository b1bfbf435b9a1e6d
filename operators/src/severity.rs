//! Severity of vibration: the velocity's RMS in a band, and its zone by ISO 10816 or 20816.
//!
//! Input   keyed rows with a column of waveforms: acceleration in `g`, `mg`, `m/s2`, `mm/s2`, or velocity in `m/s`, `mm/s`,
//!         `um/s`, `[in_i]/s`
//! Output  the same rows and, called after the column or after `as`: `_velocity_rms` in mm/s, and with `edition` or `limits`
//!         `_zone`, a letter from A to D
//! State   none
//! Late    any: a late or corrected row is like any other
//! Errors  a waveform shorter than four periods of the band's lower limit goes to the dead letters as `waveform_too_short`,
//!         one with a sample that is no finite number as `non_finite`
//! Source  `sqrt(sum P(f) / (2 pi f)^2 step)` over the lines of the band, both ends included, with
//!         `P = scipy.signal.welch(a, rate, "hann", nperseg=all)` and the acceleration `a` in mm/s2 (1 g = 9806.65 mm/s2);
//!         of a velocity `sqrt(sum P(f) step)`
//!
//! A zone ends with its limit: a velocity at the limit of A and B is A.
//!
//! | edition         | group or class             | mounting | A/B  | B/C | C/D  |
//! |-----------------|----------------------------|----------|------|-----|------|
//! | ISO 10816-3:2009 | 1 (above 300 kW)          | rigid    | 2.3  | 4.5 | 7.1  |
//! | ISO 10816-3:2009 | 1                         | flexible | 3.5  | 7.1 | 11.0 |
//! | ISO 10816-3:2009 | 2 (15 to 300 kW)          | rigid    | 1.4  | 2.8 | 4.5  |
//! | ISO 10816-3:2009 | 2                         | flexible | 2.3  | 4.5 | 7.1  |
//! | ISO 10816-1:1995 | 1 (up to 15 kW)           |          | 0.71 | 1.8 | 4.5  |
//! | ISO 10816-1:1995 | 2 (15 to 75 kW)           |          | 1.12 | 2.8 | 7.1  |
//! | ISO 10816-1:1995 | 3 (large, on rigid ground) |         | 1.8  | 4.5 | 11.2 |
//! | ISO 10816-1:1995 | 4 (large, on soft ground) |          | 2.8  | 7.1 | 18.0 |
//!
//! The limits were taken from secondary sources. Check them against the edition of the standard that binds you, and write
//! others as `limits`. ISO 20816-3:2022 has replaced ISO 10816-3 with zones of its own, which are not in the table: it needs
//! `limits`. ISO 10816-3 leaves out rotodynamic pumps (10816-7) and machines below 15 kW.

use std::f64::consts::PI;

use arrow::datatypes::DataType;
use foreline_engine::{ConfigError, Family, OperatorKind, Planned, Resolver, Schema, Unit};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::signal::taper::Taper;
use crate::signal::welch::Welch;
use crate::signal::{count, place};
use crate::waveforms::{Analysis, Found, Reading, Refusal, Source, Wave, at_least, planned};

/// Periods of the lowest frequency that a waveform must hold, so that what the window smears around 0 Hz, two lines far,
/// stays out of the band. It would be divided by a small frequency.
const PERIODS: f64 = 4.0;

/// Millimetres a second squared in one standard gravity.
const GRAVITY: f64 = 9_806.65;

/// What a user of the table below is told.
const CHECK_LIMITS: &str = "the limits of the zones were taken from secondary sources: check them against the edition of the standard that binds you, and write others as 'limits'";

/// The limits of the zones in mm/s, by edition, group and mounting.
const TABLE: &[(Edition, u8, Option<Mounting>, [f64; 3])] = &[
    (Edition::Iso10816_3, 1, Some(Mounting::Rigid), [2.3, 4.5, 7.1]),
    (Edition::Iso10816_3, 1, Some(Mounting::Flexible), [3.5, 7.1, 11.0]),
    (Edition::Iso10816_3, 2, Some(Mounting::Rigid), [1.4, 2.8, 4.5]),
    (Edition::Iso10816_3, 2, Some(Mounting::Flexible), [2.3, 4.5, 7.1]),
    (Edition::Iso10816_1, 1, None, [0.71, 1.8, 4.5]),
    (Edition::Iso10816_1, 2, None, [1.12, 2.8, 7.1]),
    (Edition::Iso10816_1, 3, None, [1.8, 4.5, 11.2]),
    (Edition::Iso10816_1, 4, None, [2.8, 7.1, 18.0]),
];

/// Finds the velocity's RMS in a band, and the zone of severity it is in. Check the limits against the standard.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeverityConfig {
    /// The column of waveforms: acceleration or velocity, as its unit says.
    pub column: String,
    /// The band from one frequency to another, in Hz; `[10, 1000]` unless given, as the standards have it.
    #[serde(default = "usual_band")]
    pub band: [f64; 2],
    /// The standard whose limits are used. Left out, with `limits` left out too: no zone comes out.
    #[serde(default)]
    pub edition: Option<Edition>,
    /// The machine's group in ISO 10816-3 or 20816-3 (1 or 2), its class in ISO 10816-1 (1 to 4).
    #[serde(default)]
    pub group: Option<u8>,
    /// How the machine stands, for ISO 10816-3 and 20816-3.
    #[serde(default)]
    pub mounting: Option<Mounting>,
    /// The limits between A and B, B and C, C and D in mm/s, in place of the standard's.
    #[serde(default)]
    pub limits: Option<[f64; 3]>,
    /// What the names of new columns begin with; the column's name unless given.
    #[serde(default, rename = "as")]
    pub rename: Option<String>,
}

/// A standard with its year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Edition {
    /// ISO 10816-1:1995: classes I to IV.
    #[serde(rename = "ISO 10816-1:1995")]
    Iso10816_1,
    /// ISO 10816-3:2009: groups 1 and 2.
    #[serde(rename = "ISO 10816-3:2009")]
    Iso10816_3,
    /// ISO 20816-3:2022; needs `limits`.
    #[serde(rename = "ISO 20816-3:2022")]
    Iso20816_3,
}

/// How a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mounting {
    /// Its lowest natural frequency on its supports is at least 25 % above the main excitation.
    Rigid,
    /// It is not.
    Flexible,
}

fn usual_band() -> [f64; 2] {
    [10.0, 1000.0]
}

/// The kind `severity`.
#[derive(Debug, Clone, Copy)]
pub struct Severity;

impl OperatorKind for Severity {
    type Config = SeverityConfig;

    const NAME: &'static str = "severity";
    const SUMMARY: &'static str = "finds the velocity RMS of vibration and its zone by ISO 10816";
    const FAMILY: Family = Family::Spectrum;
    const EXAMPLE: &'static str = "\
bursts: { from: samples, waveform: { columns: [acceleration], sample_rate: 12000, samples: 12000 } }
zones: { from: bursts, severity: { column: acceleration, edition: \"ISO 10816-3:2009\", group: 2, mounting: rigid } }";

    fn plan(
        config: &SeverityConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        let source = Source::plan(input, "column", &config.column, config.rename.as_ref());
        let source = source.map_err(|e| errors.push(e));
        let limits = limits(config).map_err(|e| errors.push(e));
        let scale = source.as_ref().ok().map(|source| scale(source, &config.column));
        let scale = scale.transpose().map_err(|e| errors.push(e));
        if let Ok(source) = &source {
            errors.extend(source.band("band", config.band).err());
        }
        if config.band[0] <= 0.0 {
            let error = ConfigError::new("band", "a velocity has no lines down to 0 Hz");
            errors.push(error.help("let the band begin above 0, as at 10"));
        }
        let (Ok(source), Ok(limits), Ok(Some(scale)), true) =
            (source, limits, scale, errors.is_empty())
        else {
            return Err(errors);
        };
        let mut columns = vec![source.number("velocity_rms", Some(Unit::new("mm/s")))];
        if limits.is_some() {
            columns.push(source.finding("zone", DataType::Utf8));
        }
        let (band, rate) = (config.band, source.rate);
        let reading = Reading { source, speed: None, companion: None };
        let mut planned = planned(input, reading, &columns, move || Velocity {
            rate,
            scale,
            band,
            limits,
            welch: None,
        })?;
        if config.edition.is_some() && config.limits.is_none() {
            planned.notes.push(CHECK_LIMITS.to_owned());
        }
        Ok(planned)
    }
}

/// The limits of the zones; `None` where none are wanted.
fn limits(config: &SeverityConfig) -> Result<Option<[f64; 3]>, ConfigError> {
    if let Some(limits) = config.limits {
        let rise = limits.iter().all(|l| l.is_finite()) && limits.is_sorted_by(|a, b| a < b);
        return if rise && limits[0] > 0.0 {
            Ok(Some(limits))
        } else {
            let error = ConfigError::new("limits", "limits must rise, and begin above 0");
            Err(error.help("give those of A/B, B/C and C/D in mm/s"))
        };
    }
    let Some(edition) = config.edition else {
        return match (config.group, config.mounting) {
            (None, None) => Ok(None),
            _ => Err(ConfigError::new("", "a group or mounting means nothing without an edition")
                .help("add 'edition', such as \"ISO 10816-3:2009\"")),
        };
    };
    if edition == Edition::Iso20816_3 {
        let error = ConfigError::new("edition", "the limits of ISO 20816-3:2022 are not built in");
        return Err(error.help("copy them from the standard into 'limits'"));
    }
    let row = TABLE.iter().find(|(e, group, mounting, _)| {
        *e == edition && Some(*group) == config.group && *mounting == config.mounting
    });
    row.map(|(_, _, _, limits)| Some(*limits)).ok_or_else(|| {
        let help = match edition {
            Edition::Iso10816_1 => "give 'group' (the class) from 1 to 4, and no 'mounting'",
            _ => "give 'group' 1 or 2, and 'mounting' rigid or flexible",
        };
        ConfigError::new("edition", "the edition has no limits for this group and mounting")
            .help(help)
    })
}

/// What samples are, and how much in mm/s2 or mm/s.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Acceleration(f64),
    Velocity(f64),
}

fn scale(source: &Source, column: &str) -> Result<Scale, ConfigError> {
    let known = "give it g, mg, m/s2, mm/s2, m/s, mm/s, um/s or [in_i]/s";
    let Some(unit) = &source.unit else {
        let what =
            format!("column '{column}' has no unit, so it is neither acceleration nor velocity");
        return Err(ConfigError::new("column", what).help(known));
    };
    match unit.code() {
        "g" | "[g]" => Ok(Scale::Acceleration(GRAVITY)),
        "mg" | "m[g]" => Ok(Scale::Acceleration(GRAVITY / 1e3)),
        "m/s2" | "m/s^2" | "m/s²" => Ok(Scale::Acceleration(1e3)),
        "mm/s2" | "mm/s^2" | "mm/s²" => Ok(Scale::Acceleration(1.0)),
        "m/s" => Ok(Scale::Velocity(1e3)),
        "mm/s" => Ok(Scale::Velocity(1.0)),
        "um/s" => Ok(Scale::Velocity(1e-3)),
        "[in_i]/s" | "in/s" => Ok(Scale::Velocity(25.4)),
        other => {
            let what =
                format!("column '{column}' is in '{other}', neither acceleration nor velocity");
            Err(ConfigError::new("column", what).help(known))
        }
    }
}

/// The analysis.
#[derive(Debug)]
struct Velocity {
    rate: f64,
    scale: Scale,
    band: [f64; 2],
    limits: Option<[f64; 3]>,
    /// For the length of the last waveform.
    welch: Option<Welch>,
}

impl Analysis for Velocity {
    fn analyse(&mut self, wave: &Wave<'_>, found: &mut Vec<Found>) -> Result<(), Refusal> {
        let n = wave.samples.len();
        let wanted = place((PERIODS * self.rate / self.band[0]).ceil());
        at_least(n, wanted, "send longer ones, or let 'band' begin higher")?;
        let welch = self.welch.take().filter(|w| w.segment() == n);
        let mut welch = welch.unwrap_or_else(|| Welch::new(n, 0, Taper::Hann));
        let step = welch.resolution(self.rate);
        let powers = welch.density(wave.samples, self.rate);
        let rms = self.rms(powers, step);
        self.welch = Some(welch);
        found.push(Found::Number(rms));
        if let Some(limits) = self.limits {
            let zone = limits.iter().take_while(|&&limit| rms > limit).count();
            found.push(Found::Word(["A", "B", "C", "D"][zone]));
        }
        Ok(())
    }
}

impl Velocity {
    /// The velocity's RMS in mm/s.
    fn rms(&self, powers: &[f64], step: f64) -> f64 {
        // A limit that is meant to be a line is one, whatever the last digit of the division says.
        let first = place((self.band[0] / step - 1e-9).ceil());
        let last = place((self.band[1] / step + 1e-9).floor()).min(powers.len() - 1);
        let lines = powers.iter().enumerate().take(last + 1).skip(first);
        let (scale, sum) = match self.scale {
            Scale::Velocity(scale) => (scale, lines.map(|(_, p)| p).sum::<f64>()),
            Scale::Acceleration(scale) => {
                let velocity = |(k, p): (usize, &f64)| {
                    let omega = 2.0 * PI * count(k) * step;
                    p / (omega * omega)
                };
                (scale, lines.map(velocity).sum())
            }
        };
        scale * (sum * step).sqrt()
    }
}

#[cfg(test)]
mod tests;
