//! How the shaft turned while a waveform was taken.

use foreline_engine::{ConfigError, Schema};

use super::OrdersConfig;
use crate::signal::angle::Course;
use crate::waveforms::{Source, Speed, SpeedConfig, Wave, per_second};

/// Where it is said how the shaft turned.
pub(super) struct Shaft {
    pub(super) turning: Turning,
    /// The row's speed.
    pub(super) speed: Option<Speed>,
    /// Another column of waveforms, which says it.
    pub(super) companion: Option<usize>,
}

impl Shaft {
    /// What the configuration says of it; `source` is the signal, where that is fine.
    pub(super) fn plan(
        config: &OrdersConfig,
        input: &Schema,
        source: Option<&Source>,
    ) -> Result<Self, ConfigError> {
        match (&config.speed, &config.tachometer) {
            (Some(SpeedConfig::Column(name)), None)
                if input.column(name).is_some_and(|c| c.sample_rate.is_some()) =>
            {
                let speeds = Self::companion("speed", name, input, source)?;
                let factor = per_second("speed", &input.columns()[speeds])?;
                let turning = Turning::Speed(factor);
                Ok(Shaft { turning, speed: None, companion: Some(speeds) })
            }
            (Some(speed), None) => {
                let speed = Some(Speed::plan(speed, input)?);
                Ok(Shaft { turning: Turning::Evenly, speed, companion: None })
            }
            (None, Some(tachometer)) => {
                let at = "tachometer.column";
                let companion = Some(Self::companion(at, &tachometer.column, input, source)?);
                let turning = Turning::Pulses {
                    level: tachometer.level,
                    hysteresis: tachometer.hysteresis,
                    per_turn: tachometer.pulses_per_turn,
                };
                Ok(Shaft { turning, speed: None, companion })
            }
            (None, None) => Err(ConfigError::new("", "nothing says how the shaft turned")
                .help("add one of speed, tachometer")),
            (Some(_), Some(_)) => {
                Err(ConfigError::new("", "speed and tachometer say the same thing")
                    .help("keep one of them"))
            }
        }
    }

    /// The column of waveforms that goes with the signal.
    fn companion(
        at: &str,
        name: &str,
        input: &Schema,
        source: Option<&Source>,
    ) -> Result<usize, ConfigError> {
        let companion = Source::plan(input, at, name, None)?;
        let rate = |index: usize| input.columns()[index].sample_rate;
        match source {
            Some(source) if rate(source.index) != rate(companion.index) => {
                let (mine, other) = (source.rate, companion.rate);
                let what = format!("column '{name}' has {other} Hz, the signal {mine} Hz");
                Err(ConfigError::new(at, what).help("sample both at one rate"))
            }
            _ => Ok(companion.index),
        }
    }
}

/// How a shaft turned during a waveform.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Turning {
    /// At the row's speed.
    Evenly,
    /// The companion is the speed: turns a second in one of its unit.
    Speed(f64),
    /// The companion is a tachometer's signal.
    Pulses {
        /// A pulse rises through this.
        level: f64,
        /// How far the signal must have fallen below before.
        hysteresis: f64,
        /// Pulses a turn.
        per_turn: f64,
    },
}

impl Turning {
    /// The course of the shaft; `false` where the row does not say how it turned.
    pub(super) fn course(self, wave: &Wave<'_>, rate: f64, course: &mut Course) -> bool {
        match (self, wave.companion, wave.speed_hz) {
            (Turning::Evenly, _, Some(speed)) => {
                course.by_constant_speed(speed, rate, wave.samples.len());
            }
            (Turning::Speed(factor), Some(speeds), _) => {
                let speeds: Vec<f64> = speeds.iter().map(|v| v * factor).collect();
                course.by_speed(&speeds, rate);
            }
            (Turning::Pulses { level, hysteresis, per_turn }, Some(signal), _) => {
                course.by_pulses(signal, level, hysteresis, per_turn);
            }
            _ => return false,
        }
        true
    }
}
