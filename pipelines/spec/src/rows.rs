//! Rows written out in a test, as a CSV file that the source can read in place of its own input.

use serde_json::{Map, Value};

/// `rows` as comma-separated text with a header of `columns`; a column left out is empty, which reads as null.
///
/// Text and timestamps are written as they stand, quoted where CSV needs it; timestamps are RFC 3339. A list is a waveform,
/// its samples with `;` between them.
#[must_use]
pub fn rows_to_csv<'c>(
    columns: impl IntoIterator<Item = &'c str>,
    rows: &[Map<String, Value>],
) -> String {
    let columns: Vec<&str> = columns.into_iter().collect();
    let mut text = String::new();
    let mut line = |fields: Vec<String>| {
        text.push_str(&fields.join(","));
        text.push('\n');
    };
    line(columns.iter().map(|c| quoted(c)).collect());
    for row in rows {
        let field = |column: &&str| match row.get(*column) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(s)) => quoted(s),
            Some(Value::Array(samples)) => quoted(&list(samples)),
            Some(other) => quoted(&other.to_string()),
        };
        line(columns.iter().map(field).collect());
    }
    text
}

/// A list of samples as a field has it.
fn list(samples: &[Value]) -> String {
    samples.iter().map(Value::to_string).collect::<Vec<_>>().join(";")
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::rows_to_csv;

    #[test]
    fn rows_are_written_in_the_order_of_the_columns() {
        let row = |json: serde_json::Value| json.as_object().unwrap().clone();
        let rows = [
            row(serde_json::json!({ "v": [1.5, -2], "machine": "P,1" })),
            row(serde_json::json!({ "machine": "a \"b\"", "v": null })),
        ];
        let text = rows_to_csv(["machine", "ts", "v"], &rows);
        assert_eq!(text, "machine,ts,v\n\"P,1\",,1.5;-2\n\"a \"\"b\"\"\",,\n");
    }
}
