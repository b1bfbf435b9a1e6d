//! What a step takes, as a list, from the JSON schema of its configuration.

use std::fmt::Write as _;

use foreline_engine::Registration;
use schemars::SchemaGenerator;
use serde_json::{Map, Value};

/// Choices beyond this are listed elsewhere.
const CHOICES_MAX: usize = 12;
/// Schemas may refer to themselves.
const DEPTH_MAX: usize = 4;

/// The list of a kind's options.
pub(super) fn of(kind: &Registration) -> String {
    let mut generator = SchemaGenerator::default();
    let own = (kind.schema)(&mut generator).to_value();
    let definitions = generator.take_definitions(true);
    let mut out = String::new();
    list(&mut out, &definitions, &own, 0);
    if out.is_empty() {
        let schema = resolve(&definitions, &own);
        writeln!(out, "{}", words(schema)).unwrap();
    }
    out
}

fn words(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn resolve<'a>(definitions: &'a Map<String, Value>, schema: &'a Value) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next());
    name.and_then(|name| definitions.get(name)).unwrap_or(schema)
}

/// The schema below references, lists, maps and `null`s: what a user writes in the end.
fn inner<'a>(definitions: &'a Map<String, Value>, schema: &'a Value) -> &'a Value {
    let mut at = resolve(definitions, schema);
    for _ in 0..DEPTH_MAX {
        let alternatives = at["anyOf"].as_array().into_iter().flatten();
        let real: Vec<&Value> = alternatives.filter(|a| a["type"] != "null").collect();
        let next = match (&real[..], &at["items"], &at["additionalProperties"]) {
            ([one], ..) => one,
            ([], Value::Object(_), _) => &at["items"],
            ([], _, Value::Object(_)) => &at["additionalProperties"],
            _ => break,
        };
        at = resolve(definitions, next);
    }
    at
}

fn list(out: &mut String, definitions: &Map<String, Value>, schema: &Value, depth: usize) {
    let schema = inner(definitions, schema);
    let Some(properties) = schema["properties"].as_object() else { return };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, option) in properties {
        let full = inner(definitions, option);
        let text = match words(option) {
            empty if empty.is_empty() => words(full),
            text => text,
        };
        let mark = if required.contains(&name.as_str()) { " (required)" } else { "" };
        let indent = "  ".repeat(depth);
        writeln!(out, "{indent}- `{name}`{mark}: {text}{}", choices(full)).unwrap();
        if depth + 1 < DEPTH_MAX {
            list(out, definitions, option, depth + 1);
        }
    }
}

/// The words that may be written, each with what it means.
fn choices(schema: &Value) -> String {
    let one_of = schema["oneOf"].as_array().into_iter().flatten();
    let named = one_of.filter_map(|c| Some((c["const"].as_str()?, words(c))));
    let plain = schema["enum"].as_array().into_iter().flatten();
    let all: Vec<(&str, String)> =
        named.chain(plain.filter_map(|c| Some((c.as_str()?, String::new())))).collect();
    if all.is_empty() || all.len() > CHOICES_MAX {
        return String::new();
    }
    let shown = all.iter().map(|(name, text)| match text.trim_end_matches('.') {
        "" => format!("`{name}`"),
        text => format!("`{name}` ({})", text.to_lowercase()),
    });
    format!(" One of {}.", shown.collect::<Vec<_>>().join(", "))
}
