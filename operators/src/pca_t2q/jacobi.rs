//! Eigenvalues and eigenvectors of a symmetric matrix by cyclic Jacobi rotations.
//!
//! The rotations come in a fixed order and use nothing but arithmetic and square roots, so equal matrices give equal
//! bits everywhere. Eigenvectors are rows, the one of the greatest eigenvalue first; their signs mean nothing.

/// Sweeps over all pairs: they converge quadratically, and six to ten are usual for 64 columns.
const MAX_SWEEPS: usize = 60;

/// Eigenvalues, falling, and eigenvectors, one after the other, of the `n` by `n` matrix `a`.
pub(super) fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; n * n];
    for i in 0..n {
        vectors[i * n + i] = 1.0;
    }
    let size: f64 = a.iter().map(|x| x * x).sum();
    for _ in 0..MAX_SWEEPS {
        let off: f64 = (0..n).flat_map(|i| a[i * n..i * n + i].iter()).map(|x| x * x).sum();
        if off <= f64::EPSILON * f64::EPSILON * size * 1e-6 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut vectors, n, p, q);
            }
        }
    }
    sorted(&a, &vectors, n)
}

/// Turns the axes `p` and `q` so that their product is none.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    // Of the two angles the lesser, which leaves the others as they are as far as possible.
    let sign = if theta < 0.0 { -1.0 } else { 1.0 };
    let t = sign / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for k in 0..n {
        let (akp, akq) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = c * akp - s * akq;
        a[k * n + q] = s * akp + c * akq;
    }
    for k in 0..n {
        let (apk, aqk) = (a[p * n + k], a[q * n + k]);
        a[p * n + k] = c * apk - s * aqk;
        a[q * n + k] = s * apk + c * aqk;
        let (vp, vq) = (vectors[p * n + k], vectors[q * n + k]);
        vectors[p * n + k] = c * vp - s * vq;
        vectors[q * n + k] = s * vp + c * vq;
    }
    (a[p * n + q], a[q * n + p]) = (0.0, 0.0);
}

fn sorted(a: &[f64], vectors: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
    let values = order.iter().map(|&i| a[i * n + i]).collect();
    let vectors = order.iter().flat_map(|&i| vectors[i * n..(i + 1) * n].iter().copied());
    (values, vectors.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;

    #[test]
    fn vectors_are_orthonormal_and_make_the_matrix_again() {
        let mut dice = Dice::new(1);
        for n in [1, 2, 5, 20] {
            let mut a = vec![0.0; n * n];
            for i in 0..n {
                for j in 0..=i {
                    let x = dice.unit();
                    (a[i * n + j], a[j * n + i]) = (x, x);
                }
            }
            let (values, v) = eigen(a.clone(), n);
            assert!(values.is_sorted_by(|a, b| a >= b));
            for i in 0..n {
                for j in 0..n {
                    let sum = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
                    let dot = sum(&|k| v[i * n + k] * v[j * n + k]);
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-13);
                    let again = sum(&|k| values[k] * v[k * n + i] * v[k * n + j]);
                    assert!((again - a[i * n + j]).abs() < 1e-13);
                }
            }
        }
    }

    #[test]
    fn a_known_matrix() {
        let (values, vectors) = eigen(vec![2.0, 1.0, 1.0, 2.0], 2);
        assert!((values[0] - 3.0).abs() < 1e-15 && (values[1] - 1.0).abs() < 1e-15);
        assert!((vectors[0].abs() - 0.5_f64.sqrt()).abs() < 1e-15);
    }
}
