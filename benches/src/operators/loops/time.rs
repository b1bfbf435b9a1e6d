//! The loops of steps in time.

use arrow::array::AsArray;

use super::super::cases::Counts;
use super::super::rows::{Rows, STEP};
use super::{MACHINES, X, each, each_run};

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

/// A value and when it was.
type Point = (i64, f64);

/// Puts out the points of a grid on the line to a value.
fn line(from: Option<Point>, to: Point, every: i64, mut out: impl FnMut(i64, f64)) {
    let Some((start, y)) = from else {
        if to.0 % every == 0 {
            out(to.0, to.1);
        }
        return;
    };
    let slope = (to.1 - y) / (to.0 - start) as f64;
    let mut at = start - start % every + every;
    while at <= to.0 {
        out(at, y + slope * (at - start) as f64);
        at += every;
    }
}

pub(crate) fn align(rows: &Rows) -> Counts {
    let mut lasts = vec![[None; 2]; MACHINES];
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let (times, values) = (part.times(), part.values(X));
        let sensors = part.batch.rows.column(3).as_string::<i32>();
        let mut out: [(Vec<i64>, Vec<f64>); 2] = Default::default();
        for &(machine, start, end) in &part.groups {
            for at in start..end {
                let side = usize::from(sensors.value(at) != "u");
                let point = (times[at], values[at]);
                let (ts, ys) = &mut out[side];
                line(lasts[machine][side].replace(point), point, STEP, |at, y| {
                    ts.push(at);
                    ys.push(y);
                });
            }
        }
        counts.add(&out[0].1);
        std::hint::black_box(&out);
    }
    counts
}

pub(crate) fn fill_linear(rows: &Rows) -> Counts {
    let fresh: (Option<Point>, Vec<i64>) = (None, Vec::new());
    each_run(rows, fresh, |(last, waiting), run, out| {
        for (&at, &x) in run.times.iter().zip(run.x) {
            if x.is_nan() {
                waiting.push(at);
                continue;
            }
            let (start, y) = last.unwrap_or((at, x));
            let near = at - start <= 10 * STEP && last.is_some();
            let slope = (x - y) / (at - start) as f64;
            let filled = waiting.drain(..).filter(|_| near);
            out.extend(filled.map(|at| y + slope * (at - start) as f64));
            out.push(x);
            *last = Some((at, x));
        }
    })
}

pub(crate) fn fill_previous(rows: &Rows) -> Counts {
    each(rows, None, |last: &mut Option<f64>, x, out| {
        for &x in x {
            if !x.is_nan() {
                *last = Some(x);
            }
            out.extend(*last);
        }
    })
}

pub(crate) fn gaps(rows: &Rows) -> Counts {
    each_run(rows, None, |last: &mut Option<i64>, run, out| {
        let mut stretches = Vec::new();
        for &at in run.times {
            if let Some(last) = last.filter(|last| at - last > 100 * STEP) {
                stretches.push((run.machine, last, at));
                out.push((at - last) as f64 / 1e9);
            }
            *last = Some(at);
        }
        std::hint::black_box(stretches);
    })
}

pub(crate) fn gap_lengths(rows: &Rows) -> Counts {
    each_run(rows, None, |last: &mut Option<i64>, run, out| {
        for &at in run.times {
            out.extend(last.map(|last| (at - last) as f64 / 1e9));
            *last = Some(at);
        }
    })
}

pub(crate) fn resample(rows: &Rows) -> Counts {
    each_run(rows, None, |last: &mut Option<Point>, run, out| {
        let mut ts = Vec::with_capacity(run.x.len());
        for (&at, &x) in run.times.iter().zip(run.x) {
            line(last.replace((at, x)), (at, x), 250_000_000, |at, y| {
                ts.push(at);
                out.push(y);
            });
        }
        std::hint::black_box(ts);
    })
}

/// Nanoseconds of a day.
const DAY: i64 = 86_400_000_000_000;

pub(crate) fn day_circle(rows: &Rows) -> Counts {
    each_run(rows, (), |(), run, out| {
        let part = |at: &i64| at.rem_euclid(DAY) as f64 / DAY as f64;
        out.extend(run.times.iter().map(|at| (std::f64::consts::TAU * part(at)).sin()));
    })
}

pub(crate) fn hour(rows: &Rows) -> Counts {
    each_run(rows, (), |(), run, out| {
        out.extend(run.times.iter().map(|at| (at.rem_euclid(DAY) / (DAY / 24)) as f64));
    })
}

pub(crate) fn operating_hours(rows: &Rows) -> Counts {
    let mut states: Vec<(i64, Option<i64>)> = vec![(0, None); MACHINES];
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let (times, on) = (part.times(), part.on());
        let mut out = Vec::with_capacity(times.len());
        for &(machine, start, end) in &part.groups {
            let (total, running) = &mut states[machine];
            for (at, &time) in (start..end).zip(&times[start..end]) {
                *total += running.map_or(0, |since| time - since);
                *running = on.value(at).then_some(time);
                out.push(*total as f64 / (DAY / 24) as f64);
            }
        }
        counts.add(&out);
    }
    counts
}
