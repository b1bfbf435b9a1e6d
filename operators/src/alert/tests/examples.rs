//! What each option does, by example.

use super::*;

/// What is told of the rows of `text`, in all ways they may be run: time, change, severity, `first_seen`, and marks.
fn told(config: &Value, text: &str) -> Vec<String> {
    let outcome = sameness("alert", config, &logical(text));
    let (changes, severities) = (texts(&outcome, "change"), outcome.column("severity"));
    let (seen, flaps) = (outcome.column("first_seen"), outcome.column("flapping"));
    let inhibited = outcome.column("inhibited");
    let line = |i: usize| {
        let mark = |cell: &Cell, mark: &str| match cell {
            Cell::Bool(true) => format!(" {mark}"),
            _ => String::new(),
        };
        let (time, severity) = (outcome.rows[i].time, &severities[i]);
        let (flaps, inhibited) = (mark(&flaps[i], "flapping"), mark(&inhibited[i], "inhibited"));
        format!("{time} {} {severity:?} since {:?}{flaps}{inhibited}", changes[i], seen[i])
    };
    (0..outcome.rows.len()).map(line).collect()
}

#[test]
fn between_the_limits_it_stays_as_it_is() {
    let rows = "m,t,x\na,0,85\na,1,95\na,2,85\na,3,\na,4,79\na,5,85\n";
    let config = json!({ "when": "x > 90", "clear": "x < 80" });
    assert_eq!(told(&config, rows), ["1 raised 3 since 1", "4 cleared 3 since 1"]);
    let same_limit = json!({ "when": "x > 90" });
    assert_eq!(told(&same_limit, rows), ["1 raised 3 since 1", "2 cleared 3 since 1"]);
}

#[test]
fn of_limits_that_overlap_the_one_that_raises_counts() {
    let config = json!({ "when": "x > 90", "clear": "x > 80" });
    let rows = "m,t,x\na,1,95\na,2,95\na,3,85\n";
    assert_eq!(told(&config, rows), ["1 raised 3 since 1", "3 cleared 3 since 1"]);
}

#[test]
fn an_on_delay_elapses_at_its_time_not_at_the_next_row() {
    let config = json!({ "when": "x > 90", "for": 5 });
    let rows = "m,t,x\na,0,95\na,2,95\na,9,95\na,11,10\n";
    assert_eq!(told(&config, rows), ["5 raised 3 since 0", "11 cleared 3 since 0"]);
    // Nothing follows that denies it.
    assert_eq!(told(&config, "m,t,x\na,0,95\n"), ["5 raised 3 since 0"]);
}

#[test]
fn a_row_at_the_time_of_a_delay_comes_first() {
    let config = json!({ "when": "x > 90", "for": 5 });
    assert_eq!(told(&config, "m,t,x\na,0,95\na,5,10\na,6,10\n"), [""; 0]);
    let both = told(&config, "m,t,x\na,0,95\na,5,95\na,5,10\n");
    assert_eq!(both, ["5 raised 3 since 0", "5 cleared 3 since 0"]);
    let null = told(&config, "m,t,x\na,0,95\na,5,\na,9,\n");
    assert_eq!(null, ["5 raised 3 since 0"], "a null denies nothing");
}

#[test]
fn an_off_delay_begins_anew_when_the_condition_comes_back() {
    let config = json!({ "when": "x > 90", "clear_for": 4 });
    let rows = "m,t,x\na,0,95\na,1,10\na,3,95\na,4,10\na,20,10\n";
    assert_eq!(told(&config, rows), ["0 raised 3 since 0", "8 cleared 3 since 0"]);
}

#[test]
fn so_many_of_the_last_rows_must_confirm() {
    let config = json!({ "when": "x > 90", "of": { "k": 2, "rows": 3 } });
    let rows = "m,t,x\na,0,95\na,1,10\na,2,10\na,3,95\na,4,\na,5,95\na,6,10\na,7,10\n";
    assert_eq!(told(&config, rows), ["5 raised 3 since 3", "7 cleared 3 since 3"]);
    let config = json!({ "when": "x > 90", "of": { "k": 2, "duration": 3 }, "for": 2 });
    let rows = "m,t,x\na,0,95\na,3,95\na,5,95\na,6,95\na,7,95\na,8,10\na,9,10\n";
    assert_eq!(told(&config, rows), ["7 raised 3 since 3", "9 cleared 3 since 3"]);
}

#[test]
fn after_a_gap_delays_and_counts_begin_anew() {
    let config = json!({ "when": "x > 90", "for": 5, "max_gap": 3 });
    assert_eq!(told(&config, "m,t,x\na,0,95\na,6,95\na,8,10\n"), [""; 0]);
    let rows = "m,t,x\na,0,95\na,3,95\na,6,95\n";
    assert_eq!(told(&config, rows), ["5 raised 3 since 0"]);
    let config = json!({ "when": "x > 90", "of": { "k": 2, "rows": 2 }, "max_gap": 3 });
    let rows = "m,t,x\na,0,95\na,4,95\na,5,95\na,9,95\na,10,10\n";
    assert_eq!(told(&config, rows), ["5 raised 3 since 4", "10 cleared 3 since 4"]);
}

#[test]
fn what_inhibits_marks_an_open_alert_and_drops_a_pending_one() {
    let config = json!({ "when": "x > 90", "for": 2, "unless": "off > 0" });
    let rows = "m,t,x,off\na,0,95,0\na,1,95,1\na,3,95,0\na,6,95,1\na,7,10,1\na,8,95,0\na,9,10,0\n";
    let expected = [
        "5 raised 3 since 3",
        "6 updated 3 since 3 inhibited",
        "8 updated 3 since 3",
        "9 cleared 3 since 3",
    ];
    assert_eq!(told(&config, rows), expected);
    let config = json!({ "when": "x > 90", "unless": "off > 0", "unless_clears": true });
    let rows = "m,t,x,off\na,0,95,0\na,1,95,1\na,2,95,0\n";
    let expected = ["0 raised 3 since 0", "1 cleared 3 since 0 inhibited", "2 raised 3 since 2"];
    assert_eq!(told(&config, rows), expected);
}

#[test]
fn an_open_alert_is_updated_when_it_gets_worse_or_better() {
    let levels = json!({ "warning": "x < 72", "critical": "x < 24" });
    let config = json!({ "when": "x < 48", "clear": "x > 96", "severity": levels });
    let rows = "m,t,x\na,0,60\na,1,40\na,2,20\na,3,20\na,4,30\na,5,80\na,6,99\n";
    let expected =
        ["1 raised 3 since 1", "2 updated 5 since 1", "4 updated 3 since 1", "6 cleared 3 since 1"];
    assert_eq!(told(&config, rows), expected);
    let config = json!({ "severity": levels, "for": 3 });
    let rows = "m,t,x\na,0,60\na,1,20\na,9,99\n";
    assert_eq!(told(&config, rows), ["3 raised 5 since 0", "9 cleared 5 since 0"]);
}

#[test]
fn an_alert_that_comes_and_goes_is_kept_open() {
    let flapping = json!({ "changes": 2, "within": 10 });
    let config = json!({ "when": "x > 90", "flapping": flapping });
    let on_and_off = "m,t,x\na,0,95\na,1,10\na,2,95\na,3,10\na,4,95\na,5,10\na,6,95\na,7,10\n";
    let expected = [
        "0 raised 3 since 0",
        "1 cleared 3 since 0",
        "2 raised 3 since 2",
        "3 cleared 3 since 2",
        "4 raised 3 since 4 flapping",
        "17 cleared 3 since 4 flapping",
    ];
    assert_eq!(told(&config, on_and_off), expected);
    let stays = format!("{on_and_off}a,8,95\na,30,95\na,31,10\n");
    let mut expected = expected.to_vec();
    expected.splice(5.., ["18 updated 3 since 4", "31 cleared 3 since 4"]);
    assert_eq!(told(&config, &stays), expected);
}

#[test]
fn a_silent_machine_is_told_of_until_it_is_heard() {
    let config = json!({ "deadman": 5 });
    let rows = "m,t,x\na,0,1\na,5,\na,11,1\nb,20,1\n";
    let expected = [
        "10 raised 3 since 5",
        "11 cleared 3 since 5",
        "16 raised 3 since 11",
        "25 raised 3 since 20",
    ];
    let mut told_of = told(&config, rows);
    told_of.sort();
    assert_eq!(told_of, expected);
    let config = json!({ "deadman": 5, "unless": "x > 1", "clear_for": 4 });
    let rows = "m,t,x\na,0,1\na,9,1\na,11,1\na,12,2\na,40,2\na,41,1\n";
    let expected = ["5 raised 3 since 0", "13 cleared 3 since 0", "46 raised 3 since 41"];
    assert_eq!(told(&config, rows), expected);
}

#[test]
fn two_alerts_raised_at_one_time_have_two_ids() {
    let input = logical("m,t,x\na,1,95\na,1,10\na,1,95\na,1,10\nb,1,95\n");
    let outcome = sameness("alert", &json!({ "when": "x > 90" }), &input);
    let mut ids = texts(&outcome, "alert");
    ids.sort();
    ids.dedup();
    assert_eq!((outcome.rows.len(), ids.len()), (5, 3));
}

#[test]
fn evidence_is_what_the_condition_reads() {
    let rows = "m,t,x,y,n:int64,s:string,ok:bool,w:wave@1\na,0,95.1,,7,\"q\",true,1 2\n";
    let evidence = |config: &Value| {
        let outcome = sameness("alert", config, &logical(rows));
        texts(&outcome, "evidence").remove(0)
    };
    assert_eq!(evidence(&json!({ "when": "x > 90" })), r#"{"x":95.1}"#);
    assert_eq!(evidence(&json!({ "deadman": 1 })), r#"{"x":95.1,"y":null,"n":7}"#);
    let chosen = json!({ "when": "x > 90", "evidence": ["ok", "s", "y", "t", "m"] });
    assert_eq!(evidence(&chosen), r#"{"ok":true,"s":"\"q\"","y":null,"t":0,"m":"a"}"#);
    let levels = json!({ "severity": { "major": "x > 90", "critical": "n > 9" } });
    assert_eq!(evidence(&levels), r#"{"x":95.1,"n":7}"#);
}

#[test]
fn the_message_is_the_condition_unless_another_is_given() {
    let message = |config: Value| {
        let outcome = sameness("alert", &config, &logical("m,t,x\na,0,95\n"));
        texts(&outcome, "message").remove(0)
    };
    assert_eq!(message(json!({ "when": "x > 90" })), "x > 90");
    assert_eq!(message(json!({ "deadman": 5 })), "no row for 5");
    let levels = json!({ "minor": "x > 90", "major": "x > 99" });
    assert_eq!(message(json!({ "severity": levels })), "x > 90 or x > 99");
    assert_eq!(message(json!({ "when": "x > 90", "message": "hot" })), "hot");
}
