//! `svc work`: answer for a service with a command.

mod job;
mod lines;

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tidings::Message;
use tidings_majordomo::wire::Status;
use tidings_majordomo::{Failure as Refused, Handler, Loss, Request, ServeError, Worker};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::job::{Content, FAILED, Job, Refusal};
use self::lines::{Answer, Lines};
use super::broker::{BrokerArgs, Link, wrong_endpoint};
use crate::cli::exec::Command;
use crate::cli::units::{self, count};
use crate::cli::{Exit, Failure, Talk, printed};
use crate::discovery::Place;

/// What `svc work` is given
#[derive(Args, Debug)]
pub(crate) struct WorkArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// The service to answer for
    service: String,
    /// The command and its arguments, run for each request: the data of an action, or the frames as lines, are on its
    /// stdin; what it prints is the reply. TIDINGS_ACTION, TIDINGS_FRAME_0, …, TIDINGS_SERVICE, TIDINGS_ATTEMPT and
    /// TIDINGS_DEADLINE_MS tell more. If it fails, the request is refused with its last line on stderr
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Start COMMAND once and speak JSON lines with it: one for each request, one for each reply, in any order
    #[arg(long)]
    jsonl: bool,
    /// Take so many requests at once; brokers of other makes give one at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Take all requests for frames, also an action with JSON
    #[arg(long)]
    raw: bool,
    /// The action of replies; without it, that of the request
    #[arg(long, value_name = "ACTION", conflicts_with_all = ["raw", "jsonl"])]
    reply_action: Option<String>,
    /// Keep the line end at the end of what the command prints
    #[arg(long, conflicts_with = "jsonl")]
    keep_newline: bool,
    /// End after N requests
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// At the end, longest wait for requests under way; the broker has back what is left, and the exit code is 6
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "30s")]
    linger: Duration,
}

/// `tidings svc work`
///
/// # Errors
/// Refused (4), requests that were not finished (6).
pub(super) async fn run(args: WorkArgs, talk: Talk) -> Result<(), Failure> {
    let mut link = args.broker.link(talk).await?;
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::usage("there is no command to run"));
    };
    if args.service.starts_with("mmi.") {
        return Err(Failure::usage(format!(
            "'{}': brokers answer for services that begin with mmi. themselves",
            args.service
        ))
        .hint("choose another name"));
    }
    let command = Command::program(program.clone(), arguments.to_vec(), args.keep_newline);
    let how = match args.jsonl {
        true => How::Lines(Lines::new(command, args.concurrency as usize, talk)),
        false => How::Each { command, reply_action: args.reply_action.clone() },
    };
    let errand = Arc::new(Errand { how, raw: args.raw, begun: AtomicU64::new(0), ended: Notify::new() });
    let mut worker = start(&args, &link, &errand)?;
    // Those that finish what they have at a broker that is elsewhere now
    let mut leaving = JoinSet::new();
    let done = loop {
        match attend(&args, &link, &mut worker, &errand).await {
            Ok(End::Moved(place)) => {
                let moved = link.follow(place).and_then(|()| start(&args, &link, &errand));
                let next = match moved {
                    Ok(next) => next,
                    Err(failure) => break Err(failure),
                };
                let former = std::mem::replace(&mut worker, next);
                let linger = args.linger;
                leaving.spawn(async move { (former.stop(linger).await, former.stats()) });
            }
            Ok(End::Done) => break Ok(()),
            Err(failure) => break Err(failure),
        }
    };
    let all_stopped = async {
        let mut abandoned = worker.stop(args.linger).await.abandoned;
        let (mut replies, mut failed) = (0, 0);
        while let Some(left) = leaving.join_next().await {
            if let Ok((report, counts)) = left {
                abandoned += report.abandoned;
                replies += counts.replies;
                failed += counts.failed;
            }
        }
        (abandoned, replies, failed)
    };
    let report = tokio::select! {
        report = all_stopped => Some(report),
        _ = link.stop.abandoned() => None,
    };
    let mut counts = worker.stats();
    if let Some((_, replies, failed)) = report {
        counts.replies += replies;
        counts.failed += failed;
    }
    drop(worker);
    if let Some(Errand { how: How::Lines(lines), .. }) = Arc::into_inner(errand) {
        tokio::select! {
            () = lines.stop() => {}
            _ = link.stop.abandoned() => {}
        }
    }
    if talk.json {
        let summary = json!({ "ok": done.is_ok(), "service": args.service, "counts": counts });
        printed(talk.data(summary))?;
    } else {
        talk.say(format_args!("{} answered, {} refused", count(counts.replies, "request"), counts.failed));
    }
    done?;
    match report.map(|(abandoned, ..)| abandoned) {
        Some(0) => Ok(()),
        Some(left) => Err(Failure::new(
            Exit::Partial,
            "unfinished",
            format!("{} given back unfinished", count(left as u64, "request")),
        )
        .hint("--linger DURATION waits longer")),
        None => {
            Err(Failure::new(Exit::Partial, "stopped", "stopped by a second signal before everything was finished"))
        }
    }
}

/// A worker that begins to look for its broker
fn start(args: &WorkArgs, link: &Link, errand: &Arc<Errand>) -> Result<Worker, Failure> {
    Worker::builder(&link.context, link.endpoint.clone(), args.service.as_str())
        .wire(args.broker.wire)
        .concurrency(args.concurrency)
        .socket(link.options.clone())
        .serve(Shared(Arc::clone(errand)))
        .map_err(|error| match error {
            ServeError::Endpoint(error) => wrong_endpoint(&error),
            error => Failure::usage(error),
        })
}

/// How a worker's time at one broker ends well
enum End {
    Done,
    /// The broker's name leads elsewhere
    Moved(Place),
}

/// Until a signal, the count, a drain from afar, or a refusal; tells meanwhile how the worker stands
async fn attend(args: &WorkArgs, link: &Link, worker: &mut Worker, errand: &Errand) -> Result<End, Failure> {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = Told::default();
    loop {
        tokio::select! {
            biased;
            _ = link.stop.stopped() => return Ok(End::Done),
            () = errand.reached(args.count) => return Ok(End::Done),
            place = link.moved() => return Ok(End::Moved(place)),
            _ = worker.ended() => {
                link.talk.say(format_args!("the broker drained '{}'", args.service));
                return Ok(End::Done);
            }
            failure = link.watch.hopeless() => return Err(failure),
            is_ready = worker.ready(), if !told.is_ready => {
                if is_ready {
                    told.ready(args, link, worker);
                }
            }
            _ = look.tick() => told.look(args, link, worker)?,
        }
    }
}

/// What the person at the terminal knows
#[derive(Default)]
struct Told {
    is_ready: bool,
    /// Looks without a broker
    missed: u32,
    /// Those of them for which the broker itself had ended the conversation
    turned_away: u32,
}

impl Told {
    fn ready(&mut self, args: &WorkArgs, link: &Link, worker: &Worker) {
        self.is_ready = true;
        let wire = worker.wire().map_or("", |wire| wire.name());
        link.talk.say(format_args!("ready for '{}' at {} ({wire})", args.service, link.endpoint));
    }

    /// Tells when the broker is gone
    ///
    /// # Errors
    /// The broker is there, and does not want this worker.
    fn look(&mut self, args: &WorkArgs, link: &Link, worker: &Worker) -> Result<(), Failure> {
        if worker.wire().is_some() {
            (self.missed, self.turned_away) = (0, 0);
            return Ok(());
        }
        self.missed += 1;
        let loss = worker.last_loss();
        // A broker that goes says the same, but then the next attempt finds nobody
        self.turned_away = if loss == Some(Loss::Disconnected) { self.turned_away + 1 } else { 0 };
        if self.turned_away == TURNED_AWAY {
            let message = format!("the broker at {} does not take this worker for '{}'", link.endpoint, args.service);
            return Err(Failure::new(Exit::Refused, "turned-away", message).hint(
                "its log says why: mostly its `service.work` rules, or a name that is the broker's own (mmi., titanic.)",
            ));
        }
        if std::mem::take(&mut self.is_ready) || self.missed == 2 {
            let why = loss.map_or_else(|| link.watch.obstacle(), |loss| loss.to_string());
            link.talk.say(format_args!("no broker: {why}; trying again (Ctrl-C ends, `tidings serve` starts one)"));
        }
        Ok(())
    }
}

/// What is done for each request
struct Errand {
    how: How,
    raw: bool,
    begun: AtomicU64,
    /// A request has ended
    ended: Notify,
}

enum How {
    Each { command: Command, reply_action: Option<String> },
    Lines(Lines),
}

impl Errand {
    /// Waits until as many requests have begun as are wanted; the worker finishes the last ones when it stops
    async fn reached(&self, wanted: Option<u64>) {
        loop {
            let ended = self.ended.notified();
            if wanted.is_some_and(|wanted| self.begun.load(Ordering::Acquire) >= wanted) {
                return;
            }
            ended.await;
        }
    }

    async fn answer(&self, id: u64, request: &Request) -> Result<Message, Refusal> {
        let job = Job {
            service: request.service().to_string(),
            content: Content::of(request.body().clone(), self.raw),
            attempt: request.attempt(),
            deadline: request.remaining().map(|left| Instant::now() + left),
        };
        match &self.how {
            How::Each { command, reply_action } => {
                let output = command
                    .run(&job.input())
                    .await
                    .map_err(|failure| Refusal { status: FAILED, text: format!("{}: {failure}", command.name()) })?;
                job.reply(output, reply_action.as_deref())
            }
            How::Lines(lines) => {
                let mut answers = lines.ask(id, job).await;
                loop {
                    match answers.next().await {
                        Answer::Final(answer) => return answer,
                        Answer::Partial(part) => request.partial(part).await.map_err(|error| Refusal {
                            status: FAILED,
                            text: format!("a part of the reply could not be sent: {error}"),
                        })?,
                    }
                }
            }
        }
    }
}

/// The handler: the errand is asked for its count besides
struct Shared(Arc<Errand>);

impl Handler for Shared {
    async fn handle(&self, request: Request) -> Result<Message, Refused> {
        let errand = &self.0;
        let id = errand.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let answer = tokio::select! {
            answer = errand.answer(id, &request) => answer,
            // The command dies with what it was asked for
            () = request.cancelled().cancelled() => Err(Refusal { status: Status::CANCELLED.code(), text: String::new() }),
        };
        errand.ended.notify_waiters();
        answer
            .map_err(|refusal| Refused::new(Status::new(refusal.status).unwrap_or(Status::WORKER_FAILED), refusal.text))
    }
}

/// How often is looked whether the broker is there still, for the person at the terminal
const LOOK: Duration = Duration::from_secs(1);

/// Looks after which a broker that ends every conversation is taken to mean it
const TURNED_AWAY: u32 = 3;

pub(super) const EXAMPLES: &str = "\
Examples:
  tidings svc work upper -- tr a-z A-Z                   then: tidings svc call upper --raw hello
  tidings svc work reports --concurrency 4 -- ./report.sh
  tidings svc work dbmanager --reply-action config.result -- jq -c '{id, value: 21.5}'
  tidings svc work dbmanager --jsonl --concurrency 64 -- python3 dbmanager.py
  tidings svc work echo --wire mdp-0.2 -e tcp://192.0.2.1:5555 -- cat";
