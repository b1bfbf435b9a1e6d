//! The spool: what it has after a crash at any byte or any operation, and what it refuses.

use std::collections::BTreeSet;
use std::fs;

use foreline_engine::{Disk, RealDisk, SimDisk};

use super::super::pace::Unit;
use super::super::spool::{Locking, Place, Spool};
use super::*;

const LIMIT: u64 = 1 << 20;

fn origin() -> Origin {
    Origin { pipeline: "pump".into(), sink: "tell".into(), stream: "hot".into() }
}

fn message(text: &str) -> Message {
    Message {
        number: 0,
        id: text.to_owned(),
        arrived_ns: 0,
        severity: None,
        group: String::new(),
        topic: String::new(),
        subject: String::new(),
        text: text.repeat(5),
        row: "{}".to_owned(),
    }
}

fn real(folder: &Path) -> Place {
    Place { disk: Arc::new(RealDisk), folder: folder.to_owned(), locking: Locking::File }
}

fn open(place: Place, run: u64, generation: u64) -> Result<Spool, SinkError> {
    Spool::open(place, &origin(), LIMIT, RunId(run), generation)
}

fn ids(spool: &Spool) -> Vec<String> {
    spool.waiting().map(|m| m.id.clone()).collect()
}

/// What a spool comes to: committed epoch, ids that wait, numbers of the bundle.
type Known = (Option<u64>, Vec<String>, Option<Vec<u64>>);

fn known(spool: &Spool) -> Known {
    (spool.committed(), ids(spool), spool.bundle().map(|u| u.numbers.clone()))
}

#[test]
fn a_spool_that_ends_at_any_byte_has_all_of_its_whole_records() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spool");
    let length = || fs::metadata(&file).unwrap().len();
    let mut spool = open(real(folder.path()), 1, 1).unwrap();
    let mut steps: Vec<(u64, Known)> = vec![(length(), known(&spool))];
    for step in 0..5 {
        match step {
            0 => spool.commit(3, vec![message("a"), message("b")], 7).unwrap(),
            1 => spool.commit(4, vec![message("c")], 8).unwrap(),
            2 => spool.note_bundle(&Unit { numbers: vec![1, 3], due_ns: 9 }).unwrap(),
            3 => spool.done(&[1, 3]).unwrap(),
            _ => spool.commit(6, vec![], 9).unwrap(),
        }
        steps.push((length(), known(&spool)));
    }
    assert_eq!(steps.last().unwrap().1, (Some(6), vec!["b".to_owned()], None));
    drop(spool);
    let whole = fs::read(&file).unwrap();
    for cut in 0..=whole.len() {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("spool"), &whole[..cut]).unwrap();
        let last = steps.iter().rev().find(|(at, _)| *at <= cut as u64);
        match (open(real(copy.path()), 2, 1), last) {
            (Ok(spool), Some((_, wanted))) => assert_eq!(&known(&spool), wanted, "at {cut}"),
            // The head is written before the file has its name: without it this is no spool of ours.
            (Err(error), None) => assert!(error.to_string().contains("cannot be used"), "{error}"),
            (opened, wanted) => panic!("at {cut}: {opened:?}, and not {wanted:?}"),
        }
    }
}

#[test]
fn a_byte_that_has_changed_is_refused_unless_it_is_in_the_last_record() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spool");
    let mut spool = open(real(folder.path()), 1, 1).unwrap();
    spool.commit(1, vec![message("a")], 1).unwrap();
    let before_last = fs::metadata(&file).unwrap().len();
    spool.commit(2, vec![message("b")], 2).unwrap();
    drop(spool);
    let whole = fs::read(&file).unwrap();
    let mut refused = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("spool"), &bytes).unwrap();
        match open(real(copy.path()), 2, 1) {
            Ok(spool) => assert_eq!((at as u64 >= before_last, spool.committed()), (true, Some(1))),
            Err(error) => {
                assert!(error.to_string().contains("damaged at byte"), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, before_last);
}

#[test]
fn whatever_operation_the_power_goes_at_nothing_that_was_taken_is_lost() {
    let folder = PathBuf::from("spool");
    let big = "x".repeat(20_000);
    let mut ended = 0;
    for n in 0..200 {
        let disk = SimDisk::new(n);
        let place = || Place {
            disk: Arc::new(disk.clone()),
            folder: folder.clone(),
            locking: Locking::None,
        };
        disk.crash_nth(n);
        let (mut taken, mut marked) = (BTreeSet::new(), BTreeSet::new());
        let (mut asked, mut committed) = (BTreeSet::new(), None);
        let ran = (|| -> Result<(), SinkError> {
            let mut spool = open(place(), 1, 1)?;
            for epoch in 1..=20_u64 {
                let id = format!("{epoch}-{big}");
                spool.commit(epoch, vec![message(&id)], 1)?;
                (committed, _) = (Some(epoch), taken.insert(id));
                if epoch > 2 {
                    let first = spool.waiting().next().unwrap().clone();
                    asked.insert(first.id.clone());
                    spool.done(&[first.number])?;
                    marked.insert(first.id.clone());
                }
            }
            Ok(())
        })();
        ended += u64::from(ran.is_ok());
        disk.crash();
        let spool = open(place(), 2, 1).unwrap();
        assert!(spool.committed() >= committed, "{n}: {:?} of {committed:?}", spool.committed());
        let here: BTreeSet<String> = ids(&spool).into_iter().collect();
        for id in taken.difference(&asked) {
            assert!(here.contains(id), "{n}: a message was lost");
        }
        assert!(here.is_disjoint(&marked), "{n}: a message that was marked is back");
    }
    assert!((1..150).contains(&ended), "{ended} of 200 came to the end");
}

#[test]
fn a_full_disk_takes_nothing_and_breaks_nothing() {
    let disk = SimDisk::new(1);
    let place = Place {
        disk: Arc::new(disk.clone()),
        folder: PathBuf::from("spool"),
        locking: Locking::None,
    };
    let mut spool = open(place.clone(), 1, 1).unwrap();
    spool.commit(1, vec![message("a")], 1).unwrap();
    disk.limit(Some(10));
    assert!(matches!(spool.commit(2, vec![message("b")], 2), Err(SinkError::Retry(_))));
    disk.limit(None);
    spool.commit(2, vec![message("b")], 2).unwrap();
    drop(spool);
    assert_eq!(known(&open(place, 2, 1).unwrap()), (Some(2), vec!["a".into(), "b".into()], None));
}

#[test]
fn a_failed_sync_is_the_end_of_it() {
    let disk = SimDisk::new(1);
    let place = Place {
        disk: Arc::new(disk.clone()),
        folder: PathBuf::from("spool"),
        locking: Locking::None,
    };
    let mut spool = open(place, 1, 1).unwrap();
    // Reading the head and appending go well.
    disk.fail_nth(2);
    let error = spool.commit(1, vec![message("a")], 1).unwrap_err();
    assert!(error.to_string().contains("cannot sync the spool"), "{error}");
    assert!(matches!(spool.commit(1, vec![], 1), Err(SinkError::Fatal(_))));
    assert!(!spool.is_of(RunId(1), 1));
}

#[test]
fn what_is_delivered_takes_no_room_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = open(real(folder.path()), 1, 1).unwrap();
    spool.commit(1, vec![message("stays")], 0).unwrap();
    for epoch in 2..200_u64 {
        spool.commit(epoch, vec![message(&"x".repeat(10_000))], 0).unwrap();
        let last = spool.waiting().last().unwrap().number;
        spool.done(&[last]).unwrap();
    }
    let length = fs::metadata(folder.path().join("spool")).unwrap().len();
    assert!(length < 3 << 20, "{length}");
    drop(spool);
    assert_eq!(known(&open(real(folder.path()), 2, 1).unwrap()).1, ["stays"]);
}

#[test]
fn a_newer_run_or_generation_takes_over_and_what_waits_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = open(real(folder.path()), 1, 1).unwrap();
    old.commit(8, vec![message("a")], 0).unwrap();
    let new = open(real(folder.path()), 2, 2).unwrap();
    assert_eq!((new.committed(), ids(&new)), (None, vec!["a".to_owned()]));
    assert!(matches!(old.done(&[1]), Err(SinkError::Fenced(RunId(2)))));
    assert!(matches!(open(real(folder.path()), 1, 2), Err(SinkError::Fenced(RunId(2)))));
    assert!(matches!(open(real(folder.path()), 3, 1), Err(SinkError::Fenced(_))));
    let other = Origin { stream: "cold".into(), ..origin() };
    let error = Spool::open(real(folder.path()), &other, LIMIT, RunId(9), 9).unwrap_err();
    assert!(error.to_string().contains("that of 'hot' into 'tell' of 'pump'"), "{error}");
    assert!(RealDisk.list(folder.path()).unwrap().contains(&"spool".to_owned()));
}
