//! Checks a value of the file against a JSON schema, to report all its mistakes at once and in place.
//!
//! It knows the part of JSON schema that `schemars` writes. Patterns are left to the type's own parser, whose
//! message says more; `Extent` is tried here, so that several bad durations are reported together.

use foreline_engine::Extent;
use serde_json::{Map, Value as Json};

use crate::diagnostic::{Code, Diagnostic};
use crate::yaml::{Node, Span, Value};

/// Where a value belongs, for messages and for what has no place of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    /// The key that holds the value.
    pub(crate) name: &'a str,
    /// Where that key stands.
    pub(crate) span: Span,
}

/// Schemas that refer to one another.
#[derive(Debug)]
pub(crate) struct Shapes<'a> {
    pub(crate) definitions: &'a Map<String, Json>,
}

impl Shapes<'_> {
    /// Everything about `node` that `schema` does not allow.
    pub(crate) fn check(&self, node: &Node, schema: &Json, owner: Owner<'_>) -> Vec<Diagnostic> {
        if let Some(name) = schema.get("$ref").and_then(Json::as_str).and_then(definition) {
            return match (name, &node.value) {
                ("Extent", Value::Text(text)) => extent(node, text),
                _ => match self.definitions.get(name) {
                    Some(target) => self.check(node, target, owner),
                    None => Vec::new(),
                },
            };
        }
        if let Some(branches) = any_of(schema) {
            return self.check_branches(node, branches, owner);
        }
        if !self.accepts(node, schema) {
            return vec![wrong_type(node, &self.describe(schema), owner)];
        }
        if let Some(constants) = constants(schema) {
            return one_of(node, &constants, &[], owner);
        }
        match &node.value {
            Value::Map(_) => self.check_block(node, schema, owner),
            Value::Seq(items) => self.check_list(items, schema, owner),
            _ => check_range(node, schema),
        }
    }

    fn check_block(&self, node: &Node, schema: &Json, owner: Owner<'_>) -> Vec<Diagnostic> {
        let none = Map::new();
        let known = schema.get("properties").and_then(Json::as_object).unwrap_or(&none);
        let others = schema.get("additionalProperties");
        let mut found = Vec::new();
        for entry in node.entries() {
            let inside = Owner { name: &entry.key, span: entry.key_span };
            match (known.get(&entry.key), others) {
                (Some(property), _) => found.extend(self.check(&entry.value, property, inside)),
                (None, Some(Json::Bool(false))) => {
                    found.push(unknown_key(
                        entry,
                        &format!("'{}'", owner.name),
                        known.keys().map(String::as_str),
                    ));
                }
                (None, Some(other)) => found.extend(self.check(&entry.value, other, inside)),
                (None, None) => {}
            }
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten();
        for name in required.filter_map(Json::as_str).filter(|n| node.get(n).is_none()) {
            found.push(missing_key(owner, name, known.get(name)));
        }
        let least = schema.get("minProperties").and_then(Json::as_u64).unwrap_or(0);
        if (node.entries().len() as u64) < least {
            let message = format!("'{}' is empty", owner.name);
            let error = Diagnostic::error(Code::BAD_VALUE, owner.span, message);
            found.push(error.help("give it at least one key"));
        }
        without_follow_ons(found)
    }

    fn check_list(&self, items: &[Node], schema: &Json, owner: Owner<'_>) -> Vec<Diagnostic> {
        let Some(member) = schema.get("items") else { return Vec::new() };
        items.iter().flat_map(|i| self.check(i, member, Owner { span: i.span, ..owner })).collect()
    }

    /// The mistakes by the alternative that was most likely meant.
    fn check_branches(&self, node: &Node, branches: &[Json], owner: Owner<'_>) -> Vec<Diagnostic> {
        let fitting: Vec<&Json> = branches.iter().filter(|b| self.accepts(node, b)).collect();
        let words: Vec<String> =
            branches.iter().filter_map(|b| constants(self.follow(b))).flatten().collect();
        if matches!(node.value, Value::Text(_)) && !words.is_empty() {
            let all_words = fitting.iter().all(|b| constants(self.follow(b)).is_some());
            if all_words {
                let forms = branches.iter().filter_map(|b| self.tag(b));
                let forms = forms.map(|tag| format!("{{ {tag}: ... }}")).collect::<Vec<_>>();
                return one_of(node, &words, &forms, owner);
            }
        }
        if fitting.is_empty() {
            let mut expected: Vec<String> = Vec::new();
            for branch in branches.iter().filter(|b| !is_null(b)) {
                let what = self.describe(branch);
                if !expected.contains(&what) {
                    expected.push(what);
                }
            }
            return vec![wrong_type(node, &expected.join(" or "), owner)];
        }
        let meant = |b: &&Json| {
            let properties = self.follow(b).get("properties").and_then(Json::as_object);
            properties.is_some_and(|p| node.entries().iter().any(|e| p.contains_key(&e.key)))
        };
        let tagged: Vec<&Json> = fitting.iter().copied().filter(meant).collect();
        if tagged.is_empty() && matches!(node.value, Value::Map(_)) && fitting.len() > 1 {
            return self.no_branch(node, &fitting, owner);
        }
        let tried = if tagged.is_empty() { fitting } else { tagged };
        let results = tried.into_iter().map(|b| self.check(node, b, owner));
        results.min_by_key(Vec::len).unwrap_or_default()
    }

    fn no_branch(&self, node: &Node, branches: &[&Json], owner: Owner<'_>) -> Vec<Diagnostic> {
        let keys = branches.iter().filter_map(|b| self.follow(b).get("properties")?.as_object());
        let keys: Vec<&str> = keys.flat_map(Map::keys).map(String::as_str).collect();
        match node.entries() {
            [] => vec![
                Diagnostic::error(
                    Code::BAD_VALUE,
                    owner.span,
                    format!("'{}' is empty", owner.name),
                )
                .expected("", keys),
            ],
            entries => entries
                .iter()
                .map(|e| unknown_key(e, &format!("'{}'", owner.name), keys.iter().copied()))
                .collect(),
        }
    }

    /// Whether the value is of a type that `schema` takes, its contents aside.
    fn accepts(&self, node: &Node, schema: &Json) -> bool {
        let schema = self.follow(schema);
        if let Some(branches) = any_of(schema) {
            return branches.iter().any(|b| self.accepts(node, b));
        }
        match schema.get("type") {
            Some(Json::String(one)) => is_type(node, one),
            Some(Json::Array(many)) => {
                many.iter().filter_map(Json::as_str).any(|t| is_type(node, t))
            }
            _ => constants(schema).is_none() || matches!(node.value, Value::Text(_)),
        }
    }

    /// The only key of a block that is named after what it means: `{ correct: 10m }`.
    fn tag<'s>(&'s self, schema: &'s Json) -> Option<&'s str> {
        match self.follow(schema).get("required")?.as_array()?.as_slice() {
            [one] => one.as_str(),
            _ => None,
        }
    }

    fn follow<'s>(&'s self, schema: &'s Json) -> &'s Json {
        let target = schema.get("$ref").and_then(Json::as_str).and_then(definition);
        match target.and_then(|name| self.definitions.get(name)) {
            Some(target) => self.follow(target),
            None => schema,
        }
    }

    /// What `schema` takes, in words.
    fn describe(&self, schema: &Json) -> String {
        let name = schema.get("$ref").and_then(Json::as_str).and_then(definition);
        if name == Some("Extent") {
            return "a duration such as 30s, or a whole number for logical time".to_owned();
        }
        let schema = self.follow(schema);
        if let Some(branches) = any_of(schema) {
            let parts = branches.iter().filter(|b| !is_null(b)).map(|b| self.describe(b));
            let mut unique: Vec<String> = Vec::new();
            parts.for_each(|p| {
                if !unique.contains(&p) {
                    unique.push(p)
                }
            });
            return unique.join(" or ");
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Json::String(one)) => vec![one],
            Some(Json::Array(many)) => many.iter().filter_map(Json::as_str).collect(),
            _ => vec!["string"],
        };
        let words = types.iter().filter(|t| **t != "null").map(|t| match *t {
            "string" => "text",
            "integer" => "a whole number",
            "number" => "a number",
            "boolean" => "true or false",
            "array" => "a list",
            _ => "a block of keys",
        });
        words.collect::<Vec<_>>().join(" or ")
    }
}

fn definition(reference: &str) -> Option<&str> {
    reference.strip_prefix("#/$defs/")
}

fn any_of(schema: &Json) -> Option<&[Json]> {
    let branches = schema.get("anyOf").or_else(|| schema.get("oneOf"))?;
    branches.as_array().map(Vec::as_slice)
}

fn is_null(schema: &Json) -> bool {
    schema.get("type").and_then(Json::as_str) == Some("null")
}

fn constants(schema: &Json) -> Option<Vec<String>> {
    let one = schema.get("const").and_then(Json::as_str).map(|c| vec![c.to_owned()]);
    one.or_else(|| {
        let all = schema.get("enum")?.as_array()?;
        Some(all.iter().filter_map(Json::as_str).map(str::to_owned).collect())
    })
}

fn is_type(node: &Node, name: &str) -> bool {
    match &node.value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Int(_) => name == "integer" || name == "number",
        Value::Float(_) => name == "number",
        Value::Text(_) | Value::Secret(_) => name == "string",
        Value::Seq(_) => name == "array",
        Value::Map(_) => name == "object",
    }
}

/// What a value is, in words; text that looks like something else is shown.
pub(crate) fn found(node: &Node) -> String {
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(b) => format!("{b}"),
        Value::Int(n) => format!("the number {n}"),
        Value::Float(x) => format!("the number {x}"),
        Value::Text(text) => format!("the text '{text}'"),
        Value::Secret(_) => "a text from outside the file".to_owned(),
        Value::Seq(_) => "a list".to_owned(),
        Value::Map(_) => "a block of keys".to_owned(),
    }
}

fn wrong_type(node: &Node, expected: &str, owner: Owner<'_>) -> Diagnostic {
    let at = node.place("", owner.span);
    let at = if at.start == at.end { owner.span } else { at };
    let message = format!("'{}' takes {expected}, not {}", owner.name, found(node));
    let error =
        Diagnostic::error(Code::WRONG_TYPE, at, message).label(format!("expected {expected}"));
    match &node.value {
        Value::Int(_) | Value::Float(_) | Value::Bool(_) if expected == "text" => {
            error.help("put it in quotes if it is meant as text")
        }
        Value::Seq(items) if items.len() == 1 => error.help("leave out the brackets"),
        Value::Text(text) if expected == "a list" => error.help(format!("write [{text}]")),
        _ => error,
    }
}

/// Reports a text that is none of `words`; `forms` are what else is possible there.
fn one_of(node: &Node, words: &[String], forms: &[String], owner: Owner<'_>) -> Vec<Diagnostic> {
    let text = match &node.value {
        Value::Text(text) => text.as_str(),
        Value::Secret(secret) => secret.expose(),
        _ => return vec![wrong_type(node, "text", owner)],
    };
    if words.iter().any(|w| w == text) {
        return Vec::new();
    }
    let message = format!("'{text}' is not possible for '{}'", owner.name);
    vec![
        Diagnostic::error(Code::BAD_VALUE, node.span, message)
            .label("unknown word")
            .expected(text, words.iter().chain(forms).map(String::as_str)),
    ]
}

fn extent(node: &Node, text: &str) -> Vec<Diagnostic> {
    match text.parse::<Extent>() {
        Ok(_) => Vec::new(),
        Err(message) => {
            let error = Diagnostic::error(Code::BAD_VALUE, node.span, message);
            vec![error.label("not a duration")]
        }
    }
}

fn check_range(node: &Node, schema: &Json) -> Vec<Diagnostic> {
    #[expect(clippy::cast_precision_loss, reason = "limits of the format are far below 2^53")]
    let number = match node.value {
        Value::Int(n) => n as f64,
        Value::Float(x) => x,
        _ => return Vec::new(),
    };
    let limit = |name: &str| schema.get(name).and_then(Json::as_f64);
    let error = |what: &str, help: String| {
        let message = format!("'{number}' is too {what}");
        vec![Diagnostic::error(Code::BAD_VALUE, node.span, message).help(help)]
    };
    match (limit("minimum"), limit("maximum")) {
        (Some(least), _) if number < least => error("small", format!("give at least {least}")),
        (_, Some(most)) if number > most => error("large", format!("give at most {most}")),
        _ => Vec::new(),
    }
}

/// Leaves out a key that is missing only because it is misspelt, which is reported as an unknown key.
fn without_follow_ons(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let meant: Vec<String> = found.iter().filter_map(misspelt).collect();
    found.retain(|d| !is_missing(d, &meant));
    found
}

/// The key that an unknown key was most likely meant to be.
pub(crate) fn misspelt(diagnostic: &Diagnostic) -> Option<String> {
    diagnostic.suggestion.clone().filter(|_| diagnostic.code == Code::UNKNOWN_KEY)
}

/// Whether it says that one of `keys` is missing.
pub(crate) fn is_missing(diagnostic: &Diagnostic, keys: &[String]) -> bool {
    diagnostic.code == Code::MISSING_KEY
        && keys.iter().any(|key| diagnostic.label.as_deref() == Some(&missing_label(key)))
}

fn missing_label(key: &str) -> String {
    format!("'{key}' is missing")
}

/// A key without meaning where it stands; `owner` as it is to be read, quotes included.
pub(crate) fn unknown_key<'k>(
    entry: &crate::yaml::Entry,
    owner: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Diagnostic {
    let message = format!("{owner} has no key '{}'", entry.key);
    Diagnostic::error(Code::UNKNOWN_KEY, entry.key_span, message)
        .label("unknown key")
        .expected(&entry.key, known)
}

fn missing_key(owner: Owner<'_>, name: &str, property: Option<&Json>) -> Diagnostic {
    let message = format!("'{}' needs the key '{name}'", owner.name);
    let error =
        Diagnostic::error(Code::MISSING_KEY, owner.span, message).label(missing_label(name));
    let text = property.and_then(|p| p.get("description")).and_then(Json::as_str);
    match text.map(first_sentence) {
        Some(doc) => error.help(format!("{name}: {doc}")),
        None => error,
    }
}

/// The first sentence of a doc comment on one line, without its full stop.
pub(crate) fn first_sentence(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = one_line.find(". ").unwrap_or(one_line.len());
    let mut sentence = one_line[..end].trim_end_matches('.').to_owned();
    // `SQL` and the like stay as they are.
    let is_word = !sentence.chars().nth(1).is_some_and(char::is_uppercase);
    if let Some(first) = sentence.get(..1).filter(|_| is_word) {
        let lower = first.to_lowercase();
        sentence.replace_range(..1, &lower);
    }
    sentence
}
