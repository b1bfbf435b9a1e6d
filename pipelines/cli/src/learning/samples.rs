//! The rows of a training with their target, and what is needed to part them honestly.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use arrow::array::{AsArray as _, BooleanArray};
use arrow::util::display::array_value_to_string;
use foreline_engine::{Batch, Schema};
use foreline_plugins::train::TrainingSet;
use foreline_spec::{TrainingPlan, TrainingTarget};

use super::{Life, Lives, classes, key_names, life, matrix, numbers};

/// Rows to learn from, sorted by machine and event time.
#[derive(Debug, Clone)]
pub struct Samples {
    /// Features, target and machine of every row; `groups` are places in `machines`.
    pub set: TrainingSet,
    /// The keys, as a person reads them.
    pub machines: Vec<String>,
    /// Event time of every row.
    pub times: Vec<i64>,
    /// The life of every row: a place in `lives`.
    pub life_of: Vec<u32>,
    /// The lives.
    pub lives: Vec<Life>,
    /// How much life is left where the target is a life, without its cap; else empty.
    pub uncapped: Vec<f64>,
    /// The cap of the target, in the unit of the target.
    pub cap: Option<f64>,
    rows: Batch,
    schema: Schema,
}

impl Samples {
    /// The rows of `batch` that a training learns from.
    ///
    /// # Errors
    /// When a column is missing or of another type than the plan says, or an expression fails.
    pub fn of(training: &TrainingPlan, schema: &Schema, batch: &Batch) -> Result<Self> {
        let keep = match &training.filter {
            None => vec![true; batch.len()],
            Some(filter) => {
                let keep = filter.evaluate(&batch.rows).context("the 'where' of the training")?;
                // Null is not true, as everywhere else in SQL.
                keep.as_boolean().iter().map(|keep| keep == Some(true)).collect()
            }
        };
        // A machine's rows resemble one another, so a trainer holds back all of them or none.
        let numbered = (0_u32..).zip(batch.groups());
        let groups =
            numbered.flat_map(|(n, group)| (group.start..group.end).map(move |_| n)).collect();
        let rows = batch.filter(&BooleanArray::from(keep.clone()))?;
        let mut cap = None;
        let mut uncapped = Vec::new();
        let mut ends = None;
        if let TrainingTarget::Remaining { ends: Some(condition), .. } = &training.target {
            let found = condition.evaluate(&batch.rows).context("the 'ends' of the target")?;
            ends = Some(found.as_boolean().clone());
        }
        // Lives are counted to rows that the filter may leave out.
        let lives = Lives::of(batch, schema, ends.as_ref());
        let (y, labels) = match &training.target {
            TrainingTarget::Remaining { cap: longest, .. } => {
                cap = longest.map(|c| life(c, schema.domain()));
                uncapped = kept(lives.remaining(batch, schema, None), &keep);
                (kept(lives.remaining(batch, schema, cap), &keep), vec![])
            }
            TrainingTarget::Column(name) => (numbers(&rows, schema, name)?, vec![]),
            TrainingTarget::Class(name) => classes(&rows, schema, name)?,
            TrainingTarget::Nothing => (vec![f64::NAN; rows.len()], vec![]),
        };
        let unit = |name: &String| {
            let column = schema.column(name);
            column.and_then(|c| c.unit.as_ref()).map(|u| u.code().to_owned())
        };
        let set = TrainingSet {
            feature_names: training.features.clone(),
            units: training.features.iter().map(unit).collect(),
            rows: rows.len(),
            x: matrix(&rows, schema, &training.features)?,
            y,
            labels,
            groups: kept(groups, &keep),
        };
        Ok(Samples {
            set,
            machines: key_names(batch, schema),
            times: rows.times(schema).to_vec(),
            life_of: kept(lives.of_row, &keep),
            lives: lives.lives,
            uncapped,
            cap,
            rows,
            schema: schema.clone(),
        })
    }

    /// Samples without columns beside their features.
    #[cfg(test)]
    pub(crate) fn by_hand(
        set: TrainingSet,
        machines: Vec<String>,
        times: Vec<i64>,
        life_of: Vec<u32>,
        lives: Vec<Life>,
        uncapped: Vec<f64>,
    ) -> Self {
        use arrow::datatypes::DataType;
        use foreline_engine::Column;
        let columns = ["key", "time"].map(|name| Column::new(name, DataType::Int64)).to_vec();
        let schema = Schema::new(columns, &["key"], "time").expect("two columns are a schema");
        let rows = Batch::empty(std::sync::Arc::clone(schema.arrow()));
        Samples { set, machines, times, life_of, lives, uncapped, cap: None, rows, schema }
    }

    /// The place of every row's value in `column` among the distinct ones, and these in rising order; a row without a
    /// value has a value of its own, the last.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn values_of(&self, column: &str) -> Result<(Vec<u32>, Vec<String>)> {
        let index = self
            .schema
            .index_of(column)
            .with_context(|| format!("there is no column '{column}'"))?;
        let values = self.rows.rows.column(index);
        let text = |row| array_value_to_string(values, row).unwrap_or_default();
        let of_row: Vec<String> = (0..self.set.rows).map(text).collect();
        let mut places: BTreeMap<&str, u32> = of_row.iter().map(|v| (v.as_str(), 0)).collect();
        for (n, place) in (0..).zip(places.values_mut()) {
            *place = n;
        }
        let names = places.keys().map(|&name| name.to_owned()).collect();
        Ok((of_row.iter().map(|v| places[v.as_str()]).collect(), names))
    }

    /// Some of the rows, as a set to learn from.
    #[must_use]
    pub fn part(&self, rows: &[usize]) -> TrainingSet {
        TrainingSet {
            feature_names: self.set.feature_names.clone(),
            units: self.set.units.clone(),
            rows: rows.len(),
            x: self.features(rows),
            y: rows.iter().map(|&row| self.set.y[row]).collect(),
            labels: self.set.labels.clone(),
            groups: rows.iter().map(|&row| self.set.groups[row]).collect(),
        }
    }

    /// The features of some rows, row by row.
    #[must_use]
    pub fn features(&self, rows: &[usize]) -> Vec<f64> {
        let width = self.set.feature_names.len();
        rows.iter().flat_map(|&row| &self.set.x[row * width..][..width]).copied().collect()
    }
}

/// The values of the rows that are learnt from.
fn kept<T>(values: Vec<T>, keep: &[bool]) -> Vec<T> {
    values.into_iter().zip(keep).filter(|(_, keep)| **keep).map(|(value, _)| value).collect()
}
