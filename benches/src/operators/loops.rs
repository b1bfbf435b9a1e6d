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
    const N: usize = 20;
    each(rows, Vec::new(), |kept: &mut Vec<f64>, x, out| {
        let before = kept.len();
        kept.extend_from_slice(x);
        for end in before + 1..=kept.len() {
            let window = &kept[end.saturating_sub(N)..end];
            out.push(window.iter().sum::<f64>() / window.len() as f64);
        }
        kept.drain(..kept.len().saturating_sub(N - 1));
    })
}
