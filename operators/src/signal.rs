//! Signal processing on slices of samples: what the steps over waveforms are made of.
//!
//! Everything here is in `f64`, knows nothing of rows and keeps its plans and buffers from one waveform to the next. A
//! spectrum is one-sided: line `k` of `n` samples is at `k * rate / n` Hz, from 0 to half the rate.

pub mod angle;
pub mod bearing;
pub mod cepstrum;
pub mod envelope;
pub mod fourier;
pub mod kurtogram;
pub mod shape;
pub mod taper;
pub mod welch;

/// A number of samples as a float.
#[expect(clippy::cast_precision_loss, reason = "waveforms have fewer than 2^52 samples")]
#[must_use]
pub fn count(n: usize) -> f64 {
    n as f64
}

/// The arithmetic mean; 0 of nothing.
#[must_use]
pub fn mean(samples: &[f64]) -> f64 {
    if samples.is_empty() { 0.0 } else { samples.iter().sum::<f64>() / count(samples.len()) }
}

/// A number that is whole and not below 0 as a place in a slice; 0 below.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, and places beyond a slice are cut by the callers"
)]
#[must_use]
pub fn place(at: f64) -> usize {
    at as usize
}
