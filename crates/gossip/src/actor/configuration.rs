//! An actor's configuration: ZPL, as CZMQ's `zconfig` loads, changes and saves it.
//!
//! What is read is what RFC 4 allows, which is more than `zconfig` takes; what is saved, both read. As `zconfig` does it: lines
//! that begin with `#` are kept and come first, every property of a file has a value, be it empty, and one that
//! was made on the way to another has none.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use tidings_keystore::{Property, Zpl};

/// A tree of properties, and the file that it came from
#[derive(Debug, Default)]
pub(super) struct Configuration {
    zpl: Zpl,
    comments: Vec<String>,
    file: Option<File>,
    /// Whether a file took the place of what the actor began with
    is_loaded: bool,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    look: Option<Look>,
}

/// What tells a file from its former self
type Look = (u64, u64, i64, i64);

/// Why a configuration was not loaded, saved or changed
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigurationError {
    #[error("can't read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}: {error}", path.display())]
    Syntax { path: PathBuf, error: tidings_keystore::ZplError },
    #[error("can't write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Unwritable(#[from] tidings_keystore::UnwritableValue),
    #[error("'{0}' is no path of a property: names of letters, digits and $-_@.&+ with / between them")]
    Path(String),
}

impl Configuration {
    /// Replaces all by what is in a file; by nothing, if that can't be read
    ///
    /// # Errors
    /// Why it couldn't.
    pub(super) fn load(&mut self, path: &Path) -> Result<(), ConfigurationError> {
        let look = look(path);
        let read = read(path);
        let (zpl, comments) = match &read {
            Ok(text) => match Zpl::parse(text) {
                Ok(zpl) => (Ok(zpl), comments(text)),
                Err(error) => (Err(ConfigurationError::Syntax { path: path.to_owned(), error }), Vec::new()),
            },
            Err(_) => (Ok(Zpl::default()), Vec::new()),
        };
        let failure = read.err().map(|error| ConfigurationError::Read { path: path.to_owned(), error });
        let (zpl, failure) = match zpl {
            Ok(zpl) => (zpl, failure),
            Err(error) => (Zpl::default(), Some(error)),
        };
        // A file that can't be read is not followed, as the original doesn't
        let file = failure.is_none().then(|| File { path: path.to_owned(), look });
        *self = Self { zpl, comments, file, is_loaded: true };
        failure.map_or(Ok(()), Err)
    }

    /// Reads the file again if it is not as it was; `None` if it is, or there is none
    ///
    /// One that can't be read leaves all as it was, and is tried again when it has changed once more.
    pub(super) fn reload(&mut self) -> Option<Result<(), ConfigurationError>> {
        let file = self.file.as_mut()?;
        let look = look(&file.path);
        if look.is_none() || look == file.look {
            return None;
        }
        file.look = look;
        let path = file.path.clone();
        let mut fresh = Self::default();
        let loaded = fresh.load(&path);
        if loaded.is_ok() {
            *self = fresh;
        }
        Some(loaded)
    }

    /// Where it was loaded from
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Writes a file that reads back as this, in one step
    ///
    /// # Errors
    /// Why nothing was written.
    pub(super) fn save(&mut self, path: &Path) -> Result<(), ConfigurationError> {
        let text = self.render()?;
        write(path, &text).map_err(|error| ConfigurationError::Write { path: path.to_owned(), error })?;
        if let Some(file) = self.file.as_mut().filter(|file| file.path == path) {
            // Our own change is none
            file.look = look(path);
        }
        Ok(())
    }

    /// The value at a path as `server/timeout`; the first of several
    pub(super) fn value(&self, path: &str) -> Option<&str> {
        self.zpl.find(path).map(|property| &property.value[..])
    }

    /// Sets the value at a path, and makes what is not there yet
    ///
    /// # Errors
    /// The path is none.
    pub(super) fn set(&mut self, path: &str, value: &str) -> Result<(), ConfigurationError> {
        let is_name = |name: &str| !name.is_empty() && name.chars().all(is_name_char);
        if !path.split('/').all(is_name) || path.split('/').count() > DEEPEST {
            return Err(ConfigurationError::Path(path.chars().take(80).collect()));
        }
        let mut properties = &mut self.zpl.properties;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            let place = match properties.iter().position(|property| property.name == name) {
                Some(place) => place,
                None => {
                    properties.push(Property::new(name, ""));
                    properties.len() - 1
                }
            };
            let Some(property) = properties.get_mut(place) else { return Ok(()) };
            if names.peek().is_none() {
                property.value = value.to_owned();
                return Ok(());
            }
            properties = &mut property.children;
        }
        Ok(())
    }

    /// After how long a silent client is forgotten: what is set; where a file sets nothing the original's 60 s; never, as
    /// long as nobody said anything
    pub(super) fn server_timeout(&self) -> Option<Duration> {
        let ms = match self.value("server/timeout") {
            Some(text) => number(text),
            None if self.is_loaded => ENGINE_TIMEOUT,
            None => 0,
        };
        (ms > 0).then(|| Duration::from_millis(ms))
    }

    /// Whether `server/verbose` asks for a trace
    pub(super) fn is_verbose(&self) -> bool {
        self.value("server/verbose").is_some_and(|text| number(text) != 0)
    }

    /// What stands under `zgossip`, in order
    pub(super) fn sections(&self) -> &[Property] {
        self.zpl.find("zgossip").map(|property| &property.children[..]).unwrap_or_default()
    }

    /// The text that is saved
    fn render(&self) -> Result<String, ConfigurationError> {
        let mut text = String::new();
        for comment in &self.comments {
            // Writing to a String doesn't fail
            let _ = writeln!(text, "{comment}");
        }
        if !self.comments.is_empty() {
            text.push('\n');
        }
        self.zpl.properties.iter().try_for_each(|property| render(property, 0, &mut text))?;
        Ok(text)
    }
}

fn render(property: &Property, level: usize, text: &mut String) -> Result<(), ConfigurationError> {
    text.extend(std::iter::repeat_n("    ", level));
    let was_made_on_the_way = property.line == 0 && property.value.is_empty() && !property.children.is_empty();
    if was_made_on_the_way {
        text.push_str(&property.name);
        text.push('\n');
    } else {
        let alone = Zpl { properties: vec![Property::new(&property.name[..], &property.value[..])] };
        text.push_str(&alone.render()?);
    }
    property.children.iter().try_for_each(|child| render(child, level + 1, text))
}

/// The lines that begin with `#`
fn comments(text: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_end().to_owned()).collect()
}

fn read(path: &Path) -> io::Result<String> {
    let length = fs::metadata(path)?.len();
    if length > LONGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {LONGEST_FILE} octets")));
    }
    fs::read_to_string(path)
}

/// Beside the file first, so that who reads it finds the old text or the new one
fn write(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut beside = name.to_owned();
    beside.push(format!(".{}~", std::process::id()));
    let beside = path.with_file_name(beside);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if let Ok(metadata) = fs::metadata(path) {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(metadata.mode() & 0o777);
    }
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    written.inspect_err(|_| drop(fs::remove_file(&beside)))
}

fn look(path: &Path) -> Option<Look> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// As C's `atoi`, for numbers that are none below zero: the digits that it begins with
fn number(text: &str) -> u64 {
    let digits = text.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "$-_@.&+".contains(c)
}

/// What CZMQ's engine takes where a loaded file says nothing
const ENGINE_TIMEOUT: u64 = 60_000;
/// As deep as a file may be that is read again
const DEEPEST: usize = 32;
/// A configuration is a page or two
const LONGEST_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gossip.cfg");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    fn saved(configuration: &mut Configuration, path: &Path) -> String {
        configuration.save(path).unwrap();
        fs::read_to_string(path).unwrap()
    }

    /// What libczmq 4.2.1 saves of the same file after the same SETs, octet for octet
    #[test]
    fn what_is_saved_is_what_czmq_saves() {
        let (directory, path) = file(concat!(
            "#   one\n#two\n\nserver  # c1\n    timeout = 250   # c2\n#three\n    background = '1'\n",
            "zgossip\n    echo = hello world # c\n    bind\n        endpoint = inproc://a\n        endpoint = inproc://b\n",
            "    security\n        mechanism = null\nlast\n#end\n",
        ));
        let mut configuration = Configuration::default();
        configuration.load(&path).unwrap();
        assert_eq!(configuration.server_timeout(), Some(Duration::from_millis(250)));
        configuration.set("server/timeout", "77").unwrap();
        configuration.set("new/path/deep", "v").unwrap();
        assert_eq!(
            saved(&mut configuration, &directory.path().join("out.cfg")),
            concat!(
                "#   one\n#two\n#three\n#end\n\n",
                "server = \"\"\n    timeout = \"77\"\n    background = \"1\"\n",
                "zgossip = \"\"\n    echo = \"hello world\"\n    bind = \"\"\n        endpoint = \"inproc://a\"\n",
                "        endpoint = \"inproc://b\"\n    security = \"\"\n        mechanism = \"null\"\nlast = \"\"\n",
                "new\n    path\n        deep = \"v\"\n",
            )
        );
    }

    #[test]
    fn a_fresh_one_saves_what_was_set() {
        let (_directory, path) = file("");
        let mut configuration = Configuration::default();
        assert_eq!((configuration.server_timeout(), saved(&mut configuration, &path)), (None, String::new()));
        configuration.set("server/timeout", "1000").unwrap();
        assert_eq!(saved(&mut configuration, &path), "server\n    timeout = \"1000\"\n");
        configuration.set("server/timeout", "0").unwrap();
        assert_eq!(configuration.server_timeout(), None, "0 is for never");
    }

    #[test]
    fn what_can_not_be_read_leaves_nothing_and_the_engines_timeout() {
        let (directory, path) = file("server\n   timeout = 5\n");
        let mut configuration = Configuration::default();
        configuration.set("server/timeout", "100").unwrap();
        let error = configuration.load(&path).unwrap_err().to_string();
        assert!(error.contains("gossip.cfg") && error.contains("line 2"), "{error}");
        assert_eq!(configuration.server_timeout(), Some(Duration::from_secs(60)));
        let error = configuration.load(&directory.path().join("none")).unwrap_err().to_string();
        assert!(error.starts_with("can't read"), "{error}");
        assert_eq!(configuration.render().unwrap(), "");
        assert!(configuration.reload().is_none());
        // As atoi has it
        for (text, ms) in [("250", 250), ("250ms", 250), ("soon", 0), ("-5", 0), (" 7", 7)] {
            assert_eq!(number(text), ms, "{text}");
        }
    }

    #[test]
    fn a_file_is_followed_but_not_what_is_saved_to_it() {
        let (_directory, path) = file("server\n    timeout = 5\n");
        let mut configuration = Configuration::default();
        configuration.load(&path).unwrap();
        assert!(configuration.reload().is_none());
        configuration.set("server/timeout", "6").unwrap();
        configuration.save(&path).unwrap();
        assert!(configuration.reload().is_none(), "our own change");
        fs::write(&path, "# changed\nserver\n    timeout = 1234\n").unwrap();
        configuration.reload().unwrap().unwrap();
        assert_eq!(configuration.server_timeout(), Some(Duration::from_millis(1234)));
        fs::write(&path, "server\n\ttimeout = 1\n").unwrap();
        assert!(configuration.reload().unwrap().is_err());
        assert_eq!(configuration.server_timeout(), Some(Duration::from_millis(1234)), "the last good one stays");
        assert!(configuration.reload().is_none(), "it is said once");
    }

    proptest! {
        /// What is saved is loaded as it was, and saved as it is: values, order, comments
        #[test]
        fn what_is_saved_is_loaded_and_saved_alike(
            sets in prop::collection::vec(("[a-c]{1,2}(/[a-c]{1,2}){0,3}", "[ -~]{0,12}"), 0..12),
            comments in prop::collection::vec("# ?[a-z ]{0,9}[a-z]", 0..3),
        ) {
            let (directory, path) = file(&comments.join("\n"));
            let mut configuration = Configuration::default();
            configuration.load(&path).unwrap();
            for (path, value) in &sets {
                configuration.set(path, value).unwrap();
            }
            if configuration.save(&path).is_ok() {
                let mut again = Configuration::default();
                again.load(&path).unwrap();
                for (path, _) in &sets {
                    prop_assert_eq!(again.value(path), configuration.value(path));
                }
                // From then on every property has a value, if an empty one
                let second = saved(&mut again, &directory.path().join("second"));
                let mut third = Configuration::default();
                third.load(&directory.path().join("second")).unwrap();
                prop_assert_eq!(third.render().unwrap(), second);
            }
        }
    }

    #[test]
    fn paths_and_values_that_could_not_be_read_back_are_refused() {
        let (_directory, path) = file("before");
        let mut configuration = Configuration::default();
        for wrong in ["", "a/", "/a", "a b", "a//b", "ä", &["a"; 33].join("/")] {
            assert!(matches!(configuration.set(wrong, "v"), Err(ConfigurationError::Path(_))), "{wrong}");
        }
        configuration.set("a", "it's \"q\" # x").unwrap();
        configuration.set("a", "two\nlines").unwrap();
        assert!(matches!(configuration.save(&path), Err(ConfigurationError::Unwritable(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
    }
}
