//! A YAML document as a tree in which every key and value keeps its place.
//!
//! What a reader would get wrong: a value that comes in by an alias has the place of its anchor, where it can be
//! changed. Repeated keys are not an error of the parser; they are collected, so that all are reported at once.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use crate::secret::Secret;

/// Largest pipeline file. The largest that people write by hand have some thousand lines.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// Deepest nesting; the format itself needs six levels.
const MAX_DEPTH: usize = 32;
/// Most keys and values in a file, aliases expanded.
const MAX_NODES: usize = 100_000;
/// Most uses of aliases; they save repetition and are not a way to compute.
const MAX_ALIASES: usize = 256;

/// A stretch of the file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last.
    pub end: usize,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// A value of a YAML document.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// Text.
    Text(String),
    /// Text of which some came from outside the file.
    Secret(Secret),
    /// A list.
    Seq(Vec<Node>),
    /// A block of keys, in the order of the file; of equal keys only the first.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// A key that a block has twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Duplicate {
    pub(crate) key: String,
    pub(crate) first: Span,
    pub(crate) again: Span,
}

/// Why a text is not a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) at: Span,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Node {
    /// The value under `key`, when this is a block that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// The key and value called `key`, when this is a block that has it.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }

    /// The keys and values of a block; none when this is something else.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The members of a list; none when this is something else.
    #[must_use]
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Seq(items) => items,
            _ => &[],
        }
    }

    /// The value as JSON, secrets in the clear: only for the kind that is to use them.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        self.as_json(&|_, secret| secret.expose().to_owned())
    }

    /// The value on one line as the file `text` has it: with `${env:NAME}`, not with what it stands for.
    #[must_use]
    pub(crate) fn written(&self, text: &str) -> String {
        let raw = |node: &Node, _: &Secret| {
            text.get(node.span.start..node.span.end).unwrap_or_default().to_owned()
        };
        self.as_json(&raw).to_string()
    }

    /// The same without a key that results do not depend on.
    #[must_use]
    pub(crate) fn written_without(&self, text: &str, key: &str) -> String {
        let raw = |node: &Node, _: &Secret| {
            text.get(node.span.start..node.span.end).unwrap_or_default().to_owned()
        };
        let mut written = self.as_json(&raw);
        if let Some(entries) = written.as_object_mut() {
            entries.shift_remove(key);
        }
        written.to_string()
    }

    fn as_json(&self, secret_text: &dyn Fn(&Node, &Secret) -> String) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(n) => (*n).into(),
            Value::Float(x) => (*x).into(),
            Value::Text(text) => text.as_str().into(),
            Value::Secret(secret) => secret_text(self, secret).into(),
            Value::Seq(items) => items.iter().map(|n| n.as_json(secret_text)).collect(),
            Value::Map(entries) => {
                entries.iter().map(|e| (e.key.clone(), e.value.as_json(secret_text))).collect()
            }
        }
    }

    /// The place of what `path` leads to (`columns[1]`, `features.vibration`), or of the last value on the way.
    ///
    /// A key may hold dots itself: the longest key that fits is taken. Of a block or a list it is the key's place.
    #[must_use]
    pub fn place(&self, path: &str, owner: Span) -> Span {
        let here = match self.value {
            Value::Seq(_) | Value::Map(_) => owner,
            _ => self.span,
        };
        if path.is_empty() {
            return here;
        }
        if let Some((index, rest)) = path.strip_prefix('[').and_then(|p| p.split_once(']')) {
            let item = index.parse().ok().and_then(|i: usize| self.items().get(i));
            return item.map_or(here, |n| n.place(rest.trim_start_matches('.'), n.span));
        }
        let fits = |e: &&Entry| match path.strip_prefix(e.key.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with(['.', '[']),
            None => false,
        };
        match self.entries().iter().filter(fits).max_by_key(|e| e.key.len()) {
            Some(e) => e.value.place(path[e.key.len()..].trim_start_matches('.'), e.key_span),
            None => here,
        }
    }
}

/// Reads a YAML file that is no pipeline, such as a model's cases or card, as JSON.
///
/// # Errors
/// With line and column, when it is not one document of YAML, has a key twice, or a number that JSON does not have.
pub fn read_values(text: &str) -> Result<serde_json::Value, String> {
    let place = |at: Span| {
        let before = text.get(..at.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("line {line}, column {column}")
    };
    let (node, duplicates) = parse(text).map_err(|e| format!("{}: {}", place(e.at), e.message))?;
    if let Some(twice) = duplicates.first() {
        return Err(format!("{}: '{}' is there twice", place(twice.again), twice.key));
    }
    match not_finite(&node) {
        Some(at) => Err(format!("{}: not a finite number; write it in quotes", place(at))),
        None => Ok(node.to_json()),
    }
}

/// The first number that JSON does not have.
fn not_finite(node: &Node) -> Option<Span> {
    match &node.value {
        Value::Float(x) if !x.is_finite() => Some(node.span),
        Value::Seq(items) => items.iter().find_map(not_finite),
        Value::Map(entries) => entries.iter().find_map(|e| not_finite(&e.value)),
        _ => None,
    }
}

/// Reads the only document of `text`.
pub(crate) fn parse(text: &str) -> Result<(Node, Vec<Duplicate>), SyntaxError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(SyntaxError {
            at: Span::default(),
            message: format!("the file has {} bytes, the limit is {MAX_FILE_BYTES}", text.len()),
            help: None,
        });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_aliases: MAX_ALIASES,
            max_documents: 1,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
        leading_zero_numbers_as_strings: true,
        reject_unsupported_tags: true,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_NODES },
    };
    match serde_saphyr::from_str_with_options::<Raw>(text, options) {
        Ok(raw) => {
            let mut duplicates = Vec::new();
            let node = raw.into_node(text, &mut duplicates);
            Ok((node, duplicates))
        }
        Err(e) => Err(syntax_error(text, &e)),
    }
}

fn syntax_error(text: &str, error: &serde_saphyr::Error) -> SyntaxError {
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let start = byte_at(text, location.line(), location.column());
    let line = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let indent = text[line..].len() - text[line..].trim_start_matches([' ', '\t']).len();
    if let Some(tab) = text[line..line + indent].find('\t') {
        let at = Span { start: line + tab, end: line + tab + 1 };
        return SyntaxError {
            at,
            message: "a tab indents this line".to_owned(),
            help: Some("indent by spaces; YAML takes no tabs".to_owned()),
        };
    }
    if let serde_saphyr::Error::Budget { breach, .. } = error.without_snippet() {
        return over_budget(Span { start, end: start }, breach);
    }
    let whole = error.without_snippet().to_string();
    let first = whole.lines().next().unwrap_or_default();
    let first = first.split(" at line ").next().unwrap_or(first).trim_end_matches(['.', ':']);
    let message = first.strip_prefix("YAML parse error: ").unwrap_or(first).to_owned();
    let end = text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
    let help = "is a bracket, a quote or a colon before this place missing, or one too many?";
    SyntaxError { at: Span { start, end }, message, help: Some(help.to_owned()) }
}

/// Which limit of [`parse`] was passed.
fn over_budget(at: Span, breach: &BudgetBreach) -> SyntaxError {
    let (message, help) = match breach {
        BudgetBreach::Documents { .. } => (
            "a second document begins here".to_owned(),
            "a file is one pipeline: remove the '---', or split the file".to_owned(),
        ),
        BudgetBreach::Depth { .. } => (
            format!("the file is nested more than {MAX_DEPTH} levels deep"),
            "a pipeline needs six".to_owned(),
        ),
        other => (
            format!("the file is more than a pipeline can be: {other:?}"),
            format!("it may hold {MAX_NODES} values and use {MAX_ALIASES} aliases"),
        ),
    };
    SyntaxError { at, message, help: Some(help) }
}

/// The byte at a line and column counted from 1, in characters; the end where it lies beyond.
fn byte_at(text: &str, line: u64, column: u64) -> usize {
    let mut start = 0;
    for _ in 1..line.max(1) {
        match text[start..].find('\n') {
            Some(at) => start += at + 1,
            None => return text.len(),
        }
    }
    let column = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    let line_text = text[start..].lines().next().unwrap_or_default();
    start + line_text.char_indices().nth(column).map_or(line_text.len(), |(at, _)| at)
}

/// A node as the parser hands it over.
struct Raw(Spanned<RawValue>);

enum RawValue {
    Scalar(Value),
    Seq(Vec<Raw>),
    Map(Vec<(Spanned<RawKey>, Raw)>),
}

/// A key: its text, or nothing where YAML takes it for something else (`null:`, `1:`) and the file has the text.
struct RawKey(Option<String>);

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = RawKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name before the colon")
    }

    fn visit_unit<E>(self) -> Result<RawKey, E> {
        Ok(RawKey(None))
    }

    fn visit_none<E>(self) -> Result<RawKey, E> {
        Ok(RawKey(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<RawKey, E> {
        Ok(RawKey(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<RawKey, E> {
        Ok(RawKey(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<RawKey, E> {
        Ok(RawKey(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<RawKey, E> {
        Ok(RawKey(None))
    }

    fn visit_str<E>(self, text: &str) -> Result<RawKey, E> {
        Ok(RawKey(Some(text.to_owned())))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Int(value)))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<RawValue, E> {
        // A number this large is an identifier or a mistake; as text its digits survive.
        Ok(RawValue::Scalar(
            i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int),
        ))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(RawValue::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(RawValue::Map(entries))
    }
}

impl Raw {
    fn into_node(self, text: &str, duplicates: &mut Vec<Duplicate>) -> Node {
        let mut span = span_of(&self.0.defined);
        let value = match self.0.value {
            RawValue::Scalar(value) => value,
            RawValue::Seq(items) => {
                let items: Vec<_> =
                    items.into_iter().map(|i| i.into_node(text, duplicates)).collect();
                span.end = items.iter().map(|i| i.span.end).fold(span.end, usize::max);
                Value::Seq(items)
            }
            RawValue::Map(raw) => {
                let entries = unique(raw, text, duplicates);
                span.end = entries.iter().map(|e| e.value.span.end).fold(span.end, usize::max);
                Value::Map(entries)
            }
        };
        Node { span, value }
    }
}

fn unique(
    raw: Vec<(Spanned<RawKey>, Raw)>,
    text: &str,
    duplicates: &mut Vec<Duplicate>,
) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(raw.len());
    for (key, value) in raw {
        let key_span = span_of(&key.defined);
        let as_written = || text.get(key_span.start..key_span.end).unwrap_or_default().to_owned();
        let key = key.value.0.unwrap_or_else(as_written);
        let value = value.into_node(text, duplicates);
        match entries.iter().find(|e| e.key == key) {
            Some(first) => {
                let first = first.key_span;
                duplicates.push(Duplicate { key, first, again: key_span });
            }
            None => entries.push(Entry { key, key_span, value }),
        }
    }
    entries
}

fn span_of(location: &Location) -> Span {
    let number = |n: Option<u64>| usize::try_from(n.unwrap_or(0)).unwrap_or(0);
    let start = number(location.span().byte_offset());
    Span { start, end: start + number(location.span().byte_len()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn other_files_are_read_as_values() {
        let values = super::read_values("a: 1\nb: [0.1, null, x]\n").unwrap();
        assert_eq!(values, serde_json::json!({ "a": 1, "b": [0.1, null, "x"] }));
        for (text, said) in [
            ("a: 1\na: 2\n", "line 2, column 1: 'a' is there twice"),
            ("a:\n  - .inf\n", "line 2, column 5: non-finite float"),
            ("a: [\n", "line "),
        ] {
            let error = super::read_values(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
