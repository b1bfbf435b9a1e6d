//! From the settings of a row to its regime.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::error::ArrowError;
use foreline_engine::{Fault, Schema};

use super::known::{Known, Places};
use super::{How, RegimeConfig, Settings};
use crate::columns::channel;
use crate::stateless::{Fate, PerRow};

/// Names the regimes of rows.
#[derive(Debug, Clone)]
pub(super) struct Label {
    columns: Vec<usize>,
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    Round(Vec<u8>),
    Nearest { places: Places, max_distance: f64 },
}

/// The regimes of the rows of a batch.
#[derive(Debug)]
pub(super) struct Labels {
    /// The regime of each row, as a place in `names`.
    pub(super) of_row: Vec<Option<u32>>,
    /// Each regime that is there, once.
    pub(super) names: Vec<String>,
}

impl Labels {
    /// One text a row.
    pub(super) fn texts(&self) -> Result<ArrayRef, ArrowError> {
        let names = StringArray::from_iter_values(&self.names);
        take(&names, &UInt32Array::from(self.of_row.clone()), None)
    }
}

impl Label {
    pub(super) fn new(settings: &Settings, config: &RegimeConfig, known: Option<&Known>) -> Self {
        let far = config.k_means.as_ref().and_then(|k| k.max_distance);
        let rule = match (&settings.how, known) {
            (How::Round(decimals), _) => Rule::Round(decimals.clone()),
            (How::KMeans { .. }, known) => Rule::Nearest {
                places: known.map(Known::places).unwrap_or_default(),
                max_distance: far.unwrap_or(f64::INFINITY),
            },
        };
        Label { columns: settings.columns.clone(), rule }
    }

    /// The regimes of `rows`.
    pub(super) fn of(&self, rows: &RecordBatch) -> Result<Labels, Fault> {
        let channels = self.columns.iter().map(|&c| channel(rows.column(c)));
        let channels: Vec<_> = channels.collect::<Result<_, _>>()?;
        let mut settings = vec![0.0; channels.len()];
        let mut seen: BTreeMap<Vec<u64>, u32> = BTreeMap::new();
        let mut bits = vec![0; channels.len()];
        let mut labels = Labels { of_row: Vec::with_capacity(rows.num_rows()), names: Vec::new() };
        if let Rule::Nearest { places, .. } = &self.rule {
            labels.names = places.names.clone();
        }
        for row in 0..rows.num_rows() {
            for (setting, values) in settings.iter_mut().zip(&channels) {
                *setting = values[row];
            }
            labels.of_row.push(match &self.rule {
                _ if settings.iter().any(|s| !s.is_finite()) => None,
                Rule::Nearest { places, max_distance } => places.nearest(&settings, *max_distance),
                Rule::Round(decimals) => {
                    round(&mut settings, decimals);
                    for (bits, setting) in bits.iter_mut().zip(&settings) {
                        *bits = setting.to_bits();
                    }
                    Some(seen.get(&bits[..]).copied().unwrap_or_else(|| {
                        let place =
                            u32::try_from(labels.names.len()).expect("fewer than 2^32 rows");
                        labels.names.push(name(&settings, decimals));
                        seen.insert(bits.clone(), place);
                        place
                    }))
                }
            });
        }
        Ok(labels)
    }
}

/// Rounds each setting to its decimals, halves to even, -0 to 0.
pub(super) fn round(settings: &mut [f64], decimals: &[u8]) {
    for (setting, &decimals) in settings.iter_mut().zip(decimals) {
        let ten = (0..decimals).fold(1.0, |ten, _| ten * 10.0);
        *setting = (*setting * ten).round_ties_even() / ten + 0.0;
    }
}

/// The name of a regime of rounded settings.
pub(super) fn name(rounded: &[f64], decimals: &[u8]) -> String {
    let each = rounded.iter().zip(decimals);
    each.map(|(v, &d)| format!("{v:.*}", usize::from(d))).collect::<Vec<_>>().join("/")
}

/// The step without counters.
#[derive(Debug, Clone)]
pub(super) struct Labelled {
    pub(super) label: Label,
    pub(super) output: Schema,
}

impl PerRow for Labelled {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let mut columns = rows.columns().to_vec();
        columns.push(self.label.of(rows)?.texts()?);
        Ok((RecordBatch::try_new(Arc::clone(self.output.arrow()), columns)?, None))
    }
}
