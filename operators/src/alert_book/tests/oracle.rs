//! The book at random against a recomputation from all that was ever told, in the plainest way.

use std::collections::{BTreeMap, BTreeSet};

use super::fleet::Shown;
use super::*;
use crate::testing::Dice;

/// What an epoch is given.
#[derive(Debug, Clone, Default)]
struct Given {
    clock: i64,
    told: Vec<Told>,
    asked: Vec<Asked>,
}

/// Changes of an alert that stand, by sequence and event time.
type Rows = BTreeMap<(i64, i64), Told>;

#[derive(Debug, Clone, Default)]
struct OracleAlert {
    rows: Rows,
    born: i64,
    cleared: Option<i64>,
    acknowledged: Option<(String, i64, i64)>,
    comments: Vec<String>,
    shelved: Option<i64>,
    out: bool,
    escalation: usize,
    first: bool,
    follows: bool,
    changes: i64,
    last: (String, String, i64),
}

impl OracleAlert {
    fn top(&self) -> &Told {
        self.rows.values().next_back().expect("an alert has a row")
    }

    fn is_open(&self) -> bool {
        self.top().change != "cleared"
    }

    fn suppressed(&self) -> bool {
        self.top().inhibited || self.shelved.is_some() || self.out
    }

    fn span(&self) -> (i64, i64) {
        let end = if self.is_open() { i64::MAX } else { self.top().event };
        (self.top().raised, end)
    }

    fn note(&mut self, change: &str, by: &str, clock: i64) {
        self.changes += 1;
        self.last = (change.to_owned(), by.to_owned(), clock);
    }

    fn shown(&self, id: &str) -> Shown {
        let top = self.top();
        let counts = top.rule == "cycles";
        let some = |is: bool, v: i64| if is { v.to_string() } else { String::new() };
        let maybe = |v: Option<i64>| v.map_or(String::new(), |v| v.to_string());
        let (by, at) = self
            .acknowledged
            .as_ref()
            .map_or((String::new(), None), |(by, at, _)| (by.clone(), Some(*at)));
        let state = if self.is_open() { "open" } else { "cleared" };
        let row = [
            ("alert", id.to_owned()),
            ("machine", top.machine.to_owned()),
            ("rule", top.rule.to_owned()),
            ("severity", top.severity.to_string()),
            ("state", state.to_owned()),
            ("acknowledged", self.acknowledged.is_some().to_string()),
            ("acknowledged_by", by),
            ("acknowledged_at", maybe(at)),
            ("comments", self.comments.len().to_string()),
            ("comment", self.comments.last().cloned().unwrap_or_default()),
            ("shelved_until", maybe(self.shelved)),
            ("out_of_service", self.out.to_string()),
            ("suppressed", self.suppressed().to_string()),
            ("escalation", self.escalation.to_string()),
            ("first_out", self.first.to_string()),
            ("raised_at", some(!counts, top.raised)),
            ("cleared_at", some(!counts && !self.is_open(), top.event)),
            ("first_seen", some(!counts, top.raised)),
            ("raised_count", some(counts, top.raised)),
            ("cleared_count", some(counts && !self.is_open(), top.event)),
            ("flapping", "false".to_owned()),
            ("inhibited", top.inhibited.to_string()),
            ("message", "too hot".to_owned()),
            ("evidence", top.evidence.clone()),
            ("change", self.last.0.clone()),
            ("by", self.last.1.clone()),
            ("changes", self.changes.to_string()),
            ("change_at", self.last.2.to_string()),
        ];
        row.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// What the oracle has counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    late: u64,
    deduplicated: u64,
    dead: u64,
    surplus: usize,
}

/// The book, walked through epoch by epoch over plain lists.
#[derive(Debug, Default)]
struct Walk {
    alerts: BTreeMap<String, OracleAlert>,
    /// By machine and rule: until when it is shelved, and whether it is out of service.
    marks: BTreeMap<(String, String), (Option<i64>, bool)>,
    /// By machine, in the order in which they were carried out.
    ids: Vec<(String, String)>,
    withdrawn: BTreeMap<String, i64>,
    counts: Counts,
}

const ESCALATE: [i64; 2] = [15 * M, 60 * M];
const KEEP: i64 = 6 * 60 * M;
const KEEP_UNACKNOWLEDGED: i64 = DAY;
const CLOSED: usize = 3;

fn terms() -> BookOptions {
    options(&json!({
        "escalate": ["15m", "1h"], "keep": "6h", "keep_unacknowledged": "1d", "closed": CLOSED
    }))
}

impl Walk {
    /// Goes through the next epoch.
    fn step(&mut self, given: &Given) {
        let before: BTreeMap<String, i64> =
            self.alerts.iter().map(|(id, alert)| (id.clone(), alert.changes)).collect();
        let ids: BTreeSet<&str> = given.told.iter().map(|told| told.alert.as_str()).collect();
        for id in &ids {
            let told: Vec<&Told> = given.told.iter().filter(|told| told.alert == *id).collect();
            self.tell(id, &told, given.clock);
        }
        let machines: BTreeSet<&str> = given.told.iter().map(|told| told.machine).collect();
        self.rank(&machines, &before, given.clock);
        for asked in &given.asked {
            self.ask(asked, given.clock);
        }
        self.elapse(given.clock);
        self.leave(given.clock);
    }

    fn tell(&mut self, id: &str, told: &[&Told], clock: i64) {
        let place = |told: &Told| (told.sequence, told.event);
        let is_fresh = |told: &Told| told.lane <= Lane::Late;
        let Some(mut alert) = self.alerts.remove(id) else {
            let was = self.withdrawn.get(id).copied();
            let usable =
                |told: &Told| is_fresh(told) || (was.is_some() && told.lane == Lane::Revised);
            let rows: Rows =
                told.iter().filter(|t| usable(t)).map(|t| (place(t), (*t).clone())).collect();
            if rows.keys().next().is_none_or(|(sequence, _)| *sequence != 0) {
                self.counts.late += told.len() as u64;
                return;
            }
            self.counts.late += (told.len() - rows.len()) as u64;
            self.withdrawn.remove(id);
            let mut alert =
                OracleAlert { born: clock, changes: was.unwrap_or(0), ..OracleAlert::default() };
            rows.values().for_each(|told| alert.note(told.change, "", clock));
            alert.rows = rows;
            self.put(id, alert, clock);
            return;
        };
        let top = alert.rows.last_key_value().map(|(place, told)| (*place, told.clone())).unwrap();
        let (corrections, goes_on): (Vec<&Told>, Vec<&Told>) =
            told.iter().partition(|told| !is_fresh(told) || told.sequence <= top.0.0);
        // What is taken back and put elsewhere in one epoch does not depend on which is first.
        for told in &corrections {
            if told.lane == Lane::Deleted {
                self.counts.late += u64::from(alert.rows.remove(&place(told)).is_none());
            } else {
                alert.rows.insert(place(told), (*told).clone());
            }
        }
        let same = |a: &Told, b: &Told| {
            let plain = |told: &Told| Told { lane: Lane::New, ..told.clone() };
            plain(a) == plain(b)
        };
        match alert.rows.last_key_value() {
            None => {
                self.counts.late += goes_on.len() as u64;
                self.withdrawn.insert(id.to_owned(), alert.changes);
                return;
            }
            Some((place, told)) if *place == top.0 && same(told, &top.1) => {}
            Some(_) => alert.note("revised", "", clock),
        }
        let goes_on: Rows = goes_on.into_iter().map(|told| (place(told), told.clone())).collect();
        for (place, told) in goes_on {
            alert.note(told.change, "", clock);
            alert.rows.insert(place, told);
        }
        self.put(id, alert, clock);
    }

    fn put(&mut self, id: &str, mut alert: OracleAlert, clock: i64) {
        if alert.is_open() {
            alert.cleared = None;
        }
        if alert.is_open() || alert.cleared.is_none() {
            let of = (alert.top().machine.to_owned(), alert.top().rule.to_owned());
            (alert.shelved, alert.out) = self.marks.get(&of).copied().unwrap_or_default();
        }
        if !alert.is_open() && alert.cleared.is_none() {
            alert.cleared = Some(clock);
        }
        self.alerts.insert(id.to_owned(), alert);
    }

    /// Whether the first of two alerts was raised before the second, and was open then.
    fn precedes(a: (&str, &OracleAlert), b: (&str, &OracleAlert)) -> bool {
        fn order<'a>((id, alert): (&'a str, &'a OracleAlert)) -> (i64, &'a str, &'a str) {
            (alert.span().0, alert.top().rule, id)
        }
        let clock = |alert: &OracleAlert| ["cycles", "view"].map(|rule| alert.top().rule == rule);
        let alike = a.1.top().machine == b.1.top().machine && clock(a.1) == clock(b.1);
        alike && order(a) < order(b) && a.1.span().1 > b.1.span().0
    }

    fn rank(&mut self, machines: &BTreeSet<&str>, before: &BTreeMap<String, i64>, clock: i64) {
        let all = self.alerts.clone();
        for (id, alert) in &mut self.alerts {
            if !machines.contains(alert.top().machine) {
                continue;
            }
            let others = all.iter().any(|other| Self::precedes((other.0, other.1), (id, alert)));
            let first = !alert.follows && !others;
            if first != alert.first {
                alert.first = first;
                if before.get(id) == Some(&alert.changes) {
                    alert.note("revised", "", clock);
                }
            }
        }
    }

    fn ask(&mut self, asked: &Asked, clock: i64) {
        let known_words = [
            "acknowledge",
            "unacknowledge",
            "comment",
            "shelve",
            "unshelve",
            "out_of_service",
            "in_service",
        ];
        if !known_words.contains(&asked.command) {
            self.counts.dead += 1;
            return;
        }
        let repeated = |id: &String| {
            let mut of_machine = self.ids.iter().filter(|(machine, _)| machine == asked.machine);
            of_machine.any(|(_, known)| known == id)
        };
        if asked.id.as_ref().is_some_and(repeated) {
            self.counts.deduplicated += 1;
            return;
        }
        match self.done(asked, clock) {
            None => {
                self.counts.dead += 1;
                return;
            }
            Some(changed) => self.counts.deduplicated += u64::from(!changed),
        }
        self.ids.extend(asked.id.clone().map(|id| (asked.machine.to_owned(), id)));
    }

    /// Carries a command out; whether anything changed, `None` where it cannot be.
    fn done(&mut self, asked: &Asked, clock: i64) -> Option<bool> {
        let by = asked.by.clone().unwrap_or_default();
        let in_book = |id: &String| {
            self.alerts.get(id).is_some_and(|alert| alert.top().machine == asked.machine)
        };
        if asked.alert.as_ref().is_some_and(|id| !in_book(id)) {
            return None;
        }
        let alert = asked.alert.as_ref().and_then(|id| self.alerts.get_mut(id));
        let change = match asked.command {
            "acknowledge" | "unacknowledge" | "comment" => {
                let alert = alert?;
                // What changes nothing but has a comment is one.
                let nothing = match asked.command {
                    "acknowledge" => alert.acknowledged.is_some(),
                    "unacknowledge" => alert.acknowledged.is_none(),
                    _ => false,
                };
                let command = match &asked.comment {
                    None if nothing => return Some(false),
                    Some(_) if nothing => "comment",
                    _ => asked.command,
                };
                match command {
                    "acknowledge" => alert.acknowledged = Some((by.clone(), asked.at, clock)),
                    "unacknowledge" => alert.acknowledged = None,
                    _ => drop(asked.comment.as_ref()?),
                }
                alert.comments.extend(asked.comment.clone());
                let change = match command {
                    "comment" => "commented",
                    "acknowledge" => "acknowledged",
                    _ => "unacknowledged",
                };
                alert.note(change, &by, clock);
                return Some(true);
            }
            "shelve" => "shelved",
            "unshelve" => "unshelved",
            other => other,
        };
        let rule = match alert {
            Some(alert) => alert.top().rule.to_owned(),
            None => asked.rule.clone().filter(|rule| RULES.contains(&rule.as_str()))?,
        };
        let before = self.marks.get(&(asked.machine.to_owned(), rule.clone())).copied();
        let before = before.unwrap_or_default();
        let after = match asked.command {
            "shelve" => (Some(asked.until.filter(|until| *until > clock)?), before.1),
            "unshelve" => (None, before.1),
            word => (before.0, word == "out_of_service"),
        };
        if before == after {
            return Some(false);
        }
        self.mark(asked.machine, &rule, after, change, &by, asked.comment.as_ref(), clock);
        Some(true)
    }

    #[expect(clippy::too_many_arguments, reason = "it is what the book does in words")]
    fn mark(
        &mut self,
        machine: &str,
        rule: &str,
        marks: (Option<i64>, bool),
        change: &str,
        by: &str,
        comment: Option<&String>,
        clock: i64,
    ) {
        self.marks.insert((machine.to_owned(), rule.to_owned()), marks);
        for alert in self.alerts.values_mut() {
            let of_it = alert.top().machine == machine && alert.top().rule == rule;
            if of_it && alert.is_open() {
                (alert.shelved, alert.out) = marks;
                alert.comments.extend(comment.cloned());
                alert.note(change, by, clock);
            }
        }
    }

    fn elapse(&mut self, clock: i64) {
        for ((machine, rule), (shelved, out)) in self.marks.clone() {
            if shelved.is_some_and(|until| until <= clock) {
                self.mark(&machine, &rule, (None, out), "unshelved", "", None, clock);
            }
        }
        for alert in self.alerts.values_mut() {
            let waits = alert.is_open() && alert.acknowledged.is_none() && !alert.suppressed();
            while waits
                && alert.escalation < ESCALATE.len()
                && alert.born + ESCALATE[alert.escalation] <= clock
            {
                alert.escalation += 1;
                alert.note("escalated", "", clock);
            }
        }
    }

    fn leave(&mut self, clock: i64) {
        let is_over = |alert: &OracleAlert| {
            alert.cleared.is_some_and(|cleared| match alert.acknowledged {
                Some((_, _, acknowledged)) => cleared.max(acknowledged) + KEEP <= clock,
                None => cleared + KEEP_UNACKNOWLEDGED <= clock,
            })
        };
        let over = self.alerts.iter().filter(|(_, alert)| is_over(alert));
        let over: Vec<String> = over.map(|(id, _)| id.clone()).collect();
        over.iter().for_each(|id| self.let_go(id));
        for machine in ["a", "b", "c"] {
            loop {
                let cleared = self
                    .alerts
                    .iter()
                    .filter(|(_, alert)| alert.cleared.is_some() && alert.top().machine == machine);
                let place = |(id, alert): (&String, &OracleAlert)| {
                    let rule = alert.top().rule.to_owned();
                    (alert.cleared, alert.span().1, rule, id.clone())
                };
                let mut cleared: Vec<_> = cleared.map(place).collect();
                cleared.sort();
                if cleared.len() <= CLOSED {
                    break;
                }
                self.let_go(&cleared[0].3);
                self.counts.surplus += 1;
            }
        }
    }

    fn let_go(&mut self, id: &str) {
        let gone = self.alerts.remove(id).unwrap();
        for (other_id, other) in &mut self.alerts {
            other.follows |= Self::precedes((id, &gone), (other_id, other));
        }
    }

    fn shown(&self) -> BTreeMap<String, Shown> {
        self.alerts.iter().map(|(id, alert)| (id.clone(), alert.shown(id))).collect()
    }
}

/// Makes up what rules tell, with corrections, and what people do.
struct Maker {
    dice: Dice,
    clock: i64,
    event: i64,
    alerts: Vec<(Vec<Told>, bool)>,
}

impl Maker {
    fn below(&mut self, n: i64) -> i64 {
        i64::try_from(self.dice.below(u64::try_from(n).unwrap())).unwrap()
    }

    fn lane(&mut self) -> Lane {
        if self.below(4) == 0 { Lane::Late } else { Lane::New }
    }

    fn epoch(&mut self) -> Given {
        self.clock += if self.below(12) == 0 { 9 * 60 * M } else { self.below(20) * M };
        let mut told = Vec::new();
        let n_before = self.alerts.len();
        for machine in ["a", "b", "c"] {
            for rule in RULES {
                if self.below(6) == 0 {
                    self.raise(rule, machine, &mut told);
                }
            }
        }
        for at in 0..n_before {
            self.go_on(at, &mut told);
        }
        let n_asked = self.below(4);
        let asked = (0..n_asked).map(|_| self.ask()).collect();
        Given { clock: self.clock, told, asked }
    }

    fn raise(&mut self, rule: &str, machine: &str, told: &mut Vec<Told>) {
        // An alert of a rule that waits longer is told after one that was raised later.
        self.event += 1 + self.below(3);
        let first = raised(&format!("{rule}@{machine}@{}", self.event - self.below(4)));
        if self.alerts.iter().any(|(rows, _)| rows[0].alert == first.alert) {
            return;
        }
        let mut rows = vec![first.lane(self.lane())];
        if self.below(5) == 0 {
            rows.push(cleared(&rows[0].alert, self.event + 1).lane(self.lane()));
        }
        told.extend(rows.clone());
        self.alerts.push((rows, false));
    }

    /// Something happens to an alert that was told before, or nothing.
    fn go_on(&mut self, at: usize, told: &mut Vec<Told>) {
        let (mut rows, mut is_deleted) = self.alerts[at].clone();
        let last = rows[rows.len() - 1].clone();
        let is_open = last.change != "cleared";
        let sequence = i64::try_from(rows.len()).unwrap();
        self.event += 1;
        match self.below(30) {
            0..4 if is_open && !is_deleted => {
                let change = if self.below(2) == 0 { "cleared" } else { "updated" };
                let next = super::told(&last.alert, change, sequence, self.event);
                let (severity, inhibited) = (1 + self.below(5), self.below(4) == 0);
                rows.push(Told { severity, inhibited, ..next.lane(self.lane()) });
                told.push(rows[rows.len() - 1].clone());
            }
            4 if !is_deleted => {
                told.extend(rows.iter().map(|row| row.clone().lane(Lane::Deleted)));
                is_deleted = true;
            }
            5..8 if is_deleted => {
                told.extend(rows.iter().map(|row| row.clone().lane(Lane::Revised)));
                is_deleted = false;
            }
            8 if rows.len() > 1 && !is_deleted => {
                rows.pop();
                told.push(last.lane(Lane::Deleted));
            }
            9 if rows.len() > 1 && !is_deleted => {
                let moved = Told { event: last.event + 1, ..last.clone() }.lane(Lane::Late);
                *rows.last_mut().unwrap() = moved.clone();
                told.extend([moved, last.lane(Lane::Deleted)]);
            }
            10 if !is_deleted => {
                let row = usize::try_from(self.below(sequence)).unwrap();
                rows[row].evidence = format!("{}", self.event);
                told.push(rows[row].clone().lane(Lane::Revised));
            }
            _ => {}
        }
        self.alerts[at] = (rows, is_deleted);
    }

    fn ask(&mut self) -> Asked {
        let words = [
            "acknowledge",
            "acknowledge",
            "unacknowledge",
            "unacknowledge",
            "comment",
            "shelve",
            "shelve",
            "unshelve",
            "out_of_service",
            "in_service",
            "dance",
        ];
        let word = words[usize::try_from(self.below(11)).unwrap()];
        let (machine, rule) = (self.below(3), self.below(4));
        let machine = ["a", "b", "c"][usize::try_from(machine).unwrap()];
        let mut about = format!("{}@{machine}", RULES[usize::try_from(rule).unwrap()]);
        if self.below(3) > 0 && !self.alerts.is_empty() {
            let n = i64::try_from(self.alerts.len()).unwrap();
            let near_the_last = n - 1 - self.below(n.min(12));
            about.clone_from(&self.alerts[usize::try_from(near_the_last).unwrap()].0[0].alert);
        }
        let until = self.clock + (self.below(90) - 10) * M;
        let mut asked = Asked { at: self.clock - 1, ..asked(word, &about) };
        asked.until = (self.below(8) > 0).then_some(until);
        asked.comment = (self.below(2) == 0).then(|| format!("said at {}", self.clock));
        asked.id = (self.below(2) == 0).then(|| format!("{}", self.below(60)));
        asked
    }
}

fn shuffle(rows: &mut [Told], dice: &mut Dice) {
    for last in (1..rows.len()).rev() {
        rows.swap(last, usize::try_from(dice.below(last as u64 + 1)).unwrap());
    }
}

#[test]
fn at_random_the_book_is_what_a_recomputation_says() {
    let mut seen_in_all = BTreeMap::<String, usize>::new();
    for seed in 0..12 {
        let mut maker = Maker { dice: Dice::new(seed), clock: 0, event: 100, alerts: Vec::new() };
        let mut dice = Dice::new(seed + 1_000);
        let (mut still, mut moving) = (Fleet::new(&terms(), 1), Fleet::new(&terms(), 3));
        let mut want = Walk::default();
        let mut known: BTreeMap<(String, String), Shown> = BTreeMap::new();
        for epoch in 0..60 {
            let given = maker.epoch();
            still.epoch(given.clock, &given.told, &given.asked);
            match dice.below(4) {
                0 => moving.restart(1 + usize::try_from(dice.below(3)).unwrap()),
                1 => moving.snapshot(),
                _ => {}
            }
            let mut told = given.told.clone();
            shuffle(&mut told, &mut dice);
            moving.epoch(given.clock, &told, &given.asked);
            want.step(&given);
            assert_eq!(still.rows, want.shown(), "seed {seed}, epoch {epoch}");
            assert_eq!(moving.rows, want.shown(), "seed {seed}, epoch {epoch}");
            for (id, row) in &still.rows {
                // An alert and its number of changes name one thing to be told, whatever is taken back.
                let name = (id.clone(), row["changes"].clone());
                let before = known.entry(name).or_insert_with(|| row.clone());
                assert_eq!(before, row, "seed {seed}, epoch {epoch}");
                *seen_in_all.entry(row["change"].clone()).or_default() += 1;
            }
            let surplus = still.dead.iter().filter(|letter| letter.reason == BOOK_FULL).count();
            let Account { late, deduplicated, dead, .. } = still.account;
            assert_eq!(Counts { late, deduplicated, dead, surplus }, want.counts, "seed {seed}");
            assert_eq!(still.account, moving.account);
        }
    }
    assert_eq!(seen_in_all.len(), 12, "every change is seen: {seen_in_all:?}");
}

#[test]
fn where_epochs_are_cut_shows_in_nothing_but_how_often_it_was_told() {
    let not_of_the_cut = |fleet: &Fleet| -> Vec<Shown> {
        let told = ["change", "changes", "change_at"];
        let rows = fleet.rows.values().cloned();
        let mut rows: Vec<Shown> = rows.collect();
        rows.iter_mut().for_each(|row| row.retain(|name, _| !told.contains(&name.as_str())));
        rows
    };
    for seed in 0..10 {
        let mut maker = Maker { dice: Dice::new(seed), clock: 0, event: 100, alerts: Vec::new() };
        let mut told: Vec<Told> = (0..40).flat_map(|_| maker.epoch().told).collect();
        told.retain(|told| told.lane <= Lane::Late);
        let mut whole = Fleet::new(&BookOptions::default(), 1);
        whole.epoch(S, &told, &[]);
        let mut dice = Dice::new(seed);
        for workers in 1..=3 {
            let mut cut = Fleet::new(&BookOptions::default(), workers);
            let mut rest = told.as_slice();
            while !rest.is_empty() {
                let n = 1 + usize::try_from(dice.below(rest.len().min(20) as u64)).unwrap();
                cut.epoch(S, &rest[..n], &[]);
                rest = &rest[n..];
            }
            assert_eq!(not_of_the_cut(&cut), not_of_the_cut(&whole), "seed {seed}");
        }
    }
}
