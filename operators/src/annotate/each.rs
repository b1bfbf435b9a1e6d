//! What looks at each of several columns by itself, in the same way.

use std::collections::BTreeMap;
use std::fmt;

use arrow::buffer::ScalarBuffer;
use foreline_engine::{Batch, ConfigError, Fault, Planned, Schema, Unit};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Added, Annotate, planned_until};
use crate::columns::{channel, numeric};

/// What looks at one column by itself, and so at each of several in the same way.
pub(crate) trait Detector: fmt::Debug + Clone + Send + Sync + 'static {
    /// What it has to remember of a column of a key.
    type State: fmt::Debug + Default + Serialize + DeserializeOwned + 'static;

    /// Raised whenever the meaning of `State` changes.
    const STATE_VERSION: u32;

    /// What it adds for a column in `unit`, named by what follows the column's name and an underscore.
    fn adds(&self, unit: Option<&Unit>) -> Vec<Added>;

    /// Takes in values of a column of a key, NaN where missing, and appends one value each to every one of `out`.
    fn follow(&self, times: &[i64], values: &[f64], state: &mut Self::State, out: &mut [Vec<f64>]);
}

/// The columns that a detector looks at: the place of each, and what stands in front of the names of its results.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    places: Vec<usize>,
    stems: Vec<String>,
}

impl Watched {
    /// Checks `columns` and `rename` (`as` in the file) against the input.
    ///
    /// # Errors
    /// Every name that cannot be.
    pub(crate) fn plan(
        input: &Schema,
        columns: &[String],
        rename: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let places = places(input, columns, numeric);
        let unknown = renamed_unknown(columns, rename);
        let stem = |name: &String| rename.get(name).unwrap_or(name).clone();
        match places {
            Ok(places) if unknown.is_empty() => {
                Ok(Watched { places, stems: columns.iter().map(stem).collect() })
            }
            places => Err(places.err().into_iter().flatten().chain(unknown).collect()),
        }
    }
}

/// The places of the columns of a list `columns`, each once and as `fits` has it.
///
/// # Errors
/// Every name that cannot be.
pub(crate) fn places(
    input: &Schema,
    columns: &[String],
    fits: fn(&Schema, &str, &str) -> Result<usize, ConfigError>,
) -> Result<Vec<usize>, Vec<ConfigError>> {
    let (mut places, mut errors) = (Vec::new(), Vec::new());
    if columns.is_empty() {
        errors.push(ConfigError::new("columns", "no column is named"));
    }
    for (i, name) in columns.iter().enumerate() {
        let at = format!("columns[{i}]");
        match fits(input, &at, name) {
            Ok(place) if places.contains(&place) => {
                errors.push(ConfigError::new(at, format!("column '{name}' is there twice")));
            }
            Ok(place) => places.push(place),
            Err(e) => errors.push(e),
        }
    }
    if errors.is_empty() { Ok(places) } else { Err(errors) }
}

/// The names in `as` that are not among `columns`.
pub(crate) fn renamed_unknown(
    columns: &[String],
    rename: &BTreeMap<String, String>,
) -> Vec<ConfigError> {
    let unknown = rename.keys().filter(|name| !columns.contains(name));
    let error = |name: &String| {
        let what = format!("column '{name}' is not among the columns of this step");
        ConfigError::new(format!("as.{name}"), what).unknown(name, columns)
    };
    unknown.map(error).collect()
}

/// The plan of a step that has `detector` look at each of `watched`; `resets` is the place of the flag that has it begin
/// anew.
///
/// # Errors
/// When two columns have one name.
pub(crate) fn planned_each<D: Detector>(
    input: &Schema,
    watched: Watched,
    detector: D,
    resets: Option<usize>,
) -> Result<Planned, Vec<ConfigError>> {
    let mut added = Vec::new();
    for (&place, stem) in watched.places.iter().zip(&watched.stems) {
        let each = detector.adds(input.columns()[place].unit.as_ref()).into_iter();
        added.extend(each.map(|new| Added { name: format!("{stem}_{}", new.name), ..new }));
    }
    planned_until(input, EachColumn { places: watched.places, detector }, added, resets)
}

#[derive(Debug, Clone)]
struct EachColumn<D> {
    places: Vec<usize>,
    detector: D,
}

impl<D: Detector> Annotate for EachColumn<D> {
    type State = Vec<D::State>;

    const STATE_VERSION: u32 = D::STATE_VERSION;

    fn channels(&self, batch: &Batch) -> Result<Vec<ScalarBuffer<f64>>, Fault> {
        self.places.iter().map(|&c| channel(batch.rows.column(c))).collect()
    }

    fn start(&self) -> Vec<D::State> {
        self.places.iter().map(|_| D::State::default()).collect()
    }

    fn follow(
        &self,
        times: &[i64],
        channels: &[&[f64]],
        state: &mut Vec<D::State>,
        out: &mut [Vec<f64>],
    ) {
        let n_results = out.len() / self.places.len();
        let each = channels.iter().zip(state).zip(out.chunks_mut(n_results));
        for ((values, state), out) in each {
            self.detector.follow(times, values, state, out);
        }
    }
}
