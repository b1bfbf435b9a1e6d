//! The real kinds, and two that only tests have: a step of two inputs and a sink that talks about its secret.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreline_connectors::{PlannedSink, SinkInputs, SinkKind, SinkRegistration};
use foreline_engine::{
    ConfigError, Family, Fault, LateSupport, OperatorKind, Planned, Registration, Resolver, Schema,
    SinkError,
};
use foreline_spec::{Checked, Environment, Kinds, PlanOptions, check_text};
use schemars::JsonSchema;
use serde::Deserialize;

/// Rows of two streams of one form; it is only planned.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PairConfig {
    /// Whether rows that are the same in both go out once.
    #[serde(default)]
    pub(crate) distinct: bool,
}

#[derive(Debug)]
pub(crate) struct Pair;

impl OperatorKind for Pair {
    type Config = PairConfig;
    const NAME: &'static str = "pair";
    const SUMMARY: &'static str = "puts two streams of one form together";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = "both: { from: [readings, vacuum], pair: {} }";

    fn plan(
        config: &PairConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let [left, right] = inputs else {
            let message = format!("this step reads two streams, not {}", inputs.len());
            return Err(vec![ConfigError::new("", message).help("name two in 'from'")]);
        };
        let mut errors = Vec::new();
        for column in left.columns() {
            match right.column(&column.name) {
                Some(other) if other.unit != column.unit => {
                    let unit = |c: &foreline_engine::Column| {
                        c.unit.as_ref().map_or("no unit".to_owned(), |u| format!("'{u}'"))
                    };
                    let (name, left, right) = (&column.name, unit(column), unit(other));
                    let message = format!("column '{name}' is in {left} here and in {right} there");
                    let help = "declare one unit, or convert it with 'derive'";
                    errors.push(ConfigError::new("", message).help(help));
                }
                Some(_) => {}
                None => errors.push(ConfigError::new(
                    "",
                    format!("the second stream has no column '{}'", column.name),
                )),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Planned {
            output: left.clone(),
            late: match config.distinct {
                true => LateSupport::Corrects,
                false => LateSupport::Refuses("it keeps no rows"),
            },
            state_version: 1,
            build: Arc::new(|_| Err(Fault::new("it is only planned"))),
            notes: Vec::new(),
            depends_on: Vec::new(),
        })
    }
}

/// Refuses every address, quoting it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostboxConfig {
    /// Where to.
    pub(crate) url: String,
}

#[derive(Debug)]
pub(crate) struct Postbox;

impl SinkKind for Postbox {
    type Config = PostboxConfig;
    const NAME: &'static str = "postbox";
    const SUMMARY: &'static str = "takes addresses with a scheme";

    fn plan(
        config: &PostboxConfig,
        _: &SinkInputs<'_>,
        _: &dyn Resolver,
    ) -> Result<PlannedSink, Vec<ConfigError>> {
        if !config.url.contains("://") {
            let message = format!("'{}' is not an address", config.url);
            return Err(vec![ConfigError::new("url", message).help("write scheme://host")]);
        }
        Ok(PlannedSink {
            transactional: true,
            make: Arc::new(|| Err(SinkError::Fatal("it is only planned".to_owned()))),
            place: "a postbox".to_owned(),
            sql: None,
            notes: vec!["what goes in does not come out".to_owned()],
            probe: None,
            lake: None,
        })
    }
}

pub(crate) fn kinds() -> Kinds {
    let mut kinds = Kinds::all();
    kinds.steps.push(Registration::of::<Pair>());
    kinds.sinks.push(SinkRegistration::of::<Postbox>());
    kinds
}

/// An environment with one variable and one file.
#[derive(Debug)]
pub(crate) struct TestEnvironment;

pub(crate) const CANARY: &str = "tweet-7Q4Z";

impl Environment for TestEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "CANARY").then(|| CANARY.to_owned())
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        match path.ends_with("canary.txt") {
            true => Ok(format!("{CANARY}\n")),
            false => Err("it is not there".to_owned()),
        }
    }
}

pub(crate) fn options() -> PlanOptions {
    PlanOptions {
        checking: true,
        only: None,
        overrides: std::collections::BTreeMap::new(),
        weights: std::collections::BTreeMap::new(),
        settings: Default::default(),
        cache_dir: PathBuf::from("cache"),
    }
}

pub(crate) fn check(file: &str, text: &str) -> Checked {
    check_text(Path::new(file), text, &kinds(), &TestEnvironment, &options())
}
