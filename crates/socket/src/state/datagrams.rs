//! Endpoints of datagrams: no handshake, no subscriptions, no connection to be lost (RFC 48; `udp.rs`).

use super::*;

impl State {
    /// A pipe for an endpoint of datagrams: there is no handshake to wait for
    ///
    /// `most` is what a datagram to it may hold; `None` where it only receives.
    pub(crate) fn add_datagrams(&mut self, newcomer: Newcomer, most: Option<usize>) -> Result<PipeKey, &'static str> {
        if self.phase != Phase::Open {
            return Err(SOCKET_CLOSED);
        }
        let key = self.add_pipe(newcomer.endpoint, newcomer.driver, true)?;
        if let Some(pipe) = self.pipe_mut(key) {
            pipe.is_datagrams = true;
            pipe.attached = true;
            pipe.connection = newcomer.connection;
            pipe.address = newcomer.address;
            pipe.set_origin(newcomer.origin);
        }
        if let Some(most) = most {
            self.datagrams.push((key.index, most));
            if let Pattern::Push = self.pattern {
                // From now on messages must fit into a datagram
                self.pattern = Pattern::PushDatagrams;
            }
        }
        self.signals.changed = true;
        // No inproc peer is the only one any more
        self.ask_links(true);
        Ok(key)
    }

    /// Forgets what a pipe of datagrams takes
    pub(super) fn forget_datagrams(&mut self, key: PipeKey) {
        self.datagrams.retain(|(index, _)| *index != key.index);
    }

    /// PUSH with an endpoint of datagrams: one frame, small enough for each of them
    pub(super) fn push_datagram(&mut self, message: &mut Message) -> Result<(), SendFailure> {
        if !self.datagrams.is_empty() && message.frame_count() > 1 {
            return Err(SendFailure::Invalid(ONE_FRAME));
        }
        self.check_datagram(message.octets())?;
        self.send_in_turn(message)
    }

    /// Whether a datagram of that many octets can be sent to every endpoint of datagrams
    pub(super) fn check_datagram(&self, octets: usize) -> Result<(), SendFailure> {
        match self.datagrams.iter().map(|(_, most)| *most).min() {
            Some(most) if octets > most => Err(SendFailure::TooLarge { octets, most }),
            _ => Ok(()),
        }
    }

    /// What the task of a pipe that sends datagrams calls after each round
    ///
    /// It says what has left and what could not be sent, and takes what is queued if it has nothing left.
    pub(crate) fn exchange_datagrams(
        &mut self,
        key: PipeKey,
        done: Load,
        lost: u64,
        batch: &mut VecDeque<Message>,
    ) -> Orders {
        let index = key.index as usize;
        if done != Load::default() {
            self.credit(index, done);
        }
        self.count_drops(index, lost);
        let (phase, reason) = (self.phase, self.end_reason());
        let Some(pipe) = self.pipe_mut(key).filter(|pipe| !pipe.departed) else {
            return Orders { room: 0, close: Some(reason), drain: None };
        };
        if batch.is_empty() && !pipe.outbox.is_empty() {
            let load = pipe.outbox.load();
            pipe.outbox.take_local(usize::MAX, batch);
            pipe.in_flight.messages += load.messages;
            pipe.in_flight.octets += load.octets;
        }
        let drains = (phase != Phase::Open || pipe.leaving) && batch.is_empty();
        // There is no connection to be closed: the policy `disconnect` drops what has no room
        pipe.doomed = None;
        let close = (phase == Phase::Closed).then_some(reason);
        Orders { room: 0, close, drain: drains.then_some(reason) }
    }

    /// A datagram that was queued never left: it counts as dropped, and not as flushed
    pub(crate) fn discard_datagrams(&mut self, key: PipeKey, count: u64) {
        if let Some(pipe) = self.pipe_mut(key) {
            pipe.counts.discarded += count;
        }
        self.count_drops(key.index as usize, count);
    }

    /// Takes in a datagram; one that finds the queue full is dropped, and counted
    pub(crate) fn receive_datagram(&mut self, key: PipeKey, message: Message, origin: &Arc<Origin>) {
        let wanted = match &self.pattern {
            Pattern::Dish(dish) => dish.wants(message.first()),
            _ => true,
        };
        let (open, bound) = (self.phase == Phase::Open, self.recv_bound());
        let Some(pipe) = self.pipe_mut(key).filter(|_| open && wanted) else {
            return;
        };
        if pipe.reading_room(bound) == 0 {
            self.count_drops(key.index as usize, 1);
            return;
        }
        pipe.set_origin(origin.clone());
        self.append(key.index as usize, message);
    }

    /// Counts datagrams that were none of the pattern's
    pub(crate) fn count_malformed(&mut self, count: u64) -> u64 {
        self.malformed += count;
        self.malformed
    }
}

const ONE_FRAME: &str = "a PUSH that is connected to udp sends messages of one frame: each is a datagram";
