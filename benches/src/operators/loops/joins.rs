//! The loops of steps that read two streams, where rows wait until the other stream is as far, or look rows up.

use std::collections::VecDeque;
use std::ops::Range;

use super::super::cases::Counts;
use super::super::inputs;
use super::super::rows::{Part, Rows, STEP};
use super::shape::{Readings, Row, Table};
use super::{MACHINES, X, each_run};

/// The rows of a machine that wait.
#[derive(Clone)]
struct Sides<R> {
    left: VecDeque<Row>,
    right: VecDeque<R>,
    /// The last right row that was not after a left one.
    last: Option<R>,
}

impl<R> Sides<R> {
    fn new() -> Self {
        Sides { left: VecDeque::new(), right: VecDeque::new(), last: None }
    }
}

/// Rows that came out.
#[derive(Default)]
struct Joined {
    left: Table,
    /// What the right stream added.
    z: Vec<f64>,
    /// Which stream a row is from.
    side: Vec<u8>,
}

/// Runs a loop over each machine, epoch by epoch. It is told before which time all rows of both sides are there.
fn both<R: Clone>(
    rows: &Rows,
    right_rows: impl Fn(&Part, u32, Range<usize>) -> Vec<R>,
    mut job: impl FnMut(&mut Sides<R>, [i64; 2], &mut Joined),
) -> Counts {
    let mut states: Vec<Sides<R>> = vec![Sides::new(); MACHINES];
    let mut counts = Counts::default();
    for (i, (left, right)) in rows.epochs.iter().zip(&rows.beside[0].epochs).enumerate() {
        let last = i + 1 == rows.epochs.len();
        let known = |part: &Part, end: usize| if last { i64::MAX } else { part.times()[end - 1] };
        let (readings, mut out) = (Readings::of(left), Joined::default());
        for (&(machine, start, end), other) in left.groups.iter().zip(&right.groups) {
            let state = &mut states[machine];
            let machine = u32::try_from(machine).expect("few machines");
            state.left.extend((start..end).map(|at| readings.row(machine, at)));
            state.right.extend(right_rows(right, machine, other.1..other.2));
            job(state, [known(left, end), known(right, other.2)], &mut out);
        }
        counts.add(if out.z.is_empty() { &out.left.x } else { &out.z });
        std::hint::black_box(&out);
    }
    counts
}

/// Times and values of right rows.
fn times_and_z(part: &Part, _: u32, rows: Range<usize>) -> Vec<(i64, f64)> {
    let times = part.times()[rows.clone()].iter().copied();
    times.zip(part.values(X)[rows].iter().copied()).collect()
}

pub(crate) fn union(rows: &Rows) -> Counts {
    let right_rows = |part: &Part, machine, rows: Range<usize>| {
        let readings = Readings::of(part);
        rows.map(|at| readings.row(machine, at)).collect()
    };
    both(rows, right_rows, |sides: &mut Sides<Row>, known, out| {
        let bound = known[0].min(known[1]);
        loop {
            let left = sides.left.front().map_or(i64::MAX, |row| row.ts);
            let right = sides.right.front().map_or(i64::MAX, |row| row.ts);
            if left.min(right) >= bound {
                break;
            }
            let from_right = right < left;
            let next = if from_right { sides.right.pop_front() } else { sides.left.pop_front() };
            out.left.push(&next.expect("it was looked at"));
            out.side.push(u8::from(from_right));
        }
    })
}

pub(crate) fn asof_join(rows: &Rows) -> Counts {
    both(rows, times_and_z, |sides: &mut Sides<(i64, f64)>, known, out| {
        while let Some(left) = sides.left.pop_front_if(|row| row.ts < known[1]) {
            while let Some(right) = sides.right.pop_front_if(|right| right.0 <= left.ts) {
                sides.last = Some(right);
            }
            let near = sides.last.filter(|right| left.ts - right.0 <= 10 * STEP);
            out.left.push(&left);
            out.z.extend(near.map(|right| right.1));
        }
    })
}

pub(crate) fn interval_join(rows: &Rows) -> Counts {
    both(rows, times_and_z, |sides: &mut Sides<(i64, f64)>, known, out| {
        let whole = |row: &mut Row| row.ts.saturating_add(STEP) < known[1];
        while let Some(left) = sides.left.pop_front_if(whole) {
            while sides.right.pop_front_if(|right| right.0 < left.ts - STEP).is_some() {}
            for right in sides.right.iter().take_while(|right| right.0 <= left.ts + STEP) {
                out.left.push(&left);
                out.z.push(right.1);
            }
        }
    })
}

pub(crate) fn join(rows: &Rows) -> Counts {
    let limits: Vec<f64> = (0..MACHINES).map(inputs::limit_of).collect();
    each_run(rows, (), |_: &mut (), run, out| {
        out.extend(std::iter::repeat_n(limits[run.machine], run.x.len()));
    })
}
