//! Two tiers of gateways, as `docs/gateway.md` lays them out: agents, gateways, a backend.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::ledger::Ledger;
use crate::process::{Gateway, configure, eventually, forwarding};
use crate::sender::{Load, Place};
use crate::sink::{Mood, Sink};

/// A load balancer: takes TCP connections and spreads them over those of its places that are there.
struct Balancer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    taken: Arc<[AtomicUsize; 2]>,
}

impl Balancer {
    fn start(places: [Place; 2]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let taken: Arc<[AtomicUsize; 2]> = Arc::default();
        let (stopped, counts) = (Arc::clone(&stop), Arc::clone(&taken));
        std::thread::spawn(move || {
            for (at, stream) in listener.incoming().enumerate() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                // The other one, if the one whose turn it is does not answer.
                let open = [at % 2, (at + 1) % 2].into_iter().find_map(|index| {
                    let address = places[index].get()?;
                    let open = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
                    counts[index].fetch_add(1, Ordering::Relaxed);
                    Some(open)
                });
                if let Some(open) = open {
                    join(&stream, &open);
                }
            }
        });
        Self { address, stop, taken }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Copies both ways until one side ends.
fn join(one: &TcpStream, other: &TcpStream) {
    for (from, to) in [(one, other), (other, one)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            while let Ok(read) = from.read(&mut buffer) {
                if read == 0 || to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

/// Scenario: two agents with queues of their own send through a load balancer to two gateways, these
/// to one backend. Under load, one gateway after the other is killed, stays away while the load
/// goes on, and is started again with its queue.
/// Guarantees: senders have nothing but success; with one gateway the rest goes on, and in the end
/// everything acknowledged by the agents has arrived.
#[test]
fn one_gateway_of_two_is_killed() {
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(&ledger, Mood::Take);
    let homes: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let [agent, other_agent, gateway, other_gateway] = &homes[..] else { unreachable!() };
    let start = |home: &tempfile::TempDir, to| {
        configure(home.path(), &forwarding(to));
        Gateway::start(home.path())
    };
    let mut gateways = [gateway, other_gateway].map(|home| Some(start(home, sink.address)));
    let places = [0, 1].map(|at| Place::at(gateways[at].as_ref().unwrap().address));
    let balancer = Balancer::start(places.clone());
    let agents = [agent, other_agent].map(|home| start(home, balancer.address));
    let loads = agents
        .each_ref()
        .map(|agent| Load::start(1, usize::MAX, &Place::at(agent.address), &ledger));
    let arrived = || ledger.sums().arrived;
    let go_on = |what: &str, more: usize| {
        let before = arrived();
        eventually(what, || {
            sink.check();
            (arrived() >= before + more).then_some(())
        });
    };
    for victim in [0, 1] {
        go_on("both gateways to deliver", 100);
        places[victim].set(None);
        gateways[victim].take().unwrap().kill();
        go_on("the other gateway to deliver", 100);
        let again = Gateway::start([gateway, other_gateway][victim].path());
        places[victim].set(Some(again.address));
        gateways[victim] = Some(again);
    }
    for load in loads {
        let answers = load.stop();
        let failed = [&answers.later, &answers.other, &answers.broken];
        assert!(failed.iter().all(|count| count.load(Ordering::Relaxed) == 0), "{answers:?}");
    }
    eventually("the backend to have everything", || {
        sink.check();
        (ledger.sums().missing == 0).then_some(())
    });
    let taken = balancer.taken.each_ref().map(|count| count.load(Ordering::Relaxed));
    eprintln!("{:?}, connections {taken:?}", ledger.sums());
    assert!(taken.iter().all(|count| *count > 0), "{taken:?}");
    for gateway in agents.into_iter().chain(gateways.into_iter().flatten()) {
        let (status, said) = gateway.stop();
        assert!(status.success(), "{said}");
    }
    let sums = ledger.sums();
    assert_eq!((sums.missing, sums.arrived), (0, sums.sent), "{sums:?}");
}
