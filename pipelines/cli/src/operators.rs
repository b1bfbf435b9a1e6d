//! `foreline operators` and `foreline schema`: what a pipeline file may say.

use anyhow::{Context as _, anyhow};
use clap::Args;
use foreline_engine::Family;
use foreline_spec::Kinds;
use schemars::SchemaGenerator;
use serde_json::{Value, json};

use crate::failure::Outcome;
use crate::table::Table;

/// What `foreline operators` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Describe this kind: every key it takes.
    kind: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// One kind, whatever it is a kind of.
struct Kind {
    what: &'static str,
    /// What it is for, and how it is used: of a step.
    manual: Option<(Family, &'static str)>,
    name: &'static str,
    summary: &'static str,
    schema: fn(&mut SchemaGenerator) -> schemars::Schema,
}

fn kinds() -> Vec<Kind> {
    let all = Kinds::all();
    let sources = all.sources.iter().map(|k| ("source", None, k.name, k.summary, k.schema));
    let mut steps = all.steps;
    let place = |family: Family| Family::ALL.iter().position(|f| *f == family);
    steps.sort_by_key(|k| place(k.family));
    let steps =
        steps.iter().map(|k| ("step", Some((k.family, k.example)), k.name, k.summary, k.schema));
    let sinks = all.sinks.iter().map(|k| ("sink", None, k.name, k.summary, k.schema));
    let rows = sources.chain(steps).chain(sinks);
    rows.map(|(what, manual, name, summary, schema)| Kind { what, manual, name, summary, schema })
        .collect()
}

/// Lists the kinds, or describes one.
///
/// # Errors
/// When there is no such kind.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub fn operators(arguments: &Arguments) -> Outcome {
    let kinds = kinds();
    let Some(name) = &arguments.kind else {
        if arguments.json {
            let family = |k: &Kind| k.manual.map(|(family, _)| family.name());
            let row = |k: &Kind| json!({ "what": k.what, "family": family(k), "name": k.name, "summary": k.summary });
            print_json(&Value::Array(kinds.iter().map(row).collect()))?;
        } else {
            let mut table = Table::new(["kind of", "for", "name", "what it does"]);
            for kind in &kinds {
                let family = kind.manual.map_or("", |(family, _)| family.name());
                table.push([kind.what, family, kind.name, kind.summary]);
            }
            println!("{table}");
        }
        return Ok(());
    };
    let kind = kinds.iter().find(|k| k.name == name).ok_or_else(|| {
        let names = kinds.iter().map(|k| k.name).collect::<Vec<_>>().join(", ");
        anyhow!("there is no kind '{name}'; there are {names}")
    })?;
    let mut generator = SchemaGenerator::default();
    let own = (kind.schema)(&mut generator);
    let definitions = Value::Object(generator.take_definitions(true));
    if arguments.json {
        let example = kind.manual.map(|(_, example)| example);
        print_json(
            &json!({ "name": kind.name, "example": example, "schema": own, "definitions": definitions }),
        )?;
    } else {
        println!("{}: {}\n", kind.name, kind.summary);
        if let Some((_, example)) = kind.manual {
            println!("  steps:");
            example.lines().for_each(|line| println!("    {line}"));
            println!();
        }
        describe(&resolve(own.as_value(), &definitions), &definitions, 1);
    }
    Ok(())
}

/// Prints the JSON schema of the whole file.
///
/// # Errors
/// When it cannot be written as JSON, which does not happen.
pub fn schema() -> Outcome {
    print_json(&foreline_spec::schema())
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn print_json(value: &Value) -> Outcome {
    println!("{}", serde_json::to_string_pretty(value).context("JSON")?);
    Ok(())
}

/// What a reference points to.
fn resolve(schema: &Value, definitions: &Value) -> Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
    name.and_then(|n| definitions.get(n)).unwrap_or(schema).clone()
}

/// Deepest nesting of keys that is printed; schemas may refer to themselves.
const MAX_DEPTH: usize = 4;

/// Prints the keys of an object schema, each with its doc comment.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn describe(schema: &Value, definitions: &Value, depth: usize) {
    let Some(keys) = schema.get("properties").and_then(Value::as_object) else {
        if let Some(text) = schema.get("description").and_then(Value::as_str) {
            println!("{}{text}", "  ".repeat(depth));
        }
        return;
    };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|r| r.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for (key, value) in keys {
        let full = inner(value, definitions);
        let text = value.get("description").or_else(|| full.get("description"));
        let text = text.and_then(Value::as_str).unwrap_or("").replace('\n', " ");
        let mark = if required.contains(&key.as_str()) { " (required)" } else { "" };
        println!("{}{key}{mark}\n{}{text}", "  ".repeat(depth), "  ".repeat(depth + 2));
        if let Some(choices) = choices(&full, definitions) {
            println!("{}one of: {choices}", "  ".repeat(depth + 2));
        }
        if full.get("properties").is_some() && depth < MAX_DEPTH {
            describe(&full, definitions, depth + 1);
        }
    }
}

/// The schema of a key's value, references and optional values looked through.
fn inner(value: &Value, definitions: &Value) -> Value {
    let direct = resolve(value, definitions);
    let branches = direct.get("anyOf").and_then(Value::as_array);
    let some = branches.and_then(|b| b.iter().find(|s| s.get("$ref").is_some()));
    some.map_or(direct.clone(), |s| resolve(s, definitions))
}

/// The words that a value may be, or that its members may be.
fn choices(schema: &Value, definitions: &Value) -> Option<String> {
    let members = ["items", "additionalProperties"].into_iter().find_map(|k| schema.get(k));
    if let Some(members) = members {
        return choices(&inner(members, definitions), definitions);
    }
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    let branches = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let of_branch = |branch: &Value| {
        let one = branch.get("const").and_then(Value::as_str).map(|c| vec![c.to_owned()]);
        let several = branch.get("enum").and_then(Value::as_array);
        let several =
            several.map(|e| e.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        one.or(several).unwrap_or_default()
    };
    let mut words: Vec<String> = listed.filter_map(Value::as_str).map(str::to_owned).collect();
    words.extend(branches.flat_map(of_branch));
    (!words.is_empty()).then(|| words.join(", "))
}
