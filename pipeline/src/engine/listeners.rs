//! Sockets that outlive a configuration.
//!
//! A reload stops one engine and starts the next. The sockets stay open between the two, so that
//! the kernel keeps new connections waiting instead of refusing them.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Listening sockets by address.
#[derive(Debug, Default)]
pub struct Listeners {
    held: Mutex<BTreeMap<SocketAddr, Held>>,
}

#[derive(Debug)]
struct Held {
    socket: TcpListener,
    /// Asked for since the last [`Listeners::release_unused`].
    used: bool,
}

impl Listeners {
    /// The socket that listens at an address, opened unless it is open already; it does not block.
    /// Port 0 always opens another one.
    ///
    /// # Errors
    /// If the address cannot be listened at.
    pub fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = held.get_mut(&address) {
            known.used = true;
            return known.socket.try_clone();
        }
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let ours = socket.try_clone()?;
        if address.port() != 0 {
            held.insert(address, Held { socket, used: true });
        }
        Ok(ours)
    }

    /// Closes the sockets that nobody has asked for since the last call: after a new engine has
    /// started, those that only the old one wanted.
    pub fn release_unused(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, known| std::mem::take(&mut known.used));
    }
}
