//! One machine in one epoch: what rules tell of it, what people do, and what the clock brings about.

use std::collections::BTreeMap;

use foreline_engine::Reason;

use super::command::{Command, Refusal, UNKNOWN_ALERT, UNKNOWN_RULE, Verb};
use super::machine::{Acknowledged, Alert, Change, Machine, Marks, Place, RuleTime, Told};
use super::row::Shown;
use super::{Rule, Terms};

/// An alert left the book before its time: more of its machine were cleared than it may have.
pub const BOOK_FULL: Reason = Reason("book_full");

/// Most ids of commands that are remembered of a machine. Whoever sends a command again does so soon after.
pub(super) const COMMANDS_KEPT: usize = 100;

/// Most alerts of a machine that were taken back and are remembered, in case a later correction brings them back.
pub(super) const WITHDRAWN_KEPT: usize = 100;

/// How alerts stood at the start of the epoch: those that were touched since, `None` where they were not there.
pub(super) type Before = BTreeMap<String, Option<Shown>>;

/// What was told of an alert in an epoch.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) rule: String,
    pub(super) time: RuleTime,
    /// Told for the first time.
    pub(super) fresh: BTreeMap<Place, Told>,
    /// Told before, and other now; `None`: it is taken back.
    pub(super) revised: BTreeMap<Place, Option<Told>>,
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Changed,
    /// It was carried out before, or all was so already.
    Repeated,
}

/// A machine at work in an epoch.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) machine: &'a mut Machine,
    pub(super) before: &'a mut Before,
    pub(super) terms: &'a Terms,
    pub(super) clock_ns: i64,
}

/// What rules tell.
impl Desk<'_> {
    /// Takes in what was told of an alert; how many rows could not be used, since it has left the book.
    pub(super) fn hear(&mut self, id: &str, mut news: News) -> usize {
        let is_known = self.machine.alerts.contains_key(id);
        let n_unused =
            if is_known { self.correct(id, &mut news) } else { self.begin(id, &mut news) };
        n_unused + self.proceed(id, news.fresh)
    }

    /// Opens an alert if its first change was told, or was taken back and is told again.
    fn begin(&mut self, id: &str, news: &mut News) -> usize {
        let withdrawn = self.machine.withdrawn.iter().position(|(known, _)| known == id);
        if withdrawn.is_some() {
            let again = news.revised.extract_if(.., |_, told| told.is_some());
            let again: Vec<(Place, Option<Told>)> = again.collect();
            news.fresh.extend(again.into_iter().filter_map(|(place, told)| Some((place, told?))));
        }
        let is_first = |((sequence, _), _): (&Place, &Told)| *sequence == 0;
        if news.fresh.first_key_value().is_some_and(is_first) {
            let withdrawn = withdrawn.and_then(|at| self.machine.withdrawn.remove(at));
            let changes = withdrawn.map_or(0, |(_, changes)| changes);
            let alert = Alert::new(&news.rule, news.time, changes, self.clock_ns);
            self.touch(id);
            self.machine.alerts.insert(id.to_owned(), alert);
        }
        news.revised.len()
    }

    /// Corrects what was told of an alert, and leaves in `news` what goes on from there. An alert of which nothing is left was
    /// never told.
    fn correct(&mut self, id: &str, news: &mut News) -> usize {
        self.touch(id);
        let Some(alert) = self.machine.alerts.get_mut(id) else { return 0 };
        let last = alert.last().map(|(place, told)| (*place, told.clone()));
        let ahead = last.as_ref().map_or(0, |((sequence, _), _)| sequence.saturating_add(1));
        let ahead = news.fresh.split_off(&(ahead, i64::MIN));
        let mut n_unused = 0;
        for (place, told) in std::mem::take(&mut news.revised) {
            match told {
                // It may have been taken back before: then it is there again.
                Some(told) => drop(alert.told.insert(place, told)),
                None => n_unused += usize::from(alert.told.remove(&place).is_none()),
            }
        }
        alert.told.extend(std::mem::replace(&mut news.fresh, ahead));
        if alert.told.is_empty() {
            self.withdraw(id);
        } else if alert.last() != last.as_ref().map(|(place, told)| (place, told)) {
            alert.note(Change::Revised, None, self.clock_ns);
        }
        n_unused
    }

    fn withdraw(&mut self, id: &str) {
        let Some(alert) = self.machine.alerts.remove(id) else { return };
        let withdrawn = &mut self.machine.withdrawn;
        withdrawn.push_back((id.to_owned(), alert.changes));
        while withdrawn.len() > WITHDRAWN_KEPT {
            withdrawn.pop_front();
        }
    }

    /// Adds what was told of an alert, one change after the other; how many rows could not be used.
    fn proceed(&mut self, id: &str, fresh: BTreeMap<Place, Told>) -> usize {
        let Some(alert) = self.machine.alerts.get_mut(id) else { return fresh.len() };
        for (place, told) in fresh {
            alert.note(told.change, None, self.clock_ns);
            alert.told.insert(place, told);
        }
        alert.forget();
        let marks = self.machine.marks.get(&alert.rule).copied().unwrap_or_default();
        match (alert.is_open(), alert.cleared_clock_ns) {
            (true, _) => (alert.cleared_clock_ns, alert.marks) = (None, marks),
            (false, None) => (alert.cleared_clock_ns, alert.marks) = (Some(self.clock_ns), marks),
            (false, Some(_)) => {}
        }
        0
    }

    /// Says anew which alerts were the first. One that was told otherwise before is revised.
    pub(super) fn rank(&mut self) {
        let first = self.machine.first_out();
        let alerts = self.machine.alerts.iter();
        let wrong = alerts.filter(|(id, alert)| alert.first_out != first.contains(*id));
        let wrong: Vec<(String, i64)> =
            wrong.map(|(id, alert)| (id.clone(), alert.changes)).collect();
        for (id, changes) in wrong {
            let is_told_anyway = match self.before.get(&id) {
                Some(Some(shown)) => shown.changes != changes,
                Some(None) => true,
                None => false,
            };
            if !is_told_anyway {
                self.change(&id, Change::Revised, None, |_| {});
            }
            if let Some(alert) = self.machine.alerts.get_mut(&id) {
                alert.first_out = !alert.first_out;
            }
        }
    }

    /// Remembers how an alert stood at the start of the epoch.
    fn touch(&mut self, id: &str) {
        if !self.before.contains_key(id) {
            let shown = self.machine.alerts.get(id).map(Alert::shown);
            self.before.insert(id.to_owned(), shown);
        }
    }

    /// Notes a change of an alert, and makes it.
    fn change(
        &mut self,
        id: &str,
        change: Change,
        by: Option<&str>,
        make: impl FnOnce(&mut Alert),
    ) {
        self.touch(id);
        if let Some(alert) = self.machine.alerts.get_mut(id) {
            make(alert);
            alert.note(change, by, self.clock_ns);
        }
    }
}

/// What people do.
impl Desk<'_> {
    /// Carries a command out, or says why not; then nothing has changed.
    pub(super) fn carry_out(
        &mut self,
        command: &Command<'_>,
        rules: &[Rule],
    ) -> Result<Done, Refusal> {
        let is_known = |id: &str| self.machine.commands.iter().any(|known| known == id);
        if command.id.is_some_and(is_known) {
            return Ok(Done::Repeated);
        }
        let done = match command.verb {
            Verb::Acknowledge => self.acknowledge(command)?,
            Verb::Unacknowledge => self.unacknowledge(command)?,
            Verb::Comment => self.comment(command)?,
            Verb::Shelve | Verb::Unshelve | Verb::OutOfService | Verb::InService => {
                self.mark_as(command, rules)?
            }
        };
        if let Some(id) = command.id {
            self.machine.commands.push_back(id.to_owned());
            while self.machine.commands.len() > COMMANDS_KEPT {
                self.machine.commands.pop_front();
            }
        }
        Ok(done)
    }

    fn acknowledge(&mut self, command: &Command<'_>) -> Result<Done, Refusal> {
        let (id, alert) = self.alert_of(command)?;
        if alert.acknowledged.is_some() {
            return Ok(Done::Repeated);
        }
        let by = command.by.map(str::to_owned);
        let acknowledged = Acknowledged { by, at: command.at, clock_ns: self.clock_ns };
        self.change(id, Change::Acknowledged, command.by, |alert| {
            alert.acknowledged = Some(acknowledged);
            alert.say(command.comment);
        });
        Ok(Done::Changed)
    }

    fn unacknowledge(&mut self, command: &Command<'_>) -> Result<Done, Refusal> {
        let (id, alert) = self.alert_of(command)?;
        if alert.acknowledged.is_none() {
            return Ok(Done::Repeated);
        }
        self.change(id, Change::Unacknowledged, command.by, |alert| {
            alert.acknowledged = None;
            alert.say(command.comment);
        });
        Ok(Done::Changed)
    }

    fn comment(&mut self, command: &Command<'_>) -> Result<Done, Refusal> {
        let (id, _) = self.alert_of(command)?;
        let comment = command.comment.ok_or_else(|| command.lacks("comment"))?;
        self.change(id, Change::Commented, command.by, |alert| alert.say(Some(comment)));
        Ok(Done::Changed)
    }

    fn mark_as(&mut self, command: &Command<'_>, rules: &[Rule]) -> Result<Done, Refusal> {
        let rule = self.rule_of(command, rules)?;
        let before = self.machine.marks.get(&rule).copied().unwrap_or_default();
        let Marks { shelved_until, out_of_service } = before;
        let (marks, change) = match command.verb {
            Verb::Shelve => {
                let shelved_until = Some(command.until(self.clock_ns)?);
                (Marks { shelved_until, out_of_service }, Change::Shelved)
            }
            Verb::Unshelve => (Marks { shelved_until: None, out_of_service }, Change::Unshelved),
            Verb::OutOfService => {
                (Marks { shelved_until, out_of_service: true }, Change::OutOfService)
            }
            _ => (Marks { shelved_until, out_of_service: false }, Change::InService),
        };
        if marks == before {
            return Ok(Done::Repeated);
        }
        self.mark(&rule, marks, change, command.by, command.comment);
        Ok(Done::Changed)
    }

    /// Marks a rule, and its open alerts.
    fn mark(
        &mut self,
        rule: &str,
        marks: Marks,
        change: Change,
        by: Option<&str>,
        comment: Option<&str>,
    ) {
        if marks == Marks::default() {
            self.machine.marks.remove(rule);
        } else {
            self.machine.marks.insert(rule.to_owned(), marks);
        }
        let alerts = self.machine.alerts.iter();
        let open = alerts.filter(|(_, alert)| alert.rule == rule && alert.is_open());
        let open: Vec<String> = open.map(|(id, _)| id.clone()).collect();
        for id in open {
            self.change(&id, change, by, |alert| {
                alert.marks = marks;
                alert.say(comment);
            });
        }
    }

    /// The alert that a command is about.
    fn alert_of<'c>(&self, command: &Command<'c>) -> Result<(&'c str, &Alert), Refusal> {
        let id = command.alert.ok_or_else(|| command.lacks("alert"))?;
        let alert = self.machine.alerts.get(id).ok_or_else(|| {
            let what = format!(
                "the book has no alert '{id}' of this machine: it was never raised, was taken back, or has left; look \
                 it up in the history of its rule"
            );
            Refusal(UNKNOWN_ALERT, what)
        })?;
        match command.rule {
            Some(rule) if rule != alert.rule => {
                let what = format!(
                    "alert '{id}' is of rule '{}', not '{rule}'; leave the rule out",
                    alert.rule
                );
                Err(Refusal(UNKNOWN_ALERT, what))
            }
            _ => Ok((id, alert)),
        }
    }

    /// The rule that a command is about.
    fn rule_of(&self, command: &Command<'_>, rules: &[Rule]) -> Result<String, Refusal> {
        if command.alert.is_some() {
            return Ok(self.alert_of(command)?.1.rule.clone());
        }
        let rule = command.rule.ok_or_else(|| command.lacks("rule"))?;
        if rules.iter().any(|known| known.name == rule) {
            return Ok(rule.to_owned());
        }
        let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
        let what = format!("there is no rule '{rule}'; give one of {}", names.join(", "));
        Err(Refusal(UNKNOWN_RULE, what))
    }
}

/// What the clock brings about.
impl Desk<'_> {
    /// Ends shelvings, then escalates: what was shelved until this time escalates with it.
    pub(super) fn elapse(&mut self) {
        let is_over = |marks: &Marks| marks.shelved_until.is_some_and(|at| at <= self.clock_ns);
        let over = self.machine.marks.iter().filter(|(_, marks)| is_over(marks));
        let over: Vec<(String, Marks)> = over.map(|(rule, marks)| (rule.clone(), *marks)).collect();
        for (rule, marks) in over {
            let marks = Marks { shelved_until: None, ..marks };
            self.mark(&rule, marks, Change::Unshelved, None, None);
        }
        let alerts = self.machine.alerts.iter();
        let due = alerts.map(|(id, alert)| (id.clone(), alert.n_due(self.terms, self.clock_ns)));
        let due: Vec<(String, usize)> = due.filter(|(_, n_due)| *n_due > 0).collect();
        for (id, n_due) in due {
            for _ in 0..n_due {
                self.change(&id, Change::Escalated, None, |alert| alert.escalation += 1);
            }
        }
    }

    /// Lets those alerts go whose time has come, and the oldest that are too many; these with their ids.
    pub(super) fn leave(&mut self) -> Vec<(String, Alert)> {
        let cleared = self.machine.cleared();
        let is_over = |id: &String| {
            let leaves = self.machine.alerts.get(id).and_then(|alert| alert.leaves(self.terms));
            leaves.is_some_and(|at| at <= self.clock_ns)
        };
        let (over, stay): (Vec<String>, Vec<String>) = cleared.into_iter().partition(is_over);
        for id in over {
            self.touch(&id);
            self.machine.let_go(&id);
        }
        let n_surplus = stay.len().saturating_sub(self.terms.closed);
        let mut surplus = Vec::with_capacity(n_surplus);
        for id in stay.into_iter().take(n_surplus) {
            self.touch(&id);
            let alert = self.machine.let_go(&id);
            surplus.extend(alert.map(|alert| (id, alert)));
        }
        surplus
    }
}
