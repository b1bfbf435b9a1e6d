//! Single coefficients of a continuous wavelet transform.

use std::f64::consts::PI;
use std::sync::OnceLock;

use super::sample::{Sample, number};
use super::{Args, Feature, Needs, Param, ParamKind, Theme, UnitRule};
use crate::signal::place;
use Needs::Sums;
use UnitRule::Same;

pub(super) const THEME: Theme = Theme { title: "Wavelets", features: TABLE };

/// Where the wavelet ends on both sides, and how many places it is known at.
const END: f64 = 8.0;
const N_PLACES: usize = 4096;

#[rustfmt::skip]
const TABLE: &[Feature] = &[
    Feature::new("cwt_coefficients", Same, Sums, "tsfresh: coefficient number `coeff` of the continuous transform with the Ricker (Mexican hat) wavelet `2 / (sqrt(3) pi^(1/4)) (1 - t^2) exp(-t^2 / 2)` of width `w`, as PyWavelets takes it: the wavelet's integral at 4,096 places, the nearest below for each value; null beyond the last value", coefficient).with(&[
        Param::needed("coeff", ParamKind::Whole(0, 1_000_000), "the number of the value that the wavelet is at, from 0"),
        Param::needed("w", ParamKind::Whole(1, 10_000), "the width, in values"),
    ]),
];

fn coefficient(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let (at, width) = (args.whole(0), number(args.whole(1)));
    if at >= sample.len() {
        return None;
    }
    let (integral, step) = integral();
    let step = width * step;
    let n_taps = 16 * args.whole(1) + 1;
    // Rounding may lead beyond the last place, and the tap is then left out.
    let n_taps = (0..n_taps).rposition(|tap| place(number(tap) / step) < integral.len())? + 1;
    let tap = |i: usize| integral[place(number(n_taps - 1 - i) / step)];
    let convolved = |at: usize| -> f64 {
        let first = (at + 1).saturating_sub(n_taps);
        let values = sample.values.iter().enumerate().take(at + 1).skip(first);
        values.map(|(i, x)| x * tap(at - i)).sum()
    };
    let centre = at + (n_taps - 2) / 2;
    Some(-width.sqrt() * (convolved(centre + 1) - convolved(centre)))
}

/// The integral of the wavelet up to each of its places, and how far they are apart.
fn integral() -> (&'static [f64], f64) {
    static INTEGRAL: OnceLock<Vec<f64>> = OnceLock::new();
    let apart = 2.0 * END / number(N_PLACES - 1);
    // As far apart as the first two are after rounding, which is what PyWavelets takes.
    let step = (apart - END) + END;
    let integral = INTEGRAL.get_or_init(|| {
        let scale = 2.0 / (3.0_f64.sqrt() * PI.sqrt().sqrt());
        let mut sum = 0.0;
        let each = (0..N_PLACES).map(|i| {
            let t = number(i) * apart - END;
            sum += (1.0 - t * t) * libm::exp(-t * t / 2.0) * scale;
            sum * step
        });
        each.collect()
    });
    (integral, step)
}
