//! The floor under everything durable: append 512 bytes, wait until they are on the disk.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::bench::Res;
use crate::bench::clock::Watch;
use crate::bench::stats::Samples;

/// Appends and syncs `count` times to a file in `dir`.
///
/// # Errors
/// If the file cannot be written.
pub fn append_and_sync(dir: &Path, count: usize) -> Res<Samples> {
    let path = dir.join("fsync-probe");
    let mut file = File::create(&path)?;
    let mut secs = Vec::with_capacity(count);
    for _ in 0..count {
        let watch = Watch::start();
        file.write_all(&[0x5a; 512])?;
        file.sync_data()?;
        secs.push(watch.secs());
    }
    drop(file);
    std::fs::remove_file(path)?;
    Ok(Samples::new(secs))
}
