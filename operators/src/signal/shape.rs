//! What a spectrum looks like, said in a few numbers.
//!
//! Line `k` is at `k * step` Hz. A spectrum without power has no shape: everything is NaN then.

use super::{count, sum_of};

/// The powers of lines that are equally far apart; each number is a pass over them.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    powers: &'a [f64],
    step: f64,
    total: f64,
}

impl<'a> Shape<'a> {
    /// The shape of the powers of lines `step` Hz apart.
    #[must_use]
    pub fn of(powers: &'a [f64], step: f64) -> Self {
        Shape { powers, step, total: sum_of(powers, |_, p| p) }
    }

    /// The sum of all lines.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.total
    }

    /// `sum f P / sum P`, in Hz.
    #[must_use]
    pub fn centroid(&self) -> f64 {
        sum_of(self.powers, |k, p| count(k) * self.step * p) / self.total
    }

    /// `sqrt(sum (f - centroid)^2 P / sum P)`, in Hz.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let centroid = self.centroid();
        let square = |k: usize, p: f64| {
            let f = count(k) * self.step - centroid;
            f * f * p
        };
        (sum_of(self.powers, square) / self.total).sqrt()
    }

    /// `-sum p ln p` with `p = P / sum P`: 0 for a single line, `ln` of their number where all are equal.
    #[must_use]
    pub fn entropy(&self) -> f64 {
        let term = |_, power: f64| {
            let p = power / self.total;
            if p > 0.0 { p * libm::log(p) } else { p }
        };
        // Subtracted from 0, so that a single line has 0 and not -0.
        0.0 - sum_of(self.powers, term)
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
    let mut found: Vec<usize> = Vec::with_capacity(n + 1);
    for k in 1..powers.len().saturating_sub(1).max(1) {
        let power = powers[k];
        // Almost every line ends here, once the highest are found; neighbours are compared for few.
        if found.len() == n && found.last().is_none_or(|&lowest| powers[lowest] >= power) {
            continue;
        }
        if power > powers[k - 1] && power >= powers[k + 1] {
            let lower = found.iter().rposition(|&other| powers[other] >= power);
            let at = lower.map_or(0, |place| place + 1);
            if at < n {
                found.insert(at, k);
                found.truncate(n);
            }
        }
    }
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
        let nothing = Shape::of(&[0.0, 0.0], 1.0);
        assert!(nothing.centroid().is_nan() && nothing.spread().is_nan());
        assert!(nothing.entropy().is_nan());
        let line = Shape::of(&[0.0, 0.0, 4.0, 0.0], 5.0);
        assert_eq!((line.centroid(), line.spread(), line.entropy()), (10.0, 0.0, 0.0));
    }
}
