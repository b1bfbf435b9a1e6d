//! Levels of columns, such as warning and alarm, with a raise limit and a clear limit each.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows with, for each column, `<column>_<level>` (boolean) for each level, and `<column>_level`
//!         (text): the last of its levels that is raised, else `normal`; null where the value is
//! State   which levels of each column are raised, and the time of its last value, for each key
//! Late    honours `late: { correct }`; a late row may change whatever follows within the hysteresis
//! Errors  none: a row that came in goes out
//! Source  ISA-18.2 (limits with deadband): `above` is raised at `x > limit` and cleared at
//!         `x <= limit - hysteresis`; `below` is the mirror image; `outside: [lo, hi]` is raised at `x < lo` or
//!         `x > hi` and cleared at `lo + hysteresis <= x <= hi - hysteresis`; `inside: [lo, hi]` is raised at
//!         `lo <= x <= hi` and cleared at `x < lo - hysteresis` or `x > hi + hysteresis`
//!
//! Each level is raised and cleared by itself. A null leaves the levels as they are; after more than `max_gap`
//! without a value all are cleared, and the next value is judged as a first one.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use foreline_engine::{
    Batch, ConfigError, Extent, Family, Fault, OperatorKind, Planned, Resolver, Schema,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotate::{Added, Annotate, Holds, both, gap, is_gap, planned, renamed_unknown, truth};
use crate::columns::{channel, numeric, only};
use crate::entries::Entries;

/// The level of a value for which none is raised.
const NORMAL: &str = "normal";

/// Most levels of a column: they are bits of a byte.
const MAX_LEVELS: usize = 8;

/// Compares columns with limits.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThresholdConfig {
    /// The levels of each column, the mildest first: `{ vibration: { warning: { above: 2.8 }, alarm: { above: 4.5 } } }`.
    /// At most 8 a column.
    pub columns: Entries<Entries<LevelConfig>>,
    /// All levels of a column are cleared when its last value is longer ago than this. Left out: they stay.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Names that stand in front of the results in place of the column's, by column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// When a level is raised. Exactly one of `above`, `below`, `outside` and `inside` says so.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LevelConfig {
    /// Raised by a value greater than this, in the column's unit.
    #[serde(default)]
    pub above: Option<f64>,
    /// Raised by a value less than this, in the column's unit.
    #[serde(default)]
    pub below: Option<f64>,
    /// Raised by a value less than the first or greater than the second, in the column's unit.
    #[serde(default)]
    pub outside: Option<[f64; 2]>,
    /// Raised by a value from the first to the second, both included, in the column's unit.
    #[serde(default)]
    pub inside: Option<[f64; 2]>,
    /// How far the value must come back for the level to be cleared, in the column's unit; 0 unless given.
    #[serde(default)]
    pub hysteresis: f64,
}

/// The kind `threshold`.
#[derive(Debug, Clone, Copy)]
pub struct Threshold;

impl OperatorKind for Threshold {
    type Config = ThresholdConfig;

    const NAME: &'static str = "threshold";
    const SUMMARY: &'static str =
        "compares columns with limits: levels such as warning and alarm, with hysteresis";
    const FAMILY: Family = Family::Detection;
    const EXAMPLE: &'static str = "levels: { from: readings, threshold: { columns: { vibration: { warning: { above: 2.8, hysteresis: 0.3 }, alarm: { above: 4.5, hysteresis: 0.3 } } } } }";

    fn plan(
        config: &ThresholdConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let (watched, max_gap) = both(watched(config, input), gap(config.max_gap, input.domain()))?;
        let added = watched.iter().flat_map(Watch::adds).collect();
        planned(input, Levels { watched, max_gap }, added)
    }
}

/// A column with its levels.
#[derive(Debug, Clone)]
struct Watch {
    place: usize,
    stem: String,
    levels: Vec<(String, Limits)>,
}

impl Watch {
    fn adds(&self) -> Vec<Added> {
        let flag =
            |(name, _): &(String, Limits)| Added::new(format!("{}_{name}", self.stem), Holds::Flag);
        let mut added: Vec<Added> = self.levels.iter().map(flag).collect();
        let names = self.levels.iter().map(|(name, _)| name.clone());
        let words: Arc<[String]> = std::iter::once(NORMAL.to_owned()).chain(names).collect();
        added.push(Added::new(format!("{}_level", self.stem), Holds::Text(words)));
        added
    }
}

/// Where a level is raised and where it is cleared. A value is in the first range, in the second, or in between,
/// where the level stays what it was.
#[derive(Debug, Clone, Copy)]
enum Limits {
    /// Raised above `hi` or below `lo`; cleared from `lo + back` to `hi - back`.
    Outside { lo: f64, hi: f64, back: f64 },
    /// Raised from `lo` to `hi`; cleared below `lo - back` and above `hi + back`.
    Inside { lo: f64, hi: f64, back: f64 },
}

impl Limits {
    /// All comparisons are made, since which of them decides is not foreseen.
    #[inline]
    fn raised(self, x: f64, was: bool) -> bool {
        let within = |lo: f64, hi: f64| (lo..=hi).contains(&x);
        match self {
            Limits::Outside { lo, hi, back } => {
                !within(lo, hi) | (was & !within(lo + back, hi - back))
            }
            Limits::Inside { lo, hi, back } => {
                within(lo, hi) | (was & within(lo - back, hi + back))
            }
        }
    }
}

impl LevelConfig {
    fn plan(&self) -> Result<Limits, ConfigError> {
        let back = self.hysteresis;
        if back < 0.0 {
            let error = ConfigError::new("hysteresis", format!("'{back}' is not a distance"));
            return Err(error.help("give a number of at least 0"));
        }
        let range = |at: &str, [lo, hi]: [f64; 2]| {
            let what = format!("[{lo}, {hi}] is not a range");
            let error = ConfigError::new(at, what).help("give the lesser number first");
            if lo < hi { Ok((lo, hi)) } else { Err(error) }
        };
        let limits = match (self.above, self.below, self.outside, self.inside) {
            (Some(hi), None, None, None) => Limits::Outside { lo: f64::NEG_INFINITY, hi, back },
            (None, Some(lo), None, None) => Limits::Outside { lo, hi: f64::INFINITY, back },
            (None, None, Some(outside), None) => {
                let (lo, hi) = range("outside", outside)?;
                Limits::Outside { lo, hi, back }
            }
            (None, None, None, Some(inside)) => {
                let (lo, hi) = range("inside", inside)?;
                Limits::Inside { lo, hi, back }
            }
            (None, None, None, None) => {
                return Err(ConfigError::new("", "nothing says when the level is raised")
                    .help("add one of above, below, outside, inside"));
            }
            _ => {
                return Err(ConfigError::new(
                    "",
                    "above, below, outside and inside exclude one another",
                )
                .help("keep one of them, and make another level of the other"));
            }
        };
        match limits {
            Limits::Outside { lo, hi, back } if lo + back > hi - back => {
                let what = format!(
                    "the level would never be cleared: [{lo}, {hi}] less '{back}' at both ends is nothing"
                );
                Err(ConfigError::new("hysteresis", what).help("make it less than half the range"))
            }
            limits => Ok(limits),
        }
    }
}

fn watched(config: &ThresholdConfig, input: &Schema) -> Result<Vec<Watch>, Vec<ConfigError>> {
    let (mut watched, mut errors) = (Vec::new(), Vec::new());
    if config.columns.is_empty() {
        errors.push(ConfigError::new("columns", "no column is named"));
    }
    for (name, levels) in config.columns.iter() {
        let at = format!("columns.{name}");
        let place = numeric(input, &at, name).map_err(|e| errors.push(e));
        let levels = limits(levels).map_err(|e| errors.extend(e.into_iter().map(|e| e.under(&at))));
        if let (Ok(place), Ok(levels)) = (place, levels) {
            let stem = config.rename.get(name).map_or(name, String::as_str).to_owned();
            watched.push(Watch { place, stem, levels });
        }
    }
    let names: Vec<String> = config.columns.iter().map(|(name, _)| name.to_owned()).collect();
    errors.extend(renamed_unknown(&names, &config.rename));
    if errors.is_empty() { Ok(watched) } else { Err(errors) }
}

/// The levels of a column, in order.
fn limits(levels: &Entries<LevelConfig>) -> Result<Vec<(String, Limits)>, Vec<ConfigError>> {
    let (mut limits, mut errors) = (Vec::new(), Vec::new());
    if levels.is_empty() {
        errors.push(ConfigError::new("", "no level is named"));
    }
    if levels.iter().len() > MAX_LEVELS {
        let what = format!("a column has at most {MAX_LEVELS} levels");
        errors.push(ConfigError::new("", what).help("make another step for the others"));
    }
    for (name, level) in levels.iter() {
        if name == NORMAL || name == "level" {
            let what = format!("a level cannot be called '{name}'");
            errors.push(ConfigError::new(name, what).help("choose another name"));
        }
        match level.plan() {
            Ok(limit) => limits.push((name.to_owned(), limit)),
            Err(e) => errors.push(e.under(name)),
        }
    }
    for (one, next) in levels.iter().zip(levels.iter().skip(1)) {
        errors.extend(out_of_order(one, next));
    }
    if errors.is_empty() { Ok(limits) } else { Err(errors) }
}

/// Whether the level `next`, which is the graver one, would be raised before `one`.
fn out_of_order(
    (one, mild): (&str, &LevelConfig),
    (next, grave): (&str, &LevelConfig),
) -> Option<ConfigError> {
    let (at, a, b) = match (mild.above, grave.above, mild.below, grave.below) {
        (Some(a), Some(b), _, _) if b < a => ("above", a, b),
        (_, _, Some(a), Some(b)) if b > a => ("below", a, b),
        _ => return None,
    };
    let what = format!("level '{next}' at '{b}' would be raised before '{one}' at '{a}'");
    let error = ConfigError::new(format!("{next}.{at}"), what);
    Some(error.help("name the mildest level first"))
}

/// The levels of a column of a key that are raised, as bits, and the time of its last value.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Raised {
    bits: u8,
    at: Option<i64>,
}

#[derive(Debug, Clone)]
struct Levels {
    watched: Vec<Watch>,
    max_gap: Option<i64>,
}

impl Annotate for Levels {
    type State = Vec<Raised>;

    const STATE_VERSION: u32 = 1;

    fn channels(&self, batch: &Batch) -> Result<Vec<ScalarBuffer<f64>>, Fault> {
        self.watched.iter().map(|w| channel(batch.rows.column(w.place))).collect()
    }

    fn start(&self) -> Vec<Raised> {
        vec![Raised::default(); self.watched.len()]
    }

    fn follow(
        &self,
        times: &[i64],
        channels: &[&[f64]],
        state: &mut Vec<Raised>,
        mut out: &mut [Vec<f64>],
    ) {
        for ((watch, values), raised) in self.watched.iter().zip(channels).zip(state) {
            let (flags, rest) = out.split_at_mut(watch.levels.len());
            let Some((last, rest)) = rest.split_first_mut() else { return };
            let begun = last.len();
            last.extend(values.iter().map(|x| if x.is_nan() { *x } else { 0.0 }));
            let since = raised.at;
            // Level by level, so that no row asks what kind of limits it is compared with.
            for (i, ((_, limits), flag)) in (0_u8..).zip(watch.levels.iter().zip(flags)) {
                let was = (raised.bits >> i) & 1 == 1;
                let is_raised = self.judge(*limits, times, values, (was, since), flag);
                raised.bits = (raised.bits & !(1 << i)) | (u8::from(is_raised) << i);
                let place = f64::from(i + 1);
                for (last, flag) in last[begun..].iter_mut().zip(&flag[begun..]) {
                    *last = if *flag > 0.0 { place } else { *last };
                }
            }
            let seen = values.iter().rposition(|x| !x.is_nan());
            raised.at = seen.map_or(since, |row| Some(times[row]));
            out = rest;
        }
    }
}

impl Levels {
    /// Appends whether each value raises a level that was raised or not when the column had its last value, and says
    /// whether it is raised in the end.
    fn judge(
        &self,
        limits: Limits,
        times: &[i64],
        values: &[f64],
        (mut is_raised, mut since): (bool, Option<i64>),
        flag: &mut Vec<f64>,
    ) -> bool {
        flag.extend(times.iter().zip(values).map(|(&at, &x)| {
            if x.is_nan() {
                return x;
            }
            is_raised &= !is_gap(self.max_gap, since, at);
            since = Some(at);
            is_raised = limits.raised(x, is_raised);
            truth(is_raised)
        }));
        is_raised
    }
}

#[cfg(test)]
mod tests;
