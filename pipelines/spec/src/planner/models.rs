//! Models that are operated while they run: the relation that says which version acts, and the way to change it. They are there
//! where a `model` has the key `versions` and the section `serve` lets somebody in.

use foreline_connectors::swaps;
use foreline_engine::{
    ConfigError, Front, Planned, Relation, RelationRules, Schema, StepConfig, StreamId,
    VIEW_ROWS_MAX, ViewKind,
};
use foreline_plugins::{ModelConfig, plan_model, swaps_schema};

use crate::plan::{SourcePlan, ViewPlan};
use crate::planner::{CHANGES, Planner, Stream};

/// The name of the table of what stands.
pub(super) const MODELS: &str = "models";

/// The configuration of a model that can be operated.
fn operable(config: &dyn StepConfig) -> Option<&ModelConfig> {
    let config = config.as_any().downcast_ref::<ModelConfig>();
    config.filter(|config| config.versions.is_some())
}

impl Planner<'_> {
    /// Whether models can be changed while they run. They cannot where something else has the table's name, which is
    /// reported.
    pub(super) fn has_swaps(&self) -> bool {
        self.wants_swaps() && !self.own_names().iter().any(|(name, _)| *name == MODELS)
    }

    fn wants_swaps(&self) -> bool {
        let file = self.file;
        let kinds = file.steps.iter().filter_map(|step| step.kind.as_ref());
        file.serve.is_some() && kinds.into_iter().any(|kind| operable(&*kind.config).is_some())
    }

    /// The name of the table is its own.
    pub(super) fn reserve_models(&mut self) {
        if self.wants_swaps() {
            self.reserve(MODELS, "the table of which versions of models act");
        }
    }

    /// Plans the relation; what steps read of it.
    pub(super) fn plan_swaps(&mut self) -> Option<StreamId> {
        if !self.has_swaps() {
            return None;
        }
        let schema = swaps_schema().ok()?;
        let columns = schema.columns()[..schema.columns().len() - 1].to_vec();
        let relation = Relation::new(columns, schema.key().to_vec()).ok()?;
        let (columns, source) = swaps(&schema);
        let max_rows = VIEW_ROWS_MAX;
        self.plan.sources.push(SourcePlan {
            name: MODELS.to_owned(),
            kind: SourcePlan::SWAPS,
            schema,
            columns,
            config: String::new(),
            front: Front::Relation(RelationRules { whole: false, valid_from: None, max_rows }),
            source,
        });
        let index = self.plan.sources.len() - 1;
        self.plan.views.push(ViewPlan {
            name: MODELS.to_owned(),
            changes: format!("{MODELS}{CHANGES}"),
            kind: "reference",
            relation,
            how: ViewKind::Standing(StreamId::Source(index)),
            max_rows,
            config: String::new(),
        });
        let view = StreamId::View(self.plan.views.len() - 1);
        self.streams.insert(MODELS, Stream::Planned(view));
        Some(StreamId::Versions(index))
    }

    /// A step that is a model, and whether it can be changed while it runs; `None` for any other.
    pub(super) fn model_step(
        &mut self,
        name: &str,
        config: &dyn StepConfig,
        inputs: &[Schema],
    ) -> Option<Result<(Planned, bool), Vec<ConfigError>>> {
        let (Some(model), [input]) = (config.as_any().downcast_ref::<ModelConfig>(), inputs) else {
            return None;
        };
        let is_operated = self.swaps.is_some() && operable(config).is_some();
        let folder = is_operated.then(|| self.plan.data_dir.join(MODELS));
        let planned = plan_model(name, model, input, &self.given, folder);
        Some(planned.map(|model| {
            self.plan.ledgers.push(model.ledger);
            self.plan.models.extend(model.switchboard);
            (model.planned, is_operated)
        }))
    }
}
