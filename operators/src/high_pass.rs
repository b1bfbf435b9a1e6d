//! High-pass filter: takes out what is slower than a cutoff (Butterworth).
//!
//! Input   keyed rows at regular times; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by what is left of it (or joined by it under the name in `as`),
//!         `Float64`, in the column's unit; a null stays null
//! State   two numbers for each of `order / 2` sections and the event time of the last value, for each column and key
//! Late    honours `late: { correct }`; a late row changes every result of its key that follows
//! Errors  none: a row that came in goes out
//! Source  SciPy `butter(order, cutoff_hz, 'highpass', fs=1 / every, output='sos')` and `sosfilt`, with
//!         `zi = sosfilt_zi(sos) * x[0]` for `start: settled`
//!
//! A value at the cutoff comes through with 0.707 of its size, faster ones nearly as they are, slower ones with
//! `order * 20` dB less for each tenth of the frequency: a drift or an offset goes. With `start: settled` the first value
//! is taken for what had always been there, so that the output begins at 0; with `start: zero` it begins with a jump.
//!
//! Rows are taken for `every` apart, whatever their times say; a null or a missing row is as if its time had not been.
//! Where the last value is longer ago than `max_gap`, the filter begins anew. Bring rows of other times onto a grid
//! before.

use std::collections::BTreeMap;

use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::biquad::{Butterworth, Common, Pass, Start};
use crate::channelwise::planned;
use crate::columns::only;
use crate::mistakes::Mistakes;
use crate::smoothing::Smoothed;

/// Takes what is slower than a cutoff out of columns by a Butterworth filter.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HighPassConfig {
    /// The columns to filter.
    pub columns: Vec<String>,
    /// The cutoff in Hz, or in cycles per count: below half the rate, and at least 1/100,000 of it.
    pub cutoff_hz: f64,
    /// The time from row to row, such as `10ms`: the rate is one by it.
    pub every: Extent,
    /// How steep it is: from 1 to 10, 2 unless given.
    #[serde(default = "two")]
    pub order: usize,
    /// What had been before the first value: `settled` unless given.
    #[serde(default)]
    pub start: Start,
    /// The filter begins anew when the last value is longer ago than this; ten times `every` unless given.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Names for the results, by column. Left out: the result replaces its column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

fn two() -> usize {
    2
}

/// The kind `high_pass`.
#[derive(Debug, Clone, Copy)]
pub struct HighPass;

impl OperatorKind for HighPass {
    type Config = HighPassConfig;

    const NAME: &'static str = "high_pass";
    const SUMMARY: &'static str = "takes out of columns what is slower than a cutoff";
    const FAMILY: Family = Family::Smoothing;
    const EXAMPLE: &'static str = "quick: { from: readings, high_pass: { columns: [vibration], cutoff_hz: 0.01, every: 1s } }";

    fn plan(
        config: &HighPassConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let HighPassConfig { order, every, start, max_gap, .. } = *config;
        let pass = Pass::High(("cutoff_hz", config.cutoff_hz));
        let common = Common { order, every, start, max_gap };
        let mut mistakes = Mistakes::default();
        let columns = mistakes.all(Smoothed::plan(input, &config.columns, &config.rename));
        let filter = mistakes.all(Butterworth::plan(pass, common, input.domain()));
        let (columns, filter) = mistakes.or(columns.zip(filter))?;
        Ok(planned(input, columns, None, filter))
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain;
    use serde_json::{Value, json};

    use crate::testing::{Table, check, sameness, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    #[test]
    fn agrees_with_scipy() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let cases = [
            (
                json!({ "cutoff_hz": 0.05, "order": 4, "max_gap": "10h", "columns": ["x", "y"] }),
                include_str!("../reference/high_pass_4.csv"),
            ),
            (
                json!({ "cutoff_hz": 0.11, "order": 3, "start": "zero", "max_gap": "6s", "columns": ["x"] }),
                include_str!("../reference/high_pass_3_zero.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["every"] = json!("1s");
            check("high_pass", &config, &readings, &utc(expected));
        }
    }

    #[test]
    fn the_first_order_agrees_with_its_equation_on_random_rows() {
        let input = Table::random(6, 200, TimeDomain::Logical);
        let config =
            json!({ "columns": ["x"], "cutoff_hz": 0.15, "every": 1, "order": 1, "max_gap": 30 });
        let outcome = sameness("high_pass", &config, &input);
        let (values, times) = (input.numbers("x"), input.times());
        let mut expected = vec![None; input.len()];
        let k = (std::f64::consts::PI * 0.15).tan();
        for rows in input.by_key().values() {
            let mut past: Option<(i64, [f64; 2])> = None;
            for &row in rows {
                let Some(x) = values[row] else { continue };
                let y0 = 0.0;
                let (_, [x1, y1]) = past.filter(|p| times[row] - p.0 <= 30).unwrap_or((0, [x, y0]));
                let y = (x - x1 + (1.0 - k) * y1) / (1.0 + k);
                past = Some((times[row], [x, y]));
                expected[row] = Some(y);
            }
        }
        for (row, got) in outcome.rows.iter().zip(outcome.numbers("x")) {
            let want = expected[usize::try_from(row.position).unwrap()];
            assert_eq!(got.is_some(), want.is_some());
            assert!(got.zip(want).is_none_or(|(a, b)| (a - b).abs() < 1e-9), "{got:?} {want:?}");
        }
    }

    #[test]
    fn ties_in_time_and_a_name_in_as() {
        let input = utc("m,t,x\na,0,4\na,0,4\na,1,\na,2000000000,4\n");
        let config =
            json!({ "columns": ["x"], "cutoff_hz": 0.15, "every": "1s", "as": { "x": "y" } });
        let got = sameness("high_pass", &config, &input);
        let still = 0.0;
        for (got, there) in got.numbers("y").iter().zip([true, true, false, true]) {
            assert_eq!(got.is_some(), there);
            assert!(got.is_none_or(|y| (y - still).abs() < 1e-12), "{got:?}");
        }
        assert_eq!(got.numbers("x"), [Some(4.0), Some(4.0), None, Some(4.0)]);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "columns": ["q"], "cutoff_hz": 0.5, "every": "1s", "order": 11 }),
                &[
                    "columns[0]: there is no column 'q'",
                    "order: '11' is not an order",
                    "cutoff_hz: '0.5' is not below 0.5 Hz, half the rate that 'every' says: rows so far apart cannot hold it",
                ],
            ),
            (
                json!({ "columns": ["x"], "cutoff_hz": 0, "every": "0s", "max_gap": 4 }),
                &[
                    "every: '0s' is not above zero",
                    "max_gap: '4' has no unit, but the event time is a timestamp",
                    "cutoff_hz: '0' is not a frequency",
                ],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("high_pass", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
