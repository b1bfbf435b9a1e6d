//! For how long values have been within a distance of one another.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Most values that are kept at either end of a run. A run needs a value only until a later one lies further out, so
/// these are few: the levels of a sensor that has steps, some ten of one that has noise.
const MAX_EXTREMES: usize = 1_000;

/// A value of the run that may yet be its least or its greatest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Extreme {
    number: u64,
    value: f64,
    /// The time of the value after it, where the run begins once this one has left it.
    next: i64,
}

/// The longest run of values up to the last that are all within `eps` of one another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    n: u64,
    since: i64,
    /// Candidates for the greatest value, falling, and for the least, rising; both in the order of their coming.
    greatest: VecDeque<Extreme>,
    least: VecDeque<Extreme>,
}

impl Run {
    /// Takes a value in and says since when the run lasts.
    pub(super) fn since(&mut self, at: i64, x: f64, eps: f64) -> i64 {
        for ends in [&mut self.greatest, &mut self.least] {
            if let Some(last) = ends.back_mut() {
                last.next = at;
            }
        }
        if self.greatest.is_empty() {
            self.since = at;
        }
        self.n += 1;
        let new = Extreme { number: self.n, value: x, next: at };
        while self.greatest.pop_back_if(|e| e.value <= x).is_some() {}
        while self.least.pop_back_if(|e| e.value >= x).is_some() {}
        self.greatest.push_back(new);
        self.least.push_back(new);
        while self.is_too_wide(eps) {
            self.shorten();
        }
        self.since
    }

    fn is_too_wide(&self, eps: f64) -> bool {
        let wide = match (self.greatest.front(), self.least.front()) {
            (Some(hi), Some(lo)) => hi.value - lo.value > eps,
            _ => false,
        };
        wide || self.greatest.len() > MAX_EXTREMES || self.least.len() > MAX_EXTREMES
    }

    /// Has the run begin after the older one of its least and greatest value.
    fn shorten(&mut self) {
        let number = |ends: &VecDeque<Extreme>| ends.front().map_or(u64::MAX, |e| e.number);
        let older = if number(&self.greatest) < number(&self.least) {
            &mut self.greatest
        } else {
            &mut self.least
        };
        if let Some(gone) = older.pop_front() {
            self.since = gone.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;

    #[test]
    fn a_run_begins_after_the_last_value_that_is_too_far_off() {
        let mut run = Run::default();
        let since: Vec<i64> = [0.0, 1.0, 1.0, 2.0, 1.5, 2.5, 2.5]
            .iter()
            .zip(0..)
            .map(|(&x, at)| run.since(at, x, 1.0))
            .collect();
        assert_eq!(since, [0, 0, 0, 1, 1, 3, 3]);
    }

    #[test]
    fn agrees_with_a_search_from_the_end() {
        let mut dice = Dice::new(3);
        for eps in [0.0, 0.5, 2.0] {
            let values: Vec<f64> = (0..400).map(|_| (dice.unit() * 3.0).round()).collect();
            let mut run = Run::default();
            for (i, &x) in values.iter().enumerate() {
                let at = i64::try_from(i).unwrap() * 10;
                let range = |from: usize| {
                    let part = &values[from..=i];
                    part.iter().fold(f64::MIN, |a, &b| a.max(b))
                        - part.iter().fold(f64::MAX, |a, &b| a.min(b))
                };
                let first = (0..=i).find(|&from| range(from) <= eps).unwrap();
                assert_eq!(run.since(at, x, eps), i64::try_from(first).unwrap() * 10);
            }
        }
    }

    #[test]
    fn a_slow_ramp_is_bounded() {
        let mut run = Run::default();
        for i in 0..2_500_i32 {
            run.since(i64::from(i), f64::from(i), 1e9);
        }
        assert_eq!(run.least.len(), MAX_EXTREMES);
        assert_eq!(run.since, 1_500);
    }
}
