//! Columns that say when a machine's features have drifted from those that the model was trained on.
//!
//! The rows of a key are taken in blocks. At the end of a block the population stability index of each feature says how
//! far its values are from the deciles of the training: `PSI = sum (a - e) ln(a / e)` over the bins, with the share `a`
//! of the block's values and `e` of the training's, each at least 0.0001. Commonly 0.1 is a shift and 0.2 one that asks for
//! a new training.
//!
//! What a reader would get wrong: the last row of a block is the first that has its verdict, and all rows have it until the
//! next block ends. Which rows make up a block depends on nothing but the rows of the key.

use std::sync::Arc;

use arrow::array::{BinaryArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use foreline_engine::{Batch, ConfigError, Fault, Keyed, Schema, ShardSet};
use foreline_sdk::weights::{self, Profile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rows::FeatureColumns;
use super::seat::{GATE_COLUMN, row_number};

/// The column with the greatest index of all features.
pub(super) const PSI: &str = "drift_psi";
/// The column that names the features that have drifted.
pub(super) const DRIFTED: &str = "drifted";
/// Name of the drift's state among the states of versions; no name of a version has a blank.
pub(super) const STATE_NAME: &str = "foreline drift";
/// A share that is smaller counts as this, since an empty bin would make the index infinite.
const LEAST_SHARE: f64 = 1e-4;
/// Fewest rows of a block: with fewer than ten values a decile the index is mostly chance.
const FEWEST_ROWS: u32 = 100;
/// Most rows of a block.
const MOST_ROWS: u32 = 10_000_000;

/// When features of a key have drifted from those of the training.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DriftConfig {
    /// How many rows of a key are compared at once, 100 or more; 1000 unless given. With `n` rows chance alone makes an index of
    /// about 9 / n.
    pub rows: u32,
    /// The index above which a feature has drifted; 0.2 unless given.
    pub above: f64,
}

impl Default for DriftConfig {
    fn default() -> Self {
        DriftConfig { rows: 1000, above: 0.2 }
    }
}

/// What features are compared with.
#[derive(Debug, Clone)]
pub(super) struct Yardstick {
    config: DriftConfig,
    /// The input columns of the features, and their names.
    columns: Vec<usize>,
    names: Vec<String>,
    profiles: Vec<Profile>,
}

impl Yardstick {
    /// The yardstick of weights.
    ///
    /// # Errors
    /// When they do not say how the features were spread, or an option cannot be.
    pub(super) fn new(
        config: DriftConfig,
        weights: &[u8],
        columns: &[usize],
        names: Vec<String>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        if !(FEWEST_ROWS..=MOST_ROWS).contains(&config.rows) {
            let what = format!("'{}' is not between {FEWEST_ROWS} and {MOST_ROWS}", config.rows);
            errors.push(ConfigError::new("warn.drift.rows", what));
        }
        if !(config.above > 0.0 && config.above.is_finite()) {
            let what = format!("'{}' is not above zero", config.above);
            errors.push(ConfigError::new("warn.drift.above", what));
        }
        let profiles = weights::read(weights).map(|w| w.profiles).unwrap_or_default();
        if profiles.len() != columns.len() {
            let what = "the weights do not say how the features were spread in training";
            errors.push(
                ConfigError::new("warn.drift", what)
                    .help("train them again with `foreline train`, or leave 'drift' out"),
            );
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Yardstick { config, columns: columns.to_vec(), names, profiles })
    }

    /// Bins of all features.
    fn n_bins(&self) -> usize {
        self.profiles.iter().map(|p| p.edges.len() + 1).sum()
    }

    /// The index of each feature, by the counts of all bins; `None` where a feature had no value, here or in training.
    fn indices<'a>(&'a self, counts: &'a [u32]) -> impl Iterator<Item = Option<f64>> + 'a {
        let mut rest = counts;
        self.profiles.iter().map(move |profile| {
            let (own, others) = rest.split_at(profile.edges.len() + 1);
            rest = others;
            stability(own, &profile.shares)
        })
    }
}

/// The population stability index.
fn stability(counts: &[u32], shares: &[f64]) -> Option<f64> {
    let n: u64 = counts.iter().map(|&c| u64::from(c)).sum();
    if n == 0 || shares.iter().all(|&share| share == 0.0) {
        return None;
    }
    let bin = |(&count, &share): (&u32, &f64)| {
        let actual = (f64::from(count) / n as f64).max(LEAST_SHARE);
        let expected = share.max(LEAST_SHARE);
        (actual - expected) * (actual / expected).ln()
    };
    Some(counts.iter().zip(shares).map(bin).sum())
}

/// What is kept of a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    /// Values of the block in each bin, feature after feature.
    counts: Vec<u32>,
    /// Rows of the block so far.
    rows: u32,
    /// What the last whole block said: the greatest index, and which features drifted.
    greatest: Option<f64>,
    drifted: Vec<u32>,
}

impl Seen {
    fn take(&mut self, values: &[f64], yardstick: &Yardstick) {
        self.counts.resize(yardstick.n_bins(), 0);
        let mut first = 0;
        for (value, profile) in values.iter().zip(&yardstick.profiles) {
            if !value.is_nan() {
                self.counts[first + profile.edges.partition_point(|edge| edge < value)] += 1;
            }
            first += profile.edges.len() + 1;
        }
        self.rows += 1;
        if self.rows >= yardstick.config.rows {
            self.judge(yardstick);
        }
    }

    fn judge(&mut self, yardstick: &Yardstick) {
        let indices: Vec<Option<f64>> = yardstick.indices(&self.counts).collect();
        self.greatest = indices.iter().flatten().copied().max_by(f64::total_cmp);
        let above = |psi: &Option<f64>| psi.is_some_and(|psi| psi > yardstick.config.above);
        self.drifted = (0..).zip(&indices).filter(|(_, psi)| above(psi)).map(|(i, _)| i).collect();
        self.rows = 0;
        self.counts.fill(0);
    }
}

/// The drift of the keys of one worker.
#[derive(Debug)]
pub(super) struct DriftWatch {
    yardstick: Arc<Yardstick>,
    key: Vec<usize>,
    keys: Keyed<Seen>,
}

impl DriftWatch {
    pub(super) fn new(yardstick: Arc<Yardstick>, input: &Schema) -> Self {
        DriftWatch { yardstick, key: input.key().to_vec(), keys: Keyed::new(input) }
    }

    /// The columns of a batch; its rows count where they are new ones.
    pub(super) fn columns(
        &mut self,
        batch: &Batch,
        counts: bool,
    ) -> Result<(Float64Array, StringArray), Fault> {
        let yardstick = Arc::clone(&self.yardstick);
        let features = FeatureColumns::new(&batch.rows, &yardstick.columns)?;
        let mut matrix = Vec::new();
        features.fill(&(0..batch.len()).map(row_number).collect::<Vec<_>>(), &mut matrix);
        let width = yardstick.columns.len();
        let deleted = |row: usize| batch.deleted.as_ref().is_some_and(|d| d.value(row));
        let (mut psi, mut drifted) = (Vec::new(), Vec::new());
        for row in 0..batch.len() {
            if deleted(row) {
                psi.push(None);
                drifted.push(None);
                continue;
            }
            let slot = self.keys.slot(batch, &self.key, row, Seen::default)?;
            if counts {
                self.keys.get_mut(slot).take(&matrix[row * width..][..width], &yardstick);
            }
            let seen = self.keys.get(slot);
            let names = seen.drifted.iter().map(|&i| yardstick.names[i as usize].as_str());
            psi.push(seen.greatest);
            drifted.push((!seen.drifted.is_empty()).then(|| names.collect::<Vec<_>>().join(",")));
        }
        Ok((psi.into(), drifted.into()))
    }

    pub(super) fn dirty(&self) -> ShardSet {
        self.keys.dirty()
    }

    /// The state of a shard, in the shape that a version's has.
    pub(super) fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        let Some(saved) = self.keys.save(shard)? else { return Ok(None) };
        let gates =
            BinaryArray::from_iter_values(std::iter::repeat_n(b"" as &[u8], saved.num_rows()));
        let mut fields = saved.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(GATE_COLUMN, DataType::Binary, false)));
        let mut columns = saved.columns().to_vec();
        columns.push(Arc::new(gates));
        Ok(Some(RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)?))
    }

    pub(super) fn load(&mut self, state: &RecordBatch) -> Result<(), Fault> {
        let own = (0..state.num_columns().saturating_sub(1)).collect::<Vec<_>>();
        self.keys.load(&state.project(&own)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// numpy: `a, e = [.5, .3, .2], [.25, .25, .5]; sum((a - e) * log(a / e))` = 0.45729009254193054.
    #[test]
    fn the_index_is_that_of_its_formula() {
        let psi = stability(&[50, 30, 20], &[0.25, 0.25, 0.5]).unwrap();
        assert!((psi - 0.457_290_092_541_930_54).abs() < 1e-12, "{psi}");
        assert_eq!(stability(&[25, 25, 50], &[0.25, 0.25, 0.5]), Some(0.0));
        // An empty bin counts as 0.0001: 0.9999... ln(1 / 0.5) + 0.4999 ln(0.5 / 0.0001) by numpy is 4.604610.
        let psi = stability(&[7, 0], &[0.5, 0.5]).unwrap();
        assert!((psi - (0.5 * 2.0_f64.ln() + 0.4999 * 5000.0_f64.ln())).abs() < 1e-12, "{psi}");
        assert_eq!(stability(&[0, 0], &[0.5, 0.5]), None, "nothing was there");
        assert_eq!(stability(&[7, 0], &[0.0, 0.0]), None, "nothing was there in training");
    }
}
