//! `bulk-sink` and `bulk-source`: octets copied through one connection, as fast as the kernel does it.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::keys::Keys;
use crate::measure::{Measured, with};

struct Bulk {
    endpoint: Endpoint,
    size: usize,
    count: usize,
    octets: usize,
    block: usize,
}

impl Bulk {
    fn parse(mut keys: Keys) -> Result<Self> {
        let endpoint = keys.endpoint()?;
        let size = keys.number("size")?;
        let count = keys.number("count")?;
        let block = keys.number_if_given("block")?.unwrap_or(128 * 1024);
        keys.finish()?;
        let octets = size.checked_mul(count).context("size times count is more than can be counted")?;
        Ok(Self { endpoint, size, count, octets, block })
    }

    /// `counted` octets passed between the clock's two readings
    fn report(&self, measured: &Measured, counted: usize) -> Value {
        let report = measured.end().report(self.count, counted as f64 / self.size as f64);
        with(report, serde_json::json!({ "octets": self.octets }))
    }
}

/// Reads until all octets are there; the clock starts when the first ones are
pub(crate) fn sink(keys: Keys) -> Result<Value> {
    let bulk = Bulk::parse(keys)?;
    let listener = bulk.endpoint.listen()?;
    listener.set_nonblocking(false)?;
    let mut stream = listener.accept(false)?.context("no connection came")?;
    let mut buffer = vec![0; bulk.block];
    let first = stream.read(&mut buffer).context("reading")?;
    let measured = Measured::begin();
    let mut received = first;
    while received < bulk.octets {
        match stream.read(&mut buffer).context("reading")? {
            0 => bail!("the source closed after {received} of {} octets; has it the same size and count?", bulk.octets),
            read => received += read,
        }
    }
    if received > bulk.octets || stream.read(&mut buffer).context("reading")? > 0 {
        bail!("more than {} octets came; has the source the same size and count?", bulk.octets);
    }
    Ok(bulk.report(&measured, received - first))
}

/// Writes all octets, and waits until the sink has read them
pub(crate) fn source(keys: Keys) -> Result<Value> {
    let bulk = Bulk::parse(keys)?;
    let mut stream = bulk.endpoint.connect()?;
    let block = vec![b'x'; bulk.block];
    let measured = Measured::begin();
    let mut left = bulk.octets;
    while left > 0 {
        let written = &block[..block.len().min(left)];
        stream.write_all(written).context("writing")?;
        left -= written.len();
    }
    stream.finish().context("closing")?;
    if stream.read(&mut [0]).context("waiting for the sink")? > 0 {
        bail!("the sink wrote something, so it is none");
    }
    Ok(bulk.report(&measured, bulk.octets))
}
