//! The values of a window in ascending order, from those of the window before where the two overlap.
//!
//! Order does not depend on how it was reached: a value is taken out and put in by its bits, so the result has
//! the bits of a sort from scratch.

/// Up to so many values are taken out and put in one by one.
const FEW: usize = 8;

/// The values of the rows `start..end` that are not NaN, in ascending order.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranked {
    sorted: Vec<f64>,
    start: usize,
    end: usize,
}

impl Ranked {
    /// Forgets what it has: the rows are others.
    pub(super) fn clear(&mut self) {
        self.sorted.clear();
        (self.start, self.end) = (0, 0);
    }

    /// The first `n` rows of `channel` are about to be dropped.
    pub(super) fn before_drop(&mut self, channel: &[f64], n: usize) {
        if self.end <= n {
            return self.clear();
        }
        if self.start < n {
            self.change(&channel[self.start..n], &[]);
            self.start = n;
        }
        (self.start, self.end) = (self.start - n, self.end - n);
    }

    /// The values of the rows `start..end` of `channel`.
    pub(super) fn of(&mut self, channel: &[f64], start: usize, end: usize) -> &[f64] {
        let follows = self.start <= start && start < self.end && self.end <= end;
        if follows && (start - self.start) + (end - self.end) < (end - start) / 2 {
            self.change(&channel[self.start..start], &channel[self.end..end]);
        } else {
            self.sorted.clear();
            self.sorted.extend(present(&channel[start..end]));
            self.sorted.sort_unstable_by(f64::total_cmp);
        }
        (self.start, self.end) = (start, end);
        &self.sorted
    }

    fn change(&mut self, out: &[f64], into: &[f64]) {
        if out.len() + into.len() <= FEW {
            for x in present(out) {
                let at = self.place(x);
                self.sorted.remove(at);
            }
            for x in present(into) {
                let at = self.place(x);
                self.sorted.insert(at, x);
            }
        } else {
            self.take_out(out);
            // A sort that is stable finds the two ascending runs and merges them.
            let kept = self.sorted.len();
            self.sorted.extend(present(into));
            self.sorted[kept..].sort_unstable_by(f64::total_cmp);
            self.sorted.sort_by(f64::total_cmp);
        }
    }

    fn take_out(&mut self, out: &[f64]) {
        let mut out: Vec<f64> = present(out).collect();
        out.sort_unstable_by(f64::total_cmp);
        let mut next = out.iter().peekable();
        self.sorted.retain(|x| next.next_if(|o| o.to_bits() == x.to_bits()).is_none());
    }

    /// Where the first value is that is not below `x`.
    fn place(&self, x: f64) -> usize {
        self.sorted.partition_point(|y| y.total_cmp(&x).is_lt())
    }
}

fn present(values: &[f64]) -> impl Iterator<Item = f64> + '_ {
    values.iter().copied().filter(|x| !x.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;

    #[test]
    fn has_the_bits_of_a_sort_from_scratch() {
        let mut dice = Dice::new(5);
        let mut value = || match dice.below(8) {
            0 => f64::NAN,
            1 => -0.0,
            2 => 0.0,
            _ => (dice.unit() * 20.0).round(),
        };
        let mut channel: Vec<f64> = (0..400).map(|_| value()).collect();
        for (length, every) in [(40, 1), (40, 7), (100, 13), (5, 5), (3, 9), (60, 29)] {
            let mut ranked = Ranked::default();
            let mut start = 0;
            while start + length <= channel.len() {
                let got = ranked.of(&channel, start, start + length);
                let mut want: Vec<f64> = present(&channel[start..start + length]).collect();
                want.sort_by(f64::total_cmp);
                let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(got), bits(&want));
                start += every;
                if start > 50 {
                    ranked.before_drop(&channel, 45);
                    channel.drain(..45);
                    start -= 45;
                }
            }
            channel.extend((0..400).map(|i| f64::from(i % 17)));
        }
    }
}
