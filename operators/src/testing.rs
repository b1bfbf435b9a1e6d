//! Runs a step in every way the engine may run it and demands the same bits each time.
//!
//! [`check`] takes a case as data: a kind, its configuration, rows, and the rows expected. [`sameness`] does
//! the runs alone and returns what came out, for a comparison with an oracle. A case is run whole, row by row
//! and in random cuts; on one, two and three workers; with the state saved by shard at random cuts and loaded
//! into fresh operators, on another number of workers too. Every run is held to the contract as well: order of
//! rows, watermarks that are kept, the account, and shards that changed without being `dirty`. A step that late rows
//! correct is also run by the engine with its rows out of order, and what stands at the end is compared with a run in
//! order; [`late_rows_correct`] does that for steps one behind the other. Of several inputs each is cut by itself, and the
//! engine runs the step with a source for each. A step whose rows wait for later ones says how far it looks ahead.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreline_engine::{
    Account, Expression, ExpressionError, LateSupport, Planned, Resolver, SHARDS, Schema,
};

use crate::{OPERATORS, SECTIONS, signal};

#[cfg(test)]
pub(crate) use fitting::WithFile;
pub use late::late_rows_correct;
pub use run::{Dead, Row, Way};
pub use table::{Cell, Table};

mod expression;
#[cfg(test)]
mod fitting;
mod joined;
mod late;
#[cfg(test)]
pub(crate) mod recorded;
mod run;
mod table;

/// Relative tolerance against reference values from another implementation.
pub const TOLERANCE: f64 = 1e-9;

/// Random ways in which each case is run.
const RANDOM_WAYS: u64 = 24;

/// What came out of a run, sorted by key hash, event time and position.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The schema of the rows.
    pub schema: Schema,
    /// The rows.
    pub rows: Vec<Row>,
    /// The dead letters.
    pub dead: Vec<Dead>,
    /// The account, as the engine would have it.
    pub account: Account,
}

/// Plans a step.
///
/// # Panics
/// When it cannot be planned; the message lists the errors.
#[must_use]
pub fn plan(kind: &str, config: &serde_json::Value, input: &Schema) -> Planned {
    match try_plan(kind, config, input) {
        Ok(planned) => planned,
        Err(errors) => panic!("{kind} {config} cannot be planned: {errors:?}"),
    }
}

/// Plans a step, or says why not: `path: message` for each mistake.
///
/// # Errors
/// Every mistake.
///
/// # Panics
/// When there is no such kind.
pub fn try_plan(
    kind: &str,
    config: &serde_json::Value,
    input: &Schema,
) -> Result<Planned, Vec<String>> {
    try_plan_joined(kind, config, std::slice::from_ref(input))
}

/// As [`try_plan`], for a step that reads several streams.
///
/// # Errors
/// Every mistake.
///
/// # Panics
/// When there is no such kind.
pub fn try_plan_joined(
    kind: &str,
    config: &serde_json::Value,
    inputs: &[Schema],
) -> Result<Planned, Vec<String>> {
    let mut kinds = OPERATORS.iter().chain(SECTIONS);
    let registration = kinds.find(|r| r.name == kind).expect("the kind is registered");
    let config = (registration.parse)(config).map_err(|e| vec![e.to_string()])?;
    let planned = config.plan(inputs, &Given);
    planned.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// As [`sameness_ahead`], for a step that reads several streams. They are cut into epochs independently.
///
/// # Panics
/// When something differs.
#[must_use]
pub fn sameness_joined(
    kind: &str,
    config: &serde_json::Value,
    inputs: &[&Table],
    ahead: i64,
) -> Outcome {
    let schemas: Vec<Schema> = inputs.iter().map(|t| t.schema.clone()).collect();
    match try_plan_joined(kind, config, &schemas) {
        Ok(planned) => same_in_all_ways(&planned, inputs, ahead),
        Err(errors) => panic!("{kind} {config} cannot be planned: {errors:?}"),
    }
}

/// As [`check_ahead`], for a step that reads several streams.
///
/// # Panics
/// When something differs.
pub fn check_joined(
    kind: &str,
    config: &serde_json::Value,
    inputs: &[&Table],
    expected: &Table,
    ahead: i64,
) {
    sameness_joined(kind, config, inputs, ahead).assert_close(expected);
}

/// Runs a case in all ways and compares what comes out with `expected`, rows in any order, numbers to
/// [`TOLERANCE`].
///
/// # Panics
/// When something differs.
pub fn check(kind: &str, config: &serde_json::Value, input: &Table, expected: &Table) {
    let outcome = sameness(kind, config, input);
    outcome.assert_close(expected);
}

/// As [`check`], for a step whose rows wait for what is up to `ahead` after them.
///
/// # Panics
/// When something differs.
pub fn check_ahead(
    kind: &str,
    config: &serde_json::Value,
    input: &Table,
    expected: &Table,
    ahead: i64,
) {
    sameness_ahead(kind, config, input, ahead).assert_close(expected);
}

/// As [`sameness`], for a step whose rows wait for what is up to `ahead` after them: what is after an event time must
/// not show in what is more than that before it.
///
/// # Panics
/// When something differs.
#[must_use]
pub fn sameness_ahead(
    kind: &str,
    config: &serde_json::Value,
    input: &Table,
    ahead: i64,
) -> Outcome {
    same_in_all_ways(&plan(kind, config, &input.schema), &[input], ahead)
}

/// Runs a case in all ways, demands that the same comes out, that the past does not depend on the future, and
/// returns it.
///
/// # Panics
/// When something differs.
#[must_use]
pub fn sameness(kind: &str, config: &serde_json::Value, input: &Table) -> Outcome {
    sameness_ahead(kind, config, input, 0)
}

fn same_in_all_ways(planned: &Planned, inputs: &[&Table], ahead: i64) -> Outcome {
    let whole = run::run(planned, inputs, &Way::whole(inputs.len()));
    let n_rows: Vec<usize> = inputs.iter().map(|table| table.len()).collect();
    let mut ways = vec![Way::row_by_row(&n_rows, 1), Way::row_by_row(&n_rows, 3)];
    ways.extend((0..RANDOM_WAYS).map(|seed| Way::random(seed, &n_rows)));
    for way in ways {
        let again = run::run(planned, inputs, &way);
        assert_eq!(whole, again, "the result differs when run as {way:?}");
    }
    causality(planned, inputs, &whole, ahead);
    if let (LateSupport::Corrects, [input]) = (&planned.late, inputs) {
        late_rows_correct(std::slice::from_ref(planned), input);
    }
    if inputs.len() > 1 {
        joined::the_engine_agrees(planned, inputs, &whole);
    }
    whole
}

/// Runs a case whole, in one way alone: for recordings that take too long for all of them.
///
/// # Panics
/// When the step breaks its contract.
#[must_use]
pub fn once(kind: &str, config: &serde_json::Value, input: &Table) -> Outcome {
    run::run(&plan(kind, config, &input.schema), &[input], &Way::whole(1))
}

/// What is after an event time must not show in what comes out up to `ahead` before it. A waveform is out when its last
/// sample is in.
fn causality(planned: &Planned, inputs: &[&Table], whole: &Outcome, ahead: i64) {
    let times = inputs[0].times();
    for part in 1..4 {
        let Some(&until) = times.get(times.len() * part / 4) else { return };
        let others: Vec<Table> = inputs.iter().map(|t| t.with_another_future(until)).collect();
        let others: Vec<&Table> = others.iter().collect();
        let other = run::run(planned, &others, &Way::whole(inputs.len()));
        let past = |o: &Outcome| -> Vec<Row> {
            let known = |r: &&Row| o.known_at(r, inputs[0]) <= until.saturating_sub(ahead);
            o.rows.iter().filter(known).cloned().collect()
        };
        assert_eq!(past(whole), past(&other), "what follows {until} shows before it");
    }
}

impl Outcome {
    /// When a row could be known: at its event time or, where the step has cut waveforms, when the last sample was in.
    fn known_at(&self, row: &Row, input: &Table) -> i64 {
        let cut = |name: &str| input.schema.column(name).is_none_or(|c| c.sample_rate.is_none());
        let columns = self.schema.columns().iter().zip(&row.cells);
        let ends = columns.filter(|(column, _)| cut(&column.name)).filter_map(|(column, cell)| {
            let (Some(rate), Cell::List(samples)) = (column.sample_rate, cell) else { return None };
            #[expect(clippy::cast_possible_truncation, reason = "tests are short")]
            let length = (signal::count(samples.len()) / rate.hertz() * 1e9) as i64;
            Some(row.time.saturating_add(length))
        });
        ends.max().unwrap_or(row.time)
    }

    /// Compares the rows with `expected`, column by column.
    ///
    /// # Panics
    /// When they differ by more than [`TOLERANCE`].
    pub fn assert_close(&self, expected: &Table) {
        let names: Vec<_> = self.schema.columns().iter().map(|c| c.name.as_str()).collect();
        let wanted: Vec<_> = expected.schema.columns().iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, wanted, "the columns");
        let mut got: Vec<&[Cell]> = self.rows.iter().map(|r| r.cells.as_slice()).collect();
        let want = expected.cells();
        let mut want: Vec<&[Cell]> = want.iter().map(Vec::as_slice).collect();
        // Key and time come first in what is compared, so that rounding cannot change the order.
        let columns: Vec<usize> =
            self.schema.key().iter().copied().chain([self.schema.time()]).collect();
        let place = |row: &&[Cell]| columns.iter().map(|&c| row[c].clone()).collect::<Vec<_>>();
        got.sort_by_key(place);
        want.sort_by_key(place);
        assert_eq!(got.len(), want.len(), "the number of rows");
        for (got, want) in got.iter().zip(&want) {
            let close = got.iter().zip(*want).all(|(a, b)| a.close_to(b, TOLERANCE));
            assert!(close, "row {got:?} should be {want:?} ({names:?})");
        }
    }

    /// Compares the columns that `expected` has, key and time first, row by row in the order of key and time.
    ///
    /// # Panics
    /// When they differ by more than [`TOLERANCE`].
    pub fn assert_columns_close(&self, expected: &Table) {
        let wanted = expected.schema.columns().iter();
        let places: Vec<usize> = wanted
            .map(|c| self.schema.index_of(&c.name).unwrap_or_else(|| panic!("no '{}'", c.name)))
            .collect();
        let pick = |row: &Row| places.iter().map(|&c| row.cells[c].clone()).collect();
        let mut got: Vec<Vec<Cell>> = self.rows.iter().map(pick).collect();
        let mut want = expected.cells();
        for rows in [&mut got, &mut want] {
            rows.sort_by(|a, b| a[..2].cmp(&b[..2]));
        }
        assert_eq!(got.len(), want.len(), "the number of rows");
        for (got, want) in got.iter().zip(&want) {
            for ((a, b), column) in got.iter().zip(want).zip(expected.schema.columns()) {
                assert!(a.close_to(b, TOLERANCE), "{}: {a:?} should be {b:?}", column.name);
            }
        }
    }

    /// The cells of a column, in the order of the rows.
    ///
    /// # Panics
    /// When there is no such column.
    #[must_use]
    pub fn column(&self, name: &str) -> Vec<Cell> {
        let index = self.schema.index_of(name).expect("the column is there");
        self.rows.iter().map(|r| r.cells[index].clone()).collect()
    }

    /// The numbers of a column, in the order of the rows.
    ///
    /// # Panics
    /// When there is no such column, or a cell is neither number nor null.
    #[must_use]
    pub fn numbers(&self, name: &str) -> Vec<Option<f64>> {
        self.column(name).iter().map(Cell::number).collect()
    }
}

/// What plans may ask for in a test: expressions of the form `a + b`.
#[derive(Debug, Clone, Copy)]
pub struct Given;

impl Resolver for Given {
    fn expression(
        &self,
        sql: &str,
        schema: &Schema,
    ) -> Result<Arc<dyn Expression>, ExpressionError> {
        expression::compile(sql, schema)
    }

    fn path(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn cache_dir(&self) -> PathBuf {
        std::env::temp_dir()
    }

    fn checking(&self) -> bool {
        false
    }
}

/// State by shard, as a snapshot has it.
type Saved = BTreeMap<u8, arrow::array::RecordBatch>;

const _: () = assert!(SHARDS == 256, "a shard is a byte in `Saved`");

/// Numbers that look random and are the same in every run (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n - 1`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_u64() % n.max(1)
    }

    /// A number from -1 to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are left")]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use arrow::array::{BooleanArray, RecordBatch};
    use foreline_engine::{
        Epoch, Fault, Input, Keyed, LateSupport, Operator, Out, ShardSet, TimeDomain,
    };

    use super::*;

    /// A way to be wrong that the harness has to find.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Wrong {
        Nothing,
        CountsByEpoch,
        NotDirty,
        NotSaved,
        NotCounted,
        Backwards,
        WatermarkTooHigh,
    }

    /// Lets every third row of a key through.
    #[derive(Debug)]
    struct Thirds {
        wrong: Wrong,
        schema: Schema,
        seen: Keyed<u64>,
    }

    impl Thirds {
        fn is_due(&mut self, input: &Input<'_>, row: usize) -> bool {
            let slot = self.seen.slot(input.rows, self.schema.key(), row, || 0).unwrap();
            let seen = self.seen.get_mut(slot);
            *seen += 1;
            let n = if self.wrong == Wrong::CountsByEpoch { row as u64 } else { *seen };
            n.is_multiple_of(3)
        }
    }

    impl Operator for Thirds {
        fn epoch(
            &mut self,
            _: &Epoch,
            inputs: &[Input<'_>],
            out: &mut dyn Out,
        ) -> Result<(), Fault> {
            let n_rows = inputs[0].rows.len();
            let due: BooleanArray = (0..n_rows).map(|r| Some(self.is_due(&inputs[0], r))).collect();
            let mut rows = inputs[0].rows.filter(&due)?;
            if self.wrong == Wrong::Backwards {
                let backwards: Vec<u32> = (0..u32::try_from(rows.len()).unwrap()).rev().collect();
                rows = rows.take(&backwards.into())?;
            }
            let mut used = n_rows as u64;
            if self.wrong == Wrong::NotCounted {
                used = rows.len() as u64;
            }
            out.count(Account { used, ..Account::default() });
            out.emit(rows);
            let mut told = inputs[0].watermarks.clone();
            if self.wrong == Wrong::WatermarkTooHigh {
                told.at = told.at.iter().map(|at| at.map(|at| at + 1_000)).collect();
            }
            out.watermarks(told);
            Ok(())
        }

        fn dirty(&self) -> ShardSet {
            if self.wrong == Wrong::NotDirty { ShardSet::none() } else { self.seen.dirty() }
        }

        fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
            let saved = self.seen.save(shard)?;
            Ok(saved.filter(|_| self.wrong != Wrong::NotSaved))
        }

        fn load(&mut self, _: u8, _: u32, state: RecordBatch) -> Result<(), Fault> {
            self.seen.load(&state)
        }
    }

    fn is_found(wrong: Wrong) -> bool {
        let input = Table::random(1, 60, TimeDomain::Logical);
        let schema = input.schema.clone();
        let planned = Planned {
            output: schema.clone(),
            late: LateSupport::Refuses("a row in between would change which is the third"),
            state_version: 1,
            build: Arc::new(move |_| {
                let seen = Keyed::new(&schema);
                Ok(Box::new(Thirds { wrong, schema: schema.clone(), seen }))
            }),
            notes: Vec::new(),
            depends_on: Vec::new(),
        };
        catch_unwind(AssertUnwindSafe(|| same_in_all_ways(&planned, &[&input], 0))).is_err()
    }

    #[test]
    fn finds_what_is_wrong() {
        assert!(!is_found(Wrong::Nothing));
        for wrong in [
            Wrong::CountsByEpoch,
            Wrong::NotDirty,
            Wrong::NotSaved,
            Wrong::NotCounted,
            Wrong::Backwards,
            Wrong::WatermarkTooHigh,
        ] {
            assert!(is_found(wrong), "{wrong:?} was not found");
        }
    }

    #[test]
    #[should_panic(expected = "shows before it")]
    fn finds_a_look_into_the_future() {
        let input = Table::random(2, 40, TimeDomain::Logical);
        let planned =
            plan("ema", &serde_json::json!({ "columns": ["x"], "span": 3 }), &input.schema);
        let mut whole = run::run(&planned, &[&input], &Way::whole(1));
        let early = whole.rows.iter_mut().min_by_key(|row| row.time).unwrap();
        early.cells[2] = Cell::Float(input.times()[39].unsigned_abs());
        causality(&planned, &[&input], &whole, 0);
    }
}
