//! The crate `zeromq` (zmq.rs) in the roles of the engine benchmark.
//!
//! It has no inproc, no batches, no settable high-water marks (its queues hold 100,000 messages) and no
//! PUB that waits; XPUB does wait, as it writes to each subscriber in turn, so `drop=no` is XPUB.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use serde_json::json;
use tidings_bench_rivals::{
    Arguments, Cpu, END, END_TOPIC, Latencies, Publication, Runtime, Subscriptions, Taken, Unsupported, Usage,
    announce, check, print, resident_kib, run, run_here, sent, stdin_lines, throughput, wait_until,
};
use tokio::sync::mpsc::UnboundedReceiver;
use zeromq::{
    DealerSocket, PubSocket, PullSocket, PushSocket, RepSocket, ReqSocket, RouterSocket, Socket, SocketEvent,
    SocketRecv, SocketSend, SubSocket, XPubSocket, XSubSocket, ZmqMessage,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        // The crate's proxy cannot be moved between threads
        Some("proxy") => run_here(best_runtime, |arguments| async move { proxy(&arguments).await }),
        _ => run(best_runtime, serve),
    }
}

/// Short runs on two cores that others used too, the same runtime at both ends: current, multi, spawned
///
/// Medians of three to five runs that spread by half and more, so close figures decide nothing;
/// the round trips on the second and the proxies are of one run.
///
/// - 64 octets over TCP, messages per second: 3.0, 2.2, 2.6 million, and 3.1 with PULL in the first and PUSH in the
///   third, which also spares PUSH filling its queue of 100,000 messages before the first byte leaves
/// - 64 octets there and back, median: 17, 30, 17 microseconds; the slowest hundredth best on the first
/// - eight subscribers, deliveries per second: XPUB 126, 134, 174 thousand. PUB 2.1, 1.2, 1.3 million, but only on
///   the second it gets more out than one full queue when it is sent more
/// - ROUTER, 16 connections, echoes per second: 495, 376, 451 thousand; connections 8.0, 2.9, 7.6 thousand
/// - either proxy: no difference
fn best_runtime(arguments: &Arguments) -> Runtime {
    match (arguments.role(), arguments.text_or("drop", "no")) {
        ("publish", Ok("yes")) => Runtime::Multi,
        ("push" | "publish", _) => Runtime::Spawned,
        _ => Runtime::Current,
    }
}

async fn serve(arguments: Arguments) -> Result<()> {
    match arguments.role() {
        "pull" => pull(&arguments).await,
        "push" => push(&arguments).await,
        "rep" => rep(&arguments).await,
        "req" => req(&arguments).await,
        "publish" => publish(&arguments).await,
        "subscribe" => subscribe(&arguments).await,
        "router" => router(&arguments).await,
        "proxy-source" => proxy_source(&arguments).await,
        "proxy-sink" => proxy_sink(&arguments).await,
        "proxy-client" => proxy_client(&arguments).await,
        "proxy-worker" => proxy_worker(&arguments).await,
        "idle-server" => idle_server(&arguments).await,
        "connect-echo" => connect_echo(&arguments).await,
        role => Err(Unsupported(role.to_owned()).into()),
    }
}

async fn pull(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count", "batch", "frames", "api", "peers"])?;
    arguments.lacks("batch", "1")?;
    arguments.lacks("api", "async")?;
    let (size, count, frames) =
        (arguments.number("size")?, arguments.number("count")?, arguments.number_or("frames", 1)?);
    let mut socket = PullSocket::new();
    announce(&socket.bind(&arguments.bind_endpoint("endpoint")?).await?.to_string())?;
    check_message(&socket.recv().await?, size, frames)?;
    let (start, cpu) = (Instant::now(), Cpu::now());
    for _ in 1..count {
        check_message(&socket.recv().await?, size, frames)?;
    }
    print(&throughput("pull", count, start, cpu))
}

async fn push(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count", "batch", "frames", "api", "connections"])?;
    arguments.lacks("batch", "1")?;
    arguments.lacks("api", "async")?;
    let (size, count, frames): (usize, usize, usize) =
        (arguments.number("size")?, arguments.number("count")?, arguments.number_or("frames", 1)?);
    let mut sockets = Vec::new();
    for _ in 0..arguments.number_or("connections", 1)? {
        let mut socket = PushSocket::new();
        socket.connect(arguments.text("endpoint")?).await?;
        sockets.push(socket);
    }
    let body = vec![b'x'; size];
    let (start, cpu) = (Instant::now(), Cpu::now());
    let (mut left, mut next) = (count, 0);
    while left > 0 {
        let block = left.min(100);
        let at = next % sockets.len();
        for _ in 0..block {
            sockets[at].send(message(&body, frames)?).await?;
        }
        (left, next) = (left - block, next + 1);
    }
    for socket in sockets {
        flush(socket).await?;
    }
    print(&sent("push", count, start, cpu))
}

async fn rep(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "api"])?;
    arguments.lacks("api", "async")?;
    let mut socket = RepSocket::new();
    announce(&socket.bind(&arguments.bind_endpoint("endpoint")?).await?.to_string())?;
    let (mut served, mut cpu) = (0u64, None);
    loop {
        let request = socket.recv().await?;
        let cpu = *cpu.get_or_insert_with(Cpu::now);
        let last = is_end(&request);
        socket.send(request).await?;
        if last {
            return print(&json!({"role": "rep", "messages": served, "cpu_seconds": cpu.elapsed()}));
        }
        served += 1;
    }
}

async fn req(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count", "api", "rate"])?;
    arguments.lacks("api", "async")?;
    let (size, count) = (arguments.number("size")?, arguments.number("count")?);
    let rate: Option<f64> =
        if arguments.text_or("rate", "")?.is_empty() { None } else { Some(arguments.number("rate")?) };
    let mut socket = ReqSocket::new();
    socket.connect(arguments.text("endpoint")?).await?;
    let body = vec![b'x'; size];
    for _ in 0..count / 10 {
        round_trip(&mut socket, &body).await?;
    }
    let mut times = Latencies::with_capacity(count);
    let (start, cpu) = (Instant::now(), Cpu::now());
    for sequence in 0..count {
        let due = match rate {
            Some(rate) => {
                let due = start + Duration::from_secs_f64(sequence as f64 / rate);
                wait_until(due).await;
                due
            }
            None => Instant::now(),
        };
        round_trip(&mut socket, &body).await?;
        times.record(due.elapsed());
    }
    let line = sent("req", count, start, cpu);
    end(&mut socket).await?;
    print(&times.add_to(line))
}

async fn round_trip(socket: &mut ReqSocket, body: &[u8]) -> Result<()> {
    socket.send(message(body, 1)?).await?;
    check_message(&socket.recv().await?, body.len(), 1)
}

async fn end(socket: &mut ReqSocket) -> Result<()> {
    socket.send(Bytes::from_static(END).into()).await?;
    socket.recv().await?;
    Ok(())
}

async fn publish(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count", "subscribers", "subscriptions", "topics", "drop"])?;
    match arguments.text_or("drop", "no")? {
        "no" => publish_waiting(arguments).await,
        "yes" => publish_dropping(arguments).await,
        other => Err(Usage(format!("drop={other} is neither no nor yes")).into()),
    }
}

async fn publish_waiting(arguments: &Arguments) -> Result<()> {
    let mut plan = Publication::new(arguments)?;
    let mut socket = XPubSocket::new();
    announce(&socket.bind(&arguments.bind_endpoint("endpoint")?).await?.to_string())?;
    let mut awaited = plan.subscribers * plan.subscriptions;
    let mut awaited_marks = plan.subscribers;
    while awaited > 0 || awaited_marks > 0 {
        let request = socket.recv().await?;
        match request.get(0).map(|frame| frame.split_at_checked(1)) {
            Some(Some(([1], topic))) if topic == END_TOPIC.as_bytes() => {
                awaited_marks = awaited_marks.saturating_sub(1)
            }
            Some(Some(([1], _))) => awaited = awaited.saturating_sub(1),
            _ => {}
        }
    }
    let (start, cpu) = (Instant::now(), Cpu::now());
    for sequence in 0..plan.count {
        socket.send(message(plan.body(sequence), 1)?).await?;
    }
    // A send returns when the message is in the kernel's hands, so this is flushed
    let line = sent("publish", plan.count, start, cpu);
    socket.send(message(plan.end_mark(), 1)?).await?;
    print(&line)
}

/// PUB does not say who subscribed to what, so this is weaker than the others: it waits for the
/// connections, and one second more for their subscriptions
async fn publish_dropping(arguments: &Arguments) -> Result<()> {
    let mut plan = Publication::new(arguments)?;
    let mut socket = PubSocket::new();
    let mut events = socket.monitor();
    announce(&socket.bind(&arguments.bind_endpoint("endpoint")?).await?.to_string())?;
    let mut connected = 0;
    while connected < plan.subscribers {
        if let SocketEvent::Accepted(..) = events.recv().await? {
            connected += 1;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (start, cpu) = (Instant::now(), Cpu::now());
    for sequence in 0..plan.count {
        socket.send(message(plan.body(sequence), 1)?).await?;
    }
    // PUB cannot be flushed: what is sent last is known to be out when the subscribers leave
    let mut line = sent("publish", plan.count, start, cpu);
    let until = Instant::now() + Duration::from_secs(2);
    while connected > 0 && Instant::now() < until {
        socket.send(message(plan.end_mark(), 1)?).await?;
        match tokio::time::timeout(Duration::from_millis(10), events.recv()).await {
            Ok(Ok(SocketEvent::Disconnected(_))) => connected -= 1,
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(_)) => break,
        }
    }
    // Its rate is that of filling a queue: the work is done after
    line["cpu_seconds"] = json!(cpu.elapsed());
    print(&line)
}

async fn subscribe(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count", "connections", "subscriptions", "expect", "topics", "frozen"])?;
    let plan = Arc::new(Subscriptions::new(arguments)?);
    let mut readers = Vec::new();
    let mut frozen = Vec::new();
    for connection in 0..plan.connections + plan.frozen {
        let mut socket = SubSocket::new();
        for topic in plan.topics_of(connection) {
            socket.subscribe(&topic).await?;
        }
        socket.connect(arguments.text("endpoint")?).await?;
        if connection < plan.connections {
            readers.push(tokio::spawn(take_all(socket, connection, Arc::clone(&plan))));
        } else {
            frozen.push(socket);
        }
    }
    let mut taken = Vec::new();
    let mut sockets = Vec::new();
    for reader in readers {
        let (counted, socket) = reader.await??;
        taken.push(counted);
        // None leaves before all are done, as the publisher would see that
        sockets.push(socket);
    }
    print(&plan.line(&taken))
}

async fn take_all(mut socket: SubSocket, connection: usize, plan: Arc<Subscriptions>) -> Result<(Taken, SubSocket)> {
    let mut taken = Taken::default();
    let share = plan.share_of(connection);
    while taken.messages < share || plan.until_mark {
        let message = socket.recv().await?;
        let body = message.get(0).map_or(&[][..], |frame| frame);
        if body.starts_with(END_TOPIC.as_bytes()) {
            break;
        }
        check(body.len(), plan.size)?;
        taken.count(&plan);
    }
    taken.end();
    Ok((taken, socket))
}

async fn router(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint"])?;
    let mut socket = RouterSocket::new();
    announce(&socket.bind(&arguments.bind_endpoint("endpoint")?).await?.to_string())?;
    let (mut served, mut cpu) = (0u64, None);
    loop {
        let request = socket.recv().await?;
        let cpu = *cpu.get_or_insert_with(Cpu::now);
        let last = is_end(&request);
        socket.send(request).await?;
        if last {
            let line = json!({"role": "router", "messages": served, "cpu_seconds": cpu.elapsed()});
            flush(socket).await?;
            return print(&line);
        }
        served += 1;
    }
}

async fn proxy(arguments: &Arguments) -> Result<()> {
    arguments.only(&["frontend", "backend", "kind"])?;
    let (front, back) = (arguments.bind_endpoint("frontend")?, arguments.bind_endpoint("backend")?);
    let mut lines = stdin_lines();
    let cpu = match arguments.text("kind")? {
        "xsub-xpub" => {
            let (mut frontend, mut backend) = (XSubSocket::new(), XPubSocket::new());
            announce(&format!("{} {}", frontend.bind(&front).await?, backend.bind(&back).await?))?;
            let cpu = Cpu::now();
            tokio::select! {
                ended = zeromq::proxy(frontend, backend, None) => bail!("the proxy ended: {ended:?}"),
                () = closed(&mut lines) => cpu,
            }
        }
        "router-dealer" => {
            let (mut frontend, mut backend) = (RouterSocket::new(), DealerSocket::new());
            let mut events = backend.monitor();
            announce(&format!("{} {}", frontend.bind(&front).await?, backend.bind(&back).await?))?;
            let cpu = Cpu::now();
            let relay = async {
                // The proxy ends with an error if a request comes before there is a worker
                while !matches!(events.recv().await?, SocketEvent::Accepted(..)) {}
                anyhow::Ok(zeromq::proxy(frontend, backend, None).await?)
            };
            tokio::select! {
                ended = relay => bail!("the proxy ended: {ended:?}"),
                () = closed(&mut lines) => cpu,
            }
        }
        other => return Err(Usage(format!("kind={other} is neither xsub-xpub nor router-dealer")).into()),
    };
    print(&json!({"role": "proxy", "cpu_seconds": cpu.elapsed()}))
}

async fn closed(lines: &mut UnboundedReceiver<String>) {
    while lines.recv().await.is_some() {}
}

async fn proxy_source(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count"])?;
    let (size, count) = (arguments.number("size")?, arguments.number("count")?);
    let mut socket = XPubSocket::new();
    socket.connect(arguments.text("endpoint")?).await?;
    while socket.recv().await?.get(0).is_none_or(|frame| frame.first() != Some(&1)) {}
    let body = vec![b'x'; size];
    let (start, cpu) = (Instant::now(), Cpu::now());
    for _ in 0..count {
        socket.send(message(&body, 1)?).await?;
    }
    print(&sent("proxy-source", count, start, cpu))
}

async fn proxy_sink(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count"])?;
    let (size, count) = (arguments.number("size")?, arguments.number("count")?);
    let mut socket = SubSocket::new();
    socket.subscribe("").await?;
    socket.connect(arguments.text("endpoint")?).await?;
    check_message(&socket.recv().await?, size, 1)?;
    let (start, cpu) = (Instant::now(), Cpu::now());
    for _ in 1..count {
        check_message(&socket.recv().await?, size, 1)?;
    }
    print(&throughput("proxy-sink", count, start, cpu))
}

async fn proxy_client(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count", "inflight"])?;
    let (size, count, inflight): (_, usize, usize) =
        (arguments.number("size")?, arguments.number("count")?, arguments.number("inflight")?);
    let mut socket = DealerSocket::new();
    socket.connect(arguments.text("endpoint")?).await?;
    let body = vec![b'x'; size];
    let (start, cpu) = (Instant::now(), Cpu::now());
    let mut asked = inflight.min(count);
    for _ in 0..asked {
        socket.send(message(&body, 1)?).await?;
    }
    for _ in 0..count {
        check_message(&socket.recv().await?, size, 1)?;
        if asked < count {
            socket.send(message(&body, 1)?).await?;
            asked += 1;
        }
    }
    let line = sent("proxy-client", count, start, cpu);
    socket.send(Bytes::from_static(END).into()).await?;
    socket.recv().await?;
    print(&line)
}

async fn proxy_worker(arguments: &Arguments) -> Result<()> {
    // The client's, which the driver may give to both
    arguments.only(&["endpoint", "size", "count", "inflight"])?;
    let mut socket = DealerSocket::new();
    socket.connect(arguments.text("endpoint")?).await?;
    let (mut served, mut cpu) = (0u64, None);
    loop {
        let request = socket.recv().await?;
        let cpu = *cpu.get_or_insert_with(Cpu::now);
        let last = is_end(&request);
        socket.send(request).await?;
        if last {
            let line = json!({"role": "proxy-worker", "messages": served, "cpu_seconds": cpu.elapsed()});
            flush(socket).await?;
            return print(&line);
        }
        served += 1;
    }
}

async fn idle_server(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint"])?;
    let mut socket = RouterSocket::new();
    let mut events = socket.monitor();
    announce(&socket.bind(&arguments.bind_endpoint("endpoint")?).await?.to_string())?;
    let mut lines = stdin_lines();
    let mut connections = 0usize;
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event? {
                SocketEvent::Accepted(..) => connections += 1,
                SocketEvent::Disconnected(_) => connections = connections.saturating_sub(1),
                _ => {}
            },
            line = lines.recv() => match line {
                Some(_) => print(&json!({"rss_kib": resident_kib()?, "connections": connections}))?,
                None => return Ok(()),
            },
            // Nothing comes, but a connection that ends is noticed by reading
            message = socket.recv() => drop(message?),
        }
    }
}

async fn connect_echo(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "count"])?;
    let (endpoint, count) = (arguments.text("endpoint")?, arguments.number("count")?);
    let body = [b'x'; 64];
    let (start, cpu) = (Instant::now(), Cpu::now());
    for _ in 0..count {
        let mut socket = ReqSocket::new();
        socket.connect(endpoint).await?;
        round_trip(&mut socket, &body).await?;
        socket.close().await;
    }
    let line = sent("connect-echo", count, start, cpu);
    let mut socket = ReqSocket::new();
    socket.connect(endpoint).await?;
    end(&mut socket).await?;
    print(&line)
}

/// A fresh message of `frames` frames with a copy of `body` in each
fn message(body: &[u8], frames: usize) -> Result<ZmqMessage> {
    if frames == 1 {
        return Ok(Bytes::copy_from_slice(body).into());
    }
    let frames: Vec<Bytes> = (0..frames).map(|_| Bytes::copy_from_slice(body)).collect();
    ZmqMessage::try_from(frames).map_err(|_| Usage("frames=0 is no message".to_owned()).into())
}

fn check_message(message: &ZmqMessage, size: usize, frames: usize) -> Result<()> {
    if message.len() != frames {
        bail!("a message of {} frames came where {frames} were sent", message.len());
    }
    message.iter().try_for_each(|frame| check(frame.len(), size))
}

fn is_end(message: &ZmqMessage) -> bool {
    message.iter().last().is_some_and(|frame| *frame == END)
}

/// Waits until all that was sent is in the kernel's hands
///
/// The crate has no call for this. A socket's monitor ends when the last of its writers is done.
async fn flush<S: Socket>(mut socket: S) -> Result<()> {
    let mut events = socket.monitor();
    let errors = socket.close().await;
    if let Some(error) = errors.first() {
        bail!("the socket was not closed: {error}");
    }
    while events.recv().await.is_ok() {}
    Ok(())
}
