//! Remaining life of a machine that has not failed yet, from how its health index drifts towards a threshold.
//!
//! Features  the health index and the age at which it was measured, in the unit of the life; the index must not be smoothed
//!           so far that its steps no longer vary
//! Model     a Wiener process: in a step of length `dt` the index rises by a normal number of mean `m dt` and variance
//!           `s² dt`. `exponential`: the same of `ln(index - offset)`
//! Learnt    over a fleet, how `m` lies among machines (normal, mean `m0`, variance `v0`) and `s0²`; of the machine at hand,
//!           the posterior of `m` from how far it has come, and `s²` from its steps beside `s0²`
//! Output    median and two quantiles of the time until the threshold is first met, with what is not known of `m`:
//!           `P(T <= t) = Φ((mt - w)/r) + exp(2mw/s² + 2vw²/s⁴) Φ(-(2vwt + s²(mt + w))/(s² r))`, `r² = s²t + vt²`, `w` the way
//!           that is left, `m` and `v` of the posterior. With `v = 0` it is the inverse Gaussian distribution
//! State     a key: rows, index and age of the first and the last of them, sum of squared steps
//!
//! A row has no answer before `min_rows` rows, while it is not sure enough that the index drifts towards the threshold, and where
//! the quantile is never met. An age that falls begins anew: the machine was repaired.
//!
//! Source  Gebraeel et al., IIE Transactions 2005; Si et al., EJOR 2011 and IEEE Trans. Reliability 2012 (the distribution)

use serde::{Deserialize, Serialize};

/// The version of [`Payload`].
pub const FORMAT: u16 = 1;
/// Numbers that are kept for a key.
pub const STATE_WIDTH: u32 = 6;
/// What comes out: the median, the low and the high quantile.
pub const N_OUTPUTS: usize = 3;
/// Features: the health index and the age.
pub const N_FEATURES: usize = 2;
/// How many steps of a machine the fleet's variance counts like.
const PRIOR_STEPS: f64 = 20.0;
/// Steps in search of a quantile; a dozen are usual.
const MOST_STEPS: u32 = 200;
/// A quantile is found when it is known to this share of itself.
const CLOSE: f64 = 1e-13;
/// Doublings in search of that interval; a life beyond is not met.
const DOUBLINGS: u32 = 64;

/// What the weights file holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// Whether the logarithm drifts, not the index itself.
    pub exponential: bool,
    /// What is taken from the index before its logarithm.
    pub offset: f64,
    /// Whether a healthy index is large.
    pub falling: bool,
    /// The index at which life ends.
    pub threshold: f64,
    /// Mean drift of the fleet, in the direction of the threshold, a unit of age.
    pub drift: f64,
    /// Variance of the drift among machines.
    pub drift_variance: f64,
    /// Variance of steps, a unit of age.
    pub diffusion: f64,
    /// The low quantile.
    pub low: f64,
    /// The high quantile.
    pub high: f64,
    /// Rows before the first answer.
    pub min_rows: u32,
    /// How sure it must be that the drift is upwards.
    pub sure: f64,
}

/// A model that was checked.
#[derive(Debug, Clone)]
pub struct Degradation {
    payload: Payload,
    /// The threshold as the process sees it.
    end: f64,
    /// The standard normal quantile of `sure`.
    sigmas: f64,
}

/// What is kept of a machine.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Machine {
    rows: f64,
    first: f64,
    born: f64,
    last: f64,
    age: f64,
    squares: f64,
}

impl Machine {
    fn of(state: &[f64]) -> Option<Self> {
        match *state {
            [rows, first, born, last, age, squares] if rows >= 1.0 => {
                Some(Machine { rows, first, born, last, age, squares })
            }
            _ => None,
        }
    }

    fn write(self, state: &mut [f64]) {
        state.copy_from_slice(&[
            self.rows,
            self.first,
            self.born,
            self.last,
            self.age,
            self.squares,
        ]);
    }
}

/// What is believed of a machine's drift.
#[derive(Debug, Clone, Copy)]
struct Belief {
    drift: f64,
    variance: f64,
    diffusion: f64,
}

impl Degradation {
    /// A model.
    ///
    /// # Errors
    /// When a number cannot be.
    pub fn new(payload: Payload) -> Result<Self, String> {
        let quantile = |q: f64| q > 0.0 && q < 1.0;
        let fits = payload.drift.is_finite()
            && payload.drift_variance.is_finite()
            && payload.drift_variance >= 0.0
            && payload.diffusion.is_finite()
            && payload.diffusion > 0.0
            && quantile(payload.low)
            && quantile(payload.high)
            && payload.low < payload.high
            && (0.5..1.0).contains(&payload.sure)
            && payload.min_rows >= 3;
        if !fits {
            return Err("a number of the model cannot be".to_owned());
        }
        let mut model = Degradation { payload, end: 0.0, sigmas: 0.0 };
        model.end = model.level(payload.threshold).ok_or_else(|| {
            format!("the threshold {} has no logarithm behind the offset", payload.threshold)
        })?;
        let (mut low, mut high) = (0.0, 40.0);
        for _ in 0..MOST_STEPS {
            let middle = f64::midpoint(low, high);
            if normal(middle) < payload.sure { low = middle } else { high = middle }
        }
        model.sigmas = high;
        Ok(model)
    }

    /// The index as the process sees it: rising towards the threshold; `None` where it cannot be.
    #[must_use]
    pub fn level(&self, index: f64) -> Option<f64> {
        level(&self.payload, index)
    }

    /// Scores rows of the health index and the age into the median and the two quantiles; the rows of a key's slot are
    /// adjacent and in order.
    pub fn score(&self, features: &[f64], slots: &[u32], state: &mut [f64], outputs: &mut [f64]) {
        let width = STATE_WIDTH as usize;
        let rows = features.chunks_exact(N_FEATURES).zip(outputs.chunks_exact_mut(N_OUTPUTS));
        for ((row, out), &slot) in rows.zip(slots) {
            let state = &mut state[slot as usize * width..][..width];
            let Some(level) = self.level(row[0]).filter(|_| row[1].is_finite()) else {
                out.fill(f64::NAN);
                continue;
            };
            let machine = after(Machine::of(state), level, row[1]);
            machine.write(state);
            self.answer(machine, out);
        }
    }

    fn answer(&self, machine: Machine, out: &mut [f64]) {
        let way = self.end - machine.last;
        if way <= 0.0 {
            out.fill(0.0);
            return;
        }
        let belief = self.belief(machine);
        // Quantiles are looked for in any case: what a row costs is measured on rows without a history.
        for (out, q) in out.iter_mut().zip([0.5, self.payload.low, self.payload.high]) {
            *out = first_passage_quantile(belief, way, q);
        }
        let too_few = machine.rows < f64::from(self.payload.min_rows);
        if too_few || belief.drift < self.sigmas * belief.variance.sqrt() || belief.drift <= 0.0 {
            out.fill(f64::NAN);
        }
    }

    fn belief(&self, machine: Machine) -> Belief {
        let p = &self.payload;
        let (time, rise) = (machine.age - machine.born, machine.last - machine.first);
        if time <= 0.0 {
            let (drift, variance, diffusion) = (p.drift, p.drift_variance, p.diffusion);
            return Belief { drift, variance, diffusion };
        }
        // Steps around their own drift, beside those of the fleet. Two numbers of the machine are drift and start.
        let own = (machine.squares - rise * rise / time).max(0.0);
        let steps = machine.rows - 2.0;
        let diffusion = (own + PRIOR_STEPS * p.diffusion) / (steps + PRIOR_STEPS);
        if p.drift_variance == 0.0 {
            return Belief { drift: p.drift, variance: 0.0, diffusion };
        }
        let precision = 1.0 / p.drift_variance + time / diffusion;
        let drift = (p.drift / p.drift_variance + rise / diffusion) / precision;
        Belief { drift, variance: 1.0 / precision, diffusion }
    }
}

/// The index as the process sees it.
#[must_use]
pub fn level(payload: &Payload, index: f64) -> Option<f64> {
    let turned = if payload.falling { -index } else { index };
    if !payload.exponential {
        return turned.is_finite().then_some(turned);
    }
    let above = if payload.falling { payload.offset - index } else { index - payload.offset };
    (above > 0.0 && above.is_finite()).then(|| libm::log(above))
}

/// What is known of a machine after a row.
fn after(before: Option<Machine>, level: f64, age: f64) -> Machine {
    let begun = Machine { rows: 1.0, first: level, born: age, last: level, age, squares: 0.0 };
    match before {
        Some(machine) if age > machine.age => {
            let step = level - machine.last;
            Machine {
                rows: machine.rows + 1.0,
                last: level,
                age,
                squares: machine.squares + step * step / (age - machine.age),
                ..machine
            }
        }
        // Two rows of one age are no step.
        Some(machine) if age == machine.age => machine,
        _ => begun,
    }
}

/// The time at which the share `q` of paths has met the threshold; NaN where so many never do.
fn first_passage_quantile(belief: Belief, way: f64, q: f64) -> f64 {
    let share = |t: f64| first_passage(belief, way, t) - q;
    let mut high = way / belief.drift.abs();
    let mut above = share(high);
    let mut doublings = 0;
    while above < 0.0 {
        high *= 2.0;
        above = share(high);
        doublings += 1;
        if doublings > DOUBLINGS {
            return f64::NAN;
        }
    }
    // The secant through both ends (Illinois): an end that stays for two steps counts half.
    let (mut low, mut below) = (0.0, -q);
    let mut side = 0;
    for _ in 0..MOST_STEPS {
        if high - low <= CLOSE * high {
            break;
        }
        let t = high - above * (high - low) / (above - below);
        let at = share(t);
        if at < 0.0 {
            (low, below) = (t, at);
            above = if side == -1 { above * 0.5 } else { above };
            side = -1;
        } else {
            (high, above) = (t, at);
            below = if side == 1 { below * 0.5 } else { below };
            side = 1;
            if at == 0.0 {
                break;
            }
        }
    }
    high
}

/// The share of paths that have met the threshold after `t`.
fn first_passage(belief: Belief, way: f64, t: f64) -> f64 {
    let Belief { drift: m, variance: v, diffusion: s2 } = belief;
    let r = (s2 * t + v * t * t).sqrt();
    let exponent = 2.0 * m * way / s2 + 2.0 * v * way * way / (s2 * s2);
    let back = -(2.0 * v * way * t + s2 * (m * t + way)) / (s2 * r);
    // In logarithms: the one factor overflows where the other is nearly 0.
    normal((m * t - way) / r) + libm::exp(exponent + ln_normal(back))
}

/// The standard normal distribution.
fn normal(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// Its logarithm; far to the left by the asymptotic series of Mills' ratio.
fn ln_normal(x: f64) -> f64 {
    if x > -30.0 {
        return libm::log(normal(x));
    }
    let i = 1.0 / (x * x);
    let series = 1.0 - i * (1.0 - 3.0 * i * (1.0 - 5.0 * i * (1.0 - 7.0 * i)));
    -0.5 * x * x - libm::log(-x) - 0.5 * libm::log(2.0 * std::f64::consts::PI) + libm::log(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        Payload {
            exponential: false,
            offset: 0.0,
            falling: false,
            threshold: 10.0,
            drift: 1.0,
            drift_variance: 0.0,
            diffusion: 0.5,
            low: 0.1,
            high: 0.9,
            min_rows: 3,
            sure: 0.95,
        }
    }

    /// `scipy.stats.invgauss(mu=1/20, scale=200)`: way 10, drift 1, diffusion 0.5.
    /// python3 -c "from scipy.stats import invgauss as i; print([i(1/20, scale=200).ppf(q) for q in (.5, .1, .9)])"
    #[test]
    fn with_a_drift_that_is_known_it_is_the_inverse_gaussian() {
        let belief = Belief { drift: 1.0, variance: 0.0, diffusion: 0.5 };
        for (q, expected) in [
            (0.5, 9.757_033_858_942_44),
            (0.1, 7.348_276_268_966_317),
            (0.9, 12.963_675_816_529_96),
        ] {
            let found = first_passage_quantile(belief, 10.0, q);
            assert!((found - expected).abs() < 1e-9 * expected, "{q}: {found}");
        }
    }

    /// `passage` of plugins/tests/all/families.py: a mixture of inverse Gaussians over the drift, by quadrature.
    #[test]
    fn what_is_not_known_of_the_drift_widens_the_interval() {
        let belief = Belief { drift: 1.2, variance: 0.01, diffusion: 0.4 };
        for (q, expected) in [
            (0.5, 6.530_992_811_474_298),
            (0.1, 4.962_425_315_088_162),
            (0.9, 8.694_727_396_085_062),
        ] {
            let found = first_passage_quantile(belief, 8.0, q);
            assert!((found - expected).abs() < 1e-6, "{q}: {found}");
        }
    }

    #[test]
    fn the_logarithm_of_the_tail_has_no_step() {
        let (left, right) = (ln_normal(-30.000_001), ln_normal(-29.999_999));
        assert!((left - right + 6.0e-5).abs() < 1e-6, "{left} {right}");
        assert!(ln_normal(-1000.0).is_finite());
    }

    #[test]
    fn answers_begin_when_there_is_something_to_say() {
        let model = Degradation::new(payload()).unwrap();
        let mut state = vec![f64::NAN; STATE_WIDTH as usize];
        let features = [0.0, 0.0, 1.0, 1.0, 2.2, 2.0, 3.0, 3.0, 11.0, 4.0, 0.0, 0.0];
        let mut out = vec![f64::NAN; 6 * N_OUTPUTS];
        model.score(&features, &[0; 6], &mut state, &mut out);
        assert!(out[..6].iter().all(|x| x.is_nan()), "before three rows");
        let [median, low, high] = out[6..9] else { panic!() };
        assert!(low < median && median < high && (6.0..9.0).contains(&median), "{median}");
        assert_eq!(out[12..15], [0.0; 3], "beyond the threshold");
        assert!(out[15..].iter().all(|x| x.is_nan()), "repaired: it begins anew");
        assert_eq!(state[0], 1.0);
    }

    #[test]
    fn how_rows_are_cut_into_calls_does_not_show() {
        let model = Degradation::new(Payload { drift_variance: 0.2, ..payload() }).unwrap();
        let features: Vec<f64> = (0..20)
            .flat_map(|n| [f64::from(n) * 0.3 + f64::from(n % 3) * 0.1, f64::from(n)])
            .collect();
        let run = |cut: usize| {
            let mut state = vec![f64::NAN; STATE_WIDTH as usize];
            let mut outputs = Vec::new();
            for part in features.chunks(cut * N_FEATURES) {
                let n = part.len() / N_FEATURES;
                let mut out = vec![f64::NAN; n * N_OUTPUTS];
                model.score(part, &vec![0; n], &mut state, &mut out);
                outputs.extend(out.iter().map(|x| x.to_bits()));
            }
            outputs
        };
        assert_eq!(run(1), run(20));
        assert_eq!(run(7), run(20));
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        assert!(Degradation::new(Payload { diffusion: 0.0, ..payload() }).is_err());
        assert!(Degradation::new(Payload { low: 0.9, ..payload() }).is_err());
        let log = Payload { exponential: true, offset: 12.0, ..payload() };
        assert!(Degradation::new(log).is_err());
    }
}
