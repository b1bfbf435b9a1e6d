//! Cases of `cast`.

use foreline_engine::TimeDomain::Logical;
use foreline_engine::Unit;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Cell, Table, check, plan, sameness, try_plan};

#[test]
fn text_becomes_numbers_truth_and_back() {
    let input = Table::parse(
        Logical,
        "m,t,f:string,i:string,b:string,n,k:int64\na,0, 1.5e-3 ,-12,yes,2,0\na,1,,,,,\nb,2,7,9,FALSE,-0.5,3\n",
    );
    let config = json!({ "columns": { "f": "float64", "i": "int64", "b": "bool", "n": "string", "k": "bool" } });
    let expected = "m,t,f,i:int64,b:bool,n:string,k:bool\na,0,0.0015,-12,true,2.0,false\na,1,,,,,\nb,2,7,9,false,-0.5,true\n";
    check("cast", &config, &input, &Table::parse(Logical, expected));
}

#[test]
fn what_does_not_fit_is_a_dead_letter_or_null() {
    let input = Table::parse(
        Logical,
        "m,t,f:string,n\na,0,1,3\na,1,one,3\nb,2,inf,4\nb,3,2,2.5\nb,4,1e400,1e19\nb,5,3,-0\n",
    );
    let config = json!({ "columns": { "f": "float64", "n": "int64" } });
    let outcome = sameness("cast", &config, &input);
    let mut kept: Vec<_> = outcome.rows.iter().map(|r| r.time).collect();
    kept.sort_unstable();
    assert_eq!(kept, [0, 5]);
    assert_eq!((outcome.account.used, outcome.account.dead), (2, 4));
    assert!(outcome.dead.iter().all(|d| d.3 == "bad_value"), "{:?}", outcome.dead);
    assert_eq!(outcome.dead[0].4, "'one' in column 'f' does not fit Float64");
    assert_eq!(outcome.dead[2].4, "'2.5' in column 'n' does not fit Int64");
    let config = json!({ "columns": { "f": "float64", "n": "int64" }, "on_error": "set_null" });
    let expected = "m,t,f,n:int64\na,0,1,3\na,1,,3\nb,2,,4\nb,3,2,\nb,4,,\nb,5,3,0\n";
    check("cast", &config, &input, &Table::parse(Logical, expected));
}

#[test]
fn times_are_read_from_text_and_counts() {
    let input = Table::parse(
        Logical,
        "m,t,a:string,b:int64,c,d:string\na,0,2020-01-01T00:00:00.5Z,1577836800500,1577836800.5,1577836800\na,1,2020-01-01T01:00:00+01:00,0,-0.25,-1\n",
    );
    let config = json!({ "columns": {
        "a": "timestamp", "b": "timestamp_ms", "c": "timestamp_s", "d": "timestamp_s" } });
    let outcome = sameness("cast", &config, &input);
    let new_year = 1_577_836_800_000_000_000_i64;
    let half = 500_000_000;
    let want = [
        ("a", [new_year + half, new_year]),
        ("b", [new_year + half, 0]),
        ("c", [new_year + half, -half / 2]),
        ("d", [new_year, -1_000_000_000]),
    ];
    for (name, times) in want {
        assert_eq!(outcome.column(name), times.map(Cell::Int), "{name}");
    }
    let times = Table { schema: outcome.schema.clone(), ..batch_of(&input, &config) };
    let config = json!({ "columns": { "a": "string", "b": "int64" } });
    let back = sameness("cast", &config, &times);
    assert_eq!(back.column("b")[0], Cell::Int(new_year + half));
    assert_eq!(back.column("a")[0], Cell::Text("2020-01-01T00:00:00.500Z".to_owned()));
}

fn batch_of(input: &Table, config: &Value) -> Table {
    let planned = plan("cast", config, &input.schema);
    let casts = Casts {
        casts: vec![
            (2, To::Timestamp),
            (3, To::TimestampMs),
            (4, To::TimestampS),
            (5, To::TimestampS),
        ],
        on_error: OnError::DeadLetter,
        output: planned.output.clone(),
    };
    let rows = casts.apply(&input.rows).unwrap().0;
    Table { schema: planned.output, rows }
}

#[test]
fn a_unit_stays_with_numbers() {
    let mut columns = Table::parse(Logical, "m,t,x,y\n").schema.columns().to_vec();
    columns[2].unit = Some(Unit::new("mm/s"));
    columns[3].unit = Some(Unit::new("mm/s"));
    let input = Schema::new(columns, &["m"], "t").unwrap();
    let config = json!({ "columns": { "x": "int64", "y": "string" } });
    let output = plan("cast", &config, &input).output;
    assert_eq!(output.column("x").unwrap().unit, Some(Unit::new("mm/s")));
    assert_eq!(output.column("y").unwrap().unit, None);
}

#[test]
fn says_what_is_wrong() {
    let input = Table::parse(Logical, "m,t,x,b:bool\n");
    let cases: &[(Value, &[&str])] = &[
        (json!({ "columns": {} }), &["columns: no column is named"]),
        (
            json!({ "columns": { "m": "int64", "t": "string", "z": "bool", "x": "timestamp", "b": "timestamp_s" } }),
            &[
                "columns.m: column 'm' tells rows apart and must stay as it is",
                "columns.t: column 't' tells rows apart and must stay as it is",
                "columns.z: there is no column 'z'",
                "columns.x: column 'x' is Float64, which cannot become that",
                "columns.b: column 'b' is Boolean, which cannot become that",
            ],
        ),
    ];
    for (config, expected) in cases {
        let errors = try_plan("cast", config, &input.schema).unwrap_err();
        assert_eq!(errors, *expected, "{config}");
    }
}
