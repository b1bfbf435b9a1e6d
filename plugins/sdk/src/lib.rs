//! What a Foreline plugin is made of: the weights file, evaluators, and the contract as a trait.
//!
//! What a reader would get wrong:
//!
//! * The same code runs natively (training, tests) and in the sandbox (scoring), and gives the same bits in both.
//!   Nothing here may call a function whose result the platform decides; `exp` comes from `libm` for that reason.
//! * Weights are not code and not trusted: [`weights::read`] checks lengths and digest before it looks at a field, and
//!   [`trees::Forest::new`] checks every index before the first row is scored.
//! * A plugin never panics on input. It answers [`Error`], which the host reports as that row's or that file's fault.
//!
//! A guest implements [`Model`] and calls `plugin!`, which exists with the feature `guest`:
//!
//! ```
//! use foreline_sdk::{Call, Config, Error, Model, weights::{Family, Weights}};
//!
//! struct Sum;
//! impl Model for Sum {
//!     const FAMILY: Family = Family::Linear;
//!     fn load(_: &Weights<'_>, _: &Config) -> Result<Self, Error> {
//!         Ok(Sum)
//!     }
//!     fn score(&self, call: Call<'_>) -> Result<(), Error> {
//!         let rows = call.features.chunks_exact(call.width);
//!         for (row, out) in rows.zip(call.outputs) {
//!             *out = row.iter().sum();
//!         }
//!         Ok(())
//!     }
//! }
//! ```

pub mod degradation;
pub mod ensemble;
pub mod explain;
pub mod knn;
pub mod linear;
pub mod logistic;
mod model;
pub mod network;
pub mod own;
pub mod pca_t2q;
pub mod trees;
pub mod weights;

#[cfg(feature = "guest")]
pub mod guest;

// Generated code names this crate by its path from a guest, and is compiled here.
#[cfg(feature = "guest")]
extern crate self as foreline_sdk;

pub use model::{Call, Config, Error, Loaded, Model, Scored};
