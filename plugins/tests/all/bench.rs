//! A step on one worker, without the engine: rows in, rows and dead letters out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use foreline_engine::{
    Account, Batch, Column, ConfigError, DeadLetter, Epoch, Expression, ExpressionError, Input,
    Operator, Out, Planned, Resolver, Schema, Unit, Watermarks, WorkerContext, hash_keys,
    parse_config,
};
use foreline_plugins::{Ledger, ModelConfig, OPERATORS, Switchboard, plan_model, swaps_schema};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with the files of a pipeline, and a cache.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: TempDir,
    pub(crate) checking: bool,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Folder { dir: TempDir::new().unwrap(), checking: false }
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Plans `model:` with this configuration over `input`.
    pub(crate) fn plan(&self, config: &Value, input: &Schema) -> Result<Planned, Vec<ConfigError>> {
        let kind = OPERATORS.iter().find(|o| o.name == "model").unwrap();
        (kind.parse)(config).map_err(|e| vec![e])?.plan(std::slice::from_ref(input), self)
    }

    /// The step at work.
    pub(crate) fn step(&self, config: &Value, input: &Schema) -> Step {
        let planned = self.plan(config, input).unwrap();
        Step {
            operator: (planned.build)(WorkerContext { index: 0, peers: 1 }).unwrap(),
            input: input.clone(),
            planned,
            epoch: 0,
        }
    }
}

impl Folder {
    /// The step `rul` at work, and the way to change it while it is.
    pub(crate) fn operated(&self, config: &Value, input: &Schema) -> (Step, Arc<Switchboard>) {
        let kept = self.dir.path().join("models");
        let (step, _, switchboard) = self.counted(config, input, Some(kept));
        (step, switchboard.unwrap())
    }

    /// The step `rul` at work, what it says of that, and with a folder the way to change it.
    pub(crate) fn counted(
        &self,
        config: &Value,
        input: &Schema,
        operated_in: Option<PathBuf>,
    ) -> (Step, Arc<Ledger>, Option<Arc<Switchboard>>) {
        let config: ModelConfig = parse_config(config).unwrap();
        let model = plan_model("rul", &config, input, self, operated_in).unwrap();
        let planned = model.planned;
        let operator = (planned.build)(WorkerContext { index: 0, peers: 1 }).unwrap();
        let step = Step { operator, input: input.clone(), planned, epoch: 0 };
        (step, model.ledger, model.switchboard)
    }
}

impl Resolver for Folder {
    fn expression(&self, _: &str, _: &Schema) -> Result<Arc<dyn Expression>, ExpressionError> {
        unreachable!("a model has no expressions")
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.dir.path().join(path)
    }

    fn cache_dir(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn checking(&self) -> bool {
        self.checking
    }
}

/// `machine` (key), `t` (logical time), and the named features.
pub(crate) fn schema(features: &[(&str, Option<&str>)]) -> Schema {
    let mut columns =
        vec![Column::new("machine", DataType::Utf8), Column::new("t", DataType::Int64)];
    for (name, unit) in features {
        columns.push(Column::new(*name, DataType::Float64).with_unit(unit.map(Unit::new)));
    }
    Schema::new(columns, &["machine"], "t").unwrap()
}

/// Rows of `(machine, features)` in that order of time, sorted as the engine sorts them.
pub(crate) fn batch(schema: &Schema, rows: &[(&str, Vec<Option<f64>>)]) -> Batch {
    let machines: DictionaryArray<Int32Type> = rows.iter().map(|r| r.0).collect();
    let times: Int64Array = (0..i64::try_from(rows.len()).unwrap()).collect();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(machines), Arc::new(times)];
    for at in 0..schema.columns().len() - 2 {
        columns.push(Arc::new(rows.iter().map(|r| r.1[at]).collect::<Float64Array>()));
    }
    let rows = RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap();
    let hashes = hash_keys(&rows, schema.key());
    let n = u32::try_from(rows.num_rows()).unwrap();
    let mut order: Vec<u32> = (0..n).collect();
    order.sort_by_key(|&row| (hashes.value(row as usize), row));
    let positions: Vec<u64> = (0..u64::from(n)).collect();
    Batch::new(rows, hashes, positions.into()).unwrap().take(&order.into()).unwrap()
}

/// What an epoch gave.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) rows: Vec<Batch>,
    pub(crate) late: Vec<Batch>,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) account: Account,
}

impl Out for Said {
    fn emit(&mut self, rows: Batch) {
        self.rows.push(rows);
    }
    fn emit_late(&mut self, rows: Batch) {
        self.late.push(rows);
    }
    fn watermarks(&mut self, _: Watermarks) {}
    fn dead(&mut self, letter: DeadLetter) {
        self.dead.push(letter);
    }
    fn count(&mut self, account: Account) {
        self.account.add(&account);
    }
}

impl Said {
    /// A column of numbers over all rows, by key: the order of keys is that of their hashes.
    pub(crate) fn numbers(&self, column: &str) -> BTreeMap<(String, i64), Option<u64>> {
        let mut found = BTreeMap::new();
        for batch in &self.rows {
            let machines = batch.rows.column(0).as_dictionary::<Int32Type>();
            let words = machines.values().as_string::<i32>();
            let times = batch.rows.column(1).as_primitive::<arrow::datatypes::Int64Type>();
            let values = batch.rows.column_by_name(column).unwrap().as_primitive::<Float64Type>();
            for (row, value) in values.iter().enumerate() {
                let word = words.value(usize::try_from(machines.keys().value(row)).unwrap());
                found.insert((word.to_owned(), times.value(row)), value.map(f64::to_bits));
            }
        }
        found
    }

    /// The reasons of all dead letters, counted.
    pub(crate) fn reasons(&self) -> BTreeMap<&'static str, usize> {
        let mut reasons = BTreeMap::new();
        for letter in &self.dead {
            *reasons.entry(letter.reason.0).or_default() += 1;
        }
        reasons
    }
}

/// A step on one worker.
pub(crate) struct Step {
    pub(crate) operator: Box<dyn Operator>,
    pub(crate) planned: Planned,
    input: Schema,
    epoch: u64,
}

/// A row of the relation of swaps: version, digest, acts, canary.
pub(crate) type Swap<'a> = (&'a str, Option<&'a str>, Option<&'a str>, Option<(&'a str, f64)>);

/// Rows of the relation of swaps, all of the step `rul`.
fn swaps(rows: &[Swap<'_>]) -> Batch {
    let schema = swaps_schema().unwrap();
    let n = rows.len();
    let text = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let columns: Vec<ArrayRef> = schema
        .columns()
        .iter()
        .map(|column| match column.name.as_str() {
            "step" => text(vec![Some("rul"); n]),
            "version" => text(rows.iter().map(|r| Some(r.0)).collect()),
            "digest" => text(rows.iter().map(|r| r.1).collect()),
            "acts" => text(rows.iter().map(|r| r.2).collect()),
            "canary" => text(rows.iter().map(|r| r.3.map(|c| c.0)).collect()),
            "share" => Arc::new(rows.iter().map(|r| r.3.map(|c| c.1)).collect::<Float64Array>()),
            _ => new_null_array(&column.data_type, n),
        })
        .zip(schema.arrow().fields())
        .map(|(column, field)| cast(&column, field.data_type()).unwrap())
        .collect();
    let fields: Vec<_> =
        schema.arrow().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let rows = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns);
    let rows = rows.unwrap();
    let hashes = hash_keys(&rows, schema.key());
    Batch::new(rows, hashes, vec![0_u64; n].into()).unwrap()
}

impl Step {
    /// Tells it of the relation of swaps: what went and what came.
    pub(crate) fn told(&mut self, went: &[Swap<'_>], came: &[Swap<'_>]) {
        self.operator.relation(1, &swaps(went), &swaps(came)).unwrap();
    }

    /// Gives another step all it has of state, as a restart does.
    pub(crate) fn hand_over(&mut self, other: &mut Step) {
        for shard in self.operator.dirty().iter().collect::<Vec<_>>() {
            let saved = self.operator.save(shard).unwrap().unwrap();
            other.operator.load(shard, self.planned.state_version, saved).unwrap();
        }
    }

    /// One epoch of new rows.
    pub(crate) fn feed(&mut self, rows: &Batch) -> Said {
        let none = Batch::empty(Arc::clone(self.input.arrow()));
        self.epoch(rows, &none, &none).unwrap()
    }

    /// One epoch.
    pub(crate) fn epoch(
        &mut self,
        rows: &Batch,
        late: &Batch,
        revised: &Batch,
    ) -> Result<Said, foreline_engine::Fault> {
        self.epoch += 1;
        let epoch =
            Epoch { id: self.epoch, clock_ns: 0, inputs: vec![], commands: vec![], ended: vec![] };
        let watermarks = Watermarks::none(self.input.key_arrow());
        let input = Input { rows, late, revised, watermarks: &watermarks };
        let mut said = Said::default();
        self.operator.epoch(&epoch, &[input], &mut said)?;
        let n_in = (rows.len() + late.len() + revised.len()) as u64;
        said.account.input = n_in;
        said.account.dead = said.dead.len() as u64;
        assert!(said.account.balances(), "{:?}", said.account);
        Ok(said)
    }
}
