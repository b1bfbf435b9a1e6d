//! Real cepstrum: the spectrum of a logarithmic spectrum, in which families of equally spaced lines are one line.
//!
//! `ifft(log(abs(fft(w * (x - mean)))))`. Lines below `1e-12` of the highest are lifted to that: the logarithm of what is
//! nothing but rounding would be large, and different on every machine.

use super::fourier::Fourier;
use super::mean;
use super::taper::Taper;

/// The lowest line that counts, as a share of the highest: far above rounding and far below any measurement.
const FLOOR: f64 = 1e-12;

/// Cepstra of waveforms of one length at a time.
#[derive(Debug)]
pub struct Cepstrum {
    taper: Taper,
    weights: Vec<f64>,
    fourier: Fourier,
    values: Vec<f64>,
}

impl Cepstrum {
    /// Cepstra of samples weighed by `taper`.
    #[must_use]
    pub fn new(taper: Taper) -> Self {
        Cepstrum { taper, weights: Vec::new(), fourier: Fourier::default(), values: Vec::new() }
    }

    /// The first half of the cepstrum, `n / 2 + 1` values: value `k` is at a quefrency of `k / rate` seconds. The other
    /// half mirrors it. All are 0 where all samples are equal.
    pub fn of(&mut self, samples: &[f64]) -> &[f64] {
        let n = samples.len();
        if self.weights.len() != n {
            self.weights = self.taper.weights(n);
        }
        self.values.clear();
        self.values.resize(n / 2 + 1, 0.0);
        let plan = self.fourier.plan(n);
        plan.fill_weighed(samples, mean(samples), &self.weights);
        plan.forward();
        let highest = plan.lines.iter().map(|line| line.norm_sqr()).fold(0.0, f64::max).sqrt();
        if highest > 0.0 {
            for line in &mut plan.lines {
                line.re = libm::log(line.norm_sqr().sqrt().max(FLOOR * highest));
                line.im = 0.0;
            }
            plan.inverse();
            for (to, x) in self.values.iter_mut().zip(&plan.samples) {
                *to = x / super::count(n);
            }
        }
        &self.values
    }
}
