//! The operator: entries, commands and the clock in, changes of the book out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::util::display::array_value_to_string;
use foreline_engine::{
    Account, Batch, DeadLetter, Epoch, Fault, Input, Keyed, Operator, Out, Schema, ShardSet,
};

use super::command::{Command, Refusal, commands_schema};
use super::desk::{BOOK_FULL, Before, Desk, Done, News};
use super::entry::{Entries, by_clock, entry_schema};
use super::machine::{Alert, Machine, RuleTime};
use super::row::{self, Line, book_schema};
use super::{Rule, STATE_VERSION, Terms};
use crate::columns::same_version;

/// Keeps the book of a worker's machines.
#[derive(Debug)]
pub(super) struct Keeper {
    rules: Arc<[Rule]>,
    terms: Terms,
    machines: Keyed<Machine>,
    deadlines: Deadlines,
    /// Whether state was loaded that `deadlines` does not know of.
    is_stale: bool,
    entries: Schema,
    commands: Schema,
    output: Schema,
}

/// The machines of an epoch of which something may have changed, by hash and slot.
type Work = BTreeMap<(u64, u32), Before>;

/// When the clock brings something about, by slot: what is not due costs nothing.
#[derive(Debug, Default)]
struct Deadlines {
    order: BTreeSet<(i64, u32)>,
    of_slot: BTreeMap<u32, i64>,
}

impl Deadlines {
    fn set(&mut self, slot: u32, at: Option<i64>) {
        if let Some(before) = self.of_slot.remove(&slot) {
            self.order.remove(&(before, slot));
        }
        if let Some(at) = at {
            self.of_slot.insert(slot, at);
            self.order.insert((at, slot));
        }
    }

    fn due(&self, clock_ns: i64) -> impl Iterator<Item = u32> + '_ {
        self.order.iter().take_while(move |(at, _)| *at <= clock_ns).map(|(_, slot)| *slot)
    }
}

impl Keeper {
    pub(super) fn new(rules: Arc<[Rule]>, terms: Terms, machines: Keyed<Machine>) -> Self {
        Keeper {
            rules,
            terms,
            machines,
            deadlines: Deadlines::default(),
            is_stale: false,
            entries: entry_schema(),
            commands: commands_schema(),
            output: book_schema(),
        }
    }

    /// The desk of a machine.
    fn desk<'a>(&'a mut self, slot: u32, before: &'a mut Before, clock_ns: i64) -> Desk<'a> {
        let (machine, terms) = (self.machines.get_mut(slot), &self.terms);
        Desk { machine, before, terms, clock_ns }
    }

    /// Takes in what rules tell.
    fn hear(
        &mut self,
        inputs: &[Input<'_>],
        clock_ns: i64,
        work: &mut Work,
    ) -> Result<Account, Fault> {
        let mut news: BTreeMap<(u64, u32, String), News> = BTreeMap::new();
        let mut account = Account::default();
        let watches_view: Vec<bool> = self.rules.iter().map(|rule| rule.watches_view).collect();
        for (Input { rows, late, revised, .. }, watches_view) in inputs.iter().zip(watches_view) {
            for lane in [rows, late, revised] {
                self.read(lane, watches_view, &mut news)?;
                account.used += lane.len() as u64;
            }
        }
        for ((hash, slot, id), news) in news {
            let before = work.entry((hash, slot)).or_default();
            let n_unused = self.desk(slot, before, clock_ns).hear(&id, news) as u64;
            // It would change what has left the book.
            account.used -= n_unused;
            account.late += n_unused;
        }
        for (&(_, slot), before) in work {
            self.desk(slot, before, clock_ns).rank();
        }
        Ok(account)
    }

    /// Puts the entries of a lane to the news of their alerts.
    fn read(
        &mut self,
        lane: &Batch,
        watches_view: bool,
        news: &mut BTreeMap<(u64, u32, String), News>,
    ) -> Result<(), Fault> {
        if lane.is_empty() {
            return Ok(());
        }
        let entries = Entries::of(lane);
        let is_revised = lane.revision.is_some() || lane.deleted.is_some();
        let is_deleted = |row: usize| lane.deleted.as_ref().is_some_and(|d| d.value(row));
        for group in lane.groups() {
            let slot =
                self.machines.slot(lane, self.entries.key(), group.start, Machine::default)?;
            for row in group.start..group.end {
                let alert = entries.alert(row).to_owned();
                let news = news.entry((group.hash, slot, alert)).or_default();
                if news.rule.is_empty() {
                    news.rule = entries.rule(row).to_owned();
                    news.time = match (entries.counts(row), watches_view) {
                        (true, _) => RuleTime::Count,
                        (false, true) => RuleTime::Engine,
                        (false, false) => RuleTime::Event,
                    };
                }
                let (place, told) = (entries.place(row), entries.told(row));
                if is_revised {
                    news.revised.insert(place, (!is_deleted(row)).then_some(told));
                } else {
                    news.fresh.insert(place, told);
                }
            }
        }
        Ok(())
    }

    /// Carries commands out, those for a machine in the order of their positions.
    fn obey(
        &mut self,
        input: &Input<'_>,
        clock_ns: i64,
        work: &mut Work,
        out: &mut dyn Out,
    ) -> Result<Account, Fault> {
        let lanes = [input.rows, input.late];
        let rows = lanes.iter().flat_map(|lane| (0..lane.len()).map(move |row| (*lane, row)));
        let mut rows: Vec<(&Batch, usize)> = rows.collect();
        rows.sort_by_key(|(lane, row)| (lane.key_hash.value(*row), lane.position.value(*row)));
        // What was done cannot be taken back by a correction: there is a command for that.
        let mut account = Account { late: input.revised.len() as u64, ..Account::default() };
        for (lane, row) in rows {
            match self.obey_one(lane, row, clock_ns, work)? {
                Ok(Done::Changed) => account.used += 1,
                Ok(Done::Repeated) => account.deduplicated += 1,
                Err(refusal) => out.dead(self.refused(lane, row, refusal)),
            }
        }
        Ok(account)
    }

    fn obey_one(
        &mut self,
        lane: &Batch,
        row: usize,
        clock_ns: i64,
        work: &mut Work,
    ) -> Result<Result<Done, Refusal>, Fault> {
        let command = match Command::of(lane, row, lane.times(&self.commands)[row]) {
            Ok(command) => command,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (rules, hash) = (Arc::clone(&self.rules), lane.key_hash.value(row));
        let key = self.commands.key();
        if self.machines.find(hash).is_some() {
            let slot = self.machines.slot(lane, key, row, Machine::default)?;
            let before = work.entry((hash, slot)).or_default();
            return Ok(self.desk(slot, before, clock_ns).carry_out(&command, &rules));
        }
        let (mut machine, mut before) = (Machine::default(), Before::new());
        let mut desk =
            Desk { machine: &mut machine, before: &mut before, terms: &self.terms, clock_ns };
        let done = desk.carry_out(&command, &rules);
        // A machine that nothing is known of is not kept, lest commands for what does not exist fill the memory.
        if machine != Machine::default() {
            let slot = self.machines.slot(lane, key, row, Machine::default)?;
            *self.machines.get_mut(slot) = machine;
            work.insert((hash, slot), before);
        }
        Ok(done)
    }

    fn refused(&self, lane: &Batch, row: usize, Refusal(reason, detail): Refusal) -> DeadLetter {
        let machine = lane.rows.column(self.commands.key()[0]);
        DeadLetter {
            // The display of text does not fail.
            key: Some(array_value_to_string(machine, row).unwrap_or_default()),
            time: Some(lane.times(&self.commands)[row]),
            position: Some(lane.position.value(row)),
            ..DeadLetter::new(reason, detail)
        }
    }

    /// Does what the clock brings about, in the machines at work.
    fn elapse(&mut self, clock_ns: i64, work: &mut Work, out: &mut dyn Out) {
        for (&(_, slot), before) in work {
            let mut desk = self.desk(slot, before, clock_ns);
            desk.elapse();
            let surplus = desk.leave();
            for (id, alert) in surplus {
                out.dead_after_all(self.surplus(slot, &id, &alert));
            }
            let next = self.machines.get(slot).next(&self.terms);
            self.deadlines.set(slot, next);
        }
    }

    fn surplus(&self, slot: u32, id: &str, alert: &Alert) -> DeadLetter {
        let detail = format!(
            "alert '{id}' of rule '{}' has left the book before its time, because more than {} of its machine are cleared; \
             raise 'closed', or let the rule be raised less often",
            alert.rule, self.terms.closed
        );
        let key = Some(self.machines.key_text(slot));
        DeadLetter { key, ..DeadLetter::new(BOOK_FULL, detail) }
    }

    /// Says what is other than at the start of the epoch.
    fn tell(&self, work: Work, out: &mut dyn Out) -> Result<(), Fault> {
        let (mut came, mut went) = (Vec::new(), Vec::new());
        for ((_, slot), before) in work {
            let machine = self.machines.key_text(slot);
            for (alert, before) in before {
                let now = self.machines.get(slot).alerts.get(&alert).map(Alert::shown);
                if now == before {
                    continue;
                }
                let line = |shown| Line { alert: alert.clone(), machine: machine.clone(), shown };
                went.extend(before.map(line));
                came.extend(now.map(line));
            }
        }
        if !came.is_empty() {
            out.emit(row::batch(&self.output, &came)?);
        }
        if !went.is_empty() {
            let mut went = row::batch(&self.output, &went)?;
            went.revision = Some(UInt32Array::from(vec![0; went.len()]));
            went.deleted = Some(BooleanArray::from(vec![true; went.len()]));
            out.emit(went);
        }
        Ok(())
    }

    /// Finds the deadlines of state that was loaded.
    fn look_up_deadlines(&mut self) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        for slot in self.machines.slots_by_hash().to_vec() {
            self.deadlines.set(slot, self.machines.get(slot).next(&self.terms));
        }
    }
}

impl Operator for Keeper {
    fn epoch(
        &mut self,
        epoch: &Epoch,
        inputs: &[Input<'_>],
        out: &mut dyn Out,
    ) -> Result<(), Fault> {
        let (clock_ns, mut work) = (epoch.clock_ns, Work::new());
        self.look_up_deadlines();
        let (entries, commands) = inputs.split_at(self.rules.len());
        out.count(self.hear(entries, clock_ns, &mut work)?);
        for input in commands {
            let account = self.obey(input, clock_ns, &mut work, out)?;
            out.count(account);
        }
        for slot in self.deadlines.due(clock_ns) {
            work.entry((self.machines.hash(slot), slot)).or_default();
        }
        self.elapse(clock_ns, &mut work, out);
        self.tell(work, out)?;
        let has_ended = inputs.iter().all(|input| input.watermarks.ended());
        out.watermarks(by_clock(&self.output, clock_ns, has_ended));
        Ok(())
    }

    fn standing(&mut self) -> Result<Vec<Batch>, Fault> {
        let mut lines = Vec::new();
        for slot in self.machines.slots_by_hash().to_vec() {
            let machine = self.machines.key_text(slot);
            let alerts = self.machines.get(slot).alerts.iter();
            lines.extend(alerts.map(|(alert, known)| {
                let (alert, machine) = (alert.clone(), machine.clone());
                Line { alert, machine, shown: known.shown() }
            }));
        }
        Ok(vec![row::batch(&self.output, &lines)?])
    }

    fn dirty(&self) -> ShardSet {
        self.machines.dirty()
    }

    fn save(&mut self, shard: u8) -> Result<Option<RecordBatch>, Fault> {
        self.machines.save(shard)
    }

    fn load(&mut self, _: u8, version: u32, state: RecordBatch) -> Result<(), Fault> {
        same_version(version, STATE_VERSION)?;
        self.is_stale = true;
        self.machines.load(&state)
    }
}
