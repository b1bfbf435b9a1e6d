//! Gradient-boosted trees, grown on histograms.
//!
//! Every round adds a tree that follows the slope of the loss (for several classes one a class). Features are cut into
//! at most 255 bins first. A row without a value goes to the side on which it lowers the loss most; the weights let
//! rows with missing features through to the trees for that reason.
//!
//! What a reader would get wrong:
//!
//! * With `quantile` every quantile has trees of its own; the scored ones are put in order, so that they never cross.
//! * `stop_after` needs rows that are not learnt from. Whole groups (machines) are held back where the set has groups:
//!   rows of one machine resemble one another, and half of them would give away the other half.
//! * The same rows, parameters and seed give the same bytes, on any number of threads.

mod bins;
mod loss;
mod tree;

use foreline_sdk::trees::{
    DEFAULT_LEFT, FORMAT, Link, MAX_NODES, NAN_IS_MISSING, Node, Payload as Trees,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::bins::{Binned, MAX_BINS};
use self::loss::Loss;
use self::tree::{Limits, Tree, TreeNode};
use super::random::{choose, share, spread};
use super::{Columns, Fitted, Matrix, Payload, TrainError, parameters, within};

/// Trees a score: with 10,000 a row takes 0.1 ms to score.
const MAX_TREES: u32 = 10_000;
/// Leaves of a tree; beyond, a tree learns its rows by heart.
const MAX_LEAVES: u32 = 4096;
/// Depth of a tree: rows that go down together wait for the deepest.
const MAX_DEPTH: u32 = 64;
/// Quantiles of a model; each has all the trees.
const MAX_QUANTILES: usize = 32;
/// Bytes of the sums that all leaves of a tree keep.
const MAX_SUMS_BYTES: usize = 1 << 30;
/// Tells what a seed is drawn for: which groups are held back.
const DRAW_HELD: u64 = 1 << 40;
/// Tells what a seed is drawn for: which features a tree sees.
const DRAW_FEATURES: u64 = 1 << 41;

/// What boosting makes small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The squared error: the mean of a number.
    Squared,
    /// The pinball loss: `quantiles` of a number, an output each.
    Quantile,
    /// The log loss of two classes.
    Logistic,
    /// The log loss of two or more classes.
    Softmax,
}

/// Parameters of boosted trees.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BoostedParameters {
    /// What is made small. By the target when left out: `squared` for a number, `logistic` for two classes, `softmax`
    /// for more.
    pub objective: Option<Objective>,
    /// The quantiles that `quantile` learns, between 0 and 1, rising.
    pub quantiles: Vec<f64>,
    /// How many rounds, each of one tree (for `softmax` one a class); the most where `stop_after` is given.
    #[schemars(range(min = 1, max = 10000))]
    pub trees: u32,
    /// How much of what a tree says is taken: above 0, at most 1. Smaller needs more trees and errs less.
    pub learning_rate: f64,
    /// Most splits between the root and a leaf.
    #[schemars(range(min = 1, max = 64))]
    pub max_depth: u32,
    /// Most leaves of a tree. The leaf that gains most is split next; `2^max_depth` leaves grow whole levels.
    #[schemars(range(min = 2, max = 4096))]
    pub max_leaves: u32,
    /// Fewest rows in a leaf.
    #[schemars(range(min = 1))]
    pub min_samples_leaf: u32,
    /// Least sum of the second derivatives in a leaf. At least 0.
    pub min_child_weight: f64,
    /// Penalty on the squares of what leaves say. At least 0.
    pub l2: f64,
    /// The share of rows, drawn anew for every tree, that it learns from: above 0, at most 1.
    pub subsample: f64,
    /// How many features, drawn anew for every tree, it may split by. All of them when left out.
    #[schemars(range(min = 1))]
    pub features_per_tree: Option<usize>,
    /// Most bins of a feature.
    #[schemars(range(min = 2, max = 255))]
    pub bins: usize,
    /// Stops after this many rounds without a smaller loss on rows that are held back, and keeps the rounds up to the
    /// best. Never when left out, and no rows are held back then.
    #[schemars(range(min = 1))]
    pub stop_after: Option<u32>,
    /// The share of groups (of rows, where there are none) that `stop_after` holds back: between 0 and 1.
    pub validation_share: f64,
    /// What the draws start from. The same seed gives the same trees.
    pub seed: u64,
}

impl Default for BoostedParameters {
    fn default() -> Self {
        BoostedParameters {
            objective: None,
            quantiles: vec![0.1, 0.5, 0.9],
            trees: 200,
            learning_rate: 0.1,
            max_depth: 8,
            max_leaves: 31,
            min_samples_leaf: 20,
            min_child_weight: 1e-3,
            l2: 1.0,
            subsample: 1.0,
            features_per_tree: None,
            bins: MAX_BINS,
            stop_after: None,
            validation_share: 0.2,
            seed: 0,
        }
    }
}

impl BoostedParameters {
    fn check(&self, width: usize) -> Result<(), TrainError> {
        within("trees", self.trees, 1, MAX_TREES)?;
        within("max_depth", self.max_depth, 1, MAX_DEPTH)?;
        within("max_leaves", self.max_leaves, 2, MAX_LEAVES)?;
        within("min_samples_leaf", self.min_samples_leaf, 1, u32::MAX / 2)?;
        within("bins", self.bins, 2, MAX_BINS)?;
        within("features_per_tree", self.features_per_tree.unwrap_or(width), 1, width)?;
        within("stop_after", self.stop_after.unwrap_or(1), 1, u32::MAX)?;
        let numbers = [
            ("learning_rate", self.learning_rate, f64::MIN_POSITIVE, 1.0, "above 0, at most 1"),
            ("subsample", self.subsample, f64::MIN_POSITIVE, 1.0, "above 0, at most 1"),
            ("min_child_weight", self.min_child_weight, 0.0, f64::MAX, "0 or above"),
            ("l2", self.l2, 0.0, f64::MAX, "0 or above"),
            (
                "validation_share",
                self.validation_share,
                f64::MIN_POSITIVE,
                0.9,
                "above 0, at most 0.9",
            ),
        ];
        for (at, value, low, high, range) in numbers {
            if !(low..=high).contains(&value) {
                return Err(TrainError::parameter(at, format!("'{value}' is not {range}")));
            }
        }
        let inside = self.quantiles.iter().all(|q| *q > 0.0 && *q < 1.0);
        if !inside || !self.quantiles.is_sorted_by(|a, b| a < b) {
            return Err(TrainError::parameter("quantiles", "they lie between 0 and 1 and rise"));
        }
        within("quantiles", self.quantiles.len(), 1, MAX_QUANTILES)
    }

    /// What is made small, given the classes of the target.
    fn objective(&self, n_classes: usize) -> Result<Objective, TrainError> {
        let objective = self.objective.unwrap_or(match n_classes {
            0 => Objective::Squared,
            2 => Objective::Logistic,
            _ => Objective::Softmax,
        });
        match (objective, n_classes) {
            (Objective::Squared | Objective::Quantile, 0) | (Objective::Logistic, 2) => {}
            (Objective::Softmax, 2..) => {}
            (Objective::Squared | Objective::Quantile, _) => {
                return Err(TrainError::parameter(
                    "objective",
                    "the target is a class; take 'softmax'",
                ));
            }
            (Objective::Logistic | Objective::Softmax, 0) => {
                let message =
                    "the target is a number; name a class as the target, or take 'squared'";
                return Err(TrainError::parameter("objective", message));
            }
            (Objective::Logistic, n) => {
                let message = format!("the target has {n} classes, not 2; take 'softmax'");
                return Err(TrainError::parameter("objective", message));
            }
            (Objective::Softmax, _) => {
                return Err(TrainError::Target("there is one class only".to_owned()));
            }
        }
        Ok(objective)
    }
}

pub(super) fn fit(params: &serde_json::Value, matrix: &Matrix) -> Result<Fitted, TrainError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    fit_on(threads, &parameters(params)?, matrix)
}

fn fit_on(
    threads: usize,
    parameters: &BoostedParameters,
    matrix: &Matrix,
) -> Result<Fitted, TrainError> {
    parameters.check(matrix.width)?;
    let objective = parameters.objective(matrix.n_classes)?;
    let booster = Booster::new(parameters, matrix, threads)?;
    let (losses, columns) = match objective {
        Objective::Squared => (vec![Loss::Squared], Columns::One),
        Objective::Quantile => {
            let losses = parameters.quantiles.iter().map(|&q| Loss::Quantile(q)).collect();
            (losses, Columns::Quantiles(parameters.quantiles.clone()))
        }
        Objective::Logistic => (vec![Loss::Logistic], Columns::Classes),
        Objective::Softmax => (vec![Loss::Softmax(matrix.n_classes)], Columns::Classes),
    };
    let mut model = empty(objective);
    for loss in losses {
        booster.boost(loss, &mut model)?;
    }
    model.outputs = model.base.len() as u32;
    let library = concat!("foreline ", env!("CARGO_PKG_VERSION"));
    Ok(Fitted { payload: Payload::Trees(model), format: FORMAT, library, columns })
}

/// A model without a tree. Two classes are softmax over a score that stays 0 and one that is learnt: the logistic
/// function, with a probability for both.
fn empty(objective: Objective) -> Trees {
    let (link, base) = match objective {
        Objective::Squared => (Link::Identity, vec![]),
        Objective::Quantile => (Link::Sorted, vec![]),
        Objective::Logistic => (Link::Softmax, vec![0.0]),
        Objective::Softmax => (Link::Softmax, vec![]),
    };
    Trees {
        input_f32: false,
        strict: false,
        acc_f32: false,
        outputs: 0,
        base,
        average: false,
        link,
        tree_output: vec![],
        tree_start: vec![],
        nodes: vec![],
        values: vec![],
        value_width: 1,
        covers: vec![],
    }
}

/// The rows in bins, and which of them are learnt from.
struct Booster<'a> {
    parameters: &'a BoostedParameters,
    matrix: &'a Matrix,
    binned: Binned,
    learnt: Vec<u32>,
    held: Vec<u32>,
    limits: Limits,
}

impl<'a> Booster<'a> {
    fn new(
        parameters: &'a BoostedParameters,
        matrix: &'a Matrix,
        threads: usize,
    ) -> Result<Self, TrainError> {
        let too_many = |_| TrainError::Failed("there are more than 2^32 rows".to_owned());
        let rows = u32::try_from(matrix.rows).map_err(too_many)?;
        let is_held = held(parameters, matrix)?;
        let (held, learnt): (Vec<u32>, Vec<u32>) =
            (0..rows).partition(|&row| is_held.as_ref().is_some_and(|held| held[row as usize]));
        let binned = Binned::new(matrix, &learnt, parameters.bins, threads);
        let kept = tree::bytes_of_a_leaf(&binned).saturating_mul(parameters.max_leaves as usize);
        if kept > MAX_SUMS_BYTES {
            let message = format!(
                "{} leaves of {} features keep more than {} MiB of sums; lower it or 'bins'",
                parameters.max_leaves,
                matrix.width,
                MAX_SUMS_BYTES >> 20
            );
            return Err(TrainError::parameter("max_leaves", message));
        }
        let limits = Limits {
            max_depth: parameters.max_depth,
            max_leaves: parameters.max_leaves as usize,
            min_samples_leaf: parameters.min_samples_leaf,
            min_child_weight: parameters.min_child_weight,
            l2: parameters.l2,
            threads,
        };
        Ok(Booster { parameters, matrix, binned, learnt, held, limits })
    }

    /// Adds outputs and trees for one loss to the model.
    fn boost(&self, loss: Loss, model: &mut Trees) -> Result<(), TrainError> {
        let y = &self.matrix.y;
        let base = loss.base(y, &self.learnt);
        let mut scores: Vec<Vec<f64>> = base.iter().map(|&b| vec![b; self.matrix.rows]).collect();
        let first_output = model.base.len();
        model.base.extend(base);
        let mut rounds: Vec<Vec<Tree>> = Vec::new();
        let mut best = (loss.mean(&scores, y, self.judged()), 0);
        let mut n_nodes = model.nodes.len();
        for round in 0..self.parameters.trees {
            let gradients = loss.gradients(&scores, y);
            let mut trees = Vec::with_capacity(gradients.len());
            for (at, gradients) in gradients.iter().enumerate() {
                let number = (first_output + at) as u64 * u64::from(MAX_TREES) + u64::from(round);
                trees.push(self.tree(loss, number, gradients, &mut scores[at]));
            }
            n_nodes += trees.iter().map(|t| t.nodes.len()).sum::<usize>();
            if n_nodes > MAX_NODES {
                let message = "the trees have too many nodes; lower 'trees' or 'max_leaves'";
                return Err(TrainError::Failed(message.to_owned()));
            }
            rounds.push(trees);
            if let Some(patience) = self.parameters.stop_after {
                let now = loss.mean(&scores, y, self.judged());
                if now < best.0 {
                    best = (now, rounds.len());
                } else if rounds.len() - best.1 >= patience as usize {
                    break;
                }
            }
        }
        if self.parameters.stop_after.is_some() {
            // The evaluator wants a tree even where none helps.
            rounds.truncate(best.1.max(1));
        }
        for round in &rounds {
            for (at, tree) in round.iter().enumerate() {
                lay_out(tree, &self.binned, (first_output + at) as u32, model);
            }
        }
        Ok(())
    }

    /// The rows that say when to stop.
    fn judged(&self) -> &[u32] {
        if self.held.is_empty() { &self.learnt } else { &self.held }
    }

    /// Grows one tree and adds what it says to the scores of all rows.
    fn tree(
        &self,
        loss: Loss,
        number: u64,
        gradients: &[tree::Gradient],
        scores: &mut [f64],
    ) -> Tree {
        let p = self.parameters;
        let draw = spread(p.seed, number);
        let (mut rows, mut others): (Vec<u32>, Vec<u32>) = match p.subsample {
            1.0 => (self.learnt.clone(), vec![]),
            wanted => self.learnt.iter().partition(|&&row| share(draw, u64::from(row)) < wanted),
        };
        if rows.is_empty() {
            std::mem::swap(&mut rows, &mut others);
        }
        let features = match p.features_per_tree {
            Some(n) => choose(spread(draw, DRAW_FEATURES), n, self.binned.width()),
            None => (0..self.binned.width()).collect(),
        };
        let value = |sums, rows: &[u32]| {
            let residuals = rows.iter().map(|&row| {
                let row = row as usize;
                self.matrix.y[row] - scores[row]
            });
            p.learning_rate * loss.leaf(sums, p.l2, residuals)
        };
        let grown = tree::grow(&self.binned, gradients, rows, &features, &self.limits, value);
        for (node, rows) in grown.leaves {
            let TreeNode::Leaf { value } = grown.tree.nodes[node] else { continue };
            for &row in &grown.order[rows] {
                scores[row as usize] += value;
            }
        }
        for &row in others.iter().chain(&self.held) {
            scores[row as usize] += grown.tree.value(&self.binned, row);
        }
        grown.tree
    }
}

/// Which rows are held back: whole groups, drawn by the seed. `None` where nothing is.
fn held(p: &BoostedParameters, matrix: &Matrix) -> Result<Option<Vec<bool>>, TrainError> {
    if p.stop_after.is_none() {
        return Ok(None);
    }
    let alone: Vec<u32>;
    let groups = if matrix.groups.is_empty() {
        alone = (0..matrix.rows as u32).collect();
        &alone
    } else {
        &matrix.groups
    };
    let mut names = groups.clone();
    names.sort_unstable();
    names.dedup();
    if names.len() < 2 {
        let message = "there is one group only, so none can be held back; leave it out";
        return Err(TrainError::parameter("stop_after", message));
    }
    let wanted = (names.len() as f64 * p.validation_share).round() as usize;
    let wanted = wanted.clamp(1, names.len() - 1);
    let chosen = choose(spread(p.seed, DRAW_HELD), wanted, names.len());
    let chosen: Vec<u32> = chosen.into_iter().map(|at| names[at]).collect();
    Ok(Some(groups.iter().map(|group| chosen.binary_search(group).is_ok()).collect()))
}

/// A tree over bins in the form that the plugin evaluates.
fn lay_out(tree: &Tree, binned: &Binned, output: u32, model: &mut Trees) {
    // `boost` has counted the nodes of all trees.
    let start = model.nodes.len() as u32;
    model.tree_start.push(start);
    model.covers.extend(tree.rows.iter().map(|&rows| f64::from(rows)));
    model.tree_output.push(output);
    for (at, node) in (start..).zip(&tree.nodes) {
        let (node, value) = match *node {
            TreeNode::Leaf { value } => (Node::leaf(at), value),
            TreeNode::Split { feature, bin, missing_left, left } => {
                let side = if missing_left { DEFAULT_LEFT } else { 0 };
                let threshold = binned.threshold(feature as usize, bin);
                let feature = feature | side | NAN_IS_MISSING;
                (Node { threshold, feature, left: start + left }, 0.0)
            }
        };
        model.nodes.push(node);
        model.values.push(value);
    }
}

#[cfg(test)]
mod tests;
