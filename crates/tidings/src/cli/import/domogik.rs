//! `tidings import domogik`: section `[mq]` of `domogik-mq.cfg`, which broker, forwarder and every program of Domogik
//! read alike. The ports stay, so that those programs go on as they are.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use super::ini::{self, Entry};
use super::{Imported, in_a_comment};
use crate::cli::nearest;
use crate::config::{Listener, Origin, Place, Problem, Problems, Protection};

/// The configuration that does what a `domogik-mq.cfg` did
///
/// # Errors
/// Every key that is missing or wrong, with its place.
pub(super) fn import(file: &str, text: &str, allow_plaintext: bool) -> Result<Imported, Problems> {
    let mut reader = Reader { file, text, problems: Vec::new() };
    let mq = reader.read();
    match mq {
        Some(mq) if reader.problems.is_empty() => Ok(mq.write(file, allow_plaintext)),
        _ => Err(Problems(reader.problems)),
    }
}

/// Section `[mq]`, understood
struct Mq {
    is_master: Found<bool>,
    log_dir_path: Found<String>,
    pid_dir_path: Found<String>,
    log_level: Found<&'static str>,
    /// `*`, or an address as it stands in an endpoint
    ip: Found<String>,
    req_rep_port: Found<u16>,
    pub_port: Found<u16>,
    sub_port: Found<u16>,
    /// Keys that mean nothing, and their lines
    unknown: Vec<(String, usize)>,
    /// Keys that stand there twice, and the line of the one that counts
    repeated: Vec<(String, usize)>,
}

/// A value and the line that it stands in
struct Found<T> {
    value: T,
    line: usize,
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn read(&mut self) -> Option<Mq> {
        let entries = match ini::parse(self.text) {
            Ok(entries) => entries,
            Err(error) => {
                self.problem(error.span, error.message, None);
                return None;
            }
        };
        let in_mq: Vec<&Entry> = entries.iter().filter(|entry| entry.section == SECTION).collect();
        if in_mq.is_empty() {
            let sections = entries.iter().map(|entry| entry.section.as_str());
            let hint = match nearest(SECTION, sections) {
                Some(near) => format!("there is a section [{near}]: is it meant? Names count as they are written"),
                None => {
                    "Domogik MQ's settings stand below a line [mq], in domogik-mq.cfg rather than domogik.cfg".into()
                }
            };
            self.problem(0..0, "there is no section [mq] with keys in it", Some(hint));
            return None;
        }
        let unknown: Vec<&&Entry> = in_mq.iter().filter(|entry| !KEYS.contains(&entry.key.as_str())).collect();
        // All of them before any is given up: whoever mends the file wants to do so once
        let is_master = self.value(&in_mq, "is_master", truth);
        let log_dir_path = self.value(&in_mq, "log_dir_path", any);
        let pid_dir_path = self.value(&in_mq, "pid_dir_path", any);
        let log_level = self.value(&in_mq, "log_level", level);
        let ip = self.value(&in_mq, "ip", address);
        let req_rep_port = self.value(&in_mq, "req_rep_port", port);
        let pub_port = self.value(&in_mq, "pub_port", port);
        let sub_port = self.value(&in_mq, "sub_port", port);
        self.distinct([("req_rep_port", &req_rep_port), ("pub_port", &pub_port), ("sub_port", &sub_port)], &in_mq);
        let repeated = KEYS.iter().filter_map(|key| {
            let mut twice = in_mq.iter().filter(|entry| entry.key == *key).rev();
            let last = twice.next()?;
            twice.next().map(|_| ((*key).to_owned(), self.line(&last.key_span)))
        });
        Some(Mq {
            repeated: repeated.collect(),
            unknown: unknown.iter().map(|entry| (entry.key.clone(), self.line(&entry.key_span))).collect(),
            is_master: is_master?,
            log_dir_path: log_dir_path?,
            pid_dir_path: pid_dir_path?,
            log_level: log_level?,
            ip: ip?,
            req_rep_port: req_rep_port?,
            pub_port: pub_port?,
            sub_port: sub_port?,
        })
    }

    /// The value of a key, of which the last counts, as with Python 2
    fn value<T>(
        &mut self,
        entries: &[&Entry],
        key: &str,
        read: impl Fn(&str) -> Result<T, (String, Option<String>)>,
    ) -> Option<Found<T>> {
        let Some(entry) = entries.iter().rev().find(|entry| entry.key == key) else {
            let strangers = entries.iter().filter(|entry| !KEYS.contains(&entry.key.as_str()));
            let near = nearest(key, strangers.clone().map(|entry| entry.key.as_str()));
            let near = near.and_then(|near| strangers.clone().find(|entry| entry.key == near));
            match near {
                Some(near) => {
                    let message = format!("'{key}' is missing, and '{}' means nothing", near.key);
                    self.problem(near.key_span.clone(), message, Some(format!("did you mean '{key}'?")));
                }
                None => self.problem(
                    entries.last().map(|entry| entry.key_span.clone()).unwrap_or_default(),
                    format!("'{key}' is missing below [mq]"),
                    Some(format!("Domogik needs it too; its usual value is {key} = {}", usual(key))),
                ),
            }
            return None;
        };
        let wrong = match read(&entry.value) {
            _ if entry.value.contains("%(") => {
                ("this refers to another key, which is not followed here".into(), Some("write the value itself".into()))
            }
            Ok(value) => return Some(Found { value, line: self.line(&entry.key_span) }),
            Err(wrong) => wrong,
        };
        self.problem(entry.value_span.clone(), format!("{key}: {}", wrong.0), wrong.1);
        None
    }

    /// Three listeners need three ports
    fn distinct(&mut self, ports: [(&str, &Option<Found<u16>>); 3], entries: &[&Entry]) {
        for (place, (key, found)) in ports.iter().enumerate() {
            let Some(found) = found else { continue };
            let same = |(_, other): &&(&str, &Option<Found<u16>>)| {
                other.as_ref().is_some_and(|other| other.value == found.value)
            };
            let Some((first, _)) = ports.iter().take(place).find(same) else { continue };
            let span = entries.iter().rev().find(|entry| entry.key == *key).map(|entry| entry.value_span.clone());
            let message = format!("{key}: port {} is taken by {first} already", found.value);
            self.problem(span.unwrap_or_default(), message, Some(format!("its usual value is {}", usual(key))));
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        Place::of(self.file, self.text, span).line
    }

    fn problem(&mut self, span: Range<usize>, message: impl Into<String>, hint: Option<String>) {
        let origin = Origin::File(Arc::new(Place::of(self.file, self.text, &span)));
        self.problems.push(Problem { origin, message: message.into(), hint });
    }
}

impl Mq {
    fn write(&self, file: &str, allow_plaintext: bool) -> Imported {
        let mut notes = Vec::new();
        let protection = if allow_plaintext { Protection::Plaintext } else { Protection::Usual };
        let listener = |port: u16| {
            let listener =
                Listener { endpoint: endpoint(&self.ip.value, port), protection: protection.clone(), span: None };
            // On this host nothing needs to be allowed
            let local = Listener { protection: Protection::Usual, ..listener.clone() };
            if local.protected(false).is_ok() { local } else { listener }
        };
        let (service, inlet, outlet) =
            (listener(self.req_rep_port.value), listener(self.pub_port.value), listener(self.sub_port.value));
        let open = service.protected(false).is_err();
        let enabled = self.is_master.value;
        let mut text = format!(
            "# Domogik MQ's broker and forwarder, from {} by `tidings import domogik`.\n\
             # Its programs find them where they were: they keep that file, and need no change.\n",
            in_a_comment(file)
        );
        if !enabled {
            notes.push(format!(
                "line {}: is_master is false: broker and forwarder run on another host, {}; nothing needs to run here",
                self.is_master.line, self.ip.value
            ));
            let line = self.is_master.line;
            _ = write!(
                text,
                "#\n# is_master is false (line {line}): another host runs them, so both are switched off here.\n"
            );
        }
        if self.ip.value == "*" {
            _ = write!(
                text,
                "#\n# ip = * (line {}): Domogik took the first address that is not loopback; this listens on all of them.\n",
                self.ip.line
            );
        }
        if open {
            text.push_str(DECIDE);
            notes.push(format!(
                "other hosts reach ip = {} (line {}), so this starts only with keys or with --allow-plaintext; Domogik's \
                 own programs have no keys",
                self.ip.value, self.ip.line
            ));
        } else if service.protection == Protection::Plaintext && enabled {
            text.push_str(ALLOWED);
            notes.push("everybody on the network may connect, read and publish, as it was with Domogik".to_owned());
        }
        let off = if enabled { "" } else { "enabled = false\n" };
        _ = write!(
            text,
            "\n[service]\n{off}\
             # The broker: req_rep_port (line {}).\n\
             listen = [{service}]\n\
             # As Domogik's broker: a worker that is silent for five of these is gone.\n\
             heartbeat-interval = \"1s\"\n\
             liveness = 5\n",
            self.req_rep_port.line
        );
        _ = write!(
            text,
            "\n[events]\n{off}\
             # The forwarder: publishers connect to pub_port (line {}), subscribers to sub_port (line {}).\n\
             in = [{inlet}]\n\
             out = [{outlet}]\n",
            self.pub_port.line, self.sub_port.line
        );
        _ = write!(
            text,
            "\n[log]\n\
             # log_level (line {}); `critical` is `error` here. Logs go to standard error, from there to the journal\n\
             # (`journalctl -u tidings`), and no longer to files in {} (line {}).\n\
             level = \"{}\"\n",
            self.log_level.line, self.log_dir_path.value, self.log_dir_path.line, self.log_level.value
        );
        _ = write!(
            text,
            "\n# pid_dir_path = {} (line {}) is not needed: systemd knows the process.\n",
            self.pid_dir_path.value, self.pid_dir_path.line
        );
        for (key, line) in &self.repeated {
            notes.push(format!("line {line}: '{key}' stands there before; this one, the last, counts"));
        }
        for (key, line) in &self.unknown {
            _ = writeln!(text, "# {} (line {line}) means nothing to Domogik MQ, nor here.", in_a_comment(key));
            notes.push(format!("line {line}: '{key}' is none of Domogik MQ's keys, and was left out"));
        }
        Imported { toml: text, notes }
    }
}

type Wrong = (String, Option<String>);

fn any(text: &str) -> Result<String, Wrong> {
    Ok(in_a_comment(text))
}

fn truth(text: &str) -> Result<bool, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err((format!("'{text}' is neither true nor false"), None)),
    }
}

fn level(text: &str) -> Result<&'static str, Wrong> {
    LEVELS.iter().find(|(name, _)| *name == text).map(|(_, level)| *level).ok_or_else(|| {
        let hint = match nearest(text, LEVELS.iter().map(|(name, _)| *name)) {
            Some(near) => format!("did you mean '{near}'?"),
            None => "there are debug, info, warning, error, critical".to_owned(),
        };
        (format!("'{text}' is not a level of Domogik"), Some(hint))
    })
}

fn port(text: &str) -> Result<u16, Wrong> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| (format!("'{text}' is not a port, 1 to 65535"), None))
}

fn address(text: &str) -> Result<String, Wrong> {
    let address = match text.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => text.to_owned(),
    };
    let wrong =
        || (format!("'{text}' is no address to listen on"), Some("write an IP address, or * for all".to_owned()));
    let is_one = !address.is_empty() && Listener::new(&endpoint(&address, 1), Protection::Usual).is_ok();
    if is_one { Ok(address) } else { Err(wrong()) }
}

fn endpoint(address: &str, port: u16) -> String {
    format!("tcp://{address}:{port}")
}

/// What the packaged file says of a key
fn usual(key: &str) -> &'static str {
    KEYS.iter().zip(USUAL).find(|(known, _)| **known == key).map_or("", |(_, usual)| usual)
}

const SECTION: &str = "mq";

const KEYS: [&str; 8] =
    ["is_master", "log_dir_path", "pid_dir_path", "log_level", "ip", "req_rep_port", "pub_port", "sub_port"];

const USUAL: [&str; 8] =
    ["true", "/var/log/domogik/", "/var/run/domogik/", "debug", "127.0.0.1", "40410", "40411", "40412"];

/// Domogik's levels, and ours
const LEVELS: [(&str, &str); 5] =
    [("debug", "debug"), ("info", "info"), ("warning", "warn"), ("error", "error"), ("critical", "error")];

const DECIDE: &str = "\
#
# Other hosts can reach these listeners, and they do not encrypt: tidings starts with them only
#  - with keys, which Domogik's own programs do not have (`tidings key new --pair HUB NODE`):
#        [security]
#        keys = \"DIRECTORY\"
#  - or with { endpoint = \"…\", allow-plaintext = true } for each, on a network that is trusted:
#    `tidings import domogik --allow-plaintext` writes it so.
";

const ALLOWED: &str = "\
#
# allow-plaintext: everybody on the network may connect, read and publish, as it was. Programs that have keys can be
# given another listener beside it, without these words and with [security] keys.
";

/// Examples of the command
pub(super) const EXAMPLES: &str = "\
Examples:
  tidings import domogik /etc/domogik/domogik-mq.cfg
  tidings import domogik /etc/domogik/domogik-mq.cfg -o tidings.toml
  tidings import domogik domogik-mq.cfg --allow-plaintext    where other hosts connect, on a trusted network
  tidings import domogik domogik-mq.cfg --json | jq -r '.notes[]'";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    const SAMPLE: &str = "[mq]\n# role\nis_master = true\nlog_dir_path = /var/log/domogik/\npid_dir_path = /var/run/domogik/\n\
                          log_level = debug\nip = 127.0.0.1\nreq_rep_port = 40410\npub_port = 40411\nsub_port = 40412\n";

    fn imported(text: &str, allow: bool) -> Imported {
        import("d.cfg", text, allow).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn load(imported: &Imported) -> Result<crate::config::Settings, Problems> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.toml");
        std::fs::write(&file, &imported.toml).unwrap();
        Sources { file: Some(file), ..Sources::default() }.load()
    }

    #[test]
    fn the_sample_keeps_its_ports_and_is_ready_to_serve() {
        let imported = imported(SAMPLE, false);
        assert!(imported.notes.is_empty(), "{:?}", imported.notes);
        let settings = load(&imported).unwrap();
        let first = |listeners: &[Listener]| listeners[0].endpoint.clone();
        assert_eq!(first(&settings.service_listen.value), "tcp://127.0.0.1:40410");
        assert_eq!(first(&settings.events_in.value), "tcp://127.0.0.1:40411");
        assert_eq!(first(&settings.events_out.value), "tcp://127.0.0.1:40412");
        assert_eq!(settings.service_liveness.value.get(), 5);
        assert_eq!(settings.log_level.value, crate::config::LogLevel::Debug);
        assert!(imported.toml.contains("(line 8)") && imported.toml.contains("/var/log/domogik/"), "{}", imported.toml);
    }

    #[test]
    fn what_other_hosts_reach_asks_for_a_decision() {
        let open = SAMPLE.replace("127.0.0.1", "*");
        let undecided = imported(&open, false);
        assert!(
            undecided.toml.contains("[security]") && undecided.toml.contains("ip = * (line 7)"),
            "{}",
            undecided.toml
        );
        assert!(undecided.notes[0].contains("--allow-plaintext"), "{:?}", undecided.notes);
        let problems = load(&undecided).unwrap_err().to_string();
        assert!(problems.contains("service.listen") && problems.contains("allow-plaintext = true"), "{problems}");
        let allowed = imported(&open, true);
        let settings = load(&allowed).unwrap();
        assert_eq!(settings.service_listen.value[0].protection, Protection::Plaintext);
        // On loopback the flag has nothing to allow
        assert!(!imported(SAMPLE, true).toml.contains("allow-plaintext"));
    }

    #[test]
    fn a_host_that_is_not_the_master_runs_nothing() {
        let imported =
            imported(&SAMPLE.replace("is_master = true", "is_master: False").replace("127.0.0.1", "192.0.2.1"), true);
        let settings = load(&imported).unwrap();
        assert!(!settings.service_enabled.value && !settings.events_enabled.value);
        assert!(imported.notes[0].contains("another host, 192.0.2.1"), "{:?}", imported.notes);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_its_place() {
        let found = |text: &str| import("d.cfg", text, false).err().map(|problems| problems.to_string()).unwrap();
        for (from, to, parts) in [
            (
                "req_rep_port",
                "req_rep_prt",
                &["d.cfg:8:1: 'req_rep_port' is missing", "did you mean 'req_rep_port'?"][..],
            ),
            ("sub_port = 40412\n", "", &["'sub_port' is missing below [mq]", "sub_port = 40412"]),
            ("debug", "verbose", &["d.cfg:6:13: log_level: 'verbose' is not a level", "critical"]),
            ("debug", "warn", &["did you mean 'warning'?"]),
            ("40411", "404110", &["d.cfg:9:12: pub_port: '404110' is not a port"]),
            ("40411", "40410", &["d.cfg:9:12: pub_port: port 40410 is taken by req_rep_port already"]),
            ("127.0.0.1", "300.1", &["d.cfg:7:6: ip: '300.1' is no address"]),
            ("127.0.0.1", "%(host)s", &["d.cfg:7:6: ip: this refers to another key"]),
            ("is_master = true", "is_master = maybe", &["d.cfg:3:13: is_master: 'maybe' is neither true nor false"]),
            ("[mq]", "[MQ]", &["no section [mq]", "there is a section [MQ]"]),
            ("[mq]\n", "", &["d.cfg:2:1: this line stands before the first section"]),
        ] {
            let problems = found(&SAMPLE.replace(from, to));
            for part in parts {
                assert!(problems.contains(part), "{to}: no {part} in {problems}");
            }
        }
        assert_eq!(import("d.cfg", "[mq]\nip = x y\n", false).err().unwrap().0.len(), 8, "all of them at once");
    }

    #[test]
    fn strange_and_repeated_keys_are_said() {
        let more = "colour = blue\nsub_port = 40413\nodd\u{7} = 1\n[other]\nx = 1\n";
        let imported = imported(&format!("{SAMPLE}{more}"), false);
        assert!(load(&imported).is_ok(), "{}", imported.toml);
        assert!(imported.notes.iter().any(|note| note.contains("line 11: 'colour'")), "{:?}", imported.notes);
        assert!(imported.notes.iter().any(|note| note.contains("line 12: 'sub_port'")), "{:?}", imported.notes);
        assert!(imported.toml.contains("40413") && !imported.toml.contains("40412"), "{}", imported.toml);
    }
}
