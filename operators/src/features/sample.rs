//! The values of a window as features see them, and what is computed once for all features of a column.

use crate::moments::{Central, Moments, mean_of_mapped};
pub(super) use crate::signal::count as number;

/// The values of a window that are not null.
#[derive(Debug)]
pub struct Sample<'a> {
    /// The values, in the order of event time.
    pub values: &'a [f64],
    /// Their event times.
    pub times: &'a [i64],
    /// How many rows the window has, those without a value included.
    pub n_rows: usize,
    /// Their moments; the central ones only if some feature of the column is [`Needs::Central`].
    pub moments: Moments,
    /// Their absolute means, only if some feature of the column is [`Needs::Absolute`].
    pub absolute: Absolute,
    /// The values in ascending order, only if some feature of the column is [`Needs::Sorted`].
    pub sorted: &'a [f64],
    /// Whether amplitudes (`rms`, `peak` and the factors) are of the values less their mean.
    pub remove_mean: bool,
    /// Event time in one unit of a slope: 10^9 nanoseconds for a second, 1 for a count.
    pub ticks: f64,
}

/// What has to be known before a feature can be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// How many rows and values there are: the only features that say something of a window without values.
    Rows,
    /// Count, mean, extremes and sum of squares.
    Sums,
    /// The central moments too, which take a second pass.
    Central,
    /// The means of absolute values, which take a second pass.
    Absolute,
    /// The values in ascending order, which is done once for all features of a column.
    Sorted,
}

/// Means of absolute values, less the mean of the values where that is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Absolute {
    /// The mean of `|x|`.
    pub mean: f64,
    /// The mean of `sqrt(|x|)`.
    pub mean_root: f64,
}

/// The passes over the values that the features of a column take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passes {
    central: Central,
    absolute: bool,
    sorted: bool,
}

impl Passes {
    /// Those that features with `needs` take.
    pub(crate) fn of(needs: &(impl Iterator<Item = Needs> + Clone), remove_mean: bool) -> Self {
        let central = remove_mean || needs.clone().any(|n| n == Needs::Central);
        Passes {
            central: if central { Central::Wanted } else { Central::Unwanted },
            absolute: needs.clone().any(|n| n == Needs::Absolute),
            sorted: needs.clone().any(|n| n == Needs::Sorted),
        }
    }

    /// The moments of `values`.
    pub(crate) fn moments(self, values: &[f64]) -> Moments {
        Moments::of(values, self.central)
    }

    /// The moments of the values of all `parts`.
    pub(crate) fn joined<'a>(self, parts: impl Iterator<Item = &'a Moments> + Clone) -> Moments {
        Moments::joined(parts, self.central)
    }

    /// The absolute means of `values` about `centre`.
    pub(crate) fn absolute(self, values: &[f64], centre: f64) -> Absolute {
        if !self.absolute {
            return Absolute::default();
        }
        let [mean, mean_root] = mean_of_mapped(values, |x| {
            let size = (x - centre).abs();
            [size, size.sqrt()]
        });
        Absolute { mean, mean_root }
    }

    /// Whether the values are wanted in ascending order.
    pub(crate) fn sorted(self) -> bool {
        self.sorted
    }
}

impl Sample<'_> {
    /// Root mean square, of the values less their mean with `remove_mean`.
    pub(super) fn rms(&self) -> f64 {
        let m = &self.moments;
        (if self.remove_mean { m.m2 } else { m.mean_square }).sqrt()
    }

    /// Greatest absolute value, of the values less their mean with `remove_mean`.
    pub(super) fn peak(&self) -> f64 {
        let m = &self.moments;
        let centre = if self.remove_mean { m.mean } else { 0.0 };
        (m.max - centre).abs().max((m.min - centre).abs())
    }

    /// How many values.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

/// `a / b`, both whole; `None` where `b` is 0.
pub(super) fn share(a: usize, b: usize) -> Option<f64> {
    (b > 0).then(|| number(a) / number(b))
}

/// 1 for true, 0 for false.
pub(super) fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// How many values fulfil `condition`.
pub(super) fn count(values: &[f64], mut condition: impl FnMut(f64) -> bool) -> usize {
    values.iter().map(|&x| usize::from(condition(x))).sum()
}
