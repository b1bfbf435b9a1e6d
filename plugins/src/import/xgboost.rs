//! XGBoost's JSON (checked with 3.2.0).
//!
//! Features are rounded to `f32`; a row goes left where its value is *less* than the threshold, a missing one by
//! `default_left`; sums are `f32` and start from the base margin. `best_iteration` is not applied, as
//! `Booster.predict` does not: all trees are taken, and the weights say so.

use foreline_sdk::trees::{DEFAULT_LEFT, NAN_IS_MISSING, Payload};
use serde::Deserialize;

use super::layout::{self, Visit};
use super::{Features, Foreign, Format, ImportError, Target, empty};

#[derive(Deserialize)]
struct Model {
    learner: Learner,
    version: Vec<u32>,
}

#[derive(Deserialize)]
struct Learner {
    #[serde(default)]
    attributes: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    feature_names: Vec<String>,
    gradient_booster: Booster,
    learner_model_param: Parameters,
    objective: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// XGBoost writes numbers as text here.
#[derive(Deserialize)]
struct Parameters {
    base_score: String,
    num_class: String,
    num_feature: String,
    #[serde(default)]
    num_target: Option<String>,
}

#[derive(Deserialize)]
struct Booster {
    name: String,
    #[serde(default)]
    model: Option<Trees>,
}

#[derive(Deserialize)]
struct Trees {
    trees: Vec<Tree>,
    tree_info: Vec<u32>,
}

#[derive(Deserialize)]
struct Tree {
    left_children: Vec<i64>,
    right_children: Vec<i64>,
    split_indices: Vec<u32>,
    split_conditions: Vec<f64>,
    /// Numbers, in older versions booleans.
    default_left: Vec<serde_json::Value>,
    #[serde(default)]
    split_type: Vec<u32>,
    /// The weight of the training rows in each node.
    #[serde(default)]
    sum_hessian: Vec<f64>,
    tree_param: TreeParameters,
}

#[derive(Deserialize)]
struct TreeParameters {
    #[serde(default)]
    size_leaf_vector: Option<String>,
}

fn unreadable(why: impl Into<String>) -> ImportError {
    ImportError::Unreadable { format: Format::XgboostJson, why: why.into() }
}

fn refused<T>(what: impl Into<String>) -> Result<T, ImportError> {
    Err(ImportError::Refused(what.into()))
}

pub(super) fn read(bytes: &[u8]) -> Result<Foreign, ImportError> {
    let Model { learner, version } =
        serde_json::from_slice(bytes).map_err(|e| unreadable(e.to_string()))?;
    let booster = &learner.gradient_booster;
    let trees = match &booster.model {
        Some(trees) if booster.name == "gbtree" => trees,
        _ => return refused(format!("XGBoost's booster '{}'", booster.name)),
    };
    let parameters = &learner.learner_model_param;
    let target = match learner.objective.name.as_str() {
        "reg:squarederror" => Target::Number,
        "binary:logistic" => Target::Classes(2),
        "multi:softprob" => Target::Classes(number(&parameters.num_class)?),
        other => return refused(format!("XGBoost's objective '{other}'")),
    };
    if parameters.num_target.as_deref().is_some_and(|n| n != "1") {
        return refused("an XGBoost model of several targets");
    }
    let logistic = learner.objective.name == "binary:logistic";
    let mut payload = empty(target, base(&parameters.base_score, target, logistic)?);
    payload.input_f32 = true;
    payload.acc_f32 = true;
    payload.strict = true;
    if trees.tree_info.len() != trees.trees.len() {
        return Err(unreadable("'tree_info' does not have a number for every tree"));
    }
    for (tree, &output) in trees.trees.iter().zip(&trees.tree_info) {
        add(tree, if logistic { output.saturating_add(1) } else { output }, &mut payload)?;
    }
    Ok(Foreign {
        payload,
        target,
        features: features(&learner, number(&parameters.num_feature)?)?,
        library: format!(
            "xgboost {}",
            version.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
        ),
        notes: notes(&learner),
    })
}

fn number(text: &str) -> Result<usize, ImportError> {
    text.parse().map_err(|_| unreadable(format!("'{text}' is not a number")))
}

/// What the sums start from: `5E-1`, in newer versions `[5E-1]` with one an output.
fn base(text: &str, target: Target, logistic: bool) -> Result<Vec<f64>, ImportError> {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    let scores: Result<Vec<f32>, _> = inner.split(',').map(|part| part.trim().parse()).collect();
    let scores = scores.map_err(|_| unreadable(format!("'base_score' is '{text}'")))?;
    match (&scores[..], target) {
        (&[share], _) if logistic => {
            if !(share > 0.0 && share < 1.0) {
                return Err(unreadable(format!("'base_score' of {share} is not a probability")));
            }
            Ok(vec![0.0, f64::from(logit(share))])
        }
        (&[score], _) => Ok(vec![f64::from(score); target.n_outputs()]),
        (all, Target::Classes(n)) if all.len() == n => {
            Ok(all.iter().map(|&score| f64::from(score)).collect())
        }
        _ => Err(unreadable(format!("'base_score' has {} numbers", scores.len()))),
    }
}

/// The base margin of a probability, in the arithmetic of XGBoost.
fn logit(share: f32) -> f32 {
    -libm::logf(1.0 / share - 1.0)
}

fn add(tree: &Tree, output: u32, payload: &mut Payload) -> Result<(), ImportError> {
    if tree.split_type.iter().any(|&kind| kind != 0) {
        return refused("an XGBoost model with categorical splits");
    }
    if tree.tree_param.size_leaf_vector.as_deref().is_some_and(|n| n != "1" && n != "0") {
        return refused("an XGBoost model with vectors in its leaves");
    }
    let visit = |name: i64| {
        let at = usize::try_from(name).ok()?;
        // In `f32`, as XGBoost holds it.
        let condition = f64::from(*tree.split_conditions.get(at)? as f32);
        let left = *tree.left_children.get(at)?;
        let cover = tree.sum_hessian.get(at).map(|&h| f64::from(h as f32));
        if left == -1 {
            return Some(Visit::Leaf { value: condition, cover });
        }
        let default_left = match tree.default_left.get(at)? {
            serde_json::Value::Bool(left) => *left,
            other => other.as_u64()? != 0,
        };
        let index = *tree.split_indices.get(at)?;
        // Bits above are flags; an index that reaches into them is no feature.
        let index = if index < DEFAULT_LEFT { index } else { return None };
        let side = if default_left { DEFAULT_LEFT } else { 0 };
        Some(Visit::Split {
            feature: index | side | NAN_IS_MISSING,
            threshold: condition,
            left,
            right: *tree.right_children.get(at)?,
            cover,
        })
    };
    layout::add(payload, output, 0, visit, tree.left_children.len())
}

fn features(learner: &Learner, n: usize) -> Result<Features, ImportError> {
    let names = &learner.feature_names;
    match names.len() {
        // What XGBoost calls the columns of a matrix without names.
        0 if n < DEFAULT_LEFT as usize => Ok((0..n).map(|at| (format!("f{at}"), None)).collect()),
        found if found == n => Ok(names.iter().map(|name| (name.clone(), None)).collect()),
        found => Err(unreadable(format!("{n} features have {found} names"))),
    }
}

fn notes(learner: &Learner) -> Vec<(String, String)> {
    let best = learner.attributes.get("best_iteration").and_then(|best| best.as_str());
    best.map(|best| {
        let note = format!("{best}; not applied, all trees are taken");
        ("best_iteration".to_owned(), note)
    })
    .into_iter()
    .collect()
}
