//! One pump: its damage, its recipe, and what its sensors would say if nothing went wrong on the way.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::format;
use super::{PumpFleet, START_MS};

/// Mean of `ln(1 / damage)` over the damages that [`Machine`] starts with: with it the mean life is what was asked
/// for. The test `lives_have_the_mean_that_was_asked_for` holds it.
const MEAN_GROWTHS: f64 = 4.6;
/// Machines start one after the other within this share of the mean life.
const STAGGER: f64 = 0.35;
/// How fast the housing follows its temperature, in seconds.
const THERMAL_S: f64 = 420.0;
/// How fast the slow drift of a sensor forgets, in seconds.
const DRIFT_S: f64 = 900.0;

/// The channels of a reading, in the order of the columns.
pub(super) const CHANNELS: usize = 5;
/// Digits after the point of each channel.
pub(super) const PLACES: [u32; CHANNELS] = [3, 2, 3, 4, 0];

/// A step of the recipe that the bench repeats.
#[derive(Debug)]
struct Condition {
    name: &'static str,
    minutes: f64,
    /// Wear against the mean over the recipe.
    load: f64,
    /// Vibration against that at full process speed, and its noise relative to that.
    vibration: f64,
    vibration_noise: f64,
    /// Housing temperature above ambient, degC.
    heat: f64,
    current: f64,
    pressure: f64,
    pressure_noise: f64,
    speed: f64,
}

/// The recipe: 45 minutes, mean load 1.
const RECIPE: [Condition; 4] = [
    Condition {
        name: "idle",
        minutes: 6.0,
        load: 0.3,
        vibration: 0.45,
        vibration_noise: 0.05,
        heat: 8.0,
        current: 6.2,
        pressure: 0.02,
        pressure_noise: 0.05,
        speed: 3_000.0,
    },
    Condition {
        name: "pumpdown",
        minutes: 4.0,
        load: 1.6,
        vibration: 1.35,
        vibration_noise: 0.16,
        heat: 30.0,
        current: 14.5,
        pressure: 20.0,
        pressure_noise: 0.25,
        speed: 6_000.0,
    },
    Condition {
        name: "etch",
        minutes: 20.0,
        load: 0.95,
        vibration: 1.0,
        vibration_noise: 0.08,
        heat: 22.0,
        current: 10.4,
        pressure: 1.2,
        pressure_noise: 0.04,
        speed: 5_400.0,
    },
    Condition {
        name: "deposit",
        minutes: 15.0,
        load: 1.2,
        vibration: 1.15,
        vibration_noise: 0.11,
        heat: 27.0,
        current: 12.1,
        pressure: 3.5,
        pressure_noise: 0.08,
        speed: 5_700.0,
    },
];

/// One reading, as the sensors saw it.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) at_ms: i64,
    pub(super) machine: u32,
    pub(super) condition: &'static str,
    /// Vibration velocity mm/s, temperature degC, current A, pressure mbar, speed rpm.
    pub(super) channels: [f64; CHANNELS],
}

/// A pump at work.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) number: u32,
    /// When in an interval it is read.
    pub(super) offset_ms: i64,
    start_tick: u32,
    /// Readings until it fails.
    life: u32,
    /// Readings that are recorded.
    recorded: u32,
    tick_s: f64,
    random: Random,
    /// 1 is failure.
    damage: f64,
    /// Growth of the damage a second, at load 1.
    wear: f64,
    seconds: f64,
    /// Differences from one machine to the next: vibration, current and pressure relative, ambient in degC.
    trait_vibration: f64,
    trait_current: f64,
    trait_pressure: f64,
    ambient: f64,
    temperature: f64,
    drift: f64,
}

impl Machine {
    /// The header of the truth.
    pub(super) const TRUTH_HEADER: &str =
        "machine,fleet,failed_at,last_reading,remaining_hours,life_hours\n";

    /// A machine that is recorded until it fails.
    pub(super) fn until_failure(config: &PumpFleet, number: u32) -> Machine {
        let mut machine = Machine::new(config, number);
        machine.recorded = machine.life;
        machine
    }

    /// A machine whose record ends between 30 % and 98 % of its life.
    pub(super) fn cut_off(config: &PumpFleet, number: u32) -> Machine {
        let mut machine = Machine::new(config, number);
        let share = 0.3 + 0.68 * machine.random.unit();
        machine.recorded = ((f64::from(machine.life) * share) as u32).max(1);
        machine
    }

    fn new(config: &PumpFleet, number: u32) -> Machine {
        let mut random = Random::new(config.seed, u64::from(number) * 2);
        let growth_s = config.mean_life_hours * 3_600.0 / MEAN_GROWTHS;
        let tick_s = f64::from(config.interval_ms) / 1_000.0;
        let stagger_ticks = config.mean_life_hours * 3_600.0 * STAGGER / tick_s;
        let cube = |u: f64| u * u * u;
        // Most machines start almost new, some with a good part of their life behind them.
        let damage = 0.0015 + 0.07 * cube(random.unit());
        let ambient = 24.0 + 1.5 * random.normal();
        let mut machine = Machine {
            number,
            offset_ms: (random.unit() * f64::from(config.interval_ms)) as i64,
            start_tick: (random.unit() * stagger_ticks) as u32,
            life: 0,
            recorded: 0,
            tick_s,
            damage,
            wear: (1.0 + 0.10 * random.normal()) / growth_s,
            seconds: random.unit() * 45.0 * 60.0,
            trait_vibration: 1.0 + 0.05 * random.normal(),
            trait_current: 1.0 + 0.02 * random.normal(),
            trait_pressure: 1.0 + 0.04 * random.normal(),
            ambient,
            temperature: ambient + 20.0,
            drift: 0.0,
            random,
        };
        machine.life = machine.life_ticks();
        machine
    }

    /// Readings from the start to the failure; the damage does not depend on the noise of the sensors.
    fn life_ticks(&self) -> u32 {
        let (mut damage, mut seconds, mut ticks) = (self.damage, self.seconds, 0);
        while damage < 1.0 {
            damage += self.growth(damage, condition(seconds).load);
            seconds += self.tick_s;
            ticks += 1;
        }
        ticks
    }

    fn growth(&self, damage: f64, load: f64) -> f64 {
        damage * self.wear * load * self.tick_s
    }

    /// How many readings it gives in all.
    pub(super) fn readings(&self) -> u64 {
        u64::from(self.recorded)
    }

    /// Whether it gives a reading at `tick`.
    pub(super) fn runs_at(&self, tick: u32) -> bool {
        (self.start_tick..self.end_tick()).contains(&tick)
    }

    /// The tick after its last reading.
    pub(super) fn end_tick(&self) -> u32 {
        self.start_tick + self.recorded
    }

    /// The next reading, in the interval that starts at `tick_ms`.
    pub(super) fn read(&mut self, tick_ms: i64) -> Reading {
        let at = condition(self.seconds);
        let channels = [
            self.vibration(at),
            self.housing(at),
            at.current * self.trait_current * (1.0 + 0.10 * self.damage)
                + 0.12 * self.random.normal(),
            at.pressure
                * self.trait_pressure
                * (1.0 + 0.35 * self.damage)
                * (1.0 + at.pressure_noise * self.random.normal()).max(0.0),
            at.speed * (1.0 - 0.015 * self.damage) + 6.0 * self.random.normal(),
        ];
        self.damage += self.growth(self.damage, at.load);
        self.seconds += self.tick_s;
        Reading {
            at_ms: tick_ms + self.offset_ms,
            machine: self.number,
            condition: at.name,
            channels,
        }
    }

    /// Level by condition and damage, a slow drift of the mounting, noise that grows with the damage, and impacts
    /// that become frequent when the bearing goes.
    fn vibration(&mut self, at: &Condition) -> f64 {
        let forget = self.tick_s / DRIFT_S;
        self.drift += 0.0015 * self.random.normal() - self.drift * forget.min(1.0);
        let level = 1.1 * self.trait_vibration * at.vibration;
        let steady = 1.0 + 3.2 * self.damage + self.drift;
        let noise = at.vibration_noise * (1.0 + 2.0 * self.damage) * self.random.normal();
        let strikes = self.random.unit() < 0.0005 + 0.05 * self.damage;
        let impact = if strikes { (0.5 + self.random.unit()) * (0.4 + self.damage) } else { 0.0 };
        (level * (steady + noise + impact)).max(0.0)
    }

    /// The housing follows the heat of its condition and of its friction slowly.
    fn housing(&mut self, at: &Condition) -> f64 {
        let target = self.ambient + at.heat + 24.0 * self.damage;
        self.temperature += (target - self.temperature) * (self.tick_s / THERMAL_S).min(1.0);
        self.temperature + 0.25 * self.random.normal()
    }

    /// Appends the line of the truth.
    pub(super) fn truth(&self, fleet: &str, text: &mut String) {
        let tick_ms = |tick: u32| {
            START_MS + self.offset_ms + (f64::from(tick) * self.tick_s * 1_000.0).round() as i64
        };
        let hours = |ticks: u32| f64::from(ticks) * self.tick_s / 3_600.0;
        let mut line = Vec::new();
        format::name(&mut line, self.number);
        line.push(b',');
        line.extend_from_slice(fleet.as_bytes());
        for tick in [self.start_tick + self.life - 1, self.end_tick() - 1] {
            line.push(b',');
            format::time(&mut line, tick_ms(tick));
        }
        for ticks in [self.life - self.recorded, self.life] {
            line.push(b',');
            format::fixed(&mut line, hours(ticks), 4);
        }
        line.push(b'\n');
        text.extend(line.iter().map(|byte| char::from(*byte)));
    }

    /// How long it lives, in hours.
    #[cfg(test)]
    pub(super) fn life_hours(&self) -> f64 {
        f64::from(self.life) * self.tick_s / 3_600.0
    }
}

/// The step of the recipe after so many seconds.
fn condition(seconds: f64) -> &'static Condition {
    let cycle_s: f64 = RECIPE.iter().map(|condition| condition.minutes * 60.0).sum();
    let mut left = seconds % cycle_s;
    for condition in &RECIPE {
        left -= condition.minutes * 60.0;
        if left < 0.0 {
            return condition;
        }
    }
    &RECIPE[0]
}

/// Random numbers of one purpose, independent of all others of the same seed.
#[derive(Debug, Clone)]
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn new(seed: u64, stream: u64) -> Random {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Random(random)
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u32, high: u32) -> u32 {
        let span = u64::from(high - low) + 1;
        low + ((u64::from(self.0.next_u32()) * span) >> 32) as u32
    }

    /// About standard normal: a sum of four uniforms, whose tails end at 3.5. Box and Muller's way needs a
    /// logarithm and a cosine, and those differ in the last bit from one platform to the next.
    pub(super) fn normal(&mut self) -> f64 {
        /// Of four uniforms over 0 ..= 65,535: `sqrt(4 (65,536^2 - 1) / 12)`.
        const DEVIATION: f64 = 37_837.227_2;
        let bits = self.0.next_u64();
        let sum = [0, 16, 32, 48].map(|shift| (bits >> shift) & 0xffff).iter().sum::<u64>();
        (sum as f64 - 131_070.0) / DEVIATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_mean_0_and_deviation_1() {
        let mut random = Random::new(1, 1);
        let numbers: Vec<f64> = (0..100_000).map(|_| random.normal()).collect();
        let mean = numbers.iter().sum::<f64>() / 1e5;
        let variance = numbers.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.01, "{variance}");
    }

    #[test]
    fn between_reaches_both_ends() {
        let mut random = Random::new(1, 1);
        let numbers: Vec<u32> = (0..1_000).map(|_| random.between(3, 5)).collect();
        assert_eq!((numbers.iter().min(), numbers.iter().max()), (Some(&3), Some(&5)));
    }

    #[test]
    fn the_recipe_has_mean_load_one() {
        let minutes: f64 = RECIPE.iter().map(|condition| condition.minutes).sum();
        let load: f64 = RECIPE.iter().map(|condition| condition.load * condition.minutes).sum();
        assert!((load / minutes - 1.0).abs() < 0.02, "{}", load / minutes);
        let order =
            [0.0, 359.0, 360.0, 600.0, 1_800.0, 2_699.0, 2_700.0].map(|s| condition(s).name);
        assert_eq!(order, ["idle", "idle", "pumpdown", "etch", "deposit", "deposit", "idle"]);
    }

    #[test]
    fn lives_have_the_mean_that_was_asked_for() {
        let config = PumpFleet { interval_ms: 10_000, ..PumpFleet::default() };
        let lives: Vec<f64> =
            (0..400).map(|number| Machine::new(&config, number).life_hours()).collect();
        let mean = lives.iter().sum::<f64>() / 400.0;
        assert!((mean - 6.0).abs() < 0.3, "{mean}");
        assert!(lives.iter().all(|life| (2.0..14.0).contains(life)), "{lives:?}");
    }

    #[test]
    fn damage_reaches_one_with_the_last_reading_and_shows_in_the_channels() {
        let config = PumpFleet { interval_ms: 1_000, mean_life_hours: 1.0, ..PumpFleet::default() };
        let mut machine = Machine::until_failure(&config, 0);
        let readings: Vec<Reading> = (0..machine.recorded).map(|_| machine.read(0)).collect();
        assert!(machine.damage >= 1.0);
        let mean = |readings: &[Reading], channel: usize| {
            let etch = readings.iter().filter(|reading| reading.condition == "etch");
            let (sum, n) =
                etch.fold((0.0, 0.0), |(sum, n), r| (sum + r.channels[channel], n + 1.0));
            sum / n
        };
        let half = readings.len() / 2;
        let (early, late) = readings.split_at(half);
        for channel in [0, 1, 2, 3] {
            assert!(mean(late, channel) > mean(early, channel), "channel {channel}");
        }
        assert!(mean(late, 4) < mean(early, 4), "a worn pump turns slower");
    }
}
