//! Savitzky-Golay filter: fits a polynomial to the last rows and takes it, or its derivative, at the newest.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by the fit (or joined by it under the name in `as`), `Float64`, in the
//!         column's unit, a derivative in that unit per second for each time it is taken; a null stays null, and
//!         the first `rows - 1` values of a key have no fit
//! State   the last `rows - 1` values of each column that were not null, for each key; at most 1,000
//! Late    honours `late: { correct }`
//! Errors  none: a row that came in goes out
//! Source  Savitzky and Golay 1964; SciPy `savgol_coeffs(rows, order, deriv, delta, pos=rows - 1)`, whose weights for
//!         long windows and high degrees are less precise (2e-4 off for 301 rows and degree 5) than those used here
//!
//! `y = sum_i c_i x_i` with fixed weights `c`: the least-squares polynomial of degree `order` through the last `rows`
//! values at equal steps, or its `derivative`-th derivative, where the newest value is. A polynomial of that degree
//! goes through unchanged, so that a ramp is not late; the price is more noise than in the centred filter,
//! which would have to see the future. The rows are taken for evenly spaced. A null takes no place in
//! the window: rows before and behind it are next to each other.

use std::collections::BTreeMap;

use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::channelwise::{Filter, planned};
use crate::columns::only;
use crate::mistakes::Mistakes;
use crate::per::Span;
use crate::smoothing::Smoothed;

/// Most rows of a window: each of them counts in every result.
const MAX_ROWS: usize = 1_001;

/// The highest degree: above it, sums of powers of this many rows keep few digits.
const MAX_ORDER: usize = 10;

/// Fits a polynomial to the last rows of each column and takes it at the newest.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SavitzkyGolayConfig {
    /// The columns to smooth.
    pub columns: Vec<String>,
    /// The number of values of the window, the current one included; above `order`, at most 1,001. It need not be odd.
    pub rows: usize,
    /// The degree of the polynomial; below `rows`, at most 10; 2 unless given.
    #[serde(default = "parabola")]
    pub order: usize,
    /// Which derivative comes out: 0 for the smoothed value, 1 for its slope and so on; 0 unless given.
    #[serde(default)]
    pub derivative: usize,
    /// The time from row to row, such as `1s`, which a derivative needs.
    #[serde(default)]
    pub every: Option<Extent>,
    /// The window starts anew when the last value is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Names for the results, by column. Left out: the result replaces its column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

fn parabola() -> usize {
    2
}

/// The kind `savitzky_golay`.
#[derive(Debug, Clone, Copy)]
pub struct SavitzkyGolay;

impl OperatorKind for SavitzkyGolay {
    type Config = SavitzkyGolayConfig;

    const NAME: &'static str = "savitzky_golay";
    const SUMMARY: &'static str =
        "smooths columns, or takes their slope, by a polynomial through the last rows";
    const FAMILY: Family = Family::Smoothing;
    const EXAMPLE: &'static str = "slope: { from: readings, savitzky_golay: { columns: [temperature], rows: 31, derivative: 1, every: 1s, as: { temperature: heating } } }";

    fn plan(
        config: &SavitzkyGolayConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut mistakes = Mistakes::default();
        let columns = Span::plan(input, None).map_err(|e| vec![e]).and_then(|span| {
            let unit = |unit: &Unit| (0..config.derivative).fold(unit.clone(), |u, _| span.per(&u));
            Smoothed::in_units(input, &config.columns, &config.rename, unit)
        });
        let columns = mistakes.all(columns);
        let fit = mistakes.all(Fit::plan(config, input));
        let (columns, fit) = mistakes.or(columns.zip(fit))?;
        Ok(planned(input, columns, None, fit))
    }
}

/// A polynomial through the last rows, taken at the newest: a weight for each.
#[derive(Debug)]
struct Fit {
    /// Oldest first. Their sum is 1, or 0 for a derivative.
    weights: Vec<f64>,
    /// 1 where the values are smoothed, 0 where a derivative is taken.
    sum: f64,
    max_gap: Option<i64>,
}

impl Fit {
    fn plan(config: &SavitzkyGolayConfig, input: &Schema) -> Result<Self, Vec<ConfigError>> {
        let SavitzkyGolayConfig { rows, order, derivative, .. } = *config;
        let mut mistakes = Mistakes::default();
        if !(1..=MAX_ROWS).contains(&rows) {
            let error = ConfigError::new("rows", format!("'{rows}' is not a number of rows"));
            mistakes.push(error.help(format!("give a number from 1 to {MAX_ROWS}")));
        }
        if order > MAX_ORDER || order >= rows {
            let what = format!("{rows} rows do not say what a polynomial of degree {order} is");
            let help = format!("make 'order' less than 'rows' and at most {MAX_ORDER}");
            mistakes.push(ConfigError::new("order", what).help(help));
        }
        if derivative > order {
            let what = format!("derivative {derivative} of a polynomial of degree {order} is 0");
            let error = ConfigError::new("derivative", what);
            mistakes.push(error.help("make 'derivative' at most 'order'"));
        }
        if derivative > 0 && config.every.is_none() {
            let error = ConfigError::new("every", "a derivative needs the time from row to row");
            mistakes.push(error.help("add 'every', such as 'every: 1s'"));
        }
        let every = mistakes.length("every", config.every, input.domain());
        let max_gap = mistakes.length("max_gap", config.max_gap, input.domain());
        let span = mistakes.one(Span::plan(input, None));
        let span = mistakes.or(span)?;
        #[expect(clippy::cast_precision_loss, reason = "a step beyond 104 days loses nanoseconds")]
        let step = every.map_or(1.0, |every| every as f64 / span.ticks);
        let sum = if derivative == 0 { 1.0 } else { 0.0 };
        Ok(Fit { weights: weights(rows, order, derivative, step), sum, max_gap })
    }
}

/// The weights, oldest first.
///
/// By polynomials that are orthogonal on the rows, which a recurrence makes one from the other: unlike the normal
/// equations it keeps its digits for long windows. The rows are at -1 to 1 while it runs.
fn weights(rows: usize, order: usize, derivative: usize, step: f64) -> Vec<f64> {
    #[expect(clippy::cast_precision_loss, reason = "at most a thousand rows")]
    let half = (rows - 1).max(1) as f64 / 2.0;
    #[expect(clippy::cast_precision_loss, reason = "at most a thousand rows")]
    let at: Vec<f64> = (0..rows).map(|i| (i as f64 - (rows - 1) as f64 / 2.0) / half).collect();
    let end = at[rows - 1];
    let mut weights = vec![0.0; rows];
    // The last polynomial and the one before on the rows, and their derivatives (0th, 1st, ...) at the newest row.
    let (mut before, mut last) = (vec![0.0; rows], vec![1.0; rows]);
    let (mut before_at_end, mut last_at_end) =
        (vec![0.0; derivative + 1], vec![0.0; derivative + 1]);
    last_at_end[0] = 1.0;
    let mut norm_before = 1.0;
    for _ in 0..=order {
        let norm = last.iter().map(|p| p * p).sum::<f64>();
        for (weight, p) in weights.iter_mut().zip(&last) {
            *weight += p * last_at_end[derivative] / norm;
        }
        let beta = norm / norm_before;
        let next = at.iter().zip(&last).zip(&before).map(|((x, p), q)| x * p - beta * q).collect();
        let next_at_end = derivatives(end, beta, &last_at_end, &before_at_end);
        (before, last) = (last, next);
        (before_at_end, last_at_end) = (last_at_end, next_at_end);
        norm_before = norm;
    }
    let scale = (0..derivative).fold(1.0, |scale, _| scale / (half * step));
    weights.iter().map(|w| w * scale).collect()
}

/// The derivatives of `x p - beta q` at `end`, from those of `p` and `q`.
fn derivatives(end: f64, beta: f64, p: &[f64], q: &[f64]) -> Vec<f64> {
    let mut times = 0.0;
    let each = (0..p.len()).map(|k| {
        let inner = if k == 0 { 0.0 } else { times * p[k - 1] };
        times += 1.0;
        end * p[k] + inner - beta * q[k]
    });
    each.collect()
}

/// The last values of a column, and when the newest was.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Last {
    at: i64,
    values: Vec<f64>,
}

impl Fit {
    /// The fit at the newest value `x` of a window. Differences from it are weighed, not the values, so that a
    /// constant stays what it is and an offset costs no digits.
    fn fit(&self, window: &[f64], x: f64) -> f64 {
        let weighed = window.iter().zip(&self.weights).map(|(v, w)| (v - x) * w);
        self.sum * x + weighed.sum::<f64>()
    }
}

impl Filter for Fit {
    type State = Last;
    const STATE_VERSION: u32 = 1;

    fn filter(&self, times: &[i64], values: &[f64], last: &mut Last, results: &mut Vec<f64>) {
        let rows = self.weights.len();
        for (&at, &x) in times.iter().zip(values) {
            if x.is_nan() {
                results.push(x);
                continue;
            }
            if self.max_gap.is_some_and(|gap| at.saturating_sub(last.at) > gap) {
                last.values.clear();
            }
            last.at = at;
            last.values.push(x);
            let window = last.values.len().checked_sub(rows).map(|from| &last.values[from..]);
            results.push(window.map_or(f64::NAN, |window| self.fit(window, x)));
        }
        let surplus = last.values.len().saturating_sub(rows - 1);
        last.values.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::{Column, TimeDomain, Unit};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, check, plan, sameness, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    #[test]
    fn agrees_with_scipy() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let cases = [
            (json!({ "rows": 7 }), include_str!("../reference/savitzky_golay_7_2.csv")),
            (
                json!({ "rows": 12, "order": 3, "derivative": 1, "every": "500ms" }),
                include_str!("../reference/savitzky_golay_12_3_1.csv"),
            ),
            (
                json!({ "rows": 6, "order": 1, "max_gap": "6s" }),
                include_str!("../reference/savitzky_golay_max_gap.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["columns"] = json!(["x", "y"]);
            check("savitzky_golay", &config, &readings, &utc(expected));
        }
    }

    #[test]
    fn weights_agree_with_rational_numbers() {
        let table = include_str!("../reference/savitzky_golay_weights.csv");
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let [rows, order, derivative] = [0, 1, 2].map(|i| fields[i].parse().unwrap());
            let got = weights(rows, order, derivative, fields[3].parse().unwrap());
            let want: Vec<f64> = fields[4].split(' ').map(|w| w.parse().unwrap()).collect();
            let largest = want.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() <= 1e-9 * largest, "{line}: {got} is not {want}");
            }
            assert_eq!(got.len(), want.len());
        }
    }

    #[test]
    fn a_parabola_goes_through_and_its_slope_is_exact() {
        let rows: String = (0..20).map(|i| format!("a,{i},{}\n", 3 * i * i - 5 * i + 1)).collect();
        let input = Table::parse(TimeDomain::Logical, &format!("m,t,x\n{rows}"));
        let config = json!({ "columns": ["x"], "rows": 5, "as": { "x": "y" } });
        let smooth = sameness("savitzky_golay", &config, &input).numbers("y");
        let config = json!({ "columns": ["x"], "rows": 5, "derivative": 1, "every": 1 });
        let slope = sameness("savitzky_golay", &config, &input).numbers("x");
        for i in 4..20 {
            let t = f64::from(u8::try_from(i).unwrap());
            assert!((smooth[i].unwrap() - (3.0 * t * t - 5.0 * t + 1.0)).abs() < 1e-9);
            assert!((slope[i].unwrap() - (6.0 * t - 5.0)).abs() < 1e-9);
        }
        assert_eq!((&smooth[..4], &slope[..4]), (&[None; 4][..], &[None; 4][..]));
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        let input = Table::random(4, 200, TimeDomain::Logical);
        let config = json!({ "columns": ["x"], "rows": 4, "order": 1, "max_gap": 20 });
        let got = sameness("savitzky_golay", &config, &input);
        let (x, times) = (input.numbers("x"), input.times());
        let mut expected = vec![None; input.len()];
        for rows in input.by_key().values() {
            let mut window: Vec<f64> = Vec::new();
            let mut at = None;
            for &row in rows.iter().filter(|&&row| x[row].is_some()) {
                if at.is_some_and(|at| times[row] - at > 20) {
                    window.clear();
                }
                at = Some(times[row]);
                window.push(x[row].unwrap());
                // A line through four points at its end: (7 d + 4 c + b - 2 a) / 10.
                if let [.., a, b, c, d] = window[..] {
                    expected[row] = Some((7.0 * d + 4.0 * c + b - 2.0 * a) / 10.0);
                }
            }
        }
        for (row, got) in got.rows.iter().zip(got.numbers("x")) {
            let want = expected[usize::try_from(row.position).unwrap()];
            assert_eq!(got.is_some(), want.is_some());
            assert!(got.zip(want).is_none_or(|(a, b)| (a - b).abs() < 1e-9), "{got:?} {want:?}");
        }
    }

    #[test]
    fn a_derivative_is_per_second() {
        let column = Column::new("x", arrow::datatypes::DataType::Float64);
        let mut columns = utc("m,t,x\n").schema.columns().to_vec();
        columns[2] = column.with_unit(Some(Unit::new("degC")));
        let input = Schema::new(columns, &["m"], "t").unwrap();
        let unit = |config: Value| {
            let output = plan("savitzky_golay", &config, &input).output;
            output.column("x").unwrap().unit.clone().unwrap().code().to_owned()
        };
        assert_eq!(unit(json!({ "columns": ["x"], "rows": 5 })), "Cel");
        let config = json!({ "columns": ["x"], "rows": 5, "derivative": 2, "every": "1s" });
        assert_eq!(unit(config), "Cel/s/s");
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["q"], "rows": 3, "order": 3, "derivative": 4, "max_gap": 5 }),
                &[
                    "columns[0]: there is no column 'q'",
                    "order: 3 rows do not say what a polynomial of degree 3 is",
                    "derivative: derivative 4 of a polynomial of degree 3 is 0",
                    "every: a derivative needs the time from row to row",
                    "max_gap: '5' has no unit, but the event time is a timestamp",
                ],
            ),
            (
                json!({ "columns": ["x"], "rows": 2000, "order": 11, "every": "0s" }),
                &[
                    "rows: '2000' is not a number of rows",
                    "order: 2000 rows do not say what a polynomial of degree 11 is",
                    "every: '0s' is not above zero",
                ],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("savitzky_golay", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
