//! The loops of steps that judge values and machines.

use super::super::cases::Counts;
use super::super::rows::{Rows, STEP};
use super::{each, each_run};

pub(crate) fn quality(rows: &Rows) -> Counts {
    let step = STEP as f64 / 1e9;
    each(rows, None, |last: &mut Option<f64>, x, out| {
        let mut tests = Vec::with_capacity(x.len());
        for &x in x {
            let range = if (0.5..=3.5).contains(&x) {
                if (1.2..=2.8).contains(&x) { 1_u8 } else { 3 }
            } else {
                4
            };
            let rate = last.map_or(1, |last| {
                let rate = (x - last).abs() / step;
                if rate > 15.0 {
                    4
                } else if rate > 10.0 {
                    3
                } else {
                    1
                }
            });
            if range < 4 {
                *last = Some(x);
            }
            tests.push(match (range > 1, rate > 1) {
                (true, true) => "range+rate",
                (true, false) => "range",
                (false, true) => "rate",
                (false, false) => "",
            });
            out.push(f64::from(range.max(rate)));
        }
        std::hint::black_box(tests);
    })
}

pub(crate) fn run_state(rows: &Rows) -> Counts {
    each_run(rows, (None, "", 0, 0), |(is_on, state, since, on_since), run, out| {
        let mut states = Vec::with_capacity(run.x.len());
        for (&at, &x) in run.times.iter().zip(run.x) {
            let was_on = *is_on == Some(true);
            if x > 2.0 {
                *is_on = Some(true);
            } else if x <= 1.2 {
                *is_on = Some(false);
            }
            if *is_on == Some(true) && !was_on {
                *on_since = at;
            }
            let next = match *is_on {
                Some(true) if at - *on_since >= 5 * STEP => "running",
                Some(true) => "starting",
                Some(false) => "off",
                None => "unknown",
            };
            if next != *state {
                (*state, *since) = (next, at);
            }
            states.push(next);
            out.push((at - *since) as f64 / 1e9);
        }
        std::hint::black_box(states);
    })
}
