//! The journal under every fault that a disk has.
//!
//! The oracle is a list of [`Step`]s: what was appended, in order, and how much of it a sync covered. Whatever happens,
//! a journal that opens holds exactly the first records of it, and all that were synced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::disk::SimDisk;
use crate::epoch::{Command, InputRange};
use crate::sink::RunId;
use crate::source::{Partition, Range};

const DIR: &str = "data/journal";
/// Small enough that a handful of records fill a segment.
const SMALL: JournalOptions =
    JournalOptions { segment_bytes: 900, limit_bytes: 1 << 20, keep_ns: 0 };
const MQTT: SourceId = SourceId(0);
const CSV: SourceId = SourceId(1);

fn open(disk: &SimDisk) -> Result<(Journal, Recovered), JournalError> {
    Journal::open(Arc::new(disk.clone()), DIR, SMALL)
}

fn chunk(n: u64, len: usize) -> Chunk {
    let range =
        Range { start: n * 10, end: n * 10 + 10, first_ordinal: n * 10, end_ordinal: n * 10 + 10 };
    let payload = (0..len).map(|i| ((n as usize * 31 + i * 7) % 251) as u8).collect();
    Chunk { partition: Partition(0), range, rows: 10, payload }
}

fn input(source: SourceId, chunk: &Chunk) -> InputRange {
    InputRange { source, partition: chunk.partition, range: chunk.range }
}

fn partition(n: u32) -> PartitionRecord {
    let name = format!("data/{n}.csv");
    let (partition, identity) = (Partition(n), vec![n as u8; 5]);
    PartitionRecord { source: CSV, partition, name, identity, read: None }
}

fn run(n: u64) -> RunRecord {
    RunRecord { run: RunId(n), workers: 2, plan: "abc".to_owned() }
}

/// Epoch `id` of one chunk from the journal and one from a file.
fn epoch(id: u64, kept: &[Chunk]) -> (Epoch, Vec<u128>) {
    let file = chunk(1000 + id, 40);
    let mut inputs: Vec<InputRange> = kept.iter().map(|c| input(MQTT, c)).collect();
    let mut digests: Vec<u128> = kept.iter().map(|c| digest(&c.payload)).collect();
    inputs.push(input(CSV, &file));
    digests.push(digest(&file.payload));
    let commands = vec![Command { target: "limits".to_owned(), body: vec![7; 9] }];
    let clock_ns = i64::try_from(id).unwrap() * 1_000_000;
    (Epoch { id, clock_ns, inputs, commands, ended: vec![] }, digests)
}

/// What an append was, and what a replay says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Run(u64),
    Partition(u32),
    Input(u64, usize),
    Epoch(u64, Vec<(u64, usize)>),
    Sync,
}

impl Step {
    fn apply(&self, journal: &mut Journal) -> Result<(), JournalError> {
        match self {
            Step::Run(n) => journal.append_run(&run(*n)),
            Step::Partition(n) => journal.append_partition(&partition(*n)),
            Step::Input(n, len) => journal.append_input(&chunk(*n, *len), MQTT),
            Step::Epoch(id, inputs) => {
                let kept: Vec<Chunk> = inputs.iter().map(|&(n, len)| chunk(n, len)).collect();
                let (epoch, digests) = epoch(*id, &kept);
                journal.append_epoch(&epoch, &digests)
            }
            Step::Sync => journal.sync(),
        }
    }
}

/// A day in the life: inputs run ahead of their epochs, and every epoch is synced.
fn script(epochs: u64, len: usize) -> Vec<Step> {
    let mut steps = vec![Step::Run(1), Step::Partition(0), Step::Sync];
    let mut waiting: Vec<(u64, usize)> = Vec::new();
    let mut next = 0;
    for id in 1..=epochs {
        for _ in 0..=(id % 3) {
            let one = (next, len + (next as usize * 13) % 40);
            steps.push(Step::Input(one.0, one.1));
            waiting.push(one);
            next += 1;
        }
        if id % 4 == 2 {
            steps.push(Step::Partition(id as u32));
        }
        steps.push(Step::Sync);
        let taken = if id % 2 == 0 { waiting.len() } else { waiting.len().min(1) };
        steps.push(Step::Epoch(id, waiting.drain(..taken).collect()));
        steps.push(Step::Sync);
    }
    steps.extend([Step::Input(next, len), Step::Input(next + 1, len), Step::Sync]);
    steps
}

/// What a journal says on replay, as steps.
fn replayed(journal: &Journal, after: Option<u64>) -> Result<Vec<Step>, JournalError> {
    let number = |chunk: &Chunk| (chunk.range.start / 10, chunk.payload.len());
    let mut steps = Vec::new();
    for item in journal.replay_after(after) {
        steps.push(match item? {
            Replayed::Partition(p) => {
                assert_eq!(p, partition(p.partition.0));
                Step::Partition(p.partition.0)
            }
            Replayed::Epoch { epoch: got, inputs } => {
                let kept: Vec<Chunk> = inputs.iter().filter_map(|i| i.chunk.clone()).collect();
                let (expected, digests) = epoch(got.id, &kept);
                assert_eq!(got, expected);
                assert_eq!(inputs.iter().map(|i| i.digest).collect::<Vec<_>>(), digests);
                kept.iter().for_each(|c| assert_eq!(c.payload, sound(c)));
                Step::Epoch(got.id, kept.iter().map(number).collect())
            }
            Replayed::Unmarked { source, chunk } => {
                assert_eq!((source, &chunk.payload), (MQTT, &sound(&chunk)));
                let (n, len) = number(&chunk);
                Step::Input(n, len)
            }
        });
    }
    Ok(steps)
}

/// The payload that a chunk was made with.
fn sound(c: &Chunk) -> Vec<u8> {
    chunk(c.range.start / 10, c.payload.len()).payload
}

/// What a replay of the first records should say.
fn expected(steps: &[Step], after: Option<u64>) -> Vec<Step> {
    let mut said = Vec::new();
    let mut waiting: BTreeMap<u64, usize> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Input(n, len) => {
                waiting.insert(*n, *len);
            }
            Step::Epoch(id, inputs) => {
                waiting.retain(|n, _| inputs.iter().all(|(taken, _)| taken != n));
                if after.is_none_or(|after| *id > after) {
                    said.push(step.clone());
                }
            }
            Step::Partition(_) => said.push(step.clone()),
            Step::Run(_) | Step::Sync => {}
        }
    }
    said.extend(waiting.into_iter().map(|(n, len)| Step::Input(n, len)));
    said
}

/// The records among the steps.
fn records(steps: &[Step]) -> Vec<Step> {
    steps.iter().filter(|s| **s != Step::Sync).cloned().collect()
}

/// Without the partitions: where segments were trimmed they come at another place.
fn without_partitions(steps: Vec<Step>) -> Vec<Step> {
    steps.into_iter().filter(|s| !matches!(s, Step::Partition(_))).collect()
}

/// How many of `records` a journal holds; it must be the first ones and nothing else.
fn prefix_len(journal: &Journal, records: &[Step]) -> usize {
    let said = replayed(journal, None).unwrap();
    let run = journal.index.run.as_ref().map(|r| r.run.0);
    let fits = |n: &usize| {
        let mut runs =
            records[..*n].iter().filter_map(|s| if let Step::Run(r) = s { Some(*r) } else { None });
        expected(&records[..*n], None) == said && runs.next_back() == run
    };
    (0..=records.len()).find(fits).unwrap_or_else(|| panic!("invented: {said:?}"))
}

/// A disk with a recorded journal, and its files.
fn recorded(steps: &[Step]) -> BTreeMap<PathBuf, Vec<u8>> {
    let disk = SimDisk::new(7);
    let (mut journal, _) = open(&disk).unwrap();
    steps.iter().for_each(|step| step.apply(&mut journal).unwrap());
    disk.files()
}

fn disk_of(files: &BTreeMap<PathBuf, Vec<u8>>) -> SimDisk {
    let disk = SimDisk::new(7);
    files.iter().for_each(|(path, bytes)| disk.put(path, bytes));
    disk
}

/// After a fault: the journal goes on as if it had never had what was cut.
fn goes_on(journal: &mut Journal) {
    let next = journal.last_epoch().map_or(1, |e| e + 1);
    let one = (5_000, 33);
    Step::Input(one.0, one.1).apply(journal).unwrap();
    Step::Epoch(next, vec![one]).apply(journal).unwrap();
    journal.sync().unwrap();
    let said = replayed(journal, Some(next - 1)).unwrap();
    assert!(said.contains(&Step::Epoch(next, vec![one])), "{said:?}");
}

#[test]
fn a_journal_says_what_it_was_told() {
    let steps = script(12, 60);
    let files = recorded(&steps);
    assert!(files.len() > 3, "{}", files.len());
    let (journal, found) = open(&disk_of(&files)).unwrap();
    assert_eq!(prefix_len(&journal, &records(&steps)), records(&steps).len());
    assert_eq!((found.first_epoch, found.last_epoch), (Some(1), Some(12)));
    assert_eq!((found.first_sequence, found.trimmed), (1, None));
    assert_eq!(found.run, Some(run(1)));
    assert_eq!(found.partitions, [0, 2, 6, 10].map(partition));
    assert_eq!(journal.bytes(), files.values().map(|b| b.len() as u64).sum::<u64>());
    for after in 0..=12 {
        assert_eq!(
            without_partitions(replayed(&journal, Some(after)).unwrap()),
            without_partitions(expected(&steps, Some(after)))
        );
    }
}

#[test]
fn an_epoch_without_inputs_and_an_empty_journal_are_fine() {
    let disk = SimDisk::new(1);
    let (mut journal, found) = open(&disk).unwrap();
    assert_eq!((found.first_sequence, found.last_sequence, found.last_epoch), (1, 0, None));
    assert_eq!(replayed(&journal, Some(9)).unwrap(), []);
    let none = Epoch { id: 1, clock_ns: 5, inputs: vec![], commands: vec![], ended: vec![MQTT] };
    journal.append_epoch(&none, &[]).unwrap();
    journal.sync().unwrap();
    let all: Vec<_> = journal.replay_after(None).map(Result::unwrap).collect();
    let [Replayed::Epoch { epoch, inputs }] = &all[..] else { panic!("{all:?}") };
    assert_eq!((epoch, inputs.len()), (&none, 0));
}

#[test]
fn what_cannot_be_right_is_refused_and_not_written() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    Step::Input(1, 9).apply(&mut journal).unwrap();
    Step::Epoch(4, vec![]).apply(&mut journal).unwrap();
    let before = journal.bytes();
    let (again, digests) = epoch(4, &[]);
    let faults = [
        Step::Input(1, 9).apply(&mut journal),
        journal.append_epoch(&again, &digests),
        journal.append_epoch(&epoch(5, &[]).0, &[]),
    ];
    for fault in faults {
        assert!(matches!(fault, Err(JournalError::Refused { .. })), "{fault:?}");
    }
    assert_eq!(journal.bytes(), before);
    Step::Epoch(5, vec![(1, 9)]).apply(&mut journal).unwrap();
}

/// The places between the records of a segment.
fn record_ends(path: &Path, bytes: &[u8]) -> Vec<usize> {
    let first = segment::first_of(path.file_name().unwrap().to_str().unwrap()).unwrap();
    let mut ends = Vec::new();
    let bad = segment::walk(bytes, first, |_, at, _| {
        ends.push(at);
        Ok(())
    });
    assert_eq!(bad, None);
    ends
}

#[test]
fn truncated_at_every_byte_the_longest_prefix_is_kept() {
    let steps = script(5, 30);
    let records = records(&steps);
    let files = recorded(&steps);
    let paths: Vec<&PathBuf> = files.keys().collect();
    let mut lengths = Vec::new();
    for (at, path) in paths.iter().enumerate() {
        let ends = record_ends(path, &files[*path]);
        for len in 0..files[*path].len() {
            // The segments behind never were: they are made when this one is full.
            let mut cut: BTreeMap<_, _> =
                paths[..=at].iter().map(|&p| (p.clone(), files[p].clone())).collect();
            cut.get_mut(*path).unwrap().truncate(len);
            let disk = disk_of(&cut);
            let (mut journal, found) = open(&disk).unwrap();
            lengths.push(prefix_len(&journal, &records));
            let whole = ends.contains(&len);
            assert_eq!(found.trimmed.is_none(), whole, "{path:?} {len}");
            goes_on(&mut journal);
            journal.trim_below(u64::MAX).unwrap();
            let (_, again) = open(&disk).unwrap();
            assert_eq!((again.trimmed, again.last_epoch), (None, journal.last_epoch()));
            assert_eq!(again.run, found.run);
            // The epoch that stays reads from it.
            let first = partition(0);
            assert_eq!(again.partitions.contains(&first), found.partitions.contains(&first));
        }
    }
    assert!(lengths.is_sorted());
    assert_eq!(lengths.last(), Some(&(records.len() - 1)));
    assert!((0..records.len()).all(|n| lengths.contains(&n)), "a byte more is never a record less");
}

#[test]
fn a_segment_that_is_cut_before_the_last_is_refused() {
    let files = recorded(&script(6, 40));
    let paths: Vec<PathBuf> = files.keys().cloned().collect();
    for path in &paths[..paths.len() - 1] {
        for len in 0..files[path].len() {
            let mut cut = files.clone();
            cut.get_mut(path).unwrap().truncate(len);
            let error = open(&disk_of(&cut)).unwrap_err();
            let JournalError::Corrupt { file, .. } = &error else { panic!("{error}") };
            // A cut between two records shows at the next segment, as a gap.
            assert!(file == path || Some(file) == paths.iter().find(|p| *p > path), "{error}");
        }
        let mut gap = files.clone();
        gap.remove(path);
        // The oldest may have been trimmed.
        assert_eq!(open(&disk_of(&gap)).is_err(), path > &paths[0]);
    }
}

/// Opens `files` with one byte changed: the journal is refused at that place, or cut there when it is in the last
/// sync's records.
fn check_flip(
    files: &BTreeMap<PathBuf, Vec<u8>>,
    path: &Path,
    at: usize,
    bit: u8,
    records: &[Step],
) {
    let mut bad = files.clone();
    bad.get_mut(path).unwrap()[at] ^= 1 << bit;
    let disk = disk_of(&bad);
    match open(&disk) {
        Ok((journal, found)) => {
            let trimmed = found.trimmed.expect("no flip goes unseen");
            assert!(Some(path) == files.keys().last().map(PathBuf::as_path), "{path:?} {at}");
            assert!(trimmed.offset <= at as u64);
            // No sound record is behind the cut.
            assert_eq!(prefix_len(&journal, records), records.len() - 1, "{path:?} {at}");
        }
        Err(error) => {
            let JournalError::Corrupt { file, offset, .. } = &error else { panic!("{error}") };
            assert_eq!(file, path);
            assert!(*offset <= at as u64, "{error}");
            assert!(error.to_string().contains("foreline journal repair"), "{error}");
            assert!(error.to_string().contains(&format!("at byte {offset}")), "{error}");
            assert_eq!(disk.files(), bad, "a refused journal is left as it is");
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let steps = script(5, 30);
    let (files, records) = (recorded(&steps), records(&steps));
    for (path, bytes) in &files {
        for at in 0..bytes.len() {
            // All bits of the headers' magic are tried elsewhere; one bit of each byte finds every field.
            check_flip(&files, path, at, (at % 8) as u8, &records);
        }
        for at in 0..(record::SEGMENT_HEADER + record::RECORD_HEADER).min(bytes.len()) {
            (0..8).for_each(|bit| check_flip(&files, path, at, bit, &records));
        }
    }
}

#[test]
fn damage_before_what_was_synced_is_never_cut() {
    // Two records in one sync: the second proves nothing about the first, but no sector is missing.
    let steps = [Step::Run(1), Step::Input(1, 700), Step::Input(2, 700), Step::Sync];
    let files = recorded(&steps);
    let path = files.keys().next().unwrap();
    for at in [40, 200, 600] {
        check_flip(&files, path, at, 3, &records(&steps));
        let mut bad = files.clone();
        bad.get_mut(path).unwrap()[at] ^= 8;
        open(&disk_of(&bad)).unwrap_err();
    }
}

#[test]
fn a_sector_of_zeros_in_what_was_durable_is_damage() {
    let files = |last: &[Step]| {
        let disk = SimDisk::new(7);
        let options = JournalOptions { segment_bytes: 1 << 20, ..SMALL };
        let (mut journal, _) = Journal::open(Arc::new(disk.clone()), DIR, options).unwrap();
        let first = [Step::Run(1), Step::Input(1, 700), Step::Input(2, 700)];
        first.iter().chain(last).for_each(|step| step.apply(&mut journal).unwrap());
        let mut files = disk.files();
        files.values_mut().next().unwrap()[512..1024].fill(0);
        files
    };
    // The last record was appended after the sync that made the lost ones durable, or in the same one.
    let after = disk_of(&files(&[Step::Sync, Step::Input(3, 100), Step::Sync]));
    assert!(matches!(open(&after), Err(JournalError::Corrupt { .. })));
    let together = disk_of(&files(&[Step::Input(3, 100), Step::Sync]));
    assert_eq!(open(&together).unwrap().1.last_sequence, 1);
}

/// Runs the script on a disk with a fault, until the first error. Says how many records were appended, and how many
/// of them a sync covered.
fn run_script(disk: &SimDisk, steps: &[Step]) -> (usize, usize) {
    let Ok((mut journal, _)) = open(disk) else { return (0, 0) };
    let (mut appended, mut synced) = (0, 0);
    for step in steps {
        if step.apply(&mut journal).is_err() {
            // An append that failed may still be on the disk.
            return (appended + 1, synced);
        }
        if *step == Step::Sync {
            synced = appended;
        } else {
            appended += 1;
        }
    }
    (appended, synced)
}

fn check_after_fault(disk: &SimDisk, records: &[Step], appended: usize, synced: usize) {
    let (mut journal, _) = open(disk).unwrap();
    let there = prefix_len(&journal, records);
    assert!((synced..=appended).contains(&there), "{synced} <= {there} <= {appended}");
    goes_on(&mut journal);
    // What was just recovered is durable, too.
    disk.crash();
    let (journal, _) = open(disk).unwrap();
    assert_eq!(journal.index.unmarked(), open(disk).unwrap().1.unmarked);
}

fn operations_of(steps: &[Step]) -> u64 {
    let disk = SimDisk::new(7);
    run_script(&disk, steps);
    disk.operations()
}

#[test]
fn power_lost_at_every_operation_loses_nothing_that_was_synced() {
    let steps = script(5, 200);
    let records = records(&steps);
    let operations = operations_of(&steps);
    assert!(operations > 40, "{operations}");
    for seed in 0..12 {
        for n in 0..=operations {
            let disk = SimDisk::new(seed * 10_007 + n);
            disk.crash_nth(n);
            let (appended, synced) = run_script(&disk, &steps);
            disk.crash();
            check_after_fault(&disk, &records, appended.min(records.len()), synced);
        }
    }
}

#[test]
fn power_lost_again_and_again_while_recovering_loses_nothing() {
    let steps = script(4, 200);
    let records = records(&steps);
    for n in 0..=operations_of(&steps) {
        for again in 0..12 {
            let disk = SimDisk::new(again * 7_919 + n);
            disk.crash_nth(n);
            let (appended, synced) = run_script(&disk, &steps);
            for k in 0..4 {
                disk.crash();
                disk.crash_nth((again + k) % 12);
                open(&disk).ok();
            }
            disk.crash();
            check_after_fault(&disk, &records, appended.min(records.len()), synced);
        }
    }
}

#[test]
fn many_records_in_one_sync_may_be_torn_sector_by_sector() {
    let mut steps = vec![Step::Run(1), Step::Sync];
    steps.extend((0..30).map(|n| Step::Input(n, (n as usize * 97) % 300)));
    let records = records(&steps);
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let disk = SimDisk::new(seed);
        let options = JournalOptions { segment_bytes: 1 << 20, ..SMALL };
        let (mut journal, _) = Journal::open(Arc::new(disk.clone()), DIR, options).unwrap();
        steps.iter().for_each(|step| step.apply(&mut journal).unwrap());
        disk.crash();
        let (journal, _) = open(&disk).unwrap();
        lengths.insert(prefix_len(&journal, &records));
    }
    assert!(lengths.len() > 10 && lengths.first() >= Some(&1), "{lengths:?}");
}

#[test]
fn every_operation_that_fails_is_told_and_loses_nothing_that_was_synced() {
    let steps = script(5, 200);
    let records = records(&steps);
    for n in 0..operations_of(&steps) {
        for power in [true, false] {
            let disk = SimDisk::new(n);
            disk.fail_nth(n);
            let (appended, synced) = run_script(&disk, &steps);
            assert!(synced < records.len(), "operation {n} failed and nobody said so");
            if power {
                disk.crash();
            }
            check_after_fault(&disk, &records, appended.min(records.len()), synced);
        }
    }
}

#[test]
fn an_open_that_fails_loses_nothing() {
    let steps = script(5, 60);
    let (files, records) = (recorded(&steps), records(&steps));
    let whole = disk_of(&files);
    open(&whole).unwrap();
    for n in 0..whole.operations() {
        for (seed, power) in [(1, true), (2, true), (3, false), (4, false)] {
            let disk = SimDisk::new(seed * 1_000 + n);
            files.iter().for_each(|(path, bytes)| disk.put(path, bytes));
            if power {
                disk.crash_nth(n)
            } else {
                disk.fail_nth(n)
            }
            open(&disk).unwrap_err();
            if power {
                disk.crash();
            }
            check_after_fault(&disk, &records, records.len(), records.len());
        }
    }
}

#[test]
fn after_a_failed_sync_everything_is_refused() {
    let disk = SimDisk::new(2);
    let (mut journal, _) = open(&disk).unwrap();
    Step::Input(1, 20).apply(&mut journal).unwrap();
    disk.fail_nth(0);
    let first = journal.sync().unwrap_err();
    assert!(matches!(first, JournalError::Poisoned { .. }), "{first}");
    for step in
        [Step::Sync, Step::Input(2, 1), Step::Epoch(1, vec![]), Step::Partition(1), Step::Run(2)]
    {
        assert_eq!(step.apply(&mut journal), Err(first.clone()), "{step:?}");
    }
    assert_eq!(journal.trim_below(9), Err(first));
    // A new start without a power loss must not find in the page cache what is not on the disk.
    let (journal, found) = open(&disk).unwrap();
    assert_eq!((found.unmarked, found.trimmed), (0, None));
    drop(journal);
    disk.crash();
    assert_eq!(open(&disk).unwrap().1.unmarked, 0);
}

#[test]
fn a_full_disk_stops_the_journal_only_until_there_is_space() {
    let steps = script(6, 120);
    let records = records(&steps);
    let total: u64 = recorded(&steps).values().map(|b| b.len() as u64).sum();
    for free in (100..total).step_by(37) {
        let disk = SimDisk::new(free);
        let (mut journal, _) = open(&disk).unwrap();
        disk.limit(Some(free));
        let mut refused = 0;
        for step in &steps {
            while let Err(error) = step.apply(&mut journal) {
                assert!(matches!(error, JournalError::DiskFull { .. }), "{error}");
                refused += 1;
                disk.limit(None);
            }
        }
        assert!(refused == 1 || free + 32 >= total, "{free} of {total}: {refused}");
        disk.crash();
        assert_eq!(prefix_len(&open(&disk).unwrap().0, &records), records.len());
    }
}

#[test]
fn the_journal_says_when_it_is_full_and_deletes_nothing() {
    let disk = SimDisk::new(1);
    let options = JournalOptions { segment_bytes: 500, limit_bytes: 2_000, keep_ns: 0 };
    let (mut journal, _) = Journal::open(Arc::new(disk.clone()), DIR, options).unwrap();
    let mut n = 0;
    while !journal.is_full() {
        Step::Input(n, 100).apply(&mut journal).unwrap();
        n += 1;
    }
    assert!(journal.bytes() >= 2_000 && n > 10);
    let all: Vec<(u64, usize)> = (0..n).map(|n| (n, 100)).collect();
    Step::Epoch(1, all.clone()).apply(&mut journal).unwrap();
    journal.sync().unwrap();
    assert_eq!(replayed(&journal, None).unwrap(), [Step::Epoch(1, all)]);
    Step::Epoch(2, vec![]).apply(&mut journal).unwrap();
    assert!(journal.trim_below(1).unwrap() > 1_000);
    assert!(!journal.is_full());
}

#[test]
fn young_epochs_are_kept_while_there_is_room() {
    let kept = |keep_ns, limit_bytes| {
        let disk = SimDisk::new(1);
        let options = JournalOptions { segment_bytes: 500, limit_bytes, keep_ns };
        let (mut journal, _) = Journal::open(Arc::new(disk.clone()), DIR, options).unwrap();
        for n in 1..=40 {
            Step::Input(n, 100).apply(&mut journal).unwrap();
            Step::Epoch(n, vec![(n, 100)]).apply(&mut journal).unwrap();
        }
        journal.trim_below(u64::MAX).unwrap();
        let oldest = journal.index.first_epoch().unwrap();
        let (mut replay, partitions) = Journal::read(Arc::new(disk), Path::new(DIR)).unwrap();
        assert_eq!((replay.after() + 1, partitions.len()), (oldest, 0));
        let first = replay.next().unwrap().unwrap();
        assert!(matches!(first, Replayed::Epoch { epoch, .. } if epoch.id == oldest));
        assert_eq!(replay.count() as u64, 40 - oldest);
        oldest
    };
    let clock = |n| epoch(n, &[]).0.clock_ns;
    let ten = clock(40) - clock(30);
    assert!(kept(0, 1 << 20) > 35, "nothing is kept that is not asked for");
    let by_age = kept(ten, 1 << 20);
    assert!((25..=31).contains(&by_age), "{by_age}: a segment goes as a whole");
    assert_eq!(kept(i64::MAX, 1 << 20), 1);
    let by_room = kept(i64::MAX, 4_000);
    assert!((15..35).contains(&by_room), "{by_room}: at most three quarters of the limit");
}

#[test]
fn the_run_and_the_partitions_that_are_read_outlive_their_segment() {
    let disk = disk_of(&recorded(&script(12, 60)));
    let (mut journal, before) = open(&disk).unwrap();
    assert!(journal.trim_below(u64::MAX).unwrap() > 0);
    // What belongs to no epoch keeps its segment.
    assert!(journal.index.segments.len() <= 2);
    drop(journal);
    disk.crash();
    let (journal, after) = open(&disk).unwrap();
    assert_eq!(after.run, before.run);
    assert_eq!(before.partitions, [0, 2, 6, 10].map(partition));
    // Nothing that stays has read from the others, and they are in the snapshot.
    assert_eq!(after.partitions, [0].map(partition));
    assert!(after.first_sequence > 1 && after.last_sequence >= before.last_sequence);
    assert_eq!(journal.index.unmarked(), before.unmarked);
}

#[test]
fn what_a_later_segment_repeats_is_durable_before_the_earlier_goes() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (mut journal, _) = open(&disk).unwrap();
        Step::Run(4).apply(&mut journal).unwrap();
        Step::Partition(0).apply(&mut journal).unwrap();
        for id in 1.. {
            Step::Epoch(id, vec![]).apply(&mut journal).unwrap();
            if journal.index.segments.len() > 1 {
                break;
            }
        }
        assert!(journal.trim_below(u64::MAX).unwrap() > 0);
        disk.crash();
        let (_, found) = open(&disk).unwrap();
        assert_eq!((found.run, found.partitions), (Some(run(4)), vec![partition(0)]));
    }
}

#[test]
fn a_partition_is_named_once_and_forgotten_when_a_snapshot_has_it() {
    const PARTITIONS: u32 = 500;
    let disk = SimDisk::new(3);
    let (mut journal, _) = open(&disk).unwrap();
    let mut appended = 0;
    for n in 0..PARTITIONS {
        let id = u64::from(n) + 1;
        Step::Partition(n).apply(&mut journal).unwrap();
        let range = chunk(id, 1).range;
        let read = InputRange { source: CSV, partition: Partition(n), range };
        let one = Epoch { id, clock_ns: 1, inputs: vec![read], commands: vec![], ended: vec![] };
        journal.append_epoch(&one, &[7]).unwrap();
        let before = journal.bytes();
        let freed = journal.trim_below(id.saturating_sub(3)).unwrap();
        appended = appended.max(journal.bytes() + freed - before);
        assert!(journal.index.partitions.len() < 20, "{}", journal.index.partitions.len());
    }
    // What a trim names again is what the epochs of one segment read from, however many partitions there are.
    assert!(appended < 2_000, "{appended}");
    journal.sync().unwrap();
    let (journal, found) = open(&disk).unwrap();
    for item in journal.replay_after(None) {
        let Replayed::Epoch { epoch, .. } = item.unwrap() else { continue };
        let partition = partition(epoch.inputs[0].partition.0);
        assert!(found.partitions.contains(&partition), "{}", epoch.id);
    }
}

#[test]
fn a_full_disk_keeps_the_segment_whose_partitions_must_be_named_again() {
    let disk = SimDisk::new(5);
    let (mut journal, _) = open(&disk).unwrap();
    Step::Partition(0).apply(&mut journal).unwrap();
    for id in 1..=20 {
        Step::Epoch(id, vec![]).apply(&mut journal).unwrap();
    }
    journal.sync().unwrap();
    let segments = journal.index.segments.len();
    disk.limit(Some(0));
    assert_eq!(journal.trim_below(19), Ok(0));
    assert_eq!(journal.index.segments.len(), segments);
    disk.limit(None);
    assert!(journal.trim_below(19).unwrap() > 0);
    assert_eq!(open(&disk).unwrap().1.partitions, [partition(0)]);
}

#[test]
fn replay_of_what_was_trimmed_is_refused() {
    let disk = disk_of(&recorded(&script(12, 60)));
    let (mut journal, _) = open(&disk).unwrap();
    journal.trim_below(8).unwrap();
    assert_eq!(replayed(&journal, Some(0)), Err(JournalError::Missing { epoch: 1 }));
    replayed(&journal, Some(8)).unwrap();
}

#[test]
fn a_trim_that_is_cut_short_leaves_no_gap() {
    let files = recorded(&script(12, 60));
    let trim = |disk: &SimDisk| -> Result<(), JournalError> {
        open(disk)?.0.trim_below(9)?;
        Ok(())
    };
    let whole = disk_of(&files);
    trim(&whole).unwrap();
    assert!(whole.files().len() + 2 < files.len());
    for (n, seed) in (0..whole.operations()).flat_map(|n| [(n, 1), (n, 2), (n, 3)]) {
        let disk = SimDisk::new(seed * 1_000 + n);
        files.iter().for_each(|(path, bytes)| disk.put(path, bytes));
        disk.crash_nth(n);
        trim(&disk).ok();
        disk.crash();
        let (journal, _) = open(&disk).unwrap();
        let said = without_partitions(replayed(&journal, Some(9)).unwrap());
        assert_eq!(said, without_partitions(expected(&script(12, 60), Some(9))));
    }
}

#[test]
fn repair_cuts_at_the_bad_place_and_keeps_the_rest() {
    let steps = script(8, 60);
    let (files, records) = (recorded(&steps), records(&steps));
    let paths: Vec<PathBuf> = files.keys().cloned().collect();
    for (nth, at) in [(1, 300), (1, 5), (0, 100), (paths.len() - 1, 40)] {
        let mut bad = files.clone();
        bad.get_mut(&paths[nth]).unwrap()[at] ^= 1;
        let disk = disk_of(&bad);
        let seen = verify_journal(&disk, Path::new(DIR)).unwrap();
        let problem = seen.problem.unwrap();
        assert_eq!(seen.segments.len(), nth + 1);
        assert!(paths[nth].ends_with(&problem.file) && problem.offset <= at as u64);
        let repaired = repair_journal(&disk, Path::new(DIR)).unwrap().unwrap();
        assert_eq!((&repaired.file, repaired.offset), (&paths[nth], problem.offset));
        let aside: Vec<u8> = repaired.kept.iter().flat_map(|p| disk.read(p).unwrap()).collect();
        let cut: Vec<u8> = paths[nth..].iter().flat_map(|p| bad[p].clone()).collect();
        assert_eq!(aside, cut[usize::try_from(problem.offset).unwrap()..]);
        assert_eq!(repair_journal(&disk, Path::new(DIR)).unwrap(), None);
        disk.crash();
        let (mut journal, _) = open(&disk).unwrap();
        assert!(prefix_len(&journal, &records) < records.len());
        goes_on(&mut journal);
    }
}

#[test]
fn verify_of_a_sound_journal_lists_it() {
    let files = recorded(&script(8, 60));
    let disk = disk_of(&files);
    let seen = verify_journal(&disk, Path::new(DIR)).unwrap();
    assert_eq!((seen.problem, seen.epochs, seen.unmarked), (None, Some((1, 8)), 2));
    assert_eq!(seen.segments.len(), files.len());
    assert_eq!(seen.bytes, files.values().map(|b| b.len() as u64).sum::<u64>());
    assert!(
        seen.segments.windows(2).all(|s| s[1].first_sequence == s[0].first_sequence + s[0].records)
    );
    assert_eq!(disk.files(), files);
}

#[test]
fn a_journal_of_another_format_is_refused_by_its_number() {
    let mut header = segment_header(1);
    header[8] = 9;
    let check = xxhash_rust::xxh3::xxh3_64_with_seed(&header[..24], 1);
    header[24..].copy_from_slice(&check.to_le_bytes());
    let disk = SimDisk::new(1);
    let file = Path::new(DIR).join(name_of(1));
    disk.put(&file, &header);
    let error = JournalError::Format { file, format: 9 };
    assert_eq!(open(&disk).unwrap_err(), error);
    assert_eq!(repair_journal(&disk, Path::new(DIR)).unwrap_err(), error);
}

#[test]
fn a_record_that_is_too_long_is_refused() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    let mut long = chunk(1, 0);
    long.payload = vec![0; record::MAX_RECORD_BYTES];
    let error = journal.append_input(&long, MQTT).unwrap_err();
    assert!(error.to_string().contains("the limit is"), "{error}");
    goes_on(&mut journal);
}

#[test]
fn a_payload_that_looks_like_a_journal_is_a_payload() {
    let inner: Vec<u8> = recorded(&script(2, 30)).into_values().flatten().collect();
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).unwrap();
    let mut nested = chunk(1, 0);
    nested.payload = inner[..400].to_vec();
    journal.append_input(&nested, MQTT).unwrap();
    journal.sync().unwrap();
    let all: Vec<_> = open(&disk).unwrap().0.replay_after(None).map(Result::unwrap).collect();
    let [Replayed::Unmarked { chunk, .. }] = &all[..] else { panic!("{all:?}") };
    assert_eq!(chunk.payload, nested.payload);
}

#[test]
fn the_file_system_of_this_machine_will_do() {
    let root = std::env::temp_dir().join(format!("foreline-journal-{}", std::process::id()));
    let steps = script(6, 60);
    let (mut journal, _) = Journal::open(Arc::new(crate::RealDisk), &root, SMALL).unwrap();
    steps.iter().for_each(|step| step.apply(&mut journal).unwrap());
    drop(journal);
    let (mut journal, _) = Journal::open(Arc::new(crate::RealDisk), &root, SMALL).unwrap();
    assert_eq!(prefix_len(&journal, &records(&steps)), records(&steps).len());
    assert!(journal.trim_below(5).unwrap() > 0);
    std::fs::remove_dir_all(&root).unwrap();
}

/// Random lives of a journal: how many inputs come before each epoch, how many of them it takes, payload lengths.
fn lives() -> impl Strategy<Value = Vec<(usize, usize, usize)>> {
    prop::collection::vec((0..4_usize, 0..5_usize, 0..400_usize), 1..25)
}

fn steps_of(life: &[(usize, usize, usize)]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut waiting: Vec<(u64, usize)> = Vec::new();
    let mut next = 0;
    for (id, &(inputs, taken, len)) in (1..).zip(life) {
        for _ in 0..inputs {
            steps.push(Step::Input(next, len));
            waiting.push((next, len));
            next += 1;
        }
        if len % 7 == 0 {
            steps.push(Step::Partition(id as u32));
        }
        steps.push(Step::Epoch(id, waiting.drain(..taken.min(waiting.len())).collect()));
        steps.push(Step::Sync);
    }
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn trimming_never_removes_what_is_needed(
        life in lives(),
        trims in prop::collection::vec(0..25_u64, 1..4),
        seed in any::<u64>(),
    ) {
        let steps = steps_of(&life);
        let disk = SimDisk::new(seed);
        let (mut journal, _) = open(&disk).unwrap();
        steps.iter().for_each(|step| step.apply(&mut journal).unwrap());
        let mut kept = 0;
        for trim in trims {
            journal.trim_below(trim).unwrap();
            kept = kept.max(trim);
            for after in kept..=kept + 2 {
                let said = replayed(&journal, Some(after)).unwrap();
                prop_assert_eq!(
                    without_partitions(said),
                    without_partitions(expected(&steps, Some(after)))
                );
            }
        }
        disk.crash();
        let (again, found) = open(&disk).unwrap();
        for step in &steps {
            // One that was met later is in no snapshot of that epoch.
            if let Step::Partition(n) = step && u64::from(*n) > kept {
                prop_assert!(found.partitions.contains(&partition(*n)), "{}", n);
            }
        }
        prop_assert_eq!(
            without_partitions(replayed(&again, Some(kept)).unwrap()),
            without_partitions(expected(&steps, Some(kept)))
        );
    }

    #[test]
    fn any_bytes_are_a_journal_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        header in any::<bool>(),
    ) {
        let disk = SimDisk::new(1);
        let mut file = if header { segment_header(1) } else { Vec::new() };
        file.extend(bytes);
        disk.put(&Path::new(DIR).join(name_of(1)), &file);
        if let Ok((mut journal, found)) = open(&disk) {
            prop_assert_eq!(found.last_sequence, 0);
            goes_on(&mut journal);
        }
    }
}
