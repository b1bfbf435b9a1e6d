//! What a key has learnt of how its columns go together, and what it makes of a row.

use serde::{Deserialize, Serialize};

use crate::eigen::{Eigen, symmetric};
use crate::learning::Period;

/// The part of the greatest eigenvalue below which another is rounding.
const RESOLUTION: f64 = 1e-12;

/// Which components are kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keep {
    /// So many.
    Components(usize),
    /// As many as have this part of the variance.
    Variance(f64),
}

/// What is remembered of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Past {
    /// What the model will be made of; nothing once there is one.
    sums: Sums,
    model: Option<Model>,
}

/// Means and products of the columns of the rows so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    n: u64,
    since: i64,
    mean: Vec<f64>,
    /// The sums of the products of the distances from the means, column by column.
    products: Vec<f64>,
}

/// The usual directions of the columns of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Model {
    mean: Vec<f64>,
    /// What a distance from the mean is divided by.
    scale: Vec<f64>,
    /// The variance along each component that is kept.
    variances: Vec<f64>,
    /// The components, one after the other.
    components: Vec<f64>,
}

impl Past {
    /// A key of `n_columns` that has not learnt.
    pub(super) fn of(n_columns: usize) -> Self {
        let (mean, products) = (vec![0.0; n_columns], vec![0.0; n_columns * n_columns]);
        Past { sums: Sums { mean, products, ..Sums::default() }, model: None }
    }

    /// Whether the row at `at` belongs to the learning period; takes it in if so.
    pub(super) fn learns(&mut self, period: Period, at: i64, row: &[f64]) -> bool {
        if self.model.is_some() {
            return false;
        }
        if self.sums.n == 0 {
            self.sums.since = at;
        }
        let learns = period.has_until_spread(self.sums.n, self.sums.since, at);
        if learns {
            self.sums.add(row);
        }
        learns
    }

    /// What was learnt; made now if it has not been before.
    pub(super) fn model(&mut self, keep: Keep, scale: bool) -> &Model {
        let sums = &mut self.sums;
        self.model.get_or_insert_with(|| std::mem::take(sums).model(keep, scale))
    }
}

impl Sums {
    /// Takes a row in (Welford).
    #[expect(clippy::cast_precision_loss, reason = "a key has fewer than 2^53 rows")]
    fn add(&mut self, row: &[f64]) {
        let d = row.len();
        self.n += 1;
        let n = self.n as f64;
        for (i, &x) in row.iter().enumerate() {
            let off = x - self.mean[i];
            // Columns before `i` have their new mean already: an old distance times a new one, as Welford has it.
            for (j, &y) in row[..i].iter().enumerate() {
                self.products[i * d + j] += off * (y - self.mean[j]);
            }
            self.mean[i] += off / n;
            self.products[i * d + i] += off * (x - self.mean[i]);
        }
    }

    /// The directions of the rows so far.
    #[expect(clippy::cast_precision_loss, reason = "a key has fewer than 2^53 rows")]
    fn model(&self, keep: Keep, scale: bool) -> Model {
        let d = self.mean.len();
        let freedom = (self.n.max(2) - 1) as f64;
        let std = |i: usize| (self.products[i * d + i] / freedom).sqrt();
        // A column that was constant is divided by infinity, and so is 0 whatever comes.
        let divisor = |i: usize| match std(i) {
            _ if !scale => 1.0,
            std if std > 0.0 => std,
            _ => f64::INFINITY,
        };
        let scale: Vec<f64> = (0..d).map(divisor).collect();
        let mut matrix = vec![vec![0.0; d]; d];
        for (i, a) in scale.iter().enumerate() {
            for (j, b) in scale[..=i].iter().enumerate() {
                let value = self.products[i * d + j] / freedom / a / b;
                (matrix[i][j], matrix[j][i]) = (value, value);
            }
        }
        // What is beyond the range of numbers has no directions.
        let none = || Eigen { values: Vec::new(), vectors: Vec::new() };
        let Eigen { values: mut variances, vectors } = symmetric(matrix).unwrap_or_else(none);
        variances.truncate(n_kept(&variances, keep));
        let components = vectors[..variances.len()].concat();
        Model { mean: self.mean.clone(), scale, variances, components }
    }
}

/// How many components are kept.
fn n_kept(variances: &[f64], keep: Keep) -> usize {
    let total: f64 = variances.iter().map(|v| v.max(0.0)).sum();
    let greatest = variances.first().copied().unwrap_or_default();
    let usable = variances.iter().take_while(|&&v| v > RESOLUTION * greatest).count();
    match keep {
        Keep::Components(n) => n.min(usable),
        Keep::Variance(part) => {
            let mut upto = 0.0;
            let enough = variances.iter().position(|v| {
                upto += v;
                upto >= part * total
            });
            enough.map_or(usable, |last| usable.min(last + 1))
        }
    }
}

impl Model {
    /// Writes T2 and Q into `said`, and where it has room the parts of each column in T2 and in Q; `row` becomes the scaled
    /// row, `off` what is left of it.
    pub(super) fn judge(&self, row: &mut [f64], off: &mut [f64], said: &mut [f64]) {
        let d = row.len();
        for (x, (mean, scale)) in row.iter_mut().zip(self.mean.iter().zip(&self.scale)) {
            *x = (*x - mean) / scale;
        }
        let (sums, parts) = said.split_at_mut(2);
        let (of_t2, of_q) = parts.split_at_mut(parts.len() / 2);
        of_t2.fill(0.0);
        off.copy_from_slice(row);
        let mut t2 = 0.0;
        for (component, variance) in self.components.chunks_exact(d).zip(&self.variances) {
            let t: f64 = component.iter().zip(row.iter()).map(|(p, z)| p * z).sum();
            t2 += t * t / variance;
            of_t2.iter_mut().zip(component).for_each(|(part, p)| *part += t * p / variance);
            off.iter_mut().zip(component).for_each(|(off, p)| *off -= t * p);
        }
        of_t2.iter_mut().zip(row.iter()).for_each(|(part, z)| *part *= z);
        off.iter_mut().for_each(|off| *off *= *off);
        of_q.iter_mut().zip(off.iter()).for_each(|(part, off)| *part = *off);
        (sums[0], sums[1]) = (t2, off.iter().sum());
    }
}
