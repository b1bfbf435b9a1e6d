//! The loops of steps that smooth.

use super::super::cases::Counts;
use super::super::rows::{Rows, STEP};
use super::{each, median, trailing};

pub(crate) fn clip(rows: &Rows) -> Counts {
    each(rows, (), |(), x, out| out.extend(x.iter().map(|x| x.clamp(1.5, 2.5))))
}

pub(crate) fn ema(rows: &Rows) -> Counts {
    each(rows, None, |state: &mut Option<f64>, x, out| {
        for &x in x {
            let y = state.map_or(x, |y| y + 0.1 * (x - y));
            *state = Some(y);
            out.push(y);
        }
    })
}

pub(crate) fn ema_timed(rows: &Rows) -> Counts {
    let weight = 1.0 - (-(STEP as f64) / 3e9).exp2();
    each(rows, None, |state: &mut Option<f64>, x, out| {
        for &x in x {
            let y = state.map_or(x, |y| y + weight * (x - y));
            *state = Some(y);
            out.push(y);
        }
    })
}

pub(crate) fn hampel(rows: &Rows) -> Counts {
    trailing::<15>(rows, |window| {
        let x = window[window.len() - 1];
        let mut sorted = [0.0; 15];
        let sorted = &mut sorted[..window.len()];
        sorted.copy_from_slice(window);
        let middle = median(sorted);
        sorted.iter_mut().for_each(|v| *v = (*v - middle).abs());
        let far = (x - middle).abs() > 3.0 * 1.4826 * median(sorted);
        if far && window.len() >= 3 { middle } else { x }
    })
}

pub(crate) fn kalman(rows: &Rows) -> Counts {
    each(rows, None, |state: &mut Option<(f64, f64)>, x, out| {
        for &x in x {
            let (level, variance) = state.map_or((x, 0.25), |(level, variance)| {
                let k = (variance + 0.01) / (variance + 0.01 + 0.25);
                (level + k * (x - level), k * 0.25)
            });
            *state = Some((level, variance));
            out.push(level);
        }
    })
}

/// A filter of second-order sections: `b0, b1, b2, a1, a2` of each.
fn filter<const N: usize>(rows: &Rows, sections: [[f64; 5]; N]) -> Counts {
    each(rows, [[0.0; 2]; N], |state, x, out| {
        for &x in x {
            let mut y = x;
            for ([b0, b1, b2, a1, a2], z) in sections.iter().zip(state.iter_mut()) {
                let into = y;
                y = b0 * into + z[0];
                z[0] = b1 * into - a1 * y + z[1];
                z[1] = b2 * into - a2 * y;
            }
            out.push(y);
        }
    })
}

/// SciPy: `butter(2, [0.5, 2], 'bandpass', fs=10, output='sos')`.
pub(crate) fn band_pass(rows: &Rows) -> Counts {
    filter(
        rows,
        [
            [
                0.131_106_439_916_626_02,
                0.262_212_879_833_252_03,
                0.131_106_439_916_626_02,
                -0.578_864_087_474_264,
                0.384_129_906_225_785_1,
            ],
            [1.0, -2.0, 1.0, -1.601_793_751_128_535_2, 0.708_653_331_888_727_8],
        ],
    )
}

/// SciPy: `butter(4, 1, 'highpass', fs=10, output='sos')`.
pub(crate) fn high_pass(rows: &Rows) -> Counts {
    filter(
        rows,
        [
            [
                0.432_846_644_990_291_74,
                -0.865_693_289_980_583_5,
                0.432_846_644_990_291_74,
                -1.048_599_576_362_611_7,
                0.296_140_357_561_669_6,
            ],
            [1.0, -2.0, 1.0, -1.320_913_430_819_426, 0.632_738_792_885_276_1],
        ],
    )
}

/// SciPy: `butter(4, 1, fs=10, output='sos')`.
pub(crate) fn low_pass(rows: &Rows) -> Counts {
    filter(
        rows,
        [
            [
                0.004_824_343_357_716_228,
                0.009_648_686_715_432_456,
                0.004_824_343_357_716_228,
                -1.048_599_576_362_611_7,
                0.296_140_357_561_669_6,
            ],
            [1.0, 2.0, 1.0, -1.320_913_430_819_426_4, 0.632_738_792_885_276_6],
        ],
    )
}

pub(crate) fn monotone(rows: &Rows) -> Counts {
    each(rows, f64::MIN, |most, x, out| {
        for &x in x {
            *most = most.max(x);
            out.push(*most);
        }
    })
}

pub(crate) fn moving_average(rows: &Rows) -> Counts {
    trailing::<20>(rows, |window| window.iter().sum::<f64>() / window.len() as f64)
}

pub(crate) fn moving_median(rows: &Rows) -> Counts {
    trailing::<9>(rows, |window| {
        let mut sorted = [0.0; 9];
        let sorted = &mut sorted[..window.len()];
        sorted.copy_from_slice(window);
        median(sorted)
    })
}

/// SciPy: `savgol_coeffs(15, 2, pos=14, use='dot')`; oldest first.
pub(crate) fn savitzky_golay(rows: &Rows) -> Counts {
    const WEIGHTS: [f64; 15] = [
        0.114_705_882_352_942_82,
        0.044_117_647_058_823_733,
        -0.011_764_705_882_353_15,
        -0.052_941_176_470_588_935,
        -0.079_411_764_705_883_38,
        -0.091_176_470_588_236_44,
        -0.088_235_294_117_648_13,
        -0.070_588_235_294_118_53,
        -0.038_235_294_117_647_56,
        0.008_823_529_411_764_772,
        0.070_588_235_294_118_59,
        0.147_058_823_529_413_55,
        0.238_235_294_117_65,
        0.344_117_647_058_827_64,
        0.464_705_882_352_946_85,
    ];
    each(rows, Vec::new(), |kept: &mut Vec<f64>, x, out| {
        kept.extend_from_slice(x);
        let fit = |window: &[f64]| window.iter().zip(&WEIGHTS).map(|(x, w)| x * w).sum::<f64>();
        out.extend(kept.windows(15).map(fit));
        kept.drain(..kept.len().saturating_sub(14));
    })
}
