//! The simulator: two thousand seeds in which nothing is lost, doubled or unexplained, the seeds
//! that once failed, and guards whose absence must be seen.

use std::collections::BTreeSet;

use hostler_tests::sim::{self, Mutation, Options};

/// Seeds of one whole run of the suite.
const SEEDS: u64 = 2_000;
/// Seeds within which a missing guard must be noticed.
const SEEDS_TO_NOTICE: u64 = 800;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn two_thousand_seeds_keep_every_promise() {
    let total = sim::run_all(0..SEEDS, Options::default(), threads(), false).unwrap();
    assert!(total.broken.is_empty(), "{total}");
    assert_eq!(total.seeds, SEEDS);
    // A run in which nothing happens would keep every promise too.
    let came: BTreeSet<&str> = total.faults.keys().copied().collect();
    for fault in [
        "agent killed",
        "power cut",
        "controller killed",
        "controller restored",
        "connection lost",
        "host unreachable",
        "disk full",
        "disk error",
        "clock jump",
        "poisonous job",
        "host revoked",
        "agent cloned",
        "success proven after a kill",
    ] {
        assert!(came.contains(fault), "no seed had this happen: {fault}; {total}");
    }
    assert!(total.jobs > SEEDS && total.effects > SEEDS, "{total}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [0, 5, 18, 22, 70, 266] {
        let once = sim::run(seed, Options::default()).unwrap();
        let again = sim::run(seed, Options { trace: true, ..Options::default() }).unwrap();
        assert_eq!(once.hash, again.hash, "seed {seed}");
        assert_eq!(once.steps, again.steps, "seed {seed}");
        assert!(!again.trace.is_empty(), "seed {seed}");
    }
    let hashes: BTreeSet<u64> =
        (0..8).map(|seed| sim::run(seed, Options::default()).unwrap().hash).collect();
    assert_eq!(hashes.len(), 8, "different seeds are different runs");
}

#[test]
fn seeds_that_once_failed_fail_no_more() {
    let mut count = 0;
    for line in include_str!("sim_seeds.txt").lines() {
        let Some(seed) = line.split('#').next().map(str::trim).filter(|seed| !seed.is_empty())
        else {
            continue;
        };
        let report = sim::run(seed.parse().unwrap(), Options::default()).unwrap();
        assert_eq!(report.violation, None, "{line}");
        count += 1;
    }
    assert!(count > 0, "the file names no seed");
}

#[test]
fn what_is_kept_of_a_seed_is_one_command_away() {
    let options = Options { mutation: Some(Mutation::SyncsLie), ..Options::default() };
    let total = sim::run_all(0..SEEDS_TO_NOTICE, options, 1, true).unwrap();
    let (seed, violation) = total.broken.first().expect("a lying disk is noticed");
    let said = total.to_string();
    assert!(said.contains(&violation.what), "{said}");
    assert!(said.contains(&format!("cargo run --bin sim -- --seed {seed} --trace")), "{said}");
}

#[test]
fn a_guard_that_is_missing_is_noticed() {
    for mutation in Mutation::ALL {
        let options = Options { mutation: Some(mutation), ..Options::default() };
        let total = sim::run_all(0..SEEDS_TO_NOTICE, options, threads(), true).unwrap();
        assert!(!total.broken.is_empty(), "{} is not missed", mutation.as_str());
    }
}
