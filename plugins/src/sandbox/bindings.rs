//! The contract as Rust types, generated from the WIT. The host offers the log; a plugin need not use it.

#[allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    clippy::needless_pass_by_value,
    reason = "generated code"
)]
mod generated {
    wasmtime::component::bindgen!({ path: "wit", world: "model-with-log" });
}

pub(super) use generated::foreline::model::diagnostics;
pub(super) use generated::{ModelWithLog, ModelWithLogPre};

pub(crate) use generated::exports::foreline::model::scorer::{
    Descriptor, Error as PluginError, Feature, MissingPolicy, OutputKind, Scored,
};
