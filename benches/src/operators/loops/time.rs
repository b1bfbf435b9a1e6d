//! The loops of steps in time.

use super::super::cases::Counts;
use super::super::rows::{Rows, STEP};
use super::each;

pub(crate) fn difference(rows: &Rows) -> Counts {
    each(rows, None, |last: &mut Option<f64>, x, out| {
        for &x in x {
            out.extend(last.map(|last| x - last));
            *last = Some(x);
        }
    })
}

pub(crate) fn integrate(rows: &Rows) -> Counts {
    let half = STEP as f64 / 2e9;
    each(rows, None, |state: &mut Option<(f64, f64)>, x, out| {
        for &x in x {
            let sum = state.map_or(0.0, |(sum, last)| sum + half * (x + last));
            *state = Some((sum, x));
            out.push(sum);
        }
    })
}

pub(crate) fn lag(rows: &Rows) -> Counts {
    each(rows, Vec::new(), |kept: &mut Vec<f64>, x, out| {
        kept.extend_from_slice(x);
        let n = kept.len().saturating_sub(10);
        out.extend_from_slice(&kept[..n]);
        kept.drain(..n);
    })
}

pub(crate) fn rate(rows: &Rows) -> Counts {
    let step = STEP as f64 / 1e9;
    each(rows, None, |last: &mut Option<f64>, x, out| {
        for &x in x {
            out.extend(last.map(|last| (x - last) / step));
            *last = Some(x);
        }
    })
}
