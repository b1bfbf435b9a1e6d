//! The lines of a bearing in the spectrum of an envelope.

use realfft::num_complex::Complex;

use super::{RATE, SAMPLES, Transform, each_burst, hann, mean};
use crate::operators::cases::Counts;
use crate::operators::rows::Rows;

/// The lines of a bearing of 9 balls of 7.94 mm on a circle of 39.04 mm: outer race, inner race, ball, cage.
const ORDERS: [f64; 4] =
    [3.584_784_836_065_573, 5.415_215_163_934_427, 4.713_495_426_766_321, 0.398_309_426_229_508];

/// The distance between two lines, in Hz.
const STEP: f64 = RATE / SAMPLES as f64;

struct Envelope {
    transform: Transform,
    window: Vec<f64>,
}

impl Envelope {
    fn new() -> Self {
        Envelope { transform: Transform::new(SAMPLES), window: hann(SAMPLES) }
    }

    /// The spectrum of the envelope of what `gains` let through.
    fn spectrum(&mut self, samples: &[f64], gains: &[f64]) -> Vec<f64> {
        let Envelope { transform, window } = self;
        let centre = mean(samples);
        transform.forward(samples.iter().map(|x| x - centre));
        let lines = transform.lines.iter().zip(gains);
        let band: Vec<Complex<f64>> = lines.map(|(line, gain)| line * gain).collect();
        transform.lines.copy_from_slice(&band);
        transform.inverse();
        let real = transform.samples.clone();
        for (to, line) in transform.lines.iter_mut().zip(&band) {
            *to = Complex::new(line.im, -line.re);
        }
        transform.inverse();
        let pairs = real.iter().zip(&transform.samples);
        let envelope: Vec<f64> = pairs.map(|(a, b)| (a * a + b * b).sqrt()).collect();
        transform.amplitudes(&envelope, window)
    }
}

/// How much of each line a band lets through, and what makes the transform there and back the same samples again.
fn gains([low, high]: [f64; 2]) -> Vec<f64> {
    let gain = |hz: f64| {
        let u = (hz * hz - low * high) / (hz * (high - low));
        1.0 / (1.0 + u.powi(8)).sqrt()
    };
    let lines = 0..=SAMPLES / 2;
    lines.map(|k| if k == 0 { 0.0 } else { gain(k as f64 * STEP) / SAMPLES as f64 }).collect()
}

/// How far the highest line near each of the bearing's is above the background; that of the outer race is returned.
fn ratio(lines: &[f64], speed_hz: f64) -> f64 {
    let place = |hz: f64| hz / STEP;
    let ratios = ORDERS.map(|order| {
        let hz = order * speed_hz;
        let nearest = place(hz).round() as usize;
        let first = (place(hz * 0.98).ceil() as usize).min(nearest).max(1);
        let last = (place(hz * 1.02) as usize).max(nearest);
        let highest = lines[first..=last].iter().copied().fold(0.0, f64::max);
        let around = place(hz - 30.0).max(0.0).ceil() as usize..=place(hz + 30.0) as usize;
        highest / median(&mut lines[around].to_vec())
    });
    std::hint::black_box(ratios)[0]
}

fn median(values: &mut [f64]) -> f64 {
    let n = values.len();
    let (below, &mut upper, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    match n % 2 {
        0 => f64::midpoint(below.iter().copied().fold(f64::MIN, f64::max), upper),
        _ => upper,
    }
}

pub(crate) fn envelope(rows: &Rows) -> Counts {
    let mut envelope = Envelope::new();
    let gains = gains([1_500.0, 2_500.0]);
    each_burst(rows, |samples, speed_hz, out| {
        out.push(ratio(&envelope.spectrum(samples, &gains), speed_hz));
    })
}

pub(crate) fn envelope_chosen(rows: &Rows) -> Counts {
    let mut envelope = Envelope::new();
    let mut frames: Vec<(Transform, Vec<f64>)> =
        [16, 32, 64, 128].into_iter().map(|n| (Transform::new(n), hann(n))).collect();
    each_burst(rows, |samples, speed_hz, out| {
        let band = impulsive(&mut frames, samples, 3.0 * ORDERS[1] * speed_hz);
        out.push(ratio(&envelope.spectrum(samples, &gains(band)), speed_hz));
    })
}

/// The band of the greatest spectral kurtosis of those that are `width` Hz wide, and of the widest in any case.
fn impulsive(frames: &mut [(Transform, Vec<f64>)], samples: &[f64], width: f64) -> [f64; 2] {
    let (mut band, mut most) = ([0.0, RATE / 2.0], f64::NEG_INFINITY);
    let centre = mean(samples);
    for (i, (transform, window)) in frames.iter_mut().enumerate() {
        let n = window.len();
        let line_hz = RATE / n as f64;
        if i > 0 && 2.0 * line_hz < width {
            break;
        }
        let mut sums = vec![[0.0; 2]; n / 2 + 1];
        let mut n_frames = 0.0;
        for frame in samples.windows(n).step_by(n / 2) {
            transform.forward(frame.iter().zip(window.iter()).map(|(x, w)| (x - centre) * w));
            for ([second, fourth], line) in sums.iter_mut().zip(&transform.lines) {
                let power = line.norm_sqr();
                *second += power;
                *fourth += power * power;
            }
            n_frames += 1.0;
        }
        for (k, [second, fourth]) in sums.iter().enumerate().take(n / 2 - 1).skip(2) {
            let kurtosis = n_frames * fourth / (second * second) - 2.0;
            if kurtosis > most {
                let at = |k: usize| k as f64 * line_hz;
                (band, most) = ([at(k - 1), at(k + 1)], kurtosis);
            }
        }
    }
    band
}
