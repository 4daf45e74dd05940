//! What the disk itself does: the same requests written to one file, with a sync after so many.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::payloads::Payload;
use crate::report::{median, percentile};

/// Writes and syncs, and says what that reached.
pub(crate) fn measure(directory: &Path, payloads: &[Payload], order: &[usize]) {
    for group in [1, 8] {
        let path = directory.join("raw");
        let mut file = File::create(&path).unwrap();
        let (mut bytes, mut times, began) = (0, Vec::new(), Instant::now());
        for group in order.chunks(group) {
            let began = Instant::now();
            for &index in group {
                file.write_all(&payloads[index].bytes).unwrap();
                bytes += payloads[index].bytes.len();
            }
            file.sync_data().unwrap();
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        println!(
            "raw disk, write + fdatasync of {group} requests at a time: {:.1} MB/s; {:.2} ms at p50, {:.2} ms at p99",
            bytes as f64 / 1e6 / began.elapsed().as_secs_f64(),
            median(times.iter().copied()),
            percentile(times.iter().copied(), 99),
        );
        std::fs::remove_file(&path).unwrap();
    }
}
