//! The largest blob there may be, and the memory it takes on its way: measured in a process that does
//! nothing else, since the tests beside this one take memory too.

use hostler_protocol::bundle::BLOB_BYTES_MAX;
use hostler_tests::servers::command;

use super::*;

const ALONE: &str = "fleet::bulk::memory::in_a_process_of_its_own";
/// Bytes the transfer may take at its height, on both sides together: windows and buffers.
const TAKEN_BYTES_MAX: u64 = 32 * 1024 * 1024;

#[test]
fn the_largest_blob_is_never_in_memory() {
    let out = command(std::env::current_exe().unwrap())
        .args(["--exact", ALONE, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{told}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(told.contains("1 passed"), "{told}");
}

/// A figure of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

#[ignore = "run by the test above, in a process of its own"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_process_of_its_own() {
    let depot = Depot::new().await;
    let large = noise(10, usize::try_from(BLOB_BYTES_MAX).unwrap());
    let sha256 = sha256_hex(&large);
    let bundle = depot.bundle(&[("large", &large)]).await;
    drop(large);
    let fetcher = depot.fetcher();
    // The height of memory is measured from here on (`man 5 proc`, clear_refs).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    soon("the bundle", fetcher.bulk.ensure(&bundle)).await.unwrap();
    let taken = status("VmHWM").saturating_sub(before);
    let length = std::fs::metadata(fetcher.bulk.blob(&sha256)).unwrap().len();
    assert_eq!(length, BLOB_BYTES_MAX);
    assert!(taken < TAKEN_BYTES_MAX, "{taken} bytes of memory for a blob of {length}");
    depot.controller.stop().await;
}
