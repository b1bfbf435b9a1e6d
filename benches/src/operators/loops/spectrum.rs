//! The loops of steps that cut waveforms and look at them.
//!
//! They transform with the library that the steps transform with, planned once.

mod bearing;
mod turns;

use std::f64::consts::PI;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

pub(crate) use bearing::{envelope, envelope_chosen};
pub(crate) use turns::orders;

use super::super::bursts::{RATE, SAMPLES};
use super::super::cases::{Counts, weight};
use super::super::rows::Rows;
use super::{MACHINES, X};

/// Samples of a waveform that is cut.
const CUT: usize = 256;

pub(crate) fn waveform(rows: &Rows) -> Counts {
    let mut open: Vec<Vec<f32>> = (0..MACHINES).map(|_| Vec::with_capacity(CUT)).collect();
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let (x, mut out) = (part.values(X), Vec::new());
        for &(machine, start, end) in &part.groups {
            let open = &mut open[machine];
            for &x in &x[start..end] {
                open.push(x as f32);
                if open.len() == CUT {
                    out.append(open);
                }
            }
        }
        counts.add(&out.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
    }
    counts
}

/// Runs a job over the samples of each burst and the turns of its shaft in a second.
fn each_burst(rows: &Rows, mut job: impl FnMut(&[f64], f64, &mut Vec<f64>)) -> Counts {
    let mut samples = Vec::with_capacity(SAMPLES);
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let mut out = Vec::new();
        for (burst, speed_hz) in part.bursts().zip(part.speeds_hz()) {
            samples.clear();
            samples.extend(burst.iter().map(|&x| f64::from(x)));
            job(&samples, speed_hz, &mut out);
        }
        counts.add(&out);
    }
    counts
}

/// A transform and the buffers it works in.
struct Transform {
    forward: Arc<dyn RealToComplex<f64>>,
    inverse: Arc<dyn ComplexToReal<f64>>,
    samples: Vec<f64>,
    lines: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
}

impl Transform {
    fn new(n: usize) -> Self {
        let mut planner = RealFftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(n), planner.plan_fft_inverse(n));
        let n_scratch = forward.get_scratch_len().max(inverse.get_scratch_len());
        Transform {
            samples: forward.make_input_vec(),
            lines: forward.make_output_vec(),
            scratch: vec![Complex::default(); n_scratch],
            forward,
            inverse,
        }
    }

    fn forward(&mut self, samples: impl Iterator<Item = f64>) {
        self.samples.iter_mut().zip(samples).for_each(|(to, x)| *to = x);
        let done = self.forward.process_with_scratch(
            &mut self.samples,
            &mut self.lines,
            &mut self.scratch,
        );
        done.expect("the buffers are the plan's");
    }

    fn inverse(&mut self) {
        self.lines[0].im = 0.0;
        if let Some(last) = self.lines.last_mut() {
            last.im = 0.0;
        }
        let done = self.inverse.process_with_scratch(
            &mut self.lines,
            &mut self.samples,
            &mut self.scratch,
        );
        done.expect("the buffers are the plan's");
    }

    /// The amplitudes of the lines of `samples`, their mean removed.
    fn amplitudes(&mut self, samples: &[f64], window: &[f64]) -> Vec<f64> {
        let (mean, sum) = (mean(samples), window.iter().sum::<f64>());
        self.forward(samples.iter().zip(window).map(|(x, w)| (x - mean) * w));
        let last = self.lines.len() - 1;
        let lines = self.lines.iter().enumerate();
        let both = |k: usize| if k == 0 || k == last { 1.0 } else { 2.0 };
        lines.map(|(k, line)| both(k) * line.norm_sqr().sqrt() / sum).collect()
    }
}

fn hann(n: usize) -> Vec<f64> {
    (0..n).map(|k| 0.5 - 0.5 * (2.0 * PI * k as f64 / n as f64).cos()).collect()
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

/// What a square of a line is multiplied with to be a density, of a window.
fn per_hz(window: &[f64]) -> f64 {
    2.0 / (RATE * window.iter().map(|w| w * w).sum::<f64>())
}

/// Bare `realfft`.
pub(crate) fn density(rows: &Rows) -> Counts {
    let forward = RealFftPlanner::<f64>::new().plan_fft_forward(SAMPLES);
    let mut samples = forward.make_input_vec();
    let mut lines = forward.make_output_vec();
    let mut scratch = forward.make_scratch_vec();
    let window = hann(SAMPLES);
    let scale = per_hz(&window);
    let mut counts = Counts::default();
    for part in &rows.epochs {
        let mut out = Vec::with_capacity(part.groups.len() * lines.len());
        for burst in part.bursts() {
            let mean = burst.iter().map(|&x| f64::from(x)).sum::<f64>() / SAMPLES as f64;
            for ((to, &x), w) in samples.iter_mut().zip(burst).zip(&window) {
                *to = (f64::from(x) - mean) * w;
            }
            let done = forward.process_with_scratch(&mut samples, &mut lines, &mut scratch);
            done.expect("the buffers are the plan's");
            let first = out.len();
            out.extend(lines.iter().map(|line| line.norm_sqr() * scale));
            // The first line and the last are there once, all others twice.
            out[first] /= 2.0;
            if let Some(last) = out.last_mut() {
                *last /= 2.0;
            }
        }
        counts.add(&out);
    }
    counts
}

pub(crate) fn welch(rows: &Rows) -> Counts {
    const N: usize = 1_024;
    let mut transform = Transform::new(N);
    let window = hann(N);
    let scale = per_hz(&window);
    let step = RATE / N as f64;
    each_burst(rows, |samples, _, out| {
        let mut powers = [0.0; N / 2 + 1];
        let mut n = 0.0;
        for segment in samples.windows(N).step_by(N / 2) {
            let mean = mean(segment);
            transform.forward(segment.iter().zip(&window).map(|(x, w)| (x - mean) * w));
            powers.iter_mut().zip(&transform.lines).for_each(|(p, line)| *p += line.norm_sqr());
            n += 1.0;
        }
        powers.iter_mut().for_each(|p| *p *= scale / n);
        powers[0] /= 2.0;
        powers[N / 2] /= 2.0;
        out.push(shape(&powers, step));
    })
}

/// Centroid, spread, the highest peak, and the entropy, which is returned.
fn shape(powers: &[f64], step: f64) -> f64 {
    let total: f64 = powers.iter().sum();
    let at = |k: usize| k as f64 * step;
    let lines = || powers.iter().enumerate();
    let centroid = lines().map(|(k, p)| at(k) * p).sum::<f64>() / total;
    let square = |k: usize| (at(k) - centroid) * (at(k) - centroid);
    let spread = (lines().map(|(k, p)| square(k) * p).sum::<f64>() / total).sqrt();
    let peak = highest(powers);
    std::hint::black_box((centroid, spread, peak));
    let share = |p: &f64| p / total;
    -powers.iter().map(share).filter(|p| *p > 0.0).map(|p| p * p.ln()).sum::<f64>()
}

/// The highest of the values that are above both of their neighbours.
fn highest(values: &[f64]) -> Option<(usize, f64)> {
    let mut best = None;
    for (i, around) in values.windows(3).enumerate() {
        let is_peak = around[1] > around[0] && around[1] >= around[2];
        if is_peak && best.is_none_or(|(_, most)| around[1] > most) {
            best = Some((i + 1, around[1]));
        }
    }
    best
}

pub(crate) fn severity(rows: &Rows) -> Counts {
    let mut transform = Transform::new(SAMPLES);
    let window = hann(SAMPLES);
    let (scale, step) = (per_hz(&window), RATE / SAMPLES as f64);
    each_burst(rows, |samples, _, out| {
        let mean = mean(samples);
        transform.forward(samples.iter().zip(&window).map(|(x, w)| (x - mean) * w));
        let (first, last) = ((10.0 / step) as usize, (1_000.0 / step) as usize);
        let velocity = |k: usize| {
            let omega = 2.0 * PI * k as f64 * step;
            transform.lines[k].norm_sqr() * scale / (omega * omega)
        };
        let rms = 9_806.65 * ((first..=last).map(velocity).sum::<f64>() * step).sqrt();
        let zone = ["A", "B", "C", "D"][[1.4, 2.8, 4.5].iter().filter(|&&l| rms > l).count()];
        std::hint::black_box(weight(zone));
        out.push(rms);
    })
}

pub(crate) fn cepstrum(rows: &Rows) -> Counts {
    let mut transform = Transform::new(SAMPLES);
    let window = hann(SAMPLES);
    let (first, last) = ((0.005 * RATE).ceil() as usize, (0.2 * RATE) as usize);
    each_burst(rows, |samples, _, out| {
        let mean = mean(samples);
        transform.forward(samples.iter().zip(&window).map(|(x, w)| (x - mean) * w));
        let squares = transform.lines.iter().map(Complex::norm_sqr);
        let floor = 1e-12 * squares.fold(0.0, f64::max).sqrt();
        for line in &mut transform.lines {
            *line = Complex::new(line.norm_sqr().sqrt().max(floor).ln(), 0.0);
        }
        transform.inverse();
        let peak = highest(&transform.samples[first - 1..=last + 1]);
        out.extend(peak.map(|(_, height)| height / SAMPLES as f64));
    })
}
