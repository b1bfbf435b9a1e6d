//! Alerts from first principles: a slow walk over every tick of time, which looks back over all rows each time.
//!
//! It knows no timers and no watermarks. At each tick it takes the rows of that tick in, and then asks of everything
//! that has to last whether it has lasted for long enough.

use serde_json::{Value, json};

use crate::testing::Table;

/// A row as the conditions see it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    at: i64,
    position: u64,
    when: Option<bool>,
    clear: Option<bool>,
    unless: bool,
    severity: Option<i64>,
    evidence: String,
}

/// The options of a case. Without levels and `deadman` the alert is raised by `x > 20`.
#[derive(Debug, Clone, Default)]
pub(super) struct Case {
    pub(super) hold: i64,
    pub(super) clear_for: i64,
    /// By `x < clear`.
    pub(super) clear: Option<f64>,
    /// `k` of so many rows, or of those of so much time.
    pub(super) of_rows: Option<(usize, usize)>,
    pub(super) of_time: Option<(usize, i64)>,
    pub(super) max_gap: Option<i64>,
    pub(super) deadman: Option<i64>,
    /// By `y > unless`.
    pub(super) unless: Option<f64>,
    pub(super) unless_clears: bool,
    /// Severities by `x > level`, the mildest first.
    pub(super) levels: Vec<(i64, f64)>,
    pub(super) flapping: Option<(usize, i64)>,
}

impl Case {
    pub(super) fn config(&self) -> Value {
        let mut config = json!({ "evidence": ["x"], "unless_clears": self.unless_clears });
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                config[name] = value;
            }
        };
        let by_x = self.levels.is_empty() && self.deadman.is_none();
        set("when", by_x.then(|| json!("x > 20")));
        set("for", (self.hold > 0).then(|| json!(self.hold)));
        set("clear_for", (self.clear_for > 0).then(|| json!(self.clear_for)));
        set("clear", self.clear.map(|clear| json!(format!("x < {clear}"))));
        set("of", self.of_rows.map(|(k, rows)| json!({ "k": k, "rows": rows })));
        set("of", self.of_time.map(|(k, length)| json!({ "k": k, "duration": length })));
        set("max_gap", self.max_gap.map(|gap| json!(gap)));
        set("deadman", self.deadman.map(|silence| json!(silence)));
        set("unless", self.unless.map(|unless| json!(format!("y > {unless}"))));
        let names = ["info", "minor", "warning", "major", "critical"];
        let level = |(level, limit): &(i64, f64)| {
            let name = names[usize::try_from(level - 1).unwrap()];
            (name.to_owned(), json!(format!("x > {limit}")))
        };
        let levels: serde_json::Map<_, _> = self.levels.iter().map(level).collect();
        set("severity", (!levels.is_empty()).then_some(Value::Object(levels)));
        let flapping = |(n, within)| json!({ "changes": n, "within": within });
        set("flapping", self.flapping.map(flapping));
        config
    }

    pub(super) fn seen(&self, input: &Table, row: usize) -> Seen {
        let (x, y) = (input.numbers("x")[row], input.numbers("y")[row]);
        let worst = self.levels.iter().rev().find(|(_, limit)| x.is_some_and(|x| x > *limit));
        let limit = self.levels.first().map_or(20.0, |(_, limit)| *limit);
        Seen {
            at: input.times()[row],
            position: row as u64,
            when: x.map(|x| x > limit),
            clear: self.clear.zip(x).map(|(clear, x)| x < clear),
            unless: self.unless.zip(y).is_some_and(|(unless, y)| y > unless),
            severity: worst.map(|(level, _)| *level),
            evidence: json!({ "x": x }).to_string(),
        }
    }

    /// What has to be told of the rows of a key.
    pub(super) fn history(&self, rows: &[Seen]) -> Vec<Change> {
        let mut walk = Walk::default();
        let (first, last) = (rows[0].at, rows[rows.len() - 1].at);
        // So long after the last row all has elapsed.
        for now in first..last + 500 {
            walk.forget(self, now);
            for row in rows.iter().filter(|row| row.at == now) {
                let before = walk.alarm;
                walk.row(self, row);
                walk.update(before, now);
            }
            let before = walk.alarm;
            walk.delays(self, now);
            walk.update(before, now);
            let before = walk.alarm;
            walk.quiet(self, now);
            walk.update(before, now);
        }
        walk.told
    }
}

/// A change, as it must be told: time, position, change, sequence, severity, `first_seen`, `raised_at`, `cleared_at`,
/// flapping, inhibited, evidence.
pub(super) type Change = (i64, u64, String, i64, i64, i64, i64, Option<i64>, bool, bool, String);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Alarm {
    first_seen: i64,
    raised_at: i64,
    sequence: i64,
    severity: i64,
    inhibited: bool,
    /// It flaps; the last change of its condition.
    changed: Option<i64>,
}

/// What a row has led to.
#[derive(Debug)]
struct Verdict {
    at: i64,
    /// Whether enough rows confirm, where it says something; then, since when.
    confirmed: Option<Option<i64>>,
    severity: Option<i64>,
}

/// What was found so far. Lists are emptied where things begin anew.
#[derive(Default)]
struct Walk {
    /// The rows that were looked at since things began anew.
    verdicts: Vec<Verdict>,
    /// What `when` said.
    said: Vec<(i64, bool)>,
    /// Of an active alert, whether each row clears.
    clears: Vec<(i64, bool)>,
    active: bool,
    stated: Option<i64>,
    off: bool,
    raises: Vec<i64>,
    alarm: Option<Alarm>,
    last: Option<Seen>,
    told: Vec<Change>,
}

/// The times since which all of the end of a list are true.
fn lasting(list: &[(i64, bool)]) -> Option<i64> {
    list.iter().rev().take_while(|(_, is_true)| *is_true).last().map(|(at, _)| *at)
}

impl Walk {
    fn tell(&mut self, change: &str, at: i64) {
        let (alarm, last) = (self.alarm.as_mut().unwrap(), self.last.as_ref().unwrap());
        self.told.push((
            at,
            last.position,
            change.to_owned(),
            alarm.sequence,
            alarm.severity,
            alarm.first_seen,
            alarm.raised_at,
            (change == "cleared").then_some(at),
            alarm.changed.is_some(),
            alarm.inhibited,
            last.evidence.clone(),
        ));
        alarm.sequence += 1;
    }

    fn update(&mut self, before: Option<Alarm>, at: i64) {
        let shown = |a: &Alarm| (a.severity, a.inhibited, a.changed.is_some());
        if let (Some(before), Some(now)) = (before, self.alarm)
            && shown(&before) != shown(&now)
        {
            self.tell("updated", at);
        }
    }

    fn raise(&mut self, case: &Case, at: i64, first_seen: i64, severity: Option<i64>) {
        let least = case.levels.first().map_or(3, |(level, _)| *level);
        let severity = severity.unwrap_or(least);
        (self.active, self.clears) = (true, Vec::new());
        let flaps = case.flapping.is_some_and(|(changes, within)| {
            self.raises.iter().filter(|&&raised| raised > at - within).count() >= changes
        });
        self.raises.push(at);
        match &mut self.alarm {
            Some(alarm) => (alarm.changed, alarm.severity) = (Some(at), severity),
            None => {
                let changed = flaps.then_some(at);
                let (raised_at, sequence, inhibited) = (at, 0, false);
                let alarm = Alarm { first_seen, raised_at, sequence, severity, inhibited, changed };
                self.alarm = Some(alarm);
                self.tell("raised", at);
            }
        }
    }

    fn clear(&mut self, case: &Case, at: i64) {
        (self.active, self.clears) = (false, Vec::new());
        self.verdicts.clear();
        if case.clear.is_some() {
            self.said.clear();
        }
        match &mut self.alarm {
            Some(alarm) if alarm.changed.is_some() => alarm.changed = Some(at),
            _ => self.close(at),
        }
    }

    fn close(&mut self, at: i64) {
        if self.alarm.is_some() {
            self.tell("cleared", at);
            self.alarm = None;
        }
    }

    /// The first of the rows that confirm, where enough of the last rows do.
    fn confirmed(&self, case: &Case, at: i64) -> Option<i64> {
        let (k, rows, since) = match (case.of_rows, case.of_time) {
            (Some((k, rows)), _) => (k, rows, i64::MIN),
            (_, Some((k, length))) => (k, usize::MAX, at - length),
            (None, None) => (1, 1, i64::MIN),
        };
        let window = &self.said[self.said.len().saturating_sub(rows)..];
        let confirm = window.iter().filter(|(t, is_true)| *is_true && *t > since);
        let confirm: Vec<i64> = confirm.map(|(t, _)| *t).collect();
        confirm.len().checked_sub(k).map(|first| confirm[first])
    }

    /// Forgets what a gap ends.
    fn forget(&mut self, case: &Case, now: i64) {
        let silence = case.deadman.filter(|_| !self.off);
        let gap = silence.or(case.max_gap);
        if self.stated.zip(gap).is_some_and(|(stated, gap)| now > stated + gap) {
            self.verdicts.clear();
            self.said.clear();
            self.clears.clear();
        }
    }

    /// Whether something has lasted for long enough.
    fn delays(&mut self, case: &Case, now: i64) {
        match (self.active, case.deadman, self.stated) {
            (true, ..) => self.over(case, now),
            (false, Some(silence), Some(stated)) if !self.off && now == stated + silence => {
                self.raise(case, now, stated, None);
            }
            (false, None, _) => self.begun(case, now),
            _ => {}
        }
    }

    /// Whether an alert that flaps was quiet for long enough.
    fn quiet(&mut self, case: &Case, now: i64) {
        let is_off = self.off && case.deadman.is_none();
        let (Some(alarm), Some((_, within))) = (&mut self.alarm, case.flapping) else { return };
        if is_off || alarm.changed.is_none_or(|changed| now < changed + within) {
            return;
        }
        if self.active {
            alarm.changed = None;
        } else {
            self.close(now);
        }
    }

    fn row(&mut self, case: &Case, row: &Seen) {
        self.last = Some(row.clone());
        if case.deadman.is_some() {
            (self.stated, self.off) = (Some(row.at), row.unless);
            if self.active {
                self.clears.push((row.at, true));
                self.over(case, row.at);
            }
            return;
        }
        if row.unless {
            self.off = true;
            self.verdicts.clear();
            self.said.clear();
            self.clears.clear();
            if let Some(alarm) = &mut self.alarm {
                alarm.inhibited = true;
            }
            if case.unless_clears {
                self.active = false;
                self.close(row.at);
            }
            return;
        }
        if std::mem::take(&mut self.off)
            && let Some(alarm) = &mut self.alarm
        {
            alarm.inhibited = false;
            alarm.changed = alarm.changed.map(|_| row.at);
        }
        if row.when.is_some() || row.clear.is_some() {
            self.stated = Some(row.at);
        }
        self.said.extend(row.when.map(|when| (row.at, when)));
        let first = self.confirmed(case, row.at);
        if self.active {
            let clears = match (row.when, case.clear) {
                (Some(true), _) => Some(false),
                (_, Some(_)) => row.clear,
                (when, None) => when.map(|_| first.is_none()),
            };
            self.clears.extend(clears.map(|clears| (row.at, clears)));
            self.over(case, row.at);
            if let (true, Some(alarm), Some(severity)) =
                (self.active, &mut self.alarm, row.severity)
            {
                alarm.severity = severity;
            }
        } else {
            let (at, severity) = (row.at, row.severity);
            let confirmed = row.when.map(|_| first);
            self.verdicts.push(Verdict { at, confirmed, severity });
            if row.when.is_some() && first.is_some() {
                self.begun(case, row.at);
            }
        }
    }

    /// Raises the alert if its condition has held for long enough.
    fn begun(&mut self, case: &Case, now: i64) {
        let denied = self.verdicts.iter().rposition(|v| v.confirmed == Some(None));
        let run = &self.verdicts[denied.map_or(0, |i| i + 1)..];
        let begin = run.iter().enumerate().find_map(|(i, v)| Some((i, v.at, v.confirmed??)));
        let Some((begin, since, first_seen)) = begin else { return };
        let severity = run[begin..].iter().rev().find_map(|v| v.severity);
        if now >= since + case.hold {
            self.raise(case, now, first_seen, severity);
        }
    }

    /// Clears the alert if what clears it has held for long enough.
    fn over(&mut self, case: &Case, now: i64) {
        if lasting(&self.clears).is_some_and(|since| now >= since + case.clear_for) {
            self.clear(case, now);
        }
    }
}
