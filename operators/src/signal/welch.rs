//! Power spectral density by Welch's method: the mean of the spectra of segments that overlap.
//!
//! `scipy.signal.welch(samples, rate, window, nperseg, noverlap, detrend="constant")`: each segment loses its own mean,
//! is weighed, transformed, and the squares are averaged; all lines but that at 0 and at half the rate count twice.
//! Samples after the last whole segment are not looked at.

use super::fourier::Fourier;
use super::taper::Taper;
use super::{count, mean};

/// Spectra of segments of one length.
#[derive(Debug)]
pub struct Welch {
    step: usize,
    weights: Vec<f64>,
    sum: f64,
    sum_of_squares: f64,
    fourier: Fourier,
    density: Vec<f64>,
}

impl Welch {
    /// Segments of `segment` samples, of which each shares `overlap` with the next; the overlap is shorter.
    ///
    /// # Panics
    /// When the segment is empty or the overlap as long as it.
    #[must_use]
    pub fn new(segment: usize, overlap: usize, taper: Taper) -> Self {
        assert!(overlap < segment, "segments must go forward");
        let weights = taper.weights(segment);
        Welch {
            step: segment - overlap,
            sum: weights.iter().sum(),
            sum_of_squares: weights.iter().map(|w| w * w).sum(),
            weights,
            fourier: Fourier::default(),
            density: vec![0.0; segment / 2 + 1],
        }
    }

    /// The number of samples of a segment.
    #[must_use]
    pub fn segment(&self) -> usize {
        self.weights.len()
    }

    /// The distance between lines, in Hz.
    #[must_use]
    pub fn resolution(&self, rate: f64) -> f64 {
        rate / count(self.segment())
    }

    /// The mean power of each line, in the unit squared per Hz; zeros where `samples` are shorter than a segment.
    pub fn density(&mut self, samples: &[f64], rate: f64) -> &[f64] {
        let n = self.weights.len();
        let plan = self.fourier.plan(n);
        self.density.fill(0.0);
        let mut n_segments = 0;
        for segment in samples.windows(n).step_by(self.step) {
            plan.fill_weighed(segment, mean(segment), &self.weights);
            plan.forward();
            for (to, line) in self.density.iter_mut().zip(&plan.lines) {
                *to += line.norm_sqr();
            }
            n_segments += 1;
        }
        let scale = 1.0 / (rate * self.sum_of_squares * count(n_segments.max(1)));
        // The line at 0 is there once, and so is that at half the rate where there is one; all others are there twice.
        let n_once = usize::from(n.is_multiple_of(2));
        let (first, others) = self.density.split_at_mut(1);
        let (twice, last) = others.split_at_mut(others.len() - n_once);
        first.iter_mut().chain(last).for_each(|power| *power *= scale);
        twice.iter_mut().for_each(|power| *power *= 2.0 * scale);
        &self.density
    }

    /// What turns the density of a line into its mean square: `welch(..., scaling="spectrum")`. A sine of amplitude `a`
    /// on a line has the mean square `a^2 / 2` there.
    #[must_use]
    pub fn mean_square_per_density(&self, rate: f64) -> f64 {
        rate * self.sum_of_squares / (self.sum * self.sum)
    }
}
