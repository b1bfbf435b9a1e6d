//! The loops of steps that shape rows.

use super::super::cases::Counts;
use super::super::rows::Rows;
use super::each;

pub(crate) fn deadband(rows: &Rows) -> Counts {
    each(rows, None, |last: &mut Option<f64>, x, out| {
        for &x in x {
            if last.is_none_or(|last| (x - last).abs() > 0.5) {
                *last = Some(x);
                out.push(x);
            }
        }
    })
}

pub(crate) fn rate_limit(rows: &Rows) -> Counts {
    each(rows, 0_u8, |behind, x, out| {
        for &x in x {
            if *behind == 0 {
                out.push(x);
            }
            *behind = (*behind + 1) % 10;
        }
    })
}
