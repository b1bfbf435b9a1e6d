//! Joins to each row of the left stream the latest row of the right one that is not after it.
//!
//! Input   two keyed streams, the left one named first in `from`; their keys have the same types
//! Output  the rows of the left stream with the columns of the right one behind them, in their units; null where there
//!         is no right row at `t - within ..= t`
//! State   for each key the left rows that wait, the last right row, and the right rows that are ahead of the left
//!         stream; at most `max_rows` each
//! Late    refuses `late: { correct }`: it reads several streams
//! Errors  a row that comes when `max_rows` rows of its key wait on its side goes to the dead letters as `waiting_full`;
//!         with `unmatched: drop` a left row without a right one is counted as `filtered`
//! Source  pandas `merge_asof(left, right, by=key, tolerance=within, direction="backward")`
//!
//! A right row of the same event time counts as not after; of right rows of one time the last counts. A left row waits
//! until no right row at or before it can follow: until the right stream has a later row of the key, or its watermark is
//! past it. A key that the right stream does not have waits for the bound below all its keys, which only an idle timeout
//! or the end moves past the slowest of them.

use foreline_engine::{ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::columns::positive;
use crate::joining::{DEFAULT_MAX_ROWS, Pairing, Taking, Which, both, planned};
use crate::select::Selection;

/// Joins to each left row the latest right row that is not after it. `from` names the left stream, then the right.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AsofJoinConfig {
    /// How long before the left row the right row may be: `1h`; a number where the event time is a count.
    pub within: Extent,
    /// The columns of the right stream to add: a list, or a map from new to old names. Left out: all but key and event
    /// time.
    #[serde(default)]
    pub columns: Option<Selection>,
    /// A new column with the event time of the right row. Left out: none.
    #[serde(default)]
    pub time: Option<String>,
    /// What becomes of a left row without a right one: `keep` (unless given), with nulls, or `drop`.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// Most rows of a key that either side may hold; 100,000 unless given. What comes on top is a dead letter.
    #[serde(default)]
    pub max_rows: Option<usize>,
}

/// What becomes of a left row without a right one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unmatched {
    /// It goes on with nulls.
    #[default]
    Keep,
    /// It is left out.
    Drop,
}

/// The kind `asof_join`.
#[derive(Debug, Clone, Copy)]
pub struct AsofJoin;

impl OperatorKind for AsofJoin {
    type Config = AsofJoinConfig;

    const NAME: &'static str = "asof_join";
    const SUMMARY: &'static str = "joins to each row the latest row of another stream";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = "with_vacuum: { from: [readings, vacuum], asof_join: { within: 10s, columns: [pressure] } }";

    fn plan(
        config: &AsofJoinConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let (left, right) = both(inputs)?;
        let mut errors = Vec::new();
        let within = positive("within", config.within, left.domain()).map_err(|e| errors.push(e));
        let max_rows = room(config.max_rows).map_err(|e| errors.push(e));
        let columns = config.columns.as_ref();
        let taking = Taking { columns, time: config.time.as_deref(), number: None };
        let shape = taking.shape(left, right).map_err(|e| errors.extend(e));
        let (Ok(before), Ok(max_rows), Ok(shape)) = (within, max_rows, shape) else {
            return Err(errors);
        };
        let unmatched = config.unmatched == Unmatched::Keep;
        let pairing = Pairing { before, after: 0, which: Which::Latest, unmatched, max_rows };
        Ok(planned(shape, pairing))
    }
}

/// How many rows may wait.
pub(crate) fn room(max_rows: Option<usize>) -> Result<usize, ConfigError> {
    match max_rows.unwrap_or(DEFAULT_MAX_ROWS) {
        0 => {
            let error = ConfigError::new("max_rows", "at least one row must be able to wait");
            Err(error.help("give a number of at least 1"))
        }
        rows => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::{Logical, UtcNanos};
    use serde_json::{Value, json};

    use crate::testing::{Table, check_joined, sameness_joined, try_plan_joined};

    fn logical(text: &str) -> Table {
        Table::parse(Logical, text)
    }

    #[test]
    fn agrees_with_pandas() {
        let left = Table::parse(UtcNanos, include_str!("../reference/readings.csv"));
        let right = Table::parse(UtcNanos, include_str!("../reference/asof_join_right.csv"));
        let expected = include_str!("../reference/asof_join_within.csv");
        let expected = Table::parse(UtcNanos, expected);
        let config = json!({ "within": "6s" });
        check_joined("asof_join", &config, &[&left, &right], &expected, 0);
    }

    #[test]
    fn ties_count_and_what_is_too_old_does_not() {
        let left = logical("m,t,x\na,0,1\na,5,2\na,5,3\na,9,4\na,20,5\nb,20,6\n");
        let right =
            logical("m,at,s:string,y\na,1,u,1\na,5,v,2\na,5,w,\na,6,x,4\nc,7,y,5\na,30,z,6\n");
        let config = json!({ "within": 4, "columns": { "state": "s", "z": "y" }, "time": "since" });
        let expected = "m,t,x,state:string,z,since:int64\na,0,1,,,\na,5,2,w,,5\na,5,3,w,,5\na,9,4,x,4,6\na,20,5,,,\nb,20,6,,,\n";
        check_joined("asof_join", &config, &[&left, &right], &logical(expected), 0);
        let config = json!({ "within": 4, "columns": ["s"], "unmatched": "drop" });
        let expected = "m,t,x,s:string\na,5,2,w\na,5,3,w\na,9,4,x\n";
        check_joined("asof_join", &config, &[&left, &right], &logical(expected), 0);
        let account = sameness_joined("asof_join", &config, &[&left, &right], 0).account;
        assert_eq!((account.used, account.filtered, account.in_flight), (3 + 6, 3, 0));
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for (seed, within) in [(1, 5), (2, 60)] {
            let left = Table::random(seed, 60, Logical);
            let right = Table::random(seed + 50, 45, Logical);
            let config = json!({ "within": within, "columns": { "right_n": "n" } });
            let outcome = sameness_joined("asof_join", &config, &[&left, &right], 0);
            let (times, n, others) = (right.times(), right.numbers("n"), right.by_key());
            let lefts = left.times();
            let mut n_matched = 0;
            for (key, rows) in left.by_key() {
                for row in rows {
                    let near =
                        |r: &&usize| times[**r] <= lefts[row] && lefts[row] - times[**r] <= within;
                    let found = others.get(&key).and_then(|rows| rows.iter().rfind(near));
                    let got = outcome.rows.iter().find(|r| r.position == row as u64).unwrap();
                    assert_eq!(got.cells[5].number(), found.and_then(|&r| n[r]), "{row} {within}");
                    n_matched += usize::from(found.is_some());
                }
            }
            assert!(n_matched > 5 && outcome.rows.len() == 60);
        }
    }

    #[test]
    fn rows_that_find_no_room_are_dead_letters() {
        use super::*;
        let left = logical("m,t,x\na,0,1\na,1,2\na,2,3\n").schema;
        let right = logical("m,t,y\n").schema;
        let shape =
            Taking { columns: None, time: None, number: None }.shape(&left, &right).unwrap();
        let pairing =
            Pairing { before: 9, after: 0, which: Which::Latest, unmatched: true, max_rows: 2 };
        crate::joining::tests::fills_up(&shape, &pairing);
    }

    #[test]
    fn says_what_is_wrong() {
        let left = logical("m,t,x\n").schema;
        let right = logical("m,t,x,y\n").schema;
        let try_plan = |config: &Value, inputs: &[&foreline_engine::Schema]| {
            let inputs: Vec<_> = inputs.iter().copied().cloned().collect();
            try_plan_joined("asof_join", config, &inputs).unwrap_err()
        };
        let config = json!({ "within": 5 });
        assert_eq!(try_plan(&config, &[&left]), ["this step reads two streams, not 1"]);
        let timed = Table::parse(UtcNanos, "m,t,y\n").schema;
        assert_eq!(
            try_plan(&config, &[&left, &timed]),
            ["the event time of one stream is a timestamp, that of the other a count"]
        );
        let columns = right.columns().to_vec();
        let other = foreline_engine::Schema::new(columns, &["m", "t"], "t").unwrap();
        assert_eq!(
            try_plan(&config, &[&left, &other]),
            ["the streams have different keys: 'm' and 'm, t'"]
        );
        assert_eq!(
            try_plan(&json!({ "within": 0, "max_rows": 0 }), &[&left, &right]),
            [
                "within: '0' is not above zero",
                "max_rows: at least one row must be able to wait",
                "columns: there is a column 'x' already",
            ]
        );
        assert_eq!(
            try_plan(&json!({ "within": 1, "columns": ["z", "y"], "time": "t" }), &[&left, &right]),
            ["columns[0]: there is no column 'z'", "column 't' is there twice"]
        );
    }
}
