//! Joins to each row of the left stream all rows of the right one that are near it in time.
//!
//! Input   two keyed streams, the left one named first in `from`; their keys have the same types
//! Output  for each left row at `t` one row for each right row at `t - before ..= t + after`: the columns of the left row,
//!         then those of the right one in their units, then the number of the right row, from 0, which together with
//!         what tells left rows apart is the primary key. The event time is that of the left row
//! State   for each key the left rows that wait and the right rows that are near one or may be; at most `max_rows` each
//! Late    refuses `late: { correct }`: it reads several streams
//! Errors  a row that comes when `max_rows` rows of its key wait on its side goes to the dead letters as `waiting_full`;
//!         a left row without a right one is counted as `filtered`, unless `unmatched` is `keep`
//! Source  SQL `left JOIN right ON key AND right.time BETWEEN left.time - before AND left.time + after`
//!
//! Both ends count. A left row waits until no right row at or before `t + after` can follow. The pairs of a left row come
//! in the order of the right rows.

use foreline_engine::{
    ConfigError, Extent, Family, OperatorKind, Planned, Resolver, Schema, TimeDomain,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::asof_join::room;
use crate::joining::{Pairing, Taking, Which, both, planned};
use crate::select::Selection;

/// Joins to each left row the right rows near it. `from` names the left stream, then the right.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IntervalJoinConfig {
    /// How long before the left row a right row may be: `1m`; a number where the event time is a count. 0 or more.
    pub before: Extent,
    /// How long after the left row a right row may be; 0 or more. So long does a left row wait.
    pub after: Extent,
    /// The columns of the right stream to add: a list, or a map from new to old names. Left out: all but key and event
    /// time.
    #[serde(default)]
    pub columns: Option<Selection>,
    /// A new column with the event time of the right row. Left out: none.
    #[serde(default)]
    pub time: Option<String>,
    /// The new column with the number of the right row among those of the left row; `match` unless given.
    #[serde(default = "number")]
    pub number: String,
    /// What becomes of a left row without a right one: `drop` (unless given), or `keep`, with nulls.
    #[serde(default)]
    pub unmatched: Lonely,
    /// Most rows of a key that either side may hold; 100,000 unless given. What comes on top is a dead letter.
    #[serde(default)]
    pub max_rows: Option<usize>,
}

/// What becomes of a left row without a right one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lonely {
    /// It is left out.
    #[default]
    Drop,
    /// It goes on with nulls.
    Keep,
}

fn number() -> String {
    "match".to_owned()
}

/// The kind `interval_join`.
#[derive(Debug, Clone, Copy)]
pub struct IntervalJoin;

impl OperatorKind for IntervalJoin {
    type Config = IntervalJoinConfig;

    const NAME: &'static str = "interval_join";
    const SUMMARY: &'static str = "joins to each row the rows of another stream near it in time";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = "near: { from: [vacuum, readings], interval_join: { before: 5s, after: 5s, columns: [vibration] } }";

    fn plan(
        config: &IntervalJoinConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let (left, right) = both(inputs)?;
        let mut errors = Vec::new();
        let mut length = |at: &str, extent: Extent| {
            reach(at, extent, left.domain()).map_err(|e| errors.push(e)).ok()
        };
        let (before, after) = (length("before", config.before), length("after", config.after));
        let max_rows = room(config.max_rows).map_err(|e| errors.push(e));
        let columns = config.columns.as_ref();
        let (time, number) = (config.time.as_deref(), Some(config.number.as_str()));
        let shape = Taking { columns, time, number }.shape(left, right);
        let shape = shape.map_err(|e| errors.extend(e));
        let (Some(before), Some(after), Ok(max_rows), Ok(shape)) = (before, after, max_rows, shape)
        else {
            return Err(errors);
        };
        let unmatched = config.unmatched == Lonely::Keep;
        Ok(planned(shape, Pairing { before, after, which: Which::All, unmatched, max_rows }))
    }
}

/// A length of 0 or more.
fn reach(at: &str, extent: Extent, domain: TimeDomain) -> Result<i64, ConfigError> {
    match extent.in_domain(domain).map_err(|e| e.under(at))? {
        length if length >= 0 => Ok(length),
        _ => Err(ConfigError::new(at, format!("'{extent}' is below zero")).help("give 0 or more")),
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::PrimaryKey;
    use foreline_engine::TimeDomain::{Logical, UtcNanos};
    use serde_json::json;

    use crate::testing::{Cell, Table, check_joined, sameness_joined, try_plan_joined};

    fn logical(text: &str) -> Table {
        Table::parse(Logical, text)
    }

    #[test]
    fn agrees_with_pandas() {
        let left = Table::parse(UtcNanos, include_str!("../reference/asof_join_right.csv"));
        let right = Table::parse(UtcNanos, include_str!("../reference/readings.csv"));
        let expected = include_str!("../reference/interval_join_near.csv");
        let expected = Table::parse(UtcNanos, expected);
        let config = json!({ "before": "1500ms", "after": "2s", "time": "at" });
        let inputs = [&left, &right];
        let outcome = sameness_joined("interval_join", &config, &inputs, 2_000_000_000);
        // The number of each pair is checked by the oracle below; pandas does not count.
        let number = outcome.schema.index_of("match").unwrap();
        let mut got: Vec<Vec<Cell>> =
            outcome.rows.iter().map(|r| r.cells[..number].to_vec()).collect();
        let mut want = expected.cells();
        got.sort();
        want.sort();
        assert_eq!(want.len(), 51);
        assert_eq!(got, want);
    }

    #[test]
    fn both_ends_count_and_pairs_are_numbered() {
        let left = logical("m,t,x\na,0,1\na,5,2\nb,5,3\n");
        let right = logical("m,t,s:string\na,2,p\na,3,q\na,5,r\na,5,s\na,8,t\na,9,u\nc,5,v\n");
        let mut config = json!({ "before": 2, "after": 3, "number": "i", "time": "at" });
        let expected = "m,t,x,s:string,at:int64,i:int64\na,0,1,p,2,0\na,0,1,q,3,1\na,5,2,q,3,0\na,5,2,r,5,1\na,5,2,s,5,2\na,5,2,t,8,3\n";
        check_joined("interval_join", &config, &[&left, &right], &logical(expected), 3);
        let outcome = sameness_joined("interval_join", &config, &[&left, &right], 3);
        let primary_key = PrimaryKey { columns: vec![0, 1, 5], position: true };
        assert_eq!(outcome.schema.primary_key(), &primary_key);
        let account = outcome.account;
        assert_eq!((account.used, account.filtered, account.emitted), (2 + 7, 1, 6));
        config["unmatched"] = json!("keep");
        let expected = expected.to_owned() + "b,5,3,,,\n";
        check_joined("interval_join", &config, &[&left, &right], &logical(&expected), 3);
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for (seed, before, after) in [(1, 0, 10), (2, 20, 0), (3, 9, 9)] {
            let left = Table::random(seed, 45, Logical);
            let right = Table::random(seed + 9, 45, Logical);
            let config = json!({ "before": before, "after": after, "columns": { "k": "n" } });
            let outcome = sameness_joined("interval_join", &config, &[&left, &right], after);
            let (times, n, lefts) = (right.times(), right.numbers("n"), left.times());
            let mut want = Vec::new();
            for (key, rows) in left.by_key() {
                for row in rows {
                    let near = |r: &&usize| {
                        (lefts[row] - before..=lefts[row] + after).contains(&times[**r])
                    };
                    let others = right.by_key().remove(&key).unwrap_or_default();
                    let found = others.iter().filter(near).enumerate();
                    want.extend(found.map(|(i, &r)| (row as u64, n[r], Some(i as f64))));
                }
            }
            let got = outcome.rows.iter();
            let got = got.map(|r| (r.position, r.cells[5].number(), r.cells[6].number()));
            let mut got: Vec<_> = got.collect();
            let order = |a: &(u64, Option<f64>, Option<f64>),
                         b: &(u64, Option<f64>, Option<f64>)| {
                a.partial_cmp(b).unwrap()
            };
            got.sort_by(order);
            want.sort_by(order);
            assert_eq!(got, want, "{config}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let (left, right) = (logical("m,t,x\n").schema, logical("m,t,x,y\n").schema);
        let config =
            json!({ "before": -1, "after": "1s", "columns": ["y"], "number": "x", "max_rows": 0 });
        let errors = try_plan_joined("interval_join", &config, &[left, right]).unwrap_err();
        assert_eq!(
            errors,
            [
                "before: '-1' is below zero",
                "after: '1s' is a duration, but the event time is a count",
                "max_rows: at least one row must be able to wait",
                "column 'x' is there twice",
            ]
        );
    }
}
