//! A random forest of regression trees, as smartcore grows them.
//!
//! smartcore's own rule is `value <= threshold` to one child and a mean in tree order; the flat form has the same rule,
//! so it gives the same bits as smartcore's `predict`. The trees are grown in groups of a few, each a smartcore forest
//! with a seed of its own; groups run on all cores, and since neither their size nor their seeds depend on the number
//! of threads, nor does the result.
//!
//! smartcore goes on splitting rows that all have one target, as rows at a cap do, which makes chains of a thousand
//! nodes with one value. A branch in which all leaves agree is laid out as one leaf: that changes no score and makes
//! scoring many times faster. `max_depth` spares the fit the chains too.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use foreline_sdk::trees::{FORMAT, Link, NAN_IS_MISSING, Node, Payload as Trees};
use schemars::JsonSchema;
use serde::Deserialize;
use smartcore::ensemble::random_forest_regressor::{
    RandomForestRegressor, RandomForestRegressorParameters,
};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::{Fitted, Matrix, Payload, TrainError, parameters};

/// The library in the weights' header. The manifest pins exactly this version, since others grow other trees.
const LIBRARY: &str = "smartcore 0.7.0";
/// Trees of a group. A group sorts every feature once, so larger groups sort less and smaller ones share out better.
const TREES_PER_GROUP: u32 = 5;
/// Trees of a forest: with 10,000 a row takes 0.1 ms to score.
const MAX_TREES: u32 = 10_000;

type Smartcore = RandomForestRegressor<f64, f64, DenseMatrix<f64>, Vec<f64>>;

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
    /// How many features, drawn anew for every split, are tried for it. A third of them when left out.
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
        let done = group * TREES_PER_GROUP;
        let m = self.features_per_split.unwrap_or((width / 3).max(1));
        let mut parameters = RandomForestRegressorParameters::default()
            .with_n_trees(TREES_PER_GROUP.min(self.trees - done) as usize)
            .with_min_samples_leaf(self.min_samples_leaf)
            .with_m(m)
            .with_seed(spread(self.seed, group));
        parameters.max_depth = self.max_depth;
        parameters
    }
}

/// A seed for each group. smartcore gives neighbouring trees neighbouring seeds, so groups must lie far apart
/// (the mixing function of `SplitMix64`).
fn spread(seed: u64, group: u32) -> u64 {
    let mut z = seed.wrapping_add(u64::from(group + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(super) fn fit(params: &serde_json::Value, matrix: &Matrix) -> Result<Fitted, TrainError> {
    let parameters: ForestParameters = parameters(params)?;
    parameters.check(matrix.width)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let groups = grow(&parameters, matrix, threads)?;
    Ok(Fitted { payload: Payload::Trees(flat(&groups)?), format: FORMAT, library: LIBRARY })
}

/// Grows all groups, in order, on `threads` threads.
fn grow(
    parameters: &ForestParameters,
    matrix: &Matrix,
    threads: usize,
) -> Result<Vec<Grown>, TrainError> {
    let failed = |e: &dyn std::fmt::Display| TrainError::Failed(e.to_string());
    let x = DenseMatrix::new(matrix.rows, matrix.width, matrix.x.clone(), false)
        .map_err(|e| failed(&e))?;
    let n_groups = parameters.trees.div_ceil(TREES_PER_GROUP);
    let next = AtomicU32::new(0);
    let grown = Mutex::new(Vec::new());
    let work = || {
        loop {
            let group = next.fetch_add(1, Ordering::Relaxed);
            if group >= n_groups {
                return Ok(());
            }
            let parameters = parameters.group(group, matrix.width);
            let forest = Smartcore::fit(&x, &matrix.y, parameters).map_err(|e| failed(&e))?;
            let forest = Grown::of(&forest)?;
            grown.lock().map_err(|e| failed(&e))?.push((group, forest));
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
    Ok(grown.into_iter().map(|(_, forest)| forest).collect())
}

/// What smartcore keeps of a forest but does not show, read by field name from what it serialises. By name, so that a
/// field that moves is an error and not another tree; as values and not as text, which would change thresholds.
#[derive(Debug, Deserialize)]
struct Grown {
    forest_regressor: Base,
}

#[derive(Debug, Deserialize)]
struct Base {
    trees: Vec<Tree>,
}

#[derive(Debug, Deserialize)]
struct Tree {
    nodes: Vec<Split>,
}

#[derive(Debug, Deserialize)]
struct Split {
    output: f64,
    split_feature: u32,
    split_value: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

impl Grown {
    fn of(forest: &Smartcore) -> Result<Self, TrainError> {
        let read = serde_json::to_value(forest).and_then(serde_json::from_value);
        read.map_err(|e| TrainError::Failed(format!("smartcore's forest cannot be read: {e}")))
    }
}

/// The trees in the form that the plugin evaluates.
fn flat(groups: &[Grown]) -> Result<Trees, TrainError> {
    let trees: Vec<&Tree> = groups.iter().flat_map(|g| &g.forest_regressor.trees).collect();
    let mut flat = Trees {
        input_f32: false,
        strict: false,
        acc_f32: false,
        outputs: 1,
        base: vec![0.0],
        average: true,
        link: Link::Identity,
        tree_output: vec![0; trees.len()],
        tree_start: Vec::new(),
        nodes: Vec::new(),
        values: Vec::new(),
        value_width: 1,
    };
    for tree in trees {
        flat.tree_start.push(index(flat.nodes.len())?);
        lay_out(tree, &mut flat)?;
    }
    Ok(flat)
}

/// Lays a tree out level by level, so that the two children of a node lie side by side.
fn lay_out(tree: &Tree, flat: &mut Trees) -> Result<(), TrainError> {
    let broken = || TrainError::Failed("smartcore's tree leads nowhere".to_owned());
    let start = flat.nodes.len();
    let settled = settled(tree).ok_or_else(broken)?;
    let mut order = vec![0_usize];
    let mut at = 0;
    while let Some(&old) = order.get(at) {
        let split = tree.nodes.get(old).ok_or_else(broken)?;
        let here = index(start + at)?;
        let node = match (settled[old], split.true_child, split.false_child, split.split_value) {
            (Some(_), ..) => Node::leaf(here),
            (None, Some(left), Some(right), Some(threshold)) => {
                let left_at = index(start + order.len())?;
                order.extend([left, right]);
                Node { threshold, feature: split.split_feature | NAN_IS_MISSING, left: left_at }
            }
            (None, ..) => return Err(broken()),
        };
        flat.nodes.push(node);
        flat.values.push(settled[old].map_or(split.output, f64::from_bits));
        at += 1;
    }
    Ok(())
}

/// For every node the value, in bits, on which all leaves below it agree. `None` where a child does not come after its
/// parent, as smartcore's do; so the walk over a tree ends.
fn settled(tree: &Tree) -> Option<Vec<Option<u64>>> {
    let mut settled = vec![None; tree.nodes.len()];
    for (at, split) in tree.nodes.iter().enumerate().rev() {
        settled[at] = match (split.true_child, split.false_child) {
            (None, None) => Some(split.output.to_bits()),
            (Some(left), Some(right)) if left > at && right > at => {
                let (left, right) = (*settled.get(left)?, *settled.get(right)?);
                left.filter(|_| left == right)
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
        let x: Vec<f64> = (0..rows * width)
            .map(|i| (spread(7, u32::try_from(i).unwrap()) >> 40) as f64 / 1e5)
            .collect();
        let y = x.chunks_exact(width).map(|r| (r[0] - 80.0).abs() + r[1].floor() * 0.1).collect();
        Matrix { rows, width, x, y }
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
            let forest = Smartcore::fit(&x, &matrix.y, parameters.group(0, 6)).unwrap();
            let expected = forest.predict(&x).unwrap();
            let grown = Grown::of(&forest).unwrap();
            let n_grown: usize = grown.forest_regressor.trees.iter().map(|t| t.nodes.len()).sum();
            let flat = flat(&[grown]).unwrap();
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
        let one = flat(&grow(&parameters, &matrix, 1).unwrap()).unwrap();
        let three = flat(&grow(&parameters, &matrix, 3).unwrap()).unwrap();
        assert_eq!(one.tree_start.len(), 12);
        assert_eq!(one.values, three.values);
        assert_eq!(one.tree_start, three.tree_start);
    }

    #[test]
    fn another_seed_gives_another_forest() {
        let matrix = matrix(500, 4);
        let grown = |seed| {
            let parameters = ForestParameters { trees: 2, seed, ..Default::default() };
            flat(&grow(&parameters, &matrix, 1).unwrap()).unwrap().values
        };
        assert_ne!(grown(1), grown(2));
    }
}
