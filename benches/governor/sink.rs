//! Where profiles go: answers OTLP over HTTP and keeps what came, or answers nothing at all.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::server;

/// A server on the loopback.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Sink {
    pub(crate) fn start(silent: bool) -> Self {
        let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = Arc::clone(&bodies);
        let address = server::start(move |body| {
            if !silent {
                kept.lock().unwrap().push(body);
            }
            !silent
        });
        Self { address, bodies }
    }

    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().unwrap().clone()
    }
}
