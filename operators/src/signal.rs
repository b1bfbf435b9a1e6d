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

/// Sums that run side by side, so that one addition need not wait for the other.
const LANES: usize = 8;

/// The sum of `f(place, value)`, in an order that depends on nothing but the number of values.
pub fn sum_of(values: &[f64], f: impl Fn(usize, f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for (i, chunk) in chunks.enumerate() {
        for (lane, (sum, &x)) in lanes.iter_mut().zip(chunk).enumerate() {
            *sum += f(i * LANES + lane, x);
        }
    }
    let done = values.len() - rest.len();
    for (lane, (sum, &x)) in lanes.iter_mut().zip(rest).enumerate() {
        *sum += f(done + lane, x);
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// The arithmetic mean; 0 of nothing.
#[must_use]
pub fn mean(samples: &[f64]) -> f64 {
    if samples.is_empty() { 0.0 } else { sum_of(samples, |_, x| x) / count(samples.len()) }
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
