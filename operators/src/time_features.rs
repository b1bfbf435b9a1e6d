//! What the event time says: the calendar, and how long ago things were.
//!
//! Input   keyed rows; the columns of `since` and `operating` are true or false
//! Output  the same rows, joined by `calendar` (numbers of the local time, and places on its circles), by seconds since the
//!         first row of the key (`since_start`) and since the last row where a column was true (`since`; null before the
//!         first), and by hours for which a column was true (`operating`). Where the event time is a count, those
//!         are counts and there is no calendar
//! State   the event time of the first row and of the last, and one for each entry of `since` and `operating`, for
//!         each key
//! Late    honours `late: { correct }`
//! Errors  none: a row that came in goes out
//! Source  ISO 8601 for weekdays; the IANA time zones; `sin(2 pi p)` and `cos(2 pi p)` with `p` the part of the local day,
//!         of the week from Monday on, or of the year that has passed
//!
//! A number such as the hour jumps from 23 to 0; its sine and cosine do not, which is what a model needs. Operating hours
//! count the time from a row where the column is true to the next row, unless that is more than
//! `max_gap` later: then nobody knows. They are summed as whole nanoseconds, so that no rounding gathers. A row where
//! a column of `since` is true has 0 there. Null is not true.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use arrow::datatypes::DataType;
use foreline_engine::{
    Account, Batch, Column, ConfigError, Epoch, Extent, Family, Fault, Group, Input, Keyed,
    LateSupport, Operator, OperatorKind, Out, Planned, Resolver, Schema, ShardSet, TimeDomain,
    Unit,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{nullable, only, output, same_version};
use crate::entries::Entries;
use crate::flags::{flag, raised};
use crate::mistakes::Mistakes;
use calendar::{Calendar, Part};

pub mod calendar;

/// Raised whenever `Past` changes.
const STATE_VERSION: u32 = 1;

/// Columns from the event time. At least one of `calendar`, `since_start`, `since` and `operating` is given.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeFeaturesConfig {
    /// What of the calendar comes out, each as a column of its name.
    #[serde(default)]
    pub calendar: Vec<Part>,
    /// The time zone of the calendar, such as `Europe/Berlin`; `UTC` unless given.
    #[serde(default)]
    pub zone: Option<String>,
    /// The name of a column with the seconds since the first row of the key.
    #[serde(default)]
    pub since_start: Option<String>,
    /// Columns of true and false, such as a maintenance flag, by the name of a column with the seconds since the last
    /// row where they were true: `{ since_repair: repaired }`.
    #[serde(default)]
    pub since: Entries<String>,
    /// Columns of true and false by the name of a column with the hours for which they were true:
    /// `{ operating_hours: running }`.
    #[serde(default)]
    pub operating: Entries<String>,
    /// Time to a next row that is later than this does not count as `operating`. Left out: it all counts.
    #[serde(default)]
    pub max_gap: Option<Extent>,
}

/// The kind `time_features`.
#[derive(Debug, Clone, Copy)]
pub struct TimeFeatures;

impl OperatorKind for TimeFeatures {
    type Config = TimeFeaturesConfig;

    const NAME: &'static str = "time_features";
    const SUMMARY: &'static str =
        "hour, weekday and their circles; time since the start or an event; operating hours";
    const FAMILY: Family = Family::Time;
    const EXAMPLE: &'static str = "timed: { from: readings, time_features: { calendar: [hour, weekday, day_sin, day_cos], zone: Asia/Seoul, since_start: age, operating: { operating_hours: running }, max_gap: 10m } }";

    fn plan(
        config: &TimeFeaturesConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let (clocks, output) = Clocks::plan(config, input)?;
        let (input, clocks, schema) = (input.clone(), Arc::new(clocks), output.clone());
        Ok(Planned {
            output,
            late: LateSupport::Corrects,
            state_version: STATE_VERSION,
            build: Arc::new(move |_| {
                let (input, output, clocks) = (input.clone(), schema.clone(), Arc::clone(&clocks));
                let past = Keyed::new(&input);
                Ok(Box::new(Timed { input, output, clocks, past }))
            }),
            notes: Vec::new(),
            depends_on: Vec::new(),
        })
    }
}

/// What comes out, columns by index.
#[derive(Debug)]
struct Clocks {
    calendar: Option<Calendar>,
    since_start: bool,
    since: Vec<usize>,
    operating: Vec<usize>,
    max_gap: i64,
    /// Event time in a second, and in an hour; 1 of a count.
    ticks: [f64; 2],
}

impl Clocks {
    fn plan(
        config: &TimeFeaturesConfig,
        input: &Schema,
    ) -> Result<(Self, Schema), Vec<ConfigError>> {
        let TimeFeaturesConfig { calendar, since_start, since, operating, .. } = config;
        let mut mistakes = Mistakes::default();
        if calendar.is_empty() && since_start.is_none() && since.is_empty() && operating.is_empty()
        {
            let error = ConfigError::new("", "nothing is asked of the time");
            mistakes.push(error.help("add one of calendar, since_start, since, operating"));
        }
        let (count, ticks) = match input.domain() {
            TimeDomain::UtcNanos => (None, [1e9, 3.6e12]),
            TimeDomain::Logical => {
                let unit = input.columns()[input.time()].unit.clone();
                (Some(unit.unwrap_or_else(|| Unit::new("{count}"))), [1.0, 1.0])
            }
        };
        let in_unit = |name: &str, unit: &str| {
            let unit = count.clone().unwrap_or_else(|| Unit::new(unit));
            Column::new(name, DataType::Float64).with_unit(Some(unit))
        };
        let mut columns = input.columns().to_vec();
        let planned = mistakes.all(Calendar::plan(calendar, config.zone.as_deref(), input));
        columns.extend(calendar.iter().map(|part| part.column()));
        columns.extend(since_start.iter().map(|name| in_unit(name, "s")));
        let mut flags = |at: &str, entries: &Entries<String>, unit: &str| {
            columns.extend(entries.iter().map(|(name, _)| in_unit(name, unit)));
            let place = |(name, of): (&str, &String)| flag(input, &format!("{at}.{name}"), of);
            let places = entries.iter().map(place).filter_map(|place| mistakes.one(place));
            places.collect::<Vec<usize>>()
        };
        let since = flags("since", since, "s");
        let operating = flags("operating", operating, "h");
        let max_gap = mistakes.length("max_gap", config.max_gap, input.domain());
        let primary_key = input.primary_key().clone();
        let schema = output(columns, input.key().to_vec(), input.time(), primary_key);
        let (calendar, schema) = (planned, mistakes.one(schema));
        let (calendar, schema) = mistakes.or(calendar.zip(schema))?;
        let (since_start, max_gap) = (since_start.is_some(), max_gap.unwrap_or(i64::MAX));
        Ok((Clocks { calendar, since_start, since, operating, max_gap, ticks }, schema))
    }

    /// Takes the rows of a key in and says of each how long ago things were, a vector a column.
    fn read(
        &self,
        times: &[i64],
        flags: &Flags,
        group: Group,
        past: &mut Past,
        columns: &mut [Vec<f64>],
    ) {
        let rows = group.start..group.end;
        let [second, hour] = self.ticks;
        let mut columns = columns.iter_mut();
        if self.since_start {
            let column = columns.next().into_iter();
            let since = |&at: &i64| ticks(at.saturating_sub(past.start)) / second;
            column.for_each(|c| c.extend(times[rows.clone()].iter().map(since)));
        }
        for ((flags, last), column) in flags.since.iter().zip(&mut past.since).zip(&mut columns) {
            column.extend(rows.clone().map(|row| {
                *last = if flags[row] { Some(times[row]) } else { *last };
                last.map_or(f64::NAN, |last| ticks(times[row].saturating_sub(last)) / second)
            }));
        }
        for ((flags, on), column) in flags.operating.iter().zip(&mut past.operating).zip(columns) {
            let mut last = past.last;
            column.extend(rows.clone().map(|row| {
                let passed = times[row].saturating_sub(last);
                let counts = on.now && passed <= self.max_gap;
                on.total = if counts { on.total.saturating_add(passed) } else { on.total };
                (on.now, last) = (flags[row], times[row]);
                ticks(on.total) / hour
            }));
        }
        past.last = times[group.end - 1];
    }
}

#[expect(clippy::cast_precision_loss, reason = "beyond 104 days nanoseconds are lost")]
fn ticks(n: i64) -> f64 {
    n as f64
}

/// The flags of a batch.
struct Flags {
    since: Vec<Vec<bool>>,
    operating: Vec<Vec<bool>>,
}

/// What is known of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Past {
    start: i64,
    last: i64,
    /// When each flag was up last.
    since: Vec<Option<i64>>,
    operating: Vec<Operating>,
}

/// For how long a flag was up until the last row, and whether it is.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Operating {
    total: i64,
    now: bool,
}

#[derive(Debug)]
struct Timed {
    input: Schema,
    output: Schema,
    clocks: Arc<Clocks>,
    past: Keyed<Past>,
}

impl Timed {
    fn columns(&mut self, batch: &Batch) -> Result<Vec<Vec<f64>>, Fault> {
        let clocks = Arc::clone(&self.clocks);
        let times = batch.times(&self.input);
        let read = |places: &[usize]| places.iter().map(|&c| raised(batch, c)).collect();
        let flags = Flags { since: read(&clocks.since), operating: read(&clocks.operating) };
        let n_columns =
            usize::from(clocks.since_start) + clocks.since.len() + clocks.operating.len();
        let mut columns: Vec<_> = (0..n_columns).map(|_| Vec::with_capacity(batch.len())).collect();
        for group in batch.groups() {
            let start = times[group.start];
            let first = || Past {
                start,
                last: start,
                since: vec![None; clocks.since.len()],
                operating: vec![Operating::default(); clocks.operating.len()],
            };
            let slot = self.past.slot(batch, self.input.key(), group.start, first)?;
            clocks.read(times, &flags, group, self.past.get_mut(slot), &mut columns);
        }
        Ok(columns)
    }
}

impl Operator for Timed {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        if batch.is_empty() {
            return Ok(());
        }
        let mut columns: Vec<ArrayRef> = batch.rows.columns().to_vec();
        if let Some(calendar) = &self.clocks.calendar {
            columns.extend(calendar.columns(batch.times(&self.input)));
        }
        for values in self.columns(batch)? {
            let column: Float64Array = nullable(values);
            columns.push(Arc::new(column));
        }
        out.count(Account { used: batch.len() as u64, ..Account::default() });
        out.emit(batch.with_columns(self.output.arrow(), columns)?);
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.past.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.past.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.past.load(&state)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Table, check, plan, sameness, try_plan};

    fn utc(text: &str) -> Table {
        Table::parse(TimeDomain::UtcNanos, text)
    }

    fn logical(text: &str) -> Table {
        Table::parse(TimeDomain::Logical, text)
    }

    #[test]
    fn the_calendar_agrees_with_pandas() {
        let times = utc(include_str!("../reference/time_features_times.csv"));
        let calendar = json!([
            "hour",
            "minute_of_day",
            "weekday",
            "day_of_year",
            "month",
            "day_sin",
            "day_cos",
            "week_sin",
            "week_cos",
            "year_sin",
            "year_cos"
        ]);
        for (zone, expected) in [
            (None, include_str!("../reference/time_features_utc.csv")),
            (Some("Europe/Berlin"), include_str!("../reference/time_features_berlin.csv")),
            (Some("Asia/Kolkata"), include_str!("../reference/time_features_kolkata.csv")),
        ] {
            let config = json!({ "calendar": calendar, "zone": zone });
            check("time_features", &config, &times, &utc(expected));
        }
    }

    #[test]
    fn counts_since_the_start_an_event_and_hours_of_operation() {
        let input = logical(
            "m,t,on:bool,fixed:bool\na,3,true,\na,5,true,false\na,5,false,true\nb,6,,\na,9,true,true\n\
             b,7,true,false\na,20,false,false\na,21,true,\na,24,,false\nb,9,true,true\n",
        );
        let expected = logical(
            "m,t,on:bool,fixed:bool,age,since,runs\na,3,true,,0,,0\na,5,true,false,2,,2\n\
             a,5,false,true,2,0,2\nb,6,,,0,,0\na,9,true,true,6,0,2\nb,7,true,false,1,,0\n\
             a,20,false,false,17,11,2\na,21,true,,18,12,2\na,24,,false,21,15,5\nb,9,true,true,3,0,2\n",
        );
        let config = json!({ "since_start": "age", "since": { "since": "fixed" },
            "operating": { "runs": "on" }, "max_gap": 10 });
        check("time_features", &config, &input, &expected);
    }

    #[test]
    fn hours_and_seconds_agree_with_an_oracle_on_random_rows() {
        let random = Table::random(12, 200, TimeDomain::UtcNanos);
        let (x, times) = (random.numbers("x"), random.times());
        let up = |row: usize| x[row].is_some_and(|x| x > 20.0);
        let keys = random.by_key();
        let key_of = |row: usize| keys.iter().find(|(_, rows)| rows.contains(&row)).unwrap().0;
        let line = |row: usize| {
            let state = x[row].map_or(String::new(), |_| up(row).to_string());
            format!("{},{},{state}\n", key_of(row), times[row])
        };
        let text: String = (0..random.len()).map(line).collect();
        let input = utc(&format!("m,t,up:bool\n{text}"));
        let config = json!({ "since_start": "age", "since": { "since_up": "up" },
            "operating": { "hours": "up" }, "max_gap": "3s" });
        let outcome = sameness("time_features", &config, &input);
        let mut expected = vec![(0.0, None, 0.0); input.len()];
        for rows in keys.values() {
            for (i, &row) in rows.iter().enumerate() {
                let seconds = |from: usize, to: usize| (times[to] - times[from]) as f64 / 1e9;
                let last = rows[..=i].iter().rfind(|&&r| up(r));
                let runs = rows[..=i].windows(2).filter(|p| up(p[0]) && seconds(p[0], p[1]) <= 3.0);
                let hours = runs.map(|p| seconds(p[0], p[1]) / 3600.0).sum::<f64>();
                expected[row] = (seconds(rows[0], row), last.map(|&l| seconds(l, row)), hours);
            }
        }
        for (i, row) in outcome.rows.iter().enumerate() {
            let (age, since, hours) = expected[usize::try_from(row.position).unwrap()];
            assert_eq!(outcome.numbers("age")[i], Some(age));
            assert_eq!(outcome.numbers("since_up")[i], since);
            assert!((outcome.numbers("hours")[i].unwrap() - hours).abs() < 1e-12);
        }
    }

    #[test]
    fn units_are_those_of_time() {
        let input = utc("m,t,on:bool\n").schema;
        let config = json!({ "calendar": ["hour", "day_sin"], "since_start": "age",
            "operating": { "runs": "on" } });
        let output = plan("time_features", &config, &input).output;
        let unit = |name| output.column(name).unwrap().unit.as_ref().map(|u| u.code().to_owned());
        let units = ["hour", "day_sin", "age", "runs"].map(unit);
        assert_eq!(units.map(Option::unwrap), ["h", "1", "s", "h"]);
    }

    #[test]
    fn says_what_is_wrong() {
        let cases: &[(TimeDomain, Value, &[&str])] = &[
            (TimeDomain::UtcNanos, json!({}), &["nothing is asked of the time"]),
            (
                TimeDomain::UtcNanos,
                json!({ "calendar": ["hour", "hour"], "zone": "Europe/Berln" }),
                &[
                    "calendar[1]: 'hour' is there twice",
                    "zone: there is no time zone 'Europe/Berln'",
                    "column 'hour' is there twice",
                ],
            ),
            (
                TimeDomain::UtcNanos,
                json!({ "since": { "a": "x", "t": "q" }, "operating": { "b": "on" }, "max_gap": 4,
                    "zone": "UTC" }),
                &[
                    "zone: no calendar is asked for",
                    "since.a: column 'x' is Float64, not true or false",
                    "since.t: there is no column 'q'",
                    "max_gap: '4' has no unit, but the event time is a timestamp",
                    "column 't' is there twice",
                ],
            ),
            (
                TimeDomain::Logical,
                json!({ "calendar": ["hour"] }),
                &["calendar: the event time is a count, which has no calendar"],
            ),
        ];
        for (domain, config, expected) in cases {
            let input = Table::parse(*domain, "m,t,x,on:bool\n").schema;
            let errors = try_plan("time_features", config, &input).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
