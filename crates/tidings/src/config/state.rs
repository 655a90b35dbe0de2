//! Where state is kept that must outlive the process.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::Failure;

/// The directory of the store: what is configured, else `store` in the state directory
///
/// The state directory is the service manager's ($STATE_DIRECTORY, of several the first), else /var/lib/tidings for root,
/// else tidings in $XDG_STATE_HOME or in ~/.local/state. `tidings serve` and `tidings queue` look in the same place.
///
/// # Errors
/// None is named, and there is no home directory to put one in.
pub(crate) fn store_directory(configured: Option<PathBuf>) -> Result<PathBuf, Failure> {
    find(configured, rustix::process::geteuid().is_root(), |name| std::env::var_os(name))
}

fn find(
    configured: Option<PathBuf>,
    is_root: bool,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, Failure> {
    if let Some(directory) = configured {
        return Ok(directory);
    }
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let managed = variable("STATE_DIRECTORY").and_then(|all| std::env::split_paths(&all).next());
    let state = match managed.filter(|path| path.is_absolute()) {
        Some(directory) => Some(directory),
        None if is_root => Some(PathBuf::from("/var/lib/tidings")),
        None => absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .map(|state| state.join("tidings")),
    };
    state.map(|state| state.join("store")).ok_or_else(|| {
        Failure::usage("no state directory is named, and neither HOME nor XDG_STATE_HOME is set").hint(
            "name one with the key store.directory (--set store.directory=DIRECTORY), or set service.durable = false",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_is_where_services_and_people_expect_it() {
        let found = |configured: Option<&str>, is_root, variables: &[(&str, &str)]| {
            let variable = |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| value.into());
            find(configured.map(PathBuf::from), is_root, variable).ok().map(|path| path.display().to_string())
        };
        let home = ("HOME", "/home/x");
        for (configured, is_root, variables, expected) in [
            (Some("s"), true, &[home][..], Some("s")),
            (None, false, &[("STATE_DIRECTORY", "/a:/b"), home], Some("/a/store")),
            (None, true, &[home], Some("/var/lib/tidings/store")),
            (None, false, &[("XDG_STATE_HOME", "/s"), home], Some("/s/tidings/store")),
            (None, false, &[("XDG_STATE_HOME", "relative"), home], Some("/home/x/.local/state/tidings/store")),
            (None, false, &[], None),
        ] {
            assert_eq!(found(configured, is_root, variables).as_deref(), expected, "{variables:?}");
        }
    }
}
