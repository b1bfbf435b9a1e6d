//! The envelope of a band of a signal, and its spectrum.
//!
//! The band is cut out with the gain of a Butterworth band-pass of order 4 but without its delay: the lines of the whole
//! waveform are multiplied by
//!
//! ```text
//! g(f) = 1 / sqrt(1 + u^8),   u = (f^2 - low * high) / (f * (high - low))
//! ```
//!
//! The envelope is the absolute value of the analytic signal, `abs(scipy.signal.hilbert(x))`. As always with a transform
//! of the whole, the waveform's end is followed by its start, which shows in the first and last few milliseconds alone.

use realfft::num_complex::Complex;

use super::fourier::Fourier;
use super::taper::Taper;
use super::{count, mean};

/// A range of frequencies, in Hz, `low < high`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Band {
    /// Where it begins; 0 is no limit.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

impl Band {
    /// How much of a line at `hz` passes, from 0 to 1: `sqrt(1/2)` at both ends.
    #[must_use]
    pub fn gain(&self, hz: f64) -> f64 {
        if hz <= 0.0 {
            return if self.low > 0.0 { 0.0 } else { 1.0 };
        }
        let u = (hz * hz - self.low * self.high) / (hz * (self.high - self.low));
        let fourth = (u * u) * (u * u);
        1.0 / (1.0 + fourth * fourth).sqrt()
    }
}

/// What the lines of a waveform are multiplied with, kept for the next one: it mostly has the same band and length.
#[derive(Debug, Default)]
struct Gains {
    /// Band, rate and number of samples that they are for.
    of: Option<(Band, f64, usize)>,
    values: Vec<f64>,
}

impl Gains {
    fn make(&mut self, band: Band, rate: f64, n_samples: usize) {
        if self.of == Some((band, rate, n_samples)) {
            return;
        }
        let n = count(n_samples);
        let gain = |k: usize| band.gain(count(k) * rate / n) / n;
        self.values.clear();
        self.values.extend((0..=n_samples / 2).map(gain));
        self.of = Some((band, rate, n_samples));
    }
}

/// Envelopes and amplitude spectra of waveforms.
#[derive(Debug)]
pub struct Envelope {
    taper: Taper,
    weights: Vec<f64>,
    sum: f64,
    fourier: Fourier,
    gains: Gains,
    band: Vec<Complex<f64>>,
    values: Vec<f64>,
    amplitudes: Vec<f64>,
}

impl Envelope {
    /// Spectra of samples weighed by `taper`.
    #[must_use]
    pub fn new(taper: Taper) -> Self {
        Envelope {
            taper,
            weights: Vec::new(),
            sum: 0.0,
            fourier: Fourier::default(),
            gains: Gains::default(),
            band: Vec::new(),
            values: Vec::new(),
            amplitudes: Vec::new(),
        }
    }

    /// The Hilbert transform: the imaginary part of `scipy.signal.hilbert(samples)`, whose real part is `samples`.
    pub fn hilbert(&mut self, samples: &[f64]) -> &[f64] {
        let plan = self.fourier.plan(samples.len());
        plan.fill(samples, |x, _| x);
        plan.forward();
        for line in &mut plan.lines {
            *line = quarter_turn(*line);
        }
        plan.inverse();
        let n = count(samples.len());
        self.values.clear();
        self.values.extend(plan.samples.iter().map(|x| x / n));
        &self.values
    }

    /// The envelope of what passes through `band`, one value a sample.
    pub fn of(&mut self, samples: &[f64], rate: f64, band: Band) -> &[f64] {
        let centre = mean(samples);
        let plan = self.fourier.plan(samples.len());
        plan.fill(samples, |x, _| x - centre);
        plan.forward();
        self.gains.make(band, rate, samples.len());
        let lines = plan.lines.iter().zip(&self.gains.values);
        self.band.clear();
        self.band.extend(lines.map(|(line, gain)| line * gain));
        plan.lines.copy_from_slice(&self.band);
        plan.inverse();
        self.values.clear();
        self.values.extend_from_slice(&plan.samples);
        for (to, &line) in plan.lines.iter_mut().zip(&self.band) {
            *to = quarter_turn(line);
        }
        plan.inverse();
        for (to, imaginary) in self.values.iter_mut().zip(&plan.samples) {
            *to = (*to * *to + imaginary * imaginary).sqrt();
        }
        &self.values
    }

    /// The amplitude spectrum of what [`of`](Envelope::of) says of these arguments, its mean removed.
    pub fn spectrum(&mut self, samples: &[f64], rate: f64, band: Band) -> &[f64] {
        self.of(samples, rate, band);
        let values = std::mem::take(&mut self.values);
        self.amplitudes(&values);
        self.values = values;
        &self.amplitudes
    }

    /// The amplitude spectrum of `samples`, their mean removed: a sine of amplitude `a` on a line is `a` there.
    pub fn amplitudes(&mut self, samples: &[f64]) -> &[f64] {
        let n = samples.len();
        if self.weights.len() != n {
            self.weights = self.taper.weights(n);
            self.sum = self.weights.iter().sum();
        }
        let plan = self.fourier.plan(n);
        plan.fill_weighed(samples, mean(samples), &self.weights);
        plan.forward();
        let last = if n.is_multiple_of(2) { n / 2 } else { n };
        let sum = self.sum;
        let amplitude = |(k, line): (usize, &Complex<f64>)| {
            let both = if k == 0 || k == last { 1.0 } else { 2.0 };
            both * line.norm_sqr().sqrt() / sum
        };
        self.amplitudes.clear();
        self.amplitudes.extend(plan.lines.iter().enumerate().map(amplitude));
        &self.amplitudes
    }
}

/// A line a quarter of its period later: times `-i`.
fn quarter_turn(line: Complex<f64>) -> Complex<f64> {
    Complex::new(line.im, -line.re)
}
