//! Window functions, periodic as spectra want them: `scipy.signal.get_window(name, n)`.
//!
//! The symmetric form that many books print (`n - 1` in place of `n`) is for filters, not for spectra.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::Deserialize;

use super::count;

/// What samples are weighed with before a transform, so that a line does not leak into all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Taper {
    /// `0.5 - 0.5 cos(2 pi k / n)`: the usual one.
    #[default]
    Hann,
    /// `0.42 - 0.5 cos(2 pi k / n) + 0.08 cos(4 pi k / n)`: broader lines, lower leakage.
    Blackman,
    /// No weight: for signals that are periodic in the waveform.
    Rectangular,
}

impl Taper {
    /// The weights of `n` samples.
    #[must_use]
    pub fn weights(self, n: usize) -> Vec<f64> {
        let angle = |k: usize| 2.0 * PI * count(k) / count(n);
        let weight = |k: usize| match self {
            Taper::Rectangular => 1.0,
            Taper::Hann => 0.5 - 0.5 * libm::cos(angle(k)),
            Taper::Blackman => 0.42 - 0.5 * libm::cos(angle(k)) + 0.08 * libm::cos(2.0 * angle(k)),
        };
        (0..n).map(weight).collect()
    }
}
