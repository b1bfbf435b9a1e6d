//! Scores every row with a model in the sandbox.
//!
//! Input   one row to score, keyed; the plugin's features are numeric columns
//! Output  the input's columns, a `Float64` for every output of the model (and the label of a class), and
//!         `model_name`, `model_version`, `model_digest`; with `explain` what each feature added, with `warn`
//!         `outside_range`
//! State   what the plugin keeps for a key (`state-width` numbers), and the breaker of keys whose rows were to blame
//! Late    a stateless model scores a corrected row like any other; a stateful one refuses `late: { correct }`
//! Errors  `plugin_*`: the row follows `on_error`
//!
//! A row whose `skip-row` feature is missing is not sent; its outputs are null, as they are where the model answers
//! NaN. A deleted row passes with null outputs. Of several `versions` one acts on each row, and `shadow`s have columns of
//! their own, `<version>_<output>`.

mod breaker;
mod config;
mod drift;
mod explain;
mod ledger;
mod operation;
mod plan;
mod rows;
mod scoring;
mod seat;
mod step;
mod switchboard;
mod warn;

use std::path::PathBuf;
use std::sync::Arc;

use foreline_engine::{ConfigError, Family, OperatorKind, Planned, Resolver, Schema};

pub use config::{
    BreakerConfig, Bytes, CanaryConfig, LimitsConfig, ModelConfig, Names, OnError, RouteConfig,
    StatePolicy, VersionConfig,
};
pub use explain::ExplainConfig;
pub use ledger::{Ledger, Work};
pub use operation::CHAMPION;
pub use plan::PROVENANCE;
pub(crate) use plan::{
    FUEL_HEADROOM, Files, MIN_FUEL_PER_ROW, TRIAL_FUEL_PER_ROW, TRIAL_ROWS, check_descriptor,
    model_digest, plan_files, trial_rows,
};
pub use switchboard::{NotAdmitted, Switchboard, VersionFacts, swaps_schema};
pub use warn::WarnConfig;

/// The `model` step.
#[derive(Debug)]
pub(crate) enum Model {}

impl OperatorKind for Model {
    type Config = ModelConfig;

    const NAME: &'static str = "model";
    const SUMMARY: &'static str = "Scores every row with a model in the sandbox.";
    const FAMILY: Family = Family::Models;
    const EXAMPLE: &'static str = "rul: { from: readings, model: { plugin: models/linear.wasm, weights: models/linear.weights, output: rul_hours } }";

    fn plan(
        config: &ModelConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        plan::plan(config, inputs, given)
    }
}

/// A model of a pipeline: its step, what it does while it runs, and the way to change it.
#[derive(Debug)]
pub struct PlannedModel {
    /// The step. One that is operated reads its stream and then the relation of [swaps](swaps_schema).
    pub planned: Planned,
    /// What its versions do.
    pub ledger: Arc<Ledger>,
    /// There where it is operated.
    pub switchboard: Option<Arc<Switchboard>>,
}

/// The model in the step called `name`. With `operated_in` it can be changed while it runs; versions that come are kept in
/// that folder.
///
/// # Errors
/// As [`OperatorKind::plan`].
pub fn plan_model(
    name: &str,
    config: &ModelConfig,
    input: &Schema,
    given: &dyn Resolver,
    operated_in: Option<PathBuf>,
) -> Result<PlannedModel, Vec<ConfigError>> {
    let (operation, notes) = plan::operation(config, std::slice::from_ref(input), given)?;
    let operation = Arc::new(operation);
    let switchboard = operated_in
        .map(|folder| Switchboard::new(name, config, Arc::clone(&operation), given, folder))
        .transpose()?
        .map(Arc::new);
    let ledger = Arc::new(Ledger::new(name));
    let planned = plan::planned(&operation, &ledger, switchboard.clone());
    Ok(PlannedModel { planned: Planned { notes, ..planned }, ledger, switchboard })
}
