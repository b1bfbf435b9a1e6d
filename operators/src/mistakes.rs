//! The mistakes of a configuration, gathered so that all of them are told at once.

use foreline_engine::{ConfigError, Extent, TimeDomain};

use crate::columns::positive;

/// What is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Vec<ConfigError>);

impl Mistakes {
    /// Adds one.
    pub(crate) fn push(&mut self, error: ConfigError) {
        self.0.push(error);
    }

    /// The value; where there is none, its mistake is added.
    pub(crate) fn one<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|e| self.0.push(e)).ok()
    }

    /// The value; where there is none, its mistakes are added.
    pub(crate) fn all<T>(&mut self, result: Result<T, Vec<ConfigError>>) -> Option<T> {
        result.map_err(|e| self.0.extend(e)).ok()
    }

    /// A length that may be left out, and is above zero where it is given.
    pub(crate) fn length(
        &mut self,
        at: &str,
        extent: Option<Extent>,
        domain: TimeDomain,
    ) -> Option<i64> {
        self.one(positive(at, extent?, domain))
    }

    /// `plan` if nothing is wrong and it is there.
    pub(crate) fn or<T>(self, plan: Option<T>) -> Result<T, Vec<ConfigError>> {
        match plan {
            Some(plan) if self.0.is_empty() => Ok(plan),
            _ => Err(self.0),
        }
    }
}
