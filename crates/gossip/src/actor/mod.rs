//! The actor interface of CZMQ's zgossip: text commands in, replies and deliveries out, on one ordered pipe.
//!
//! | command | effect and reply |
//! |---|---|
//! | `BIND` endpoint | listens; no reply, a failure is logged |
//! | `PORT` | `PORT` number: of the last BIND; 0 where there is none, -1 when it failed |
//! | `CONNECT` endpoint \[key\] | connects; with the server's CURVE key in Z85 the link is sealed |
//! | `PUBLISH` key value \[ttl\] | gives a key a value; no reply, but `DELIVER` if that is new |
//! | `STATUS` | `STATUS` count of tuples |
//! | `SET` path value | sets a value of the configuration |
//! | `LOAD` file, or `CONFIGURE` | replaces the configuration by a file's and applies it, now and when the file changes |
//! | `SAVE` file | writes the configuration |
//! | `VERBOSE` | logs commands and deliveries at the level info, not debug |
//! | `SET PUBLICKEY` key, `SET SECRETKEY` key | this node's CURVE keys in Z85, for what is bound and connected from then on |
//! | `ZAP DOMAIN` domain | what authenticators are told; `global` where nothing is |
//! | `$TERM` | ends the actor |
//! | `UNPUBLISH`, `GET`, `LIST`, `WATCH`, `PEERS`, `MEMBERS`, `GRAPH` | ours: see the table of text commands in the book |
//! | anything else | `ERROR` text; the original logs it |
//!
//! `DELIVER` key value comes without being asked for, whenever a key has a value that it didn't have. Commands are carried
//! out in order, and so are the replies; a DELIVER that came before a STATUS was asked for comes before its reply.
//!
//! What the original does and this does not: it forgets clients that are silent for a second (here never, until `server/timeout` is
//! set or a file is loaded), stops at the first malformed frame, and lets its pipe grow without bound. An application
//! here that leaves 65,536 deliveries unread is told the newest value of every key again, when it reads on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_socket::{Context, Message, PairSocket};
use tokio::sync::{mpsc, watch};

use crate::driver::{Gossip, GossipBuilder, text};

mod configuration;
mod engine;
use engine::Engine;
mod pipe;
use pipe::Pipe;

/// A gossip node behind a pipe of text commands
///
/// Cheap to clone; the actor ends with `$TERM`, or when its last handle is dropped.
#[derive(Clone, Debug)]
pub struct Actor {
    commands: mpsc::Sender<Vec<Bytes>>,
    reader: Arc<Reader>,
    ended: watch::Receiver<bool>,
}

/// Whoever reads the pipe; when the last handle is dropped nobody does any more
#[derive(Debug)]
struct Reader(Arc<Pipe>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The actor has ended
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the actor has ended")]
pub struct ActorEnded;

impl Actor {
    /// Starts an actor; `prefix` stands in front of what it logs, and is what its node is called
    #[must_use]
    pub fn start(context: &Context, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        Self::of(context, Gossip::builder(context).name(prefix.clone()), prefix)
    }

    /// Starts an actor around the node that this makes, when it is needed first
    ///
    /// CURVE keys that commands give take the place of the builder's.
    #[must_use]
    pub fn of(context: &Context, builder: GossipBuilder, prefix: impl Into<String>) -> Self {
        let (commands, received) = mpsc::channel(COMMANDS);
        let (end, ended) = watch::channel(false);
        let prefix = prefix.into();
        let pipe = Arc::new(Pipe::new(prefix.clone()));
        let engine = Engine::new(builder, prefix, pipe.clone());
        context.spawn(async move {
            engine.run(received).await;
            end.send_replace(true);
        });
        Self { commands, reader: Arc::new(Reader(pipe)), ended }
    }

    /// Sends a command, its frames in order; it is carried out after those before it
    ///
    /// Where a thousand replies wait to be read no further command is carried out, until `$TERM` is sent: what comes before
    /// that is then carried out as well.
    ///
    /// # Errors
    /// [`ActorEnded`].
    ///
    /// # Cancel safety
    /// Safe: when dropped before it completes, nothing was sent.
    pub async fn send<F: AsRef<[u8]>>(&self, frames: impl IntoIterator<Item = F>) -> Result<(), ActorEnded> {
        self.command(frames.into_iter().map(|frame| Bytes::copy_from_slice(frame.as_ref())).collect()).await
    }

    async fn command(&self, frames: Vec<Bytes>) -> Result<(), ActorEnded> {
        if frames.first().is_some_and(|word| word == TERM) {
            self.pipe().close();
        }
        self.commands.send(frames).await.map_err(|_| ActorEnded)
    }

    fn pipe(&self) -> &Pipe {
        &self.reader.0
    }

    /// The next reply or delivery, its frames in order; `None` when the actor has ended and all was read
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub async fn recv(&self) -> Option<Vec<Bytes>> {
        loop {
            // A permit of `told` stays until it is taken: what comes after the look wakes this
            match self.try_recv() {
                Some(frames) => {
                    // Where several wait, one wake-up may have been for more than one message
                    self.pipe().tell();
                    return Some(frames);
                }
                None if *self.ended.borrow() => return self.try_recv(),
                None => {}
            }
            let mut ended = self.ended.clone();
            tokio::select! {
                () = self.pipe().told() => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        }
    }

    /// The next reply or delivery, if there is one already
    pub fn try_recv(&self) -> Option<Vec<Bytes>> {
        self.pipe().next().map(|message| message.into_frames().into_iter().collect())
    }

    /// Joins the actor to a socket: what it receives are commands, what it sends are replies and deliveries; until `$TERM`, or
    /// the socket is closed
    ///
    /// Whoever can reach the socket can do all that the commands do, which includes to read and write files: bind
    /// inproc or ipc, or ask for keys.
    ///
    /// # Cancel safety
    /// A message that was read from the pipe and not yet sent is lost.
    pub async fn serve(&self, socket: &PairSocket) {
        let commands = async {
            while let Ok(message) = socket.recv().await {
                let is_last = message.first() == TERM;
                if self.command(message.into_frames().into_iter().collect()).await.is_err() || is_last {
                    break;
                }
            }
        };
        let replies = async {
            while let Some(frames) = self.recv().await {
                if socket.send(Message::multipart(frames)).await.is_err() {
                    break;
                }
            }
        };
        tokio::pin!(commands, replies);
        tokio::select! {
            () = &mut commands => {
                // What was replied before the end
                let _ = tokio::time::timeout(LAST_WORDS, replies).await;
            }
            () = &mut replies => {}
        }
        if !*self.ended.borrow() {
            let _ = self.command(vec![text::word("$TERM")]).await;
        }
    }

    /// Waits until it has ended
    ///
    /// # Cancel safety
    /// Safe: it only waits.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error says that its task is gone with the runtime
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// The word that ends an actor
const TERM: &[u8] = b"$TERM";
/// Commands that wait to be carried out
const COMMANDS: usize = 64;
/// What there is for the last replies to be read and sent
const LAST_WORDS: Duration = Duration::from_secs(1);
