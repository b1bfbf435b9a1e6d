//! Late rows: what was told is taken back, told otherwise, or told again.

use std::sync::atomic::{AtomicI64, Ordering};

use arrow::array::{Array, AsArray};
use foreline_engine::{
    Clock, Front, Graph, LatePolicy, MemorySource, Options, OrderRules, Resolver, SourceNode,
    StepNode, StreamId, TimeDomain, ViewKind, ViewNode, run,
};

use super::*;
use crate::alert::{AlertConfig, plan_rule};
use crate::testing::{Given, Table};

const ALERT: &str = "hot@a@40";

#[test]
fn an_alert_that_is_taken_back_goes_with_all_that_was_done() {
    let mut fleet = plain();
    fleet.epoch(S, &[raised(ALERT), raised("worn@a@50")], &[]);
    let done = [asked("acknowledge", ALERT).saying("seen"), asked("shelve", ALERT).until(DAY)];
    fleet.epoch(2 * S, &[], &done);
    assert_eq!(fleet.values(ALERT, "changes first_out"), "3 true");
    let taken_back = raised(ALERT).lane(Lane::Deleted);
    fleet.epoch(3 * S, std::slice::from_ref(&taken_back), &[]);
    assert_eq!(fleet.value(ALERT, "state"), "gone");
    // The other one was the first after all.
    assert_eq!(fleet.values("worn@a@50", "first_out change changes"), "true revised 2");
    fleet.epoch(4 * S, &[], &[asked("acknowledge", ALERT)]);
    assert_eq!(fleet.reasons(), ["unknown_alert"]);
    // It comes back as one that nobody has seen. Its changes go on, and the shelving is one of the rule.
    fleet.restart(2);
    fleet.epoch(5 * S, &[raised(ALERT).lane(Lane::Revised)], &[]);
    let columns = "acknowledged comments suppressed change changes";
    assert_eq!(fleet.values(ALERT, columns), "false 0 true raised 4");
    // What is taken back while it is not there is nothing.
    fleet.epoch(6 * S, std::slice::from_ref(&taken_back), &[]);
    fleet.epoch(7 * S, &[taken_back], &[]);
    assert_eq!((fleet.account.late, fleet.account.used), (1, 7));
}

#[test]
fn a_change_that_is_told_otherwise_revises_the_alert_once() {
    let mut fleet = plain();
    fleet.epoch(S, &[raised(ALERT), cleared(ALERT, 70)], &[asked("acknowledge", ALERT)]);
    // It was cleared at another time: one change is taken back, another comes late.
    let elsewhere = [cleared(ALERT, 60).lane(Lane::Late), cleared(ALERT, 70).lane(Lane::Deleted)];
    fleet.epoch(2 * S, &elsewhere, &[]);
    let columns = "state cleared_at acknowledged change changes";
    assert_eq!(fleet.values(ALERT, columns), "cleared 60 true revised 4");
    // It was not cleared at all.
    fleet.epoch(3 * S, &[cleared(ALERT, 60).lane(Lane::Deleted)], &[]);
    assert_eq!(fleet.values(ALERT, columns), "open  true revised 5");
    fleet.epoch(4 * S, &[cleared(ALERT, 90)], &[]);
    assert_eq!(fleet.values(ALERT, columns), "cleared 90 true cleared 6");
    // Other evidence of what is long over does not show.
    let evidence = Told { evidence: "{}".to_owned(), ..raised(ALERT).lane(Lane::Revised) };
    fleet.epoch(5 * S, &[evidence], &[]);
    assert_eq!(fleet.values(ALERT, columns), "cleared 90 true cleared 6");
    assert_eq!(fleet.account.used, fleet.account.input);
}

#[test]
fn what_goes_on_in_the_lane_of_late_rows_is_no_revision() {
    let mut fleet = plain();
    fleet.epoch(S, &[raised(ALERT).lane(Lane::Late)], &[]);
    assert_eq!(fleet.values(ALERT, "change changes"), "raised 1");
    fleet.epoch(2 * S, &[cleared(ALERT, 70).lane(Lane::Late)], &[]);
    assert_eq!(fleet.values(ALERT, "change changes"), "cleared 2");
}

#[test]
fn what_has_left_is_not_brought_back_by_a_correction() {
    let mut fleet = Fleet::new(&options(&json!({ "keep": "1h" })), 1);
    fleet.epoch(0, &[raised(ALERT), cleared(ALERT, 70)], &[asked("acknowledge", ALERT)]);
    fleet.epoch(60 * M, &[], &[]);
    let corrections = [
        Told { evidence: "{}".to_owned(), ..raised(ALERT).lane(Lane::Revised) },
        cleared(ALERT, 70).lane(Lane::Deleted),
        cleared(ALERT, 60).lane(Lane::Late),
    ];
    fleet.epoch(61 * M, &corrections, &[]);
    assert_eq!((fleet.rows.len(), fleet.account.late), (0, 3));
}

#[test]
fn an_alert_that_changes_without_end_takes_no_memory() {
    let mut fleet = plain();
    fleet.epoch(0, &[raised(ALERT)], &[]);
    let update = |i: i64| Told { severity: 3 + i % 2, ..told(ALERT, "updated", i, 100 + i) };
    fleet.epoch(S, &(1..500).map(update).collect::<Vec<_>>(), &[]);
    let bytes = fleet.bytes();
    fleet.epoch(2 * S, &(500..5_000).map(update).collect::<Vec<_>>(), &[]);
    assert!(fleet.bytes() < bytes + 1_000, "{} {bytes}", fleet.bytes());
    assert_eq!(fleet.values(ALERT, "severity changes"), "4 5000");
    // All of it is taken back: also what is no longer kept.
    let all = (1..5_000).map(|i| update(i).lane(Lane::Deleted));
    let all: Vec<Told> = all.chain([raised(ALERT).lane(Lane::Deleted)]).collect();
    fleet.epoch(3 * S, &all, &[]);
    assert_eq!((fleet.rows.len(), fleet.account.late), (0, 4_900));
}

/// A second later each time it is asked.
#[derive(Debug, Default)]
struct Ticks(AtomicI64);

impl Clock for Ticks {
    fn now_ns(&self) -> i64 {
        self.0.fetch_add(S, Ordering::Relaxed)
    }
}

/// The alerts of a view of the book of one rule, over readings in the order given, as (machine, state, times).
fn of_the_engine(input: &Table, order: OrderRules, options: &Options) -> Vec<Vec<String>> {
    let given: &dyn Resolver = &Given;
    let config = json!({ "when": "x > 90", "for": 3 });
    let config: AlertConfig = parse_config(&config).unwrap();
    let rule = plan_rule("hot", &config, &input.schema, given).unwrap();
    let entered = entry(&rule.output).unwrap();
    let kept = book(&rules()[..1], &BookOptions::default()).unwrap();
    let asked = arrow::array::RecordBatch::new_empty(commands_schema().arrow().clone());
    let source = |schema: &Schema, rows: &arrow::array::RecordBatch| {
        Box::new(MemorySource::new(schema, std::slice::from_ref(rows), 1).unwrap())
    };
    let step = |name: &str, kind, inputs, planned| {
        let name = name.to_owned();
        StepNode { name, kind, inputs, planned, rekeyed: false }
    };
    let relation = Relation::of_latest(&kept.output, 1).unwrap();
    let view = ViewNode::new("alerts", relation, ViewKind::Standing(StreamId::Step(2)));
    let table = Arc::clone(&view.table);
    let (readings, commands) = ("readings".to_owned(), "commands".to_owned());
    let graph = Graph {
        name: "book".to_owned(),
        sources: vec![
            SourceNode {
                name: readings,
                schema: input.schema.clone(),
                front: Front::Stream(order),
                source: source(&input.schema, &input.rows),
            },
            SourceNode {
                name: commands,
                schema: commands_schema(),
                front: Front::Stream(OrderRules::default()),
                source: source(&commands_schema(), &asked),
            },
        ],
        steps: vec![
            step("hot", "alert", vec![StreamId::Source(0)], rule),
            step("entries", "entry", vec![StreamId::Step(0)], entered),
            step("book", "book", vec![StreamId::Step(1), StreamId::Source(1)], kept),
        ],
        views: vec![view],
        sinks: Vec::new(),
    };
    run(graph, options).unwrap();
    let page = table.page(None, 1_000).unwrap();
    let columns = ["alert", "machine", "state", "raised_count", "cleared_count", "evidence"];
    let columns = columns.map(|name| page.rows.column_by_name(name).unwrap().clone());
    let text = |column: &arrow::array::ArrayRef, row| {
        if column.is_null(row) {
            return String::new();
        }
        match column.as_string_opt::<i32>() {
            Some(texts) => texts.value(row).to_owned(),
            None => column.as_primitive::<arrow::datatypes::Int64Type>().value(row).to_string(),
        }
    };
    let row = |row| columns.iter().map(|column| text(column, row)).collect();
    (0..page.rows.num_rows()).map(row).collect()
}

#[test]
fn in_the_engine_late_rows_leave_the_book_that_rows_in_order_leave() {
    let mut dice = crate::testing::Dice::new(7);
    let mut rows: Vec<(i64, String)> = Vec::new();
    for t in 0..300 {
        let x = if dice.below(3) == 0 { 20 } else { 95 };
        let late = t + i64::try_from(dice.below(6)).unwrap();
        rows.push((late, format!("m{},{t},{x}\n", dice.below(3))));
    }
    let table = |rows: &[(i64, String)]| {
        let rows = rows.iter().map(|(_, row)| row.as_str());
        Table::parse(TimeDomain::Logical, &format!("m,t,x\n{}", rows.collect::<String>()))
    };
    let in_order = of_the_engine(&table(&rows), OrderRules::default(), &Options::default());
    assert!(in_order.len() > 20, "{}", in_order.len());
    rows.sort_by_key(|(late, _)| *late);
    let correct = OrderRules { late: LatePolicy::Correct(100), ..OrderRules::default() };
    for epoch_rows in [1, 7] {
        let clock = Arc::new(Ticks::default());
        let options = Options { epoch_rows, clock, ..Options::default() };
        assert_eq!(of_the_engine(&table(&rows), correct.clone(), &options), in_order);
    }
}
