//! Both ends in one process: over inproc no octet is written.

use std::thread;

use anyhow::{Result, anyhow};
use tidings_socket::{Context, PullSocket, PushSocket, RepSocket, ReqSocket};

use crate::arguments::{Arguments, Usage};
use crate::measure::print;
use crate::on_runtime;
use crate::pipeline::{Load, receive_all, send_all};
use crate::requests::{Questions, ask_all};

/// Two threads with a runtime each
pub(crate) fn throughput(mut arguments: Arguments) -> Result<()> {
    let load = Load { size: arguments.needed("size")?, count: arguments.needed("count")?, frames: 1, batch: 1 };
    arguments.finish()?;
    on_runtime(async move {
        let context = Context::new();
        let pull = PullSocket::new(&context)?;
        pull.bind(NAME)?.await?;
        let push = PushSocket::new(&context)?;
        push.connect(NAME)?.await?;
        let pushing = thread::spawn(move || {
            on_runtime(async move {
                send_all(std::slice::from_ref(&push), load).await?;
                Ok(push)
            })
        });
        print(&receive_all(&pull, load).await?)?;
        pushing.join().map_err(|_| anyhow!("the sending thread panicked"))??;
        Ok(())
    })
}

/// Each socket on a thread of its own, or both as tasks of one runtime
pub(crate) fn latency(mut arguments: Arguments) -> Result<()> {
    let questions = Questions { size: arguments.needed("size")?, count: arguments.needed("count")?, rate: None };
    let threads: usize = arguments.or("threads", 2)?;
    arguments.finish()?;
    on_runtime(async move {
        let context = Context::new();
        let rep = RepSocket::new(&context)?;
        rep.bind(NAME)?.await?;
        let req = ReqSocket::new(&context)?;
        req.connect(NAME)?.await?;
        let total = questions.count + questions.count / 10;
        match threads {
            1 => {
                let replying = tokio::spawn(reply(rep, total));
                print(&ask_all(&req, questions).await?)?;
                replying.await?
            }
            2 => {
                let replying = thread::spawn(move || on_runtime(reply(rep, total)));
                print(&ask_all(&req, questions).await?)?;
                replying.join().map_err(|_| anyhow!("the replying thread panicked"))?
            }
            _ => Err(Usage("threads is 1 or 2".to_owned()).into()),
        }
    })
}

async fn reply(rep: RepSocket, count: usize) -> Result<()> {
    for _ in 0..count {
        let request = rep.recv().await?;
        rep.send(request).await?;
    }
    Ok(())
}

const NAME: &str = "inproc://bench";
