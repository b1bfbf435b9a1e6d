//! Lets through a part of the rows: every n-th of a key, or a share chosen by hash.
//!
//! Input   keyed rows
//! Output  the rows that go on, unchanged
//! State   with `every` how many rows of each key there were since the last that went on; with `share` none
//! Late    `share`: any; `every`: honours `late: { correct }`, and a late row shifts which of those behind it go on
//! Errors  none: a row that does not go on is counted as `filtered`
//! Source  `share`: splitmix64 of key hash and event time, as a fraction of 2^64, is below `share`
//!
//! With `every` the first row of a key goes on, then the n-th after it. With `share` a row is chosen by its key and event
//! time and by nothing else: the same rows in every run and in every stream of the same key, however the input is split
//! into files, and rows of one key and time all together or not at all. No random numbers are drawn.

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use foreline_engine::{
    ConfigError, Family, Fault, OperatorKind, Planned, Resolver, Schema, hash_keys,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::only;
use crate::gate::{Gate, planned};
use crate::stateless::{self, Fate, PerRow};

/// Lets through a part of the rows. Exactly one of `every` and `share` says which.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleConfig {
    /// One row of a key of so many goes on, the first of them; at least 1.
    #[serde(default)]
    pub every: Option<u64>,
    /// The part of the rows that go on, above 0 and at most 1: `0.1`.
    #[serde(default)]
    pub share: Option<f64>,
}

/// The kind `sample`.
#[derive(Debug, Clone, Copy)]
pub struct Sample;

impl OperatorKind for Sample {
    type Config = SampleConfig;

    const NAME: &'static str = "sample";
    const SUMMARY: &'static str = "lets through every n-th row of a key, or a share of all";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = "few: { from: readings, sample: { share: 0.1 } }";

    fn plan(
        config: &SampleConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let error =
            |at: &str, what: String, help: &str| Err(vec![ConfigError::new(at, what).help(help)]);
        match (config.every, config.share) {
            (Some(0), None) => error(
                "every",
                "'0' is not a number of rows".to_owned(),
                "give a number of at least 1",
            ),
            (Some(every), None) => Ok(planned(input, Nth(every))),
            (None, Some(share)) if share > 0.0 && share <= 1.0 => {
                let function = Shared { schema: input.clone(), share };
                Ok(stateless::planned(input, input.clone(), function))
            }
            (None, Some(share)) => {
                let what = format!("'{share}' is not a share");
                error("share", what, "give a number above 0 and at most 1")
            }
            (None, None) => {
                error("", "nothing says which rows go on".to_owned(), "add one of every, share")
            }
            (Some(_), Some(_)) => {
                error("", "every and share exclude one another".to_owned(), "keep one of them")
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Nth(u64);

impl Gate for Nth {
    type State = u64;

    fn columns(&self) -> &[usize] {
        &[]
    }

    fn passes(&self, seen: &mut u64, _: i64, _: &[ScalarBuffer<f64>], _: usize) -> bool {
        let passes = *seen == 0;
        *seen = (*seen + 1) % self.0;
        passes
    }
}

#[derive(Debug, Clone)]
struct Shared {
    schema: Schema,
    share: f64,
}

impl PerRow for Shared {
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault> {
        let fate = |passes: bool| if passes { Fate::Kept } else { Fate::Filtered };
        Ok((rows.clone(), Some(self.passes(rows)?.iter().map(fate).collect())))
    }

    fn chosen(&self, rows: &RecordBatch) -> Result<Option<BooleanArray>, Fault> {
        Ok(Some(self.passes(rows)?.into()))
    }
}

impl Shared {
    /// Whether each row goes on.
    fn passes(&self, rows: &RecordBatch) -> Result<BooleanBuffer, Fault> {
        let hashes = hash_keys(rows, self.schema.key());
        let times = cast(rows.column(self.schema.time()), &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>().values();
        let (hashes, share) = (hashes.values(), self.share);
        let passes = |row| fraction(hashes[row], times[row]) < share;
        Ok(BooleanBuffer::collect_bool(rows.num_rows(), passes))
    }
}

/// A number from 0 to 1 that looks random.
#[expect(clippy::cast_precision_loss, reason = "53 bits are left")]
fn fraction(hash: u64, time: i64) -> f64 {
    let mixed = mix(hash ^ mix(u64::from_le_bytes(time.to_le_bytes())));
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// The finisher of splitmix64.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::Logical;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, check, sameness, try_plan};

    #[test]
    fn every_third_row_of_a_key_goes_on() {
        let input =
            Table::parse(Logical, "m,t,x\na,1,1\nb,1,2\na,2,\na,2,4\na,3,5\nb,4,6\na,9,7\na,9,8\n");
        let expected = "m,t,x\na,1,1\nb,1,2\na,3,5\n";
        check("sample", &json!({ "every": 3 }), &input, &Table::parse(Logical, expected));
        let all = sameness("sample", &json!({ "every": 1 }), &input);
        assert_eq!(all.rows.len(), input.len());
    }

    #[test]
    fn a_share_is_about_that_many_rows_and_always_the_same() {
        let input = Table::random(3, 400, Logical);
        let count = |share: f64| {
            let outcome = sameness("sample", &json!({ "share": share }), &input);
            assert_eq!(outcome.account.used + outcome.account.filtered, 400);
            outcome.rows.len()
        };
        assert_eq!(count(1.0), 400);
        // Four standard deviations of a binomial distribution.
        assert!((60..=140).contains(&count(0.25)), "{}", count(0.25));
    }

    #[test]
    fn the_mixer_is_splitmix64() {
        // The first two outputs of Vigna's splitmix64.c for the seed 0.
        assert_eq!(
            [mix(0), mix(0x9e37_79b9_7f4a_7c15)],
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]
        );
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(Logical, "m,t,x\n").schema;
        let cases: &[(Value, &str)] = &[
            (json!({}), "nothing says which rows go on"),
            (json!({ "every": 2, "share": 0.5 }), "every and share exclude one another"),
            (json!({ "every": 0 }), "every: '0' is not a number of rows"),
            (json!({ "share": 0.0 }), "share: '0' is not a share"),
            (json!({ "share": 1.5 }), "share: '1.5' is not a share"),
        ];
        for (config, expected) in cases {
            assert_eq!(try_plan("sample", config, &input).unwrap_err(), [*expected], "{config}");
        }
    }
}
