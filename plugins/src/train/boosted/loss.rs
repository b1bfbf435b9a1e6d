//! What boosting makes small: losses, their derivatives, and where the sums start.
//!
//! `exp` and `ln` are `libm`'s: the platform's own differ in the last bit, and weights should not.

use super::super::quantile::quantile;
use super::tree::Gradient;

/// Probabilities are kept this far from 0 where their logarithm is taken.
const LEAST_SHARE: f64 = 1e-15;

/// A loss over the scores of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Loss {
    /// `(score − y)² / 2`.
    Squared,
    /// The pinball loss, smallest at this quantile.
    Quantile(f64),
    /// `ln(1 + e^score) − y · score` with `y` 0 or 1.
    Logistic,
    /// `−ln softmax(scores)[y]` with this many classes.
    Softmax(usize),
}

impl Loss {
    /// What the scores start from: the best constants over `rows`.
    pub(super) fn base(self, y: &[f64], rows: &[u32]) -> Vec<f64> {
        let n = rows.len() as f64;
        let share = |class: usize| {
            let hits = rows.iter().filter(|&&row| y[row as usize] == class as f64).count();
            (hits as f64 / n).clamp(LEAST_SHARE, 1.0 - LEAST_SHARE)
        };
        match self {
            Loss::Squared => vec![rows.iter().map(|&row| y[row as usize]).sum::<f64>() / n],
            Loss::Quantile(q) => vec![quantile(rows.iter().map(|&row| y[row as usize]), q)],
            Loss::Logistic => vec![libm::log(share(1) / (1.0 - share(1)))],
            Loss::Softmax(classes) => (0..classes).map(|c| libm::log(share(c))).collect(),
        }
    }

    /// The derivatives at every row, score by score. `scores` has one list a score.
    pub(super) fn gradients(self, scores: &[Vec<f64>], y: &[f64]) -> Vec<Vec<Gradient>> {
        let one = |gradient: &dyn Fn(f64, f64) -> Gradient| {
            vec![scores[0].iter().zip(y).map(|(&s, &y)| gradient(s, y)).collect()]
        };
        match self {
            Loss::Squared => one(&|s, y| Gradient { first: s - y, second: 1.0 }),
            Loss::Quantile(q) => {
                one(&|s, y| Gradient { first: if s > y { 1.0 - q } else { -q }, second: 1.0 })
            }
            Loss::Logistic => one(&|s, y| {
                let p = 1.0 / (1.0 + libm::exp(-s));
                Gradient { first: p - y, second: p * (1.0 - p) }
            }),
            Loss::Softmax(classes) => softmax_gradients(classes, scores, y),
        }
    }

    /// The mean loss over `rows`.
    pub(super) fn mean(self, scores: &[Vec<f64>], y: &[f64], rows: &[u32]) -> f64 {
        let total: f64 = rows.iter().map(|&row| self.at(scores, y, row as usize)).sum();
        total / rows.len() as f64
    }

    fn at(self, scores: &[Vec<f64>], y: &[f64], row: usize) -> f64 {
        let (score, y) = (scores[0][row], y[row]);
        match self {
            Loss::Squared => (score - y) * (score - y) / 2.0,
            Loss::Quantile(q) => (y - score) * if score > y { q - 1.0 } else { q },
            // The larger of 0 and the score is drawn out, so that nothing overflows.
            Loss::Logistic => score.max(0.0) + libm::log1p(libm::exp(-score.abs())) - y * score,
            Loss::Softmax(_) => {
                let most = scores.iter().map(|s| s[row]).fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().map(|s| libm::exp(s[row] - most)).sum();
                most + libm::log(total) - scores[y as usize][row]
            }
        }
    }

    /// What a leaf adds to the score of its rows, before the learning rate.
    pub(super) fn leaf(self, sums: Gradient, l2: f64, residuals: impl Iterator<Item = f64>) -> f64 {
        match self {
            // The slope of the pinball loss says where to go, not how far: the rows do.
            Loss::Quantile(q) => quantile(residuals, q),
            _ => {
                let weight = sums.second + l2;
                if weight > 0.0 { -sums.first / weight } else { 0.0 }
            }
        }
    }
}

fn softmax_gradients(classes: usize, scores: &[Vec<f64>], y: &[f64]) -> Vec<Vec<Gradient>> {
    // The scores are not free of one another: all of them moved alike move nothing. Friedman's factor for that (Greedy
    // function approximation, 2001, 4.6), without which steps are too long.
    let factor = classes as f64 / (classes as f64 - 1.0);
    let mut gradients = vec![vec![Gradient::default(); y.len()]; classes];
    let mut shares = vec![0.0; classes];
    for (row, y) in y.iter().enumerate() {
        let most = scores.iter().map(|s| s[row]).fold(f64::NEG_INFINITY, f64::max);
        for (share, scores) in shares.iter_mut().zip(scores) {
            *share = libm::exp(scores[row] - most);
        }
        let total: f64 = shares.iter().sum();
        for (class, share) in shares.iter().enumerate() {
            let p = share / total;
            let hit = if *y == class as f64 { 1.0 } else { 0.0 };
            gradients[class][row] = Gradient { first: p - hit, second: factor * p * (1.0 - p) };
        }
    }
    gradients
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first derivative is the slope of the loss, the second that of the first.
    #[test]
    fn derivatives_are_slopes() {
        let h = 1e-6;
        let y = [1.0];
        for (loss, point) in [
            (Loss::Squared, vec![0.3]),
            (Loss::Quantile(0.9), vec![0.3]),
            (Loss::Quantile(0.9), vec![1.7]),
            (Loss::Logistic, vec![-1.2]),
            (Loss::Softmax(3), vec![0.1, -0.4, 2.0]),
        ] {
            let scores: Vec<Vec<f64>> = point.iter().map(|&s| vec![s]).collect();
            let gradients = loss.gradients(&scores, &y);
            for at in 0..scores.len() {
                let moved = |by: f64| {
                    let mut scores = scores.clone();
                    scores[at][0] += by;
                    scores
                };
                let (up, down) = (moved(h), moved(-h));
                let slope = (loss.at(&up, &y, 0) - loss.at(&down, &y, 0)) / (2.0 * h);
                assert!((slope - gradients[at][0].first).abs() < 1e-8, "{loss:?} {slope}");
                let first = |s: &[Vec<f64>]| loss.gradients(s, &y)[at][0].first;
                let bend = (first(&up) - first(&down)) / (2.0 * h);
                // The pinball loss has no bend; 1 stands for it.
                let factor = match loss {
                    Loss::Quantile(_) => continue,
                    Loss::Softmax(_) => 1.5,
                    _ => 1.0,
                };
                let off = factor * bend - gradients[at][0].second;
                assert!(off.abs() < 1e-8, "{loss:?} {bend}");
            }
        }
    }
}
