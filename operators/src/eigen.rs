//! Eigenvalues and eigenvectors of a symmetric matrix.
//!
//! Jacobi's rotations, row by row until nothing is left beside the diagonal: slower than what libraries do, but exact to a
//! few units in the last place, with nothing but sums, products and roots, so that every machine gets the same bits.

/// Most rounds over all pairs; convergence is quadratic, and a matrix of 512 columns takes about ten.
const MAX_ROUNDS: usize = 100;

/// The parts of a symmetric matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Eigen {
    /// The eigenvalues, greatest first.
    pub(crate) values: Vec<f64>,
    /// The eigenvector of each, of length 1; its greatest element (of equals the first) is positive.
    pub(crate) vectors: Vec<Vec<f64>>,
}

/// Takes a symmetric matrix apart; `None` where that does not come to an end, as with a NaN.
pub(crate) fn symmetric(mut a: Vec<Vec<f64>>) -> Option<Eigen> {
    let n = a.len();
    let mut vectors: Vec<Vec<f64>> = (0..n).map(|i| unit(n, i)).collect();
    let total: f64 = a.iter().flatten().map(|x| x * x).sum();
    for _ in 0..MAX_ROUNDS {
        let beside: f64 = (0..n).flat_map(|i| a[i][i + 1..].iter()).map(|x| x * x).sum();
        // The squares of what rounding leaves are far below this.
        if beside <= total * 1e-32 {
            return Some(sorted(&a, vectors));
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, p, q);
            }
        }
    }
    None
}

fn unit(n: usize, i: usize) -> Vec<f64> {
    (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect()
}

/// Turns the plane of `p` and `q` so that their element becomes 0. Row `i` of `vectors` is what becomes eigenvector `i`.
fn rotate(a: &mut [Vec<f64>], vectors: &mut [Vec<f64>], p: usize, q: usize) {
    if a[p][q] == 0.0 {
        return;
    }
    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for row in a.iter_mut() {
        let (x, y) = (row[p], row[q]);
        (row[p], row[q]) = (c * x - s * y, s * x + c * y);
    }
    turn(a, p, q, c, s);
    turn(vectors, p, q, c, s);
    (a[p][q], a[q][p]) = (0.0, 0.0);
}

/// Turns rows `p` and `q`.
fn turn(rows: &mut [Vec<f64>], p: usize, q: usize, c: f64, s: f64) {
    let (above, below) = rows.split_at_mut(q);
    for (x, y) in above[p].iter_mut().zip(&mut below[0]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

fn sorted(a: &[Vec<f64>], vectors: Vec<Vec<f64>>) -> Eigen {
    let mut pairs: Vec<(f64, Vec<f64>)> =
        vectors.into_iter().enumerate().map(|(i, v)| (a[i][i], signed(v))).collect();
    pairs.sort_by(|x, y| y.0.total_cmp(&x.0));
    let (values, vectors) = pairs.into_iter().unzip();
    Eigen { values, vectors }
}

/// The vector or its opposite, so that its greatest element is positive.
fn signed(mut vector: Vec<f64>) -> Vec<f64> {
    let mut greatest = 0.0_f64;
    for &x in &vector {
        if x.abs() > greatest.abs() {
            greatest = x;
        }
    }
    if greatest < 0.0 {
        vector.iter_mut().for_each(|x| *x = -*x);
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;

    #[test]
    fn a_matrix_is_the_sum_of_its_parts() {
        let mut dice = Dice::new(4);
        for n in [1, 2, 3, 8, 40] {
            let mut a = vec![vec![0.0; n]; n];
            for (i, j) in (0..n).flat_map(|i| (0..=i).map(move |j| (i, j))) {
                let value = dice.unit() * 10.0;
                (a[i][j], a[j][i]) = (value, value);
            }
            let Eigen { values, vectors } = symmetric(a.clone()).unwrap();
            assert!(values.is_sorted_by(|x, y| x >= y));
            for (i, row) in a.iter().enumerate() {
                for (j, value) in row.iter().enumerate() {
                    let sum: f64 = (0..n).map(|k| values[k] * vectors[k][i] * vectors[k][j]).sum();
                    assert!((sum - value).abs() < 1e-12 * 10.0 * n as f64, "{n} {i} {j}");
                    let dot: f64 = (0..n).map(|k| vectors[i][k] * vectors[j][k]).sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-13, "{n} {i} {j}");
                }
            }
        }
    }

    #[test]
    fn equal_and_zero_eigenvalues_are_no_trouble() {
        let a = vec![vec![2.0, 0.0, 0.0], vec![0.0, 2.0, 0.0], vec![0.0, 0.0, 0.0]];
        let Eigen { values, vectors } = symmetric(a).unwrap();
        assert_eq!(values, [2.0, 2.0, 0.0]);
        assert_eq!(vectors[2], [0.0, 0.0, 1.0]);
    }

    #[test]
    fn a_nan_comes_to_no_end() {
        assert_eq!(symmetric(vec![vec![f64::NAN, 1.0], vec![1.0, 1.0]]), None);
    }
}
