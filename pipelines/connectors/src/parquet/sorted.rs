//! The rows of many batches as one, in the order of a file.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array, UInt64Array, new_null_array,
};
use arrow::compute::{SortColumn, cast, concat, lexsort_to_indices, take};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use arrow::error::ArrowError;
use foreline_engine::{Batch, Schema};

/// How often a row was corrected.
pub(super) const REVISION: &str = "_revision";
/// Whether a correction made the row vanish.
pub(super) const DELETED: &str = "_deleted";

/// Rows as they first came, and rows that correct others.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub(super) rows: Vec<Batch>,
    pub(super) corrections: Vec<Batch>,
}

/// Tells rows as they first came from rows that correct others.
pub(super) fn split(batch: &Batch, into: &mut Split) -> Result<(), ArrowError> {
    if batch.revision.is_none() && batch.deleted.is_none() {
        into.rows.push(batch.clone());
        return Ok(());
    }
    let is_first = |i: usize| {
        let revised = batch.revision.as_ref().is_some_and(|r| r.value(i) > 0);
        let deleted = batch.deleted.as_ref().is_some_and(|d| d.value(i));
        !revised && !deleted
    };
    let first: BooleanArray = (0..batch.len()).map(|i| Some(is_first(i))).collect();
    let first_rows = batch.filter(&first)?;
    into.rows.push(Batch { revision: None, deleted: None, ..first_rows });
    into.corrections.push(batch.filter(&arrow::compute::not(&first)?)?);
    Ok(())
}

/// All rows of `batches`, sorted by key, time and position, ties in the order they came.
///
/// Dictionaries become plain text, which every reader understands. `revisions` adds [`REVISION`] and
/// [`DELETED`].
pub(super) fn sorted(
    schema: &Schema,
    batches: &[Batch],
    revisions: bool,
) -> Result<RecordBatch, ArrowError> {
    let columns = schema.columns().iter().enumerate();
    let columns = columns.map(|(i, c)| joined(batches, i, &plain_type(&c.data_type)));
    let mut columns = columns.collect::<Result<Vec<_>, _>>()?;
    let order = order(schema, batches, &columns)?;
    let arrow = file_schema(schema, revisions);
    if revisions {
        columns.extend(revision_columns(batches)?);
    }
    let columns = columns.iter().map(|c| take(c, &order, None)).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(arrow, columns)
}

/// The columns of a file.
pub(super) fn file_schema(schema: &Schema, revisions: bool) -> Arc<ArrowSchema> {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let columns = schema.columns().iter().map(|c| field(&c.name, plain_type(&c.data_type)));
    let mut fields: Vec<Field> = columns.collect();
    if revisions {
        fields.push(field(REVISION, DataType::UInt32));
        fields.push(field(DELETED, DataType::Boolean));
    }
    Arc::new(ArrowSchema::new(fields))
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => (**values).clone(),
        other => other.clone(),
    }
}

/// Column `index` of all batches, one after the other.
fn joined(batches: &[Batch], index: usize, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let parts = batches.iter().map(|b| cast(b.rows.column(index), data_type));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    if parts.is_empty() {
        return Ok(new_null_array(data_type, 0));
    }
    concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())
}

fn order(
    schema: &Schema,
    batches: &[Batch],
    columns: &[ArrayRef],
) -> Result<UInt32Array, ArrowError> {
    let n_rows: usize = batches.iter().map(Batch::len).sum();
    let n_rows = u32::try_from(n_rows)
        .map_err(|_| ArrowError::ComputeError(format!("{n_rows} rows are too many for a file")))?;
    let positions: UInt64Array =
        batches.iter().flat_map(|b| b.position.values().iter().copied()).collect::<Vec<_>>().into();
    let came: UInt32Array = (0..n_rows).collect::<Vec<_>>().into();
    let by = schema.key().iter().copied().chain([schema.time()]).map(|i| Arc::clone(&columns[i]));
    let ties: [ArrayRef; 2] = [Arc::new(positions), Arc::new(came)];
    let by: Vec<SortColumn> =
        by.chain(ties).map(|values| SortColumn { values, options: None }).collect();
    lexsort_to_indices(&by, None)
}

pub(super) fn revision_columns(batches: &[Batch]) -> Result<[ArrayRef; 2], ArrowError> {
    let revision = |b: &Batch| b.revision.clone().unwrap_or_else(|| vec![0; b.len()].into());
    let deleted = |b: &Batch| b.deleted.clone().unwrap_or_else(|| vec![false; b.len()].into());
    let revisions: Vec<_> = batches.iter().map(revision).collect();
    let deletions: Vec<_> = batches.iter().map(deleted).collect();
    Ok([
        concat(&revisions.iter().map(|a| a as &dyn Array).collect::<Vec<_>>())?,
        concat(&deletions.iter().map(|a| a as &dyn Array).collect::<Vec<_>>())?,
    ])
}
