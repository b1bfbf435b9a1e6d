//! The distance of the last shape from the nearest before.

use crate::operators::cases::Counts;
use crate::operators::loops::each;
use crate::operators::rows::Rows;

/// Values of a shape.
const M: usize = 30;
/// Values that are remembered.
const HISTORY: usize = 1_000;
/// How many values a shape must end before another to be compared with it.
const APART: usize = M.div_ceil(4) + 1;

/// The values of a machine, and of each shape in them mean, deviation and the product with the last shape.
#[derive(Clone, Default)]
struct Past {
    n_rows: usize,
    values: Vec<f64>,
    moments: Vec<(f64, f64)>,
    products: Vec<f64>,
}

pub(crate) fn matrix_profile(rows: &Rows) -> Counts {
    each(rows, Past::default(), |past, x, out| {
        for &x in x {
            past.add(x);
            out.extend(past.nearest());
        }
    })
}

impl Past {
    fn add(&mut self, x: f64) {
        self.n_rows += 1;
        let is_full = self.values.len() == HISTORY;
        let gone = if is_full { self.values[0] } else { 0.0 };
        if is_full {
            self.values.remove(0);
            self.moments.remove(0);
        }
        self.values.push(x);
        let Some(last) = self.values.len().checked_sub(M) else { return };
        let values = &self.values;
        let shape = &values[last..];
        let mean = shape.iter().sum::<f64>() / M as f64;
        let m2 = shape.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
        self.moments.push((mean, (m2 / M as f64).sqrt()));
        // Rounding gathers in products that are carried on.
        if self.n_rows.is_multiple_of(M) || last == 0 {
            self.products = values.windows(M).map(|other| dot(other, shape)).collect();
        } else if is_full {
            let left = values[last - 1];
            self.products[0] += values[M - 1] * x - gone * left;
            let ends = values.iter().zip(&values[M..]);
            for (product, (first, entered)) in self.products[1..].iter_mut().zip(ends) {
                *product += entered * x - first * left;
            }
        } else {
            let left = values[last - 1];
            self.products.insert(0, dot(&values[..M], shape));
            let ends = values.iter().zip(&values[M..]);
            for (product, (first, entered)) in self.products[1..].iter_mut().zip(ends) {
                *product += entered * x - first * left;
            }
        }
    }

    fn nearest(&self) -> Option<f64> {
        let last = self.moments.len().checked_sub(1)?;
        let n_others = self.moments.len().checked_sub(APART).filter(|&n| n > 0)?;
        let (mean, std) = self.moments[last];
        let likeness = |((other_mean, other_std), product): (&(f64, f64), &f64)| {
            (product / M as f64 - mean * other_mean) / (std * other_std)
        };
        let others = self.moments[..n_others].iter().zip(&self.products);
        let most = others.map(likeness).fold(f64::MIN, f64::max);
        Some((2.0 * M as f64 * (1.0 - most)).sqrt())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
