//! ADWIN: a window that grows while its mean stays what it is, and is cut when the mean changes.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows with, for each column, `<column>_adwin_mean` (in the column's unit) and `<column>_adwin_rows`
//!         (`Int64`) of its window, and `<column>_adwin_drift` (boolean): whether this value had the window cut
//! State   the window of each column of each key as at most 6 buckets for each power of two of its length, so some
//!         hundred numbers whatever the length; the time of the last value
//! Late    honours `late: { correct }`; a late row changes all that follows up to the next drift
//! Errors  none: a row that came in goes out
//! Source  Bifet and Gavaldà 2007, as river `drift.ADWIN` has it: at every `clock`-th value the oldest bucket goes as
//!         long as some cut into `n0` old and `n1` new values, `min_rows` at least of either, has
//!         `|mean0 - mean1| > sqrt(2 m v d) + 2/3 m d`, where `d = ln(2 ln(n) / delta)`, `v` is the variance of the
//!         window of `n` values, and `m = 1 / (n0 - min_rows + 1) + 1 / (n1 - min_rows + 1)`
//!
//! The value after a drift begins a new window, as it does in river. A null or an infinite value gives nulls and
//! changes nothing. After more than `max_gap` without a value a new window begins too.

use std::collections::{BTreeMap, VecDeque};

use foreline_engine::{
    ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema, TimeDomain, Unit,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotate::{
    Added, Detector, Holds, Watched, both, fit, gap, is_gap, planned_each, reset, truth,
};
use crate::columns::only;

/// Most buckets of a size: with one more, the oldest two become one of twice the size.
const MAX_BUCKETS: usize = 5;

/// Watches means by windows of adaptive length.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdwinConfig {
    /// The columns to watch.
    pub columns: Vec<String>,
    /// How sure a cut must be: about the chance of a false one, above 0 and below 1; 0.002 unless given.
    #[serde(default = "delta")]
    pub delta: f64,
    /// Cuts are looked for at every so many values; at least 1, and 32 unless given.
    #[serde(default = "clock")]
    pub clock: u32,
    /// The least number of values on either side of a cut; at least 1, and 5 unless given.
    #[serde(default = "min_rows")]
    pub min_rows: u32,
    /// No cut is looked for in a window of so few values; 10 unless given.
    #[serde(default = "grace")]
    pub grace: u32,
    /// A new window begins when the last value is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// A column of true and false: where it is true, after a repair, the key is begun anew with that row, what was learnt included.
    #[serde(default)]
    pub reset_on: Option<String>,
    /// Names that stand in front of the results in place of the column's, by column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

fn delta() -> f64 {
    0.002
}

fn clock() -> u32 {
    32
}

fn min_rows() -> u32 {
    5
}

fn grace() -> u32 {
    10
}

/// The kind `adwin`.
#[derive(Debug, Clone, Copy)]
pub struct Adwin;

impl OperatorKind for Adwin {
    type Config = AdwinConfig;

    const NAME: &'static str = "adwin";
    const SUMMARY: &'static str = "finds that a mean has changed by a window of adaptive length";
    const FAMILY: Family = Family::Detection;
    const EXAMPLE: &'static str =
        "changed: { from: readings, adwin: { columns: [vibration], delta: 0.002 } }";

    fn plan(
        config: &AdwinConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let watched = Watched::plan(input, &config.columns, &config.rename);
        let watched = both(watched, reset(input, config.reset_on.as_deref()));
        let ((watched, resets), cutter) = both(watched, Cutter::plan(config, input.domain()))?;
        planned_each(input, watched, cutter, resets)
    }
}

#[derive(Debug, Clone)]
struct Cutter {
    delta: f64,
    clock: u64,
    min_rows: f64,
    grace: f64,
    max_gap: Option<i64>,
}

impl Cutter {
    fn plan(config: &AdwinConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let AdwinConfig { delta, clock, min_rows, grace, .. } = *config;
        let (chance, one) = ("give a number above 0 and below 1", "give a number of at least 1");
        let numbers = [
            fit("delta", delta, delta > 0.0 && delta < 1.0, chance),
            fit("clock", f64::from(clock), clock > 0, one),
            fit("min_rows", f64::from(min_rows), min_rows > 0, one),
        ];
        let errors: Vec<ConfigError> = numbers.into_iter().filter_map(Result::err).collect();
        let numbers = if errors.is_empty() { Ok(()) } else { Err(errors) };
        let ((), max_gap) = both(numbers, gap(config.max_gap, domain))?;
        let (min_rows, grace) = (f64::from(min_rows), f64::from(grace));
        Ok(Cutter { delta, clock: u64::from(clock), min_rows, grace, max_gap })
    }
}

/// Some values in a row: their sum, and the sum of their squared distances from their mean.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Bucket {
    total: f64,
    m2: f64,
}

/// The window of a column of a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Window {
    at: Option<i64>,
    n_seen: u64,
    width: f64,
    whole: Bucket,
    /// At place `i` the buckets of `2^i` values, the oldest first; older values are at later places.
    sizes: Vec<VecDeque<Bucket>>,
    has_drifted: bool,
}

impl Detector for Cutter {
    type State = Window;

    const STATE_VERSION: u32 = 1;

    fn adds(&self, unit: Option<&Unit>) -> Vec<Added> {
        vec![
            Added::new("adwin_mean", Holds::Number).with_unit(unit.cloned()),
            Added::new("adwin_rows", Holds::Whole).with_unit(Some(Unit::new("{count}"))),
            Added::new("adwin_drift", Holds::Flag),
        ]
    }

    fn follow(&self, times: &[i64], values: &[f64], window: &mut Window, out: &mut [Vec<f64>]) {
        let [mean, rows, drift] = out else { return };
        for (&at, &x) in times.iter().zip(values) {
            if !x.is_finite() {
                mean.push(f64::NAN);
                rows.push(f64::NAN);
                drift.push(f64::NAN);
                continue;
            }
            if window.has_drifted || is_gap(self.max_gap, window.at, at) {
                *window = Window::default();
            }
            window.at = Some(at);
            window.add(x);
            window.has_drifted = self.cut(window);
            mean.push(window.whole.total / window.width);
            rows.push(window.width);
            drift.push(truth(window.has_drifted));
        }
    }
}

impl Cutter {
    /// Drops the oldest buckets as long as the mean has changed; whether any was dropped.
    fn cut(&self, window: &mut Window) -> bool {
        window.n_seen += 1;
        if !window.n_seen.is_multiple_of(self.clock) || window.width <= self.grace {
            return false;
        }
        let mut has_cut = false;
        while self.has_changed(window) {
            window.drop_oldest();
            has_cut = true;
        }
        has_cut
    }

    /// Whether some cut between two buckets has means on its sides that are too far apart.
    fn has_changed(&self, window: &Window) -> bool {
        let (mut n0, mut n1) = (0.0, window.width);
        let (mut old, mut new) = (0.0, window.whole.total);
        let d = libm::log(2.0 * libm::log(window.width) / self.delta);
        let variance = (window.whole.m2 / window.width).max(0.0);
        for (size, buckets) in window.sizes.iter().enumerate().rev() {
            for bucket in buckets {
                n0 += length(size);
                n1 -= length(size);
                old += bucket.total;
                new -= bucket.total;
                if n0 < self.min_rows || n1 < self.min_rows {
                    continue;
                }
                let m = 1.0 / (n0 - self.min_rows + 1.0) + 1.0 / (n1 - self.min_rows + 1.0);
                let reach = (2.0 * m * variance * d).sqrt() + 2.0 / 3.0 * d * m;
                if (old / n0 - new / n1).abs() > reach {
                    return true;
                }
            }
        }
        false
    }
}

/// How many values a bucket at a place has.
fn length(size: usize) -> f64 {
    libm::ldexp(1.0, i32::try_from(size).unwrap_or(i32::MAX))
}

impl Window {
    fn add(&mut self, x: f64) {
        if self.width > 0.0 {
            let off = x - self.whole.total / self.width;
            self.whole.m2 += self.width * off * off / (self.width + 1.0);
        }
        self.width += 1.0;
        self.whole.total += x;
        self.put(0, Bucket { total: x, m2: 0.0 });
    }

    /// Adds a bucket; where there are too many of a size, the oldest two become one of the next.
    fn put(&mut self, mut size: usize, mut bucket: Bucket) {
        loop {
            if size == self.sizes.len() {
                self.sizes.push(VecDeque::new());
            }
            let buckets = &mut self.sizes[size];
            buckets.push_back(bucket);
            if buckets.len() <= MAX_BUCKETS {
                return;
            }
            let (Some(a), Some(b)) = (buckets.pop_front(), buckets.pop_front()) else { return };
            let n = length(size);
            let apart = a.total / n - b.total / n;
            let m2 = a.m2 + b.m2 + n * 0.5 * apart * apart;
            bucket = Bucket { total: a.total + b.total, m2 };
            size += 1;
        }
    }

    fn drop_oldest(&mut self) {
        let Some(size) = self.sizes.len().checked_sub(1) else { return };
        if let Some(gone) = self.sizes[size].pop_front() {
            let n = length(size);
            self.width -= n;
            self.whole.total -= gone.total;
            let apart = gone.total / n - self.whole.total / self.width;
            self.whole.m2 -= gone.m2 + n * self.width * apart * apart / (n + self.width);
        }
        while self.sizes.last().is_some_and(VecDeque::is_empty) {
            self.sizes.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::{Logical, UtcNanos};
    use serde_json::{Value, json};

    use super::Window;
    use crate::testing::{Cell, Table, check, sameness, try_plan};

    #[test]
    fn agrees_with_river() {
        let input = Table::parse(UtcNanos, include_str!("../reference/detect_signals.csv"));
        let cases = [
            (json!({ "columns": ["x", "y"] }), include_str!("../reference/adwin.csv")),
            (
                json!({ "columns": ["y"], "delta": 0.1, "clock": 4, "min_rows": 3, "grace": 8 }),
                include_str!("../reference/adwin_eager.csv"),
            ),
        ];
        for (config, expected) in cases {
            check("adwin", &config, &input, &Table::parse(UtcNanos, expected));
        }
    }

    #[test]
    fn a_long_window_has_few_buckets() {
        let mut window = Window::default();
        for i in 0..100_000 {
            window.add(f64::from(i % 7));
        }
        let n_buckets: usize = window.sizes.iter().map(std::collections::VecDeque::len).sum();
        assert!(n_buckets <= 5 * 17, "{n_buckets}");
        assert!((window.whole.m2 / window.width - 4.0).abs() < 1e-3);
    }

    #[test]
    fn random_rows_come_out_the_same_in_all_ways() {
        let input = Table::random(3, 160, Logical);
        let config = json!({ "columns": ["n"], "delta": 0.9, "clock": 1, "min_rows": 2, "grace": 4,
                "max_gap": 80 });
        let outcome = sameness("adwin", &config, &input);
        assert!(outcome.column("n_adwin_drift").contains(&Cell::Bool(false)));
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(UtcNanos, "m,t,x\n");
        let cases: &[(Value, &[&str])] = &[(
            json!({ "columns": ["z"], "delta": 1, "clock": 0, "min_rows": 0, "max_gap": 4 }),
            &[
                "columns[0]: there is no column 'z'",
                "delta: '1' is out of range",
                "clock: '0' is out of range",
                "min_rows: '0' is out of range",
                "max_gap: '4' has no unit, but the event time is a timestamp",
            ],
        )];
        for (config, expected) in cases {
            let errors = try_plan("adwin", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
