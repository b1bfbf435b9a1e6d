//! How wasmtime is set up. The compile child and the host use the same settings, or the artefact would not load.
//!
//! Multiple memories are allowed because wasmtime 48 panics on some components where they are not; the limiter sums
//! them. Everything that lets a guest see time, threads or the machine is off.

use std::sync::mpsc;
use std::time::Duration;

use wasmtime::{Config, Engine, OperatorCost, OptLevel};

/// The deadline is counted in these. 10 ms costs nothing measurable.
const TICK: Duration = Duration::from_millis(10);
/// A call may take a minute. Fuel ends it long before; only a machine in trouble gets here.
pub(super) const DEADLINE_TICKS: u64 = 6000;
/// A guest's stack. Well below a worker's 2 MiB, so that its overflow is a trap and not the end of the process.
const STACK_BYTES: usize = 512 << 10;

/// Which engine: the one that scores, or another that must give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    /// What every pipeline uses.
    Usual,
    /// Other machine code with the same meaning: not optimised, bounds checked by instructions instead of by the
    /// processor, memories that move and start as copies. A plugin that scores otherwise here depends on the machine.
    Contrary,
}

/// What the compile child is told for [`Setup::Contrary`].
const CONTRARY_ARGUMENT: &str = "contrary";

impl Setup {
    /// All of them, in the order of their numbers.
    pub(super) const COUNT: usize = 2;

    /// What the compile child is told.
    pub(super) fn argument(self) -> Option<&'static str> {
        match self {
            Setup::Usual => None,
            Setup::Contrary => Some(CONTRARY_ARGUMENT),
        }
    }

    /// What the compile child was told.
    pub(super) fn from_argument(argument: Option<&str>) -> Self {
        if argument == Some(CONTRARY_ARGUMENT) { Setup::Contrary } else { Setup::Usual }
    }
}

/// The settings of compiler and host.
pub(super) fn config(setup: Setup) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        // Said explicitly, since the same call must cost the same in every version that replays it.
        .operator_cost(OperatorCost::new())
        .epoch_interruption(true)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(true)
        .concurrency_support(false)
        .max_wasm_stack(STACK_BYTES)
        .memory_init_cow(true);
    if setup == Setup::Contrary {
        config
            .cranelift_opt_level(OptLevel::None)
            .memory_reservation(0)
            .memory_guard_size(0)
            .memory_may_move(true)
            .memory_init_cow(false);
    }
    config
}

/// Advances the deadline for as long as the engine lives.
pub(super) fn start_ticker(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    let ticker = move || {
        // Nothing is ever sent: waiting for it is how this thread sleeps.
        let (_never_sends, clock) = mpsc::channel::<()>();
        while let Err(mpsc::RecvTimeoutError::Timeout) = clock.recv_timeout(TICK) {
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => break,
            }
        }
    };
    std::thread::Builder::new().name("plugin-deadline".to_owned()).spawn(ticker)?;
    Ok(())
}
