//! Any ensemble of trees as flat arrays, with the bits of the library that trained it.
//!
//! A node takes 16 bytes; its right child follows its left one. A leaf leads to itself, so that several rows can go
//! down a tree together until none of them moves. A block of rows goes through one tree after the other, four rows at
//! a time: the block keeps a tree in the cache, the four hide the wait for memory. Sums run in tree order for every row
//! whatever its place in the call, so how rows are cut into calls does not show.

use serde::{Deserialize, Serialize};

use crate::model::Error;
use crate::weights::Weights;

/// The version of [`Payload`].
pub const FORMAT: u16 = 2;
/// The version before it, which ends where the covers begin.
const FORMAT_WITHOUT_COVERS: u16 = 1;
/// Rows that go down a tree together.
const LANES: usize = 4;
/// Rows that go through one tree before the next: with 50 features they and a large tree fit a second-level cache.
const BLOCK_ROWS: usize = 256;
/// Most nodes of all trees, so that an index fits the host's memory limit long before it overflows.
pub const MAX_NODES: usize = 1 << 26;
/// Missing values go left.
pub const DEFAULT_LEFT: u32 = 1 << 24;
/// Zero counts as missing.
pub const ZERO_IS_MISSING: u32 = 1 << 25;
/// NaN counts as missing; without it NaN is taken as zero.
pub const NAN_IS_MISSING: u32 = 2 << 25;
/// The bits of [`Node::feature`] that hold the feature.
const FEATURE_MASK: u32 = DEFAULT_LEFT - 1;
/// The bits of [`Node::feature`] that say what is missing.
const MISSING_MASK: u32 = 3 << 25;
/// Values nearer to zero than this are zero where zero is missing (LightGBM's `kZeroThreshold`).
const ZERO_THRESHOLD: f64 = 1e-35;

/// A node of a tree, or a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// A row goes right where its value is greater; NaN in a leaf.
    pub threshold: f64,
    /// The feature in bits 0-23, [`DEFAULT_LEFT`], and what is missing in bits 25-26.
    pub feature: u32,
    /// The left child; the right one follows it. A leaf has its own index.
    pub left: u32,
}

impl Node {
    /// The leaf at `index`.
    #[must_use]
    pub fn leaf(index: u32) -> Self {
        Node { threshold: f64::NAN, feature: DEFAULT_LEFT | NAN_IS_MISSING, left: index }
    }

    /// The feature without the flags.
    #[must_use]
    pub fn index(&self) -> usize {
        (self.feature & FEATURE_MASK) as usize
    }
}

/// What is done with the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// Nothing.
    Identity,
    /// `1 / (1 + e^-x)` for each output.
    Sigmoid,
    /// Exponentials that sum to one over the outputs.
    Softmax,
    /// The outputs in rising order: quantiles that were learnt one by one must not cross.
    Sorted,
}

/// What the weights file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// Features are rounded to `f32` first, as XGBoost and scikit-learn do.
    pub input_f32: bool,
    /// A row goes right where its value is greater *or equal*.
    pub strict: bool,
    /// Sums are rounded to `f32` after every tree.
    pub acc_f32: bool,
    /// Columns that come out.
    pub outputs: u32,
    /// What the sums start from, one an output.
    pub base: Vec<f64>,
    /// Whether sums are divided by the number of trees of their output.
    pub average: bool,
    /// What is done with the sums.
    pub link: Link,
    /// The output each tree adds to; unused where `value_width` is above 1.
    pub tree_output: Vec<u32>,
    /// The first node of each tree.
    pub tree_start: Vec<u32>,
    /// The nodes of all trees, each tree's together.
    pub nodes: Vec<Node>,
    /// `value_width` numbers a node, read at leaves.
    pub values: Vec<f64>,
    /// 1, or the number of outputs where a leaf speaks for all of them.
    pub value_width: u32,
    /// How many rows (or what weight of them) each node saw in training; empty where that is not known. Scores do not
    /// need it, what explains them does.
    pub covers: Vec<f64>,
}

/// A payload of the format without covers.
#[derive(Deserialize)]
struct WithoutCovers {
    input_f32: bool,
    strict: bool,
    acc_f32: bool,
    outputs: u32,
    base: Vec<f64>,
    average: bool,
    link: Link,
    tree_output: Vec<u32>,
    tree_start: Vec<u32>,
    nodes: Vec<Node>,
    values: Vec<f64>,
    value_width: u32,
}

impl Payload {
    /// The trees of a weights file, of this format or the one before.
    ///
    /// # Errors
    /// When the format is another, or the bytes are not trees.
    pub fn read(weights: &Weights<'_>) -> Result<Self, Error> {
        match weights.header.format {
            FORMAT => Ok(weights.payload()?),
            FORMAT_WITHOUT_COVERS => {
                let old: WithoutCovers = weights.payload()?;
                Ok(Payload {
                    input_f32: old.input_f32,
                    strict: old.strict,
                    acc_f32: old.acc_f32,
                    outputs: old.outputs,
                    base: old.base,
                    average: old.average,
                    link: old.link,
                    tree_output: old.tree_output,
                    tree_start: old.tree_start,
                    nodes: old.nodes,
                    values: old.values,
                    value_width: old.value_width,
                    covers: Vec::new(),
                })
            }
            found => Err(Error::InvalidWeights(format!(
                "format {found}; this reads {FORMAT_WITHOUT_COVERS} and {FORMAT}"
            ))),
        }
    }
}

/// Trees that were checked: every index leads to where it should.
#[derive(Debug, Clone)]
pub struct Forest {
    payload: Payload,
    n_features: usize,
    /// Whether some node treats zero or NaN in a way of its own.
    plain_nan: bool,
}

impl Forest {
    /// Trees over `n_features` features.
    ///
    /// # Errors
    /// When the parts do not fit together, or a node leads outside its tree or back up.
    pub fn new(payload: Payload, n_features: usize) -> Result<Self, String> {
        check_shape(&payload, n_features)?;
        for tree in 0..payload.tree_start.len() {
            check_tree(&payload, tree, n_features)?;
        }
        let plain_nan = payload.nodes.iter().all(|n| n.feature & MISSING_MASK == NAN_IS_MISSING);
        Ok(Forest { payload, n_features, plain_nan })
    }

    /// Columns that come out.
    #[must_use]
    pub fn n_outputs(&self) -> usize {
        self.payload.outputs as usize
    }

    /// The trees as they were read.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// By what the sums are divided, one number an output.
    #[must_use]
    pub fn divisors(&self) -> Vec<f64> {
        let p = &self.payload;
        let trees = |output| match (p.average, p.value_width) {
            (false, _) => 1.0,
            (true, 1) => p.tree_output.iter().filter(|&&o| o == output).count() as f64,
            (true, _) => p.tree_start.len() as f64,
        };
        (0..p.outputs).map(trees).collect()
    }

    /// Scores `features` (rows × features, row-major) into `outputs` (rows × outputs, row-major).
    pub fn score(&self, features: &[f64], outputs: &mut [f64]) {
        self.sum(features, outputs);
        self.finish(outputs);
    }

    /// The sums before they are divided and linked.
    pub(crate) fn sum(&self, features: &[f64], outputs: &mut [f64]) {
        for out in outputs.chunks_exact_mut(self.n_outputs()) {
            out.copy_from_slice(&self.payload.base);
        }
        let rounded: Vec<f64>;
        let features = if self.payload.input_f32 {
            rounded = features.iter().map(|&x| f64::from(x as f32)).collect();
            &rounded
        } else {
            features
        };
        // Most matrices have no NaN: one pass over them buys the shorter comparison at every node.
        let ordinary = self.plain_nan && !features.iter().any(|x| x.is_nan());
        match (ordinary, self.payload.strict) {
            (true, false) => self.sum_trees(features, outputs, |x, n| x > n.threshold),
            (true, true) => self.sum_trees(features, outputs, |x, n| x >= n.threshold),
            (false, false) => self.sum_trees(features, outputs, |x, n| goes_right(x, n, false)),
            (false, true) => self.sum_trees(features, outputs, |x, n| goes_right(x, n, true)),
        }
    }

    fn sum_trees(
        &self,
        features: &[f64],
        outputs: &mut [f64],
        right: impl Fn(f64, &Node) -> bool + Copy,
    ) {
        let (width, n_outputs) = (self.n_features, self.n_outputs());
        let blocks =
            features.chunks(BLOCK_ROWS * width).zip(outputs.chunks_mut(BLOCK_ROWS * n_outputs));
        for (rows, out) in blocks {
            for (tree, &start) in self.payload.tree_start.iter().enumerate() {
                self.sum_tree((tree, start), rows, out, right);
            }
        }
    }

    fn sum_tree(
        &self,
        (tree, start): (usize, u32),
        rows: &[f64],
        out: &mut [f64],
        right: impl Fn(f64, &Node) -> bool + Copy,
    ) {
        let (width, n_outputs) = (self.n_features, self.n_outputs());
        let lanes = rows.chunks(LANES * width).zip(out.chunks_mut(LANES * n_outputs));
        for (rows, out) in lanes {
            if rows.len() == LANES * width {
                let leaves = self.descend_lanes(start, rows, right);
                for (leaf, out) in leaves.into_iter().zip(out.chunks_exact_mut(n_outputs)) {
                    self.add(tree, leaf, out);
                }
            } else {
                for (row, out) in rows.chunks_exact(width).zip(out.chunks_exact_mut(n_outputs)) {
                    self.add(tree, self.descend(start, row, right), out);
                }
            }
        }
    }

    /// The leaves of four rows. They move together until none does.
    #[inline(always)]
    fn descend_lanes(
        &self,
        start: u32,
        rows: &[f64],
        right: impl Fn(f64, &Node) -> bool,
    ) -> [u32; LANES] {
        let mut at = [start; LANES];
        loop {
            let mut moved = 0;
            for lane in 0..LANES {
                let node = &self.payload.nodes[at[lane] as usize];
                let x = rows[lane * self.n_features + (node.feature & FEATURE_MASK) as usize];
                let next = node.left + u32::from(right(x, node));
                moved |= next ^ at[lane];
                at[lane] = next;
            }
            if moved == 0 {
                return at;
            }
        }
    }

    fn descend(&self, start: u32, row: &[f64], right: impl Fn(f64, &Node) -> bool) -> u32 {
        let mut at = start;
        loop {
            let node = &self.payload.nodes[at as usize];
            let x = row[(node.feature & FEATURE_MASK) as usize];
            let next = node.left + u32::from(right(x, node));
            if next == at {
                return at;
            }
            at = next;
        }
    }

    #[inline(always)]
    fn add(&self, tree: usize, leaf: u32, out: &mut [f64]) {
        let width = self.payload.value_width as usize;
        if width == 1 {
            let output = self.payload.tree_output[tree] as usize;
            self.add_one(&mut out[output], self.payload.values[leaf as usize]);
        } else {
            let values = &self.payload.values[leaf as usize * width..][..width];
            for (out, &value) in out.iter_mut().zip(values) {
                self.add_one(out, value);
            }
        }
    }

    #[inline(always)]
    fn add_one(&self, sum: &mut f64, value: f64) {
        *sum =
            if self.payload.acc_f32 { f64::from(*sum as f32 + value as f32) } else { *sum + value };
    }

    fn finish(&self, outputs: &mut [f64]) {
        let divisors = self.divisors();
        for row in outputs.chunks_exact_mut(self.n_outputs()) {
            if self.payload.average {
                for (sum, &trees) in row.iter_mut().zip(&divisors) {
                    *sum /= trees;
                }
            }
            link(self.payload.link, row);
        }
    }
}

/// Whether a value goes right where zero or NaN may be missing.
#[inline(always)]
pub(crate) fn goes_right(x: f64, node: &Node, strict: bool) -> bool {
    let kind = node.feature & MISSING_MASK;
    let x = if x.is_nan() && kind != NAN_IS_MISSING { 0.0 } else { x };
    let missing = match kind {
        NAN_IS_MISSING => x.is_nan(),
        ZERO_IS_MISSING => x > -ZERO_THRESHOLD && x <= ZERO_THRESHOLD,
        _ => false,
    };
    if missing {
        return node.feature & DEFAULT_LEFT == 0;
    }
    if strict { x >= node.threshold } else { x > node.threshold }
}

fn link(link: Link, row: &mut [f64]) {
    match link {
        Link::Identity => {}
        Link::Sigmoid => {
            for x in row {
                *x = 1.0 / (1.0 + libm::exp(-*x));
            }
        }
        Link::Softmax => {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut total = 0.0;
            for x in row.iter_mut() {
                *x = libm::exp(*x - most);
                total += *x;
            }
            for x in row {
                *x /= total;
            }
        }
        Link::Sorted => row.sort_unstable_by(f64::total_cmp),
    }
}

fn check_shape(p: &Payload, n_features: usize) -> Result<(), String> {
    let (n_trees, n_nodes) = (p.tree_start.len(), p.nodes.len());
    let fits = [
        (p.outputs > 0, "there are no outputs"),
        (n_features > 0, "there are no features"),
        (n_features <= FEATURE_MASK as usize, "there are too many features"),
        (n_trees > 0, "there are no trees"),
        (n_nodes <= MAX_NODES, "there are too many nodes"),
        (p.base.len() == p.outputs as usize, "there is not one base value for every output"),
        (p.value_width == 1 || p.value_width == p.outputs, "leaves have a wrong number of values"),
        (p.tree_output.len() == n_trees, "there is not one output for every tree"),
        (
            p.tree_output.iter().all(|&o| o < p.outputs),
            "a tree adds to an output that is not there",
        ),
        (p.tree_start.first() == Some(&0), "the first tree does not start at node 0"),
        (p.tree_start.is_sorted_by(|a, b| a < b), "trees are not in order"),
        (p.tree_start.last().is_some_and(|&s| (s as usize) < n_nodes), "a tree has no nodes"),
        (n_nodes.checked_mul(p.value_width as usize) == Some(p.values.len()), "values are missing"),
        (p.covers.is_empty() || p.covers.len() == n_nodes, "covers are missing"),
        (p.covers.iter().all(|c| c.is_finite() && *c >= 0.0), "a cover is no number of rows"),
    ];
    fits.iter().find(|(fits, _)| !fits).map_or(Ok(()), |(_, what)| Err((*what).to_owned()))
}

fn check_tree(p: &Payload, tree: usize, n_features: usize) -> Result<(), String> {
    let start = p.tree_start[tree] as usize;
    let end = p.tree_start.get(tree + 1).map_or(p.nodes.len(), |&e| e as usize);
    let bad = |index: usize, what: &str| Err(format!("node {index} of tree {tree} {what}"));
    for (index, node) in p.nodes.iter().enumerate().take(end).skip(start) {
        if (node.feature & FEATURE_MASK) as usize >= n_features {
            return bad(index, "looks at a feature that is not there");
        }
        if node.left as usize == index {
            // Nothing may ever lead a row out of a leaf.
            let sealed = DEFAULT_LEFT | NAN_IS_MISSING;
            if !node.threshold.is_nan() || node.feature & (DEFAULT_LEFT | MISSING_MASK) != sealed {
                return bad(index, "is a leaf that can be left");
            }
        } else if node.threshold.is_nan() {
            return bad(index, "has no threshold");
        } else if (node.left as usize) < index || node.left as usize + 1 >= end {
            return bad(index, "leads outside its tree or back up");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two stumps over two features: `x0 <= 1 ? 10 : 20` and `x1 <= 5 ? 1 : 2`.
    fn stumps() -> Payload {
        let node =
            |threshold, feature, left| Node { threshold, feature: feature | NAN_IS_MISSING, left };
        Payload {
            input_f32: false,
            strict: false,
            acc_f32: false,
            outputs: 1,
            base: vec![0.0],
            average: true,
            link: Link::Identity,
            tree_output: vec![0, 0],
            tree_start: vec![0, 3],
            nodes: vec![
                node(1.0, 0, 1),
                Node::leaf(1),
                Node::leaf(2),
                node(5.0, 1, 4),
                Node::leaf(4),
                Node::leaf(5),
            ],
            values: vec![0.0, 10.0, 20.0, 0.0, 1.0, 2.0],
            value_width: 1,
            covers: vec![],
        }
    }

    fn scores(payload: &Payload, features: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; features.len() / 2];
        Forest::new(payload.clone(), 2).unwrap().score(features, &mut out);
        out
    }

    #[test]
    fn a_threshold_belongs_to_the_left_unless_strict() {
        assert_eq!(scores(&stumps(), &[1.0, 5.0, 1.5, 5.5]), [5.5, 11.0]);
        assert_eq!(scores(&Payload { strict: true, ..stumps() }, &[1.0, 5.0]), [11.0]);
    }

    #[test]
    fn missing_values_follow_the_node() {
        assert_eq!(scores(&stumps(), &[f64::NAN, f64::NAN]), [11.0], "the default is right");
        let mut left = stumps();
        left.nodes[0].feature |= DEFAULT_LEFT;
        assert_eq!(scores(&left, &[f64::NAN, 0.0]), [5.5]);
        let mut zero = stumps();
        zero.nodes[0].feature = ZERO_IS_MISSING;
        zero.nodes[3].feature = 1;
        assert_eq!(scores(&zero, &[0.0, 0.0]), [10.5], "zero is missing and goes right");
        assert_eq!(scores(&zero, &[f64::NAN, f64::NAN]), [10.5], "NaN is zero");
    }

    #[test]
    fn how_rows_are_cut_does_not_show() {
        let features: Vec<f64> = (0..26).map(|i| f64::from(i * 7 % 11) - 2.0).collect();
        let whole = scores(&stumps(), &features);
        for cut in 1..13 {
            let (a, b) = features.split_at(cut * 2);
            assert_eq!([scores(&stumps(), a), scores(&stumps(), b)].concat(), whole);
        }
    }

    #[test]
    fn links() {
        let sigmoid = Payload { link: Link::Sigmoid, average: false, ..stumps() };
        assert_eq!(scores(&sigmoid, &[0.0, 0.0]), [1.0 / (1.0 + libm::exp(-11.0))]);
        let softmax = Payload {
            link: Link::Softmax,
            average: false,
            outputs: 2,
            base: vec![0.0; 2],
            tree_output: vec![0, 1],
            ..stumps()
        };
        let mut out = [0.0; 2];
        Forest::new(softmax, 2).unwrap().score(&[0.0, 0.0], &mut out);
        assert!((out[0] + out[1] - 1.0).abs() < 1e-15 && out[0] > out[1]);
        let sorted = Payload { link: Link::Sorted, outputs: 2, base: vec![9.0, 0.0], ..stumps() };
        let sorted = Payload { average: false, tree_output: vec![0, 1], ..sorted };
        Forest::new(sorted, 2).unwrap().score(&[0.0, 0.0], &mut out);
        assert_eq!(out, [1.0, 19.0]);
    }

    #[test]
    fn nodes_that_lead_astray_are_refused() {
        let broken: [fn(&mut Payload); 11] = [
            |p| p.nodes[0].left = 5,
            |p| p.nodes[3].left = 0,
            |p| p.nodes[0].feature = 2,
            |p| p.nodes[0].threshold = f64::NAN,
            |p| p.nodes[1].threshold = 1.0,
            |p| p.nodes[1].feature = NAN_IS_MISSING,
            |p| p.tree_start[1] = 9,
            |p| p.values.truncate(3),
            |p| p.tree_output[1] = 1,
            |p| p.covers = vec![1.0; 5],
            |p| p.covers = vec![f64::NAN; 6],
        ];
        for (case, damage) in broken.iter().enumerate() {
            let mut payload = stumps();
            damage(&mut payload);
            assert!(Forest::new(payload, 2).is_err(), "case {case}");
        }
    }
}
