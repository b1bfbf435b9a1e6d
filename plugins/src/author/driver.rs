//! The `model` step on one worker without an engine: rows in, what became of each out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, RecordBatch,
};
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use foreline_engine::{
    Account, Batch, Column, DeadLetter, Epoch, Expression, ExpressionError, Fault, Input, Operator,
    Out, Planned, Resolver, Schema, Watermarks, WorkerContext, hash_keys,
};

use super::Subject;
use crate::model::{Files, ModelConfig, plan_files};
use crate::sandbox::Descriptor;

/// The column of keys. Features and outputs are renamed, so that none has this name.
const KEY: &str = "key";
/// The column of times.
const TIME: &str = "time";

/// A row to score.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: String,
    /// Which row of the case it is; rows from elsewhere have numbers that the case has not.
    pub(super) number: i64,
    /// In the order of the descriptor.
    pub(super) features: Vec<Option<f64>>,
}

/// What became of a row: its outputs, NaN for none, or the reason code it was refused with.
pub(super) type Fate = Result<Vec<f64>, &'static str>;

/// A model that fits rows of its own features.
#[derive(Debug)]
pub(super) struct Driver {
    planned: Planned,
    input: Schema,
    n_outputs: usize,
}

impl Driver {
    /// Plans a step with the model; `rows_per_call` as `limits.rows`.
    pub(super) fn new(
        subject: &Subject,
        descriptor: &Descriptor,
        rows_per_call: Option<u32>,
    ) -> Result<Self, String> {
        let mut config = ModelConfig::of(&subject.config);
        config.plugin.clone_from(&subject.name);
        // A breaker counts epochs, and how rows are cut into epochs must not show here.
        config.breaker.after = 0;
        if let Some(rows) = rows_per_call {
            config.limits.rows = rows;
        }
        for (index, feature) in descriptor.features.iter().enumerate() {
            config.features.insert(feature.name.clone(), feature_column(index));
        }
        for (index, output) in descriptor.outputs.iter().enumerate() {
            config.outputs.insert(output.name.clone(), output_column(index));
        }
        let mut columns =
            vec![Column::new(KEY, DataType::Utf8), Column::new(TIME, DataType::Int64)];
        let features = (0..descriptor.features.len()).map(feature_column);
        columns.extend(features.map(|name| Column::new(name, DataType::Float64)));
        let input = Schema::new(columns, &[KEY], TIME).map_err(|e| e.to_string())?;
        let files = Files { component: subject.plugin.clone(), weights: subject.weights.clone() };
        let given = Given { cache_dir: subject.cache_dir.clone() };
        let planned = plan_files(&config, &files, &input, &given).map_err(|errors| {
            errors.into_iter().map(|e| e.message).collect::<Vec<_>>().join("; ")
        })?;
        Ok(Driver { planned, input, n_outputs: descriptor.outputs.len() })
    }

    /// Sends epochs through a fresh step; what became of each row, by number.
    pub(super) fn run(&self, epochs: &[Vec<Row>]) -> Result<BTreeMap<i64, Fate>, String> {
        let said = |e: Fault| e.message;
        let worker = WorkerContext { index: 0, peers: 1 };
        let mut operator = (self.planned.build)(worker).map_err(said)?;
        let mut fates = BTreeMap::new();
        for (id, rows) in (1..).zip(epochs) {
            let batch = self.batch(rows).map_err(said)?;
            let out = self.epoch(&mut *operator, id, &batch).map_err(said)?;
            self.collect(&out, &mut fates);
        }
        Ok(fates)
    }

    /// Rows as the engine hands them over: sorted by the hashes of their keys.
    fn batch(&self, rows: &[Row]) -> Result<Batch, Fault> {
        let keys: DictionaryArray<Int32Type> = rows.iter().map(|r| r.key.as_str()).collect();
        let times: Int64Array = rows.iter().map(|r| r.number).collect();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(times)];
        for at in 0..self.input.columns().len() - columns.len() {
            columns.push(Arc::new(rows.iter().map(|r| r.features[at]).collect::<Float64Array>()));
        }
        let rows = RecordBatch::try_new(Arc::clone(self.input.arrow()), columns)?;
        let hashes = hash_keys(&rows, self.input.key());
        let n_rows = u32::try_from(rows.num_rows()).map_err(|e| Fault::new(e.to_string()))?;
        let mut order: Vec<u32> = (0..n_rows).collect();
        order.sort_by_key(|&row| (hashes.value(row as usize), row));
        let positions: Vec<u64> = (0..u64::from(n_rows)).collect();
        let batch = Batch::new(rows, hashes, positions.into());
        Ok(batch.map_err(|e| Fault::new(e.to_string()))?.take(&order.into())?)
    }

    fn epoch(&self, operator: &mut dyn Operator, id: u64, rows: &Batch) -> Result<Said, Fault> {
        let none = Batch::empty(Arc::clone(self.input.arrow()));
        let epoch = Epoch { id, clock_ns: 0, inputs: vec![], commands: vec![], ended: vec![] };
        let watermarks = Watermarks::none(self.input.key_arrow());
        let input = Input { rows, late: &none, revised: &none, watermarks: &watermarks };
        let mut said = Said::default();
        operator.epoch(&epoch, &[input], &mut said)?;
        Ok(said)
    }

    fn collect(&self, said: &Said, fates: &mut BTreeMap<i64, Fate>) {
        for batch in &said.rows {
            let times = batch.times(&self.input);
            let outputs: Vec<_> = (0..self.n_outputs)
                .filter_map(|index| batch.rows.column_by_name(&output_column(index)))
                .map(|column| column.as_primitive::<Float64Type>())
                .collect();
            for (row, &time) in times.iter().enumerate() {
                let score = |column: &&Float64Array| {
                    if column.is_null(row) { f64::NAN } else { column.value(row) }
                };
                fates.insert(time, Ok(outputs.iter().map(score).collect()));
            }
        }
        for letter in &said.dead {
            fates.insert(letter.time.unwrap_or(i64::MAX), Err(letter.reason.0));
        }
    }
}

fn feature_column(index: usize) -> String {
    format!("feature_{index}")
}

fn output_column(index: usize) -> String {
    format!("output_{index}")
}

/// What a step asks for while it is planned.
struct Given {
    cache_dir: PathBuf,
}

impl Resolver for Given {
    fn expression(&self, text: &str, _: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
        let message = format!("a model has no expressions: {text}");
        Err(ExpressionError { message, at: None, unknown: None })
    }

    fn path(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn cache_dir(&self) -> PathBuf {
        self.cache_dir.clone()
    }

    fn checking(&self) -> bool {
        true
    }
}

/// What an epoch gave.
#[derive(Debug, Default)]
struct Said {
    rows: Vec<Batch>,
    dead: Vec<DeadLetter>,
}

impl Out for Said {
    fn emit(&mut self, rows: Batch) {
        self.rows.push(rows);
    }
    fn emit_late(&mut self, rows: Batch) {
        self.rows.push(rows);
    }
    fn watermarks(&mut self, _: Watermarks) {}
    fn dead(&mut self, letter: DeadLetter) {
        self.dead.push(letter);
    }
    fn count(&mut self, _: Account) {}
}
