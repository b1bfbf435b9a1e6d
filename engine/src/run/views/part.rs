//! What is known of a part of a group, such that parts can be put together.
//!
//! A sum is kept exactly, as numbers of which none overlaps another (Shewchuk, 1997), and rounded once at the end. So it
//! does not depend on how the rows were put together, and a row that leaves takes with it all that it brought.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::relation::{Function, Row};

/// What is known of the values of a column in a part of a group, nulls left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Part {
    /// How many.
    Count(i64),
    /// How many, and their sum.
    Sum(i64, Exact),
    /// The least or greatest.
    Extreme(Option<Row>),
    /// Each value, and how often it is there; sorted.
    Bag(Vec<(Row, i64)>),
}

/// A sum: numbers that do not overlap, as bits, from the least up; and what was not finite.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Exact {
    terms: Vec<u64>,
    odd: u64,
}

impl Exact {
    pub(super) fn of(x: f64) -> Self {
        let mut sum = Exact::default();
        sum.add(x);
        sum
    }

    fn add(&mut self, mut x: f64) {
        if !x.is_finite() {
            self.odd = (f64::from_bits(self.odd) + x).to_bits();
            return;
        }
        let mut terms = Vec::with_capacity(self.terms.len() + 1);
        for &term in &self.terms {
            let mut y = f64::from_bits(term);
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let high = x + y;
            let low = y - (high - x);
            if low != 0.0 {
                terms.push(low.to_bits());
            }
            x = high;
        }
        if x != 0.0 {
            terms.push(x.to_bits());
        }
        self.terms = terms;
    }

    /// The number that is nearest to the sum.
    pub(super) fn rounded(&self) -> f64 {
        let mut terms = self.terms.iter().rev().map(|&bits| f64::from_bits(bits)).peekable();
        let mut high = terms.next().unwrap_or(0.0);
        let mut low = 0.0;
        for term in terms.by_ref() {
            let x = high;
            high = x + term;
            low = term - (high - x);
            if low != 0.0 {
                break;
            }
        }
        // Half way between two numbers: what is left over says to which.
        if let Some(next) = terms.next()
            && ((low < 0.0 && next < 0.0) || (low > 0.0 && next > 0.0))
        {
            let twice = low * 2.0;
            let other = high + twice;
            if twice == other - high {
                high = other;
            }
        }
        high + f64::from_bits(self.odd)
    }
}

impl Part {
    /// Puts `n` times `other` to this.
    fn add(&mut self, other: &Part, n: i64, function: Function) {
        match (self, other) {
            (Part::Count(sum), Part::Count(more)) => *sum += more * n,
            (Part::Sum(count, sum), Part::Sum(more, terms)) => {
                *count += more * n;
                for _ in 0..n {
                    terms.terms.iter().for_each(|&bits| sum.add(f64::from_bits(bits)));
                    if terms.odd != 0 {
                        sum.add(f64::from_bits(terms.odd));
                    }
                }
            }
            (Part::Extreme(best), Part::Extreme(Some(value))) => {
                let wanted = match function {
                    Function::Max => Ordering::Greater,
                    _ => Ordering::Less,
                };
                if best.as_ref().is_none_or(|best| value.cmp(best) == wanted) {
                    *best = Some(value.clone());
                }
            }
            (Part::Bag(values), Part::Bag(more)) => *values = merged(values, more, n),
            _ => {}
        }
    }
}

/// Two sorted bags as one, the second taken `n` times.
fn merged(one: &[(Row, i64)], other: &[(Row, i64)], n: i64) -> Vec<(Row, i64)> {
    let mut all = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    loop {
        let order = match (one.peek(), other.peek()) {
            (None, None) => return all,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        match order {
            Ordering::Less => all.extend(one.next().cloned()),
            Ordering::Greater => all.extend(other.next().map(|(row, m)| (row.clone(), m * n))),
            Ordering::Equal => {
                let (a, b) = (one.next(), other.next().map_or(0, |(_, m)| m * n));
                all.extend(a.map(|(row, m)| (row.clone(), m + b)));
            }
        }
    }
}

/// Parts of several rows or groups of rows as one.
pub(super) fn together(parts: &[(&Vec<Part>, isize)], functions: &[Function]) -> Vec<Part> {
    let Some(((first, n), rest)) = parts.split_first() else { return Vec::new() };
    let mut all: Vec<Part> = (*first).clone();
    let count = |n: isize| i64::try_from(n).unwrap_or(i64::MAX);
    for ((part, one), function) in all.iter_mut().zip(first.iter()).zip(functions) {
        part.add(one, count(*n) - 1, *function);
    }
    for (parts, n) in rest {
        for ((part, other), function) in all.iter_mut().zip(parts.iter()).zip(functions) {
            part.add(other, count(*n), *function);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
        let mut sum = Exact::default();
        values.into_iter().for_each(|x| sum.add(x));
        sum.rounded()
    }

    #[test]
    fn sums_are_rounded_once() {
        // The values of Python's math.fsum.
        assert_eq!(sum([0.1; 10]), 1.0);
        assert_eq!(sum([1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum([1e16, 1.0, 1e-16]), 10_000_000_000_000_002.0);
        assert_eq!(sum([f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(sum([f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert_eq!(sum([]), 0.0);
    }

    proptest! {
        #[test]
        fn the_order_of_rows_does_not_show(
            mut values in prop::collection::vec(-1e12..1e12_f64, 0..40),
            cut in 0_usize..40,
        ) {
            let whole = sum(values.iter().copied());
            values.reverse();
            prop_assert_eq!(sum(values.iter().copied()).to_bits(), whole.to_bits());
            let (a, b) = values.split_at(cut.min(values.len()));
            let part = |x: &[f64]| {
                let mut sum = Exact::default();
                x.iter().for_each(|&x| sum.add(x));
                vec![Part::Sum(x.len() as i64, sum)]
            };
            let (a, b) = (part(a), part(b));
            let both = together(&[(&a, 1), (&b, 1)], &[Function::Sum]);
            let Part::Sum(n, both) = &both[0] else { unreachable!() };
            prop_assert_eq!((*n, both.rounded().to_bits()), (values.len() as i64, whole.to_bits()));
        }

        #[test]
        fn a_value_that_is_there_several_times_counts_as_often(x in -1e6..1e6_f64, n in 1_isize..9) {
            let one = vec![Part::Count(1), Part::Sum(1, Exact::of(x)), Part::Bag(vec![(Row::default(), 1)])];
            let functions = [Function::Count, Function::Sum, Function::Distinct];
            let many: Vec<_> = (0..n).map(|_| (&one, 1)).collect();
            prop_assert_eq!(together(&[(&one, n)], &functions), together(&many, &functions));
        }
    }
}
