//! Band-pass filter: keeps what is between two cutoffs (Butterworth).
//!
//! Input   keyed rows at regular times; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by what is left of it (or joined by it under the name in `as`),
//!         `Float64`, in the column's unit; a null stays null
//! State   two numbers for each of `order` sections and the event time of the last value, for each column and key
//! Late    honours `late: { correct }`; a late row changes every result of its key that follows
//! Errors  none: a row that came in goes out
//! Source  SciPy `butter(order, [low_hz, high_hz], 'bandpass', fs=1 / every, output='sos')` and `sosfilt`, with
//!         `zi = sosfilt_zi(sos) * x[0]` for `start: settled`
//!
//! A value at either cutoff comes through with 0.707 of its size, those between them nearly as they are. As in SciPy,
//! `order` is that of each edge, so that there are `order` sections. With `start: settled` the first value is taken for
//! what had always been there, so that the output begins at 0; with `start: zero` it begins with a jump.
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

/// Takes what is slower or faster than a band out of columns by a Butterworth filter.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BandPassConfig {
    /// The columns to filter.
    pub columns: Vec<String>,
    /// The lower cutoff in Hz, or in cycles per count: at least 1/100,000 of the rate.
    pub low_hz: f64,
    /// The upper cutoff in Hz, or in cycles per count: above `low_hz` and below half the rate.
    pub high_hz: f64,
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

/// The kind `band_pass`.
#[derive(Debug, Clone, Copy)]
pub struct BandPass;

impl OperatorKind for BandPass {
    type Config = BandPassConfig;

    const NAME: &'static str = "band_pass";
    const SUMMARY: &'static str = "keeps of columns what is between two cutoffs";
    const FAMILY: Family = Family::Smoothing;
    const EXAMPLE: &'static str = "swing: { from: readings, band_pass: { columns: [vibration], low_hz: 0.02, high_hz: 0.2, every: 1s } }";

    fn plan(
        config: &BandPassConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let BandPassConfig { order, every, start, max_gap, .. } = *config;
        let pass = Pass::Band(("low_hz", config.low_hz), ("high_hz", config.high_hz));
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
                json!({ "low_hz": 0.04, "high_hz": 0.1, "order": 2, "max_gap": "10h", "columns": ["x", "y"] }),
                include_str!("../reference/band_pass_2.csv"),
            ),
            (
                json!({ "low_hz": 0.002, "high_hz": 0.2, "order": 3, "start": "zero", "max_gap": "6s", "columns": ["x"] }),
                include_str!("../reference/band_pass_3_zero.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["every"] = json!("1s");
            check("band_pass", &config, &readings, &utc(expected));
        }
    }

    #[test]
    fn the_first_order_agrees_with_its_equation_on_random_rows() {
        let input = Table::random(6, 200, TimeDomain::Logical);
        let config = json!({ "columns": ["x"], "low_hz": 0.05, "high_hz": 0.2, "every": 1, "order": 1, "max_gap": 30 });
        let outcome = sameness("band_pass", &config, &input);
        let (values, times) = (input.numbers("x"), input.times());
        let mut expected = vec![None; input.len()];
        let [low, high] = [0.05, 0.2].map(|f: f64| (std::f64::consts::PI * f).tan());
        let (k, w) = (high - low, high * low);
        for rows in input.by_key().values() {
            let mut past: Option<(i64, [f64; 4])> = None;
            for &row in rows {
                let Some(x) = values[row] else { continue };
                let y0 = 0.0;
                let (_, [x1, x2, y1, y2]) =
                    past.filter(|p| times[row] - p.0 <= 30).unwrap_or((0, [x, x, y0, y0]));
                let y = (k * (x - x2) + 2.0 * (1.0 - w) * y1 - (1.0 + w - k) * y2) / (1.0 + w + k);
                past = Some((times[row], [x, x1, y, y1]));
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
        let config = json!({ "columns": ["x"], "low_hz": 0.05, "high_hz": 0.2, "every": "1s", "as": { "x": "y" } });
        let got = sameness("band_pass", &config, &input);
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
                json!({ "columns": ["q"], "low_hz": -1, "high_hz": 0.5, "every": "1s", "order": 0 }),
                &[
                    "columns[0]: there is no column 'q'",
                    "order: '0' is not an order",
                    "low_hz: '-1' is not a frequency",
                    "high_hz: '0.5' is not below 0.5 Hz, half the rate that 'every' says: rows so far apart cannot hold it",
                ],
            ),
            (
                json!({ "columns": ["x"], "low_hz": 0.3, "high_hz": 0.2, "every": "1s", "max_gap": 4 }),
                &[
                    "max_gap: '4' has no unit, but the event time is a timestamp",
                    "high_hz: '0.2' is not above the lower cutoff, '0.3'",
                ],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("band_pass", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
