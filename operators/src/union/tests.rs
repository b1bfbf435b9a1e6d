//! Cases of `union`.

use foreline_engine::PrimaryKey;
use foreline_engine::TimeDomain::{Logical, UtcNanos};
use serde_json::json;

use super::*;
use crate::testing::{Cell, Table, check_joined, sameness_joined, try_plan_joined};

fn logical(text: &str) -> Table {
    Table::parse(Logical, text)
}

#[test]
fn rows_come_in_the_order_of_their_time() {
    let one = logical("m,t,x,s:string\na,0,1,u\na,5,2,\na,5,3,v\nb,7,4,w\n");
    let two = logical("m,t,s:string,x\na,-1,p,9\na,5,q,8\nc,6,r,\na,9,s,6\n");
    let expected = "m,t,x,s:string,input:int64\na,-1,9,p,1\na,0,1,u,0\na,5,2,,0\na,5,8,q,1\na,5,3,v,0\nb,7,4,w,0\nc,6,,r,1\na,9,6,s,1\n";
    check_joined("union", &json!({}), &[&one, &two], &logical(expected), 0);
    let outcome = sameness_joined("union", &json!({ "as": "line" }), &[&one, &two], 0);
    let primary_key = PrimaryKey { columns: vec![0, 1, 4], position: true };
    assert_eq!(outcome.schema.primary_key(), &primary_key);
    assert_eq!((outcome.account.used, outcome.account.in_flight), (8, 0));
}

#[test]
fn three_streams_agree_with_an_oracle_on_random_rows() {
    let tables: Vec<Table> = (0..3).map(|seed| Table::random(seed, 35, Logical)).collect();
    let inputs: Vec<&Table> = tables.iter().collect();
    let outcome = sameness_joined("union", &json!({}), &inputs, 0);
    let mut want = Vec::new();
    for (table, input) in tables.iter().zip(0..) {
        for (row, mut cells) in table.cells().into_iter().enumerate() {
            cells.push(Cell::Int(input));
            want.push((cells[0].clone(), cells[1].clone(), row as u64, input, cells));
        }
    }
    want.sort();
    let mut got: Vec<_> = outcome.rows.iter().map(|r| (r.hash, &r.cells)).collect();
    // Keys in the order of their text; the rows of a key stay as they came.
    got.sort_by_key(|(_, cells)| cells[0].clone());
    let got: Vec<_> = got.into_iter().map(|(_, cells)| cells.clone()).collect();
    assert_eq!(got, want.into_iter().map(|w| w.4).collect::<Vec<_>>());
}

#[test]
fn says_what_is_wrong() {
    let with = |text: &str, unit: &str| {
        let mut columns = logical(text).schema.columns().to_vec();
        columns[2].unit = Some(Unit::new(unit));
        Schema::new(columns, &["m"], "t").unwrap()
    };
    let try_plan = |inputs: &[Schema]| {
        try_plan_joined("union", &json!({}), inputs).map(|p| p.output).map_err(|e| e.join("; "))
    };
    let one = with("m,t,x,n:int64\n", "rpm");
    assert_eq!(
        try_plan(std::slice::from_ref(&one)).unwrap_err(),
        "this step reads two streams or more, not 1"
    );
    assert!(try_plan(&[one.clone(), with("m,t,x,n:int64\n", "/min")]).is_ok());
    assert_eq!(
        try_plan(&[one.clone(), with("m,t,x,n\n", "Hz")]).unwrap_err(),
        "column 'x' is in '{rpm}' in the first stream and in 'Hz' in stream 2; \
         column 'n' is Int64 in the first stream and Float64 in stream 2"
    );
    assert_eq!(
        try_plan(&[one.clone(), with("m,t,x,k\n", "rpm")]).unwrap_err(),
        "stream 2 has no column 'n'; stream 2 has a column 'k', the first has not"
    );
    let timed = Table::parse(UtcNanos, "m,t,x,n:int64\n").schema;
    let errors = try_plan(&[one.clone(), timed]).unwrap_err();
    assert!(errors.contains("is a timestamp, that of the other a count"), "{errors}");
    let config = json!({ "as": "x", "max_rows": 0 });
    let errors = try_plan_joined("union", &config, &[one.clone(), one]).unwrap_err();
    assert_eq!(
        errors,
        ["max_rows: at least one row must be able to wait", "as: column 'x' is there twice"]
    );
}

#[test]
fn rows_that_find_no_room_are_dead_letters() {
    crate::joining::tests::fills_up_union();
}
