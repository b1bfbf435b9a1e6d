//! How a step is fitted: what it has to know before it can be planned, from rows whose end is known.
//!
//! A scaler's means, a projection's loadings, the columns that are worth keeping: `foreline train` runs what leads to
//! the step, hands its input over whole, and writes the file that the step reads whenever it is planned. The rows are
//! those that the step would be given, so that nothing can differ between fitting and running.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};

/// Makes the file of a step.
#[derive(Clone)]
pub struct Fitting {
    /// The file, which the step reads.
    pub file: PathBuf,
    /// What has to be known of each row beside its columns.
    pub target: FitTarget,
    /// From rows to the file.
    pub fit: Fit,
}

/// From rows to the text of a file, or why that cannot be.
pub type Fit = Arc<dyn Fn(&FitRows<'_>) -> Result<Fitted, String> + Send + Sync>;

/// Whether a step is fitted to something that the rows should tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FitTarget {
    /// It looks at the rows alone.
    Unused,
    /// It has to be told a target, a value a row.
    Needed,
}

/// The rows that a step is fitted on.
#[derive(Debug, Clone, Copy)]
pub struct FitRows<'a> {
    /// What the fitting is called.
    pub name: &'a str,
    /// The rows of the step's input, sorted by key hash, event time and position.
    pub rows: &'a RecordBatch,
    /// The target of each row, where one was needed.
    pub target: Option<&'a ArrayRef>,
}

/// What came of a fitting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    /// The text of the file.
    pub text: String,
    /// What was learnt, in a few words.
    pub summary: String,
}

impl fmt::Debug for Fitting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fitting").field("file", &self.file).field("target", &self.target).finish()
    }
}
