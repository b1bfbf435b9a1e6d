//! The trees of a key: where they split, and how many rows have passed their nodes.
//!
//! A tree is an array: the halves of node `i` are `2 i + 1` and `2 i + 2`. Splits follow from the seed and the ranges,
//! so they are drawn again after a restart and not saved.

use serde::{Deserialize, Serialize};

use crate::learning::Period;

/// The part of a range, at either end, where it is not split.
const PADDING: f64 = 0.15;

/// A row goes no deeper into a tree for its score than to the first node with less than this part of a window.
const FEW: f64 = 0.1;

/// How many trees, and what they are like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) trees: usize,
    pub(super) depth: u32,
    pub(super) window: u32,
    pub(super) seed: u64,
}

/// What is remembered of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Past {
    ranges: Vec<[f64; 2]>,
    n_learnt: u64,
    since: i64,
    has_learnt: bool,
    /// Rows in the window so far, and whether it is the first.
    n_rows: u32,
    is_first: bool,
    /// Tree after tree, how many rows of this window and of the one before have passed each node.
    counts: Vec<u32>,
    before: Vec<u32>,
    #[serde(skip)]
    splits: Vec<Split>,
}

/// Where a node splits: rows below `at` in a column go to its first half.
#[derive(Debug, Clone, Copy, Default)]
struct Split {
    column: usize,
    at: f64,
}

impl Past {
    /// A key whose values are expected in `ranges`.
    pub(super) fn of(ranges: Vec<[f64; 2]>) -> Self {
        Past {
            ranges,
            n_learnt: 0,
            since: 0,
            has_learnt: false,
            n_rows: 0,
            is_first: true,
            counts: Vec::new(),
            before: Vec::new(),
            splits: Vec::new(),
        }
    }

    /// Whether the row at `at` belongs to the learning period; its values widen the ranges if so.
    pub(super) fn learns(&mut self, period: Period, at: i64, row: &[f64]) -> bool {
        if self.has_learnt {
            return false;
        }
        if self.n_learnt == 0 {
            self.since = at;
        }
        self.has_learnt = !period.has_until_spread(self.n_learnt, self.since, at);
        if !self.has_learnt {
            self.n_learnt += 1;
            for ([lo, hi], &x) in self.ranges.iter_mut().zip(row) {
                (*lo, *hi) = (lo.min(x), hi.max(x));
            }
        }
        !self.has_learnt
    }

    /// The score of a row, which is counted then; `None` in the first window.
    pub(super) fn score(&mut self, shape: &Shape, row: &[f64]) -> Option<f64> {
        let n_nodes = (1_usize << (shape.depth + 1)) - 1;
        if self.splits.is_empty() {
            self.splits = splits(shape, &mut self.ranges.clone());
            self.counts.resize(shape.trees * n_nodes, 0);
            self.before.resize(shape.trees * n_nodes, 0);
        }
        let few = FEW * f64::from(shape.window);
        let mut sum = 0.0;
        let counts = self.counts.chunks_exact_mut(n_nodes);
        let trees = counts.zip(self.before.chunks_exact(n_nodes));
        for ((counts, before), splits) in trees.zip(self.splits.chunks_exact(n_nodes / 2)) {
            sum += pass(counts, before, splits, row, few);
        }
        let score = (!self.is_first).then(|| 1.0 - sum / most(shape));
        self.n_rows += 1;
        if self.n_rows == shape.window {
            std::mem::swap(&mut self.counts, &mut self.before);
            self.counts.fill(0);
            (self.n_rows, self.is_first) = (0, false);
        }
        score
    }
}

/// Counts a row in the nodes of a tree that it passes, and says what they add to its score.
#[inline]
fn pass(counts: &mut [u32], before: &[u32], splits: &[Split], row: &[f64], few: f64) -> f64 {
    let (mut node, mut weight, mut sum, mut is_done) = (0, 1.0, 0.0, false);
    loop {
        counts[node] += 1;
        let r = f64::from(before[node]);
        if !is_done {
            sum += r * weight;
        }
        is_done |= r < few;
        weight *= 2.0;
        let Some(split) = splits.get(node) else { return sum };
        node = 2 * node + if row[split.column] < split.at { 1 } else { 2 };
    }
}

/// The greatest sum there can be.
#[expect(clippy::cast_precision_loss, reason = "there are at most 100,000 nodes")]
fn most(shape: &Shape) -> f64 {
    let n_nodes = (1_usize << (shape.depth + 1)) - 1;
    (shape.trees * n_nodes) as f64 * f64::from(shape.window)
}

/// The splits of all trees.
fn splits(shape: &Shape, ranges: &mut [[f64; 2]]) -> Vec<Split> {
    let mut dice = Dice(shape.seed);
    let n_splits = (1_usize << shape.depth) - 1;
    let mut splits = vec![Split::default(); shape.trees * n_splits];
    for tree in splits.chunks_exact_mut(n_splits) {
        halve(tree, 0, ranges, &mut dice);
    }
    splits
}

/// Draws a node and then those below it, the first half first.
fn halve(tree: &mut [Split], node: usize, ranges: &mut [[f64; 2]], dice: &mut Dice) {
    if node >= tree.len() {
        return;
    }
    let column = dice.column(ranges);
    let [lo, hi] = ranges[column];
    let pad = PADDING * (hi - lo);
    let at = (lo + pad) + ((hi - pad) - (lo + pad)) * dice.unit();
    tree[node] = Split { column, at };
    ranges[column] = [lo, at];
    halve(tree, 2 * node + 1, ranges, dice);
    ranges[column] = [at, hi];
    halve(tree, 2 * node + 2, ranges, dice);
    ranges[column] = [lo, hi];
}

/// Numbers that look random and are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    /// A number from 0 up to but not 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are left")]
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A column, the likelier the wider its range.
    fn column(&mut self, ranges: &[[f64; 2]]) -> usize {
        let total: f64 = ranges.iter().map(|[lo, hi]| hi - lo).sum();
        let drawn = self.unit() * total;
        let mut upto = 0.0;
        let found = ranges.iter().position(|[lo, hi]| {
            upto += hi - lo;
            drawn < upto
        });
        found.unwrap_or(ranges.len() - 1)
    }
}
