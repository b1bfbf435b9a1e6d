//! The loops of features of windows.

use super::super::cases::Counts;
use super::super::rows::{Rows, STEP};
use super::{each, each_run, trailing};

/// Windows of so many rows; those of 10 s are the same here.
pub(crate) fn count(rows: &Rows) -> Counts {
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

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub(crate) fn rolling(rows: &Rows) -> Counts {
    trailing::<20>(rows, mean)
}

pub(crate) fn session(rows: &Rows) -> Counts {
    let fresh: (Option<i64>, Vec<f64>) = (None, Vec::new());
    each_run(rows, fresh, |(last, kept), run, out| {
        for (&at, &x) in run.times.iter().zip(run.x) {
            if last.is_some_and(|last| at - last > 100 * STEP) {
                out.push(deviation(kept));
                kept.clear();
            }
            *last = Some(at);
            kept.push(x);
        }
        if run.last {
            out.push(deviation(kept));
        }
    })
}

/// Windows of 100 rows every 10 rows; at both ends there are fewer in them.
pub(crate) fn sliding(rows: &Rows) -> Counts {
    let fresh: (usize, Vec<f64>) = (0, Vec::new());
    each_run(rows, fresh, |(first, kept), run, out| {
        kept.extend_from_slice(run.x);
        let n = *first + kept.len();
        let window = |end: usize| {
            let from = end.saturating_sub(100).max(*first) - *first;
            mean(&kept[from..end.min(n) - *first])
        };
        let seen = n - run.x.len();
        let next = seen - seen % 10 + 10;
        let until = if run.last { n + 90 } else { n };
        out.extend((next..=until).step_by(10).map(window));
        let gone = kept.len().saturating_sub(100);
        kept.drain(..gone);
        *first += gone;
    })
}
