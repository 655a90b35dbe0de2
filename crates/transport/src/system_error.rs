//! What the system's error numbers mean for whoever dials or accepts.

use std::io;

use rustix::io::Errno;

/// No descriptors or kernel memory left, in this process or on this machine: it passes once some are given back
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    is_one_of(error, OUT_OF_DESCRIPTORS)
}

/// As [`is_out_of_descriptors`], for accepting, where epoll_ctl(2) may also run into `max_user_watches`
///
/// Elsewhere the same number says that a disk is full.
pub(crate) fn is_out_of_descriptors_in_accept(error: &io::Error) -> bool {
    is_out_of_descriptors(error) || is_one_of(error, &[Errno::NOSPC])
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

fn is_one_of(error: &io::Error, numbers: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|number| numbers.iter().any(|errno| errno.raw_os_error() == number))
}

const OUT_OF_DESCRIPTORS: &[Errno] = &[Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];

/// accept(2), "Error handling": Linux passes on what happened to the new connection, to be treated like `EAGAIN`;
/// and `EPERM`, which is how a firewall says no
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

#[cfg(test)]
mod tests {
    use super::*;

    fn system(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn a_full_disk_is_out_of_descriptors_for_nobody_but_accept() {
        assert!(is_out_of_descriptors(&system(Errno::MFILE)));
        assert!(!is_out_of_descriptors(&system(Errno::NOSPC)));
        assert!(is_out_of_descriptors_in_accept(&system(Errno::NOSPC)));
        assert!(is_out_of_descriptors_in_accept(&system(Errno::NFILE)));
    }

    #[test]
    fn an_error_without_a_number_is_none_of_them() {
        let error = io::Error::other("out of luck");
        assert!(!is_out_of_descriptors_in_accept(&error));
        assert!(!is_transient_in_accept(&error));
        assert!(!is_no_such_family(&error));
    }
}
