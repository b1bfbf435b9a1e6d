//! Whole queries, carried out by DataFusion.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef};
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::runtime::{Builder, Runtime};

/// Tables, and who answers questions about them.
pub(crate) struct Tables {
    context: SessionContext,
    runtime: Runtime,
}

impl Tables {
    pub(crate) fn new() -> Self {
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false);
        let runtime = Builder::new_current_thread().build().unwrap();
        Tables { context: SessionContext::new_with_config(config), runtime }
    }

    /// The table `name` is this from now on.
    pub(crate) fn put(&self, name: &str, rows: RecordBatch) {
        self.context.deregister_table(name).unwrap();
        self.context.register_batch(name, rows).unwrap();
    }

    /// What a query finds, with the columns of `schema`.
    pub(crate) fn ask(&self, sql: &str, schema: &SchemaRef) -> RecordBatch {
        let answer = self.runtime.block_on(async { self.context.sql(sql).await?.collect().await });
        let batches = answer.unwrap_or_else(|e| panic!("{e}\n{sql}"));
        let typed = |batch: RecordBatch| {
            let columns = batch.columns().iter().zip(schema.fields());
            let columns = columns.map(|(column, f)| cast(column, f.data_type()).unwrap());
            RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap()
        };
        let batches: Vec<RecordBatch> = batches.into_iter().map(typed).collect();
        concat_batches(schema, &batches).unwrap()
    }
}

/// Rows as text, sorted; floats with all their digits, dictionaries as what they stand for.
pub(crate) fn texts(rows: &RecordBatch) -> Vec<Vec<String>> {
    let columns: Vec<Vec<String>> = rows.columns().iter().map(cells).collect();
    let row = |r: usize| columns.iter().map(|column| column[r].clone()).collect();
    let mut all: Vec<Vec<String>> = (0..rows.num_rows()).map(row).collect();
    all.sort();
    all
}

fn cells(column: &ArrayRef) -> Vec<String> {
    let null = || "-".to_owned();
    match column.data_type() {
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().iter();
            values.map(|v| v.map_or_else(null, |v| format!("{v:?}"))).collect()
        }
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().iter();
            values.map(|v| v.map_or_else(null, |v| v.to_string())).collect()
        }
        _ => {
            let column = cast(column, &DataType::Utf8).unwrap();
            let values = column.as_string::<i32>().iter();
            values.map(|v| v.map_or_else(null, |v| format!("'{v}'"))).collect()
        }
    }
}
