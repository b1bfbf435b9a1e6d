//! Coefficients of the discrete Fourier transform, and figures of whole spectra. Spectra over frequencies are the business
//! of other steps: here a line is known by its number, as tsfresh has it, which knows no sampling rate.

use std::f64::consts::{PI, TAU};

use super::sample::{Sample, number};
use super::{Args, Feature, Needs, Param, ParamKind, Theme, UnitRule};
use crate::signal::fourier::Fourier;
use crate::signal::taper::Taper;
use crate::signal::welch::Welch;
use Needs::Sums;
use UnitRule::{Degrees, Ratio, Same, Squared};

pub(super) const THEME: Theme = Theme { title: "Fourier transform", features: TABLE };

const COEFF: Param = Param::needed(
    "coeff",
    ParamKind::Whole(0, 1_000_000),
    "the number k of the coefficient; 0 is the sum",
);

#[rustfmt::skip]
const TABLE: &[Feature] = &[
    Feature::new("fft_coefficient_real", Same, Sums, "tsfresh: real part of `sum x[i] exp(-2 pi j k i / n)`; null where `k > n / 2`, as all of `fft_coefficient`", |s, a| Some(coefficient(s, a)?.0)).with(&[COEFF]),
    Feature::new("fft_coefficient_imag", Same, Sums, "tsfresh: imaginary part of it", |s, a| Some(coefficient(s, a)?.1)).with(&[COEFF]),
    Feature::new("fft_coefficient_abs", Same, Sums, "tsfresh: absolute value of it", |s, a| coefficient(s, a).map(|(re, im)| libm::hypot(re, im))).with(&[COEFF]),
    Feature::new("fft_coefficient_angle", Degrees, Sums, "tsfresh: angle of it, -180 to 180", |s, a| coefficient(s, a).map(|(re, im)| libm::atan2(im, re) * 180.0 / PI)).with(&[COEFF]),
    Feature::new("fft_aggregated_centroid", Ratio, Sums, "tsfresh: mean number of a line, each weighed with its absolute value; null where all are 0", |s, _| Some(Lines::of(s).centroid)),
    Feature::new("fft_aggregated_variance", Ratio, Sums, "tsfresh: variance of it", |s, _| Some(Lines::of(s).variance)),
    Feature::new("fft_aggregated_skew", Ratio, Sums, "tsfresh: skewness of it; null where the variance is below 0.5", |s, _| Lines::of(s).skew()),
    Feature::new("fft_aggregated_kurtosis", Ratio, Sums, "tsfresh: `(e4 - 4 e1 e3 + 6 e2 e1^2 - 3 e1) / variance^2`, `e1` to `e4` the means of its powers; its last term is no `e1^4`, so it is no kurtosis; null where the variance is below 0.5", |s, _| Lines::of(s).kurtosis()),
    Feature::new("spkt_welch_density", Squared, Sums, "tsfresh: power spectral density of a line by Welch's method: Hann-weighted segments of 256 values, or of all where there are fewer, that overlap by half, at a rate of one value a unit; null beyond the last line", |s, a| density(s.values).get(a.whole(0)).copied()).with(&[
        Param::needed("coeff", ParamKind::Whole(0, 128), "the number of the line; 0 is what is left of the mean"),
    ]),
];

/// Values of a segment of Welch's method, at most.
const MAX_SEGMENT: usize = 256;

/// Power spectral density by Welch's method.
pub(super) fn density(values: &[f64]) -> Vec<f64> {
    let segment = values.len().min(MAX_SEGMENT);
    Welch::new(segment, segment / 2, Taper::Hann).density(values, 1.0).to_vec()
}

/// Means of powers of the numbers of lines, each weighed with its absolute value.
#[derive(Debug)]
struct Lines {
    centroid: f64,
    variance: f64,
    second: f64,
    third: f64,
    fourth: f64,
}

impl Lines {
    fn of(sample: &Sample<'_>) -> Self {
        let mut fourier = Fourier::default();
        let plan = fourier.plan(sample.len());
        plan.fill(sample.values, |x, _| x);
        plan.forward();
        let mut sums = [0.0; 5];
        for (k, line) in plan.lines.iter().enumerate() {
            let (mut weighed, k) = (libm::hypot(line.re, line.im), number(k));
            for sum in &mut sums {
                *sum += weighed;
                weighed *= k;
            }
        }
        let [centroid, second, third, fourth] = [1, 2, 3, 4].map(|power| sums[power] / sums[0]);
        Lines { centroid, variance: second - centroid * centroid, second, third, fourth }
    }

    fn spreads(&self) -> bool {
        self.variance >= 0.5
    }

    fn skew(&self) -> Option<f64> {
        let (mean, variance) = (self.centroid, self.variance);
        let third = self.third - 3.0 * mean * variance - mean * mean * mean;
        self.spreads().then(|| third / (variance * variance.sqrt()))
    }

    fn kurtosis(&self) -> Option<f64> {
        let (mean, variance) = (self.centroid, self.variance);
        let fourth = self.fourth - 4.0 * mean * self.third + 6.0 * self.second * mean * mean;
        self.spreads().then(|| (fourth - 3.0 * mean) / (variance * variance))
    }
}

/// Real and imaginary part. The angle of each value is taken anew from a whole number, so that it does not drift.
fn coefficient(sample: &Sample<'_>, args: &Args) -> Option<(f64, f64)> {
    let (k, n) = (args.whole(0), sample.len());
    if k > n / 2 {
        return None;
    }
    let (mut re, mut im, mut turn) = (0.0, 0.0, 0);
    for x in sample.values {
        let (sin, cos) = sin_cos_of_turn(turn, n);
        re += x * cos;
        im -= x * sin;
        turn = (turn + k) % n;
    }
    Some((re, im))
}

/// Sine and cosine of `part / n` of a turn; exact at quarters, so that what should cancel does.
fn sin_cos_of_turn(part: usize, n: usize) -> (f64, f64) {
    match (4 * part).is_multiple_of(n).then(|| 4 * part / n) {
        Some(0) => (0.0, 1.0),
        Some(1) => (1.0, 0.0),
        Some(2) => (0.0, -1.0),
        Some(_) => (-1.0, 0.0),
        None => libm::sincos(TAU * number(part) / number(n)),
    }
}
