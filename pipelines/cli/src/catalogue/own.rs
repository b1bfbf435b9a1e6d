//! What the engine knows of itself, as tables: `metrics`, `runs`, the last `dead_letters`, and `audit` for administrators.
//!
//! What a reader would get wrong: these are read as they stand. No epoch is theirs, and a table of the pipeline with such a name
//! goes before.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use foreline_engine::Vitals;
use foreline_server::accounts::Audit;
use foreline_server::{Family, Figures};
use foreline_spec::Plan;
use foreline_sql::About;
use serde_json::{Map, Value};

use crate::runs::{Run, runs};
use crate::watching::Watching;

const METRICS: &str = "metrics";
const RUNS: &str = "runs";
const DEAD_LETTERS: &str = "dead_letters";
const AUDIT: &str = "audit";

/// Events of the audit log that are read; the API has all.
const EVENTS_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Own {
    data_dir: PathBuf,
    /// Of a pipeline that runs.
    live: Option<(Arc<Vitals>, Arc<Figures>)>,
    is_for_admins: bool,
}

impl Own {
    pub(super) fn running(plan: &Plan, watching: &Watching, figures: &Arc<Figures>) -> Self {
        let live = Some((Arc::clone(&watching.vitals), Arc::clone(figures)));
        Own { data_dir: plan.data_dir.clone(), live, is_for_admins: false }
    }

    pub(super) fn at_rest(plan: &Plan) -> Self {
        Own { data_dir: plan.data_dir.clone(), ..Own::default() }
    }

    pub(super) fn for_admins(&mut self) {
        self.is_for_admins = true;
    }

    pub(super) fn tables(&self) -> Vec<About> {
        let mut tables = vec![about(RUNS, "runs of this pipeline", runs_schema())];
        if self.live.is_some() {
            tables.push(about(METRICS, "figures, as they stand", metrics_schema()));
            tables.push(about(DEAD_LETTERS, "the last ones, in memory", letters_schema()));
        }
        if self.is_for_admins {
            tables.push(about(AUDIT, "what was changed, and by whom", audit_schema()));
        }
        tables
    }

    /// The rows of one of them.
    pub(super) fn rows(&self, name: &str) -> Result<RecordBatch, String> {
        let made = match (name, &self.live) {
            (RUNS, _) => {
                let all = runs(&self.data_dir);
                let all = all.map_err(|e| format!("'{name}' cannot be read: {e}"))?;
                runs_rows(&all, self.live.is_some())
            }
            (METRICS, Some((_, figures))) => metrics_rows(&figures.read()),
            (DEAD_LETTERS, Some((vitals, _))) => letters_rows(vitals),
            (AUDIT, _) if self.is_for_admins => {
                let events = Audit::new(&self.data_dir).newest(0, EVENTS_MAX);
                let events = events.map_err(|e| format!("'{name}' cannot be read: {e}"))?;
                let of = |get: fn(&foreline_server::accounts::Event) -> &String| {
                    texts(events.iter().map(|e| Some(get(e).as_str())))
                };
                let at =
                    events.iter().map(|e| i64::try_from(e.at).ok()?.checked_mul(1_000_000_000));
                let columns = vec![
                    times(at),
                    of(|e| &e.who),
                    of(|e| &e.from),
                    of(|e| &e.what),
                    of(|e| &e.object),
                    of(|e| &e.outcome),
                ];
                RecordBatch::try_new(audit_schema(), columns)
            }
            _ => return Err(format!("there is no table '{name}'")),
        };
        made.map_err(|e| format!("'{name}' cannot be read: {e}"))
    }
}

fn about(name: &str, kind: &str, schema: SchemaRef) -> About {
    let units = vec![None; schema.fields().len()];
    About { name: name.to_owned(), kind: kind.to_owned(), schema, units }
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let field = |(name, of): &(&str, DataType)| Field::new(*name, of.clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampNanosecondArray>().with_timezone("UTC"))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// Counts; one above the largest number of a column is left out.
fn counts(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.map(|n| i64::try_from(n?).ok()).collect::<Int64Array>())
}

fn metrics_schema() -> SchemaRef {
    let text = DataType::Utf8;
    schema(&[
        ("name", text.clone()),
        ("kind", text.clone()),
        ("labels", text),
        ("value", DataType::Float64),
    ])
}

fn metrics_rows(families: &[Family]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let (mut names, mut kinds, mut labels, mut values) = (vec![], vec![], vec![], vec![]);
    for (metric, of) in families {
        for (label, value) in of {
            names.push(metric.name);
            kinds.push(metric.kind);
            let pairs = metric.labels.iter().zip(label);
            let pairs = pairs.map(|(name, of)| ((*name).to_owned(), Value::from(of.as_str())));
            labels.push(Value::Object(pairs.collect::<Map<_, _>>()).to_string());
            values.push(*value);
        }
    }
    let columns: Vec<ArrayRef> = vec![
        texts(names.into_iter().map(Some)),
        texts(kinds.into_iter().map(Some)),
        texts(labels.iter().map(|text| Some(text.as_str()))),
        Arc::new(Float64Array::from(values)),
    ];
    RecordBatch::try_new(metrics_schema(), columns)
}

fn runs_schema() -> SchemaRef {
    let (number, text) = (DataType::Int64, DataType::Utf8);
    schema(&[
        ("run", number.clone()),
        ("version", text.clone()),
        ("workers", number.clone()),
        ("started_at", time()),
        ("ended_at", time()),
        ("outcome", text),
        ("rows", number.clone()),
        ("epochs", number),
    ])
}

fn runs_rows(all: &[Run], runs: bool) -> Result<RecordBatch, arrow::error::ArrowError> {
    let newest = all.iter().map(|run| run.run).max();
    let outcome = |run: &Run| match &run.outcome {
        Some(outcome) => outcome.clone(),
        None if runs && Some(run.run) == newest => "running".to_owned(),
        None => "died".to_owned(),
    };
    let outcomes: Vec<String> = all.iter().map(outcome).collect();
    let columns = vec![
        counts(all.iter().map(|run| Some(run.run))),
        texts(all.iter().map(|run| Some(run.version.as_str()))),
        counts(all.iter().map(|run| Some(run.workers))),
        times(all.iter().map(|run| Some(run.started))),
        times(all.iter().map(|run| run.ended)),
        texts(outcomes.iter().map(|text| Some(text.as_str()))),
        counts(all.iter().map(|run| run.rows)),
        counts(all.iter().map(|run| run.epochs)),
    ];
    RecordBatch::try_new(runs_schema(), columns)
}

fn letters_schema() -> SchemaRef {
    let (number, text) = (DataType::Int64, DataType::Utf8);
    schema(&[
        ("epoch", number.clone()),
        ("operator", text.clone()),
        ("source", text.clone()),
        ("reason", text.clone()),
        ("detail", text.clone()),
        ("key", text.clone()),
        ("event_time", number.clone()),
        ("file", text.clone()),
        ("line", number),
        ("original", text),
    ])
}

fn letters_rows(vitals: &Vitals) -> Result<RecordBatch, arrow::error::ArrowError> {
    let all = vitals.dead_letters(None, usize::MAX, |_| true);
    let columns: Vec<ArrayRef> = vec![
        counts(all.iter().map(|dead| Some(dead.epoch))),
        texts(all.iter().map(|dead| Some(dead.operator.as_str()))),
        texts(all.iter().map(|dead| dead.source.as_deref())),
        texts(all.iter().map(|dead| Some(dead.reason))),
        texts(all.iter().map(|dead| Some(dead.detail.as_str()))),
        texts(all.iter().map(|dead| dead.key.as_deref())),
        Arc::new(all.iter().map(|dead| dead.event_time).collect::<Int64Array>()),
        texts(all.iter().map(|dead| dead.file.as_deref())),
        counts(all.iter().map(|dead| dead.line)),
        texts(all.iter().map(|dead| dead.original.as_deref())),
    ];
    RecordBatch::try_new(letters_schema(), columns)
}

fn audit_schema() -> SchemaRef {
    let text = DataType::Utf8;
    schema(&[
        ("at", time()),
        ("who", text.clone()),
        ("address", text.clone()),
        ("what", text.clone()),
        ("object", text.clone()),
        ("outcome", text),
    ])
}
