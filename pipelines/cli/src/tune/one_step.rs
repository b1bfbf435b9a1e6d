//! How a smoothing window is chosen: by how well the smoothed value of a row predicts the next row, and the elbow of that.
//!
//! Input   the rows before and behind a step that gives one row a row, such as `moving_average` or `ema`
//! Error   by column, the mean of `(x[t] - s[t-1])^2` over rows of one machine: `x` before the step, `s` behind it. All
//!         candidates are scored on the same rows: those where each of them has a value, from row `w` of a machine on where
//!         `w` is the longest window of `rows` that is tried
//! Figure  the mean over columns of the error by the column's variance in these rows
//! Elbow   of values in the order of how much they smooth the first from which no smoother one lowers the figure by more
//!         than 1 %: the least lag that is as good. A longer window smooths more, a greater `alpha` less
//!
//! Source  the window search of a published pump project, which scored each window on other rows

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, anyhow, bail};
use arrow::row::{RowConverter, SortField};
use foreline_engine::{Batch, Schema};
use foreline_plugins::digest;
use foreline_spec::{Only, Plan, SourceOverride};
use serde::{Deserialize, Serialize};

use super::store::Store;
use super::{STOPPED, Search, Settings, Trial, Tuned, at_once, failed, smallest};
use crate::failure::Failure;
use crate::learning::numbers;
use crate::progress::Bar;
use crate::session::{Purpose, keep, load_again};

/// A longer window has to lower the figure by more than this share of it.
const ELBOW: f64 = 0.01;

/// Rows, as runs of the first one and the one behind the last.
type Runs = Vec<(usize, usize)>;

/// The rows before and behind the step, of one trial.
struct Smoothed {
    /// For each column, its values before the step.
    before: BTreeMap<String, Vec<f64>>,
    /// For each column, its values behind it, NaN where there is none.
    behind: BTreeMap<String, Vec<f64>>,
    /// The number of each row within its machine.
    number: Vec<usize>,
}

/// How well a column of a trial predicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Judged {
    /// The rows that are predicted.
    rows: Runs,
    /// The mean squared error over them.
    error: f64,
    /// The variance of the column in them.
    variance: f64,
    /// Whether the step changes the column.
    moved: bool,
}

/// That of all columns.
type Columns = BTreeMap<String, Judged>;

/// The rows that all trials predict, of the columns that any of them changes.
type Shared = BTreeMap<String, Runs>;

pub(super) fn search(
    search: &Search<'_>,
    step: &str,
    trials: &[Settings],
) -> Result<Tuned, Failure> {
    let file = &search.arguments.file;
    let judge = Judge {
        search,
        step,
        trials,
        skip: longest_window(trials),
        store: Store::open(file, search.name, search.arguments.fresh)?,
        bar: search.progress(trials.len()),
    };
    let mut results: Vec<Trial> = trials.iter().map(Trial::new).collect();
    let keys = judge.keys(&mut results)?;
    let all: Vec<usize> = keys.keys().copied().collect();
    // Each on the rows that it predicts, and where those differ once more on those that all of them do.
    let (mut columns, mut ran) = judge.all(&all, &keys, None, &mut results)?;
    let shared = shared_rows(&columns);
    let is_on = |n: &usize| shared.iter().all(|(name, rows)| columns[n][name].rows == *rows);
    let others: Vec<usize> = columns.keys().copied().filter(|n| !is_on(n)).collect();
    let (again, ran_again) = judge.all(&others, &keys, Some(&shared), &mut results)?;
    columns.extend(again);
    ran.extend(ran_again);
    judge.bar.finish();
    figures(&columns, &shared, &mut results)?;
    let best = elbow(&results).or_else(|| smallest(&results));
    let tuned = Tuned {
        name: search.name.to_owned(),
        objective: format!("one-step-ahead error of step '{step}', by the elbow"),
        best,
        trials: results,
        known: columns.keys().filter(|n| !ran.contains(n)).count(),
    };
    tuned.with_a_figure()
}

/// What judges the trials of a search.
struct Judge<'a> {
    search: &'a Search<'a>,
    step: &'a str,
    trials: &'a [Settings],
    /// Rows of a machine before the first that is predicted.
    skip: usize,
    store: Store<Columns>,
    bar: Bar,
}

impl Judge<'_> {
    /// For each trial that can be, the digest of all that its columns depend on. The rows before the step are made for that,
    /// once for all trials that leave them as they are.
    fn keys(&self, results: &mut [Trial]) -> Result<BTreeMap<usize, String>, Failure> {
        let own = format!("steps.{}.", self.step);
        let mut before: Vec<(Vec<(&String, &serde_json::Value)>, String)> = Vec::new();
        let mut keys = BTreeMap::new();
        for (n, trial) in self.trials.iter().enumerate() {
            if self.search.stop.load(Ordering::Relaxed) {
                return Err(anyhow!(STOPPED).into());
            }
            let (plan, from) = match self.plan(trial) {
                Ok(planned) => planned,
                Err(e) => {
                    results[n].failed = Some(failed(e)?);
                    continue;
                }
            };
            let of = trial.iter().filter(|(path, _)| !path.starts_with(&own));
            let of: Vec<_> = of.collect();
            let known = before.iter().find(|(settings, _)| *settings == of);
            let rows = if let Some((_, rows)) = known {
                rows.clone()
            } else {
                let workers = self.search.arguments.running.workers();
                match keep(&plan, &[&from], workers, None) {
                    Ok(kept) => {
                        let (_, rows) = &kept.streams[&from];
                        let rows = digest_of(rows)?;
                        before.push((of, rows.clone()));
                        rows
                    }
                    Err(e) => {
                        results[n].failed = Some(failed(e)?);
                        continue;
                    }
                }
            };
            let config = plan.steps.iter().find(|s| s.name == self.step).map(|s| &s.config);
            let (version, skip) = (env!("CARGO_PKG_VERSION"), self.skip);
            keys.insert(n, digest(format!("{version}\n{config:?}\n{skip}\n{rows}").as_bytes()));
        }
        Ok(keys)
    }

    /// The plan of a trial, and the stream that the step reads.
    fn plan(&self, trial: &Settings) -> Result<(Plan, String), Failure> {
        let (search, step) = (self.search, self.step);
        let paths = search.config.input.iter();
        let own = paths.map(|(s, path)| (s.clone(), SourceOverride::Path(PathBuf::from(path))));
        let inputs = search.inputs(own.collect())?;
        let only = Only::Stream(step.to_owned());
        let purpose = Purpose { settings: trial.clone(), ..Purpose::part(only, inputs) };
        let plan = load_again(&search.arguments.file, purpose)?;
        let planned = plan.steps.iter().find(|s| s.name == step);
        let planned = planned.with_context(|| format!("there is no step '{step}'"))?;
        let &[input] = planned.inputs.as_slice() else {
            return Err(
                anyhow!("step '{step}' reads several streams; a smoothing step reads one").into()
            );
        };
        let from = plan.stream_name(input).to_owned();
        Ok((plan, from))
    }

    /// Judges trials, as many at once as there are workers; with `shared` on these rows and no others. Those that were not
    /// known from before come second.
    fn all(
        &self,
        wanted: &[usize],
        keys: &BTreeMap<usize, String>,
        shared: Option<&Shared>,
        results: &mut [Trial],
    ) -> Result<(BTreeMap<usize, Columns>, BTreeSet<usize>), Failure> {
        let total = if shared.is_some() { self.trials.len() + wanted.len() } else { wanted.len() };
        let done = AtomicUsize::new(total - wanted.len());
        let workers = self.search.arguments.running.workers();
        let each = (workers / wanted.len().clamp(1, workers)).max(1);
        let found = at_once(workers, self.search.stop, wanted, |n| {
            let outcome = self.one(n, &keys[&n], shared, each);
            self.bar.set(done.fetch_add(1, Ordering::Relaxed) as u64 + 1, total as u64);
            outcome
        });
        let (mut judged, mut ran) = (BTreeMap::new(), BTreeSet::new());
        for (n, outcome) in found {
            match outcome {
                Ok((columns, was_known)) => {
                    judged.insert(n, columns);
                    ran.extend((!was_known).then_some(n));
                }
                Err(e) => results[n].failed = Some(failed(e)?),
            }
        }
        if self.search.stop.load(Ordering::Relaxed) {
            return Err(anyhow!(STOPPED).into());
        }
        Ok((judged, ran))
    }

    /// The columns of a trial, and whether they were known from before.
    fn one(
        &self,
        n: usize,
        key: &str,
        shared: Option<&Shared>,
        workers: usize,
    ) -> Result<(Columns, bool), Failure> {
        let key = match shared {
            None => key.to_owned(),
            Some(shared) => digest(format!("{key}\n{shared:?}").as_bytes()),
        };
        if let Some(known) = self.store.get(&key) {
            return Ok((known, true));
        }
        let (plan, from) = self.plan(&self.trials[n])?;
        let kept = keep(&plan, &[&from, self.step], workers, None)?;
        let of = |name: &str| kept.streams.get(name).context("the stream that was asked for");
        let smoothed = beside(of(&from)?, of(self.step)?);
        let smoothed = smoothed.with_context(|| format!("step '{}'", self.step))?;
        let columns = judge(&smoothed, self.skip, shared);
        self.store.put(&key, &self.trials[n], &columns)?;
        Ok((columns, false))
    }
}

/// The digest of the values of rows, the same however they lie in memory.
fn digest_of(rows: &Batch) -> Result<String> {
    let schema = rows.rows.schema();
    let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone()));
    let converter = RowConverter::new(fields.collect())?;
    let mut bytes = format!("{schema:?}").into_bytes();
    for row in &converter.convert_columns(rows.rows.columns())? {
        bytes.extend_from_slice(&row.as_ref().len().to_le_bytes());
        bytes.extend_from_slice(row.as_ref());
    }
    Ok(digest(&bytes))
}

/// The longest window of rows that is tried.
fn longest_window(trials: &[Settings]) -> usize {
    let windows = trials.iter().flatten().filter(|(path, _)| path.ends_with(".rows"));
    windows.filter_map(|(_, value)| usize::try_from(value.as_u64()?).ok()).max().unwrap_or(1)
}

/// Puts the rows behind a step beside those before it.
fn beside(before: &(Schema, Batch), behind: &(Schema, Batch)) -> Result<Smoothed> {
    let ((schema, x), (out_schema, s)) = (before, behind);
    let id = |batch: &Batch, row: usize| (batch.key_hash.value(row), batch.position.value(row));
    let rows: BTreeMap<(u64, u64), usize> = (0..s.len()).map(|row| (id(s, row), row)).collect();
    if s.len() > x.len() || rows.len() != s.len() {
        bail!("it gives more rows than it reads, so there is no row to compare with");
    }
    let mut smoothed =
        Smoothed { before: BTreeMap::new(), behind: BTreeMap::new(), number: Vec::new() };
    for group in x.groups() {
        smoothed.number.extend(0..group.end - group.start);
    }
    for column in schema.columns() {
        let name = &column.name;
        let (Ok(raw), Ok(smooth)) = (numbers(x, schema, name), numbers(s, out_schema, name)) else {
            continue;
        };
        let at = |row| rows.get(&id(x, row)).map_or(f64::NAN, |&row| smooth[row]);
        let out: Vec<f64> = (0..x.len()).map(at).collect();
        // A column that the step leaves alone is no smoothed one; a window of one row leaves all alone.
        smoothed.before.insert(name.clone(), raw);
        smoothed.behind.insert(name.clone(), out);
    }
    Ok(smoothed)
}

/// How well each column predicts the next row, on these rows or on all for which it has a value.
fn judge(smoothed: &Smoothed, skip: usize, shared: Option<&Shared>) -> Columns {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let mut columns = Columns::new();
    for (name, raw) in &smoothed.before {
        let out = &smoothed.behind[name];
        let rows = match shared {
            Some(shared) => shared.get(name).cloned().unwrap_or_default(),
            // `number` counts from 0, so the first row that is predicted has `skip` rows before it.
            None => runs((1..raw.len()).filter(|&row| {
                smoothed.number[row] >= skip.max(1)
                    && raw[row].is_finite()
                    && out[row - 1].is_finite()
            })),
        };
        let each = || rows.iter().flat_map(|&(first, end)| first..end);
        let n = (each().count() as f64).max(1.0);
        let mean = each().map(|row| raw[row]).sum::<f64>() / n;
        let variance = each().map(|row| (raw[row] - mean).powi(2)).sum::<f64>() / n;
        let error = each().map(|row| (raw[row] - out[row - 1]).powi(2)).sum::<f64>() / n;
        let moved = out.iter().zip(raw).any(|(a, b)| !same(*a, *b));
        columns.insert(name.clone(), Judged { rows, error, variance, moved });
    }
    columns
}

/// Rows in their order, as runs.
fn runs(rows: impl Iterator<Item = usize>) -> Runs {
    let mut runs = Runs::new();
    for row in rows {
        match runs.last_mut() {
            Some((_, end)) if *end == row => *end += 1,
            _ => runs.push((row, row + 1)),
        }
    }
    runs
}

/// The rows in both.
fn both(a: &Runs, b: &Runs) -> Runs {
    let (mut at, mut other, mut found) = (0, 0, Runs::new());
    while let (Some(x), Some(y)) = (a.get(at), b.get(other)) {
        let (first, end) = (x.0.max(y.0), x.1.min(y.1));
        if first < end {
            found.push((first, end));
        }
        if x.1 < y.1 { at += 1 } else { other += 1 }
    }
    found
}

/// The rows that all trials predict, of the columns that any of them changes and all have.
fn shared_rows(trials: &BTreeMap<usize, Columns>) -> Shared {
    let Some(first) = trials.values().next() else { return Shared::new() };
    let of = |name: &String| -> Option<(String, Runs)> {
        let all: Option<Vec<&Judged>> = trials.values().map(|columns| columns.get(name)).collect();
        let all = all?;
        all.iter().any(|of| of.moved).then(|| {
            let rows = all[1..].iter().fold(all[0].rows.clone(), |rows, of| both(&rows, &of.rows));
            (name.clone(), rows)
        })
    };
    first.keys().filter_map(of).collect()
}

/// The figures of trials that were judged on the rows that they share.
fn figures(
    trials: &BTreeMap<usize, Columns>,
    shared: &Shared,
    results: &mut [Trial],
) -> Result<(), Failure> {
    let names: Vec<&String> =
        shared.iter().filter(|(_, rows)| !rows.is_empty()).map(|s| s.0).collect();
    if names.is_empty() && !trials.is_empty() {
        let message =
            "no smoothed column has a row that all candidates predict; try shorter windows";
        return Err(anyhow!(message).into());
    }
    for (&n, columns) in trials {
        let of = |name: &&String| ((*name).clone(), columns[*name].error);
        results[n].columns = names.iter().map(of).collect();
        let scaled = |name: &&String| {
            let Judged { error, variance, .. } = columns[*name];
            if variance > 0.0 { error / variance } else { error }
        };
        results[n].figure = Some(names.iter().map(scaled).sum::<f64>() / names.len() as f64);
    }
    Ok(())
}

/// The elbow, where one setting of numbers is tried.
fn elbow(trials: &[Trial]) -> Option<usize> {
    let mut curve: Vec<(f64, f64, usize)> = Vec::new();
    for (n, trial) in trials.iter().enumerate() {
        let mut settings = trial.settings.iter();
        let (path, value) = settings.next().filter(|_| trial.settings.len() == 1)?;
        let value = value.as_f64()?;
        // The weight of the new row: the smaller, the smoother.
        let smoothness = if path.ends_with(".alpha") { -value } else { value };
        curve.push((smoothness, trial.figure?, n));
    }
    curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    let no_better = |at: usize| {
        let least = curve[at + 1..].iter().map(|c| c.1).fold(f64::INFINITY, f64::min);
        least >= curve[at].1 * (1.0 - ELBOW)
    };
    (0..curve.len()).find(|&at| no_better(at)).map(|at| curve[at].2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(value: f64, figure: f64) -> Trial {
        trial_of("steps.s.moving_average.rows", value, figure)
    }

    fn trial_of(path: &str, value: f64, figure: f64) -> Trial {
        let settings = Settings::from([(path.to_owned(), value.into())]);
        Trial { figure: Some(figure), ..Trial::new(&settings) }
    }

    #[test]
    fn of_weights_the_elbow_is_the_greatest_that_is_as_good() {
        let alpha = |value, figure| trial_of("steps.s.ema.alpha", value, figure);
        // 0.1 beats 0.3 by 0.5 % only, at three times the lag; 0.9 is beaten by 0.3.
        let trials = [alpha(0.1, 0.995), alpha(0.3, 1.0), alpha(0.9, 1.2), alpha(0.01, 1.4)];
        assert_eq!(elbow(&trials), Some(1));
    }

    #[test]
    fn the_elbow_is_the_first_that_no_longer_one_beats() {
        // 20 beats 5 by 0.5 % only, 3 is beaten by 5.
        let trials = [trial(5.0, 1.0), trial(3.0, 1.2), trial(20.0, 0.995), trial(50.0, 1.5)];
        assert_eq!(elbow(&trials), Some(0));
        let trials = [trial(3.0, 1.0), trial(5.0, 1.1), trial(20.0, 0.9)];
        assert_eq!(elbow(&trials), Some(2), "a later minimum counts");
    }

    /// x = 1, 2, 4, 8, 16, 32 and windows of 1, 2 and 3 rows, all scored from the fourth row on.
    #[test]
    fn the_worked_example_of_the_pump_project() {
        let x = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
        let average = |w: usize| -> Vec<f64> {
            let mean = |at: usize| {
                let from = (at + 1).saturating_sub(w);
                x[from..=at].iter().sum::<f64>() / (at + 1 - from) as f64
            };
            (0..x.len()).map(mean).collect()
        };
        let smoothed = |w: usize| Smoothed {
            before: BTreeMap::from([("x".to_owned(), x.to_vec())]),
            behind: BTreeMap::from([("x".to_owned(), average(w))]),
            number: (0..x.len()).collect(),
        };
        let mut results = [trial(1.0, 0.0), trial(2.0, 0.0), trial(3.0, 0.0)];
        results.iter_mut().for_each(|r| r.figure = None);
        let judged = (0..3).map(|n| (n, judge(&smoothed(n + 1), 3, None))).collect();
        let shared = shared_rows(&judged);
        assert_eq!(shared["x"], [(3, 6)]);
        figures(&judged, &shared, &mut results).unwrap();
        let found: Vec<f64> = results.iter().map(|r| r.columns["x"]).collect();
        for (found, expected) in found.iter().zip([112.0, 175.0, 224.777_778]) {
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
        assert_eq!(elbow(&results), Some(0));
    }

    /// Two machines of five rows. A candidate that has no value for the first two rows of each is compared on what is left.
    #[test]
    fn all_are_judged_on_the_rows_that_all_have() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 2.0, f64::NAN, 4.0, 5.0];
        let late = |rows: usize| {
            let value = |at: usize| if at % 5 < rows { f64::NAN } else { x[at] + 1.0 };
            Smoothed {
                before: BTreeMap::from([("x".to_owned(), x.to_vec())]),
                behind: BTreeMap::from([("x".to_owned(), (0..10).map(value).collect())]),
                number: (0..10).map(|at| at % 5).collect(),
            }
        };
        let judged: BTreeMap<usize, Columns> =
            [0, 2].into_iter().map(|rows| (rows, judge(&late(rows), 1, None))).collect();
        assert_eq!(judged[&0]["x"].rows, [(1, 5), (6, 7), (9, 10)]);
        assert_eq!(judged[&2]["x"].rows, [(3, 5), (9, 10)]);
        let shared = shared_rows(&judged);
        assert_eq!(shared["x"], [(3, 5), (9, 10)]);
        let again = judge(&late(0), 1, Some(&shared));
        assert_eq!(again["x"], judged[&2]["x"]);
    }

    #[test]
    fn rows_in_both() {
        let (a, b) = (runs([0, 1, 2, 5, 6, 9].into_iter()), runs([1, 2, 3, 6, 9, 10].into_iter()));
        assert_eq!(a, [(0, 3), (5, 7), (9, 10)]);
        assert_eq!(both(&a, &b), [(1, 3), (6, 7), (9, 10)]);
        assert_eq!(both(&a, &Runs::new()), []);
    }
}
