//! The way in: a file, or its text, to a plan and everything that is wrong with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use std::sync::Arc;

use foreline_engine::{Expression, ExpressionError, Schema};
use foreline_sql::SqlExpressions;

use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::kinds::{Kinds, Language};
use crate::plan::Plan;
use crate::planner::{Given, Planner};
use crate::read::Reader;
use crate::secret::{Environment, ProcessEnvironment, Secrets, cover, cover_lines};
use crate::setting;
use crate::yaml::{Entry, MAX_FILE_BYTES, Node, Value, parse};

/// What else a plan depends on.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Whether the plan is only looked at; models then need not be pinned.
    pub checking: bool,
    /// Plan only a part of the pipeline; the rest may lack what it needs, such as weights not yet trained.
    pub only: Option<Only>,
    /// Inputs to read instead of those in the file, by source.
    pub overrides: BTreeMap<String, SourceOverride>,
    /// Weights to use instead of those in the file, by `model` step.
    pub weights: BTreeMap<String, PathBuf>,
    /// Other values for settings of the file, by place, such as `steps.smooth.ema.alpha`.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// Where kinds may keep what they can make again.
    pub cache_dir: PathBuf,
}

/// The part of a pipeline that is planned: what leads to one stream, without sinks, alerts and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    /// To this stream. Trainings are left out too.
    Stream(String),
    /// To the stream of this training.
    Training(String),
}

/// What a source reads instead of its own input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceOverride {
    /// Another file of the same form: only `path` of the source's `csv` changes.
    Path(PathBuf),
    /// A CSV file as [`rows_to_csv`](crate::rows_to_csv) writes it, whatever the source's own form.
    Rows(PathBuf),
}

/// What came of a check.
#[derive(Debug)]
pub struct Checked {
    /// The plan, when there is no error.
    pub plan: Option<Plan>,
    /// Errors and warnings.
    pub diagnostics: Diagnostics,
}

/// A pipeline file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("'{}': {why}", file.display())]
pub struct ReadError {
    file: PathBuf,
    why: String,
}

/// Reads the pipeline file and plans it with every kind there is and the environment of this process.
///
/// # Errors
/// When the file cannot be read; what is wrong inside it is with the diagnostics.
pub fn check_file(file: &Path, options: &PlanOptions) -> Result<Checked, ReadError> {
    let text = read_text(file)?;
    Ok(check_text(file, &text, &Kinds::all(), &ProcessEnvironment, options))
}

/// The text of a pipeline file.
pub(crate) fn read_text(file: &Path) -> Result<String, ReadError> {
    let fail = |why: String| ReadError { file: file.to_owned(), why };
    let bytes = read_up_to(file, MAX_FILE_BYTES as u64).map_err(|e| fail(e.to_string()))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(fail(format!("it has more than {MAX_FILE_BYTES} bytes, which is the limit")));
    }
    String::from_utf8(bytes).map_err(|_| fail("the file is not UTF-8".to_owned()))
}

/// The bytes of a file, at most one more than `limit`. Only of a file: a device has no end, and a pipe may never begin.
pub(crate) fn read_up_to(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An expression of the pipeline's language, for rows of `schema`.
///
/// # Errors
/// When it is none, names a column that is not there, or calls what is not immutable.
pub fn compile(sql: &str, schema: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
    SqlExpressions::new().compile(sql, schema)
}

/// Plans `text` as if it stood in `file`, whose folder paths are relative to.
#[must_use]
pub fn check_text(
    file: &Path,
    text: &str,
    kinds: &Kinds,
    environment: &dyn Environment,
    options: &PlanOptions,
) -> Checked {
    let mut out = Vec::new();
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut secrets = Secrets::new(environment, folder);
    let mut shown = cover_lines(text);
    let plan = match parse(text) {
        Ok((mut root, duplicates)) => {
            if duplicates.is_empty() {
                shown = cover(text, &root);
            }
            for d in duplicates {
                let message = format!("the key '{}' is there twice", d.key);
                let error = Diagnostic::error(Code::DUPLICATE_KEY, d.again, message)
                    .label("again")
                    .related(d.first, "the first one")
                    .help("remove one of them");
                out.push(error);
            }
            secrets.resolve(&mut root, &mut out);
            for (path, value) in &options.settings {
                if !setting::replace(&mut root, path, value) {
                    let message = format!("'{path}' leads to no setting of this file");
                    out.push(Diagnostic::error(Code::BAD_VALUE, root.span, message));
                }
            }
            replace_inputs(&mut root, options, &mut out);
            replace_weights(&mut root, options, &mut out);
            let name = file.file_stem().map_or_else(|| "pipeline".into(), |s| s.to_string_lossy());
            plan_tree(&shown, &name, &root, folder, kinds, options, &mut out)
        }
        Err(e) => {
            let mut error = Diagnostic::error(Code::SYNTAX, e.at, e.message);
            error.help = e.help;
            out.push(error);
            None
        }
    };
    for d in &mut out {
        d.message = secrets.scrub(&d.message);
        d.help = d.help.take().map(|h| secrets.scrub(&h));
    }
    let diagnostics = Diagnostics::new(file, &shown, out);
    Checked { plan: plan.filter(|_| !diagnostics.has_errors()), diagnostics }
}

fn plan_tree(
    text: &str,
    name: &str,
    root: &Node,
    folder: &Path,
    kinds: &Kinds,
    options: &PlanOptions,
    out: &mut Vec<Diagnostic>,
) -> Option<Plan> {
    let language = Language::new(kinds);
    let file = Reader { kinds, language: &language, out }.file(root)?;
    let given = Given { folder, options, sql: SqlExpressions::new() };
    Some(Planner::new(text, root, name, &file, given, out).plan())
}

/// Puts the inputs of `options` in the place of those of the file.
fn replace_inputs(root: &mut Node, options: &PlanOptions, out: &mut Vec<Diagnostic>) {
    for (name, with) in &options.overrides {
        let section = match member(root, "reference").is_some_and(|r| member(r, name).is_some()) {
            true => "reference",
            false => "sources",
        };
        let Some(source) = member(root, section).and_then(|s| member(s, name)) else {
            let message = format!("there is no source '{name}' whose input could be replaced");
            let span = root.entry("sources").map_or(root.span, |e| e.key_span);
            out.push(Diagnostic::error(Code::UNKNOWN_STREAM, span, message));
            continue;
        };
        let span = source.span;
        let text = |path: &Path| Node { span, value: Value::Text(path.display().to_string()) };
        match with {
            SourceOverride::Path(path) => match member(source, "csv") {
                Some(csv) => {
                    set(csv, "path", text(path));
                    // What is read instead is there as a whole.
                    leave(csv, "follow");
                }
                None => {
                    let message =
                        format!("the input of '{name}' cannot be replaced: it is not 'csv'");
                    out.push(Diagnostic::error(Code::CONFIGURATION, span, message));
                }
            },
            SourceOverride::Rows(path) => {
                let mut csv = Node { span, value: Value::Map(Vec::new()) };
                set(&mut csv, "path", text(path));
                plain(source);
                set(source, "csv", csv);
            }
        }
    }
}

/// Puts the weights of `options` in the place of those of the file.
fn replace_weights(root: &mut Node, options: &PlanOptions, out: &mut Vec<Diagnostic>) {
    for (name, path) in &options.weights {
        let step = member(root, "steps").and_then(|steps| member(steps, name));
        let Some(model) = step.and_then(|step| member(step, "model")) else {
            let message =
                format!("there is no 'model' step '{name}' whose weights could be replaced");
            let span = root.entry("steps").map_or(root.span, |e| e.key_span);
            out.push(Diagnostic::error(Code::UNKNOWN_STREAM, span, message));
            continue;
        };
        let text = Value::Text(path.display().to_string());
        let node = Node { span: model.span, value: text };
        set(model, "weights", node);
        // A pin of those in the file says nothing about others.
        leave(model, "weights_sha256");
    }
}

fn leave(node: &mut Node, key: &str) {
    if let Value::Map(entries) = &mut node.value {
        entries.retain(|e| e.key != key);
    }
}

/// Leaves of a source what does not depend on how its input is written.
fn plain(source: &mut Node) {
    const KEPT: &[&str] = &[
        "columns",
        "key",
        "time",
        "lateness",
        "late",
        "dedupe",
        "dedupe_within",
        "device_clock",
        "max_ahead",
        "idle_timeout",
        "valid_from",
        "max_rows",
    ];
    if let Value::Map(entries) = &mut source.value {
        entries.retain(|e| KEPT.contains(&e.key.as_str()));
    }
    let Some(Value::Map(columns)) = member(source, "columns").map(|n| &mut n.value) else { return };
    for column in columns {
        if let Value::Map(options) = &mut column.value.value {
            options.retain(|o| !matches!(o.key.as_str(), "field" | "format" | "zone"));
        }
    }
}

fn member<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().find(|e| e.key == key).map(|e| &mut e.value),
        _ => None,
    }
}

fn set(node: &mut Node, key: &str, value: Node) {
    if let Some(old) = member(node, key) {
        *old = value;
    } else if let Value::Map(entries) = &mut node.value {
        entries.push(Entry { key: key.to_owned(), key_span: node.span, value });
    }
}
