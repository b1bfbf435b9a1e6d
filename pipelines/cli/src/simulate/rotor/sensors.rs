//! A test bench with a recorder for each sensor: no two clocks tick alike, and a file has no header.
//!
//! ```text
//! g1_sensor1.csv ..  seconds since the start, then acceleration in g of the rig in each state:
//!                    normal, unbalance, looseness, both
//! truth.csv          group,column,fault_type,unbalance,looseness
//! ```
//!
//! The four columns are four runs of one rig, recorded one after another and laid side by side. A run comes to speed within 30
//! seconds. `fault_type` is 0 for normal, 1 for unbalance, 2 for looseness, 3 for both.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde::Serialize;

use super::{MAX_ROWS, Random, STATES, force};

/// Samples a second of each sensor.
const RATES_HZ: [f64; 4] = [1_358.7, 1_315.8, 1_400.6, 1_314.1];
/// Seconds until a rig runs at its speed.
const START_UP_S: f64 = 30.0;

/// A bench to simulate.
#[derive(Debug, Clone, Copy)]
pub struct Bench {
    /// Another seed is other rigs.
    pub seed: u64,
    /// How many groups of machines; each is a rig with four sensors.
    pub groups: u32,
    /// Length of a run, in seconds.
    pub seconds: u32,
}

impl Default for Bench {
    fn default() -> Self {
        Bench { seed: 7, groups: 2, seconds: 140 }
    }
}

/// What was written.
#[derive(Debug, Serialize)]
pub struct WrittenBench {
    /// A file a sensor, by group and sensor.
    pub files: Vec<PathBuf>,
    /// Their rows.
    pub rows: u64,
    /// What each column is.
    pub truth: PathBuf,
}

/// Writes a file a sensor to `out`.
///
/// # Errors
/// When the bench cannot be, or the disk fails.
pub fn write(config: &Bench, out: &Path) -> Result<WrittenBench> {
    let seconds = f64::from(config.seconds);
    let all: u64 = RATES_HZ.iter().map(|rate| samples(*rate, seconds)).sum();
    let rows = all * u64::from(config.groups);
    ensure!(rows > 0, "there is nothing to simulate: rigs and seconds are above 0");
    ensure!(rows <= MAX_ROWS, "{rows} rows are more than {MAX_ROWS}; take fewer rigs or seconds");
    fs::create_dir_all(out).with_context(|| format!("cannot make '{}'", out.display()))?;
    let mut truth = "group,column,fault_type,unbalance,looseness\n".to_owned();
    let mut random = Random(ChaCha8Rng::seed_from_u64(config.seed));
    let mut files = Vec::new();
    for group in 1..=config.groups {
        let rig = Rig::new(&mut random);
        for (column, (state, run)) in STATES.iter().zip(&rig.runs).enumerate() {
            let (unbalance, looseness) = run.amounts;
            let _ = writeln!(truth, "g{group},{},{column},{unbalance:.3},{looseness:.3}", state.0);
        }
        for (sensor, rate) in RATES_HZ.into_iter().enumerate() {
            let mut text = String::new();
            for sample in 1..=samples(rate, seconds) {
                rig.row(sensor, sample as f64 / rate, &mut random, &mut text);
            }
            let file = out.join(format!("g{group}_sensor{}.csv", sensor + 1));
            fs::write(&file, text).with_context(|| format!("cannot write '{}'", file.display()))?;
            files.push(file);
        }
    }
    let file = out.join("truth.csv");
    fs::write(&file, truth).with_context(|| format!("cannot write '{}'", file.display()))?;
    Ok(WrittenBench { files, rows, truth: file })
}

/// How many samples a sensor takes; it begins with its first tick.
#[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "both are above 0")]
fn samples(rate: f64, seconds: f64) -> u64 {
    (rate * seconds) as u64
}

/// A shaft with four accelerometers.
struct Rig {
    speed_hz: f64,
    /// By sensor: gain, phase of the unbalance, phase of the looseness.
    ways: [(f64, f64, f64); RATES_HZ.len()],
    noise: f64,
    /// By state.
    runs: [Run; STATES.len()],
}

/// One run in a state.
#[derive(Clone, Copy)]
struct Run {
    /// How much unbalance and looseness there is.
    amounts: (f64, f64),
    /// The shaft's angle at the start.
    angle: f64,
}

impl Rig {
    fn new(random: &mut Random) -> Self {
        let turn = std::f64::consts::TAU;
        let speed_hz = random.between(24.5, 25.5);
        let noise = random.between(0.1, 0.25);
        let mut way =
            || (random.between(0.6, 1.7), random.between(0.0, turn), random.between(0.0, turn));
        let ways = [way(), way(), way(), way()];
        let runs = STATES.map(|(_, unbalance, looseness)| Run {
            amounts: (
                0.15 + unbalance * random.between(0.25, 1.0),
                looseness * random.between(0.25, 1.0),
            ),
            angle: random.between(0.0, turn),
        });
        Rig { speed_hz, ways, noise, runs }
    }

    /// What a sensor shows at a time, in all states.
    fn row(&self, sensor: usize, seconds: f64, random: &mut Random, text: &mut String) {
        let pace = (seconds / START_UP_S).min(1.0);
        // The speed grows evenly, then stays: its integral, the same whenever it is looked at.
        let at_speed = (seconds - START_UP_S).max(0.0);
        let turns = self.speed_hz * (0.5 * pace * pace * START_UP_S + at_speed);
        let _ = write!(text, "{seconds:.6}");
        for run in &self.runs {
            let angle = run.angle + std::f64::consts::TAU * turns;
            let value = force(angle, pace, self.ways[sensor], run.amounts);
            let _ = write!(text, ",{:.5}", value + self.noise * random.noise());
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sensor_ticks_at_its_own_rate_and_states_differ() {
        let folder = tempfile::tempdir().unwrap();
        let config = Bench { groups: 1, seconds: 40, ..Bench::default() };
        let written = write(&config, folder.path()).unwrap();
        let texts: Vec<String> =
            written.files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        let counts: Vec<usize> = texts.iter().map(|text| text.lines().count()).collect();
        assert_eq!(counts, [54_348, 52_632, 56_024, 52_564]);
        assert_eq!(counts.iter().sum::<usize>() as u64, written.rows);
        let fields = |line: &str| -> Vec<f64> {
            line.split(',').map(|field| field.parse().unwrap()).collect()
        };
        assert_eq!(fields(texts[0].lines().next().unwrap())[0], 0.000_736);
        let rms = |column: usize, after: f64| {
            let rows =
                texts[0].lines().map(fields).filter(|f| (after..after + 5.0).contains(&f[0]));
            let values: Vec<f64> = rows.map(|f| f[column]).collect();
            (values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64).sqrt()
        };
        assert!(rms(2, 35.0) > 1.3 * rms(1, 35.0) && rms(3, 35.0) > 1.2 * rms(1, 35.0));
        assert!(rms(2, 35.0) > 1.3 * rms(2, 0.0), "it begins at rest");
        write(&config, folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&written.files[0]).unwrap(), texts[0]);
        let truth = fs::read_to_string(&written.truth).unwrap();
        assert_eq!(truth.lines().count(), 1 + 4);
        assert!(truth.contains("g1,both,3,"));
    }

    #[test]
    fn a_bench_that_cannot_be_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(&Bench { groups: 0, ..Bench::default() }, folder.path()).is_err());
        let many = Bench { groups: 1_000, ..Bench::default() };
        assert!(write(&many, folder.path()).unwrap_err().to_string().contains("fewer rigs"));
    }
}
