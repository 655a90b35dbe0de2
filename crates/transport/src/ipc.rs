//! Listening on local sockets, and the files they leave.
//!
//! Binding makes a file that outlives its process, so a path that is taken may be stale (nobody listens: replace it) or
//! live (refuse). Looking and replacing are two steps; if two processes did them at once, the second could remove the
//! file the first had just made. So whoever binds holds a lock (flock(2)) on the directory meanwhile: it leaves no lock
//! file behind, needs no right but to read the directory, and ends with its holder. Binding under a temporary name and
//! renaming would need no lock, but replaces a live socket in the same race, and shows the wrong name in `ss` and to
//! peers. A directory that can't be locked (some network file systems) is bound in without; programs other than these,
//! libzmq among them, take no lock and can still race.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::BuildHasher;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use socket2::SockAddr;
use tokio::net::UnixListener;
use tokio::time::{Instant, sleep};

use crate::endpoint::{Endpoint, IpcEndpoint};
use crate::listen::ListenError;
use crate::options::StreamOptions;
use crate::socket::{self, SocketError};
use crate::system_error::is_out_of_descriptors;

/// Listens on `ipc`: the file to remove afterwards, the listener, and the address with any wildcard replaced
pub(crate) async fn listen(
    ipc: &IpcEndpoint,
    endpoint: &Endpoint,
    options: &StreamOptions,
) -> Result<(Option<SocketFile>, UnixListener, IpcEndpoint), ListenError> {
    match ipc {
        IpcEndpoint::Path(path) => {
            let _lock = lock_directory(path, endpoint).await?;
            let (file, listener) = listen_at(path, endpoint, options)?;
            Ok((Some(file), listener, ipc.clone()))
        }
        IpcEndpoint::Abstract(_) => {
            let Some(address) = address(ipc).map_err(|error| failed(endpoint, error))? else {
                return Err(ListenError::Unsupported { endpoint: endpoint.to_string() });
            };
            let socket = open(endpoint, options)?;
            socket.bind(&address).map_err(|error| failed(endpoint, error))?;
            Ok((None, listening(socket, endpoint, options)?, ipc.clone()))
        }
        IpcEndpoint::Wildcard => {
            let directory = fresh_directory(endpoint)?;
            let path = directory.0.join("socket");
            let ipc = IpcEndpoint::Path(path.clone());
            let endpoint = Endpoint::Ipc(ipc.clone());
            // The directory for temporary files may have a long name
            endpoint.for_bind()?;
            let (mut file, listener) = listen_at(&path, &endpoint, options)?;
            file.directory = Some(directory);
            Ok((Some(file), listener, ipc))
        }
    }
}

/// The socket address for `ipc`; `None` if this system has no such addresses
pub(crate) fn address(ipc: &IpcEndpoint) -> io::Result<Option<SockAddr>> {
    match ipc {
        IpcEndpoint::Path(path) => SockAddr::unix(path).map(Some),
        IpcEndpoint::Abstract(name) if cfg!(any(target_os = "linux", target_os = "android")) => {
            let mut octets = vec![0];
            octets.extend_from_slice(name);
            SockAddr::unix(std::ffi::OsStr::from_bytes(&octets)).map(Some)
        }
        IpcEndpoint::Abstract(_) | IpcEndpoint::Wildcard => Ok(None),
    }
}

/// A socket file, removed on drop if it is still the one that was made
#[derive(Debug)]
pub(crate) struct SocketFile {
    /// Absolute: the working directory may change
    path: PathBuf,
    identity: Identity,
    /// The directory made for it alone; dropped, and so removed, after the file
    directory: Option<FreshDirectory>,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let identity = Identity::of(&fs::symlink_metadata(&path)?);
        Ok(Self { path, identity, directory: None })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        remove_if_same(&self.path, &self.identity).ok();
    }
}

/// A directory made for one socket, removed on drop if empty
#[derive(Debug)]
struct FreshDirectory(PathBuf);

impl Drop for FreshDirectory {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

/// Which file it is, whatever its name: device and number
///
/// Numbers are given again, but not while a socket bound to the file is open.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

fn remove_if_same(path: &Path, identity: &Identity) -> io::Result<()> {
    match Identity::of(&fs::symlink_metadata(path)?) == *identity {
        true => fs::remove_file(path),
        false => Ok(()),
    }
}

fn listen_at(
    path: &Path,
    endpoint: &Endpoint,
    options: &StreamOptions,
) -> Result<(SocketFile, UnixListener), ListenError> {
    let address = SockAddr::unix(path).map_err(|error| failed(endpoint, error))?;
    let socket = open(endpoint, options)?;
    for _ in 0..BIND_ATTEMPTS {
        match socket.bind(&address) {
            Ok(()) => {
                let file = SocketFile::new(path).map_err(|error| failed(endpoint, error))?;
                return Ok((file, listening(socket, endpoint, options)?));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => clear_stale(path, &address, endpoint)?,
            Err(error) if is_no_directory(&error) => return Err(no_directory(path)),
            Err(error) => return Err(failed(endpoint, error)),
        }
    }
    // Removed each time and there again: somebody else binds here without taking the lock
    Err(ListenError::InUse { endpoint: endpoint.to_string() })
}

/// Removes what stands at `path` if it is a socket that nobody listens on
fn clear_stale(path: &Path, address: &SockAddr, endpoint: &Endpoint) -> Result<(), ListenError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(endpoint, error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    // A live listener sees a connection that ends at once
    let probe = open(endpoint, &StreamOptions::default())?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // No right to ask, so no right to remove
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(failed(endpoint, error));
        }
        Err(error) if is_out_of_descriptors(&error) => return Err(failed(endpoint, error)),
        // Connected, or a full backlog (EAGAIN), or a socket of another type (EPROTOTYPE): somebody has it
        Ok(()) | Err(_) => {
            return Err(ListenError::InUse { endpoint: endpoint.to_string() });
        }
    }
    match remove_if_same(path, &Identity::of(&metadata)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(endpoint, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Waits for the directory of `path`; `None` if it can't be locked at all
async fn lock_directory(path: &Path, endpoint: &Endpoint) -> Result<Option<File>, ListenError> {
    let directory = directory_of(path);
    // Only ever a directory: opening a FIFO would wait for its other end
    let only_directories = i32::try_from(OFlags::DIRECTORY.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(only_directories).open(directory) {
        Ok(file) => file,
        Err(error) if is_no_directory(&error) => return Err(no_directory(path)),
        Err(error) if is_out_of_descriptors(&error) => return Err(failed(endpoint, error)),
        Err(_) => return Ok(None),
    };
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOCK_INTERVAL).await,
            Err(TryLockError::WouldBlock) => {
                return Err(ListenError::Locked { directory: directory.to_owned(), waited: LOCK_PATIENCE });
            }
        }
    }
}

/// A new directory for one socket, that only this user can enter
fn fresh_directory(endpoint: &Endpoint) -> Result<FreshDirectory, ListenError> {
    let parent = std::env::temp_dir();
    let mut outcome = Ok(());
    for _ in 0..BIND_ATTEMPTS {
        // The standard library's hash keys are random; that another file has the name is an error, not a danger
        let path = parent.join(format!("tidings-{:016x}", RandomState::new().hash_one(std::process::id())));
        outcome = DirBuilder::new().mode(0o700).create(&path);
        match &outcome {
            Ok(()) => return Ok(FreshDirectory(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => break,
        }
    }
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ListenError::NoDirectory { directory: parent }),
        Err(error) => Err(failed(endpoint, error)),
        Ok(()) => Err(ListenError::InUse { endpoint: endpoint.to_string() }),
    }
}

fn open(endpoint: &Endpoint, options: &StreamOptions) -> Result<socket2::Socket, ListenError> {
    socket::local(options).map_err(|error| match error {
        SocketError::Option { option, source } => ListenError::Option { option, source },
        SocketError::System(source) => failed(endpoint, source),
    })
}

fn listening(
    socket: socket2::Socket,
    endpoint: &Endpoint,
    options: &StreamOptions,
) -> Result<UnixListener, ListenError> {
    socket.listen(socket::backlog(options)).map_err(|error| failed(endpoint, error))?;
    UnixListener::from_std(socket.into()).map_err(|error| failed(endpoint, error))
}

fn failed(endpoint: &Endpoint, source: io::Error) -> ListenError {
    let endpoint = endpoint.to_string();
    match source.kind() {
        _ if is_out_of_descriptors(&source) => ListenError::OutOfDescriptors(source),
        io::ErrorKind::AddrInUse => ListenError::InUse { endpoint },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ListenError::Permission { endpoint, source }
        }
        _ => ListenError::Ipc { endpoint, source },
    }
}

fn no_directory(path: &Path) -> ListenError {
    ListenError::NoDirectory { directory: directory_of(path).to_owned() }
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Twice is enough unless somebody else binds at the same path; more tries would be a fight
const BIND_ATTEMPTS: usize = 3;

/// Whoever holds the lock is done in a few system calls
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_INTERVAL: Duration = Duration::from_millis(5);
