//! The crate `rzmq` in the roles of the engine benchmark.
//!
//! Its defaults are left alone: high-water marks of 1,000, adaptive throttling on, no `TCP_CORK`, and the
//! tokio backend (io_uring is a feature of the crate and off). It has no XPUB, no proxy and no batches.
//! `AUTO_DELIMITER` is off where DEALER or ROUTER is used, as its manual says for talking to others.

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use rzmq::socket::{
    AUTO_DELIMITER, LAST_ENDPOINT, MAX_CONNECTIONS, MonitorReceiver, SUBSCRIBE, SocketEvent, XPUB_NODROP,
};
use rzmq::{Context, Msg, Socket, SocketType};
use serde_json::json;

use tidings_bench_rivals::{
    Arguments, Cpu, END, END_TOPIC, Latencies, Publication, Runtime, Subscriptions, Taken, Unsupported, Usage,
    announce, check, print, resident_kib, run, sent, stdin_lines, throughput, wait_until,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run(best_runtime, serve)
}

/// Short runs on two cores that others used too, the same runtime at both ends: current, multi, spawned
///
/// Medians of three to five runs that spread by half and more, so close figures decide nothing;
/// the round trips on the second, inproc and `idle-server` are of one run or two.
///
/// - 64 octets over TCP, messages per second: 3.2, 1.6, 2.1 million; of 65,536: 33, 26, 33 thousand
/// - 64 octets there and back, median: 23, 80, 23 microseconds; the slowest hundredth best on the first
/// - eight subscribers that all are waited for, deliveries per second: 2.1, 1.7, and 2.9 million if they run in
///   the second; with dropping it misses least so, too
/// - ROUTER, 16 connections, echoes per second: 436, 534, 464 thousand; connections 830, 600, 930
/// - inproc: 3.4 to 5.5, 2.8 to 3.7, 3.2 million messages per second; on two threads 44, 58, 24 microseconds there
///   and back, on one 1.7, 1.8, 1.9
/// - `idle-server`: on the second it once counted 980 of 1,200 connections that were made fast
fn best_runtime(arguments: &Arguments) -> Runtime {
    match (arguments.role(), arguments.text_or("threads", "2")) {
        ("router" | "subscribe", _) => Runtime::Multi,
        ("publish", _) | ("inproc-latency", Ok("2")) => Runtime::Spawned,
        _ => Runtime::Current,
    }
}

async fn serve(arguments: Arguments) -> Result<()> {
    match arguments.role() {
        "pull" => pull(&arguments).await,
        "push" => push(&arguments).await,
        "rep" => rep(&arguments).await,
        "req" => req(&arguments).await,
        "inproc-throughput" => inproc_throughput(&arguments).await,
        "inproc-latency" => inproc_latency(&arguments).await,
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
    let context = Context::new()?;
    let socket = context.socket(SocketType::Pull)?;
    bind(&socket, arguments).await?;
    receive_all("pull", &socket, size, count, frames).await
}

async fn receive_all(role: &str, socket: &Socket, size: usize, count: usize, frames: usize) -> Result<()> {
    receive(socket, size, frames).await?;
    let (start, cpu) = (Instant::now(), Cpu::now());
    for _ in 1..count {
        receive(socket, size, frames).await?;
    }
    print(&throughput(role, count, start, cpu))
}

async fn push(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count", "batch", "frames", "api", "connections"])?;
    arguments.lacks("batch", "1")?;
    arguments.lacks("api", "async")?;
    let (size, count, frames): (usize, usize, usize) =
        (arguments.number("size")?, arguments.number("count")?, arguments.number_or("frames", 1)?);
    let context = Context::new()?;
    let mut sockets = Vec::new();
    for _ in 0..arguments.number_or("connections", 1)? {
        let socket = context.socket(SocketType::Push)?;
        socket.connect(arguments.text("endpoint")?).await?;
        sockets.push(socket);
    }
    let body = vec![b'x'; size];
    let (start, cpu) = (Instant::now(), Cpu::now());
    let (mut left, mut next) = (count, 0);
    while left > 0 {
        let block = left.min(100);
        let socket = &sockets[next % sockets.len()];
        for _ in 0..block {
            send(socket, &body, frames).await?;
        }
        (left, next) = (left - block, next + 1);
    }
    flush(&context, &sockets).await?;
    print(&sent("push", count, start, cpu))
}

async fn rep(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "api"])?;
    arguments.lacks("api", "async")?;
    let context = Context::new()?;
    let socket = context.socket(SocketType::Rep)?;
    bind(&socket, arguments).await?;
    let (mut served, mut cpu) = (0u64, None);
    loop {
        let request = socket.recv().await?;
        let cpu = *cpu.get_or_insert_with(Cpu::now);
        let last = request.data() == Some(END);
        socket.send(request).await?;
        if last {
            let line = json!({"role": "rep", "messages": served, "cpu_seconds": cpu.elapsed()});
            flush(&context, &[socket]).await?;
            return print(&line);
        }
        served += 1;
    }
}

async fn req(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count", "api", "rate"])?;
    arguments.lacks("api", "async")?;
    let rate = if arguments.text_or("rate", "")?.is_empty() { None } else { Some(arguments.number("rate")?) };
    let context = Context::new()?;
    let socket = context.socket(SocketType::Req)?;
    socket.connect(arguments.text("endpoint")?).await?;
    let line = ask_all("req", &socket, arguments.number("size")?, arguments.number("count")?, rate).await?;
    end(&socket).await?;
    print(&line)
}

async fn ask_all(
    role: &str,
    socket: &Socket,
    size: usize,
    count: usize,
    rate: Option<f64>,
) -> Result<serde_json::Value> {
    let body = vec![b'x'; size];
    for _ in 0..count / 10 {
        round_trip(socket, &body).await?;
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
        round_trip(socket, &body).await?;
        times.record(due.elapsed());
    }
    Ok(times.add_to(sent(role, count, start, cpu)))
}

async fn round_trip(socket: &Socket, body: &[u8]) -> Result<()> {
    send(socket, body, 1).await?;
    receive(socket, body.len(), 1).await
}

async fn end(socket: &Socket) -> Result<()> {
    socket.send(Msg::from_static(END)).await?;
    socket.recv().await?;
    Ok(())
}

async fn inproc_throughput(arguments: &Arguments) -> Result<()> {
    arguments.only(&["size", "count"])?;
    let (size, count) = (arguments.number("size")?, arguments.number("count")?);
    let context = Context::new()?;
    let pull = context.socket(SocketType::Pull)?;
    pull.bind("inproc://bench").await?;
    let (done, received) = tokio::sync::oneshot::channel();
    let sending = on_a_thread(move || async move {
        let push = context.socket(SocketType::Push)?;
        push.connect("inproc://bench").await?;
        let body = vec![b'x'; size];
        for _ in 0..count {
            send(&push, &body, 1).await?;
        }
        // The socket is held until the other side took it all
        Ok(received.await?)
    });
    receive_all("inproc-throughput", &pull, size, count, 1).await?;
    done.send(()).ok();
    sending.join().map_err(|_| anyhow::anyhow!("the sending thread panicked"))?
}

async fn inproc_latency(arguments: &Arguments) -> Result<()> {
    arguments.only(&["size", "count", "threads"])?;
    let (size, count) = (arguments.number("size")?, arguments.number("count")?);
    let context = Context::new()?;
    let rep = context.socket(SocketType::Rep)?;
    rep.bind("inproc://bench").await?;
    let asking = async move {
        let req = context.socket(SocketType::Req)?;
        req.connect("inproc://bench").await?;
        let line = ask_all("inproc-latency", &req, size, count, None).await?;
        anyhow::Ok(line)
    };
    let replying = async move {
        loop {
            let request = rep.recv().await?;
            rep.send(request).await?;
        }
    };
    match arguments.number_or("threads", 2)? {
        1 => {
            let replying: tokio::task::JoinHandle<Result<()>> = tokio::spawn(replying);
            let line = tokio::spawn(asking).await??;
            replying.abort();
            print(&line)
        }
        2 => {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            on_a_thread(move || async move {
                sender.send(asking.await).ok();
                Ok(())
            });
            let replying: Result<()> = tokio::select! {
                line = receiver => return print(&line??),
                ended = replying => ended,
            };
            replying
        }
        other => Err(Usage(format!("threads={other} is neither 1 nor 2")).into()),
    }
}

/// Runs a task in a runtime on a thread of its own
fn on_a_thread<F, Fut>(task: F) -> std::thread::JoinHandle<Result<()>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>>,
{
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(task());
        if let Err(error) = &result {
            eprintln!("on the second thread: {error:#}");
        }
        result
    })
}

/// PUB does not say who subscribed to what, so this is weaker than the others: it waits for the
/// connections, and one second more for their subscriptions
async fn publish(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count", "subscribers", "subscriptions", "topics", "drop"])?;
    let mut plan = Publication::new(arguments)?;
    let context = Context::new()?;
    let socket = context.socket(SocketType::Pub)?;
    let dropping = match arguments.text_or("drop", "no")? {
        "no" => false,
        "yes" => true,
        other => return Err(Usage(format!("drop={other} is neither no nor yes")).into()),
    };
    if !dropping {
        socket.set_option(XPUB_NODROP, 1i32).await?;
    }
    // Room for what each connection says while it is set up, as events are dropped when it is full
    let events = socket.monitor(1024 + 8 * plan.subscribers).await?;
    bind(&socket, arguments).await?;
    let mut connected = Connected::default();
    while connected.0.len() < plan.subscribers {
        connected.note(next(&events).await?);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (start, cpu) = (Instant::now(), Cpu::now());
    for sequence in 0..plan.count {
        send(&socket, plan.body(sequence), 1).await?;
    }
    let mut line = sent("publish", plan.count, start, cpu);
    if dropping {
        let until = Instant::now() + Duration::from_secs(2);
        while !connected.0.is_empty() && Instant::now() < until {
            send(&socket, plan.end_mark(), 1).await?;
            let step = Instant::now() + Duration::from_millis(10);
            while let Ok(event) = tokio::time::timeout_at(step.into(), next(&events)).await {
                connected.note(event?);
            }
        }
    } else {
        send(&socket, plan.end_mark(), 1).await?;
        flush(&context, &[socket]).await?;
    }
    line["cpu_seconds"] = json!(cpu.elapsed());
    print(&line)
}

/// The connections whose handshake is done; a connection can be reported gone more than once
#[derive(Default)]
struct Connected(HashSet<String>);

impl Connected {
    fn note(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::HandshakeSucceeded { endpoint } => drop(self.0.insert(endpoint)),
            SocketEvent::Disconnected { endpoint } => drop(self.0.remove(&endpoint)),
            _ => {}
        }
    }
}

async fn next(events: &MonitorReceiver) -> Result<SocketEvent> {
    events.recv().await.map_err(|error| anyhow::anyhow!("the socket's monitor ended: {error}"))
}

async fn subscribe(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count", "connections", "subscriptions", "expect", "topics", "frozen"])?;
    let plan = Arc::new(Subscriptions::new(arguments)?);
    let context = Context::new()?;
    let mut readers = Vec::new();
    let mut sockets = Vec::new();
    for connection in 0..plan.connections + plan.frozen {
        let socket = context.socket(SocketType::Sub)?;
        socket.connect(arguments.text("endpoint")?).await?;
        // After the connecting: some hundred subscriptions made before it hang the socket
        for topic in plan.topics_of(connection) {
            socket.set_option(SUBSCRIBE, topic).await?;
        }
        if connection < plan.connections {
            readers.push(tokio::spawn(take_all(socket.clone(), connection, Arc::clone(&plan))));
        }
        // None leaves before all are done, as the publisher would see that
        sockets.push(socket);
    }
    let mut taken = Vec::new();
    for reader in readers {
        taken.push(reader.await??);
    }
    print(&plan.line(&taken))
}

async fn take_all(socket: Socket, connection: usize, plan: Arc<Subscriptions>) -> Result<Taken> {
    let mut taken = Taken::default();
    let share = plan.share_of(connection);
    while taken.messages < share || plan.until_mark {
        let message = socket.recv().await?;
        let body = message.data().unwrap_or_default();
        if body.starts_with(END_TOPIC.as_bytes()) {
            break;
        }
        check(body.len(), plan.size)?;
        taken.count(&plan);
    }
    taken.end();
    Ok(taken)
}

async fn router(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint"])?;
    let context = Context::new()?;
    let socket = context.socket(SocketType::Router)?;
    socket.set_option(AUTO_DELIMITER, false).await?;
    bind(&socket, arguments).await?;
    echo("router", &context, socket).await
}

async fn proxy_worker(arguments: &Arguments) -> Result<()> {
    // The client's, which the driver may give to both
    arguments.only(&["endpoint", "size", "count", "inflight"])?;
    let context = Context::new()?;
    let socket = context.socket(SocketType::Dealer)?;
    socket.set_option(AUTO_DELIMITER, false).await?;
    socket.connect(arguments.text("endpoint")?).await?;
    echo("proxy-worker", &context, socket).await
}

async fn echo(role: &str, context: &Context, socket: Socket) -> Result<()> {
    let (mut served, mut cpu) = (0u64, None);
    loop {
        let request = socket.recv_multipart().await?;
        let cpu = *cpu.get_or_insert_with(Cpu::now);
        let last = request.last().and_then(Msg::data) == Some(END);
        socket.send_multipart(request).await?;
        if last {
            let line = json!({"role": role, "messages": served, "cpu_seconds": cpu.elapsed()});
            flush(context, &[socket]).await?;
            return print(&line);
        }
        served += 1;
    }
}

/// As weak as `publish`: it waits for the connection, and one second more for the subscription
async fn proxy_source(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count"])?;
    let (size, count) = (arguments.number("size")?, arguments.number("count")?);
    let context = Context::new()?;
    let socket = context.socket(SocketType::Pub)?;
    socket.set_option(XPUB_NODROP, 1i32).await?;
    let events = socket.monitor_default().await?;
    socket.connect(arguments.text("endpoint")?).await?;
    while !matches!(next(&events).await?, SocketEvent::HandshakeSucceeded { .. }) {}
    tokio::time::sleep(Duration::from_secs(1)).await;
    let body = vec![b'x'; size];
    let (start, cpu) = (Instant::now(), Cpu::now());
    for _ in 0..count {
        send(&socket, &body, 1).await?;
    }
    flush(&context, &[socket]).await?;
    print(&sent("proxy-source", count, start, cpu))
}

async fn proxy_sink(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count"])?;
    let context = Context::new()?;
    let socket = context.socket(SocketType::Sub)?;
    socket.set_option(SUBSCRIBE, "").await?;
    socket.connect(arguments.text("endpoint")?).await?;
    receive_all("proxy-sink", &socket, arguments.number("size")?, arguments.number("count")?, 1).await
}

async fn proxy_client(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "size", "count", "inflight"])?;
    let (size, count, inflight): (_, usize, usize) =
        (arguments.number("size")?, arguments.number("count")?, arguments.number("inflight")?);
    let context = Context::new()?;
    let socket = context.socket(SocketType::Dealer)?;
    socket.set_option(AUTO_DELIMITER, false).await?;
    socket.connect(arguments.text("endpoint")?).await?;
    let body = vec![b'x'; size];
    let (start, cpu) = (Instant::now(), Cpu::now());
    let mut asked = inflight.min(count);
    for _ in 0..asked {
        send(&socket, &body, 1).await?;
    }
    for _ in 0..count {
        receive(&socket, size, 1).await?;
        if asked < count {
            send(&socket, &body, 1).await?;
            asked += 1;
        }
    }
    let line = sent("proxy-client", count, start, cpu);
    end(&socket).await?;
    print(&line)
}

async fn idle_server(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint"])?;
    let context = Context::new()?;
    let socket = context.socket(SocketType::Router)?;
    // It takes 1,024 connections otherwise; with -1, which it documents as no limit, it panics
    socket.set_option(MAX_CONNECTIONS, 100_000i32).await?;
    // Read all the time, and still much may come at once
    let events = socket.monitor(10_000).await?;
    bind(&socket, arguments).await?;
    let mut lines = stdin_lines();
    let mut connected = Connected::default();
    loop {
        tokio::select! {
            biased;
            event = next(&events) => connected.note(event?),
            line = lines.recv() => match line {
                Some(_) => print(&json!({"rss_kib": resident_kib()?, "connections": connected.0.len()}))?,
                None => return Ok(()),
            },
        }
    }
}

async fn connect_echo(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "count"])?;
    let (endpoint, count) = (arguments.text("endpoint")?, arguments.number("count")?);
    let context = Context::new()?;
    let body = [b'x'; 64];
    let (start, cpu) = (Instant::now(), Cpu::now());
    for _ in 0..count {
        let socket = context.socket(SocketType::Req)?;
        socket.connect(endpoint).await?;
        round_trip(&socket, &body).await?;
        socket.close().await?;
    }
    let line = sent("connect-echo", count, start, cpu);
    let socket = context.socket(SocketType::Req)?;
    socket.connect(endpoint).await?;
    end(&socket).await?;
    print(&line)
}

async fn bind(socket: &Socket, arguments: &Arguments) -> Result<()> {
    socket.bind(&arguments.bind_endpoint("endpoint")?).await?;
    let bound = String::from_utf8(socket.get_option(LAST_ENDPOINT).await?).context("the bound endpoint is text")?;
    announce(bound.trim_end_matches('\0'))
}

/// Sends a fresh message of `frames` frames with a copy of `body` in each
async fn send(socket: &Socket, body: &[u8], frames: usize) -> Result<()> {
    let frame = || Msg::from_bytes(Bytes::copy_from_slice(body));
    match frames {
        0 => Err(Usage("frames=0 is no message".to_owned()).into()),
        1 => Ok(socket.send(frame()).await?),
        _ => Ok(socket.send_multipart((0..frames).map(|_| frame()).collect()).await?),
    }
}

async fn receive(socket: &Socket, size: usize, frames: usize) -> Result<()> {
    if frames == 1 {
        let message = socket.recv().await?;
        if message.is_more() {
            bail!("a message of more frames came where one was sent");
        }
        return check(message.size(), size);
    }
    let message = socket.recv_multipart().await?;
    if message.len() != frames {
        bail!("a message of {} frames came where {frames} were sent", message.len());
    }
    message.iter().try_for_each(|frame| check(frame.size(), size))
}

/// Closes and waits until all that was sent is out; the crate gives up after ten seconds
async fn flush(context: &Context, sockets: &[Socket]) -> Result<()> {
    for socket in sockets {
        socket.close().await?;
    }
    Ok(context.term().await?)
}
