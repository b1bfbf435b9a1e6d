//! How far a row is from what is normal: Hotelling's T² within the main components, Q outside of them.
//!
//! With `z = (x - mean) / scale` and loadings `P`: `t = Pᵀz`, `T² = Σ tᵢ²/λᵢ`, `Q = |z - Pt|²`. The anomaly is the greater of T² and
//! Q, each by its limit, so 1 is where normal ends.
//!
//! Contributions, which sum to what they explain: to T² `zⱼ Σ tᵢ pᵢⱼ / λᵢ`, where a negative one is a variable that pulls the row
//! towards the middle; to Q the square of what is left of the variable; to the anomaly those of the one that it is, by its limit.
//!
//! Source  Jackson & Mudholkar, Technometrics 1979; contributions Nomikos, ISA Transactions 1996, and Alcala & Qin, Automatica 2009

use serde::{Deserialize, Serialize};

/// The version of [`Payload`].
pub const FORMAT: u16 = 1;
/// What comes out: T², Q, the anomaly.
pub const N_OUTPUTS: usize = 3;

/// What the weights file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// One a feature.
    pub means: Vec<f64>,
    /// One a feature, above 0.
    pub scales: Vec<f64>,
    /// components × features, row-major; orthonormal rows.
    pub loadings: Vec<f64>,
    /// One a component, above 0.
    pub variances: Vec<f64>,
    /// T² at which normal ends; above 0.
    pub t2_limit: f64,
    /// Q at which normal ends; above 0.
    pub q_limit: f64,
}

/// A model that was checked against its shape.
#[derive(Debug, Clone)]
pub struct PcaT2q(Payload);

impl PcaT2q {
    /// A model of `n_features` features.
    ///
    /// # Errors
    /// When lengths do not fit, a number is not finite, or one that divides is not above 0.
    pub fn new(payload: Payload, n_features: usize) -> Result<Self, String> {
        let n = payload.variances.len();
        let fits = payload.means.len() == n_features
            && payload.scales.len() == n_features
            && (1..=n_features).contains(&n)
            && n.checked_mul(n_features) == Some(payload.loadings.len());
        if !fits {
            return Err(format!("{n} components do not fit {n_features} features"));
        }
        if payload.means.iter().chain(&payload.loadings).any(|x| !x.is_finite()) {
            return Err("a number is not finite".to_owned());
        }
        let limits = [payload.t2_limit, payload.q_limit];
        let divisors = payload.scales.iter().chain(&payload.variances).chain(&limits);
        if divisors.into_iter().any(|&x| !(x.is_finite() && x > 0.0)) {
            return Err("a scale, a variance or a limit is not above 0".to_owned());
        }
        Ok(PcaT2q(payload))
    }

    /// Scores `features` (rows × features, row-major) into `outputs` (rows × 3, row-major).
    pub fn score(&self, features: &[f64], outputs: &mut [f64]) {
        let width = self.0.means.len();
        let mut rest = vec![0.0; width];
        let rows = features.chunks_exact(width).zip(outputs.chunks_exact_mut(N_OUTPUTS));
        for (row, out) in rows {
            out.copy_from_slice(&self.row(row, &mut rest, |_, _, _| ()));
        }
    }

    /// Scores as [`score`](Self::score) does, and behind the outputs of a row writes for each of them 0, from which its contributions
    /// start, then one a feature.
    pub fn explain(&self, features: &[f64], outputs: &mut [f64]) {
        let model = &self.0;
        let width = model.means.len();
        let mut rest = vec![0.0; width];
        let mut slopes = vec![0.0; width];
        let rows = features.chunks_exact(width);
        let outs = outputs.chunks_exact_mut(N_OUTPUTS * (2 + width));
        for (row, out) in rows.zip(outs) {
            slopes.fill(0.0);
            let said = self.row(row, &mut rest, |t, variance, loadings| {
                slopes.iter_mut().zip(loadings).for_each(|(s, p)| *s += t * p / variance);
            });
            let (scores, parts) = out.split_at_mut(N_OUTPUTS);
            scores.copy_from_slice(&said);
            let of_t2 = said[0] / model.t2_limit >= said[1] / model.q_limit;
            for at in 0..width {
                let t2 = (row[at] - model.means[at]) / model.scales[at] * slopes[at];
                let q = rest[at] * rest[at];
                let anomaly = if of_t2 { t2 / model.t2_limit } else { q / model.q_limit };
                for (output, part) in [t2, q, anomaly].into_iter().enumerate() {
                    parts[output * (1 + width) + 1 + at] = part;
                }
            }
            let start = if said[0].is_nan() { f64::NAN } else { 0.0 };
            parts.iter_mut().step_by(1 + width).for_each(|base| *base = start);
        }
    }

    /// T², Q and anomaly of a row. `rest` is left with what no component says; `found` is told of each component: what the row has of
    /// it, its variance, its loadings.
    fn row(
        &self,
        row: &[f64],
        rest: &mut [f64],
        mut found: impl FnMut(f64, f64, &[f64]),
    ) -> [f64; N_OUTPUTS] {
        let model = &self.0;
        for (at, z) in rest.iter_mut().enumerate() {
            *z = (row[at] - model.means[at]) / model.scales[at];
        }
        let mut t2 = 0.0;
        // Loadings are orthonormal, so what one component takes away does not change what the next one finds.
        for (loadings, &variance) in model.loadings.chunks_exact(row.len()).zip(&model.variances) {
            let t: f64 = loadings.iter().zip(&*rest).map(|(p, z)| p * z).sum();
            t2 += t * t / variance;
            rest.iter_mut().zip(loadings).for_each(|(z, p)| *z -= t * p);
            found(t, variance, loadings);
        }
        let q: f64 = rest.iter().map(|z| z * z).sum();
        let anomaly = (t2 / model.t2_limit).max(q / model.q_limit);
        [t2, q, if t2.is_nan() { f64::NAN } else { anomaly }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        let half = 0.5_f64.sqrt();
        Payload {
            means: vec![1.0, 0.0],
            scales: vec![2.0, 1.0],
            loadings: vec![half, half],
            variances: vec![0.5],
            t2_limit: 4.0,
            q_limit: 0.5,
        }
    }

    #[test]
    fn along_and_across_the_component() {
        let model = PcaT2q::new(payload(), 2).unwrap();
        let mut out = [0.0; 9];
        model.score(&[3.0, 1.0, 3.0, -1.0, f64::NAN, 0.0], &mut out);
        for (found, expected) in out.iter().zip([4.0, 0.0, 1.0, 0.0, 2.0, 4.0]) {
            assert!((found - expected).abs() < 1e-12, "{out:?}");
        }
        assert!(out[6..].iter().all(|x| x.is_nan()));
    }

    #[test]
    fn contributions_sum_to_what_they_explain() {
        let model = PcaT2q::new(payload(), 2).unwrap();
        let rows = [3.0, 1.0, 3.0, -1.0, 2.0, 1.5, f64::NAN, 0.0];
        let (mut out, mut plain) = ([0.0; 48], [0.0; 12]);
        model.explain(&rows, &mut out);
        model.score(&rows, &mut plain);
        for (out, plain) in out.chunks_exact(12).zip(plain.chunks_exact(3)).take(3) {
            assert_eq!(out[..3], *plain, "explaining changes no score");
            for (parts, score) in out[3..].chunks_exact(3).zip(plain) {
                let sum: f64 = parts.iter().sum();
                assert!((sum - score).abs() < 1e-12 && parts[0] == 0.0, "{parts:?} {score}");
            }
        }
        // Along the component both say the same; across it nothing is said of T².
        assert!((out[4] - 2.0).abs() < 1e-12 && (out[5] - 2.0).abs() < 1e-12, "{out:?}");
        assert!((out[12 + 7] - 1.0).abs() < 1e-12 && (out[12 + 8] - 1.0).abs() < 1e-12, "{out:?}");
        assert!(out[36..].iter().all(|x| x.is_nan()), "{out:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(PcaT2q::new(payload(), 3).is_err());
        assert!(PcaT2q::new(Payload { q_limit: 0.0, ..payload() }, 2).is_err());
        assert!(PcaT2q::new(Payload { variances: vec![-1.0], ..payload() }, 2).is_err());
    }
}
