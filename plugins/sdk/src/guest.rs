//! The component's side of the contract, generated from the WIT.
//!
//! One instance holds one model for its whole life, so it sits in a static of the guest; [`plugin!`](crate::plugin)
//! makes it.

use crate::model::{Config, Error, Loaded, Model, Scored};
use crate::weights::{Missing, OutputKind};

/// What `wit-bindgen` generates.
#[allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    reason = "generated code that crosses the component boundary"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "model",
        pub_export_macro: true,
        export_macro_name: "export",
        runtime_path: "::foreline_sdk::guest::wit_bindgen::rt",
        default_bindings_module: "::foreline_sdk::guest::bindings",
    });
}

pub use bindings::exports::foreline::model::scorer as wit;
pub use wit_bindgen;

impl From<Error> for wit::Error {
    fn from(e: Error) -> Self {
        match e {
            Error::InvalidWeights(m) => wit::Error::InvalidWeights(m),
            Error::InvalidConfig(m) => wit::Error::InvalidConfig(m),
            Error::InvalidInput(m) => wit::Error::InvalidInput(m),
            Error::Internal(m) => wit::Error::Internal(m),
        }
    }
}

impl From<Scored> for wit::Scored {
    fn from(scored: Scored) -> Self {
        wit::Scored { outputs: scored.outputs, state: scored.state }
    }
}

/// The header of a loaded model as the contract's descriptor.
#[must_use]
pub fn descriptor<M: Model>(loaded: &Loaded<M>) -> wit::Descriptor {
    let header = loaded.header();
    let features = header.features.iter().map(|f| wit::Feature {
        name: f.name.clone(),
        unit: f.unit.clone(),
        missing: match f.missing {
            Missing::SkipRow => wit::MissingPolicy::SkipRow,
            Missing::PassNan => wit::MissingPolicy::PassNan,
        },
        trained_range: f.trained_range,
    });
    let outputs = header.outputs.iter().map(|o| wit::Output {
        name: o.name.clone(),
        kind: match &o.kind {
            OutputKind::RemainingLife(unit) => wit::OutputKind::RemainingLife(unit.clone()),
            OutputKind::Probability => wit::OutputKind::Probability,
            OutputKind::AnomalyScore => wit::OutputKind::AnomalyScore,
            OutputKind::ClassIndex => wit::OutputKind::ClassIndex,
            OutputKind::Value => wit::OutputKind::Value,
        },
        labels: o.labels.clone(),
    });
    let mut annotations = header.annotations.clone();
    annotations.push(("library".to_owned(), header.library.clone()));
    wit::Descriptor {
        name: header.name.clone(),
        version: header.version.clone(),
        features: features.collect(),
        outputs: outputs.collect(),
        state_width: header.state_width,
        state_version: header.state_version,
        max_rows: 0,
        annotations,
    }
}

/// The config as the contract hands it over.
#[must_use]
pub fn config(entries: Vec<(String, String)>) -> Config {
    Config::new(entries)
}

/// Makes a guest of a [`Model`]: exports the contract, and names the model's family in a custom section so that
/// `foreline train` knows what to train for it.
#[macro_export]
macro_rules! plugin {
    ($model:ty) => {
        static MODEL: ::std::sync::OnceLock<$crate::Loaded<$model>> = ::std::sync::OnceLock::new();

        struct Plugin;

        impl $crate::guest::wit::Guest for Plugin {
            fn init(
                weights: ::std::vec::Vec<u8>,
                config: ::std::vec::Vec<(::std::string::String, ::std::string::String)>,
            ) -> ::std::result::Result<$crate::guest::wit::Descriptor, $crate::guest::wit::Error>
            {
                let loaded = $crate::Loaded::new(&weights, &$crate::guest::config(config))?;
                let descriptor = $crate::guest::descriptor(&loaded);
                MODEL.set(loaded).map_err(|_| $crate::guest::twice())?;
                ::std::result::Result::Ok(descriptor)
            }

            fn score(
                rows: u32,
                features: ::std::vec::Vec<f64>,
                times: ::std::vec::Vec<i64>,
                slots: ::std::vec::Vec<u32>,
                state: ::std::vec::Vec<f64>,
            ) -> ::std::result::Result<$crate::guest::wit::Scored, $crate::guest::wit::Error> {
                let model = MODEL.get().ok_or_else($crate::guest::not_loaded)?;
                let scored = model.score(rows, &features, &times, &slots, state)?;
                ::std::result::Result::Ok(scored.into())
            }

            fn migrate_state(
                from_version: u32,
                state: ::std::vec::Vec<f64>,
            ) -> ::std::result::Result<::std::vec::Vec<f64>, $crate::guest::wit::Error> {
                let model = MODEL.get().ok_or_else($crate::guest::not_loaded)?;
                ::std::result::Result::Ok(model.migrate(from_version, &state)?)
            }
        }

        #[used]
        #[unsafe(link_section = "foreline:family")]
        static FAMILY: [u8; 2] = <$model as $crate::Model>::FAMILY.code().to_le_bytes();

        $crate::guest::bindings::export!(Plugin);
    };
}

/// The answer to a second `init`.
#[must_use]
pub fn twice() -> wit::Error {
    wit::Error::Internal("'init' was called twice".to_owned())
}

/// The answer to a call before `init`.
#[must_use]
pub fn not_loaded() -> wit::Error {
    wit::Error::Internal("'init' was not called".to_owned())
}
