//! Alerts over random histories with late rows, against window functions.
//!
//! A query finds the stretches of rows of a machine that confirm, and those that say that it is over; which of them last
//! for long enough; and where one follows the other. What needs memory beyond that (gaps, what inhibits, flapping) is
//! beyond such a query and compared elsewhere, with a walk over time.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use foreline_engine::{Batch, Column, Extent, Planned, Schema, StreamId};
use foreline_operators::alert::{AlertConfig, OfConfig, plan_rule};

use crate::query::{Tables, texts};
use crate::world::{Lived, Pipeline, Sql, Step, live};
use crate::{Dice, each_seed};

/// What is compared of a change.
const COLUMNS: [&str; 7] =
    ["machine", "cycle", "change", "sequence", "raised_at", "cleared_at", "first_seen"];

fn schema() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::new("x", DataType::Float64),
        Column::new("place", DataType::Int64),
    ];
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

/// Readings that stay high or low for a while, in any order of time.
fn readings(dice: &mut Dice) -> RecordBatch {
    let (n_rows, n_machines) = (dice.below(220), 1 + dice.below(5));
    let level = |machine: usize, cycle: i64| {
        let stretch = u64::try_from(cycle / 6).unwrap() * 31 + machine as u64;
        Dice(stretch.wrapping_mul(977)).of(0, 9)
    };
    let reading = |_| {
        let (machine, cycle) = (dice.below(n_machines), dice.of(0, 100));
        let x = level(machine, cycle) as f64 + dice.of(-2, 3) as f64 / 2.0;
        (format!("m{machine}"), cycle, (!dice.one_in(12)).then_some(x))
    };
    let all: Vec<(String, i64, Option<f64>)> = (0..n_rows).map(reading).collect();
    let columns: [(&str, ArrayRef); 4] = [
        ("machine", Arc::new(all.iter().map(|r| Some(&r.0)).collect::<StringArray>())),
        ("cycle", Arc::new(all.iter().map(|r| Some(r.1)).collect::<Int64Array>())),
        ("x", Arc::new(all.iter().map(|r| r.2).collect::<Float64Array>())),
        ("place", Arc::new((0..).take(n_rows).map(Some).collect::<Int64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// A rule, and how a query says the same.
#[derive(Debug)]
struct Rule {
    config: AlertConfig,
    on_delay: i64,
    off_delay: i64,
    k: usize,
    /// Which rows `b` count for the row `a`.
    counts: String,
    /// Whether a row that does not confirm says that the condition is over.
    denies: &'static str,
}

impl Rule {
    fn random(dice: &mut Dice) -> Self {
        let mut config = AlertConfig { when: Some("x > 5".to_owned()), ..AlertConfig::default() };
        let mut delay = || if dice.one_in(2) { 0 } else { dice.of(1, 12) };
        let (on_delay, off_delay) = (delay(), delay());
        let given = |delay: i64| (delay > 0).then_some(Extent::Count(delay));
        (config.on_delay, config.clear_for) = (given(on_delay), given(off_delay));
        let (mut k, mut counts, mut denies) = (1, "b.nth = a.nth".to_owned(), "true");
        match dice.below(4) {
            0 => {
                config.clear = Some("x < 3".to_owned());
                denies = "x < 3";
            }
            1 => {
                k = 1 + dice.below(3);
                let rows = k + dice.below(3);
                config.of = Some(OfConfig { k, rows: Some(rows as u64), duration: None });
                counts = format!("b.nth <= a.nth AND b.nth > a.nth - {rows}");
            }
            2 => {
                k = 1 + dice.below(3);
                let length = dice.of(1, 20);
                let duration = Some(Extent::Count(length));
                config.of = Some(OfConfig { k, rows: None, duration });
                counts = format!("b.nth <= a.nth AND b.cycle > a.cycle - {length}");
            }
            _ => {}
        }
        Rule { config, on_delay, off_delay, k, counts, denies }
    }

    fn planned(&self) -> Planned {
        plan_rule("rule", &self.config, &schema(), &Sql::default()).unwrap()
    }

    /// The changes of all alerts.
    fn query(&self) -> String {
        let Rule { on_delay, off_delay, k, counts, denies, .. } = self;
        let stretches = |flag: &str, change: &str, delay: &i64| {
            format!(
                "SELECT machine, MIN(nth) AS nth, MIN(cycle) AS since, MAX(cycle) AS until, '{change}' AS change,
                   {delay} AS delay, MIN(begun) AS begun, MAX(next) AS next
                 FROM (SELECT *, nth - ROW_NUMBER() OVER (PARTITION BY machine, {flag} ORDER BY nth) AS stretch,
                   CASE WHEN LEAD({flag}, 1) OVER (PARTITION BY machine ORDER BY nth) THEN NULL
                     ELSE LEAD(cycle, 1) OVER (PARTITION BY machine ORDER BY nth) END AS next FROM judged)
                 WHERE {flag} GROUP BY machine, stretch"
            )
        };
        format!(
            "WITH said AS (SELECT *, ROW_NUMBER() OVER (PARTITION BY machine ORDER BY cycle, place) AS nth
                 FROM readings WHERE x IS NOT NULL),
               counted AS (SELECT a.machine, a.nth, COUNT(b.nth) >= {k} AS confirms FROM said a
                 LEFT JOIN said b ON b.machine = a.machine AND {counts} AND b.x > 5 GROUP BY a.machine, a.nth),
               alarms AS (SELECT machine, nth, LAG(cycle, {back}) OVER (PARTITION BY machine ORDER BY nth) AS begun
                 FROM said WHERE x > 5),
               judged AS (SELECT said.machine, said.nth, cycle, begun, confirms,
                   NOT confirms AND NOT (x > 5) AND {denies} AS denies
                 FROM said JOIN counted ON counted.machine = said.machine AND counted.nth = said.nth
                   LEFT JOIN alarms ON alarms.machine = said.machine AND alarms.nth = said.nth),
               stretches AS ({raising} UNION ALL {clearing}),
               lasting AS (SELECT * FROM stretches
                 WHERE next IS NULL OR next > since + delay OR until >= since + delay),
               turns AS (SELECT *, LAG(change, 1, 'cleared') OVER (PARTITION BY machine ORDER BY nth) AS before
                 FROM lasting),
               told AS (SELECT *, since + delay AS at FROM turns WHERE change <> before),
               both AS (SELECT *, LAG(at, 1) OVER (PARTITION BY machine ORDER BY nth) AS raised,
                   LAG(begun, 1) OVER (PARTITION BY machine ORDER BY nth) AS seen FROM told)
             SELECT machine, at AS cycle, change, CASE WHEN change = 'raised' THEN 0 ELSE 1 END AS sequence,
               CASE WHEN change = 'raised' THEN at ELSE raised END AS raised_at,
               CASE WHEN change = 'raised' THEN NULL ELSE at END AS cleared_at,
               CASE WHEN change = 'raised' THEN begun ELSE seen END AS first_seen FROM both",
            back = k - 1,
            raising = stretches("confirms", "raised", on_delay),
            clearing = stretches("denies", "cleared", off_delay),
        )
    }
}

/// The columns that are compared, as they come out.
fn told(schema: &Schema, changes: &[Batch]) -> Vec<Vec<String>> {
    if changes.is_empty() {
        return Vec::new();
    }
    let settled = Batch::concat(schema.arrow(), changes).unwrap().settled(schema).unwrap();
    let picked = COLUMNS.map(|name| schema.index_of(name).unwrap());
    texts(&settled.rows.project(&picked).unwrap())
}

fn case(seed: u64) -> u64 {
    let mut dice = Dice(seed);
    let (rule, rows) = (Rule::random(&mut dice), readings(&mut dice));
    let planned = rule.planned();
    let output = planned.output.clone();
    let from = StreamId::Source(0);
    let alert = Step { name: "rule".to_owned(), kind: "alert", from, beside: None, planned };
    let pipeline = Pipeline {
        sources: vec![("readings", schema(), rows.clone())],
        relations: Vec::new(),
        steps: vec![alert],
        views: Vec::new(),
        kept: vec![StreamId::Step(0)],
    };
    let Lived { kept, .. } = live(&pipeline, dice);
    let tables = Tables::new();
    tables.put("readings", rows);
    let field = |name: &str| {
        let is_text = name == "machine" || name == "change";
        Field::new(name, if is_text { DataType::Utf8 } else { DataType::Int64 }, true)
    };
    let columns = Arc::new(ArrowSchema::new(COLUMNS.map(field).to_vec()));
    let expected = texts(&tables.ask(&rule.query(), &columns));
    assert_eq!(told(&output, &kept[0]), expected, "{rule:?}");
    expected.len() as u64
}

#[test]
fn alerts_are_those_that_a_query_over_the_same_history_finds() {
    let n_changes = each_seed(24, case);
    println!("{n_changes} changes");
}
