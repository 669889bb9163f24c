//! A disk without room: on a small file system, in a mount namespace of its own.

use std::collections::BTreeSet;

use hostler_agent::steps::bundle::BundleError;
use hostler_tests::servers::{command, is_root};

use super::*;

const APART: &str = "fleet::bulk::full::in_a_namespace_of_its_own";
const MIB: usize = 1024 * 1024;

#[test]
fn what_nobody_names_makes_room_for_what_is_wanted() {
    let namespace = if is_root() { "-m" } else { "-rm" };
    let out = command("unshare")
        .arg(namespace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", APART, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{told}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(told.contains("1 passed"), "{told}");
}

#[ignore = "run by the test above, in a mount namespace of its own"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_namespace_of_its_own() {
    let depot = Depot::new().await;
    let (one, two) = (noise(12, 20 * MIB), noise(13, 20 * MIB));
    let first = depot.bundle(&[("file", &one)]).await;
    let second = depot.bundle(&[("file", &two)]).await;
    let dir = tempfile::tempdir().unwrap();
    let mounted = command("mount")
        .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(mounted.success(), "a small file system cannot be mounted");
    let ways = watch::Sender::new(Some(way(&depot.identity, Some(depot.controller.ready.agents))));
    let clock = AgentClock::manual(0);
    let bulk = Bulk::new(dir.path().to_owned(), CACHE_BYTES_MAX, ways.subscribe(), clock.clone());
    soon("the first bundle", bulk.ensure(&first)).await.unwrap();
    let here = |content: &[u8]| bulk.blob(&sha256_hex(content)).exists();
    // There is room for one, and the first is kept.
    bulk.keep(BTreeSet::from([first.clone()]));
    clock.advance_ms(3_600_001);
    let error = soon("an error", bulk.ensure(&second)).await.unwrap_err();
    assert!(matches!(&error, BundleError::NoSpace { .. }), "{error:?}");
    assert!(here(&one) && !here(&two));
    // Nobody names it any more, though the cache may be larger than the disk.
    bulk.keep(BTreeSet::from([second.clone()]));
    soon("the second bundle", bulk.ensure(&second)).await.unwrap();
    assert!(!here(&one) && here(&two));
    depot.controller.stop().await;
}
