//! One setting of a pipeline file by its place, such as `steps.smooth.moving_average.rows`: found, replaced, written back.
//!
//! What a reader would get wrong: a key may hold dots itself, and the longest key that fits is taken. A setting must stand
//! in the file, so that a search has something to compare with and its result a place to go.

use std::collections::BTreeMap;

use serde_json::{Number, Value as Json};

use crate::file::{Candidates, RangeConfig, Scale};
use crate::yaml::{Node, Span, Value};

/// Values of a range where the file does not say how many.
const STEPS: usize = 5;

/// A place that leads to no setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoSetting {
    pub(crate) message: String,
    pub(crate) help: String,
}

/// The value at `path`.
pub(crate) fn find<'n>(root: &'n Node, path: &str) -> Result<&'n Node, NoSetting> {
    let mut at = (root, path);
    while !at.1.is_empty() {
        let (node, rest) = at;
        let fits = |key: &str| {
            rest.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let entries = node.entries().iter().filter(|e| fits(&e.key));
        let Some(entry) = entries.max_by_key(|e| e.key.len()) else {
            let there: Vec<&str> = node.entries().iter().map(|e| e.key.as_str()).collect();
            let help = match there.is_empty() {
                true => "nothing lies below what comes before it".to_owned(),
                false => format!("at that place there is {}", there.join(", ")),
            };
            let message = format!("'{path}' leads to no setting of this file: not to '{rest}'");
            return Err(NoSetting { message, help });
        };
        at = (&entry.value, rest[entry.key.len()..].trim_start_matches('.'));
    }
    Ok(at.0)
}

/// Puts `value` in the place of what `path` leads to; whether there is such a place.
pub(crate) fn replace(root: &mut Node, path: &str, value: &Json) -> bool {
    let (mut node, mut rest) = (root, path);
    while !rest.is_empty() {
        let Value::Map(entries) = &mut node.value else { return false };
        let fits = |key: &str| {
            rest.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let entries = entries.iter_mut().filter(|e| fits(&e.key));
        let Some(entry) = entries.max_by_key(|e| e.key.len()) else { return false };
        rest = rest[entry.key.len()..].trim_start_matches('.');
        node = &mut entry.value;
    }
    node.value = from_json(value, node.span);
    true
}

fn from_json(value: &Json, span: Span) -> Value {
    let node = |value: &Json| Node { span, value: from_json(value, span) };
    match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => {
            n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(f64::NAN)), Value::Int)
        }
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::Seq(items.iter().map(node).collect()),
        Json::Object(entries) => {
            let entry = |(key, value): (&String, &Json)| crate::yaml::Entry {
                key: key.clone(),
                key_span: span,
                value: node(value),
            };
            Value::Map(entries.iter().map(entry).collect())
        }
    }
}

/// The text of a pipeline file with other values in some places, everything else as it was.
///
/// # Errors
/// With the first place that leads to no value on one line, or when the text is not YAML.
pub fn with_settings(text: &str, settings: &BTreeMap<String, Json>) -> Result<String, String> {
    let (root, _) = crate::yaml::parse(text).map_err(|e| e.message)?;
    let mut edits = Vec::new();
    for (path, value) in settings {
        let node = find(&root, path).map_err(|e| e.message)?;
        let block = matches!(node.value, Value::Map(_) | Value::Seq(_));
        let old = text.get(node.span.start..node.span.end).filter(|t| !t.contains('\n') && !block);
        let Some(old) = old else {
            return Err(format!("'{path}' is not a single value, so it cannot be written back"));
        };
        // What is the same stays as it was written.
        if node.to_json() != *value {
            edits.push((node.span.start, old.len(), scalar(value)));
        }
    }
    edits.sort_unstable();
    let mut out = text.to_owned();
    for (start, len, with) in edits.into_iter().rev() {
        out.replace_range(start..start + len, &with);
    }
    Ok(out)
}

/// A value as YAML on one line; JSON is YAML.
fn scalar(value: &Json) -> String {
    match value {
        Json::String(text) if plain(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether text needs no quotes in YAML.
fn plain(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    !text.is_empty()
        && text.chars().all(word)
        && text.chars().any(|c| c.is_ascii_alphabetic())
        && text.parse::<f64>().is_err()
        && !reserved.contains(&text.to_ascii_lowercase().as_str())
}

impl Candidates {
    /// The values, in the order in which they are tried.
    #[must_use]
    pub fn values(&self) -> Vec<Json> {
        match self {
            Candidates::List(values) => values.clone(),
            Candidates::Range(range) => range.values(),
        }
    }
}

impl RangeConfig {
    /// The numbers, rising, each once; none where the range is empty or has no logarithm.
    #[must_use]
    pub fn values(&self) -> Vec<Json> {
        let (Some(from), Some(to)) = (self.from.as_f64(), self.to.as_f64()) else { return vec![] };
        let fits = from < to && (self.scale == Scale::Linear || from > 0.0);
        if !fits {
            return Vec::new();
        }
        let whole = self.from.is_i64() && self.to.is_i64();
        let steps = self.steps.unwrap_or(STEPS).clamp(2, 1000);
        let mut values: Vec<Json> = Vec::new();
        for i in 0..steps {
            let share = i as f64 / (steps - 1) as f64;
            let x = match self.scale {
                _ if i + 1 == steps => to,
                Scale::Linear => from + (to - from) * share,
                Scale::Log => from * (to / from).powf(share),
            };
            let value = if whole {
                Json::from(x.round() as i64)
            } else {
                // Six digits: a setting is read by people.
                let short = format!("{x:.6e}").parse().unwrap_or(x);
                Number::from_f64(short).map_or(Json::Null, Json::Number)
            };
            if values.last() != Some(&value) {
                values.push(value);
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TEXT: &str = "steps:\n  smooth:\n    ema: { alpha: 0.1, columns: [a] } # fast\n  w: { window: { rolling: { rows: 30 } } }\n";

    #[test]
    fn a_setting_is_written_where_it_stands() {
        let settings = BTreeMap::from([
            ("steps.smooth.ema.alpha".to_owned(), json!(0.25)),
            ("steps.w.window.rolling.rows".to_owned(), json!(20)),
        ]);
        let written = with_settings(TEXT, &settings).unwrap();
        let want = TEXT.replace("alpha: 0.1", "alpha: 0.25").replace("rows: 30", "rows: 20");
        assert_eq!(written, want);
    }

    #[test]
    fn a_place_that_is_not_there_says_what_is() {
        let (root, _) = crate::yaml::parse(TEXT).unwrap();
        let error = find(&root, "steps.smooth.ema.half_life").unwrap_err();
        assert!(error.message.contains("'half_life'") && error.help.contains("alpha"), "{error:?}");
        let settings = BTreeMap::from([("steps.w".to_owned(), json!(1))]);
        assert!(with_settings(TEXT, &settings).unwrap_err().contains("single value"));
    }

    #[test]
    fn what_is_replaced_is_found() {
        let (mut root, _) = crate::yaml::parse(TEXT).unwrap();
        assert!(replace(&mut root, "steps.smooth.ema.alpha", &json!({ "x": [1, "two"] })));
        let found = find(&root, "steps.smooth.ema.alpha.x").unwrap();
        assert_eq!(found.to_json(), json!([1, "two"]));
        assert!(!replace(&mut root, "steps.none", &json!(1)));
    }

    #[test]
    fn ranges_have_their_ends() {
        let range = |from: Json, to: Json, scale, steps| {
            let number = |v: Json| v.as_number().cloned().unwrap();
            RangeConfig { from: number(from), to: number(to), scale, steps }.values()
        };
        assert_eq!(range(json!(1), json!(100), Scale::Log, Some(3)), [1, 10, 100]);
        assert_eq!(range(json!(1), json!(3), Scale::Linear, Some(9)), [1, 2, 3], "each once");
        assert_eq!(range(json!(0.1), json!(0.3), Scale::Linear, Some(3)), [0.1, 0.2, 0.3]);
        assert!(range(json!(0), json!(1), Scale::Log, None).is_empty());
        assert!(range(json!(2), json!(1), Scale::Linear, None).is_empty());
    }
}
