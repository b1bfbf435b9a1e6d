//! The alert of a rule and a key: open or not, and what is told of it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::condition::{Condition, Delays, Turn};
use super::judge::Says;

/// When there is an alert.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) delays: Delays,
    pub(super) unless_clears: bool,
    pub(super) flapping: Option<Flapping>,
    /// The severity where no condition says another.
    pub(super) least: u8,
}

/// When an alert flaps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flapping {
    /// By more raises than this.
    pub(super) changes: usize,
    pub(super) within: i64,
}

/// What is known of a key.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Life {
    condition: Condition,
    open: Option<Open>,
    /// Rows are not looked at.
    inhibited: bool,
    /// What the rows say of the severity since the condition began.
    severity: Option<u8>,
    /// The last raises, of those that flapping counts.
    raises: VecDeque<i64>,
    /// When an alert was raised last, and how many were at that time before it.
    last_raised: Option<(i64, u32)>,
    /// Where the last row came from.
    position: u64,
    /// The evidence of the last row, while something may elapse.
    pub(super) evidence: Option<String>,
}

/// An alert that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) first_seen: i64,
    pub(super) raised_at: i64,
    /// How many alerts were raised at `raised_at` before it.
    pub(super) twin: u32,
    /// How many changes were told.
    n_told: u32,
    pub(super) severity: u8,
    pub(super) inhibited: bool,
    /// It flaps, and nothing has changed since.
    quiet_since: Option<i64>,
}

impl Open {
    pub(super) fn flaps(&self) -> bool {
        self.quiet_since.is_some()
    }

    /// What an update tells of.
    fn shown(&self) -> (u8, bool, bool) {
        (self.severity, self.inhibited, self.flaps())
    }
}

/// What is told of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Raised,
    Updated,
    Cleared,
}

/// A change, told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) at: i64,
    pub(super) position: u64,
    pub(super) change: Change,
    pub(super) sequence: u32,
    /// The alert after it or, where it was cleared, before.
    pub(super) alert: Open,
}

/// What time alone brings about.
#[derive(Debug, Clone, Copy)]
enum Timer {
    Delay,
    Quiet,
}

impl Life {
    /// Whether a row for which `when` does not hold would leave all as it is.
    pub(super) fn is_calm(&self) -> bool {
        self.open.is_none() && self.condition.is_calm()
    }

    /// When time alone brings something about, if no row comes at or before it that says otherwise.
    pub(super) fn next(&self, rule: &Rule) -> Option<i64> {
        self.next_timer(rule).map(|(at, _)| at)
    }

    fn next_timer(&self, rule: &Rule) -> Option<(i64, Timer)> {
        let delay = self.condition.next(&rule.delays).map(|at| (at, Timer::Delay));
        let since = self.open.and_then(|open| open.quiet_since).filter(|_| !self.inhibited);
        let quiet = since.zip(rule.flapping).map(|(since, flapping)| {
            let at = since.saturating_add(flapping.within);
            (at, Timer::Quiet)
        });
        // Of two at one time the delay is first: what it changes is not quiet.
        delay.into_iter().chain(quiet).min_by_key(|(at, _)| *at)
    }

    /// Does all that time alone brings about before `frontier`.
    pub(super) fn advance(&mut self, rule: &Rule, frontier: i64, out: &mut Vec<Event>) {
        while let Some((at, timer)) = self.next_timer(rule).filter(|(at, _)| *at < frontier) {
            let before = self.open;
            match timer {
                Timer::Delay => {
                    let turn = self.condition.elapse(&rule.delays);
                    self.turn(rule, turn, out);
                }
                Timer::Quiet if self.condition.is_active() => {
                    self.open.iter_mut().for_each(|open| open.quiet_since = None);
                }
                Timer::Quiet => self.tell_cleared(at, out),
            }
            self.tell_updated(before, at, out);
        }
    }

    /// Takes in a row. All that elapses before it has.
    pub(super) fn row(
        &mut self,
        rule: &Rule,
        (at, position): (i64, u64),
        says: &Says,
        out: &mut Vec<Event>,
    ) {
        self.position = position;
        let before = self.open;
        if says.unless && !rule.delays.is_deadman {
            self.inhibit(rule, at, out);
        } else {
            self.resume(at);
            self.look(rule, at, says, out);
        }
        self.tell_updated(before, at, out);
    }

    fn inhibit(&mut self, rule: &Rule, at: i64, out: &mut Vec<Event>) {
        self.inhibited = true;
        self.condition.start_anew();
        self.open.iter_mut().for_each(|open| open.inhibited = true);
        if rule.unless_clears {
            self.condition.give_up();
            self.tell_cleared(at, out);
        }
    }

    /// Rows are looked at again.
    fn resume(&mut self, at: i64) {
        if !std::mem::take(&mut self.inhibited) {
            return;
        }
        if let Some(open) = &mut self.open {
            open.inhibited = false;
            // Whether it was quiet meanwhile nobody knows.
            open.quiet_since = open.quiet_since.map(|_| at);
        }
    }

    fn look(&mut self, rule: &Rule, at: i64, says: &Says, out: &mut Vec<Event>) {
        if self.condition.is_normal() {
            self.severity = None;
        }
        self.severity = says.severity.or(self.severity);
        let was_active = self.condition.is_active();
        let turn = self.condition.row(&rule.delays, at, says);
        if let (true, None, Some(open), Some(severity)) =
            (was_active, turn, &mut self.open, says.severity)
        {
            open.severity = severity;
        }
        self.turn(rule, turn, out);
    }

    fn turn(&mut self, rule: &Rule, turn: Option<Turn>, out: &mut Vec<Event>) {
        match turn {
            Some(Turn::Raised { at, first_seen }) => self.raise(rule, at, first_seen, out),
            Some(Turn::Cleared { at }) => match &mut self.open {
                Some(open) if open.flaps() => open.quiet_since = Some(at),
                _ => self.tell_cleared(at, out),
            },
            None => {}
        }
    }

    fn raise(&mut self, rule: &Rule, at: i64, first_seen: i64, out: &mut Vec<Event>) {
        let quiet_since = self.flaps_by(rule, at).then_some(at);
        let severity = self.severity.unwrap_or(rule.least);
        if let Some(open) = &mut self.open {
            // It was kept open because it flaps.
            (open.quiet_since, open.severity) = (Some(at), severity);
            return;
        }
        let twin = match self.last_raised {
            Some((last, twin)) if last == at => twin + 1,
            _ => 0,
        };
        self.last_raised = Some((at, twin));
        let (raised_at, n_told, inhibited) = (at, 0, false);
        self.open =
            Some(Open { first_seen, raised_at, twin, n_told, severity, inhibited, quiet_since });
        self.tell(Change::Raised, at, out);
    }

    /// Counts a raise; whether the alert flaps by it.
    fn flaps_by(&mut self, rule: &Rule, at: i64) -> bool {
        let Some(Flapping { changes, within }) = rule.flapping else { return false };
        let since = at.saturating_sub(within);
        while self.raises.front().is_some_and(|raised| *raised <= since) {
            self.raises.pop_front();
        }
        let flaps = self.raises.len() >= changes;
        if flaps {
            self.raises.pop_front();
        }
        self.raises.push_back(at);
        flaps
    }

    fn tell_cleared(&mut self, at: i64, out: &mut Vec<Event>) {
        self.tell(Change::Cleared, at, out);
        self.open = None;
    }

    fn tell_updated(&mut self, before: Option<Open>, at: i64, out: &mut Vec<Event>) {
        if let (Some(before), Some(now)) = (before, self.open)
            && before.shown() != now.shown()
        {
            self.tell(Change::Updated, at, out);
        }
    }

    fn tell(&mut self, change: Change, at: i64, out: &mut Vec<Event>) {
        let Some(open) = &mut self.open else { return };
        let sequence = open.n_told;
        open.n_told = open.n_told.saturating_add(1);
        out.push(Event { at, position: self.position, change, sequence, alert: *open });
    }
}
