//! Senders who are rejected again and again get their answers later and later.
//!
//! A rejection is cheap, and what comes before it is not always: a body is read, decompressed, decoded.
//! Who waits for an answer sends nothing meanwhile, so that waiting is what keeps a sender of
//! nonsense from taking the time of others. Only rejections wait, and only those that no repetition
//! helps: a sender whose requests are good is never held up, whatever others at its address do.
//!
//! Nothing but the answer is kept while it waits, and few wait at a time.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::connection::{Stop, stopped};

/// Answers that wait at a time; others are given at once.
const MAX_WAITING: usize = 256;
/// Rejections of an address that are given at once …
const FREE_REJECTIONS: u32 = 8;
/// … and how long until one of them is forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);
/// What is remembered of an address at most.
const MAX_REJECTIONS: u32 = 32;
/// The first wait, which doubles, and the longest: senders give up after five seconds or more.
const BACKOFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(3)];
/// Addresses that are distinguished, about: some share what is remembered of them.
const ADDRESS_SLOTS: usize = 1024;

/// Where answers wait.
pub(super) struct Tarpit {
    places: Semaphore,
    rejected: Arc<Rejected>,
    stop: Stop,
}

/// Who is at the other end of a connection.
pub(super) struct Peer {
    address: IpAddr,
    /// The last request was good.
    was_good: AtomicBool,
}

impl Peer {
    pub(super) fn new(address: IpAddr) -> Self {
        Self { address, was_good: AtomicBool::new(false) }
    }

    /// A request was answered with success.
    pub(super) fn is_good(&self) {
        self.was_good.store(true, Ordering::Release);
    }
}

impl Tarpit {
    /// Lets go of everything at once when the server stops. Who was rejected is known to the next server,
    /// too, which has the same.
    pub(super) fn new(stop: Stop, rejected: Arc<Rejected>) -> Self {
        Self { places: Semaphore::new(MAX_WAITING), rejected, stop }
    }

    /// Returns when a rejection may be answered.
    pub(super) async fn rejected(&self, peer: &Peer) {
        let wait = {
            let mut addresses = self.rejected.0.lock().unwrap_or_else(PoisonError::into_inner);
            addresses.rejected(peer.address, Instant::now())
        };
        // One mistake between good requests is none.
        let mistaken = peer.was_good.swap(false, Ordering::AcqRel);
        if mistaken || wait.is_zero() {
            return;
        }
        let Ok(_place) = self.places.try_acquire() else { return };
        let mut stop = self.stop.clone();
        tokio::select! {
            () = sleep(wait) => {}
            _ = stopped(&mut stop) => {}
        }
    }
}

/// Who was rejected lately; it outlives a server that a reload replaces.
#[derive(Default)]
pub(super) struct Rejected(Mutex<Addresses>);

/// How often who was rejected.
struct Addresses {
    seed: RandomState,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    rejections: u32,
    /// Up to when rejections are forgotten.
    until: Instant,
}

impl Default for Addresses {
    fn default() -> Self {
        let slot = Slot { rejections: 0, until: Instant::now() };
        Self { seed: RandomState::new(), slots: vec![slot; ADDRESS_SLOTS] }
    }
}

impl Addresses {
    /// How long the answer shall wait that rejects a request of this address.
    fn rejected(&mut self, address: IpAddr, now: Instant) -> Duration {
        let hash = self.seed.hash_one(network(address));
        let Some(slot) = self.slots.get_mut(hash as usize % ADDRESS_SLOTS) else {
            return Duration::ZERO;
        };
        let forgotten =
            now.saturating_duration_since(slot.until).as_secs() / FORGET_INTERVAL.as_secs();
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
        slot.until = match slot.rejections.checked_sub(forgotten) {
            None | Some(0) => now,
            Some(_) => slot.until + FORGET_INTERVAL * forgotten,
        };
        slot.rejections =
            slot.rejections.saturating_sub(forgotten).saturating_add(1).min(MAX_REJECTIONS);
        let [first, longest] = BACKOFF;
        match slot.rejections.checked_sub(FREE_REJECTIONS + 1) {
            None => Duration::ZERO,
            Some(doubled) => first.saturating_mul(1 << doubled.min(16)).min(longest),
        }
    }
}

/// What one sender can have of addresses: of IPv6, a whole network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )]

    use tokio::sync::watch;

    use super::*;

    const ONE: &str = "192.0.2.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Scenario: an address is rejected often, then seldom, then not for a while.
    /// Guarantees: the first answers do not wait, the next ones longer and longer up to a limit; in
    /// time all is forgotten, and who is rejected once in a second waits for none.
    #[test]
    fn waits_grow_and_shrink() {
        let mut addresses = Addresses::default();
        let start = Instant::now();
        let waits: Vec<_> = (0..40).map(|_| addresses.rejected(ip(ONE), start)).collect();
        assert!(waits[..8].iter().all(Duration::is_zero), "{waits:?}");
        assert!(
            waits.is_sorted() && waits[8] == BACKOFF[0] && waits[39] == BACKOFF[1],
            "{waits:?}"
        );
        assert!(addresses.rejected(ip(ONE), start + Duration::from_secs(10)) > Duration::ZERO);
        let later = start + Duration::from_secs(100);
        for second in 0..100 {
            let now = later + Duration::from_secs(second);
            assert!(addresses.rejected(ip(ONE), now).is_zero(), "{second}");
        }
    }

    /// Scenario: many rejections of one address, then one of others.
    /// Guarantees: addresses of one IPv6 network wait together, and others for themselves. IPv4 is
    /// the same however it is written.
    #[test]
    fn addresses_are_told_apart() {
        for (first, other, together) in [
            ("2001:db8::1", "2001:db8::2:3", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            // By chance two of a thousand share; by chance that happens thrice in a row, too, in
            // one of a thousand million runs.
            let apart = (0..3).any(|_| {
                let mut addresses = Addresses::default();
                let now = Instant::now();
                for _ in 0..20 {
                    addresses.rejected(ip(first), now);
                }
                addresses.rejected(ip(other), now).is_zero()
            });
            assert_eq!(apart, !together, "{first} {other}");
        }
    }

    /// Scenario: more senders are rejected at a time than there are places; time stands still but
    /// for who waits. One has had a success before.
    /// Guarantees: as many wait as there are places, and others do not; one mistake does not wait, a
    /// second one does. A server that stops answers at once.
    #[tokio::test(start_paused = true)]
    async fn places_are_few() {
        let (stopper, stop) = watch::channel(None);
        let tarpit = Tarpit::new(stop, Arc::default());
        let peer = || Peer::new(ip(ONE));
        for _ in 0..MAX_REJECTIONS {
            tarpit.rejected.0.lock().unwrap().rejected(ip(ONE), Instant::now());
        }
        let start = Instant::now();
        let good = peer();
        good.is_good();
        tarpit.rejected(&good).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        tarpit.rejected(&good).await;
        assert_eq!(start.elapsed(), BACKOFF[1]);

        let start = Instant::now();
        let peers: Vec<Peer> = (0..MAX_WAITING + 10).map(|_| peer()).collect();
        let waits = peers.iter().map(|peer| async {
            tarpit.rejected(peer).await;
            start.elapsed()
        });
        let waits = futures_util::future::join_all(waits).await;
        let waited = waits.iter().filter(|wait| **wait == BACKOFF[1]).count();
        let not = waits.iter().filter(|wait| wait.is_zero()).count();
        assert_eq!((waited, not), (MAX_WAITING, 10));

        let start = Instant::now();
        stopper.send_replace(Some(start));
        tarpit.rejected(&peers[0]).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
