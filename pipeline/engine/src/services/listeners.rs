//! Sockets that outlive a configuration.
//!
//! A reload starts one engine and ends another. The sockets stay open between the two, so that the
//! kernel keeps new connections waiting instead of refusing them. Once it is known whether the new
//! engine runs, those that nobody wants any more are closed: [`Listeners::release_unused`] if it
//! does, [`Listeners::release_new`] if it does not.
//!
//! An address that overlaps with one that is open, as `0.0.0.0:4318` with `127.0.0.1:4318`, is opened
//! beside it. What is within the new one is handed over with it, so that no connection that waits there
//! is lost; what is wider is closed when the new engine runs.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};

use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

/// How many connections wait at a socket, as the standard library has it.
const BACKLOG: i32 = 128;

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
    /// The sockets that listen at an address, opened unless they are open already; they do not block. The
    /// first is that of the address; others were opened for a part of it, and are to be served, too.
    /// Port 0 always opens another one.
    ///
    /// # Errors
    /// If the address cannot be listened at, or another server of the same engine has it.
    pub fn bind(&self, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sockets = Vec::new();
        if let Some(known) = held.get_mut(&address) {
            if known.used {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            known.used = true;
            sockets.push(known.socket.try_clone()?);
        } else {
            let socket = match TcpListener::bind(address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    let ours = held.iter().filter(|(at, _)| overlaps(**at, address));
                    let ours: Vec<_> = ours.map(|(_, known)| known).collect();
                    if ours.is_empty() || ours.iter().any(|known| known.used) {
                        return Err(error);
                    }
                    bind_beside(address, &ours)?
                }
                other => other?,
            };
            socket.set_nonblocking(true)?;
            sockets.push(socket.try_clone()?);
            if address.port() != 0 {
                held.insert(address, Held { socket, used: true, new: true });
            }
        }
        for (at, known) in held.iter_mut() {
            if *at != address && !known.used && is_within(*at, address) {
                known.used = true;
                sockets.push(known.socket.try_clone()?);
            }
        }
        Ok(sockets)
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

/// Opens a socket at an address that these overlap with, which are ours: all of them may share it for the
/// moment in which it is opened, and nobody else after that.
fn bind_beside(address: SocketAddr, ours: &[&Held]) -> io::Result<TcpListener> {
    let shared = |is_shared| {
        ours.iter().try_for_each(|known| set_socket_reuseport(&known.socket, is_shared))
    };
    shared(true)?;
    let opened = (|| {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_reuseaddr(&socket, true)?;
        set_socket_reuseport(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        set_socket_reuseport(&socket, false)?;
        Ok(TcpListener::from(socket))
    })();
    shared(false)?;
    opened
}

/// Whether connections to one address may reach the other.
fn overlaps(one: SocketAddr, other: SocketAddr) -> bool {
    one == other || is_within(one, other) || is_within(other, one)
}

/// Whether every connection to the one reaches the other, if that listens alone.
fn is_within(one: SocketAddr, other: SocketAddr) -> bool {
    // Without a host, a socket of IPv6 takes both families.
    let is_wide = other.ip().is_unspecified() && (other.is_ipv6() || one.is_ipv4());
    one.port() == other.port() && one != other && is_wide
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::Listeners;

    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    /// Takes a connection at whichever of these has one, and answers it.
    fn serve(sockets: &[TcpListener]) {
        for socket in sockets.iter().cycle() {
            if let Ok((mut stream, _)) = socket.accept() {
                stream.write_all(b"here").unwrap();
                return;
            }
            std::thread::yield_now();
        }
    }

    fn ask(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Scenario: engines follow each other at addresses that overlap: one of the host, all of IPv4, all
    /// there are, and back; a connection is made before and after each step. Another program tries the
    /// same addresses.
    /// Guarantees: each engine gets its address and every connection; what the last one does not want is
    /// closed; nobody else gets in beside them.
    #[test]
    fn addresses_that_overlap_follow_each_other() {
        let port = free_port();
        let at = |host: &str| -> SocketAddr { format!("{host}:{port}").parse().unwrap() };
        let loopback = at("127.0.0.1");
        let listeners = Listeners::default();
        let mut sockets = listeners.bind(loopback).unwrap();
        listeners.release_unused();
        for host in ["0.0.0.0", "127.0.0.1", "[::]", "0.0.0.0", "[::]", "127.0.0.1"] {
            let early = TcpStream::connect(loopback).unwrap();
            // The old engine still runs.
            serve(&sockets);
            assert_eq!(ask(early), "here");
            listeners.begin();
            let next = listeners.bind(at(host)).unwrap();
            let between = TcpStream::connect(loopback).unwrap();
            sockets = next;
            listeners.release_unused();
            serve(&sockets);
            assert_eq!(ask(between), "here", "{host}");
            assert!(TcpListener::bind(at("0.0.0.0")).is_err(), "somebody got in beside {host}");
            assert!(TcpListener::bind(loopback).is_err(), "somebody got in beside {host}");
        }
        // Only the address of the last one is left.
        assert!(TcpStream::connect(at("127.0.0.2")).is_err());
    }

    /// Scenario: a new engine opens a wider address and is given up.
    /// Guarantees: what it opened is closed, and the old engine's socket is as it was.
    #[test]
    fn what_a_failed_engine_opened_is_closed() {
        let port = free_port();
        let at = |host: &str| -> SocketAddr { format!("{host}:{port}").parse().unwrap() };
        let listeners = Listeners::default();
        let sockets = listeners.bind(at("127.0.0.1")).unwrap();
        listeners.release_unused();
        listeners.begin();
        drop(listeners.bind(at("0.0.0.0")).unwrap());
        listeners.release_new();
        assert!(TcpStream::connect(at("127.0.0.2")).is_err());
        let stream = TcpStream::connect(at("127.0.0.1")).unwrap();
        serve(&sockets);
        assert_eq!(ask(stream), "here");
    }

    /// Scenario: two servers of one engine want addresses that overlap; somebody else has an address.
    /// Guarantees: the second gets an error, in either order; so does who comes after somebody else.
    #[test]
    fn two_owners_are_an_error() {
        for hosts in [["127.0.0.1", "0.0.0.0"], ["0.0.0.0", "127.0.0.1"]] {
            let port = free_port();
            let at = hosts.map(|host| -> SocketAddr { format!("{host}:{port}").parse().unwrap() });
            let listeners = Listeners::default();
            let _first = listeners.bind(at[0]).unwrap();
            assert!(listeners.bind(at[1]).is_err());
            let elsewhere = Listeners::default();
            assert!(elsewhere.bind(at[1]).is_err());
        }
    }
}
