//! How rows are parted into those that are learnt from and those that are predicted.
//!
//! What a reader would get wrong: in the order of time nothing is learnt that was not known yet. A row counts only where
//! its life had ended before the predicted rows begin, since its target was not known sooner.

use anyhow::{Result, bail};
use foreline_spec::{SplitBy, ValidateConfig};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::samples::Samples;

/// Parts where the file does not say how many.
const FOLDS: usize = 5;
/// Lives that are predicted where the file does not say how many.
const INTERVALS: usize = 7;
/// Parts of a column whose values are not counted: more are dealt into this many.
const MOST_VALUES: usize = 20;

/// One part: places of rows in the samples, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// What is predicted, in a few words.
    pub name: String,
    /// What is learnt from.
    pub learn: Vec<usize>,
    /// What is predicted.
    pub predict: Vec<usize>,
}

/// What a file without `validate` gets: whole machines where there are several, else lives, else stretches of time.
#[must_use]
pub fn usual(samples: &Samples) -> ValidateConfig {
    let mut machines = samples.set.groups.clone();
    machines.dedup();
    let ended = samples.lives.iter().filter(|life| life.end.is_some()).count();
    let by = match (machines.len(), ended) {
        (2.., _) => SplitBy::Machine,
        (_, 2..) => SplitBy::Interval,
        _ => SplitBy::Time,
    };
    ValidateConfig { by, folds: None, look_back: None, seed: 0 }
}

/// The way of parting, in words.
#[must_use]
pub fn describe(split: &ValidateConfig) -> String {
    match &split.by {
        SplitBy::Machine => "by machine".to_owned(),
        SplitBy::Interval => match split.look_back {
            Some(n) => format!("life by life, each from the {n} before it"),
            None => "life by life, each from those before it".to_owned(),
        },
        SplitBy::Time => "in the order of time".to_owned(),
        SplitBy::Column(name) => format!("by '{name}'"),
        SplitBy::Row => "by rows at random".to_owned(),
    }
}

/// The parts, each with rows to learn from and rows to predict.
///
/// # Errors
/// When the rows cannot be parted so.
pub fn folds(split: &ValidateConfig, samples: &Samples) -> Result<Vec<Fold>> {
    let folds = match &split.by {
        SplitBy::Machine => {
            let names = |n: usize| samples.machines[n].clone();
            dealt(
                &samples.set.groups,
                samples.machines.len(),
                split,
                Some(FOLDS),
                "machine",
                names,
            )?
        }
        SplitBy::Column(column) => {
            let (of_row, values) = samples.values_of(column)?;
            let most = (values.len() > MOST_VALUES).then_some(FOLDS);
            let names = |n: usize| values[n].clone();
            dealt(&of_row, values.len(), split, most, column, names)?
        }
        SplitBy::Row => {
            let n_rows = u32::try_from(samples.set.rows)?;
            let of_row: Vec<u32> = (0..n_rows).collect();
            dealt(&of_row, samples.set.rows, split, Some(FOLDS), "row", |n| n.to_string())?
        }
        SplitBy::Interval => by_interval(split, samples)?,
        SplitBy::Time => by_time(split, samples)?,
    };
    match folds.iter().find(|f| f.learn.is_empty() || f.predict.is_empty()) {
        None => Ok(folds),
        Some(fold) => bail!("part '{}' has no rows to learn from or to predict", fold.name),
    }
}

/// Groups dealt into parts; `usual` parts where the file does not say, without it a part each.
fn dealt(
    of_row: &[u32],
    n_groups: usize,
    split: &ValidateConfig,
    usual: Option<usize>,
    what: &str,
    name: impl Fn(usize) -> String,
) -> Result<Vec<Fold>> {
    let mut there = vec![false; n_groups];
    for &group in of_row {
        there[group as usize] = true;
    }
    let mut groups: Vec<usize> = (0..n_groups).filter(|&g| there[g]).collect();
    if groups.len() < 2 {
        bail!(
            "there is one {what} only, so that none can be held back; write 'validate: {{ by: time }}'"
        );
    }
    let n_folds = split.folds.or(usual).unwrap_or(groups.len()).min(groups.len());
    let each_its_own = n_folds == groups.len();
    if !each_its_own {
        deal(groups.len(), split.seed, |a, b| groups.swap(a, b));
    }
    let mut part_of = vec![0; n_groups];
    let mut names = vec![String::new(); n_folds];
    for (n, &group) in groups.iter().enumerate() {
        part_of[group] = n % n_folds;
        names[n % n_folds] =
            if each_its_own { name(group) } else { format!("{} of {n_folds}", n % n_folds + 1) };
    }
    let part = |(n, name): (usize, String)| {
        let (predict, learn) =
            (0..of_row.len()).partition(|&row| part_of[of_row[row] as usize] == n);
        Fold { name, learn, predict }
    };
    Ok(names.into_iter().enumerate().map(part).collect())
}

/// Deals `n` places anew, by Fisher and Yates: `swap` exchanges what is in two of them. The same seed gives the same order on
/// every machine.
pub fn deal(n: usize, seed: u64, mut swap: impl FnMut(usize, usize)) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for i in (1..n).rev() {
        // The bias of a remainder is below 2⁻³² for any number of rows.
        let j = random.next_u64() % (i as u64 + 1);
        swap(i, usize::try_from(j).unwrap_or(i));
    }
}

/// Each of the last lives from those that had ended before it began.
fn by_interval(split: &ValidateConfig, samples: &Samples) -> Result<Vec<Fold>> {
    let mut rows_of = vec![Vec::new(); samples.lives.len()];
    for (row, &life) in samples.life_of.iter().enumerate() {
        rows_of[life as usize].push(row);
    }
    let mut ended: Vec<(i64, usize)> = samples
        .lives
        .iter()
        .enumerate()
        .filter(|(n, _)| !rows_of[*n].is_empty())
        .filter_map(|(n, life)| Some((life.end?, n)))
        .collect();
    ended.sort_unstable();
    let mut folds = Vec::new();
    for &(_, n) in ended.iter().rev().take(split.folds.unwrap_or(INTERVALS)) {
        let start = samples.lives[n].start;
        let before: Vec<usize> =
            ended.iter().filter(|(end, _)| *end <= start).map(|&(_, n)| n).collect();
        let skip = split.look_back.map_or(0, |most| before.len().saturating_sub(most));
        let mut learn: Vec<usize> =
            before[skip..].iter().flat_map(|&n| &rows_of[n]).copied().collect();
        if learn.is_empty() {
            continue;
        }
        learn.sort_unstable();
        let machine = samples.set.groups[rows_of[n][0]] as usize;
        let name = format!("life {} of {}", n + 1, samples.machines[machine]);
        folds.push(Fold { name, learn, predict: rows_of[n].clone() });
    }
    if folds.is_empty() {
        bail!(
            "no life ended before another began, so that there is no order to learn in; write 'validate: {{ by: machine }}'"
        );
    }
    folds.reverse();
    Ok(folds)
}

/// The last stretches, each with as many rows, from what was known before it began.
fn by_time(split: &ValidateConfig, samples: &Samples) -> Result<Vec<Fold>> {
    let n_folds = split.folds.unwrap_or(FOLDS);
    let mut order: Vec<usize> = (0..samples.set.rows).collect();
    order.sort_by_key(|&row| (samples.times[row], row));
    let needs_end = !samples.uncapped.is_empty();
    let known_at = |row: usize| match samples.lives[samples.life_of[row] as usize].end {
        Some(end) if needs_end => end,
        None if needs_end => i64::MAX,
        _ => samples.times[row],
    };
    let mut folds = Vec::new();
    for n in 1..=n_folds {
        let cut = |n: usize| order.len() * n / (n_folds + 1);
        let (from, to) = (cut(n), cut(n + 1));
        if from == to {
            continue;
        }
        // Rows of one time stay together.
        let begins = samples.times[order[from]];
        let ends = order.get(to).map_or(i64::MAX, |&row| samples.times[row]);
        let within = |row: &usize| (begins..ends).contains(&samples.times[*row]);
        let predict: Vec<usize> = (0..samples.set.rows).filter(within).collect();
        let learn: Vec<usize> =
            (0..samples.set.rows).filter(|&row| known_at(row) < begins).collect();
        if !learn.is_empty() && !predict.is_empty() {
            folds.push(Fold { name: format!("stretch {n} of {n_folds}"), learn, predict });
        }
    }
    if folds.is_empty() {
        bail!("no target was known before the rows that were to be predicted; give fewer 'folds'");
    }
    Ok(folds)
}

#[cfg(test)]
mod tests;
