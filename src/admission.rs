//! Which connections callers may hold, and which are closed for new ones when there is no room.
//!
//! ```text
//!   new ──► silent ──a call that needs no token──► caller ──a token, a peer's key──► known
//!              └── full: whoever of the address with the most of them has been there longest; silent ones first
//! ```
//!
//! Promises: a newcomer never waits for somebody who is silent; known connections give way to nobody; an address with many
//! connections loses its own first, and those of this machine come last.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::limits::{LimitUse, SlotLimits};

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallerTrust {
    Silent,
    /// Has called something that everybody may.
    Caller,
    /// Has shown who it is.
    Known,
}

/// The connection slots of one server. Clones are the same slots.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSlots {
    connections: Arc<Mutex<Connections>>,
    /// Who had to go, and who was not taken for known.
    refused: Arc<AtomicU64>,
    full: Arc<AtomicU64>,
    /// Somebody who had to go is gone.
    released: Arc<Notify>,
}

/// Connections that had to go and are still there, above which nobody else is let in.
const FEW_LEAVING: usize = 2;
/// For how long that is waited for: they only have to be scheduled.
const LEAVING_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Connections {
    room: SlotLimits,
    /// By the order of their arrival.
    present: BTreeMap<u64, Connection>,
    /// Those who had to go, and hold their file descriptors still.
    leaving: HashSet<u64>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    address: IpAddr,
    trust: CallerTrust,
    leave: CancellationToken,
}

/// The slot of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    slots: ConnectionSlots,
    id: u64,
    leave: CancellationToken,
}

impl ConnectionSlots {
    pub(crate) fn new(room: SlotLimits) -> Self {
        let connections = Connections { room, present: BTreeMap::new(), leaving: HashSet::new(), next: 0 };
        Self {
            connections: Arc::new(Mutex::new(connections)),
            refused: Arc::default(),
            full: Arc::default(),
            released: Arc::default(),
        }
    }

    /// Lets somebody in. `known`: something about the address speaks for it, so it takes no place of strangers while there
    /// are other ones.
    pub(crate) fn enter(&self, address: IpAddr, known: bool) -> ConnectionSlot {
        let mut connections = self.lock();
        let known = known && connections.count(true) < connections.room.known;
        if !known && connections.count(false) >= connections.room.strangers {
            self.make_room(&mut connections);
        }
        let (id, leave) = (connections.next, CancellationToken::new());
        connections.next += 1;
        let trust = if known { CallerTrust::Known } else { CallerTrust::Silent };
        connections.present.insert(id, Connection { address, trust, leave: leave.clone() });
        ConnectionSlot { slots: self.clone(), id, leave }
    }

    /// Somebody has to go: the system has no more file descriptors.
    pub(crate) fn give_way(&self) {
        self.make_room(&mut self.lock());
    }

    fn make_room(&self, connections: &mut Connections) {
        let Some(id) = connections.least() else { return };
        if let Some(leaving) = connections.present.remove(&id) {
            connections.leaving.insert(id);
            leaving.leave.cancel();
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Before somebody is let in: waits until those who had to go are gone, but for a few. Else a burst of newcomers would
    /// take file descriptors that are not there.
    pub(crate) async fn settle(&self) {
        let gone = async {
            while self.lock().leaving.len() > FEW_LEAVING {
                self.released.notified().await;
            }
        };
        let _ = timeout(LEAVING_PATIENCE, gone).await;
    }

    /// How many connections have not shown who they are, and how many have.
    pub(crate) fn used(&self) -> SlotLimits {
        let connections = self.lock();
        SlotLimits { strangers: connections.count(false), known: connections.count(true) }
    }

    pub(crate) fn room(&self) -> SlotLimits {
        self.lock().room
    }

    /// How many had to go.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// For people: of strangers and of known connections.
    pub(crate) fn limits(&self, strangers: &'static str, known: &'static str) -> [LimitUse; 2] {
        let (used, room) = (self.used(), self.room());
        let one = |name, used: usize, limit: usize, refused, what| LimitUse {
            name,
            used: used as u64,
            limit: limit as u64,
            refused,
            what,
        };
        let silent = "connections that have not shown who they are; the longest silent of the largest crowd gives way";
        [
            one(strangers, used.strangers, room.strangers, self.refused(), silent),
            one(
                known,
                used.known,
                room.known,
                self.full.load(Ordering::Relaxed),
                "connections that have shown who they are",
            ),
        ]
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    fn count(&self, known: bool) -> usize {
        self.present.values().filter(|connection| (connection.trust == CallerTrust::Known) == known).count()
    }

    /// Who gives way.
    fn least(&self) -> Option<u64> {
        let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
        let strangers = || self.present.iter().filter(|(_, connection)| connection.trust != CallerTrust::Known);
        for (_, connection) in strangers() {
            *crowds.entry(neighbourhood(connection.address)).or_default() += 1;
        }
        let rank = |(id, connection): &(&u64, &Connection)| {
            let crowd = crowds.get(&neighbourhood(connection.address)).copied().unwrap_or_default();
            (connection.address.is_loopback(), connection.trust, std::cmp::Reverse(crowd), **id)
        };
        strangers().min_by_key(rank).map(|(id, _)| *id)
    }
}

/// What one customer of a provider usually has: an IPv4 address, or 64 bits of an IPv6 address.
pub(crate) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => ip.into(),
            None => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        },
    }
}

impl ConnectionSlot {
    /// Resolves when its holder has to go.
    pub(crate) fn leave(&self) -> &CancellationToken {
        &self.leave
    }

    #[cfg(test)]
    fn trust(&self) -> CallerTrust {
        self.slots.lock().present.get(&self.id).map_or(CallerTrust::Silent, |connection| connection.trust)
    }

    /// More is known of its holder now; `false` if there is no room for so many of whom that is known.
    pub(crate) fn rise(&self, trust: CallerTrust) -> bool {
        let mut connections = self.slots.lock();
        let full = connections.count(true) >= connections.room.known;
        let Some(connection) = connections.present.get_mut(&self.id) else { return false };
        if connection.trust >= trust {
            return true;
        }
        if trust == CallerTrust::Known && full {
            self.slots.full.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        connection.trust = trust;
        true
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut connections = self.slots.lock();
        connections.present.remove(&self.id);
        if connections.leaving.remove(&self.id) {
            self.slots.released.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn gone(slot: &ConnectionSlot) -> bool {
        slot.leave().is_cancelled()
    }

    #[test]
    fn the_longest_silent_of_the_largest_crowd_gives_way() {
        let slots = ConnectionSlots::new(SlotLimits { strangers: 4, known: 1 });
        let alone = slots.enter(at("192.0.2.1"), false);
        let crowd = [(); 3].map(|()| slots.enter(at("192.0.2.2"), false));
        let newcomer = slots.enter(at("192.0.2.3"), false);
        assert!(gone(&crowd[0]) && !gone(&crowd[1]) && !gone(&alone) && !gone(&newcomer));
        // The next of the crowd puts out one of its own.
        let more = slots.enter(at("192.0.2.2"), false);
        assert!(gone(&crowd[1]) && !gone(&more) && !gone(&alone));
        assert_eq!((slots.used().strangers, slots.refused()), (4, 2));
        drop((alone, newcomer, more));
        assert_eq!(slots.used().strangers, 1);
    }

    #[test]
    fn who_is_known_stays_and_callers_go_after_the_silent() {
        let slots = ConnectionSlots::new(SlotLimits { strangers: 2, known: 1 });
        let known = slots.enter(at("192.0.2.1"), false);
        assert!(known.rise(CallerTrust::Known));
        let caller = slots.enter(at("192.0.2.2"), false);
        assert!(caller.rise(CallerTrust::Caller));
        let silent = slots.enter(at("192.0.2.3"), false);
        let newcomer = slots.enter(at("192.0.2.4"), false);
        assert!(gone(&silent) && !gone(&caller) && !gone(&known));
        assert!(!newcomer.rise(CallerTrust::Known), "there is room for one");
        drop(known);
        assert!(newcomer.rise(CallerTrust::Known));
        assert!(!silent.rise(CallerTrust::Known), "it has left");
    }

    #[test]
    fn this_machine_goes_last_and_known_addresses_have_places_of_their_own() {
        let slots = ConnectionSlots::new(SlotLimits { strangers: 2, known: 1 });
        let own = [(); 2].map(|()| slots.enter(at("127.0.0.1"), false));
        let other = slots.enter(at("192.0.2.1"), false);
        assert!(gone(&own[0]) && !gone(&other));
        let _third = slots.enter(at("2001:db8::1"), false);
        assert!(gone(&other) && !gone(&own[1]));
        let peer = slots.enter(at("192.0.2.7"), true);
        let second = slots.enter(at("192.0.2.7"), true);
        assert!(!gone(&peer) && second.trust() == CallerTrust::Silent);
    }

    #[tokio::test]
    async fn nobody_comes_in_while_many_are_still_leaving() {
        let slots = ConnectionSlots::new(SlotLimits { strangers: 1, known: 1 });
        let leaving = [(); 4].map(|()| slots.enter(at("192.0.2.1"), false));
        let settled = tokio::spawn({
            let slots = slots.clone();
            async move { slots.settle().await }
        });
        tokio::task::yield_now().await;
        assert!(!settled.is_finished(), "three are leaving");
        drop(leaving);
        settled.await.unwrap();
    }

    #[test]
    fn addresses_of_one_customer_are_one() {
        assert_eq!(neighbourhood(at("2001:db8::1")), neighbourhood(at("2001:db8::ffff:1")));
        assert_ne!(neighbourhood(at("2001:db8:0:1::1")), neighbourhood(at("2001:db8::1")));
        assert_eq!(neighbourhood(at("::ffff:192.0.2.1")), at("192.0.2.1"));
    }
}
