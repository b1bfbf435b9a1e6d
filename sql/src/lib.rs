//! SQL by DataFusion: expressions over the rows of a stream, and queries over the tables of a pipeline, also over the PostgreSQL wire.
//!
//! What a reader would get wrong of expressions (of queries: `query.rs`):
//!
//! * An expression sees one row. Subqueries, aggregates and window functions are refused, and so is every function
//!   that DataFusion does not call *immutable* (`now`, `random`): replay must give the same bits.
//! * Names keep their case: `T24` is the column `T24` without quotes, unlike in PostgreSQL.
//! * The result has one of the types a column of a stream may have: text, float64, int64, bool or a UTC timestamp.
//!   Narrower numbers are widened, other types are refused with the cast to write.
//! * Columns of different units are not added or compared: `vibration + acceleration` does not compile.

mod compile;
mod message;
#[cfg(feature = "testing")]
pub mod plain;
mod predicate;
mod query;
mod text;
mod units;
mod wire;

pub use compile::{MAX_LENGTH_BYTES, MAX_OPERATORS, SqlExpressions};
pub use query::{
    About, Answer, Catalogue, Content, Counts, Described, Files, Kind, Limits, Part, Queries,
    QueryError, Refusal, Snapshot,
};
pub use wire::{Admitting, Doorkeeper, PROTOCOL as WIRE_PROTOCOL, Wire};
