//! The loops.

use super::cases::Counts;
use super::rows::{Rows, STEP};

/// Column `x`.
const X: usize = 2;
/// Most machines.
const MACHINES: usize = 128;

/// Runs a loop over the values of `x` of each machine, epoch by epoch, with a state a machine.
fn each<S: Clone>(
    rows: &Rows,
    fresh: S,
    mut job: impl FnMut(&mut S, &[f64], &mut Vec<f64>),
) -> Counts {
    let mut states = vec![fresh; MACHINES];
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let x = part.values(X);
        let mut out = Vec::with_capacity(x.len());
        for &(machine, start, end) in &part.groups {
            job(&mut states[machine], &x[start..end], &mut out);
        }
        counts.add(&out);
    }
    counts
}

pub(super) fn ema(rows: &Rows) -> Counts {
    each(rows, None, |state: &mut Option<f64>, x, out| {
        for &x in x {
            let y = state.map_or(x, |y| y + 0.1 * (x - y));
            *state = Some(y);
            out.push(y);
        }
    })
}

pub(super) fn ema_timed(rows: &Rows) -> Counts {
    let weight = 1.0 - (-(STEP as f64) / 3e9).exp2();
    each(rows, None, |state: &mut Option<f64>, x, out| {
        for &x in x {
            let y = state.map_or(x, |y| y + weight * (x - y));
            *state = Some(y);
            out.push(y);
        }
    })
}

pub(super) fn moving_average(rows: &Rows) -> Counts {
    trailing::<20>(rows, |window| window.iter().sum::<f64>() / window.len() as f64)
}

pub(super) fn clip(rows: &Rows) -> Counts {
    each(rows, (), |(), x, out| out.extend(x.iter().map(|x| x.clamp(1.5, 2.5))))
}

pub(super) fn cusum(rows: &Rows) -> Counts {
    each(rows, (0.0_f64, 0.0_f64), |state, x, out| {
        for &x in x {
            state.0 = (state.0 + x - 2.1).max(0.0);
            state.1 = (state.1 + 1.9 - x).max(0.0);
            out.push(state.0);
        }
    })
}

pub(super) fn deadband(rows: &Rows) -> Counts {
    each(rows, None, |last: &mut Option<f64>, x, out| {
        for &x in x {
            if last.is_none_or(|last| (x - last).abs() > 0.5) {
                *last = Some(x);
                out.push(x);
            }
        }
    })
}

pub(super) fn difference(rows: &Rows) -> Counts {
    each(rows, None, |last: &mut Option<f64>, x, out| {
        for &x in x {
            out.extend(last.map(|last| x - last));
            *last = Some(x);
        }
    })
}

pub(super) fn ewma_chart(rows: &Rows) -> Counts {
    each(rows, (2.0_f64, 1.0_f64), |(z, left), x, out| {
        for &x in x {
            *z += 0.1 * (x - *z);
            *left *= 0.81;
            let width = 2.7 * 0.5 * (0.1 / 1.9 * (1.0 - *left)).sqrt();
            std::hint::black_box((*z - 2.0).abs() > width);
            out.push(*z);
        }
    })
}

/// The median of a few values, which are put in order.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// Runs a job over each trailing window of `N` values.
fn trailing<const N: usize>(rows: &Rows, job: impl Fn(&[f64]) -> f64) -> Counts {
    each(rows, Vec::new(), |kept: &mut Vec<f64>, x, out| {
        let before = kept.len();
        kept.extend_from_slice(x);
        for end in before + 1..=kept.len() {
            out.push(job(&kept[end.saturating_sub(N)..end]));
        }
        kept.drain(..kept.len().saturating_sub(N - 1));
    })
}

pub(super) fn hampel(rows: &Rows) -> Counts {
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

pub(super) fn moving_median(rows: &Rows) -> Counts {
    trailing::<9>(rows, |window| {
        let mut sorted = [0.0; 9];
        let sorted = &mut sorted[..window.len()];
        sorted.copy_from_slice(window);
        median(sorted)
    })
}

pub(super) fn integrate(rows: &Rows) -> Counts {
    let half = STEP as f64 / 2e9;
    each(rows, None, |state: &mut Option<(f64, f64)>, x, out| {
        for &x in x {
            let sum = state.map_or(0.0, |(sum, last)| sum + half * (x + last));
            *state = Some((sum, x));
            out.push(sum);
        }
    })
}

pub(super) fn kalman(rows: &Rows) -> Counts {
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

pub(super) fn k_of_n(rows: &Rows) -> Counts {
    each(rows, 0_u8, |last, x, out| {
        for &x in x {
            *last = (*last << 1 | u8::from(x > 1.5)) & 0b1_1111;
            out.push(f64::from(u8::from(last.count_ones() >= 3)));
        }
    })
}

pub(super) fn lag(rows: &Rows) -> Counts {
    each(rows, Vec::new(), |kept: &mut Vec<f64>, x, out| {
        kept.extend_from_slice(x);
        let n = kept.len().saturating_sub(10);
        out.extend_from_slice(&kept[..n]);
        kept.drain(..n);
    })
}

pub(super) fn low_pass(rows: &Rows) -> Counts {
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

pub(super) fn monotone(rows: &Rows) -> Counts {
    each(rows, f64::MIN, |most, x, out| {
        for &x in x {
            *most = most.max(x);
            out.push(*most);
        }
    })
}

pub(super) fn page_hinkley(rows: &Rows) -> Counts {
    each(rows, [0.0; 5], |[n, mean, up, least, down], x, out| {
        for &x in x {
            *n += 1.0;
            *mean += (x - *mean) / *n;
            *up = 0.9999 * *up + x - *mean - 0.005;
            *down = 0.9999 * *down + x - *mean + 0.005;
            *least = least.min(*up);
            out.push(*up - *least);
        }
    })
}

pub(super) fn rate(rows: &Rows) -> Counts {
    let step = STEP as f64 / 1e9;
    each(rows, None, |last: &mut Option<f64>, x, out| {
        for &x in x {
            out.extend(last.map(|last| (x - last) / step));
            *last = Some(x);
        }
    })
}

pub(super) fn rate_limit(rows: &Rows) -> Counts {
    each(rows, 0_u8, |behind, x, out| {
        for &x in x {
            if *behind == 0 {
                out.push(x);
            }
            *behind = (*behind + 1) % 10;
        }
    })
}

pub(super) fn threshold(rows: &Rows) -> Counts {
    each(rows, false, |raised, x, out| {
        for &x in x {
            *raised = if *raised { x > 2.0 } else { x > 2.5 };
            out.push(f64::from(u8::from(*raised)));
        }
    })
}

pub(super) fn window(rows: &Rows) -> Counts {
    const N: usize = 100;
    each(rows, Vec::new(), |kept: &mut Vec<f64>, x, out| {
        kept.extend_from_slice(x);
        let whole = kept.len() - kept.len() % N;
        out.extend(kept[..whole].chunks_exact(N).map(deviation));
        kept.drain(..whole);
    })
}

fn deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0)).sqrt()
}
