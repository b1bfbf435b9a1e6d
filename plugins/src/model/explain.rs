//! What each feature added to a score, as columns or as a text.
//!
//! The plugin does the counting: with the option `explain` its descriptor has `<output>_base` and, for every feature,
//! `<output>_by_<feature>` beside the outputs. The host only finds them by these names, so a plugin of any family can
//! explain itself, and writes the largest as a text where that is what is wanted.

use std::fmt::Write as _;

use arrow::array::StringArray;
use foreline_sdk::explain::{base_name, contribution_name};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::sandbox::Descriptor;

/// Digits of a contribution in the text: a reader compares it with its neighbours, the columns have all digits.
const DIGITS: i32 = 3;

/// How scores are explained: `contributions`, or `{ top: 3 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExplainConfig {
    /// A column `<output>_base` and for every feature `<output>_by_<feature>`; they sum to the score before its link.
    Contributions,
    /// One column of text, `<output>_because`, with this many of the largest contributions.
    Top(#[schemars(range(min = 1, max = 100))] u32),
}

/// Where the explanation of an output stands among the plugin's outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    /// The output that is explained.
    pub(super) output: usize,
    /// What all features start from.
    pub(super) base: usize,
    /// What each feature adds.
    pub(super) by: Vec<usize>,
}

impl Parts {
    /// The explanations that a plugin gives: every output for which all columns are there.
    pub(super) fn of(d: &Descriptor) -> Vec<Parts> {
        let find = |name: String| d.outputs.iter().position(|o| o.name == name);
        let of = |(output, name): (usize, &String)| {
            let by = d.features.iter().map(|f| find(contribution_name(name, &f.name)));
            Some(Parts { output, base: find(base_name(name))?, by: by.collect::<Option<_>>()? })
        };
        d.outputs.iter().map(|o| &o.name).enumerate().filter_map(of).collect()
    }

    /// Whether an output is a part of this explanation.
    pub(super) fn has(&self, output: usize) -> bool {
        self.base == output || self.by.contains(&output)
    }
}

/// The largest contributions of every row as a text: `vibration +12.3, load -4.1`. Null where there is no score, or no
/// feature adds anything. Of two that are equally large the first feature comes first.
pub(super) fn because(
    matrix: &[f64],
    n_outputs: usize,
    parts: &Parts,
    names: &[String],
    top: usize,
) -> StringArray {
    let text = |row: &[f64]| {
        let mut largest: Vec<(f64, &String)> =
            parts.by.iter().map(|&at| row[at]).zip(names).collect();
        largest.retain(|(value, _)| value.is_finite() && *value != 0.0);
        largest.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
        let mut text = String::new();
        for (value, name) in largest.into_iter().take(top) {
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{name} {}", short(value));
        }
        (!text.is_empty()).then_some(text)
    };
    matrix.chunks_exact(n_outputs).map(text).collect()
}

/// A number with its sign and three digits.
fn short(value: f64) -> String {
    let written = format!("{value:+.*e}", (DIGITS - 1) as usize);
    let exponent = written.split_once('e').and_then(|(_, e)| e.parse::<i32>().ok()).unwrap_or(0);
    // Beyond these a reader counts zeros.
    if !(-4..=8).contains(&exponent) {
        return written;
    }
    let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
    format!("{value:+.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;

    #[test]
    fn numbers_are_short() {
        let shown = [12.3456, -4.1, 0.001_234, 123_456.7, -9.999, 1e-9, 2.5e12].map(short);
        assert_eq!(shown[..4], ["+12.3", "-4.10", "+0.00123", "+123457"]);
        assert_eq!(shown[4..], ["-10.0", "+1.00e-9", "+2.50e12"]);
    }

    #[test]
    fn the_largest_come_first_and_nothing_is_null() {
        let parts = Parts { output: 0, base: 1, by: vec![2, 3, 4] };
        let names = ["a", "b", "c"].map(str::to_owned);
        let nan = f64::NAN;
        let matrix = [9.0, 1.0, 2.0, -5.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0, nan, nan, nan, nan, nan];
        let column = because(&matrix, 5, &parts, &names, 2);
        assert_eq!(column.value(0), "b -5.00, a +2.00");
        assert_eq!((column.is_null(1), column.is_null(2)), (true, true));
    }
}
