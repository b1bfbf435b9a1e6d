//! The JSON schema of the format.

use serde_json::Value;

/// Every reference of the schema leads somewhere.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                match (key.as_str(), inner) {
                    ("$ref", Value::String(to)) => found.push(to),
                    _ => references(inner, found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

#[test]
fn the_schema_is_whole() {
    let schema = foreline_spec::schema();
    let mut found = Vec::new();
    references(&schema, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(schema.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn every_kind_is_in_the_schema_with_its_summary() {
    let schema = foreline_spec::schema();
    let kinds = foreline_spec::Kinds::all();
    let sources = kinds.sources.iter().map(|k| ("sources", k.name, k.summary));
    let steps = kinds.steps.iter().map(|k| ("steps", k.name, k.summary));
    let sinks = kinds.sinks.iter().map(|k| ("sinks", k.name, k.summary));
    for (section, name, summary) in sources.chain(steps).chain(sinks) {
        let block = &schema["properties"][section]["additionalProperties"];
        assert_eq!(block["properties"][name]["description"], summary, "{section}.{name}");
        let one = block["oneOf"].as_array().unwrap();
        assert!(one.iter().any(|o| o["required"][0] == name), "{section}.{name}");
    }
}

#[test]
fn common_keys_are_described() {
    let schema = foreline_spec::schema();
    let source = &schema["properties"]["sources"]["additionalProperties"]["properties"];
    for key in ["columns", "key", "time", "lateness", "late", "dedupe", "max_ahead", "idle_timeout"]
    {
        assert!(source[key].is_object(), "{key}");
        assert!(source[key]["description"].is_string(), "{key}");
    }
}
