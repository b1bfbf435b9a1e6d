//! Which settings are tried: all of a grid where it is small, else a draw from it; the file's own first.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use foreline_spec::TuningConfig;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde_json::Value;

/// Values, by place in the file.
pub type Settings = BTreeMap<String, Value>;

/// Trials where nobody says how many.
const TRIALS: usize = 64;
/// Draws for one new point of the grid, after which the search is as large as it gets.
const MOST_DRAWS: usize = 1000;

/// The trials of a search, each once.
///
/// # Errors
/// When a place leads to no setting of the file.
pub(super) fn trials(
    config: &TuningConfig,
    file: &Settings,
    most: Option<usize>,
) -> Result<Vec<Settings>> {
    let mut own = Settings::new();
    let mut grid: Vec<(String, Vec<Value>)> = Vec::new();
    for (path, candidates) in &config.settings {
        let Some(value) = file.get(path) else {
            bail!("'{path}' leads to no setting of this file")
        };
        own.insert(path.clone(), value.clone());
        grid.push((path.clone(), candidates.values()));
    }
    let size = grid.iter().fold(1_usize, |n, (_, values)| n.saturating_mul(values.len().max(1)));
    let most = most.unwrap_or(TRIALS);
    let mut found = vec![own];
    // Serde's numbers have no order; their text does.
    let mut seen: BTreeSet<String> = found.iter().map(text).collect();
    if size < most || size <= TRIALS && size <= most {
        for n in 0..size {
            let trial = point(&grid, n);
            if seen.insert(text(&trial)) && found.len() < most {
                found.push(trial);
            }
        }
        return Ok(found);
    }
    let mut random = ChaCha8Rng::seed_from_u64(config.seed);
    let mut draws = 0;
    while found.len() < most && draws < MOST_DRAWS {
        draws += 1;
        let trial: Settings = grid
            .iter()
            .map(|(path, values)| {
                let at = usize::try_from(random.next_u64() % values.len().max(1) as u64);
                (path.clone(), values[at.unwrap_or(0)].clone())
            })
            .collect();
        if seen.insert(text(&trial)) {
            draws = 0;
            found.push(trial);
        }
    }
    Ok(found)
}

fn text(settings: &Settings) -> String {
    settings.values().map(|v| format!("{v}\n")).collect()
}

/// Point `n` of the grid; the last place turns fastest.
fn point(grid: &[(String, Vec<Value>)], mut n: usize) -> Settings {
    let mut settings = Settings::new();
    for (path, values) in grid.iter().rev().filter(|(_, values)| !values.is_empty()) {
        settings.insert(path.clone(), values[n % values.len()].clone());
        n /= values.len();
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(json: Value) -> TuningConfig {
        serde_json::from_value(json).expect("it is a configuration")
    }

    #[test]
    fn a_small_grid_is_tried_whole_and_the_file_first() {
        let config = config(json!({ "training": "t", "try": { "a": [1, 2], "b": ["x", "y"] } }));
        let file = Settings::from([("a".into(), json!(2)), ("b".into(), json!("x"))]);
        let trials = trials(&config, &file, None).unwrap();
        let shown: Vec<String> = trials.iter().map(|t| format!("{}{}", t["a"], t["b"])).collect();
        assert_eq!(shown, ["2\"x\"", "1\"x\"", "1\"y\"", "2\"y\""]);
    }

    #[test]
    fn a_large_grid_is_drawn_from_by_the_seed() {
        let values: Vec<i32> = (0..100).collect();
        let of = |seed: u64| {
            let json =
                json!({ "training": "t", "seed": seed, "try": { "a": values, "b": values } });
            let file = Settings::from([("a".into(), json!(-1)), ("b".into(), json!(-1))]);
            trials(&config(json), &file, Some(30)).unwrap()
        };
        assert_eq!(of(1).len(), 30);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn no_more_trials_than_were_asked_for() {
        let config = config(json!({ "training": "t", "try": { "a": [1, 2, 3] } }));
        let file = Settings::from([("a".into(), json!(9))]);
        assert_eq!(trials(&config, &file, Some(2)).unwrap().len(), 2);
        assert_eq!(trials(&config, &file, Some(500)).unwrap().len(), 4);
    }
}
