//! The kinds of source, step and sink that a file may name, and the language they make together.

use foreline_connectors::{SinkRegistration, SourceRegistration};
use foreline_engine::{Extent, Registration};
use foreline_operators::alert_book::BookOptions;
use schemars::SchemaGenerator;
use serde_json::{Map, Value as Json, json};

use crate::file::{
    AlertEntry, EpochConfig, EvaluationConfig, JournalConfig, ReferenceCommon, ServeConfig,
    SinkCommon, SnapshotConfig, SourceCommon, StepCommon, TestConfig, TrainingConfig, TuningConfig,
    ViewConfig,
};

/// The tables of kinds.
#[derive(Debug, Clone)]
pub struct Kinds {
    /// Kinds of source.
    pub sources: Vec<SourceRegistration>,
    /// Kinds of relation that come from outside.
    pub references: Vec<SourceRegistration>,
    /// Kinds of step.
    pub steps: Vec<Registration>,
    /// Kinds of sink.
    pub sinks: Vec<SinkRegistration>,
}

impl Kinds {
    /// Every kind there is.
    #[must_use]
    pub fn all() -> Self {
        let steps = [foreline_operators::OPERATORS, foreline_plugins::OPERATORS];
        Kinds {
            sources: foreline_connectors::SOURCES.to_vec(),
            references: foreline_connectors::REFERENCES.to_vec(),
            steps: steps.concat(),
            sinks: foreline_connectors::SINKS.to_vec(),
        }
    }
}

/// What the keys of a source, step or sink mean: those all have, and the one that names the kind.
#[derive(Debug)]
pub(crate) struct BlockLanguage {
    pub(crate) common: Json,
    pub(crate) kinds: Vec<(&'static str, &'static str, Json)>,
}

/// The JSON schemas of everything a file can hold.
#[derive(Debug)]
pub(crate) struct Language {
    pub(crate) definitions: Map<String, Json>,
    pub(crate) source: BlockLanguage,
    pub(crate) reference: BlockLanguage,
    pub(crate) step: BlockLanguage,
    pub(crate) sink: BlockLanguage,
    pub(crate) view: Json,
    pub(crate) alert: Json,
    pub(crate) alert_book: Json,
    pub(crate) training: Json,
    pub(crate) evaluation: Json,
    pub(crate) tuning: Json,
    pub(crate) test: Json,
    pub(crate) epoch: Json,
    pub(crate) snapshot: Json,
    pub(crate) journal: Json,
    pub(crate) serve: Json,
}

impl Language {
    pub(crate) fn new(kinds: &Kinds) -> Self {
        let mut generator = SchemaGenerator::default();
        let g = &mut generator;
        // First, so that the name is its own whatever else is called so.
        g.subschema_for::<Extent>();
        let sources = kinds.sources.iter().map(|k| (k.name, k.summary, (k.schema)(g).to_value()));
        let source = BlockLanguage { kinds: sources.collect(), common: of::<SourceCommon>(g) };
        let references =
            kinds.references.iter().map(|k| (k.name, k.summary, (k.schema)(g).to_value()));
        let reference =
            BlockLanguage { kinds: references.collect(), common: of::<ReferenceCommon>(g) };
        let steps = kinds.steps.iter().map(|k| (k.name, k.summary, (k.schema)(g).to_value()));
        let step = BlockLanguage { kinds: steps.collect(), common: of::<StepCommon>(g) };
        let sinks = kinds.sinks.iter().map(|k| (k.name, k.summary, (k.schema)(g).to_value()));
        let sink = BlockLanguage { kinds: sinks.collect(), common: of::<SinkCommon>(g) };
        let view = of::<ViewConfig>(g);
        let (alert, training) = (of::<AlertEntry>(g), of::<TrainingConfig>(g));
        let alert_book = of::<BookOptions>(g);
        let evaluation = of::<EvaluationConfig>(g);
        let tuning = of::<TuningConfig>(g);
        let (test, epoch) = (of::<TestConfig>(g), of::<EpochConfig>(g));
        let (snapshot, journal) = (of::<SnapshotConfig>(g), of::<JournalConfig>(g));
        let serve = of::<ServeConfig>(g);
        let definitions = generator.take_definitions(true);
        Language {
            definitions,
            source,
            reference,
            step,
            sink,
            view,
            alert,
            alert_book,
            training,
            evaluation,
            tuning,
            test,
            epoch,
            snapshot,
            journal,
            serve,
        }
    }

    /// The object that a reference leads to.
    pub(crate) fn resolve<'a>(&'a self, schema: &'a Json) -> &'a Json {
        let name =
            schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix("#/$defs/"));
        name.and_then(|n| self.definitions.get(n)).unwrap_or(schema)
    }

    fn block(&self, block: &BlockLanguage) -> Json {
        let common = self.resolve(&block.common);
        let empty = Map::new();
        let own = common.get("properties").and_then(Json::as_object).unwrap_or(&empty);
        let mut properties = own.clone();
        for (name, summary, schema) in &block.kinds {
            let described = json!({ "allOf": [schema], "description": summary });
            properties.insert((*name).to_owned(), described);
        }
        let one: Vec<Json> =
            block.kinds.iter().map(|(name, ..)| json!({ "required": [name] })).collect();
        json!({
            "type": "object",
            "properties": properties,
            "required": common.get("required").cloned().unwrap_or_else(|| json!([])),
            "additionalProperties": false,
            "oneOf": one,
        })
    }

    /// The JSON schema of a pipeline file, for editors and `foreline schema`.
    pub(crate) fn document(&self) -> Json {
        let named = |value: Json, about: &str| {
            let object = json!({ "type": "object", "additionalProperties": value });
            described(object, about)
        };
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Foreline pipeline",
            "type": "object",
            "required": ["version", "sources"],
            "additionalProperties": false,
            "properties": {
                "version": { "const": 1, "description": "The version of this format." },
                "name": { "type": "string", "description": "The name of the pipeline. Default: that of the file." },
                "sources": named(self.block(&self.source), "Where rows come from, by the name of the stream."),
                "reference": named(self.block(&self.reference), "Relations that come from outside: machines, limits, maintenance."),
                "steps": named(self.block(&self.step), "What is computed, by the name of the stream."),
                "sinks": named(self.block(&self.sink), "Where rows go."),
                "views": named(self.view.clone(), "Relations that are kept up while rows come and change."),
                "alerts": named(self.alert.clone(), "Conditions that somebody is to be told of."),
                "alert_book": self.alert_book,
                "training": named(self.training.clone(), "How `foreline train` makes weights and statistics."),
                "evaluation": named(self.evaluation.clone(), "How `foreline evaluate` judges predictions."),
                "tuning": named(self.tuning.clone(), "What `foreline tune` searches."),
                "tests": { "type": "array", "items": self.test, "description": "Cases for `foreline test`." },
                "epoch": self.epoch,
                "snapshot": self.snapshot,
                "journal": self.journal,
                "serve": self.serve,
                "data_dir": {
                    "type": "string",
                    "description": "Where journal and snapshots lie, relative to the pipeline file. Default: `.foreline/` and the pipeline's name."
                },
                "workers": {
                    "type": "integer", "minimum": 1, "maximum": MAX_WORKERS,
                    "description": "Worker threads. Default: one a core."
                },
            },
            "$defs": self.definitions,
        })
    }
}

fn described(mut schema: Json, about: &str) -> Json {
    schema["description"] = about.into();
    schema
}

/// Most worker threads; the engine's shards are 256.
pub(crate) const MAX_WORKERS: i64 = 256;

fn of<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Json {
    generator.subschema_for::<T>().to_value()
}

/// The JSON schema of a pipeline file (draft 2020-12), composed of the sections' types and the kinds' configurations.
///
/// A YAML language server takes it by a first line `# yaml-language-server: $schema=foreline.schema.json`.
#[must_use]
pub fn schema() -> Json {
    Language::new(&Kinds::all()).document()
}
