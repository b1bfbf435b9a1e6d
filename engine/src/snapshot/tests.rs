//! Snapshots under every fault that a disk has.
//!
//! The oracle is a plain map of every epoch's state. Whatever happens, what is loaded is exactly the state of one
//! epoch, and of none before the last that was published.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use proptest::prelude::*;

use super::manifest::digest_of;
use super::*;
use crate::disk::SimDisk;
use crate::schema::dictionary_type;
use crate::source::{Partition, ReadUpTo};

const DIR: &str = "data/snapshots";

/// The state of each shard that has some, as a number from which its rows follow.
type Model = BTreeMap<(String, u8), u64>;

/// What happens to the state in an epoch; 0 takes it away.
type Change = (&'static str, u8, u64);

fn rows(node: &str, value: u64) -> RecordBatch {
    let n = 1 + value % 5;
    let numbers: Int64Array = (0..n).map(|i| i64::try_from(value * 100 + i).unwrap()).collect();
    if node == "ema" {
        return RecordBatch::try_from_iter([("mean", Arc::new(numbers) as ArrayRef)]).unwrap();
    }
    // Another schema, with a dictionary.
    let words: StringArray = (0..n).map(|i| Some(format!("machine {}", value + i))).collect();
    let words = arrow::compute::cast(&words, &dictionary_type()).unwrap();
    RecordBatch::try_from_iter([("machine", words), ("count", Arc::new(numbers) as ArrayRef)])
        .unwrap()
}

fn facts(epoch: u64) -> Facts {
    let node = |kind: &str| NodeFacts {
        kind: kind.to_owned(),
        state_version: 3,
        config: "c0ffee".to_owned(),
        models: vec!["d1".to_owned()],
    };
    Facts {
        ended: Vec::new(),
        plan: "abc".to_owned(),
        pipeline: "pump-rul".to_owned(),
        run: RunId(7),
        nodes: BTreeMap::from([
            ("ema".to_owned(), node("ema")),
            ("window".to_owned(), node("window")),
        ]),
        committed: BTreeMap::from([("lake".to_owned(), epoch)]),
        accounts: BTreeMap::from([(
            "ema".to_owned(),
            Account { input: epoch, in_flight: -1, ..Account::default() },
        )]),
        clock_ns: 0,
    }
}

/// Four epochs on a few shards, in which state comes, changes and goes.
fn script() -> Vec<Vec<Change>> {
    vec![
        vec![("ema", 0, 1), ("ema", 255, 2), ("window", 3, 3)],
        vec![("ema", 0, 4), ("window", 9, 5)],
        vec![("window", 3, 0), ("ema", 7, 6)],
        vec![("ema", 255, 7), ("ema", 0, 8)],
    ]
}

/// The state after each epoch of a script; epoch 0 is the first.
fn history(script: &[Vec<Change>]) -> Vec<Model> {
    let mut model = Model::new();
    let after = |changes: &Vec<Change>| {
        for &(node, shard, value) in changes {
            let key = (node.to_owned(), shard);
            match value {
                0 => model.remove(&key),
                value => model.insert(key, value),
            };
        }
        model.clone()
    };
    script.iter().map(after).collect()
}

fn open(disk: &SimDisk, keep: usize) -> Result<SnapshotStore, SnapshotError> {
    SnapshotStore::open(Arc::new(disk.clone()), DIR, keep)
}

fn add(draft: &mut Draft, changes: &[Change]) {
    for &(node, shard, value) in changes {
        if value == 0 {
            draft.remove(node, shard)
        } else {
            draft.add(node, shard, &rows(node, value))
        }
    }
}

fn save(store: &SnapshotStore, epoch: u64, changes: &[Change]) -> Result<Published, SnapshotError> {
    let mut draft = store.begin(epoch)?;
    add(&mut draft, changes);
    draft.write()?.publish(facts(epoch))
}

/// Asserts that what was loaded is the state of its epoch.
#[track_caller]
fn assert_state(loaded: &Loaded, history: &[Model]) {
    let model = &history[usize::try_from(loaded.epoch()).unwrap()];
    assert_eq!(loaded.facts(), &facts(loaded.epoch()));
    let mut seen = Vec::new();
    for (node, shards) in loaded.shards() {
        seen.extend(shards.into_iter().map(|shard| (node.to_owned(), shard)));
    }
    assert_eq!(seen, model.keys().cloned().collect::<Vec<_>>());
    for ((node, shard), value) in model {
        assert_eq!(loaded.state(node, *shard).unwrap().as_ref(), Some(&rows(node, *value)));
    }
    assert_eq!(loaded.state("ema", 100).unwrap(), None);
    assert_eq!(loaded.state("none", 0).unwrap(), None);
}

/// How many epochs the recorded snapshots have. One file of state of each is enough to damage.
const RECORDED: usize = 2;

/// The first snapshots of the script, all kept.
fn recorded(epochs: usize) -> BTreeMap<PathBuf, Vec<u8>> {
    let disk = SimDisk::new(1);
    let store = open(&disk, 9).unwrap();
    for (epoch, changes) in (0..).zip(&script()[..epochs]) {
        save(&store, epoch, changes).unwrap();
    }
    disk.files()
}

fn disk_of(files: &BTreeMap<PathBuf, Vec<u8>>) -> SimDisk {
    let disk = SimDisk::new(1);
    files.iter().for_each(|(path, bytes)| disk.put(path, bytes));
    disk
}

#[test]
fn only_blocks_of_partitions_with_news_are_written() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 2).unwrap();
    let known = |n: u32, end: u64| KnownPartition {
        partition: Partition(n),
        name: format!("bucket/{n}.csv"),
        identity: n.to_le_bytes().to_vec(),
        read: (end > 0).then_some(ReadUpTo { end, end_ordinal: end + 1 }),
    };
    let save = |epoch: u64, partitions: &[KnownPartition]| {
        let before = store.bytes().unwrap();
        let mut draft = store.begin(epoch).unwrap();
        for block in partitions.chunk_by(|a, b| block_of(a.partition) == block_of(b.partition)) {
            draft.add_partitions("readings", block_of(block[0].partition), block);
        }
        draft.add("ema", 7, &rows("ema", epoch));
        draft.write().unwrap().publish(facts(epoch)).unwrap();
        store.bytes().unwrap() - before
    };
    let mut all: Vec<KnownPartition> = (0..50_000).map(|n| known(n, 5)).collect();
    let first = save(1, &all);
    all[49_999].read = None;
    let last = partitions_in(block_of(Partition(49_999)));
    let second = save(2, &all[last.start().0 as usize..]);
    assert!(first > 1_500_000 && second < first / 20, "{first} {second}");
    let loaded = open(&disk, 2).unwrap().newest().unwrap().unwrap();
    let found = loaded.partitions().unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["readings"]);
    assert!(found["readings"] == all, "they come back as they were, in order");
    assert_eq!(loaded.shards().collect::<Vec<_>>(), [("ema", vec![7])]);
}

#[test]
fn what_was_saved_is_loaded() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 3).unwrap();
    assert!(store.newest().unwrap().is_none());
    let history = history(&script());
    for (epoch, changes) in (0..).zip(script()) {
        let published = save(&store, epoch, &changes).unwrap();
        assert_eq!((published.oldest_kept, published.uncollected), (epoch.saturating_sub(2), None));
        disk.crash();
        let loaded = open(&disk, 3).unwrap().newest().unwrap().unwrap();
        assert_eq!((loaded.epoch(), loaded.damaged.len()), (epoch, 0));
        assert_state(&loaded, &history);
    }
    assert_eq!(store.bytes().unwrap(), disk.files().values().map(|b| b.len() as u64).sum::<u64>());
}

#[test]
fn a_snapshot_without_state_is_one() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 3).unwrap();
    save(&store, 4, &[]).unwrap();
    let loaded = open(&disk, 3).unwrap().newest().unwrap().unwrap();
    assert_eq!((loaded.epoch(), loaded.shards().count()), (4, 0));
}

#[test]
fn only_what_changed_is_written() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 1).unwrap();
    let all: Vec<Change> = (0..=255).map(|shard| ("ema", shard, u64::from(shard) + 1)).collect();
    save(&store, 0, &all).unwrap();
    let state = |disk: &SimDisk| -> usize {
        let files = disk.files().into_iter();
        files.filter(|(p, _)| p.extension().unwrap() == "arrow").map(|(_, bytes)| bytes.len()).sum()
    };
    let before = state(&disk);
    save(&store, 1, &[("ema", 9, 5_000)]).unwrap();
    assert!(state(&disk) - before < before / 100);
}

#[test]
fn the_files_of_the_newest_have_at_most_twice_its_bytes() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 1).unwrap();
    for epoch in 0..60 {
        let shards = if epoch == 0 { 0..=39 } else { 0..=(epoch % 7) };
        let changes: Vec<Change> = shards
            .map(|s| ("ema", u8::try_from((epoch * 11 + s) % 40).unwrap(), epoch * 50 + s + 1))
            .collect();
        save(&store, epoch, &changes).unwrap();
        let shelf = store.shelf();
        let live: u64 = all_places(&shelf.base).map(|place| place.length).sum();
        drop(shelf);
        let state = disk.files().into_iter().filter(|(p, _)| p.extension().unwrap() == "arrow");
        let there: u64 = state.map(|(_, bytes)| bytes.len() as u64).sum();
        assert!(there <= 2 * live, "epoch {epoch}: {there} bytes for {live}");
    }
}

/// The newest epoch whose manifest and state do not touch `path`.
fn newest_without(files: &BTreeMap<PathBuf, Vec<u8>>, path: &Path) -> Option<u64> {
    let sound = |epoch: &u64| {
        let name = Path::new(DIR).join(manifest_name(*epoch));
        let manifest = Manifest::parse(&files[&name], *epoch).unwrap();
        name != path && !files_of(&manifest.state).iter().any(|f| Path::new(DIR).join(f) == path)
    };
    (0..RECORDED as u64).rev().find(sound)
}

/// Loads `files`, of which `path` is damaged.
fn check_damaged(
    files: &BTreeMap<PathBuf, Vec<u8>>,
    path: &Path,
    sound: &BTreeMap<PathBuf, Vec<u8>>,
    deep: bool,
) {
    let loaded = open(&disk_of(files), 3).unwrap().newest();
    let expected = newest_without(sound, path);
    match loaded {
        Ok(Some(loaded)) => {
            // A byte behind the last place is in nobody's way, so a later one may be sound.
            assert!(Some(loaded.epoch()) >= expected, "{path:?}");
            if Some(loaded.epoch()) == expected && loaded.epoch() < RECORDED as u64 - 1 {
                let name = manifest_name(RECORDED as u64 - 1);
                assert!(loaded.damaged.iter().any(|d| d.contains(&name)), "{:?}", loaded.damaged);
            }
            if deep {
                assert_state(&loaded, &history(&script()));
            }
        }
        Ok(None) => panic!("there are snapshots: {path:?}"),
        Err(SnapshotError::NoneUsable { damaged }) => {
            assert_eq!((expected, damaged.len()), (None, RECORDED), "{damaged:?}");
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn truncated_at_every_byte_an_older_snapshot_is_used() {
    let sound = recorded(RECORDED);
    for path in sound.keys() {
        for len in 0..sound[path].len() {
            let mut files = sound.clone();
            files.get_mut(path).unwrap().truncate(len);
            check_damaged(&files, path, &sound, len % 32 == 0);
        }
        let mut files = sound.clone();
        files.remove(path);
        if path.extension().unwrap() == "arrow" {
            check_damaged(&files, path, &sound, true);
        }
    }
}

#[test]
fn every_flipped_bit_leads_to_an_older_snapshot() {
    let sound = recorded(RECORDED);
    for (path, bytes) in &sound {
        for at in 0..bytes.len() {
            let mut files = sound.clone();
            files.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
            check_damaged(&files, path, &sound, at % 32 == 0);
        }
    }
}

#[test]
fn without_the_newest_manifest_the_one_before_is_used() {
    let mut files = recorded(3);
    files.remove(&Path::new(DIR).join(manifest_name(2))).unwrap();
    let loaded = open(&disk_of(&files), 3).unwrap().newest().unwrap().unwrap();
    assert_eq!(loaded.epoch(), 1);
    assert_state(&loaded, &history(&script()));
}

#[test]
fn after_a_damaged_one_snapshots_go_on_and_it_goes() {
    let mut files = recorded(3);
    let newest = Path::new(DIR).join(manifest_name(2));
    files.get_mut(&newest).unwrap()[20] ^= 4;
    let disk = disk_of(&files);
    let store = open(&disk, 2).unwrap();
    let loaded = store.newest().unwrap().unwrap();
    assert_eq!((loaded.epoch(), loaded.damaged.len()), (1, 1));
    // The same epoch again, as replay has it. The files of the damaged one are not written over.
    let published = save(&store, 2, &script()[2]).unwrap();
    assert_eq!((published.oldest_kept, published.uncollected), (1, None));
    disk.crash();
    let loaded = open(&disk, 2).unwrap().newest().unwrap().unwrap();
    assert_eq!((loaded.epoch(), loaded.damaged.len()), (2, 0));
    assert_state(&loaded, &history(&script()));
}

/// Saves the script on a disk with a fault, going on after errors as long as there is power. Says which epoch was
/// published last.
fn run_script(disk: &SimDisk) -> Option<u64> {
    let store = open(disk, 2).ok()?;
    store.newest().ok()?;
    let mut last = None;
    for (epoch, changes) in (0..).zip(script()) {
        if save(&store, epoch, &changes).is_ok() {
            last = Some(epoch);
        }
    }
    last
}

fn check_after_fault(disk: &SimDisk, last: Option<u64>) {
    let store = open(disk, 2).unwrap();
    let loaded = store.newest().unwrap();
    let epoch = loaded.as_ref().map(Loaded::epoch);
    let kept: Vec<u64> = store.shelf().sound.keys().copied().collect();
    kept.into_iter().for_each(|kept| assert_eq!(store.load(kept).unwrap().err(), None));
    assert!(epoch >= last, "{epoch:?} is before {last:?}");
    if let Some(loaded) = loaded {
        assert_eq!(loaded.damaged, [""; 0]);
        assert_state(&loaded, &history(&script()));
        for (epoch, changes) in (0..).zip(script()).skip_while(|(e, _)| *e <= loaded.epoch()) {
            save(&store, epoch, &changes).unwrap();
        }
        let loaded = open(disk, 2).unwrap().newest().unwrap().unwrap();
        assert_eq!(loaded.epoch(), 3);
        assert_state(&loaded, &history(&script()));
    }
}

fn operations() -> u64 {
    let disk = SimDisk::new(1);
    assert_eq!(run_script(&disk), Some(3));
    disk.operations()
}

#[test]
fn power_lost_at_every_operation_leaves_the_last_published() {
    for n in 0..=operations() {
        for seed in 0..6 {
            let disk = SimDisk::new(seed * 1_009 + n);
            disk.crash_nth(n);
            let last = run_script(&disk);
            disk.crash();
            check_after_fault(&disk, last);
        }
    }
}

#[test]
fn every_operation_that_fails_costs_a_snapshot_and_no_state() {
    for n in 0..operations() {
        for power in [true, false] {
            let disk = SimDisk::new(n);
            disk.fail_nth(n);
            let last = run_script(&disk);
            if power {
                disk.crash();
            }
            check_after_fault(&disk, last);
        }
    }
}

#[test]
fn a_full_disk_costs_a_snapshot_and_no_state() {
    let total: u64 = recorded(4).values().map(|b| b.len() as u64).sum();
    for free in (1..total).step_by(61) {
        let disk = SimDisk::new(free);
        let store = open(&disk, 2).unwrap();
        disk.limit(Some(free));
        let (mut last, mut full) = (None, 0);
        for (epoch, changes) in (0..).zip(script()) {
            match save(&store, epoch, &changes) {
                Ok(_) => last = Some(epoch),
                Err(error) => {
                    assert!(matches!(error, SnapshotError::Io { full: true, .. }), "{error}");
                    full += 1;
                    disk.limit(None);
                }
            }
        }
        assert!(full == 1 || last == Some(3));
        disk.crash();
        check_after_fault(&disk, last);
    }
}

#[test]
fn a_draft_that_came_to_nothing_is_part_of_the_next() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 3).unwrap();
    let script = script();
    save(&store, 0, &script[0]).unwrap();
    let mut dropped = store.begin(1).unwrap();
    add(&mut dropped, &script[1]);
    drop(dropped);
    let mut failed = store.begin(2).unwrap();
    add(&mut failed, &script[2]);
    disk.fail_nth(2);
    failed.write().unwrap_err();
    save(&store, 3, &script[3]).unwrap();
    assert_state(&open(&disk, 3).unwrap().newest().unwrap().unwrap(), &history(&script));
}

#[test]
fn what_waits_to_be_published_keeps_its_files() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 1).unwrap();
    // Each replaces all that was before, so nothing else refers to its file.
    let script: Vec<Vec<Change>> = (1..6).map(|value| vec![("ema", 0, value)]).collect();
    let history = history(&script);
    let written: Vec<Written> = (0..)
        .zip(&script)
        .map(|(epoch, changes)| {
            let mut draft = store.begin(epoch).unwrap();
            add(&mut draft, changes);
            draft.write().unwrap()
        })
        .collect();
    for (epoch, written) in (0..).zip(written) {
        assert_eq!(written.epoch(), epoch);
        assert_eq!(written.publish(facts(epoch)).unwrap().uncollected, None);
        assert_state(&open(&disk, 1).unwrap().newest().unwrap().unwrap(), &history);
    }
}

#[test]
fn one_that_is_never_published_is_still_what_the_next_changes() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 1).unwrap();
    let script = script();
    for (epoch, changes) in (0..).zip(&script) {
        let mut draft = store.begin(epoch).unwrap();
        add(&mut draft, changes);
        let written = draft.write().unwrap();
        if epoch % 2 == 1 {
            written.publish(facts(epoch)).unwrap();
        }
    }
    let loaded = open(&disk, 1).unwrap().newest().unwrap().unwrap();
    assert_eq!(loaded.epoch(), 3);
    assert_state(&loaded, &history(&script));
}

#[test]
fn a_full_draft_needs_nothing_earlier() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 1).unwrap();
    let script = script();
    save(&store, 0, &script[0]).unwrap();
    let state = disk.files().into_keys().find(|p| p.extension().unwrap() == "arrow").unwrap();
    disk.remove(&state).unwrap();
    let error = save(&store, 1, &script[1]).unwrap_err();
    assert!(matches!(&error, SnapshotError::Damaged { file, .. } if *file == state), "{error}");
    // One that comes to nothing takes nothing with it.
    let mut dropped = store.begin_full(2).unwrap();
    add(&mut dropped, &script[2]);
    drop(dropped);
    assert_eq!(store.shelf().base.len(), 2);
    let mut draft = store.begin_full(3).unwrap();
    let model = history(&script).pop().unwrap();
    model.iter().for_each(|((node, shard), value)| draft.add(node, *shard, &rows(node, *value)));
    draft.write().unwrap().publish(facts(3)).unwrap();
    assert_state(&open(&disk, 1).unwrap().newest().unwrap().unwrap(), &history(&script));
}

#[test]
fn snapshots_are_in_order_and_drafts_one_at_a_time() {
    let disk = SimDisk::new(1);
    let store = open(&disk, 3).unwrap();
    save(&store, 5, &[]).unwrap();
    for epoch in [0, 5] {
        let error = store.begin(epoch).unwrap_err();
        assert_eq!(error, SnapshotError::Order { epoch, newest: 5 });
    }
    let draft = store.begin(6).unwrap();
    assert_eq!(store.begin(7).unwrap_err(), SnapshotError::Drafting { epoch: 6 });
    let first = draft.write().unwrap();
    store.begin(7).unwrap().write().unwrap().publish(facts(7)).unwrap();
    let error = first.publish(facts(6)).unwrap_err();
    assert_eq!(error, SnapshotError::Order { epoch: 6, newest: 7 });
}

#[test]
fn a_manifest_of_another_format_is_refused_by_its_number() {
    let json = br#"{"format":9,"anything":[]}"#;
    let bytes = [json, &b"\n{\"xxh3_128\":\""[..], digest_of(json).as_bytes(), b"\"}\n"].concat();
    let disk = SimDisk::new(1);
    let file = Path::new(DIR).join(manifest_name(1));
    disk.put(&file, &bytes);
    assert_eq!(open(&disk, 3).unwrap_err(), SnapshotError::Format { file, format: 9 });
}

#[test]
fn a_manifest_never_leads_out_of_its_directory() {
    let place = |file: &str, offset| Place {
        file: file.to_owned(),
        offset,
        length: 1,
        digest: String::new(),
    };
    let bad = [
        "../state-1-0.arrow",
        "/etc/passwd",
        "state-/../x.arrow",
        "state-1-0.arrow/x",
        "snapshot-1.json",
    ];
    let bad =
        bad.map(|file| place(file, 0)).into_iter().chain([place("state-1-0.arrow", u64::MAX)]);
    for place in bad {
        let state = Places::from([("ema".to_owned(), BTreeMap::from([(0, place.clone())]))]);
        let bytes = Manifest::new(1, facts(1), state).to_bytes().unwrap();
        assert!(matches!(Manifest::parse(&bytes, 1), Err(BadManifest::Damaged(_))), "{place:?}");
    }
}

#[test]
fn the_file_system_of_this_machine_will_do() {
    let root = std::env::temp_dir().join(format!("foreline-snapshots-{}", std::process::id()));
    let open = || SnapshotStore::open(Arc::new(crate::RealDisk), &root, 2).unwrap();
    let store = open();
    for (epoch, changes) in (0..).zip(script()) {
        assert_eq!(save(&store, epoch, &changes).unwrap().uncollected, None);
    }
    assert_state(&open().newest().unwrap().unwrap(), &history(&script()));
    std::fs::remove_dir_all(&root).unwrap();
}

fn lives() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let node = prop::sample::select(vec!["ema", "window"]);
    let change = (node, 0..6_u8, 0..40_u64);
    prop::collection::vec(prop::collection::vec(change, 0..6), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_snapshot_that_is_kept_can_be_loaded(
        script in lives(),
        keep in 1..4_usize,
        restarts in prop::collection::vec(any::<bool>(), 12),
    ) {
        let disk = SimDisk::new(1);
        let mut store = open(&disk, keep).unwrap();
        let history = history(&script);
        for ((epoch, changes), restart) in (0..).zip(&script).zip(restarts) {
            let published = save(&store, epoch, changes).unwrap();
            prop_assert_eq!(published.uncollected, None);
            prop_assert_eq!(published.oldest_kept, (epoch + 1).saturating_sub(keep as u64));
            for kept in published.oldest_kept..=epoch {
                let mut files = disk.files();
                files.retain(|p, _| epoch_of(p.file_name().unwrap().to_str().unwrap()).is_none_or(|e| e <= kept));
                let loaded = open(&disk_of(&files), keep).unwrap().newest().unwrap().unwrap();
                prop_assert_eq!(loaded.epoch(), kept);
                assert_state(&loaded, &history);
            }
            if restart {
                store = open(&disk, keep).unwrap();
                store.newest().unwrap();
            }
        }
    }

    #[test]
    fn no_bytes_are_a_manifest_by_chance(bytes in prop::collection::vec(any::<u8>(), 0..200), seal in any::<bool>()) {
        let mut file = bytes.clone();
        if seal {
            file.extend(format!("\n{{\"xxh3_128\":\"{}\"}}\n", digest_of(&bytes)).into_bytes());
        }
        prop_assert!(matches!(Manifest::parse(&file, 1), Err(BadManifest::Damaged(_))));
    }
}
