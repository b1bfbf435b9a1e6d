//! Rotor rigs: a shaft on two bearings, with unbalance, a loose support, both, or neither.
//!
//! Each rig has a speed, gains and phases of its own, and each run a severity of its own, so that what is learnt from one rig
//! need not hold for the next. A run begins at rest and takes five seconds to come to speed. With the shaft's angle `a`:
//!
//! - always: a little of `sin a`, and noise
//! - unbalance: more of `sin a`, at one order
//! - looseness: `sin(a/2)`, `sin 2a`, `sin 3a`, `sin 4a`, which swell and fade, and a knock each turn
//!
//! [`sensors`] writes such rigs as a test bench does that has a recorder for each sensor.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::Serialize;

pub mod sensors;

/// Samples a second.
const RATE_HZ: u64 = 1000;
/// Seconds until a rig runs at its speed.
const START_UP_S: f64 = 5.0;
/// Rows of all rigs together: half a gigabyte of text.
const MAX_ROWS: u64 = 10_000_000;
/// The states, by what they have of unbalance and looseness.
const STATES: [(&str, f64, f64); 4] =
    [("normal", 0.0, 0.0), ("unbalance", 1.0, 0.0), ("looseness", 0.0, 1.0), ("both", 1.0, 1.0)];

/// Rigs to simulate.
#[derive(Debug, Clone, Copy)]
pub struct RotorRigs {
    /// Another seed is other rigs.
    pub seed: u64,
    /// How many rigs.
    pub rigs: u32,
    /// Runs of each rig in each state.
    pub runs: u32,
    /// Length of a run, in seconds.
    pub seconds: u32,
}

impl Default for RotorRigs {
    fn default() -> Self {
        RotorRigs { seed: 7, rigs: 8, runs: 2, seconds: 25 }
    }
}

/// What was written.
#[derive(Debug, Serialize)]
pub struct WrittenRigs {
    /// The file: `rig,run,state,sample,x,y`; acceleration in g, `sample` counts milliseconds from the start of the run.
    pub file: PathBuf,
    /// Its rows.
    pub rows: u64,
}

/// Writes `rotor.csv` to `out`.
///
/// # Errors
/// When the rigs cannot be, or the disk fails.
pub fn write(config: &RotorRigs, out: &Path) -> Result<WrittenRigs> {
    let samples = u64::from(config.seconds) * RATE_HZ;
    let rows = u64::from(config.rigs) * u64::from(config.runs) * STATES.len() as u64 * samples;
    ensure!(rows > 0, "there is nothing to simulate: rigs, runs and seconds are above 0");
    ensure!(
        rows <= MAX_ROWS,
        "{rows} rows are more than {MAX_ROWS}; take fewer rigs, runs or seconds"
    );
    fs::create_dir_all(out).with_context(|| format!("cannot make '{}'", out.display()))?;
    let mut text = "rig,run,state,sample,x,y\n".to_owned();
    let mut random = Random(ChaCha8Rng::seed_from_u64(config.seed));
    for rig in 1..=config.rigs {
        let rig = Rig::new(rig, &mut random);
        for run in 1..=config.runs {
            for state in STATES {
                rig.run(run, state, samples, &mut random, &mut text);
            }
        }
    }
    let file = out.join("rotor.csv");
    fs::write(&file, text).with_context(|| format!("cannot write '{}'", file.display()))?;
    Ok(WrittenRigs { file, rows })
}

struct Random(ChaCha8Rng);

impl Random {
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// About normal: the sum of twelve even draws, by additions alone, so that every machine has the same bits.
    fn noise(&mut self) -> f64 {
        (0..12).map(|_| self.between(-0.5, 0.5)).sum()
    }
}

struct Rig {
    number: u32,
    speed_hz: f64,
    /// By direction: gain, phase of the unbalance, phase of the looseness.
    ways: [(f64, f64, f64); 2],
    noise: f64,
}

impl Rig {
    fn new(number: u32, random: &mut Random) -> Self {
        let turn = std::f64::consts::TAU;
        let speed_hz = random.between(23.5, 26.5);
        let mut way =
            || (random.between(0.6, 1.7), random.between(0.0, turn), random.between(0.0, turn));
        let ways = [way(), way()];
        Rig { number, speed_hz, ways, noise: random.between(0.1, 0.25) }
    }

    fn run(
        &self,
        run: u32,
        (state, unbalance, looseness): (&str, f64, f64),
        samples: u64,
        random: &mut Random,
        text: &mut String,
    ) {
        let unbalance = 0.15 + unbalance * random.between(0.25, 1.0);
        let looseness = looseness * random.between(0.25, 1.0);
        let mut angle = random.between(0.0, std::f64::consts::TAU);
        for sample in 0..samples {
            let t = sample as f64 / RATE_HZ as f64;
            let pace = (t / START_UP_S).min(1.0);
            angle += std::f64::consts::TAU * self.speed_hz * pace / RATE_HZ as f64;
            let _ = write!(text, "R-{},{run},{state},{sample}", self.number);
            for &way in &self.ways {
                let force = force(angle, pace, way, (unbalance, looseness));
                let value = force + self.noise * random.noise();
                let _ = write!(text, ",{value:.5}");
            }
            text.push('\n');
        }
    }
}

/// What an accelerometer shows of a shaft at `angle`, without noise: its gain, the phases of unbalance and looseness, and how
/// much there is of both.
fn force(
    angle: f64,
    pace: f64,
    (gain, one, two): (f64, f64, f64),
    (unbalance, looseness): (f64, f64),
) -> f64 {
    let swell = 1.0 + 0.3 * libm::sin(angle / 9.0);
    let a = angle + two;
    let rattle = 0.5 * libm::sin(a / 2.0)
        + 0.6 * libm::sin(2.0 * a)
        + 0.4 * libm::sin(3.0 * a)
        + 0.25 * libm::sin(4.0 * a)
        + if libm::sin(a) > 0.995 { 0.8 } else { 0.0 };
    // Forces grow with the square of the speed.
    gain * (pace * pace * (unbalance * libm::sin(angle + one) + looseness * swell * rattle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_bytes_and_states_differ() {
        let folder = tempfile::tempdir().unwrap();
        let config = RotorRigs { rigs: 1, runs: 1, seconds: 8, ..RotorRigs::default() };
        let written = write(&config, folder.path()).unwrap();
        let first = fs::read_to_string(&written.file).unwrap();
        assert_eq!(written.rows, 4 * 8000);
        assert_eq!(first.lines().count(), 1 + 4 * 8000);
        write(&config, folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&written.file).unwrap(), first);
        write(&RotorRigs { seed: 8, ..config }, folder.path()).unwrap();
        assert_ne!(fs::read_to_string(&written.file).unwrap(), first);
        let rms = |state: &str| {
            let rows = first.lines().filter(|l| l.contains(state)).skip(6000);
            let x: Vec<f64> = rows.map(|l| l.split(',').nth(4).unwrap().parse().unwrap()).collect();
            (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt()
        };
        assert!(rms("unbalance") > 1.3 * rms("normal") && rms("looseness") > 1.2 * rms("normal"));
    }

    #[test]
    fn rigs_that_cannot_be_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let none = RotorRigs { rigs: 0, ..RotorRigs::default() };
        assert!(write(&none, folder.path()).is_err());
        let many = RotorRigs { rigs: 100_000, ..RotorRigs::default() };
        assert!(write(&many, folder.path()).unwrap_err().to_string().contains("fewer rigs"));
    }
}
