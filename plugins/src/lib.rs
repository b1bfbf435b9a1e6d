//! Models in a sandbox: the `model` step, the host it runs on, and the training of weights.
//!
//! A plugin is a WebAssembly component that imports nothing; `wit/model.wit` is its contract and `sdk` the crate that
//! one is written with. A model is a plugin plus weights.
//!
//! What a reader would get wrong:
//!
//! * Fuel decides about a runaway plugin, never time: fuel is counted on operators and is the same on every machine, so
//!   that replay blames the same rows. The deadline is a backstop and stops the pipeline instead.
//! * What a *fresh* instance answers is the outcome of a call. An instance that failed is never used again.
//! * The host keeps a plugin's state by key and replaces it only after a call that succeeded; a trap loses nothing.
//! * Nothing compiled comes from outside. Artefacts of our own are kept under a keyed hash.

pub mod author;
mod builtin;
pub mod import;
mod model;
mod native;
pub mod pack;
mod sandbox;
pub mod train;

use foreline_engine::Registration;

pub use builtin::{builtin, family_of};
pub use model::{
    BreakerConfig, Bytes, CHAMPION, CanaryConfig, ExplainConfig, Ledger, LimitsConfig, ModelConfig,
    Names, NotAdmitted, OnError, PROVENANCE, PlannedModel, RouteConfig, StatePolicy, Switchboard,
    VersionConfig, VersionFacts, WarnConfig, Work, plan_model, swaps_schema,
};
pub use native::Native;
pub use sandbox::{
    AdmitError, COMPILE_CHILD_VARIABLE, COMPILE_SUBCOMMAND, compile_child_main, digest,
};

/// The steps of this crate.
pub const OPERATORS: &[Registration] = &[Registration::of::<model::Model>()];
