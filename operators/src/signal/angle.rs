//! From equal times to equal angles: samples of a shaft whose speed varies, as if it had turned evenly.
//!
//! A course says how far the shaft has turned at some places of the waveform, and is linear between them. Places count
//! samples from 0 and need not be whole. Between samples the signal is a cubic Hermite spline with the tangents
//! `(x[k + 1] - x[k - 1]) / 2`, at the ends the difference to the neighbour (Catmull and Rom).

use super::{count, place};

/// How far a shaft has turned: rising turns at rising places.
#[derive(Debug, Default, Clone)]
pub struct Course {
    places: Vec<f64>,
    turns: Vec<f64>,
}

impl Course {
    /// Forgets everything.
    fn clear(&mut self) {
        self.places.clear();
        self.turns.clear();
    }

    fn push(&mut self, place: f64, turns: f64) {
        self.places.push(place);
        self.turns.push(turns);
    }

    /// Follows the pulses of a tachometer: a pulse is where `signal` rises through `level`, after it was at or below
    /// `level - hysteresis`.
    pub fn by_pulses(&mut self, signal: &[f64], level: f64, hysteresis: f64, per_turn: f64) {
        self.clear();
        let mut armed = false;
        for (k, pair) in signal.windows(2).enumerate() {
            let (before, after) = (pair[0], pair[1]);
            armed |= before <= level - hysteresis;
            if armed && before <= level && after > level {
                let n = count(self.places.len());
                self.push(count(k) + (level - before) / (after - before), n / per_turn);
                armed = false;
            }
        }
    }

    /// Follows the speed at each sample, in turns a second, by the trapezoidal rule. Where the shaft stands still or runs
    /// backwards the course ends.
    pub fn by_speed(&mut self, speed_hz: &[f64], rate: f64) {
        self.clear();
        let mut turns = 0.0;
        for (k, &speed) in speed_hz.iter().enumerate() {
            if speed <= 0.0 {
                break;
            }
            if k > 0 {
                turns += f64::midpoint(speed_hz[k - 1], speed) / rate;
            }
            self.push(count(k), turns);
        }
    }

    /// Follows a constant speed in turns a second, above 0, over `n` samples.
    pub fn by_constant_speed(&mut self, speed_hz: f64, rate: f64, n: usize) {
        self.clear();
        self.push(0.0, 0.0);
        let last = count(n.saturating_sub(1));
        self.push(last, last * speed_hz / rate);
    }

    /// How many whole turns there are.
    #[must_use]
    pub fn whole_turns(&self) -> usize {
        place(self.turns.last().copied().unwrap_or(0.0) + 1e-9)
    }

    /// The slowest speed, in turns a sample; infinite where nothing turns.
    #[must_use]
    pub fn slowest(&self) -> f64 {
        let speeds = (1..self.places.len())
            .map(|i| (self.turns[i] - self.turns[i - 1]) / (self.places[i] - self.places[i - 1]));
        speeds.fold(f64::INFINITY, f64::min)
    }

    /// Puts `per_turn` samples of each whole turn into `out`.
    pub fn resample(&self, samples: &[f64], per_turn: usize, out: &mut Vec<f64>) {
        out.clear();
        let mut i = 1;
        for m in 0..self.whole_turns() * per_turn {
            let turns = count(m) / count(per_turn);
            while i + 1 < self.turns.len() && self.turns[i] < turns {
                i += 1;
            }
            let (t0, t1) = (self.turns[i - 1], self.turns[i]);
            let (p0, p1) = (self.places[i - 1], self.places[i]);
            out.push(between(samples, p0 + (p1 - p0) * (turns - t0) / (t1 - t0)));
        }
    }
}

/// The signal at a place, of at least two samples.
fn between(samples: &[f64], at: f64) -> f64 {
    let last = samples.len() - 1;
    let k = place(at).min(last - 1);
    let t = at - count(k);
    let tangent = |k: usize| match k {
        0 => samples[1] - samples[0],
        k if k == last => samples[last] - samples[last - 1],
        k => (samples[k + 1] - samples[k - 1]) / 2.0,
    };
    let (x0, x1, m0, m1) = (samples[k], samples[k + 1], tangent(k), tangent(k + 1));
    let (square, cube) = (t * t, t * t * t);
    x0 * (2.0 * cube - 3.0 * square + 1.0)
        + m0 * (cube - 2.0 * square + t)
        + x1 * (3.0 * square - 2.0 * cube)
        + m1 * (cube - square)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulses_need_their_hysteresis() {
        let mut course = Course::default();
        let signal = [0.0, 1.0, 0.45, 1.0, 0.0, 0.25, 0.75, 1.0];
        course.by_pulses(&signal, 0.5, 0.2, 2.0);
        assert_eq!(course.places, [0.5, 5.5]);
        assert_eq!(course.turns, [0.0, 0.5]);
        course.by_pulses(&signal, 0.5, 0.0, 1.0);
        assert_eq!(course.places.len(), 3);
        assert_eq!(course.whole_turns(), 2);
    }

    #[test]
    fn equal_angles_of_a_shaft_that_speeds_up() {
        // Half a turn a sample that rises: what is a chirp in time is a line in angle.
        let rate = 1000.0;
        let speed: Vec<f64> = (0..2000).map(|k| 10.0 + f64::from(k) * 0.01).collect();
        let mut course = Course::default();
        course.by_speed(&speed, rate);
        let signal: Vec<f64> =
            course.turns.iter().map(|t| libm::sin(2.0 * std::f64::consts::PI * 3.0 * t)).collect();
        let mut even = Vec::new();
        course.resample(&signal, 64, &mut even);
        assert_eq!(even.len(), 64 * 39);
        for (m, x) in even.iter().enumerate() {
            let want = libm::sin(2.0 * std::f64::consts::PI * 3.0 * count(m) / 64.0);
            assert!((x - want).abs() < 5e-3, "{m}: {x} {want}");
        }
    }

    #[test]
    fn a_shaft_at_rest_ends_the_course() {
        let mut course = Course::default();
        course.by_speed(&[10.0, 10.0, 0.0, 10.0], 5.0);
        assert_eq!(course.whole_turns(), 2);
        assert!((course.slowest() - 2.0).abs() < 1e-12);
        course.by_constant_speed(5.0, 10.0, 21);
        assert_eq!(course.whole_turns(), 10);
    }
}
