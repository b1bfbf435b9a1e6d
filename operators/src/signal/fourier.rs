//! Fourier transforms of real samples, planned once a length.
//!
//! Both directions are unnormalised, as in FFTW: forward and back is `n` times what it was. The planner of `realfft`
//! is built without variants for vector units, so that the same operations run on every processor.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// Lengths that are planned at a time. Sensors send bursts of a few lengths; beyond that all plans are made anew, which
/// costs about as much as one transform.
const MAX_PLANS: usize = 8;

/// Plans by length.
pub struct Fourier {
    planner: RealFftPlanner<f64>,
    plans: BTreeMap<usize, Plan>,
}

impl Default for Fourier {
    fn default() -> Self {
        Fourier { planner: RealFftPlanner::new(), plans: BTreeMap::new() }
    }
}

impl fmt::Debug for Fourier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fourier").field("lengths", &self.plans.keys()).finish()
    }
}

impl Fourier {
    /// The plan for `n` samples; at least one.
    pub fn plan(&mut self, n: usize) -> &mut Plan {
        if self.plans.len() >= MAX_PLANS && !self.plans.contains_key(&n) {
            *self = Fourier::default();
        }
        let planner = &mut self.planner;
        self.plans.entry(n).or_insert_with(|| Plan::new(planner, n.max(1)))
    }
}

/// The transform of one length, with the buffers it works in.
pub struct Plan {
    forward: Arc<dyn RealToComplex<f64>>,
    inverse: Arc<dyn ComplexToReal<f64>>,
    /// The samples: what goes into [`forward`](Plan::forward) and comes out of [`inverse`](Plan::inverse).
    pub samples: Vec<f64>,
    /// The lines from 0 to `n / 2`: the other way round.
    pub lines: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("n", &self.samples.len()).finish()
    }
}

impl Plan {
    fn new(planner: &mut RealFftPlanner<f64>, n: usize) -> Self {
        let (forward, inverse) = (planner.plan_fft_forward(n), planner.plan_fft_inverse(n));
        let n_scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        Plan {
            samples: forward.make_input_vec(),
            lines: forward.make_output_vec(),
            scratch: vec![Complex::default(); n_scratch],
            forward,
            inverse,
        }
    }

    /// Puts `f(sample, place)` of each of `samples` into the buffer.
    ///
    /// # Panics
    /// When there are more or fewer samples than the plan is for.
    pub fn fill(&mut self, samples: &[f64], f: impl Fn(f64, usize) -> f64) {
        assert_eq!(samples.len(), self.samples.len(), "the plan is for another length");
        for (k, (to, &x)) in self.samples.iter_mut().zip(samples).enumerate() {
            *to = f(x, k);
        }
    }

    /// Puts `(sample - centre) * weight` of each of `samples` into the buffer.
    ///
    /// # Panics
    /// When there are more or fewer samples or weights than the plan is for.
    pub fn fill_weighed(&mut self, samples: &[f64], centre: f64, weights: &[f64]) {
        assert_eq!(samples.len(), self.samples.len(), "the plan is for another length");
        assert_eq!(weights.len(), self.samples.len(), "the weights are for another length");
        for ((to, &x), weight) in self.samples.iter_mut().zip(samples).zip(weights) {
            *to = (x - centre) * weight;
        }
    }

    /// Makes `lines` of `samples`, which are garbage then.
    ///
    /// # Panics
    /// When a caller has changed the length of a buffer.
    pub fn forward(&mut self) {
        let Plan { forward, samples, lines, scratch, .. } = self;
        let done = forward.process_with_scratch(samples, lines, scratch);
        done.expect("the buffers have the lengths of the plan");
    }

    /// Makes `samples` of `lines`, which are garbage then. The lines at 0 and, of an even length, at half the rate are
    /// taken as real.
    ///
    /// # Panics
    /// When a caller has changed the length of a buffer.
    pub fn inverse(&mut self) {
        let Plan { inverse, samples, lines, scratch, .. } = self;
        lines[0].im = 0.0;
        if samples.len().is_multiple_of(2) {
            let last = lines.len() - 1;
            lines[last].im = 0.0;
        }
        let done = inverse.process_with_scratch(lines, samples, scratch);
        done.expect("the buffers have the lengths of the plan, and the ends are real");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_n_times_what_it_was() {
        let mut fourier = Fourier::default();
        for n in [1, 2, 3, 8, 15, 97] {
            let samples: Vec<f64> = (0..n).map(|k| f64::from(k * k % 7) - 2.5).collect();
            let plan = fourier.plan(samples.len());
            plan.fill(&samples, |x, _| x);
            plan.forward();
            let sum: f64 = samples.iter().sum();
            assert!((plan.lines[0].re - sum).abs() < 1e-12);
            plan.inverse();
            for (back, x) in plan.samples.iter().zip(&samples) {
                assert!((back / f64::from(n) - x).abs() < 1e-12, "{n}");
            }
        }
    }

    #[test]
    fn plans_are_bounded() {
        let mut fourier = Fourier::default();
        for n in 1..50 {
            fourier.plan(n);
            assert!(fourier.plans.len() <= MAX_PLANS);
        }
    }
}
