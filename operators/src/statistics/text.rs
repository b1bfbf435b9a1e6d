//! JSON that can be read and compared: a list or a map of plain values is one line, everything else is indented.

use serde_json::Value;

/// Longest line of plain values; a longer list has a line a value.
const MAX_LINE: usize = 240;

/// The text of a value, with a line break at its end.
pub(super) fn readable(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text.push('\n');
    text
}

fn write(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(map) if !on_one_line(map.values(), value) => {
            let entries = map.iter().map(|(name, v)| (Some(name), v));
            block(entries, ['{', '}'], depth, text);
        }
        Value::Array(items) if !on_one_line(items.iter(), value) => {
            block(items.iter().map(|v| (None, v)), ['[', ']'], depth, text);
        }
        other => line(other, text),
    }
}

fn on_one_line<'a>(mut values: impl Iterator<Item = &'a Value>, whole: &Value) -> bool {
    let plain = values.all(|v| match v {
        Value::Array(items) => items.iter().all(|v| !v.is_array() && !v.is_object()),
        other => !other.is_object(),
    });
    plain && whole.to_string().len() <= MAX_LINE
}

/// A value on one line, with blanks where people put them.
fn line(value: &Value, text: &mut String) {
    let join = |parts: Vec<String>| parts.join(", ");
    let shown = |v: &Value| {
        let mut shown = String::new();
        line(v, &mut shown);
        shown
    };
    match value {
        Value::Object(map) => {
            let each =
                map.iter().map(|(n, v)| format!("{}: {}", Value::from(n.as_str()), shown(v)));
            text.push_str(&format!("{{ {} }}", join(each.collect())));
        }
        Value::Array(items) => {
            text.push_str(&format!("[{}]", join(items.iter().map(shown).collect())));
        }
        plain => text.push_str(&plain.to_string()),
    }
}

fn block<'a>(
    entries: impl Iterator<Item = (Option<&'a String>, &'a Value)>,
    [open, close]: [char; 2],
    depth: usize,
    text: &mut String,
) {
    let indent = |depth: usize| "  ".repeat(depth);
    text.push(open);
    for (i, (name, value)) in entries.enumerate() {
        text.push_str(if i == 0 { "\n" } else { ",\n" });
        text.push_str(&indent(depth + 1));
        if let Some(name) = name {
            text.push_str(&format!("{}: ", Value::from(name.as_str())));
        }
        write(value, depth + 1, text);
    }
    text.push('\n');
    text.push_str(&indent(depth));
    text.push(close);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_same_when_read_again_and_lines_are_short() {
        let value = serde_json::json!({
            "kind": "summary",
            "overall": [{ "column": "x \"1\"", "mean": 0.1 }, { "column": "y", "mean": -3.0 }],
            "empty": [], "none": null, "center": [1.5, 2.0],
        });
        let text = readable(&value);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        let expected = [
            "{",
            "  \"kind\": \"summary\",",
            "  \"overall\": [",
            "    { \"column\": \"x \\\"1\\\"\", \"mean\": 0.1 },",
            "    { \"column\": \"y\", \"mean\": -3.0 }",
            "  ],",
            "  \"empty\": [],",
            "  \"none\": null,",
            "  \"center\": [1.5, 2.0]",
            "}",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_long_list_has_a_line_a_value() {
        let long: Value = (0..200).collect::<Vec<i32>>().into();
        assert_eq!(readable(&long).lines().count(), 202);
    }
}
