//! A tree whose children lie anywhere, laid out as the evaluator wants it: level by level, siblings side by side.

use foreline_sdk::trees::{MAX_NODES, Node, Payload};

use super::ImportError;

/// What a library says of a node.
pub(super) enum Visit {
    /// The feature with the flags of the evaluator, the threshold, the children.
    Split { feature: u32, threshold: f64, left: i64, right: i64, cover: Option<f64> },
    /// What the leaf adds.
    Leaf { value: f64, cover: Option<f64> },
}

/// Adds the tree that begins at `root` to the payload. `at` looks up a node by what the library calls it.
pub(super) fn add(
    payload: &mut Payload,
    output: u32,
    root: i64,
    at: impl Fn(i64) -> Option<Visit>,
    most: usize,
) -> Result<(), ImportError> {
    let broken = |what: &str| ImportError::Broken(format!("a tree {what}"));
    let start = payload.nodes.len();
    payload.tree_start.push(start as u32);
    payload.tree_output.push(output);
    let mut order = vec![root];
    let mut next = 0;
    while let Some(&name) = order.get(next) {
        let here = (start + next) as u32;
        let visit = at(name).ok_or_else(|| broken("leads to a node that is not there"))?;
        let (Visit::Split { cover, .. } | Visit::Leaf { cover, .. }) = visit;
        payload.covers.extend(cover);
        match visit {
            Visit::Leaf { value, .. } => {
                if !value.is_finite() {
                    return Err(broken("has a leaf that is not a number"));
                }
                payload.nodes.push(Node::leaf(here));
                payload.values.push(value);
            }
            Visit::Split { feature, threshold, left, right, .. } => {
                let first = start + order.len();
                order.extend([left, right]);
                // A cycle would never end.
                if order.len() > most {
                    return Err(broken("reaches a node twice"));
                }
                payload.nodes.push(Node { threshold, feature, left: first as u32 });
                payload.values.push(0.0);
            }
        }
        next += 1;
    }
    match payload.nodes.len() {
        n if n > MAX_NODES => Err(broken("is one too many: there are too many nodes")),
        _ => Ok(()),
    }
}
