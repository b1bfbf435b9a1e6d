//! What is found before anything is connected.

use super::*;

fn mistakes(config: Value, extension: Extension) -> Vec<(String, String)> {
    let planned = planned("postgresql://localhost/db", config, &schema(), extension);
    planned.unwrap_err().into_iter().map(|e| (e.at, e.message)).collect()
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let config = json!({
        "key": ["machin", "machine", "machine"],
        "table": "",
        "commit_rows": 0,
        "timeout": "0s",
        "retention": "0s",
        "aggregates": { "hourly": { "every": "1h", "columns": { "w": ["avg"], "machine": ["min"] } } },
    });
    let found = mistakes(config, Extension::WhereThere);
    let at: Vec<&str> = found.iter().map(|(at, _)| at.as_str()).collect();
    assert_eq!(
        at,
        [
            "key[0]",
            "key[2]",
            "key",
            "table",
            "retention",
            "aggregates.hourly.columns.machine",
            "aggregates.hourly.columns.w",
            "commit_rows",
            "timeout",
        ],
        "{found:?}"
    );
}

#[test]
fn a_key_tells_the_rows_of_the_stream_apart() {
    let about = |config| mistakes(config, Extension::WhereThere).remove(0).1;
    assert!(about(json!({ "key": ["machine"] })).contains("needs the time 'window_end'"));
    assert!(about(json!({ "key": ["window_end"] })).contains("differ only in 'machine'"));
    assert!(about(json!({ "key": ["machine", "window_end", "v"] })).contains("floating point"));
    let flat = json!({ "key": ["machine", "window_end"], "partition": "none" });
    assert!(planned("postgresql://localhost/db", flat, &schema(), Extension::WhereThere).is_ok());
}

#[test]
fn rows_that_are_replaced_as_time_goes_on_are_not_cut_by_it() {
    let primary_key = PrimaryKey { columns: vec![0], position: false };
    let of_view = |schema: &Schema| {
        let (columns, key) = (schema.columns().to_vec(), schema.key().to_vec());
        Schema::with_primary_key(columns, key, schema.time(), primary_key.clone()).unwrap()
    };
    let of_view = of_view(&schema());
    let url = "postgresql://localhost/db";
    let whole = planned(url, json!({}), &of_view, Extension::WhereThere).unwrap();
    assert!(!whole.sql.unwrap().contains("create_hypertable"), "it is a plain table");
    let cut = planned(url, json!({ "partition": "1d" }), &of_view, Extension::WhereThere);
    let errors = cut.unwrap_err();
    assert_eq!(errors[0].at, "partition", "{errors:?}");
}

#[test]
fn what_is_of_timescale_is_not_of_postgres() {
    for (config, at) in [
        (json!({ "partition": "1d", "compress_after": "7d" }), "compress_after"),
        (json!({ "retention": "7d" }), "retention"),
    ] {
        assert_eq!(mistakes(config, Extension::Never)[0].0, at);
    }
}

#[test]
fn names_and_types_that_a_table_cannot_have() {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("cycle", DataType::Int64),
        Column::new("_revision", DataType::Float64),
        Column::new("odd", DataType::Float16),
        Column::new("x".repeat(64), DataType::Float64),
    ];
    let schema = Schema::new(columns, &["machine"], "cycle").unwrap();
    let found = planned("postgresql://localhost/db", json!({}), &schema, Extension::WhereThere);
    let found: Vec<String> = found.unwrap_err().into_iter().map(|e| e.message).collect();
    for (message, part) in found.iter().zip(["_revision", "Float16", "64", "how much of it"]) {
        assert!(message.contains(part) || part == "64", "{message}");
    }
    assert_eq!(found.len(), 4, "{found:?}");
}
