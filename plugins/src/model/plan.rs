//! Whether a model fits its input: the files are read, the plugin is let in and initialised, its descriptor compared
//! with the columns.
//!
//! Everything that is wrong is said at once, as far as it can be known: without a plugin there is no descriptor.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::DataType;
use foreline_engine::{
    Column, ConfigError, Fault, LateSupport, Operator, Planned, Resolver, Schema, Unit,
};
use foreline_sdk::explain::{base_name, contribution_name};

use super::config::{ModelConfig, StatePolicy};
use super::drift::{DRIFTED, PSI, Yardstick};
use super::explain::{ExplainConfig, Parts};
use super::ledger::Ledger;
use super::operation::Operation;
use super::seat::Recipe;
use super::step::ModelStep;
use super::switchboard::Switchboard;
use super::warn::{OUTSIDE_RANGE, Range};
use crate::builtin::{BUILTIN_PREFIX, builtin, builtin_names};
use crate::pack::{ModelFile, check_signer};
use crate::sandbox::{
    self, AdmitError, Call, CallError, CallLimits, Descriptor, Feature, Instance, MissingPolicy,
    OutputKind, Plugin, Shape, SharedPlugin,
};

/// Bytes of a key file; a public key has 113.
const MAX_KEY_BYTES: u64 = 4 << 10;
/// Features and outputs of a model.
const MAX_COLUMNS: usize = 4096;
/// Bytes of a name or a label.
const MAX_NAME_BYTES: usize = 4 << 10;
/// State values of a key: half a megabyte.
const MAX_STATE_WIDTH: u32 = 65_536;
/// Bytes of the matrix of one call, so that it stays in the second-level cache.
const MAX_CALL_BYTES: usize = 1 << 20;
/// Bytes of the states that go into one call: every row may be of another key, and each way it is held twice.
const MAX_CALL_STATE_BYTES: usize = 8 << 20;
/// Fuel of one call, a few seconds of work.
const MAX_CALL_FUEL: u64 = 4_000_000_000;
/// Rows of the calls that measure a plugin.
pub(crate) const TRIAL_ROWS: usize = 64;
/// Fuel a row in the calls that measure a plugin.
pub(crate) const TRIAL_FUEL_PER_ROW: u64 = 50_000_000;
/// How much dearer it may be to explain a row than to score it: every node of every tree is walked, not one path.
const EXPLAIN_FUEL_FACTOR: u64 = 20;
/// How much more fuel a row may use than the rows that were measured. A row alone has a call's fixed cost to itself,
/// and rows outside the trained range may go deeper.
pub(crate) const FUEL_HEADROOM: u64 = 20;
/// The least fuel a row gets: a model of a few operations should not be held to a handful.
pub(crate) const MIN_FUEL_PER_ROW: u64 = 10_000;
/// The columns of a `model` step that say which model made a score.
pub const PROVENANCE: [&str; 3] = ["model_name", "model_version", "model_digest"];

/// One version of a model that fits its input, ready to be built on each worker.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) recipe: Recipe,
    /// Its outputs: name, kind and labels.
    pub(super) outputs: Vec<(String, OutputKind, Vec<String>)>,
    /// The input's columns, its own and those that say which model made them.
    pub(super) columns: Vec<Column>,
    pub(super) plugin: SharedPlugin,
    pub(super) max_rows: usize,
}

impl Version {
    /// Lets a version in: its files are read, it is initialised and bound to the columns of `input`.
    pub(super) fn read(
        config: &ModelConfig,
        input: &Schema,
        given: &dyn Resolver,
        notes: &mut Vec<String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let files = Files::read(config, given, notes)?;
        Version::new(config, &files, input, given)
    }

    /// The same, its files read.
    pub(super) fn new(
        config: &ModelConfig,
        files: &Files,
        input: &Schema,
        given: &dyn Resolver,
    ) -> Result<Self, Vec<ConfigError>> {
        let model = Opened::new(config, files, given)?;
        let bound = bind(config, &model.descriptor, input)?;
        let limits = model.measured(config).map_err(|e| vec![e])?;
        let max_rows = rows_per_call(config, &model.descriptor, limits);
        let names: Vec<String> = bound.ranges.iter().map(|range| range.name.clone()).collect();
        let drift = config.warn.drift.map(|drift| {
            Yardstick::new(drift, &files.weights, &bound.features, names.clone()).map(Arc::new)
        });
        let recipe = Recipe {
            drift: drift.transpose()?,
            features: bound.features,
            required: bound.required,
            labels: bound.labels,
            explained: bound.explained,
            top: match config.explain {
                Some(ExplainConfig::Top(top)) => Some(top as usize),
                _ => None,
            },
            ranges: config.warn.range.then_some(bound.ranges),
            column_names: names,
            state_width: model.descriptor.state_width as usize,
            state_version: model.descriptor.state_version,
            breaker_after: config.breaker.after,
            resets_state: config.state == StatePolicy::Reset,
            name: model.descriptor.name,
            version: model.descriptor.version,
            digest: model_digest(files, config),
        };
        let outputs = model.descriptor.outputs.into_iter();
        let outputs = outputs.map(|o| (o.name, o.kind, o.labels)).collect();
        // The compiled code is found again in memory; only the limits differ from those the plugin was opened with.
        let plugin = SharedPlugin::new(
            files
                .plugin(config, given, limits)
                .map_err(|e| vec![ConfigError::new("plugin", e.to_string())])?,
        );
        Ok(Version { recipe, outputs, columns: bound.columns, plugin, max_rows })
    }

    /// What it has of state and outputs in a call.
    pub(super) fn shape(&self) -> Shape {
        Shape { n_outputs: self.outputs.len(), state_width: self.recipe.state_width }
    }
}

/// The rule of the step.
pub(super) fn plan(
    config: &ModelConfig,
    inputs: &[Schema],
    given: &dyn Resolver,
) -> Result<Planned, Vec<ConfigError>> {
    let (operation, notes) = operation(config, inputs, given)?;
    Ok(Planned { notes, ..planned(&Arc::new(operation), &Arc::default(), None) })
}

/// The model and its versions over the one input of the step, and what is to be said of them.
pub(super) fn operation(
    config: &ModelConfig,
    inputs: &[Schema],
    given: &dyn Resolver,
) -> Result<(Operation, Vec<String>), Vec<ConfigError>> {
    let [input] = inputs else {
        return Err(vec![ConfigError::new("", "a model has one input").help("name one in 'from'")]);
    };
    let mut notes = Vec::new();
    let champion = Version::read(config, input, given, &mut notes)?;
    let operation = Operation::new(config, champion, input, given, &mut notes)?;
    Ok((operation, notes))
}

/// The rule of the step, its files read; without versions beside it.
pub(crate) fn plan_files(
    config: &ModelConfig,
    files: &Files,
    input: &Schema,
    given: &dyn Resolver,
) -> Result<Planned, Vec<ConfigError>> {
    let champion = Version::new(config, files, input, given)?;
    let operation = Operation::new(config, champion, input, given, &mut Vec::new())?;
    Ok(planned(&Arc::new(operation), &Arc::default(), None))
}

/// The step of a model; with a switchboard it is operated while it runs.
pub(super) fn planned(
    operation: &Arc<Operation>,
    ledger: &Arc<Ledger>,
    switchboard: Option<Arc<Switchboard>>,
) -> Planned {
    let (build, ledger) = (Arc::clone(operation), Arc::clone(ledger));
    Planned {
        output: operation.output.clone(),
        late: if !operation.is_stateless() {
            LateSupport::Refuses("the model keeps state, and its earlier states are not kept")
        } else if operation.champion().recipe.drift.is_some() {
            LateSupport::Refuses("drift is judged by the rows as they came")
        } else {
            LateSupport::Stateless
        },
        depends_on: operation.depends_on(),
        state_version: operation.champion().recipe.state_version,
        build: Arc::new(move |_| -> Result<Box<dyn Operator>, Fault> {
            let (operation, ledger) = (Arc::clone(&build), Arc::clone(&ledger));
            Ok(Box::new(ModelStep::new(operation, ledger, switchboard.clone())?))
        }),
        notes: Vec::new(),
    }
}

/// The bytes of plugin and weights, their digests compared with the pipeline file's.
pub(crate) struct Files {
    pub(crate) component: Vec<u8>,
    pub(crate) weights: Vec<u8>,
}

impl Files {
    pub(super) fn read(
        config: &ModelConfig,
        given: &dyn Resolver,
        notes: &mut Vec<String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let file = read_file(config, given).map_err(|e| errors.push(e)).ok();
        let beside = config.weights.as_ref().and_then(|path| {
            sandbox::read_weights(&given.path(path))
                .map_err(|e| {
                    errors.push(
                        ConfigError::new("weights", e.to_string())
                            .help("train the model with `foreline train`, or correct the path"),
                    );
                })
                .ok()
        });
        let Some(file) = file else { return Err(errors) };
        errors.extend(check_plugin_digest(config, file.bytes(), given, notes).err());
        errors.extend(check_signatures(config, &file, given));
        if file.weights().is_some() && config.weights.is_some() {
            errors.push(
                ConfigError::new("weights", "the plugin is packed with weights of its own")
                    .help("leave 'weights' out, or name the plugin that is not packed"),
            );
        }
        let weights = beside.or_else(|| file.weights().map(<[u8]>::to_vec)).unwrap_or_default();
        if let Some(pinned) = &config.weights_sha256 {
            errors.extend(check_digest("weights_sha256", pinned, &weights).err());
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Files { component: file.component().to_vec(), weights })
    }

    fn plugin(
        &self,
        config: &ModelConfig,
        given: &dyn Resolver,
        limits: CallLimits,
    ) -> Result<Plugin, AdmitError> {
        let options = config.options().into_iter().collect();
        let initial = (self.weights.clone(), options);
        Plugin::new(&config.plugin, &self.component, &given.cache_dir(), initial, limits)
    }
}

fn read_file(config: &ModelConfig, given: &dyn Resolver) -> Result<ModelFile, ConfigError> {
    let refused = |e: AdmitError| ConfigError::new("plugin", e.to_string());
    if config.plugin.starts_with(BUILTIN_PREFIX) {
        let component = builtin(&config.plugin).ok_or_else(|| {
            ConfigError::new("plugin", format!("there is no plugin '{}'", config.plugin))
                .unknown(&config.plugin, builtin_names())
        })?;
        return ModelFile::take_apart(component.to_vec()).map_err(refused);
    }
    let path = given.path(Path::new(&config.plugin));
    ModelFile::read(&path).map_err(|e| {
        refused(e)
            .help("correct the path, or use one that comes with Foreline, such as 'builtin:forest'")
    })
}

/// Whether everybody signed who must have, and what was signed is all there is.
pub(super) fn check_signatures(
    config: &ModelConfig,
    file: &ModelFile,
    given: &dyn Resolver,
) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    if !config.signed_by.is_empty() && config.weights.is_some() {
        errors.push(
            ConfigError::new("weights", "weights beside the plugin are not signed")
                .help("pack them with it: `foreline model pack`, then `foreline model sign`"),
        );
    }
    for (index, name) in config.signed_by.iter().enumerate() {
        let at = format!("signed_by[{index}]");
        let key = check_signer(name).map_err(|e| e.to_string()).and_then(|()| {
            let path = given.path(&config.keys.join(format!("{name}.pem")));
            let bytes = sandbox::read_capped(&path, MAX_KEY_BYTES).map_err(|e| e.to_string())?;
            String::from_utf8(bytes).map_err(|_| format!("'{}' is no text", path.display()))
        });
        let key = match key {
            Ok(key) => key,
            Err(e) => {
                let message = format!("no public key of '{name}' can be had: {e}");
                errors.push(ConfigError::new(at, message).help("put it there, or set 'keys'"));
                continue;
            }
        };
        if let Err(e) = file.verify(name, &key) {
            let signers = file.signers().map(|s| format!("'{s}'")).collect::<Vec<_>>().join(", ");
            let help = match signers.as_str() {
                "" => "it has no signature; `foreline model sign` makes one".to_owned(),
                signers => format!("it has signatures by {signers}"),
            };
            errors.push(ConfigError::new(at, format!("the plugin: {e}")).help(help));
        }
    }
    errors
}

/// A plugin that is a file must be pinned, so that nobody runs other code than was looked at.
fn check_plugin_digest(
    config: &ModelConfig,
    file: &[u8],
    given: &dyn Resolver,
    notes: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let digest = sandbox::digest(file);
    match &config.sha256 {
        Some(pinned) => check_digest("sha256", pinned, file),
        None if config.plugin.starts_with(BUILTIN_PREFIX) => Ok(()),
        // A signature says as much, and holds for what is signed later too.
        None if !config.signed_by.is_empty() => Ok(()),
        None if given.checking() => {
            notes.push(format!("the plugin is not pinned; `run` needs sha256: \"{digest}\""));
            Ok(())
        }
        None => Err(ConfigError::new("", "the plugin is not pinned by its digest")
            .help(format!("add sha256: \"{digest}\", or signed_by"))),
    }
}

fn check_digest(at: &str, pinned: &str, bytes: &[u8]) -> Result<(), ConfigError> {
    let found = sandbox::digest(bytes);
    if pinned.eq_ignore_ascii_case(&found) {
        return Ok(());
    }
    Err(ConfigError::new(at, format!("the file has another digest than '{pinned}'"))
        .help(format!("if the new file is meant, write \"{found}\"")))
}

/// A plugin that was initialised once.
struct Opened {
    plugin: SharedPlugin,
    descriptor: Descriptor,
}

impl Opened {
    fn new(
        config: &ModelConfig,
        files: &Files,
        given: &dyn Resolver,
    ) -> Result<Self, Vec<ConfigError>> {
        let limits = CallLimits {
            memory_bytes: config.limits.memory.0,
            fuel_per_row: config.limits.fuel_per_row.unwrap_or(match config.explain {
                None => TRIAL_FUEL_PER_ROW,
                Some(_) => TRIAL_FUEL_PER_ROW * EXPLAIN_FUEL_FACTOR,
            }),
        };
        let at_plugin = |message: String| vec![ConfigError::new("plugin", message)];
        let plugin = files.plugin(config, given, limits).map_err(|e| at_plugin(e.to_string()))?;
        let plugin = SharedPlugin::new(plugin);
        let (_, descriptor) = Instance::start(&plugin).map_err(|e| {
            let digest = sandbox::digest(&files.component);
            match e {
                CallError::Said(_, message) => vec![ConfigError::new(
                    refused_part(&message, config),
                    format!("plugin '{}' refused: {message}", config.plugin),
                )],
                other => at_plugin(format!("'init' failed: {other}; plugin {digest}")),
            }
        })?;
        check_descriptor(&descriptor).map_err(at_plugin)?;
        Ok(Opened { plugin, descriptor })
    }

    /// The limits, the fuel measured where it is not given: it is counted on operators, so every machine measures the
    /// same.
    fn measured(&self, config: &ModelConfig) -> Result<CallLimits, ConfigError> {
        let memory_bytes = config.limits.memory.0;
        if let Some(fuel_per_row) = config.limits.fuel_per_row {
            return Ok(CallLimits { memory_bytes, fuel_per_row });
        }
        let wrong = |what: String| {
            ConfigError::new("plugin", format!("the plugin fails on rows within its range: {what}"))
                .help("set limits.fuel_per_row to run it all the same")
        };
        let mut instance = Instance::start(&self.plugin).map_err(|e| wrong(e.to_string()))?.0;
        let descriptor = &self.descriptor;
        let width = descriptor.state_width as usize;
        let shape = Shape { n_outputs: descriptor.outputs.len(), state_width: width };
        let features = trial_rows(&descriptor.features);
        let slots: Vec<u32> = if width == 0 { vec![] } else { (0..TRIAL_ROWS as u32).collect() };
        let state = vec![f64::NAN; TRIAL_ROWS * width];
        let times: Vec<i64> = (0..).take(slots.len()).collect();
        let call = Call {
            n: TRIAL_ROWS,
            features: &features,
            times: &times,
            slots: &slots,
            state: &state,
        };
        let mut answers = Vec::new();
        for _ in 0..2 {
            let answer = instance.score(call, shape);
            let answer = answer.map_err(|e| wrong(e.to_string()))?;
            let bits = answer.outputs.iter().chain(&answer.state).map(|v| v.to_bits());
            answers.push(bits.collect::<Vec<u64>>());
        }
        if answers[0] != answers[1] {
            return Err(ConfigError::new(
                "plugin",
                "the plugin answers the same call differently the second time, so replay would not give the same scores",
            ));
        }
        let per_row = instance.fuel_used(TRIAL_ROWS).div_ceil(TRIAL_ROWS as u64);
        let fuel_per_row = (per_row * FUEL_HEADROOM).max(MIN_FUEL_PER_ROW);
        Ok(CallLimits { memory_bytes, fuel_per_row })
    }
}

/// The key to blame for what `init` refused.
fn refused_part(message: &str, config: &ModelConfig) -> &'static str {
    match message {
        m if m.starts_with("invalid config") && m.contains("'explain'") => "explain",
        m if m.starts_with("invalid config") => "config",
        m if m.starts_with("invalid weights") && config.weights.is_some() => "weights",
        _ => "plugin",
    }
}

/// Rows spread over the range of the training data, the same in every run.
pub(crate) fn trial_rows(features: &[Feature]) -> Vec<f64> {
    let mut rows = Vec::with_capacity(TRIAL_ROWS * features.len());
    for row in 0..TRIAL_ROWS {
        for (at, feature) in features.iter().enumerate() {
            let (low, high) = feature.trained_range.unwrap_or((-1.0, 1.0));
            // Steps of the golden ratio reach every part of the range and repeat in no column.
            let share = ((row * (at + 1)) as f64 * 0.618_033_988_749_895).fract();
            rows.push(low + (high - low) * share);
        }
    }
    rows
}

/// Rules of the contract that types cannot say.
pub(crate) fn check_descriptor(d: &Descriptor) -> Result<(), String> {
    let names = d.features.iter().map(|f| &f.name).chain(d.outputs.iter().map(|o| &o.name));
    let labels = d.outputs.iter().flat_map(|o| &o.labels);
    let longest = names.chain(labels).chain([&d.name, &d.version]).map(String::len).max();
    let unique = |names: Vec<&String>| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    let rules = [
        (!d.outputs.is_empty(), "it has no outputs"),
        (
            d.features.len() <= MAX_COLUMNS && d.outputs.len() <= MAX_COLUMNS,
            "it has too many columns",
        ),
        (longest.is_none_or(|n| n <= MAX_NAME_BYTES), "one of its names is too long"),
        (d.state_width <= MAX_STATE_WIDTH, "it wants too much state for a key"),
        (unique(d.features.iter().map(|f| &f.name).collect()), "two of its features have one name"),
        (unique(d.outputs.iter().map(|o| &o.name).collect()), "two of its outputs have one name"),
    ];
    let broken = rules.iter().find(|(holds, _)| !holds);
    broken.map_or(Ok(()), |(_, what)| Err(format!("the plugin's descriptor breaks a rule: {what}")))
}

/// A model that fits its input.
#[derive(Debug)]
struct Bound {
    columns: Vec<Column>,
    features: Vec<usize>,
    required: Vec<usize>,
    labels: Vec<Option<Vec<String>>>,
    explained: Vec<Parts>,
    ranges: Vec<Range>,
}

fn bind(config: &ModelConfig, d: &Descriptor, input: &Schema) -> Result<Bound, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut features = Vec::new();
    for feature in &d.features {
        match bind_feature(config, feature, input) {
            Ok(index) => features.push(index),
            Err(e) => errors.push(e),
        }
    }
    let known = || d.features.iter().map(|f| f.name.clone());
    for name in config.features.keys().filter(|name| !d.features.iter().any(|f| f.name == **name)) {
        let message = format!("the model has no feature '{name}'");
        errors.push(ConfigError::new(format!("features.{name}"), message).unknown(name, known()));
    }
    let required = (0..d.features.len())
        .filter(|&f| matches!(d.features[f].missing, MissingPolicy::SkipRow))
        .collect();
    let explained = explained(config, d, &mut errors);
    let columns = output_columns(config, d, &explained, input, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let class = |kind: &OutputKind| matches!(kind, OutputKind::ClassIndex);
    let labels = d.outputs.iter().map(|o| class(&o.kind).then(|| o.labels.clone())).collect();
    let range = |(&column, feature): (&usize, &Feature)| Range {
        name: input.columns()[column].name.clone(),
        trained: feature.trained_range,
    };
    let ranges = features.iter().zip(&d.features).map(range).collect();
    Ok(Bound { columns, features, required, labels, explained, ranges })
}

/// What the plugin explains, where that is asked for.
fn explained(config: &ModelConfig, d: &Descriptor, errors: &mut Vec<ConfigError>) -> Vec<Parts> {
    let Some(explain) = config.explain else { return Vec::new() };
    if explain == ExplainConfig::Top(0) {
        errors.push(ConfigError::new("explain.top", "'0' is too few").help("write 1 or more"));
    }
    let parts = Parts::of(d);
    if parts.is_empty() {
        let message = "the plugin explains nothing: it has no outputs '<output>_by_<feature>'";
        errors.push(ConfigError::new("explain", message).help("leave 'explain' out"));
    }
    parts
}

/// The input column of a feature.
fn bind_feature(
    config: &ModelConfig,
    feature: &Feature,
    input: &Schema,
) -> Result<usize, ConfigError> {
    let (at, name) = match config.features.get(&feature.name) {
        Some(column) => (format!("features.{}", feature.name), column),
        None => ("features".to_owned(), &feature.name),
    };
    let Some(index) = input.index_of(name) else {
        let numeric = input.columns().iter().filter(|c| c.data_type.is_numeric());
        return Err(ConfigError::new(
            at,
            format!("the model needs a column '{name}', and the input has none"),
        )
        .help(format!(
            "add it before the model, or map it: features: {{ {}: <column> }}",
            feature.name
        ))
        .unknown(name, numeric.map(|c| c.name.clone())));
    };
    let column = &input.columns()[index];
    if !column.data_type.is_numeric() {
        let found = &column.data_type;
        return Err(ConfigError::new(
            at,
            format!("the model needs a number in column '{name}', which is {found}"),
        )
        .help("derive a numeric column from it"));
    }
    match (feature.unit.as_deref().map(Unit::new), &column.unit) {
        (Some(trained), Some(unit)) if trained != *unit => Err(ConfigError::new(
            at,
            format!(
                "the model was trained with '{name}' in '{trained}', and the column is in '{unit}'"
            ),
        )
        .help("convert the column with `derive`, or correct the unit it is declared with")),
        _ => Ok(index),
    }
}

/// The input's columns, the model's, and where the scores come from.
fn output_columns(
    config: &ModelConfig,
    d: &Descriptor,
    explained: &[Parts],
    input: &Schema,
    errors: &mut Vec<ConfigError>,
) -> Vec<Column> {
    let is_part = |at: usize| explained.iter().any(|parts| parts.has(at));
    let scores: Vec<usize> = (0..d.outputs.len()).filter(|&at| !is_part(at)).collect();
    let known = || scores.iter().map(|&at| d.outputs[at].name.clone());
    for name in config.outputs.keys().filter(|name| !known().any(|known| known == **name)) {
        let message = format!("the model has no output '{name}'");
        errors.push(ConfigError::new(format!("outputs.{name}"), message).unknown(name, known()));
    }
    if config.output.is_some() && scores.len() > 1 {
        let names = known().collect::<Vec<_>>().join(", ");
        errors.push(
            ConfigError::new("output", format!("the model has {} outputs", scores.len()))
                .help(format!("name them in 'outputs': {names}")),
        );
    }
    let mut columns = input.columns().to_vec();
    let mut explained_names: Vec<String> = Vec::new();
    for &index in &scores {
        let output = &d.outputs[index];
        let (at, name) = match (&config.output, config.outputs.get(&output.name)) {
            (_, Some(name)) => (format!("outputs.{}", output.name), name.clone()),
            (Some(name), None) => ("output".to_owned(), name.clone()),
            (None, None) => ("output".to_owned(), output.name.clone()),
        };
        let unit = match &output.kind {
            OutputKind::RemainingLife(unit) => Some(Unit::new(unit)),
            _ => None,
        };
        let score = Column::new(name.clone(), DataType::Float64).with_unit(unit);
        append(&mut columns, score, &at, errors);
        if matches!(output.kind, OutputKind::ClassIndex) {
            let label = Column::new(format!("{name}_label"), DataType::Utf8);
            append(&mut columns, label, &at, errors);
        }
        if explained.iter().any(|parts| parts.output == index) {
            explained_names.push(name);
        }
    }
    for name in explained_names {
        for column in explanation_columns(config, d, &name) {
            append(&mut columns, column, "output", errors);
        }
    }
    if config.warn.range {
        append(&mut columns, Column::new(OUTSIDE_RANGE, DataType::Utf8), "", errors);
    }
    if config.warn.drift.is_some() {
        append(&mut columns, Column::new(PSI, DataType::Float64), "", errors);
        append(&mut columns, Column::new(DRIFTED, DataType::Utf8), "", errors);
    }
    for name in PROVENANCE {
        append(&mut columns, Column::new(name, DataType::Utf8), "", errors);
    }
    columns
}

/// The columns that explain the output whose column is called `name`.
fn explanation_columns(config: &ModelConfig, d: &Descriptor, name: &str) -> Vec<Column> {
    if let Some(ExplainConfig::Top(_)) = config.explain {
        return vec![Column::new(format!("{name}_because"), DataType::Utf8)];
    }
    let by = d.features.iter().map(|f| contribution_name(name, &f.name));
    let names = std::iter::once(base_name(name)).chain(by);
    names.map(|name| Column::new(name, DataType::Float64)).collect()
}

pub(super) fn append(
    columns: &mut Vec<Column>,
    column: Column,
    at: &str,
    errors: &mut Vec<ConfigError>,
) {
    if columns.iter().any(|c| c.name == column.name) {
        let message = format!("the input has a column '{}' already", column.name);
        let help = match at {
            "" => "leave it out with `select` before this step",
            _ => {
                "give the model's output another name with `output`, or with `outputs` where it has several"
            }
        };
        errors.push(ConfigError::new(at, message).help(help));
    } else {
        columns.push(column);
    }
}

/// Rows of a call: so many that its matrix stays in the cache and its fuel within a few seconds.
fn rows_per_call(config: &ModelConfig, d: &Descriptor, limits: CallLimits) -> usize {
    let by_memory = MAX_CALL_BYTES / (8 * d.features.len().max(1));
    let by_state = MAX_CALL_STATE_BYTES / (8 * d.state_width.max(1) as usize);
    let by_fuel = usize::try_from(MAX_CALL_FUEL / limits.fuel_per_row.max(1)).unwrap_or(usize::MAX);
    let by_plugin = if d.max_rows == 0 { usize::MAX } else { d.max_rows as usize };
    (config.limits.rows as usize).min(by_memory).min(by_state).min(by_fuel).min(by_plugin).max(1)
}

/// What tells one model from another: a retrained weights file is another model.
pub(crate) fn model_digest(files: &Files, config: &ModelConfig) -> String {
    let mut parts = vec![sandbox::digest(&files.component), sandbox::digest(&files.weights)];
    for (key, value) in &config.options() {
        // With their lengths, so that no two maps run together to the same text.
        parts.push(format!("{}:{key}={}:{value}", key.len(), value.len()));
    }
    sandbox::digest(parts.join("\n").as_bytes())
}
