//! What the clock brings about: escalations, ends of shelvings, alerts that leave.

use super::*;

const ALERT: &str = "hot@a@40";

/// A book that escalates after 15 minutes and an hour, with one open alert.
fn escalating() -> Fleet {
    let mut fleet = Fleet::new(&options(&json!({ "escalate": ["15m", "1h"] })), 1);
    fleet.epoch(0, &[raised(ALERT)], &[]);
    fleet
}

#[test]
fn what_nobody_acknowledges_escalates() {
    let mut fleet = escalating();
    fleet.epoch(15 * M - 1, &[], &[]);
    assert_eq!(fleet.values(ALERT, "escalation changes"), "0 1");
    fleet.epoch(15 * M, &[], &[]);
    let columns = "escalation change by changes change_at";
    assert_eq!(fleet.values(ALERT, columns), "1 escalated  2 900000000000");
    fleet.restart(3);
    fleet.epoch(61 * M, &[], &[]);
    assert_eq!(fleet.values(ALERT, columns), "2 escalated  3 3660000000000");
    fleet.epoch(DAY, &[], &[]);
    assert_eq!(fleet.values(ALERT, columns), "2 escalated  3 3660000000000");
}

#[test]
fn times_that_elapse_in_one_epoch_are_counted_each() {
    let mut fleet = escalating();
    fleet.epoch(DAY, &[], &[]);
    assert_eq!(fleet.values(ALERT, "escalation changes"), "2 3");
}

#[test]
fn what_is_acknowledged_or_cleared_in_time_does_not_escalate() {
    let mut fleet = escalating();
    fleet.epoch(15 * M, &[], &[asked("acknowledge", ALERT)]);
    fleet.epoch(2 * DAY, &[raised("worn@a@50")], &[]);
    fleet.epoch(2 * DAY + 15 * M, &[cleared("worn@a@50", 60)], &[]);
    assert_eq!(fleet.values(ALERT, "escalation change"), "0 acknowledged");
    assert_eq!(fleet.values("worn@a@50", "escalation change"), "0 cleared");
    // Taken back, it has been unacknowledged for two days.
    fleet.epoch(2 * DAY + 16 * M, &[], &[asked("unacknowledge", ALERT)]);
    assert_eq!(fleet.values(ALERT, "escalation change changes"), "2 escalated 5");
}

#[test]
fn what_is_suppressed_escalates_when_it_is_no_longer() {
    let mut fleet = escalating();
    fleet.epoch(M, &[], &[asked("shelve", ALERT).until(30 * M)]);
    fleet.epoch(29 * M, &[], &[]);
    assert_eq!(fleet.values(ALERT, "escalation suppressed"), "0 true");
    fleet.epoch(30 * M, &[], &[]);
    assert_eq!(fleet.values(ALERT, "escalation suppressed changes"), "1 false 4");
    fleet.epoch(31 * M, &[told(ALERT, "updated", 1, 90).inhibited()], &[]);
    fleet.epoch(90 * M, &[], &[]);
    assert_eq!(fleet.values(ALERT, "escalation suppressed"), "1 true");
    fleet.epoch(91 * M, &[told(ALERT, "updated", 2, 99)], &[]);
    assert_eq!(fleet.values(ALERT, "escalation suppressed change"), "2 false escalated");
}

#[test]
fn a_shelving_ends_by_the_clock() {
    let mut fleet = plain();
    fleet.epoch(0, &[raised(ALERT), raised("hot@b@1")], &[]);
    let shelve = [asked("shelve", "hot@a").until(30 * M), asked("shelve", "hot@b").until(40 * M)];
    fleet.epoch(M, &[], &shelve);
    fleet.restart(2);
    fleet.epoch(30 * M - 1, &[], &[]);
    assert_eq!(fleet.value(ALERT, "suppressed"), "true");
    fleet.epoch(30 * M, &[], &[]);
    let columns = "shelved_until suppressed change by changes change_at";
    assert_eq!(fleet.values(ALERT, columns), " false unshelved  3 1800000000000");
    assert_eq!(fleet.value("hot@b@1", "suppressed"), "true");
    // What is raised in the epoch in which it ends is suppressed no more at its end.
    let worn = "hot@b@77";
    fleet.epoch(40 * M, &[cleared("hot@b@1", 50), raised(worn)], &[]);
    assert_eq!(fleet.values(worn, "suppressed change changes"), "false unshelved 2");
    assert_eq!(fleet.values("hot@b@1", "suppressed change"), "true cleared");
}

#[test]
fn an_epoch_in_which_nothing_is_due_says_nothing() {
    let mut fleet = escalating();
    fleet.snapshot();
    fleet.epoch(M, &[], &[]);
    assert_eq!(fleet.rows, fleet.rows_before);
    assert_eq!(fleet.dirty(), 0);
    fleet.epoch(15 * M, &[], &[]);
    assert_eq!(fleet.dirty(), 1);
}

#[test]
fn what_is_over_leaves_when_its_time_has_come() {
    let mut fleet = plain();
    let others = ["hot@a@1", "hot@b@1", "hot@c@1"];
    fleet.epoch(0, &others.map(raised), &[asked("acknowledge", others[0])]);
    fleet.epoch(DAY, &others.map(|alert| cleared(alert, 5)), &[]);
    fleet.epoch(2 * DAY, &[], &[asked("acknowledge", others[1])]);
    let there = |fleet: &Fleet| fleet.rows.keys().cloned().collect::<Vec<_>>();
    fleet.epoch(8 * DAY - 1, &[], &[]);
    assert_eq!(there(&fleet), others);
    fleet.epoch(8 * DAY, &[], &[]);
    assert_eq!(there(&fleet), others[1..], "7 days after it was cleared and acknowledged");
    fleet.epoch(9 * DAY, &[], &[]);
    assert_eq!(there(&fleet), others[2..], "7 days after it was acknowledged");
    fleet.restart(2);
    fleet.epoch(31 * DAY - 1, &[], &[]);
    assert_eq!(there(&fleet), others[2..]);
    fleet.epoch(31 * DAY, &[], &[]);
    assert_eq!(there(&fleet), [""; 0], "30 days after it was cleared");
    assert_eq!(fleet.reasons(), [""; 0]);
}

#[test]
fn what_is_open_stays_however_long() {
    let mut fleet = escalating();
    fleet.epoch(1_000 * DAY, &[], &[asked("acknowledge", ALERT)]);
    fleet.epoch(2_000 * DAY, &[], &[]);
    assert_eq!(fleet.value(ALERT, "state"), "open");
}

#[test]
fn of_too_many_cleared_alerts_the_oldest_leaves_and_is_told() {
    let mut fleet = Fleet::new(&options(&json!({ "closed": 2 })), 1);
    for (at, clock) in [(10, 1), (30, 2), (20, 3)] {
        let alert = format!("hot@a@{at}");
        fleet.epoch(clock * S, &[raised(&alert), cleared(&alert, at + 5)], &[]);
    }
    fleet.epoch(4 * S, &[raised("hot@b@1"), cleared("hot@b@1", 2), raised("worn@a@1")], &[]);
    let there: Vec<&str> = fleet.rows.keys().map(String::as_str).collect();
    assert_eq!(there, ["hot@a@20", "hot@a@30", "hot@b@1", "worn@a@1"]);
    let letter = fleet.dead.pop().unwrap();
    assert_eq!((letter.reason, letter.key.as_deref()), (BOOK_FULL, Some("a")));
    assert!(letter.detail.contains("'hot@a@10' of rule 'hot'"), "{}", letter.detail);
    assert!(letter.detail.contains("more than 2 of its machine"), "{}", letter.detail);
    assert_eq!((fleet.account.dead, fleet.account.used), (0, 9), "its rows were used");
}

#[test]
fn what_follows_an_alert_that_has_left_is_not_the_first() {
    let mut fleet = Fleet::new(&options(&json!({ "closed": 1 })), 1);
    fleet.epoch(S, &[raised("hot@a@10"), raised("worn@a@20")], &[]);
    fleet.epoch(2 * S, &[cleared("hot@a@10", 30), raised("hot@a@40")], &[]);
    fleet.epoch(3 * S, &[cleared("hot@a@40", 50)], &[]);
    assert_eq!(fleet.value("hot@a@10", "state"), "gone");
    fleet.epoch(4 * S, &[told("worn@a@20", "updated", 1, 60)], &[]);
    assert_eq!(fleet.values("worn@a@20", "first_out change"), "false updated");
}
