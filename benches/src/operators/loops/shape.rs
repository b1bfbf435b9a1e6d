//! The loops of steps that shape rows.
//!
//! Where whole rows are the result, the loop puts all their columns into vectors.

use arrow::array::{Array, AsArray};
use arrow::buffer::BooleanBuffer;

use super::super::cases::Counts;
use super::super::rows::{Part, Rows, STEP};
use super::{MACHINES, X};

/// Column `y`.
const Y: usize = 3;

/// Rows that came out, by column.
#[derive(Default)]
pub(super) struct Table {
    machine: Vec<u32>,
    ts: Vec<i64>,
    pub(super) x: Vec<f64>,
    y: Vec<f64>,
    on: Vec<bool>,
}

/// A row of the readings.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) machine: u32,
    pub(super) ts: i64,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) on: bool,
}

impl Table {
    pub(super) fn push(&mut self, row: &Row) {
        self.machine.push(row.machine);
        self.ts.push(row.ts);
        self.x.push(row.x);
        self.y.push(row.y);
        self.on.push(row.on);
    }

    /// Sums `x`; the other columns are there, too.
    pub(super) fn count(self, counts: &mut Counts) {
        counts.add(&self.x);
        std::hint::black_box(self);
    }
}

/// The columns of the readings in an epoch.
pub(super) struct Readings<'a> {
    ts: &'a [i64],
    x: &'a [f64],
    y: &'a [f64],
    on: &'a BooleanBuffer,
    key_hash: &'a [u64],
}

impl<'a> Readings<'a> {
    pub(super) fn of(part: &'a Part) -> Self {
        Readings {
            ts: part.times(),
            x: part.values(X),
            y: part.values(Y),
            on: part.on().values(),
            key_hash: part.batch.key_hash.values(),
        }
    }

    pub(super) fn row(&self, machine: u32, at: usize) -> Row {
        let (ts, x, y) = (self.ts[at], self.x[at], self.y[at]);
        Row { machine, ts, x, y, on: self.on.value(at) }
    }
}

/// Keeps the rows that a loop chooses, with a state a machine.
fn chosen<S: Clone>(
    rows: &Rows,
    fresh: S,
    mut passes: impl FnMut(&mut S, &Readings<'_>, usize) -> bool,
) -> Counts {
    let mut states = vec![fresh; MACHINES];
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let readings = Readings::of(part);
        let mut out = Table::default();
        for &(machine, start, end) in &part.groups {
            let state = &mut states[machine];
            let machine = u32::try_from(machine).expect("few machines");
            for at in start..end {
                if passes(state, &readings, at) {
                    out.push(&readings.row(machine, at));
                }
            }
        }
        out.count(&mut counts);
    }
    counts
}

/// Makes a column from those of an epoch.
fn column(rows: &Rows, job: impl Fn(&Part) -> Vec<f64>) -> Counts {
    let mut counts = Counts::default();
    rows.epochs.iter().for_each(|part| counts.add(&job(part)));
    counts
}

pub(crate) fn cast_text(rows: &Rows) -> Counts {
    column(rows, |part| {
        let texts = part.batch.rows.column(X).as_string::<i32>();
        let text = |at| texts.value(at).parse().expect("a number");
        (0..texts.len()).map(text).collect()
    })
}

pub(crate) fn cast_bool(rows: &Rows) -> Counts {
    column(rows, |part| part.on().values().iter().map(|on| f64::from(u8::from(on))).collect())
}

pub(crate) fn convert(rows: &Rows) -> Counts {
    column(rows, |part| part.values(Y).iter().map(|y| y * 1.8 + 32.0).collect())
}

pub(crate) fn derive(rows: &Rows) -> Counts {
    column(rows, |part| part.values(X).iter().zip(part.values(Y)).map(|(x, y)| x + y).collect())
}

pub(crate) fn explode(rows: &Rows) -> Counts {
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let (times, x, y) = (part.times(), part.values(X), part.values(Y));
        let n = 2 * x.len();
        let mut machines: Vec<u32> = Vec::with_capacity(n);
        let (mut ts, mut values) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut names: Vec<(&str, &str)> = Vec::with_capacity(n);
        for &(machine, start, end) in &part.groups {
            let machine = u32::try_from(machine).expect("few machines");
            for at in start..end {
                machines.extend([machine, machine]);
                ts.extend([times[at], times[at]]);
                values.extend([x[at], y[at]]);
                names.extend([("x", "mm/s"), ("y", "Cel")]);
            }
        }
        counts.add(&values);
        std::hint::black_box((machines, ts, names));
    }
    counts
}

pub(crate) fn filter(rows: &Rows) -> Counts {
    chosen(rows, (), |(), readings, at| readings.on.value(at))
}

pub(crate) fn pivot(rows: &Rows) -> Counts {
    let mut open = vec![(i64::MIN, [f64::NAN; 2]); MACHINES];
    let mut counts = Counts::default();
    for (i, part) in rows.epochs.iter().enumerate() {
        let last = i + 1 == rows.epochs.len();
        let (times, values) = (part.times(), part.values(X));
        let sensors = part.batch.rows.column(3).as_string::<i32>();
        let (mut ts, mut u, mut v) = (Vec::new(), Vec::new(), Vec::new());
        let mut close = |(at, pair): &mut (i64, [f64; 2])| {
            ts.push(*at);
            u.push(pair[0]);
            v.push(pair[1]);
            *pair = [f64::NAN; 2];
        };
        for &(machine, start, end) in &part.groups {
            let open = &mut open[machine];
            for at in start..end {
                if times[at] > open.0 && open.0 > i64::MIN {
                    close(open);
                }
                open.0 = times[at];
                open.1[usize::from(sensors.value(at) != "u")] = values[at];
            }
            if last {
                close(open);
            }
        }
        counts.add(&u);
        std::hint::black_box((ts, v));
    }
    counts
}

/// There is nothing to do but to look at the column.
pub(crate) fn same(rows: &Rows) -> Counts {
    let mut counts = Counts::default();
    rows.epochs.iter().for_each(|part| counts.add(part.values(X)));
    counts
}

pub(crate) fn route(rows: &Rows) -> Counts {
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let ways: Vec<&str> = part
            .values(X)
            .iter()
            .map(|&x| {
                if x > 2.5 {
                    "high"
                } else if x > 1.5 {
                    "middle"
                } else {
                    "low"
                }
            })
            .collect();
        counts.add_texts(&ways);
    }
    counts
}

pub(crate) fn sample_every(rows: &Rows) -> Counts {
    chosen(rows, 0_u8, |seen, _, _| {
        let passes = *seen == 0;
        *seen = (*seen + 1) % 10;
        passes
    })
}

pub(crate) fn sample_share(rows: &Rows) -> Counts {
    chosen(rows, (), |(), readings, at| {
        let time = readings.ts[at].cast_unsigned();
        let mixed = mix(readings.key_hash[at] ^ mix(time));
        ((mixed >> 11) as f64 / (1_u64 << 53) as f64) < 0.1
    })
}

/// The end of splitmix64.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The last row that went on, how steep a line may be from there, and the row that waits.
#[derive(Clone)]
struct Door {
    hinge: (i64, f64),
    slopes: (f64, f64),
    waits: Option<Row>,
}

impl Door {
    fn hang(row: &Row) -> Self {
        let slopes = (f64::NEG_INFINITY, f64::INFINITY);
        Door { hinge: (row.ts, row.x), slopes, waits: None }
    }

    /// Takes a row in; the rows that go on are put out.
    fn take(&mut self, row: Row, out: &mut Table) {
        let slope = |x: f64, hinge: (i64, f64)| (x - hinge.1) / (row.ts - hinge.0) as f64;
        if let Some(waits) = self.waits {
            let too_long = row.ts - self.hinge.0 > 100 * STEP;
            let to_it = slope(row.x, self.hinge);
            if too_long || to_it < self.slopes.0 || to_it > self.slopes.1 {
                out.push(&waits);
                *self = Door::hang(&waits);
            }
        }
        self.slopes.0 = self.slopes.0.max(slope(row.x - 0.5, self.hinge));
        self.slopes.1 = self.slopes.1.min(slope(row.x + 0.5, self.hinge));
        self.waits = Some(row);
    }
}

pub(crate) fn swinging_door(rows: &Rows) -> Counts {
    let mut doors: Vec<Option<Door>> = vec![None; MACHINES];
    let mut counts = Counts::default();
    for (i, part) in rows.epochs.iter().enumerate() {
        let readings = Readings::of(part);
        let mut out = Table::default();
        for &(machine, start, end) in &part.groups {
            let number = u32::try_from(machine).expect("few machines");
            for at in start..end {
                let row = readings.row(number, at);
                if let Some(door) = &mut doors[machine] {
                    door.take(row, &mut out);
                } else {
                    out.push(&row);
                    doors[machine] = Some(Door::hang(&row));
                }
            }
            let waits = doors[machine].as_ref().and_then(|door| door.waits);
            if let Some(row) = waits.filter(|_| i + 1 == rows.epochs.len()) {
                out.push(&row);
            }
        }
        out.count(&mut counts);
    }
    counts
}

pub(crate) fn deadband(rows: &Rows) -> Counts {
    chosen(rows, None, |last: &mut Option<f64>, readings, at| {
        let x = readings.x[at];
        let passes = last.is_none_or(|last| (x - last).abs() > 0.5);
        if passes {
            *last = Some(x);
        }
        passes
    })
}

pub(crate) fn rate_limit(rows: &Rows) -> Counts {
    chosen(rows, None, |last: &mut Option<i64>, readings, at| {
        let ts = readings.ts[at];
        let passes = last.is_none_or(|last| ts - last >= 10 * STEP);
        if passes {
            *last = Some(ts);
        }
        passes
    })
}
