//! SQL expressions as the engine sees them: something that turns columns into a column.

use std::fmt::Debug;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;

use crate::schema::Unit;

/// A pure function of a row, compiled against one schema.
pub trait Expression: Debug + Send + Sync {
    /// The type of the result.
    fn data_type(&self) -> DataType;

    /// The unit of the result, where it follows from those of the columns.
    fn unit(&self) -> Option<Unit> {
        None
    }

    /// One value a row.
    ///
    /// # Errors
    /// When some row cannot be computed (an integer divided by zero, a cast that does not fit). The whole
    /// batch fails; the caller cuts it to find the rows.
    fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, EvaluateError>;
}

/// Some row of a batch could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluateError(pub String);

/// An expression that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// What is wrong, lower case, names quoted.
    pub message: String,
    /// Where in the text, in bytes, if that is known.
    pub at: Option<std::ops::Range<usize>>,
    /// A name that was not found, for a suggestion, and the names there are.
    pub unknown: Option<(String, Vec<String>)>,
}
