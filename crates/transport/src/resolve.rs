//! From hosts to addresses: literals at once, interfaces from the system's list, names off the I/O path.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::endpoint::Host;
use crate::interface;

/// The addresses to connect to for `host`
///
/// A name is looked up anew at each call. Without `ipv6` it stands for IPv4 addresses alone.
pub(crate) async fn remote_addresses(host: &Host, port: u16, ipv6: bool) -> io::Result<Vec<SocketAddr>> {
    match host {
        Host::Any => Err(io::Error::new(io::ErrorKind::InvalidInput, "a wildcard is no host to connect to")),
        // An IPv4 address dressed as IPv6 is IPv4 on the wire, and only a socket for both families would take it
        Host::Ip(address) => Ok(vec![SocketAddr::new(address.to_canonical(), port)]),
        Host::Scoped { address, zone } => Ok(vec![scoped(*address, zone, port)?]),
        Host::Name(name) => {
            Ok(look_up(name, ipv6).await?.into_iter().map(|address| with_port(address, port)).collect())
        }
    }
}

/// The local addresses that `host` stands for, the preferred one first
///
/// A name is an interface's if there is one called so, or else looked up.
pub(crate) async fn local_addresses(host: &Host, port: u16, ipv6: bool) -> io::Result<Vec<SocketAddr>> {
    match host {
        Host::Any if ipv6 => Ok(vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)]),
        Host::Any => Ok(vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)]),
        Host::Ip(_) | Host::Scoped { .. } => remote_addresses(host, port, ipv6).await,
        Host::Name(name) => match interface::addresses(name, port, ipv6)? {
            Some(addresses) if addresses.is_empty() && !ipv6 => {
                Err(no_address(format!("interface {name} has no IPv4 address; set the ipv6 option to use an IPv6 one")))
            }
            Some(addresses) if addresses.is_empty() => Err(no_address(format!(
                "interface {name} has no address; give it one, or bind to * for all interfaces"
            ))),
            Some(addresses) => Ok(addresses),
            None => remote_addresses(host, port, ipv6).await,
        },
    }
}

/// The local addresses that a connection may leave from
///
/// As [`local_addresses`], but a wildcard stands for both families: which one is needed depends on the other end.
pub(crate) async fn source_addresses(host: &Host, port: u16, ipv6: bool) -> io::Result<Vec<SocketAddr>> {
    match host {
        Host::Any => Ok(vec![
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
        ]),
        Host::Ip(_) | Host::Scoped { .. } | Host::Name(_) => local_addresses(host, port, ipv6).await,
    }
}

fn scoped(address: Ipv6Addr, zone: &str, port: u16) -> io::Result<SocketAddr> {
    Ok(SocketAddrV6::new(address, port, 0, interface::index(zone)?).into())
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}

/// Asks the system's resolver, which may take many seconds, on a thread kept for such waits
///
/// Callers that ask for the same name at the same time share one question, so a resolver that doesn't answer holds one
/// thread per name, however often a connection is tried anew.
async fn look_up(name: &str, ipv6: bool) -> io::Result<Vec<SocketAddr>> {
    let mut answer = ask(name);
    let addresses = match answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone()) {
        Some(answer) => answer.map_err(LookupFailure::into_io)?,
        // The runtime that carried the question was shut down before it ran
        None => {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the lookup was interrupted; try again"));
        }
    };
    let mut usable: Vec<SocketAddr> = Vec::new();
    for address in addresses.iter().filter(|address| ipv6 || address.is_ipv4()) {
        // The same address comes once per line of /etc/hosts
        if !usable.contains(address) && usable.len() < MOST_ADDRESSES {
            usable.push(*address);
        }
    }
    match usable.is_empty() {
        false => Ok(usable),
        true if addresses.is_empty() => Err(no_address("the name has no address".to_owned())),
        true => Err(no_address("the name has IPv6 addresses only; set the ipv6 option to use them".to_owned())),
    }
}

/// The question under way for `name`, or a new one
fn ask(name: &str) -> watch::Receiver<Option<Answer>> {
    let (sender, receiver) = watch::channel(None);
    {
        let mut questions = questions();
        if let Some(asked) = questions.get(name) {
            return asked.clone();
        }
        questions.insert(name.to_owned(), receiver.clone());
    }
    // After the lock is given back: a runtime that is shutting down drops the closure, and the question, right here
    let question = Question { name: name.to_owned() };
    tokio::task::spawn_blocking(move || {
        let answer = (question.name.as_str(), 0).to_socket_addrs().map(Iterator::collect);
        drop(question);
        sender.send_replace(Some(answer.map_err(LookupFailure::from)));
    });
    receiver
}

/// A lookup under way; leaves the table when it is answered or given up
struct Question {
    name: String,
}

impl Drop for Question {
    fn drop(&mut self) {
        questions().remove(&self.name);
    }
}

type Answer = Result<Vec<SocketAddr>, LookupFailure>;

/// An [`io::Error`] that several callers can have
#[derive(Clone)]
struct LookupFailure {
    number: Option<i32>,
    kind: io::ErrorKind,
    message: String,
}

impl LookupFailure {
    fn into_io(self) -> io::Error {
        match self.number {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(self.kind, self.message),
        }
    }
}

impl From<io::Error> for LookupFailure {
    fn from(error: io::Error) -> Self {
        Self { number: error.raw_os_error(), kind: error.kind(), message: error.to_string() }
    }
}

fn questions() -> MutexGuard<'static, HashMap<String, watch::Receiver<Option<Answer>>>> {
    // The table is whole between any two statements that change it
    QUESTIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

static QUESTIONS: LazyLock<Mutex<HashMap<String, watch::Receiver<Option<Answer>>>>> = LazyLock::new(Mutex::default);

fn no_address(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::AddrNotAvailable, message)
}

/// More addresses than any name in practice has; each costs a descriptor while it is tried. Not measured.
const MOST_ADDRESSES: usize = 32;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Builder;

    use super::*;

    fn host(name: &str) -> Host {
        Host::Name(name.to_owned())
    }

    #[tokio::test]
    async fn a_name_gives_each_address_once_and_leaves_no_question_behind() {
        let addresses = remote_addresses(&host("localhost"), 7, false).await.unwrap();
        assert_eq!(addresses, [SocketAddr::from(([127, 0, 0, 1], 7))]);
        assert!(!questions().contains_key("localhost"));
    }

    #[tokio::test]
    async fn an_interface_goes_before_a_name() {
        let addresses = local_addresses(&host("lo"), 7, false).await.unwrap();
        assert_eq!(addresses[0], SocketAddr::from(([127, 0, 0, 1], 7)));
    }

    #[tokio::test]
    async fn an_ipv4_address_dressed_as_ipv6_is_ipv4() {
        let mapped = Host::Ip("::ffff:127.0.0.1".parse().unwrap());
        let addresses = remote_addresses(&mapped, 7, false).await.unwrap();
        assert_eq!(addresses, [SocketAddr::from(([127, 0, 0, 1], 7))]);
    }

    #[tokio::test]
    async fn a_zone_is_an_interface_by_number_or_name() {
        let scoped = |zone: &str| Host::Scoped { address: "fe80::1".parse().unwrap(), zone: zone.to_owned() };
        let by_number = remote_addresses(&scoped("1"), 7, false).await.unwrap();
        let by_name = remote_addresses(&scoped("lo"), 7, false).await.unwrap();
        assert_eq!(by_number, by_name);
        assert_eq!(by_number[0].to_string(), "[fe80::1%1]:7");
        assert!(remote_addresses(&scoped("nosuch0"), 7, false).await.is_err());
    }

    /// The only thread for lookups is kept busy, so the question is certain to be open
    #[test]
    fn callers_at_the_same_time_share_one_question() {
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let (release, held) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || held.recv());
        // An address in place of a name needs no name server, and no other test asks for this one
        let name = "127.77.0.1";
        runtime.block_on(async {
            let first = ask(name);
            let second = ask(name);
            assert!(first.same_channel(&second));
            release.send(()).unwrap();
            for mut answer in [first, second] {
                let answer = answer.wait_for(Option::is_some).await.unwrap().clone();
                let addresses = answer.unwrap().map_err(LookupFailure::into_io).unwrap();
                assert_eq!(addresses, [SocketAddr::from(([127, 77, 0, 1], 0))]);
            }
        });
        assert!(!questions().contains_key(name));
    }

    #[test]
    fn a_runtime_that_is_gone_ends_the_question() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let gone = runtime.handle().clone();
        drop(runtime);
        let name = "127.77.0.2";
        let answer = {
            let _inside = gone.enter();
            ask(name)
        };
        assert!(answer.has_changed().is_err(), "nobody is left to answer");
        assert!(!questions().contains_key(name), "the name can be asked for again");
    }
}
