//! What the features of a judged model are worth: how far its answers move when one of them is dealt among the rows.

use anyhow::Context as _;
use foreline_plugins::Native;
use foreline_sdk::weights::OutputKind;
use foreline_spec::{EvaluationConfig, Outline};

use super::Evaluated;
use crate::failure::Failure;
use crate::learning::matrix;
use crate::learning::split::deal;
use crate::validate::Importance;

/// Rows that are looked at; more say the same.
const MOST_ROWS: usize = 20_000;

/// What each feature of the evaluation's training is worth, the most first; nothing where the file names no training, or the
/// model is of a family that is not scored here.
///
/// What is looked at is the model alone, against its own answers: how far they move, as the root of the mean square, or as
/// the share of classes that change. So steps behind the model do not blur it.
pub(super) fn of(
    evaluated: &Evaluated,
    outline: &Outline,
    config: &EvaluationConfig,
) -> Result<Vec<Importance>, Failure> {
    let (Some(training), Some((schema, batch))) = (&config.training, &evaluated.stream) else {
        return Ok(Vec::new());
    };
    let Some(trained) = outline.models.get(training) else { return Ok(Vec::new()) };
    let path = &trained.weights;
    let bytes = std::fs::read(path).with_context(|| format!("the weights '{}'", path.display()))?;
    let Ok(model) = Native::load(&bytes) else { return Ok(Vec::new()) };
    let names: Vec<String> = model.header().features.iter().map(|f| f.name.clone()).collect();
    let Ok(all) = matrix(batch, schema, &names) else { return Ok(Vec::new()) };
    let (width, n_outputs) = (names.len(), model.header().outputs.len());
    let step = batch.len().div_ceil(MOST_ROWS).max(1);
    let x: Vec<f64> = all.chunks_exact(width).step_by(step).flatten().copied().collect();
    let n_rows = x.len() / width;
    let is_class = model.header().outputs.first().is_some_and(|o| o.kind == OutputKind::ClassIndex);
    let main = if is_class { 0 } else { n_outputs / 2 };
    let answers = |x: &[f64]| -> Vec<f64> {
        model.score(x).into_iter().skip(main).step_by(n_outputs).collect()
    };
    let whole = answers(&x);
    let moved = |other: &[f64]| {
        let pairs = || whole.iter().zip(other).filter(|(a, b)| a.is_finite() && b.is_finite());
        let n = pairs().count().max(1) as f64;
        if is_class {
            pairs().filter(|(a, b)| a != b).count() as f64 / n
        } else {
            (pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / n).sqrt()
        }
    };
    let mut found = Vec::with_capacity(width);
    for (feature, name) in names.into_iter().enumerate() {
        let mut dealt = x.clone();
        let place = |row: usize| row * width + feature;
        deal(n_rows, feature as u64, |a, b| dealt.swap(place(a), place(b)));
        found.push(Importance { feature: name, increase: moved(&answers(&dealt)) });
    }
    found.sort_by(|a, b| b.increase.total_cmp(&a.increase).then_with(|| a.feature.cmp(&b.feature)));
    Ok(found)
}
