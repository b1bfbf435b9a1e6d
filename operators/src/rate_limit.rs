//! Lets through at most one row of a key in so much time.
//!
//! Input   keyed rows
//! Output  the rows that go on, unchanged
//! State   for each key the event time of the last row that went on
//! Late    honours `late: { correct }`; a late row that goes on changes which of those behind it do
//! Errors  none: a row that does not go on is counted as `filtered`
//! Source  `t - t_last >= every`, `t_last` being the event time of the last row that went on
//!
//! The first row of a key goes on. It is not a grid: after a pause the next row goes on at once. For rows at even times
//! use `resample`, for the mean of what is left out `window`.

use arrow::buffer::ScalarBuffer;
use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::{only, positive};
use crate::gate::{Gate, planned};

/// Lets through at most one row of a key in so much time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimitConfig {
    /// How far rows that go on are apart at least: `10s`; a number where the event time is a count.
    pub every: Extent,
}

/// The kind `rate_limit`.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit;

impl OperatorKind for RateLimit {
    type Config = RateLimitConfig;

    const NAME: &'static str = "rate_limit";
    const SUMMARY: &'static str = "lets through at most one row of a key in so much time";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = "calm: { from: readings, rate_limit: { every: 10s } }";

    fn plan(
        config: &RateLimitConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let every = positive("every", config.every, input.domain()).map_err(|e| vec![e])?;
        Ok(planned(input, Pause(every)))
    }
}

#[derive(Debug, Clone, Copy)]
struct Pause(i64);

impl Gate for Pause {
    type State = Option<i64>;

    fn columns(&self) -> &[usize] {
        &[]
    }

    fn passes(&self, last: &mut Option<i64>, time: i64, _: &[ScalarBuffer<f64>], _: usize) -> bool {
        let passes = last.is_none_or(|last| time.saturating_sub(last) >= self.0);
        if passes {
            *last = Some(time);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::{Logical, UtcNanos};
    use serde_json::json;

    use crate::testing::{Table, check, sameness, try_plan};

    #[test]
    fn the_next_row_after_a_pause_goes_on() {
        let input =
            Table::parse(Logical, "m,t,x\na,1,1\na,5,2\na,9,\na,11,4\na,11,5\na,40,6\nb,41,7\n");
        let expected = "m,t,x\na,1,1\na,11,4\na,40,6\nb,41,7\n";
        check("rate_limit", &json!({ "every": 10 }), &input, &Table::parse(Logical, expected));
        let account = sameness("rate_limit", &json!({ "every": 10 }), &input).account;
        assert_eq!((account.used, account.filtered), (4, 3));
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for (seed, every) in [(1, 1), (2, 40)] {
            let input = Table::random(seed, 120, Logical);
            let outcome = sameness("rate_limit", &json!({ "every": every }), &input);
            let times = input.times();
            let mut want = Vec::new();
            for rows in input.by_key().values() {
                let mut last: Option<i64> = None;
                for &row in rows {
                    if last.is_none_or(|last| times[row] - last >= every) {
                        last = Some(times[row]);
                        want.push(row as u64);
                    }
                }
            }
            let mut got: Vec<_> = outcome.rows.iter().map(|r| r.position).collect();
            got.sort_unstable();
            want.sort_unstable();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(UtcNanos, "m,t,x\n").schema;
        let errors = try_plan("rate_limit", &json!({ "every": "0s" }), &input).unwrap_err();
        assert_eq!(errors, ["every: '0s' is not above zero"]);
        let errors = try_plan("rate_limit", &json!({ "every": 5 }), &input).unwrap_err();
        assert_eq!(errors, ["every: '5' has no unit, but the event time is a timestamp"]);
    }
}
