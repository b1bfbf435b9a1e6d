//! What the scalers `minmax`, `standard` and `robust` share: `y = (x - shift) / scale * width + offset`.
//!
//! A scaler differs from the others in the [`Method`] alone: which figures of a column become shift and scale. The
//! figures are those of a file (`statistics`), or of the rows so far (`online`); in both cases of the rows of the
//! same regime, where the scaler is told by which columns a regime is known.
//!
//! A column that does not vary, its spread below `constant`, becomes `offset` (0 but for `minmax`), because to divide
//! by next to nothing would make noise look like a signal.

use std::path::PathBuf;
use std::sync::Arc;

use foreline_engine::{ConfigError, FitTarget, Fitting, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::entries::Entries;
use crate::learning::Learn;
use crate::stateless;
use crate::statistics;
use by::By;
use fixed::Fixed;
use places::Places;
use summary::Figures;
pub(crate) use summary::quantile;

pub(crate) mod by;
mod fixed;
mod online;
mod places;
mod summary;
#[cfg(test)]
mod tests;

/// The name of the column that says whether a row's regime is one without statistics, unless `flag` says otherwise.
const FLAG: &str = "regime_unknown";
/// A spread below this is none, unless `constant` says otherwise.
const CONSTANT: f64 = 1e-9;

/// What a user writes under a scaler, read from the scaler's own type.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: Method,
    pub(crate) columns: &'a [String],
    pub(crate) by: &'a [String],
    pub(crate) statistics: Option<&'a PathBuf>,
    pub(crate) online: Option<&'a Online>,
    pub(crate) constant: Option<f64>,
    pub(crate) flag: Option<&'a String>,
    pub(crate) rename: &'a Entries<String>,
}

/// Which figures become shift and scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Method {
    /// The least value and the range, laid onto `[low, high]`.
    MinMax { low: f64, high: f64 },
    /// The mean and the standard deviation.
    Standard,
    /// The median and the distance between two quantiles.
    Robust { quantiles: [f64; 2] },
}

/// Statistics of the rows so far, the row itself included: `true`, or of the first rows alone.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected true, { rows: 1000 } or { duration: 14d }")]
pub enum Online {
    /// `true`: all rows so far.
    Always(bool),
    /// The statistics stay as they are after a time of learning: so many values of each column, for each key and regime,
    /// or so long from the first row of the key.
    Learning(Learn),
}

/// How a value is scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    shift: f64,
    scale: f64,
    width: f64,
    offset: f64,
}

impl Line {
    /// A column that does not vary: the offset, whatever the value; NaN stays NaN.
    fn constant(shift: f64, offset: f64) -> Self {
        Line { shift, scale: f64::INFINITY, width: 1.0, offset }
    }

    fn at(&self, x: f64) -> f64 {
        (x - self.shift) / self.scale * self.width + self.offset
    }
}

impl Method {
    fn line(self, figures: &Figures, constant: f64) -> Line {
        let (shift, scale, width, offset) = match self {
            Method::MinMax { low, high } => {
                (figures.min, figures.max - figures.min, high - low, low)
            }
            Method::Standard => (figures.mean, figures.std, 1.0, 0.0),
            Method::Robust { .. } => (figures.median, figures.high - figures.low, 1.0, 0.0),
        };
        if scale < constant {
            return Line::constant(shift, offset);
        }
        Line { shift, scale, width, offset }
    }

    /// The quantiles that a file holds: those of `robust`, or the quartiles.
    fn quantiles(self) -> [f64; 2] {
        match self {
            Method::Robust { quantiles } => quantiles,
            Method::MinMax { .. } | Method::Standard => [0.25, 0.75],
        }
    }

    /// Whether the values themselves have to be kept.
    fn keeps(self) -> bool {
        matches!(self, Method::Robust { .. })
    }

    fn check(self) -> Result<(), ConfigError> {
        match self {
            Method::MinMax { low, high } if !(low < high && (high - low).is_finite()) => {
                let what = format!("'[{low}, {high}]' is not a range");
                Err(ConfigError::new("range", what).help("give two numbers, the smaller first"))
            }
            Method::Robust { quantiles: [low, high] }
                if !(0.0 <= low && low < high && high <= 1.0) =>
            {
                let what = format!("'[{low}, {high}]' are not two quantiles");
                let help = "give two numbers from 0 to 1, the smaller first, such as [0.25, 0.75]";
                Err(ConfigError::new("quantiles", what).help(help))
            }
            _ => Ok(()),
        }
    }
}

/// What is known of a scaler before its file is looked at.
struct Shape {
    input: Schema,
    places: Places,
    by: By,
    constant: f64,
}

impl Asked<'_> {
    fn shape(&self, inputs: &[Schema]) -> Result<Shape, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut errors = Vec::new();
        errors.extend(self.method.check().err());
        let constant = self.constant.unwrap_or(CONSTANT);
        if !(constant >= 0.0 && constant.is_finite()) {
            let what = format!("'{constant}' is not a spread");
            errors.push(ConfigError::new("constant", what).help("give a number of at least 0"));
        }
        let flag = (!self.by.is_empty()).then(|| self.flag.map_or(FLAG, String::as_str));
        if flag.is_none() && self.flag.is_some() {
            let error = ConfigError::new("flag", "without 'by' there is no regime to be unknown");
            errors.push(error.help("leave 'flag' out"));
        }
        let by = By::plan(input, self.by).map_err(|e| errors.extend(e));
        let places = Places::plan(input, self.columns, self.rename, flag);
        let places = places.map_err(|e| errors.extend(e));
        match (places, by) {
            (Ok(places), Ok(by)) if errors.is_empty() => {
                Ok(Shape { input: input.clone(), places, by, constant })
            }
            _ => Err(errors),
        }
    }

    /// As the step's `plan`.
    pub(crate) fn plan(
        &self,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let shape = self.shape(inputs)?;
        match (self.statistics, self.online) {
            (Some(path), None) => {
                let loaded = statistics::load(path, given).map_err(|e| vec![e])?;
                let fixed = Fixed::new(&shape, self, &loaded.content)?;
                let planned = stateless::planned(&shape.input, shape.places.schema, fixed);
                Ok(Planned { depends_on: vec![loaded.depends_on], ..planned })
            }
            (None, Some(Online::Always(false))) | (None, None) => {
                Err(vec![ConfigError::new("", "nothing says where the statistics are from").help(
                    "add 'statistics: statistics/<name>.json', which `foreline train` writes, or 'online: true'",
                )])
            }
            (None, Some(online)) => online::plan(shape, self.method, *online),
            (Some(_), Some(_)) => {
                Err(vec![ConfigError::new("", "statistics and online exclude one another")
                    .help("keep one of them")])
            }
        }
    }

    /// As the step's `fitting`.
    pub(crate) fn fitting(
        &self,
        inputs: &[Schema],
        given: &dyn Resolver,
    ) -> Result<Option<Fitting>, Vec<ConfigError>> {
        let Some(path) = self.statistics else { return Ok(None) };
        let Shape { input, places, by, .. } = self.shape(inputs)?;
        let quantiles = self.method.quantiles();
        Ok(Some(Fitting {
            file: given.path(path),
            target: FitTarget::Unused,
            fit: Arc::new(move |from| summary::fit(from, &input, &places.from, &by, quantiles)),
        }))
    }
}
