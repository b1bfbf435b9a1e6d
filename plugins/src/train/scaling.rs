//! Features centred and scaled, for families in which a feature's size would decide.

use super::Matrix;

/// Mean and deviation (of the population) of every feature; a feature that never changes is divided by 1.
pub(super) fn standard(matrix: &Matrix) -> (Vec<f64>, Vec<f64>) {
    let n = matrix.rows as f64;
    let column = |at: usize| matrix.x.iter().skip(at).step_by(matrix.width);
    let means: Vec<f64> = (0..matrix.width).map(|at| column(at).sum::<f64>() / n).collect();
    let scales = (0..matrix.width)
        .map(|at| {
            let spread = column(at).map(|x| (x - means[at]).powi(2)).sum::<f64>() / n;
            if spread > 0.0 { spread.sqrt() } else { 1.0 }
        })
        .collect();
    (means, scales)
}

/// All rows, centred and scaled.
pub(super) fn scaled(matrix: &Matrix, means: &[f64], scales: &[f64]) -> Vec<f64> {
    let rows = matrix.x.chunks_exact(matrix.width);
    rows.flat_map(|row| (0..row.len()).map(|at| (row[at] - means[at]) / scales[at])).collect()
}

/// Solves `a · x = b` for symmetric positive definite `a` (row-major, its lower triangle) in place, `x` in the place of `b`;
/// whether `a` is that.
pub(super) fn solve(a: &mut [f64], b: &mut [f64]) -> bool {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let done: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let rest = a[i * n + j] - done;
            if i != j {
                a[i * n + j] = rest / a[j * n + j];
            } else if rest > 0.0 {
                a[i * n + i] = rest.sqrt();
            } else {
                return false;
            }
        }
    }
    for i in 0..n {
        let done: f64 = (0..i).map(|k| a[i * n + k] * b[k]).sum();
        b[i] = (b[i] - done) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let done: f64 = (i + 1..n).map(|k| a[k * n + i] * b[k]).sum();
        b[i] = (b[i] - done) / a[i * n + i];
    }
    true
}
