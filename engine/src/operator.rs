//! The contract of a step.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::account::Account;
use crate::batch::Batch;
use crate::config::Resolver;
use crate::config::{ConfigError, Described, parse_config};
use crate::dead::DeadLetter;
use crate::epoch::Epoch;
use crate::fitting::Fitting;
use crate::keyed::ShardSet;
use crate::schema::Schema;
use crate::watermarks::Watermarks;

/// What one input of a step brought in an epoch.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// New rows, whole and sorted by (key hash, event time, position). Per key they continue where the last
    /// epoch's ended: never earlier than what was there.
    pub rows: &'a Batch,
    /// Rows behind their key's watermark that the source's policy still lets correct the result; in the same order.
    pub late: &'a Batch,
    /// Rows that were there before and have changed upstream: a higher revision, or deleted.
    pub revised: &'a Batch,
    /// How far each key is complete after these rows.
    pub watermarks: &'a Watermarks,
}

/// Where a step puts what it has to say about an epoch.
pub trait Out {
    /// Sends rows on, sorted by (key hash, event time, position). May be called once an epoch for new rows and
    /// once for revised ones (those with a `revision`).
    fn emit(&mut self, rows: Batch);
    /// Passes late rows on, for a stateful step below to correct its result with; in the same order.
    fn emit_late(&mut self, rows: Batch);
    /// Sends watermarks on. A step that does not call it passes on those of its first input.
    fn watermarks(&mut self, watermarks: Watermarks);
    /// A row that could not be used.
    fn dead(&mut self, letter: DeadLetter);
    /// A row that was accounted for in an epoch before, and that a correction has made unusable: a letter like any
    /// other, but the account stays, because a row is counted once, as what it was when it came in.
    fn dead_after_all(&mut self, letter: DeadLetter) {
        self.dead(letter);
    }
    /// Says up to where this step will not correct what it said: no row of key `k` with an event time below
    /// `max(at[k], low)` follows as late, revised or deleted. At most once an epoch, and only by a step that is told
    /// a [horizon](Operator::horizon) itself.
    fn horizon(&mut self, _horizon: Watermarks) {}
    /// What became of the rows: `used`, `filtered`, `late`, `deduplicated` and `in_flight`, as changes.
    fn count(&mut self, account: Account);
}

/// A step failed in a way that no row can be blamed for. The pipeline stops; nothing of the epoch is committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What happened. The engine puts the step's name before it.
    pub message: String,
}

impl Fault {
    /// A fault.
    pub fn new(message: impl Into<String>) -> Self {
        Fault { message: message.into() }
    }
}

impl From<arrow::error::ArrowError> for Fault {
    fn from(e: arrow::error::ArrowError) -> Self {
        Fault::new(e.to_string())
    }
}

/// A step at work on one worker. It sees the keys of that worker's shards and no others.
///
/// For equal arguments and state the output has equal bits. How rows are cut into epochs must not show in what
/// is emitted, only in which epoch it is emitted.
pub trait Operator {
    /// Takes an epoch in, all of it, once.
    ///
    /// # Errors
    /// When the step cannot go on; a row that cannot be used is a dead letter instead.
    fn epoch(
        &mut self,
        epoch: &Epoch,
        inputs: &[Input<'_>],
        out: &mut dyn Out,
    ) -> Result<(), Fault>;

    /// Told before an epoch, where a source above lets late rows correct: once that epoch is taken in, no row of
    /// key `k` of this input with an event time below `max(at[k], low)` comes late, revised or deleted any more.
    /// Keys that are not named keep the horizon they had.
    fn horizon(&mut self, _input: usize, _horizon: &Watermarks) {}

    /// Told before an epoch where a step reads a [relation](crate::StreamId::Versions): the rows of it that went, and those
    /// that came, of all keys. What stood at the start of the run comes first. Of these rows no account is kept.
    ///
    /// # Errors
    /// When the step looks nothing up, or cannot take the rows.
    fn relation(&mut self, _input: usize, _went: &Batch, _came: &Batch) -> Result<(), Fault> {
        Err(Fault::new("this step looks nothing up in a relation"))
    }

    /// Where a step stands for a [relation](crate::Relation): the rows that it stands for, in the order of the
    /// contract. Asked once, after its state was [loaded](Operator::load) and before the first epoch.
    ///
    /// # Errors
    /// When they cannot be written as Arrow.
    fn standing(&mut self) -> Result<Vec<Batch>, Fault> {
        Ok(Vec::new())
    }

    /// The shards whose state has changed since they were saved.
    fn dirty(&self) -> ShardSet {
        ShardSet::none()
    }

    /// The state of a shard, timers included; `None` when there is none.
    ///
    /// It has one row a key, with the hash of the key in the column [`HASH_COLUMN`](crate::HASH_COLUMN). Where the
    /// step is one that late rows [correct](LateSupport::Corrects), a row depends on the rows of its key alone: the
    /// state of some keys is taken out and [loaded](Operator::load) by itself.
    ///
    /// # Errors
    /// When the state cannot be written as Arrow.
    fn save(&mut self, _shard: u8) -> Result<Option<RecordBatch>, Fault> {
        Ok(None)
    }

    /// Takes over the state of a shard, or of some keys of it, written by `state_version` of the same step. The
    /// state of a key that is there already is replaced; that of keys which are not named stays.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn load(&mut self, _shard: u8, _state_version: u32, _state: RecordBatch) -> Result<(), Fault> {
        Err(Fault::new("this step keeps no state, but the snapshot has some"))
    }
}

/// What an operator is told when it is built on a worker.
#[derive(Debug, Clone, Copy)]
pub struct WorkerContext {
    /// Which worker, from 0.
    pub index: usize,
    /// How many there are.
    pub peers: usize,
}

/// Makes the operator of a step on a worker.
pub type Build = Arc<dyn Fn(WorkerContext) -> Result<Box<dyn Operator>, Fault> + Send + Sync>;

/// Whether a step can correct what it said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LateSupport {
    /// It looks at one row at a time, so a corrected row is like any other.
    Stateless,
    /// The engine corrects it: it keeps the rows that may still change and folds them again. The step itself is
    /// given new rows only; it has one input, and its output has its input's key.
    Corrects,
    /// It takes late, corrected and deleted rows itself, and keeps what it needs for that up to its
    /// [horizon](Operator::horizon). Where nothing above corrects it is never told one.
    Itself,
    /// It cannot; why, for `foreline check`.
    Refuses(&'static str),
}

impl LateSupport {
    /// Why late rows cannot correct such a step that reads `n_inputs` streams; `None`: they can.
    #[must_use]
    pub fn refusal(&self, n_inputs: usize) -> Option<&'static str> {
        match self {
            LateSupport::Refuses(why) => Some(why),
            LateSupport::Corrects if n_inputs > 1 => {
                Some("it reads several streams, and late rows find their place in one only")
            }
            LateSupport::Corrects | LateSupport::Stateless | LateSupport::Itself => None,
        }
    }
}

/// A step that fits its inputs, ready to be built.
#[derive(Clone)]
pub struct Planned {
    /// What it emits.
    pub output: Schema,
    /// Whether it can correct what it said before.
    pub late: LateSupport,
    /// Raised whenever the meaning of what [`Operator::save`] writes changes.
    pub state_version: u32,
    /// Makes the operator on each worker.
    pub build: Build,
    /// Things a user should know that are not errors, for `foreline check`.
    pub notes: Vec<String>,
    /// What the result depends on beside the configuration and the input: the digest of a model.
    pub depends_on: Vec<String>,
}

impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planned").field("output", &self.output).field("late", &self.late).finish()
    }
}

/// What kinds of step are for: the chapters of the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Takes noise out of a signal.
    Smoothing,
    /// Puts rows on other times, or looks at the time between them.
    Time,
    /// Says many rows with a few numbers.
    Features,
    /// Looks at waveforms by frequency.
    Spectrum,
    /// Makes columns comparable, or fewer.
    Scaling,
    /// Finds what is out of the ordinary.
    Detection,
    /// Says how far a value can be trusted, and what a machine is doing.
    Quality,
    /// Chooses, names, converts and joins columns and rows.
    Shape,
    /// Asks a model.
    Models,
}

impl Family {
    /// All, in the order of the manual.
    pub const ALL: &[Family] = &[
        Family::Shape,
        Family::Time,
        Family::Quality,
        Family::Smoothing,
        Family::Scaling,
        Family::Features,
        Family::Spectrum,
        Family::Detection,
        Family::Models,
    ];

    /// The name of the chapter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Family::Smoothing => "smoothing",
            Family::Time => "time",
            Family::Features => "features",
            Family::Spectrum => "spectrum",
            Family::Scaling => "scaling",
            Family::Detection => "detection",
            Family::Quality => "quality",
            Family::Shape => "shape",
            Family::Models => "models",
        }
    }
}

/// A kind of step: its configuration, its schema rule and its code.
pub trait OperatorKind {
    /// What the user writes under the step's key. Its doc comments are the manual.
    type Config: Described + Send + Sync + fmt::Debug + 'static;

    /// The key in the pipeline file; also the file, the module and the metric label.
    const NAME: &'static str;
    /// One sentence for `foreline operators`.
    const SUMMARY: &'static str;
    /// Its chapter in the manual.
    const FAMILY: Family;
    /// Whether it reads a stream and then references, in which it looks rows up.
    const LOOKS_UP: bool = false;
    /// An entry of `steps:` as a user would write it, over the streams of `operators/examples/streams.yaml`; a test plans it.
    const EXAMPLE: &'static str;

    /// Checks the configuration against the inputs and says what comes out.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    fn plan(
        config: &Self::Config,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>>;

    /// How `foreline train` makes the file that the step needs before it can be planned; `None` for a step that
    /// learns nothing from rows, as most do.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    fn fitting(
        _config: &Self::Config,
        _inputs: &[Schema],
        _given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        Ok(None)
    }
}

/// The configuration of some step, its kind forgotten.
pub trait StepConfig: fmt::Debug + Send + Sync {
    /// As [`OperatorKind::plan`].
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    fn plan(&self, inputs: &[Schema], given: &dyn Resolver) -> Result<Planned, Vec<ConfigError>>;

    /// As [`OperatorKind::fitting`].
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    fn fitting(
        &self,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>>;

    /// Whether it reads a stream and then references.
    fn looks_up(&self) -> bool;

    /// The configuration itself, for a caller that knows the kind.
    fn as_any(&self) -> &dyn Any;
}

/// A kind of step in a table of kinds.
#[derive(Debug, Clone, Copy)]
pub struct Registration {
    /// The key in the pipeline file.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Its chapter in the manual.
    pub family: Family,
    /// An entry of `steps:` as a user would write it.
    pub example: &'static str,
    /// The JSON schema of its configuration.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    /// Reads its configuration.
    pub parse: fn(&serde_json::Value) -> Result<Box<dyn StepConfig>, ConfigError>,
}

impl Registration {
    /// The entry of kind `K`.
    #[must_use]
    pub const fn of<K: OperatorKind + 'static>() -> Self {
        Registration {
            name: K::NAME,
            summary: K::SUMMARY,
            family: K::FAMILY,
            example: K::EXAMPLE,
            schema: |generator| generator.subschema_for::<K::Config>(),
            parse: |value| Ok(Box::new(Parsed::<K>(parse_config(value)?))),
        }
    }
}

struct Parsed<K: OperatorKind>(K::Config);

impl<K: OperatorKind> fmt::Debug for Parsed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<K: OperatorKind + 'static> StepConfig for Parsed<K> {
    fn plan(&self, inputs: &[Schema], given: &dyn Resolver) -> Result<Planned, Vec<ConfigError>> {
        K::plan(&self.0, inputs, given)
    }

    fn fitting(
        &self,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        K::fitting(&self.0, inputs, given)
    }

    fn looks_up(&self) -> bool {
        K::LOOKS_UP
    }

    fn as_any(&self) -> &dyn Any {
        &self.0
    }
}
