//! The loops of steps that detect.

use super::super::cases::Counts;
use super::super::rows::Rows;
use super::each;

pub(crate) fn cusum(rows: &Rows) -> Counts {
    each(rows, (0.0_f64, 0.0_f64), |state, x, out| {
        for &x in x {
            state.0 = (state.0 + x - 2.1).max(0.0);
            state.1 = (state.1 + 1.9 - x).max(0.0);
            out.push(state.0);
        }
    })
}

pub(crate) fn ewma_chart(rows: &Rows) -> Counts {
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

pub(crate) fn k_of_n(rows: &Rows) -> Counts {
    each(rows, 0_u8, |last, x, out| {
        for &x in x {
            *last = (*last << 1 | u8::from(x > 1.5)) & 0b1_1111;
            out.push(f64::from(u8::from(last.count_ones() >= 3)));
        }
    })
}

pub(crate) fn page_hinkley(rows: &Rows) -> Counts {
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

pub(crate) fn threshold(rows: &Rows) -> Counts {
    each(rows, false, |raised, x, out| {
        for &x in x {
            *raised = if *raised { x > 2.0 } else { x > 2.5 };
            out.push(f64::from(u8::from(*raised)));
        }
    })
}
