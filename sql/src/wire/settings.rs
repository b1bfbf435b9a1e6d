//! Statements that are about the connection: drivers send them unasked, and few of them mean anything here.
//!
//! What a reader would get wrong: a setting that would change answers is refused, one that cannot is taken and forgotten.

use std::time::Duration;

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

/// Settings that may be set, as they change nothing here.
const HARMLESS: [&str; 22] = [
    "application_name",
    "bytea_output",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_seqscan",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "row_security",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronous_commit",
    "timezone",
    "transaction_isolation",
    "transaction_read_only",
];

/// A statement about the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// A transaction begins.
    Begin(&'static str),
    /// One ends, by being committed.
    Commit,
    /// One ends, by being rolled back.
    Rollback,
    /// Nothing, answered with its name.
    Nothing(&'static str),
    /// How long a query may take.
    Timeout(Option<Duration>),
    /// What a setting is.
    Show(String),
}

/// Why a statement about the connection is refused: SQLSTATE and words.
pub(super) type Refused = (&'static str, String);

/// The statements of a text. What cannot be read stays one, for the gate to say what is wrong.
pub(super) fn statements(text: &str) -> Vec<String> {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location() else {
        return vec![text.to_owned()];
    };
    let ends = tokens.iter().filter(|t| t.token == Token::SemiColon).map(|t| t.span.start);
    let mut begun = 0;
    let mut statements = Vec::new();
    for end in ends.map(|at| byte(text, at)).chain([text.len()]) {
        let statement = text.get(begun..end).unwrap_or_default();
        let words = Tokenizer::new(&PostgreSqlDialect {}, statement).tokenize();
        let is_empty =
            words.is_ok_and(|t| t.iter().all(|token| matches!(token, Token::Whitespace(_))));
        if !is_empty {
            statements.push(statement.to_owned());
        }
        begun = end + 1;
    }
    statements
}

/// The byte at a place.
fn byte(text: &str, at: Location) -> usize {
    let (line, column) = (at.line as usize, at.column as usize);
    let mut lines = text.split_inclusive('\n');
    let before: usize = lines.by_ref().take(line.saturating_sub(1)).map(str::len).sum();
    let rest = lines.next().unwrap_or_default();
    let within = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
    before + within
}

/// What a statement says of the connection; `None` where it is a query.
pub(super) fn read(statement: &str) -> Result<Option<Setting>, Refused> {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, statement).tokenize() else {
        return Ok(None);
    };
    let tokens = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_)));
    let words: Vec<String> = tokens.map(|t| word(&t)).collect();
    let lower: Vec<String> = words.iter().map(|w| w.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let setting = match &lower[..] {
        ["begin", rest @ ..] => begun("BEGIN", rest)?,
        ["start", "transaction", rest @ ..] => begun("START TRANSACTION", rest)?,
        ["commit" | "end", ..] => Setting::Commit,
        ["rollback", "to", ..] => Setting::Begin("ROLLBACK"),
        ["rollback" | "abort", ..] => Setting::Rollback,
        ["savepoint", ..] => Setting::Nothing("SAVEPOINT"),
        ["release", ..] => Setting::Nothing("RELEASE"),
        ["discard", ..] => Setting::Nothing("DISCARD ALL"),
        ["deallocate", ..] => Setting::Nothing("DEALLOCATE"),
        ["close", ..] => Setting::Nothing("CLOSE CURSOR"),
        ["unlisten", ..] => Setting::Nothing("UNLISTEN"),
        ["reset", "all" | "statement_timeout"] => Setting::Timeout(None),
        ["reset", ..] => Setting::Nothing("RESET"),
        ["show", "tables" | "columns", ..] | ["show", "all", ..] => return Ok(None),
        ["show", name @ ..] => Setting::Show(
            name.join(" ").replace(" . ", ".").trim_end_matches([';', ' ']).to_owned(),
        ),
        ["set", "session" | "local", rest @ ..] | ["set", rest @ ..] => set(rest)?,
        _ => return Ok(None),
    };
    Ok(Some(setting))
}

fn begun(tag: &'static str, rest: &[&str]) -> Result<Setting, Refused> {
    match writes(rest) {
        true => Err(("25006", "queries only read: a transaction cannot be READ WRITE".to_owned())),
        false => Ok(Setting::Begin(tag)),
    }
}

fn writes(words: &[&str]) -> bool {
    words.windows(2).any(|pair| pair == ["read", "write"])
}

fn set(words: &[&str]) -> Result<Setting, Refused> {
    match words {
        ["transaction" | "characteristics", rest @ ..] if writes(rest) => {
            Err(("25006", "queries only read: a transaction cannot be READ WRITE".to_owned()))
        }
        ["transaction" | "characteristics" | "time" | "names", ..] => Ok(Setting::Nothing("SET")),
        ["client_encoding", _, value @ ..] => match value {
            ["utf8" | "utf-8" | "unicode" | "default" | "sql_ascii", ..] => {
                Ok(Setting::Nothing("SET"))
            }
            other => Err(("0A000", format!("text is UTF8, not '{}'", other.join(" ")))),
        },
        [
            "transaction_read_only" | "default_transaction_read_only",
            _,
            "off" | "false" | "0",
            ..,
        ] => Err(("25006", "queries only read: it cannot be switched off".to_owned())),
        ["statement_timeout", _, value @ ..] => Ok(Setting::Timeout(time(&value.join(""))?)),
        [name, ..] if HARMLESS.contains(name) => Ok(Setting::Nothing("SET")),
        [name, ..] => Err(("42704", format!("there is no setting '{name}' that can be set"))),
        [] => Err(("42601", "SET of what?".to_owned())),
    }
}

/// A time as PostgreSQL writes it: milliseconds, or with a unit; 0 is none.
fn time(text: &str) -> Result<Option<Duration>, Refused> {
    if text == "default" {
        return Ok(None);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let each = match unit.trim() {
        "" | "ms" => Some(1),
        "s" => Some(1000),
        "min" => Some(60_000),
        _ => None,
    };
    let millis = number.parse::<u64>().ok().zip(each).and_then(|(n, each)| n.checked_mul(each));
    let Some(millis) = millis else {
        return Err(("22023", format!("'{text}' is no time; write 5000, 5s or 1min")));
    };
    Ok((millis > 0).then(|| Duration::from_millis(millis)))
}

fn word(token: &Token) -> String {
    match token {
        Token::Word(word) => word.value.clone(),
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_at_its_semicolons() {
        assert_eq!(
            statements("SELECT ';' AS \"a;b\"; SELECT 2 -- ;\n;;"),
            ["SELECT ';' AS \"a;b\"", " SELECT 2 -- ;\n"]
        );
        assert_eq!(statements(" ; /* only */ ;"), Vec::<String>::new());
        assert_eq!(statements("SELECT 'ö;'\n;SELECT $$;$$"), ["SELECT 'ö;'\n", "SELECT $$;$$"]);
        // What the tokenizer cannot read is for the gate.
        assert_eq!(statements("SELECT 'open ; SELECT"), ["SELECT 'open ; SELECT"]);
    }

    #[test]
    fn what_drivers_send_is_taken_and_what_would_change_answers_is_not() {
        let of = |text: &str| read(text).map_err(|(code, _)| code);
        let nothing = |name| Ok(Some(Setting::Nothing(name)));
        assert_eq!(of("SELECT 1"), Ok(None));
        assert_eq!(of("show tables"), Ok(None));
        assert_eq!(of("SET extra_float_digits = 3"), nothing("SET"));
        assert_eq!(of("SET SESSION TIME ZONE 'Europe/Berlin'"), nothing("SET"));
        assert_eq!(of("set client_encoding to 'UTF8'"), nothing("SET"));
        assert_eq!(of("set client_encoding to 'LATIN1'"), Err("0A000"));
        assert_eq!(of("BEGIN ISOLATION LEVEL READ COMMITTED"), Ok(Some(Setting::Begin("BEGIN"))));
        assert_eq!(of("start transaction read write"), Err("25006"));
        assert_eq!(of("SET default_transaction_read_only TO off"), Err("25006"));
        assert_eq!(of("SET datafusion.execution.batch_size = 1"), Err("42704"));
        let five = Some(Duration::from_secs(5));
        assert_eq!(of("SET statement_timeout = '5s'"), Ok(Some(Setting::Timeout(five))));
        assert_eq!(of("SET statement_timeout = 0"), Ok(Some(Setting::Timeout(None))));
        assert_eq!(of("SET statement_timeout = soon"), Err("22023"));
        let show = Setting::Show("foreline.epoch".to_owned());
        assert_eq!(of("SHOW foreline.epoch;"), Ok(Some(show)));
    }
}
