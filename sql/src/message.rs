//! DataFusion's errors in this project's words.

use std::ops::Range;

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::Location;
use foreline_engine::ExpressionError;

use crate::text::{Text, offset};

/// What DataFusion found wrong with `sql`.
pub(crate) fn translate(sql: &str, text: &Text<'_>, error: &DataFusionError) -> ExpressionError {
    match error.find_root() {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let known = valid_fields.iter().map(|c| c.name.clone()).collect();
                unknown(text, "column", &field.name, known)
            }
            other => whole(&other.to_string()),
        },
        DataFusionError::SQL(parser, _) => match parser.as_ref() {
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
                located(sql, message, None)
            }
            ParserError::RecursionLimitExceeded => whole("the expression is nested too deeply"),
        },
        other => whole(&other.message()),
    }
}

/// A name that is not known, among those that are.
pub(crate) fn unknown(
    text: &Text<'_>,
    what: &str,
    name: &str,
    known: Vec<String>,
) -> ExpressionError {
    ExpressionError {
        message: format!("there is no {what} '{name}'"),
        at: text.place_of(name),
        unknown: Some((name.to_owned(), known)),
    }
}

/// An error about the expression as a whole.
pub(crate) fn whole(message: &str) -> ExpressionError {
    ExpressionError { message: tidy(message), at: None, unknown: None }
}

/// An error of the parser, which writes its place into the text: `… at Line: 1, Column: 5`.
pub(crate) fn located(sql: &str, message: &str, location: Option<Location>) -> ExpressionError {
    let (message, found) = match message.rfind(" at Line: ") {
        Some(cut) => (&message[..cut], parse_place(&message[cut..])),
        None => (message, None),
    };
    let at = location.or(found).map(|l| token_at(sql, offset(sql, l)));
    ExpressionError { message: tidy(message), at, unknown: None }
}

fn parse_place(text: &str) -> Option<Location> {
    let (line, column) = text.strip_prefix(" at Line: ")?.split_once(", Column: ")?;
    Some(Location { line: line.parse().ok()?, column: column.trim().parse().ok()? })
}

/// The word that starts at `start`, or the one sign there.
fn token_at(sql: &str, start: usize) -> Range<usize> {
    let rest = &sql[start..];
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let sign = rest.chars().next().map_or(0, char::len_utf8);
    start..start + word.max(sign)
}

/// The first line of a message, lower case at its start, without full stop and without the trace of its making.
pub(crate) fn tidy(message: &str) -> String {
    let mut text = message.lines().next().unwrap_or_default().trim();
    for lead in ["Error during planning: ", "Arrow error: ", "Execution error: ", "SQL error: "] {
        text = text.strip_prefix(lead).unwrap_or(text);
    }
    let text = text.trim_end_matches('.');
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        // An abbreviation such as `NULL` stays as it is.
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}
