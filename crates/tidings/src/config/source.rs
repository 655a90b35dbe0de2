//! Where settings come from: the text of a file, the environment, flags. Text becomes raw values
//! here, once, and each value knows its origin.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::settings::{KEYS, SECTIONS, Settings};
use super::{Place, Problem, Problems};
use crate::cli::nearest;

/// Where a setting's value comes from
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    Default,
    File(Arc<Place>),
    /// The variable's name
    Environment(String),
    /// The flag's name
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => place.fmt(f),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// All places that settings are read from; kept, so that a reload reads them again
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// The file, if there is one
    pub(crate) file: Option<PathBuf>,
    /// Variables whose name begins with `TIDINGS_`
    pub(crate) environment: Vec<(String, String)>,
    /// Flag, key, text
    pub(crate) flags: Vec<(String, String, String)>,
}

impl Sources {
    /// A file and the process's environment
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("TIDINGS_") && name.contains("__"))
            .collect();
        Self { file, environment, flags: Vec::new() }
    }

    /// Sets a key as a flag does
    pub(crate) fn flag(&mut self, flag: &str, key: &str, text: impl Into<String>) {
        self.flags.push((flag.to_owned(), key.to_owned(), text.into()));
    }

    /// Reads everything and lets flags win over environment, environment over file, file over defaults
    ///
    /// # Errors
    /// All problems of all sources.
    pub(crate) fn load(&self) -> Result<Settings, Problems> {
        let mut settings = Settings::default();
        let mut problems = Vec::new();
        let mut text = None;
        if let Some(path) = &self.file {
            match read(path) {
                Ok(read) => {
                    read_file(&mut settings, &mut problems, &path.display().to_string(), &read);
                    text = Some((path.display().to_string(), read));
                }
                Err(problem) => problems.push(problem),
            }
            // Tables come in the order of their keys; people read from top to bottom
            problems.sort_by_key(|problem| match &problem.origin {
                Origin::File(place) => (place.line, place.column),
                _ => (0, 0),
            });
        }
        for (name, text) in &self.environment {
            let key = key_of_variable(name);
            assign_text(&mut settings, &mut problems, Origin::Environment(name.clone()), &key, text);
        }
        for (flag, key, text) in &self.flags {
            assign_text(&mut settings, &mut problems, Origin::Flag(flag.clone()), key, text);
        }
        for (key, origin, message, hint) in settings.unworkable() {
            let message = format!("{key}: {message}");
            problems.push(Problem { origin: origin.clone(), message, hint: Some(hint.to_owned()) });
        }
        // Only now it is known whether there are keys to protect them with
        for (key, origin, wrong) in settings.unprotected() {
            let origin = match (origin, &text) {
                (Origin::File(_), Some((file, text))) => Origin::File(Arc::new(Place::of(file, text, &wrong.span))),
                (origin, _) => origin.clone(),
            };
            problems.push(Problem { origin, message: format!("{key}: {}", wrong.message), hint: wrong.hint });
        }
        if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
    }
}

/// The environment variable that sets a key: `events.send-hwm` is `TIDINGS_EVENTS__SEND_HWM`
pub(crate) fn variable_of_key(key: &str) -> String {
    format!("TIDINGS_{}", key.replace('.', "__").replace('-', "_").to_ascii_uppercase())
}

fn key_of_variable(name: &str) -> String {
    let name = name.strip_prefix("TIDINGS_").unwrap_or(name);
    name.replace("__", ".").replace('_', "-").to_ascii_lowercase()
}

fn read(path: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(path).map_err(|error| Problem {
        origin: Origin::Flag("-c".to_owned()),
        message: format!("can't read '{}': {error}", path.display()),
        hint: Some("name a file that exists and is UTF-8 text, or name none to use the defaults".to_owned()),
    })
}

fn assign_text(settings: &mut Settings, problems: &mut Vec<Problem>, origin: Origin, key: &str, text: &str) {
    match settings.assign_text(key, text, origin.clone()) {
        None => {
            let hint = match (&origin, nearest(key, KEYS.iter().copied())) {
                (Origin::Environment(_), Some(near)) => format!("did you mean {}?", variable_of_key(near)),
                (_, Some(near)) => format!("did you mean '{near}'?"),
                (_, None) => format!("there are {}", KEYS.join(", ")),
            };
            problems.push(Problem { origin, message: format!("there is no setting '{key}'"), hint: Some(hint) });
        }
        Some(Err((message, hint))) => {
            problems.push(Problem { origin, message: format!("{key}: {message}"), hint });
        }
        Some(Ok(())) => {}
    }
}

fn read_file(settings: &mut Settings, problems: &mut Vec<Problem>, file: &str, text: &str) {
    let place = |span: std::ops::Range<usize>| Origin::File(Arc::new(Place::of(file, text, &span)));
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            problems.push(Problem {
                origin: place(error.span().unwrap_or(0..0)),
                message: error.message().to_owned(),
                hint: None,
            });
            return;
        }
    };
    for (section, value) in root.get_ref() {
        let name: &str = section.get_ref();
        let Some(known) = SECTIONS.iter().find(|known| **known == name) else {
            // A key that forgot its section is the likeliest mistake at the top
            let ending = format!(".{name}");
            let meant: Vec<&str> = KEYS.iter().copied().filter(|key| key.ends_with(&ending)).collect();
            let hint = match &meant[..] {
                [] => did_you_mean(name, SECTIONS.iter().copied()),
                keys => {
                    let lines: Vec<String> = keys.iter().map(|key| format!("[{}]", section_of(key))).collect();
                    Some(format!("there is '{}': put it below a line {}", keys.join("' and '"), lines.join(" or ")))
                }
            };
            problems.push(Problem {
                origin: place(section.span()),
                message: format!("unknown section '{name}'"),
                hint,
            });
            continue;
        };
        let DeValue::Table(table) = value.get_ref() else {
            problems.push(Problem {
                origin: place(value.span()),
                message: format!("'{known}' is a section, not {}", a_type(value.get_ref())),
                hint: Some(format!("write [{known}] on a line of its own, and its keys below")),
            });
            continue;
        };
        for (key, value) in table {
            read_key(settings, problems, &place, known, key, value);
        }
    }
}

fn read_key(
    settings: &mut Settings,
    problems: &mut Vec<Problem>,
    place: &impl Fn(std::ops::Range<usize>) -> Origin,
    section: &str,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) {
    let name: &str = key.get_ref();
    match settings.assign_toml(&format!("{section}.{name}"), value, place(value.span())) {
        None => {
            let keys = KEYS.iter().filter(|key| section_of(key) == section);
            problems.push(Problem {
                origin: place(key.span()),
                message: format!("unknown key '{name}' in [{section}]"),
                hint: did_you_mean(name, keys.filter_map(|key| key.split_once('.')).map(|(_, key)| key)),
            });
        }
        Some(Err(wrongs)) => problems.extend(wrongs.into_iter().map(|wrong| Problem {
            origin: place(wrong.span),
            message: format!("{section}.{name}: {}", wrong.message),
            hint: wrong.hint,
        })),
        Some(Ok(())) => {}
    }
}

fn section_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(section, _)| section)
}

fn did_you_mean<'a>(wrong: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    Some(match nearest(wrong, known.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
    })
}

/// A TOML value's type with its article
pub(super) fn a_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_daemon_can_work_with_is_refused_with_its_key() {
        for (key, value, expected) in [
            ("store.max-octets", "0", "store.max-octets: 0 would refuse everything"),
            ("service.max-waiting", "0", "service.max-waiting: with 0"),
            ("service.max-waiting-octets", "0", "service.max-waiting-octets: 0"),
            ("service.request-age", "1us", "service.request-age: 1us would end"),
            ("service.listen", "inproc://x", "within one process"),
            ("gossip.interval", "1ms", "gossip.interval: 1ms is too short"),
            ("gossip.id", "xyz", "gossip.id: 'xyz' is no node's id"),
            ("gossip.name", "a/b", "gossip.name: 'a/b' is no name"),
            ("gossip.advertise", "tcp://x", "gossip.advertise: 'tcp://x' is no host"),
            ("gossip.advertise", "hub:4833", "gossip.advertise: 'hub:4833' is no host"),
            ("gossip.max-octets", "0", "gossip.max-octets: 0 would refuse everything"),
            ("gossip.connect", "tcp://192.0.2.1:1", "on another host"),
        ] {
            let mut sources = Sources::default();
            sources.flag("--set", key, value);
            let found = sources.load().unwrap_err().to_string();
            assert!(found.contains(expected), "{key}: {found}");
        }
        assert!(problems("[service]\nliveness = -3")[0].contains("-3 is not a whole number from 0"));
    }

    fn problems(text: &str) -> Vec<String> {
        let mut settings = Settings::default();
        let mut problems = Vec::new();
        read_file(&mut settings, &mut problems, "t.toml", text);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unknown_keys_and_sections_are_named_with_their_place() {
        let found = problems("[events]\nsend_hwm = 5\n\n[htttp]\nlisten = \"127.0.0.1:1\"\n");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("t.toml:2:1: unknown key 'send_hwm' in [events]"), "{}", found[0]);
        assert!(found[0].ends_with("hint: did you mean 'send-hwm'?"), "{}", found[0]);
        assert!(found[1].starts_with("t.toml:4:2: unknown section 'htttp'"), "{}", found[1]);
    }

    #[test]
    fn wrong_types_values_and_syntax_have_their_place() {
        for (text, start) in [
            ("[events]\nsend-hwm = \"many\"\n", "t.toml:2:12: events.send-hwm:"),
            ("[events]\nsend-hwm = -1\n", "t.toml:2:12: events.send-hwm:"),
            ("[events]\nin = [\"tcp://127.0.0.1:1\", \"tcp:/x\"]\n", "t.toml:2:28: events.in:"),
            ("[events]\nin = [{ endpoint = \"tcp://*:1\", tls = \"a\" }]\n", "t.toml:2:20: events.in:"),
            ("[events]\nin = [{ endpoint = \"tcp://*:1\", curve = 1 }]\n", "t.toml:2:41: events.in:"),
            (
                "[events]\nin = [{ endpoint = \"tcp://*:1\", curve = true, allow-plaintext = true }]\n",
                "t.toml:2:20: events.in:",
            ),
            ("[http]\nlisten = 4839\n", "t.toml:2:10: http.listen:"),
            ("[log]\nlevel = \"loud\"\n", "t.toml:2:9: log.level:"),
            ("[shutdown]\ndeadline = \"5\"\n", "t.toml:2:12: shutdown.deadline:"),
            ("[service]\nliveness = 0\n", "t.toml:2:12: service.liveness: 0 is none"),
            ("[service]\nmax-waiting-octets = \"64 apples\"\n", "t.toml:2:22: service.max-waiting-octets:"),
            ("[service]\ncall = [\"operator *\", \"echo\"]\n", "t.toml:2:23: service.call: 'echo'"),
            ("[store]\ndurability = \"interval\"\n", "t.toml:2:14: store.durability:"),
            ("[gossip]\nfanout = 3\n", "t.toml:2:1: unknown key 'fanout' in [gossip]"),
            ("[gossip]\nfan-out = 0\n", "t.toml:2:11: gossip.fan-out: 0 is none"),
            ("[gossip]\npresence = \"some\"\n", "t.toml:2:12: gossip.presence:"),
            ("[gossip]\nlisten = [\"gossip:x\"]\n", "t.toml:2:11: gossip.listen: 'gossip:x' is a name to connect to"),
            ("[gossip]\nconnect = [\"gossip:x\", \"tcp://*:1\"]\n", "t.toml:2:24: gossip.connect:"),
            ("[gossip]\nconnect = [{ endpoint = \"gossip://x\" }]\n", "t.toml:2:25: gossip.connect: 'gossip://x'"),
            (
                "[gossip]\nconnect = [{ endpoint = \"tcp://a:1\", key = \"x\" }]\n",
                "t.toml:2:38: gossip.connect: unknown key 'key'",
            ),
            ("[gossip]\njoin = [\"node\", \"a b\"]\n", "t.toml:2:17: gossip.join: 'a b' is no role"),
            ("[gossip]\npublish = [\"operator\"]\n", "t.toml:2:12: gossip.publish: 'operator' is not a rule"),
            ("events = 3\n", "t.toml:1:10: 'events' is a section"),
            ("[events\n", "t.toml:1:8:"),
        ] {
            let found = problems(text);
            assert_eq!(found.len(), 1, "{text:?}: {found:?}");
            assert!(found[0].starts_with(start), "{text:?}: {}", found[0]);
        }
    }

    #[test]
    fn an_unprotected_listener_is_named_with_its_place_unless_there_are_keys() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.toml");
        let load = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Sources { file: Some(file.clone()), ..Sources::default() }.load()
        };
        let problems = load("[events]\nin = [\"tcp://127.0.0.1:1\", \"tcp://*:1\"]\n").unwrap_err().to_string();
        assert!(problems.contains("t.toml:2:28: events.in: 'tcp://*:1' can be reached"), "{problems}");
        assert!(problems.contains("[security]") && problems.contains("allow-plaintext = true"), "{problems}");
        assert!(load("[events]\nin = [\"tcp://*:1\"]\n[security]\nkeys = \"keys\"\n").is_ok());
        let mut sources = Sources::default();
        sources.flag("--events-in", "events.in", "tcp://*:1");
        assert!(sources.load().unwrap_err().to_string().contains("--events-in"));
    }

    #[test]
    fn a_key_without_its_section_is_sent_there() {
        let found = problems("listen = \"127.0.0.1:1\"\n");
        assert!(found[0].contains("[http]"), "{found:?}");
    }

    #[test]
    fn flags_win_over_environment_over_defaults() {
        let mut sources = Sources {
            environment: vec![
                ("TIDINGS_EVENTS__SEND_HWM".into(), "7".into()),
                ("TIDINGS_EVENTS__RECV_HWM".into(), "8".into()),
            ],
            ..Sources::default()
        };
        sources.flag("--set", "events.send-hwm", "9");
        let settings = sources.load().unwrap();
        assert_eq!(settings.events_send_hwm.value, 9);
        assert_eq!(settings.events_recv_hwm.value, 8);
        assert_eq!(settings.events_recv_hwm.origin, Origin::Environment("TIDINGS_EVENTS__RECV_HWM".into()));
        assert_eq!(settings.http_enabled.origin, Origin::Default);
    }

    #[test]
    fn unknown_variables_are_errors() {
        let sources =
            Sources { environment: vec![("TIDINGS_EVENTS__SND_HWM".into(), "7".into())], ..Sources::default() };
        let problems = sources.load().unwrap_err().to_string();
        assert!(problems.contains("did you mean TIDINGS_EVENTS__SEND_HWM?"), "{problems}");
    }

    #[test]
    fn every_key_has_a_variable_that_leads_back() {
        for key in KEYS {
            assert_eq!(key_of_variable(&variable_of_key(key)), *key);
        }
    }
}
