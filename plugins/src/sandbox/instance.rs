//! A plugin at work: one store, one instance, and what its answers mean.

use foreline_engine::Reason;
use wasmtime::{Store, Trap};

use super::bindings::{Descriptor, PluginError, Scored, present, previous};
use super::contract::{Call, Exports};
use super::limits::{Limits, init_fuel};
use super::settings::DEADLINE_TICKS;
use super::{Plugin, SharedPlugin};

/// Bytes that a call may hand back beyond its scores: error messages and the log.
const SPARE_HOSTCALL_BYTES: usize = 64 << 10;
/// Bytes that `init` may hand back: the descriptor.
const INIT_HOSTCALL_BYTES: usize = 1 << 20;
/// Lines a plugin may log in a call.
const LOG_LINES_PER_CALL: u32 = 16;
/// Bytes of a logged line.
const MAX_LOG_LINE_BYTES: usize = 4 << 10;

/// What the host keeps beside a store.
#[derive(Debug)]
pub(crate) struct StoreState {
    limits: Limits,
    name: String,
    log_lines_left: u32,
}

impl StoreState {
    fn log(&mut self, level: present::diagnostics::Level, message: &str) {
        use present::diagnostics::Level;
        let Some(left) = self.log_lines_left.checked_sub(1) else { return };
        self.log_lines_left = left;
        let line = printable(message, MAX_LOG_LINE_BYTES);
        let plugin = &self.name;
        match level {
            Level::Debug => tracing::debug!(plugin, "{line}"),
            Level::Info => tracing::info!(plugin, "{line}"),
            Level::Warn => tracing::warn!(plugin, "{line}"),
            Level::Error => tracing::error!(plugin, "{line}"),
        }
    }
}

impl present::diagnostics::Host for StoreState {
    fn log(&mut self, level: present::diagnostics::Level, message: String) {
        StoreState::log(self, level, &message);
    }
}

impl previous::diagnostics::Host for StoreState {
    fn log(&mut self, level: previous::diagnostics::Level, message: String) {
        use previous::diagnostics::Level;
        let level = match level {
            Level::Debug => present::diagnostics::Level::Debug,
            Level::Info => present::diagnostics::Level::Info,
            Level::Warn => present::diagnostics::Level::Warn,
            Level::Error => present::diagnostics::Level::Error,
        };
        StoreState::log(self, level, &message);
    }
}

/// What a guest wrote, cut, without control characters.
fn printable(text: &str, max_bytes: usize) -> String {
    let end = (0..=max_bytes.min(text.len())).rev().find(|&i| text.is_char_boundary(i));
    text[..end.unwrap_or(0)].chars().filter(|c| !c.is_control()).collect()
}

/// Why a call gave no scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The plugin said so and is still good.
    Said(Reason, String),
    /// The plugin broke; its store must not be used again.
    Broke(Reason, String),
    /// No row can be blamed: the deadline, or the machine had no memory.
    Host(String),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Said(reason, message) | CallError::Broke(reason, message) => {
                write!(f, "{message} ({reason})")
            }
            CallError::Host(message) => f.write_str(message),
        }
    }
}

/// The reason codes of what can go wrong with a row in a plugin.
pub(crate) mod reasons {
    use foreline_engine::Reason;

    /// The plugin refused the row.
    pub(crate) const INVALID_INPUT: Reason = Reason("plugin_invalid_input");
    /// The plugin says that it has a bug.
    pub(crate) const INTERNAL: Reason = Reason("plugin_internal");
    /// A score that its kind does not allow.
    pub(crate) const BAD_OUTPUT: Reason = Reason("plugin_bad_output");
    /// An answer that the contract does not allow.
    pub(crate) const BROKEN_RULE: Reason = Reason("plugin_broken_rule");
    /// The plugin trapped.
    pub(crate) const TRAP: Reason = Reason("plugin_trap");
    /// The plugin used up its fuel.
    pub(crate) const FUEL: Reason = Reason("plugin_fuel");
    /// The plugin reached its memory or table limit.
    pub(crate) const MEMORY: Reason = Reason("plugin_memory");
    /// The plugin handed back more than a call may.
    pub(crate) const TOO_MUCH_OUTPUT: Reason = Reason("plugin_too_much_output");
    /// The row's shard failed too often in this epoch to find out which rows are to blame.
    pub(crate) const NOT_ISOLATED: Reason = Reason("plugin_not_isolated");
    /// The breaker is open for the row's key or shard.
    pub(crate) const BREAKER_OPEN: Reason = Reason("plugin_breaker_open");
}

/// A plugin that was initialised.
pub(crate) struct Instance {
    plugin: SharedPlugin,
    store: Store<StoreState>,
    exports: Exports,
    /// Whether no call was made since `init`.
    fresh: bool,
    /// How long a call may take, in ticks of the engine.
    deadline: u64,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("plugin", &self.plugin).finish_non_exhaustive()
    }
}

/// The shape of what `score` must answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Columns that come out.
    pub(crate) n_outputs: usize,
    /// State values a key.
    pub(crate) state_width: usize,
}

impl Instance {
    /// A fresh store, an instance in it, and `init`.
    pub(crate) fn start(plugin: &SharedPlugin) -> Result<(Self, Descriptor), CallError> {
        let plugin = SharedPlugin::clone(plugin);
        let state = StoreState {
            limits: Limits::new(plugin.limits.memory_bytes),
            name: plugin.name.clone(),
            log_lines_left: LOG_LINES_PER_CALL,
        };
        let mut store = Store::new(plugin.pre.engine(), state);
        store.limiter(|state| &mut state.limits);
        // Before instantiating too: a start function is code of the plugin.
        ready(&mut store, DEADLINE_TICKS, init_fuel(plugin.weights.len()), INIT_HOSTCALL_BYTES)?;
        let exports =
            plugin.pre.instantiate(&mut store).map_err(|e| broke(store.data(), &e, &plugin))?;
        let Plugin { weights, config, .. } = &*plugin;
        let answer = exports.init(&mut store, weights, config);
        let descriptor = match answer {
            Ok(Ok(descriptor)) => descriptor,
            Ok(Err(e)) => return Err(said(e)),
            Err(e) => return Err(broke(store.data(), &e, &plugin)),
        };
        let deadline = DEADLINE_TICKS;
        Ok((Instance { plugin, store, exports, fresh: true, deadline }, descriptor))
    }

    /// Whether no call was made since `init`.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Scores rows. NaN in what comes back has the canonical bits.
    pub(crate) fn score(&mut self, rows: Call<'_>, shape: Shape) -> Result<Scored, CallError> {
        self.fresh = false;
        let (n_scores, n_state) = (rows.n * shape.n_outputs, rows.state.len());
        let bytes = 8 * (n_scores + n_state) + SPARE_HOSTCALL_BYTES;
        ready(&mut self.store, self.deadline, self.plugin.limits.call_fuel(rows.n), bytes)?;
        let n_rows = u32::try_from(rows.n).map_err(|e| CallError::Host(e.to_string()))?;
        let mut scored = match self.exports.score(&mut self.store, n_rows, rows) {
            Ok(Ok(scored)) => scored,
            Ok(Err(e)) => return Err(said(e)),
            Err(e) => return Err(broke(self.store.data(), &e, &self.plugin)),
        };
        for (what, found, expected) in
            [("outputs", scored.outputs.len(), n_scores), ("state", scored.state.len(), n_state)]
        {
            if found != expected {
                let message =
                    format!("'score' answered {found} values of {what} instead of {expected}");
                return Err(CallError::Broke(reasons::BROKEN_RULE, message));
            }
        }
        canonical(&mut scored.outputs);
        canonical(&mut scored.state);
        Ok(scored)
    }

    /// Rewrites state that was saved under an older state version.
    pub(crate) fn migrate(&mut self, from: u32, state: &[f64]) -> Result<Vec<f64>, CallError> {
        self.fresh = false;
        let fuel = self.plugin.limits.call_fuel(state.len());
        ready(&mut self.store, self.deadline, fuel, 16 * state.len() + INIT_HOSTCALL_BYTES)?;
        match self.exports.migrate_state(&mut self.store, from, state) {
            Ok(Ok(mut state)) => {
                canonical(&mut state);
                Ok(state)
            }
            Ok(Err(e)) => Err(said(e)),
            Err(e) => Err(broke(self.store.data(), &e, &self.plugin)),
        }
    }

    /// Bytes of all memories of the store. They only grow.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.store.data().limits.used_bytes()
    }

    /// Fuel that `init` used.
    pub(crate) fn init_fuel_used(&self) -> u64 {
        let given = init_fuel(self.plugin.weights.len());
        self.store.get_fuel().map_or(0, |left| given.saturating_sub(left))
    }

    /// Fuel that the last call used, of what a call of `rows` has.
    pub(crate) fn fuel_used(&self, rows: usize) -> u64 {
        let given = self.plugin.limits.call_fuel(rows);
        self.store.get_fuel().map_or(0, |left| given.saturating_sub(left))
    }
}

/// Fills the store up for the next call.
fn ready(
    store: &mut Store<StoreState>,
    deadline: u64,
    fuel: u64,
    hostcall_bytes: usize,
) -> Result<(), CallError> {
    store.set_fuel(fuel).map_err(|e| CallError::Host(e.to_string()))?;
    store.set_epoch_deadline(deadline);
    store.set_hostcall_fuel(hostcall_bytes);
    store.data_mut().log_lines_left = LOG_LINES_PER_CALL;
    Ok(())
}

/// Writes the one canonical NaN over every NaN: its bits mean nothing, but snapshots would keep them.
fn canonical(values: &mut [f64]) {
    for value in values {
        if value.is_nan() {
            *value = f64::NAN;
        }
    }
}

/// What an `err` of the plugin means.
fn said(error: PluginError) -> CallError {
    let (reason, message) = match error {
        PluginError::InvalidInput(m) => (reasons::INVALID_INPUT, m),
        PluginError::Internal(m) => (reasons::INTERNAL, m),
        PluginError::InvalidWeights(m) => (reasons::INTERNAL, format!("invalid weights: {m}")),
        PluginError::InvalidConfig(m) => (reasons::INTERNAL, format!("invalid config: {m}")),
    };
    CallError::Said(reason, printable(&message, MAX_LOG_LINE_BYTES))
}

/// What an error of wasmtime means.
fn broke(state: &StoreState, error: &wasmtime::Error, plugin: &Plugin) -> CallError {
    if let Some(fault) = &state.limits.host_fault {
        return CallError::Host(fault.clone());
    }
    if let Some(what) = state.limits.denied {
        let limit = plugin.limits.memory_bytes;
        let message = match what {
            "memory" => format!("the plugin wanted more than {limit} bytes of memory"),
            what => format!("the plugin wanted larger {what} than a plugin may have"),
        };
        return CallError::Broke(reasons::MEMORY, message);
    }
    let reason = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => {
            return CallError::Host("a call into the plugin took longer than a minute".to_owned());
        }
        Some(Trap::OutOfFuel) => reasons::FUEL,
        Some(trap) if is_guests_own(*trap) => reasons::TRAP,
        // wasmtime has no type for this one.
        None if error.root_cause().to_string().contains("fuel allocated for hostcalls") => {
            reasons::TOO_MUCH_OUTPUT
        }
        Some(_) | None => reasons::BROKEN_RULE,
    };
    CallError::Broke(reason, printable(&error.root_cause().to_string(), MAX_LOG_LINE_BYTES))
}

/// Whether a trap is the guest's code going wrong, not its answer breaking the contract.
fn is_guests_own(trap: Trap) -> bool {
    matches!(
        trap,
        Trap::StackOverflow
            | Trap::MemoryOutOfBounds
            | Trap::TableOutOfBounds
            | Trap::IndirectCallToNull
            | Trap::BadSignature
            | Trap::IntegerOverflow
            | Trap::IntegerDivisionByZero
            | Trap::BadConversionToInteger
            | Trap::UnreachableCodeReached
    )
}

#[cfg(test)]
mod tests {
    use super::super::{CallLimits, Plugin, Setup};
    use super::*;

    /// A plugin that scores for ever, with more fuel than it can burn: the deadline ends the call, and no row is to blame.
    #[test]
    fn the_deadline_ends_what_fuel_does_not() {
        let text = include_str!("../../tests/all/evil.wat").replace("(;SCORE;)", "(loop (br 0))");
        let mut module = wat::parse_str(text).unwrap();
        let mut resolve = wit_parser::Resolve::default();
        let contract = include_str!("../../wit/model.wit");
        let package = resolve.push_str("model.wit", contract).unwrap();
        let world = resolve.select_world(&[package], Some("model")).unwrap();
        let utf8 = wit_component::StringEncoding::UTF8;
        wit_component::embed_component_metadata(&mut module, &resolve, world, utf8).unwrap();
        let encoder = wit_component::ComponentEncoder::default().module(&module).unwrap();
        let component = encoder.validate(false).encode().unwrap();
        let cache = tempfile::TempDir::new().unwrap();
        let limits = CallLimits { memory_bytes: 16 << 20, fuel_per_row: u64::MAX / 4 };
        let given = (Vec::new(), Vec::new());
        let plugin = Plugin::in_setup(Setup::Usual, "p", &component, cache.path(), given, limits);
        let (mut instance, _) = Instance::start(&SharedPlugin::new(plugin.unwrap())).unwrap();
        instance.deadline = 2;
        let rows = Call { n: 1, features: &[1.0], times: &[], slots: &[], state: &[] };
        let error = instance.score(rows, Shape { n_outputs: 1, state_width: 0 }).unwrap_err();
        let CallError::Host(message) = error else { panic!("{error}") };
        assert!(message.contains("longer than"), "{message}");
    }
}
