//! How several values become one, where a parameter `f_agg` says so.
//!
//! By NumPy's names: `var` and `std` divide by the number of values.

use super::order::quantile;
use super::{Args, Param, ParamKind};
use crate::moments::{Central, Moments};

/// `f_agg`: the mean unless given.
pub(super) const F_AGG: Param =
    Param::or("f_agg", ParamKind::Choice(WORDS), 0.0, "how several values become one");

const WORDS: &[&str] = &["mean", "var", "std", "median", "max", "min"];
const EACH: &[Aggregate] = &[
    Aggregate::Mean,
    Aggregate::Var,
    Aggregate::Std,
    Aggregate::Median,
    Aggregate::Max,
    Aggregate::Min,
];

/// How several values become one, in the order of the words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Mean,
    Var,
    Std,
    Median,
    Max,
    Min,
}

impl Aggregate {
    /// The one that the parameter at `index` names.
    pub(super) fn told(args: &Args, index: usize) -> Self {
        EACH[args.whole(index)]
    }

    /// Whether its unit is that of the values squared.
    pub(super) fn squares(self) -> bool {
        self == Aggregate::Var
    }

    /// The one value of `values`, of which there is one at least.
    pub(super) fn of(self, values: &[f64]) -> f64 {
        let moments = |central| Moments::of(values, central);
        match self {
            Aggregate::Mean => moments(Central::Unwanted).mean,
            Aggregate::Var => moments(Central::Wanted).m2,
            Aggregate::Std => moments(Central::Wanted).m2.sqrt(),
            Aggregate::Median => {
                let mut sorted = values.to_vec();
                sorted.sort_by(f64::total_cmp);
                quantile(&sorted, 0.5)
            }
            Aggregate::Max => moments(Central::Unwanted).max,
            Aggregate::Min => moments(Central::Unwanted).min,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_ways_are_in_one_order() {
        let values = [4.0, 0.0, 1.0, 3.0];
        let known = [2.0, 2.5, 2.5_f64.sqrt(), 2.0, 4.0, 0.0];
        assert_eq!(EACH.iter().map(|each| each.of(&values)).collect::<Vec<_>>(), known);
        let words: Vec<_> = EACH.iter().map(|each| format!("{each:?}").to_lowercase()).collect();
        assert_eq!(words, WORDS);
    }
}
