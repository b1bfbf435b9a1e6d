//! Golden cases: rows with the scores that they must have, in a file beside the plugin.
//!
//! Every case is scored in several ways that must not show: cut into batches and calls of other sizes, keys in another
//! order and under other names, behind other rows. Where they do, the plugin remembers something that is not in its
//! state, and a replay would give other scores than the run did.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::driver::{Driver, Fate, Row};
use super::{AuthorError, Subject};
use crate::sandbox::{Descriptor, Instance, Setup, read_weights};

/// Rows of a case. Golden cases are read by people; more rows belong into a pipeline's tests.
const MAX_ROWS: usize = 10_000;
/// Cases of a file.
const MAX_CASES: usize = 1_000;
/// How many differences of a case are told.
const MAX_TOLD: usize = 5;

/// What became of all cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TestReport {
    /// Each case, in the order of the file.
    pub cases: Vec<CaseReport>,
    /// The file with the scores that came out, where they were asked for and every case can be.
    #[serde(skip)]
    pub updated: Option<Value>,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseReport {
    /// What the file calls it.
    pub name: String,
    /// Rows of the case.
    pub rows: usize,
    /// Rows that the file expects something of.
    pub expected: usize,
    /// In how many ways they were cut and ordered.
    pub variations: usize,
    /// What is wrong; empty when the case passed.
    pub failures: Vec<String>,
}

impl TestReport {
    /// Whether all cases passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.cases.iter().all(|c| c.failures.is_empty())
    }
}

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Relative to the file.
    weights: Option<PathBuf>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    tolerance: f64,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Instead of the file's.
    weights: Option<PathBuf>,
    /// Added to the file's.
    #[serde(default)]
    config: BTreeMap<String, String>,
    /// Instead of the file's.
    tolerance: Option<f64>,
    /// The plugin must refuse to start, with a message that has this in it.
    error: Option<String>,
    #[serde(default)]
    rows: Vec<GoldenRow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenRow {
    /// Rows without one are a machine each.
    key: Option<String>,
    features: BTreeMap<String, Number>,
    expect: Option<BTreeMap<String, Number>>,
    /// The reason code that the row is refused with.
    error: Option<String>,
}

/// A number or nothing. `"inf"` and `"-inf"` are text, since JSON has no such numbers.
#[derive(Debug, Clone, Copy)]
struct Number(Option<f64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = match &value {
            Value::Null => None,
            Value::Number(n) => n.as_f64(),
            Value::String(text) if text == "inf" => Some(f64::INFINITY),
            Value::String(text) if text == "-inf" => Some(f64::NEG_INFINITY),
            other => {
                let message = format!("{other} is not a number, null, \"inf\" or \"-inf\"");
                return Err(serde::de::Error::custom(message));
            }
        };
        Ok(Number(number))
    }
}

/// A score as it is written into the file. Scores that pass are finite.
fn written(score: f64) -> Value {
    serde_json::Number::from_f64(score).map_or(Value::Null, Value::Number)
}

/// Carries out the cases of a file that lies in `folder`; the subject's options and weights are those that the file
/// does not name. With `update` the scores that come out are put in place of those that were expected.
///
/// # Errors
/// When the file cannot be used, or the plugin is not let in. A case that fails is no error but in the report.
pub fn test(
    subject: &Subject,
    folder: &Path,
    file: &Value,
    update: bool,
) -> Result<TestReport, AuthorError> {
    let subject = subject.wrapped()?;
    let parsed: File =
        serde_json::from_value(file.clone()).map_err(|e| AuthorError::Cases(e.to_string()))?;
    validate(&parsed)?;
    let mut updated = file.clone();
    let mut reports = Vec::new();
    for (index, case) in parsed.cases.iter().enumerate() {
        let subject = with_case(&subject, folder, &parsed, case)?;
        let tolerance = case.tolerance.unwrap_or(parsed.tolerance);
        let (report, fates) = carry_out(&subject, case, tolerance, update)?;
        if let (Some(fates), Some(rows)) = (fates, updated["cases"][index]["rows"].as_array_mut()) {
            put(rows, &fates);
        }
        reports.push(report);
    }
    let all_can_be = reports.iter().all(|c: &CaseReport| c.failures.is_empty());
    Ok(TestReport { cases: reports, updated: (update && all_can_be).then_some(updated) })
}

fn validate(file: &File) -> Result<(), AuthorError> {
    let wrong = |what: String| Err(AuthorError::Cases(what));
    if file.cases.is_empty() || file.cases.len() > MAX_CASES {
        return wrong(format!("there are {} cases; 1 to {MAX_CASES} can be", file.cases.len()));
    }
    let mut names = BTreeSet::new();
    for case in &file.cases {
        let name = &case.name;
        if !names.insert(name) {
            return wrong(format!("two cases are called '{name}'"));
        }
        if case.rows.len() > MAX_ROWS {
            return wrong(format!("case '{name}' has more than {MAX_ROWS} rows"));
        }
        if case.error.is_some() != case.rows.is_empty() {
            return wrong(format!("case '{name}' needs either 'rows' or an 'error' of the start"));
        }
        let tolerance = case.tolerance.unwrap_or(file.tolerance);
        if !tolerance.is_finite() || tolerance < 0.0 {
            return wrong(format!("case '{name}' has a tolerance of {tolerance}"));
        }
        for (number, row) in (1..).zip(&case.rows) {
            if row.expect.is_some() && row.error.is_some() {
                return wrong(format!("case '{name}', row {number} has 'expect' and 'error'"));
            }
        }
    }
    Ok(())
}

/// The model of one case.
fn with_case(
    subject: &Subject,
    folder: &Path,
    file: &File,
    case: &Case,
) -> Result<Subject, AuthorError> {
    let mut subject = subject.clone();
    if let Some(path) = case.weights.as_ref().or(file.weights.as_ref()) {
        subject.weights = read_weights(&folder.join(path))?;
    }
    subject.config.extend(file.config.clone());
    subject.config.extend(case.config.clone());
    Ok(subject)
}

/// Scores of a case by row, with the names of the outputs.
type Fates = (Vec<String>, Vec<Fate>);

fn carry_out(
    subject: &Subject,
    case: &Case,
    tolerance: f64,
    update: bool,
) -> Result<(CaseReport, Option<Fates>), AuthorError> {
    let mut report = CaseReport {
        name: case.name.clone(),
        rows: case.rows.len(),
        expected: case.rows.iter().filter(|r| r.expect.is_some() || r.error.is_some()).count(),
        variations: 0,
        failures: Vec::new(),
    };
    let plugin = subject.admitted(Setup::Usual)?;
    let descriptor = match (Instance::start(&plugin), &case.error) {
        (Ok((_, descriptor)), None) => descriptor,
        (Ok(_), Some(error)) => {
            report.failures.push(format!("it starts, and '{error}' was expected"));
            return Ok((report, None));
        }
        (Err(e), Some(error)) if e.to_string().contains(error) => return Ok((report, None)),
        (Err(e), Some(error)) => {
            report.failures.push(format!("it does not start: {e}; '{error}' was expected"));
            return Ok((report, None));
        }
        (Err(e), None) => {
            report.failures.push(format!("it does not start: {e}"));
            return Ok((report, None));
        }
    };
    let rows = rows_of(case, &descriptor)?;
    let fates = match vary(subject, &descriptor, &rows, &mut report) {
        Ok(fates) => fates,
        Err(e) => {
            report.failures.push(e);
            return Ok((report, None));
        }
    };
    let names: Vec<String> = descriptor.outputs.iter().map(|o| o.name.clone()).collect();
    if !update {
        compare(case, &names, &fates, tolerance, &mut report)?;
    }
    let more = report.failures.len().saturating_sub(MAX_TOLD);
    if more > 0 {
        report.failures.truncate(MAX_TOLD);
        report.failures.push(format!("and {more} more"));
    }
    Ok((report, Some((names, fates))))
}

/// The rows in the order of the descriptor's features.
fn rows_of(case: &Case, descriptor: &Descriptor) -> Result<Vec<Row>, AuthorError> {
    let known: BTreeSet<&str> = descriptor.features.iter().map(|f| f.name.as_str()).collect();
    let mut rows = Vec::with_capacity(case.rows.len());
    for (number, row) in (0_i64..).zip(&case.rows) {
        let at = format!("case '{}', row {}", case.name, number + 1);
        if let Some(name) = row.features.keys().find(|name| !known.contains(name.as_str())) {
            let known = known.iter().copied().collect::<Vec<_>>().join("', '");
            let message = format!("{at}: the model has no feature '{name}'; it has '{known}'");
            return Err(AuthorError::Cases(message));
        }
        let mut features = Vec::with_capacity(descriptor.features.len());
        for feature in &descriptor.features {
            let value = row.features.get(&feature.name).ok_or_else(|| {
                let name = &feature.name;
                AuthorError::Cases(format!(
                    "{at}: '{name}' is not there; where it is missing, write null"
                ))
            })?;
            features.push(value.0);
        }
        let key = row.key.clone().unwrap_or_else(|| format!("row {}", number + 1));
        rows.push(Row { key, number, features });
    }
    Ok(rows)
}

/// A way to send the rows of a case that must not show.
struct Variation {
    how: &'static str,
    epochs: Vec<Vec<Row>>,
    rows_per_call: Option<u32>,
}

/// The variations. Rows of a key stay in order: that is what a stateful model may rely on.
fn variations(rows: &[Row]) -> Vec<Variation> {
    let cut = |n: usize| rows.chunks(n).map(<[Row]>::to_vec).collect::<Vec<_>>();
    let whole = || vec![rows.to_vec()];
    let renamed = |prefix: &str, offset: i64| -> Vec<Row> {
        let rename = |row: &Row| Row {
            key: format!("{prefix}{}", row.key),
            number: row.number + offset,
            features: row.features.clone(),
        };
        rows.iter().map(rename).collect()
    };
    let mut by_key: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for row in rows {
        by_key.entry(&row.key).or_default().push(row.clone());
    }
    let backwards: Vec<Vec<Row>> = by_key.into_values().rev().collect();
    let offset = i64::try_from(rows.len()).unwrap_or(i64::MAX / 2);
    let vary = |how, epochs| Variation { how, epochs, rows_per_call: None };
    vec![
        vary("all at once", whole()),
        vary("all at once again", whole()),
        vary("row by row", cut(1)),
        vary("in batches of 2", cut(2)),
        vary("in batches of 3", cut(3)),
        vary("in batches of 7", cut(7)),
        Variation { how: "in calls of one row", epochs: whole(), rows_per_call: Some(1) },
        Variation { how: "in calls of 3 rows", epochs: whole(), rows_per_call: Some(3) },
        vary("key by key, the last first", backwards),
        vary("under other keys", vec![renamed("other ", 0)]),
        vary(
            "after the same rows of other machines",
            vec![renamed("before ", offset), rows.to_vec()],
        ),
    ]
}

/// Scores the rows in all ways; the first of them is what the others must agree with.
fn vary(
    subject: &Subject,
    descriptor: &Descriptor,
    rows: &[Row],
    report: &mut CaseReport,
) -> Result<Vec<Fate>, String> {
    let usual = Driver::new(subject, descriptor, None)?;
    let mut first: Option<Vec<Fate>> = None;
    for variation in variations(rows) {
        let other = match variation.rows_per_call {
            None => None,
            Some(n) => Some(Driver::new(subject, descriptor, Some(n))?),
        };
        let mut found = other.as_ref().unwrap_or(&usual).run(&variation.epochs)?;
        let fates: Option<Vec<Fate>> = rows.iter().map(|row| found.remove(&row.number)).collect();
        let fates = fates.ok_or("a row vanished on its way through the step")?;
        report.variations += 1;
        match &first {
            None => first = Some(fates),
            Some(first) => {
                let differs = first.iter().zip(&fates).position(|(a, b)| !same(a, b));
                if let Some(row) = differs {
                    report.failures.push(format!(
                        "row {}: {} all at once, {} {}: the plugin remembers something that is not in its state",
                        row + 1,
                        say(&first[row]),
                        say(&fates[row]),
                        variation.how
                    ));
                }
            }
        }
    }
    first.ok_or_else(|| "there are no rows".to_owned())
}

/// Whether two fates are the same, to the bit.
fn same(a: &Fate, b: &Fate) -> bool {
    match (a, b) {
        (Ok(a), Ok(b)) => a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits())),
        (a, b) => a.as_ref().err() == b.as_ref().err() && a.is_err(),
    }
}

fn say(fate: &Fate) -> String {
    match fate {
        Err(reason) => (*reason).to_owned(),
        Ok(scores) => {
            let scores: Vec<String> = scores.iter().map(|v| number(*v)).collect();
            scores.join(", ")
        }
    }
}

fn number(value: f64) -> String {
    if value.is_nan() { "no score".to_owned() } else { written(value).to_string() }
}

/// Compares with what the file expects.
fn compare(
    case: &Case,
    names: &[String],
    fates: &[Fate],
    tolerance: f64,
    report: &mut CaseReport,
) -> Result<(), AuthorError> {
    for (number_of_row, (row, fate)) in (1..).zip(case.rows.iter().zip(fates)) {
        let at = format!("row {number_of_row}");
        match (&row.expect, &row.error, fate) {
            (None, None, _) => {}
            (_, Some(expected), Err(found)) if expected == found => {}
            (_, Some(expected), found) => {
                let found = say(found);
                report.failures.push(format!("{at}: {found}, and '{expected}' was expected"));
            }
            (Some(_), _, Err(found)) => {
                report.failures.push(format!("{at}: refused with '{found}'"))
            }
            (Some(expected), _, Ok(scores)) => {
                for (name, Number(expected)) in expected {
                    let Some(index) = names.iter().position(|n| n == name) else {
                        let names = names.join("', '");
                        return Err(AuthorError::Cases(format!(
                            "case '{}', {at}: the model has no output '{name}'; it has '{names}'",
                            case.name
                        )));
                    };
                    let (found, expected) = (scores[index], expected.unwrap_or(f64::NAN));
                    if !near(found, expected, tolerance) {
                        report.failures.push(format!(
                            "{at}: '{name}' is {}, and {} was expected",
                            number(found),
                            number(expected)
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Whether two scores agree: to the bit without a tolerance, otherwise within it, relative above 1.
fn near(found: f64, expected: f64, tolerance: f64) -> bool {
    if found.is_nan() || expected.is_nan() || tolerance == 0.0 {
        return found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
    }
    (found - expected).abs() <= tolerance * expected.abs().max(1.0)
}

/// Puts what came out into the rows of a case.
fn put(rows: &mut [Value], (names, fates): &Fates) {
    for (row, fate) in rows.iter_mut().zip(fates) {
        let Some(row) = row.as_object_mut() else { continue };
        row.shift_remove("expect");
        row.shift_remove("error");
        match fate {
            Err(reason) => row.insert("error".to_owned(), Value::from(*reason)),
            Ok(scores) => {
                let scores = names.iter().cloned().zip(scores.iter().map(|v| written(*v)));
                row.insert("expect".to_owned(), Value::Object(scores.collect::<Map<_, _>>()))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearness_is_exact_or_relative() {
        assert!(near(0.1, 0.1, 0.0) && !near(0.1, f64::from_bits(0.1_f64.to_bits() + 1), 0.0));
        assert!(!near(0.0, -0.0, 0.0), "a sign is a bit");
        assert!(near(f64::NAN, f64::NAN, 0.0) && !near(f64::NAN, 1.0, 1e9));
        assert!(near(1001.0, 1000.0, 1e-3) && !near(1002.0, 1000.0, 1e-3));
        assert!(near(0.001, 0.0, 1e-3));
    }

    #[test]
    fn variations_keep_every_row_and_the_order_of_each_key() {
        let row = |number: i64| Row {
            key: format!("k{}", number % 3),
            number,
            features: vec![Some(number as f64)],
        };
        let rows: Vec<Row> = (0..10).map(row).collect();
        for variation in variations(&rows) {
            let sent: Vec<&Row> =
                variation.epochs.iter().flatten().filter(|r| r.number < 10).collect();
            let mut numbers: Vec<i64> = sent.iter().map(|r| r.number).collect();
            for key in 0..3 {
                let of_key = numbers.iter().filter(|n| **n % 3 == key);
                assert!(of_key.is_sorted(), "{}", variation.how);
            }
            numbers.sort_unstable();
            assert_eq!(numbers, (0..10).collect::<Vec<_>>(), "{}", variation.how);
        }
    }
}
