//! Features cut into bins: a tree looks at a few hundred sums instead of every value.
//!
//! A bin ends at an edge and holds the values up to it. An edge is a threshold of the trees, so a row falls into the
//! same leaf by its bins and by its values. NaN has a bin of its own, behind the others.

use crate::train::Matrix;

/// Most bins of a feature: with the one for NaN a bin's number fits a byte.
pub(super) const MAX_BINS: usize = 255;

/// A training set in bins.
#[derive(Debug)]
pub(super) struct Binned {
    /// How many rows.
    pub(super) rows: usize,
    /// The bin of every value, feature by feature.
    codes: Vec<u8>,
    /// The upper edge of every bin but the last, feature by feature.
    edges: Vec<Vec<f64>>,
}

impl Binned {
    /// Bins for the rows `learnt`, and all rows in them.
    pub(super) fn new(matrix: &Matrix, learnt: &[u32], max_bins: usize, threads: usize) -> Self {
        let mut columns: Vec<(Vec<f64>, Vec<u8>)> = vec![Default::default(); matrix.width];
        let per_thread = matrix.width.div_ceil(threads.max(1));
        std::thread::scope(|scope| {
            for (part, columns) in columns.chunks_mut(per_thread).enumerate() {
                scope.spawn(move || {
                    for (at, column) in columns.iter_mut().enumerate() {
                        *column = bin(matrix, learnt, part * per_thread + at, max_bins);
                    }
                });
            }
        });
        let mut binned = Binned { rows: matrix.rows, codes: Vec::new(), edges: Vec::new() };
        binned.codes.reserve_exact(matrix.rows * matrix.width);
        for (edges, codes) in columns {
            binned.codes.extend_from_slice(&codes);
            binned.edges.push(edges);
        }
        binned
    }

    /// How many features.
    pub(super) fn width(&self) -> usize {
        self.edges.len()
    }

    /// The bins of a feature, one a row.
    pub(super) fn codes(&self, feature: usize) -> &[u8] {
        &self.codes[feature * self.rows..][..self.rows]
    }

    /// The bin of a row.
    pub(super) fn code(&self, feature: usize, row: u32) -> u8 {
        self.codes[feature * self.rows + row as usize]
    }

    /// Bins of a feature, that of NaN left out; it comes next.
    pub(super) fn n_bins(&self, feature: usize) -> usize {
        self.edges[feature].len() + 1
    }

    /// The threshold after which a row leaves the bins up to `bin`. Behind the last bin it is infinite: only NaN differs.
    pub(super) fn threshold(&self, feature: usize, bin: u8) -> f64 {
        self.edges[feature].get(usize::from(bin)).copied().unwrap_or(f64::INFINITY)
    }
}

/// Edges of one feature and the bins of its rows.
fn bin(matrix: &Matrix, learnt: &[u32], feature: usize, max_bins: usize) -> (Vec<f64>, Vec<u8>) {
    let value = |row: usize| matrix.x[row * matrix.width + feature];
    let mut values: Vec<f64> =
        learnt.iter().map(|&row| value(row as usize)).filter(|x| !x.is_nan()).collect();
    values.sort_unstable_by(f64::total_cmp);
    let edges = edges(&values, max_bins);
    let code = |x: f64| match x {
        x if x.is_nan() => edges.len() + 1,
        x => edges.partition_point(|&edge| x > edge),
    };
    let codes = (0..matrix.rows).map(|row| code(value(row)) as u8).collect();
    (edges, codes)
}

/// Edges between neighbouring values where there are few, otherwise at equal shares of the rows.
fn edges(sorted: &[f64], max_bins: usize) -> Vec<f64> {
    let distinct: Vec<(f64, f64)> =
        sorted.windows(2).filter(|w| w[0] < w[1]).map(|w| (w[0], w[1])).collect();
    if distinct.len() < max_bins {
        return distinct.into_iter().map(|(low, high)| between(low, high)).collect();
    }
    let mut edges: Vec<f64> = Vec::with_capacity(max_bins - 1);
    for cut in 1..max_bins {
        let low = sorted[cut * sorted.len() / max_bins];
        // The next larger value: an edge never lies within a run of equal ones.
        let next = sorted.partition_point(|&x| x <= low);
        let Some(&high) = sorted.get(next) else { break };
        let edge = between(low, high);
        if edges.last().is_none_or(|&last| edge > last) {
            edges.push(edge);
        }
    }
    edges
}

/// The middle of two values, so that `low <= middle < high` whatever is rounded.
fn between(low: f64, high: f64) -> f64 {
    let middle = low / 2.0 + high / 2.0;
    if middle >= low && middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(x: Vec<f64>) -> Matrix {
        let rows = x.len();
        Matrix { rows, width: 1, y: vec![0.0; rows], groups: vec![], x, n_classes: 0 }
    }

    #[test]
    fn few_values_have_a_bin_each_and_nan_its_own() {
        let matrix = matrix(vec![3.0, 1.0, f64::NAN, 1.0, 2.0, 9.0]);
        let binned = Binned::new(&matrix, &[0, 1, 2, 3, 4], 255, 2);
        assert_eq!(binned.codes(0), [2, 0, 3, 0, 1, 2], "a row not learnt from is in them too");
        assert_eq!((binned.threshold(0, 0), binned.threshold(0, 2)), (1.5, f64::INFINITY));
    }

    #[test]
    fn bins_and_thresholds_agree_on_every_row() {
        let x: Vec<f64> = (0..4000_u32).map(|i| f64::from(i * 7919 % 997).powi(3)).collect();
        let matrix = matrix(x.clone());
        let all: Vec<u32> = (0..4000).collect();
        for bins in [2, 16, 255] {
            let binned = Binned::new(&matrix, &all, bins, 1);
            assert_eq!(binned.n_bins(0), bins);
            for bin in 0..bins as u8 {
                let threshold = binned.threshold(0, bin);
                for (x, &code) in x.iter().zip(binned.codes(0)) {
                    assert_eq!(*x > threshold, code > bin, "{x} in {code} against {bin}");
                }
            }
        }
        let close = [1.0, f64::from_bits(1.0_f64.to_bits() + 1)];
        assert_eq!(edges(&close, 255), [1.0], "neighbouring numbers have no middle");
        assert_eq!(edges(&[-f64::MAX, f64::MAX], 255), [0.0]);
        assert!(edges(&[5.0; 9], 2).is_empty());
    }
}
