//! `foreline test`: the cases of a pipeline file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use arrow::array::{Array as _, AsArray as _, BooleanArray};
use arrow::util::display::array_value_to_string;
use clap::Args;
use foreline_engine::{Batch, Schema};
use foreline_spec::{Plan, SourceOverride, TestConfig, TestRows, rows_to_csv};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::commands::{Format, Running};
use crate::failure::{Failure, Outcome};
use crate::session::{Kept, Purpose, keep, load};

/// What `foreline test` takes.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The pipeline file.
    file: PathBuf,
    /// Only cases whose name holds this.
    #[arg(long)]
    only: Option<String>,
    #[command(flatten)]
    running: Running,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// What came of one case.
#[derive(Debug, Serialize)]
pub struct Ran {
    /// The case's name.
    pub name: String,
    /// What differs from what it expects; empty when it passed.
    pub differences: Vec<String>,
}

/// Runs the cases of a file and prints what came of them.
///
/// # Errors
/// When the file has mistakes or a case fails.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub fn test(arguments: &Arguments) -> Outcome {
    let only = arguments.only.as_deref().unwrap_or("");
    let all = run_cases(&arguments.file, only, &arguments.running)?;
    let n_failed = all.iter().filter(|r| !r.differences.is_empty()).count();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?);
    } else {
        for ran in &all {
            let mark = if ran.differences.is_empty() { "ok    " } else { "FAILED" };
            println!("{mark} {}", ran.name);
            ran.differences.iter().for_each(|d| println!("       {d}"));
        }
        println!("{} passed, {n_failed} failed", all.len() - n_failed);
    }
    if n_failed == 0 { Ok(()) } else { Err(Failure::Answer) }
}

/// Runs the cases of a file whose name holds `only`.
///
/// # Errors
/// When the file has mistakes, has no such case, or a run fails.
pub fn run_cases(file: &Path, only: &str, running: &Running) -> Result<Vec<Ran>, Failure> {
    let looked_at = Purpose { checking: true, ..Purpose::default() };
    let plan = load(file, Format::Text, looked_at)?;
    let cases: Vec<&TestConfig> = plan.tests.iter().filter(|t| t.name.contains(only)).collect();
    if cases.is_empty() {
        return Err(anyhow!("'{}' has no such 'tests'", file.display()).into());
    }
    let ran = cases.into_iter().map(|case| {
        let differences = carry_out(file, &plan, case, running)?;
        Ok(Ran { name: case.name.clone(), differences })
    });
    ran.collect()
}

/// Runs one case; what differs from what it expects.
fn carry_out(
    file: &Path,
    plan: &Plan,
    case: &TestConfig,
    running: &Running,
) -> Result<Vec<String>, Failure> {
    let folder = tempfile::tempdir().context("a folder for the rows of a test")?;
    let mut inputs = BTreeMap::new();
    for source in plan.sources.iter().filter(|source| source.is_own()) {
        let rows = match case.input.get(&source.name) {
            // A reference in a file is read from there; any other is empty.
            None if source.front.is_relation() && source.kind == "csv" => continue,
            None if source.front.is_relation() => &TestRows::Rows(Vec::new()),
            rows => rows.context("a checked case has an input for every source")?,
        };
        let input = match rows {
            TestRows::File(path) => SourceOverride::Path(PathBuf::from(path)),
            TestRows::Rows(rows) => {
                let path = folder.path().join(format!("{}.csv", source.name));
                let columns = source.columns.iter().map(|(name, _)| name.as_str());
                std::fs::write(&path, rows_to_csv(columns, rows))?;
                SourceOverride::Rows(path)
            }
        };
        inputs.insert(source.name.clone(), input);
    }
    let purpose = Purpose { checking: true, inputs, ..Purpose::default() };
    let plan = load(file, Format::Text, purpose)?;
    let expect = &case.expect;
    let mut streams: BTreeSet<&str> =
        expect.rows.keys().chain(expect.counts.keys()).map(String::as_str).collect();
    let alerts = plan.alerts.iter().filter(|_| expect.alerts.is_some());
    streams.extend(alerts.map(|a| a.name.as_str()));
    let mut streams: Vec<&str> = streams.into_iter().collect();
    if streams.is_empty() {
        streams.push(foreline_spec::DEAD_LETTERS);
    }
    let kept = keep(&plan, &streams, running.workers(), None)?;
    let mut differences = Vec::new();
    for (stream, want) in &expect.counts {
        let found = kept.streams.get(stream).map_or(0, |(_, batch)| batch.len() as u64);
        if found != *want {
            differences.push(format!("'{stream}' has {found} rows, not {want}"));
        }
    }
    for (stream, want) in &expect.rows {
        let want = expected_rows(file, want)?;
        let (schema, batch) = kept.streams.get(stream).context("the stream was kept")?;
        differences.extend(compare(stream, schema, batch, &want, case.tolerance));
    }
    for alert in plan.alerts.iter().filter(|_| expect.alerts.is_some()) {
        let rule = |row: &&Map<String, Value>| row.get("rule") == Some(&alert.name.as_str().into());
        let want: Vec<_> = expect.alerts.iter().flatten().filter(rule).cloned().collect();
        let (schema, batch) = kept.streams.get(&alert.name).context("the alert was kept")?;
        let raised = raised(batch)?;
        differences.extend(compare(&alert.name, schema, &raised, &want, case.tolerance));
    }
    if let Some(want) = &expect.dead_letters {
        differences.extend(compare_dead(&kept, want));
    }
    Ok(differences)
}

/// The changes by which an alert was raised.
fn raised(changes: &Batch) -> anyhow::Result<Batch> {
    let change = changes.rows.column_by_name("change").context("an alert's changes")?;
    let is_raised = change.as_string::<i32>().iter().map(|c| Some(c == Some("raised")));
    Ok(changes.filter(&is_raised.collect::<BooleanArray>())?)
}

/// Rows as the file has them, or as a CSV file has them (every value text).
fn expected_rows(file: &Path, rows: &TestRows) -> anyhow::Result<Vec<Map<String, Value>>> {
    let path = match rows {
        TestRows::Rows(rows) => return Ok(rows.clone()),
        TestRows::File(path) => file.parent().unwrap_or(Path::new("")).join(path),
    };
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("expected rows '{}'", path.display()))?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or("").split(',').map(str::trim).collect();
    let row = |line: &str| {
        let values = line.split(',').map(|v| Value::String(v.trim().to_owned()));
        header.iter().map(|h| (*h).to_owned()).zip(values).collect()
    };
    Ok(lines.filter(|l| !l.trim().is_empty()).map(row).collect())
}

/// The rows in the order of their key as text and their event time.
fn in_order(schema: &Schema, batch: &Batch) -> Vec<usize> {
    let times = batch.times(schema);
    let key = |row: usize| -> Vec<String> {
        let columns = schema.key().iter();
        columns.map(|&k| text(batch, k, row).unwrap_or_default()).collect()
    };
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|&row| (key(row), times[row], batch.position.value(row)));
    order
}

/// A value as text; `None` for null.
fn text(batch: &Batch, column: usize, row: usize) -> Option<String> {
    let array = batch.rows.column(column);
    let null = array.is_null(row);
    (!null).then(|| array_value_to_string(array, row).unwrap_or_default())
}

fn compare(
    stream: &str,
    schema: &Schema,
    batch: &Batch,
    want: &[Map<String, Value>],
    tolerance: f64,
) -> Vec<String> {
    if batch.len() != want.len() {
        return vec![format!("'{stream}' has {} rows, not {}", batch.len(), want.len())];
    }
    let mut differences = Vec::new();
    for (n, (row, want)) in in_order(schema, batch).into_iter().zip(want).enumerate() {
        for (name, want) in want {
            let Some(column) = schema.index_of(name) else { continue };
            let found = text(batch, column, row);
            if !same(found.as_deref(), want, tolerance) {
                let found = found.unwrap_or_else(|| "null".to_owned());
                differences
                    .push(format!("'{stream}' row {}: '{name}' is {found}, not {want}", n + 1));
            }
        }
    }
    differences
}

/// Whether a value is the expected one; numbers by value, timestamps by instant, lists by their items, all else as text.
fn same(found: Option<&str>, want: &Value, tolerance: f64) -> bool {
    let want = match want {
        Value::Array(items) => return same_items(found, items, tolerance),
        Value::Null => return found.is_none(),
        Value::String(text) if text.is_empty() => return found.is_none(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let Some(found) = found else { return false };
    if let (Ok(a), Ok(b)) = (found.parse::<f64>(), want.parse::<f64>()) {
        let bound = tolerance * b.abs().max(f64::MIN_POSITIVE);
        return a == b || (a - b).abs() <= bound;
    }
    let instant = |t: &str| arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(t).ok();
    found == want || instant(found).is_some_and(|a| Some(a) == instant(&want))
}

/// The same for a list, which is `[a, b]` as text.
fn same_items(found: Option<&str>, want: &[Value], tolerance: f64) -> bool {
    let inner = found.and_then(|text| text.strip_prefix('[')?.strip_suffix(']'));
    let Some(inner) = inner else { return false };
    let found: Vec<&str> = inner.split(',').map(str::trim).filter(|f| !f.is_empty()).collect();
    let same = |(found, want): (&&str, &Value)| same(Some(found), want, tolerance);
    found.len() == want.len() && found.iter().zip(want).all(same)
}

fn compare_dead(kept: &Kept, want: &BTreeMap<String, u64>) -> Vec<String> {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for reasons in kept.report.dead.values() {
        for (reason, count) in reasons {
            *found.entry(reason.clone()).or_default() += count;
        }
    }
    let reasons: BTreeSet<&String> = found.keys().chain(want.keys()).collect();
    let count = |map: &BTreeMap<String, u64>, reason| map.get(reason).copied().unwrap_or(0);
    reasons
        .into_iter()
        .filter(|r| count(&found, *r) != count(want, *r))
        .map(|r| format!("{} dead letters for '{r}', not {}", count(&found, r), count(want, r)))
        .collect()
}
