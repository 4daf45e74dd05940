//! Where profiles enter.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::Error;
use crate::sender::Sender;

/// A source of profiles.
///
/// The engine calls [`Receiver::run`] once, on its own task. It runs until it has nothing more to
/// give or until [`Lifecycle::stopping`] resolves; then it sends what it still holds and returns.
/// Work that blocks belongs on threads of its own. An error stops the engine.
#[async_trait]
pub trait Receiver: Send {
    /// Produces batches into `out` until told to stop.
    async fn run(self: Box<Self>, out: Sender, life: Lifecycle) -> Result<(), Error>;
}

/// Tells a receiver when to stop.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    stop: watch::Receiver<Option<Duration>>,
}

/// The other end of a [`Lifecycle`].
#[derive(Debug)]
pub struct Stopper(watch::Sender<Option<Duration>>);

impl Lifecycle {
    /// A life, and what ends it.
    pub fn new() -> (Stopper, Self) {
        let (sender, stop) = watch::channel(None);
        (Stopper(sender), Self { stop })
    }

    /// Resolves when the receiver should stop, with the time it has left for that.
    pub async fn stopping(&mut self) -> Duration {
        match self.stop.wait_for(Option::is_some).await {
            Ok(grace) => grace.unwrap_or_default(),
            Err(_) => Duration::ZERO,
        }
    }

    /// True once the receiver should stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some() || self.stop.has_changed().is_err()
    }
}

impl Stopper {
    /// Asks to stop within `grace`. Dropping the stopper asks to stop at once.
    pub fn stop(&self, grace: Duration) {
        self.0.send_replace(Some(grace));
    }
}
