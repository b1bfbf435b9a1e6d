//! Turns rows of one value each into one row with a column for each series: long to wide.
//!
//! Input   keyed rows, each with one value and the name of the series it belongs to
//! Output  key, event time, a `Float64` column for each listed series in the unit of the value; one row for each event
//!         time of a key that has a row of a listed series, its primary key the key and the event time
//! State   for each key the values of its latest event time
//! Late    honours `late: { correct }`
//! Errors  none: a row of a series that is not listed, or of none, is left out and counted as `filtered`
//! Source  pandas `pivot_table(index=[key, time], columns=by, values=value, aggfunc="last")`
//!
//! Of values of one series and time the last counts that is not null; a series without a value is null. A row goes out
//! when a later row of the key, or its watermark, says that the event time is complete.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::ScalarBuffer;
use foreline_engine::{
    Account, Batch, ConfigError, Epoch, Family, Fault, Group, Input, Keyed, LateSupport, Operator,
    OperatorKind, Out, Planned, Resolver, Schema, ShardSet, Watermarks,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::columns::{channel, only, same_version};
use crate::emitted::Emitted;
use crate::gridded::tracks_of;
use crate::long::{Long, Series};
use crate::resample::grid_schema;

/// Raised whenever `Open` changes.
const STATE_VERSION: u32 = 1;

/// Turns rows of one value each into one row a time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PivotConfig {
    /// The column that names the series of a row; it is not part of the key.
    pub by: String,
    /// The column of the values.
    pub value: String,
    /// The series that become columns: a list of their names, or names by column, such as `drive_end: "sensor 1"`.
    pub columns: Series,
}

/// The kind `pivot`.
#[derive(Debug, Clone, Copy)]
pub struct Pivot;

impl OperatorKind for Pivot {
    type Config = PivotConfig;

    const NAME: &'static str = "pivot";
    const SUMMARY: &'static str = "turns rows of one value each into one row a time";
    const FAMILY: Family = Family::Shape;
    const EXAMPLE: &'static str = r#"wide: { from: sensors, pivot: { by: sensor, value: value, columns: { drive_end: "sensor 1", fan_end: "sensor 2" } } }"#;

    fn plan(
        config: &PivotConfig,
        inputs: &[Schema],
        _: &dyn Resolver,
    ) -> Result<Planned, Vec<ConfigError>> {
        let input = only(inputs)?;
        let long = Long::plan(input, &config.by, &config.value, &config.columns)?;
        let schema = grid_schema(input, long.columns.iter().cloned());
        let schema = schema.map_err(|e| vec![e.under("columns")])?;
        let (input, output) = (input.clone(), schema.clone());
        Ok(Planned {
            output: schema,
            late: LateSupport::Corrects,
            state_version: STATE_VERSION,
            build: Arc::new(move |_| {
                let open = Keyed::new(&input);
                let (input, output, long) = (input.clone(), output.clone(), long.clone());
                Ok(Box::new(Wide { input, output, long, open, low: i64::MIN }))
            }),
            notes: Vec::new(),
            depends_on: Vec::new(),
        })
    }
}

/// The latest event time of a key that is not complete, and its values, NaN where there is none.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Open {
    at: i64,
    /// The position of the last row that counts; `None`: nothing is open.
    position: Option<u64>,
    values: Vec<f64>,
}

impl Open {
    fn put(&mut self, (track, y): (usize, f64), at: i64, position: u64) {
        self.at = at;
        self.position = Some(position);
        if !y.is_nan() {
            self.values[track] = y;
        }
    }

    /// Sends the row if its time is before `frontier`.
    fn close(&mut self, slot: u32, frontier: i64, out: &mut Emitted) {
        if self.at < frontier
            && let Some(position) = self.position.take()
        {
            out.row(slot, self.at, position);
            for (value, channel) in self.values.iter_mut().zip(&mut out.channels) {
                channel.push(std::mem::replace(value, f64::NAN));
            }
        }
    }
}

/// The operator.
#[derive(Debug)]
struct Wide {
    input: Schema,
    output: Schema,
    long: Long,
    open: Keyed<Open>,
    /// The bound below all watermarks that rows were sent for.
    low: i64,
}

/// A batch and what is read of it.
struct Taken<'a> {
    rows: &'a Batch,
    times: &'a [i64],
    tracks: Vec<Option<usize>>,
    values: ScalarBuffer<f64>,
}

impl Wide {
    /// Takes in the rows of a key; returns how many were used.
    fn take_in(
        &mut self,
        taken: &Taken<'_>,
        group: Group,
        out: &mut Emitted,
    ) -> Result<u64, Fault> {
        let n = self.long.names.len();
        let make = || Open { values: vec![f64::NAN; n], ..Open::default() };
        let slot = self.open.slot(taken.rows, self.input.key(), group.start, make)?;
        let open = self.open.get_mut(slot);
        let mut used = 0;
        for row in group.start..group.end {
            let Some(track) = taken.tracks[row] else { continue };
            open.close(slot, taken.times[row], out);
            let position = taken.rows.position.value(row);
            open.put((track, taken.values[row]), taken.times[row], position);
            used += 1;
        }
        open.close(slot, taken.times[group.end - 1], out);
        Ok(used)
    }

    /// Sends what the watermarks complete.
    fn close(&mut self, watermarks: &Watermarks, out: &mut Emitted) {
        for (slot, at) in self.open.reached(watermarks, &mut self.low) {
            self.close_key(slot, at, out);
        }
    }

    fn close_key(&mut self, slot: u32, frontier: i64, out: &mut Emitted) {
        // Looked at first, because a look does not mark the shard as changed.
        let open = self.open.get(slot);
        if open.position.is_some() && open.at < frontier {
            self.open.get_mut(slot).close(slot, frontier, out);
        }
    }
}

impl Operator for Wide {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let batch = inputs[0].rows;
        let schema = self.input.clone();
        let taken = Taken {
            rows: batch,
            times: batch.times(&schema),
            tracks: tracks_of(batch.rows.column(self.long.by), &self.long.names)?,
            values: channel(batch.rows.column(self.long.value))?,
        };
        let mut emitted = Emitted::new(self.long.names.len());
        let mut used = 0;
        for group in batch.groups() {
            used += self.take_in(&taken, group, &mut emitted)?;
        }
        self.close(inputs[0].watermarks, &mut emitted);
        let filtered = batch.len() as u64 - used;
        out.count(Account { used, filtered, ..Account::default() });
        if let Some(rows) = emitted.batch(&mut self.open, &self.output)? {
            out.emit(rows);
        }
        Ok(())
    }

    fn dirty(&self) -> ShardSet {
        self.open.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.open.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.open.load(&state)
    }
}

#[cfg(test)]
mod tests {
    use foreline_engine::{PrimaryKey, TimeDomain};
    use serde_json::{Value, json};

    use crate::testing::{Table, check, sameness, try_plan};

    fn logical(text: &str) -> Table {
        Table::parse(TimeDomain::Logical, text)
    }

    #[test]
    fn agrees_with_pandas() {
        let input = Table::parse(TimeDomain::UtcNanos, include_str!("../reference/pivot_long.csv"));
        let expected = include_str!("../reference/pivot_wide.csv");
        let config = json!({ "by": "sensor", "value": "value", "columns": ["p", "q", "r"] });
        check("pivot", &config, &input, &Table::parse(TimeDomain::UtcNanos, expected));
    }

    #[test]
    fn the_last_value_counts_and_null_is_none() {
        let input = logical(
            "m,t,by:string,x\na,0,u,1\na,0,u,2\na,0,u,\na,0,v,\na,1,w,5\na,2,v,3\nb,2,w,1\n",
        );
        let config = json!({ "by": "by", "value": "x", "columns": { "left": "u", "right": "v" } });
        let expected = "m,t,left,right\na,0,2,\na,2,,3\n";
        check("pivot", &config, &input, &logical(expected));
        let outcome = sameness("pivot", &config, &input);
        assert_eq!((outcome.account.used, outcome.account.filtered), (5, 2));
        let primary_key = PrimaryKey { columns: vec![0, 1], position: false };
        assert_eq!(outcome.schema.primary_key(), &primary_key);
    }

    #[test]
    fn agrees_with_an_oracle_on_random_rows() {
        for seed in 0..2 {
            let input = Table::random(seed, 100, TimeDomain::Logical);
            let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
            let config = json!({ "by": "n", "value": "x", "columns": names });
            let outcome = sameness("pivot", &config, &input);
            let (times, n, x) = (input.times(), input.numbers("n"), input.numbers("x"));
            let mut want = std::collections::BTreeMap::new();
            for (key, rows) in input.by_key() {
                for row in rows.into_iter().filter(|&r| n[r].unwrap() < 20.0) {
                    let wide = want.entry((times[row], key.clone())).or_insert(vec![None; 20]);
                    let place = &mut wide[n[row].unwrap() as usize];
                    *place = x[row].or(*place);
                }
            }
            let got: std::collections::BTreeMap<_, Vec<_>> = outcome
                .rows
                .iter()
                .map(|r| {
                    let crate::testing::Cell::Text(key) = &r.cells[0] else { panic!("a key") };
                    (
                        (r.time, key.clone()),
                        r.cells[2..].iter().map(crate::testing::Cell::number).collect(),
                    )
                })
                .collect();
            assert_eq!(got, want);
            assert_eq!(got.len(), outcome.rows.len());
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let input = logical("m,t,by:string,x\n");
        let cases: &[(Value, &[&str])] = &[
            (
                json!({ "by": "z", "value": "by", "columns": ["u", "u"] }),
                &[
                    "by: there is no column 'z'",
                    "value: column 'by' is Utf8, not a number",
                    "columns[1]: 'u' is there twice",
                ],
            ),
            (
                json!({ "by": "t", "value": "x", "columns": ["u"] }),
                &["by: column 't' names nothing"],
            ),
            (
                json!({ "by": "by", "value": "x", "columns": { "t": "u" } }),
                &["columns: column 't' is there twice"],
            ),
        ];
        for (config, expected) in cases {
            let errors = try_plan("pivot", config, &input.schema).unwrap_err();
            assert_eq!(errors, *expected, "{config}");
        }
    }
}
