//! When messages go out, and which of them together: a pure function of what waits, what was sent, and the time.
//!
//! What a reader would get wrong:
//!
//! * Nothing is dropped here. What is over the rate waits, and goes out with what waits beside it.
//! * The last notice that the rate allows carries everything that is due: of 50 messages at a rate of 10 nine go out one by
//!   one and the tenth lists 41. Its length is bounded, so what does not fit waits for the next.
//! * Quiet hours look at when a message is due *and* at the clock: what a receiver that was down did not take in the evening is
//!   not sent at night.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::message::Message;
use super::quiet::Quiet;

/// Messages of one notice.
pub(crate) const NOTICE_MESSAGES_MAX: usize = 200;
/// Bytes of the messages of one notice; a larger message goes out alone.
pub(crate) const NOTICE_BYTES_MAX: usize = 512 * 1024;

/// So many notices in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) notices: usize,
    pub(crate) per_ns: i64,
}

/// How messages are spread over time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pace {
    pub(crate) rate: Option<Rate>,
    /// How long after the first the others of its group may come.
    pub(crate) within_ns: Option<i64>,
    pub(crate) quiet: Option<Quiet>,
}

/// Messages that go out together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Their numbers, ascending.
    pub(crate) numbers: Vec<u64>,
    /// When the last of them was due; the time after which they are given up counts from here.
    pub(crate) due_ns: i64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// These go out, in this order.
    Send(Vec<Unit>),
    /// Nothing before this time.
    WaitUntil(i64),
    /// Nothing waits.
    Idle,
}

/// Whether groups may wait for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// They may.
    None,
    /// The run ends: a group goes out as it is. Quiet hours and the rate still hold.
    Ending,
}

/// What messages have in common that go out together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Together {
    /// They waited for the end of quiet hours.
    Quiet,
    /// They agree in the columns of the group and in whether quiet hours hold them; counted by the first of them.
    Group(u64),
    One(u64),
}

impl Pace {
    /// What is to be done at `now_ns` with what is `waiting` (ascending by number), at most `max` notices. `sent` are the
    /// times of earlier notices, ascending.
    pub(crate) fn next<'a>(
        &self,
        waiting: impl Iterator<Item = &'a Arc<Message>>,
        sent: &[i64],
        now_ns: i64,
        max: usize,
        haste: Haste,
    ) -> Next {
        if *self == Pace::default() {
            return at_once(waiting, max);
        }
        let units = self.units(waiting, now_ns, haste);
        let Some(earliest) = units.iter().map(|(ready, _)| *ready).min() else { return Next::Idle };
        let ready = units.into_iter().filter(|(ready, _)| *ready <= now_ns).map(|(_, unit)| unit);
        let ready: Vec<_> = ready.collect();
        if ready.is_empty() {
            return Next::WaitUntil(earliest);
        }
        let Some(rate) = self.rate else {
            return Next::Send(
                ready.into_iter().flat_map(in_pieces).take(max).map(|m| unit(&m)).collect(),
            );
        };
        let recent = sent.iter().filter(|at| **at > now_ns.saturating_sub(rate.per_ns));
        let recent: Vec<i64> = recent.copied().collect();
        let allowed = rate.notices.saturating_sub(recent.len());
        match (allowed, recent.first()) {
            (0, Some(oldest)) => Next::WaitUntil(oldest.saturating_add(rate.per_ns)),
            (0, None) => Next::WaitUntil(now_ns.saturating_add(rate.per_ns)),
            _ => Next::Send(within_rate(ready, allowed, max)),
        }
    }

    /// Until when quiet hours hold messages of these severities back, if they do at `now_ns`.
    pub(crate) fn held_until<'a>(
        &self,
        mut messages: impl Iterator<Item = &'a Arc<Message>>,
        now_ns: i64,
    ) -> Option<i64> {
        let quiet = self.quiet.as_ref()?;
        let end = quiet.end(now_ns)?;
        messages.all(|m| !quiet.lets_pass(m.severity)).then_some(end)
    }

    /// When a message that is not part of a noted notice may go out at the earliest, whatever the rate.
    pub(crate) fn due(&self, message: &Message) -> i64 {
        let due = message.arrived_ns.saturating_add(self.within_ns.unwrap_or(0));
        let quiet = self.quiet.as_ref().filter(|q| !q.lets_pass(message.severity));
        quiet.and_then(|q| q.end(due)).unwrap_or(due)
    }

    /// All that waits as units, each with the time from which it may go out.
    fn units<'a>(
        &self,
        waiting: impl Iterator<Item = &'a Arc<Message>>,
        now_ns: i64,
        haste: Haste,
    ) -> Vec<(i64, Members<'a>)> {
        // The open group of each value: its first number and when it closes.
        let mut open: BTreeMap<(&str, bool), (u64, i64)> = BTreeMap::new();
        let mut units: BTreeMap<(i64, Together), Members<'a>> = BTreeMap::new();
        for message in waiting {
            let passes = self.quiet.as_ref().is_none_or(|q| q.lets_pass(message.severity));
            let (mut due, mut with) = (message.arrived_ns, Together::One(message.number));
            if let Some(within) = self.within_ns {
                let closes = message.arrived_ns.saturating_add(within);
                let group =
                    open.entry((&message.group, passes)).or_insert((message.number, closes));
                if message.arrived_ns >= group.1 {
                    *group = (message.number, closes);
                }
                (due, with) = (group.1, Together::Group(group.0));
            }
            if haste == Haste::Ending {
                due = due.min(now_ns.max(message.arrived_ns));
            }
            let mut ready = due;
            if let Some(quiet) = self.quiet.as_ref().filter(|_| !passes) {
                // What could have gone out before may not at night either.
                let end = quiet.end(due).or_else(|| quiet.end(now_ns.max(due)));
                if let Some(end) = end {
                    (ready, with) = (end, Together::Quiet);
                }
            }
            // Whatever waited for the end of some night goes out together.
            let at = if with == Together::Quiet && ready <= now_ns { i64::MIN } else { ready };
            let members = units.entry((at, with)).or_default();
            members.ready_ns = members.ready_ns.max(ready);
            members.messages.push(message);
        }
        let mut units: Vec<_> = units.into_values().map(|m| (m.ready_ns, m)).collect();
        units.sort_by_key(|(ready, m)| (*ready, m.messages.first().map(|m| m.number)));
        units
    }
}

/// Messages on their way into a unit.
#[derive(Debug, Clone, Default)]
struct Members<'a> {
    ready_ns: i64,
    messages: Vec<&'a Arc<Message>>,
}

/// Each message for itself, when nothing holds them.
fn at_once<'a>(waiting: impl Iterator<Item = &'a Arc<Message>>, max: usize) -> Next {
    let one = |m: &Arc<Message>| Unit { numbers: vec![m.number], due_ns: m.arrived_ns };
    let units: Vec<Unit> = waiting.take(max).map(one).collect();
    if units.is_empty() { Next::Idle } else { Next::Send(units) }
}

/// What may go out of what is ready: the last notice that the rate allows takes all the rest.
fn within_rate(mut ready: Vec<Members<'_>>, allowed: usize, max: usize) -> Vec<Unit> {
    if ready.len() > allowed {
        let rest = ready.split_off(allowed - 1);
        let ready_ns = rest.iter().map(|m| m.ready_ns).max().unwrap_or_default();
        let mut messages: Vec<_> = rest.into_iter().flat_map(|m| m.messages).collect();
        messages.sort_by_key(|m| m.number);
        ready.push(Members { ready_ns, messages });
    }
    let pieces = ready.into_iter().flat_map(in_pieces);
    pieces.take(allowed.min(max)).map(|m| unit(&m)).collect()
}

/// Cut so that each piece is within the bounds of a notice.
fn in_pieces(members: Members<'_>) -> Vec<Members<'_>> {
    let Members { ready_ns, messages } = members;
    let mut pieces: Vec<Members<'_>> = Vec::new();
    let mut n_bytes = 0;
    for message in messages {
        let fits = |piece: &&mut Members<'_>| {
            piece.messages.len() < NOTICE_MESSAGES_MAX
                && n_bytes + message.bytes() <= NOTICE_BYTES_MAX
        };
        match pieces.last_mut().filter(fits) {
            Some(piece) => {
                n_bytes += message.bytes();
                piece.messages.push(message);
            }
            None => {
                n_bytes = message.bytes();
                pieces.push(Members { ready_ns, messages: vec![message] });
            }
        }
    }
    pieces
}

fn unit(members: &Members<'_>) -> Unit {
    Unit { numbers: members.messages.iter().map(|m| m.number).collect(), due_ns: members.ready_ns }
}
