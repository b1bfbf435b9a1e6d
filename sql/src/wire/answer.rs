//! Rows and errors as PostgreSQL writes them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch, into_pg_type};
use futures_util::stream;
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldFormat, FieldInfo, QueryResponse};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};

use crate::query::{Kind, QueryError};

/// The columns of an answer.
pub(super) fn columns(schema: &Schema, format: &Format) -> PgWireResult<Vec<FieldInfo>> {
    let n = schema.fields().len();
    if let Format::Individual(codes) = format
        && codes.len() != n
    {
        let told = codes.len();
        return Err(error("08P01", format!("{told} formats are told for {n} columns")));
    }
    arrow_schema_to_pg_fields(&shown(schema), format, None)
}

/// An answer whose columns were promised.
pub(super) fn rows(
    batches: Vec<RecordBatch>,
    promised: &SchemaRef,
    format: &Format,
) -> PgWireResult<QueryResponse> {
    let fields = Arc::new(columns(promised, format)?);
    let schema = Arc::new(shown(promised));
    let batches = batches.into_iter().map(|batch| fitted(&batch, &schema));
    let batches = batches.collect::<PgWireResult<Vec<_>>>()?;
    let of = Arc::clone(&fields);
    let rows = batches.into_iter().flat_map(move |b| encode_recordbatch(Arc::clone(&of), b));
    Ok(QueryResponse::new(fields, stream::iter(rows)))
}

/// One row of text.
pub(super) fn text(name: &str, value: &str) -> PgWireResult<QueryResponse> {
    let field = arrow::datatypes::Field::new(name, DataType::Utf8, true);
    let schema = Arc::new(Schema::new(vec![field]));
    let column = Arc::new(arrow::array::StringArray::from(vec![value]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).map_err(failed)?;
    rows(vec![batch], &schema, &Format::UnifiedText)
}

/// The column of [`text`], to be told before.
pub(super) fn text_column(name: &str) -> FieldInfo {
    FieldInfo::new(name.to_owned(), None, None, Type::TEXT, FieldFormat::Text)
}

/// The type of a value that a client sends.
pub(super) fn value_type(of: Option<&DataType>) -> Type {
    of.and_then(|of| into_pg_type(&plain(of)).ok()).unwrap_or(Type::TEXT)
}

/// Columns of types that PostgreSQL has.
fn shown(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| {
        let of = plain(field.data_type());
        if of == *field.data_type() {
            return Arc::clone(field);
        }
        Arc::new(field.as_ref().clone().with_data_type(of))
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// The nearest type that PostgreSQL has: no unsigned numbers, no dictionaries, no durations.
fn plain(of: &DataType) -> DataType {
    match of {
        DataType::UInt8 | DataType::Int8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 | DataType::Duration(_) => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Null | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Dictionary(_, values) => plain(values),
        other => other.clone(),
    }
}

/// A batch with the columns that were promised.
fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> PgWireResult<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(error("XX000", "the answer has other columns than were told (a bug)"));
    }
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| {
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        cast(column, field.data_type())
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    // What may be missing was told of the plan, and may be known better now.
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns).map_err(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "errors are mapped by it")]
fn failed(e: arrow::error::ArrowError) -> PgWireError {
    error("22000", e.to_string())
}

/// An error by its SQLSTATE.
pub(super) fn error(code: &str, message: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new(
        "ERROR".to_owned(),
        code.to_owned(),
        message.into(),
    )))
}

/// Why a query has no answer.
pub(super) fn refused(sql: &str, why: QueryError) -> PgWireError {
    let refusal = match why {
        QueryError::Refused(refusal) => refusal,
        QueryError::Limit(message) => return error("54000", message),
        QueryError::Busy(message) => return error("53300", message),
        QueryError::Unavailable(message) => return error("57P03", message),
        QueryError::Failed(message) => return error("22000", message),
    };
    let code = match refusal.kind {
        Kind::ReadOnly => "25006",
        Kind::Syntax => "42601",
        Kind::Table => "42P01",
        Kind::Column => "42703",
        Kind::Other => "42000",
    };
    let mut info = ErrorInfo::new("ERROR".to_owned(), code.to_owned(), refusal.message);
    info.hint = refusal.help;
    info.position = refusal.at.map(|at| position(sql, at).to_string());
    PgWireError::UserError(Box::new(info))
}

/// Characters up to a line and column, all from 1.
fn position(sql: &str, (line, column): (usize, usize)) -> usize {
    let before = sql.split_inclusive('\n').take(line.saturating_sub(1));
    before.map(|line| line.chars().count()).sum::<usize>() + column
}
