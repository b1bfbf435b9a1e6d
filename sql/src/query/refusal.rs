//! Why a query has no answer, in words that say what to do.

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;

use crate::message::{located, tidy};

/// What is wrong with a statement that is not carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// It does more than read.
    ReadOnly,
    /// It cannot be parsed.
    Syntax,
    /// It names a table that there is not.
    Table,
    /// It names a column that there is not.
    Column,
    /// Something else: types, functions, its size.
    #[default]
    Other,
}

/// A statement that is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of thing is wrong.
    pub kind: Kind,
    /// What is wrong.
    pub message: String,
    /// Where: line and column, from 1.
    pub at: Option<(usize, usize)>,
    /// What to do.
    pub help: Option<String>,
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryError {
    /// It is refused, or wrong.
    Refused(Refusal),
    /// It reached a limit.
    Limit(String),
    /// Too many are under way.
    Busy(String),
    /// A table cannot be read yet, or its files cannot be read.
    Unavailable(String),
    /// It failed on the way: a division by zero, text that is no number.
    Failed(String),
}

impl std::fmt::Display for QueryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            QueryError::Refused(Refusal { message, at, help, .. }) => {
                write!(f, "{message}")?;
                if let Some((line, column)) = at {
                    write!(f, " (line {line}, column {column})")?;
                }
                help.iter().try_for_each(|help| write!(f, "; {help}"))
            }
            QueryError::Limit(message)
            | QueryError::Busy(message)
            | QueryError::Unavailable(message)
            | QueryError::Failed(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for QueryError {}

impl Refusal {
    /// One about the statement as a whole.
    pub(super) fn whole(message: impl Into<String>) -> Self {
        Refusal { kind: Kind::Other, message: message.into(), at: None, help: None }
    }

    pub(super) fn of(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// One about a word of the statement.
    pub(super) fn about(mut self, sql: &str, word: &str) -> Self {
        self.at = word_at(sql, word).map(|at| place(sql, at));
        self
    }
}

/// A name that is not known, among those that are.
pub(super) fn unknown(sql: &str, what: &str, name: &str, known: &[String]) -> QueryError {
    let kind = if what == "column" { Kind::Column } else { Kind::Table };
    let refusal = Refusal::whole(format!("there is no {what} '{name}'")).of(kind).about(sql, name);
    let help = match (nearest(name, known), known.is_empty()) {
        (Some(near), _) => format!("did you mean '{near}'?"),
        (None, true) => format!("there is no {what} at all"),
        (None, false) => {
            let shown: Vec<&str> = known.iter().take(20).map(String::as_str).collect();
            let more = known.len().saturating_sub(20);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("there is: {}{more}", shown.join(", "))
        }
    };
    QueryError::Refused(refusal.help(help))
}

/// What DataFusion says, in our words.
pub(super) fn of(sql: &str, error: &DataFusionError) -> QueryError {
    // It comes through several layers, of which the last says that it is an error of a file.
    if error.to_string().contains("max_temp_directory_size") {
        return QueryError::Limit(
            "the query takes more memory, and then more temporary files, than it may; ask for less time or fewer machines"
                .to_owned(),
        );
    }
    match error.find_root() {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let known: Vec<String> = valid_fields.iter().map(|c| c.name.clone()).collect();
                unknown(sql, "column", &field.name, &known)
            }
            other => QueryError::Refused(Refusal::whole(tidy(&other.to_string()))),
        },
        DataFusionError::SQL(parser, _) => parse(sql, parser),
        DataFusionError::ResourcesExhausted(message) => QueryError::Limit(format!(
            "the query takes more memory or disk than it may: {}; ask for less time or fewer machines",
            tidy(message)
        )),
        DataFusionError::Plan(message)
        | DataFusionError::NotImplemented(message)
        | DataFusionError::Configuration(message) => {
            QueryError::Refused(Refusal::whole(tidy(message)))
        }
        DataFusionError::ObjectStore(e) => {
            QueryError::Unavailable(format!("a file cannot be read: {e}"))
        }
        DataFusionError::IoError(e) => {
            QueryError::Unavailable(format!("a file cannot be read: {e}"))
        }
        DataFusionError::ParquetError(e) => {
            QueryError::Unavailable(format!("a file cannot be read: {e}"))
        }
        DataFusionError::Internal(message) => {
            tracing::error!("a query failed (a bug): {message}");
            QueryError::Failed(format!("the query failed (a bug): {}", tidy(message)))
        }
        other => QueryError::Failed(tidy(&other.message())),
    }
}

/// What the parser says.
pub(super) fn parse(sql: &str, error: &ParserError) -> QueryError {
    let (ParserError::ParserError(message) | ParserError::TokenizerError(message)) = error else {
        let refusal = Refusal::whole("the query is nested too deeply");
        return QueryError::Refused(refusal.of(Kind::Syntax));
    };
    let found = located(sql, message, None);
    let at = found.at.map(|range| place(sql, range.start));
    let kind = Kind::Syntax;
    QueryError::Refused(Refusal { kind, message: found.message, at, help: None })
}

/// The name that was probably meant: as far off as a third of its letters, without regard to case.
fn nearest<'k>(name: &str, known: &'k [String]) -> Option<&'k String> {
    let lower = name.to_lowercase();
    let off = |k: &&String| strsim::damerau_levenshtein(&lower, &k.to_lowercase());
    known.iter().min_by_key(off).filter(|k| off(k) <= name.chars().count().div_ceil(3))
}

/// The byte at which a word stands by itself.
fn word_at(sql: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    sql.match_indices(word).map(|(at, _)| at).find(|&at| {
        let before = sql[..at].chars().next_back().is_none_or(|c| !is_part(c));
        let after = sql[at + word.len()..].chars().next().is_none_or(|c| !is_part(c));
        before && after
    })
}

/// Line and column, from 1, of a byte.
fn place(sql: &str, at: usize) -> (usize, usize) {
    let before = sql.get(..at).unwrap_or(sql);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}
