//! The loops: a file a family of steps, and what they share.

pub(super) mod detection;
pub(super) mod features;
pub(super) mod joins;
pub(super) mod quality;
pub(super) mod scaling;
pub(super) mod shape;
pub(super) mod smoothing;
pub(super) mod spectrum;
pub(super) mod time;

use super::cases::Counts;
use super::rows::Rows;

/// Column `x`.
const X: usize = 2;
/// Column `y`.
const Y: usize = 3;
/// Most machines.
const MACHINES: usize = 128;

/// The rows of a machine in an epoch.
struct Run<'a> {
    machine: usize,
    times: &'a [i64],
    x: &'a [f64],
    /// Whether nothing follows.
    last: bool,
}

/// Runs a loop over the rows of each machine, epoch by epoch, with a state a machine.
fn each_run<S: Clone>(
    rows: &Rows,
    fresh: S,
    mut job: impl FnMut(&mut S, Run<'_>, &mut Vec<f64>),
) -> Counts {
    let mut states = vec![fresh; MACHINES];
    let mut counts = Counts::default();
    for (i, part) in rows.epochs.iter().enumerate() {
        let (times, x) = (part.times(), part.values(X));
        let last = i + 1 == rows.epochs.len();
        let mut out = Vec::with_capacity(x.len());
        for &(machine, start, end) in &part.groups {
            let run = Run { machine, times: &times[start..end], x: &x[start..end], last };
            job(&mut states[machine], run, &mut out);
        }
        counts.add(&out);
    }
    counts
}

/// Runs a loop over the values of `x` of each machine, epoch by epoch, with a state a machine.
fn each<S: Clone>(
    rows: &Rows,
    fresh: S,
    mut job: impl FnMut(&mut S, &[f64], &mut Vec<f64>),
) -> Counts {
    each_run(rows, fresh, |state, run, out| job(state, run.x, out))
}

/// As [`each`], over the values of `x` and `y`.
fn each_pair<S: Clone>(
    rows: &Rows,
    fresh: S,
    mut job: impl FnMut(&mut S, &[f64], &[f64], &mut Vec<f64>),
) -> Counts {
    let mut states = vec![fresh; MACHINES];
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let (x, y) = (part.values(X), part.values(Y));
        let mut out = Vec::with_capacity(x.len());
        for &(machine, start, end) in &part.groups {
            job(&mut states[machine], &x[start..end], &y[start..end], &mut out);
        }
        counts.add(&out);
    }
    counts
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

/// The median of a few values, which are put in order.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}
