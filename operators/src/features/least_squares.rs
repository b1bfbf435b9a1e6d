//! Least squares by Householder's reflections.
//!
//! Sums of products would lose half of the digits, and values of a window that follow one another are much alike. Columns
//! are reduced from left to right, so that what the first few of them leave unexplained is known for any number of them.

/// The part of a column that those to its left have to leave of it; below, it says nothing that they do not.
const RESOLUTION: f64 = 1e-12;

/// A design and what it is to explain, reduced to a triangle.
#[derive(Debug)]
pub(super) struct Reduced {
    /// The columns of the design, on and above the diagonal.
    columns: Vec<Vec<f64>>,
    /// What is to be explained: first by each column, then what is left.
    wanted: Vec<f64>,
}

impl Reduced {
    /// `columns` of a design and the values `wanted` that they are to explain, all of one length and no shorter than there
    /// are columns. `None` where a column is explained by those to its left.
    pub(super) fn of(mut columns: Vec<Vec<f64>>, mut wanted: Vec<f64>) -> Option<Self> {
        for place in 0..columns.len() {
            let (done, right) = columns.split_at_mut(place + 1);
            let column = &mut done[place];
            let before = norm(column);
            let size = norm(&column[place..]);
            if size.is_nan() || size <= RESOLUTION * before {
                return None;
            }
            // The sign that does not cancel.
            let corner = if column[place] > 0.0 { -size } else { size };
            column[place] -= corner;
            let mirror = &column[place..];
            let scale = 2.0 / dot(mirror, mirror);
            for other in right.iter_mut().chain([&mut wanted]) {
                let part = scale * dot(mirror, &other[place..]);
                other[place..].iter_mut().zip(mirror).for_each(|(x, m)| *x -= part * m);
            }
            column[place] = corner;
        }
        Some(Reduced { columns, wanted })
    }

    /// The sum of squares that the first `n` columns leave.
    pub(super) fn left_by(&self, n: usize) -> f64 {
        dot(&self.wanted[n..], &self.wanted[n..])
    }

    /// The coefficient of each column.
    pub(super) fn coefficients(&self) -> Vec<f64> {
        let n = self.columns.len();
        let mut found = vec![0.0; n];
        for row in (0..n).rev() {
            let known: f64 = (row + 1..n).map(|c| self.columns[c][row] * found[c]).sum();
            found[row] = (self.wanted[row] - known) / self.columns[row][row];
        }
        found
    }

    /// The coefficient of the last column in standard errors of it; there are more rows than columns.
    pub(super) fn last_t(&self, n_rows_more: f64) -> Option<f64> {
        let last = self.columns.len().checked_sub(1)?;
        let noise = (self.left_by(last + 1) / n_rows_more).sqrt();
        Some(self.wanted[last] * self.columns[last][last].signum() / noise)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_three_points() {
        let design = vec![vec![1.0; 3], vec![0.0, 1.0, 2.0]];
        let fit = Reduced::of(design, vec![1.0, 2.0, 6.0]).unwrap();
        let found = fit.coefficients();
        assert!((found[0] - 0.5).abs() < 1e-14 && (found[1] - 2.5).abs() < 1e-14, "{found:?}");
        let left = [0, 1, 2].map(|n| fit.left_by(n));
        for (left, known) in left.iter().zip([41.0, 14.0, 1.5]) {
            assert!((left - known).abs() < 1e-13, "{left}");
        }
        let t = fit.last_t(1.0).unwrap();
        assert!((t - 2.5 / 0.75_f64.sqrt()).abs() < 1e-13, "{t}");
    }

    #[test]
    fn a_column_that_says_nothing_new_is_refused() {
        let third = [0.1, 0.2, 0.7, 0.4];
        let same: Vec<f64> = third.iter().map(|x| x * 3.0 - 0.1).collect();
        assert!(Reduced::of(vec![vec![1.0; 4], third.to_vec(), same], vec![1.0; 4]).is_none());
        assert!(Reduced::of(vec![vec![0.0; 4]], vec![1.0; 4]).is_none());
    }
}
