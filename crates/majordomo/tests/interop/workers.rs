//! Workers that die, freeze and block.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use rustix::process::Signal;
use tidings_socket::{Context, DealerSocket};
use tidings_zmtp::Message;
use tokio::sync::mpsc;

use crate::house::{House, ask};
use crate::matrix::QUICK;
use crate::peer::{Kind, Library, Peer};
use crate::waiting::{PATIENCE, within};

#[tokio::test(flavor = "multi_thread")]
async fn the_request_of_a_killed_worker_goes_to_another() -> Result<()> {
    for kind in Kind::ALL {
        let house = House::open().await?;
        let worker = || Peer::worker(kind, Library::Current, house.endpoint(), "echo", &QUICK);
        let Some(mut first) = worker().await? else { return Ok(()) };
        house.has("echo").await?;
        let Some(mut client) = Peer::client(kind, Library::Current, house.endpoint(), &[]).await? else {
            return Ok(());
        };
        client.ask("echo", &[b"config.get", b"{}"], Some(30.0)).await?;
        ensure!(first.request().await? == ["config.get", "{}"]);
        first.kill().await?;
        // It comes only now, so that the request has been back in the queue
        let Some(mut second) = worker().await? else { return Ok(()) };
        ensure!(second.request().await? == ["config.get", "{}"], "{kind:?}: another request");
        second.answer(&[], &[b"config.result", b"{}"]).await?;
        ensure!(client.reply().await?.last == ["config.result", "{}"], "{kind:?}");
        house.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_every_request_is_answered_once_though_workers_are_killed() -> Result<()> {
    const KILLED: usize = 6;
    const BETWEEN: usize = 300;
    let house = House::open().await?;
    let more = ["handler=echo", QUICK[0]];
    let kinds = [Kind::Guide, Kind::Domogik, Kind::Rfc18, Kind::Zproto];
    let mut workers = VecDeque::new();
    for kind in kinds {
        let Some(worker) = Peer::worker(kind, Library::Current, house.endpoint(), "echo", &more).await? else {
            return Ok(());
        };
        workers.push_back(worker);
    }
    house.has("echo").await?;
    let client = house.client().await?;
    let (answered, mut answers) = mpsc::unbounded_channel();
    for asker in 0..32 {
        let (client, answered) = (client.clone(), answered.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let body = vec![Bytes::from(format!("{asker}.{number}")), Bytes::from_static(b"{}")];
                let outcome = ask(client.clone(), "echo", body.clone()).await;
                if answered.send(outcome.map(|answer| answer == body)).is_err() {
                    return;
                }
            }
        });
    }
    for killed in 0..KILLED {
        for _ in 0..BETWEEN {
            let answer = within(PATIENCE, "an answer", answers.recv()).await?.context("nobody asks")??;
            ensure!(answer, "an answer to another request");
        }
        // Whatever it has is under way
        workers.pop_front().context("no worker")?.kill().await?;
        let kind = kinds[killed % kinds.len()];
        let started = Peer::worker(kind, Library::Current, house.endpoint(), "echo", &more).await?;
        workers.push_back(started.context("it was there a moment ago")?);
    }
    drop(answers);
    client.close();
    let counters = house.counters()?;
    ensure!(counters.get("retried").is_some_and(|count| *count > 0), "no worker had a request: {counters:?}");
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_blocks_in_its_handler_stays_and_answers() -> Result<()> {
    // With the deadline of the request, with a word for none, and on a wire that has no deadlines
    for (kind, seconds) in [(Kind::Domogik, Some(60.0)), (Kind::Domogik, None), (Kind::Guide, None)] {
        blocks_and_stays(House::quick().await?, "interval_ms=50", kind, seconds).await?;
    }
    Ok(())
}

/// The same with the intervals that Domogik's programs have, which nobody can change: a second each
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_domogiks_that_blocks_for_seconds_stays_and_answers() -> Result<()> {
    blocks_and_stays(House::usual().await?, "interval_ms=1000", Kind::Domogik, Some(10.0)).await
}

async fn blocks_and_stays(house: House, interval: &str, kind: Kind, seconds: Option<f64>) -> Result<()> {
    let Some(mut worker) = Peer::worker(kind, Library::Current, house.endpoint(), "slow", &[interval]).await? else {
        return Ok(());
    };
    let Some(mut client) = Peer::client(kind, Library::Current, house.endpoint(), &[]).await? else {
        return Ok(());
    };
    house.has("slow").await?;
    client.ask("slow", &[b"work", b"{}"], seconds).await?;
    worker.request().await?;
    // Its handler holds up everything: more heartbeats are due meanwhile than a worker may miss
    let mut clock = Clockwork::start(&house).await?;
    clock.beats(House::LIVENESS + 2).await?;
    let known = ask(house.client().await?, "mmi.service", vec![Bytes::from_static(b"slow")]).await?;
    ensure!(known == ["200"], "{kind:?}, {seconds:?}: the broker gave it up");
    worker.answer(&[], &[b"done", b"{}"]).await?;
    ensure!(client.reply().await?.last == ["done", "{}"], "{kind:?}, {seconds:?}");
    // It is the same registration that takes the next one
    client.ask("slow", &[b"more", b"{}"], seconds).await?;
    let next = worker.next().await?;
    ensure!(matches!(next["event"].as_str(), Some("action" | "request")), "{kind:?}, {seconds:?}: {next}");
    worker.answer(&[], &[b"done", b"{}"]).await?;
    client.reply().await?;
    house.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_that_freezes_is_given_up_and_comes_back_when_it_thaws() -> Result<()> {
    for kind in [Kind::Guide, Kind::Domogik, Kind::Rfc18, Kind::Zproto] {
        let house = House::quick().await?;
        let more = ["interval_ms=50", "reconnect_ms=50", "handler=echo"];
        let Some(mut worker) = Peer::worker(kind, Library::Current, house.endpoint(), "echo", &more).await? else {
            return Ok(());
        };
        house.has("echo").await?;
        worker.signal(Signal::STOP)?;
        // Its connection is open all the time
        house.has_no_more("echo").await?;
        worker.signal(Signal::CONT)?;
        // Told to go by the answer to its next heartbeat, or by what it missed
        worker.until("gone").await?;
        worker.expect("ready").await?;
        let asked = vec![Bytes::from_static(b"again"), Bytes::from_static(b"{}")];
        ensure!(ask(house.client().await?, "echo", asked.clone()).await? == asked, "{kind:?}");
        house.close().await?;
    }
    Ok(())
}

/// A worker of another service that counts the broker's heartbeats: time that passes for the broker
struct Clockwork {
    socket: DealerSocket,
}

impl Clockwork {
    async fn start(house: &House) -> Result<Self> {
        let socket = DealerSocket::new(&Context::new())?;
        within(PATIENCE, "the clock connects", socket.connect(house.endpoint())?).await??;
        socket.send(Message::multipart(["", "MDPW01", "\u{1}", "clock"].map(Bytes::from))).await?;
        Ok(Self { socket })
    }

    async fn beats(&mut self, count: u32) -> Result<()> {
        for _ in 0..count {
            let beat = within(PATIENCE, "the broker's heartbeat", self.socket.recv()).await??;
            ensure!(beat.frames().nth(2).is_some_and(|code| code[..] == *b"\x04"), "{beat:?} is no heartbeat");
            self.socket.send(beat).await?;
        }
        Ok(())
    }
}
