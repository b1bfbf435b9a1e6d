//! The prompt: lines with history and completion, queries that end with `;`, and commands as psql has them.

use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use super::{Arguments, Source, most_rows, table, tell, write};
use crate::failure::Outcome;

/// Lines that the history keeps.
const HISTORY_LINES: usize = 2_000;
/// Words that are completed beside names.
const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "LIMIT",
    "HAVING",
    "JOIN",
    "LEFT JOIN",
    "ON",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "BETWEEN",
    "IS NULL",
    "IS NOT NULL",
    "DESC",
    "DISTINCT",
    "WITH",
    "UNION ALL",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "INTERVAL",
    "EXPLAIN",
    "DESCRIBE",
    "SHOW TABLES",
    "count(*)",
    "avg(",
    "min(",
    "max(",
    "sum(",
    "stddev(",
    "median(",
    "rms(",
    "kurtosis(",
    "first(",
    "last(",
    "time_bucket(",
    "date_trunc(",
    "now()",
];
const HELP: &str = "\
SELECT …;      a query; it may have several lines and ends with ;
\\d             the tables
\\d NAME        the columns of a table
\\timing        how long queries take: shown or not
\\q             ends (also ctrl-D)
Tables, functions and examples: docs/sql.md
";

/// Reads and answers until somebody has had enough.
pub(super) fn run(source: &Source, arguments: &Arguments) -> Outcome {
    tell(&source.line());
    tell("\\? for help, \\q to end");
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true);
    let config = config.max_history_size(HISTORY_LINES).map_err(anyhow::Error::from)?.build();
    let mut editor: Editor<Words, FileHistory> =
        Editor::with_config(config).map_err(anyhow::Error::from)?;
    editor.set_helper(Some(Words::of(source)));
    let history = history();
    if let Some(path) = &history {
        // Without one there was none so far.
        let _ = editor.load_history(path);
    }
    let mut shows_time = true;
    loop {
        match editor.readline("foreline=> ") {
            Ok(line) => {
                if !obey(source, arguments, line.trim(), &mut shows_time) {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(anyhow::Error::from(e).into()),
        }
    }
    if let Some(path) = &history
        && let Err(e) = editor.save_history(path)
    {
        tell(&format!("the history cannot be kept in '{}': {e}", path.display()));
    }
    Ok(())
}

/// Does what a line says; whether there is to be another.
fn obey(source: &Source, arguments: &Arguments, line: &str, shows_time: &mut bool) -> bool {
    let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let query = match command.trim_end_matches(';') {
        "" => return true,
        "\\q" | "exit" | "quit" => return false,
        "\\?" | "\\h" | "help" => {
            tell(HELP.trim_end());
            return true;
        }
        "\\timing" => {
            *shows_time = !*shows_time;
            tell(if *shows_time { "timing is on" } else { "timing is off" });
            return true;
        }
        "\\d" | "\\dt" => described(rest.trim().trim_end_matches(';')),
        other if other.starts_with('\\') => {
            tell(&format!("there is no command '{other}'; \\? lists them"));
            return true;
        }
        _ => line.to_owned(),
    };
    let answer = source.ask(&query, most_rows(arguments));
    let written = answer.and_then(|answer| {
        if arguments.format == super::Form::Table && arguments.output.is_none() && !*shows_time {
            let text = table(&answer)?;
            let text = text.rsplit_once(", ").map_or(text.as_str(), |(before, _)| before);
            return show(&format!("{text})\n"));
        }
        write(&answer, arguments.format, arguments.output.as_deref())
    });
    if let Err(e) = written {
        tell(&format!("error: {e:#}"));
    }
    true
}

#[expect(clippy::print_stdout, reason = "this is the answer")]
fn show(text: &str) -> anyhow::Result<()> {
    print!("{text}");
    Ok(())
}

/// The query that describes a table, or lists all.
fn described(name: &str) -> String {
    if name.is_empty() {
        return "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY name".to_owned();
    }
    format!("DESCRIBE \"{}\"", name.trim_matches('"').replace('"', "\"\""))
}

/// Where the history is kept, by the conventions of the desktop.
fn history() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|h| h.join(".local/state")))?;
    let folder = state.join("foreline");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("sql_history"))
}

/// What is completed: words of SQL, names of tables and columns.
struct Words(Vec<String>);

impl Words {
    fn of(source: &Source) -> Self {
        let mut words: Vec<String> = WORDS.iter().map(|&w| w.to_owned()).collect();
        let sql = "SELECT DISTINCT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'";
        if let Ok(answer) = source.ask(sql, 10_000) {
            for rows in &answer.rows {
                for column in rows.columns() {
                    let names = arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8);
                    let Ok(names) = names else { continue };
                    let names = arrow::array::AsArray::as_string::<i32>(&names);
                    words.extend(names.iter().flatten().map(str::to_owned));
                }
            }
        }
        words.sort();
        words.dedup();
        Words(words)
    }

    /// Where the word before `at` begins, and what it may become.
    fn complete(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let before = &line[..at];
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let start = before
            .rfind(|c| !is_part(c))
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        let word = before[start..].to_lowercase();
        if word.is_empty() {
            return (start, Vec::new());
        }
        let fits = |w: &&String| w.to_lowercase().starts_with(&word);
        (start, self.0.iter().filter(fits).cloned().collect())
    }
}

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(Words::complete(self, line, at))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_whole(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Helper for Words {}

/// Whether a line can be obeyed: a command, nothing, or a query that ends.
fn is_whole(line: &str) -> bool {
    let line = line.trim();
    let is_word = ["exit", "quit", "help"].contains(&line);
    line.is_empty() || is_word || line.starts_with('\\') || line.ends_with(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_ends_with_a_semicolon_and_a_command_with_its_line() {
        for whole in ["", "\\d", "\\d pumps", "SELECT 1;", "SELECT 1 ; ", "exit"] {
            assert!(is_whole(whole), "{whole}");
        }
        assert!(!is_whole("SELECT 1") && !is_whole("SELECT ';"[..8].trim_end_matches(';')));
    }

    #[test]
    fn names_and_words_are_completed() {
        let words = Words(["FROM", "features", "first("].map(str::to_owned).to_vec());
        assert_eq!(words.complete("SELECT * FROM fe", 16), (14, vec!["features".to_owned()]));
        assert_eq!(words.complete("select f", 8).1, ["FROM", "features", "first("]);
        assert_eq!(words.complete("SELECT ", 7), (7, vec![]));
        assert_eq!(words.complete("기계 fi", 9), (7, vec!["first(".to_owned()]));
    }

    #[test]
    fn a_name_is_quoted() {
        assert_eq!(described("pump data"), "DESCRIBE \"pump data\"");
        assert_eq!(described("a\"; DROP"), "DESCRIBE \"a\"\"; DROP\"");
        assert!(described("").starts_with("SELECT table_name"));
    }
}
