//! `append-sync`: what the disk does when records must be on it before anybody is told.

use std::fs::{self, File};
use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::keys::Keys;
use crate::measure::{Latencies, Measured, with};

/// Appends `count` records of `size` octets to a new file in `folder`, `inflight` of them to each fdatasync
pub(crate) fn append_sync(mut keys: Keys) -> Result<Value> {
    let folder = keys.folder("folder")?;
    let size = keys.number("size")?;
    let count = keys.number("count")?;
    let inflight = keys.number("inflight")?.max(1);
    keys.finish()?;
    fs::create_dir_all(&folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    let path = folder.join("appended");
    let mut file = File::create_new(&path).with_context(|| format!("can't make {}", path.display()))?;
    let records = vec![b'x'; size * inflight];
    let mut latencies = Latencies::with_room_for(count.div_ceil(inflight));
    let measured = Measured::begin();
    let mut stored = 0;
    while stored < count {
        let began = Instant::now();
        file.write_all(&records).context("appending")?;
        file.sync_data().context("fdatasync")?;
        latencies.add(began.elapsed());
        stored += inflight;
    }
    Ok(with(measured.end().report(stored, stored as f64), latencies.report()))
}
