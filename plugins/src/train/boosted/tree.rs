//! One tree: the leaf whose split gains most is split next.
//!
//! Leaf by leaf rather than level by level: with the same number of leaves, and so the same cost of scoring, the error
//! is smaller; `max_depth` keeps the chains short that this can make, and `max_leaves` of `2^max_depth` gives the tree
//! that growing by levels would.
//!
//! The sums of a bin run over the rows of a leaf in row order, one feature on one thread. So they do not depend on the
//! number of threads.

use std::ops::Range;

use super::bins::Binned;

/// Work below which threads cost more than they save, in values added to a bin.
const PARALLEL_FROM: usize = 1 << 18;
/// A split must gain more than this share of what its children score: less is rounding.
const MIN_GAIN_SHARE: f64 = 1e-12;

/// First and second derivative of the loss at every row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gradient {
    pub(super) first: f64,
    pub(super) second: f64,
}

/// What a tree may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_depth: u32,
    pub(super) max_leaves: usize,
    pub(super) min_samples_leaf: u32,
    pub(super) min_child_weight: f64,
    pub(super) l2: f64,
    pub(super) threads: usize,
}

/// A node of a tree; the right child follows the left one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TreeNode {
    Split { feature: u32, bin: u8, missing_left: bool, left: u32 },
    Leaf { value: f64 },
}

/// A tree over bins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tree {
    pub(super) nodes: Vec<TreeNode>,
    /// How many of the rows learnt from came to each node.
    pub(super) rows: Vec<u32>,
}

impl Tree {
    /// What the tree says of a row.
    pub(super) fn value(&self, binned: &Binned, row: u32) -> f64 {
        let mut at = 0;
        loop {
            match self.nodes[at] {
                TreeNode::Leaf { value } => return value,
                TreeNode::Split { feature, bin, missing_left, left } => {
                    let feature = feature as usize;
                    let code = binned.code(feature, row);
                    let right = goes_right(code, binned.n_bins(feature), bin, missing_left);
                    at = left as usize + usize::from(right);
                }
            }
        }
    }
}

fn goes_right(code: u8, n_bins: usize, bin: u8, missing_left: bool) -> bool {
    if usize::from(code) == n_bins { !missing_left } else { code > bin }
}

/// Sums over rows.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    first: f64,
    second: f64,
    rows: u32,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.first += other.first;
        self.second += other.second;
        self.rows += other.rows;
    }

    fn without(&self, other: &Sums) -> Sums {
        Sums {
            first: self.first - other.first,
            second: self.second - other.second,
            rows: self.rows - other.rows,
        }
    }

    /// By how much the best value of a leaf lowers the loss, times two.
    fn score(&self, l2: f64) -> f64 {
        let weight = self.second + l2;
        if weight > 0.0 { self.first * self.first / weight } else { 0.0 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Split {
    gain: f64,
    feature: usize,
    bin: u8,
    missing_left: bool,
    left: Sums,
}

#[derive(Debug)]
struct Leaf {
    node: usize,
    rows: Range<usize>,
    depth: u32,
    sums: Sums,
    best: Option<Split>,
    /// The bins of all features; empty where the leaf cannot be split.
    bins: Vec<Sums>,
}

/// A tree that was grown, and where the rows that it learnt from ended.
#[derive(Debug)]
pub(super) struct Grown {
    pub(super) tree: Tree,
    /// The node of every leaf and its rows, places in `order`.
    pub(super) leaves: Vec<(usize, Range<usize>)>,
    /// The rows learnt from, leaf by leaf, within a leaf in rising order.
    pub(super) order: Vec<u32>,
}

/// Sums a leaf keeps for `features`.
pub(super) fn sums_of_a_leaf(binned: &Binned, features: &[usize]) -> usize {
    features.iter().map(|&f| binned.n_bins(f) + 1).sum()
}

/// Bytes of a leaf's sums over all features.
pub(super) fn bytes_of_a_leaf(binned: &Binned) -> usize {
    let features: Vec<usize> = (0..binned.width()).collect();
    sums_of_a_leaf(binned, &features) * size_of::<Sums>()
}

/// Grows a tree on `rows` (in rising order) by `features`. `value` says what a leaf answers, given sums of first and
/// second derivatives and its rows.
pub(super) fn grow(
    binned: &Binned,
    gradients: &[Gradient],
    rows: Vec<u32>,
    features: &[usize],
    limits: &Limits,
    value: impl Fn(Gradient, &[u32]) -> f64,
) -> Grown {
    let mut grower = Grower {
        binned,
        gradients,
        features,
        limits,
        spare: Vec::with_capacity(rows.len()),
        order: rows,
        nodes: vec![TreeNode::Leaf { value: 0.0 }],
    };
    let leaves = grower.leaves();
    for leaf in &leaves {
        let sums = Gradient { first: leaf.sums.first, second: leaf.sums.second };
        let value = value(sums, &grower.order[leaf.rows.clone()]);
        grower.nodes[leaf.node] = TreeNode::Leaf { value };
    }
    let leaves: Vec<_> = leaves.into_iter().map(|leaf| (leaf.node, leaf.rows)).collect();
    let rows = rows_by_node(&grower.nodes, &leaves);
    Grown { tree: Tree { nodes: grower.nodes, rows }, leaves, order: grower.order }
}

/// How many rows came to each node: children come after their parent.
fn rows_by_node(nodes: &[TreeNode], leaves: &[(usize, Range<usize>)]) -> Vec<u32> {
    let mut rows = vec![0; nodes.len()];
    for (node, range) in leaves {
        // `Booster::new` has refused more than 2^32 rows.
        rows[*node] = range.len() as u32;
    }
    for (at, node) in nodes.iter().enumerate().rev() {
        if let TreeNode::Split { left, .. } = node {
            rows[at] = rows[*left as usize] + rows[*left as usize + 1];
        }
    }
    rows
}

struct Grower<'a> {
    binned: &'a Binned,
    gradients: &'a [Gradient],
    features: &'a [usize],
    limits: &'a Limits,
    order: Vec<u32>,
    spare: Vec<u32>,
    nodes: Vec<TreeNode>,
}

impl Grower<'_> {
    fn leaves(&mut self) -> Vec<Leaf> {
        let mut sums = Sums::default();
        for &row in &self.order {
            let g = &self.gradients[row as usize];
            sums.add(&Sums { first: g.first, second: g.second, rows: 1 });
        }
        let rows = 0..self.order.len();
        let mut root = Leaf { node: 0, rows, depth: 0, sums, best: None, bins: vec![] };
        if self.divisible(&root) {
            root.bins = self.bins(root.rows.clone());
            root.best = self.best(&root);
        }
        let mut leaves = vec![root];
        while leaves.len() < self.limits.max_leaves {
            let gain = |leaf: &Leaf| leaf.best.map(|split| split.gain);
            let best = (0..leaves.len())
                .filter_map(|at| gain(&leaves[at]).map(|gain| (at, gain)))
                // The first of equal ones: `max_by` takes the last.
                .rev()
                .max_by(|a, b| a.1.total_cmp(&b.1));
            let Some((at, _)) = best else { break };
            let last = leaves.len() + 1 == self.limits.max_leaves;
            let (left, right) = self.split(&mut leaves[at], last);
            leaves[at] = left;
            leaves.push(right);
        }
        leaves
    }

    /// Whether a leaf may have children.
    fn divisible(&self, leaf: &Leaf) -> bool {
        let enough = leaf.sums.rows >= 2 * self.limits.min_samples_leaf;
        enough && leaf.depth < self.limits.max_depth
    }

    /// The children of a leaf. Of the last split of a tree nothing more is asked.
    fn split(&mut self, leaf: &mut Leaf, last: bool) -> (Leaf, Leaf) {
        let split = leaf.best.expect("only a leaf with a split is split");
        let Split { feature, bin, missing_left, .. } = split;
        let first = self.nodes.len();
        self.nodes[leaf.node] =
            TreeNode::Split { feature: feature as u32, bin, missing_left, left: first as u32 };
        self.nodes.extend([TreeNode::Leaf { value: 0.0 }; 2]);
        let middle = self.part(leaf.rows.clone(), &split);
        let child = |node, rows, sums| Leaf {
            node,
            rows,
            depth: leaf.depth + 1,
            sums,
            best: None,
            bins: vec![],
        };
        let mut left = child(first, leaf.rows.start..middle, split.left);
        let mut right = child(first + 1, middle..leaf.rows.end, leaf.sums.without(&split.left));
        if !last && (self.divisible(&left) || self.divisible(&right)) {
            let mut whole = std::mem::take(&mut leaf.bins);
            let (few, many) = if left.sums.rows <= right.sums.rows {
                (&mut left, &mut right)
            } else {
                (&mut right, &mut left)
            };
            // The larger child's sums are what the smaller one leaves of its parent's.
            few.bins = self.bins(few.rows.clone());
            for (sums, few) in whole.iter_mut().zip(&few.bins) {
                *sums = sums.without(few);
            }
            many.bins = whole;
            for child in [&mut left, &mut right] {
                if self.divisible(child) {
                    child.best = self.best(child);
                }
                if child.best.is_none() {
                    child.bins = vec![];
                }
            }
        }
        (left, right)
    }

    /// Puts the rows that go left before the others, both in the order they had; where the others begin.
    fn part(&mut self, rows: Range<usize>, split: &Split) -> usize {
        let (codes, n_bins) = (self.binned.codes(split.feature), self.binned.n_bins(split.feature));
        let order = &mut self.order[rows.clone()];
        self.spare.clear();
        let mut left = 0;
        for at in 0..order.len() {
            let row = order[at];
            if goes_right(codes[row as usize], n_bins, split.bin, split.missing_left) {
                self.spare.push(row);
            } else {
                order[left] = row;
                left += 1;
            }
        }
        order[left..].copy_from_slice(&self.spare);
        rows.start + left
    }

    /// The sums of every bin over the rows of a leaf.
    fn bins(&self, rows: Range<usize>) -> Vec<Sums> {
        let rows = &self.order[rows];
        let mut bins = vec![Sums::default(); sums_of_a_leaf(self.binned, self.features)];
        let mut parts = Vec::with_capacity(self.features.len());
        let mut rest = &mut bins[..];
        for &feature in self.features {
            let (part, behind) = rest.split_at_mut(self.binned.n_bins(feature) + 1);
            parts.push((feature, part));
            rest = behind;
        }
        let work = rows.len() * self.features.len();
        let threads = if work < PARALLEL_FROM { 1 } else { self.limits.threads.max(1) };
        let fill = |parts: &mut [(usize, &mut [Sums])]| {
            for (feature, bins) in parts {
                let codes = self.binned.codes(*feature);
                for &row in rows {
                    let g = &self.gradients[row as usize];
                    let sums = &mut bins[usize::from(codes[row as usize])];
                    sums.add(&Sums { first: g.first, second: g.second, rows: 1 });
                }
            }
        };
        if threads == 1 {
            fill(&mut parts);
        } else {
            let per_thread = parts.len().div_ceil(threads);
            std::thread::scope(|scope| {
                for parts in parts.chunks_mut(per_thread) {
                    scope.spawn(|| fill(parts));
                }
            });
        }
        bins
    }

    /// The split that gains most, of equal ones the first.
    fn best(&self, leaf: &Leaf) -> Option<Split> {
        let mut best: Option<Split> = None;
        let mut rest = &leaf.bins[..];
        for &feature in self.features {
            let (bins, behind) = rest.split_at(self.binned.n_bins(feature) + 1);
            rest = behind;
            self.best_of(feature, bins, &leaf.sums, &mut best);
        }
        best
    }

    /// Looks along the bins of one feature, with the missing rows on either side.
    fn best_of(&self, feature: usize, bins: &[Sums], whole: &Sums, best: &mut Option<Split>) {
        let Some((missing, bins)) = bins.split_last() else { return };
        let parent = whole.score(self.limits.l2);
        let mut low = Sums::default();
        for (bin, sums) in bins.iter().enumerate() {
            low.add(sums);
            if missing.rows == 0 {
                let right = whole.without(&low);
                // Nothing is known of missing values here, so they go with most rows.
                let missing_left = low.rows >= right.rows;
                self.weigh(feature, bin, missing_left, low, right, parent, best);
            } else {
                self.weigh(feature, bin, false, low, whole.without(&low), parent, best);
                let mut left = low;
                left.add(missing);
                self.weigh(feature, bin, true, left, whole.without(&left), parent, best);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a split before it is one")]
    fn weigh(
        &self,
        feature: usize,
        bin: usize,
        missing_left: bool,
        left: Sums,
        right: Sums,
        parent: f64,
        best: &mut Option<Split>,
    ) {
        let limits = self.limits;
        let rows = left.rows.min(right.rows) >= limits.min_samples_leaf.max(1);
        if !rows || left.second.min(right.second) < limits.min_child_weight {
            return;
        }
        let children = left.score(limits.l2) + right.score(limits.l2);
        let gain = children - parent;
        let least = best.map_or(MIN_GAIN_SHARE * children, |best| best.gain);
        if gain > least {
            *best = Some(Split { gain, feature, bin: bin as u8, missing_left, left });
        }
    }
}
