//! tidings measured the way an application uses it: the same roles as the rivals and the floors have.
//!
//! `tidings-bench ROLE key=value …`. A role that binds first prints `listening ENDPOINT`, and every role prints
//! one line of JSON at its end. One message per call, default high-water marks, each body copied into a fresh
//! message as `zmq_send` does. Async roles run on one current-thread runtime, so that the application and its
//! connections share a thread; with `api=blocking` a plain thread makes the blocking calls and the context has
//! an I/O thread. The status is 2 for wrong usage, 3 for a role that is not here; a role that
//! is not done after 120 seconds ends by SIGALRM.

mod arguments;
mod counted;
mod gossip;
mod inproc;
mod measure;
mod pipeline;
mod proxying;
mod publishing;
mod requests;
mod routing;
mod security;
mod services;
mod soak;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::arguments::{Arguments, Usage};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((role, rest)) = words.split_first() else {
        eprintln!("usage: tidings-bench ROLE key=value …");
        return ExitCode::from(2);
    };
    match run(role, rest) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("unsupported {role}");
            ExitCode::from(3)
        }
        Err(error) => {
            eprintln!("tidings-bench {role}: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// Plays a role to its end; false if there is none of that name
fn run(role: &str, words: &[String]) -> Result<bool> {
    if role.starts_with("soak") {
        return soak(role, words);
    }
    let arguments = Arguments::new(words)?;
    // Under valgrind a run takes longer
    if role == "counted" {
        return counted::run(arguments).map(|()| true);
    }
    // A network says by itself when it gives up
    if role != "gossip" {
        end_in_time();
    }
    allow_many_descriptors()?;
    match role {
        "push" => pipeline::push(arguments),
        "pull" => pipeline::pull(arguments),
        "rep" => requests::rep(arguments),
        "req" => requests::req(arguments),
        "connect-echo" => requests::connect_echo(arguments),
        "inproc-throughput" => inproc::throughput(arguments),
        "inproc-latency" => inproc::latency(arguments),
        "publish" => publishing::publish(arguments),
        "subscribe" => publishing::subscribe(arguments),
        "router" => routing::router(arguments),
        "dial" => routing::dial(arguments),
        "idle-server" => routing::idle_server(arguments),
        "proxy" => proxying::proxy(arguments),
        "proxy-source" => proxying::source(arguments),
        "proxy-sink" => proxying::sink(arguments),
        "proxy-client" => proxying::client(arguments),
        "proxy-worker" => proxying::worker(arguments),
        "service-broker" => services::broker(arguments),
        "service-worker" => services::worker(arguments),
        "service-client" => services::client(arguments),
        "service-store" => services::store(arguments),
        "store-enqueue" => services::enqueue(arguments),
        "service-fill" => services::fill(arguments),
        "service-idle" => services::idle(arguments),
        "gossip" => gossip::network(arguments),
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// The roles of `cargo xtask soak`, which run for as long as they are told
fn soak(role: &str, words: &[String]) -> Result<bool> {
    let (role, words) = (role.to_owned(), words.to_vec());
    on_runtime(async move {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match (role.as_str(), &words[..]) {
            ("soak", [minutes, rate]) => soak::publisher(minutes.parse()?, rate.parse()?).await?,
            ("soak-fast", [endpoint]) => soak::fast(endpoint).await?,
            ("soak-frozen", [endpoint]) => soak::frozen(endpoint).await?,
            ("soak" | "soak-fast" | "soak-frozen", _) => {
                bail!(Usage("give soak MINUTES RATE, or soak-fast|soak-frozen ENDPOINT".to_owned()))
            }
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// Runs a role on a current-thread runtime of this thread, as a task like those of its connections
///
/// The future that a runtime is entered with is woken by way of the driver instead, which costs a system call.
fn on_runtime<T: Send + 'static>(role: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::spawn(role).await? })
}

/// A run that hangs ends by SIGALRM rather than staying behind; no real one comes near this
///
/// No thread that sleeps: with a second one every system call on a descriptor counts its users, which the async
/// roles, being single-threaded, are spared in an application too.
fn end_in_time() {
    nix::unistd::alarm::set(LONGEST_RUN_SECONDS);
}

/// Lets the process have as many descriptors as it may: thousands of connections are more than the usual 1,024
fn allow_many_descriptors() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("can't raise the limit of open descriptors; see `ulimit -Hn`")
}

const LONGEST_RUN_SECONDS: u32 = 120;
