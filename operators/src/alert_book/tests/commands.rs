//! What people do: each command, each refusal, repetitions.

use super::*;

const ALERT: &str = "hot@a@40";

/// A book with one open alert.
fn with_alert() -> Fleet {
    let mut fleet = plain();
    fleet.epoch(100 * S, &[raised(ALERT)], &[]);
    fleet
}

#[test]
fn an_alert_is_acknowledged_once_by_somebody() {
    let mut fleet = with_alert();
    let columns = "acknowledged acknowledged_by acknowledged_at comments comment change by changes";
    let ann = Asked { at: 7, ..asked("acknowledge", ALERT).saying("on my way") };
    fleet.epoch(101 * S, &[], &[ann]);
    let want = "true ann 7 1 on my way acknowledged ann 2";
    assert_eq!(fleet.values(ALERT, columns), want);
    let bob = Asked { by: Some("bob".to_owned()), ..asked("acknowledge", ALERT) };
    fleet.epoch(102 * S, &[], std::slice::from_ref(&bob));
    assert_eq!(fleet.values(ALERT, columns), want);
    assert_eq!((fleet.account.used, fleet.account.deduplicated), (2, 1));
    // What he says is not lost.
    fleet.epoch(103 * S, &[], &[bob.saying("me too")]);
    assert_eq!(fleet.values(ALERT, columns), "true ann 7 2 me too commented bob 3");
}

#[test]
fn an_acknowledgement_can_be_taken_back() {
    let mut fleet = with_alert();
    fleet.epoch(101 * S, &[], &[asked("unacknowledge", ALERT)]);
    assert_eq!(fleet.account.deduplicated, 1);
    let there_and_back = [asked("acknowledge", ALERT), asked("unacknowledge", ALERT)];
    fleet.epoch(102 * S, &[], &there_and_back);
    let columns = "acknowledged acknowledged_by acknowledged_at change changes";
    assert_eq!(fleet.values(ALERT, columns), "false   unacknowledged 3");
}

#[test]
fn what_is_cleared_can_be_acknowledged_and_commented() {
    let mut fleet = with_alert();
    fleet.epoch(101 * S, &[cleared(ALERT, 70)], &[]);
    let asked = [asked("acknowledge", ALERT), asked("comment", ALERT).saying("replaced the seal")];
    fleet.epoch(102 * S, &[], &asked);
    let columns = "state acknowledged comments comment change changes";
    let want = "cleared true 1 replaced the seal commented 4";
    assert_eq!(fleet.values(ALERT, columns), want);
}

#[test]
fn an_acknowledgement_stays_when_it_gets_worse() {
    let mut fleet = with_alert();
    fleet.epoch(101 * S, &[], &[asked("acknowledge", ALERT)]);
    fleet.epoch(102 * S, &[Told { severity: 5, ..told(ALERT, "updated", 1, 60) }], &[]);
    assert_eq!(fleet.values(ALERT, "severity acknowledged change by"), "5 true updated ");
}

#[test]
fn a_shelved_rule_suppresses_its_alerts_on_that_machine() {
    let mut fleet = with_alert();
    fleet.epoch(101 * S, &[raised("hot@b@50"), raised("worn@a@50")], &[]);
    fleet.epoch(102 * S, &[], &[asked("shelve", "hot@a").until(900 * S).saying("known")]);
    let columns = "shelved_until suppressed change by comment";
    assert_eq!(fleet.values(ALERT, columns), "900000000000 true shelved ann known");
    assert_eq!(fleet.values("hot@b@50", columns), " false raised  ");
    assert_eq!(fleet.values("worn@a@50", columns), " false raised  ");
    // Another time is another shelving; the same one is not.
    let again = [asked("shelve", "hot@a").until(950 * S), asked("shelve", ALERT).until(950 * S)];
    fleet.epoch(103 * S, &[], &again);
    assert_eq!(fleet.values(ALERT, "shelved_until changes"), "950000000000 3");
    assert_eq!(fleet.account.deduplicated, 1);
    fleet.epoch(104 * S, &[], &[asked("unshelve", ALERT)]);
    assert_eq!(fleet.values(ALERT, columns), " false unshelved ann known");
    fleet.epoch(105 * S, &[], &[asked("unshelve", "hot@a")]);
    assert_eq!(fleet.account.deduplicated, 2);
}

#[test]
fn what_is_raised_while_shelved_is_suppressed_from_the_start() {
    let mut fleet = plain();
    fleet.epoch(S, &[], &[asked("shelve", "hot@a").until(90 * S)]);
    assert_eq!((fleet.rows.len(), fleet.account.used), (0, 1));
    fleet.epoch(2 * S, &[raised(ALERT)], &[]);
    assert_eq!(fleet.values(ALERT, "suppressed change changes"), "true raised 1");
}

#[test]
fn out_of_service_lasts_until_somebody_ends_it() {
    let mut fleet = with_alert();
    fleet.epoch(
        101 * S,
        &[],
        &[asked("out_of_service", "hot@a"), asked("out_of_service", "hot@a")],
    );
    let columns = "out_of_service suppressed change changes";
    assert_eq!(fleet.values(ALERT, columns), "true true out_of_service 2");
    // Both at once, each ended by itself.
    fleet.epoch(102 * S, &[], &[asked("shelve", "hot@a").until(200 * S)]);
    fleet.epoch(103 * S, &[], &[asked("in_service", "hot@a"), asked("in_service", "hot@a")]);
    assert_eq!(fleet.values(ALERT, columns), "false true in_service 4");
    assert_eq!(fleet.account.deduplicated, 2);
}

#[test]
fn marks_show_in_a_cleared_alert_as_they_were_then() {
    let mut fleet = with_alert();
    fleet.epoch(101 * S, &[], &[asked("shelve", "hot@a").until(900 * S)]);
    fleet.epoch(102 * S, &[cleared(ALERT, 70)], &[]);
    fleet.epoch(103 * S, &[], &[asked("unshelve", "hot@a"), asked("out_of_service", "hot@a")]);
    let columns = "state shelved_until out_of_service suppressed change";
    assert_eq!(fleet.values(ALERT, columns), "cleared 900000000000 false true cleared");
}

#[test]
fn an_inhibited_alert_is_suppressed() {
    let mut fleet = with_alert();
    fleet.epoch(101 * S, &[told(ALERT, "updated", 1, 60).inhibited()], &[]);
    assert_eq!(fleet.values(ALERT, "inhibited suppressed change"), "true true updated");
}

#[test]
fn a_command_that_cannot_be_carried_out_changes_nothing_and_says_why() {
    let mut fleet = with_alert();
    let before = fleet.rows.clone();
    let long = "x".repeat(4_097);
    let nothing = Asked { alert: None, ..asked("acknowledge", ALERT) };
    let cases = [
        (asked("ack", ALERT), "unknown_command", "'ack' is not a command; give one of acknowledge"),
        (asked("", ALERT), "unknown_command", "'' is not a command"),
        (asked("acknowledge", "hot@a@41"), "unknown_alert", "no alert 'hot@a@41' of this machine"),
        (asked("comment", "hot@b@40").saying("x"), "unknown_alert", "no alert 'hot@b@40'"),
        (
            Asked { rule: Some("worn".to_owned()), ..asked("acknowledge", ALERT) },
            "unknown_alert",
            "alert 'hot@a@40' is of rule 'hot', not 'worn'",
        ),
        (nothing.clone(), "missing_value", "'acknowledge' needs 'alert'"),
        (Asked { command: "shelve", ..nothing }, "missing_value", "'shelve' needs 'rule'"),
        (asked("comment", ALERT), "missing_value", "'comment' needs 'comment'"),
        (asked("comment", ALERT).saying(""), "missing_value", "'comment' needs 'comment'"),
        (asked("comment", ALERT).saying(&long), "too_long", "'comment' has 4097 bytes"),
        (asked("acknowledge", ALERT).id(&long), "too_long", "'id' has 4097 bytes"),
        (asked("shelve", "hot@a"), "missing_value", "'shelve' needs 'until'"),
        (
            asked("shelve", "hot@a").until(101 * S),
            "already_passed",
            "'until' is 1970-01-01T00:01:41Z, and it is 1970-01-01T00:01:41Z already",
        ),
        (asked("shelve", "hott@a").until(900 * S), "unknown_rule", "give one of hot, worn, cycles"),
        (asked("out_of_service", "hott@c"), "unknown_rule", "there is no rule 'hott'"),
        (asked("unshelve", "hot@a@41"), "unknown_alert", "no alert 'hot@a@41'"),
    ];
    for (asked, reason, detail) in cases {
        fleet.epoch(101 * S, &[], std::slice::from_ref(&asked));
        let letter = fleet.dead.pop().unwrap_or_else(|| panic!("{asked:?} is refused"));
        assert_eq!(letter.reason.0, reason, "{asked:?}");
        assert!(letter.detail.contains(detail), "{}", letter.detail);
        assert_eq!((letter.key.as_deref(), letter.time), (Some(asked.machine), Some(0)));
        assert!(letter.position.is_some());
        assert_eq!(fleet.rows, before, "{asked:?}");
    }
    assert_eq!((fleet.account.used, fleet.account.dead), (1, 16));
}

#[test]
fn a_command_with_the_id_of_one_before_is_not_carried_out_again() {
    let mut fleet = with_alert();
    let first = asked("comment", ALERT).saying("once").id("1");
    fleet.epoch(101 * S, &[], &[first.clone(), first.clone()]);
    fleet.restart(2);
    fleet.epoch(102 * S, &[], std::slice::from_ref(&first));
    assert_eq!(fleet.values(ALERT, "comments changes"), "1 2");
    assert_eq!(fleet.account.deduplicated, 2);
    // That it was repeated does not depend on what came between.
    let acknowledge = asked("acknowledge", ALERT).id("2");
    fleet.epoch(103 * S, &[], &[acknowledge.clone(), asked("unacknowledge", ALERT), acknowledge]);
    assert_eq!(fleet.value(ALERT, "acknowledged"), "false");
    // A shelving is repeated even when its time has passed; one that was refused can be carried out later.
    let shelve = asked("shelve", "hot@a").until(110 * S).id("3");
    let unknown = asked("acknowledge", "hot@a@200").id("4");
    fleet.epoch(104 * S, &[], &[shelve.clone(), unknown.clone()]);
    assert_eq!(fleet.reasons(), ["unknown_alert"]);
    fleet.epoch(120 * S, &[raised("hot@a@200")], &[shelve, unknown]);
    assert_eq!(fleet.reasons(), [""; 0]);
    assert_eq!(fleet.value("hot@a@200", "acknowledged"), "true");
    // Each machine has ids of its own.
    let elsewhere = asked("out_of_service", "hot@b").id("1");
    fleet.epoch(121 * S, &[raised("hot@b@200")], &[elsewhere]);
    assert_eq!(fleet.value("hot@b@200", "out_of_service"), "true");
}

#[test]
fn a_flood_of_commands_takes_no_memory() {
    let mut fleet = with_alert();
    let flood = |n: i64, f: &dyn Fn(i64) -> Asked| (0..n).map(f).collect::<Vec<_>>();
    let repeated = flood(1_000, &|i| asked("acknowledge", ALERT).id(&format!("{i:04}")));
    fleet.epoch(101 * S, &[], &repeated);
    let bytes = fleet.bytes();
    for _ in 0..10 {
        fleet.epoch(102 * S, &[], &repeated);
        let comments = flood(1_000, &|i| asked("comment", ALERT).saying(&format!("{i:04}")));
        fleet.epoch(103 * S, &[], &comments);
    }
    assert_eq!(fleet.value(ALERT, "comments"), "10000");
    assert_eq!(fleet.account.deduplicated, 10_999);
    assert!(fleet.bytes() < bytes + 1_000, "{} {bytes}", fleet.bytes());
    // Commands for what does not exist leave nothing behind.
    let mut fleet = plain();
    fleet.epoch(S, &[], &[asked("acknowledge", ALERT).id("1"), asked("unshelve", "hot@b")]);
    assert_eq!((fleet.bytes(), fleet.account.deduplicated, fleet.account.dead), (0, 1, 1));
}
