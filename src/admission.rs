//! Which connections callers may hold, and which are closed for new ones when there is no room.
//!
//! ```text
//!   new ──► silent ──a call that needs no token──► caller ──a token, a peer's key──► known
//!              └── full: whoever of the address with the most of them has been there longest; silent ones first,
//!                        but for newcomers                                              known ones, full: the longest idle
//!                                                                                       of the token with the most of them
//! ```
//!
//! Promises: a newcomer never waits for somebody who is silent; known connections give way to known ones alone; an address, or a
//! token, with many connections loses its own first, those of this machine come last, and half of the known places are there for
//! tokens with all rights.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::limits::{CALLER_GRACE, LimitUse, SlotLimits};

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallerTrust {
    Silent,
    /// Has called something that everybody may.
    Caller,
    /// Has shown who it is.
    Known,
}

/// Whose a known connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenHolder {
    /// The token's nonce: the same for what was made from it.
    pub id: [u8; 16],
    /// Whether the token can be made into any other.
    pub has_all_rights: bool,
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
    holder: Option<TokenHolder>,
    since: Instant,
    last_used: Instant,
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
        self.enter_at(address, known, Instant::now())
    }

    fn enter_at(&self, address: IpAddr, known: bool, now: Instant) -> ConnectionSlot {
        let mut connections = self.lock();
        let known = known && connections.count(true) < connections.room.known;
        if !known && connections.count(false) >= connections.room.strangers {
            self.make_room(&mut connections, now);
        }
        let (id, leave) = (connections.next, CancellationToken::new());
        connections.next += 1;
        let trust = if known { CallerTrust::Known } else { CallerTrust::Silent };
        let connection = Connection { address, trust, holder: None, since: now, last_used: now, leave: leave.clone() };
        connections.present.insert(id, connection);
        ConnectionSlot { slots: self.clone(), id, leave }
    }

    /// Somebody has to go: the system has no more file descriptors.
    pub(crate) fn give_way(&self) {
        self.make_room(&mut self.lock(), Instant::now());
    }

    fn make_room(&self, connections: &mut Connections, now: Instant) {
        if let Some(id) = connections.least(now) {
            self.put_out(connections, id);
        }
    }

    fn put_out(&self, connections: &mut Connections, id: u64) {
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

    /// Which known connection gives way to one of this token, if its share is too small.
    fn least_known(&self, newcomer: TokenHolder) -> Option<u64> {
        let mut held: HashMap<TokenHolder, usize> = HashMap::new();
        for holder in self.present.values().filter_map(|connection| connection.holder) {
            *held.entry(holder).or_default() += 1;
        }
        let own = held.get(&newcomer).copied().unwrap_or_default();
        let narrow: usize =
            held.iter().filter(|(holder, _)| !holder.has_all_rights).map(|(_, connections)| connections).sum();
        let is_owed = newcomer.has_all_rights && narrow > self.room.known / 2;
        let crowds = held.into_iter().filter(|(holder, _)| !(is_owed && holder.has_all_rights));
        let (largest, most) = crowds.max_by_key(|(holder, connections)| (*connections, holder.id))?;
        if !is_owed && most <= own.saturating_add(1) {
            return None;
        }
        let of_largest = self.present.iter().filter(|(_, connection)| connection.holder == Some(largest));
        of_largest.min_by_key(|(id, connection)| (connection.last_used, **id)).map(|(id, _)| *id)
    }

    /// Who gives way.
    fn least(&self, now: Instant) -> Option<u64> {
        let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
        let strangers = || self.present.iter().filter(|(_, connection)| connection.trust != CallerTrust::Known);
        for (_, connection) in strangers() {
            *crowds.entry(neighbourhood(connection.address)).or_default() += 1;
        }
        let rank = |(id, connection): &(&u64, &Connection)| {
            let crowd = crowds.get(&neighbourhood(connection.address)).copied().unwrap_or_default();
            let is_young = now.duration_since(connection.since) < CALLER_GRACE;
            (connection.address.is_loopback(), std::cmp::Reverse(crowd), is_young, connection.trust, **id)
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
        self.rise_as(trust, None)
    }

    /// The same, by a token.
    pub(crate) fn rise_as(&self, trust: CallerTrust, holder: Option<TokenHolder>) -> bool {
        self.rise_at(trust, holder, Instant::now())
    }

    fn rise_at(&self, trust: CallerTrust, holder: Option<TokenHolder>, now: Instant) -> bool {
        let mut connections = self.slots.lock();
        let full = connections.count(true) >= connections.room.known;
        let Some(connection) = connections.present.get_mut(&self.id) else { return false };
        connection.last_used = now;
        if connection.trust < trust && trust == CallerTrust::Known && full {
            let Some(other) = holder.and_then(|holder| connections.least_known(holder)) else {
                self.slots.full.fetch_add(1, Ordering::Relaxed);
                return false;
            };
            self.slots.put_out(&mut connections, other);
        }
        let Some(connection) = connections.present.get_mut(&self.id) else { return false };
        connection.trust = connection.trust.max(trust);
        connection.holder = holder.or(connection.holder);
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
    fn a_newcomer_has_time_to_show_itself_before_a_crowd_of_callers() {
        let slots = ConnectionSlots::new(SlotLimits { strangers: 4, known: 1 });
        let now = Instant::now();
        let enter = |address: &str, now| slots.enter_at(at(address), false, now);
        let crowd = [(); 3].map(|()| enter("192.0.2.1", now));
        assert!(crowd.iter().all(|one| one.rise(CallerTrust::Caller)));
        let owner = enter("192.0.2.2", now);
        // More of the crowd come, and put out their own.
        let more = [(); 3].map(|()| enter("192.0.2.1", now));
        assert!(!gone(&owner), "one of an address is put out by many of another");
        drop((crowd, more));

        // Of a crowd with an address each, those have to go first that have had their time.
        let callers: Vec<_> = (3..6).map(|last| enter(&format!("192.0.2.{last}"), now)).collect();
        assert!(callers.iter().all(|one| one.rise(CallerTrust::Caller)));
        let now = now + CALLER_GRACE / 2;
        drop(owner);
        let owner = enter("192.0.2.2", now);
        let now = now + CALLER_GRACE / 2;
        let _next = enter("192.0.2.7", now);
        assert!(!gone(&owner) && gone(&callers[0]));
        let now = now + CALLER_GRACE;
        let _last = enter("192.0.2.8", now);
        assert!(gone(&owner), "it has said nothing");
    }

    fn holder(id: u8, has_all_rights: bool) -> Option<TokenHolder> {
        Some(TokenHolder { id: [id; 16], has_all_rights })
    }

    #[test]
    fn a_token_with_very_many_connections_loses_the_longest_idle_to_others() {
        let slots = ConnectionSlots::new(SlotLimits { strangers: 8, known: 4 });
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let rises = |holder| {
            let slot = slots.enter_at(at("192.0.2.1"), false, now);
            slot.rise_at(CallerTrust::Known, holder, now).then_some(slot)
        };
        let narrow = [(); 4].map(|()| rises(holder(1, false)).unwrap());
        assert!(rises(holder(1, false)).is_none(), "it has them all");
        assert!(narrow[0].rise_at(CallerTrust::Known, holder(1, false), later), "it is used");
        let other = rises(holder(2, false)).unwrap();
        assert!(gone(&narrow[1]) && !gone(&narrow[0]));
        let second = rises(holder(2, false)).unwrap();
        assert!(gone(&narrow[2]));
        assert!(rises(holder(2, false)).is_none(), "two have half each");
        // Half is there for who has all rights, whoever else is there.
        let admin = [(); 2].map(|()| rises(holder(3, true)).unwrap());
        let left = [&narrow[0], &narrow[3], &other, &second].into_iter().filter(|one| !gone(one)).count();
        assert_eq!(left, 2);
        assert!(rises(holder(3, true)).is_none(), "and no more than half");
        assert!(admin.iter().all(|one| !gone(one)));
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
