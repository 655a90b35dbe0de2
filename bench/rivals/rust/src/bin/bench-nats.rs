//! nats-server, Debian's, in the roles of the service benchmark, with the crate `async-nats` at both ends.
//!
//! A subject stands for the service: one responder, one requester, each a process. nats-server runs with its defaults,
//! which keep nothing on disk. `client=bare` puts a client in place of the crate that does no more than the protocol asks
//! for: a connection, lines written in blocks, replies told apart by a number in their subject.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use async_nats::ConnectOptions;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tidings_bench_rivals::{
    Arguments, Cpu, Latencies, Runtime, Unsupported, Usage, announce, check, print, run, stdin_lines,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run(best_runtime, serve)
}

/// On two cores, with the server on them too; see `bench/rivals/README.md` for the figures
fn best_runtime(_: &Arguments) -> Runtime {
    Runtime::Current
}

async fn serve(arguments: Arguments) -> Result<()> {
    let is_bare = match arguments.text_or("client", "async-nats")? {
        "async-nats" => false,
        "bare" => true,
        other => return Err(Usage(format!("client={other} is neither async-nats nor bare")).into()),
    };
    match (arguments.role(), is_bare) {
        ("service-broker", _) => broker(&arguments).await,
        ("service-worker", false) => worker(&arguments).await,
        ("service-client", false) => client(&arguments).await,
        ("service-worker", true) => bare_worker(&arguments).await,
        ("service-client", true) => bare_client(&arguments).await,
        (role, _) => Err(Unsupported(role.to_owned()).into()),
    }
}

// ---- The server ----

/// Starts nats-server and ends it when stdin closes
async fn broker(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "client"])?;
    // However this process ends, the server does not outlive it
    let server = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "nats-server", "--addr", "127.0.0.1", "--port", "-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut server = Server(server.context("can't start nats-server; apt-get install nats-server")?);
    let log = server.0.stderr.take().context("nats-server has no stderr")?;
    let mut log = BufReader::new(log).lines();
    let listens = |line: &str| Some(line.split_once("Listening for client connections on ")?.1.trim().to_owned());
    let address = loop {
        let line = log.next().context("nats-server ended before it listened; is it installed?")??;
        if let Some(address) = listens(&line) {
            break address;
        }
    };
    announce(&address)?;
    // What else it has to say must not block it
    std::thread::spawn(move || log.for_each(drop));
    let mut lines = stdin_lines();
    while lines.recv().await.is_some() {}
    print(&json!({"role": arguments.role(), "cpu_seconds": cpu_seconds(server.0.id())?}))
}

/// A server that ends with this
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail where it has ended
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The processor time of another process, in steps of 10 milliseconds
fn cpu_seconds(id: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // Behind the name, which may hold anything: state is field 3, user and system time are 14 and 15
    let (_, fields) = text.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).context("stat is short")?.parse::<f64>().map_err(anyhow::Error::from);
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

// ---- With the crate ----

/// Answers with what it was sent, until stdin closes
async fn worker(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "service", "client"])?;
    let client = connect(arguments).await?;
    let service = arguments.text("service")?.to_owned();
    let mut requests = client.subscribe(service.clone()).await?;
    // The server knows of the subscription when it has answered what came behind
    client.flush().await?;
    let cpu = Cpu::now();
    announce(&service)?;
    let mut lines = stdin_lines();
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(_) => {}
                None => break,
            },
            request = requests.next() => {
                let request = request.context("the subscription ended")?;
                let reply = request.reply.context("a request without a subject for its reply")?;
                client.publish(reply, request.payload).await?;
            }
        }
    }
    print(&json!({"role": arguments.role(), "cpu_seconds": cpu.elapsed()}))
}

/// Keeps so many requests under way
async fn client(arguments: &Arguments) -> Result<()> {
    let load = Load::new(arguments)?;
    let client = connect(arguments).await?;
    let round_trip = async || {
        let sent = Instant::now();
        let reply = client.request(load.service.clone(), load.body.clone()).await?;
        check(reply.payload.len(), load.body.len())?;
        anyhow::Ok(sent.elapsed())
    };
    for _ in 0..(load.count / 10).min(WARM_UP) {
        round_trip().await?;
    }
    let mut times = Latencies::with_capacity(load.count);
    let (start, cpu) = (Instant::now(), Cpu::now());
    let (mut sent, mut under_way) = (0, FuturesUnordered::new());
    while sent < load.count || !under_way.is_empty() {
        while sent < load.count && under_way.len() < load.in_flight {
            under_way.push(round_trip());
            sent += 1;
        }
        if let Some(time) = under_way.next().await {
            times.record(time?);
        }
    }
    load.report(arguments, times, start, cpu)
}

async fn connect(arguments: &Arguments) -> Result<async_nats::Client> {
    Ok(ConnectOptions::new().connect(arguments.text("endpoint")?).await?)
}

/// What is asked, and how often
struct Load {
    service: String,
    body: Bytes,
    count: usize,
    in_flight: usize,
}

impl Load {
    fn new(arguments: &Arguments) -> Result<Self> {
        arguments.only(&["endpoint", "service", "size", "count", "inflight", "client"])?;
        Ok(Self {
            service: arguments.text("service")?.to_owned(),
            body: vec![b'x'; arguments.number("size")?].into(),
            count: arguments.number("count")?,
            in_flight: arguments.number_or("inflight", 1)?,
        })
    }

    fn report(&self, arguments: &Arguments, times: Latencies, start: Instant, cpu: Cpu) -> Result<()> {
        let seconds = start.elapsed().as_secs_f64();
        print(&times.add_to(json!({
            "role": arguments.role(), "messages": self.count, "seconds": seconds,
            "per_second": self.count as f64 / seconds, "cpu_seconds": cpu.elapsed(),
        })))
    }
}

// ---- Without it ----

/// One connection, its octets, and messages read out of them
struct Bare {
    stream: TcpStream,
    unread: BytesMut,
    unsent: Vec<u8>,
}

/// `MSG` of the protocol: the subject, where a reply is wanted, and the payload
struct Message {
    subject: Bytes,
    reply: Option<Bytes>,
    payload: Bytes,
}

impl Bare {
    async fn connect(arguments: &Arguments) -> Result<Self> {
        let stream = TcpStream::connect(arguments.text("endpoint")?).await?;
        stream.set_nodelay(true)?;
        let mut bare = Self { stream, unread: BytesMut::with_capacity(BLOCK), unsent: Vec::with_capacity(BLOCK) };
        bare.unsent.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n");
        Ok(bare)
    }

    /// Subscribes and waits until the server has taken that
    async fn subscribe(&mut self, subject: &str) -> Result<()> {
        self.unsent.extend_from_slice(format!("SUB {subject} 1\r\nPING\r\n").as_bytes());
        self.flush().await?;
        let deadline = tokio::time::sleep(Duration::from_secs(10));
        tokio::pin!(deadline);
        loop {
            if let Some(at) = self.unread.windows(6).position(|window| window == b"PONG\r\n") {
                drop(self.unread.split_to(at + 6));
                return Ok(());
            }
            tokio::select! {
                read = self.stream.read_buf(&mut self.unread) => if read? == 0 { bail!("nats-server closed the connection") },
                () = &mut deadline => bail!("nats-server does not answer PING"),
            }
        }
    }

    fn publish(&mut self, subject: &[u8], reply: Option<&[u8]>, payload: &[u8]) {
        self.unsent.extend_from_slice(b"PUB ");
        self.unsent.extend_from_slice(subject);
        if let Some(reply) = reply {
            self.unsent.push(b' ');
            self.unsent.extend_from_slice(reply);
        }
        self.unsent.push(b' ');
        let mut digits = [0; 20];
        let (mut left, mut at) = (payload.len(), digits.len());
        while at == digits.len() || left > 0 {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        self.unsent.extend_from_slice(&digits[at..]);
        self.unsent.extend_from_slice(b"\r\n");
        self.unsent.extend_from_slice(payload);
        self.unsent.extend_from_slice(b"\r\n");
    }

    async fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.unsent).await?;
        self.unsent.clear();
        Ok(())
    }

    /// Waits for more octets
    async fn fill(&mut self) -> Result<()> {
        self.unread.reserve(BLOCK / 4);
        if self.stream.read_buf(&mut self.unread).await? == 0 {
            bail!("nats-server closed the connection");
        }
        Ok(())
    }

    /// The next whole message that is here
    fn next(&mut self) -> Result<Option<Message>> {
        loop {
            let Some(end) = self.unread.iter().position(|octet| *octet == b'\n') else { return Ok(None) };
            let line = &self.unread[..end];
            if line.starts_with(b"PING") {
                self.unsent.extend_from_slice(b"PONG\r\n");
            }
            let Some(fields) = line.strip_prefix(b"MSG ") else {
                drop(self.unread.split_to(end + 1));
                continue;
            };
            let mut words = fields.split(|octet| matches!(octet, b' ' | b'\r')).filter(|word| !word.is_empty());
            let (Some(subject), Some(_sid), Some(third)) = (words.next(), words.next(), words.next()) else {
                bail!("nats-server sent a MSG that is too short");
            };
            let (reply, size) = match words.next() {
                Some(size) => (Some(Bytes::copy_from_slice(third)), size),
                None => (None, third),
            };
            let size: usize = std::str::from_utf8(size)?.parse()?;
            let subject = Bytes::copy_from_slice(subject);
            if self.unread.len() < end + 1 + size + 2 {
                return Ok(None);
            }
            drop(self.unread.split_to(end + 1));
            let payload = self.unread.split_to(size + 2).freeze().slice(..size);
            return Ok(Some(Message { subject, reply, payload }));
        }
    }
}

async fn bare_worker(arguments: &Arguments) -> Result<()> {
    arguments.only(&["endpoint", "service", "client"])?;
    let service = arguments.text("service")?.to_owned();
    let mut bare = Bare::connect(arguments).await?;
    bare.subscribe(&service).await?;
    let cpu = Cpu::now();
    announce(&service)?;
    let mut lines = stdin_lines();
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(_) => {}
                None => break,
            },
            filled = bare.fill() => filled?,
        }
        while let Some(request) = bare.next()? {
            let reply = request.reply.context("a request without a subject for its reply")?;
            bare.publish(&reply, None, &request.payload);
        }
        bare.flush().await?;
    }
    print(&json!({"role": arguments.role(), "cpu_seconds": cpu.elapsed()}))
}

async fn bare_client(arguments: &Arguments) -> Result<()> {
    let load = Load::new(arguments)?;
    let mut bare = Bare::connect(arguments).await?;
    bare.subscribe(&format!("{INBOX}*")).await?;
    let warm_up = (load.count / 10).min(WARM_UP);
    let all = load.count + warm_up;
    let mut began = vec![Instant::now(); all];
    let mut times = Latencies::with_capacity(load.count);
    let (mut start, mut cpu, mut sent, mut answered) = (Instant::now(), Cpu::now(), 0, 0);
    while answered < all {
        // The warm-up goes one by one, and what is measured begins when it is over
        let (limit, goal) = if answered < warm_up { (1, warm_up) } else { (load.in_flight, all) };
        while sent < goal && sent - answered < limit {
            began[sent] = Instant::now();
            bare.publish(load.service.as_bytes(), Some(format!("{INBOX}{sent}").as_bytes()), &load.body);
            sent += 1;
        }
        bare.flush().await?;
        bare.fill().await?;
        while let Some(reply) = bare.next()? {
            check(reply.payload.len(), load.body.len())?;
            let number = reply.subject.get(INBOX.len()..).context("a reply to nothing")?;
            let number: usize = std::str::from_utf8(number)?.parse()?;
            let time = began.get(number).context("a reply to nothing")?.elapsed();
            answered += 1;
            if number >= warm_up {
                times.record(time);
            }
            if answered == warm_up {
                (start, cpu) = (Instant::now(), Cpu::now());
            }
        }
    }
    load.report(arguments, times, start, cpu)
}

/// What the subjects of the replies begin with
const INBOX: &str = "_INBOX.bench.";

const BLOCK: usize = 1 << 16;

/// Round trips before what is measured, one by one
const WARM_UP: usize = 1000;
