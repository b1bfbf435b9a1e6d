//! When messages go out: with a clock that the test sets, minute by minute where that matters.

use chrono::NaiveTime;

use super::super::pace::{Haste, NOTICE_MESSAGES_MAX, Next, Pace, Rate, Unit};
use super::super::quiet::Quiet;
use super::*;

const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Messages by number: group, severity, seconds after ten.
fn waiting(rows: &[(&str, i64, i64)]) -> Vec<Arc<Message>> {
    let message = |(i, (group, severity, at)): (usize, &(&str, i64, i64))| {
        Arc::new(Message {
            number: i as u64 + 1,
            id: format!("m{i}"),
            arrived_ns: TEN + at * SECOND,
            severity: Some(*severity),
            group: (*group).to_owned(),
            topic: String::new(),
            subject: String::new(),
            text: String::new(),
            row: "{}".to_owned(),
        })
    };
    rows.iter().enumerate().map(message).collect()
}

/// The numbers of what goes out at a time, or `Err` with the seconds after ten to wait for.
fn at(
    pace: &Pace,
    messages: &[Arc<Message>],
    sent: &[i64],
    second: i64,
) -> Result<Vec<Vec<u64>>, i64> {
    let sent: Vec<i64> = sent.iter().map(|s| TEN + s * SECOND).collect();
    match pace.next(messages.iter(), &sent, TEN + second * SECOND, 1000, Haste::None) {
        Next::Send(units) => Ok(units.into_iter().map(|u| u.numbers).collect()),
        Next::WaitUntil(at) => Err((at - TEN) / SECOND),
        Next::Idle => Err(i64::MAX),
    }
}

/// Lets time pass second by second, and notes what goes out when.
fn course(
    pace: &Pace,
    rows: &[(&str, i64, i64)],
    seconds: std::ops::Range<i64>,
) -> Vec<(i64, Vec<u64>)> {
    let (all, mut out, mut sent) = (waiting(rows), Vec::new(), Vec::new());
    let mut gone: Vec<u64> = Vec::new();
    for second in seconds {
        loop {
            let here = all.iter().filter(|m| m.arrived_ns <= TEN + second * SECOND);
            let here: Vec<_> = here.filter(|m| !gone.contains(&m.number)).cloned().collect();
            let Ok(units) = at(pace, &here, &sent, second) else { break };
            let first = units.into_iter().next().unwrap();
            gone.extend(&first);
            sent.push(second);
            out.push((second, first));
        }
    }
    out
}

#[test]
fn without_options_each_message_goes_at_once() {
    let messages = waiting(&[("a", 1, 0), ("b", 1, 0)]);
    assert_eq!(at(&Pace::default(), &messages, &[], 0), Ok(vec![vec![1], vec![2]]));
    assert_eq!(at(&Pace::default(), &[], &[], 0), Err(i64::MAX));
}

#[test]
fn a_group_goes_out_once_and_is_never_late() {
    let pace = Pace { within_ns: Some(30 * SECOND), ..Pace::default() };
    let rows = [("a", 1, 0), ("b", 1, 10), ("a", 1, 29), ("a", 1, 30), ("b", 1, 39)];
    let out = course(&pace, &rows, 0..120);
    assert_eq!(out, [(30, vec![1, 3]), (40, vec![2, 5]), (60, vec![4])]);
    let messages = waiting(&rows[..2]);
    assert_eq!(at(&pace, &messages, &[], 12), Err(30));
    // The run ends: nothing is waited for.
    let next = pace.next(messages.iter(), &[], TEN + 12 * SECOND, 9, Haste::Ending);
    let unit = |number, due: i64| Unit { numbers: vec![number], due_ns: TEN + due * SECOND };
    assert_eq!(next, Next::Send(vec![unit(1, 12), unit(2, 12)]));
}

#[test]
fn what_is_over_the_rate_waits_and_goes_out_as_one() {
    let pace = Pace { rate: Some(Rate { notices: 3, per_ns: MINUTE }), ..Pace::default() };
    let burst: Vec<_> = (0..7).map(|_| ("a", 1, 0)).chain([("a", 1, 5), ("a", 1, 61)]).collect();
    let out = course(&pace, &burst, 0..200);
    assert_eq!(
        out,
        [(0, vec![1]), (0, vec![2]), (0, vec![3, 4, 5, 6, 7]), (60, vec![8]), (61, vec![9])]
    );
    // Never more than three in any minute, and none is lost.
    let all: Vec<u64> = out.iter().flat_map(|(_, n)| n.clone()).collect();
    assert_eq!(all, (1..=9).collect::<Vec<_>>());
    let messages = waiting(&burst[..1]);
    assert_eq!(at(&pace, &messages, &[-20, -10, -5], 0), Err(40));
}

#[test]
fn a_notice_has_a_bound_and_the_rest_follows() {
    let pace = Pace { rate: Some(Rate { notices: 1, per_ns: MINUTE }), ..Pace::default() };
    let many = vec![("a", 1, 0); NOTICE_MESSAGES_MAX + 50];
    let lengths: Vec<_> =
        course(&pace, &many, 0..100).into_iter().map(|(at, n)| (at, n.len())).collect();
    assert_eq!(lengths, [(0, NOTICE_MESSAGES_MAX), (60, 50)]);
}

fn night(except: Option<i64>, zone: &str) -> Quiet {
    let time = |h| NaiveTime::from_hms_opt(h, 0, 0).unwrap();
    Quiet { from: time(22), to: time(6), zone: zone.parse().unwrap(), except }
}

#[test]
fn at_night_messages_wait_but_for_the_worst() {
    let pace = Pace { quiet: Some(night(Some(5), "UTC")), ..Pace::default() };
    let (before, after) = (12 * 3600, 20 * 3600);
    let rows = [
        ("a", 3, before - 60),
        ("a", 3, before),
        ("a", 5, before + 1),
        ("b", 4, after - 1),
        ("a", 3, after),
    ];
    let out = course(&pace, &rows, before - 60..after + 10);
    let wanted =
        [(before - 60, vec![1]), (before + 1, vec![3]), (after, vec![2, 4]), (after, vec![5])];
    assert_eq!(out, wanted);
    let messages = waiting(&rows[1..2]);
    assert_eq!(at(&pace, &messages, &[], before + 5), Err(after));
}

#[test]
fn what_the_evening_left_behind_is_not_sent_at_night() {
    let pace = Pace { quiet: Some(night(None, "UTC")), ..Pace::default() };
    let evening = 12 * 3600 - 60;
    let messages = waiting(&[("a", 3, evening)]);
    assert_eq!(at(&pace, &messages, &[], evening), Ok(vec![vec![1]]));
    assert_eq!(at(&pace, &messages, &[], evening + 3600), Err(20 * 3600));
    let held = pace.held_until(messages.iter(), TEN + (evening + 3600) * SECOND);
    assert_eq!(held, Some(TEN + 20 * HOUR));
    assert_eq!(pace.held_until(messages.iter(), TEN + evening * SECOND), None);
    assert_eq!(at(&pace, &messages, &[], 20 * 3600), Ok(vec![vec![1]]));
}

#[test]
fn quiet_hours_follow_the_clock_on_the_wall() {
    let at = |text: &str| {
        chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_nanos_opt().unwrap()
    };
    let end = |quiet: &Quiet, now: &str| {
        quiet.end(at(now)).map(|ns| chrono::DateTime::from_timestamp_nanos(ns).to_rfc3339())
    };
    let berlin = night(None, "Europe/Berlin");
    let winter = Some("2026-01-06T05:00:00+00:00".to_owned());
    assert_eq!(end(&berlin, "2026-01-05T21:00:00Z"), winter);
    assert_eq!(end(&berlin, "2026-01-06T04:59:59Z"), winter);
    assert_eq!(end(&berlin, "2026-01-05T20:59:59Z"), None);
    assert_eq!(end(&berlin, "2026-01-06T05:00:00Z"), None);
    // The night in which the clock is set on, and the one in which it is set back.
    assert_eq!(end(&berlin, "2026-03-28T23:00:00Z").unwrap(), "2026-03-29T04:00:00+00:00");
    assert_eq!(end(&berlin, "2026-10-24T22:00:00Z").unwrap(), "2026-10-25T05:00:00+00:00");
    // An end that the clock skips is where it goes on; one that comes twice is the first.
    let time = |h, m| NaiveTime::from_hms_opt(h, m, 0).unwrap();
    let short = Quiet { from: time(1, 0), to: time(2, 30), ..berlin };
    assert_eq!(end(&short, "2026-03-29T00:30:00Z").unwrap(), "2026-03-29T01:00:00+00:00");
    assert_eq!(end(&short, "2026-10-24T23:30:00Z").unwrap(), "2026-10-25T00:30:00+00:00");
    // Quiet hours within a day.
    let noon = Quiet { from: time(12, 0), to: time(13, 0), ..night(None, "UTC") };
    assert_eq!(end(&noon, "2026-01-05T12:30:00Z").unwrap(), "2026-01-05T13:00:00+00:00");
    assert_eq!(end(&noon, "2026-01-05T13:00:00Z"), None);
}
