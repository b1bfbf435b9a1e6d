//! Relations: rows with a key that change, and the views that are made of them.
//!
//! ```text
//! stream ─ latest ─┐                      ┌─ log of changes → steps, sinks
//!                  ├─ filter join group ──┼─ table as it stands → sinks
//! reference ───────┘  top (differential)  └─ Table → readers outside, at the end of an epoch
//! ```
//!
//! What a reader would get wrong:
//!
//! * Raw readings never enter an arrangement. Only what has a key and is replaced does: the latest rows of a stream,
//!   a reference relation, and what follows from them.
//! * Differential's state is not saved. What feeds it is (`latest`, references), and a restart feeds it again, as of
//!   the epoch of the snapshot; what comes of that is not told anew to steps and sinks.
//! * A view is seen at the ends of epochs. What comes and goes within one leaves no trace in it. Whoever wants to see every
//!   row asks the stream.

mod latest;
mod reference;
mod row;
mod table;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};

use crate::expression::Expression;
use crate::graph::StreamId;
use crate::schema::{Column, PrimaryKey, Schema, SchemaError, TimeDomain};

pub use latest::{LATEST_ROWS_MAX, latest};
pub(crate) use reference::{Difference, Reference};
pub(crate) use row::{Codec, Row};
pub(crate) use table::Change;
pub use table::{Changes, Page, Table};

/// The column of a view's stream with the time of the change: the clock of the epoch that brought it.
pub const CHANGED_AT: &str = "changed_at";
/// The column of a view's log that is true where the row has left the view.
pub const GONE: &str = "gone";
/// Most rows of a view, unless it says otherwise.
pub const VIEW_ROWS_MAX: usize = 1_000_000;

/// The shape of a relation: columns, of which some are the key. No two rows have the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    columns: Vec<Column>,
    key: Vec<usize>,
    arrow: SchemaRef,
}

impl Relation {
    /// A relation of `columns` with the key `key`.
    ///
    /// # Errors
    /// When names clash, or there is no key.
    pub fn new(mut columns: Vec<Column>, key: Vec<usize>) -> Result<Self, SchemaError> {
        if key.is_empty() {
            return Err(SchemaError::NoKey);
        }
        let mut seen = BTreeSet::from([CHANGED_AT, GONE]);
        if let Some(twice) = columns.iter().find(|c| !seen.insert(&c.name)) {
            return Err(SchemaError::Duplicate(twice.name.clone()));
        }
        for column in &mut columns {
            column.data_type = plain(&column.data_type);
        }
        let field = |c: &Column| Field::new(&c.name, c.data_type.clone(), true);
        let arrow = Arc::new(ArrowSchema::new(columns.iter().map(field).collect::<Vec<_>>()));
        Ok(Relation { columns, key, arrow })
    }

    /// The relation of the latest `rows` of each key of a stream ([`latest`]): by the stream's key, or where they are
    /// several by the columns of its primary key.
    ///
    /// # Errors
    /// When a column has the name of one that a view's stream adds.
    pub fn of_latest(schema: &Schema, rows: usize) -> Result<Self, SchemaError> {
        let key = if rows == 1 { schema.key() } else { &schema.primary_key().columns };
        Relation::new(schema.columns().to_vec(), key.to_vec())
    }

    /// The columns, in order; text is never dictionary-encoded.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The key columns, by index.
    #[must_use]
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// The columns as an Arrow schema.
    #[must_use]
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// The place of the column called `name`.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The stream that keeps a table like the view: a row is replaced by the next one of its key, or deleted.
    ///
    /// # Panics
    /// Never: the names were checked when the relation was made.
    #[must_use]
    pub fn state(&self) -> Schema {
        let mut columns = self.columns.clone();
        columns.push(Column::new(CHANGED_AT, TimeDomain::UtcNanos.data_type()));
        let primary_key = PrimaryKey { columns: self.key.clone(), position: false };
        Schema::with_primary_key(columns, self.key.clone(), self.columns.len(), primary_key)
            .expect("the names are unique and the added column is a time")
    }

    /// The stream of changes: each row that came, changed or left ([`GONE`]), once an epoch.
    ///
    /// # Panics
    /// Never: the names were checked when the relation was made.
    #[must_use]
    pub fn log(&self) -> Schema {
        let mut columns = self.columns.clone();
        let time = columns.len();
        columns.push(Column::new(CHANGED_AT, TimeDomain::UtcNanos.data_type()));
        columns.push(Column::new(GONE, DataType::Boolean));
        let mut primary = self.key.clone();
        primary.push(time);
        let primary_key = PrimaryKey { columns: primary, position: true };
        Schema::with_primary_key(columns, self.key.clone(), time, primary_key)
            .expect("the names are unique and the added column is a time")
    }
}

/// The type that a column has in a relation.
pub(crate) fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => (**values).clone(),
        other => other.clone(),
    }
}

/// A view of a [`Graph`](crate::Graph), or a reference relation.
#[derive(Debug, Clone)]
pub struct ViewNode {
    /// Its name in the pipeline file.
    pub name: String,
    /// What it holds.
    pub relation: Relation,
    /// How it is made.
    pub kind: ViewKind,
    /// Most rows it may have; more is an error that stops the run.
    pub max_rows: usize,
    /// Where it can be read from outside.
    pub table: Arc<Table>,
}

impl ViewNode {
    /// A view that can be read from outside.
    #[must_use]
    pub fn new(name: impl Into<String>, relation: Relation, kind: ViewKind) -> Self {
        let table = Arc::new(Table::new(relation.clone()));
        ViewNode { name: name.into(), relation, kind, max_rows: VIEW_ROWS_MAX, table }
    }
}

/// How a view is made. Views are named by their place among those of the graph; each is behind those it is made of.
#[derive(Clone)]
pub enum ViewKind {
    /// The rows that a step of the kind [`latest`], or a source that is a relation, stands for.
    Standing(StreamId),
    /// The rows for which a condition holds.
    Filter {
        /// Of this view.
        of: usize,
        /// The condition, on the view's columns.
        condition: Arc<dyn Expression>,
    },
    /// Columns as they are, or computed. The key is among them.
    Derive {
        /// Of this view.
        of: usize,
        /// What comes out, in order.
        cells: Vec<Cell>,
    },
    /// Rows of one view beside those of another that agree with them. The columns are those of the left view, then `take`.
    Join {
        /// The view whose rows come out.
        left: usize,
        /// The view that is looked up.
        right: usize,
        /// Columns that must agree, left and right; nulls agree with nothing.
        on: Vec<(usize, usize)>,
        /// The columns of the right view that come out.
        take: Vec<usize>,
        /// Whether rows come out that agree with none, with nulls in `take`.
        unmatched: bool,
    },
    /// Rows of one view beside the last row of another that agrees with them and is of no later time; of equal times, the last by
    /// key. The columns are those of the left view, then `take`.
    AsOf {
        /// The view whose rows come out.
        left: usize,
        /// The view that is looked up.
        right: usize,
        /// Columns that must agree, left and right; nulls agree with nothing.
        on: Vec<(usize, usize)>,
        /// The times, left and right; a null is at no time.
        time: (usize, usize),
        /// The columns of the right view that come out.
        take: Vec<usize>,
        /// Whether rows come out that find none, with nulls in `take`.
        unmatched: bool,
    },
    /// One row for all that agree in some columns. The columns are `by`, then the aggregates.
    Group {
        /// Of this view.
        of: usize,
        /// The columns that must agree.
        by: Vec<usize>,
        /// What is found of each group.
        aggregates: Vec<Aggregate>,
    },
    /// The first rows in some order, of all or of those that agree in some columns. Ties are broken by the key.
    Top {
        /// Of this view.
        of: usize,
        /// The columns that must agree; none: of all rows.
        within: Vec<usize>,
        /// The order: columns, and whether the greatest comes first. Nulls come last.
        order: Vec<(usize, bool)>,
        /// How many.
        n: usize,
    },
}

impl ViewKind {
    /// The views it is made of.
    #[must_use]
    pub fn views(&self) -> Vec<usize> {
        match self {
            ViewKind::Standing(_) => Vec::new(),
            ViewKind::Filter { of, .. }
            | ViewKind::Derive { of, .. }
            | ViewKind::Group { of, .. }
            | ViewKind::Top { of, .. } => vec![*of],
            ViewKind::Join { left, right, .. } | ViewKind::AsOf { left, right, .. } => {
                vec![*left, *right]
            }
        }
    }
}

impl fmt::Debug for ViewKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            ViewKind::Standing(stream) => return write!(f, "Standing({stream:?})"),
            ViewKind::Filter { .. } => "filter",
            ViewKind::Derive { .. } => "derive",
            ViewKind::Join { .. } => "join",
            ViewKind::AsOf { .. } => "asof",
            ViewKind::Group { .. } => "group",
            ViewKind::Top { .. } => "top",
        };
        write!(f, "{name} of {:?}", self.views())
    }
}

/// A column of a derived view.
#[derive(Debug, Clone)]
pub enum Cell {
    /// One of the view below.
    Column(usize),
    /// Computed from its columns.
    Computed(Arc<dyn Expression>),
}

/// Something that is found of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aggregate {
    /// What.
    pub function: Function,
    /// Of this column; nulls are left out. `count` without one counts rows.
    pub column: Option<usize>,
}

/// What can be found of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    /// How many.
    Count,
    /// Their sum, rounded once: it does not depend on the order of the rows.
    Sum,
    /// That over their number.
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// How many different ones.
    Distinct,
    /// The value below which this share lies, linear between two.
    Quantile(f64),
}

impl Function {
    /// The type of the result for a column of `input`; `None` where it cannot be found of one.
    #[must_use]
    pub fn data_type(self, input: Option<&DataType>) -> Option<DataType> {
        let number = input.is_some_and(DataType::is_numeric);
        match self {
            Function::Count => Some(DataType::Int64),
            Function::Distinct => input.map(|_| DataType::Int64),
            Function::Min | Function::Max => input.filter(|t| !t.is_nested()).cloned(),
            Function::Sum | Function::Mean | Function::Quantile(_) => {
                number.then_some(DataType::Float64)
            }
        }
    }
}
