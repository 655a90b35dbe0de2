//! epoll, level-triggered: which connection is ready, by its number.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context as _, Result};
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;

pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

/// What a connection waits for
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
    ReadAndWrite,
}

impl From<Interest> for EventFlags {
    fn from(interest: Interest) -> Self {
        match interest {
            Interest::Read => Self::IN,
            Interest::Write => Self::OUT,
            Interest::ReadAndWrite => Self::IN | Self::OUT,
        }
    }
}

/// One connection that is ready
pub(crate) struct Ready {
    pub(crate) token: usize,
    /// There is something to read, an error or an end among it
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Poll {
    pub(crate) fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("opening epoll")?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS) })
    }

    pub(crate) fn add(&self, source: impl AsFd, token: usize, interest: Interest) -> Result<()> {
        epoll::add(&self.epoll, source, EventData::new_u64(token as u64), interest.into()).context("adding to epoll")
    }

    pub(crate) fn modify(&self, source: impl AsFd, token: usize, interest: Interest) -> Result<()> {
        epoll::modify(&self.epoll, source, EventData::new_u64(token as u64), interest.into())
            .context("changing what epoll waits for")
    }

    /// Waits until at least one connection is ready; how many are, each to be had from `ready`
    pub(crate) fn wait(&mut self) -> Result<usize> {
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), None) {
            Ok(_) | Err(Errno::INTR) => Ok(self.events.len()),
            Err(error) => Err(error).context("waiting in epoll"),
        }
    }

    /// The `at`th of the connections that the last `wait` found
    pub(crate) fn ready(&self, at: usize) -> Ready {
        let Event { flags, data, .. } = self.events[at];
        Ready {
            token: data.u64() as usize,
            readable: flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR),
            writable: flags.contains(EventFlags::OUT),
        }
    }
}

/// Enough to spread the cost of one wait; more would only let the first ones wait longer
const EVENTS: usize = 256;
