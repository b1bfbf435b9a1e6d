//! A step that looks at one row at a time.
//!
//! New rows that do not go on are left out. A *revised* row was sent on before, so where it does not go on
//! any more it goes out as deleted: a sink then takes it back.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::util::display::array_value_to_string;
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Fault, Input, LateSupport, Operator, Out, Planned, Reason,
    Schema,
};

/// What a row becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on.
    Kept,
    /// A condition of the user leaves it out.
    Filtered,
    /// It cannot be used.
    Dead(Reason, String),
}

/// A function of rows.
pub(crate) trait PerRow: Debug {
    /// A row of the output for each row, and what becomes of it; `None` when all go on.
    fn apply(&self, rows: &RecordBatch) -> Result<(RecordBatch, Option<Vec<Fate>>), Fault>;

    /// Which rows go on, of a function that changes none of them and can use them all; `None`: what `apply` says. A
    /// fate a row is several times as large as the row's number.
    fn chosen(&self, _: &RecordBatch) -> Result<Option<BooleanArray>, Fault> {
        Ok(None)
    }
}

/// The step that sends rows of `input` through `function`, which makes rows of `output` of them.
pub(crate) fn planned<F>(input: &Schema, output: Schema, function: F) -> Planned
where
    F: PerRow + Clone + Send + Sync + 'static,
{
    let input = input.clone();
    Planned {
        output,
        late: LateSupport::Stateless,
        state_version: 0,
        build: Arc::new(move |_| {
            Ok(Box::new(Stateless { input: input.clone(), function: function.clone() }))
        }),
        notes: Vec::new(),
        depends_on: Vec::new(),
    }
}

/// The operator of a function of rows.
#[derive(Debug)]
pub(crate) struct Stateless<F> {
    pub(crate) input: Schema,
    pub(crate) function: F,
}

impl<F: PerRow> Operator for Stateless<F> {
    fn epoch(&mut self, _: &Epoch, inputs: &[Input<'_>], out: &mut dyn Out) -> Result<(), Fault> {
        let input = &inputs[0];
        if let Some(rows) = self.new_rows(input.rows, out)? {
            out.emit(rows);
        }
        if let Some(rows) = self.new_rows(input.late, out)? {
            out.emit_late(rows);
        }
        if !input.revised.is_empty() {
            let revised = self.revised(input.revised, out)?;
            out.emit(revised);
        }
        Ok(())
    }
}

impl<F: PerRow> Stateless<F> {
    /// The rows that go on.
    fn new_rows(&self, batch: &Batch, out: &mut dyn Out) -> Result<Option<Batch>, Fault> {
        if batch.is_empty() {
            return Ok(None);
        }
        if let Some(kept) = self.function.chosen(&batch.rows)? {
            let used = kept.true_count() as u64;
            let filtered = batch.len() as u64 - used;
            out.count(Account { used, filtered, ..Account::default() });
            return Ok(if used > 0 { Some(batch.filter(&kept)?) } else { None });
        }
        let (rows, fates) = self.function.apply(&batch.rows)?;
        let mapped = Batch { rows, ..batch.clone() };
        let Some(fates) = fates else {
            out.count(Account { used: batch.len() as u64, ..Account::default() });
            return Ok(Some(mapped));
        };
        self.report(batch, &fates, out);
        let kept: BooleanArray = fates.iter().map(|f| Some(*f == Fate::Kept)).collect();
        let mapped = mapped.filter(&kept)?;
        Ok((!mapped.is_empty()).then_some(mapped))
    }

    /// The rows again, those that do not go on any more as deleted.
    fn revised(&self, batch: &Batch, out: &mut dyn Out) -> Result<Batch, Fault> {
        let (rows, fates) = self.function.apply(&batch.rows)?;
        let was_deleted = |row: usize| batch.deleted.as_ref().is_some_and(|d| d.value(row));
        let mut fates = fates.unwrap_or_else(|| vec![Fate::Kept; batch.len()]);
        for (row, fate) in fates.iter_mut().enumerate() {
            if was_deleted(row) {
                *fate = Fate::Kept;
            }
        }
        self.report(batch, &fates, out);
        let gone = fates.iter().enumerate();
        let deleted = gone.map(|(row, f)| Some(was_deleted(row) || *f != Fate::Kept)).collect();
        Ok(Batch { rows, deleted: Some(deleted), ..batch.clone() })
    }

    /// Counts the rows, and says of the dead ones why.
    fn report(&self, batch: &Batch, fates: &[Fate], out: &mut dyn Out) {
        let mut account = Account::default();
        for (row, fate) in fates.iter().enumerate() {
            match fate {
                Fate::Kept => account.used += 1,
                Fate::Filtered => account.filtered += 1,
                Fate::Dead(reason, detail) => out.dead(DeadLetter {
                    key: Some(self.key_text(&batch.rows, row)),
                    time: Some(batch.times(&self.input)[row]),
                    position: Some(batch.position.value(row)),
                    ..DeadLetter::new(*reason, detail.as_str())
                }),
            }
        }
        out.count(account);
    }

    fn key_text(&self, rows: &RecordBatch, row: usize) -> String {
        let texts = self.input.key().iter().map(|&k| {
            // The display of a key column, which is text or a whole number, does not fail.
            array_value_to_string(rows.column(k), row).unwrap_or_default()
        });
        texts.collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{UInt32Array, UInt64Array};
    use foreline_engine::{TimeDomain, Watermarks, WorkerContext, hash_keys};
    use serde_json::json;

    use super::*;
    use crate::testing::{Table, plan};

    #[derive(Default)]
    struct Heard {
        rows: Vec<Batch>,
        late: Vec<Batch>,
        account: Account,
        dead: u64,
    }

    impl Out for Heard {
        fn emit(&mut self, rows: Batch) {
            self.rows.push(rows);
        }
        fn emit_late(&mut self, rows: Batch) {
            self.late.push(rows);
        }
        fn watermarks(&mut self, _: Watermarks) {}
        fn dead(&mut self, _: DeadLetter) {
            self.dead += 1;
        }
        fn count(&mut self, account: Account) {
            self.account.add(&account);
        }
    }

    fn batch(text: &str) -> Batch {
        let table = Table::parse(TimeDomain::Logical, text);
        let hashes = hash_keys(&table.rows, table.schema.key());
        let positions = (0..table.len() as u64).collect::<UInt64Array>();
        Batch::new(table.rows, hashes, positions).unwrap()
    }

    fn run(kind: &str, config: &serde_json::Value, late: &Batch, revised: &Batch) -> Heard {
        let input = Table::parse(TimeDomain::Logical, "m,t,a:int64,b:int64\n");
        let planned = plan(kind, config, &input.schema);
        let mut operator = (planned.build)(WorkerContext { index: 0, peers: 1 }).unwrap();
        let (rows, watermarks) =
            (batch("m,t,a:int64,b:int64\n"), Watermarks::none(input.schema.key_arrow()));
        let epoch = Epoch { id: 0, clock_ns: 0, inputs: vec![], commands: vec![], ended: vec![] };
        let mut heard = Heard::default();
        let input = Input { rows: &rows, late, revised, watermarks: &watermarks };
        operator.epoch(&epoch, &[input], &mut heard).unwrap();
        heard
    }

    fn revised() -> Batch {
        let mut batch = batch("m,t,a:int64,b:int64\na,0,8,1\na,1,8,0\na,2,1,0\n");
        batch.revision = Some(UInt32Array::from(vec![1, 2, 1]));
        batch.deleted = Some(BooleanArray::from(vec![false, false, true]));
        batch
    }

    #[test]
    fn a_corrected_row_that_no_longer_passes_goes_out_as_deleted() {
        let none = batch("m,t,a:int64,b:int64\n");
        let heard = run("filter", &json!("b > 0"), &none, &revised());
        assert_eq!(heard.rows.len(), 1);
        let out = &heard.rows[0];
        assert_eq!(out.deleted, Some(BooleanArray::from(vec![false, true, true])));
        assert_eq!(out.revision, revised().revision);
        assert_eq!((heard.account.used, heard.account.filtered), (2, 1));
    }

    #[test]
    fn a_corrected_row_that_fails_is_a_dead_letter_and_taken_back() {
        let none = batch("m,t,a:int64,b:int64\n");
        let heard = run("derive", &json!({ "columns": { "q": "a / b" } }), &none, &revised());
        let out = &heard.rows[0];
        assert_eq!(out.deleted, Some(BooleanArray::from(vec![false, true, true])));
        // The row that was deleted before is not blamed for a value that nobody asks for.
        assert_eq!((heard.dead, heard.account.used), (1, 2));
    }

    #[test]
    fn a_late_row_stays_late() {
        let (late, none) =
            (batch("m,t,a:int64,b:int64\na,0,8,1\na,1,8,0\n"), batch("m,t,a:int64,b:int64\n"));
        let heard = run("filter", &json!("b > 0"), &late, &none);
        assert!(heard.rows.is_empty());
        assert_eq!((heard.late.len(), heard.late[0].len(), heard.account.filtered), (1, 1, 1));
    }
}
