//! Sockets that outlive a configuration.
//!
//! A reload starts one engine and ends another. The sockets stay open between the two, so that the
//! kernel keeps new connections waiting instead of refusing them. Once it is known whether the new
//! engine runs, those that nobody wants any more are closed: [`Listeners::release_unused`] if it
//! does, [`Listeners::release_new`] if it does not.

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
    /// Asked for since sockets were last released.
    used: bool,
    /// Opened since sockets were last released.
    new: bool,
}

impl Listeners {
    /// The socket that listens at an address, opened unless it is open already; it does not block.
    /// Port 0 always opens another one.
    ///
    /// # Errors
    /// If the address cannot be listened at, or another server of the same engine has it.
    pub fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = held.get_mut(&address) {
            if known.used {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            known.used = true;
            return known.socket.try_clone();
        }
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let ours = socket.try_clone()?;
        if address.port() != 0 {
            held.insert(address, Held { socket, used: true, new: true });
        }
        Ok(ours)
    }

    /// Another engine is being built: from now on each address is asked for once.
    pub fn begin(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for known in held.values_mut() {
            known.used = false;
        }
    }

    /// Closes the sockets that nobody has asked for since sockets were last released: after a new
    /// engine has started, those that only the old one wanted.
    pub fn release_unused(&self) {
        self.release(|held| held.used);
    }

    /// Closes the sockets that were opened since sockets were last released: after a new engine
    /// could not be built, those that only it wanted.
    pub fn release_new(&self) {
        self.release(|held| !held.new);
    }

    fn release(&self, keep: impl Fn(&Held) -> bool) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, known| keep(known));
        for known in held.values_mut() {
            (known.used, known.new) = (false, false);
        }
    }
}
