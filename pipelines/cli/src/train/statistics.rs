//! The statistics of a step, fitted on the rows that the step reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use arrow::array::{ArrayRef, AsArray as _, Float64Array};
use arrow::compute::filter as filter_array;
use foreline_engine::{Batch, FitRows, Schema};
use foreline_spec::{FittingPlan, Plan, SourceOverride, TrainingTarget};
use serde_json::json;

use super::{part, write_whole};
use crate::commands::Running;
use crate::failure::Failure;
use crate::learning::{Lives, life};
use crate::progress::Progress;
use crate::session::{RowBar, keep};

/// What was fitted.
#[derive(Debug)]
pub struct FittedStep {
    /// The entry of `training:`.
    pub name: String,
    /// The step that reads the file.
    pub step: String,
    /// Where the statistics lie.
    pub file: PathBuf,
    /// The rows they are of.
    pub rows: usize,
    /// What was learnt, in a few words.
    pub summary: String,
    text: String,
}

/// Fits one entry of `training:` and writes its statistics.
///
/// # Errors
/// When the file has mistakes or the rows are not fit for it.
pub fn fit(
    file: &Path,
    name: &str,
    inputs: BTreeMap<String, SourceOverride>,
    running: &Running,
) -> Result<FittedStep, Failure> {
    fit_step(&part(file, name, inputs)?, name, running)
}

/// Fits what the plan's entry `name` says and writes its statistics.
///
/// # Errors
/// When the rows are not fit for it, or the file cannot be written.
pub fn fit_step(plan: &Plan, name: &str, running: &Running) -> Result<FittedStep, Failure> {
    let planned = plan.fittings.iter().find(|f| f.name == name);
    let planned = planned.with_context(|| format!("there is no training '{name}'"))?;
    let progress = Progress::detect(running.quiet);
    let stream = plan.stream_name(planned.from);
    let observer = RowBar::of(progress.counter("reading", "rows"), plan);
    let kept = keep(plan, &[stream], running.workers(), Some(observer))?;
    let (schema, batch) = kept.streams.get(stream).context("the stream that was asked for")?;
    let (batch, target) = chosen(planned, schema, batch)?;
    let from = FitRows { name, rows: &batch.rows, target: target.as_ref() };
    let fitted =
        (planned.fitting.fit)(&from).map_err(|e| anyhow!("fitting '{}': {e}", planned.step))?;
    write_whole(&planned.fitting.file, fitted.text.as_bytes())?;
    Ok(FittedStep {
        name: name.to_owned(),
        step: planned.step.clone(),
        file: planned.fitting.file.clone(),
        rows: batch.len(),
        summary: fitted.summary,
        text: fitted.text,
    })
}

/// The rows that are looked at, and their target.
fn chosen(
    planned: &FittingPlan,
    schema: &Schema,
    batch: &Batch,
) -> anyhow::Result<(Batch, Option<ArrayRef>)> {
    let target: Option<ArrayRef> = match &planned.target {
        None | Some(TrainingTarget::Nothing) => None,
        Some(TrainingTarget::Remaining { cap, ends }) => {
            let cap = cap.map(|cap| life(cap, schema.domain()));
            let ends = match ends {
                Some(ends) => {
                    let found = ends.evaluate(&batch.rows).context("the 'ends' of the target")?;
                    Some(found.as_boolean().clone())
                }
                None => None,
            };
            let left = Lives::of(batch, schema, ends.as_ref()).remaining(batch, schema, cap);
            // Nobody knows how long a life lasts that goes on.
            let known = left.into_iter().map(|left| Some(left).filter(|left| !left.is_nan()));
            Some(Arc::new(known.collect::<Float64Array>()))
        }
        Some(TrainingTarget::Column(name) | TrainingTarget::Class(name)) => {
            let index = schema.index_of(name).context("the column was planned")?;
            Some(Arc::clone(batch.rows.column(index)))
        }
    };
    let Some(filter) = &planned.filter else { return Ok((batch.clone(), target)) };
    let keep = filter.evaluate(&batch.rows).context("the 'where' of the training")?;
    let keep = keep.as_boolean();
    let target = target.map(|target| filter_array(&target, keep)).transpose()?;
    Ok((batch.filter(keep)?, target))
}

impl FittedStep {
    /// One line about it.
    #[must_use]
    pub fn line(&self) -> String {
        let FittedStep { name, step, summary, .. } = self;
        format!("fitted '{name}' for step '{step}': {summary}: {}", self.file.display())
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "step": self.step,
            "statistics": self.file,
            "sha256": foreline_plugins::digest(self.text.as_bytes()),
            "rows": self.rows,
            "learnt": self.summary,
        })
    }
}
