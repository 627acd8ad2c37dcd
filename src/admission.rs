//! Who may come in through a door, and who gives way when there is no room.
//!
//! ```text
//!   new ──► silent ──a call that needs no token──► caller ──a token, a peer's key──► known
//!              └── full: whoever of the address with the most of them has been there longest; silent ones first
//! ```
//!
//! Promises: a newcomer never waits for somebody who is silent; known guests give way to nobody; an address with many
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

use crate::limits::{LimitUse, Room};

/// What is known of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Silent,
    /// Has called something that everybody may.
    Caller,
    /// Has shown who it is.
    Known,
}

/// The guests of one door. Clones are the same door.
#[derive(Clone, Debug)]
pub struct Door {
    guests: Arc<Mutex<Guests>>,
    /// Who had to go, and who was not taken for known.
    refused: Arc<AtomicU64>,
    full: Arc<AtomicU64>,
    /// Somebody who had to go is gone.
    gone: Arc<Notify>,
}

/// Guests who had to go and are still there, above which nobody else is let in.
const FEW_LEAVING: usize = 2;
/// For how long that is waited for: they only have to be scheduled.
const LEAVING_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Guests {
    room: Room,
    /// By the order of their arrival.
    present: BTreeMap<u64, Guest>,
    /// Those who had to go, and hold their file descriptors still.
    leaving: HashSet<u64>,
    next: u64,
}

#[derive(Debug)]
struct Guest {
    address: IpAddr,
    standing: Standing,
    leave: CancellationToken,
}

/// A guest's place, which is free again when this is dropped.
#[derive(Debug)]
pub struct Ticket {
    door: Door,
    id: u64,
    address: IpAddr,
    leave: CancellationToken,
}

impl Door {
    pub fn new(room: Room) -> Self {
        let guests = Guests { room, present: BTreeMap::new(), leaving: HashSet::new(), next: 0 };
        Self {
            guests: Arc::new(Mutex::new(guests)),
            refused: Arc::default(),
            full: Arc::default(),
            gone: Arc::default(),
        }
    }

    /// Lets somebody in. `known`: something about the address speaks for it, so it takes no place of strangers while there
    /// are other ones.
    pub fn enter(&self, address: IpAddr, known: bool) -> Ticket {
        let mut guests = self.lock();
        let known = known && guests.count(true) < guests.room.known;
        if !known && guests.count(false) >= guests.room.strangers {
            self.make_room(&mut guests);
        }
        let (id, leave) = (guests.next, CancellationToken::new());
        guests.next += 1;
        let standing = if known { Standing::Known } else { Standing::Silent };
        guests.present.insert(id, Guest { address, standing, leave: leave.clone() });
        Ticket { door: self.clone(), id, address, leave }
    }

    /// Somebody has to go: the system has no more file descriptors.
    pub fn give_way(&self) {
        self.make_room(&mut self.lock());
    }

    fn make_room(&self, guests: &mut Guests) {
        let Some(id) = guests.least() else { return };
        if let Some(leaving) = guests.present.remove(&id) {
            guests.leaving.insert(id);
            leaving.leave.cancel();
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Before somebody is let in: waits until those who had to go are gone, but for a few. Else a burst of newcomers would
    /// take file descriptors that are not there.
    pub async fn settle(&self) {
        let gone = async {
            while self.lock().leaving.len() > FEW_LEAVING {
                self.gone.notified().await;
            }
        };
        let _ = timeout(LEAVING_PATIENCE, gone).await;
    }

    /// Guests of whom nothing is known, and others.
    pub fn used(&self) -> Room {
        let guests = self.lock();
        Room { strangers: guests.count(false), known: guests.count(true) }
    }

    pub fn room(&self) -> Room {
        self.lock().room
    }

    /// How many had to go.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// For people: of strangers and of known guests.
    pub fn limits(&self, strangers: &'static str, known: &'static str) -> [LimitUse; 2] {
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

    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guests {
    fn count(&self, known: bool) -> usize {
        self.present.values().filter(|guest| (guest.standing == Standing::Known) == known).count()
    }

    /// Who gives way.
    fn least(&self) -> Option<u64> {
        let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
        let strangers = || self.present.iter().filter(|(_, guest)| guest.standing != Standing::Known);
        for (_, guest) in strangers() {
            *crowds.entry(neighbourhood(guest.address)).or_default() += 1;
        }
        let rank = |(id, guest): &(&u64, &Guest)| {
            let crowd = crowds.get(&neighbourhood(guest.address)).copied().unwrap_or_default();
            (guest.address.is_loopback(), guest.standing, std::cmp::Reverse(crowd), **id)
        };
        strangers().min_by_key(rank).map(|(id, _)| *id)
    }
}

/// What one customer of a provider usually has: an IPv4 address, or 64 bits of an IPv6 address.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => ip.into(),
            None => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        },
    }
}

impl Ticket {
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Resolves when its holder has to go.
    pub fn leave(&self) -> &CancellationToken {
        &self.leave
    }

    pub fn standing(&self) -> Standing {
        self.door.lock().present.get(&self.id).map_or(Standing::Silent, |guest| guest.standing)
    }

    /// More is known of its holder now; `false` if there is no room for so many of whom that is known.
    pub fn rise(&self, standing: Standing) -> bool {
        let mut guests = self.door.lock();
        let full = guests.count(true) >= guests.room.known;
        let Some(guest) = guests.present.get_mut(&self.id) else { return false };
        if guest.standing >= standing {
            return true;
        }
        if standing == Standing::Known && full {
            self.door.full.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        guest.standing = standing;
        true
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut guests = self.door.lock();
        guests.present.remove(&self.id);
        if guests.leaving.remove(&self.id) {
            self.door.gone.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn gone(ticket: &Ticket) -> bool {
        ticket.leave().is_cancelled()
    }

    #[test]
    fn the_longest_silent_of_the_largest_crowd_gives_way() {
        let door = Door::new(Room { strangers: 4, known: 1 });
        let alone = door.enter(at("192.0.2.1"), false);
        let crowd = [(); 3].map(|()| door.enter(at("192.0.2.2"), false));
        let newcomer = door.enter(at("192.0.2.3"), false);
        assert!(gone(&crowd[0]) && !gone(&crowd[1]) && !gone(&alone) && !gone(&newcomer));
        // The next of the crowd puts out one of its own.
        let more = door.enter(at("192.0.2.2"), false);
        assert!(gone(&crowd[1]) && !gone(&more) && !gone(&alone));
        assert_eq!((door.used().strangers, door.refused()), (4, 2));
        drop((alone, newcomer, more));
        assert_eq!(door.used().strangers, 1);
    }

    #[test]
    fn who_is_known_stays_and_callers_go_after_the_silent() {
        let door = Door::new(Room { strangers: 2, known: 1 });
        let known = door.enter(at("192.0.2.1"), false);
        assert!(known.rise(Standing::Known));
        let caller = door.enter(at("192.0.2.2"), false);
        assert!(caller.rise(Standing::Caller));
        let silent = door.enter(at("192.0.2.3"), false);
        let newcomer = door.enter(at("192.0.2.4"), false);
        assert!(gone(&silent) && !gone(&caller) && !gone(&known));
        assert!(!newcomer.rise(Standing::Known), "there is room for one");
        drop(known);
        assert!(newcomer.rise(Standing::Known));
        assert!(!silent.rise(Standing::Known), "it has left");
    }

    #[test]
    fn this_machine_goes_last_and_known_addresses_have_places_of_their_own() {
        let door = Door::new(Room { strangers: 2, known: 1 });
        let own = [(); 2].map(|()| door.enter(at("127.0.0.1"), false));
        let other = door.enter(at("192.0.2.1"), false);
        assert!(gone(&own[0]) && !gone(&other));
        let _third = door.enter(at("2001:db8::1"), false);
        assert!(gone(&other) && !gone(&own[1]));
        let peer = door.enter(at("192.0.2.7"), true);
        let second = door.enter(at("192.0.2.7"), true);
        assert!(!gone(&peer) && second.standing() == Standing::Silent);
    }

    #[tokio::test]
    async fn nobody_comes_in_while_many_are_still_leaving() {
        let door = Door::new(Room { strangers: 1, known: 1 });
        let leaving = [(); 4].map(|()| door.enter(at("192.0.2.1"), false));
        let settled = tokio::spawn({
            let door = door.clone();
            async move { door.settle().await }
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
