//! What a machine is doing, from one signal or several: off, starting, running, or unknown.
//!
//! Input   keyed rows; the signals are `Float64`, `Int64` or `Boolean`
//! Output  the same rows with `run_state` (text: `off`, `starting`, `running`, `unknown`) and `run_state_for`: how
//!         long the state has lasted, in seconds, or in counts where the event time is one; or under the name in
//!         `as` and that name with `_for`
//! State   of each signal whether it is on and the time of its last value; the state, its begin; for each key
//! Late    honours `late: { correct }`; a late row may change the state up to the next switch
//! Errors  none: a row that came in goes out
//! Source  a signal is on from `x > above` until `x <= below`; signals are combined as Kleene's logic has it, an
//!         unknown signal being neither on nor off: `all` is off as soon as one is off, `any` on as soon as one is on
//!
//! A signal is unknown before its first value that is decisive and when its last value is older than `max_gap`. A
//! machine that comes on is `starting` until it has been on for `settle`; so is one that is on in its first row or
//! after a gap, for nobody saw how long it had been. A command is not a state: name a signal of the machine itself
//! beside it.

use std::sync::Arc;

use arrow::buffer::ScalarBuffer;
use arrow::datatypes::DataType;
use foreline_engine::{
    Batch, ConfigError, Extent, Family, Fault, OperatorKind, Planned, Resolver, Schema,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotate::{Added, Annotate, Holds, both, planned, ticks};
use crate::columns::{channel, numeric, only, place, positive};
use crate::entries::Entries;

/// The states, each at the place that its `State` has.
const WORDS: [&str; 4] = ["off", "starting", "running", "unknown"];

/// Says what a machine is doing.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunStateConfig {
    /// The signals and when each is on: `{ speed: { above: 300, below: 250 } }`; `{}` for a boolean column.
    pub signals: Entries<SignalConfig>,
    /// Whether the machine is on when all signals are, or when any is; all unless given.
    #[serde(default)]
    pub when: When,
    /// How long a machine that came on is `starting` before it is `running`, such as `5m`. Left out: no time.
    #[serde(default)]
    pub settle: Option<Extent>,
    /// A signal whose last value is longer ago than this is unknown. Left out: a value holds until the next.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// The name of the state's column; `run_state` unless given.
    #[serde(default, rename = "as")]
    pub name: Option<String>,
}

/// When a signal is on.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalConfig {
    /// On above this value, in the column's unit. Must be there unless the column is boolean.
    #[serde(default)]
    pub above: Option<f64>,
    /// Off from this value down, in the column's unit; at most `above`, and `above` itself unless given. In between a
    /// signal stays what it was.
    #[serde(default)]
    pub below: Option<f64>,
}

/// How signals are combined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// The machine is on when all signals are.
    #[default]
    All,
    /// The machine is on when at least one signal is.
    Any,
}

/// The kind `run_state`.
#[derive(Debug, Clone, Copy)]
pub struct RunState;

impl OperatorKind for RunState {
    type Config = RunStateConfig;

    const NAME: &'static str = "run_state";
    const SUMMARY: &'static str = "says whether a machine is off, starting, running, or unknown";
    const FAMILY: Family = Family::Quality;
    const EXAMPLE: &'static str = "state: { from: readings, run_state: { signals: { speed: { above: 300, below: 250 }, running: {} }, settle: 5m, max_gap: 2m } }";

    fn plan(
        config: &RunStateConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let domain = input.domain();
        let settle = config.settle.map(|s| positive("settle", s, domain)).transpose();
        let max_gap = config.max_gap.map(|g| positive("max_gap", g, domain)).transpose();
        let times = both(settle.map_err(|e| vec![e]), max_gap.map_err(|e| vec![e]));
        let (signals, (settle, max_gap)) = both(signals(config, input), times)?;
        let (ticks, unit) = ticks(input);
        let machine = Machine {
            signals,
            when: config.when,
            settle: settle.unwrap_or(0),
            max_gap: max_gap.unwrap_or(i64::MAX),
            ticks,
        };
        let name = config.name.as_deref().unwrap_or("run_state");
        let words: Arc<[String]> = WORDS.iter().map(|&word| word.to_owned()).collect();
        let state = Added::new(name, Holds::Text(words));
        let lasted = Added::new(format!("{name}_for"), Holds::Number).with_unit(unit);
        planned(input, machine, vec![state, lasted])
    }
}

/// A signal: on above one value, off from another down.
#[derive(Debug, Clone, Copy)]
struct Signal {
    place: usize,
    above: f64,
    below: f64,
}

impl Signal {
    /// Whether it is on after the value `x`, given what it was.
    fn judge(&self, x: f64, was: Option<bool>) -> Option<bool> {
        if x > self.above {
            Some(true)
        } else if x <= self.below {
            Some(false)
        } else {
            was
        }
    }
}

fn signals(config: &RunStateConfig, input: &Schema) -> Result<Vec<Signal>, Vec<ConfigError>> {
    let (mut signals, mut errors) = (Vec::new(), Vec::new());
    if config.signals.is_empty() {
        errors.push(ConfigError::new("signals", "no signal is named"));
    }
    for (name, signal) in config.signals.iter() {
        match signal.plan(input, &format!("signals.{name}"), name) {
            Ok(signal) => signals.push(signal),
            Err(e) => errors.push(e),
        }
    }
    if errors.is_empty() { Ok(signals) } else { Err(errors) }
}

impl SignalConfig {
    fn plan(&self, input: &Schema, at: &str, name: &str) -> Result<Signal, ConfigError> {
        let place = place(input, at, name)?;
        let is_bool = input.columns()[place].data_type == DataType::Boolean;
        let place = if is_bool { place } else { numeric(input, at, name)? };
        match (self.above, self.below) {
            (None, None) if is_bool => Ok(Signal { place, above: 0.5, below: 0.5 }),
            (_, _) if is_bool => {
                let error = ConfigError::new(at, format!("column '{name}' is boolean"));
                Err(error.help("write '{}' in place of 'above' and 'below'"))
            }
            (None, _) => Err(ConfigError::new(at, format!("nothing says when '{name}' is on"))
                .help("add 'above'")),
            (Some(above), Some(below)) if below > above => {
                let what = format!("'{below}' is greater than 'above', '{above}'");
                let error = ConfigError::new(format!("{at}.below"), what);
                Err(error.help("make it less, or leave it out"))
            }
            (Some(above), below) => Ok(Signal { place, above, below: below.unwrap_or(above) }),
        }
    }
}

/// What a key's machine is doing; the number is the place of its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Off = 0,
    Starting = 1,
    Running = 2,
    Unknown = 3,
}

/// What is remembered of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Watch {
    /// Of each signal whether it is on, and the time of its last value.
    signals: Vec<(Option<bool>, i64)>,
    /// The state and since when; nothing before the first row.
    state: Option<(State, i64)>,
    /// Since when the machine is on.
    on_since: Option<i64>,
    /// The time of the last row.
    at: i64,
}

#[derive(Debug, Clone)]
struct Machine {
    signals: Vec<Signal>,
    when: When,
    settle: i64,
    max_gap: i64,
    ticks: f64,
}

impl Annotate for Machine {
    type State = Watch;

    const STATE_VERSION: u32 = 1;

    fn channels(&self, batch: &Batch) -> Result<Vec<ScalarBuffer<f64>>, Fault> {
        self.signals.iter().map(|s| channel(batch.rows.column(s.place))).collect()
    }

    fn start(&self) -> Watch {
        let signals = vec![(None, i64::MIN); self.signals.len()];
        Watch { signals, state: None, on_since: None, at: i64::MIN }
    }

    #[expect(clippy::cast_precision_loss, reason = "a state of 104 days loses nanoseconds")]
    fn follow(&self, times: &[i64], channels: &[&[f64]], watch: &mut Watch, out: &mut [Vec<f64>]) {
        let [states, lasted] = out else { return };
        for (row, &at) in times.iter().enumerate() {
            let is_on = self.is_on(at, row, channels, watch);
            let (state, since) = self.next(at, is_on, watch);
            states.push(f64::from(state as u8));
            lasted.push(at.saturating_sub(since) as f64 / self.ticks);
        }
    }
}

impl Machine {
    /// Whether the machine is on, after the signals have been given their values.
    fn is_on(&self, at: i64, row: usize, channels: &[&[f64]], watch: &mut Watch) -> Option<bool> {
        let (mut n_on, mut n_off) = (0, 0);
        let each = self.signals.iter().zip(channels).zip(&mut watch.signals);
        for ((signal, values), (is_on, last)) in each {
            if at.saturating_sub(*last) > self.max_gap {
                *is_on = None;
            }
            let x = values[row];
            if !x.is_nan() {
                *is_on = signal.judge(x, *is_on);
                *last = at;
            }
            n_on += usize::from(*is_on == Some(true));
            n_off += usize::from(*is_on == Some(false));
        }
        let n = self.signals.len();
        match self.when {
            When::All if n_off > 0 => Some(false),
            When::Any if n_on > 0 => Some(true),
            When::All => (n_on == n).then_some(true),
            When::Any => (n_off == n).then_some(false),
        }
    }

    /// The state at `at`, and since when.
    fn next(&self, at: i64, is_on: Option<bool>, watch: &mut Watch) -> (State, i64) {
        // Nobody saw what the machine did in a gap, so what it does after it begins there.
        if watch.state.is_some() && at.saturating_sub(watch.at) > self.max_gap {
            (watch.state, watch.on_since) = (None, None);
        }
        watch.at = at;
        let state = match is_on {
            Some(true) => {
                let since = *watch.on_since.get_or_insert(at);
                let settled = at.saturating_sub(since) >= self.settle;
                if settled { State::Running } else { State::Starting }
            }
            Some(false) => State::Off,
            None => State::Unknown,
        };
        if is_on != Some(true) {
            watch.on_since = None;
        }
        let since = watch.state.filter(|(was, _)| *was == state).map_or(at, |(_, since)| since);
        watch.state = Some((state, since));
        (state, since)
    }
}

#[cfg(test)]
mod tests;
