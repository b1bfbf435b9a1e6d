//! The ordering step, fed by hand.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, TimestampNanosecondType};

use super::rows::SLACK_ROWS;
use super::*;
use crate::graph::DeviceClock;
use crate::keyed::hash_keys;
use crate::schema::Column;

const SECOND: i64 = 1_000_000_000;

fn schema() -> Schema {
    let columns = vec![
        Column::new("machine", DataType::Utf8),
        Column::new("ts", TimeDomain::UtcNanos.data_type()),
        Column::new("v", DataType::Float64),
    ];
    Schema::new(columns, &["machine"], "ts").unwrap()
}

/// Rows (machine, second); positions count up from `first`.
fn batch(rows: &[(&str, i64)], first: u64) -> Batch {
    let schema = schema();
    let machines: StringArray = rows.iter().map(|(m, _)| Some(*m)).collect();
    let times = rows.iter().map(|(_, s)| s * SECOND).collect::<Vec<_>>();
    let columns: Vec<ArrayRef> = vec![
        arrow::compute::cast(&machines, &crate::schema::dictionary_type()).unwrap(),
        Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC")),
        Arc::new(Float64Array::from(vec![1.0; rows.len()])),
    ];
    let rows = RecordBatch::try_new(schema.arrow().clone(), columns).unwrap();
    let hash = hash_keys(&rows, schema.key());
    let n_rows = hash.len() as u64;
    Batch::new(rows, hash, (first..first + n_rows).collect::<Vec<_>>().into()).unwrap()
}

fn epoch(id: u64, clock_s: i64) -> Epoch {
    let clock_ns = clock_s * SECOND;
    Epoch { id, clock_ns, inputs: Vec::new(), commands: Vec::new(), ended: Vec::new() }
}

/// Event times, in seconds, that left.
fn seconds(ordered: &Ordered) -> Vec<i64> {
    let Some(rows) = &ordered.rows else { return Vec::new() };
    rows.times(&schema()).iter().map(|t| t / SECOND).collect()
}

#[test]
fn a_key_that_falls_silent_lets_go_with_the_clock() {
    let rules = OrderRules {
        lateness: 10 * SECOND,
        idle_timeout_ns: Some(5 * SECOND),
        ..OrderRules::default()
    };
    let mut order = Orderer::new(schema(), rules);
    let first = order.epoch(&epoch(1, 1_000), vec![batch(&[("a", 100), ("a", 105)], 1)], false);
    assert_eq!(seconds(&first.unwrap()), Vec::<i64>::new());
    let waiting = order.epoch(&epoch(2, 1_004), Vec::new(), false).unwrap();
    assert_eq!((seconds(&waiting), waiting.watermarks.at.len()), (Vec::new(), 0));
    let later = order.epoch(&epoch(3, 1_006), Vec::new(), false).unwrap();
    assert_eq!(seconds(&later), [100]);
    assert_eq!(later.watermarks.at.values(), &[101 * SECOND]);
    let last = order.epoch(&epoch(4, 1_010), Vec::new(), false).unwrap();
    assert_eq!(seconds(&last), [105]);
    let late = order.epoch(&epoch(5, 1_011), vec![batch(&[("a", 104)], 9)], false).unwrap();
    assert_eq!(late.account.late, 1, "104 is behind the watermark 105 that the clock has brought");
}

#[test]
fn a_clock_far_ahead_drags_nobody() {
    let rules = OrderRules { max_ahead: Some(60 * SECOND), ..OrderRules::default() };
    let mut order = Orderer::new(schema(), rules);
    let rows = batch(&[("a", 1_000), ("a", 9_999), ("a", 1_001), ("a", 1_060)], 1);
    let ordered = order.epoch(&epoch(1, 1_000), vec![rows], false).unwrap();
    assert_eq!(seconds(&ordered), [1_000, 1_001, 1_060]);
    assert_eq!(ordered.dead.len(), 1);
    assert_eq!(ordered.dead[0].reason, Reason::TOO_FAR_AHEAD);
    assert_eq!(ordered.dead[0].key.as_deref(), Some("a"));
    assert_eq!(ordered.account.late, 0);
}

#[test]
fn each_key_has_a_watermark_of_its_own() {
    let mut order = Orderer::new(schema(), OrderRules::default());
    let rows = batch(&[("a", 900), ("b", 10), ("b", 11), ("a", 901)], 1);
    let ordered = order.epoch(&epoch(1, 0), vec![rows], false).unwrap();
    assert_eq!(ordered.account.late, 0);
    let mut marks: Vec<i64> = ordered.watermarks.at.values().to_vec();
    marks.sort_unstable();
    assert_eq!(marks, [11 * SECOND, 901 * SECOND]);
}

#[test]
fn rows_of_one_instant_leave_in_the_order_of_the_source() {
    let rules = OrderRules { lateness: 5 * SECOND, ..OrderRules::default() };
    let mut order = Orderer::new(schema(), rules);
    // The batch that was read later arrives first.
    let parts = vec![batch(&[("a", 7), ("a", 8)], 10), batch(&[("a", 7), ("a", 6)], 1)];
    let ordered = order.epoch(&epoch(1, 0), parts, true).unwrap();
    assert_eq!(seconds(&ordered), [6, 7, 7, 8]);
    assert_eq!(ordered.rows.unwrap().position.values(), &[2, 1, 10, 11]);
    assert!(ordered.watermarks.ended());
}

#[test]
fn late_rows_within_the_bound_are_kept_to_correct() {
    let rules = OrderRules { late: LatePolicy::Correct(10 * SECOND), ..OrderRules::default() };
    let mut order = Orderer::new(schema(), rules);
    let rows = batch(&[("a", 100), ("a", 95), ("a", 80)], 1);
    let ordered = order.epoch(&epoch(1, 0), vec![rows], false).unwrap();
    let late = ordered.late.unwrap();
    assert_eq!(late.times(&schema()), &[95 * SECOND]);
    assert_eq!((ordered.account.late, ordered.dead.len()), (1, 1));
    assert_eq!((ordered.account.used, ordered.account.corrected), (2, 1));
    let told = &ordered.corrected[0];
    assert_eq!((told.time, told.watermark, told.position), (95 * SECOND, 100 * SECOND, 2));
    assert_eq!(ordered.dead[0].watermark, Some(100 * SECOND));
}

#[test]
fn repetitions_are_forgotten_in_time() {
    let rules = OrderRules {
        lateness: 100 * SECOND,
        dedupe: vec![0, 1],
        dedupe_within: 20 * SECOND,
        ..OrderRules::default()
    };
    let mut order = Orderer::new(schema(), rules);
    let rows = batch(&[("a", 1), ("a", 1), ("a", 50), ("a", 51), ("a", 1)], 1);
    let ordered = order.epoch(&epoch(1, 0), vec![rows], true).unwrap();
    assert_eq!(ordered.account.deduplicated, 1);
    assert_eq!(seconds(&ordered), [1, 1, 50, 51], "after 20 s the first row is forgotten");
}

#[test]
fn held_rows_are_copied_out_of_large_batches() {
    let rules = OrderRules { lateness: 1_000 * SECOND, ..OrderRules::default() };
    let mut order = Orderer::new(schema(), rules);
    let mut position = 1;
    for e in 0..400 {
        let rows: Vec<(&str, i64)> = (0..500).map(|r| ("a", e * 500 + r)).collect();
        let part = batch(&rows, position);
        position += 500;
        order.epoch(&epoch(u64::try_from(e).unwrap() + 1, 0), vec![part], false).unwrap();
    }
    let kept: usize = order.batches.iter().map(Batch::len).sum();
    assert!(kept < 3 * 1_000 + SLACK_ROWS + 500, "{kept} rows are kept for 1,000 that wait");
    let rest = order.epoch(&epoch(401, 0), Vec::new(), true).unwrap();
    assert_eq!(seconds(&rest), (199_000..200_000).collect::<Vec<_>>());
}

/// A schema of stamps by a device and of arrivals; `keeps` adds the column for stamps that were replaced.
fn clocked_schema(keeps: bool) -> Schema {
    let time = |name: &str| Column::new(name, TimeDomain::UtcNanos.data_type());
    let mut columns = vec![Column::new("machine", DataType::Utf8), time("ts"), time("arrival")];
    columns.extend(keeps.then(|| time("device_time")));
    Schema::new(columns, &["machine"], "ts").unwrap()
}

/// Rows of one machine (stamp, arrival), in seconds; positions count up from `first`.
fn clocked_batch(rows: &[(Option<i64>, i64)], first: u64) -> Batch {
    let schema = clocked_schema(false);
    let machines: StringArray = rows.iter().map(|_| Some("a")).collect();
    let times = |times: Vec<Option<i64>>| -> ArrayRef {
        let times = times.into_iter().map(|t| t.map(|t| t * SECOND));
        Arc::new(times.collect::<TimestampNanosecondArray>().with_timezone("UTC"))
    };
    let columns: Vec<ArrayRef> = vec![
        arrow::compute::cast(&machines, &crate::schema::dictionary_type()).unwrap(),
        times(rows.iter().map(|(device, _)| *device).collect()),
        times(rows.iter().map(|(_, arrival)| Some(*arrival)).collect()),
    ];
    let rows = RecordBatch::try_new(schema.arrow().clone(), columns).unwrap();
    let hash = hash_keys(&rows, schema.key());
    let n_rows = hash.len() as u64;
    Batch::new(rows, hash, (first..first + n_rows).collect::<Vec<_>>().into()).unwrap()
}

/// Believes a device up to 10 s from the arrival.
fn clocked(otherwise: ClockPolicy, arrival: Option<usize>, rules: OrderRules) -> Orderer {
    let clock = DeviceClock { arrival, max_difference_ns: 10 * SECOND, otherwise };
    let rules = OrderRules { device_clock: Some(clock), ..rules };
    Orderer::new(clocked_schema(otherwise == ClockPolicy::Arrival), rules)
}

/// Event time and replaced stamp of each row, in seconds.
fn stamps(rows: &Batch) -> Vec<(i64, Option<i64>)> {
    let column = |c: usize| rows.rows.column(c).as_primitive::<TimestampNanosecondType>();
    let said = column(3).iter().map(|t| t.map(|t| t / SECOND));
    column(1).values().iter().map(|t| t / SECOND).zip(said).collect()
}

#[test]
fn a_clock_that_is_off_gives_way_to_the_arrival() {
    let mut order = clocked(ClockPolicy::Arrival, Some(2), OrderRules::default());
    // The limit itself is near enough, on either side.
    let rows = [(100, 100), (111, 101), (5, 113), (104, 114), (9_999, 115)];
    let rows = clocked_batch(&rows.map(|(device, arrival)| (Some(device), arrival)), 1);
    let ordered = order.epoch(&epoch(1, 0), vec![rows], true).unwrap();
    let got = stamps(&ordered.rows.unwrap());
    assert_eq!(got, [(100, None), (111, None), (113, Some(5)), (115, Some(9_999))]);
    assert_eq!((ordered.account.restamped, ordered.account.late), (2, 1), "104 is late by 113");
    assert_eq!(ordered.account.used, 4);
}

#[test]
fn a_device_without_a_clock_gets_the_arrival() {
    let mut order = clocked(ClockPolicy::Arrival, Some(2), OrderRules::default());
    let rows = clocked_batch(&[(Some(100), 100), (None, 101)], 1);
    let ordered = order.epoch(&epoch(1, 0), vec![rows], true).unwrap();
    assert_eq!(stamps(&ordered.rows.unwrap()), [(100, None), (101, None)]);
    assert_eq!(ordered.account.restamped, 1);
}

#[test]
fn a_row_whose_clock_is_off_can_be_a_dead_letter() {
    let mut order = clocked(ClockPolicy::DeadLetter, Some(2), OrderRules::default());
    let rows = [(Some(100), 100), (Some(9_999), 101), (None, 102), (Some(103), 103)];
    let ordered = order.epoch(&epoch(1, 0), vec![clocked_batch(&rows, 1)], true).unwrap();
    let times = ordered.rows.unwrap().times(&clocked_schema(false)).to_vec();
    assert_eq!(times, [100 * SECOND, 103 * SECOND], "nobody is dragged");
    let letters: Vec<_> =
        ordered.dead.iter().map(|d| (d.reason, d.time, d.position.unwrap())).collect();
    let off = Reason::CLOCK_OFF;
    assert_eq!(letters, [(off, Some(9_999 * SECOND), 2), (off, None, 3)]);
    assert_eq!((ordered.account.dead, ordered.account.restamped), (2, 0));
}

#[test]
fn a_row_that_is_sent_again_is_told_by_what_the_device_sent() {
    let rules = OrderRules {
        dedupe: vec![0, 1],
        dedupe_within: 30 * SECOND,
        lateness: 30 * SECOND,
        ..OrderRules::default()
    };
    for otherwise in [ClockPolicy::Arrival, ClockPolicy::DeadLetter] {
        let mut order = clocked(otherwise, Some(2), rules.clone());
        let first = clocked_batch(&[(Some(5), 100), (Some(101), 101)], 1);
        order.epoch(&epoch(1, 0), vec![first], false).unwrap();
        let again = clocked_batch(&[(Some(5), 110), (Some(101), 111), (Some(6), 112)], 3);
        let ordered = order.epoch(&epoch(2, 0), vec![again], true).unwrap();
        assert_eq!(ordered.account.deduplicated, 2, "{otherwise:?}");
    }
}

#[test]
fn what_counts_as_ahead_or_late_is_the_time_that_counts() {
    let rules = OrderRules { max_ahead: Some(60 * SECOND), ..OrderRules::default() };
    let mut order = clocked(ClockPolicy::Arrival, Some(2), rules);
    let rows = clocked_batch(&[(Some(9_999), 1_000), (Some(1_001), 1_001), (Some(1), 1_002)], 1);
    let ordered = order.epoch(&epoch(1, 1_000), vec![rows], true).unwrap();
    let times: Vec<i64> = stamps(&ordered.rows.unwrap()).into_iter().map(|(t, _)| t).collect();
    assert_eq!(times, [1_000, 1_001, 1_002]);
    assert_eq!((ordered.account.dead, ordered.account.late), (0, 0));
}

#[test]
fn without_a_column_rows_arrive_when_their_epoch_is_closed() {
    let mut order = clocked(ClockPolicy::Arrival, None, OrderRules::default());
    let rows = |first| clocked_batch(&[(Some(95), 0), (Some(5), 0), (Some(999), 0)], first);
    let ordered = order.epoch(&epoch(1, 100), vec![rows(1)], false).unwrap();
    assert_eq!(stamps(&ordered.rows.unwrap()), [(95, None), (100, Some(5)), (100, Some(999))]);
    let ordered = order.epoch(&epoch(2, 2_000), vec![rows(4)], true).unwrap();
    let late = (2_000, Some(95));
    assert_eq!(stamps(&ordered.rows.unwrap()), [late, (2_000, Some(5)), (2_000, Some(999))]);
}

#[test]
fn a_row_that_waits_keeps_the_stamp_it_came_with() {
    let rules = OrderRules { lateness: 50 * SECOND, ..OrderRules::default() };
    let mut order = clocked(ClockPolicy::Arrival, Some(2), rules.clone());
    let rows = clocked_batch(&[(Some(5), 100), (Some(101), 101)], 1);
    let ordered = order.epoch(&epoch(1, 0), vec![rows], false).unwrap();
    assert!(ordered.rows.is_none());
    let shard = order.dirty().iter().next().unwrap();
    let saved = order.save(shard).unwrap().unwrap();
    let mut restored = clocked(ClockPolicy::Arrival, Some(2), rules);
    restored.load(Orderer::STATE_VERSION, &saved).unwrap();
    for order in [&mut order, &mut restored] {
        let ordered = order.epoch(&epoch(2, 0), Vec::new(), true).unwrap();
        assert_eq!(stamps(&ordered.rows.unwrap()), [(100, Some(5)), (101, None)]);
    }
}

#[test]
fn a_row_far_ahead_does_not_keep_others_from_being_forgotten() {
    let rules = OrderRules {
        dedupe: vec![0, 1],
        dedupe_within: 5 * SECOND,
        max_ahead: Some(60 * SECOND),
        ..OrderRules::default()
    };
    let mut order = Orderer::new(schema(), rules);
    let times = [0, 9_999].into_iter().chain(1..400);
    let rows: Vec<(&str, i64)> = times.map(|t| ("a", t)).collect();
    let ordered = order.epoch(&epoch(1, 400), vec![batch(&rows, 1)], false).unwrap();
    assert_eq!(ordered.account.dead, 1);
    let remembered: usize = order.keys.states_mut().iter().map(|k| k.seen.by_age.len()).sum();
    assert_eq!(remembered, 7, "those of the 5 s before the last row, and that row");
}
