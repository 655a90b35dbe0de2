//! Networks of our nodes and CZMQ's: who is what, who connects to whom, over which transport.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tempfile::TempDir;

use crate::czmq::Czmq;
use crate::ours::Ours;

/// Whose a node is
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Ours,
    Theirs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Ipc,
}

/// What a network is to be
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Whose>,
    /// Each as who connects and to whom
    pub(crate) links: Vec<(usize, usize)>,
    pub(crate) transport: Transport,
    /// CZMQ's nodes, which share a process, are linked over inproc among themselves
    pub(crate) inproc: bool,
    /// Milliseconds; `None` leaves CZMQ's nodes as they come
    pub(crate) timeout: Option<u64>,
}

/// Nodes that run, known by their place in the plan
pub(crate) struct Network {
    pub(crate) plan: Plan,
    pub(crate) czmq: Czmq,
    ours: BTreeMap<usize, Ours>,
    endpoints: BTreeMap<usize, String>,
    /// Where sockets of ipc are
    folder: TempDir,
    /// On loopback and nobody else's, so that a port is still free when its node comes back
    address: Ipv4Addr,
}

impl Plan {
    /// Each to the next
    pub(crate) fn ring(nodes: Vec<Whose>, transport: Transport) -> Self {
        let links = (0..nodes.len()).map(|node| (node, (node + 1) % nodes.len())).collect();
        Self::new(nodes, links, transport)
    }

    /// All to the first
    pub(crate) fn star(nodes: Vec<Whose>, transport: Transport) -> Self {
        let links = (1..nodes.len()).map(|node| (node, 0)).collect();
        Self::new(nodes, links, transport)
    }

    /// Each to the next and to the third after it, so that a node has four links
    pub(crate) fn mesh(nodes: Vec<Whose>, transport: Transport) -> Self {
        let count = nodes.len();
        let links = (0..count).flat_map(|node| [1, 3].map(|step| (node, (node + step) % count))).collect();
        Self::new(nodes, links, transport)
    }

    fn new(nodes: Vec<Whose>, links: Vec<(usize, usize)>, transport: Transport) -> Self {
        Self { nodes, links, transport, inproc: false, timeout: None }
    }

    pub(crate) fn over_inproc(mut self) -> Self {
        self.inproc = true;
        self
    }

    pub(crate) fn forgets_after(mut self, milliseconds: u64) -> Self {
        self.timeout = Some(milliseconds);
        self
    }

    fn places(&self, whose: Whose) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(move |(_, one)| **one == whose).map(|(place, _)| place)
    }

    pub(crate) fn ours(&self) -> impl Iterator<Item = usize> {
        self.places(Whose::Ours)
    }

    pub(crate) fn theirs(&self) -> impl Iterator<Item = usize> {
        self.places(Whose::Theirs)
    }

    /// CZMQ's nodes send no PING, so that those with a client of their own kind would forget it
    fn timeout_of(&self, place: usize) -> Option<u64> {
        let has_own_client =
            self.links.iter().any(|(from, to)| *to == place && self.nodes.get(*from) == Some(&Whose::Theirs));
        if has_own_client { Some(0) } else { self.timeout }
    }
}

impl Network {
    /// Starts all nodes, binds those that others connect to, and connects them; `None` where CZMQ is not installed
    pub(crate) async fn start(plan: Plan) -> Result<Option<Self>> {
        let Some(czmq) = Czmq::start().await? else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        let mut network =
            Self { plan, czmq, ours: BTreeMap::new(), endpoints: BTreeMap::new(), folder, address: address() };
        for place in 0..network.plan.nodes.len() {
            network.start_node(place).await?;
        }
        for (from, to) in network.plan.links.clone() {
            network.connect(from, to).await?;
        }
        Ok(Some(network))
    }

    /// Starts a node where it was before, or anywhere if it is new
    pub(crate) async fn start_node(&mut self, place: usize) -> Result<()> {
        let serves = self.plan.links.iter().any(|(_, to)| *to == place);
        let endpoint = match self.endpoints.get(&place) {
            Some(endpoint) => endpoint.clone(),
            None => match self.plan.transport {
                Transport::Tcp => format!("tcp://{}:*", self.address),
                Transport::Ipc => format!("ipc://{}/{place}", self.folder.path().display()),
            },
        };
        let bound = match self.whose(place)? {
            Whose::Ours => {
                let ours = Ours::start(&name(place)).await?;
                let bound = if serves { Some(ours.bind(&endpoint).await?) } else { None };
                self.ours.insert(place, ours);
                bound
            }
            Whose::Theirs => {
                self.czmq.node(&name(place), self.plan.timeout_of(place)).await?;
                if self.plan.inproc {
                    self.czmq.bind(&name(place), &inproc(place)).await?;
                }
                if serves { Some(self.czmq.bind(&name(place), &endpoint).await?) } else { None }
            }
        };
        self.endpoints.extend(bound.map(|bound| (place, bound)));
        Ok(())
    }

    pub(crate) async fn connect(&mut self, from: usize, to: usize) -> Result<()> {
        let endpoint = match (self.whose(from)?, self.whose(to)?, self.plan.inproc) {
            (Whose::Theirs, Whose::Theirs, true) => inproc(to),
            _ => self.endpoints.get(&to).context("nobody is bound there")?.clone(),
        };
        match self.whose(from)? {
            Whose::Ours => self.node(from)?.connect(&endpoint),
            Whose::Theirs => self.czmq.connect(&name(from), &endpoint).await,
        }
    }

    /// Connects a node that was started anew to whomever it is to be connected to
    pub(crate) async fn connect_node(&mut self, place: usize) -> Result<()> {
        for (from, to) in self.plan.links.clone() {
            if from == place {
                self.connect(from, to).await?;
            }
        }
        Ok(())
    }

    /// Ends a node with all that it knows
    pub(crate) async fn end_node(&mut self, place: usize) -> Result<()> {
        match self.whose(place)? {
            Whose::Ours => self.ours.remove(&place).context("it is not there")?.stop().await,
            Whose::Theirs => self.czmq.term(&name(place)).await,
        }
    }

    fn whose(&self, place: usize) -> Result<Whose> {
        self.plan.nodes.get(place).copied().context("no such node")
    }

    pub(crate) fn node(&self, place: usize) -> Result<&Ours> {
        self.ours.get(&place).context("it is none of ours")
    }

    pub(crate) async fn publish(&mut self, place: usize, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        match self.whose(place)? {
            Whose::Ours => self.node(place)?.put(key.as_ref(), value.as_ref()).await,
            Whose::Theirs => self.czmq.publish(&name(place), key, value).await,
        }
    }

    /// Publishes `PREFIX-0` and up; CZMQ's values and ours differ, but not in size
    pub(crate) async fn publish_many(&mut self, place: usize, prefix: &str, count: usize, size: usize) -> Result<()> {
        match self.whose(place)? {
            Whose::Ours => {
                for number in 0..count {
                    let (key, value) = (format!("{prefix}-{number}"), format!("{number:size$}"));
                    self.node(place)?.put(key.as_bytes(), value.as_bytes()).await?;
                }
                Ok(())
            }
            Whose::Theirs => self.czmq.publish_many(&name(place), prefix, count, size).await,
        }
    }

    /// Waits until each node has so many tuples
    pub(crate) async fn until_tuples(&mut self, count: usize) -> Result<()> {
        for place in 0..self.plan.nodes.len() {
            self.until_tuples_at(place, count).await?;
        }
        Ok(())
    }

    pub(crate) async fn until_tuples_at(&mut self, place: usize, count: usize) -> Result<()> {
        match self.whose(place)? {
            Whose::Ours => self.node(place)?.until_tuples(count).await,
            Whose::Theirs => self.czmq.until_tuples(&name(place), count).await.map(drop),
        }
    }

    /// Waits until each node has this value
    pub(crate) async fn until_value(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        for place in 0..self.plan.nodes.len() {
            match self.whose(place)? {
                Whose::Ours => self.node(place)?.until_value(key, value).await?,
                Whose::Theirs => self.czmq.until_value(&name(place), key, value).await?,
            }
        }
        Ok(())
    }

    /// What a node has
    pub(crate) async fn table(&mut self, place: usize) -> Result<BTreeMap<Bytes, Bytes>> {
        match self.whose(place)? {
            Whose::Ours => Ok(self.node(place)?.table()),
            Whose::Theirs => self.czmq.table(&name(place)).await,
        }
    }

    /// Sees to it that all nodes have the same; returns it
    pub(crate) async fn agree(&mut self) -> Result<BTreeMap<Bytes, Bytes>> {
        let first = self.table(0).await?;
        for place in 1..self.plan.nodes.len() {
            let other = self.table(place).await?;
            let differing = first.keys().chain(other.keys()).find(|key| first.get(*key) != other.get(*key));
            ensure!(differing.is_none(), "nodes 0 and {place} don't agree on {differing:?}");
        }
        Ok(first)
    }

    /// How many of CZMQ's nodes still answer STATUS; each has to have so many tuples
    pub(crate) async fn alive(&mut self, tuples: usize) -> Result<usize> {
        let places: Vec<usize> = self.plan.theirs().collect();
        for place in &places {
            let status = self.czmq.status(&name(*place)).await?;
            ensure!(status == tuples, "node {place} of CZMQ has {status} tuples, not {tuples}");
        }
        Ok(places.len())
    }
}

/// Another one for each network of this process and, most likely, of others that run now
fn address() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(256).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    let [_, high, middle, low] = number.to_be_bytes();
    Ipv4Addr::new(127, high.clamp(1, 254), middle, low.clamp(1, 254))
}

/// What a node is called
pub(crate) fn name(place: usize) -> String {
    format!("node-{place}")
}

fn inproc(place: usize) -> String {
    format!("inproc://{}", name(place))
}
