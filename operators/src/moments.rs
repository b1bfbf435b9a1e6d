//! Count, mean, extremes and central moments of the values of a window.
//!
//! Two passes over the values, the mean first: exact to a few units in the last place, where sums of powers
//! about zero lose all digits for a small vibration on a large offset. Sums run in `LANES` lanes that are
//! joined in a fixed order, so equal values in equal order give equal bits, with vector units or without.

/// Partial sums side by side: what a 256-bit vector unit holds, and enough to hide an addition's latency.
const LANES: usize = 4;

/// Relative rounding of a mean below which a spread is none, as `scipy.stats` has it.
const RESOLUTION: f64 = 1e-15;

/// Moments of some values; `m2`, `m3` and `m4` are central, divided by `n`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// How many values.
    pub n: f64,
    /// Their mean; NaN of none.
    pub mean: f64,
    /// The mean of their squares.
    pub mean_square: f64,
    /// The least; infinite of none.
    pub min: f64,
    /// The greatest; infinite of none.
    pub max: f64,
    /// The mean of `(x - mean)^2`; 0 unless it was asked for.
    pub m2: f64,
    /// The mean of `(x - mean)^3`; 0 unless it was asked for.
    pub m3: f64,
    /// The mean of `(x - mean)^4`; 0 unless it was asked for.
    pub m4: f64,
}

impl Moments {
    /// The moments of `values`, none of which is NaN; the central ones if `central`.
    #[must_use]
    pub fn of(values: &[f64], central: Central) -> Self {
        let mut moments = Self::sums(values);
        // A constant's mean is off by rounding, which would turn up as a spread.
        if moments.min.to_bits() == moments.max.to_bits() {
            moments.mean = moments.min;
        } else if central == Central::Wanted {
            moments.add_central(values);
        }
        moments
    }

    /// The moments of the values of all `parts`, in their order; the central ones if `central`, which the parts have then.
    #[must_use]
    pub fn joined<'a>(parts: impl Iterator<Item = &'a Moments> + Clone, central: Central) -> Self {
        let mut all = Self::sums(&[]);
        let (mut sum, mut squares) = (0.0, 0.0);
        let parts = parts.filter(|part| part.n > 0.0);
        for part in parts.clone() {
            all.n += part.n;
            sum += part.n * part.mean;
            squares += part.n * part.mean_square;
            all.min = all.min.min(part.min);
            all.max = all.max.max(part.max);
        }
        (all.mean, all.mean_square) = (sum / all.n, squares / all.n);
        if all.min.to_bits() == all.max.to_bits() {
            all.mean = all.min;
        } else if central == Central::Wanted {
            all.join_central(parts);
        }
        all
    }

    /// Central moments about the mean of all from those about the mean of each part (Pébay 2008).
    fn join_central<'a>(&mut self, parts: impl Iterator<Item = &'a Moments>) {
        let (mut m2, mut m3, mut m4) = (0.0, 0.0, 0.0);
        for part in parts {
            let d = part.mean - self.mean;
            let d2 = d * d;
            m2 += part.n * (part.m2 + d2);
            m3 += part.n * (part.m3 + 3.0 * d * part.m2 + d2 * d);
            m4 += part.n * (part.m4 + 4.0 * d * part.m3 + 6.0 * d2 * part.m2 + d2 * d2);
        }
        (self.m2, self.m3, self.m4) = (m2 / self.n, m3 / self.n, m4 / self.n);
    }

    #[expect(clippy::cast_precision_loss, reason = "a window has fewer than 2^53 rows")]
    fn sums(values: &[f64]) -> Self {
        let (mut sum, mut squares) = ([0.0; LANES], [0.0; LANES]);
        let (mut min, mut max) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
        for_lanes(values, |lane, x| {
            sum[lane] += x;
            squares[lane] += x * x;
            min[lane] = if x < min[lane] { x } else { min[lane] };
            max[lane] = if x > max[lane] { x } else { max[lane] };
        });
        let n = values.len() as f64;
        Moments {
            n,
            mean: join(sum) / n,
            mean_square: join(squares) / n,
            min: min.into_iter().fold(f64::INFINITY, f64::min),
            max: max.into_iter().fold(f64::NEG_INFINITY, f64::max),
            m2: 0.0,
            m3: 0.0,
            m4: 0.0,
        }
    }

    fn add_central(&mut self, values: &[f64]) {
        let (mut m2, mut m3, mut m4) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let mean = self.mean;
        for_lanes(values, |lane, x| {
            let d = x - mean;
            let d2 = d * d;
            m2[lane] += d2;
            m3[lane] += d2 * d;
            m4[lane] += d2 * d2;
        });
        self.m2 = join(m2) / self.n;
        self.m3 = join(m3) / self.n;
        self.m4 = join(m4) / self.n;
    }

    /// The variance of a sample; `None` below two values.
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        (self.n >= 2.0).then(|| self.m2 * self.n / (self.n - 1.0))
    }

    /// The standard deviation of a sample; `None` below two values.
    #[must_use]
    pub fn std(&self) -> Option<f64> {
        self.variance().map(f64::sqrt)
    }

    /// Biased skewness; `None` for a constant.
    #[must_use]
    pub fn skewness(&self) -> Option<f64> {
        self.spreads().then(|| self.m3 / (self.m2 * self.m2.sqrt()))
    }

    /// Biased kurtosis, not excess; `None` for a constant.
    #[must_use]
    pub fn kurtosis(&self) -> Option<f64> {
        self.spreads().then(|| self.m4 / (self.m2 * self.m2))
    }

    /// Whether the values differ by more than rounding.
    #[must_use]
    pub fn spreads(&self) -> bool {
        let rounding = RESOLUTION * self.mean;
        self.m2 > rounding * rounding
    }
}

/// Whether central moments are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Central {
    /// They are; they cost a second pass.
    Wanted,
    /// They stay 0.
    Unwanted,
}

/// Calls `each` for every value with its lane.
#[inline(always)]
fn for_lanes(values: &[f64], mut each: impl FnMut(usize, f64)) {
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in chunk.iter().enumerate() {
            each(lane, x);
        }
    }
    for (lane, &x) in rest.iter().enumerate() {
        each(lane, x);
    }
}

fn join([a, b, c, d]: [f64; LANES]) -> f64 {
    (a + b) + (c + d)
}

/// The means of the two numbers that `each` makes of a value. Equal slices give equal bits.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a window has fewer than 2^53 rows")]
pub fn mean_of_mapped(values: &[f64], each: impl Fn(f64) -> [f64; 2]) -> [f64; 2] {
    let (mut first, mut second) = ([0.0; LANES], [0.0; LANES]);
    for_lanes(values, |lane, x| {
        let [a, b] = each(x);
        first[lane] += a;
        second[lane] += b;
    });
    let n = values.len() as f64;
    [join(first) / n, join(second) / n]
}

/// The mean of the values that are not NaN, and how many they are. Equal slices give equal bits.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a window has fewer than 2^53 rows")]
pub fn mean_of(values: &[f64]) -> (f64, usize) {
    let (mut sum, mut n) = ([0.0; LANES], [0_usize; LANES]);
    for_lanes(values, |lane, x| {
        let there = !x.is_nan();
        sum[lane] += if there { x } else { 0.0 };
        n[lane] += usize::from(there);
    });
    let n = n.iter().sum::<usize>();
    (join(sum) / n as f64, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_offset_costs_no_digits() {
        let values: Vec<f64> = (0..1000).map(|i| 1e9 + f64::from(i % 2)).collect();
        let m = Moments::of(&values, Central::Wanted);
        assert_eq!((m.mean, m.m2, m.m3), (1e9 + 0.5, 0.25, 0.0));
    }

    #[test]
    fn parts_join_to_the_whole() {
        let values: Vec<f64> = (0..100).map(|i| 1e4 + f64::from(i * i % 37)).collect();
        let whole = Moments::of(&values, Central::Wanted);
        let parts = [&values[..30], &[], &values[30..31], &values[31..]];
        let parts = parts.map(|part| Moments::of(part, Central::Wanted));
        let joined = Moments::joined(parts.iter(), Central::Wanted);
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-10 * b.abs();
        let pairs = [(joined.mean, whole.mean), (joined.m2, whole.m2), (joined.m3, whole.m3)];
        let more = [(joined.m4, whole.m4), (joined.mean_square, whole.mean_square)];
        assert!(pairs.iter().chain(&more).all(|&(a, b)| close(a, b)), "{joined:?} {whole:?}");
        assert_eq!((joined.n, joined.min, joined.max), (whole.n, whole.min, whole.max));
        let constant =
            [Moments::of(&[0.1; 3], Central::Wanted), Moments::of(&[0.1; 4], Central::Wanted)];
        assert_eq!(
            Moments::joined(constant.iter(), Central::Wanted),
            Moments::of(&[0.1; 7], Central::Wanted)
        );
    }

    #[test]
    fn a_constant_has_no_spread() {
        let m = Moments::of(&[0.1; 99], Central::Wanted);
        assert_eq!((m.mean, m.std(), m.skewness(), m.kurtosis()), (0.1, Some(0.0), None, None));
    }

    #[test]
    fn nothing_has_no_mean() {
        let m = Moments::of(&[], Central::Wanted);
        assert!(m.mean.is_nan() && m.std().is_none() && m.kurtosis().is_none());
        assert_eq!(mean_of(&[f64::NAN, 2.0, 4.0]), (3.0, 2));
    }
}
