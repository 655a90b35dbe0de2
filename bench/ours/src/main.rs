//! tidings measured the way an application uses it: the same commands as `bench/rivals/sockets.c`.
//!
//! One message per call, default high-water marks, each body copied into a fresh message as
//! `zmq_send` does. Every process runs a current-thread tokio runtime, so the application and its
//! connections share one thread. Every command prints one line of JSON.

mod soak;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tidings_socket::{Context, Message, PullSocket, PushSocket, RepSocket, ReqSocket};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments[..] {
            ["push", endpoint, size, count] => push(endpoint, number(size)?, number(count)?).await,
            ["pull", endpoint, size, count] => pull(endpoint, number(size)?, number(count)?).await,
            ["rep", endpoint] => rep(endpoint).await,
            ["req", endpoint, size, count] => req(endpoint, number(size)?, number(count)?).await,
            ["inproc-throughput", size, count] => inproc_throughput(number(size)?, number(count)?).await,
            ["soak", minutes, rate] => soak::publisher(minutes.parse()?, rate.parse()?).await,
            ["soak-fast", endpoint] => soak::fast(endpoint).await,
            ["soak-frozen", endpoint] => soak::frozen(endpoint).await,
            ["inproc-latency", size, count] => inproc_latency(number(size)?, number(count)?).await,
            _ => bail!(
                "usage: tidings-bench-sockets push|pull|req ENDPOINT SIZE COUNT | rep ENDPOINT | inproc-throughput|inproc-latency SIZE COUNT | soak MINUTES RATE"
            ),
        }
    })
}

fn number(text: &str) -> Result<usize> {
    text.parse().with_context(|| format!("{text:?} is not a whole number"))
}

async fn push(endpoint: &str, size: usize, count: usize) -> Result<()> {
    let context = Context::new();
    let socket = PushSocket::new(&context)?;
    socket.connect(endpoint)?.await?;
    let cpu = Cpu::now();
    send_all(&socket, size, count).await?;
    let report = socket.close(Duration::from_secs(60)).await;
    if !report.is_complete() {
        bail!("not flushed: {report:?}");
    }
    let (user, system) = cpu.elapsed();
    print(&json!({"role": "push", "size": size, "messages": count, "cpu_user": user, "cpu_system": system}))
}

async fn send_all(socket: &PushSocket, size: usize, count: usize) -> Result<()> {
    let body = vec![b'x'; size];
    for _ in 0..count {
        socket.send(Message::copy_from(&body)).await?;
    }
    Ok(())
}

async fn pull(endpoint: &str, size: usize, count: usize) -> Result<()> {
    let context = Context::new();
    let socket = PullSocket::new(&context)?;
    announce(&socket.bind(endpoint)?.await?)?;
    receive_all("pull", &socket, size, count).await
}

async fn receive_all(role: &str, socket: &PullSocket, size: usize, count: usize) -> Result<()> {
    let first = socket.recv().await?;
    check(&first, size)?;
    let (start, cpu) = (Instant::now(), Cpu::now());
    for _ in 1..count {
        check(&socket.recv().await?, size)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let (user, system) = cpu.elapsed();
    print(&json!({
        "role": role, "size": size, "messages": count, "seconds": seconds,
        "messages_per_second": (count - 1) as f64 / seconds, "cpu_user": user, "cpu_system": system,
    }))
}

fn check(message: &Message, size: usize) -> Result<()> {
    if message.first().len() != size {
        bail!("a message of {} octets came where {size} were sent", message.first().len());
    }
    Ok(())
}

async fn rep(endpoint: &str) -> Result<()> {
    let context = Context::new();
    let socket = RepSocket::new(&context)?;
    announce(&socket.bind(endpoint)?.await?)?;
    let mut served = 0u64;
    let mut cpu = None;
    loop {
        let request = socket.recv().await?;
        let cpu = cpu.get_or_insert_with(Cpu::now);
        if request.first() == "END" {
            let (user, system) = cpu.elapsed();
            socket.send(request).await?;
            socket.close(Duration::from_secs(5)).await;
            return print(&json!({"role": "rep", "messages": served, "cpu_user": user, "cpu_system": system}));
        }
        served += 1;
        socket.send(request).await?;
    }
}

async fn req(endpoint: &str, size: usize, count: usize) -> Result<()> {
    let context = Context::new();
    let socket = ReqSocket::new(&context)?;
    socket.connect(endpoint)?.await?;
    ask_all("req", &socket, size, count).await?;
    socket.send("END".into()).await?;
    socket.recv().await?;
    Ok(())
}

async fn ask_all(role: &str, socket: &ReqSocket, size: usize, count: usize) -> Result<()> {
    let body = vec![b'x'; size];
    for _ in 0..count / 10 {
        round_trip(socket, &body).await?;
    }
    let mut times = Vec::with_capacity(count);
    let (start, cpu) = (Instant::now(), Cpu::now());
    for _ in 0..count {
        let start = Instant::now();
        round_trip(socket, &body).await?;
        times.push(u64::try_from(start.elapsed().as_nanos())?);
    }
    let (user, system) = cpu.elapsed();
    let seconds = start.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |per_mille: usize| times[(times.len() * per_mille / 1000).min(times.len() - 1)];
    print(&json!({
        "role": role, "size": size, "messages": count, "seconds": seconds, "mean_ns": seconds * 1e9 / count as f64,
        "min_ns": times[0], "p50_ns": at(500), "p90_ns": at(900), "p99_ns": at(990), "p99_9_ns": at(999),
        "max_ns": times[times.len() - 1], "cpu_user": user, "cpu_system": system,
    }))
}

async fn round_trip(socket: &ReqSocket, body: &[u8]) -> Result<()> {
    socket.send(Message::copy_from(body)).await?;
    check(&socket.recv().await?, body.len())
}

async fn inproc_throughput(size: usize, count: usize) -> Result<()> {
    let context = Context::new();
    let pull = PullSocket::new(&context)?;
    pull.bind("inproc://bench")?.await?;
    let push = PushSocket::new(&context)?;
    push.connect("inproc://bench")?.await?;
    // Two threads, as libzmq's side has
    let pushing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(send_all(&push, size, count))?;
        anyhow::Ok(push)
    });
    receive_all("inproc-throughput", &pull, size, count).await?;
    pushing.join().map_err(|_| anyhow::anyhow!("the sending thread panicked"))??;
    Ok(())
}

async fn inproc_latency(size: usize, count: usize) -> Result<()> {
    let context = Context::new();
    let rep = RepSocket::new(&context)?;
    rep.bind("inproc://bench")?.await?;
    let req = ReqSocket::new(&context)?;
    req.connect("inproc://bench")?.await?;
    let total = count + count / 10;
    let replying = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            for _ in 0..total {
                let request = rep.recv().await?;
                rep.send(request).await?;
            }
            anyhow::Ok(())
        })
    });
    ask_all("inproc-latency", &req, size, count).await?;
    replying.join().map_err(|_| anyhow::anyhow!("the replying thread panicked"))?
}

fn announce(endpoint: &tidings_socket::Endpoint) -> Result<()> {
    println!("listening {endpoint}");
    Ok(std::io::stdout().flush()?)
}

fn print(line: &serde_json::Value) -> Result<()> {
    println!("{line}");
    Ok(())
}

/// The process's own processor time
struct Cpu(f64, f64);

impl Cpu {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        // USER_HZ, which is 100 on Linux whatever the kernel's own tick
        Self(ticks(11) / 100.0, ticks(12) / 100.0)
    }

    fn elapsed(&self) -> (f64, f64) {
        let now = Self::now();
        (now.0 - self.0, now.1 - self.1)
    }
}
