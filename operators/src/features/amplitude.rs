//! How many values, how large, how spread.

use super::sample::{number, share};
use super::{Feature, Needs, Theme, UnitRule};
use Needs::{Absolute, Central, Rows, Sums};
use UnitRule::{Count, Ratio, Same, Squared};

pub(super) const THEME: Theme = Theme { title: "Amplitude and spread", features: TABLE };

#[rustfmt::skip]
const TABLE: &[Feature] = &[
    Feature::new("count", Count, Rows, "number of values that are not null", |s, _| Some(number(s.len()))),
    Feature::new("missing", Count, Rows, "number of rows whose value is null", |s, _| Some(number(s.n_rows - s.len()))),
    Feature::new("missing_share", Ratio, Rows, "`missing` / number of rows", |s, _| share(s.n_rows - s.len(), s.n_rows)),
    Feature::new("mean", Same, Sums, "arithmetic mean", |s, _| Some(s.moments.mean)),
    Feature::new("std", Same, Central, "standard deviation of a sample: `sqrt(sum (x - mean)^2 / (n - 1))`; null below two values", |s, _| s.moments.std()),
    Feature::new("var", Squared, Central, "variance of a sample: `std^2`; null below two values", |s, _| s.moments.variance()),
    Feature::new("min", Same, Sums, "least value", |s, _| Some(s.moments.min)),
    Feature::new("max", Same, Sums, "greatest value", |s, _| Some(s.moments.max)),
    Feature::new("range", Same, Sums, "`max - min`", |s, _| Some(s.moments.max - s.moments.min)),
    Feature::new("peak", Same, Sums, "`max |x|`; of the values less their mean with `remove_mean`", |s, _| Some(s.peak())),
    Feature::new("peak_to_peak", Same, Sums, "`max - min`, as vibration calls it", |s, _| Some(s.moments.max - s.moments.min)),
    Feature::new("rms", Same, Sums, "root mean square: `sqrt(sum x^2 / n)`; of the values less their mean with `remove_mean`", |s, _| Some(s.rms())),
    Feature::new("mean_abs", Same, Absolute, "`sum |x| / n`; of the values less their mean with `remove_mean`", |s, _| Some(s.absolute.mean)),
    Feature::new("skewness", Ratio, Central, "`m3 / m2^1.5` with moments divided by n (g1, biased); null for a constant", |s, _| s.moments.skewness()),
    Feature::new("kurtosis", Ratio, Central, "`m4 / m2^2` with moments divided by n (biased, not excess: 3 for a Gaussian); null for a constant", |s, _| s.moments.kurtosis()),
    Feature::new("crest_factor", Ratio, Sums, "`peak / rms`; null where `rms` is 0", |s, _| Some(s.peak() / s.rms())),
    Feature::new("shape_factor", Ratio, Absolute, "`rms / mean_abs`; null where `mean_abs` is 0", |s, _| Some(s.rms() / s.absolute.mean)),
    Feature::new("impulse_factor", Ratio, Absolute, "`peak / mean_abs`; null where `mean_abs` is 0", |s, _| Some(s.peak() / s.absolute.mean)),
    Feature::new("clearance_factor", Ratio, Absolute, "`peak / (sum sqrt(|x|) / n)^2`, of the values less their mean with `remove_mean`; null where all are 0", |s, _| Some(s.peak() / (s.absolute.mean_root * s.absolute.mean_root))),
    Feature::new("first", Same, Sums, "first value that is not null", |s, _| s.values.first().copied()),
    Feature::new("last", Same, Sums, "last value that is not null", |s, _| s.values.last().copied()),
    Feature::new("length", Count, Sums, "tsfresh: number of values that are not null; null where there is none, otherwise `count`", |s, _| Some(number(s.len()))),
    Feature::new("sum_values", Same, Sums, "tsfresh: `sum x`", |s, _| Some(s.moments.mean * s.moments.n)),
    Feature::new("abs_energy", Squared, Sums, "tsfresh: `sum x^2`", |s, _| Some(s.moments.mean_square * s.moments.n)),
    Feature::new("root_mean_square", Same, Sums, "tsfresh: `sqrt(sum x^2 / n)`, whatever `remove_mean` says", |s, _| Some(s.moments.mean_square.sqrt())),
    Feature::new("minimum", Same, Sums, "tsfresh: `min`", |s, _| Some(s.moments.min)),
    Feature::new("maximum", Same, Sums, "tsfresh: `max`", |s, _| Some(s.moments.max)),
    Feature::new("absolute_maximum", Same, Sums, "tsfresh: `max |x|`, whatever `remove_mean` says", |s, _| Some(s.moments.max.abs().max(s.moments.min.abs()))),
    Feature::new("variance", Squared, Central, "tsfresh: `m2`, the variance divided by n (`var` divides by n - 1)", |s, _| Some(s.moments.m2)),
    Feature::new("standard_deviation", Same, Central, "tsfresh: `sqrt(m2)`, divided by n (`std` divides by n - 1)", |s, _| Some(s.moments.m2.sqrt())),
    Feature::new("variation_coefficient", Ratio, Central, "tsfresh: `sqrt(m2) / mean`; null where the mean is 0", |s, _| Some(s.moments.m2.sqrt() / s.moments.mean)),
];
