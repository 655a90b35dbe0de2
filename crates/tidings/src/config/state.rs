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
    find(configured, "store").ok_or_else(|| {
        Failure::usage("no state directory is named, and neither HOME nor XDG_STATE_HOME is set").hint(
            "name one with the key store.directory (--set store.directory=DIRECTORY), or set service.durable = false",
        )
    })
}

/// The directory where the gossip node keeps who it is: what is configured, else `gossip` in the state directory; `None`
/// where there is no such place
pub(crate) fn gossip_directory(configured: Option<PathBuf>) -> Option<PathBuf> {
    find(configured, "gossip")
}

fn find(configured: Option<PathBuf>, name: &str) -> Option<PathBuf> {
    let usual = || state(rustix::process::geteuid().is_root(), |name| std::env::var_os(name));
    configured.or_else(|| Some(usual()?.join(name)))
}

/// The state directory
fn state(is_root: bool, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let managed = variable("STATE_DIRECTORY").and_then(|all| std::env::split_paths(&all).next());
    match managed.filter(|path| path.is_absolute()) {
        Some(directory) => Some(directory),
        None if is_root => Some(PathBuf::from("/var/lib/tidings")),
        None => absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .map(|state| state.join("tidings")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_is_where_services_and_people_expect_it() {
        let found = |is_root, variables: &[(&str, &str)]| {
            let variable = |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| value.into());
            state(is_root, variable).map(|path| path.display().to_string())
        };
        let home = ("HOME", "/home/x");
        for (is_root, variables, expected) in [
            (false, &[("STATE_DIRECTORY", "/a:/b"), home][..], Some("/a")),
            (true, &[home], Some("/var/lib/tidings")),
            (false, &[("XDG_STATE_HOME", "/s"), home], Some("/s/tidings")),
            (false, &[("XDG_STATE_HOME", "relative"), home], Some("/home/x/.local/state/tidings")),
            (false, &[], None),
        ] {
            assert_eq!(found(is_root, variables).as_deref(), expected, "{variables:?}");
        }
        assert_eq!(store_directory(Some("s".into())).unwrap(), PathBuf::from("s"));
        assert_eq!(gossip_directory(Some("g".into())), Some(PathBuf::from("g")));
    }
}
