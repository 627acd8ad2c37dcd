//! Who is there: the mailbox of each peer's task, whose channel is which, and whom to dial again.
//!
//! A task exists for each node that is connected or has a channel with us; its mailbox is the one way to its channels. A
//! task without either ends, so that strangers who come and go leave nothing behind.
//!
//! A stranger is whoever came to us and has no channel that is funded ([`Backing`]). Strangers have bounds in all: on their
//! connections, of which the least useful gives way ([`strangers`]), and on channels that they promise to fund, of which
//! the oldest does that nobody has seen a funding transaction of.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use leyden_channels::{
    channel::Backing,
    types::{ChannelId, Height},
};
use secp256k1::PublicKey;
use tokio::sync::mpsc;

use super::{
    backoff::Backoff,
    peer::{Command, PeerState},
    strangers::{self, Stranger},
};
use crate::{
    admission::neighbourhood,
    limits::{LimitUse, MAX_STRANGERS, MAX_UNFUNDED, UNFUNDED_GIVES_WAY_AFTER},
};

/// The register of peers; clones share it.
#[derive(Clone)]
pub(crate) struct Peers {
    register: Arc<Mutex<Register>>,
    refused: Arc<[AtomicU64; Refused::COUNT]>,
    /// Connections that there are file descriptors for: those of strangers, and of others as far as they have come.
    descriptors: usize,
}

/// What somebody did not get, because it was too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Pong,
    /// A backup, because the peer does not read what it is sent.
    Answer,
    /// A connection of a stranger, or one that had to give way.
    Stranger,
    /// A channel that a peer promises to fund, or one that had to give way.
    Opening,
    /// A message for other programs.
    Custom,
}

impl Refused {
    const COUNT: usize = 5;
}

/// Why a channel does not get its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelRefused {
    /// There is a channel with this id.
    Taken,
    /// Too many peers promise to fund channels.
    Full,
}

#[derive(Default)]
struct Register {
    peers: HashMap<PublicKey, Entry>,
    owners: HashMap<ChannelId, Owned>,
}

struct Owned {
    by: PublicKey,
    backing: Backing,
    /// Its peer's task was told to give it up.
    gives_way: bool,
}

struct Entry {
    mailbox: mpsc::UnboundedSender<Command>,
    /// What a stranger's task has said of itself last: it may be busy with what the stranger sends, and nobody is to wait
    /// for that.
    shown: Option<Box<PeerState>>,
    connection: Option<ConnectionInfo>,
    /// Where it was last reached by us.
    address: Option<String>,
    /// From where it was last connected.
    seen_at: Option<IpAddr>,
    /// A task is dialling it.
    dialling: bool,
    backoff: Backoff,
}

/// A connection, as far as it matters for who stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionInfo {
    pub address: SocketAddr,
    pub inbound: bool,
    pub since: Instant,
    /// It has proposed a channel.
    pub opens: bool,
}

impl ConnectionInfo {
    pub(crate) fn new(address: SocketAddr, inbound: bool) -> Self {
        Self { address, inbound, since: Instant::now(), opens: false }
    }
}

impl Entry {
    fn connection(&mut self, connection: ConnectionInfo) {
        self.seen_at = Some(connection.address.ip());
        self.connection = Some(connection);
    }
}

impl Register {
    fn is_funded_with(&self, node_id: &PublicKey) -> bool {
        self.owners.values().any(|owned| owned.by == *node_id && owned.backing == Backing::Funded)
    }

    /// Nodes with a channel that is funded.
    fn funded(&self) -> HashSet<PublicKey> {
        self.owners.values().filter(|owned| owned.backing == Backing::Funded).map(|owned| owned.by).collect()
    }

    /// Connected nodes that came to us and have no such channel.
    fn strangers(&self) -> Vec<(PublicKey, ConnectionInfo)> {
        let funded = self.funded();
        let inbound = |entry: &Entry| entry.connection.filter(|connection| connection.inbound);
        let all = self.peers.iter().filter(|(node_id, _)| !funded.contains(node_id));
        all.filter_map(|(node_id, entry)| Some((*node_id, inbound(entry)?))).collect()
    }

    fn connected(&self) -> usize {
        self.peers.values().filter(|entry| entry.connection.is_some()).count()
    }

    fn unfunded(&self) -> impl Iterator<Item = (&ChannelId, &Owned)> {
        self.owners.iter().filter(|(_, owned)| owned.backing != Backing::Funded && !owned.gives_way)
    }

    /// A channel that may be forgotten for another one's sake.
    fn least_unfunded(&self, tip: Height) -> Option<ChannelId> {
        let old = self.unfunded().filter_map(|(id, owned)| match owned.backing {
            Backing::Promised { since, seen: false } => Some((since, *id)),
            Backing::Promised { .. } | Backing::Proposed | Backing::Funded => None,
        });
        let old = old.filter(|(since, _)| tip.0.saturating_sub(since.0) >= UNFUNDED_GIVES_WAY_AFTER);
        old.min().map(|(_, id)| id)
    }
}

impl Peers {
    /// `descriptors`: connections that there are file descriptors for.
    pub(crate) fn new(descriptors: usize) -> Self {
        Self { register: Arc::default(), refused: Arc::default(), descriptors }
    }

    /// Enters a peer; `start` makes its task if there is none. A `command` reaches the task in any case.
    pub(crate) fn enter(
        &self,
        node_id: PublicKey,
        start: impl FnOnce() -> mpsc::UnboundedSender<Command>,
        command: Option<Command>,
    ) {
        let mut register = self.lock();
        let entry = register.peers.entry(node_id).or_insert_with(|| Entry {
            mailbox: start(),
            shown: None,
            connection: None,
            address: None,
            seen_at: None,
            dialling: false,
            backoff: Backoff::default(),
        });
        if let Some(command) = command {
            if let Command::Connected(established) = &command {
                entry.connection(ConnectionInfo::new(established.address, established.inbound));
            }
            // The task ends only after it has left this register.
            let _ = entry.mailbox.send(command);
        }
    }

    pub(crate) fn get(&self, node_id: &PublicKey) -> Option<mpsc::UnboundedSender<Command>> {
        self.lock().peers.get(node_id).map(|entry| entry.mailbox.clone())
    }

    pub(crate) fn all(&self) -> Vec<mpsc::UnboundedSender<Command>> {
        self.lock().peers.values().map(|entry| entry.mailbox.clone()).collect()
    }

    /// Where to ask peers that may carry payments: those with a channel that is funded.
    pub(crate) fn with_channels(&self) -> Vec<mpsc::UnboundedSender<Command>> {
        let register = self.lock();
        let funded = register.funded();
        let entries = funded.iter().filter_map(|node_id| register.peers.get(node_id));
        entries.map(|entry| entry.mailbox.clone()).collect()
    }

    /// What strangers' tasks have said of themselves, and where to ask all others.
    pub(crate) fn described(&self) -> (Vec<PeerState>, Vec<mpsc::UnboundedSender<Command>>) {
        let register = self.lock();
        let (mut shown, mut others) = (Vec::new(), Vec::new());
        for entry in register.peers.values() {
            match &entry.shown {
                Some(state) => shown.push(PeerState::clone(state)),
                None => others.push(entry.mailbox.clone()),
            }
        }
        (shown, others)
    }

    /// A peer's task shows itself, as long as it is a stranger's.
    pub(crate) fn show(&self, node_id: &PublicKey, state: Option<PeerState>) {
        if let Some(entry) = self.lock().peers.get_mut(node_id) {
            entry.shown = state.map(Box::new);
        }
    }

    pub(crate) fn is_connected(&self, node_id: &PublicKey) -> bool {
        self.lock().peers.get(node_id).is_some_and(|entry| entry.connection.is_some())
    }

    pub(crate) fn set_connected(&self, node_id: &PublicKey, connection: ConnectionInfo) {
        if let Some(entry) = self.lock().peers.get_mut(node_id) {
            entry.connection(connection);
        }
    }

    /// A peer proposes a channel.
    pub(crate) fn note_opening(&self, node_id: &PublicKey) {
        if let Some(connection) = self.lock().peers.get_mut(node_id).and_then(|entry| entry.connection.as_mut()) {
            connection.opens = true;
        }
    }

    /// A connection has ended that lasted this long; `disputed` if one of both held the other for wrong.
    pub(crate) fn disconnected(&self, node_id: &PublicKey, disputed: bool, lasted: Duration) {
        if let Some(entry) = self.lock().peers.get_mut(node_id) {
            entry.connection = None;
            entry.backoff.connection_ended(disputed, lasted, Instant::now());
        }
    }

    pub(crate) fn set_address(&self, node_id: &PublicKey, address: String) {
        if let Some(entry) = self.lock().peers.get_mut(node_id) {
            entry.address = Some(address);
        }
    }

    pub(crate) fn address(&self, node_id: &PublicKey) -> Option<String> {
        self.lock().peers.get(node_id).and_then(|entry| entry.address.clone())
    }

    /// Before a node is connected that came to us (`inbound`) or that we have dialled: if there is no room, the least useful
    /// stranger gives way. `false`: there is none, and the newcomer is one itself.
    pub(crate) fn make_room(&self, newcomer: &PublicKey, inbound: bool) -> bool {
        let mut register = self.lock();
        let is_stranger = inbound && !register.is_funded_with(newcomer);
        let mut strangers = register.strangers();
        strangers.retain(|(node_id, _)| node_id != newcomer);
        let others = register.connected().saturating_sub(strangers.len());
        let room = MAX_STRANGERS.min(self.descriptors.saturating_sub(others));
        // Others come in whether there is room or not; they need a descriptor, but no stranger's place.
        let wanted = if is_stranger { strangers.len() + 1 } else { strangers.len() };
        let crowded = wanted > room || (!is_stranger && others + strangers.len() >= self.descriptors);
        if !crowded {
            return true;
        }
        let describe = |(node_id, connection): &(PublicKey, ConnectionInfo)| Stranger {
            node_id: *node_id,
            group: neighbourhood(connection.address.ip()),
            since: connection.since,
            opens: connection.opens || register.owners.values().any(|owned| owned.by == *node_id),
        };
        self.note_refused(Refused::Stranger);
        let leaving = strangers::least_useful(strangers.iter().map(describe).collect());
        let Some(entry) = leaving.and_then(|node_id| register.peers.get_mut(&node_id)) else { return !is_stranger };
        entry.connection = None;
        let _ = entry.mailbox.send(Command::GiveWay);
        true
    }

    /// Whether a peer with a funded channel was last seen at this address. Nothing follows from one of this machine: it may
    /// be a relay's (Tor, for example).
    pub(crate) fn is_known_address(&self, address: IpAddr) -> bool {
        if address.is_loopback() {
            return false;
        }
        let register = self.lock();
        let (funded, wanted) = (register.funded(), neighbourhood(address));
        let mut known = register.peers.iter().filter(|(node_id, _)| funded.contains(node_id));
        known.any(|(_, entry)| {
            let reached = entry.address.as_ref().and_then(|address| address.parse::<SocketAddr>().ok());
            let all = [entry.seen_at, reached.map(|address| address.ip())];
            all.into_iter().flatten().any(|one| neighbourhood(one) == wanted)
        })
    }

    pub(crate) fn note_refused(&self, what: Refused) {
        if let Some(count) = self.refused.get(what as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the bounds of this register allow, and what of it is used.
    pub(crate) fn limits(&self) -> Vec<LimitUse> {
        let register = self.lock();
        let refused = |what: Refused| self.refused.get(what as usize).map_or(0, |count| count.load(Ordering::Relaxed));
        let strangers = register.strangers().len();
        let room = MAX_STRANGERS.min(self.descriptors.saturating_sub(register.connected().saturating_sub(strangers)));
        vec![
            LimitUse {
                name: "lightning.strangers",
                used: strangers as u64,
                limit: room as u64,
                refused: refused(Refused::Stranger),
                what: "nodes that came to us and have no funded channel; the least useful gives way",
            },
            LimitUse {
                name: "lightning.unfunded_channels",
                used: register.unfunded().count() as u64,
                limit: MAX_UNFUNDED as u64,
                refused: refused(Refused::Opening),
                what: "channels that peers have promised to fund; the oldest without a funding transaction gives way",
            },
            LimitUse {
                name: "lightning.pongs",
                used: 0,
                limit: crate::limits::PONGS_PER_SECOND,
                refused: refused(Refused::Pong),
                what: "bytes of pongs a second for one peer; more is not answered",
            },
            LimitUse {
                name: "lightning.custom_messages",
                used: 0,
                limit: crate::limits::CUSTOM_PER_SECOND,
                refused: refused(Refused::Custom),
                what: "bytes a second of one peer's messages for other programs; more is dropped",
            },
            LimitUse {
                name: "lightning.unsent_answers",
                used: 0,
                limit: crate::limits::MAX_UNSENT_ANSWERS,
                refused: refused(Refused::Answer),
                what: "bytes that wait for one peer before pongs and backups are left out",
            },
        ]
    }

    /// How many nodes are connected, and how many of them are strangers.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let register = self.lock();
        (register.connected(), register.strangers().len())
    }

    /// Forgets a peer whose task wants to end, unless a command has come for it. Nobody can send one in between.
    pub(crate) fn remove_if_idle(&self, node_id: &PublicKey, commands: &mpsc::UnboundedReceiver<Command>) -> bool {
        let mut register = self.lock();
        let idle = commands.is_empty();
        if idle {
            register.peers.remove(node_id);
        }
        idle
    }

    /// Enters a channel that is there already; `false`, and nothing changes, if another peer has a channel with this id.
    pub(crate) fn add_channel(&self, channel: ChannelId, by: PublicKey, backing: Backing) -> bool {
        let mut register = self.lock();
        register.owners.entry(channel).or_insert(Owned { by, backing, gives_way: false }).by == by
    }

    /// Enters a channel that has just got its id, which a peer may have chosen. One that is only promised may make another
    /// give way, whose peer's task is told.
    pub(crate) fn add_new_channel(
        &self,
        channel: ChannelId,
        by: PublicKey,
        backing: Backing,
        tip: Height,
    ) -> Result<(), ChannelRefused> {
        let mut register = self.lock();
        if register.owners.contains_key(&channel) {
            return Err(ChannelRefused::Taken);
        }
        if backing != Backing::Funded && register.unfunded().count() >= MAX_UNFUNDED {
            self.note_refused(Refused::Opening);
            let least = register.least_unfunded(tip).ok_or(ChannelRefused::Full)?;
            let Register { peers, owners } = &mut *register;
            if let Some(owned) = owners.get_mut(&least) {
                owned.gives_way = true;
                if let Some(entry) = peers.get(&owned.by) {
                    let _ = entry.mailbox.send(Command::GiveUpUnfunded { channel: least });
                }
            }
        }
        register.owners.insert(channel, Owned { by, backing, gives_way: false });
        Ok(())
    }

    /// What stands behind a channel has changed, or was looked at again.
    pub(crate) fn set_backing(&self, channel: &ChannelId, backing: Backing) {
        if let Some(owned) = self.lock().owners.get_mut(channel) {
            (owned.backing, owned.gives_way) = (backing, false);
        }
    }

    pub(crate) fn remove_channel(&self, channel: &ChannelId) {
        self.lock().owners.remove(channel);
    }

    pub(crate) fn owner(&self, channel: &ChannelId) -> Option<PublicKey> {
        self.lock().owners.get(channel).map(|owned| owned.by)
    }

    /// Whether there is a channel with this node that more stands behind than its word.
    pub(crate) fn has_channel_with(&self, node_id: &PublicKey) -> bool {
        self.lock().is_funded_with(node_id)
    }

    pub(crate) fn to_peer(&self, node_id: &PublicKey, command: Command) -> bool {
        self.lock().peers.get(node_id).is_some_and(|entry| entry.mailbox.send(command).is_ok())
    }

    /// Whether a channel of this node has this id, whatever its state.
    pub(crate) fn knows_channel(&self, channel: &ChannelId) -> bool {
        self.lock().owners.contains_key(channel)
    }

    pub(crate) fn to_channel(&self, channel: &ChannelId, command: Command) -> bool {
        let register = self.lock();
        let entry = register.owners.get(channel).and_then(|owned| register.peers.get(&owned.by));
        entry.is_some_and(|entry| entry.mailbox.send(command).is_ok())
    }

    /// Peers that have channels, are away, have a known address and are not being dialled; they are marked as being
    /// dialled.
    pub(crate) fn claim_missing(&self) -> Vec<(PublicKey, String)> {
        let now = Instant::now();
        let mut register = self.lock();
        let Register { peers, owners } = &mut *register;
        let mut missing = Vec::new();
        for (node_id, entry) in peers.iter_mut() {
            let wanted = owners.values().any(|owned| owned.by == *node_id);
            if let Some(address) = &entry.address
                && wanted
                && entry.connection.is_none()
                && !entry.dialling
                && entry.backoff.may_dial(now)
            {
                entry.dialling = true;
                missing.push((*node_id, address.clone()));
            }
        }
        missing
    }

    pub(crate) fn dialled(&self, node_id: &PublicKey) {
        if let Some(entry) = self.lock().peers.get_mut(node_id) {
            entry.dialling = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(byte: u8) -> PublicKey {
        secp256k1::SecretKey::from_slice(&[byte; 32]).unwrap().public_key(secp256k1::SECP256K1)
    }

    const TIP: Height = Height(100);

    fn id(number: usize) -> ChannelId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        ChannelId(id)
    }

    fn promised(since: u32, seen: bool) -> Backing {
        Backing::Promised { since: Height(since), seen }
    }

    fn enter(peers: &Peers, node_id: PublicKey) -> mpsc::UnboundedReceiver<Command> {
        let (mailbox, commands) = mpsc::unbounded_channel();
        peers.enter(node_id, || mailbox, None);
        commands
    }

    #[test]
    fn nobody_takes_over_the_id_of_a_channel() {
        let peers = Peers::new(1_000);
        let channel = ChannelId([7; 32]);
        let add = |node| peers.add_new_channel(channel, node, Backing::Funded, TIP);
        assert_eq!(add(node(1)), Ok(()));
        assert!(peers.add_channel(channel, node(1), Backing::Funded), "its owner may say so again");
        assert!(!peers.add_channel(channel, node(2), Backing::Funded));
        assert_eq!(add(node(2)), Err(ChannelRefused::Taken));
        assert_eq!(add(node(1)), Err(ChannelRefused::Taken), "a second channel over one funding output");
        assert_eq!(peers.owner(&channel), Some(node(1)));
    }

    #[test]
    fn promised_channels_have_a_bound_over_all_peers_and_the_oldest_unseen_gives_way() {
        let peers = Peers::new(1_000);
        let mut mailboxes: Vec<_> = (0..20).map(|number| enter(&peers, node(number + 1))).collect();
        let of = |number: usize| node(u8::try_from(number % 20).unwrap() + 1);
        for number in 0..MAX_UNFUNDED {
            let since = 100 - u32::try_from(number % 5).unwrap();
            assert_eq!(peers.add_new_channel(id(number), of(number), promised(since, false), TIP), Ok(()));
        }
        let more = |number, tip| peers.add_new_channel(id(number), of(1), promised(100, false), Height(tip));
        assert_eq!(more(1_000, 100), Err(ChannelRefused::Full), "all are young");
        assert_eq!(peers.add_new_channel(id(2_000), of(1), Backing::Funded, TIP), Ok(()), "ours have a place");
        // Those since height 96 are the first that may go; one of them was seen.
        let first = (0..MAX_UNFUNDED).filter(|number| number % 5 == 4).min_by_key(|number| id(*number)).unwrap();
        peers.set_backing(&id(first), promised(96, true));
        assert_eq!(more(1_000, 96 + UNFUNDED_GIVES_WAY_AFTER), Ok(()));
        let told: Vec<ChannelId> = mailboxes
            .iter_mut()
            .flat_map(|mailbox| mailbox.try_recv())
            .map(|command| match command {
                Command::GiveUpUnfunded { channel } => channel,
                _ => panic!("another command"),
            })
            .collect();
        assert_eq!(told.len(), 1);
        assert_ne!(told[0], id(first));
        assert_eq!(peers.lock().owners[&told[0]].backing, promised(96, false));
        assert_eq!(peers.lock().unfunded().count(), MAX_UNFUNDED);
        // Its task has found that it is funded by now: it counts as what it is.
        peers.set_backing(&told[0], Backing::Funded);
        assert_eq!(peers.lock().unfunded().count(), MAX_UNFUNDED);
    }

    #[test]
    fn a_promise_makes_nobody_more_than_a_stranger() {
        let peers = Peers::new(1_000);
        peers.add_new_channel(id(1), node(1), promised(100, true), TIP).unwrap();
        assert!(!peers.has_channel_with(&node(1)));
        peers.set_backing(&id(1), Backing::Funded);
        assert!(peers.has_channel_with(&node(1)));
    }

    #[test]
    fn nobody_waits_for_the_tasks_of_strangers() {
        let peers = Peers::new(1_000);
        let mut mailboxes: Vec<_> = (1..=3).map(|number| enter(&peers, node(number))).collect();
        peers.add_new_channel(id(1), node(1), Backing::Funded, TIP).unwrap();
        peers.add_new_channel(id(2), node(2), promised(100, true), TIP).unwrap();
        let state = |number| PeerState {
            node_id: node(number),
            connection: None,
            presence: crate::driver::peer::Presence::default(),
            channels: Vec::new(),
            resolutions: Vec::new(),
            refused: Vec::new(),
        };
        peers.show(&node(2), Some(state(2)));
        let hang_up = |mailbox: mpsc::UnboundedSender<Command>| mailbox.send(Command::GiveWay).is_ok();
        let mut told = || mailboxes.iter_mut().map(|mailbox| mailbox.try_recv().is_ok()).collect::<Vec<_>>();
        let (shown, others) = peers.described();
        assert_eq!(shown.iter().map(|state| state.node_id).collect::<Vec<_>>(), [node(2)]);
        assert!(others.into_iter().all(hang_up));
        assert_eq!(told(), [true, false, true], "a task that has not shown itself is asked");
        assert!(peers.with_channels().into_iter().all(hang_up));
        assert_eq!(told(), [true, false, false], "payments go over funded channels");
        peers.show(&node(2), None);
        assert_eq!((peers.described().0.len(), peers.described().1.len()), (0, 3));
    }

    #[test]
    fn strangers_give_way_to_peers_with_channels_and_to_whom_we_dial() {
        // There are descriptors for six.
        let peers = Peers::new(6);
        let connection = |inbound| ConnectionInfo::new("192.0.2.1:9735".parse().unwrap(), inbound);
        let mut mailboxes = HashMap::new();
        let mut come = |number: u8, inbound| {
            let room = peers.make_room(&node(number), inbound);
            if room {
                mailboxes.insert(number, enter(&peers, node(number)));
                peers.set_connected(&node(number), connection(inbound));
            }
            room
        };
        peers.add_new_channel(id(1), node(1), Backing::Funded, TIP).unwrap();
        for number in 2..=7 {
            assert!(come(number, true));
        }
        let strangers = || peers.lock().strangers().len();
        assert_eq!(strangers(), 6);
        assert!(come(8, true), "a stranger takes another one's place");
        assert_eq!(strangers(), 6);
        assert!(come(1, true) && come(9, false));
        assert_eq!((strangers(), peers.lock().connected()), (4, 6));
        let gave_way = mailboxes.values_mut().filter_map(|mailbox| mailbox.try_recv().ok());
        assert_eq!(gave_way.filter(|command| matches!(command, Command::GiveWay)).count(), 3);
        assert!(peers.is_known_address("192.0.2.1".parse().unwrap()), "of the peer with a channel");
        assert!(!peers.is_known_address("192.0.2.2".parse().unwrap()));
    }
}
