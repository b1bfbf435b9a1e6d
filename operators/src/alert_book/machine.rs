//! What the book knows of a machine: its alerts, and the marks of its rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::Terms;

/// Most changes of an alert that are kept, to fall back on when a correction takes the last ones away: the first and the
/// last ones. More at once only a severity that changes with every row brings about.
pub(super) const TOLD_KEPT: usize = 100;

/// What the book says was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    Raised,
    Updated,
    Cleared,
    Acknowledged,
    Unacknowledged,
    Commented,
    Shelved,
    Unshelved,
    OutOfService,
    InService,
    Escalated,
    Revised,
}

impl Change {
    /// What a rule says.
    pub(super) fn of_rule(word: &str) -> Self {
        match word {
            "raised" => Change::Raised,
            "cleared" => Change::Cleared,
            _ => Change::Updated,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Change::Raised => "raised",
            Change::Updated => "updated",
            Change::Cleared => "cleared",
            Change::Acknowledged => "acknowledged",
            Change::Unacknowledged => "unacknowledged",
            Change::Commented => "commented",
            Change::Shelved => "shelved",
            Change::Unshelved => "unshelved",
            Change::OutOfService => "out_of_service",
            Change::InService => "in_service",
            Change::Escalated => "escalated",
            Change::Revised => "revised",
        }
    }
}

/// A change of an alert as its rule told it. Times are in the unit of the rule's time domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) change: Change,
    pub(super) severity: i64,
    pub(super) raised_at: i64,
    pub(super) cleared_at: Option<i64>,
    /// Null where the rule counts.
    pub(super) first_seen: Option<i64>,
    pub(super) flapping: bool,
    pub(super) inhibited: bool,
    pub(super) message: Option<String>,
    pub(super) evidence: Option<String>,
}

/// What tells a change from others of its alert: sequence and event time.
pub(super) type Place = (i64, i64);

/// What the event times of a rule are. Those of different sorts say nothing of which came first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RuleTime {
    /// Times of readings.
    #[default]
    Event,
    /// The engine's clock, at which a view changed.
    Engine,
    /// Counts.
    Count,
}

impl RuleTime {
    const ALL: [RuleTime; 3] = [RuleTime::Event, RuleTime::Engine, RuleTime::Count];
}

/// Who has acknowledged an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Acknowledged {
    pub(super) by: Option<String>,
    /// When the command arrived.
    pub(super) at: i64,
    /// When the book carried it out.
    pub(super) clock_ns: i64,
}

/// How a rule is marked on a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks {
    pub(super) shelved_until: Option<i64>,
    pub(super) out_of_service: bool,
}

/// An alert in the book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Alert {
    pub(super) rule: String,
    /// What the event times of its rule are.
    pub(super) time: RuleTime,
    /// What its rule told, the last being how it is. Never empty.
    pub(super) told: BTreeMap<Place, Told>,
    /// The clock when the book was told of it.
    pub(super) raised_clock_ns: i64,
    /// The clock when the book was told that it is cleared; none while it is open.
    pub(super) cleared_clock_ns: Option<i64>,
    pub(super) acknowledged: Option<Acknowledged>,
    pub(super) comments: i64,
    pub(super) comment: Option<String>,
    /// The marks of its rule; of a cleared alert as they were then.
    pub(super) marks: Marks,
    /// How many times it has escalated.
    pub(super) escalation: usize,
    pub(super) first_out: bool,
    /// An alert that has left the book was open when this one was raised.
    pub(super) follows: bool,
    pub(super) change: Change,
    pub(super) by: Option<String>,
    pub(super) change_clock_ns: i64,
    pub(super) changes: i64,
}

impl Alert {
    /// An alert that nothing was told of yet, but `changes` before it was taken back.
    pub(super) fn new(rule: &str, time: RuleTime, changes: i64, clock_ns: i64) -> Self {
        Alert {
            rule: rule.to_owned(),
            time,
            told: BTreeMap::new(),
            raised_clock_ns: clock_ns,
            cleared_clock_ns: None,
            acknowledged: None,
            comments: 0,
            comment: None,
            marks: Marks::default(),
            escalation: 0,
            first_out: false,
            follows: false,
            change: Change::Raised,
            by: None,
            change_clock_ns: clock_ns,
            changes,
        }
    }

    /// Whether the event times of its rule are counts.
    pub(super) fn counts(&self) -> bool {
        self.time == RuleTime::Count
    }

    /// How it is, as its rule says.
    pub(super) fn last(&self) -> Option<(&Place, &Told)> {
        self.told.last_key_value()
    }

    pub(super) fn is_open(&self) -> bool {
        self.last().is_some_and(|(_, told)| told.change != Change::Cleared)
    }

    /// Whether nobody is to be told of it.
    pub(super) fn is_suppressed(&self) -> bool {
        let inhibited = self.last().is_some_and(|(_, told)| told.inhibited);
        inhibited || self.marks.out_of_service || self.marks.shelved_until.is_some()
    }

    /// Notes a change.
    pub(super) fn note(&mut self, change: Change, by: Option<&str>, clock_ns: i64) {
        self.change = change;
        self.by = by.map(str::to_owned);
        self.change_clock_ns = clock_ns;
        self.changes = self.changes.saturating_add(1);
    }

    /// Adds what somebody says.
    pub(super) fn say(&mut self, comment: Option<&str>) {
        if let Some(comment) = comment {
            self.comment = Some(comment.to_owned());
            self.comments = self.comments.saturating_add(1);
        }
    }

    /// Forgets what was told beyond what is kept, but never the first.
    pub(super) fn forget(&mut self) {
        while self.told.len() > TOLD_KEPT {
            let Some(second) = self.told.keys().nth(1).copied() else { return };
            self.told.remove(&second);
        }
    }

    /// When it escalates if nobody looks at it, each time that is left.
    fn escalations<'a>(&self, terms: &'a Terms) -> impl Iterator<Item = i64> + use<'a> {
        let waits = self.is_open() && self.acknowledged.is_none() && !self.is_suppressed();
        let (raised, done) = (self.raised_clock_ns, self.escalation);
        let left = terms.escalate_ns.iter().skip(done).filter(move |_| waits);
        left.map(move |after| raised.saturating_add(*after))
    }

    /// How many times it has to escalate by now.
    pub(super) fn n_due(&self, terms: &Terms, clock_ns: i64) -> usize {
        self.escalations(terms).take_while(|at| *at <= clock_ns).count()
    }

    /// When it leaves the book as things are.
    pub(super) fn leaves(&self, terms: &Terms) -> Option<i64> {
        let cleared = self.cleared_clock_ns?;
        Some(match &self.acknowledged {
            Some(acknowledged) => cleared.max(acknowledged.clock_ns).saturating_add(terms.keep_ns),
            None => cleared.saturating_add(terms.keep_unacknowledged_ns),
        })
    }

    /// From when to when it was open, in its event time.
    fn span(&self) -> (i64, i64) {
        self.last().map_or((i64::MAX, i64::MIN), |(_, told)| {
            (told.raised_at, told.cleared_at.unwrap_or(i64::MAX))
        })
    }
}

/// What is known of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// By id.
    pub(super) alerts: BTreeMap<String, Alert>,
    /// By rule; a rule without marks is not there.
    pub(super) marks: BTreeMap<String, Marks>,
    /// The ids of the last commands, the newest last.
    pub(super) commands: VecDeque<String>,
    /// The last alerts that a correction took back, and how many changes were told of each.
    pub(super) withdrawn: VecDeque<(String, i64)>,
}

impl Machine {
    /// When the clock brings something about.
    pub(super) fn next(&self, terms: &Terms) -> Option<i64> {
        let shelvings = self.marks.values().filter_map(|marks| marks.shelved_until);
        let alerts = self.alerts.values();
        let alerts =
            alerts.filter_map(|alert| alert.escalations(terms).next().or(alert.leaves(terms)));
        shelvings.chain(alerts).min()
    }

    /// The alerts that were raised when no other was open: the first of those that are open together, by event time.
    pub(super) fn first_out(&self) -> BTreeSet<String> {
        let mut first = BTreeSet::new();
        for time in RuleTime::ALL {
            let mut open_until = i64::MIN;
            for (id, alert) in self.in_order(time) {
                let (raised_at, end) = alert.span();
                if open_until <= raised_at && !alert.follows {
                    first.insert(id.to_owned());
                }
                open_until = open_until.max(end);
            }
        }
        first
    }

    /// The alerts whose event times are of one sort, as they were raised.
    fn in_order(&self, time: RuleTime) -> Vec<(&str, &Alert)> {
        let alerts = self.alerts.iter().filter(|(_, alert)| alert.time == time);
        let mut alerts: Vec<_> = alerts.map(|(id, alert)| (id.as_str(), alert)).collect();
        alerts.sort_by_key(|(id, alert)| (alert.span().0, alert.rule.as_str(), *id));
        alerts
    }

    /// Takes an alert out of the book that is over. Those that were raised while it was open remember it.
    pub(super) fn let_go(&mut self, id: &str) -> Option<Alert> {
        let gone = self.alerts.remove(id)?;
        let (raised_at, end) = gone.span();
        for (other_id, other) in &mut self.alerts {
            let (other_raised_at, _) = other.span();
            let before = (raised_at, gone.rule.as_str(), id)
                < (other_raised_at, other.rule.as_str(), other_id.as_str());
            other.follows |= gone.time == other.time && before && end > other_raised_at;
        }
        Some(gone)
    }

    /// The cleared alerts, the one that was cleared first before the others.
    pub(super) fn cleared(&self) -> Vec<String> {
        let cleared = self.alerts.iter().filter(|(_, alert)| alert.cleared_clock_ns.is_some());
        let mut cleared: Vec<_> = cleared.collect();
        cleared.sort_by_key(|(id, alert)| {
            (alert.cleared_clock_ns, alert.span().1, alert.rule.as_str(), id.as_str())
        });
        cleared.into_iter().map(|(id, _)| id.clone()).collect()
    }
}
