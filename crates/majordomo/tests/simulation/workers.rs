//! Workers: they answer, in parts, late, twice or not at all; they die, hang, drain and come back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use testkit::Random;
use tidings_majordomo::wire::{Body, ReadyOptions, Status, Wire, WorkerCommand, WorkerOrder};
use tidings_socket::{Bytes, Message};

use crate::world::{Event, Owner, SERVICES, World};

pub(crate) struct Worker {
    pub(crate) wire: Wire,
    service: &'static str,
    concurrency: u32,
    /// How fast its clock runs, in thousandths
    speed: u64,
    connection: Option<usize>,
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    is_hung: bool,
    is_draining: bool,
    /// Whether it will act by itself
    is_awaited: bool,
    /// The last answer, which a confused worker may send again on its next connection
    last: Option<Message>,
}

#[derive(Clone)]
struct Job {
    token: Bytes,
    body: Body,
    parts: u64,
    /// When there is no time for it any more, as it was told
    until: Option<Instant>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            wire: Wire::Mdp01,
            service: SERVICES[0],
            concurrency: 1,
            speed: 1000,
            connection: None,
            jobs: BTreeMap::new(),
            next_job: 0,
            is_hung: false,
            is_draining: false,
            is_awaited: true,
            last: None,
        }
    }
}

impl Worker {
    pub(crate) fn new(random: &mut Random) -> Self {
        let wire = match random.within(0..=8) {
            0..=3 => Wire::Tidings,
            // A worker of Domogik's speaks 0.1
            4 => Wire::Domogik,
            number => [Wire::Mdp01, Wire::Mdp02, Wire::Majortomo, Wire::Zproto][number as usize - 5],
        };
        Self {
            wire,
            service: SERVICES[random.within(0..=5).saturating_sub(3) as usize],
            concurrency: if wire.is_numbered() { random.within(1..=4) as u32 } else { 1 },
            speed: random.within(700..=1300),
            ..Self::default()
        }
    }

    /// Begins a conversation if there is none, or does something foolish
    pub(crate) fn act(&mut self, world: &mut World, index: usize) {
        self.is_awaited = false;
        let connection = self.connection.filter(|connection| world.is_open(*connection));
        let Some(connection) = connection else { return self.begin(world, index) };
        if world.is_calm {
            // A new life: whatever was wrong is over
            if std::mem::take(&mut self.is_hung) || self.is_draining {
                self.end(world, index, connection);
            }
            return;
        }
        self.act_within(world, index, 3000);
        if world.chance(4) {
            match self.jobs.len() {
                0 => world.totals.died_idle += 1,
                _ => world.totals.died_at_work += 1,
            }
            return self.end(world, index, connection);
        }
        if world.chance(8) {
            world.totals.hung += 1;
            self.is_hung = true;
        } else if world.chance(6) && self.wire.is_numbered() {
            world.totals.drained += 1;
            self.is_draining = true;
            world.say(connection, WorkerCommand::Draining.encode(self.wire).unwrap());
            self.finish_draining(world, index, connection);
        } else if world.chance(10) {
            world.say(connection, WorkerCommand::Disconnect.encode(self.wire).unwrap());
            self.end(world, index, connection);
        } else if world.chance(15) {
            // READY twice
            world.say(connection, self.ready());
        }
    }

    fn begin(&mut self, world: &mut World, index: usize) {
        let connection = world.connect(Owner::Worker(index));
        self.connection = Some(connection);
        self.jobs.clear();
        (self.is_hung, self.is_draining) = (false, false);
        if world.chance(6) {
            self.service = SERVICES[world.random.within(0..=5).saturating_sub(3) as usize];
        }
        world.say(connection, self.ready());
        if let Some(last) = self.last.take().filter(|_| world.chance(10)) {
            world.totals.answered_twice += 1;
            world.say(connection, last);
        }
        self.next_beat(world, index, connection);
        if !world.is_calm {
            self.act_within(world, index, 3000);
        }
    }

    fn act_within(&mut self, world: &mut World, index: usize, millis: u64) {
        if !std::mem::replace(&mut self.is_awaited, true) {
            world.soon(millis, Event::Worker(index));
        }
    }

    fn ready(&self) -> Message {
        let options = ReadyOptions { concurrency: self.concurrency, heartbeat: None };
        WorkerCommand::Ready { service: self.service.parse().unwrap(), options }.encode(self.wire).unwrap()
    }

    fn end(&mut self, world: &mut World, index: usize, connection: usize) {
        world.cut(connection);
        self.lost(world, index, connection);
    }

    pub(crate) fn lost(&mut self, world: &mut World, index: usize, connection: usize) {
        if self.connection == Some(connection) {
            self.connection = None;
            self.jobs.clear();
            self.act_within(world, index, 1500);
        }
    }

    fn next_beat(&self, world: &mut World, index: usize, connection: usize) {
        world.after(Duration::from_micros(500 * self.speed), Event::Beat(index, connection));
    }

    pub(crate) fn beat(&mut self, world: &mut World, index: usize, connection: usize) {
        if self.connection != Some(connection) {
            return;
        }
        self.next_beat(world, index, connection);
        // Guide-style workers are mute while they work
        let is_mute = self.is_hung || (!self.wire.is_numbered() && !self.jobs.is_empty());
        if !is_mute {
            world.say(connection, WorkerCommand::Heartbeat.encode(self.wire).unwrap());
        }
    }

    pub(crate) fn hear(&mut self, world: &mut World, index: usize, connection: usize, message: Message) {
        if self.connection != Some(connection) || self.is_hung {
            return;
        }
        let order = WorkerOrder::decode(message, self.wire).expect("an order of our wire");
        world.tell(|| format!("       worker {index} hears {order:?}"));
        match order {
            WorkerOrder::Request { token, body, options } => {
                assert!(self.jobs.len() < self.concurrency as usize, "one too many for worker {index}");
                if world.chance(15) {
                    world.totals.died_at_work += 1;
                    return self.end(world, index, connection);
                }
                let job = self.next_job;
                self.next_job += 1;
                let until = options.deadline.map(|left| world.clock.now() + left);
                self.jobs.insert(job, Job { token, body, parts: 0, until });
                let longest = if world.chance(10) { 8000 } else { 300 };
                let takes = Duration::from_micros(world.random.within(0..=longest * 1000));
                // It looks again when there is no time any more
                world.after(options.deadline.map_or(takes, |left| takes.min(left)), Event::Job(index, job));
            }
            WorkerOrder::Cancel { token } => {
                // Sometimes it sees to it, sometimes it goes on
                let job = self.jobs.iter().find(|(_, job)| job.token == token).map(|(number, _)| *number);
                if let Some(job) = job.filter(|_| world.random.within(0..=1) == 0) {
                    self.jobs.remove(&job);
                    let refused = WorkerCommand::Refused { token, status: Status::CANCELLED, text: Bytes::new() };
                    world.say(connection, refused.encode(self.wire).unwrap());
                    self.finish_draining(world, index, connection);
                }
            }
            WorkerOrder::Disconnect => self.end(world, index, connection),
            WorkerOrder::Drain => {
                self.is_draining = true;
                self.finish_draining(world, index, connection);
            }
            WorkerOrder::Heartbeat => {}
        }
    }

    pub(crate) fn work(&mut self, world: &mut World, index: usize, number: u64) {
        let Some(connection) = self.connection.filter(|_| !self.is_hung) else { return };
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let token = job.token.clone();
        if self.wire.has_partial_replies() && job.parts < 3 && world.chance(6) {
            job.parts += 1;
            let body = job.body.clone();
            world.say(connection, WorkerCommand::Partial { token, body }.encode(self.wire).unwrap());
            world.soon(200, Event::Job(index, number));
            if world.chance(10) {
                world.totals.died_after_a_part += 1;
                self.end(world, index, connection);
            }
            return;
        }
        let Some(job) = self.jobs.remove(&number) else { return };
        let is_over = job.until.is_some_and(|until| until <= world.clock.now());
        let answer = if self.wire.is_numbered() && is_over {
            world.totals.gave_up += 1;
            let status = [Status::CANCELLED, Status::DEADLINE_PASSED][world.random.within(0..=1) as usize];
            WorkerCommand::Refused { token, status, text: Bytes::new() }
        } else if self.wire.is_numbered() && world.chance(12) {
            world.totals.refused_by_worker += 1;
            WorkerCommand::Refused { token, status: Status::WORKER_FAILED, text: "failed".into() }
        } else {
            WorkerCommand::Final { token, body: job.body }
        };
        let message = answer.encode(self.wire).unwrap();
        world.say(connection, message.clone());
        if world.chance(40) {
            world.totals.answered_twice += 1;
            world.say(connection, message.clone());
        }
        self.last = Some(message);
        if world.chance(25) {
            return self.end(world, index, connection);
        }
        self.finish_draining(world, index, connection);
    }

    fn finish_draining(&mut self, world: &mut World, index: usize, connection: usize) {
        if self.is_draining && self.jobs.is_empty() {
            world.say(connection, WorkerCommand::Disconnect.encode(self.wire).unwrap());
            self.end(world, index, connection);
        }
    }
}
