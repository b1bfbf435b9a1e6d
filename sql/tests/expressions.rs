//! Expressions as users write them, against hand-made rows.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, and says where")]

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, RecordBatch,
    TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use foreline_engine::{
    Column, EvaluateError, Expression, ExpressionError, Schema, TimeDomain, Unit,
};
use foreline_sql::{MAX_LENGTH_BYTES, MAX_OPERATORS, SqlExpressions};

const MIDNIGHT_2024: i64 = 1_704_067_200_000_000_000;

fn schema() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("ts", TimeDomain::UtcNanos.data_type()),
        Column::new("T24", DataType::Float64),
        Column::new("count", DataType::Int64),
        Column::new("ok", DataType::Boolean),
    ];
    Schema::new(columns, &["machine"], "ts").unwrap()
}

fn rows() -> RecordBatch {
    let machine: DictionaryArray<Int32Type> = vec!["P-1", "P-2", "P-1"].into_iter().collect();
    let times = vec![MIDNIGHT_2024 - 1, MIDNIGHT_2024, MIDNIGHT_2024 + 1];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(machine),
        Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC")),
        Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-2.0)])),
        Arc::new(Int64Array::from(vec![Some(2), Some(0), None])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
    ];
    RecordBatch::try_new(Arc::clone(schema().arrow()), columns).unwrap()
}

fn compile(sql: &str) -> Result<Arc<dyn Expression>, ExpressionError> {
    SqlExpressions::new().compile(sql, &schema())
}

fn evaluate(sql: &str) -> Result<ArrayRef, EvaluateError> {
    let expression = compile(sql).unwrap();
    let values = expression.evaluate(&rows())?;
    assert_eq!(values.data_type(), &expression.data_type(), "{sql}");
    assert_eq!(values.len(), 3, "{sql}");
    Ok(values)
}

fn bools(sql: &str) -> Vec<Option<bool>> {
    evaluate(sql).unwrap().as_boolean().iter().collect()
}

fn floats(sql: &str) -> Vec<Option<f64>> {
    evaluate(sql).unwrap().as_primitive::<Float64Type>().iter().collect()
}

fn ints(sql: &str) -> Vec<Option<i64>> {
    evaluate(sql).unwrap().as_primitive::<Int64Type>().iter().collect()
}

fn refused(sql: &str) -> ExpressionError {
    compile(sql).expect_err(sql)
}

#[test]
fn null_follows_three_valued_logic() {
    assert_eq!(bools("T24 > 0"), [Some(true), None, Some(false)]);
    assert_eq!(bools("T24 > 0 AND false"), [Some(false); 3]);
    assert_eq!(bools("T24 > 0 OR true"), [Some(true); 3]);
    assert_eq!(bools("NOT ok"), [Some(false), None, Some(true)]);
    assert_eq!(bools("T24 IS NULL"), [Some(false), Some(true), Some(false)]);
    assert_eq!(floats("coalesce(T24, 7)"), [Some(1.5), Some(7.0), Some(-2.0)]);
}

#[test]
fn a_dictionary_key_compares_with_text() {
    assert_eq!(bools("machine = 'P-1'"), [Some(true), Some(false), Some(true)]);
    assert_eq!(bools("machine IN ('P-2', 'P-9')"), [Some(false), Some(true), Some(false)]);
    assert_eq!(bools("machine LIKE '%-2'"), [Some(false), Some(true), Some(false)]);
    assert_eq!(compile("machine").unwrap().data_type(), *schema().arrow().field(0).data_type());
    assert_eq!(compile("machine || '!'").unwrap().data_type(), DataType::Utf8);
}

#[test]
fn timestamps_compare_with_text_and_with_intervals() {
    assert_eq!(bools("ts >= '2024-01-01T00:00:00Z'"), [Some(false), Some(true), Some(true)]);
    assert_eq!(bools("ts >= timestamp '2024-01-01'"), [Some(false), Some(true), Some(true)]);
    assert_eq!(ints("date_part('year', ts)"), [Some(2023), Some(2024), Some(2024)]);
    let shifted = evaluate("ts + interval '1 second'").unwrap();
    let shifted = shifted.as_primitive::<TimestampNanosecondType>();
    assert_eq!(shifted.value(1), MIDNIGHT_2024 + 1_000_000_000);
    assert_eq!(
        compile("ts + interval '1 day'").unwrap().data_type(),
        TimeDomain::UtcNanos.data_type()
    );
}

#[test]
fn arithmetic_keeps_or_widens_types() {
    assert_eq!(floats("T24 * 2"), [Some(3.0), None, Some(-4.0)]);
    assert_eq!(floats("abs(T24) + count"), [Some(3.5), None, None]);
    assert_eq!(ints("count + 1"), [Some(3), Some(1), None]);
    assert_eq!(ints("1"), [Some(1); 3], "a constant is given for every row");
    assert_eq!(ints("character_length('abc')"), [Some(3); 3], "int32 is widened");
    assert_eq!(floats("CAST(T24 AS REAL)"), [Some(1.5), None, Some(-2.0)]);
    assert_eq!(floats("CASE WHEN ok THEN T24 ELSE 0 END"), [Some(1.5), Some(0.0), Some(0.0)]);
}

#[test]
fn a_float_divided_by_zero_is_infinite_and_an_integer_is_an_error() {
    assert_eq!(floats("T24 / 0.0"), [Some(f64::INFINITY), None, Some(f64::NEG_INFINITY)]);
    let error = evaluate("10 / count").unwrap_err();
    assert!(error.0.to_lowercase().contains("divide by zero"), "{error}");
}

#[test]
fn a_cast_that_does_not_fit_is_an_error() {
    let error = evaluate("CAST(machine AS DOUBLE)").unwrap_err();
    assert!(error.0.contains("P-1"), "{error}");
    assert_eq!(floats("TRY_CAST(machine AS DOUBLE)"), [None; 3]);
}

#[test]
fn no_rows_give_no_values() {
    let none = rows().slice(0, 0);
    for sql in ["T24 > 0", "1", "machine = 'x'"] {
        assert_eq!(compile(sql).unwrap().evaluate(&none).unwrap().len(), 0, "{sql}");
    }
}

#[test]
fn an_unknown_column_is_named_with_those_there_are() {
    let error = refused("T24 > 0 AND vibraton > 1");
    assert_eq!(error.message, "there is no column 'vibraton'");
    assert_eq!(error.at, Some(12..20));
    let (name, known) = error.unknown.unwrap();
    assert_eq!(name, "vibraton");
    assert_eq!(known, ["machine", "ts", "T24", "count", "ok"]);
    assert_eq!(refused("t24 > 0").message, "there is no column 't24'");
}

#[test]
fn an_unknown_function_is_named() {
    let error = refused("sqroot(T24)");
    assert_eq!(error.message, "there is no function 'sqroot'");
    assert_eq!(error.at, Some(0..6));
    assert!(error.unknown.unwrap().1.contains(&"sqrt".to_owned()));
}

#[test]
fn functions_that_are_not_immutable_are_refused_by_name() {
    for (sql, name) in [
        ("T24 > random()", "random"),
        ("ts < now()", "now"),
        ("uuid() = machine", "uuid"),
        ("ts < current_date()", "current_date"),
    ] {
        let error = refused(sql);
        assert!(error.message.starts_with(&format!("function '{name}'")), "{error}");
        assert!(error.message.ends_with("so replay would differ"), "{error}");
        assert!(error.at.is_some(), "{sql}");
    }
}

#[test]
fn what_needs_other_rows_is_refused() {
    assert!(refused("avg(T24)").message.contains("use the step 'window'"));
    assert!(refused("lag(T24) OVER ()").message.contains("looks at other rows"));
    assert!(refused("T24 > (SELECT 1)").message.contains("an expression sees one row"));
    assert!(refused("EXISTS (SELECT 1)").message.contains("an expression sees one row"));
}

#[test]
fn parse_errors_have_a_place() {
    let error = refused("T24 > > 1");
    assert_eq!(error.at, Some(6..7), "{error}");
    assert!(error.message.contains("expected"), "{error}");
    assert!(refused("machine = 'P-1").message.contains("string literal"));
    assert!(refused("T24 plus").message.contains("plus"));
    assert_eq!(refused("  ").message, "the expression is empty");
    assert!(refused("T24 T24 T24").at.is_some());
}

#[test]
fn results_that_no_column_can_have_are_refused() {
    assert!(refused("NULL").message.contains("CAST(NULL AS DOUBLE)"));
    assert!(refused("ts - ts").message.contains("date_part"));
    assert!(refused("[1, 2]").message.contains("cast it"));
}

#[test]
fn types_that_do_not_fit_are_refused() {
    assert!(compile("T24 AND ok").is_err());
    assert!(compile("ok + 1").is_err());
    assert!(compile("sqrt(ok)").is_err());
}

#[test]
fn length_and_nesting_are_bounded() {
    // Expressions are compiled on the command's main thread, whose stack is larger than a test's.
    let main = std::thread::Builder::new().stack_size(8 << 20).spawn(bounds);
    main.unwrap().join().unwrap();
}

fn bounds() {
    let long = format!("T24 > {}", "1".repeat(MAX_LENGTH_BYTES));
    assert!(refused(&long).message.contains("the limit is 4096"));
    let wide = vec!["T24"; MAX_OPERATORS + 2].join("+");
    assert!(refused(&wide).message.contains("the limit is 150"));
    let most = vec!["T24"; MAX_OPERATORS + 1].join("+");
    assert_eq!(floats(&most)[0], Some(1.5 * 151.0));
    let names: Vec<String> = (0..300).map(|i| format!("'P-{i}'")).collect();
    let many = format!("machine IN ({})", names.join(", "));
    assert_eq!(bools(&many), [Some(true); 3]);
    let deep = format!("{}T24{}", "(".repeat(200), ")".repeat(200));
    let error = refused(&deep).message;
    assert!(error.contains("the limit is 150"), "{error}");
    let deep = format!("{}T24{}", "(".repeat(100), ")".repeat(100));
    let error = refused(&deep).message;
    assert!(error.contains("nested too deeply"), "{error}");
}

#[test]
fn whole_numbers_that_overflow_are_errors_not_other_numbers() {
    for sql in [
        "count * 9223372036854775807",
        "count + 9223372036854775807",
        "-count - 9223372036854775807",
    ] {
        let error = evaluate(sql).unwrap_err();
        assert!(error.0.contains("verflow"), "{sql}: {error}");
    }
    for sql in [
        "9223372036854775807 + 1",
        "count + 9223372036854775807 * 2",
        "T24 > 9223372036854775807 + 1",
    ] {
        assert!(refused(sql).message.contains("verflow"), "{sql}: {}", refused(sql).message);
    }
    assert_eq!(floats("T24 * 2 + 1")[0], Some(4.0));
}

#[test]
fn functions_that_make_values_of_any_length_are_refused() {
    for sql in [
        "repeat(machine, 1000000000)",
        "lpad(machine, 2000000000)",
        "rpad(machine, 2000000000, 'x')",
    ] {
        let error = refused(sql);
        assert!(error.message.contains("of any length"), "{sql}: {}", error.message);
    }
}

fn in_units(sql: &str) -> Result<Option<String>, String> {
    let units = [("v", "mm/s"), ("w", "in/s"), ("g", "[g]"), ("a", "degC"), ("b", "degC")];
    let mut columns = schema().columns().to_vec();
    columns.extend(units.iter().map(|(name, unit)| {
        Column::new(*name, DataType::Float64).with_unit(Some(Unit::new(unit)))
    }));
    columns.push(Column::new("n", DataType::Float64));
    let schema = Schema::new(columns, &["machine"], "ts").unwrap();
    let compiled = SqlExpressions::new().compile(sql, &schema).map_err(|e| e.message)?;
    Ok(compiled.unit().map(|u| u.code().to_owned()))
}

#[test]
fn columns_of_different_units_are_not_added_or_compared() {
    for sql in [
        "v + g",
        "g - v",
        "v > g",
        "abs(v) <= g + g",
        "greatest(v, g)",
        "n * (v + g)",
        "v BETWEEN 1 AND g",
    ] {
        let message = in_units(sql).unwrap_err();
        assert!(message.contains("they cannot be added or compared"), "{sql}: {message}");
    }
    let message = in_units("v + w").unwrap_err();
    assert_eq!(
        message,
        "'v' is in 'mm/s' and 'w' in '[in_i]/s'; make them one with the step 'convert'"
    );
}

#[test]
fn a_unit_follows_where_it_is_known() {
    let known =
        ["v", "-v", "v + v", "abs(v - v)", "coalesce(v, v)", "round(v)", "CAST(v AS DOUBLE)"];
    for sql in known {
        assert_eq!(in_units(sql).unwrap().as_deref(), Some("mm/s"), "{sql}");
    }
    let unknown = [
        "v * 2",
        "v * g",
        "v / w",
        "v + 1",
        "v + n",
        "n",
        "v > 1",
        "a - b",
        "CAST(v AS VARCHAR)",
        "sqrt(v)",
    ];
    for sql in unknown {
        assert_eq!(in_units(sql).unwrap(), None, "{sql}");
    }
}
