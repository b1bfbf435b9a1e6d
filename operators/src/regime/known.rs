//! The regimes that a file knows: those of the rows that it was fitted on, or the centres of their clusters.

use std::collections::BTreeMap;

use foreline_engine::{ConfigError, FitRows, Fitted};
use serde::{Deserialize, Serialize};

use super::{How, Settings, k_means, label};
use crate::columns::channel;
use crate::moments::{Central, Moments};
use crate::statistics::{self, Content, not_fitted};

/// Most regimes of rounded settings; more are settings that were not rounded enough, or are no settings.
const MAX_REGIMES: usize = 1024;

/// The regimes of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    /// The settings.
    columns: Vec<String>,
    /// The decimals of each, where they are rounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decimals: Option<Vec<u8>>,
    /// What a distance of 1 is for each, where they are clustered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale: Option<Vec<f64>>,
    /// The regimes, sorted by their settings.
    regimes: Vec<Named>,
}

impl Content for Known {
    const KIND: &'static str = "regimes";
}

/// A regime.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    regime: String,
    /// Rows that were in it.
    rows: u64,
    /// Its settings; the middle of them, where they are clustered.
    center: Vec<f64>,
}

/// The centres of regimes.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub(super) names: Vec<String>,
    centers: Vec<Vec<f64>>,
    scale: Vec<f64>,
}

impl Places {
    /// The regime whose centre is nearest, unless it is further than `max_distance`; of equals the first.
    pub(super) fn nearest(&self, settings: &[f64], max_distance: f64) -> Option<u32> {
        let (place, square) = k_means::nearest(&self.centers, |c| {
            let each = settings.iter().zip(c).zip(&self.scale);
            each.map(|((x, c), scale)| (x - c) / scale).map(|d| d * d).sum()
        })?;
        let near = square.sqrt() <= max_distance;
        near.then(|| u32::try_from(place).expect("there are at most 256 centres"))
    }
}

impl Known {
    /// What keeps the file from serving these settings.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), Vec<ConfigError>> {
        let (at, fits) = match &settings.how {
            How::Round(decimals) => ("round", self.decimals.as_ref() == Some(decimals)),
            How::KMeans { regimes, .. } => {
                ("k_means", self.scale.is_some() && self.regimes.len() == *regimes)
            }
        };
        if fits && self.columns == settings.names() {
            return Ok(());
        }
        let what = format!(
            "the statistics hold {} regimes by other settings than these: [{}]",
            self.regimes.len(),
            self.columns.join(", ")
        );
        Err(vec![not_fitted(at, what)])
    }

    /// The names of the regimes, in order.
    pub(super) fn names(&self) -> Vec<String> {
        self.regimes.iter().map(|r| r.regime.clone()).collect()
    }

    /// The centres.
    pub(super) fn places(&self) -> Places {
        Places {
            names: self.names(),
            centers: self.regimes.iter().map(|r| r.center.clone()).collect(),
            scale: self.scale.clone().unwrap_or_default(),
        }
    }
}

/// Fits the regimes of rows.
pub(super) fn fit(from: &FitRows<'_>, settings: &Settings) -> Result<Fitted, String> {
    let channels = settings.columns.iter().map(|&c| channel(from.rows.column(c)));
    let channels: Vec<_> = channels.collect::<Result<_, _>>().map_err(|e| e.message)?;
    let row = |r: usize| channels.iter().map(|values| values[r]).collect::<Vec<f64>>();
    let whole = |row: &Vec<f64>| row.iter().all(|v| v.is_finite());
    let rows: Vec<Vec<f64>> = (0..from.rows.num_rows()).map(row).filter(whole).collect();
    if rows.is_empty() {
        return Err(format!("none of {} rows has all settings", from.rows.num_rows()));
    }
    let columns = settings.names();
    let known = match &settings.how {
        How::Round(decimals) => Known {
            columns,
            decimals: Some(decimals.clone()),
            scale: None,
            regimes: rounded(rows, decimals)?,
        },
        How::KMeans { regimes, seed } => {
            let scale = deviations(&rows);
            let regimes = clustered(&rows, &scale, *regimes, *seed)?;
            Known { columns, decimals: None, scale: Some(scale), regimes }
        }
    };
    let n_rows = from.rows.num_rows();
    let summary = format!("{} regimes of {n_rows} rows", known.regimes.len());
    Ok(Fitted { text: statistics::to_text(from.name, n_rows, known)?, summary })
}

fn rounded(rows: Vec<Vec<f64>>, decimals: &[u8]) -> Result<Vec<Named>, String> {
    let mut regimes: BTreeMap<String, Named> = BTreeMap::new();
    for mut center in rows {
        label::round(&mut center, decimals);
        let regime = label::name(&center, decimals);
        let entry = regimes.entry(regime.clone());
        entry.or_insert_with(|| Named { regime, rows: 0, center }).rows += 1;
        if regimes.len() > MAX_REGIMES {
            return Err(format!("there are more than {MAX_REGIMES} regimes: round more coarsely"));
        }
    }
    Ok(in_order(regimes.into_values().collect()))
}

fn clustered(
    rows: &[Vec<f64>],
    scale: &[f64],
    n_regimes: usize,
    seed: u64,
) -> Result<Vec<Named>, String> {
    let scaled = |row: &Vec<f64>| row.iter().zip(scale).map(|(x, s)| x / s).collect();
    let points: Vec<Vec<f64>> = rows.iter().map(scaled).collect();
    let found = k_means::fit(&points, n_regimes, seed)?;
    let each = found.centers.into_iter().zip(found.rows).map(|(center, rows)| Named {
        regime: String::new(),
        rows,
        center: center.iter().zip(scale).map(|(c, s)| c * s).collect(),
    });
    let mut regimes = in_order(each.collect());
    for (i, regime) in regimes.iter_mut().enumerate() {
        regime.regime = (i + 1).to_string();
    }
    Ok(regimes)
}

fn in_order(mut regimes: Vec<Named>) -> Vec<Named> {
    regimes.sort_by(|a, b| {
        let each = a.center.iter().zip(&b.center).map(|(a, b)| a.total_cmp(b));
        each.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    });
    regimes
}

/// The standard deviation of each setting; 1 for one that does not vary.
fn deviations(rows: &[Vec<f64>]) -> Vec<f64> {
    let n_settings = rows.first().map_or(0, Vec::len);
    let deviation = |c: usize| {
        let values: Vec<f64> = rows.iter().map(|row| row[c]).collect();
        let deviation = Moments::of(&values, Central::Wanted).m2.sqrt();
        if deviation > 0.0 { deviation } else { 1.0 }
    };
    (0..n_settings).map(deviation).collect()
}
