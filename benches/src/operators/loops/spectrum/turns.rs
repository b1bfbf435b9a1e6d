//! Waveforms resampled to equal angles of a shaft.

use realfft::num_complex::Complex;

use super::{RATE, SAMPLES, Transform, each_burst, hann};
use crate::operators::cases::Counts;
use crate::operators::rows::Rows;

/// Samples of a turn.
const PER_TURN: usize = 256;
/// Whole turns of each of the bursts, whose shafts turn at about the same speed.
const TURNS: usize = 12;

pub(crate) fn orders(rows: &Rows) -> Counts {
    let mut filter = Transform::new(SAMPLES);
    let mut spectrum = Transform::new(TURNS * PER_TURN);
    let window = hann(TURNS * PER_TURN);
    each_burst(rows, |samples, speed_hz, out| {
        let per_sample = speed_hz / RATE;
        let turns = ((SAMPLES - 1) as f64 * per_sample) as usize;
        assert_eq!(turns, TURNS, "the window is made for as many");
        let highest = per_sample * (PER_TURN / 2) as f64 * SAMPLES as f64;
        filter.forward(samples.iter().copied());
        filter.lines.iter_mut().skip(highest as usize + 1).for_each(|l| *l = Complex::default());
        filter.inverse();
        let low: Vec<f64> = filter.samples.iter().map(|x| x / SAMPLES as f64).collect();
        let at = |m: usize| m as f64 / PER_TURN as f64 / per_sample;
        let even: Vec<f64> = (0..TURNS * PER_TURN).map(|m| between(&low, at(m))).collect();
        let lines = spectrum.amplitudes(&even, &window);
        let found = [1.0, 2.0, 23.0].map(|order: f64| {
            let nearest = (order * TURNS as f64).round() as usize;
            let first = ((0.98 * order * TURNS as f64).ceil() as usize).min(nearest);
            let last = ((1.02 * order * TURNS as f64) as usize).max(nearest);
            lines[first..=last].iter().copied().fold(0.0, f64::max)
        });
        out.push(std::hint::black_box(found)[1]);
    })
}

/// The samples at a place between two, by Catmull and Rom.
fn between(samples: &[f64], at: f64) -> f64 {
    let last = samples.len() - 1;
    let k = (at as usize).min(last - 1);
    let t = at - k as f64;
    let (x0, x1) = (samples[k], samples[k + 1]);
    let m0 = if k == 0 { x1 - x0 } else { (x1 - samples[k - 1]) / 2.0 };
    let m1 = if k + 1 == last { x1 - x0 } else { (samples[k + 2] - x0) / 2.0 };
    let (square, cube) = (t * t, t * t * t);
    x0 * (2.0 * cube - 3.0 * square + 1.0)
        + m0 * (cube - 2.0 * square + t)
        + x1 * (3.0 * square - 2.0 * cube)
        + m1 * (cube - square)
}
