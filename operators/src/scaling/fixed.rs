//! A scaler whose statistics are those of a file.

use std::collections::BTreeMap;

use arrow::array::{BooleanArray, RecordBatch};
use foreline_engine::{ConfigError, Fault};

use super::by::{By, Regime};
use super::places::Places;
use super::summary::Summary;
use super::{Asked, Line, Method, Shape};
use crate::columns::channel;
use crate::stateless::{Fate, PerRow};

/// Scales each row by itself.
#[derive(Debug, Clone)]
pub(super) struct Fixed {
    places: Places,
    by: By,
    /// The place of each regime among `lines`.
    regimes: BTreeMap<Regime, usize>,
    /// By column: the line of each regime, and at last that of all rows, for regimes that are not known.
    lines: Vec<Vec<Line>>,
}

impl Fixed {
    pub(super) fn new(
        shape: &Shape,
        asked: &Asked<'_>,
        summary: &Summary,
    ) -> Result<Self, Vec<ConfigError>> {
        let quantiles = match asked.method {
            Method::Robust { quantiles } => Some(quantiles),
            Method::MinMax { .. } | Method::Standard => None,
        };
        let mut errors = summary.check(asked.by, quantiles);
        let overall = summary.of_columns(&shape.input, &shape.places.from);
        let overall = overall.map_err(|e| errors.extend(e)).unwrap_or_default();
        if !errors.is_empty() {
            return Err(errors);
        }
        let line = |figures| asked.method.line(figures, shape.constant);
        let n_regimes = summary.regimes().count();
        let lines = asked.columns.iter().zip(overall).map(|(name, overall)| {
            let each = (0..n_regimes).map(|r| summary.in_regime(r, name).unwrap_or(overall));
            each.chain([overall]).map(line).collect()
        });
        Ok(Fixed {
            places: shape.places.clone(),
            by: shape.by.clone(),
            regimes: summary.regimes().cloned().enumerate().map(|(i, r)| (r, i)).collect(),
            lines: lines.collect(),
        })
    }

    fn scaled(
        &self,
        rows: &RecordBatch,
        mut value: impl FnMut(&[Line], &[f64]) -> Vec<f64>,
    ) -> Result<Vec<Vec<f64>>, Fault> {
        let each = self.places.from.iter().zip(&self.lines);
        each.map(|(&c, lines)| Ok(value(lines, &channel(rows.column(c))?))).collect()
    }
}

impl PerRow for Fixed {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        if !self.by.any() {
            let results = self.scaled(rows, |lines, values| {
                let line = lines[0];
                values.iter().map(|&x| line.at(x)).collect()
            })?;
            return Ok((self.places.put(rows, results, None)?, None));
        }
        let split = self.by.split(rows)?;
        let unknown = self.regimes.len();
        let place = |regime: &Option<Regime>| {
            regime.as_ref().and_then(|r| self.regimes.get(r)).copied().unwrap_or(unknown)
        };
        let places: Vec<usize> = split.regimes.iter().map(place).collect();
        let results = self.scaled(rows, |lines, values| {
            let lines: Vec<Line> = places.iter().map(|&p| lines[p]).collect();
            let each = values.iter().zip(&split.of_row);
            each.map(|(&x, &regime)| lines[regime as usize].at(x)).collect()
        })?;
        let flags = split.of_row.iter().map(|&regime| Some(places[regime as usize] == unknown));
        let flags: BooleanArray = flags.collect();
        Ok((self.places.put(rows, results, Some(flags))?, None))
    }
}
