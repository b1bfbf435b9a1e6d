//! Quality flags: how far each value can be trusted, and which tests it did not pass. No row and no value is changed.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`, the device's clock is of the event time's type
//! Output  the same rows with `<column>_flag` (`Int64`): 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing; and
//!         `<column>_tests` (text): the tests that were not passed, such as `rate+spike`, null where there are none
//! State   for each column of a key the last value, the last `rows` values of the spike test, and the extremes of the
//!         run of the flat-line test (at most 1,000; the run counts as shorter where there would be more)
//! Late    honours `late: { correct }`; a late row changes the flags of the values that are compared with it
//! Errors  none: a row that came in goes out
//! Source  QARTOD flags and tests (IOOS). `range`: outside `[lo, hi]`. `rate`: `|x - x'| / (t - t')` in the column's
//!         unit per second (per count). `flat_line`: for how long all values have been within `eps` of one another.
//!         `gap`: `t - t'`. `spike`: `|x - median(the last rows values before x)|`. `device_clock`: the distance of
//!         the event time from another time column. A value is flagged where it is beyond the limit, or has been
//!         flat for that long; the gravest test decides
//!
//! QARTOD compares a spike with the mean of its two neighbours. One of them is yet to come, so here it is the
//! median of values before it: a spike does not flag its successor, and a step is flagged until half of the median's
//! values are behind it. A test that has nothing to compare with is not evaluated (equal event times for `rate`, too
//! few values for `spike`, a null for `device_clock`); the flag is 2 where all are. A null is 9 whatever the tests say.
//! A value that fails `range` is compared with none before it, and none after with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use foreline_engine::{
    ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema, TimeDomain,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::annotate::{Added, Holds, both, gap, planned, renamed_unknown, ticks};
use crate::columns::{numeric, only, place, positive};
use crate::entries::Entries;
use checks::{Beyond, Checks, Flat, Inspector, Spike, TESTS};

mod checks;
mod flat;

/// Most values whose median a spike is compared with: it is found anew for every value.
const MAX_SPIKE_ROWS: usize = 99;

/// Flags values by tests. A test has a limit for suspect values, for failed ones, or for both.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QualityConfig {
    /// The tests of each column.
    pub columns: Entries<Tests>,
    /// A test of the device's clock that counts for all columns.
    #[serde(default)]
    pub device_clock: Option<ClockTest>,
    /// After so long without a value, `rate`, `flat_line` and `spike` have nothing to compare with. Left out: they
    /// compare with the last values, however old.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Names that stand in front of the results in place of the column's, by column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// The tests of a column; at least one.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tests {
    /// Gross range: values that cannot be.
    #[serde(default)]
    pub range: Option<RangeTest>,
    /// Rate of change since the last value, in the column's unit per second, or per count.
    #[serde(default)]
    pub rate: Option<NumberTest>,
    /// A value that does not change.
    #[serde(default)]
    pub flat_line: Option<FlatTest>,
    /// Time since the last value.
    #[serde(default)]
    pub gap: Option<TimeTest>,
    /// Distance from the median of the last values, in the column's unit.
    #[serde(default)]
    pub spike: Option<SpikeTest>,
}

/// Ranges outside of which a value is flagged.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeTest {
    /// Least and greatest value that is not suspect, in the column's unit.
    #[serde(default)]
    pub suspect: Option<[f64; 2]>,
    /// Least and greatest value that does not fail, such as the sensor's range, in the column's unit.
    #[serde(default)]
    pub fail: Option<[f64; 2]>,
}

/// Limits above which a value is flagged.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumberTest {
    /// Suspect above this.
    #[serde(default)]
    pub suspect: Option<f64>,
    /// Fails above this.
    #[serde(default)]
    pub fail: Option<f64>,
}

/// Limits above which a value is flagged, as lengths of time.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeTest {
    /// Suspect above this, such as `5m`.
    #[serde(default)]
    pub suspect: Option<Extent>,
    /// Fails above this.
    #[serde(default)]
    pub fail: Option<Extent>,
}

/// For how long a value may stay what it is.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlatTest {
    /// Values that are at most so far apart count as the same, in the column's unit; at least one step of a sensor
    /// that has steps. 0 unless given.
    #[serde(default)]
    pub eps: f64,
    /// Suspect when flat for so long, such as `1h`.
    #[serde(default)]
    pub suspect: Option<Extent>,
    /// Fails when flat for so long.
    #[serde(default)]
    pub fail: Option<Extent>,
}

/// How far a value may be from those before it.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpikeTest {
    /// Of how many values before it the median is taken: an odd number up to 99; 5 unless given.
    #[serde(default = "five")]
    pub rows: usize,
    /// Suspect above this distance.
    #[serde(default)]
    pub suspect: Option<f64>,
    /// Fails above this distance.
    #[serde(default)]
    pub fail: Option<f64>,
}

fn five() -> usize {
    5
}

/// How far a device's clock may be off.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockTest {
    /// The time column that is compared with the event time.
    pub column: String,
    /// Suspect when the two are further apart than this, such as `1h`.
    #[serde(default)]
    pub suspect: Option<Extent>,
    /// Fails when the two are further apart than this.
    #[serde(default)]
    pub fail: Option<Extent>,
}

/// The kind `quality`.
#[derive(Debug, Clone, Copy)]
pub struct Quality;

impl OperatorKind for Quality {
    type Config = QualityConfig;

    const NAME: &'static str = "quality";
    const SUMMARY: &'static str =
        "flags values by range, rate of change, flat line, gap, spike and device clock";
    const FAMILY: Family = Family::Quality;
    const EXAMPLE: &'static str = "\
checked:
  from: readings
  quality:
    columns:
      vibration: { range: { suspect: [0, 20], fail: [0, 100] }, flat_line: { eps: 0.01, suspect: 10m, fail: 1h } }
      temperature: { rate: { suspect: 1, fail: 5 }, gap: { suspect: 1m }, spike: { suspect: 3 } }";

    fn plan(
        config: &QualityConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let domain = input.domain();
        let clock = config.device_clock.as_ref().map(|clock| clock.plan(input)).transpose();
        let rest = both(clock, gap(config.max_gap, domain));
        let (columns, (clock, max_gap)) = both(columns(config, input), rest)?;
        let (ticks, _) = ticks(input);
        let words: Arc<[String]> = (0..1_usize << TESTS.len()).map(words).collect();
        let added = columns.iter().flat_map(|(stem, _)| {
            let tests = Holds::Text(Arc::clone(&words));
            [
                Added::new(format!("{stem}_flag"), Holds::Whole),
                Added::new(format!("{stem}_tests"), tests),
            ]
        });
        let added = added.collect();
        let columns = columns.into_iter().map(|(_, checks)| checks).collect();
        let inspector = Inspector { columns, clock, time: input.time(), domain, max_gap, ticks };
        planned(input, inspector, added)
    }
}

/// The names of the tests whose bits are set.
fn words(bits: usize) -> String {
    let set = TESTS.iter().enumerate().filter(|(i, _)| (bits >> i) & 1 == 1);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join("+")
}

/// The name and the checks of each column.
fn columns(
    config: &QualityConfig,
    input: &Schema,
) -> Result<Vec<(String, Checks)>, Vec<ConfigError>> {
    let (mut columns, mut errors) = (Vec::new(), Vec::new());
    if config.columns.is_empty() {
        errors.push(ConfigError::new("columns", "no column is named"));
    }
    let has_clock = config.device_clock.is_some();
    for (name, tests) in config.columns.iter() {
        let at = format!("columns.{name}");
        let place = numeric(input, &at, name).map_err(|e| errors.push(e));
        let checks = tests.plan(input.domain(), has_clock);
        let checks = checks.map_err(|e| errors.extend(e.into_iter().map(|e| e.under(&at))));
        if let (Ok(place), Ok(checks)) = (place, checks) {
            let stem = config.rename.get(name).map_or(name, String::as_str).to_owned();
            columns.push((stem, Checks { place, ..checks }));
        }
    }
    let names: Vec<String> = config.columns.iter().map(|(name, _)| name.to_owned()).collect();
    errors.extend(renamed_unknown(&names, &config.rename));
    if errors.is_empty() { Ok(columns) } else { Err(errors) }
}

impl Tests {
    fn plan(&self, domain: TimeDomain, has_clock: bool) -> Result<Checks, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut keep = |e: ConfigError| errors.push(e);
        let range = self.range.map(|t| t.plan()).transpose().map_err(&mut keep);
        let rate = self.rate.map(|t| limits("rate", t.suspect, t.fail)).transpose();
        let rate = rate.map_err(&mut keep);
        let flat = self.flat_line.map(|t| t.plan(domain)).transpose().map_err(&mut keep);
        let gap = self.gap.map(|t| lengths("gap", t.suspect, t.fail, domain)).transpose();
        let gap = gap.map_err(&mut keep);
        let spike = self.spike.map(|t| t.plan()).transpose().map_err(&mut keep);
        let none = self.range.is_none() && self.rate.is_none() && self.flat_line.is_none();
        if none && self.gap.is_none() && self.spike.is_none() && !has_clock {
            let error = ConfigError::new("", "no test is named");
            keep(error.help("add one of range, rate, flat_line, gap, spike"));
        }
        match (range, rate, flat, gap, spike) {
            (Ok(range), Ok(rate), Ok(flat), Ok(gap), Ok(spike)) if errors.is_empty() => {
                Ok(Checks { place: 0, range, rate, flat, gap, spike })
            }
            _ => Err(errors),
        }
    }
}

impl RangeTest {
    /// The range of values that are not suspect, and that of those that do not fail.
    fn plan(&self) -> Result<[[f64; 2]; 2], ConfigError> {
        const ALL: [f64; 2] = [f64::NEG_INFINITY, f64::INFINITY];
        let (suspect, fail) = (self.suspect.unwrap_or(ALL), self.fail.unwrap_or(ALL));
        if self.suspect.is_none() && self.fail.is_none() {
            return Err(no_limit("range"));
        }
        for (at, [lo, hi]) in [("range.suspect", suspect), ("range.fail", fail)] {
            if lo >= hi {
                let error = ConfigError::new(at, format!("[{lo}, {hi}] is not a range"));
                return Err(error.help("give the lesser number first"));
            }
        }
        if self.suspect.is_some() && (suspect[0] < fail[0] || suspect[1] > fail[1]) {
            let what = "the range of values that are not suspect goes beyond that of those that do not fail";
            return Err(ConfigError::new("range", what).help("put 'suspect' within 'fail'"));
        }
        Ok([suspect, fail])
    }
}

impl FlatTest {
    fn plan(&self, domain: TimeDomain) -> Result<Flat, ConfigError> {
        let limits = lengths("flat_line", self.suspect, self.fail, domain)?;
        if self.eps >= 0.0 && self.eps.is_finite() {
            return Ok(Flat { eps: self.eps, limits });
        }
        let error = ConfigError::new("flat_line.eps", format!("'{}' is not a distance", self.eps));
        Err(error.help("give a number of at least 0"))
    }
}

impl SpikeTest {
    fn plan(&self) -> Result<Spike, ConfigError> {
        let limits = limits("spike", self.suspect, self.fail)?;
        if self.rows % 2 == 1 && self.rows <= MAX_SPIKE_ROWS {
            return Ok(Spike { rows: self.rows, limits });
        }
        let what = format!("'{}' values have no middle one, or are too many", self.rows);
        let error = ConfigError::new("spike.rows", what);
        Err(error.help(format!("give an odd number up to {MAX_SPIKE_ROWS}")))
    }
}

impl ClockTest {
    /// The place of the clock and its limits.
    fn plan(&self, input: &Schema) -> Result<(usize, Beyond), Vec<ConfigError>> {
        let limits = lengths("device_clock", self.suspect, self.fail, input.domain());
        both(clock(input, &self.column).map_err(|e| vec![e]), limits.map_err(|e| vec![e]))
    }
}

/// The place of a column of the event time's type that is not the event time.
fn clock(input: &Schema, name: &str) -> Result<usize, ConfigError> {
    const AT: &str = "device_clock.column";
    let index = place(input, AT, name)?;
    let help = "name the column of the device's own time";
    let found = &input.columns()[index].data_type;
    let fits = match input.domain() {
        TimeDomain::UtcNanos => matches!(found, DataType::Timestamp(TimeUnit::Nanosecond, _)),
        TimeDomain::Logical => *found == DataType::Int64,
    };
    if index == input.time() {
        let what = format!("column '{name}' is the event time itself");
        Err(ConfigError::new(AT, what).help(help))
    } else if !fits {
        let what =
            format!("column '{name}' is {found}, which cannot be compared with the event time");
        Err(ConfigError::new(AT, what).help(help))
    } else {
        Ok(index)
    }
}

fn no_limit(at: &str) -> ConfigError {
    ConfigError::new(at, "nothing says when a value is flagged").help("add one of suspect, fail")
}

/// Limits of which at least one is given; each at least 0, and `suspect` not beyond `fail`.
fn limits(at: &str, suspect: Option<f64>, fail: Option<f64>) -> Result<Beyond, ConfigError> {
    if suspect.is_none() && fail.is_none() {
        return Err(no_limit(at));
    }
    for (name, limit) in [("suspect", suspect), ("fail", fail)] {
        if let Some(limit) = limit.filter(|&limit| limit < 0.0) {
            let what = format!("'{limit}' is not a limit");
            let error = ConfigError::new(format!("{at}.{name}"), what);
            return Err(error.help("give a number of at least 0"));
        }
    }
    let beyond =
        Beyond { suspect: suspect.unwrap_or(f64::INFINITY), fail: fail.unwrap_or(f64::INFINITY) };
    if suspect.is_some() && beyond.suspect > beyond.fail {
        let what = format!("'{}' is beyond 'fail', '{}'", beyond.suspect, beyond.fail);
        let error = ConfigError::new(format!("{at}.suspect"), what);
        return Err(error.help("make it less than 'fail'"));
    }
    Ok(beyond)
}

/// Limits given as lengths of time, in the unit of the domain.
#[expect(clippy::cast_precision_loss, reason = "a length beyond 104 days loses nanoseconds")]
fn lengths(
    at: &str,
    suspect: Option<Extent>,
    fail: Option<Extent>,
    domain: TimeDomain,
) -> Result<Beyond, ConfigError> {
    let length = |name: &str, limit: Option<Extent>| {
        let at = format!("{at}.{name}");
        limit.map(|limit| positive(&at, limit, domain).map(|l| l as f64)).transpose()
    };
    let (suspect_at, fail_at) = (length("suspect", suspect)?, length("fail", fail)?);
    if let (Some(s), Some(f)) = (suspect, fail)
        && suspect_at > fail_at
    {
        let error =
            ConfigError::new(format!("{at}.suspect"), format!("'{s}' is beyond 'fail', '{f}'"));
        return Err(error.help("make it less than 'fail'"));
    }
    limits(at, suspect_at, fail_at)
}

#[cfg(test)]
mod tests;
