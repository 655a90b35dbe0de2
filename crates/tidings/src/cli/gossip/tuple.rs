//! A tuple on standard output: for people in a line, for programs as an object.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::cli::output::{escape, json_frame};
use crate::cli::units::display_octets;
use crate::discovery::{Life, Told};

/// The names of nodes, by their ids
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    /// From what a node says of its members
    pub(super) fn read(members: &Value) -> Self {
        let named = |member: &Value| {
            let name = member["name"].as_str().filter(|name| !name.is_empty())?;
            Some((member["id"].as_str()?.to_owned(), name.to_owned()))
        };
        Self(members.as_array().into_iter().flatten().filter_map(named).collect())
    }

    fn of(&self, tuple: &Told) -> Option<&str> {
        self.0.get(tuple.about.owner.as_deref()?).map(String::as_str)
    }
}

/// As an object of `--json`
pub(super) fn tuple_json(tuple: &Told, names: &Names) -> Value {
    let (lifetime, remaining) = match tuple.about.life {
        Life::Unknown => (None, None),
        Life::Permanent => (Some("permanent"), None),
        Life::Session => (Some("session"), None),
        Life::Left(left) => (Some("ttl"), Some(left)),
    };
    json!({
        "key": json_frame(&tuple.key), "value": json_frame(&tuple.value), "owner": tuple.about.owner,
        "owner-name": names.of(tuple), "lifetime": lifetime, "remaining-ms": remaining, "stamp-us": tuple.about.stamp_us,
    })
}

/// Key and value on one line
pub(super) fn line(tuple: &Told) -> String {
    format!("{} {}", escape(&tuple.key), escape(&tuple.value))
}

/// The columns of `ls --long`, in the order of [`LONG`]
pub(super) fn long(tuple: &Told, names: &Names, now_us: u64) -> Vec<String> {
    let owner = names.of(tuple).or(tuple.about.owner.as_deref()).unwrap_or("-");
    let dated = tuple.about.stamp_us.filter(|stamp| *stamp >= DATED);
    let age = dated.map(|stamp| Duration::from_micros(now_us.saturating_sub(stamp)));
    let life = match tuple.about.life {
        Life::Left(left) => format!("{} left", short(Duration::from_millis(left))),
        Life::Session => "session".to_owned(),
        Life::Permanent | Life::Unknown => "-".to_owned(),
    };
    vec![
        escape(&tuple.key),
        escape(owner.as_bytes()),
        age.map_or_else(|| "-".to_owned(), short),
        life,
        display_octets(tuple.value.len() as u64),
        shortened(&escape(&tuple.value)),
    ]
}

/// The titles of [`long`]
pub(super) const LONG: [&str; 6] = ["KEY", "OWNER", " AGE", "LIFETIME", " SIZE", "VALUE"];

/// As much of a value as has a place in a table
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// A time in its one or two largest units
pub(super) fn short(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{}ms", time.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The frame that asks for more than key and value
pub(super) const LONG_FORM: Bytes = Bytes::from_static(b"LONG");

/// Of what a peer of zgossip has had for long nobody knows when it was written: its stamp is near zero
const DATED: u64 = 1_000_000;

const WIDEST: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::About;

    fn told(value: &'static str, about: About) -> Told {
        Told { key: "config/rate".into(), value: value.into(), about }
    }

    #[test]
    fn what_is_known_of_a_tuple_stands_beside_it() {
        let names = Names::read(&json!([{ "id": "00ab", "name": "alpha" }, { "id": "00cd", "name": "" }]));
        let about = About { owner: Some("00ab".to_owned()), life: Life::Left(9500), stamp_us: Some(5_000_000) };
        let tuple = told("10", about);
        let object = tuple_json(&tuple, &names);
        assert_eq!((&object["remaining-ms"], &object["owner-name"]), (&9500.into(), &"alpha".into()), "{object}");
        assert_eq!(long(&tuple, &names, 70_000_000), ["config/rate", "alpha", "1m05s", "9s left", "2", "10"]);
        let undated = told("10", About { stamp_us: Some(1), ..About::default() });
        assert_eq!(long(&undated, &names, 70_000_000)[2], "-");
        let bare = told("a\nb", About::default());
        assert_eq!(long(&bare, &names, 0), ["config/rate", "-", "-", "-", "3", "a\\nb"]);
        assert_eq!(line(&bare), "config/rate a\\nb");
        assert_eq!(tuple_json(&bare, &names)["value"], "a\nb");
    }

    #[test]
    fn times_and_values_are_cut_to_what_is_read() {
        for (seconds, shown) in [(0, "0ms"), (59, "59s"), (61, "1m01s"), (3700, "1h01m"), (90_000, "1d01h")] {
            assert_eq!(short(Duration::from_secs(seconds)), shown);
        }
        assert_eq!(shortened("ä".repeat(61).as_str()), format!("{}…", "ä".repeat(60)));
        assert_eq!(shortened("ä"), "ä");
    }
}
