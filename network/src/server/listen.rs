//! Listening, and taking connections for as long as the server runs.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use profpipe_engine::Listeners;
use profpipe_engine::budget::Budget;
use profpipe_engine::component::{Error, Extension, Lifecycle, Setup};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::connection::{Alive, LAST_REQUEST_TIMEOUT, Stop, connection, protocol, stopped};
use super::health::HealthCheck;
use super::route::Router;
use super::serve::Shared;
use super::tarpit::{Peer, Rejected, Tarpit};
use super::tls::Tls;
use crate::settings::server::{ServerSettings, split};

/// How long the start of an encrypted connection may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The waits after connections could not be taken, shortest and longest.
const ACCEPT_BACKOFF: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
/// The least time that answers may take after the server has stopped.
const MIN_CLOSE_TIME: Duration = Duration::from_secs(5);

/// A server that listens already and takes connections once it runs.
pub struct Server {
    sockets: Vec<std::net::TcpListener>,
    address: SocketAddr,
    settings: ServerSettings,
    auth: Option<Arc<dyn Extension>>,
    tls: Option<Arc<Tls>>,
    /// Who was rejected by the server before this one.
    rejected: Arc<Rejected>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens, with certificates read and credentials found.
    ///
    /// # Errors
    /// If one of these cannot be done; one line says which and what to do.
    pub fn build(settings: ServerSettings, setup: &Setup) -> Result<Self, Error> {
        let tls = settings.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
        let auth = match &settings.auth {
            None => None,
            Some(auth) => {
                let id = &auth.authenticator;
                let extension = setup.extensions.get(id)?;
                if extension.server_auth().is_none() {
                    let message = format!("the extension `{id}` does not authenticate senders");
                    return Err(Error::new(message));
                }
                Some(Arc::clone(extension))
            }
        };
        let sockets = bind(&settings.endpoint, &setup.services.listeners)?;
        let address = sockets.first().map(std::net::TcpListener::local_addr);
        let Some(Ok(address)) = address else {
            return Err(Error::new(format!("cannot listen at {}", settings.endpoint)));
        };
        let rejected = setup.services.carried.of(&setup.id);
        Ok(Self { sockets, address, settings, auth, tls, rejected })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until asked to stop and until no handler has anything to send any more; bodies are
    /// admitted to `budget`.
    ///
    /// # Errors
    /// If the socket cannot be used.
    pub async fn run(
        self,
        router: Router,
        budget: Arc<Budget>,
        mut life: Lifecycle,
    ) -> Result<(), Error> {
        let (alive, mut all_sent) = mpsc::channel(1);
        let (stopper, stop) = watch::channel(None);
        let tenant_header = self.settings.tenant_header.as_deref();
        let listening = Listening {
            builder: Arc::new(protocol(&self.settings)),
            slots: Arc::new(Semaphore::new(self.settings.max_connections)),
            tls: self.tls,
            stop: stop.clone(),
            alive: alive.clone(),
            shared: Arc::new(Shared {
                health: HealthCheck::new(&router, stop.clone(), self.settings.body_timeout),
                tarpit: Tarpit::new(stop, self.rejected),
                router,
                budget,
                auth: self.auth,
                tenant_header: tenant_header
                    .and_then(|name| http::HeaderName::from_bytes(name.as_bytes()).ok()),
                sending: alive.downgrade(),
                settings: self.settings,
            }),
        };
        let mut accepting = Vec::new();
        for socket in self.sockets {
            let socket = TcpListener::from_std(socket).map_err(|error| {
                Error::with_source(format!("cannot serve at {}", self.address), error)
            })?;
            accepting.push(listening.clone().accept(socket));
        }
        drop(listening);
        let grace = {
            // Never ends by itself.
            let accepting = std::pin::pin!(futures_util::future::join_all(accepting));
            tokio::select! {
                grace = life.stopping() => grace,
                _ = accepting => Duration::ZERO,
            }
        };
        let now = Instant::now();
        stopper.send_replace(Some(now + (grace * 2).max(MIN_CLOSE_TIME)));
        drop::<Alive>(alive);
        // Nothing is ever sent: this ends when the last handler has sent everything on.
        let _ = timeout(grace, all_sent.recv()).await;
        Ok(())
    }
}

/// What taking a connection needs.
#[derive(Clone)]
struct Listening {
    builder: Arc<hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>>,
    slots: Arc<Semaphore>,
    tls: Option<Arc<Tls>>,
    stop: Stop,
    alive: Alive,
    shared: Arc<Shared>,
}

impl Listening {
    /// Takes connections for ever.
    async fn accept(self, socket: TcpListener) {
        let [shortest, longest] = ACCEPT_BACKOFF;
        let mut wait = shortest;
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            match socket.accept().await {
                Ok((stream, from)) => {
                    wait = shortest;
                    tokio::spawn(self.clone().serve(stream, Peer::new(from.ip()), slot));
                }
                // The client went away before it was taken.
                Err(error) if is_of_client(&error) => {}
                Err(error) => {
                    if wait == shortest {
                        tracing::warn!("cannot take connections for now: {error}");
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(longest);
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream, peer: Peer, slot: OwnedSemaphorePermit) {
        // Answers are small and waited for; a socket that cannot do this works too.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => {
                connection(stream, peer, &self.builder, self.shared, self.stop, self.alive).await;
            }
            Some(tls) => {
                let mut stop = self.stop.clone();
                let stopped = async move {
                    stopped(&mut stop).await;
                    tokio::time::sleep(LAST_REQUEST_TIMEOUT).await;
                };
                let accepted = tokio::select! {
                    accepted = timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)) => accepted,
                    () = stopped => return,
                };
                match accepted {
                    Ok(Ok(stream)) => {
                        connection(stream, peer, &self.builder, self.shared, self.stop, self.alive)
                            .await;
                    }
                    Ok(Err(error)) => tracing::debug!("a connection was not encrypted: {error}"),
                    Err(_) => tracing::debug!("a connection took too long to be encrypted"),
                }
            }
        }
        drop(slot);
    }
}

fn is_of_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Listens at an endpoint: at the IPv4 address of a name, if it has one; without a host everywhere.
fn bind(endpoint: &str, listeners: &Listeners) -> Result<Vec<std::net::TcpListener>, Error> {
    let fail = |cause: io::Error| {
        let hint = match cause.kind() {
            io::ErrorKind::AddrInUse => "; something else listens there",
            io::ErrorKind::PermissionDenied => "; ports below 1024 take privileges",
            io::ErrorKind::AddrNotAvailable => "; this host does not have the address",
            _ => "",
        };
        Error::with_source(format!("cannot listen at {endpoint}{hint}"), cause)
    };
    let (host, port) = split(endpoint).map_err(Error::new)?;
    let addresses: Vec<SocketAddr> = if host.is_empty() {
        // One socket takes both families, where there are both.
        vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
    } else {
        let mut found: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(fail)?.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        found
    };
    let mut failed = None;
    for address in addresses {
        match listeners.bind(address) {
            Ok(sockets) => return Ok(sockets),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(fail(error)),
            Err(error) => failed = Some(error),
        }
    }
    Err(fail(failed.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())))
}
