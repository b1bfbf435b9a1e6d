//! Matrix profile, as rows come: how far the shape of the last rows is from the nearest shape before.
//!
//! Input   keyed rows, one after the other in steps of equal time; the columns are `Float64` or `Int64`
//! Output  the same rows with, for each column, `<column>_matrix_profile` (no unit) and `<column>_matrix_profile_lag`
//!         (`Int64`): how many rows ago the nearest shape ended
//! State   the last `history` values of each column of each key, with a mean, a deviation and a product for each
//! Late    honours `late: { correct }`; a late row shifts the shapes of all rows of `history` that follow
//! Errors  none: a row that came in goes out
//! Source  Yeh et al. 2016, as `stumpy.stumpi` has its left profile: the least distance of the last `rows` values from
//!         any `rows` values in a row within `history` that end at least `ceil(rows / 4) + 1` rows earlier, both less
//!         their mean and divided by their deviation; a constant is 0 from a constant, `sqrt(rows)` from all else
//!
//! stumpy takes the distance from a correlation and so has no digits left where two shapes are nearly one; here it is
//! computed from the two shapes. A null, an infinite value and a step longer than `max_gap` break a shape: results are
//! null until there are `rows` values again, and while there is nothing to compare with. A row costs `history` steps.

use std::collections::BTreeMap;

use foreline_engine::{
    ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema, TimeDomain, Unit,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotate::{Added, Detector, Holds, Watched, both, gap, is_gap, planned_each};
use crate::columns::only;

/// Most values that are remembered: each row is compared with all of them.
const MAX_HISTORY: usize = 100_000;

/// Values that are remembered unless `history` says otherwise: a fortnight of one every ten minutes.
const DEFAULT_HISTORY: usize = 2_000;

/// Compares the shape of the last rows with all shapes before.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatrixProfileConfig {
    /// The columns to watch.
    pub columns: Vec<String>,
    /// The number of rows of a shape (m); at least 3.
    pub rows: usize,
    /// How many rows are remembered, at least twice `rows` and at most 100,000; 2,000 unless given.
    #[serde(default = "history")]
    pub history: usize,
    /// A longer step than this breaks a shape, as a null does.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Names that stand in front of the results in place of the column's, by column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

fn history() -> usize {
    DEFAULT_HISTORY
}

/// The kind `matrix_profile`.
#[derive(Debug, Clone, Copy)]
pub struct MatrixProfile;

impl OperatorKind for MatrixProfile {
    type Config = MatrixProfileConfig;

    const NAME: &'static str = "matrix_profile";
    const SUMMARY: &'static str =
        "says how far the shape of the last rows is from all shapes before";
    const FAMILY: Family = Family::Detection;
    const EXAMPLE: &'static str =
        "novel: { from: readings, matrix_profile: { columns: [load], rows: 60, history: 5000 } }";

    fn plan(
        config: &MatrixProfileConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let watched = Watched::plan(input, &config.columns, &config.rename);
        let (watched, shapes) = both(watched, Shapes::plan(config, input.domain()))?;
        planned_each(input, watched, shapes, None)
    }
}

#[derive(Debug, Clone)]
struct Shapes {
    rows: usize,
    history: usize,
    max_gap: Option<i64>,
}

impl Shapes {
    fn plan(config: &MatrixProfileConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let MatrixProfileConfig { rows, history, .. } = *config;
        let mut errors = Vec::new();
        if !(3..=MAX_HISTORY / 2).contains(&rows) {
            let error = ConfigError::new("rows", format!("'{rows}' rows are no shape"));
            errors.push(error.help(format!("give a number from 3 to {}", MAX_HISTORY / 2)));
        } else if !(2 * rows..=MAX_HISTORY).contains(&history) {
            let what = format!("'{history}' rows cannot be remembered");
            let help = format!("give a number from {} to {MAX_HISTORY}", 2 * rows);
            errors.push(ConfigError::new("history", what).help(help));
        }
        let numbers = if errors.is_empty() { Ok(()) } else { Err(errors) };
        let ((), max_gap) = both(numbers, gap(config.max_gap, domain))?;
        Ok(Shapes { rows, history, max_gap })
    }

    /// How many rows a shape must end before another to be compared with it: else it is nearly the same one.
    fn apart(&self) -> usize {
        self.rows.div_ceil(4) + 1
    }
}

/// What is remembered of a column of a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Past {
    at: Option<i64>,
    n_rows: u64,
    /// The first value: all others are taken less it, so that a large offset costs no digits.
    origin: f64,
    /// How many values there are in a row without a null or a gap.
    n_whole: usize,
    /// The last values, 0 where missing.
    values: Vec<f64>,
    /// Mean and deviation of the shape that begins at each value and is whole in `values`; NaN where it is broken.
    moments: Vec<(f64, f64)>,
    /// The product of each of those shapes with the last.
    products: Vec<f64>,
}

impl Detector for Shapes {
    type State = Past;

    const STATE_VERSION: u32 = 1;

    fn adds(&self, _: Option<&Unit>) -> Vec<Added> {
        vec![
            Added::new("matrix_profile", Holds::Number).with_unit(Some(Unit::new("1"))),
            Added::new("matrix_profile_lag", Holds::Whole).with_unit(Some(Unit::new("{count}"))),
        ]
    }

    #[expect(clippy::cast_precision_loss, reason = "a history has fewer than 2^53 rows")]
    fn follow(&self, times: &[i64], values: &[f64], past: &mut Past, out: &mut [Vec<f64>]) {
        let [distance, lag] = out else { return };
        for (&at, &x) in times.iter().zip(values) {
            if is_gap(self.max_gap, past.at, at) {
                past.n_whole = 0;
            }
            past.at = Some(at);
            self.add(x, past);
            let nearest = self.nearest(past);
            distance.push(nearest.map_or(f64::NAN, |(_, d)| d));
            lag.push(nearest.map_or(f64::NAN, |(lag, _)| lag as f64));
        }
    }
}

impl Shapes {
    /// Takes a value in; NaN breaks the shape.
    fn add(&self, x: f64, past: &mut Past) {
        let x = if x.is_finite() { x } else { f64::NAN };
        if past.n_rows == 0 || past.origin.is_nan() {
            past.origin = x;
        }
        past.n_rows += 1;
        past.n_whole = if x.is_nan() { 0 } else { past.n_whole + 1 };
        let x = if x.is_nan() { 0.0 } else { x - past.origin };
        let is_full = past.values.len() == self.history;
        let first = past.values.len().checked_sub(self.rows).map(|i| past.values[i]);
        let gone = past.values.first().copied().filter(|_| is_full);
        if is_full {
            past.values.drain(..1);
            past.moments.drain(..1);
        }
        past.values.push(x);
        if past.values.len() < self.rows {
            return;
        }
        let last = past.values.len() - self.rows;
        let shape = &past.values[last..];
        let broken = past.n_whole < self.rows;
        past.moments.push(if broken { (f64::NAN, f64::NAN) } else { moments(shape) });
        match first {
            // Products that are carried on gather rounding, so they are made anew once in a shape's length.
            Some(first) if !past.n_rows.is_multiple_of(self.rows as u64) => {
                self.carry_on(past, x, first, gone);
            }
            _ => past.products = past.values.windows(self.rows).map(|s| dot(s, shape)).collect(),
        }
    }

    /// The products with the shape that begins one value after the one they were with: `first` leaves it, `x` comes in.
    fn carry_on(&self, past: &mut Past, x: f64, first: f64, gone: Option<f64>) {
        let Past { values, products, .. } = past;
        if gone.is_none() {
            let shape = &values[values.len() - self.rows..];
            products.insert(0, dot(&values[..self.rows], shape));
        }
        let Some((earliest, others)) = products.split_first_mut() else { return };
        // Where a value went, the place of each product is the one it had, and that value leaves the first of them.
        if let Some(gone) = gone {
            *earliest += values[self.rows - 1] * x - gone * first;
        }
        for ((product, left), entered) in
            others.iter_mut().zip(values.iter()).zip(&values[self.rows..])
        {
            *product += entered * x - left * first;
        }
    }

    /// How many rows before the last shape the nearest one is, and how far they are apart.
    #[expect(clippy::cast_precision_loss, reason = "a shape has fewer than 2^53 rows")]
    fn nearest(&self, past: &Past) -> Option<(usize, f64)> {
        let last = past.moments.len().checked_sub(1)?;
        let (mean, std) = past.moments[last];
        let n_others = past.moments.len().checked_sub(self.apart())?;
        if std.is_nan() {
            return None;
        }
        let m = self.rows as f64;
        let mut best: Option<(usize, f64)> = None;
        let others = past.moments[..n_others].iter().zip(&past.products).enumerate();
        for (i, (&(other_mean, other_std), &product)) in others {
            // As a correlation: 1 where they are the same, and for constants so that the distance is as it is agreed.
            let likeness = if std > 0.0 && other_std > 0.0 {
                (product / m - mean * other_mean) / (std * other_std)
            } else if other_std.is_nan() {
                continue;
            } else if std == other_std {
                1.0
            } else {
                0.5
            };
            if best.is_none_or(|(_, least)| likeness > least) {
                best = Some((i, likeness));
            }
        }
        best.map(|(i, _)| (last - i, self.distance(past, i, last)))
    }

    /// The distance of two shapes, each less its mean and by its deviation.
    #[expect(clippy::cast_precision_loss, reason = "a shape has fewer than 2^53 rows")]
    fn distance(&self, past: &Past, i: usize, j: usize) -> f64 {
        let ((mean_i, std_i), (mean_j, std_j)) = (past.moments[i], past.moments[j]);
        if std_i == 0.0 || std_j == 0.0 {
            return if std_i == std_j { 0.0 } else { (self.rows as f64).sqrt() };
        }
        let pairs = past.values[i..i + self.rows].iter().zip(&past.values[j..]);
        let squares = pairs.map(|(a, b)| {
            let off = (a - mean_i) / std_i - (b - mean_j) / std_j;
            off * off
        });
        squares.sum::<f64>().sqrt()
    }
}

/// Mean and deviation (by the number of values) of a shape; the deviation of a constant is 0 to the bit.
#[expect(clippy::cast_precision_loss, reason = "a shape has fewer than 2^53 rows")]
fn moments(shape: &[f64]) -> (f64, f64) {
    let n = shape.len() as f64;
    if shape.iter().all(|x| *x == shape[0]) {
        return (shape[0], 0.0);
    }
    let mean = shape.iter().sum::<f64>() / n;
    let m2 = shape.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
    (mean, (m2 / n).sqrt())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::{Logical, UtcNanos};
    use serde_json::{Value, json};

    use super::{dot, moments};
    use crate::testing::{Table, check, sameness, try_plan};

    #[test]
    fn agrees_with_stumpy() {
        let input = Table::parse(Logical, include_str!("../reference/matrix_profile_input.csv"));
        let cases = [
            (json!({ "rows": 8, "history": 400 }), include_str!("../reference/matrix_profile.csv")),
            (
                json!({ "rows": 10, "history": 40 }),
                include_str!("../reference/matrix_profile_bounded.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["columns"] = json!(["x"]);
            check("matrix_profile", &config, &input, &Table::parse(Logical, expected));
        }
    }

    #[test]
    fn agrees_with_a_search_over_all_pairs() {
        let input = Table::random(2, 150, Logical);
        let config = json!({ "columns": ["x"], "rows": 3, "history": 12, "max_gap": 70 });
        let outcome = sameness("matrix_profile", &config, &input);
        let (x, times) = (input.numbers("x"), input.times());
        let mut expected = vec![None; input.len()];
        for rows in input.by_key().values() {
            let shape = |end: usize| -> Option<Vec<f64>> {
                let rows = &rows[(end + 1).checked_sub(3)?..=end];
                let near = rows.windows(2).all(|r| times[r[1]] - times[r[0]] <= 70);
                rows.iter().map(|&row| x[row].filter(|_| near)).collect()
            };
            for end in 0..rows.len() {
                let first = (end + 1).saturating_sub(12);
                let others = (first + 2..=end.saturating_sub(2)).filter(|&e| e + 2 <= end);
                let distance = |e: usize| Some(apart(&shape(e)?, &shape(end)?));
                expected[rows[end]] = others.filter_map(distance).min_by(f64::total_cmp);
            }
        }
        for row in &outcome.rows {
            let want: Option<f64> = expected[usize::try_from(row.position).unwrap()];
            let got = row.cells[5].number();
            assert_eq!(got.is_some(), want.is_some(), "row {}", row.position);
            assert!(got.zip(want).is_none_or(|(a, b)| (a - b).abs() < 1e-9), "{got:?} {want:?}");
        }
    }

    fn apart(a: &[f64], b: &[f64]) -> f64 {
        let ((mean_a, std_a), (mean_b, std_b)) = (moments(a), moments(b));
        let a: Vec<f64> = a.iter().map(|x| (x - mean_a) / std_a).collect();
        let b: Vec<f64> = b.iter().map(|x| (x - mean_b) / std_b).collect();
        (dot(&a, &a) + dot(&b, &b) - 2.0 * dot(&a, &b)).max(0.0).sqrt()
    }

    #[test]
    fn a_shape_that_comes_again_is_at_no_distance_whatever_its_offset() {
        let shape = [0.0, 1.0, 4.0, 2.0];
        let rows = (0..60).map(|t| format!("a,{t},{}\n", 1e9 + shape[t % 4]));
        let input = Table::parse(Logical, &format!("m,t,x\n{}", rows.collect::<String>()));
        let config = json!({ "columns": ["x"], "rows": 4, "history": 24 });
        let outcome = sameness("matrix_profile", &config, &input);
        let distance = outcome.numbers("x_matrix_profile");
        assert_eq!(distance[59], Some(0.0));
        assert_eq!(distance[..5], [None; 5]);
    }

    #[test]
    fn constants_are_like_one_another_and_like_nothing_else() {
        let input =
            Table::parse(Logical, "m,t,x\na,0,1\na,1,1\na,2,1\na,3,1\na,4,1\na,5,2\na,6,3\n");
        let config = json!({ "columns": ["x"], "rows": 3, "history": 10 });
        let outcome = sameness("matrix_profile", &config, &input);
        let distance = outcome.numbers("x_matrix_profile");
        assert_eq!(distance[..5], [None, None, None, None, Some(0.0)]);
        assert_eq!(distance[5], Some(3.0_f64.sqrt()));
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(UtcNanos, "m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["z"], "rows": 2, "max_gap": "0s" }),
                &[
                    "columns[0]: there is no column 'z'",
                    "rows: '2' rows are no shape",
                    "max_gap: '0s' is not above zero",
                ],
            ),
            (
                json!({ "columns": ["x"], "rows": 20, "history": 30 }),
                &["history: '30' rows cannot be remembered"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("matrix_profile", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
