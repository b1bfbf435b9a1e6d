//! LightGBM's text (checked with 4.7.0).
//!
//! A row goes left where its value is at most the threshold. What counts as missing is said for every node. Shrinkage
//! and the average of the target are in the leaves; tree `i` adds to output `i mod n`. The format carries no promise
//! of stability, so everything that is not known is refused.

use std::collections::BTreeMap;

use foreline_sdk::trees::{DEFAULT_LEFT, Payload};

use super::layout::{self, Visit};
use super::{Features, Foreign, Format, ImportError, Target, empty};

/// The versions whose lines mean what is read here.
const VERSIONS: [&str; 2] = ["v3", "v4"];
/// Objectives whose raw score is the prediction.
const NUMBERS: [&str; 6] = ["regression", "regression_l1", "huber", "fair", "quantile", "mape"];
/// Bits of `decision_type`.
const CATEGORICAL: u32 = 1;
const DEFAULT_IS_LEFT: u32 = 2;
/// How far what is missing lies from the bits of the evaluator, which has the same numbers for it.
const MISSING_SHIFT: u32 = 2;
const FLAG_SHIFT: u32 = 25;

/// Lines `key=value` up to the next section.
type Section<'a> = BTreeMap<&'a str, &'a str>;

fn unreadable(why: impl Into<String>) -> ImportError {
    ImportError::Unreadable { format: Format::LightgbmText, why: why.into() }
}

fn refused<T>(what: impl Into<String>) -> Result<T, ImportError> {
    Err(ImportError::Refused(what.into()))
}

pub(super) fn read(bytes: &[u8]) -> Result<Foreign, ImportError> {
    let text = std::str::from_utf8(bytes).map_err(|e| unreadable(e.to_string()))?;
    let (head, trees) = sections(text)?;
    let version = get(&head, "version")?;
    if !VERSIONS.contains(&version) {
        return refused(format!("LightGBM's format '{version}'"));
    }
    let target = target(&head)?;
    let per_round: u32 = one(&head, "num_tree_per_iteration")?;
    let sums = if target == Target::Classes(2) && per_round == 1 { 1 } else { target.n_outputs() };
    if per_round as usize != sums {
        return Err(unreadable(format!("{per_round} trees a round do not fit the objective")));
    }
    // The one sum of two classes belongs to the second.
    let first = if sums < target.n_outputs() { 1 } else { 0 };
    let mut payload = empty(target, vec![0.0; target.n_outputs()]);
    payload.average = head.contains_key("average_output");
    if payload.average && first == 1 {
        return refused("a LightGBM random forest of two classes");
    }
    for (tree, at) in trees.iter().zip(0_u32..) {
        add(tree, first + at % per_round, &mut payload)?;
    }
    Ok(Foreign {
        payload,
        target,
        features: features(&head)?,
        library: format!("lightgbm, format {version}"),
        notes: vec![],
    })
}

/// The head and the trees.
fn sections(text: &str) -> Result<(Section<'_>, Vec<Section<'_>>), ImportError> {
    let mut lines = text.lines();
    if lines.next().map(str::trim_end) != Some("tree") {
        return Err(unreadable("it does not start with 'tree'"));
    }
    let (mut head, mut trees) = (Section::new(), Vec::<Section<'_>>::new());
    for line in lines.map(str::trim_end) {
        if line == "end of trees" {
            return Ok((head, trees));
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if key == "Tree" {
            trees.push(Section::new());
        } else if !key.is_empty() {
            trees.last_mut().unwrap_or(&mut head).insert(key, value);
        }
    }
    Err(unreadable("'end of trees' is missing; the file was cut"))
}

fn get<'a>(section: &Section<'a>, key: &str) -> Result<&'a str, ImportError> {
    section.get(key).copied().ok_or_else(|| unreadable(format!("'{key}' is missing")))
}

fn one<T: std::str::FromStr>(section: &Section<'_>, key: &str) -> Result<T, ImportError> {
    let text = get(section, key)?;
    text.parse().map_err(|_| unreadable(format!("'{key}' is '{text}'")))
}

fn list<T: std::str::FromStr>(section: &Section<'_>, key: &str) -> Result<Vec<T>, ImportError> {
    let text = get(section, key)?;
    let parsed: Result<Vec<T>, _> = text.split_ascii_whitespace().map(str::parse).collect();
    parsed.map_err(|_| unreadable(format!("'{key}' has something that is no number")))
}

fn target(head: &Section<'_>) -> Result<Target, ImportError> {
    let objective = get(head, "objective")?;
    let words: Vec<&str> = objective.split_ascii_whitespace().collect();
    match words[..] {
        [name, ref rest @ ..] if NUMBERS.contains(&name) && !rest.contains(&"sqrt") => {
            Ok(Target::Number)
        }
        ["binary", "sigmoid:1"] => Ok(Target::Classes(2)),
        ["multiclass", ..] => match one(head, "num_class")? {
            n @ 2.. => Ok(Target::Classes(n)),
            n => Err(unreadable(format!("'num_class' is {n}"))),
        },
        _ => refused(format!("LightGBM's objective '{objective}'")),
    }
}

fn add(tree: &Section<'_>, output: u32, payload: &mut Payload) -> Result<(), ImportError> {
    if get(tree, "num_cat")? != "0" {
        return refused("a LightGBM model with categorical splits");
    }
    if tree.get("is_linear").is_some_and(|linear| *linear != "0") {
        return refused("a LightGBM model with linear leaves");
    }
    let leaves: Vec<f64> = list(tree, "leaf_value")?;
    if one::<usize>(tree, "num_leaves")? != leaves.len() || leaves.is_empty() {
        return Err(unreadable("'leaf_value' does not have a number for every leaf"));
    }
    if let &[value] = &leaves[..] {
        // A tree that never splits says the same of every row, however many there were.
        let leaf = |_| Some(Visit::Leaf { value, cover: Some(1.0) });
        return layout::add(payload, output, 0, leaf, 1);
    }
    let features: Vec<u32> = list(tree, "split_feature")?;
    let thresholds: Vec<f64> = list(tree, "threshold")?;
    let decisions: Vec<u32> = list(tree, "decision_type")?;
    let (lefts, rights): (Vec<i64>, Vec<i64>) =
        (list(tree, "left_child")?, list(tree, "right_child")?);
    let counts = |key: &str| match tree.contains_key(key) {
        true => list::<f64>(tree, key),
        false => Ok(vec![]),
    };
    let (leaf_counts, inner_counts) = (counts("leaf_count")?, counts("internal_count")?);
    if decisions.iter().any(|d| d & CATEGORICAL != 0) {
        return refused("a LightGBM model with categorical splits");
    }
    if decisions.iter().any(|d| d >> MISSING_SHIFT > 2) {
        return refused("a LightGBM model with an unknown kind of missing value");
    }
    let visit = |name: i64| {
        let Ok(at) = usize::try_from(name) else {
            let leaf = usize::try_from(!name).ok()?;
            let cover = leaf_counts.get(leaf).copied();
            return leaves.get(leaf).map(|&value| Visit::Leaf { value, cover });
        };
        let decision = *decisions.get(at)?;
        let side = if decision & DEFAULT_IS_LEFT == 0 { 0 } else { DEFAULT_LEFT };
        let index = *features.get(at)?;
        // Bits above are flags; an index that reaches into them is no feature.
        let index = if index < DEFAULT_LEFT { index } else { return None };
        Some(Visit::Split {
            feature: index | side | (decision >> MISSING_SHIFT) << FLAG_SHIFT,
            threshold: *thresholds.get(at)?,
            left: *lefts.get(at)?,
            right: *rights.get(at)?,
            cover: inner_counts.get(at).copied(),
        })
    };
    layout::add(payload, output, 0, visit, 2 * leaves.len() - 1)
}

/// Names, and the ranges of the training data where they are written as `[low:high]`.
fn features(head: &Section<'_>) -> Result<Features, ImportError> {
    let names: Vec<&str> = get(head, "feature_names")?.split_ascii_whitespace().collect();
    let expected = one::<usize>(head, "max_feature_idx")?.checked_add(1);
    if expected != Some(names.len()) {
        return Err(unreadable(format!("{} names do not fit the features", names.len())));
    }
    let infos: Vec<&str> =
        head.get("feature_infos").map_or(vec![], |text| text.split_ascii_whitespace().collect());
    let range = |info: &str| {
        let (low, high) = info.strip_prefix('[')?.strip_suffix(']')?.split_once(':')?;
        let (low, high): (f64, f64) = (low.parse().ok()?, high.parse().ok()?);
        (low.is_finite() && high.is_finite() && low <= high).then_some((low, high))
    };
    let named = names.iter().enumerate();
    Ok(named
        .map(|(at, name)| ((*name).to_owned(), infos.get(at).and_then(|info| range(info))))
        .collect())
}
