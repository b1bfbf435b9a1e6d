//! `operators`: every step alone on one worker, beside a plain loop that computes the same over the same rows.
//!
//! What a reader would get wrong:
//!
//! * The loop is what somebody would write for this one job: slices of numbers, a state a machine, a vector for the
//!   results. It checks nothing, cannot be saved, knows neither nulls nor gaps, and is no step.
//! * Both see the same epochs, sorted by machine and time. What reads, orders and writes rows is not in it: that is `w1`.
//! * A relation in which a step looks rows up is there before the first epoch. To take it in is not in the figures.
//! * What both have computed is summed and compared, so that neither leaves something out.

mod bursts;
mod cases;
mod inputs;
mod loops;
mod rows;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Input, Operator, Out, Schema, SourceId, Watermarks,
    WorkerContext,
};
use foreline_operators::testing::Given;
use serde::Serialize;

use cases::{Case, Counts};
use rows::Rows;

/// Rows of input.
pub(crate) const ROWS: u64 = 2_000_000;

/// The figures of one step.
#[derive(Debug, Serialize)]
struct Figures {
    step: &'static str,
    what: &'static str,
    rows_per_s: f64,
    loop_rows_per_s: f64,
    ratio: f64,
    /// Why it takes more than three times as long as its loop; empty where it does not.
    why: &'static str,
}

pub(crate) fn run(rows: u64, rounds: u32, only: Option<&str>, json: bool) -> Result<()> {
    let rows = Rows::new(usize::try_from(rows)?)?;
    let cases = cases::all().into_iter().filter(|case| only.is_none_or(|only| case.step == only));
    let measured = cases.map(|case| measure(&case, &rows, rounds));
    // One that computes something else stops it, but not before the others have been printed.
    let (figures, wrong): (Vec<_>, Vec<_>) = measured.partition(Result::is_ok);
    let figures: Vec<Figures> = figures.into_iter().flatten().collect();
    print(&figures, json)?;
    wrong.into_iter().try_for_each(|wrong| wrong.map(drop))
}

#[expect(clippy::print_stdout, reason = "the figures are the output")]
fn print(figures: &[Figures], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(figures)?);
        return Ok(());
    }
    println!("{:<18} {:<34} {:>12} {:>12} {:>7}", "step", "", "rows/s", "loop rows/s", "ratio");
    for f in figures {
        println!(
            "{:<18} {:<34} {:>12.0} {:>12.0} {:>7.2}  {}",
            f.step, f.what, f.rows_per_s, f.loop_rows_per_s, f.ratio, f.why
        );
    }
    Ok(())
}

/// The best time of the step and of its loop, taken in turns.
fn measure(case: &Case, rows: &Rows, rounds: u32) -> Result<Figures> {
    let rows = &(case.input)(rows)?;
    let streams: Vec<&Rows> = std::iter::once(rows).chain(&rows.beside).collect();
    let (mut own, mut plain) = (Duration::MAX, Duration::MAX);
    for _ in 0..rounds.max(1) {
        let operator = built(case, &streams)?;
        let (time, counts) = timed(|| step(operator, case, &streams))?;
        own = own.min(time);
        let (time, expected) = timed(|| Ok((case.plain)(rows)))?;
        plain = plain.min(time);
        ensure!(
            counts.agree(&expected),
            "'{}' ({}) computes {counts:?}, its loop {expected:?}",
            case.step,
            case.what
        );
    }
    let per_second = |time: Duration| rows.n_rows as f64 / time.as_secs_f64();
    let ratio = own.as_secs_f64() / plain.as_secs_f64();
    Ok(Figures {
        step: case.step,
        what: case.what,
        rows_per_s: per_second(own),
        loop_rows_per_s: per_second(plain),
        ratio,
        why: case.why,
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed<T>(job: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let begun = Instant::now();
    let value = job()?;
    Ok((begun.elapsed(), value))
}

/// Runs the step over all epochs.
fn step(mut operator: Box<dyn Operator>, case: &Case, streams: &[&Rows]) -> Result<Counts> {
    let rows = streams[0];
    let mut heard = Heard::new(case);
    for id in 0..rows.epochs.len() {
        let last = id + 1 == rows.epochs.len();
        let sources = (0..).map(SourceId).take(streams.len());
        let ended = if last { sources.collect() } else { Vec::new() };
        let of = Epoch { id: id as u64, clock_ns: 0, inputs: vec![], commands: vec![], ended };
        let brought: Vec<Brought> = streams.iter().map(|s| Brought::new(s, id, last)).collect();
        let inputs: Vec<Input<'_>> = brought.iter().map(Brought::input).collect();
        operator.epoch(&of, &inputs, &mut heard)?;
    }
    Ok(heard.counts)
}

fn built(case: &Case, streams: &[&Rows]) -> Result<Box<dyn Operator>> {
    let kind = foreline_operators::OPERATORS.iter().find(|k| k.name == case.step);
    let kind = kind.ok_or_else(|| anyhow!("there is no step '{}'", case.step))?;
    // The file is read when the step is planned, and not after that.
    let folder = tempfile::tempdir()?;
    let mut config = case.config.clone();
    if let Some(statistics) = &case.statistics {
        let path = folder.path().join("statistics.json");
        std::fs::write(&path, statistics.to_string())?;
        config["statistics"] = serde_json::json!(path);
    }
    let config = (kind.parse)(&config).map_err(|e| anyhow!("{}: {e}", case.step))?;
    let mut schemas: Vec<Schema> = streams.iter().map(|s| s.schema.clone()).collect();
    let reference = case.reference.map(|reference| reference()).transpose()?;
    schemas.extend(reference.iter().map(|(schema, _)| schema.clone()));
    let planned = config.plan(&schemas, &Given);
    let planned = planned.map_err(|errors| anyhow!("'{}': {errors:?}", case.step))?;
    let mut operator = (planned.build)(WorkerContext { index: 0, peers: 1 })?;
    if let Some((_, rows)) = &reference {
        operator.relation(streams.len(), &rows.slice(0, 0), rows)?;
    }
    Ok(operator)
}

/// What a stream brings in an epoch.
struct Brought<'a> {
    rows: &'a Batch,
    none: Batch,
    watermarks: Watermarks,
}

impl<'a> Brought<'a> {
    fn new(stream: &'a Rows, epoch: usize, last: bool) -> Self {
        let part = &stream.epochs[epoch];
        let low = if last { Watermarks::END } else { part.low };
        let watermarks = Watermarks { low, ..part.watermarks.clone() };
        Brought {
            rows: &part.batch,
            none: Batch::empty(Arc::clone(stream.schema.arrow())),
            watermarks,
        }
    }

    fn input(&self) -> Input<'_> {
        let (late, revised) = (&self.none, &self.none);
        Input { rows: self.rows, late, revised, watermarks: &self.watermarks }
    }
}

/// What a step says, summed up.
struct Heard {
    /// The column whose values are summed.
    sum: &'static str,
    counts: Counts,
}

impl Heard {
    fn new(case: &Case) -> Self {
        Heard { sum: case.sum, counts: Counts::default() }
    }
}

impl Out for Heard {
    fn emit(&mut self, rows: Batch) {
        let index = rows.rows.schema().index_of(self.sum).expect("the case names a column");
        self.counts.add_column(rows.rows.column(index));
    }
    fn emit_late(&mut self, _: Batch) {}
    fn watermarks(&mut self, _: Watermarks) {}
    fn dead(&mut self, letter: DeadLetter) {
        panic!("a dead letter in a benchmark: {letter:?}");
    }
    fn count(&mut self, _: Account) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_computes_what_its_loop_computes() {
        let rows = Rows::new(40_000).unwrap();
        let wrong = cases::all().into_iter().filter_map(|case| measure(&case, &rows, 1).err());
        let wrong: Vec<String> = wrong.map(|e| e.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
