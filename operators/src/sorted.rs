//! The values of a window in order of size, for its median and for how far its values are from it.
//!
//! A value goes in and out by a search and a move of what is above it: that is a few nanoseconds for windows of
//! hundreds of rows, where two heaps would gain nothing and a sum could be off by rounding. Which values are there
//! decides alone what comes out.

/// Values, least first; none is NaN.
#[derive(Debug, Default)]
pub(crate) struct Sorted(Vec<f64>);

impl Sorted {
    /// How many values.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts a value in.
    pub(crate) fn insert(&mut self, value: f64) {
        let place = self.0.partition_point(|v| v.total_cmp(&value).is_lt());
        self.0.insert(place, value);
    }

    /// Takes a value out that is there.
    pub(crate) fn remove(&mut self, value: f64) {
        let place = self.0.partition_point(|v| v.total_cmp(&value).is_lt());
        self.0.remove(place);
    }

    /// The middle value, or the mean of the two in the middle; NaN where there is none.
    pub(crate) fn median(&self) -> f64 {
        let values = &self.0;
        let middle = values.len() / 2;
        match values.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => values[middle],
            _ => values[middle - 1].midpoint(values[middle]),
        }
    }

    /// The median of `|v - centre|`, where `centre` is the median; NaN where there is no value.
    pub(crate) fn median_distance(&self, centre: f64) -> f64 {
        let n = self.0.len();
        match n {
            0 => f64::NAN,
            n if n % 2 == 1 => self.distance(centre, n / 2),
            _ => self.distance(centre, n / 2 - 1).midpoint(self.distance(centre, n / 2)),
        }
    }

    /// The distance from `centre` that `rank` others are at most as long as.
    ///
    /// Away from the centre distances grow on both sides, so that a search finds how many of the `rank` shortest are
    /// below it; a distance for every value, and their order, are not needed.
    fn distance(&self, centre: f64, rank: usize) -> f64 {
        let values = &self.0;
        let n_below = values.partition_point(|&v| v < centre);
        let n_above = values.len() - n_below;
        let below = |i: usize| centre - values[n_below - 1 - i];
        let above = |i: usize| values[n_below + i] - centre;
        let (mut least, mut most) = (rank.saturating_sub(n_above), rank.min(n_below));
        while least < most {
            let i = usize::midpoint(least, most);
            if below(i) < above(rank - 1 - i) { least = i + 1 } else { most = i }
        }
        let next_below = if least < n_below { below(least) } else { f64::INFINITY };
        let next_above = if rank - least < n_above { above(rank - least) } else { f64::INFINITY };
        next_below.min(next_above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;

    fn naive(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        if n % 2 == 1 { values[n / 2] } else { (values[n / 2 - 1] + values[n / 2]) / 2.0 }
    }

    #[test]
    fn medians_are_those_of_a_sort() {
        let mut dice = Dice::new(3);
        let (mut sorted, mut window) = (Sorted::default(), Vec::new());
        for step in 0..600_usize {
            // Few distinct values, so that there are ties.
            let value = (dice.unit() * 6.0).round() / 4.0;
            sorted.insert(value);
            window.push(value);
            if window.len() > 1 + step % 17 {
                sorted.remove(window.remove(0));
            }
            let median = naive(window.clone());
            assert_eq!(sorted.median(), median);
            let distances = window.iter().map(|v| (v - median).abs()).collect();
            assert_eq!(sorted.median_distance(median), naive(distances), "{window:?}");
        }
    }

    #[test]
    fn nothing_has_no_median() {
        let empty = Sorted::default();
        assert!(empty.median().is_nan() && empty.median_distance(f64::NAN).is_nan());
    }
}
