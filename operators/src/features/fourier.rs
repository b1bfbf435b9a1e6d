//! Single coefficients of the discrete Fourier transform. Whole spectra are the business of other steps.

use std::f64::consts::{PI, TAU};

use super::sample::{Sample, number};
use super::{Args, Feature, Needs, Param, ParamKind, Theme, UnitRule};
use Needs::Sums;
use UnitRule::{Degrees, Same};

pub(super) const THEME: Theme = Theme { title: "Fourier coefficients", features: TABLE };

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
];

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
