//! Boosting on sets whose answer is known.

use super::*;
use foreline_sdk::trees::Forest;

/// Numbers in `[0, 10)`.
fn noise(n: usize) -> Vec<f64> {
    (0..n as u64).map(|i| share(11, i) * 10.0).collect()
}

/// A bend and a product, a feature that says nothing, and a gap where the target is 50 higher.
fn matrix(rows: usize) -> Matrix {
    let mut x = noise(rows * 4);
    let y = x
        .chunks_exact_mut(4)
        .enumerate()
        .map(|(at, row)| {
            let y = (row[0] - 4.0).abs() * 3.0 + row[1] * row[2];
            if at % 10 == 0 {
                row[0] = f64::NAN;
                return y + 50.0;
            }
            y
        })
        .collect();
    let groups = (0..rows as u32).map(|row| row / 50).collect();
    Matrix { rows, width: 4, x, y, groups, n_classes: 0 }
}

fn fitted(threads: usize, parameters: &BoostedParameters, matrix: &Matrix) -> Trees {
    match fit_on(threads, parameters, matrix).unwrap().payload {
        Payload::Trees(trees) => trees,
        _ => unreachable!("boosting makes trees"),
    }
}

fn scores(model: &Trees, x: &[f64]) -> Vec<f64> {
    let forest = Forest::new(model.clone(), 4).unwrap();
    let mut out = vec![0.0; x.len() / 4 * forest.n_outputs()];
    forest.score(x, &mut out);
    out
}

fn explained(scores: &[f64], y: &[f64]) -> f64 {
    let mean = y.iter().sum::<f64>() / y.len() as f64;
    let error: f64 = scores.iter().zip(y).map(|(s, y)| (s - y).powi(2)).sum();
    1.0 - error / y.iter().map(|y| (y - mean).powi(2)).sum::<f64>()
}

#[test]
fn bends_products_and_gaps_are_learnt() {
    let matrix = matrix(3000);
    let model = fitted(1, &BoostedParameters::default(), &matrix);
    let share = explained(&scores(&model, &matrix.x), &matrix.y);
    assert!(share > 0.99, "{share}");
}

#[test]
fn the_flat_trees_have_the_bits_of_training() {
    let matrix = matrix(800);
    let p = BoostedParameters {
        subsample: 0.7,
        features_per_tree: Some(3),
        trees: 40,
        stop_after: Some(40),
        ..Default::default()
    };
    let booster = Booster::new(&p, &matrix, 1).unwrap();
    let mut native = vec![1.5; matrix.rows];
    let gradients = Loss::Squared.gradients(&[native.clone()], &matrix.y);
    let mut model = empty(Objective::Squared);
    model.base = vec![1.5];
    model.outputs = 1;
    for (number, gradients) in gradients.iter().cycle().take(40).enumerate() {
        let tree = booster.tree(Loss::Squared, number as u64, gradients, &mut native);
        lay_out(&tree, &booster.binned, 0, &mut model);
    }
    let flat = scores(&model, &matrix.x);
    let differ = native.iter().zip(&flat).filter(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(differ.count(), 0);
}

#[test]
fn the_number_of_threads_does_not_show() {
    // Wide enough that the sums of the root are shared out.
    let rows = 70_000;
    let x = noise(rows * 4);
    let y = x.chunks_exact(4).map(|r| r[0] * r[1] - r[2]).collect();
    let matrix = Matrix { rows, width: 4, x, y, groups: vec![], n_classes: 0 };
    let p = BoostedParameters { trees: 3, subsample: 0.95, ..Default::default() };
    let one = fitted(1, &p, &matrix);
    for threads in [2, 3, 7] {
        let other = fitted(threads, &p, &matrix);
        assert_eq!(one.values, other.values);
        assert_eq!(one.tree_start, other.tree_start);
    }
}

#[test]
fn quantiles_cover_their_share_and_never_cross() {
    let mut matrix = matrix(4000);
    // Without noise all quantiles are one.
    for (y, at) in matrix.y.iter_mut().zip(0..) {
        *y += share(5, at) * 20.0;
    }
    let p = BoostedParameters {
        objective: Some(Objective::Quantile),
        quantiles: vec![0.1, 0.5, 0.9],
        max_leaves: 8,
        ..Default::default()
    };
    let out = scores(&fitted(1, &p, &matrix), &matrix.x);
    for (at, q) in p.quantiles.iter().enumerate() {
        let below = out.chunks_exact(3).zip(&matrix.y).filter(|(row, y)| **y <= row[at]).count();
        let share = below as f64 / 4000.0;
        assert!((share - q).abs() < 0.03, "{share} of the rows lie below quantile {q}");
    }
    assert!(out.chunks_exact(3).all(|row| row.is_sorted()));
}

#[test]
fn classes_have_probabilities() {
    let mut set = matrix(2000);
    set.y = set.x.chunks_exact(4).map(|r| f64::from(u8::from(r[1] > 5.0))).collect();
    set.n_classes = 2;
    let p = BoostedParameters { trees: 60, ..Default::default() };
    let out = scores(&fitted(1, &p, &set), &set.x);
    let hits = out.chunks_exact(2).zip(&set.y).filter(|(p, y)| (p[1] > 0.5) == (**y == 1.0));
    assert!(hits.count() > 1980);
    assert!(out.chunks_exact(2).all(|p| (p[0] + p[1] - 1.0).abs() < 1e-12));
    set.y = set.x.chunks_exact(4).map(|r| (r[2] / 3.4).floor()).collect();
    set.n_classes = 3;
    let out = scores(&fitted(1, &p, &set), &set.x);
    let hits = out.chunks_exact(3).zip(&set.y).filter(|(p, y)| p[**y as usize] > 0.5).count();
    assert!(hits > 1980, "{hits}");
}

#[test]
fn whole_groups_are_held_back() {
    let matrix = matrix(1000);
    let p = BoostedParameters { stop_after: Some(5), ..Default::default() };
    let held = held(&p, &matrix).unwrap().unwrap();
    assert_eq!(held.iter().filter(|h| **h).count(), 200);
    assert!(held.chunks(50).all(|group| group.iter().all(|h| *h == group[0])));
    // With nothing to learn, the first round is the best and the last that is kept.
    let shuffled = Matrix { y: noise(1000), x: noise(9000)[5000..].to_vec(), ..matrix };
    let model = fitted(1, &p, &shuffled);
    assert!(model.tree_start.len() < 50, "{} trees", model.tree_start.len());
    let one = Matrix { groups: vec![7; 1000], ..shuffled };
    assert!(matches!(fit_on(1, &p, &one), Err(TrainError::Parameters { .. })));
}

#[test]
fn a_constant_target_and_a_single_row_are_no_trouble() {
    let p = BoostedParameters { trees: 3, ..Default::default() };
    let constant = Matrix { y: vec![7.0; 200], ..matrix(200) };
    assert!(scores(&fitted(2, &p, &constant), &constant.x).iter().all(|s| *s == 7.0));
    let single = Matrix { y: vec![3.0], ..matrix(1) };
    assert_eq!(scores(&fitted(2, &p, &single), &single.x), [3.0]);
}
