//! The step at work: which version acts on which rows, what comes out, and the state between epochs.
//!
//! What a reader would get wrong: a version that acts on a row and is a shadow too scores it once, so that its state moves on
//! once. And what is told by the relation of swaps comes before an epoch, so all rows of an epoch see the same versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, UInt32Type};
use arrow::util::display::array_value_to_string;
use foreline_engine::{Account, Batch, DeadLetter, Epoch, Fault, Input, Operator, Out, ShardSet};

use super::config::OnError;
use super::drift::{DriftWatch, STATE_NAME};
use super::explain::because;
use super::ledger::{Ledger, Share, Work};
use super::operation::{CHAMPION, Operation, Standing};
use super::plan::Version;
use super::rows::{FeatureColumns, label_column, output_column};
use super::scoring::Outcome;
use super::seat::{Recipe, Seat, row_number};
use super::switchboard::{Switchboard, Told};
use super::warn::outside;

/// Column of saved state with the version that a key's state is of, where there are several.
const VERSION_COLUMN: &str = "foreline_version";
/// Column of saved state with the state version of that version.
const STATE_VERSION_COLUMN: &str = "foreline_state_version";

/// State of a version that is not there yet: shard, state version, rows.
type Waiting = Vec<(u8, u32, RecordBatch)>;

/// A model on one worker.
#[derive(Debug)]
pub(super) struct ModelStep {
    operation: Arc<Operation>,
    ledger: Arc<Ledger>,
    switchboard: Option<Arc<Switchboard>>,
    /// The versions by name; the champion is always there.
    seats: BTreeMap<String, Seat>,
    standing: Standing,
    /// What was told of the step's versions while it ran.
    told: Told,
    /// State that was loaded before its version was told of.
    waiting: BTreeMap<String, Waiting>,
    /// Where the step warns of drift.
    drift: Option<DriftWatch>,
    /// Whether the standing is news to the switchboard.
    is_news: bool,
}

/// How rows go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// New rows, and those with a revision.
    New,
    /// Rows behind their key's watermark, for steps below that correct.
    Late,
}

/// What became of a batch.
struct Scored {
    /// Of each row, by the version that acts on it.
    acted: Outcome,
    /// The version that acts on each row, as its place among the seats; all on `one` where that is given.
    by: Vec<usize>,
    one: Option<usize>,
    /// What each shadow says, if it is there.
    shadows: Vec<Option<Outcome>>,
}

impl ModelStep {
    pub(super) fn new(
        operation: Arc<Operation>,
        ledger: Arc<Ledger>,
        switchboard: Option<Arc<Switchboard>>,
    ) -> Result<Self, Fault> {
        let seat = |(name, version): (&String, &Arc<Version>)| {
            let share = Share::new(Arc::clone(&ledger), name);
            Ok((name.clone(), Seat::new(Arc::clone(version), &operation.input, share)?))
        };
        let seats = operation.versions.iter().map(seat).collect::<Result<_, Fault>>()?;
        let drift = operation.champion().recipe.drift.clone();
        let drift = drift.map(|yardstick| DriftWatch::new(yardstick, &operation.input));
        Ok(ModelStep {
            standing: operation.standing.clone(),
            told: Told::default(),
            waiting: BTreeMap::new(),
            drift,
            is_news: true,
            operation,
            ledger,
            switchboard,
            seats,
        })
    }

    /// The version that acts on each row, as its place among the seats. Of a version that is not there the champion does its
    /// work: a file may have lost one that acted before.
    fn acting(&self, batch: &Batch) -> Result<Vec<usize>, Fault> {
        let place: BTreeMap<&str, usize> = self.seats.keys().map(String::as_str).zip(0..).collect();
        let of = |name: &str| place.get(name).or(place.get(CHAMPION)).copied().unwrap_or_default();
        let mut by = vec![of(&self.standing.acts); batch.len()];
        if self.standing.canary.is_some() {
            for group in batch.groups() {
                by[group.start..group.end].fill(of(self.standing.of(group.hash)));
            }
        }
        if let Some(route) = &self.operation.route {
            for (by, named) in by.iter_mut().zip(route.named(batch)?) {
                if let Some(named) = named.and_then(|name| place.get(name.as_str())) {
                    *by = *named;
                }
            }
        }
        Ok(by)
    }

    fn score(&mut self, epoch: u64, batch: &Batch) -> Result<Scored, Fault> {
        if self.seats.len() == 1 && !self.operation.shadows.iter().any(|name| name == CHAMPION) {
            return self.score_alone(epoch, batch);
        }
        let by = self.acting(batch)?;
        let one = by.first().copied().filter(|first| by.iter().all(|b| b == first));
        let n_outputs = self.operation.champion().outputs.len();
        let mut acted = Outcome::nothing(batch.len(), n_outputs);
        let shadows = &self.operation.shadows;
        let mut said: Vec<Option<Outcome>> = shadows.iter().map(|_| None).collect();
        for (place, (name, seat)) in self.seats.iter_mut().enumerate() {
            let shadow = shadows.iter().position(|s| s == name);
            let mine: Vec<bool> = by.iter().map(|&b| b == place).collect();
            let n_acted = mine.iter().filter(|mine| **mine).count();
            if shadow.is_none() && n_acted == 0 {
                continue;
            }
            let is_all = shadow.is_some() || n_acted == batch.len();
            let outcome = seat.score(epoch, batch, (!is_all).then_some(&mine[..]))?;
            let n_rows = if is_all { batch.len() } else { n_acted };
            let acted_on = done(batch, &outcome, n_outputs, Some(&mine));
            let all = if is_all { done(batch, &outcome, n_outputs, None) } else { acted_on };
            let work = Work {
                acted: n_acted as u64,
                shadowed: (n_rows - n_acted) as u64,
                shadow_failed: all.failed - acted_on.failed,
                shadow_unscored: all.unscored - acted_on.unscored,
                ..acted_on
            };
            self.ledger.count(name, work);
            match shadow {
                None if n_acted == batch.len() => acted = outcome,
                None => acted.take_rows(outcome, &mine, n_outputs),
                Some(shadow) => {
                    acted.copy_rows(&outcome, &mine, n_outputs);
                    said[shadow] = Some(outcome);
                }
            }
        }
        Ok(Scored { acted, by, one, shadows: said })
    }

    /// The same where there is the champion and nobody else, as nearly everywhere: no row has to be asked whose it is.
    fn score_alone(&mut self, epoch: u64, batch: &Batch) -> Result<Scored, Fault> {
        let mut acted = Outcome::nothing(0, 0);
        for seat in self.seats.values_mut() {
            acted = seat.score(epoch, batch, None)?;
        }
        let n_outputs = self.operation.champion().outputs.len();
        self.ledger.count(CHAMPION, done(batch, &acted, n_outputs, None));
        let shadows = self.operation.shadows.iter().map(|_| None).collect();
        Ok(Scored { acted, by: Vec::new(), one: Some(0), shadows })
    }

    /// Sends on what was scored, and what was not as `on_error` says.
    fn emit(
        &mut self,
        lane: Lane,
        batch: &Batch,
        said: Scored,
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let columns = self.columns(lane, batch, &said)?;
        let mut scored = batch.with_columns(self.operation.output.arrow(), columns)?;
        let rejected = said.acted.rejected;
        if let Some((row, (reason, message))) = rejected.first_key_value() {
            match self.operation.on_error {
                OnError::Null => {}
                OnError::Fail => {
                    let letter = self.letter(batch, *row, *reason, message.clone());
                    let key = letter.key.unwrap_or_default();
                    return Err(Fault::new(format!(
                        "key '{key}' cannot be scored: {message} ({reason})"
                    )));
                }
                OnError::DeadLetter => {
                    let keep =
                        (0..batch.len()).map(|row| Some(!rejected.contains_key(&row_number(row))));
                    scored = scored.filter(&keep.collect::<BooleanArray>())?;
                    for (row, (reason, message)) in rejected {
                        out.dead(self.letter(batch, row, reason, message));
                    }
                }
            }
        }
        out.count(Account { used: scored.len() as u64, ..Account::default() });
        match lane {
            _ if scored.is_empty() => {}
            Lane::New => out.emit(scored),
            Lane::Late => out.emit_late(scored),
        }
        Ok(())
    }

    fn columns(
        &mut self,
        lane: Lane,
        batch: &Batch,
        said: &Scored,
    ) -> Result<Vec<ArrayRef>, Fault> {
        let operation = Arc::clone(&self.operation);
        let recipe = &operation.champion().recipe;
        let nothing = Outcome::nothing(0, recipe.labels.len());
        let mut columns = batch.rows.columns().to_vec();
        scores(&mut columns, &said.acted, recipe);
        if let Some(ranges) = &recipe.ranges {
            let features = FeatureColumns::new(&batch.rows, &recipe.features)?;
            let is_deleted =
                |row: usize| batch.deleted.as_ref().is_some_and(|deleted| deleted.value(row));
            columns.push(Arc::new(outside(&features, ranges, is_deleted, batch.len())));
        }
        if let Some(drift) = &mut self.drift {
            let (psi, drifted) = drift.columns(batch, lane == Lane::New)?;
            columns.extend([Arc::new(psi) as ArrayRef, Arc::new(drifted)]);
        }
        columns.extend(self.provenance(batch.len(), said));
        for shadow in &said.shadows {
            match shadow {
                Some(outcome) => scores(&mut columns, outcome, recipe),
                None => {
                    let before = columns.len();
                    scores(&mut columns, &nothing, recipe);
                    for column in &mut columns[before..] {
                        *column = arrow::array::new_null_array(column.data_type(), batch.len());
                    }
                }
            }
        }
        Ok(columns)
    }

    /// Which model acted on each row.
    fn provenance(&mut self, n_rows: usize, said: &Scored) -> Vec<ArrayRef> {
        let mut seats: Vec<&mut Seat> = self.seats.values_mut().collect();
        if let Some(one) = said.one {
            return seats[one].provenance.iter_mut().map(|c| c.column(n_rows)).collect();
        }
        let recipes: Vec<_> = seats.iter().map(|seat| Arc::clone(&seat.version)).collect();
        let column = |of: fn(&Recipe) -> &String| -> ArrayRef {
            let values = said.by.iter().map(|&by| of(&recipes[by].recipe));
            Arc::new(StringArray::from_iter_values(values))
        };
        vec![column(|r| &r.name), column(|r| &r.version), column(|r| &r.digest)]
    }

    fn letter(
        &self,
        batch: &Batch,
        row: u32,
        reason: foreline_engine::Reason,
        message: String,
    ) -> DeadLetter {
        let row = row as usize;
        let key = self.operation.input.key().iter();
        let key =
            key.map(|&k| array_value_to_string(batch.rows.column(k), row).unwrap_or_default());
        DeadLetter {
            key: Some(key.collect::<Vec<_>>().join(",")),
            time: Some(batch.times(&self.operation.input)[row]),
            position: Some(batch.position.value(row)),
            ..DeadLetter::new(reason, message)
        }
    }

    /// Makes what was told of the step's versions true: versions come and go, and another one acts.
    fn restand(&mut self, switchboard: &Switchboard) -> Result<(), Fault> {
        for (name, digest) in self.told.versions() {
            if self.operation.versions.contains_key(name) {
                continue;
            }
            let version = switchboard.version(digest)?;
            let is_there = self.seats.get(name).is_some_and(|s| Arc::ptr_eq(&s.version, &version));
            if is_there {
                continue;
            }
            let share = Share::new(Arc::clone(&self.ledger), name);
            let mut seat = Seat::new(version, &self.operation.input, share)?;
            for (shard, state_version, state) in self.waiting.remove(name).unwrap_or_default() {
                seat.load(shard, state_version, &state)?;
            }
            if let Some(mut before) = self.seats.remove(name) {
                seat.take_over(&mut before, |_| true);
            }
            self.seats.insert(name.clone(), seat);
        }
        let (operation, told) = (&self.operation, &self.told);
        self.seats.retain(|name, _| operation.versions.contains_key(name) || told.has(name));
        let standing = self.told.standing().unwrap_or_else(|| self.operation.standing.clone());
        if standing != self.standing {
            let before = std::mem::replace(&mut self.standing, standing.clone());
            self.hand_over(&before, &standing);
            self.is_news = true;
        }
        Ok(())
    }

    /// A version that acts on a key from now on goes on from the state of the one that did.
    fn hand_over(&mut self, before: &Standing, after: &Standing) {
        fn parts(standing: &Standing) -> impl Iterator<Item = &String> {
            std::iter::once(&standing.acts).chain(standing.canary.as_ref().map(|(name, _)| name))
        }
        for to in parts(after) {
            let Some(mut seat) = self.seats.remove(to) else { continue };
            for from in parts(before).filter(|from| *from != to) {
                if let Some(other) = self.seats.get_mut(from) {
                    seat.take_over(other, |hash| before.of(hash) == from && after.of(hash) == to);
                }
            }
            self.seats.insert(to.clone(), seat);
        }
    }
}

/// What became of the rows of a batch that are `mine`, all of them where that is `None`, if the version acts on them.
fn done(batch: &Batch, outcome: &Outcome, n_outputs: usize, mine: Option<&[bool]>) -> Work {
    let is_mine = |row: usize| mine.is_none_or(|mine| mine[row]);
    let is_deleted = |row: usize| batch.deleted.as_ref().is_some_and(|d| d.value(row));
    let failed = outcome.rejected.keys().filter(|row| is_mine(**row as usize)).count();
    let scores = outcome.outputs.chunks_exact(n_outputs).enumerate();
    let without = scores.filter(|(row, scores)| {
        scores.iter().all(|score| score.is_nan()) && is_mine(*row) && !is_deleted(*row)
    });
    // A row that failed has no score either.
    let unscored = without.count().saturating_sub(failed) as u64;
    Work { acted: batch.len() as u64, failed: failed as u64, unscored, ..Work::default() }
}

/// The columns of an outcome, with the labels of classes.
fn scores(columns: &mut Vec<ArrayRef>, outcome: &Outcome, recipe: &Recipe) {
    let n_outputs = recipe.labels.len();
    let is_part = |at: usize| recipe.explained.iter().any(|parts| parts.has(at));
    for output in (0..n_outputs).filter(|&at| !is_part(at)) {
        let column = output_column(&outcome.outputs, output, n_outputs);
        let labels = recipe.labels[output].as_ref();
        let label = labels.map(|labels| label_column(&column, labels));
        columns.push(column);
        columns.extend(label);
    }
    for parts in &recipe.explained {
        if let Some(top) = recipe.top {
            let names = &recipe.column_names;
            columns.push(Arc::new(because(&outcome.outputs, n_outputs, parts, names, top)));
        } else {
            let places = std::iter::once(&parts.base).chain(&parts.by);
            columns.extend(places.map(|&at| output_column(&outcome.outputs, at, n_outputs)));
        }
    }
}

impl Operator for ModelStep {
    fn epoch(
        &mut self,
        epoch: &Epoch,
        inputs: &[Input<'_>],
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        // State of versions that nobody knows any more.
        self.waiting.clear();
        self.seats.values_mut().for_each(Seat::begin_epoch);
        if std::mem::take(&mut self.is_news)
            && let Some(switchboard) = &self.switchboard
        {
            switchboard.stands(epoch.id, &self.standing);
        }
        for input in inputs {
            for (lane, batch) in
                [(Lane::New, input.rows), (Lane::Late, input.late), (Lane::New, input.revised)]
            {
                if !batch.is_empty() {
                    let said = self.score(epoch.id, batch)?;
                    self.emit(lane, batch, said, out)?;
                }
            }
        }
        self.seats.values_mut().for_each(|seat| seat.settle(epoch.id));
        Ok(())
    }

    fn relation(&mut self, _input: usize, went: &Batch, came: &Batch) -> Result<(), Fault> {
        let Some(switchboard) = self.switchboard.clone() else {
            return Err(Fault::new("this model is not operated while it runs"));
        };
        self.told.change(switchboard.step(), &went.rows, &came.rows)?;
        self.restand(&switchboard)
    }

    fn dirty(&self) -> ShardSet {
        let mut dirty = ShardSet::none();
        let drift = self.drift.iter().map(DriftWatch::dirty);
        for of_one in self.seats.values().map(Seat::dirty).chain(drift) {
            of_one.iter().for_each(|shard| dirty.insert(shard));
        }
        dirty
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        let is_plain = !self.operation.has_versions && self.drift.is_none();
        let mut saved = Vec::new();
        for (name, seat) in &mut self.seats {
            let Some(state) = seat.save(shard)? else { continue };
            if is_plain {
                return Ok(Some(state));
            }
            saved.push(named(&state, name, seat.version.recipe.state_version)?);
        }
        if let Some(drift) = &mut self.drift
            && let Some(state) = drift.save(shard)?
        {
            saved.push(named(&state, STATE_NAME, 0)?);
        }
        let Some(first) = saved.first() else { return Ok(None) };
        Ok(Some(concat_batches(&first.schema(), &saved)?))
    }

    fn load(&mut self, shard: u8, state_version: u32, state: RecordBatch) -> Result<(), Fault> {
        if !self.operation.has_versions && self.drift.is_none() {
            let seat = self.seats.get_mut(CHAMPION);
            return seat.map_or(Ok(()), |seat| seat.load(shard, state_version, &state));
        }
        for (name, state_version, state) in by_version(&state)? {
            if let Some(drift) = &mut self.drift
                && name == STATE_NAME
            {
                drift.load(&state)?;
                continue;
            }
            match self.seats.get_mut(&name) {
                Some(seat) => seat.load(shard, state_version, &state)?,
                None => {
                    self.waiting.entry(name).or_default().push((shard, state_version, state));
                }
            }
        }
        Ok(())
    }
}

/// Saved state with the version that it is of.
fn named(state: &RecordBatch, name: &str, state_version: u32) -> Result<RecordBatch, Fault> {
    let n = state.num_rows();
    let names = StringArray::from_iter_values(std::iter::repeat_n(name, n));
    let versions = UInt32Array::from_value(state_version, n);
    let mut fields = state.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(VERSION_COLUMN, DataType::Utf8, false)));
    fields.push(Arc::new(Field::new(STATE_VERSION_COLUMN, DataType::UInt32, false)));
    let mut columns = state.columns().to_vec();
    columns.extend([Arc::new(names) as ArrayRef, Arc::new(versions)]);
    Ok(RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)?)
}

/// Saved state by version.
fn by_version(state: &RecordBatch) -> Result<Vec<(String, u32, RecordBatch)>, Fault> {
    let bad = || Fault::new("saved state cannot be read: it does not say of which version it is");
    let n = state.num_columns().checked_sub(2).ok_or_else(bad)?;
    let names = state.column(n).as_string_opt::<i32>().ok_or_else(bad)?;
    let versions = state.column(n + 1).as_primitive_opt::<UInt32Type>().ok_or_else(bad)?;
    let of: BTreeMap<&str, u32> =
        (0..state.num_rows()).map(|row| (names.value(row), versions.value(row))).collect();
    let own = state.project(&(0..n).collect::<Vec<_>>())?;
    let part = |(name, version): (&str, u32)| {
        let rows: BooleanArray = names.iter().map(|n| Some(n == Some(name))).collect();
        Ok((name.to_owned(), version, filter_record_batch(&own, &rows)?))
    };
    of.into_iter().map(part).collect()
}
