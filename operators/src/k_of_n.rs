//! Persistence: true where at least `k` of the last `rows` values are true, or of those of the last so much time.
//!
//! Input   keyed rows; the columns are `Boolean`
//! Output  the same rows, each column replaced by whether it persists (or joined by it under the name in `as`); a
//!         null stays null
//! State   where the last `k` true values of each column were, and the time of its last value, for each key
//! Late    honours `late: { correct }`; a late row shifts what `rows` counts
//! Errors  none: a row that came in goes out
//! Source  `y(i) = count(x(j) is true, j in window(i)) >= k`; the window is the last `rows` values that are not
//!         null, or those in `(t - duration, t]`; `k` of `rows` with the same number is "consecutive"
//!
//! The current value is part of its window. A null is passed over: it is neither a confirmation nor a denial. After
//! more than `max_gap` without a value counting starts anew.

use std::collections::{BTreeMap, VecDeque};

use arrow::buffer::ScalarBuffer;
use arrow::datatypes::DataType;
use foreline_engine::{
    Batch, ConfigError, Extent, Family, Fault, OperatorKind, Planned, Resolver, Schema, TimeDomain,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotate::{
    Added, Annotate, Holds, both, is_gap, places, planned, renamed_unknown, truth,
};
use crate::columns::{channel, only, place, positive};

/// Most true values that are remembered: 80 kB for each column of a key.
const MAX_K: usize = 10_000;

/// Demands that a condition holds for a while. Exactly one of `rows` and `duration` says how far back to look.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KOfNConfig {
    /// The boolean columns.
    pub columns: Vec<String>,
    /// How many values must be true: 1 to 10,000.
    pub k: usize,
    /// Among the last so many values that are not null, the current one included; at least `k`.
    #[serde(default)]
    pub rows: Option<u64>,
    /// Among the values of the last so much time, such as `12h`; a number where the event time is a count.
    #[serde(default)]
    pub duration: Option<Extent>,
    /// Counting starts anew when the last value is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Names for the results, by column. Left out: the result replaces its column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// The kind `k_of_n`.
#[derive(Debug, Clone, Copy)]
pub struct KOfN;

impl OperatorKind for KOfN {
    type Config = KOfNConfig;

    const NAME: &'static str = "k_of_n";
    const SUMMARY: &'static str =
        "demands that a condition holds for k of the last n rows, or so often in some time";
    const FAMILY: Family = Family::Detection;
    const EXAMPLE: &'static str = "\
high: { from: readings, threshold: { columns: { vibration: { alarm: { above: 4.5 } } } } }
lasting: { from: high, k_of_n: { columns: [vibration_alarm], k: 3, rows: 3 } }";

    fn plan(
        config: &KOfNConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let found = places(input, &config.columns, boolean);
        let persists = Persists::plan(config, input.domain());
        let (from, mut persists) = both(found, persists)?;
        let unknown = renamed_unknown(&config.columns, &config.rename);
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let added = config.columns.iter().zip(&from).map(|(name, &from)| {
            let rename = config.rename.get(name);
            let added = Added::new(rename.unwrap_or(name).as_str(), Holds::Flag);
            Added { replaces: rename.is_none().then_some(from), ..added }
        });
        let added = added.collect();
        persists.from = from;
        planned(input, persists, added)
    }
}

/// The place of a boolean column.
fn boolean(schema: &Schema, at: &str, name: &str) -> Result<usize, ConfigError> {
    let index = place(schema, at, name)?;
    match &schema.columns()[index].data_type {
        DataType::Boolean => Ok(index),
        other => {
            let what = format!("column '{name}' is {other}, not boolean");
            Err(ConfigError::new(at, what).help("make a condition of it with threshold or derive"))
        }
    }
}

/// What persistence is.
#[derive(Debug, Clone)]
struct Persists {
    from: Vec<usize>,
    k: usize,
    /// How far back a true value counts: in values, or in the unit of the time domain.
    reach: i64,
    by_time: bool,
    max_gap: Option<i64>,
}

impl Persists {
    fn plan(config: &KOfNConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let k = config.k;
        if !(1..=MAX_K).contains(&k) {
            let error = ConfigError::new("k", format!("'{k}' is not a number of values"));
            errors.push(error.help(format!("give a number from 1 to {MAX_K}")));
        }
        let reach = match (config.rows, config.duration) {
            (Some(rows), None) if rows < k as u64 => {
                let what = format!("of '{rows}' values there are never {k} true");
                Err(ConfigError::new("rows", what).help("make it at least 'k'"))
            }
            (Some(rows), None) => Ok(i64::try_from(rows).unwrap_or(i64::MAX)),
            (None, Some(length)) => positive("duration", length, domain),
            (None, None) => Err(ConfigError::new("", "nothing says how far back to look")
                .help("add one of rows, duration")),
            (Some(_), Some(_)) => {
                let what = "rows and duration exclude one another";
                Err(ConfigError::new("", what).help("keep one of them"))
            }
        };
        let reach = reach.map_err(|e| errors.push(e));
        let max_gap = config.max_gap.map(|gap| positive("max_gap", gap, domain)).transpose();
        let max_gap = max_gap.map_err(|e| errors.push(e));
        let by_time = config.duration.is_some();
        match (reach, max_gap) {
            (Ok(reach), Ok(max_gap)) if errors.is_empty() => {
                Ok(Persists { from: Vec::new(), k, reach, by_time, max_gap })
            }
            _ => Err(errors),
        }
    }
}

/// What is remembered of a column of a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    /// How many values there were.
    n: i64,
    at: Option<i64>,
    /// The last `k` true values, by number or by time.
    trues: VecDeque<i64>,
}

impl Annotate for Persists {
    type State = Vec<Seen>;

    const STATE_VERSION: u32 = 1;

    fn channels(&self, batch: &Batch) -> Result<Vec<ScalarBuffer<f64>>, Fault> {
        self.from.iter().map(|&c| channel(batch.rows.column(c))).collect()
    }

    fn start(&self) -> Vec<Seen> {
        vec![Seen::default(); self.from.len()]
    }

    fn follow(
        &self,
        times: &[i64],
        channels: &[&[f64]],
        state: &mut Vec<Seen>,
        out: &mut [Vec<f64>],
    ) {
        for ((values, seen), out) in channels.iter().zip(state).zip(out) {
            out.extend(times.iter().zip(*values).map(|(&at, &x)| self.judge(at, x, seen)));
        }
    }
}

impl Persists {
    fn judge(&self, at: i64, x: f64, seen: &mut Seen) -> f64 {
        if x.is_nan() {
            return x;
        }
        if is_gap(self.max_gap, seen.at, at) {
            seen.trues.clear();
        }
        seen.at = Some(at);
        seen.n += 1;
        let here = if self.by_time { at } else { seen.n };
        if x != 0.0 {
            seen.trues.push_back(here);
        }
        if seen.trues.len() > self.k {
            seen.trues.pop_front();
        }
        let oldest = seen.trues.front().filter(|_| seen.trues.len() == self.k);
        let persists = oldest.is_some_and(|&then| then > here.saturating_sub(self.reach));
        truth(persists)
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::TimeDomain::{Logical, UtcNanos};
    use serde_json::{Value, json};

    use crate::testing::{Cell, Table, check, sameness, try_plan};

    #[test]
    fn three_of_three_are_consecutive() {
        let input =
            "m,t,hot:bool\na,0,true\na,1,true\na,2,\na,3,true\na,4,true\na,5,false\na,6,true\n";
        let expected = "m,t,hot:bool,lasting:bool\na,0,true,false\na,1,true,false\na,2,,\na,3,true,true\na,4,true,true\na,5,false,false\na,6,true,false\n";
        let config = json!({ "columns": ["hot"], "k": 3, "rows": 3, "as": { "hot": "lasting" } });
        check("k_of_n", &config, &Table::parse(Logical, input), &Table::parse(Logical, expected));
    }

    #[test]
    fn a_false_row_is_still_alarming_while_k_of_the_window_are_true() {
        let input = "m,t,hot:bool\na,0,true\na,4,true\na,9,false\na,10,false\na,13,true\n";
        let expected = "m,t,hot:bool\na,0,false\na,4,true\na,9,true\na,10,false\na,13,true\n";
        let config = json!({ "columns": ["hot"], "k": 2, "duration": 10 });
        check("k_of_n", &config, &Table::parse(Logical, input), &Table::parse(Logical, expected));
    }

    #[test]
    fn a_gap_starts_anew() {
        let input = "m,t,hot:bool\na,0,true\na,4,true\na,9,true\na,10,true\n";
        let config = json!({ "columns": ["hot"], "k": 2, "rows": 2, "max_gap": 4 });
        let outcome = sameness("k_of_n", &config, &Table::parse(Logical, input));
        assert_eq!(outcome.column("hot"), [false, true, false, true].map(Cell::Bool));
    }

    /// Random rows with a boolean column `c` which is null where `x` is.
    fn random(seed: u64) -> (Table, Vec<Option<bool>>) {
        let numbers = Table::random(seed, 160, Logical);
        let truth: Vec<_> = numbers.numbers("x").iter().map(|x| x.map(|x| x > 19.9)).collect();
        let mut text = String::from("m,t,c:bool\n");
        for (cells, c) in numbers.cells().iter().zip(&truth) {
            let (Cell::Text(key), Cell::Int(time)) = (&cells[0], &cells[1]) else { panic!() };
            let c = c.map_or(String::new(), |c| c.to_string());
            text.push_str(&format!("{key},{time},{c}\n"));
        }
        (Table::parse(Logical, &text), truth)
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for (seed, config) in [
            (0, json!({ "columns": ["c"], "k": 3, "rows": 5 })),
            (1, json!({ "columns": ["c"], "k": 1, "rows": 2 })),
            (2, json!({ "columns": ["c"], "k": 3, "duration": 40 })),
        ] {
            let (input, truth) = random(seed);
            let (times, k) = (input.times(), config["k"].as_u64().unwrap());
            let mut expected = vec![Cell::Null; input.len()];
            for rows in input.by_key().values() {
                let rows: Vec<usize> =
                    rows.iter().copied().filter(|&r| truth[r].is_some()).collect();
                for (i, &row) in rows.iter().enumerate() {
                    let window = rows[..=i].iter().rev().enumerate().filter(|(back, r)| {
                        match (config["rows"].as_u64(), config["duration"].as_i64()) {
                            (Some(n), _) => (*back as u64) < n,
                            (_, Some(length)) => times[**r] > times[row] - length,
                            _ => unreachable!(),
                        }
                    });
                    let n = window.filter(|(_, r)| truth[**r] == Some(true)).count();
                    expected[row] = Cell::Bool(n as u64 >= k);
                }
            }
            for row in &sameness("k_of_n", &config, &input).rows {
                assert_eq!(row.cells[2], expected[usize::try_from(row.position).unwrap()]);
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let input = Table::parse(UtcNanos, "m,t,x,c:bool\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": ["c"], "k": 3 }), &["nothing says how far back to look"]),
            (
                json!({ "columns": ["c"], "k": 3, "rows": 3, "duration": "1s" }),
                &["rows and duration exclude one another"],
            ),
            (
                json!({ "columns": [], "k": 3, "rows": 2 }),
                &["columns: no column is named", "rows: of '2' values there are never 3 true"],
            ),
            (
                json!({ "columns": ["x", "z", "c", "c"], "k": 0, "duration": 3, "max_gap": "0s" }),
                &[
                    "columns[0]: column 'x' is Float64, not boolean",
                    "columns[1]: there is no column 'z'",
                    "columns[3]: column 'c' is there twice",
                    "k: '0' is not a number of values",
                    "duration: '3' has no unit, but the event time is a timestamp",
                    "max_gap: '0s' is not above zero",
                ],
            ),
            (
                json!({ "columns": ["c"], "k": 1, "rows": 1, "as": { "d": "e" } }),
                &["as.d: column 'd' is not among the columns of this step"],
            ),
            (
                json!({ "columns": ["c"], "k": 1, "rows": 1, "as": { "c": "x" } }),
                &["as: column 'x' is there twice"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("k_of_n", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
