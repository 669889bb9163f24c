//! The journal over good, failing and full disks, and through power cuts.

use std::io::ErrorKind;

use hostler_protocol::id::JobId;

use super::super::Kept;
use super::super::disk::{Disk, Wrong};
use super::*;

fn attempt(job: u8, number: u32) -> AttemptRef {
    AttemptRef { job: JobId::from_parts(u64::from(job), [job; 10]), attempt: number }
}

fn kept(contents: &Contents) -> Vec<AttemptRef> {
    contents.finished.iter().map(|kept| kept.attempt.clone()).collect()
}

fn open(disk: &Disk) -> (Journal, Contents) {
    Journal::open_on(disk).expect("the journal must open")
}

#[tokio::test]
async fn a_journal_that_was_closed_is_whole_while_handles_are_still_held() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), 4).unwrap();
    let other = journal.clone();
    journal.accept(attempt(1, 1), 60, 5, Vec::new()).await.unwrap();
    journal.accept(attempt(2, 1), 60, 5, Vec::new()).await.unwrap();
    journal.finish(attempt(2, 1), b"done".to_vec()).await.unwrap();
    journal.close().await;
    let whole = crate::journal::Glance::Whole { unfinished: 1, unacknowledged: 1 };
    assert_eq!(crate::journal::glance(dir.path()).unwrap(), whole);
    assert_eq!(other.probe().await, Err(JournalFault::Failed));
    other.close().await;
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, contents) = Journal::open(dir.path(), 4).unwrap();
    assert_eq!(contents, Contents::default());
    journal.accept(attempt(1, 1), 60, 5, b"one".to_vec()).await.unwrap();
    journal.accept(attempt(2, 1), 60, 6, b"two".to_vec()).await.unwrap();
    journal.finish(attempt(2, 1), b"done".to_vec()).await.unwrap();
    journal.accept(attempt(3, 2), 60, 7, b"three".to_vec()).await.unwrap();
    journal.finish(attempt(3, 2), b"done".to_vec()).await.unwrap();
    journal.forget(attempt(3, 2), 8).await.unwrap();
    assert_eq!(journal.outcome(attempt(2, 1)).await.unwrap(), Some(b"done".to_vec()));
    assert_eq!(journal.outcome(attempt(3, 2)).await.unwrap(), None);
    assert!(matches!(Journal::open(dir.path(), 4), Err(JournalError::Held { .. })));
    // Durable work after it carries the forgotten one to disk.
    journal.accept(attempt(4, 1), 60, 9, Vec::new()).await.unwrap();
    drop(journal);

    let (_journal, contents) = reopen(dir.path());
    let cut_off: Vec<_> =
        contents.unfinished.iter().map(|row| (row.attempt.clone(), row.crashes)).collect();
    assert_eq!(cut_off, [(attempt(1, 1), 1), (attempt(4, 1), 1)]);
    assert_eq!(contents.finished, [Kept { attempt: attempt(2, 1), bytes: 4 }]);
    assert_eq!(contents.settled, [attempt(3, 2)]);
}

/// The file is closed by the journal's thread, a moment after the last handle is gone.
fn reopen(dir: &Path) -> (Journal, Contents) {
    let clock = crate::clock::Clock::system();
    let until_ms = clock.monotonic_ms() + 5000;
    loop {
        match Journal::open(dir, 4) {
            Ok(opened) => return opened,
            Err(JournalError::Held { .. }) if clock.monotonic_ms() < until_ms => {
                std::thread::yield_now();
            }
            Err(error) => panic!("the journal must open again within 5 s: {error}"),
        }
    }
}

#[tokio::test]
async fn crashes_of_a_job_are_counted() {
    let disk = Disk::new();
    let (journal, _) = open(&disk);
    journal.accept(attempt(1, 1), 60, 5, Vec::new()).await.unwrap();
    let (again, contents) = open(&disk.after_power_cut());
    assert_eq!(contents.unfinished[0].crashes, 1);
    again.probe().await.unwrap();
    let second = disk.after_power_cut();
    drop(open(&second));
    let (_third, contents) = open(&second.after_power_cut());
    assert_eq!(contents.unfinished[0].crashes, 2);
}

#[tokio::test]
async fn a_power_cut_keeps_everything_that_was_promised() {
    let disk = Disk::new();
    let (journal, _) = open(&disk);
    for job in 1..20 {
        journal.accept(attempt(job, 1), 60, 5, vec![job; 100]).await.unwrap();
        let (_, contents) = open(&disk.after_power_cut());
        assert!(contents.unfinished.iter().any(|row| row.attempt == attempt(job, 1)));
        journal.finish(attempt(job, 1), vec![job; 100]).await.unwrap();
        let (_, contents) = open(&disk.after_power_cut());
        assert!(kept(&contents).contains(&attempt(job, 1)));
        assert!(!contents.unfinished.iter().any(|row| row.attempt == attempt(job, 1)));
        journal.forget(attempt(job, 1), 6).await.unwrap();
        let (_, contents) = open(&disk.after_power_cut());
        let there = kept(&contents).contains(&attempt(job, 1))
            || contents.settled.contains(&attempt(job, 1));
        assert!(there, "attempt {job} is neither unacknowledged nor settled");
    }
}

#[tokio::test]
async fn a_fault_at_any_write_is_reported_and_survived() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for nth in 1..40 {
            let disk = Disk::new();
            let (journal, _) = open(&disk);
            journal.accept(attempt(1, 1), 60, 5, vec![1; 100]).await.unwrap();
            disk.set(Wrong::From(nth, kind));
            let finished = journal.finish(attempt(1, 1), vec![2; 5000]).await;
            let full = kind == ErrorKind::StorageFull;
            let expected = if full { JournalFault::NoSpace } else { JournalFault::Failed };
            let failed = finished.is_err();
            if let Err(fault) = finished {
                assert_eq!(fault, expected, "at write {nth}");
            }
            let (_, contents) = open(&disk.after_power_cut());
            let known = kept(&contents).contains(&attempt(1, 1))
                || contents.unfinished.iter().any(|row| row.attempt == attempt(1, 1));
            assert!(known, "write {nth} failing with {kind:?} lost the attempt");
            disk.set(Wrong::Nothing);
            journal.finish(attempt(1, 1), vec![2; 5000]).await.expect("a mended disk works again");
            assert_eq!(journal.outcome(attempt(1, 1)).await, Ok(Some(vec![2; 5000])));
            if !failed {
                break;
            }
            assert!(nth < 39, "40 writes for one finish: is each still committed once?");
        }
    }
}

#[test]
fn a_journal_whose_making_was_cut_off_is_made_anew() {
    for nth in 1..40 {
        let disk = Disk::new();
        disk.set(Wrong::From(nth, ErrorKind::StorageFull));
        let made = Journal::open_on(&disk).is_ok();
        disk.set(Wrong::Nothing);
        for after in [disk.after_kill(), disk.after_power_cut()] {
            let (_, contents) = open(&after);
            assert_eq!(contents, Contents::default(), "after {nth} operations");
        }
        assert!(nth < 39 || made, "40 operations to make a journal?");
    }
    // On a real disk: some length, no mark; and one that is shorter than a mark.
    for bytes in [vec![0; 8192], vec![0; 3]] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(JOURNAL_FILE), bytes).unwrap();
        let (_journal, contents) = Journal::open(dir.path(), 4).unwrap();
        assert_eq!(contents, Contents::default());
        assert!(matches!(Journal::open(dir.path(), 4), Err(JournalError::Held { .. })));
    }
    // What is somebody else's is left alone.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(JOURNAL_FILE), b"not a journal at all").unwrap();
    assert!(matches!(Journal::open(dir.path(), 4), Err(JournalError::Open { .. })));
    assert_eq!(std::fs::read(dir.path().join(JOURNAL_FILE)).unwrap(), b"not a journal at all");
}

#[tokio::test]
async fn changes_that_pile_up_share_a_sync() {
    let disk = Disk::new();
    let (journal, _) = open(&disk);
    journal.accept(attempt(0, 1), 60, 0, Vec::new()).await.unwrap();
    disk.set(Wrong::Nothing);
    journal.accept(attempt(0, 2), 60, 0, Vec::new()).await.unwrap();
    let alone = disk.operations();
    disk.set(Wrong::Nothing);
    let all = (1..=50).map(|job| journal.accept(attempt(job, 1), 60, 0, Vec::new()));
    for done in futures_util::future::join_all(all).await {
        done.unwrap();
    }
    let together = disk.operations();
    assert!(together < 50 * alone / 2, "50 changes took {together} operations, one takes {alone}");
}
