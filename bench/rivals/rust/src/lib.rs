//! What the two programs share, so that they differ in the library they drive and in nothing else.
//!
//! A program is started as `PROGRAM ROLE key=value …`. A role that binds prints `listening ENDPOINT`
//! first; every role ends with one line of JSON. The roles are those of our own side in `bench/ours`.

mod arguments;
mod latencies;
mod process;
mod publications;

pub use arguments::{Arguments, Unsupported, Usage};
pub use latencies::Latencies;
pub use process::{Cpu, announce, print, resident_kib, stdin_lines, wait_until};
pub use publications::{END_TOPIC, Publication, Subscriptions, Taken};

use std::future::Future;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};

/// No role runs for more seconds: a library that hangs must not stop the whole run
pub const LONGEST: u32 = 120;

/// The request that ends a server
pub const END: &[u8] = b"END";

/// Which tokio runtime a role runs in
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// One thread for the application and its connections
    Current,
    /// As `#[tokio::main]` has it: a worker per core, the application on the main thread beside them
    Multi,
    /// A worker per core, the application a task on one of them
    Spawned,
}

/// Runs one role and turns its end into the exit code: 1 failed, 2 wrong usage, 3 not something this library does
///
/// One that takes too long ends by SIGALRM.
///
/// `choose` is the runtime that is best for the library in a role; `runtime=current|multi|spawned` overrides it.
pub fn run<F, Fut>(choose: fn(&Arguments) -> Runtime, serve: F) -> ExitCode
where
    F: FnOnce(Arguments) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    run_in(choose, |runtime, kind, arguments| match kind {
        Runtime::Spawned => runtime.block_on(async { tokio::spawn(serve(arguments)).await? }),
        Runtime::Current | Runtime::Multi => runtime.block_on(serve(arguments)),
    })
}

/// As [`run`], for a role that cannot leave the main thread
pub fn run_here<F, Fut>(choose: fn(&Arguments) -> Runtime, serve: F) -> ExitCode
where
    F: FnOnce(Arguments) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    run_in(choose, |runtime, _, arguments| runtime.block_on(serve(arguments)))
}

fn run_in<F>(choose: fn(&Arguments) -> Runtime, block_on: F) -> ExitCode
where
    F: FnOnce(&tokio::runtime::Runtime, Runtime, Arguments) -> Result<()>,
{
    process::end_after(LONGEST);
    let result = start(choose, block_on);
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("{error:#}");
    ExitCode::from(if error.is::<Usage>() {
        2
    } else if error.is::<Unsupported>() {
        3
    } else {
        1
    })
}

fn start<F>(choose: fn(&Arguments) -> Runtime, block_on: F) -> Result<()>
where
    F: FnOnce(&tokio::runtime::Runtime, Runtime, Arguments) -> Result<()>,
{
    let arguments = Arguments::of_process()?;
    let kind = match arguments.text_or("runtime", "")? {
        "" => choose(&arguments),
        "current" => Runtime::Current,
        "multi" => Runtime::Multi,
        "spawned" => Runtime::Spawned,
        other => return Err(Usage(format!("runtime={other} is none of current, multi, spawned")).into()),
    };
    let mut builder = match kind {
        Runtime::Current => tokio::runtime::Builder::new_current_thread(),
        Runtime::Multi | Runtime::Spawned => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build()?;
    let result = block_on(&runtime, kind, arguments);
    // What a library still has running must not hold the process
    runtime.shutdown_background();
    result
}

/// Fails unless a message or frame has the size that was sent
pub fn check(size: usize, sent: usize) -> Result<()> {
    if size != sent {
        bail!("a message of {size} octets came where {sent} were sent");
    }
    Ok(())
}

/// What a receiver prints; the clock starts when the first message arrived
pub fn throughput(role: &str, messages: usize, start: Instant, cpu: Cpu) -> Value {
    let seconds = start.elapsed().as_secs_f64();
    json!({
        "role": role, "messages": messages, "seconds": seconds,
        "per_second": messages.saturating_sub(1) as f64 / seconds, "cpu_seconds": cpu.elapsed(),
    })
}

/// What a sender prints; the clock starts before the first message
pub fn sent(role: &str, messages: usize, start: Instant, cpu: Cpu) -> Value {
    let seconds = start.elapsed().as_secs_f64();
    json!({
        "role": role, "messages": messages, "seconds": seconds,
        "per_second": messages as f64 / seconds, "cpu_seconds": cpu.elapsed(),
    })
}
