//! The log: to stderr, as text or JSON, at a level that a reload can change.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use crate::cli::Talk;
use crate::config::{LogFormat, LogLevel};

/// Changes the level of the running log
pub(super) struct LogControl {
    level: reload::Handle<LevelFilter, Registry>,
}

impl LogControl {
    /// Begins to log
    pub(super) fn start(level: LogLevel, format: LogFormat, talk: Talk) -> Self {
        let (filter, handle) = reload::Layer::new(filter(level));
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(talk.colour).with_target(false);
        let lines = match format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        // There is one log per process; a second start, which only a test could make, keeps the first
        tracing_subscriber::registry().with(filter).with(lines).try_init().ok();
        Self { level: handle }
    }

    /// Logs at another level from now on
    pub(super) fn change(&self, level: LogLevel) {
        if let Err(error) = self.level.reload(filter(level)) {
            tracing::warn!(%error, "the log level stays as it is");
        }
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
