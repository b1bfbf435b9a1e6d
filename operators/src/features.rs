//! What a window can say of a column: one line a feature.
//!
//! A feature looks at the values of one window that are not null, in order. It is null where it is not
//! defined (no value, one value for `std`, a constant for `skewness`) or not finite.

use std::borrow::Cow;

use foreline_engine::Unit;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::moments::Moments;

/// The values of a window that are not null.
#[derive(Debug)]
pub struct Sample<'a> {
    /// The values, in the order of event time.
    pub values: &'a [f64],
    /// Their event times.
    pub times: &'a [i64],
    /// Their moments; the central ones only if some feature of the column is [`Needs::Central`].
    pub moments: Moments,
    /// Whether `rms` and `crest_factor` are of the values less their mean.
    pub remove_mean: bool,
    /// Event time in one unit of a slope: 10^9 nanoseconds for a second, 1 for a count.
    pub ticks: f64,
}

/// What has to be known before a feature can be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Count, mean, extremes and sum of squares.
    Sums,
    /// The central moments too, which take a second pass.
    Central,
}

/// The unit of a feature, given that of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitRule {
    /// The column's.
    Same,
    /// The column's by the unit of event time.
    PerTime,
    /// None: it is a ratio.
    Ratio,
    /// A number of rows; the feature is an `Int64`.
    Count,
}

impl UnitRule {
    /// The unit of a feature of a column in `unit`, where event time is in `time`.
    #[must_use]
    pub fn apply(self, unit: Option<&Unit>, time: &Unit) -> Option<Unit> {
        match self {
            UnitRule::Same => unit.cloned(),
            UnitRule::PerTime => unit.map(|u| Unit::new(&format!("{u}/{time}"))),
            UnitRule::Ratio => Some(Unit::new("1")),
            UnitRule::Count => Some(Unit::new("{count}")),
        }
    }
}

/// A feature of a column over a window.
#[derive(Debug)]
pub struct Feature {
    /// The name, which follows the column's: `<column>_<name>`.
    pub name: &'static str,
    /// What it is, for the manual.
    pub doc: &'static str,
    /// Its unit.
    pub unit: UnitRule,
    /// What it is computed from.
    pub needs: Needs,
    /// The value; `None`, NaN and infinity become null.
    pub value: fn(&Sample<'_>) -> Option<f64>,
}

/// All features.
#[rustfmt::skip]
pub const FEATURES: &[Feature] = &[
    Feature { name: "count", doc: "number of values that are not null", unit: UnitRule::Count, needs: Needs::Sums, value: |s| Some(s.moments.n) },
    Feature { name: "mean", doc: "arithmetic mean", unit: UnitRule::Same, needs: Needs::Sums, value: |s| Some(s.moments.mean) },
    Feature { name: "std", doc: "standard deviation of a sample: divided by n - 1; null below two values", unit: UnitRule::Same, needs: Needs::Central, value: |s| s.moments.std() },
    Feature { name: "min", doc: "least value", unit: UnitRule::Same, needs: Needs::Sums, value: |s| Some(s.moments.min) },
    Feature { name: "max", doc: "greatest value", unit: UnitRule::Same, needs: Needs::Sums, value: |s| Some(s.moments.max) },
    Feature { name: "range", doc: "max - min", unit: UnitRule::Same, needs: Needs::Sums, value: |s| Some(s.moments.max - s.moments.min) },
    Feature { name: "rms", doc: "root of the mean square; of the values less their mean with `remove_mean`", unit: UnitRule::Same, needs: Needs::Sums, value: |s| Some(s.rms()) },
    Feature { name: "skewness", doc: "m3 / m2^1.5 with moments divided by n (g1, biased); null for a constant", unit: UnitRule::Ratio, needs: Needs::Central, value: |s| s.moments.skewness() },
    Feature { name: "kurtosis", doc: "m4 / m2^2 with moments divided by n (biased, not excess: 3 for a Gaussian); null for a constant", unit: UnitRule::Ratio, needs: Needs::Central, value: |s| s.moments.kurtosis() },
    Feature { name: "crest_factor", doc: "max |x| / rms; of the values less their mean with `remove_mean`; null where rms is 0", unit: UnitRule::Ratio, needs: Needs::Sums, value: |s| Some(s.peak() / s.rms()) },
    Feature { name: "slope", doc: "least-squares slope of value over event time, per second or per count; null where all times are equal", unit: UnitRule::PerTime, needs: Needs::Sums, value: slope },
    Feature { name: "first", doc: "first value that is not null", unit: UnitRule::Same, needs: Needs::Sums, value: |s| s.values.first().copied() },
    Feature { name: "last", doc: "last value that is not null", unit: UnitRule::Same, needs: Needs::Sums, value: |s| s.values.last().copied() },
];

impl Feature {
    /// The feature called `name`.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Feature> {
        FEATURES.iter().find(|f| f.name == name)
    }
}

impl Sample<'_> {
    fn rms(&self) -> f64 {
        let m = &self.moments;
        (if self.remove_mean { m.m2 } else { m.mean_square }).sqrt()
    }

    fn peak(&self) -> f64 {
        let m = &self.moments;
        let centre = if self.remove_mean { m.mean } else { 0.0 };
        (m.max - centre).abs().max((m.min - centre).abs())
    }
}

/// Least squares about the means of both, with time counted from the first value to keep its digits.
#[expect(clippy::cast_precision_loss, reason = "a window beyond 104 days loses nanoseconds")]
fn slope(sample: &Sample<'_>) -> Option<f64> {
    let start = *sample.times.first()?;
    let since = |&t: &i64| t.saturating_sub(start) as f64 / sample.ticks;
    let n = sample.moments.n;
    let mean_time = sample.times.iter().map(since).sum::<f64>() / n;
    let (mut with_value, mut with_time) = (0.0, 0.0);
    for (x, t) in sample.values.iter().zip(sample.times) {
        let t = since(t) - mean_time;
        with_value += t * (x - sample.moments.mean);
        with_time += t * t;
    }
    (with_time > 0.0).then(|| with_value / with_time)
}

/// The name of a feature in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct FeatureName(pub String);

impl JsonSchema for FeatureName {
    fn schema_name() -> Cow<'static, str> {
        "FeatureName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let each = FEATURES.iter().map(|f| json_schema!({ "const": f.name, "description": f.doc }));
        json_schema!({ "oneOf": each.collect::<Vec<_>>() })
    }
}
