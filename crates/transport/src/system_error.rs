//! What the system's error numbers mean for whoever dials or accepts.

use std::io;

/// No descriptors or kernel memory left, in this process or on this machine: it passes once some are given back
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    is_one_of(error, OUT_OF_DESCRIPTORS)
}

/// One connection was lost before it could be accepted; the listener is as good as before
pub(crate) fn is_transient_in_accept(error: &io::Error) -> bool {
    is_one_of(error, TRANSIENT_IN_ACCEPT)
}

/// The machine has no such address family, for instance no IPv6
pub(crate) fn is_no_such_family(error: &io::Error) -> bool {
    // `EADDRNOTAVAIL` where the family exists but is switched off (`net.ipv6.conf.all.disable_ipv6`)
    is_one_of(error, &[Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL])
}

#[cfg(unix)]
fn is_one_of(error: &io::Error, numbers: &[Errno]) -> bool {
    error
        .raw_os_error()
        .is_some_and(|number| numbers.iter().any(|errno| errno.raw_os_error() == number))
}

#[cfg(unix)]
use rustix::io::Errno;

#[cfg(unix)]
const OUT_OF_DESCRIPTORS: &[Errno] = &[Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];

/// accept(2), "Error handling": Linux passes on what happened to the new connection, to be treated like `EAGAIN`;
/// and `EPERM`, which is how a firewall says no
#[cfg(unix)]
const TRANSIENT_IN_ACCEPT: &[Errno] = &[
    Errno::CONNABORTED,
    Errno::CONNRESET,
    Errno::INTR,
    Errno::PERM,
    Errno::PROTO,
    Errno::NOPROTOOPT,
    Errno::TIMEDOUT,
    Errno::NETDOWN,
    Errno::NETUNREACH,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::OPNOTSUPP,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Errno::NONET,
];
