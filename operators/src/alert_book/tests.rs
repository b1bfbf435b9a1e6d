//! The book by example, at random, late, in the engine, and by its options.

use foreline_engine::{Account, Relation, parse_config};
use serde_json::{Value, json};

use super::*;

mod clock;
mod commands;
mod corrections;
mod entries;
mod fleet;
mod oracle;

use fleet::{Asked, Fleet, Lane, RULES, S, Told, asked, cleared, raised, rules, told};

/// Minutes of the engine's clock.
const M: i64 = 60 * S;
/// A day of the engine's clock.
const DAY: i64 = 86_400 * S;

fn options(value: &Value) -> BookOptions {
    parse_config(value).unwrap()
}

/// A book with all that it does by itself unless told otherwise, on one worker.
fn plain() -> Fleet {
    Fleet::new(&BookOptions::default(), 1)
}

#[test]
fn an_alert_is_a_row_from_raised_to_cleared() {
    let mut fleet = plain();
    fleet.epoch(100 * S, &[raised("hot@a@40")], &[]);
    let row = &fleet.rows["hot@a@40"];
    let expected = [
        ("alert", "hot@a@40"),
        ("machine", "a"),
        ("rule", "hot"),
        ("severity", "3"),
        ("state", "open"),
        ("acknowledged", "false"),
        ("acknowledged_by", ""),
        ("acknowledged_at", ""),
        ("comments", "0"),
        ("comment", ""),
        ("shelved_until", ""),
        ("out_of_service", "false"),
        ("suppressed", "false"),
        ("escalation", "0"),
        ("first_out", "true"),
        ("raised_at", "40"),
        ("cleared_at", ""),
        ("first_seen", "40"),
        ("raised_count", ""),
        ("cleared_count", ""),
        ("flapping", "false"),
        ("inhibited", "false"),
        ("message", "too hot"),
        ("evidence", "{\"x\":40}"),
        ("change", "raised"),
        ("by", ""),
        ("changes", "1"),
        ("change_at", "100000000000"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(*row, expected.into_iter().collect());
    fleet.epoch(101 * S, &[cleared("hot@a@40", 70)], &[]);
    let columns = "state raised_at cleared_at change changes change_at evidence";
    let want = "cleared 40 70 cleared 2 101000000000 {\"x\":70}";
    assert_eq!(fleet.values("hot@a@40", columns), want);
    assert_eq!((fleet.account.input, fleet.account.used), (2, 2));
}

#[test]
fn times_of_a_rule_that_counts_are_counts() {
    let mut fleet = plain();
    fleet.epoch(S, &[raised("cycles@a@40"), raised("hot@a@99")], &[]);
    fleet.epoch(2 * S, &[cleared("cycles@a@40", 50)], &[]);
    let columns = "raised_at cleared_at first_seen raised_count cleared_count first_out";
    assert_eq!(fleet.values("cycles@a@40", columns), "   40 50 true");
    // A count and a time cannot be compared.
    assert_eq!(fleet.values("hot@a@99", columns), "99  99   true");
}

#[test]
fn what_comes_and_goes_within_an_epoch_is_one_row() {
    let mut fleet = plain();
    let told = [cleared("hot@a@40", 70), raised("hot@a@40")];
    let asked = [asked("acknowledge", "hot@a@40"), asked("comment", "hot@a@40").saying("seen")];
    fleet.epoch(S, &told, &asked);
    let columns = "state acknowledged comment change by changes";
    assert_eq!(fleet.values("hot@a@40", columns), "cleared true seen commented ann 4");
}

#[test]
fn the_first_of_the_alerts_that_are_open_together_is_first_out() {
    let mut fleet = plain();
    fleet.epoch(S, &[raised("hot@a@10")], &[]);
    fleet.epoch(2 * S, &[raised("worn@a@20"), raised("hot@b@30")], &[]);
    fleet.epoch(3 * S, &[cleared("hot@a@10", 40), raised("hot@a@50")], &[]);
    fleet.epoch(4 * S, &[cleared("worn@a@20", 60), cleared("hot@a@50", 60)], &[]);
    fleet.epoch(5 * S, &[raised("worn@a@60")], &[]);
    let first = |alert: &str| fleet.value(alert, "first_out");
    let all = ["hot@a@10", "worn@a@20", "hot@b@30", "hot@a@50", "worn@a@60"].map(first);
    assert_eq!(all, ["true", "false", "true", "false", "true"]);
    // A rule that waits longer tells of an earlier alert: the one that was told before was not the first.
    fleet.epoch(6 * S, &[raised("hot@a@59")], &[]);
    assert_eq!(fleet.values("worn@a@60", "first_out change changes"), "false revised 2");
}

#[test]
fn alerts_of_a_view_are_by_the_engines_clock_and_compared_with_one_another() {
    let mut fleet = plain();
    // Readings that lie behind the clock by which the view changed.
    for second in 1..6 {
        let (of_view, of_stream) = (1_000 * second, 10 * second);
        let told = [raised(&format!("view@a@{of_view}")), raised(&format!("hot@a@{of_stream}"))];
        fleet.epoch(second * S, &told, &[]);
        let told = [
            cleared(&format!("view@a@{of_view}"), of_view + 1),
            cleared(&format!("hot@a@{of_stream}"), of_stream + 1),
        ];
        fleet.epoch(second * S + 1, &told, &[]);
    }
    for second in 1..6 {
        for alert in [format!("view@a@{}", 1_000 * second), format!("hot@a@{}", 10 * second)] {
            assert_eq!(fleet.values(&alert, "first_out change changes"), "true cleared 2");
        }
    }
}

#[test]
fn the_book_is_a_relation_by_alert() {
    let schema = book_schema();
    let names = |columns: &[usize]| -> Vec<String> {
        columns.iter().map(|&c| schema.columns()[c].name.clone()).collect()
    };
    assert_eq!(names(schema.key()), ["alert"]);
    assert_eq!(names(&schema.primary_key().columns), ["alert"]);
    assert_eq!(names(&[schema.time()]), ["change_at"]);
    let relation = Relation::of_latest(&schema, 1).unwrap();
    assert_eq!(relation.columns().len(), 28);
    assert!(wants_clock(&BookOptions::default()));
}

#[test]
fn options_are_read_and_mistakes_are_told_together() {
    let all = options(&json!({ "escalate": ["15m", "1h"], "keep": "2d", "closed": 7 }));
    assert_eq!(all.escalate, [Extent::Nanos(15 * M), Extent::Nanos(60 * M)]);
    assert_eq!((all.keep, all.closed), (Extent::Nanos(2 * DAY), 7));
    assert_eq!(options(&json!({})), BookOptions::default());
    assert_eq!(all.check(), Ok(()));
    let bad = options(&json!({
        "escalate": ["1h", "15m", 3, "0s"], "keep": 0, "keep_unacknowledged": "0s", "closed": 0
    }));
    let errors = book(&rules(), &bad).unwrap_err();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "escalate[1]: '15m' is not after the one before",
            "escalate[2]: '3' has no unit",
            "escalate[3]: '0s' is not above zero",
            "keep: '0' has no unit",
            "keep_unacknowledged: '0s' is not above zero",
            "closed: '0' is not a number of alerts",
        ]
    );
    let many: Vec<String> = (1..=11).map(|m| format!("{m}m")).collect();
    let many = options(&json!({ "escalate": many, "closed": 10_001 }));
    let errors: Vec<String> = many.check().unwrap_err().into_iter().map(|e| e.at).collect();
    assert_eq!(errors, ["escalate", "closed"]);
    let unknown = parse_config::<BookOptions>(&json!({ "escalte": [] })).unwrap_err();
    assert!(unknown.to_string().contains("escalte"), "{unknown}");
}

#[test]
fn every_option_is_described() {
    let schema = schemars::schema_for!(BookOptions);
    let options = schema.as_value()["properties"].as_object().unwrap();
    assert_eq!(options.len(), 4);
    assert!(options.values().all(|option| option["description"].is_string()), "{options:?}");
}
