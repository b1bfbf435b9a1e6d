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

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, anyhow, bail};
use foreline_engine::{Batch, Schema};
use foreline_spec::{Only, SourceOverride};

use super::{Search, Settings, Trial, Tuned, failed, smallest};
use crate::failure::Failure;
use crate::learning::numbers;
use crate::session::{Purpose, keep, load_again};

/// A longer window has to lower the figure by more than this share of it.
const ELBOW: f64 = 0.01;

/// The rows before and behind the step, by trial.
struct Smoothed {
    /// For each column, its values before the step.
    before: BTreeMap<String, Vec<f64>>,
    /// For each column, its values behind it, NaN where there is none.
    behind: BTreeMap<String, Vec<f64>>,
    /// The number of each row within its machine.
    number: Vec<usize>,
}

pub(super) fn search(
    search: &Search<'_>,
    step: &str,
    trials: &[Settings],
) -> Result<Tuned, Failure> {
    let bar = search.progress(trials.len());
    let mut results: Vec<Trial> = trials.iter().map(Trial::new).collect();
    let mut smoothed = Vec::with_capacity(trials.len());
    for (n, trial) in trials.iter().enumerate() {
        if search.stop.load(Ordering::Relaxed) {
            return Err(anyhow!("stopped; its candidates are judged on the rows that all of them have, so a search of a smoothing step begins anew").into());
        }
        match run(search, step, trial) {
            Ok(rows) => smoothed.push(Some(rows)),
            Err(e) => {
                results[n].failed = Some(failed(e)?);
                smoothed.push(None);
            }
        }
        bar.set(n as u64 + 1, trials.len() as u64);
    }
    bar.finish();
    let skip = longest_window(trials);
    score(&smoothed, skip, &mut results)?;
    let best = elbow(&results).or_else(|| smallest(&results));
    let tuned = Tuned {
        name: search.name.to_owned(),
        objective: format!("one-step-ahead error of step '{step}', by the elbow"),
        best,
        trials: results,
        known: 0,
    };
    tuned.with_a_figure()
}

/// The longest window of rows that is tried.
fn longest_window(trials: &[Settings]) -> usize {
    let windows = trials.iter().flatten().filter(|(path, _)| path.ends_with(".rows"));
    windows.filter_map(|(_, value)| usize::try_from(value.as_u64()?).ok()).max().unwrap_or(1)
}

fn run(search: &Search<'_>, step: &str, trial: &Settings) -> Result<Smoothed, Failure> {
    let arguments = search.arguments;
    let paths = search.config.input.iter();
    let own = paths.map(|(s, path)| (s.clone(), SourceOverride::Path(PathBuf::from(path))));
    let inputs = search.inputs(own.collect())?;
    let only = Only::Stream(step.to_owned());
    let purpose = Purpose { settings: trial.clone(), ..Purpose::part(only, inputs) };
    let plan = load_again(&arguments.file, purpose)?;
    let planned = plan.steps.iter().find(|s| s.name == step);
    let planned = planned.with_context(|| format!("there is no step '{step}'"))?;
    let &[input] = planned.inputs.as_slice() else {
        return Err(
            anyhow!("step '{step}' reads several streams; a smoothing step reads one").into()
        );
    };
    let from = plan.stream_name(input).to_owned();
    let kept = keep(&plan, &[&from, step], arguments.running.workers(), None)?;
    let of = |name: &str| kept.streams.get(name).context("the stream that was asked for");
    Ok(beside(of(&from)?, of(step)?).with_context(|| format!("step '{step}'"))?)
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

/// Scores all trials on the rows that they share.
fn score(smoothed: &[Option<Smoothed>], skip: usize, results: &mut [Trial]) -> Result<(), Failure> {
    let all: Vec<(usize, &Smoothed)> =
        smoothed.iter().enumerate().filter_map(|(n, s)| Some((n, s.as_ref()?))).collect();
    let Some((_, first)) = all.first() else { return Ok(()) };
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let mut columns = 0;
    for (name, raw) in &first.before {
        let moved = all.iter().any(|(_, s)| {
            s.behind.get(name).is_some_and(|b| b.iter().zip(raw).any(|(a, b)| !same(*a, *b)))
        });
        // `number` counts from 0, so the first row that is predicted has `skip` rows before it.
        let rows: Vec<usize> = (1..raw.len())
            .filter(|&row| moved && first.number[row] >= skip.max(1) && raw[row].is_finite())
            .filter(|&row| all.iter().all(|(_, s)| s.behind[name][row - 1].is_finite()))
            .collect();
        if rows.is_empty() {
            continue;
        }
        let n = rows.len() as f64;
        let mean = rows.iter().map(|&row| raw[row]).sum::<f64>() / n;
        let variance = rows.iter().map(|&row| (raw[row] - mean).powi(2)).sum::<f64>() / n;
        for (trial, s) in &all {
            let out = &s.behind[name];
            let error = rows.iter().map(|&row| (raw[row] - out[row - 1]).powi(2)).sum::<f64>() / n;
            let result = &mut results[*trial];
            result.columns.insert(name.clone(), error);
            let scaled = if variance > 0.0 { error / variance } else { error };
            *result.figure.get_or_insert(0.0) += scaled;
        }
        columns += 1;
    }
    if columns == 0 {
        let message =
            "no smoothed column has a row that all candidates predict; try shorter windows";
        return Err(anyhow!(message).into());
    }
    for result in results {
        result.figure = result.figure.map(|sum| sum / f64::from(columns));
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
        let smoothed = |w: usize| {
            Some(Smoothed {
                before: BTreeMap::from([("x".to_owned(), x.to_vec())]),
                behind: BTreeMap::from([("x".to_owned(), average(w))]),
                number: (0..x.len()).collect(),
            })
        };
        let mut results = [trial(1.0, 0.0), trial(2.0, 0.0), trial(3.0, 0.0)];
        results.iter_mut().for_each(|r| r.figure = None);
        score(&[smoothed(1), smoothed(2), smoothed(3)], 3, &mut results).unwrap();
        let found: Vec<f64> = results.iter().map(|r| r.columns["x"]).collect();
        for (found, expected) in found.iter().zip([112.0, 175.0, 224.777_778]) {
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
        assert_eq!(elbow(&results), Some(0));
    }
}
