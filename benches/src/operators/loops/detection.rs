//! The loops of steps that detect.

mod adwin;
mod profile;
mod trees;

pub(crate) use adwin::adwin;
pub(crate) use profile::matrix_profile;
pub(crate) use trees::half_space_trees;

use super::super::cases::Counts;
use super::super::rows::Rows;
use super::{each, each_pair};

pub(crate) fn cusum(rows: &Rows) -> Counts {
    each(rows, (0.0_f64, 0.0_f64), |state, x, out| {
        for &x in x {
            state.0 = (state.0 + x - 2.1).max(0.0);
            state.1 = (state.1 + 1.9 - x).max(0.0);
            out.push(state.0);
        }
    })
}

/// Count, mean and sum of squares about it.
#[derive(Clone, Copy, Default)]
struct Running {
    n: f64,
    mean: f64,
    m2: f64,
}

impl Running {
    fn add(&mut self, x: f64) {
        self.n += 1.0;
        let d = x - self.mean;
        self.mean += d / self.n;
        self.m2 += d * (x - self.mean);
    }

    fn std(&self) -> f64 {
        (self.m2 / (self.n - 1.0)).sqrt()
    }
}

pub(crate) fn drift(rows: &Rows) -> Counts {
    let mut others = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    each(rows, [Running::default(); 2], |[learnt, since], x, out| {
        let (z, mean, std, drift) = &mut others;
        z.clear();
        mean.clear();
        std.clear();
        drift.clear();
        for &x in x {
            if learnt.n < 200.0 {
                learnt.add(x);
                continue;
            }
            since.add(x);
            let spread = learnt.std();
            let shift = (since.mean - learnt.mean) / spread;
            z.push((x - learnt.mean) / spread);
            mean.push(since.mean);
            std.push(since.std());
            drift.push(shift.abs() > 3.0);
            out.push(shift);
        }
        std::hint::black_box(&others);
    })
}

/// What a machine has learnt of how two columns go together.
#[derive(Clone, Default)]
struct Together {
    columns: [Running; 2],
    /// The sum of the products of their distances from their means.
    product: f64,
    /// The direction of the greatest variance, and that variance.
    direction: Option<([f64; 2], f64)>,
}

impl Together {
    fn learn(&mut self, x: f64, y: f64) {
        let d = y - self.columns[1].mean;
        self.columns[0].add(x);
        self.product += d * (x - self.columns[0].mean);
        self.columns[1].add(y);
    }

    /// Of two columns the directions are the diagonals.
    fn direction(&self) -> ([f64; 2], f64) {
        let [x, y] = &self.columns;
        let r = self.product / (x.n - 1.0) / x.std() / y.std();
        let half = std::f64::consts::FRAC_1_SQRT_2;
        ([half, half.copysign(r)], 1.0 + r.abs())
    }
}

pub(crate) fn pca_t2q(rows: &Rows) -> Counts {
    let mut squares = Vec::new();
    each_pair(rows, Together::default(), |known, x, y, out| {
        squares.clear();
        for (&x, &y) in x.iter().zip(y) {
            if known.columns[0].n < 200.0 {
                known.learn(x, y);
                continue;
            }
            let ([p, q], variance) = match known.direction {
                Some(direction) => direction,
                None => *known.direction.insert(known.direction()),
            };
            let [a, b] = known.columns;
            let (x, y) = ((x - a.mean) / a.std(), (y - b.mean) / b.std());
            let score = p * x + q * y;
            let (off_x, off_y) = (x - p * score, y - q * score);
            squares.push(off_x * off_x + off_y * off_y);
            out.push(score * score / variance);
        }
        std::hint::black_box(&squares);
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
    each(rows, [0.0_f64; 6], |state, x, out| {
        for &x in x {
            let [n, mean, up, least, down, greatest] = state;
            *n += 1.0;
            *mean += (x - *mean) / *n;
            *up = 0.9999 * *up + x - *mean - 0.005;
            *down = 0.9999 * *down + x - *mean + 0.005;
            *least = least.min(*up);
            *greatest = greatest.max(*down);
            out.push(*up - *least);
            if (*up - *least > 50.0 || *greatest - *down > 50.0) && *n >= 30.0 {
                *state = [0.0; 6];
            }
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
