//! What the nearest rows of the training say.
//!
//! Distances are Euclidean, of features that are centred and scaled first. Of equally near rows the earlier ones of the training
//! are taken, and sums run from the nearest to the farthest, so that every machine gets the same bits. The search is exact: it
//! looks at every row, and leaves one as soon as it is too far.

use serde::{Deserialize, Serialize};

/// The version of [`Payload`].
pub const FORMAT: u16 = 1;
/// Most rows of a model; a row is scored by looking at all of them.
pub const MAX_ROWS: usize = 50_000;

/// What the weights file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// How many rows are asked.
    pub k: u32,
    /// Whether nearer rows count more, by the inverse of their distance. A row at no distance then counts alone.
    pub by_distance: bool,
    /// One a feature: what it is centred by.
    pub means: Vec<f64>,
    /// One a feature: what it is divided by.
    pub scales: Vec<f64>,
    /// rows × features, row-major, centred and scaled.
    pub rows: Vec<f64>,
    /// One a row: a number, or the place of a class.
    pub targets: Vec<f64>,
    /// Classes; 0 where the target is a number.
    pub n_classes: u32,
}

/// A model that was checked against its shape.
#[derive(Debug, Clone)]
pub struct Knn(Payload);

impl Knn {
    /// A model of `n_features` features.
    ///
    /// # Errors
    /// When lengths do not fit, or a number is not finite.
    pub fn new(payload: Payload, n_features: usize) -> Result<Self, String> {
        let n_rows = payload.targets.len();
        let fits = payload.means.len() == n_features
            && payload.scales.len() == n_features
            && n_features > 0
            && n_rows.checked_mul(n_features) == Some(payload.rows.len())
            && (1..=n_rows).contains(&(payload.k as usize));
        if !fits {
            return Err(format!(
                "{} rows of {n_features} features do not fit {} targets and k = {}",
                payload.rows.len() / n_features.max(1),
                n_rows,
                payload.k
            ));
        }
        if n_rows > MAX_ROWS {
            return Err(format!("{n_rows} rows are more than {MAX_ROWS}"));
        }
        let numbers = [&payload.means, &payload.scales, &payload.rows, &payload.targets];
        if numbers.into_iter().flatten().any(|x| !x.is_finite()) {
            return Err("a number is not finite".to_owned());
        }
        if payload.scales.iter().any(|&scale| scale <= 0.0) {
            return Err("a scale is not above 0".to_owned());
        }
        let classes = f64::from(payload.n_classes);
        let class = |&y: &f64| y >= 0.0 && y < classes && y.fract() == 0.0;
        if payload.n_classes > 0 && !payload.targets.iter().all(class) {
            return Err("a target is no class".to_owned());
        }
        Ok(Knn(payload))
    }

    /// Columns that come out: the number, or the class and a probability for each.
    #[must_use]
    pub fn n_outputs(&self) -> usize {
        match self.0.n_classes as usize {
            0 => 1,
            n => 1 + n,
        }
    }

    /// Scores `features` (rows × features, row-major) into `outputs` (rows × outputs, row-major). A NaN feature gives NaN.
    pub fn score(&self, features: &[f64], outputs: &mut [f64]) {
        let width = self.0.means.len();
        let mut scaled = vec![0.0; width];
        let mut near = Vec::with_capacity(self.0.k as usize + 1);
        let rows = features.chunks_exact(width).zip(outputs.chunks_exact_mut(self.n_outputs()));
        for (row, out) in rows {
            if row.iter().any(|x| x.is_nan()) {
                out.fill(f64::NAN);
                continue;
            }
            for (at, z) in scaled.iter_mut().enumerate() {
                *z = (row[at] - self.0.means[at]) / self.0.scales[at];
            }
            self.nearest(&scaled, &mut near);
            self.answer(&near, out);
        }
    }

    /// The `k` nearest rows, the nearest first: squared distance and place.
    fn nearest(&self, z: &[f64], near: &mut Vec<(f64, usize)>) {
        let k = self.0.k as usize;
        near.clear();
        let mut farthest = f64::INFINITY;
        for (place, row) in self.0.rows.chunks_exact(z.len()).enumerate() {
            let mut distance = 0.0;
            for (a, b) in z.iter().zip(row) {
                distance += (a - b) * (a - b);
                if distance >= farthest {
                    break;
                }
            }
            if distance < farthest {
                let at = near.partition_point(|(other, _)| *other <= distance);
                near.insert(at, (distance, place));
                near.truncate(k);
                if near.len() == k {
                    farthest = near[k - 1].0;
                }
            }
        }
    }

    fn answer(&self, near: &[(f64, usize)], out: &mut [f64]) {
        let exact = near.iter().any(|(distance, _)| *distance == 0.0);
        let weight = |distance: f64| match () {
            () if !self.0.by_distance => 1.0,
            () if exact => f64::from(u8::from(distance == 0.0)),
            () => 1.0 / distance.sqrt(),
        };
        let mut total = 0.0;
        out.fill(0.0);
        for &(distance, place) in near {
            let weight = weight(distance);
            total += weight;
            if self.0.n_classes == 0 {
                out[0] += weight * self.0.targets[place];
            } else {
                out[1 + self.0.targets[place] as usize] += weight;
            }
        }
        // Rows that are infinitely far, as those of an infinite feature are, say nothing.
        if near.is_empty() || total <= 0.0 {
            out.fill(f64::NAN);
            return;
        }
        out.iter_mut().for_each(|x| *x /= total);
        if self.0.n_classes > 0 {
            let shares = &out[1..];
            let best = (0..shares.len()).fold(
                0,
                |best, at| {
                    if shares[at] > shares[best] { at } else { best }
                },
            );
            out[0] = best as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(n_classes: u32) -> Payload {
        Payload {
            k: 2,
            by_distance: false,
            means: vec![0.0],
            scales: vec![1.0],
            rows: vec![0.0, 1.0, 3.0, 3.0],
            targets: vec![0.0, 1.0, 0.0, 1.0],
            n_classes,
        }
    }

    #[test]
    fn the_earlier_of_equally_near_rows_is_taken() {
        let model = Knn::new(payload(0), 1).unwrap();
        let mut out = [0.0; 3];
        model.score(&[2.0, 3.0, f64::NAN], &mut out);
        assert_eq!(out[..2], [0.5, 0.5], "of 2 the rows at 1 and the first at 3");
        assert!(out[2].is_nan());
    }

    #[test]
    fn nearer_rows_may_count_more() {
        let model = Knn::new(Payload { by_distance: true, ..payload(0) }, 1).unwrap();
        let mut out = [0.0; 2];
        model.score(&[0.25, 1.0], &mut out);
        assert!((out[0] - 0.25).abs() < 1e-15, "weights 4 and 4/3");
        assert_eq!(out[1], 1.0, "a row that is met counts alone");
    }

    #[test]
    fn classes_have_probabilities() {
        let model = Knn::new(payload(2), 1).unwrap();
        let mut out = [0.0; 3];
        model.score(&[0.4], &mut out);
        assert_eq!(out, [0.0, 0.5, 0.5], "of two equal ones the first");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for wrong in [
            Payload { k: 0, ..payload(0) },
            Payload { k: 5, ..payload(0) },
            Payload { scales: vec![0.0], ..payload(0) },
            Payload { targets: vec![0.0, 1.0, 2.0, 0.0], ..payload(2) },
            Payload { rows: vec![0.0; 3], ..payload(0) },
        ] {
            assert!(Knn::new(wrong, 1).is_err());
        }
        assert!(Knn::new(payload(0), 2).is_err());
    }
}
