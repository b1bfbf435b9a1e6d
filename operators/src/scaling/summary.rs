//! The figures of columns, of all rows and of each regime: what the scalers' file holds.
//!
//! A file holds what any of the three scalers needs, so that another scaler can be tried without fitting again.

use std::collections::BTreeMap;

use arrow::buffer::ScalarBuffer;
use foreline_engine::{ConfigError, FitRows, Fitted, Schema};
use serde::{Deserialize, Serialize};

use super::by::{By, Regime};
use crate::columns::channel;
use crate::moments::{Central, Moments};
use crate::statistics::{self, Content, not_fitted};

/// Most regimes of a file: more are settings that were not rounded.
const MAX_REGIMES: usize = 1024;

/// The figures of columns.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Summary {
    /// The columns by which a regime is known.
    by: Vec<String>,
    /// What `low` and `high` are.
    quantiles: [f64; 2],
    /// The figures of all rows, by column.
    overall: Vec<Figures>,
    /// The figures of each regime, sorted by its values. A column without a value in it is left out.
    regimes: Vec<OfRegime>,
}

impl Content for Summary {
    const KIND: &'static str = "summary";
}

/// The figures of a regime.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfRegime {
    /// The values of the columns in `by`.
    regime: Regime,
    columns: Vec<Figures>,
}

/// The figures of a column over some rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Figures {
    /// The column.
    pub(super) column: String,
    /// Its unit, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unit: Option<String>,
    /// How many values, nulls left out.
    pub(super) count: u64,
    /// Their mean.
    pub(super) mean: f64,
    /// Their standard deviation, divided by `count`.
    pub(super) std: f64,
    /// The least.
    pub(super) min: f64,
    /// The greatest.
    pub(super) max: f64,
    /// The lower quantile.
    pub(super) low: f64,
    /// The median.
    pub(super) median: f64,
    /// The upper quantile.
    pub(super) high: f64,
}

impl Figures {
    /// Figures of an online scaler, which has no name for them.
    pub(super) fn unnamed() -> Self {
        Figures {
            column: String::new(),
            unit: None,
            count: 0,
            mean: 0.0,
            std: 0.0,
            min: 0.0,
            max: 0.0,
            low: 0.0,
            median: 0.0,
            high: 0.0,
        }
    }

    /// The figures of finite values; `None` of none. Sorts them.
    fn of(column: &Column<'_>, mut values: Vec<f64>, quantiles: [f64; 2]) -> Option<Self> {
        values.retain(|v| v.is_finite());
        let moments = Moments::of(&values, Central::Wanted);
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        Some(Figures {
            column: column.name.to_owned(),
            unit: column.unit.clone(),
            count: values.len() as u64,
            mean: moments.mean,
            std: moments.m2.sqrt(),
            min,
            max,
            low: quantile(&values, quantiles[0]),
            median: quantile(&values, 0.5),
            high: quantile(&values, quantiles[1]),
        })
    }
}

/// The quantile of sorted values, linear between the two that are nearest (NumPy's default); NaN of none.
#[expect(clippy::cast_precision_loss, reason = "fewer than 2^53 values")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place among values")]
pub(crate) fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = p * last as f64;
    let below = (place.floor() as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

struct Column<'a> {
    name: &'a str,
    unit: Option<String>,
}

fn unit_of(schema: &Schema, column: usize) -> Option<String> {
    schema.columns()[column].unit.as_ref().map(|u| u.code().to_owned())
}

/// Fits the figures of `columns`.
pub(super) fn fit(
    from: &FitRows<'_>,
    input: &Schema,
    columns: &[usize],
    by: &By,
    quantiles: [f64; 2],
) -> Result<Fitted, String> {
    let fault = |e: foreline_engine::Fault| e.message;
    let channels = columns.iter().map(|&c| channel(from.rows.column(c)));
    let channels: Vec<_> = channels.collect::<Result<_, _>>().map_err(fault)?;
    let named = |&c: &usize| Column { name: &input.columns()[c].name, unit: unit_of(input, c) };
    let named: Vec<_> = columns.iter().map(named).collect();
    let mut overall = Vec::new();
    for (column, values) in named.iter().zip(&channels) {
        let figures = Figures::of(column, values.to_vec(), quantiles);
        overall.push(figures.ok_or_else(|| {
            format!("column '{}' has no value in {} rows", column.name, values.len())
        })?);
    }
    let regimes = of_regimes(from, &named, &channels, by, quantiles)?;
    let n_rows = from.rows.num_rows();
    let summary = match regimes.len() {
        0 => format!("{} columns of {n_rows} rows", columns.len()),
        n => format!("{} columns of {n_rows} rows in {n} regimes", columns.len()),
    };
    let content = Summary { by: by.names(input), quantiles, overall, regimes };
    Ok(Fitted { text: statistics::to_text(from.name, n_rows, content)?, summary })
}

fn of_regimes(
    from: &FitRows<'_>,
    named: &[Column<'_>],
    channels: &[ScalarBuffer<f64>],
    by: &By,
    quantiles: [f64; 2],
) -> Result<Vec<OfRegime>, String> {
    if !by.any() {
        return Ok(Vec::new());
    }
    let split = by.split(from.rows).map_err(|e| e.message)?;
    if split.regimes.len() > MAX_REGIMES {
        return Err(format!(
            "there are {} regimes, but at most {MAX_REGIMES} can be fitted: round more coarsely",
            split.regimes.len()
        ));
    }
    let rows = split.rows();
    let mut regimes = BTreeMap::new();
    for (regime, rows) in split.regimes.into_iter().zip(rows) {
        let Some(regime) = regime else { continue };
        let each = named.iter().zip(channels).filter_map(|(column, values)| {
            Figures::of(column, rows.iter().map(|&row| values[row]).collect(), quantiles)
        });
        regimes.insert(regime.clone(), OfRegime { regime, columns: each.collect() });
    }
    Ok(regimes.into_values().collect())
}

impl Summary {
    /// The figures of `columns`, of each regime and of all rows, as far as they fit the input.
    pub(super) fn of_columns(
        &self,
        input: &Schema,
        columns: &[usize],
    ) -> Result<Vec<&Figures>, Vec<ConfigError>> {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        for (i, &c) in columns.iter().enumerate() {
            let name = &input.columns()[c].name;
            let at = format!("columns[{i}]");
            let Some(figures) = self.overall.iter().find(|f| f.column == *name) else {
                errors.push(not_fitted(at, format!("the statistics know no column '{name}'")));
                continue;
            };
            let unit = unit_of(input, c);
            if unit != figures.unit {
                let shown =
                    |unit: &Option<String>| unit.clone().unwrap_or_else(|| "none".to_owned());
                let what = format!(
                    "the unit of column '{name}' is {}, but its statistics have {}",
                    shown(&unit),
                    shown(&figures.unit)
                );
                errors.push(not_fitted(at, what));
            }
            found.push(figures);
        }
        if errors.is_empty() { Ok(found) } else { Err(errors) }
    }

    /// The regimes, each with the figures of a column if it has some.
    pub(super) fn regimes(&self) -> impl Iterator<Item = &Regime> {
        self.regimes.iter().map(|r| &r.regime)
    }

    /// The figures of the column called `name` in regime `place`.
    pub(super) fn in_regime(&self, place: usize, name: &str) -> Option<&Figures> {
        self.regimes[place].columns.iter().find(|f| f.column == name)
    }

    /// Whether the file was fitted by other columns or for other quantiles than it is asked for.
    pub(super) fn check(&self, by: &[String], quantiles: Option<[f64; 2]>) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        if self.by != by {
            let list = |names: &[String]| names.join(", ");
            let what = format!(
                "the statistics are by [{}], but the step is by [{}]",
                list(&self.by),
                list(by)
            );
            errors.push(not_fitted("by", what));
        }
        if let Some(quantiles) = quantiles.filter(|q| *q != self.quantiles) {
            let what = format!(
                "the statistics hold the quantiles {:?}, not {quantiles:?}",
                self.quantiles
            );
            errors.push(not_fitted("quantiles", what));
        }
        errors
    }
}
