//! Exponential moving average: each value counts less the longer ago it was.
//!
//! Input   keyed rows; the columns are `Float64` or `Int64`
//! Output  the same rows, each column replaced by its average (or joined by it under the name in `as`),
//!         `Float64`, in the column's unit; a null stays null
//! State   the last average of each column and the event time of the value behind it, for each key
//! Late    honours `late: { correct }`; a late row changes every average of its key that follows
//! Errors  none: a row that came in goes out
//! Source  pandas `ewm(adjust=False, ignore_na=True)` for `alpha` and `span`; for `half_life`
//!         `y += (1 - 0.5^(dt / half_life)) * (x - y)` with `dt` since the last value that was not null
//!
//! The first value of a key is its own average. With `half_life`, rows of equal event time after the first
//! have `dt = 0` and so no weight.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use foreline_engine::{
    Account, ConfigError, Epoch, Extent, Family, Fault, Group, Input, Keyed, LateSupport, Operator,
    OperatorKind, Out, Planned, Resolver, Schema, ShardSet, TimeDomain,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{only, positive, same_version};
use crate::mistakes::Mistakes;
use crate::smoothing::Smoothed;

/// Raised whenever `Level` changes.
const STATE_VERSION: u32 = 1;

/// Smooths columns by an exponential moving average. Exactly one of `alpha`, `half_life` and `span` says how fast
/// old values are forgotten.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// The columns to smooth.
    pub columns: Vec<String>,
    /// The weight of a new value, above 0 and at most 1, whatever the time since the last.
    #[serde(default)]
    pub alpha: Option<f64>,
    /// The time after which a value counts half, such as `30s`. Fits rows that do not come at regular times.
    #[serde(default)]
    pub half_life: Option<Extent>,
    /// The number of rows of a moving average of about the same lag: `alpha = 2 / (span + 1)`; at least 1.
    #[serde(default)]
    pub span: Option<f64>,
    /// The average starts anew when the last value is longer ago than this.
    #[serde(default)]
    pub max_gap: Option<Extent>,
    /// Names for the averages, by column. Left out: the average replaces its column.
    #[serde(default, rename = "as")]
    pub rename: BTreeMap<String, String>,
}

/// The kind `ema`.
#[derive(Debug, Clone, Copy)]
pub struct Ema;

impl OperatorKind for Ema {
    type Config = EmaConfig;

    const NAME: &'static str = "ema";
    const SUMMARY: &'static str = "smooths columns by an exponential moving average";
    const FAMILY: Family = Family::Smoothing;
    const EXAMPLE: &'static str =
        "smooth: { from: readings, ema: { columns: [vibration, temperature], half_life: 30s } }";

    fn plan(
        config: &EmaConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let mut mistakes = Mistakes::default();
        let columns = mistakes.all(Smoothed::plan(input, &config.columns, &config.rename));
        let forget = mistakes.all(Forget::plan(config, input.domain()));
        let (columns, forget) = mistakes.or(columns.zip(forget))?;
        let input = input.clone();
        Ok(Planned {
            output: columns.schema.clone(),
            late: LateSupport::Corrects,
            state_version: STATE_VERSION,
            build: Arc::new(move |_| {
                let levels = Keyed::new(&input);
                let columns = columns.clone();
                Ok(Box::new(Averages { input: input.clone(), columns, forget, levels }))
            }),
            notes: Vec::new(),
            depends_on: Vec::new(),
        })
    }
}

/// How fast old values are forgotten; lengths in the unit of the time domain.
#[derive(Debug, Clone, Copy)]
struct Forget {
    rate: Rate,
    max_gap: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
enum Rate {
    /// The weight of every new value.
    Alpha(f64),
    /// The time after which a value counts half.
    HalfLife(f64),
}

impl Forget {
    fn plan(config: &EmaConfig, domain: TimeDomain) -> Result<Self, Vec<ConfigError>> {
        let rate = Self::rate(config, domain);
        let max_gap = config.max_gap.map(|gap| positive("max_gap", gap, domain)).transpose();
        match (rate, max_gap) {
            (Ok(rate), Ok(max_gap)) => Ok(Forget { rate, max_gap }),
            (rate, max_gap) => Err([rate.err(), max_gap.err()].into_iter().flatten().collect()),
        }
    }

    fn rate(config: &EmaConfig, domain: TimeDomain) -> Result<Rate, ConfigError> {
        match (config.alpha, config.half_life, config.span) {
            (Some(alpha), None, None) if alpha > 0.0 && alpha <= 1.0 => Ok(Rate::Alpha(alpha)),
            (Some(alpha), None, None) => {
                let what = format!("'{alpha}' is not a weight");
                Err(ConfigError::new("alpha", what).help("give a number above 0 and at most 1"))
            }
            #[expect(
                clippy::cast_precision_loss,
                reason = "a length beyond 104 days loses nanoseconds"
            )]
            (None, Some(half_life), None) => {
                Ok(Rate::HalfLife(positive("half_life", half_life, domain)? as f64))
            }
            (None, None, Some(span)) if span >= 1.0 && span.is_finite() => {
                Ok(Rate::Alpha(2.0 / (span + 1.0)))
            }
            (None, None, Some(span)) => {
                let what = format!("'{span}' is not a number of rows");
                Err(ConfigError::new("span", what).help("give a number of at least 1"))
            }
            (None, None, None) => Err(ConfigError::new("", "nothing says how fast to forget")
                .help("add one of alpha, half_life, span")),
            _ => Err(ConfigError::new("", "alpha, half_life and span say the same thing")
                .help("keep one of them")),
        }
    }

    /// The weight of a value `dt` after the last.
    fn weight(&self, dt: i64) -> f64 {
        match self.rate {
            Rate::Alpha(alpha) => alpha,
            #[expect(
                clippy::cast_precision_loss,
                reason = "a gap beyond 104 days loses nanoseconds"
            )]
            Rate::HalfLife(half_life) => 1.0 - (-(dt as f64) / half_life).exp2(),
        }
    }
}

/// The average of a column and when it was last moved.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Level {
    at: i64,
    y: f64,
}

#[derive(Debug)]
struct Averages {
    input: Schema,
    columns: Smoothed,
    forget: Forget,
    levels: Keyed<Vec<Option<Level>>>,
}

impl Operator for Averages {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        if batch.is_empty() {
            return Ok(());
        }
        let times = batch.times(&self.input);
        let channels = self.columns.channels(batch)?;
        let column = |_| Vec::with_capacity(batch.len());
        let mut results: Vec<Vec<f64>> = channels.iter().map(column).collect();
        for Group { start, end, .. } in batch.groups() {
            let none = || vec![None; channels.len()];
            let slot = self.levels.slot(batch, self.input.key(), start, none)?;
            let levels = self.levels.get_mut(slot);
            for ((level, values), result) in levels.iter_mut().zip(&channels).zip(&mut results) {
                self.forget.smooth(&times[start..end], &values[start..end], level, result);
            }
        }
        out.count(Account { used: batch.len() as u64, ..Account::default() });
        out.emit(self.columns.with(batch, results)?);
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.levels.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.levels.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.levels.load(&state)
    }
}

impl Forget {
    /// Appends the average after each value; NaN in, NaN out.
    fn smooth(&self, times: &[i64], values: &[f64], level: &mut Option<Level>, out: &mut Vec<f64>) {
        let mut state = *level;
        // Sampling is mostly regular, and the power of two is by far the dearest part.
        let (mut last_dt, mut weight) = (0, self.weight(0));
        out.extend(times.iter().zip(values).map(|(&at, &x)| {
            if x.is_nan() {
                return x;
            }
            let y = match state {
                Some(was) if !self.too_long(at.saturating_sub(was.at)) => {
                    let dt = at.saturating_sub(was.at);
                    if dt != last_dt {
                        (last_dt, weight) = (dt, self.weight(dt));
                    }
                    // This form, unlike `(1 - w) * y + w * x`, keeps a constant exactly.
                    was.y + weight * (x - was.y)
                }
                _ => x,
            };
            state = Some(Level { at, y });
            y
        }));
        *level = state;
    }

    fn too_long(&self, dt: i64) -> bool {
        self.max_gap.is_some_and(|gap| dt > gap)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, check, sameness, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    #[test]
    fn agrees_with_pandas() {
        let readings = utc(include_str!("../reference/readings.csv"));
        let cases = [
            (json!({ "alpha": 0.1 }), include_str!("../reference/ema_alpha.csv")),
            (json!({ "span": 9 }), include_str!("../reference/ema_span.csv")),
            (json!({ "half_life": "3s" }), include_str!("../reference/ema_half_life.csv")),
            (
                json!({ "half_life": "3s", "max_gap": "6s" }),
                include_str!("../reference/ema_max_gap.csv"),
            ),
        ];
        for (mut config, expected) in cases {
            config["columns"] = json!(["x", "y"]);
            check("ema", &config, &readings, &utc(expected));
        }
    }

    #[test]
    fn a_number_of_counts_is_a_half_life_of_logical_time() {
        let input = Table::parse(TimeDomain::Logical, "m,t,x\na,0,8\na,2,0\na,3,\na,6,0\na,6,5\n");
        let expected = "m,t,x\na,0,8\na,2,4\na,3,\na,6,1\na,6,1\n";
        let config = json!({ "columns": ["x"], "half_life": 2 });
        check("ema", &config, &input, &Table::parse(TimeDomain::Logical, expected));
    }

    #[test]
    fn a_name_in_as_keeps_the_column() {
        let input = utc("m,t,n:int64,x\na,0,4,1\na,1,8,1\n");
        let expected = utc("m,t,n:int64,x,slow\na,0,4,1,4\na,1,8,1,6\n");
        let config = json!({ "columns": ["n"], "alpha": 0.5, "as": { "n": "slow" } });
        check("ema", &config, &input, &expected);
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for seed in 0..4 {
            let input = Table::random(seed, 160, TimeDomain::Logical);
            let outcome = sameness("ema", &json!({ "columns": ["y"], "span": 4 }), &input);
            let (y, mut expected) = (input.numbers("y"), vec![None; input.len()]);
            for rows in input.by_key().values() {
                let mut level = None;
                for &row in rows.iter().filter(|&&row| y[row].is_some()) {
                    let x = y[row].unwrap();
                    level = Some(level.map_or(x, |y: f64| 0.6 * y + 0.4 * x));
                    expected[row] = level;
                }
            }
            for row in &outcome.rows {
                let (got, want) =
                    (row.cells[3].number(), expected[usize::try_from(row.position).unwrap()]);
                assert!(
                    got.zip(want).is_none_or(|(a, b)| (a - b).abs() < 1e-9),
                    "{got:?} {want:?}"
                );
                assert_eq!(got.is_some(), want.is_some());
            }
        }
    }

    #[test]
    fn a_constant_stays_what_it_is() {
        let input = utc("m,t,x\na,0,0.1\na,1,0.1\na,2,0.1\n");
        let outcome = sameness("ema", &json!({ "columns": ["x"], "alpha": 0.3 }), &input);
        assert_eq!(outcome.numbers("x"), [Some(0.1); 3]);
    }

    #[test]
    fn says_what_is_wrong() {
        let input = utc("m,t,x,s:string\n");
        let cases: &[(Value, &[&str])] = &[
            (json!({ "columns": ["x"] }), &["nothing says how fast to forget"]),
            (
                json!({ "columns": ["x"], "alpha": 0.1, "span": 3 }),
                &["alpha, half_life and span say the same thing"],
            ),
            (json!({ "columns": ["x"], "alpha": 1.5 }), &["alpha: '1.5' is not a weight"]),
            (json!({ "columns": ["x"], "span": 0.5 }), &["span: '0.5' is not a number of rows"]),
            (
                json!({ "columns": ["x"], "half_life": 3 }),
                &["half_life: '3' has no unit, but the event time is a timestamp"],
            ),
            (
                json!({ "columns": ["z", "m", "t", "s", "x", "x"], "alpha": 0.1, "max_gap": "0s" }),
                &[
                    "columns[0]: there is no column 'z'",
                    "columns[1]: column 'm' is part of the key",
                    "columns[2]: column 't' is the event time",
                    "columns[3]: column 's' is Utf8, not a number",
                    "columns[5]: column 'x' is there twice",
                    "max_gap: '0s' is not above zero",
                ],
            ),
            (json!({ "columns": [], "alpha": 0.1 }), &["columns: no column is named"]),
            (
                json!({ "columns": ["x"], "alpha": 0.1, "as": { "y": "z" } }),
                &["as.y: column 'y' is not among 'columns'"],
            ),
            (
                json!({ "columns": ["x"], "alpha": 0.1, "as": { "x": "s" } }),
                &["as: column 's' is there twice"],
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(try_plan("ema", config, &input.schema).unwrap_err(), *expected, "{config}");
        }
    }
}
