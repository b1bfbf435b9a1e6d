//! How alone a row is, by trees that halve the space at random.

use crate::operators::cases::Counts;
use crate::operators::loops::each_pair;
use crate::operators::rows::Rows;

const TREES: usize = 10;
const DEPTH: usize = 8;
const WINDOW: u32 = 250;
const NODES: usize = (1 << (DEPTH + 1)) - 1;

/// Where a node splits, and how many rows have passed it in this window and in the one before.
#[derive(Clone, Copy, Default)]
struct Node {
    column: usize,
    at: f64,
    count: u32,
    before: u32,
}

/// The trees of a machine.
#[derive(Clone)]
struct Forest {
    trees: Vec<[Node; NODES]>,
    n_rows: u32,
    is_first: bool,
}

pub(crate) fn half_space_trees(rows: &Rows) -> Counts {
    let mut draws = Draws(0);
    let mut trees = vec![[Node::default(); NODES]; TREES];
    for tree in &mut trees {
        halve(tree, 0, &mut [[1.0, 3.0], [50.0, 70.0]], &mut draws);
    }
    let forest = Forest { trees, n_rows: 0, is_first: true };
    each_pair(rows, forest, |forest, x, y, out| {
        for (&x, &y) in x.iter().zip(y) {
            out.extend(forest.score([x, y]));
        }
    })
}

impl Forest {
    fn score(&mut self, row: [f64; 2]) -> Option<f64> {
        let sum: f64 = self.trees.iter_mut().map(|tree| pass(tree, row)).sum();
        let most = (TREES * NODES) as f64 * f64::from(WINDOW);
        let score = (!self.is_first).then_some(1.0 - sum / most);
        self.n_rows += 1;
        if self.n_rows == WINDOW {
            for node in self.trees.iter_mut().flatten() {
                (node.before, node.count) = (node.count, 0);
            }
            (self.n_rows, self.is_first) = (0, false);
        }
        score
    }
}

fn pass(tree: &mut [Node; NODES], row: [f64; 2]) -> f64 {
    let (mut at, mut weight, mut sum, mut is_done) = (0, 1.0, 0.0, false);
    while let Some(node) = tree.get_mut(at) {
        node.count += 1;
        if !is_done {
            sum += f64::from(node.before) * weight;
            is_done = f64::from(node.before) < 0.1 * f64::from(WINDOW);
        }
        weight *= 2.0;
        at = 2 * at + if row[node.column] < node.at { 1 } else { 2 };
    }
    sum
}

fn halve(tree: &mut [Node; NODES], node: usize, ranges: &mut [[f64; 2]; 2], draws: &mut Draws) {
    if node >= NODES / 2 {
        return;
    }
    let widths = ranges.map(|[lo, hi]| hi - lo);
    let column = usize::from(draws.unit() * (widths[0] + widths[1]) >= widths[0]);
    let [lo, hi] = ranges[column];
    let pad = 0.15 * (hi - lo);
    let at = lo + pad + (hi - lo - 2.0 * pad) * draws.unit();
    tree[node] = Node { column, at, ..Node::default() };
    ranges[column] = [lo, at];
    halve(tree, 2 * node + 1, ranges, draws);
    ranges[column] = [at, hi];
    halve(tree, 2 * node + 2, ranges, draws);
    ranges[column] = [lo, hi];
}

/// The numbers that the step draws (splitmix64).
struct Draws(u64);

impl Draws {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
