//! The band in which a signal is most impulsive, by spectral kurtosis.
//!
//! For frames of `L` samples, half overlapping and weighed by Hann's function, line `k` has the spectral kurtosis
//!
//! ```text
//! K(k) = <|X|^4> / <|X|^2>^2 - 2        (0 for noise, above 0 for shocks)
//! ```
//!
//! and stands for the band from line `k - 1` to `k + 1`. `L` is 16, 32, 64, 128 and 256, as long as bands are wide enough
//! for what is looked for, and only with 32 frames at least: of fewer, the greatest of many estimates is chance. As the
//! tree of filters of the fast kurtogram it looks at bands that halve; its lowest and highest are left out.

use super::envelope::Band;
use super::fourier::Fourier;
use super::taper::Taper;
use super::{count, mean};

/// Lengths of frames, the widest bands first.
const FRAMES: [usize; 5] = [16, 32, 64, 128, 256];

/// Frames that make an estimate.
const MIN_FRAMES: usize = 32;

/// Chooses bands.
#[derive(Debug)]
pub struct Kurtogram {
    weights: Vec<Vec<f64>>,
    fourier: Fourier,
    squares: Vec<f64>,
    fourths: Vec<f64>,
}

/// A band and its spectral kurtosis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The band.
    pub band: Band,
    /// Its kurtosis.
    pub kurtosis: f64,
}

impl Default for Kurtogram {
    fn default() -> Self {
        let weights = FRAMES.iter().map(|&n| Taper::Hann.weights(n)).collect();
        Kurtogram { weights, fourier: Fourier::default(), squares: Vec::new(), fourths: Vec::new() }
    }
}

impl Kurtogram {
    /// The fewest samples from which a band can be chosen.
    pub const MIN_SAMPLES: usize = FRAMES[0] / 2 * (MIN_FRAMES + 1);

    /// The band of greatest kurtosis among those that are at least `width` Hz wide, and of the widest ones in any case;
    /// `None` where there are too few samples or they do not move. Of equals the widest and lowest.
    pub fn choose(&mut self, samples: &[f64], rate: f64, width: f64) -> Option<Choice> {
        let mut best: Option<Choice> = None;
        for (i, &n) in FRAMES.iter().enumerate() {
            let line = rate / count(n);
            let n_frames = (samples.len() / (n / 2)).saturating_sub(1);
            if n_frames < MIN_FRAMES || (i > 0 && 2.0 * line < width) {
                break;
            }
            self.sums(samples, i);
            for k in 2..n / 2 - 1 {
                let (second, fourth) = (self.squares[k], self.fourths[k]);
                let kurtosis = count(n_frames) * fourth / (second * second) - 2.0;
                if best.map_or(kurtosis.is_finite(), |best| kurtosis > best.kurtosis) {
                    let band = Band { low: count(k - 1) * line, high: count(k + 1) * line };
                    best = Some(Choice { band, kurtosis });
                }
            }
        }
        best
    }

    /// Sums `|X|^2` and `|X|^4` of each line over the frames of the `i`-th length.
    fn sums(&mut self, samples: &[f64], i: usize) {
        let (n, centre, weights) = (FRAMES[i], mean(samples), &self.weights[i]);
        for sums in [&mut self.squares, &mut self.fourths] {
            sums.clear();
            sums.resize(n / 2 + 1, 0.0);
        }
        let plan = self.fourier.plan(n);
        for frame in samples.windows(n).step_by(n / 2) {
            plan.fill_weighed(frame, centre, weights);
            plan.forward();
            let sums = self.squares.iter_mut().zip(&mut self.fourths);
            for ((second, fourth), line) in sums.zip(&plan.lines) {
                let power = line.norm_sqr();
                *second += power;
                *fourth += power * power;
            }
        }
    }
}
