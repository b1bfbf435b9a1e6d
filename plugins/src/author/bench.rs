//! What a model costs: time and fuel a row, memory, and what it takes to start and compile it.
//!
//! Rows are those that `run` tries a plugin with, over and over; every row is a key of its own, which is the most
//! expensive case for a model with state. Times are those of one thread, and the best of several goes: what else the
//! machine does only adds to them.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{AuthorError, Subject};
use crate::builtin::family_of;
use crate::model::{check_descriptor, trial_rows};
use crate::native::Native;
use crate::sandbox::{Call, CallError, Instance, Setup, Shape, compile_anew};

/// Rows of a call.
const BATCHES: [usize; 3] = [256, 1024, 4096];
/// How often a call is timed at least.
const MIN_GOES: u32 = 5;
/// How long a batch size is measured.
const MEASURED: Duration = Duration::from_millis(400);
/// How often the plugin is started.
const STARTS: u32 = 5;

/// What a model costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchReport {
    /// Bytes of the component.
    pub component_bytes: usize,
    /// Bytes of its machine code.
    pub machine_code_bytes: usize,
    /// Time to compile it, in milliseconds.
    pub compile_ms: f64,
    /// Time for a fresh instance and `init`, in milliseconds.
    pub start_ms: f64,
    /// Operators of `init`.
    pub start_fuel: u64,
    /// The most memory that an instance had, in bytes.
    pub peak_memory_bytes: usize,
    /// By rows of a call.
    pub batches: Vec<BatchSpeed>,
}

/// What a model costs in calls of one size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchSpeed {
    /// Rows of a call.
    pub rows: usize,
    /// Rows a second in the sandbox.
    pub rows_per_s: f64,
    /// Operators a row.
    pub fuel_per_row: u64,
    /// Rows a second of the same model compiled into this program, where its family is one of ours.
    pub native_rows_per_s: Option<f64>,
}

/// Measures a model.
///
/// # Errors
/// When the plugin is not let in, or fails on rows within the trained range.
pub fn bench(subject: &Subject) -> Result<BenchReport, AuthorError> {
    measured(subject, None)
}

/// The same on rows × features, row-major, that are taken over and over.
///
/// # Errors
/// As [`bench()`].
pub fn bench_on(subject: &Subject, rows: &[f64]) -> Result<BenchReport, AuthorError> {
    measured(subject, Some(rows))
}

fn measured(subject: &Subject, given: Option<&[f64]>) -> Result<BenchReport, AuthorError> {
    let subject = subject.wrapped()?;
    let failed = |e: CallError| AuthorError::Plugin(e.to_string());
    let (artefact, compile_time) = timed(|| compile_anew(&subject.plugin));
    let plugin = subject.admitted(Setup::Usual)?;
    let mut start_time = Duration::MAX;
    let (mut instance, descriptor) = Instance::start(&plugin).map_err(failed)?;
    let start_fuel = instance.init_fuel_used();
    check_descriptor(&descriptor).map_err(AuthorError::Plugin)?;
    for _ in 0..STARTS {
        let (started, time) = timed(|| Instance::start(&plugin));
        started.map_err(failed)?;
        start_time = start_time.min(time);
    }
    let shape =
        Shape { n_outputs: descriptor.outputs.len(), state_width: descriptor.state_width as usize };
    let usual = given.map_or_else(|| trial_rows(&descriptor.features), <[f64]>::to_vec);
    let native = native(&subject, descriptor.features.len(), shape.n_outputs);
    let mut batches = Vec::new();
    for rows in BATCHES {
        let most = descriptor.max_rows as usize;
        if most > 0 && rows > most {
            continue;
        }
        let len = rows * descriptor.features.len();
        let features: Vec<f64> = usual.iter().copied().cycle().take(len).collect();
        let speed = sandboxed(&mut instance, rows, &features, shape).map_err(failed)?;
        let native_rows_per_s = native.as_ref().map(|score| {
            let mut scores = vec![f64::NAN; rows * shape.n_outputs];
            let go = || {
                score.score_into(&features, &mut scores);
                true
            };
            per_second(rows, best(go))
        });
        batches.push(BatchSpeed { native_rows_per_s, ..speed });
    }
    Ok(BenchReport {
        component_bytes: subject.plugin.len(),
        machine_code_bytes: artefact?.len(),
        compile_ms: compile_time.as_secs_f64() * 1e3,
        start_ms: start_time.as_secs_f64() * 1e3,
        start_fuel,
        peak_memory_bytes: instance.memory_bytes(),
        batches,
    })
}

fn sandboxed(
    instance: &mut Instance,
    rows: usize,
    features: &[f64],
    shape: Shape,
) -> Result<BatchSpeed, CallError> {
    let n_rows = u32::try_from(rows).map_err(|e| CallError::Host(e.to_string()))?;
    let slots: Vec<u32> = if shape.state_width == 0 { Vec::new() } else { (0..n_rows).collect() };
    let state = vec![f64::NAN; rows * shape.state_width];
    let times = vec![0; slots.len()];
    let call = Call { n: rows, features, times: &times, slots: &slots, state: &state };
    let mut failure = None;
    let time = best(|| {
        if let Err(e) = instance.score(call, shape) {
            failure = Some(e);
        }
        failure.is_none()
    });
    if let Some(e) = failure {
        return Err(e);
    }
    let fuel_per_row = instance.fuel_used(rows).div_ceil(rows as u64);
    Ok(BatchSpeed {
        rows,
        rows_per_s: per_second(rows, time),
        fuel_per_row,
        native_rows_per_s: None,
    })
}

/// The same model compiled into this program, where its family is one of ours.
fn native(subject: &Subject, n_features: usize, n_outputs: usize) -> Option<Native> {
    let family = family_of(&subject.plugin)?;
    let native = Native::load(&subject.weights).ok().filter(|n| n.family() == family)?;
    let header = native.header();
    let fits = header.features.len() == n_features && header.outputs.len() == n_outputs;
    fits.then_some(native)
}

fn per_second(rows: usize, time: Duration) -> f64 {
    rows as f64 / time.as_secs_f64().max(1e-9)
}

/// The shortest time that `go` took, over some goes; it answers whether it makes sense to go on.
fn best(mut go: impl FnMut() -> bool) -> Duration {
    let (mut best, mut spent) = (Duration::MAX, Duration::ZERO);
    let mut goes = 0;
    while goes < MIN_GOES || spent < MEASURED {
        let (goes_on, time) = timed(&mut go);
        best = best.min(time);
        spent += time;
        goes += 1;
        if !goes_on {
            break;
        }
    }
    best
}

#[expect(
    clippy::disallowed_methods,
    reason = "measures outside any dataflow; no result depends on it"
)]
fn timed<T>(go: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let answer = go();
    (answer, start.elapsed())
}
