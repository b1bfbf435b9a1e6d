//! The contract as Rust types, generated from the WIT: the present one and the one before it. The host offers the log; a
//! plugin need not use it.

#[allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    clippy::needless_pass_by_value,
    reason = "generated code"
)]
mod generated {
    pub(super) mod present {
        wasmtime::component::bindgen!({ path: "wit/model.wit", world: "model-with-log" });
    }
    pub(super) mod previous {
        wasmtime::component::bindgen!({ path: "wit/previous/model.wit", world: "model-with-log" });
    }
}

/// The present contract.
pub(super) mod present {
    pub(crate) use super::generated::present::foreline::model::diagnostics;
    pub(crate) use super::generated::present::{ModelWithLog, ModelWithLogPre};
}

/// The contract before it.
pub(super) mod previous {
    pub(crate) use super::generated::previous::exports::foreline::model::scorer;
    pub(crate) use super::generated::previous::foreline::model::diagnostics;
    pub(crate) use super::generated::previous::{ModelWithLog, ModelWithLogPre};
}

pub(crate) use generated::present::exports::foreline::model::scorer::{
    Descriptor, Error as PluginError, Feature, MissingPolicy, Output, OutputKind, Scored,
};
