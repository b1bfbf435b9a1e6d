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

pub(crate) fn low_pass(rows: &Rows) -> Counts {
    // SciPy: butter(4, 1, fs=10, output='sos')
    const SECTIONS: [[f64; 5]; 2] = [
        [
            0.004_824_343_357_716_229,
            0.009_648_686_715_432_457,
            0.004_824_343_357_716_229,
            -1.048_599_576_362_612,
            0.296_140_357_561_669_7,
        ],
        [1.0, 2.0, 1.0, -1.320_913_430_819_426_3, 0.632_738_792_885_276_5],
    ];
    each(rows, [[0.0; 2]; 2], |state, x, out| {
        for &x in x {
            let mut y = x;
            for ([b0, b1, b2, a1, a2], z) in SECTIONS.iter().zip(state.iter_mut()) {
                let into = y;
                y = b0 * into + z[0];
                z[0] = b1 * into - a1 * y + z[1];
                z[1] = b2 * into - a2 * y;
            }
            out.push(y);
        }
    })
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
