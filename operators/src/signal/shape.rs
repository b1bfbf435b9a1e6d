//! What a spectrum looks like, said in a few numbers.
//!
//! Line `k` is at `k * step` Hz. A spectrum without power has no shape: everything is NaN then.

use super::count;

/// Where the power is, and how it is spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// The sum of all lines.
    pub total: f64,
    /// `sum f P / sum P`, in Hz.
    pub centroid: f64,
    /// `sqrt(sum (f - centroid)^2 P / sum P)`, in Hz.
    pub spread: f64,
    /// `-sum p ln p` with `p = P / sum P`: 0 for a single line, `ln` of their number where all are equal.
    pub entropy: f64,
}

impl Shape {
    /// The shape of the powers of lines `step` Hz apart.
    #[must_use]
    pub fn of(powers: &[f64], step: f64) -> Self {
        let total: f64 = powers.iter().sum();
        if total <= 0.0 {
            return Shape { total, centroid: f64::NAN, spread: f64::NAN, entropy: f64::NAN };
        }
        let lines = || powers.iter().enumerate().map(|(k, &p)| (count(k) * step, p));
        let centroid = lines().map(|(f, p)| f * p).sum::<f64>() / total;
        let variance = lines().map(|(f, p)| (f - centroid) * (f - centroid) * p).sum::<f64>();
        let shares = powers.iter().map(|p| p / total).filter(|&p| p > 0.0);
        // Subtracted from 0, so that a single line has 0 and not -0.
        let entropy = 0.0 - shares.map(|p| p * libm::log(p)).sum::<f64>();
        Shape { total, centroid, spread: (variance / total).sqrt(), entropy }
    }
}

/// The lines from `low` up to, but without, `high`, all in Hz; cut at the last line.
#[must_use]
pub fn lines_in(low: f64, high: f64, step: f64, n_lines: usize) -> std::ops::Range<usize> {
    // A limit that is meant to be a line is one, whatever the last digit of the division says.
    let first = |f: f64| super::place((f / step - 1e-9).ceil().max(0.0)).min(n_lines);
    first(low)..first(high).max(first(low))
}

/// The places of the `n` highest local maxima, the highest first; of equals the lowest line. The ends are none.
#[must_use]
pub fn peaks(powers: &[f64], n: usize) -> Vec<usize> {
    let is_peak = |&k: &usize| powers[k] > powers[k - 1] && powers[k] >= powers[k + 1];
    let inner = 1..powers.len().saturating_sub(1).max(1);
    let mut found: Vec<usize> = inner.filter(is_peak).collect();
    found.sort_by(|&a, &b| powers[b].total_cmp(&powers[a]).then(a.cmp(&b)));
    found.truncate(n);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_half_open_and_cut() {
        assert_eq!(lines_in(10.0, 20.0, 2.5, 100), 4..8);
        assert_eq!(lines_in(0.3, 0.7, 0.1, 6), 3..6);
        assert_eq!(lines_in(9.0, 9.5, 2.5, 100), 4..4);
    }

    #[test]
    fn peaks_are_inside_and_the_highest_first() {
        assert_eq!(peaks(&[9.0, 1.0, 2.0, 1.0, 3.0, 3.0, 1.0, 5.0], 5), [4, 2]);
        assert!(peaks(&[1.0], 3).is_empty());
    }

    #[test]
    fn nothing_has_no_shape_and_a_line_no_spread() {
        assert!(Shape::of(&[0.0, 0.0], 1.0).centroid.is_nan());
        let line = Shape::of(&[0.0, 0.0, 4.0, 0.0], 5.0);
        assert_eq!((line.centroid, line.spread, line.entropy), (10.0, 0.0, 0.0));
    }
}
