//! The pipeline file: from YAML to a plan in which everything fits, or to every mistake in it.
//!
//! [`check_file`] is the way in. Text becomes a tree whose values keep their places, secrets are put in, sections
//! become typed values, names are looked up and schemas and units flow along every edge; what comes out is a
//! [`Plan`], whose [`graph`](Plan::graph) the engine runs.
//!
//! What a reader would get wrong:
//!
//! * A mistake is a [`Diagnostic`], never an early return: all are reported at once, in the order of the file. What
//!   depends on something broken is not looked at, so that one mistake is one message.
//! * The plan of a file with an error does not exist; that of a file with warnings does.
//! * [`Kinds`] are tables that other crates fill. Nothing here knows a single source, step or sink.

mod check;
mod diagnostic;
mod draw;
mod explain;
mod file;
mod guarantee;
mod kinds;
mod outline;
mod plan;
mod planner;
mod read;
mod render;
mod rows;
mod secret;
mod setting;
mod shape;
mod suggest;
mod yaml;

pub use check::{
    Checked, Only, PlanOptions, ReadError, SourceOverride, check_file, check_text, compile,
};
pub use diagnostic::{Code, Diagnostic, Diagnostics, Severity};
pub use draw::{dot, mermaid, svg};
pub use explain::explain;
pub use file::{
    AccountsConfig, AlarmConfig, AlertEntry, AsOfConfig, AsOfTime, Candidates, CaseCost, Columns,
    ComparedConfig, Comparison, CostConfig, EpochConfig, EvaluationConfig, Figure, FilterConfig,
    First, GroupConfig, IntervalConfig, JoinConfig, JoinOn, JournalConfig, JudgedRows, Late,
    LatestConfig, ListConfig, Names, OneOrMany, OtlpConfig, RangeConfig, ReferenceCommon,
    RemainingConfig, RouteConfig, Scale, ServeConfig, Signal, Signup, SinkCommon, SnapshotConfig,
    SourceCommon, SplitBy, StepCommon, TargetConfig, TestConfig, TestExpect, TestRows, TopConfig,
    TrainingConfig, TruthConfig, TruthTable, TuningConfig, Unmatched, ValidateConfig, ViewConfig,
};
pub use guarantee::{Guarantee, Level, guarantees};
pub use kinds::{Kinds, schema};
pub use outline::{Outline, TrainedModel, outline};
pub use plan::{
    AlertPlan, ExtraSink, FilterPlan, FittingPlan, GraphError, KeptPlan, ListPlan, OtlpPlan, Plan,
    RoutePlan, ServePlan, SinkPlan, SourcePlan, StepPlan, TrainingPlan, TrainingTarget, ViewPlan,
};
pub use read::{DEAD_LETTERS, LATE};
pub use render::RenderStyle;
pub use rows::rows_to_csv;
pub use secret::{Environment, ProcessEnvironment, Secret};
pub use setting::with_settings;
pub use yaml::{Entry, MAX_FILE_BYTES, Node, Span, Value, read_values};
