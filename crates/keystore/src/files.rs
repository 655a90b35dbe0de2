//! Reading and writing the files of a keystore: bounded, private from the start, whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::KeystoreError;

/// Who may see a file
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// Its owner alone: mode 0600
    Secret,
    /// Everyone may read it, its owner may write: mode 0644
    Public,
}

/// Reads a text of at most `LIMIT` octets; one that others may read (a secret) or write is refused
///
/// # Errors
/// Those of the system, and permissions.
pub(crate) fn read(path: &Path, access: Access) -> Result<Zeroizing<String>, KeystoreError> {
    // Before opening: a FIFO would block
    let metadata = fs::metadata(path).map_err(KeystoreError::io("read", path))?;
    if !metadata.is_file() {
        return Err(KeystoreError::Misplaced { path: path.to_owned(), why: "is no regular file".to_owned() });
    }
    let file = File::open(path).map_err(KeystoreError::io("read", path))?;
    let metadata = file.metadata().map_err(KeystoreError::io("read", path))?;
    check_mode(path, metadata.mode(), access)?;
    // Room for all of it at once, so that no copy of a secret is left behind by growing
    let mut octets = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len().min(LIMIT)).unwrap_or(0) + 1));
    file.take(LIMIT + 1).read_to_end(&mut octets).map_err(KeystoreError::io("read", path))?;
    if octets.len() as u64 > LIMIT {
        return Err(KeystoreError::TooLarge { path: path.to_owned(), limit: LIMIT });
    }
    match String::from_utf8(std::mem::take(&mut *octets)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let octets = Zeroizing::new(error.into_bytes());
            let line = octets.iter().take(good).filter(|octet| **octet == b'\n').count() + 1;
            Err(KeystoreError::Certificate { path: path.to_owned(), line, why: "is no UTF-8 text".to_owned() })
        }
    }
}

/// Whether a file is there; what can't be looked at is taken to be there, so that reading it says why
pub(crate) fn exists(path: &Path) -> bool {
    !matches!(fs::metadata(path), Err(error) if error.kind() == ErrorKind::NotFound)
}

/// Refuses a mode that lets others read a secret or change what we rely on
pub(crate) fn check_mode(path: &Path, mode: u32, access: Access) -> Result<(), KeystoreError> {
    let mode = mode & 0o777;
    let exposed = |what, remedy| Err(KeystoreError::Exposed { path: path.to_owned(), mode, what, remedy });
    match access {
        Access::Secret if mode & 0o077 != 0 => exposed("holds a secret, and is open to others", "600"),
        Access::Public if mode & 0o002 != 0 => exposed("can be changed by everyone", "go-w"),
        _ => Ok(()),
    }
}

/// Refuses a directory into which everyone may put files: they would be trusted
pub(crate) fn check_directory(path: &Path) -> Result<(), KeystoreError> {
    let metadata = fs::metadata(path).map_err(KeystoreError::io("read", path))?;
    if !metadata.is_dir() {
        let why = "is no directory; a keystore is one".to_owned();
        return Err(KeystoreError::Misplaced { path: path.to_owned(), why });
    }
    check_mode(path, metadata.mode(), Access::Public)
}

/// Makes a directory that only we may enter, and the ones above it; one that is there is left as it is
pub(crate) fn make_directory(path: &Path) -> Result<(), KeystoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(KeystoreError::io("make", path))
}

/// The files of a folder whose names end so, by name; none where there is no folder
///
/// Hidden files and those that editors leave (`x~`) have other endings or begin with a dot, and are not looked at.
pub(crate) fn list(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, KeystoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(KeystoreError::io("read", folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(KeystoreError::io("read", folder))?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.ends_with(ending) && !name.starts_with('.')) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Replaces a file by a text: after a crash the old or the new one is there, whole, and never with other permissions
pub(crate) fn write(path: &Path, text: &str, access: Access) -> Result<(), KeystoreError> {
    let mode = match access {
        Access::Secret => 0o600,
        Access::Public => 0o644,
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| KeystoreError::Entropy(error.to_string()))?;
    let temporary = folder.join(format!(".new-{:016x}", u64::from_be_bytes(random)));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // The rename itself is on disk only when the folder is
        File::open(folder)?.sync_all()
    })();
    written.map_err(|error| {
        fs::remove_file(&temporary).ok();
        KeystoreError::io("write", path)(error)
    })
}

/// Removes a file; one that is not there is no error
pub(crate) fn remove(path: &Path) -> Result<(), KeystoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(KeystoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The keystore's lock for changes, held until it is dropped: two `tidings key` at once take turns
pub(crate) fn lock(directory: &Path) -> Result<File, KeystoreError> {
    let path = directory.join(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(KeystoreError::io("open", &path))?;
    file.lock().map_err(KeystoreError::io("lock", &path))?;
    Ok(file)
}

/// A certificate is some 500 octets; a chain of TLS certificates, or the rules for thousands of keys, some 100 KiB
const LIMIT: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_are_private_from_the_start_and_stay_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.key_secret");
        write(&path, "one", Access::Secret).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        write(&path, "two", Access::Secret).unwrap();
        assert_eq!(read(&path, Access::Secret).unwrap().as_str(), "two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a temporary file is left");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path, Access::Secret).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        assert!(read(&path, Access::Public).is_ok());
    }

    #[test]
    fn only_bounded_regular_text_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(read(directory.path(), Access::Public), Err(KeystoreError::Misplaced { .. })));
        let path = directory.path().join("x");
        fs::write(&path, vec![b' '; usize::try_from(LIMIT).unwrap() + 1]).unwrap();
        assert!(matches!(read(&path, Access::Public), Err(KeystoreError::TooLarge { .. })));
        fs::write(&path, b"one\ntwo\xff").unwrap();
        assert!(matches!(read(&path, Access::Public), Err(KeystoreError::Certificate { line: 2, .. })));
        assert!(matches!(read(&directory.path().join("y"), Access::Public), Err(KeystoreError::Io { .. })));
    }

    #[test]
    fn a_directory_that_everyone_may_fill_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        make_directory(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        check_directory(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(check_directory(&path).unwrap_err().to_string().contains("chmod go-w"));
    }
}
