//! Alerts: a condition that somebody is to be told of, as a stream of what changed.
//!
//! Input   keyed rows
//! Output  a row a change: key, event time, `alert` (id), `rule`, `severity` (1 to 5), `change` (`raised`, `updated` or
//!         `cleared`), `sequence` (the changes of an alert from 0), `raised_at`, `cleared_at` (null while it is open),
//!         `flapping`, `inhibited`, `message`, `evidence` (JSON), `first_seen`. The primary key is key, event time,
//!         `alert` and `sequence`
//! State   of each key that is not calm: the open alert, when delays began, the last `k` rows that confirm, the last
//!         `changes` raises, and the evidence of its last row
//! Late    honours `late: { correct }`; the history is as if nothing had been late: an alert that should not have been is
//!         deleted with all its changes, one that was missed is added
//! Errors  a row for which a condition fails goes to the dead letters as `expression`
//! Source  ISA-18.2: raise and clear limits apart, on-delay and off-delay, one alarm for each condition and source,
//!         suppression by design, chattering alarms
//!
//! ```text
//!                      when holds               held for `for`
//!          +--------+ -----------> +---------+ ---------------> +--------+
//!          | normal |              | pending |      raised      | active | --+ severity:
//!          +--------+ <----------- +---------+                  +--------+ <-+ updated
//!             ^  ^    when fails, gap,                            |    ^
//!             |  |    unless                          clear holds |    | it fails, when holds,
//!             |  |                                                v    | gap, unless
//!             |  |             held for `clear_for`          +----------+
//!             |  +------------------------------------------ | clearing |
//!             |                     cleared                  +----------+
//!             |
//!             |   quiet for `within`   +----------+   more than `changes` raises within `within`:
//!             +----------------------- | flapping |   raised once, then open whatever the condition does
//!                     cleared          +----------+
//! ```
//!
//! A delay has elapsed at its exact event time, by a row at that time that confirms it, or once the watermark has passed
//! it; a row at that time that denies it comes first. So the time of a change depends neither on epochs nor on which row
//! comes next. A stream that has ended denies nothing: what is pending then elapses.
//!
//! The id is a hash of rule, key, `raised_at` (with its kind of time), and how many alerts were raised at that time before:
//! the same after a restart, in a replay and on any number of workers.

use std::collections::BTreeMap;
use std::sync::Arc;

use foreline_engine::{
    ConfigError, Extent, Family, Keyed, LateSupport, OperatorKind, Planned, Resolver, Schema,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::mistakes::Mistakes;

mod condition;
mod evidence;
mod history;
mod judge;
mod life;
mod plan;
#[cfg(test)]
mod tests;
mod watch;

/// Raised whenever `life::Life` changes.
const STATE_VERSION: u32 = 1;

/// When somebody is to be told of a machine. `when`, a map of `severity`, or `deadman` says what raises the alert.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertConfig {
    /// A SQL condition on a row that raises the alert. A null says nothing. May be left out where `severity` is a map:
    /// then it is that any of those conditions holds.
    #[serde(default)]
    pub when: Option<String>,
    /// A SQL condition on a row that clears the alert, such as a limit further away; a row for which `when` holds does not.
    /// Left out: the alert is cleared when `when` (with `of`) no longer holds.
    #[serde(default)]
    pub clear: Option<String>,
    /// On-delay: how long `when` must have held without interruption before the alert is raised, in event time; not at
    /// all unless given.
    #[serde(default, rename = "for")]
    pub on_delay: Option<Extent>,
    /// Off-delay: how long the condition that clears must have held without interruption; not at all unless given.
    #[serde(default)]
    pub clear_for: Option<Extent>,
    /// How many rows must confirm. Left out: one.
    #[serde(default)]
    pub of: Option<OfConfig>,
    /// A SQL condition that inhibits: rows for which it holds are not looked at, and what is pending starts anew after
    /// them. An open alert stays open and is marked. With `deadman`: silence after such a row is expected.
    #[serde(default)]
    pub unless: Option<String>,
    /// Whether `unless` clears an open alert. False unless given: that a machine is off does not say that it is repaired.
    #[serde(default)]
    pub unless_clears: bool,
    /// How bad it is. `warning` unless given.
    #[serde(default)]
    pub severity: SeverityConfig,
    /// What to do with an alert that comes and goes. Left out: each time is an alert of its own.
    #[serde(default)]
    pub flapping: Option<FlappingConfig>,
    /// The alert is raised when no row of a key has come for so long, and cleared by the next one.
    #[serde(default)]
    pub deadman: Option<Extent>,
    /// After a longer time without a row that says something, `for`, `clear_for` and `of` start anew.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// What to tell people. The condition unless given.
    #[serde(default)]
    pub message: Option<String>,
    /// The columns whose values are kept with each change. Left out: those that `when` and `severity` name, and where they
    /// name none, all numeric columns.
    #[serde(default)]
    pub evidence: Option<Vec<String>>,
}

/// So many of the last rows, or of the rows of the last so much time. One of `rows` and `duration` says which.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OfConfig {
    /// For how many rows `when` must hold: 1 to 1,000.
    pub k: usize,
    /// Among the last so many rows for which `when` is not null, the current one included; at least `k`.
    #[serde(default)]
    pub rows: Option<u64>,
    /// Among the rows of the last so much time, such as `12h`; a number where the event time is a count.
    #[serde(default)]
    pub duration: Option<Extent>,
}

/// When an alert flaps: it is raised once more, stays open until nothing has changed for as long, and is marked.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlappingConfig {
    /// It flaps when it is raised more often than this: 1 to 100 times.
    pub changes: usize,
    /// Within this time.
    pub within: Extent,
}

/// How bad an alert is: a level by name or number, or a condition for each level.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected info, minor, warning, major, critical, a number from 1 to 5, or a condition for each of these names"
)]
pub enum SeverityConfig {
    /// By name.
    Named(Level),
    /// From 1 (info) to 5 (critical).
    Number(u8),
    /// By what holds: the worst level whose condition holds. Where none does it stays as it is; at first, the mildest.
    /// An open alert is updated when it changes.
    ByCondition(BTreeMap<Level, String>),
}

impl Default for SeverityConfig {
    fn default() -> Self {
        SeverityConfig::Named(Level::Warning)
    }
}

/// The names of severities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// 1: worth knowing.
    Info,
    /// 2: when there is time.
    Minor,
    /// 3: somebody should look at it.
    Warning,
    /// 4: somebody must look at it.
    Major,
    /// 5: somebody must act.
    Critical,
}

impl Level {
    /// From 1 (info) to 5 (critical).
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Level::Info => 1,
            Level::Minor => 2,
            Level::Warning => 3,
            Level::Major => 4,
            Level::Critical => 5,
        }
    }
}

/// The kind `alert`. It is the section `alerts` of the pipeline file and no step.
#[derive(Debug, Clone, Copy)]
pub struct Alert;

impl OperatorKind for Alert {
    type Config = AlertConfig;

    const NAME: &'static str = "alert";
    const SUMMARY: &'static str = "tells when a condition on a machine begins, changes and is over";
    const FAMILY: Family = Family::Detection;
    const EXAMPLE: &'static str = "hot: { from: readings, when: \"temperature > 90\", clear: \"temperature < 80\", for: 3m, severity: major }";

    fn plan(
        config: &AlertConfig,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        plan_rule(Self::NAME, config, only(inputs)?, given)
    }
}

/// Plans the rule called `name` over a stream of `input`. The name is part of every id.
///
/// # Errors
/// Everything that is wrong, not only the first.
pub fn plan_rule(
    name: &str,
    config: &AlertConfig,
    input: &Schema,
    given: &dyn Resolver,
) -> Result<Planned, Vec<ConfigError>> {
    let mut mistakes = Mistakes::default();
    let rule = plan::rule(config, input.domain(), &mut mistakes);
    let judge = judge::Judge::plan(config, input, given, &mut mistakes);
    let evidence = evidence::Evidence::plan(config, input, &mut mistakes);
    let output = mistakes.one(history::schema(input));
    let (judge, (evidence, output)) = mistakes.or(judge.zip(evidence.zip(output)))?;
    let told = history::Told::new(name, plan::message(config), output.clone());
    let input = input.clone();
    Ok(Planned {
        output,
        late: LateSupport::Corrects,
        state_version: STATE_VERSION,
        build: Arc::new(move |_| {
            Ok(Box::new(watch::Watch {
                lives: Keyed::new(&input),
                input: input.clone(),
                rule: rule.clone(),
                judge: judge.clone(),
                evidence: evidence.clone(),
                told: told.clone(),
                low: i64::MIN,
            }))
        }),
        notes: plan::notes(config),
        depends_on: Vec::new(),
    })
}
