//! How much disorder there is in the values: entropies, and how well they can be said in few words.
//!
//! Logarithms are natural. Those that compare each value with each other take time with the square of their
//! number; beyond [`MAX_COMPARED`] values they are null.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use super::fourier::density;
use super::sample::{Sample, number};
use super::{Args, Feature, Needs, Param, ParamKind, Theme, UnitRule};
use crate::anova::correlation;
use Needs::{Central, Sums};
use UnitRule::Ratio;

pub(super) const THEME: Theme = Theme { title: "Entropy and complexity", features: TABLE };

/// Most values that are compared each with each other: 8 million pairs, some ten milliseconds.
const MAX_COMPARED: usize = 4_096;

const MAX_BINS: u32 = 10_000;
const EMBEDDING: Param =
    Param::or("m", ParamKind::Whole(1, 10), 2.0, "how many values in a row are compared");
const TOLERANCE: Param = Param::or(
    "r",
    ParamKind::Number(0.0, f64::MAX),
    0.2,
    "how far equal values may be apart, in standard deviations `sqrt(m2)`",
);

#[rustfmt::skip]
const TABLE: &[Feature] = &[
    Feature::new("entropy", Ratio, Sums, "`-sum p ln p` over equal bins between fixed limits, which makes windows comparable; values beyond the limits count in the outermost bins", |s, a| Some(histogram_entropy(s.values, (a.number(0), a.number(1)), a.whole(2)))).with(&[
        Param::needed("min", ParamKind::Number(f64::MIN, f64::MAX), "where the first bin begins"),
        Param::needed("max", ParamKind::Number(f64::MIN, f64::MAX), "where the last bin ends"),
        Param::or("bins", ParamKind::Whole(2, MAX_BINS), 10.0, "how many bins"),
    ]).ascending(),
    Feature::new("binned_entropy", Ratio, Sums, "tsfresh: `-sum p ln p` over equal bins from the least to the greatest value", |s, a| Some(histogram_entropy(s.values, (s.moments.min, s.moments.max), a.whole(0)))).with(&[
        Param::or("max_bins", ParamKind::Whole(2, MAX_BINS), 10.0, "how many bins"),
    ]),
    Feature::new("fourier_entropy", Ratio, Sums, "tsfresh: `binned_entropy` of the power spectral density, `spkt_welch_density` of all lines; null for a constant", |s, a| entropy_of_lines(s, a.whole(0))).with(&[
        Param::or("bins", ParamKind::Whole(2, MAX_BINS), 10.0, "how many bins"),
    ]),
    Feature::new("permutation_entropy", Ratio, Sums, "tsfresh: `-sum p ln p` over the orders in which the values of a stretch rank, of equal ones the earlier lower; null for fewer values than a stretch", permutation_entropy).with(&[
        Param::or("tau", ParamKind::Whole(1, 100_000), 1.0, "how far a stretch starts after the one before"),
        Param::or("dimension", ParamKind::Whole(2, 10), 3.0, "how many values a stretch has"),
    ]),
    Feature::new("sample_entropy", Ratio, Central, "tsfresh: `-ln(A / B)`: of the pairs of stretches of m values that are equal within r (B), those still equal with the next value (A); null without any, and beyond 4,096 values", sample_entropy).with(&[EMBEDDING, TOLERANCE]),
    Feature::new("approximate_entropy", Ratio, Central, "tsfresh: `|phi(m) - phi(m + 1)|`, `phi` the mean of the logarithms of the shares of stretches that are equal within r; null beyond 4,096 values", approximate_entropy).with(&[EMBEDDING, TOLERANCE]),
    Feature::new("lempel_ziv_complexity", Ratio, Sums, "tsfresh: words of the LZ78 dictionary of the values' bins / n", lempel_ziv_complexity).with(&[
        Param::or("bins", ParamKind::Whole(1, MAX_BINS), 10.0, "how many equal bins from the least to the greatest value"),
    ]),
    Feature::new("benford_correlation", Ratio, Sums, "tsfresh: correlation of the shares of values whose first digit is 1, 2, ..., 9 with those that Benford's law expects, `log10(1 + 1 / d)`; depends on the unit; null where all shares are equal", |s, _| benford(s.values)),
];

/// `-sum p ln p` of counts.
fn entropy(counts: impl Iterator<Item = usize>, n: usize) -> f64 {
    let terms = counts.filter(|&c| c > 0).map(|c| {
        let p = number(c) / number(n);
        p * libm::log(p)
    });
    // A sum of no terms is -0.0.
    0.0 - terms.sum::<f64>()
}

/// The edges of bins as NumPy places them.
#[derive(Debug, Clone, Copy)]
struct Bins {
    low: f64,
    high: f64,
    n: usize,
}

impl Bins {
    fn edge(self, i: usize) -> f64 {
        let step = (self.high - self.low) / number(self.n);
        if i == self.n { self.high } else { self.low + number(i) * step }
    }

    /// The bin of a value: `[edge, next edge)`, the last with its end, and what is beyond in the outermost.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place is clamped to the bins; NaN and below 0 become 0"
    )]
    fn of(self, x: f64) -> usize {
        let place = (x - self.low) / (self.high - self.low) * number(self.n);
        let near = (place as usize).min(self.n - 1);
        // Division rounds, so that a value at an edge may land on the wrong side of it.
        if near > 0 && x < self.edge(near) {
            near - 1
        } else if near + 1 < self.n && x >= self.edge(near + 1) {
            near + 1
        } else {
            near
        }
    }
}

fn histogram_entropy(values: &[f64], (low, high): (f64, f64), n: usize) -> f64 {
    let bins = Bins { low, high, n };
    let mut counts = vec![0; n];
    for &x in values {
        counts[bins.of(x)] += 1;
    }
    entropy(counts.into_iter(), values.len())
}

/// The entropy of lines as parts of the greatest.
fn entropy_of_lines(sample: &Sample<'_>, n_bins: usize) -> Option<f64> {
    // What a constant leaves of lines is rounding.
    if sample.moments.min == sample.moments.max {
        return None;
    }
    let lines = density(sample.values);
    let greatest = lines.iter().copied().fold(0.0, f64::max);
    let parts: Vec<f64> = lines.iter().map(|power| power / greatest).collect();
    let least = parts.iter().copied().fold(1.0, f64::min);
    (greatest > 0.0).then(|| histogram_entropy(&parts, (least, 1.0), n_bins))
}

fn permutation_entropy(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let (tau, dimension) = (args.whole(0), args.whole(1));
    let stretches = sample.values.windows(dimension).step_by(tau);
    // The ranks as digits; of equal values the earlier ranks lower.
    let code = |stretch: &[f64]| {
        let ranks = stretch.iter().enumerate().map(|(i, x)| {
            let below = stretch.iter().filter(|y| *y < x).count();
            below + stretch[..i].iter().filter(|y| *y == x).count()
        });
        ranks.fold(0_u64, |code, rank| code * 10 + rank as u64)
    };
    let mut codes: Vec<u64> = stretches.map(code).collect();
    codes.sort_unstable();
    let counts = codes.chunk_by(|a, b| a == b).map(<[u64]>::len);
    (!codes.is_empty()).then(|| entropy(counts, codes.len()))
}

/// Calls `equal` with every pair `i < j` of stretches of `m` values that are equal within `tolerance`, and whether they
/// still are with the next value.
fn each_equal_pair(
    values: &[f64],
    m: usize,
    tolerance: f64,
    mut equal: impl FnMut(usize, usize, bool),
) {
    let near = |i: usize, j: usize| (values[i] - values[j]).abs() <= tolerance;
    for i in 0..(values.len() + 1).saturating_sub(m) {
        for j in i + 1..=values.len() - m {
            if near(i, j) && (1..m).all(|k| near(i + k, j + k)) {
                equal(i, j, j + m < values.len() && near(i + m, j + m));
            }
        }
    }
}

fn sample_entropy(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let (m, tolerance) = (args.whole(0), args.number(1) * sample.moments.m2.sqrt());
    if sample.len() > MAX_COMPARED {
        return None;
    }
    let (mut longer, mut all) = (0, 0);
    each_equal_pair(sample.values, m, tolerance, |_, _, still| {
        all += 1;
        longer += usize::from(still);
    });
    (longer > 0).then(|| -libm::log(number(longer) / number(all)))
}

fn approximate_entropy(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let (m, tolerance) = (args.whole(0), args.number(1) * sample.moments.m2.sqrt());
    let n = sample.len();
    if n > MAX_COMPARED {
        return None;
    }
    if n <= m + 1 {
        return Some(0.0);
    }
    // Each stretch equals itself.
    let (mut equal, mut longer) = (vec![1; n - m + 1], vec![1; n - m]);
    each_equal_pair(sample.values, m, tolerance, |i, j, still| {
        equal[i] += 1;
        equal[j] += 1;
        if still {
            longer[i] += 1;
            longer[j] += 1;
        }
    });
    let phi = |counts: &[usize]| {
        let n = number(counts.len());
        counts.iter().map(|&c| libm::log(number(c) / n)).sum::<f64>() / n
    };
    Some((phi(&equal) - phi(&longer)).abs())
}

fn lempel_ziv_complexity(sample: &Sample<'_>, args: &Args) -> Option<f64> {
    let m = &sample.moments;
    let bins = Bins { low: m.min, high: m.max, n: args.whole(0) };
    // The bin that a value is at or below the end of.
    let letter = |&x: &f64| {
        let bin = bins.of(x);
        if bin > 0 && x <= bins.edge(bin) { bin - 1 } else { bin }
    };
    let letters: Vec<usize> = sample.values.iter().map(letter).collect();
    let mut words = BTreeSet::new();
    let mut start = 0;
    for end in 1..=letters.len() {
        if words.insert(&letters[start..end]) {
            start = end;
        }
    }
    Some(number(words.len()) / m.n)
}

/// The digits that a number can begin with.
const DIGITS: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];

/// NaN where all shares are equal.
fn benford(values: &[f64]) -> Option<f64> {
    let mut counts = [0; DIGITS.len()];
    for &x in values {
        // 0 begins with none of them.
        if let Some(place) = first_digit(x).checked_sub(1) {
            counts[place] += 1;
        }
    }
    let shares = counts.map(|c| number(c) / number(values.len()));
    let law = DIGITS.map(|digit| libm::log10(1.0 + 1.0 / digit));
    Some(correlation(&shares, &law).0)
}

/// The first digit of the shortest decimal that is read as `x`, which is what one sees; 0 of 0.
fn first_digit(x: f64) -> usize {
    struct First(usize);
    impl fmt::Write for First {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            let digit = part.bytes().next().filter(u8::is_ascii_digit);
            self.0 = digit.map_or(0, |digit| usize::from(digit - b'0'));
            // The rest is not looked at.
            Err(fmt::Error)
        }
    }
    let mut first = First(0);
    let _ = write!(first, "{:e}", x.abs());
    first.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_digits_are_those_that_one_sees() {
        let cases = [(0.0, 0), (-0.0, 0), (5e-324, 5), (-0.07, 7), (1e22, 1), (0.3, 3), (9.99, 9)];
        for (x, digit) in cases {
            assert_eq!(first_digit(x), digit, "{x}");
        }
        assert_eq!(first_digit(0.3 - 0.1), 1, "it is 0.19999999999999998");
    }
}
