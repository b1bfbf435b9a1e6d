//! What is wrong with a pipeline file, and where; independent of how it is shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::suggest::closest;
use crate::yaml::Span;

/// What kind of mistake it is: `FL` and four digits that never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Code(pub &'static str);

impl Code {
    /// The file is not YAML.
    pub const SYNTAX: Code = Code("FL0101");
    /// A key stands twice in one block.
    pub const DUPLICATE_KEY: Code = Code("FL0102");
    /// A key that has no meaning there.
    pub const UNKNOWN_KEY: Code = Code("FL0201");
    /// A key that must be there is not.
    pub const MISSING_KEY: Code = Code("FL0202");
    /// A value of the wrong type.
    pub const WRONG_TYPE: Code = Code("FL0203");
    /// A value that is not possible there.
    pub const BAD_VALUE: Code = Code("FL0204");
    /// The version of the file is not one that is understood.
    pub const VERSION: Code = Code("FL0205");
    /// A section that belongs to a later version of Foreline.
    pub const NOT_AVAILABLE: Code = Code("FL0206");
    /// A kind of source, step or sink that does not exist.
    pub const UNKNOWN_KIND: Code = Code("FL0207");
    /// A source, step or sink that does not say its kind.
    pub const NO_KIND: Code = Code("FL0208");
    /// A source, step or sink with more than one kind.
    pub const MANY_KINDS: Code = Code("FL0209");
    /// A name that is not possible.
    pub const BAD_NAME: Code = Code("FL0301");
    /// A name that two things have.
    pub const NAME_TWICE: Code = Code("FL0302");
    /// A stream that does not exist.
    pub const UNKNOWN_STREAM: Code = Code("FL0303");
    /// Steps that wait for one another.
    pub const CYCLE: Code = Code("FL0304");
    /// A column that does not exist.
    pub const UNKNOWN_COLUMN: Code = Code("FL0401");
    /// Key, event time or columns of a source do not fit together.
    pub const SCHEMA: Code = Code("FL0402");
    /// A duration where a count is needed, or the other way round.
    pub const TIME_DOMAIN: Code = Code("FL0403");
    /// A SQL expression that does not compile or has the wrong type.
    pub const EXPRESSION: Code = Code("FL0404");
    /// Late rows are to correct results, but a step cannot.
    pub const LATE: Code = Code("FL0405");
    /// The configuration of a source, step or sink does not fit.
    pub const CONFIGURATION: Code = Code("FL0406");
    /// A value from outside the file is not there.
    pub const SECRET_UNSET: Code = Code("FL0501");
    /// A reference to a value outside the file that is not understood.
    pub const SECRET_FORM: Code = Code("FL0502");
    /// Warning: nothing reads a stream.
    pub const UNUSED: Code = Code("FL0901");
    /// Warning: something a user should know that is not an error.
    pub const NOTE: Code = Code("FL0902");
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The pipeline cannot run.
    Error,
    /// It can, but perhaps not as meant.
    Warning,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its kind.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub span: Span,
    /// What is wrong: lower case, names quoted.
    pub message: String,
    /// What the marked place is, beside it in the snippet.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// The name that was most likely meant.
    pub suggestion: Option<String>,
    /// Another place that matters, with what it is.
    pub related: Option<(Span, String)>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Diagnostic {
            code,
            severity: Severity::Error,
            span,
            message: message.into(),
            label: None,
            help: None,
            suggestion: None,
            related: None,
        }
    }

    /// A warning at `span`.
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// With what the marked place is.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With another place that matters.
    #[must_use]
    pub fn related(mut self, span: Span, what: impl Into<String>) -> Self {
        self.related = Some((span, what.into()));
        self
    }

    /// With the name among `known` that was most likely meant by `name`; where none is close, with all of them.
    #[must_use]
    pub fn expected<'a>(mut self, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let advice = match closest(name, &known) {
            Some(meant) => {
                self.suggestion = Some(meant.to_owned());
                format!("did you mean '{meant}'?")
            }
            None => match list(&known) {
                Some(all) => format!("expected {all}"),
                None => return self,
            },
        };
        self.help = Some(match self.help.take() {
            Some(help) => format!("{advice} {help}"),
            None => advice,
        });
        self
    }
}

/// Most names that a message lists; more do not help to choose.
const MAX_LISTED: usize = 24;

fn list(names: &[&str]) -> Option<String> {
    let quoted: Vec<_> = names.iter().take(MAX_LISTED).map(|n| format!("'{n}'")).collect();
    match quoted.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many if names.len() > MAX_LISTED => {
            Some(format!("one of {} and {} more", many.join(", "), names.len() - MAX_LISTED))
        }
        many => Some(format!("one of {}", many.join(", "))),
    }
}

/// All that was found in one file, in the order of the file.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    file: PathBuf,
    text: Arc<str>,
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// What was found in `file`, which holds `text` but for secrets that are covered in it.
    pub(crate) fn new(file: &Path, text: &str, mut found: Vec<Diagnostic>) -> Self {
        found.sort_by(|a, b| (a.span, a.code, &a.message).cmp(&(b.span, b.code, &b.message)));
        found.dedup();
        Diagnostics { file: file.to_owned(), text: text.into(), found }
    }

    /// The file, as it was named.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The text of the file, with secrets that are written out in it covered.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Everything, in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[Diagnostic] {
        &self.found
    }

    /// Those that keep the pipeline from running.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.found.iter().filter(|d| d.severity == Severity::Error)
    }

    /// Those that do not.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.found.iter().filter(|d| d.severity == Severity::Warning)
    }

    /// Whether the pipeline cannot run.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// The line and column of a byte, both from 1, the column in characters.
    #[must_use]
    pub fn line_column(&self, byte: usize) -> (usize, usize) {
        let before = &self.text[..byte.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The same for a program: `{"diagnostics": [{code, severity, file, line, column, …}]}`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let place = |span: Span| {
            let (line, column) = self.line_column(span.start);
            let (end_line, end_column) = self.line_column(span.end);
            serde_json::json!({
                "line": line, "column": column, "end_line": end_line, "end_column": end_column,
            })
        };
        let list = self.found.iter().map(|d| {
            let mut object = serde_json::json!({
                "code": d.code,
                "severity": d.severity,
                "file": self.file.display().to_string(),
                "at": place(d.span),
                "message": d.message,
                "label": d.label,
                "help": d.help,
                "suggestion": d.suggestion,
            });
            if let Some((span, what)) = &d.related {
                object["related"] = serde_json::json!({ "at": place(*span), "label": what });
            }
            object
        });
        serde_json::json!({ "diagnostics": list.collect::<Vec<_>>() })
    }
}
