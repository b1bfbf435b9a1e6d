//! A random forest of regression or classification trees, as smartcore grows them.
//!
//! smartcore's own rule is `value <= threshold` to one child and a mean in tree order; the flat form has the same rule,
//! so it gives the same bits as smartcore's `predict`. The trees are grown in groups of a few, each a smartcore forest
//! with a seed of its own; groups run on all cores, and since neither their size nor their seeds depend on the number
//! of threads, nor does the result.
//!
//! smartcore goes on splitting rows that all have one target, as rows at a cap do, which makes chains of a thousand
//! nodes with one value. A branch in which all leaves agree is laid out as one leaf: that changes no score and makes
//! scoring many times faster. `max_depth` spares the fit the chains too.
//!
//! smartcore's classification trees know one class a leaf. A leaf here knows the shares of the classes among all rows
//! that are learnt from, the drawn and the others: the others were not split by, so the shares are not too sure of
//! themselves. The probabilities are the means of these shares over the trees.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use foreline_sdk::trees::{FORMAT, Link, NAN_IS_MISSING, Node, Payload as Trees};
use schemars::JsonSchema;
use serde::Deserialize;
use smartcore::ensemble::random_forest_classifier::{
    RandomForestClassifier, RandomForestClassifierParameters,
};
use smartcore::ensemble::random_forest_regressor::{
    RandomForestRegressor, RandomForestRegressorParameters,
};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::random::spread;
use super::{Columns, Fitted, Matrix, Payload, TrainError, parameters};

/// The library in the weights' header. The manifest pins exactly this version, since others grow other trees.
const LIBRARY: &str = "smartcore 0.7.0";
/// Trees of a group. A group sorts every feature once, so larger groups sort less and smaller ones share out better.
const TREES_PER_GROUP: u32 = 5;
/// Trees of a forest: with 10,000 a row takes 0.1 ms to score.
const MAX_TREES: u32 = 10_000;

type Regressor = RandomForestRegressor<f64, f64, DenseMatrix<f64>, Vec<f64>>;
type Classifier = RandomForestClassifier<f64, u32, DenseMatrix<f64>, Vec<u32>>;

/// Parameters of a random forest.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForestParameters {
    /// How many trees.
    #[schemars(range(min = 1, max = 10000))]
    pub trees: u32,
    /// Deepest level of a tree, the root being 1. Unlimited when left out.
    #[schemars(range(min = 2))]
    pub max_depth: Option<u16>,
    /// Fewest rows in a leaf.
    #[schemars(range(min = 1))]
    pub min_samples_leaf: usize,
    /// How many features, drawn anew for every split, are tried for it. When left out a third of them, and of a class the
    /// square root of their number.
    #[schemars(range(min = 1))]
    pub features_per_split: Option<usize>,
    /// What the draws start from. The same seed gives the same forest.
    pub seed: u64,
}

impl Default for ForestParameters {
    fn default() -> Self {
        ForestParameters {
            trees: 100,
            max_depth: None,
            min_samples_leaf: 5,
            features_per_split: None,
            seed: 0,
        }
    }
}

impl ForestParameters {
    fn check(&self, width: usize) -> Result<(), TrainError> {
        let wrong =
            |at: &str, message: String| Err(TrainError::Parameters { at: at.to_owned(), message });
        if self.trees == 0 || self.trees > MAX_TREES {
            return wrong("trees", format!("'{}' is not between 1 and {MAX_TREES}", self.trees));
        }
        if self.min_samples_leaf == 0 {
            return wrong("min_samples_leaf", "'0' is too few; a leaf has a row".to_owned());
        }
        match self.features_per_split {
            Some(m) if m == 0 || m > width => {
                wrong("features_per_split", format!("'{m}' is not between 1 and {width}"))
            }
            _ => Ok(()),
        }
    }

    /// The parameters of one group.
    fn group(&self, group: u32, width: usize) -> RandomForestRegressorParameters {
        let m = self.features_per_split.unwrap_or((width / 3).max(1));
        let mut parameters = RandomForestRegressorParameters::default()
            .with_n_trees(self.trees_of(group) as usize)
            .with_min_samples_leaf(self.min_samples_leaf)
            .with_m(m)
            .with_seed(spread(self.seed, u64::from(group)));
        parameters.max_depth = self.max_depth;
        parameters
    }

    /// The same of a group of classification trees.
    fn group_of_classes(&self, group: u32, width: usize) -> RandomForestClassifierParameters {
        let m = self.features_per_split.unwrap_or((width.isqrt()).max(1));
        let mut parameters = RandomForestClassifierParameters::default()
            .with_n_trees(self.trees_of(group) as u16)
            .with_min_samples_leaf(self.min_samples_leaf)
            .with_m(m)
            .with_seed(spread(self.seed, u64::from(group)));
        parameters.max_depth = self.max_depth;
        parameters
    }

    fn trees_of(&self, group: u32) -> u32 {
        TREES_PER_GROUP.min(self.trees - group * TREES_PER_GROUP)
    }
}

pub(super) fn fit(params: &serde_json::Value, matrix: &Matrix) -> Result<Fitted, TrainError> {
    let parameters: ForestParameters = parameters(params)?;
    parameters.check(matrix.width)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let trees = grow(&parameters, matrix, threads)?;
    let columns = if matrix.n_classes == 0 { Columns::One } else { Columns::Classes };
    let payload = Payload::Trees(flat(&trees, matrix.n_classes.max(1))?);
    Ok(Fitted { payload, format: FORMAT, library: LIBRARY, columns })
}

/// Grows all groups, in order, on `threads` threads.
fn grow(
    parameters: &ForestParameters,
    matrix: &Matrix,
    threads: usize,
) -> Result<Vec<Tree>, TrainError> {
    let failed = |e: &dyn std::fmt::Display| TrainError::Failed(e.to_string());
    let x = DenseMatrix::new(matrix.rows, matrix.width, matrix.x.clone(), false)
        .map_err(|e| failed(&e))?;
    let classes: Vec<u32> = match matrix.n_classes {
        0 => vec![],
        _ => matrix.y.iter().map(|&y| y as u32).collect(),
    };
    let n_groups = parameters.trees.div_ceil(TREES_PER_GROUP);
    let next = AtomicU32::new(0);
    let grown = Mutex::new(Vec::new());
    let work = || {
        loop {
            let group = next.fetch_add(1, Ordering::Relaxed);
            if group >= n_groups {
                return Ok(());
            }
            let trees = if matrix.n_classes == 0 {
                let parameters = parameters.group(group, matrix.width);
                let forest = Regressor::fit(&x, &matrix.y, parameters).map_err(|e| failed(&e))?;
                trees_of(&forest, matrix)
            } else {
                let parameters = parameters.group_of_classes(group, matrix.width);
                let forest = Classifier::fit(&x, &classes, parameters).map_err(|e| failed(&e))?;
                trees_of_classes(&forest, matrix)
            };
            grown.lock().map_err(|e| failed(&e))?.push((group, trees?));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let join = |w: std::thread::ScopedJoinHandle<'_, _>| {
            w.join().unwrap_or_else(|_| Err(TrainError::Failed("smartcore panicked".to_owned())))
        };
        workers.into_iter().try_for_each(join)
    })?;
    let mut grown = grown.into_inner().map_err(|e| failed(&e))?;
    grown.sort_by_key(|(group, _)| *group);
    Ok(grown.into_iter().flat_map(|(_, trees)| trees).collect())
}

/// smartcore's own forest of regression trees and its own `predict`, which the flat form is measured against.
///
/// # Errors
/// When parameters or rows cannot be used.
pub fn smartcore_forest(
    params: &serde_json::Value,
    set: &super::TrainingSet,
) -> Result<impl Fn(&[f64]) -> Result<Vec<f64>, TrainError>, TrainError> {
    let parameters: ForestParameters = parameters(params)?;
    let width = set.feature_names.len();
    parameters.check(width)?;
    let failed = |e: &dyn std::fmt::Display| TrainError::Failed(e.to_string());
    let rows = move |x: &[f64]| {
        DenseMatrix::new(x.len() / width, width, x.to_vec(), false).map_err(|e| failed(&e))
    };
    let mut whole = parameters.group(0, width);
    whole.n_trees = parameters.trees as usize;
    let forest = Regressor::fit(&rows(&set.x)?, &set.y, whole).map_err(|e| failed(&e))?;
    Ok(move |x: &[f64]| forest.predict(&rows(x)?).map_err(|e| failed(&e)))
}

/// What smartcore keeps of a forest but does not show, read by field name from what it serialises. By name, so that a
/// field that moves is an error and not another tree; as values and not as text, which would change thresholds.
#[derive(Debug, Deserialize)]
struct Grown {
    forest_regressor: Base,
}

/// A forest of classification trees is its own base.
#[derive(Debug, Deserialize)]
struct Base {
    trees: Vec<Tree>,
}

#[derive(Debug, Deserialize)]
struct Tree {
    nodes: Vec<Split>,
    /// What leaves say, a number (or one a class) for every node.
    #[serde(skip)]
    values: Vec<f64>,
    /// How many of the rows that are learnt from, the drawn and the others, come to each node: which rows a tree was
    /// drawn smartcore does not say.
    #[serde(skip)]
    rows: Vec<u32>,
}

#[derive(Debug, Deserialize)]
struct Split {
    output: f64,
    split_feature: u32,
    split_value: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

fn unreadable(e: &serde_json::Error) -> TrainError {
    TrainError::Failed(format!("smartcore's forest cannot be read: {e}"))
}

fn astray() -> TrainError {
    TrainError::Failed("smartcore's tree leads nowhere".to_owned())
}

fn trees_of(forest: &Regressor, matrix: &Matrix) -> Result<Vec<Tree>, TrainError> {
    let read = serde_json::to_value(forest).and_then(serde_json::from_value);
    let Grown { forest_regressor: Base { mut trees } } = read.map_err(|e| unreadable(&e))?;
    for tree in &mut trees {
        tree.values = tree.nodes.iter().map(|split| split.output).collect();
        tree.rows = walk(tree, matrix, |_, _| {}).ok_or_else(astray)?;
    }
    Ok(trees)
}

fn trees_of_classes(forest: &Classifier, matrix: &Matrix) -> Result<Vec<Tree>, TrainError> {
    let read = serde_json::to_value(forest).and_then(serde_json::from_value);
    let Base { mut trees } = read.map_err(|e| unreadable(&e))?;
    for tree in &mut trees {
        (tree.values, tree.rows) = shares(tree, matrix).ok_or_else(astray)?;
    }
    Ok(trees)
}

/// Sends every row down a tree: how many come to each node; `leaf` is told where each ends. `None` where a row is led
/// astray.
fn walk(tree: &Tree, matrix: &Matrix, mut leaf: impl FnMut(usize, usize)) -> Option<Vec<u32>> {
    let mut rows = vec![0_u32; tree.nodes.len()];
    for (number, row) in matrix.x.chunks_exact(matrix.width).enumerate() {
        let mut at = 0;
        loop {
            *rows.get_mut(at)? += 1;
            let split = tree.nodes.get(at)?;
            let (Some(left), Some(right)) = (split.true_child, split.false_child) else { break };
            let goes_left = *row.get(split.split_feature as usize)? <= split.split_value?;
            let next = if goes_left { left } else { right };
            if next <= at {
                return None;
            }
            at = next;
        }
        leaf(number, at);
    }
    Some(rows)
}

/// The shares of the classes among the rows that end in each node, and the rows that come to it.
fn shares(tree: &Tree, matrix: &Matrix) -> Option<(Vec<f64>, Vec<u32>)> {
    let n_classes = matrix.n_classes;
    let mut shares = vec![0.0; tree.nodes.len() * n_classes];
    let rows = walk(tree, matrix, |row, node| {
        shares[node * n_classes + matrix.y[row] as usize] += 1.0;
    })?;
    for shares in shares.chunks_exact_mut(n_classes) {
        let rows: f64 = shares.iter().sum();
        if rows > 0.0 {
            shares.iter_mut().for_each(|share| *share /= rows);
        }
    }
    Some((shares, rows))
}

/// The trees in the form that the plugin evaluates, with `width` numbers a leaf.
fn flat(trees: &[Tree], width: usize) -> Result<Trees, TrainError> {
    let mut flat = Trees {
        input_f32: false,
        strict: false,
        acc_f32: false,
        outputs: width as u32,
        base: vec![0.0; width],
        average: true,
        link: Link::Identity,
        tree_output: vec![0; trees.len()],
        tree_start: Vec::new(),
        nodes: Vec::new(),
        values: Vec::new(),
        value_width: width as u32,
        covers: Vec::new(),
    };
    for tree in trees {
        flat.tree_start.push(index(flat.nodes.len())?);
        lay_out(tree, width, &mut flat)?;
    }
    Ok(flat)
}

/// Lays a tree out level by level, so that the two children of a node lie side by side.
fn lay_out(tree: &Tree, width: usize, flat: &mut Trees) -> Result<(), TrainError> {
    let start = flat.nodes.len();
    let settled = settled(tree, width).ok_or_else(astray)?;
    let mut order = vec![0_usize];
    let mut at = 0;
    while let Some(&old) = order.get(at) {
        let split = tree.nodes.get(old).ok_or_else(astray)?;
        let here = index(start + at)?;
        let node = match (settled[old], split.true_child, split.false_child, split.split_value) {
            (Some(_), ..) => Node::leaf(here),
            (None, Some(left), Some(right), Some(threshold)) => {
                let left_at = index(start + order.len())?;
                order.extend([left, right]);
                Node { threshold, feature: split.split_feature | NAN_IS_MISSING, left: left_at }
            }
            (None, ..) => return Err(astray()),
        };
        flat.nodes.push(node);
        flat.covers.push(f64::from(tree.rows[old]));
        flat.values.extend_from_slice(says(tree, width, settled[old].unwrap_or(old)));
        at += 1;
    }
    Ok(())
}

/// The numbers of a node.
fn says(tree: &Tree, width: usize, node: usize) -> &[f64] {
    &tree.values[node * width..][..width]
}

/// For every node the first of the leaves below it, where all of them say the same in bits. `None` where a child does
/// not come after its parent, as smartcore's do; so the walk over a tree ends.
fn settled(tree: &Tree, width: usize) -> Option<Vec<Option<usize>>> {
    let same = |a: usize, b: usize| {
        let pairs = says(tree, width, a).iter().zip(says(tree, width, b));
        pairs.into_iter().all(|(a, b)| a.to_bits() == b.to_bits())
    };
    let mut settled = vec![None; tree.nodes.len()];
    for (at, split) in tree.nodes.iter().enumerate().rev() {
        settled[at] = match (split.true_child, split.false_child) {
            (None, None) => Some(at),
            (Some(left), Some(right)) if left > at && right > at => {
                let (left, right) = (*settled.get(left)?, *settled.get(right)?);
                left.zip(right).filter(|&(left, right)| same(left, right)).map(|(left, _)| left)
            }
            _ => return None,
        };
    }
    Some(settled)
}

fn index(at: usize) -> Result<u32, TrainError> {
    u32::try_from(at).map_err(|_| TrainError::Failed("the forest is too large".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreline_sdk::trees::Forest;

    /// A deterministic set with a bend, a step and repeated values.
    fn matrix(rows: usize, width: usize) -> Matrix {
        let x: Vec<f64> =
            (0..rows * width).map(|i| (spread(7, i as u64) >> 40) as f64 / 1e5).collect();
        let y = x.chunks_exact(width).map(|r| (r[0] - 80.0).abs() + r[1].floor() * 0.1).collect();
        Matrix { rows, width, x, y, groups: vec![], n_classes: 0 }
    }

    #[test]
    fn flat_trees_have_the_bits_of_smartcores_prediction() {
        let free = matrix(3000, 6);
        let capped = Matrix { y: free.y.iter().map(|y| y.min(15.0)).collect(), ..matrix(3000, 6) };
        for (matrix, trees, min_samples_leaf, max_depth) in [
            (&free, 5, 1, None),
            (&free, 3, 5, Some(6)),
            (&capped, 5, 3, None),
            (&capped, 5, 5, Some(24)),
        ] {
            let parameters =
                ForestParameters { trees, min_samples_leaf, max_depth, ..Default::default() };
            let x = DenseMatrix::new(matrix.rows, 6, matrix.x.clone(), false).unwrap();
            let forest = Regressor::fit(&x, &matrix.y, parameters.group(0, 6)).unwrap();
            let expected = forest.predict(&x).unwrap();
            let trees = trees_of(&forest, matrix).unwrap();
            let n_grown: usize = trees.iter().map(|t| t.nodes.len()).sum();
            let flat = flat(&trees, 1).unwrap();
            if matrix.y == capped.y {
                assert!(flat.nodes.len() * 2 < n_grown, "{} of {n_grown}", flat.nodes.len());
            }
            let mut scores = vec![0.0; matrix.rows];
            Forest::new(flat, 6).unwrap().score(&matrix.x, &mut scores);
            let differ = scores.iter().zip(&expected).filter(|(a, b)| a.to_bits() != b.to_bits());
            assert_eq!(differ.count(), 0);
        }
    }

    #[test]
    fn the_number_of_threads_does_not_show() {
        let matrix = matrix(500, 4);
        let parameters = ForestParameters { trees: 12, ..Default::default() };
        let one = flat(&grow(&parameters, &matrix, 1).unwrap(), 1).unwrap();
        let three = flat(&grow(&parameters, &matrix, 3).unwrap(), 1).unwrap();
        assert_eq!(one.tree_start.len(), 12);
        assert_eq!(one.values, three.values);
        assert_eq!(one.tree_start, three.tree_start);
    }

    #[test]
    fn another_seed_gives_another_forest() {
        let matrix = matrix(500, 4);
        let grown = |seed| {
            let parameters = ForestParameters { trees: 2, seed, ..Default::default() };
            flat(&grow(&parameters, &matrix, 1).unwrap(), 1).unwrap().values
        };
        assert_ne!(grown(1), grown(2));
    }

    #[test]
    fn classes_are_the_votes_of_leaves() {
        let numbers = matrix(1500, 4);
        let y = numbers.x.chunks_exact(4).map(|r| (r[0] / 60.0).floor()).collect();
        let matrix = Matrix { y, n_classes: 3, ..numbers };
        let parameters = ForestParameters { trees: 7, min_samples_leaf: 1, ..Default::default() };
        let flat = flat(&grow(&parameters, &matrix, 2).unwrap(), 3).unwrap();
        let forest = Forest::new(flat, 4).unwrap();
        let mut shares = vec![0.0; 4500];
        forest.score(&matrix.x, &mut shares);
        assert!(shares.chunks_exact(3).all(|s| (s.iter().sum::<f64>() - 1.0).abs() < 1e-12));
        let hits = shares.chunks_exact(3).zip(&matrix.y).filter(|(s, y)| s[**y as usize] > 0.5);
        assert!(hits.count() > 1480);
    }
}
