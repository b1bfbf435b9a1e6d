//! Cases of `explode`.

use arrow::array::{ListArray, StringArray};
use arrow::datatypes::Float32Type;
use foreline_engine::{SampleRate, TimeDomain, Watermarks, WorkerContext};
use serde_json::{Value, json};

use super::*;
use crate::testing::{Cell, Table, check, plan, sameness, try_plan};

fn logical(text: &str) -> Table {
    Table::parse(TimeDomain::Logical, text)
}

fn with_units(text: &str, units: &[(&str, &str)]) -> Schema {
    let mut columns = logical(text).schema.columns().to_vec();
    for (name, unit) in units {
        columns.iter_mut().find(|c| c.name == *name).unwrap().unit = Some(Unit::new(unit));
    }
    Schema::new(columns, &["m"], "t").unwrap()
}

#[test]
fn agrees_with_pandas() {
    let readings = Table::parse(TimeDomain::UtcNanos, include_str!("../../reference/readings.csv"));
    let expected = include_str!("../../reference/explode_long.csv");
    let outcome = sameness("explode", &json!({ "columns": ["x", "y"] }), &readings);
    outcome.assert_close(&Table::parse(TimeDomain::UtcNanos, expected));
}

#[test]
fn the_other_columns_stay_and_nulls_make_rows_if_wanted() {
    let input = logical("m,t,x,s:string,y\na,0,1,u,2\nb,1,,v,3\n");
    let expected = "m,t,s:string,name:string,value\na,0,u,y,2\na,0,u,x,1\nb,1,v,y,3\n";
    let config = json!({ "columns": ["y", "x"] });
    check("explode", &config, &input, &logical(expected));
    let config = json!({ "columns": ["y", "x"], "nulls": true, "name": "k", "value": "v" });
    let expected = "m,t,s:string,k:string,v\na,0,u,y,2\na,0,u,x,1\nb,1,v,y,3\nb,1,v,x,\n";
    check("explode", &config, &input, &logical(expected));
    let outcome = sameness("explode", &config, &input);
    assert_eq!(outcome.schema.primary_key().columns, [0, 1, 3]);
    assert_eq!((outcome.account.used, outcome.account.emitted), (2, 4));
}

#[test]
fn units_are_one_or_said() {
    let input = with_units("m,t,x,y,z\n", &[("x", "mm/s"), ("y", "mm/s"), ("z", "Cel")]);
    let output = plan("explode", &json!({ "columns": ["x", "y"] }), &input).output;
    assert_eq!(output.column("value").unwrap().unit, Some(Unit::new("mm/s")));
    let errors = try_plan("explode", &json!({ "columns": ["x", "z"] }), &input).unwrap_err();
    assert_eq!(errors, ["columns: column 'x' has 'mm/s' and column 'z' 'Cel'"]);
    let config = json!({ "columns": ["x", "z"], "unit": "unit" });
    let table = Table { schema: input.clone(), ..logical("m,t,x,y,z\na,0,1,2,3\n") };
    let outcome = sameness("explode", &config, &table);
    let text = |t: &str| Cell::Text(t.to_owned());
    assert_eq!(outcome.column("unit"), [text("mm/s"), text("Cel")]);
    assert_eq!(outcome.schema.column("value").unwrap().unit, None);
}

fn waves() -> Table {
    let table = logical("m,t,s:string\na,0,u\na,1,v\nb,1,w\n");
    let rate = SampleRate::new(10.0).unwrap();
    let mut columns = table.schema.columns().to_vec();
    columns.push(Column::waveform("wave", rate).with_unit(Some(Unit::new("[g]"))));
    let schema = Schema::new(columns, &["m"], "t").unwrap();
    let lists = [Some(vec![Some(1.0_f32), Some(2.5)]), None, Some(vec![Some(4.0)])];
    let lists = ListArray::from_iter_primitive::<Float32Type, _, _>(lists);
    let (_, offsets, values, nulls) = lists.into_parts();
    let item = Arc::new(arrow::datatypes::Field::new_list_field(DataType::Float32, false));
    let lists = ListArray::new(item, offsets, values, nulls);
    let mut arrays = table.rows.columns().to_vec();
    arrays.push(Arc::new(lists));
    Table { rows: RecordBatch::try_new(Arc::clone(schema.arrow()), arrays).unwrap(), schema }
}

#[test]
fn samples_become_rows() {
    let expected = "m,t,s:string,index:int64,value\na,0,u,0,1\na,0,u,1,2.5\nb,1,w,0,4\n";
    check("explode", &json!({ "list": "wave" }), &waves(), &logical(expected));
    let planned = plan("explode", &json!({ "list": "wave" }), &waves().schema);
    assert_eq!(planned.output.column("value").unwrap().unit, Some(Unit::new("[g]")));
    assert!(planned.late.refusal(1).is_some());
}

#[derive(Default)]
struct Heard(Vec<Batch>, Vec<Batch>);

impl Out for Heard {
    fn emit(&mut self, rows: Batch) {
        self.0.push(rows);
    }
    fn emit_late(&mut self, rows: Batch) {
        self.1.push(rows);
    }
    fn watermarks(&mut self, _: Watermarks) {}
    fn dead(&mut self, _: foreline_engine::DeadLetter) {}
    fn count(&mut self, _: Account) {}
}

#[test]
fn a_value_that_a_correction_takes_away_is_deleted() {
    let table = logical("m,t,x,y\na,0,,2\na,1,3,4\n");
    let planned = plan("explode", &json!({ "columns": ["x", "y"] }), &table.schema);
    let mut operator = (planned.build)(WorkerContext { index: 0, peers: 1 }).unwrap();
    let hashes = foreline_engine::hash_keys(&table.rows, table.schema.key());
    let late = Batch::new(table.rows.clone(), hashes, vec![0, 1].into()).unwrap();
    let mut revised = late.clone();
    revised.revision = Some(UInt32Array::from(vec![1, 2]));
    revised.deleted = Some(BooleanArray::from(vec![false, true]));
    let none = Batch::empty(Arc::clone(table.schema.arrow()));
    let watermarks = Watermarks::none(table.schema.key_arrow());
    let epoch = Epoch { id: 0, clock_ns: 0, inputs: vec![], commands: vec![], ended: vec![] };
    let input = Input { rows: &none, late: &late, revised: &revised, watermarks: &watermarks };
    let mut heard = Heard::default();
    operator.epoch(&epoch, &[input], &mut heard).unwrap();
    let names = |b: &Batch| -> Vec<String> {
        let names: &StringArray = b.rows.column(2).as_string();
        names.iter().map(|n| n.unwrap().to_owned()).collect()
    };
    assert_eq!(names(&heard.1[0]), ["y", "x", "y"]);
    let revised = &heard.0[1];
    assert_eq!(names(revised), ["x", "y", "x", "y"]);
    assert_eq!(revised.revision.as_ref().unwrap().values(), &[1, 1, 2, 2]);
    let deleted: Vec<bool> = revised.deleted.as_ref().unwrap().iter().flatten().collect();
    assert_eq!(deleted, [true, false, true, true]);
}

#[test]
fn says_what_is_wrong() {
    let input = logical("m,t,x,y,s:string\n").schema;
    let cases: &[(Value, &[&str])] = &[
        (json!({}), &["nothing says what becomes rows"]),
        (json!({ "columns": ["x"], "list": "y" }), &["columns and list exclude one another"]),
        (
            json!({ "columns": ["x", "x", "s", "m", "z"] }),
            &[
                "columns[1]: column 'x' is there twice",
                "columns[2]: column 's' is Utf8, not a number",
                "columns[3]: column 'm' is part of the key",
                "columns[4]: there is no column 'z'",
            ],
        ),
        (json!({ "columns": ["x"], "name": "s" }), &["column 's' is there twice"]),
        (json!({ "list": "x" }), &["list: column 'x' is Float64, not waveforms"]),
    ];
    for (config, expected) in cases {
        assert_eq!(try_plan("explode", config, &input).unwrap_err(), *expected, "{config}");
    }
}
