//! Where in the window its extremes and its energy are, and how far values are from the mean.

use super::sample::{Sample, count, flag, number, share};
use super::{Args, Feature, Needs, Param, ParamKind, Theme, UnitRule};
use Needs::{Central, Sums};
use UnitRule::{Flag, Ratio};

pub(super) const THEME: Theme = Theme { title: "Location and tails", features: TABLE };

#[rustfmt::skip]
const TABLE: &[Feature] = &[
    Feature::new("first_location_of_minimum", Ratio, Sums, "tsfresh: number of the first least value, from 0, / n", |s, _| share(first(s.values, s.moments.min)?, s.len())),
    Feature::new("last_location_of_minimum", Ratio, Sums, "tsfresh: number of the last least value, from 1, / n", |s, _| share(last(s.values, s.moments.min)? + 1, s.len())),
    Feature::new("first_location_of_maximum", Ratio, Sums, "tsfresh: number of the first greatest value, from 0, / n", |s, _| share(first(s.values, s.moments.max)?, s.len())),
    Feature::new("last_location_of_maximum", Ratio, Sums, "tsfresh: number of the last greatest value, from 1, / n", |s, _| share(last(s.values, s.moments.max)? + 1, s.len())),
    Feature::new("has_duplicate_max", Flag, Sums, "tsfresh: whether the greatest value is there more than once", |s, _| Some(flag(count(s.values, |x| x == s.moments.max) > 1))),
    Feature::new("has_duplicate_min", Flag, Sums, "tsfresh: whether the least value is there more than once", |s, _| Some(flag(count(s.values, |x| x == s.moments.min) > 1))),
    Feature::new("index_mass_quantile", Ratio, Sums, "tsfresh: share of the values, from the first on, that make up the share q of `sum |x|`; null where all are 0", index_mass_quantile).with(&[
        Param::needed("q", ParamKind::Number(0.0, 1.0), "the share of the mass"),
    ]),
    Feature::new("energy_ratio_by_chunks", Ratio, Sums, "tsfresh: `sum x^2` of a chunk / `sum x^2` of all; the first chunks are longer by one value where n is no multiple", energy_ratio).with(&[
        Param::needed("segment_focus", ParamKind::Whole(0, 9_999), "which chunk, from 0"),
        Param::needed("num_segments", ParamKind::Whole(1, 10_000), "into how many chunks the window is cut"),
    ]).ascending(),
    Feature::new("ratio_beyond_r_sigma", Ratio, Central, "tsfresh: share of values with `|x - mean| > r sqrt(m2)`", ratio_beyond_sigma).with(&[
        Param::needed("r", ParamKind::Number(0.0, f64::MAX), "how many standard deviations"),
    ]),
    Feature::new("large_standard_deviation", Flag, Central, "tsfresh: whether `sqrt(m2) > r (max - min)`", |s, a| Some(flag(s.moments.m2.sqrt() > a.number(0) * (s.moments.max - s.moments.min)))).with(&[
        Param::needed("r", ParamKind::Number(0.0, f64::MAX), "the share of the range"),
    ]),
    Feature::new("variance_larger_than_standard_deviation", Flag, Central, "tsfresh: whether `m2 > sqrt(m2)`; depends on the unit", |s, _| Some(flag(s.moments.m2 > s.moments.m2.sqrt()))),
];

fn first(values: &[f64], value: f64) -> Option<usize> {
    values.iter().position(|&x| x == value)
}

fn last(values: &[f64], value: f64) -> Option<usize> {
    values.iter().rposition(|&x| x == value)
}

fn index_mass_quantile(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let mass: f64 = sample.values.iter().map(|x| x.abs()).sum();
    let (mut reached, mut n) = (0.0, 0);
    for x in sample.values {
        reached += x.abs();
        n += 1;
        if reached / mass >= args.number(0) {
            break;
        }
    }
    (mass > 0.0).then(|| share(n, sample.len())).flatten()
}

fn energy_ratio(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let (focus, n_chunks) = (args.whole(0), args.whole(1));
    let (least, longer) = (sample.len() / n_chunks, sample.len() % n_chunks);
    let start = focus * least + focus.min(longer);
    let end = start + least + usize::from(focus < longer);
    let energy: f64 = sample.values[start..end].iter().map(|x| x * x).sum();
    Some(energy / (sample.moments.mean_square * sample.moments.n))
}

fn ratio_beyond_sigma(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let m = &sample.moments;
    let limit = args.number(0) * m.m2.sqrt();
    let beyond = count(sample.values, |x| (x - m.mean).abs() > limit);
    Some(number(beyond) / m.n)
}
