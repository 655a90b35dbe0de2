//! `svc ls`, `show`, `stats`, `ping`, `drain`: what a broker says of itself (RFC 8, MMI).

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tidings::Message;
use tidings_majordomo::wire::Status;
use tidings_majordomo::{Client, RequestError};

use super::broker::{BrokerArgs, Link};
use super::latency::display_short;
use crate::cli::output::escape;
use crate::cli::units::{self, count, display_about, display_duration, display_octets};
use crate::cli::{Exit, Failure, Talk, nearest, printed, table};

/// What `svc ls` is given
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    broker: BrokerArgs,
}

/// What commands about one service are given
#[derive(Args, Debug)]
pub(crate) struct ServiceArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// The service
    service: String,
}

/// What `svc stats` is given
#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Show them again and again, with so much time in between
    #[arg(long, value_name = "DURATION", value_parser = pause, num_args = 0..=1, default_missing_value = "2s")]
    watch: Option<Duration>,
}

/// `tidings svc ls`
///
/// # Errors
/// No broker (3), no answer (5).
pub(super) async fn ls(args: ListArgs, talk: Talk) -> Result<(), Failure> {
    let link = args.broker.link(talk).await?;
    let client = args.broker.client(&link).await?;
    let text = match client.stats().await {
        Ok(stats) if talk.json => json!({ "ok": true, "services": stats["services"] }).to_string(),
        Ok(stats) => services(&stats),
        // A broker of another make knows their names at best
        Err(error) if error.status() == Some(Status::NOT_IMPLEMENTED) => {
            let names = client.services().await.map_err(|error| link.unanswered("mmi.services", error))?;
            match talk.json {
                true => {
                    let services: Vec<Value> = names.iter().map(|name| json!({ "service": name })).collect();
                    json!({ "ok": true, "services": services }).to_string()
                }
                false => names.iter().map(|name| escape(name.as_bytes())).collect::<Vec<_>>().join("\n"),
            }
        }
        Err(error) => return Err(link.unanswered("mmi.stats", error)),
    };
    client.close();
    if text.is_empty() {
        talk.say("no services; `tidings svc work SERVICE -- COMMAND` offers one");
        return Ok(());
    }
    printed(talk.data(text)).map(|_| ())
}

/// `tidings svc show`
///
/// # Errors
/// No such service (1), no broker (3).
pub(super) async fn show(args: ServiceArgs, talk: Talk) -> Result<(), Failure> {
    let link = args.broker.link(talk).await?;
    let client = args.broker.client(&link).await?;
    let stats = ask(&client, &link, "mmi.stats", &args.service).await?;
    let Some(service) = stats["services"].get(0) else {
        let failure =
            Failure::new(Exit::Negative, "no-such-service", format!("there is no service '{}'", args.service));
        let known = client.services().await.unwrap_or_default();
        return Err(match nearest(&args.service, known.iter().map(String::as_str)) {
            Some(near) => failure.hint(format!("did you mean '{near}'?")),
            None => failure.hint("`tidings svc ls` lists those there are"),
        });
    };
    let workers = ask(&client, &link, "mmi.workers", &args.service).await?;
    client.close();
    let text = match talk.json {
        true => json!({ "ok": true, "service": service, "workers": workers }).to_string(),
        false => format!("{}\n\n{}", about(service), workers_table(&workers)),
    };
    printed(talk.data(text)).map(|_| ())
}

/// `tidings svc stats`
///
/// # Errors
/// No broker (3), no answer (5).
pub(super) async fn stats(args: StatsArgs, talk: Talk) -> Result<(), Failure> {
    let mut link = args.broker.link(talk).await?;
    let mut client = args.broker.client(&link).await?;
    let clears = args.watch.is_some() && std::io::stdout().is_terminal();
    loop {
        let stats = match (client.stats().await, args.watch) {
            (Ok(stats), _) => stats,
            // A broker that restarts is waited for: the client connects again by itself
            (Err(error), Some(pause)) if is_passing(&error) => {
                talk.say(format_args!(
                    "no answer: {}; asking again (Ctrl-C ends)",
                    escape(error.to_string().as_bytes())
                ));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    place = link.moved() => {
                        link.follow(place)?;
                        client = args.broker.client(&link).await?;
                    }
                    _ = link.stop.stopped() => return Ok(()),
                }
                continue;
            }
            (Err(error), _) => return Err(link.unanswered("mmi.stats", error)),
        };
        let text = match talk.json {
            true => json!({ "ok": true, "broker": stats }).to_string(),
            false => format!("{}\n\n{}", totals(&stats), services(&stats)),
        };
        // ECMA-48: cursor home, erase the display
        let text = if clears { format!("\x1b[H\x1b[2J{text}") } else { text };
        if !printed(talk.data(text))? {
            return Ok(());
        }
        let Some(pause) = args.watch else { return Ok(()) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            place = link.moved() => {
                link.follow(place)?;
                client = args.broker.client(&link).await?;
            }
            _ = link.stop.stopped() => return Ok(()),
        }
    }
}

/// `tidings svc ping`
///
/// # Errors
/// It has no worker (1), no broker (3), no answer (5).
pub(super) async fn ping(args: ServiceArgs, talk: Talk) -> Result<(), Failure> {
    let link = args.broker.link(talk).await?;
    let client = args.broker.client(&link).await?;
    let answer = client.ping(args.service.as_str()).await.map_err(|error| link.unanswered("mmi.service", error))?;
    client.close();
    let Some(took) = answer else {
        return Err(Failure::new(Exit::Negative, "no-worker", format!("'{}' has no worker", args.service))
            .hint("`tidings svc ls` lists the services that have"));
    };
    let text = match talk.json {
        true => json!({ "ok": true, "service": args.service, "microseconds": took.as_secs_f64() * 1e6 }).to_string(),
        false => format!("'{}' has workers; the broker answered in {}", args.service, display_short(took)),
    };
    printed(talk.data(text)).map(|_| ())
}

/// `tidings svc drain`
///
/// # Errors
/// No such service (1), no broker (3), not permitted (4).
pub(super) async fn drain(args: ServiceArgs, talk: Talk) -> Result<(), Failure> {
    let link = args.broker.link(talk).await?;
    let client = args.broker.client(&link).await?;
    let drained = client.drain(args.service.as_str()).await;
    client.close();
    drained.map_err(|error| match error.status() {
        Some(Status::NO_SUCH_SERVICE) => {
            Failure::new(Exit::Negative, "no-such-service", format!("there is no service '{}'", args.service))
        }
        Some(Status::NOT_PERMITTED) if args.service.starts_with("titanic.") => link
            .unanswered("mmi.drain", error)
            .hint("the broker answers for it itself, as long as it runs: `service.durable = false` does without"),
        Some(Status::NOT_PERMITTED) => link
            .unanswered("mmi.drain", error)
            .hint("whoever is on the broker's host may, and whoever `service.call` lets call mmi.drain"),
        _ => link.unanswered("mmi.drain", error),
    })?;
    match talk.json {
        true => printed(talk.data(json!({ "ok": true, "service": args.service }))).map(|_| ()),
        false => {
            talk.say(format_args!(
                "'{}' drains: its workers finish what they have and go; `tidings svc show {}` tells how far they are",
                args.service, args.service
            ));
            Ok(())
        }
    }
}

/// What a broker that comes back mends
fn is_passing(error: &RequestError) -> bool {
    matches!(error, RequestError::DeadlinePassed { .. } | RequestError::ConnectionLost)
        || error.status() == Some(Status::UNAVAILABLE)
}

/// Without a pause the answers would be all that the broker does
fn pause(text: &str) -> Result<Duration, String> {
    let pause = units::duration(text)?;
    if pause.is_zero() { Err("write a pause, such as 500ms".to_owned()) } else { Ok(pause) }
}

/// Asks the broker about one service, in JSON
async fn ask(client: &Client, link: &Link, about: &'static str, service: &str) -> Result<Value, Failure> {
    let answer = client.request(about, Message::from(service.to_owned())).await;
    let answer = answer.and_then(|reply| match reply.body.first() {
        b"501" => Err(RequestError::Refused {
            status: Status::NOT_IMPLEMENTED,
            text: format!("the broker does not know {about}"),
        }),
        octets => serde_json::from_slice(octets).map_err(|error| RequestError::Answer(error.to_string())),
    });
    answer.map_err(|error| link.unanswered(about, error))
}

fn services(stats: &Value) -> String {
    let Some(services) = stats["services"].as_array().filter(|services| !services.is_empty()) else {
        return String::new();
    };
    let row = |service: &Value| {
        let number = |name: &str| number(service, name).to_string();
        vec![
            text(service, "service"),
            state(service).to_owned(),
            number("workers"),
            number("idle"),
            number("waiting"),
            number("requests"),
            number("replies"),
            refused(service).to_string(),
            number("expired"),
            latency(service, "p50-us"),
            latency(service, "p99-us"),
        ]
    };
    let rows: Vec<Vec<String>> = services.iter().map(row).collect();
    let head = [
        "SERVICE",
        "STATE",
        " WORKERS",
        " IDLE",
        " WAITING",
        " REQUESTS",
        " REPLIES",
        " REFUSED",
        " EXPIRED",
        " P50",
        " P99",
    ];
    table::layout(&head, &rows)
}

fn about(service: &Value) -> String {
    let oldest = match number(service, "waiting") {
        0 => String::new(),
        _ => format!(", the oldest for {}", display_about(Duration::from_millis(number(service, "oldest-waiting-ms")))),
    };
    let by_status = service["refused"].as_object().into_iter().flatten();
    let by_status: Vec<String> =
        by_status.map(|(status, number)| format!("{}: {number}", escape(status.as_bytes()))).collect();
    let refused = if by_status.is_empty() { "0".to_owned() } else { by_status.join(", ") };
    let quantiles =
        ["p50", "p90", "p99", "max"].map(|name| format!("{name} {}", latency(service, &format!("{name}-us"))));
    let rows = [
        ("service", text(service, "service")),
        ("state", state(service).to_owned()),
        ("workers", format!("{}, {} idle", number(service, "workers"), number(service, "idle"))),
        (
            "waiting",
            format!(
                "{} ({} octets){oldest}",
                count(number(service, "waiting"), "request"),
                number(service, "waiting-octets")
            ),
        ),
        ("running", number(service, "running").to_string()),
        ("requests", number(service, "requests").to_string()),
        ("replies", number(service, "replies").to_string()),
        ("refused", refused),
        ("expired", number(service, "expired").to_string()),
        ("cancelled", number(service, "cancelled").to_string()),
        ("client gone", number(service, "client-gone").to_string()),
        ("retried", number(service, "retried").to_string()),
        ("late replies", number(service, "late").to_string()),
        ("latency", quantiles.join(", ")),
    ];
    rows.map(|(name, value)| format!("{name:<13}{value}")).join("\n")
}

fn workers_table(workers: &Value) -> String {
    let row = |worker: &Value| {
        vec![
            number(worker, "worker").to_string(),
            text(worker, "wire"),
            if worker["leaving"] == true { "leaving" } else { "up" }.to_owned(),
            format!("{}/{}", number(worker, "running"), number(worker, "concurrency")),
            number(worker, "given").to_string(),
            number(worker, "answered").to_string(),
            display_about(Duration::from_millis(number(worker, "silent-ms"))),
        ]
    };
    let rows: Vec<Vec<String>> = workers.as_array().into_iter().flatten().map(row).collect();
    match rows.is_empty() {
        true => "no workers".to_owned(),
        false => table::layout(&[" WORKER", "WIRE", "STATE", " RUNNING", " GIVEN", " ANSWERED", " SILENT"], &rows),
    }
}

fn totals(stats: &Value) -> String {
    let mut rows = vec![
        ("up".to_owned(), display_duration(Duration::from_secs(number(stats, "uptime-ms") / 1000))),
        ("peers".to_owned(), number(stats, "peers").to_string()),
        ("workers".to_owned(), number(stats, "workers").to_string()),
        (
            "outstanding".to_owned(),
            format!("{} ({} octets)", number(stats, "outstanding"), display_octets(number(stats, "octets"))),
        ),
        ("idempotency keys".to_owned(), number(stats, "keys").to_string()),
    ];
    let seen = |(name, value): (&String, &Value)| {
        let value = value.as_u64().filter(|value| *value > 0)?;
        Some((escape(name.as_bytes()), value.to_string()))
    };
    let counters = stats["counters"].as_object().into_iter().flatten();
    rows.extend(counters.filter_map(seen));
    let status = stats["refused"].as_object().into_iter().flatten();
    rows.extend(status.filter_map(seen).map(|(status, number)| (format!("refused {status}"), number)));
    let causes = stats["malformed"].as_object().into_iter().flatten();
    rows.extend(causes.filter_map(seen).map(|(cause, number)| (format!("malformed {cause}"), number)));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect::<Vec<_>>().join("\n")
}

fn state(service: &Value) -> &'static str {
    match (service["draining"] == true, number(service, "workers")) {
        (true, _) => "draining",
        (false, 0) => "no worker",
        (false, _) => "up",
    }
}

fn refused(service: &Value) -> u64 {
    service["refused"].as_object().into_iter().flatten().filter_map(|(_, number)| number.as_u64()).sum()
}

fn latency(service: &Value, name: &str) -> String {
    match number(&service["latency"], "count") {
        0 => "-".to_owned(),
        _ => display_short(Duration::from_micros(number(&service["latency"], name))),
    }
}

fn number(object: &Value, name: &str) -> u64 {
    object[name].as_u64().unwrap_or_default()
}

/// Names come from peers: what would move the cursor is shown as an escape
fn text(object: &Value, name: &str) -> String {
    escape(object[name].as_str().unwrap_or_default().as_bytes())
}

pub(super) const LS: &str = "\
Examples:
  tidings svc ls
  tidings svc ls --json | jq -r '.services[] | select(.waiting > 0) | .service'
  tidings svc ls --wire domogik -e tcp://127.0.0.1:40410    of another make: names alone";

pub(super) const SHOW: &str = "\
Examples:
  tidings svc show dbmanager
  tidings svc show dbmanager --json | jq .workers";

pub(super) const STATS: &str = "\
Examples:
  tidings svc stats
  tidings svc stats --watch
  tidings svc stats --json | jq .broker.counters";

pub(super) const PING: &str = "\
Examples:
  tidings svc ping dbmanager && echo 'somebody is there'
  tidings svc ping dbmanager --json";

pub(super) const DRAIN: &str = "\
Examples:
  tidings svc drain dbmanager        before its workers are replaced";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_rows() {
        let stats = json!({ "services": [
            { "service": "echo\u{1b}", "workers": 2, "idle": 1, "waiting": 3, "requests": 9, "replies": 4, "expired": 1,
              "refused": { "404": 1, "503": 2 }, "draining": false,
              "latency": { "count": 4, "p50-us": 80, "p99-us": 1500 } },
            { "service": "idle", "workers": 0, "draining": false, "refused": {}, "latency": { "count": 0 } },
        ] });
        let table = services(&stats);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["echo\\x1b", "up", "2", "1", "3", "9", "4", "3", "1", "80.0us", "1.50ms"]);
        assert_eq!(lines[2], ["idle", "no", "worker", "0", "0", "0", "0", "0", "0", "0", "-", "-"]);
        assert!(services(&json!({})).is_empty());
        assert!(about(&stats["services"][0]).contains("404: 1, 503: 2"), "{}", about(&stats["services"][0]));
    }

    #[test]
    fn what_was_never_counted_is_left_out() {
        let text = totals(
            &json!({ "uptime-ms": 61_000, "counters": { "requests": 3, "slow-client": 0 }, "refused": { "404": 1 } }),
        );
        assert!(text.contains("1m1s") && text.contains("requests") && text.contains("refused 404"), "{text}");
        assert!(!text.contains("slow-client"), "{text}");
    }
}
