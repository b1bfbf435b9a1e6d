//! What each feature adds to a score: exact Shapley values of trees and of weighted sums.
//!
//! A coalition's worth is the path-dependent expectation of Lundberg et al. (From local explanations to global
//! understanding with explainable AI for trees, Nature Machine Intelligence 2, 2020): where a feature is not known, a
//! row goes down both sides in the shares in which the training rows did. It is what `shap`, XGBoost's `pred_contribs`
//! and LightGBM's `pred_contrib` give.
//!
//! They go over the subsets of every path in a number of steps that grows with its square. Here the Shapley value is the
//! integral over `u` in `[0, 1]` of the slope of the multilinear extension (Owen, Multilinear extensions of games,
//! Management Science 18, 1972), a polynomial for a tree: Gauss-Legendre's rule gives it exactly with half as many points
//! as a path has features, and one walk over the tree carries all points. No sum in it loses digits, since every weight
//! is positive.

use crate::model::{Config, Error};
use crate::trees::{Payload, goes_right};
use crate::weights::{Header, Output, OutputKind, Weights};

/// The option that asks a plugin for contributions, and what it says.
pub const OPTION: &str = "explain";
/// The only value of [`OPTION`].
pub const CONTRIBUTIONS: &str = "contributions";
/// Most points of the quadrature: paths of up to 64 different features.
const MAX_POINTS: usize = 32;
/// Most levels of a tree that is explained. The walk recurses, and a sandbox has a small stack.
const MAX_LEVELS: usize = 256;

/// Whether the step asks for contributions.
///
/// # Errors
/// When the config has another key, or another value for this one.
pub fn asked(config: &Config) -> Result<bool, Error> {
    config.only(&[OPTION])?;
    match config.get(OPTION) {
        None => Ok(false),
        Some(CONTRIBUTIONS) => Ok(true),
        Some(other) => Err(Error::InvalidConfig(format!(
            "'{OPTION}' is '{other}'; there is '{CONTRIBUTIONS}'"
        ))),
    }
}

/// The column with what all features together start from.
#[must_use]
pub fn base_name(output: &str) -> String {
    format!("{output}_base")
}

/// The column with what one feature adds.
#[must_use]
pub fn contribution_name(output: &str, feature: &str) -> String {
    format!("{output}_by_{feature}")
}

/// The columns that explain the first `explained` outputs: for each its base, then one a feature.
#[must_use]
pub fn outputs(header: &Header, explained: usize) -> Vec<Output> {
    let value = |name| Output { name, kind: OutputKind::Value, labels: Vec::new() };
    let of = |output: &Output| {
        let parts = header.features.iter().map(|f| contribution_name(&output.name, &f.name));
        std::iter::once(base_name(&output.name)).chain(parts).map(value).collect::<Vec<_>>()
    };
    header.outputs.iter().take(explained).flat_map(of).collect()
}

/// The features' means in training, which the contributions of a weighted sum are counted from.
///
/// # Errors
/// When the weights do not hold them.
pub fn means(weights: &Weights<'_>) -> Result<Vec<f64>, Error> {
    if weights.profiles.len() != weights.header.features.len() {
        let message = "the weights do not hold the features' means, so nothing can be explained; \
                       train them again";
        return Err(Error::InvalidWeights(message.to_owned()));
    }
    Ok(weights.profiles.iter().map(|p| p.mean).collect())
}

/// Trees with what the walk needs beside them.
#[derive(Debug, Clone)]
pub struct Explainer {
    /// For every node the share of its parent's training rows; 1 at a root.
    shares: Vec<f64>,
    /// What each tree says on the mean, `value_width` numbers a tree.
    means: Vec<f64>,
    /// Points and weights of the quadrature on `[0, 1]`.
    rule: Vec<(f64, f64)>,
}

impl Explainer {
    /// Takes in the covers of trees that were checked.
    ///
    /// # Errors
    /// When the weights have no covers, or covers that cannot be, or a path too long to walk.
    pub fn new(payload: &Payload) -> Result<Self, String> {
        if payload.covers.is_empty() {
            return Err("the weights do not hold how many rows went where, so nothing can be \
                        explained; train or import them again"
                .to_owned());
        }
        let shares = shares(payload)?;
        let width = payload.value_width as usize;
        let mut means = payload.values.clone();
        // Children come after their parent, so from the back every mean is there when it is asked for.
        for (at, node) in payload.nodes.iter().enumerate().rev() {
            let left = node.left as usize;
            if left != at {
                for value in 0..width {
                    means[at * width + value] = shares[left] * means[left * width + value]
                        + shares[left + 1] * means[(left + 1) * width + value];
                }
            }
        }
        let roots = payload.tree_start.iter().map(|&start| start as usize * width);
        let means = roots.flat_map(|at| means[at..at + width].iter().copied()).collect();
        let points = longest_path(payload)?.div_ceil(2).max(1).next_power_of_two();
        if points > MAX_POINTS {
            let most = 2 * MAX_POINTS;
            return Err(format!(
                "a tree asks for more than {most} features in a row, too many to explain; lower 'max_depth'"
            ));
        }
        Ok(Explainer { shares, means, rule: gauss_legendre(points) })
    }

    /// What the features of one row add to the sum of the outputs times `weights`, before the link. `row` is as the trees
    /// compare it. Adds to `contributions`, one a feature, and answers the base.
    pub fn explain(
        &self,
        payload: &Payload,
        row: &[f64],
        weights: &[f64],
        contributions: &mut [f64],
    ) -> f64 {
        match self.rule.len() {
            1 => self.explain_with::<1>(payload, row, weights, contributions),
            2 => self.explain_with::<2>(payload, row, weights, contributions),
            4 => self.explain_with::<4>(payload, row, weights, contributions),
            8 => self.explain_with::<8>(payload, row, weights, contributions),
            16 => self.explain_with::<16>(payload, row, weights, contributions),
            _ => self.explain_with::<MAX_POINTS>(payload, row, weights, contributions),
        }
    }

    fn explain_with<const Q: usize>(
        &self,
        payload: &Payload,
        row: &[f64],
        weights: &[f64],
        contributions: &mut [f64],
    ) -> f64 {
        let rule = |part: fn(&(f64, f64)) -> f64| {
            let mut list = [0.0; Q];
            list.iter_mut().zip(&self.rule).for_each(|(to, from)| *to = part(from));
            list
        };
        let unknown = Known { share: 1.0, taken: true, factor: [1.0; Q], inverse: [1.0; Q] };
        let mut walk = Walk {
            payload,
            shares: &self.shares,
            row,
            points: rule(|(point, _)| *point),
            known: vec![unknown; row.len()],
            leaf_weights: Vec::new(),
            contributions,
        };
        let mut base: f64 = payload.base.iter().zip(weights).map(|(b, w)| b * w).sum();
        let width = payload.value_width as usize;
        for (tree, &start) in payload.tree_start.iter().enumerate() {
            walk.leaf_weights.clear();
            match width {
                1 => walk.leaf_weights.push(weights[payload.tree_output[tree] as usize]),
                _ => walk.leaf_weights.extend_from_slice(weights),
            }
            if walk.leaf_weights.iter().all(|&w| w == 0.0) {
                continue;
            }
            let means = &self.means[tree * width..][..width];
            base += means.iter().zip(&walk.leaf_weights).map(|(m, w)| m * w).sum::<f64>();
            walk.node(start as usize, &rule(|(_, weight)| *weight));
        }
        base
    }
}

/// What is known of a feature on the way down.
#[derive(Debug, Clone, Copy)]
struct Known<const Q: usize> {
    /// The share of training rows that its splits so far let through.
    share: f64,
    /// Whether they let the row through.
    taken: bool,
    /// `share · (1 − u) + taken · u` at every point, and one over it.
    factor: [f64; Q],
    inverse: [f64; Q],
}

/// A walk over one tree after the other.
struct Walk<'a, const Q: usize> {
    payload: &'a Payload,
    shares: &'a [f64],
    row: &'a [f64],
    points: [f64; Q],
    known: Vec<Known<Q>>,
    leaf_weights: Vec<f64>,
    contributions: &'a mut [f64],
}

impl<const Q: usize> Walk<'_, Q> {
    /// The sums over the leaves below `at`, given the product of the factors on the way there.
    fn node(&mut self, at: usize, product: &[f64; Q]) -> [f64; Q] {
        let node = &self.payload.nodes[at];
        let left = node.left as usize;
        if left == at {
            let width = self.payload.value_width as usize;
            let values = &self.payload.values[at * width..][..width];
            let value: f64 = values.iter().zip(&self.leaf_weights).map(|(v, w)| v * w).sum();
            return product.map(|p| p * value);
        }
        let feature = node.index();
        let right = goes_right(self.row[feature], node, self.payload.strict);
        let mut sums = [0.0; Q];
        for (child, is_taken) in [(left, !right), (left + 1, right)] {
            let below = self.child(child, feature, is_taken, product);
            for (sum, below) in sums.iter_mut().zip(below) {
                *sum += below;
            }
        }
        sums
    }

    /// The same of a child, and what its feature adds over the leaves below.
    fn child(&mut self, at: usize, feature: usize, is_taken: bool, product: &[f64; Q]) -> [f64; Q] {
        let before = self.known[feature];
        let share = before.share * self.shares[at];
        let taken = before.taken && is_taken;
        if share == 0.0 && !taken {
            return [0.0; Q];
        }
        let taken_share = if taken { 1.0 } else { 0.0 };
        let mut now = Known { share, taken, factor: [0.0; Q], inverse: [0.0; Q] };
        let mut here = [0.0; Q];
        for i in 0..Q {
            now.factor[i] = share * (1.0 - self.points[i]) + taken_share * self.points[i];
            now.inverse[i] = 1.0 / now.factor[i];
            here[i] = product[i] * before.inverse[i] * now.factor[i];
        }
        self.known[feature] = now;
        let below = self.node(at, &here);
        self.known[feature] = before;
        // What the feature's splits above said of these leaves is replaced, not added to.
        let slope = taken_share - share;
        let slope_before = if before.taken { 1.0 } else { 0.0 } - before.share;
        self.contributions[feature] += (0..Q)
            .map(|i| below[i] * (slope * now.inverse[i] - slope_before * before.inverse[i]))
            .sum::<f64>();
        below
    }
}

/// For every node the share of its parent's rows.
fn shares(payload: &Payload) -> Result<Vec<f64>, String> {
    let mut shares = vec![1.0; payload.nodes.len()];
    for (at, node) in payload.nodes.iter().enumerate() {
        let left = node.left as usize;
        if left != at {
            let (a, b) = (payload.covers[left], payload.covers[left + 1]);
            // Their sum and not the parent's number: libraries round the three one by one, and shares add up to 1.
            let total = a + b;
            let (a, b) = if total > 0.0 { (a / total, b / total) } else { (0.5, 0.5) };
            (shares[left], shares[left + 1]) = (a, b);
        }
    }
    Ok(shares)
}

/// The most different features that lie on the way to a leaf.
fn longest_path(payload: &Payload) -> Result<usize, String> {
    // The features above each node, without those that are there twice.
    let mut longest = 0;
    let mut waiting: Vec<(usize, Vec<u32>, usize)> =
        payload.tree_start.iter().map(|&start| (start as usize, Vec::new(), 1)).collect();
    while let Some((at, mut above, level)) = waiting.pop() {
        if level > MAX_LEVELS {
            return Err(format!(
                "a tree has more than {MAX_LEVELS} levels, too many to explain; lower 'max_depth'"
            ));
        }
        let node = &payload.nodes[at];
        let left = node.left as usize;
        if left == at {
            longest = longest.max(above.len());
            continue;
        }
        let feature = node.index() as u32;
        if !above.contains(&feature) {
            above.push(feature);
        }
        waiting.push((left, above.clone(), level + 1));
        waiting.push((left + 1, above, level + 1));
    }
    Ok(longest)
}

/// Gauss-Legendre points and weights on `[0, 1]`: exact for polynomials of degree `2 n − 1`.
fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    let degree = n as f64;
    (0..n)
        .map(|at| {
            let mut x = libm::cos(std::f64::consts::PI * (at as f64 + 0.75) / (degree + 0.5));
            let mut slope = 1.0;
            // Newton's steps double the digits; from this start six are more than enough.
            for _ in 0..8 {
                let (mut now, mut before) = (x, 1.0);
                for k in 2..=n {
                    let k = k as f64;
                    (now, before) = (((2.0 * k - 1.0) * x * now - (k - 1.0) * before) / k, now);
                }
                slope = degree * (x * now - before) / (x * x - 1.0);
                x -= now / slope;
            }
            ((1.0 - x) / 2.0, 1.0 / ((1.0 - x * x) * slope * slope))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trees::{Link, NAN_IS_MISSING, Node};

    /// Numbers in `[0, 1)`, the same in every run.
    fn noise(state: &mut u64) -> f64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A tree of seven levels over four features, so that every path asks for some of them again.
    fn tree(state: &mut u64) -> Payload {
        let n_inner = (1 << 7) - 1;
        let n_nodes = 2 * n_inner + 1;
        let nodes: Vec<Node> = (0..n_nodes)
            .map(|at| match at < n_inner {
                true => Node {
                    threshold: noise(state),
                    feature: (noise(state) * 4.0) as u32 | NAN_IS_MISSING,
                    left: 2 * at as u32 + 1,
                },
                false => Node::leaf(at as u32),
            })
            .collect();
        let mut covers = vec![0.0; n_nodes];
        for at in (0..n_nodes).rev() {
            // Some leaves saw no row.
            let rows = (noise(state) * 20.0 - 4.0).floor().max(0.0);
            covers[at] = if at < n_inner { covers[2 * at + 1] + covers[2 * at + 2] } else { rows };
        }
        Payload {
            input_f32: false,
            strict: false,
            acc_f32: false,
            outputs: 1,
            base: vec![3.0],
            average: false,
            link: Link::Identity,
            tree_output: vec![0],
            tree_start: vec![0],
            values: (0..n_nodes).map(|_| noise(state) * 10.0 - 5.0).collect(),
            nodes,
            value_width: 1,
            covers,
        }
    }

    /// What the tree says on the mean where only the features in `known` are.
    fn worth(payload: &Payload, at: usize, row: &[f64], known: usize) -> f64 {
        let node = &payload.nodes[at];
        let left = node.left as usize;
        if left == at {
            return payload.values[at];
        }
        if known >> node.index() & 1 == 1 {
            let right = goes_right(row[node.index()], node, false);
            return worth(payload, left + usize::from(right), row, known);
        }
        let (a, b) = (payload.covers[left], payload.covers[left + 1]);
        let share = if a + b > 0.0 { a / (a + b) } else { 0.5 };
        share * worth(payload, left, row, known)
            + (1.0 - share) * worth(payload, left + 1, row, known)
    }

    /// Shapley's own formula over all subsets.
    #[test]
    fn contributions_are_shapley_values() {
        let factorial = |n: usize| (1..=n).product::<usize>() as f64;
        let mut state = 0x2545_f491_4f6c_dd1d;
        for _ in 0..20 {
            let payload = tree(&mut state);
            let explainer = Explainer::new(&payload).unwrap();
            let row: Vec<f64> = (0..4).map(|_| noise(&mut state)).collect();
            let mut found = [0.0; 4];
            let base = explainer.explain(&payload, &row, &[1.0], &mut found);
            assert!((base - 3.0 - worth(&payload, 0, &row, 0)).abs() < 1e-12);
            for (feature, found) in found.into_iter().enumerate() {
                let expected: f64 = (0..16_usize)
                    .filter(|set| set >> feature & 1 == 0)
                    .map(|set| {
                        let size = set.count_ones() as usize;
                        let weight = factorial(size) * factorial(3 - size) / factorial(4);
                        let with = worth(&payload, 0, &row, set | 1 << feature);
                        weight * (with - worth(&payload, 0, &row, set))
                    })
                    .sum();
                assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
            }
            let score = 3.0 + worth(&payload, 0, &row, 15);
            assert!((base + found.iter().sum::<f64>() - score).abs() < 1e-12);
        }
    }

    #[test]
    fn the_quadrature_is_exact_for_polynomials() {
        for n in [1, 2, 4, 8, 16, 32] {
            let rule = gauss_legendre(n);
            for degree in 0..2 * n as i32 {
                let found: f64 = rule.iter().map(|(x, w)| w * x.powi(degree)).sum();
                assert!((found - 1.0 / f64::from(degree + 1)).abs() < 1e-13, "{n} {degree}");
            }
        }
    }

    #[test]
    fn trees_without_covers_or_too_deep_are_refused() {
        let payload = tree(&mut 7);
        assert!(Explainer::new(&Payload { covers: vec![], ..payload.clone() }).is_err());
        let n = 2 * MAX_LEVELS as u32 + 3;
        let chain = |at: u32| match at % 2 {
            0 if at + 1 < n => Node { threshold: 0.0, feature: NAN_IS_MISSING, left: at + 1 },
            _ => Node::leaf(at),
        };
        let deep = Payload {
            nodes: (0..n).map(chain).collect(),
            values: vec![0.0; n as usize],
            covers: vec![1.0; n as usize],
            ..payload
        };
        assert!(Explainer::new(&deep).unwrap_err().contains("levels"));
    }

    #[test]
    fn only_contributions_can_be_asked_for() {
        let config = |key: &str, value: &str| Config::new(vec![(key.to_owned(), value.to_owned())]);
        assert_eq!(asked(&Config::default()), Ok(false));
        assert_eq!(asked(&config("explain", "contributions")), Ok(true));
        assert!(asked(&config("explain", "yes")).is_err());
        assert!(asked(&config("explian", "contributions")).is_err());
    }
}
