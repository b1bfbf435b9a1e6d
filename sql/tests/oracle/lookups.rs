//! What rows find in a relation that changes, against a query over the histories of both.
//!
//! Which rows stand in which epoch is left to chance, so that is read from what came out: the stream and the changes of the
//! relation, each with its epoch. A row finds what the last change of its line left there, its own epoch included.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use foreline_engine::{
    Batch, CHANGED_AT, Column, GONE, OperatorKind, PrimaryKey, Relation, Schema, StreamId,
    TimeDomain, ViewKind,
};
use foreline_operators::join::{Join, JoinConfig};

use crate::query::{Tables, texts};
use crate::world::{Lived, Pipeline, Sql, Step, live};
use crate::{Dice, each_seed};

fn readings_schema() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::new("line", DataType::Utf8),
        Column::new("place", DataType::Int64),
    ];
    Schema::new(columns, &["machine"], "cycle").unwrap()
}

/// Readings of some machines, some of them late, on lines that are there, are not, or are none.
fn readings(dice: &mut Dice) -> RecordBatch {
    let n_rows = dice.below(120);
    let machines: Vec<String> = (0..n_rows).map(|_| format!("m{}", dice.below(6))).collect();
    let cycles: Int64Array = (0..n_rows).map(|_| Some(dice.of(0, 200))).collect();
    let line = |_| (!dice.one_in(8)).then(|| format!("L{}", dice.below(6)));
    let lines: StringArray = (0..n_rows).map(line).collect();
    let columns: [(&str, ArrayRef); 4] = [
        ("machine", Arc::new(StringArray::from(machines))),
        ("cycle", Arc::new(cycles)),
        ("line", Arc::new(lines)),
        ("place", Arc::new((0..).take(n_rows).map(Some).collect::<Int64Array>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn limits_columns() -> Vec<Column> {
    vec![
        Column::new("line", DataType::Utf8),
        Column::new("since", DataType::Int64),
        Column::new("most", DataType::Float64),
        Column::new("site", DataType::Utf8),
    ]
}

fn limits_schema() -> Schema {
    let mut columns = limits_columns();
    columns.push(Column::new(CHANGED_AT, TimeDomain::UtcNanos.data_type()));
    let primary_key = PrimaryKey { columns: vec![0], position: false };
    Schema::with_primary_key(columns, vec![0], 4, primary_key).unwrap()
}

/// Limits that are put, put again with the same or other values, and deleted, whether they are there or not.
fn limits(dice: &mut Dice) -> RecordBatch {
    let n_rows = dice.below(60);
    let lines: StringArray = (0..n_rows).map(|_| Some(format!("L{}", dice.below(5)))).collect();
    let gone: BooleanArray = (0..n_rows).map(|_| Some(dice.one_in(3))).collect();
    let there: Vec<bool> = gone.iter().map(|gone| gone == Some(false)).collect();
    let since: Int64Array = there.iter().map(|there| there.then(|| dice.of(0, 9))).collect();
    let mut value = |there: bool| (there && !dice.one_in(6)).then(|| dice.of(0, 4));
    let most: Float64Array = there.iter().map(|&there| value(there).map(|v| v as f64)).collect();
    let site: StringArray =
        there.iter().map(|&there| value(there).map(|site| format!("S{site}"))).collect();
    let columns: [(&str, ArrayRef); 5] = [
        ("line", Arc::new(lines)),
        ("since", Arc::new(since)),
        ("most", Arc::new(most)),
        ("site", Arc::new(site)),
        (GONE, Arc::new(gone)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// What a sink has as a table, each row with its epoch.
fn table(batches: &[Batch], epochs: &[u64], columns: &[(&str, DataType)]) -> RecordBatch {
    let mut fields: Vec<Field> =
        columns.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect();
    fields.push(Field::new("epoch", DataType::Int64, true));
    let schema = Arc::new(ArrowSchema::new(fields));
    let part = |(batch, epoch): (&Batch, &u64)| {
        let column = |(name, t): &(&str, DataType)| {
            cast(batch.rows.column_by_name(name).unwrap(), t).unwrap()
        };
        let mut all: Vec<ArrayRef> = columns.iter().map(column).collect();
        let epoch = i64::try_from(*epoch).unwrap();
        all.push(Arc::new(Int64Array::from(vec![epoch; batch.len()])));
        RecordBatch::try_new(Arc::clone(&schema), all).unwrap()
    };
    let parts: Vec<RecordBatch> = batches.iter().zip(epochs).map(part).collect();
    concat_batches(&schema, &parts).unwrap()
}

fn case(seed: u64) -> u64 {
    let mut dice = Dice(seed);
    let (rows, changes) = (readings(&mut dice), limits(&mut dice));
    let drops = dice.one_in(2);
    let config = serde_json::json!({
        "on": ["line"], "columns": ["most", "site"], "unmatched": if drops { "drop" } else { "keep" }
    });
    let config: JoinConfig = serde_json::from_value(config).unwrap();
    let inputs = [readings_schema(), limits_schema()];
    let planned = Join::plan(&config, &inputs, &Sql::default()).unwrap();
    let output = Arc::clone(planned.output.arrow());
    let (from, beside) = (StreamId::Source(0), Some(StreamId::Versions(1)));
    let join = Step { name: "found".to_owned(), kind: "join", from, beside, planned };
    let relation = Relation::new(limits_columns(), vec![0]).unwrap();
    let pipeline = Pipeline {
        sources: vec![("readings", readings_schema(), rows.clone())],
        relations: vec![("limits", limits_schema(), changes)],
        steps: vec![join],
        views: vec![("limits".to_owned(), relation, ViewKind::Standing(StreamId::Source(1)))],
        kept: vec![StreamId::Source(0), StreamId::Log(0), StreamId::Step(0)],
    };
    let Lived { kept, epochs, n_ends, .. } = live(&pipeline, dice);
    let text = DataType::Utf8;
    let of_readings = [
        ("machine", text.clone()),
        ("cycle", DataType::Int64),
        ("line", text.clone()),
        ("place", DataType::Int64),
    ];
    let of_limits = [
        ("line", text.clone()),
        ("most", DataType::Float64),
        ("site", text),
        (GONE, DataType::Boolean),
    ];
    let tables = Tables::new();
    let read = table(&kept[0], &epochs[0], &of_readings);
    assert_eq!(read.num_rows(), rows.num_rows(), "every row is there");
    tables.put("readings", read);
    tables.put("changes", table(&kept[1], &epochs[1], &of_limits));
    let sql = format!(
        "WITH last AS (SELECT r.place, c.most, c.site, c.{GONE} AS gone,
                 ROW_NUMBER() OVER (PARTITION BY r.place ORDER BY c.epoch DESC) AS nth
               FROM readings r JOIN changes c ON c.line = r.line AND c.epoch <= r.epoch),
           found AS (SELECT * FROM last WHERE nth = 1 AND NOT gone)
         SELECT r.machine, r.cycle, r.line, r.place, f.most, f.site FROM readings r {} JOIN found f ON f.place = r.place",
        if drops { "INNER" } else { "LEFT" }
    );
    let expected = texts(&tables.ask(&sql, &plain(&output)));
    let found: Vec<RecordBatch> = kept[2].iter().map(|batch| batch.rows.clone()).collect();
    let found = texts(&concat_batches(&output, &found).unwrap());
    assert_eq!(found, expected, "{sql}");
    let hits = expected.iter().filter(|row| row[4] != "-").count() as u64;
    n_ends.min(1) * 1_000_000 + hits
}

/// The schema without dictionaries.
fn plain(schema: &ArrowSchema) -> Arc<ArrowSchema> {
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Dictionary(_, of) => Field::new(field.name(), (**of).clone(), true),
        _ => field.as_ref().clone(),
    };
    Arc::new(ArrowSchema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}

#[test]
fn rows_find_what_a_query_over_both_histories_finds() {
    let counted = each_seed(40, case);
    let (n_ended, hits) = (counted / 1_000_000, counted % 1_000_000);
    assert!(hits > 100, "{hits} rows have found something");
    println!("{n_ended} histories were stopped or killed; {hits} rows have found a limit");
}
