//! Random views over random histories, whatever the number of workers, the cuts, and how often the run dies.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::TimestampNanosecondType;
use foreline_engine::{Batch, Relation, StreamId};

use crate::graph::Case;
use crate::query::{Tables, texts};
use crate::world::{Lived, Seen, live};
use crate::{Dice, each_seed};

/// The first rows of a source, each with its place.
fn table(rows: &RecordBatch, n_rows: usize) -> RecordBatch {
    let rows = rows.slice(0, n_rows);
    let place = Int64Array::from_iter_values(0..i64::try_from(n_rows).unwrap());
    let mut columns: Vec<_> = rows
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .zip(rows.columns().iter().cloned())
        .collect();
    columns.push(("position".to_owned(), Arc::new(place)));
    RecordBatch::try_from_iter(columns).unwrap()
}

/// What a query finds of each view, over what the sources had said.
fn expected(case: &Case, inputs: &[usize], tables: &Tables) -> Vec<Vec<Vec<String>>> {
    for ((name, _, rows), n_rows) in case.sources.iter().zip(inputs) {
        tables.put(name, table(rows, *n_rows));
    }
    let found = case.views.iter().map(|view| {
        let rows = tables.ask(&view.sql, view.relation.arrow());
        tables.put(&view.name, rows.clone());
        texts(&rows)
    });
    found.collect()
}

fn agrees(case: &Case, seen: &Seen, tables: &Tables) {
    let expected = expected(case, &seen.inputs, tables);
    for (i, (view, expected)) in case.views.iter().zip(expected).enumerate() {
        let found = texts(&seen.views[i]);
        assert_eq!(
            found, expected,
            "'{}' ({:?}) after {:?} rows: {}",
            view.name, view.kind, seen.inputs, view.sql
        );
    }
}

/// The row less its last `n` columns.
fn without_last(rows: &RecordBatch, n: usize) -> Vec<Vec<String>> {
    let kept: Vec<usize> = (0..rows.num_columns() - n).collect();
    // One by one, so that they stay in their order.
    (0..rows.num_rows()).flat_map(|r| texts(&rows.slice(r, 1).project(&kept).unwrap())).collect()
}

fn key(relation: &Relation, row: &[String]) -> Vec<String> {
    relation.key().iter().map(|&k| row[k].clone()).collect()
}

/// What stands when the log of a view is read to its end.
fn replayed(relation: &Relation, log: &[Batch]) -> Vec<Vec<String>> {
    let mut stands: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    let mut clock_ns = i64::MIN;
    for batch in log {
        let n = batch.rows.num_columns();
        let gone = batch.rows.column(n - 1).as_boolean();
        let times = batch.rows.column(n - 2).as_primitive::<TimestampNanosecondType>();
        for (r, row) in without_last(&batch.rows, 2).into_iter().enumerate() {
            assert!(clock_ns <= times.value(r), "times of changes go on");
            clock_ns = times.value(r);
            let key = key(relation, &row);
            let before = stands.remove(&key);
            assert!(!gone.value(r) || before.is_some(), "what was not there has gone: {row:?}");
            if !gone.value(r) {
                assert_ne!(before.as_ref(), Some(&row), "nothing has changed");
                stands.insert(key, row);
            }
        }
    }
    let mut all: Vec<_> = stands.into_values().collect();
    all.sort();
    all
}

/// What a sink has that keeps a table like the view.
fn kept(relation: &Relation, state: &[Batch]) -> Vec<Vec<String>> {
    let mut rows: BTreeMap<Vec<String>, (u32, Option<Vec<String>>)> = BTreeMap::new();
    for batch in state {
        let (revision, deleted) = (batch.revision.as_ref(), batch.deleted.as_ref());
        for (r, row) in without_last(&batch.rows, 1).into_iter().enumerate() {
            let revision = revision.unwrap().value(r);
            let kept = rows.entry(key(relation, &row)).or_default();
            assert!(kept.0 < revision, "revisions of a row go up");
            *kept = (revision, (!deleted.unwrap().value(r)).then_some(row));
        }
    }
    let mut all: Vec<_> = rows.into_values().filter_map(|(_, row)| row).collect();
    all.sort();
    all
}

fn case(seed: u64) -> u64 {
    let mut dice = Dice(seed);
    let case = Case::random(&mut dice);
    let read: Vec<usize> = dice.some(&(0..case.views.len()).collect::<Vec<_>>(), 3);
    let streams = read.iter().flat_map(|&v| [StreamId::Log(v), StreamId::View(v)]);
    let Lived { seen, kept: sinks, n_ends, .. } = live(&case.pipeline(streams.collect()), dice);
    let tables = Tables::new();
    seen.iter().for_each(|seen| agrees(&case, seen, &tables));
    let end = seen.last().unwrap();
    let all: Vec<usize> = case.sources.iter().map(|s| s.2.num_rows()).collect();
    assert_eq!(end.inputs, all, "every row is in it");
    for (i, &v) in read.iter().enumerate() {
        let (view, stands) = (&case.views[v], texts(&end.views[v]));
        let named = format!("of '{}' ({:?})", view.name, view.kind);
        assert_eq!(replayed(&view.relation, &sinks[2 * i]), stands, "the log {named}");
        assert_eq!(kept(&view.relation, &sinks[2 * i + 1]), stands, "the table {named}");
    }
    n_ends
}

#[test]
fn views_hold_what_a_query_over_the_same_history_finds() {
    let n_ends = each_seed(40, case);
    println!("{n_ends} runs were stopped or killed");
}
