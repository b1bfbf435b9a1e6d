//! What `foreline replay` ends with.

use std::fmt;
use std::time::Duration;

use foreline_engine::Report;
use foreline_spec::Plan;
use serde::Serialize;

use super::compare::{ColumnDifference, Differences};
use super::{Done, Side};
use crate::table::{Table, decimal, grouped};

/// Both sides and what differs.
#[derive(Debug, Serialize)]
pub(super) struct ReplayReport {
    before: SideReport,
    after: SideReport,
    streams: Vec<Differences>,
}

/// What a side has done.
#[derive(Debug, Serialize)]
struct SideReport {
    pipeline: String,
    rows: u64,
    epochs: u64,
    late: u64,
    dead_letters: u64,
    seconds: f64,
}

impl ReplayReport {
    pub(super) fn of(
        before: &Side,
        after: &Side,
        done: &[Done],
        streams: Vec<Differences>,
    ) -> Self {
        let side = |side: &Side, done: &Done| SideReport::of(&side.plan, &done.report, done.time);
        ReplayReport { before: side(before, &done[0]), after: side(after, &done[1]), streams }
    }

    /// Whether any result differs.
    pub(super) fn differs(&self) -> bool {
        self.streams.iter().any(|s| !s.is_none())
    }
}

impl SideReport {
    fn of(plan: &Plan, report: &Report, time: Duration) -> Self {
        let sources = plan.sources.iter().filter_map(|s| report.accounts.get(&s.name));
        SideReport {
            pipeline: plan.name.clone(),
            rows: sources.map(|a| a.input).sum(),
            epochs: report.epochs,
            late: report.accounts.values().map(|a| a.late).sum(),
            dead_letters: report.accounts.values().map(|a| a.dead).sum(),
            seconds: time.as_secs_f64(),
        }
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sides =
            Table::new(["", "pipeline", "rows", "epochs", "late", "dead letters", "seconds"]);
        for (name, side) in [("before", &self.before), ("after", &self.after)] {
            let counts = [side.rows, side.epochs, side.late, side.dead_letters].map(grouped);
            let cells = [name.to_owned(), side.pipeline.clone()].into_iter().chain(counts);
            sides.push(cells.chain([format!("{:.1}", side.seconds)]));
        }
        write!(f, "{sides}")?;
        self.streams.iter().try_for_each(|stream| write!(f, "\n{stream}"))
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} rows before, {} after; {} the same, {} changed, {} only before, {} only after",
            self.stream,
            grouped(self.rows.before),
            grouped(self.rows.after),
            grouped(self.same),
            grouped(self.changed),
            grouped(self.only.before),
            grouped(self.only.after)
        )?;
        let changed: Vec<_> = self.columns.iter().filter(|c| c.changed > 0).collect();
        if !changed.is_empty() {
            let header = [
                "column",
                "changed",
                "mean before",
                "mean after",
                "mean |diff|",
                "max |diff|",
                "most",
            ];
            let mut table = Table::new(header);
            changed.iter().for_each(|column| table.push(cells(column)));
            write!(f, "{table}")?;
        }
        if !self.not_compared.is_empty() {
            writeln!(f, "not compared: {}", self.not_compared.join(", "))?;
        }
        Ok(())
    }
}

fn cells(column: &ColumnDifference) -> [String; 7] {
    let number = |value: Option<f64>| decimal(value, 4);
    let most = column.most.as_ref().map(|m| format!("{}: {} -> {}", m.row, m.before, m.after));
    [
        column.column.clone(),
        grouped(column.changed),
        number(column.mean_before),
        number(column.mean_after),
        number(column.mean_absolute_difference),
        number(column.max_absolute_difference),
        most.unwrap_or_default(),
    ]
}
