//! A model of one's own: no family of ours, its weights in any form or compiled in.
//!
//! [`Model`] is for the families that `foreline train` knows, whose weights file says what the columns are. An
//! [`OwnModel`] says that itself. The checks around a call are the same.
//!
//! ```
//! use foreline_sdk::own::{self, OwnModel};
//! use foreline_sdk::weights::{Header, OutputKind};
//! use foreline_sdk::{Call, Config, Error};
//!
//! struct Answer;
//! impl OwnModel for Answer {
//!     fn load(_: &[u8], config: &Config) -> Result<(Self, Header), Error> {
//!         config.only(&[])?;
//!         let header = own::header("answer", "1.0.0", vec![], vec![own::output("y", OutputKind::Value)]);
//!         Ok((Answer, header))
//!     }
//!     fn score(&self, call: Call<'_>) -> Result<(), Error> {
//!         call.outputs.fill(42.0);
//!         Ok(())
//!     }
//! }
//! let model = own::open::<Answer>(&[], &Config::default())?;
//! assert_eq!(model.score(2, &[], &[], &[], vec![])?.outputs, [42.0, 42.0]);
//! # Ok::<(), Error>(())
//! ```

use crate::model::{Call, Config, Error, Loaded, Model};
use crate::weights::{Family, Feature, Header, Missing, Output, OutputKind, Weights};

/// A model that reads its own weights and says what its columns are.
pub trait OwnModel: Sized + Send + Sync + 'static {
    /// Reads weights, which may be empty, and the step's `config:`; with the model, what it says of itself.
    ///
    /// # Errors
    /// When weights or config cannot be used.
    fn load(weights: &[u8], config: &Config) -> Result<(Self, Header), Error>;

    /// Scores rows.
    ///
    /// # Errors
    /// When some row cannot be scored. The host cuts the call to find it.
    fn score(&self, call: Call<'_>) -> Result<(), Error>;

    /// Rewrites state saved under an older state version: whole keys in, the same keys at the new width out.
    ///
    /// # Errors
    /// When it cannot, as here.
    fn migrate(&self, from_version: u32, _state: &[f64]) -> Result<Vec<f64>, Error> {
        Err(Error::InvalidInput(format!("state of version {from_version} cannot be migrated")))
    }
}

/// An [`OwnModel`] behind the checks that every plugin makes.
#[derive(Debug)]
pub struct Own<M>(M);

impl<M: OwnModel> Model for Own<M> {
    // Never looked at: `load` is not called, and no section names it.
    const FAMILY: Family = Family::Linear;

    fn load(_: &Weights<'_>, _: &Config) -> Result<Self, Error> {
        Err(Error::Internal("a model of one's own is opened with `own::open`".to_owned()))
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        self.0.score(call)
    }

    fn migrate(&self, from_version: u32, state: &[f64]) -> Result<Vec<f64>, Error> {
        self.0.migrate(from_version, state)
    }
}

/// Opens a model: what `init` does. Natively it is the model's test harness.
///
/// # Errors
/// When the model refuses weights or config.
pub fn open<M: OwnModel>(weights: &[u8], config: &Config) -> Result<Loaded<Own<M>>, Error> {
    let (model, header) = M::load(weights, config)?;
    Ok(Loaded::of(Own(model), header))
}

/// A header of a stateless model; set `state_width` and `state_version` for one with state.
#[must_use]
pub fn header(name: &str, version: &str, features: Vec<Feature>, outputs: Vec<Output>) -> Header {
    Header {
        format: 0,
        name: name.to_owned(),
        version: version.to_owned(),
        library: format!("foreline-sdk {}", env!("CARGO_PKG_VERSION")),
        features,
        outputs,
        state_width: 0,
        state_version: 0,
        annotations: Vec::new(),
    }
}

/// A column that the model needs, in the unit of this UCUM code (empty: unknown).
#[must_use]
pub fn feature(name: &str, unit: &str, missing: Missing) -> Feature {
    let unit = (!unit.is_empty()).then(|| unit.to_owned());
    Feature { name: name.to_owned(), unit, missing, trained_range: None }
}

/// A column that comes out, without labels.
#[must_use]
pub fn output(name: &str, kind: OutputKind) -> Output {
    Output { name: name.to_owned(), kind, labels: Vec::new() }
}

/// Makes a guest of an [`OwnModel`]: exports the contract.
#[cfg(feature = "guest")]
#[macro_export]
macro_rules! own_plugin {
    ($model:ty) => {
        static MODEL: ::std::sync::OnceLock<$crate::Loaded<$crate::own::Own<$model>>> =
            ::std::sync::OnceLock::new();

        struct Plugin;

        impl $crate::guest::wit::Guest for Plugin {
            fn init(
                weights: ::std::vec::Vec<u8>,
                config: ::std::vec::Vec<(::std::string::String, ::std::string::String)>,
            ) -> ::std::result::Result<$crate::guest::wit::Descriptor, $crate::guest::wit::Error>
            {
                let loaded = $crate::own::open(&weights, &$crate::guest::config(config))?;
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

        $crate::guest::bindings::export!(Plugin);
    };
}
