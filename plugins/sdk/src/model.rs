//! The contract as a Rust trait, and what the SDK does around it.

use std::fmt;

use crate::weights::{self, Family, Header, Output, Weights, WeightsError};

/// The step's `config:` map, in key order.
#[derive(Debug, Clone, Default)]
pub struct Config(Vec<(String, String)>);

impl Config {
    /// The map as the host hands it over.
    #[must_use]
    pub fn new(entries: Vec<(String, String)>) -> Self {
        Config(entries)
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The number under `key`, or `otherwise` where there is none.
    ///
    /// # Errors
    /// When it is no finite number.
    pub fn number(&self, key: &str, otherwise: f64) -> Result<f64, Error> {
        let Some(text) = self.get(key) else { return Ok(otherwise) };
        text.trim().parse().ok().filter(|x: &f64| x.is_finite()).ok_or_else(|| {
            Error::InvalidConfig(format!("'{key}' is a finite number, and '{text}' is none"))
        })
    }

    /// Refuses keys that the model does not know, so that a typo is not silently a default.
    ///
    /// # Errors
    /// Naming the first key that is not among `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), Error> {
        match self.0.iter().find(|(k, _)| !known.contains(&k.as_str())) {
            None => Ok(()),
            Some((key, _)) if known.is_empty() => Err(Error::InvalidConfig(format!(
                "'{key}' is not known: this model has no options"
            ))),
            Some((key, _)) => {
                let known = known.join("', '");
                Err(Error::InvalidConfig(format!("'{key}' is not known; there is '{known}'")))
            }
        }
    }
}

/// Why a model could not be loaded or could not score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The weights cannot be used.
    InvalidWeights(String),
    /// The step's `config:` cannot be used.
    InvalidConfig(String),
    /// Rows that the model cannot score.
    InvalidInput(String),
    /// The plugin has a bug.
    Internal(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, message) = match self {
            Error::InvalidWeights(m) => ("weights", m),
            Error::InvalidConfig(m) => ("config", m),
            Error::InvalidInput(m) => ("input", m),
            Error::Internal(m) => ("internal error", m),
        };
        write!(f, "{kind}: {message}")
    }
}

impl std::error::Error for Error {}

impl From<WeightsError> for Error {
    fn from(e: WeightsError) -> Self {
        Error::InvalidWeights(e.to_string())
    }
}

/// Rows to score, their shape checked.
#[derive(Debug)]
pub struct Call<'a> {
    /// How many rows.
    pub rows: usize,
    /// How many features a row has.
    pub width: usize,
    /// rows × width, row-major, in the order of the header's features.
    pub features: &'a [f64],
    /// The event time of each row: nanoseconds since 1970 UTC, or a count such as cycles; empty when stateless.
    pub times: &'a [i64],
    /// Which row of `state` belongs to each row; empty when stateless. Rows of one slot are adjacent and in time order.
    pub slots: &'a [u32],
    /// slots × state width, row-major; all NaN for a key not seen before. What is left in it is kept for the key.
    pub state: &'a mut [f64],
    /// rows × outputs, row-major, NaN at first. NaN is "no score".
    pub outputs: &'a mut [f64],
}

/// A model: pure, apart from the state the host keeps for it.
pub trait Model: Sized + Send + Sync + 'static {
    /// The family of weights it reads; also what `foreline train` trains for this plugin.
    const FAMILY: Family;

    /// Reads the weights.
    ///
    /// # Errors
    /// When weights or config cannot be used.
    fn load(weights: &Weights<'_>, config: &Config) -> Result<Self, Error>;

    /// Columns behind the header's outputs, where the config asks for more; `score` fills them too.
    fn further_outputs(&self, _header: &Header) -> Vec<Output> {
        Vec::new()
    }

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

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// rows × outputs, row-major.
    pub outputs: Vec<f64>,
    /// slots × state width, row-major.
    pub state: Vec<f64>,
}

/// A model with its header: the checks that every plugin makes. Natively it is the test harness of a model.
#[derive(Debug)]
pub struct Loaded<M> {
    model: M,
    header: Header,
}

impl<M: Model> Loaded<M> {
    /// Reads weights and config.
    ///
    /// # Errors
    /// When the weights are damaged or of another family, or the model refuses them or the config.
    pub fn new(weights: &[u8], config: &Config) -> Result<Self, Error> {
        let weights = weights::read(weights)?;
        if weights.family != M::FAMILY {
            return Err(Error::InvalidWeights(format!(
                "these are weights of family '{}', but the plugin reads '{}'",
                weights.family.name(),
                M::FAMILY.name(),
            )));
        }
        let model = M::load(&weights, config)?;
        let mut header = weights.header;
        header.outputs.extend(model.further_outputs(&header));
        Ok(Loaded { model, header })
    }

    /// A model that was read in another way, with its header.
    #[must_use]
    pub fn of(model: M, header: Header) -> Self {
        Loaded { model, header }
    }

    /// What the weights say of the model.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Scores rows. The shapes are checked first: a wrong one is an error, never a panic.
    ///
    /// # Errors
    /// When shapes do not fit, or the model says so.
    pub fn score(
        &self,
        rows: u32,
        features: &[f64],
        times: &[i64],
        slots: &[u32],
        mut state: Vec<f64>,
    ) -> Result<Scored, Error> {
        let (n_rows, width) = (rows as usize, self.header.features.len());
        let state_width = self.header.state_width as usize;
        let wrong =
            |what: &str| Err(Error::InvalidInput(format!("{what} does not fit {rows} rows")));
        if n_rows.checked_mul(width) != Some(features.len()) {
            return wrong("the number of features");
        }
        let n_placed = if state_width == 0 { 0 } else { n_rows };
        if slots.len() != n_placed {
            return wrong("the number of slots");
        }
        if times.len() != n_placed {
            return wrong("the number of times");
        }
        let n_slots = state.len().checked_div(state_width).unwrap_or(0);
        if n_slots * state_width != state.len() || slots.iter().any(|&s| s as usize >= n_slots) {
            return wrong("the state");
        }
        let outputs = n_rows.checked_mul(self.header.outputs.len());
        let Some(n_outputs) = outputs else { return wrong("the number of outputs") };
        let mut outputs = vec![f64::NAN; n_outputs];
        self.model.score(Call {
            rows: n_rows,
            width,
            features,
            times,
            slots,
            state: &mut state,
            outputs: &mut outputs,
        })?;
        Ok(Scored { outputs, state })
    }

    /// Rewrites state of an older version.
    ///
    /// # Errors
    /// When the model cannot.
    pub fn migrate(&self, from_version: u32, state: &[f64]) -> Result<Vec<f64>, Error> {
        self.model.migrate(from_version, state)
    }
}
