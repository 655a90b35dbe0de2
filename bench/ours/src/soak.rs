//! A publisher under load for a long time, with a subscriber that never reads and visitors that come and go.
//!
//! What must hold: its memory stays flat, the subscribers that read keep getting what is sent, what
//! the frozen one misses is counted.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidings_socket::{Context, Message, PubSocket, SubSocket};
use tokio::io::AsyncWriteExt;

use crate::measure::resident_kib;

/// Publishes for `minutes` and prints a line every ten seconds; fails if memory grows
pub(crate) async fn publisher(minutes: f64, rate: u64) -> Result<()> {
    let context = Context::new();
    let socket = PubSocket::new(&context)?;
    let endpoint = socket.bind("tcp://127.0.0.1:*")?.await?.to_string();
    let program = std::env::current_exe()?;
    let start_child = |role: &str| -> Result<Reaped> {
        let child = Command::new(&program).args([role, &endpoint]).stdout(Stdio::piped()).spawn()?;
        Ok(Reaped(child))
    };
    let mut fast = [start_child("soak-fast")?, start_child("soak-fast")?];
    let frozen = start_child("soak-frozen")?;
    socket.ready(3, Duration::from_secs(30)).await?;
    let visitors = tokio::spawn(visit(endpoint.clone()));

    let body = vec![b'x'; 200];
    let (start, end) = (Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    let mut published = 0u64;
    let mut samples: Vec<(f64, u64)> = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let mut next_line = Duration::ZERO;
    while start.elapsed() < end {
        tick.tick().await;
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        while published < due {
            socket.send(Message::copy_from(&body)).await?;
            published += 1;
        }
        if start.elapsed() >= next_line {
            next_line += Duration::from_secs(10);
            let rss = resident_kib()? * 1024;
            let stats = socket.stats();
            samples.push((start.elapsed().as_secs_f64(), rss));
            println!(
                "{}",
                json!({
                    "seconds": start.elapsed().as_secs(), "resident_kib": rss / 1024, "published": published,
                    "dropped": stats.dropped, "peers": stats.peers.len(), "closes": stats.closes,
                    "queued": stats.peers.iter().map(|peer| peer.queued_out).max(),
                })
            );
        }
    }
    visitors.abort();
    let stats = socket.stats();
    let report = socket.close(Duration::from_secs(10)).await;
    let mut received = Vec::new();
    for child in &mut fast {
        let output = child.0.stdout.take().context("the child's output was piped")?;
        let line = BufReader::new(output).lines().last().context("a fast subscriber said nothing")??;
        received.push(serde_json::from_str::<serde_json::Value>(&line)?["received"].as_u64().unwrap_or_default());
    }
    drop(frozen);
    // The first tenth is for caches and buffers to fill
    let warm = samples.get(samples.len() / 10).map_or(0, |(_, rss)| *rss);
    let most = samples.iter().skip(samples.len() / 10).map(|(_, rss)| *rss).max().unwrap_or_default();
    let last = samples.last().map_or(0, |(_, rss)| *rss);
    println!(
        "{}",
        json!({
            "minutes": minutes, "published": published, "received_by_fast": received, "dropped": stats.dropped,
            "closes": stats.closes, "resident_kib_after_warm_up": warm / 1024, "resident_kib_most": most / 1024,
            "resident_kib_last": last / 1024, "unflushed_for_frozen": report.unflushed,
        })
    );
    if most > warm + warm / 10 + 4 * 1024 * 1024 {
        bail!("memory grew from {} KiB to {} KiB", warm / 1024, most / 1024);
    }
    if stats.dropped == 0 {
        bail!("nothing was dropped for the frozen subscriber, so it was not frozen");
    }
    Ok(())
}

/// A subscriber that reads everything until the publisher is gone
pub(crate) async fn fast(endpoint: &str) -> Result<()> {
    let context = Context::new();
    let socket = SubSocket::new(&context)?;
    let mut events = socket.events();
    socket.subscribe("");
    socket.connect(endpoint)?.await?;
    let mut received = 0u64;
    loop {
        tokio::select! {
            biased;
            message = socket.recv() => {
                message?;
                received += 1;
            }
            event = events.next() => if event.is_none_or(|event| event.kind.name() == "disconnected") {
                break;
            }
        }
    }
    while socket.try_recv().is_ok() {
        received += 1;
    }
    println!("{}", json!({"received": received}));
    Ok(std::io::stdout().flush()?)
}

/// A subscriber that never reads
pub(crate) async fn frozen(endpoint: &str) -> Result<()> {
    let context = Context::new();
    let socket = SubSocket::new(&context)?;
    socket.subscribe("");
    socket.connect(endpoint)?.await?;
    std::future::pending().await
}

/// Connections that say nothing, something wrong, or half of something, and leave
async fn visit(endpoint: String) {
    let address = endpoint.trim_start_matches("tcp://").to_owned();
    let words: [&[u8]; 4] = [b"", b"GET / HTTP/1.0\r\n\r\n", b"\xff\0\0\0\0\0\0\0\x01\x7f\x03", &[0; 64]];
    for word in words.iter().cycle() {
        if let Ok(mut stream) = tokio::net::TcpStream::connect(&address).await {
            stream.write_all(word).await.ok();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A child that does not outlive its parent's interest
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
