//! `views`: what one changed limit costs a fleet of 10,000 machines, beside computing its views afresh.
//!
//! The latest reading of each machine beside its limit, those above it, groups by line, and the ten greatest. Each change is
//! an epoch of its own. Beside it, in the same run, a new dataflow is given the same rows in one epoch; of its time what
//! decoding, ordering and the steps take is left out, so that what remains is the views'. Nothing is left out of the
//! time of a change: it begins when the source hands the row over, and ends when all tables show it.
//!
//! `touched` counts records that joins, groups and ranks have gone through, for a change and for all afresh.

mod fleet;

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use fleet::{Change, Fleet};

/// Machines.
pub(crate) const MACHINES: u64 = 10_000;
/// Limits that are lowered, one after the other.
const CHANGES: usize = 400;

/// The figures of a run.
#[derive(Debug, Serialize)]
struct Figures {
    machines: usize,
    changes: usize,
    rounds: u32,
    /// All views, computed afresh: the best of the rounds.
    fresh_s: f64,
    /// A change, from the row to the tables.
    change_median_s: f64,
    change_p99_s: f64,
    /// The median over computing afresh.
    ratio: f64,
    fresh_touched: u64,
    change_touched: f64,
    change_touched_max: u64,
    /// The mean of a change over computing afresh.
    touched_ratio: f64,
    /// In so many epochs a change is in all tables; 1 is the epoch that brought it.
    epochs_p99: u64,
    /// Rows of all views, and records in their arrangements: with all rows, and after all changes.
    rows: usize,
    arranged: usize,
    arranged_after: usize,
}

pub(crate) fn run(machines: u64, rounds: u32, json: bool) -> Result<()> {
    let fleet = Fleet::new(usize::try_from(machines)?, CHANGES);
    let (mut fresh, mut fresh_touched) = (Duration::MAX, 0);
    let mut changes: Vec<Change> = Vec::new();
    let mut sizes = fleet::Sizes::default();
    for _ in 0..rounds.max(1) {
        let (time, touched) = fleet.afresh()?;
        (fresh, fresh_touched) = (fresh.min(time), touched);
        let (more, after) = fleet.changed()?;
        changes.extend(more);
        sizes = after;
    }
    ensure!(!changes.is_empty(), "no limit was changed");
    let mut times: Vec<Duration> = changes.iter().map(|c| c.time).collect();
    times.sort_unstable();
    let mut epochs: Vec<u64> = changes.iter().map(|c| c.epochs).collect();
    epochs.sort_unstable();
    let touched: u64 = changes.iter().map(|c| c.touched).sum();
    let change_touched = touched as f64 / changes.len() as f64;
    let (median, fresh_s) = (times[times.len() / 2].as_secs_f64(), fresh.as_secs_f64());
    let figures = Figures {
        machines: fleet.machines(),
        changes: changes.len(),
        rounds,
        fresh_s,
        change_median_s: median,
        change_p99_s: times[p99(times.len())].as_secs_f64(),
        ratio: median / fresh_s,
        fresh_touched,
        change_touched,
        change_touched_max: changes.iter().map(|c| c.touched).max().unwrap_or(0),
        touched_ratio: change_touched / fresh_touched as f64,
        epochs_p99: epochs[p99(epochs.len())],
        rows: sizes.rows,
        arranged: sizes.arranged,
        arranged_after: sizes.arranged_after,
    };
    print(&figures, json)
}

/// The place below which 99 of a hundred lie.
fn p99(n: usize) -> usize {
    (n * 99).div_ceil(100).saturating_sub(1)
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]
fn print(figures: &Figures, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(figures)?);
        return Ok(());
    }
    let f = figures;
    println!(
        "views, {} machines, {} changes, one worker, {} rounds",
        f.machines, f.changes, f.rounds
    );
    println!("  all afresh    {:10.3} ms, {} records touched", f.fresh_s * 1e3, f.fresh_touched);
    println!(
        "  one change    {:10.3} ms (99 of 100: {:.3} ms), `ratio` {:.4}",
        f.change_median_s * 1e3,
        f.change_p99_s * 1e3,
        f.ratio
    );
    println!(
        "                {:10.1} records touched (at most {}), {:.4} of all",
        f.change_touched, f.change_touched_max, f.touched_ratio
    );
    println!("  99 of 100 changes are in all tables within {} epoch(s)", f.epochs_p99);
    println!(
        "  {} rows in the views, {} records in their arrangements, {} after the changes",
        f.rows, f.arranged, f.arranged_after
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_in_all_tables_in_its_own_epoch() {
        let fleet = Fleet::new(500, 5);
        let (_, afresh) = fleet.afresh().unwrap();
        let (changes, sizes) = fleet.changed().unwrap();
        assert_eq!(changes.len(), 5);
        assert!(changes.iter().all(|c| c.epochs == 1 && c.touched < afresh), "{changes:?}");
        assert!(sizes.arranged > 0 && sizes.arranged_after > 0, "{sizes:?}");
    }
}
