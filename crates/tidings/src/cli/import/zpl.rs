//! `tidings import zpl`: the configuration that CZMQ's `zgossip` loads (`LOAD`, ZPL). What it says of listening and of times
//! becomes `[gossip]`; what has no counterpart stands there as a comment.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tidings_keystore::{Property, Zpl};

use super::{Imported, in_a_comment};
use crate::cli::nearest;
use crate::cli::units::display_duration;
use crate::config::{Listener, Origin, Place, Problem, Problems, Protection};

/// The configuration that does what a file of zgossip did
///
/// # Errors
/// Every line that is wrong, with its place.
pub(super) fn import(file: &str, text: &str, allow_plaintext: bool) -> Result<Imported, Problems> {
    let zpl = Zpl::parse(text).map_err(|error| {
        let hint = "zgossip refuses the whole file, too: mend the line";
        Problems(vec![problem(file, text, error.line, error.kind.to_string(), Some(hint.to_owned()))])
    })?;
    let mut reader = Reader { file, text, allow_plaintext, read: Read::default(), problems: Vec::new() };
    for property in &zpl.properties {
        match property.name.as_str() {
            "server" => property.children.iter().for_each(|child| reader.server(child)),
            "zgossip" => property.children.iter().for_each(|child| reader.gossip(child)),
            _ => reader.unknown(property, &["server", "zgossip"]),
        }
    }
    if !zpl.properties.iter().any(|property| matches!(property.name.as_str(), "server" | "zgossip")) {
        let message = "there is neither a section server nor a section zgossip".to_owned();
        let hint = "name the file that zgossip is told to LOAD".to_owned();
        reader.problems.push(problem(file, text, 1, message, Some(hint)));
    }
    match reader.problems.is_empty() {
        true => Ok(reader.read.write(file)),
        false => Err(Problems(reader.problems)),
    }
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    allow_plaintext: bool,
    read: Read,
    problems: Vec<Problem>,
}

/// What the file says, each with its line
#[derive(Default)]
struct Read {
    timeout: Option<(u64, usize)>,
    verbose: Option<(bool, &'static str, usize)>,
    listeners: Vec<(Listener, usize)>,
    /// Lines without a counterpart: what becomes a comment
    comments: Vec<String>,
    notes: Vec<String>,
}

impl Reader<'_> {
    fn server(&mut self, property: &Property) {
        let (value, line) = (property.value.trim(), property.line);
        match property.name.as_str() {
            // Lookups find the first of several
            "timeout" if self.read.timeout.is_none() => match value.parse() {
                Ok(timeout) => self.read.timeout = Some((timeout, line)),
                Err(_) => self.wrong(line, format!("server/timeout: '{value}' is no number of milliseconds"), None),
            },
            name @ ("verbose" | "animate") if self.read.verbose.is_none() => {
                let name = if name == "verbose" { "verbose" } else { "animate" };
                match value.parse::<i64>() {
                    Ok(number) => self.read.verbose = Some((number != 0, name, line)),
                    Err(_) => self.wrong(line, format!("server/{name}: '{value}' is neither 0 nor 1"), None),
                }
            }
            "timeout" | "verbose" | "animate" => {
                let name = &property.name;
                self.read
                    .comments
                    .push(format!("server/{name} (line {line}) stands there before; the first one counts."));
            }
            "background" => self.read.comments.push(format!(
                "server/background = {} (line {line}): logs go to standard error, from there to the journal.",
                in_a_comment(value)
            )),
            _ => self.unknown(property, &["timeout", "verbose", "animate", "background"]),
        }
    }

    fn gossip(&mut self, property: &Property) {
        let line = property.line;
        match property.name.as_str() {
            "bind" => match property.children.iter().find(|child| child.name == "endpoint") {
                Some(endpoint) => self.bind(endpoint.value.trim(), endpoint.line),
                None => {
                    let hint = "write a line `endpoint = tcp://…` below it, indented by 4 more".to_owned();
                    self.wrong(line, "zgossip/bind has no endpoint".to_owned(), Some(hint));
                }
            },
            "echo" => self
                .read
                .comments
                .push(format!("zgossip/echo (line {line}) said at load: {}", in_a_comment(&property.value))),
            "security" => self.security(property),
            _ => self.unknown(property, &["bind", "echo", "security"]),
        }
    }

    fn bind(&mut self, endpoint: &str, line: usize) {
        if endpoint.starts_with("inproc://") {
            let shown = in_a_comment(endpoint);
            self.read.comments.push(format!(
                "zgossip/bind/endpoint = {shown} (line {line}) was for the threads of that process: they connect to the \
                 listener now."
            ));
            self.read.notes.push(format!("line {line}: {shown} can't be reached by another program, and was left out"));
            return;
        }
        match Listener::new(endpoint, Protection::Usual) {
            Ok(usual) => {
                let opened = Listener { protection: Protection::Plaintext, ..usual.clone() };
                let local = usual.protected(false).is_ok();
                let listener = if self.allow_plaintext && !local { opened } else { usual };
                self.read.listeners.push((listener, line));
            }
            Err((message, hint)) => self.wrong(line, format!("zgossip/bind/endpoint: {message}"), hint),
        }
    }

    fn security(&mut self, section: &Property) {
        for property in &section.children {
            let (value, line) = (in_a_comment(property.value.trim()), property.line);
            match property.name.as_str() {
                "mechanism" => match value.as_str() {
                    "null" => {}
                    "curve" => {
                        self.read.comments.push(format!(
                            "zgossip/security/mechanism = curve (line {line}): [security] keys below is its counterpart."
                        ));
                        self.read.notes.push(format!(
                            "line {line}: CURVE needs a keystore: `tidings key new NAME` makes one, `tidings key trust FILE` \
                             takes the public keys of the others"
                        ));
                    }
                    "plain" => {
                        self.read.comments.push(format!(
                            "zgossip/security/mechanism = plain (line {line}) has no counterpart: passwords that the network \
                             can read protect nobody. Take CURVE ([security] keys)."
                        ));
                        self.read.notes.push(format!("line {line}: PLAIN is not offered; peers that insist on it can't connect"));
                    }
                    _ => {
                        let hint = "there are null, plain and curve".to_owned();
                        self.wrong(line, format!("zgossip/security/mechanism: '{value}' is none"), Some(hint));
                    }
                },
                "secret-key" => self.read.comments.push(format!(
                    "zgossip/security/secret-key = {value} (line {line}): that certificate belongs into the keystore's own/ \
                     (docs/src/keys.md)."
                )),
                "domain" => self.read.comments.push(format!(
                    "zgossip/security/domain = {value} (line {line}) had no effect, and has none here."
                )),
                _ => self.unknown(property, &["mechanism", "secret-key", "domain"]),
            }
        }
    }

    fn unknown(&mut self, property: &Property, known: &[&str]) {
        let (name, line) = (in_a_comment(&property.name), property.line);
        let near = nearest(&name, known.iter().copied());
        let meant = near.map(|near| format!("; did it mean '{near}'?")).unwrap_or_default();
        self.read.comments.push(format!("{name} (line {line}) means nothing to zgossip, nor here."));
        self.read.notes.push(format!("line {line}: '{name}' is none of zgossip's settings{meant} It was left out"));
    }

    fn wrong(&mut self, line: usize, message: String, hint: Option<String>) {
        self.problems.push(problem(self.file, self.text, line, message, hint));
    }
}

/// A problem with a whole line
fn problem(file: &str, text: &str, line: usize, message: String, hint: Option<String>) -> Problem {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let content = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    let indent = content.len() - content.trim_start().len();
    let span = start + indent..start + content.trim_end().len().max(indent);
    Problem { origin: Origin::File(Arc::new(Place::of(file, text, &span))), message, hint }
}

impl Read {
    fn write(mut self, file: &str) -> Imported {
        let mut text = format!(
            "# A zgossip node, from {} by `tidings import zpl`.\n\
             # CZMQ's nodes go on as they are: they connect to it, and it to them, and both speak ZGossip.\n",
            in_a_comment(file)
        );
        let open: Vec<usize> = self
            .listeners
            .iter()
            .filter(|(listener, _)| listener.protected(false).is_err())
            .map(|(_, line)| *line)
            .collect();
        if let Some(line) = open.first() {
            text.push_str(DECIDE);
            self.notes.push(format!(
                "other hosts reach the endpoint of line {line}, so this starts only with keys or with --allow-plaintext"
            ));
        }
        text.push_str("\n[gossip]\n");
        if self.listeners.is_empty() {
            text.push_str("# The file binds nothing; this is the usual place for `tidings gossip`.\nlisten = [\"tcp://127.0.0.1:4833\"]\n");
        } else {
            let lines: Vec<String> = self.listeners.iter().map(|(_, line)| line.to_string()).collect();
            let listeners: Vec<String> = self.listeners.iter().map(|(listener, _)| listener.to_string()).collect();
            _ = write!(
                text,
                "# zgossip/bind/endpoint (line {}).\nlisten = [{}]\n",
                lines.join(", "),
                listeners.join(", ")
            );
        }
        text.push_str(CONNECT);
        match self.timeout {
            Some((0, line)) => {
                _ = write!(
                    text,
                    "# server/timeout = 0 (line {line}): nobody is forgotten while connected.\nserver-timeout = \"0\"\n"
                );
            }
            Some((millis, line)) => {
                let shown = display_duration(Duration::from_millis(millis));
                _ = write!(
                    text,
                    "# server/timeout (line {line}): a client that is silent for so long is forgotten, and misses what is new\n\
                     # until it speaks again. CZMQ's own clients never say that they are there: \"0\" keeps them.\n\
                     server-timeout = \"{shown}\"\n"
                );
                self.notes.push(format!(
                    "line {}: server-timeout = \"{shown}\" forgets silent peers as zgossip did; \"0\" does not",
                    line
                ));
            }
            None => text.push_str(
                "# zgossip would forget clients after a minute of silence; here they stay while they are connected.\n\
                 server-timeout = \"0\"\n",
            ),
        }
        text.push_str(
            "\n# zgossip was alone; without these lines services and events are there, too, on loopback.\n\
                       [service]\nenabled = false\n\n[events]\nenabled = false\n",
        );
        if let Some((on, name, line)) = self.verbose {
            let level = if on { "debug" } else { "info" };
            _ = write!(text, "\n[log]\n# server/{name} (line {line}).\nlevel = \"{level}\"\n");
        }
        if !self.comments.is_empty() {
            text.push('\n');
        }
        for comment in &self.comments {
            _ = writeln!(text, "# {comment}");
        }
        Imported { toml: text, notes: self.notes }
    }
}

const DECIDE: &str = "\
#
# Other hosts can reach these listeners, and they do not encrypt: tidings starts with them only
#  - with keys (`tidings key new --pair HUB NODE`), which CZMQ's nodes have if they were built with the draft interface:
#        [security]
#        keys = \"DIRECTORY\"
#  - or with { endpoint = \"…\", allow-plaintext = true } for each, on a network that is trusted:
#    `tidings import zpl --allow-plaintext` writes it so.
";

const CONNECT: &str = "\
# Whom the node connects to is not in such files: the application said it (CONNECT). Name them here:
# connect = [\"tcp://192.0.2.1:5670\"]
";

/// Examples of the command
pub(super) const EXAMPLES: &str = "\
Examples:
  tidings import zpl zgossip.cfg
  tidings import zpl zgossip.cfg -o tidings.toml && tidings serve -c tidings.toml
  tidings import zpl zgossip.cfg --allow-plaintext    where other hosts connect, on a trusted network";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    const SAMPLE: &str = "#   the gossip of the hall\nserver\n    timeout = 10000     #  ms\n    verbose = 1\n    background = 0\n\
        zgossip\n    echo = I: starting\n    bind\n        endpoint = \"tcp://127.0.0.1:5670\"\n    bind\n        endpoint = ipc:///tmp/hall\n";

    fn settings(toml: &str) -> crate::config::Settings {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.toml");
        std::fs::write(&file, toml).unwrap();
        Sources { file: Some(file), ..Sources::default() }
            .load()
            .unwrap_or_else(|problems| panic!("{problems}\n{toml}"))
    }

    #[test]
    fn what_it_says_becomes_settings_that_load() {
        let imported = import("zgossip.cfg", SAMPLE, false).unwrap();
        let settings = settings(&imported.toml);
        let endpoints: Vec<_> = settings.gossip_listen.value.iter().map(|one| one.endpoint.as_str()).collect();
        assert_eq!(endpoints, ["tcp://127.0.0.1:5670", "ipc:///tmp/hall"]);
        assert_eq!(settings.gossip_server_timeout.value, Duration::from_secs(10));
        assert!(!settings.service_enabled.value && !settings.events_enabled.value && settings.gossip_enabled.value);
        assert_eq!(settings.log_level.value.word(), "debug");
        for part in
            ["# zgossip/echo (line 7) said at load: I: starting", "(line 9, 11)", "server/background = 0 (line 5)"]
        {
            assert!(imported.toml.contains(part), "no {part} in {}", imported.toml);
        }
    }

    #[test]
    fn without_a_timeout_nobody_is_forgotten() {
        let imported = import("x.cfg", "zgossip\n    bind\n        endpoint = tcp://127.0.0.1:*\n", false).unwrap();
        assert_eq!(settings(&imported.toml).gossip_server_timeout.value, Duration::ZERO);
        assert!(imported.notes.is_empty(), "{:?}", imported.notes);
    }

    #[test]
    fn what_others_reach_is_decided_by_a_person() {
        let open = "zgossip\n    bind\n        endpoint = tcp://*:5670\n";
        let closed = import("x.cfg", open, false).unwrap();
        assert!(closed.notes[0].contains("line 3"), "{:?}", closed.notes);
        assert!(closed.toml.contains("listen = [\"tcp://*:5670\"]"), "{}", closed.toml);
        let opened = import("x.cfg", open, true).unwrap();
        assert_eq!(settings(&opened.toml).gossip_listen.value[0].protection, Protection::Plaintext);
    }

    #[test]
    fn what_has_no_counterpart_is_a_comment() {
        let text = "server\n    timout = 5\nzgossip\n    bind\n        endpoint = inproc://x\n    security\n        mechanism = plain\n        \
                    domain = d\n        secret-key = my.cert\nmlm_server\n    auth = 1\n";
        let imported = import("x.cfg", text, false).unwrap();
        settings(&imported.toml);
        for part in [
            "timout (line 2)",
            "inproc://x (line 5)",
            "mechanism = plain (line 7)",
            "domain = d (line 8)",
            "my.cert (line 9)",
            "mlm_server (line 10)",
        ] {
            assert!(imported.toml.contains(part), "no {part} in {}", imported.toml);
        }
        assert!(imported.notes.iter().any(|note| note.contains("did it mean 'timeout'?")), "{:?}", imported.notes);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, place, part) in [
            ("server\n\ttimeout = 1\n", "x.cfg:2:2", "tab"),
            ("server\n    timeout = soon\n", "x.cfg:2:5", "no number of milliseconds"),
            ("zgossip\n    bind\n        endpoint = tcp:/x\n", "x.cfg:3:9", "zgossip/bind/endpoint"),
            ("zgossip\n    bind\n", "x.cfg:2:5", "has no endpoint"),
            ("zgossip\n    security\n        mechanism = gssapi\n", "x.cfg:3:9", "is none"),
            ("malamute\n", "x.cfg:1:1", "neither a section"),
            ("", "x.cfg:1:1", "neither a section"),
        ] {
            let problems = import("x.cfg", text, false).map(|imported| imported.toml).unwrap_err().to_string();
            assert!(problems.starts_with(place) && problems.contains(part), "{text:?}: {problems}");
        }
    }

    #[test]
    fn nothing_of_the_file_breaks_out_of_a_comment() {
        let text = "zgossip\n    echo = \"a\rservice.enabled = true\"\n";
        let imported = import("x\ny.cfg", text, false).unwrap();
        settings(&imported.toml);
        assert!(!imported.toml.lines().any(|line| line.starts_with("service.enabled") || line.starts_with("y.cfg")));
    }
}
