//! A node with its channels, workers and disk, and towers that are the real state machine. Everybody can be killed before and
//! after any commit, and what the node commits is checked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::{Transaction, constants::ChainHash};
use leyden_channels::{
    channel::{Outbox, Persist, TowerPolicy, Write},
    keys::{PerCommitmentSecrets, Signer as _, secp},
    onchain::{EnforcementPolicy, FeeEstimates},
    types::{ChannelId, CommitmentNumber, CommitmentType, FeeratePerKw, Height, Side, Uptime},
};
use leyden_watchtower::{
    appointment::{ChannelName, ClientId},
    client::{
        self, Client, Constants, Effect, Event, Notice, Place, Work,
        keys::{TowerKeys, tag},
        record::{ClientKey, Round, TowerId, Use},
    },
    hint::Hint,
    kit::DEFAULT_SWEEP_FEERATE,
    message::{Backup, BackupBody, Mode, TowerMessage},
    own::{OwnChannel, RevocationSecret},
    tower::{self, Tower, newest_receipts},
};
use secp256k1::{PublicKey, SecretKey};

use super::common::{self, DELAY, Duo, home, world::Store};

/// SplitMix64: a schedule is its seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// When somebody dies within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    Never,
    BeforeCommit,
    AfterCommit,
}

pub struct Keys;

impl TowerKeys for Keys {
    fn client(&self, tower: &PublicKey) -> ClientId {
        SecretKey::from_slice(&self.secret(tower)).unwrap().public_key(secp()).into()
    }

    fn secret(&self, tower: &PublicKey) -> [u8; 32] {
        let mut secret = [0x21; 32];
        secret[8..].copy_from_slice(&tower.serialize()[1..25]);
        secret
    }
}

/// The block at which everything begins.
pub const START: Height = Height(100);

pub const fn ctx() -> client::Ctx<'static> {
    let (chain, tip, sweep_feerate) = (ChainHash::REGTEST, START, DEFAULT_SWEEP_FEERATE);
    client::Ctx { chain, tip, keys: &Keys, sweep_feerate }
}

/// A tower somewhere in the world.
pub struct Far {
    pub secret: SecretKey,
    pub mode: Mode,
    pub tower: Tower,
    pub store: Store,
    pub config: tower::Config,
    /// The node's number for it.
    pub id: Option<TowerId>,
    pub connected: bool,
    /// It was taken away once, and what it held then is nobody's any more.
    pub was_removed: bool,
    /// It has more to do when nothing else is.
    pub idle: bool,
    pub to_tower: VecDeque<Vec<u8>>,
    pub to_node: VecDeque<Vec<u8>>,
}

impl Far {
    pub fn new(number: u8, mode: Mode) -> Self {
        let secret = SecretKey::from_slice(&[0x70 + number; 32]).unwrap();
        let mut config = common::world::config();
        config.key = secret.public_key(secp());
        config.admission.listed.insert(Keys.client(&config.key));
        let store = Store::default();
        let tower = Tower::restore(config.clone(), store.lookout(), &store).unwrap();
        let (to_tower, to_node) = (VecDeque::new(), VecDeque::new());
        let mut far = Self {
            secret,
            mode,
            tower,
            store,
            config,
            id: None,
            connected: false,
            was_removed: false,
            idle: false,
            to_tower,
            to_node,
        };
        far.block(START.0, &[]);
        far
    }

    pub fn block(&mut self, height: u32, transactions: &[Transaction]) {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&height.to_be_bytes());
        let block = tower::BlockSeen { height: Height(height), hash, transactions };
        self.handle(vec![tower::Event::Block(block)], Crash::Never);
    }

    /// Empty blocks up to this height.
    pub fn mine_to(&mut self, height: u32) {
        (self.tower.tip().unwrap().height.0 + 1..=height).for_each(|height| self.block(height, &[]));
    }

    pub fn client(&self) -> ClientId {
        Keys.client(&self.config.key)
    }

    pub fn handle(&mut self, events: Vec<tower::Event<'_>>, crash: Crash) {
        let (estimates, policy) = (FeeEstimates::flat(FeeratePerKw(1_000)), EnforcementPolicy::default());
        let mut outboxes = Vec::new();
        for event in events {
            let newest = self.tower.tip().map_or(START, |tip| tip.height);
            let (tip_is_sure, now, archive) = (true, Uptime(0), &self.store);
            let ctx = tower::Ctx { newest, tip_is_sure, now, estimates: &estimates, policy: &policy, archive };
            outboxes.push(self.tower.handle(event, &ctx).unwrap());
        }
        if crash == Crash::BeforeCommit {
            return self.restart();
        }
        let effects = Outbox::commit_all(outboxes, &mut self.store).unwrap();
        self.tower.settled();
        if crash == Crash::AfterCommit {
            return self.restart();
        }
        for effect in newest_receipts(effects.into_iter().flatten().collect()) {
            match effect {
                tower::Effect::Send(_, message) => self.to_node.push_back(message.encode()),
                tower::Effect::Sign(_, content) => self.to_node.push_back(content.sign(&self.secret).encode()),
                tower::Effect::HangUp(_, why) => panic!("the tower hangs up: {why}"),
                tower::Effect::MoreWhenIdle => self.idle = true,
                _ => {}
            }
        }
    }

    pub fn restart(&mut self) {
        self.tower = Tower::restore(self.config.clone(), self.store.lookout(), &self.store).unwrap();
        self.cut();
    }

    pub fn cut(&mut self) {
        self.connected = false;
        self.to_tower.clear();
        self.to_node.clear();
    }

    /// The newest state of a channel that is durable here, under any tag.
    pub fn held(&self, channel: &ChannelId) -> Option<CommitmentNumber> {
        let tower = Tower::restore(self.config.clone(), self.store.lookout(), &self.store).unwrap();
        let names = (0..20).map(|round| tag(&Keys.secret(&self.config.key), channel, Round(round)));
        names.filter_map(|name| tower.held(&self.client(), &name)).map(|held| held.up_to).max()
    }
}

/// The node's disk: the client's rows, and those of the channels that matter here.
#[derive(Clone, Default)]
pub struct Disk {
    pub rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// By channel: the newest state that is revoked.
    pub revoked: BTreeMap<ChannelId, Option<CommitmentNumber>>,
}

impl Persist<ClientKey> for Disk {
    type Error = std::convert::Infallible;

    fn commit(&mut self, writes: Vec<Write<ClientKey>>) -> Result<(), Self::Error> {
        for write in writes {
            match write {
                Write::Put { key, value } => drop(self.rows.insert(key.encode(), value)),
                Write::Delete { key } => drop(self.rows.remove(&key.encode())),
            }
        }
        Ok(())
    }
}

impl Disk {
    pub fn queued(&self, channel: &ChannelId) -> BTreeSet<CommitmentNumber> {
        let number = |key: &Vec<u8>| match ClientKey::decode(key) {
            Ok(ClientKey::Queued { channel: of, number }) if of == *channel => Some(number),
            _ => None,
        };
        self.rows.keys().filter_map(number).collect()
    }
}

/// What a channel in memory knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gate {
    pub queued: Option<CommitmentNumber>,
    pub held: Option<CommitmentNumber>,
}

pub struct World {
    pub random: Random,
    pub disk: Disk,
    pub client: Client,
    pub gates: BTreeMap<ChannelId, Gate>,
    pub required: u16,
    pub towers: Vec<Far>,
    /// What the node's workers have not done yet, in order.
    pub work: VecDeque<Effect>,
    pub next_channel: u8,
    pub crash_percent: u64,
    /// Notices and refusals of towers are what the test wants.
    pub tolerant: bool,
    /// The test answers in the place of the towers.
    pub forged: bool,
    pub notices: Vec<Notice>,
    pub called_old: Vec<(ChannelId, CommitmentNumber)>,
    /// The node's tip, and the rate that it wants.
    pub tip: Height,
    pub sweep_feerate: FeeratePerKw,
    /// Channels whose funding outputs are to be looked for.
    pub looked_for: Vec<ChannelId>,
    pub tally: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub revoked: u64,
    pub acknowledged: u64,
    pub crashes: u64,
    pub rounds: u64,
    pub pasts: u64,
}

pub fn channel(number: u8) -> ChannelId {
    ChannelId([number + 1; 32])
}

pub fn duo(channel: &ChannelId) -> Duo {
    Duo::new(u32::from(channel.0[0]), CommitmentType::Anchors, Vec::new())
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let modes: Vec<Mode> =
            (0..2 + random.below(2)).map(|_| if random.chance(50) { Mode::Blind } else { Mode::Own }).collect();
        let crash_percent = if random.chance(60) { random.below(8) } else { 0 };
        let mut world = Self::with(random, &modes);
        world.crash_percent = crash_percent;
        for _ in 0..1 + world.random.below(3) {
            world.open();
        }
        world
    }

    /// Towers of these modes, none of which is added yet.
    pub fn with(random: Random, modes: &[Mode]) -> Self {
        let towers = modes.iter().zip(0..).map(|(mode, number)| Far::new(number, *mode)).collect();
        let client = Client::restore([], 0).unwrap();
        let mut world = Self {
            random,
            disk: Disk::default(),
            client,
            gates: BTreeMap::new(),
            required: 0,
            towers,
            work: VecDeque::new(),
            next_channel: 0,
            crash_percent: 0,
            tolerant: false,
            forged: false,
            notices: Vec::new(),
            called_old: Vec::new(),
            tip: START,
            sweep_feerate: DEFAULT_SWEEP_FEERATE,
            looked_for: Vec::new(),
            tally: Tally::default(),
        };
        world.event(Event::Started);
        world
    }

    pub fn crash(&mut self) -> Crash {
        if !self.random.chance(self.crash_percent) {
            return Crash::Never;
        }
        self.tally.crashes += 1;
        if self.random.chance(50) { Crash::BeforeCommit } else { Crash::AfterCommit }
    }

    fn ctx(&self) -> client::Ctx<'static> {
        client::Ctx { tip: self.tip, sweep_feerate: self.sweep_feerate, ..ctx() }
    }

    pub fn event(&mut self, event: Event) {
        self.event_with(event, Crash::Never);
    }

    pub fn event_with(&mut self, event: Event, crash: Crash) {
        let outbox = self.client.handle(event, &self.ctx());
        if crash == Crash::BeforeCommit {
            return self.restart();
        }
        let before: BTreeMap<ChannelId, BTreeSet<CommitmentNumber>> =
            self.gates.keys().map(|channel| (*channel, self.disk.queued(channel))).collect();
        let effects = Outbox::commit_all(vec![outbox], &mut self.disk).unwrap().remove(0);
        self.check_deleted(&before);
        if crash == Crash::AfterCommit {
            return self.restart();
        }
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    /// What was deleted is held by every tower in use, and by as many as are required.
    pub fn check_deleted(&self, before: &BTreeMap<ChannelId, BTreeSet<CommitmentNumber>>) {
        if self.forged {
            return;
        }
        for (channel, before) in before {
            let Some(last) = before.difference(&self.disk.queued(channel)).max().copied() else { continue };
            let in_use = self.in_use();
            let holding = in_use.iter().filter(|tower| self.towers[**tower].held(channel) >= Some(last)).count();
            assert_eq!(holding, in_use.len(), "state {last:?} of {channel} is gone, and a tower lacks it");
            assert!(holding >= usize::from(self.required), "too few towers hold state {last:?}");
        }
    }

    pub fn in_use(&self) -> Vec<usize> {
        let active: Vec<TowerId> = self
            .client
            .towers()
            .filter(|(_, row)| row.use_of_it == Use::Active && row.proof.is_none())
            .map(|(id, _)| id)
            .collect();
        let is_active = |far: &Far| far.id.is_some_and(|id| active.contains(&id));
        (0..self.towers.len()).filter(|at| is_active(&self.towers[*at])).collect()
    }

    pub fn at(&self, id: TowerId) -> usize {
        self.towers.iter().position(|far| far.id == Some(id)).expect("a tower of this node")
    }

    pub fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Connect(_) | Effect::Continue | Effect::NameChannels => self.work.push_back(effect),
            Effect::Describe { .. } | Effect::Prepare { .. } => self.work.push_back(effect),
            Effect::Disconnect { tower, again } => {
                assert!(!again || self.tolerant, "nobody here deserves to be left alone: {:?}", self.notices.last());
                if let Some(far) = self.towers.iter_mut().find(|far| far.id == Some(tower)) {
                    far.cut();
                }
            }
            Effect::Send(tower, message) => {
                let at = self.at(tower);
                if self.towers[at].connected {
                    self.towers[at].to_tower.push_back(message.encode());
                }
            }
            Effect::TowersHold { channel, up_to } => self.told(channel, up_to),
            Effect::LookForClose { channel, .. } => self.looked_for.push(channel),
            Effect::TowerKnowsRevoked { channel, number } => {
                assert!(self.tolerant, "{channel} is called old at {number:?}");
                self.called_old.push((channel, number));
            }
            Effect::Notice(notice) => match notice {
                Notice::Registered { .. } => {}
                Notice::Waiting { .. } => self.notices.push(notice),
                Notice::CoveredFrom { .. } => {
                    self.tally.rounds += 1;
                    self.notices.push(notice);
                }
                other => {
                    assert!(self.tolerant, "{other:?}");
                    self.notices.push(other);
                }
            },
        }
    }

    pub fn told(&mut self, channel: ChannelId, up_to: Option<CommitmentNumber>) {
        let queued = self.disk.queued(&channel).into_iter().filter(|number| Some(*number) <= up_to).max();
        if queued.is_some() && self.required > 0 {
            let holding = (0..self.towers.len()).filter(|at| self.towers[*at].held(&channel) >= queued).count();
            assert!(
                holding >= usize::from(self.required),
                "{channel} is told of {up_to:?}, and {holding} towers hold it"
            );
            self.tally.acknowledged += 1;
        }
        if let Some(gate) = self.gates.get_mut(&channel) {
            gate.held = up_to;
        }
    }

    pub fn restart(&mut self) {
        self.work.clear();
        let rows = self.disk.rows.iter().map(|(key, value)| (ClientKey::decode(key).unwrap(), value.clone()));
        self.client = Client::restore(rows, self.required).unwrap();
        for at in 0..self.towers.len() {
            if std::mem::take(&mut self.towers[at].connected) {
                let gone = self.towers[at].client();
                self.towers[at].cut();
                self.towers[at].handle(vec![tower::Event::Disconnected(gone)], Crash::Never);
            }
            // What is not on the disk is not added.
            let key = self.towers[at].config.key;
            self.towers[at].id = self.client.towers().find(|(_, row)| row.key == key).map(|(id, _)| id);
        }
        let channels = self.disk.revoked.clone();
        for (channel, revoked) in &channels {
            self.event(Event::Channel { channel: *channel, revoked: *revoked });
        }
        self.event(Event::Started);
        let old = std::mem::take(&mut self.gates);
        for (channel, revoked) in channels {
            // What was queued is in the channel's state.
            let queued = old.get(&channel).and_then(|gate| gate.queued).min(revoked);
            self.gates.insert(channel, Gate { queued, held: None });
            if let Some(number) = queued {
                self.event(Event::Queued { channel, number });
            }
        }
    }

    pub fn open(&mut self) {
        let channel = channel(self.next_channel);
        self.next_channel += 1;
        self.disk.revoked.insert(channel, None);
        self.gates.insert(channel, Gate::default());
        self.event(Event::Channel { channel, revoked: None });
    }

    pub fn a_channel(&mut self) -> Option<ChannelId> {
        let channels: Vec<ChannelId> = self.gates.keys().copied().collect();
        (!channels.is_empty()).then(|| channels[self.random.below(channels.len() as u64) as usize])
    }

    /// The peer revokes a state, and the channel's commit queues it.
    pub fn revoke(&mut self, channel: ChannelId) {
        let policy = self.client.policy();
        let gate = self.gates[&channel];
        if policy == TowerPolicy::Require && gate.queued > gate.held {
            return;
        }
        let number = self.disk.revoked[&channel].map_or(CommitmentNumber(0), CommitmentNumber::next);
        self.disk.revoked.insert(channel, Some(number));
        self.tally.revoked += 1;
        if policy == TowerPolicy::None {
            return;
        }
        self.disk.rows.insert(ClientKey::Queued { channel, number }.encode(), Vec::new());
        self.gates.get_mut(&channel).unwrap().queued = Some(number);
        if self.random.chance(self.crash_percent / 2) {
            // It dies before the effect.
            return self.restart();
        }
        let crash = self.crash();
        self.event_with(Event::Queued { channel, number }, crash);
    }

    pub fn over(&mut self, channel: ChannelId) {
        self.disk.revoked.remove(&channel);
        self.gates.remove(&channel);
        let erased = self.disk.queued(&channel);
        for number in erased {
            self.disk.rows.remove(&ClientKey::Queued { channel, number }.encode());
        }
        let crash = self.crash();
        self.event_with(Event::ChannelOver(channel), crash);
    }

    pub fn connect(&mut self, at: usize) {
        let Some(id) = self.towers[at].id.filter(|_| !self.towers[at].connected && self.in_use().contains(&at)) else {
            return;
        };
        let client = self.towers[at].client();
        self.towers[at].connected = true;
        self.towers[at].handle(vec![tower::Event::Connected(client)], Crash::Never);
        self.event(Event::Connected(id));
    }

    pub fn cut(&mut self, at: usize) {
        if let Some(id) = self.towers[at].id.filter(|_| self.towers[at].connected) {
            let client = self.towers[at].client();
            self.towers[at].cut();
            self.towers[at].handle(vec![tower::Event::Disconnected(client)], Crash::Never);
            self.event(Event::Disconnected(id));
        }
    }

    pub fn deliver_to_tower(&mut self, at: usize, count: u64, crash: Crash) -> bool {
        let far = &mut self.towers[at];
        let client = far.client();
        let mut events = Vec::new();
        for _ in 0..count {
            let Some(bytes) = far.to_tower.pop_front() else { break };
            events.push(tower::Event::Message(client, TowerMessage::decode(&bytes).unwrap()));
        }
        if events.is_empty() && std::mem::take(&mut far.idle) {
            events.push(tower::Event::Idle);
        }
        if events.is_empty() {
            return false;
        }
        far.handle(events, crash);
        if let (false, Some(id)) = (self.towers[at].connected, self.towers[at].id) {
            self.event(Event::Disconnected(id));
        }
        true
    }

    pub fn deliver_to_node(&mut self, at: usize, crash: Crash) -> bool {
        let Some(bytes) = self.towers[at].to_node.pop_front() else { return false };
        let Some(id) = self.towers[at].id else { return true };
        self.event_with(Event::Message(id, TowerMessage::decode(&bytes).unwrap()), crash);
        true
    }

    /// One thing that the node's workers were asked to do.
    pub fn work(&mut self, crash: Crash) -> bool {
        let Some(effect) = self.work.pop_front() else { return false };
        match effect {
            Effect::Connect(id) => {
                if let Some(at) = self.towers.iter().position(|far| far.id == Some(id)) {
                    self.connect(at);
                }
            }
            Effect::Continue => self.event_with(Event::Continue, crash),
            Effect::NameChannels => {
                for (channel, revoked) in self.disk.revoked.clone() {
                    self.event(Event::Channel { channel, revoked });
                }
            }
            Effect::Describe { place: Place { tower, channel, session, mode, name, sweep_feerate }, destination } => {
                let destination = destination.unwrap_or_else(|| home(self.random.below(200) as u8));
                let constants = match mode {
                    Mode::Blind => {
                        let rate = sweep_feerate.0.to_be_bytes();
                        Constants::Blind([&name.tag.0[..], &rate, destination.as_bytes()].concat())
                    }
                    Mode::Own => {
                        let duo = duo(&channel);
                        let of = duo.closing(Side::Local);
                        Constants::Own(
                            OwnChannel {
                                kind: of.kind,
                                opener: of.opener,
                                funding: of.funding,
                                capacity: of.capacity,
                                local: of.local,
                                remote: of.remote,
                                remote_delay: DELAY,
                                destination: destination.clone(),
                                revocation: RevocationSecret(duo.alice.release_revocation_secret()),
                            }
                            .encode(),
                        )
                    }
                };
                self.event_with(Event::Described { tower, channel, session, destination, constants }, crash);
            }
            Effect::Prepare { place, work, .. } => self.prepare(place, work, crash),
            other => panic!("{other:?} is not for a worker"),
        }
        true
    }

    pub fn prepare(&mut self, place: Place, work: Work, crash: Crash) {
        let Place { tower, channel, session, mode, name, .. } = place;
        match work {
            Work::Past => {
                let Some(Some(number)) = self.disk.revoked.get(&channel).copied() else { return };
                self.tally.pasts += 1;
                let mut secrets = PerCommitmentSecrets::default();
                for number in 0..=number.0 {
                    secrets.insert(CommitmentNumber(number), duo(&channel).secret(number)).unwrap();
                }
                for more in [true, false] {
                    let body = BackupBody::OwnPast { secrets: secrets.clone(), htlcs: Vec::new(), more };
                    let backup = Box::new(Backup { channel: name, number, body });
                    self.event(Event::Prepared { tower, channel, session, backup });
                }
            }
            Work::States { numbers, .. } => {
                let last = *numbers.end();
                for number in (numbers.start().0..=last.0).map(CommitmentNumber) {
                    if !self.disk.queued(&channel).contains(&number) {
                        // Its connection, or its channel, has ended, or the tower is not in use any more.
                        return;
                    }
                    let backup = Box::new(backup(name, &channel, number, mode));
                    let crash = if number == last { crash } else { Crash::Never };
                    self.event_with(Event::Prepared { tower, channel, session, backup }, crash);
                }
            }
        }
    }

    pub fn step(&mut self) {
        let crash = self.crash();
        let at = self.random.below(self.towers.len() as u64) as usize;
        match self.random.below(100) {
            0..30 => {
                if let Some(channel) = self.a_channel() {
                    for _ in 0..=self.random.below(6) {
                        if self.gates.contains_key(&channel) {
                            self.revoke(channel);
                        }
                    }
                }
            }
            30..45 => drop(self.work(crash)),
            45..65 => {
                let count = 1 + self.random.below(8);
                self.deliver_to_tower(at, count, crash);
            }
            65..85 => drop(self.deliver_to_node(at, crash)),
            85..89 => self.connect(at),
            89..91 => self.cut(at),
            91..93 => match self.towers[at].id {
                None => self.add(at, crash),
                Some(id) if self.random.chance(30) => {
                    self.cut(at);
                    (self.towers[at].id, self.towers[at].was_removed) = (None, true);
                    self.event(Event::Remove(id));
                }
                Some(id) if self.random.chance(30) => {
                    self.cut(at);
                    self.event(Event::Deactivate(id));
                }
                Some(id) => self.event(Event::Activate(id)),
            },
            93 => {
                self.required = self.random.below(3) as u16;
                self.event(Event::Require(self.required));
            }
            94 => self.event(Event::Tick),
            95 if self.gates.len() < 4 => self.open(),
            96 if self.random.chance(30) => {
                if let Some(channel) = self.a_channel() {
                    self.over(channel);
                }
            }
            97 if self.crash_percent > 0 => self.restart(),
            98 if self.crash_percent > 0 => {
                self.cut(at);
                self.towers[at].restart();
            }
            _ => {}
        }
    }

    pub fn add(&mut self, at: usize, crash: Crash) {
        let (key, mode) = (self.towers[at].config.key, self.towers[at].mode);
        if crash == Crash::BeforeCommit {
            return self.restart();
        }
        // Its number is known before the effects are carried out.
        let outbox = self.client.handle(Event::Add { key, address: format!("tower{at}:9911"), mode }, &self.ctx());
        self.towers[at].id = self.client.towers().find(|(_, row)| row.key == key).map(|(id, _)| id);
        let effects = Outbox::commit_all(vec![outbox], &mut self.disk).unwrap().remove(0);
        if crash == Crash::AfterCommit {
            return self.restart();
        }
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    /// One channel, and all towers added.
    pub fn quiet(modes: &[Mode]) -> Self {
        let mut world = Self::with(Random(1), modes);
        world.open();
        (0..modes.len()).for_each(|at| world.add(at, Crash::Never));
        world
    }

    pub fn revoke_many(&mut self, channel: ChannelId, count: usize) {
        (0..count).for_each(|_| self.revoke(channel));
    }

    /// Everything is delivered and answered, after every tower was added and connected.
    pub fn calm(&mut self) {
        self.crash_percent = 0;
        for at in 0..self.towers.len() {
            if self.towers[at].id.is_none() {
                self.add(at, Crash::Never);
            }
            let id = self.towers[at].id.unwrap();
            self.event(Event::Activate(id));
            self.connect(at);
        }
        self.settle();
    }

    /// Everything is delivered and answered.
    pub fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 200_000, "it does not come to rest");
            let mut moved = self.work(Crash::Never);
            for at in 0..self.towers.len() {
                moved |= self.deliver_to_tower(at, 50, Crash::Never) | self.deliver_to_node(at, Crash::Never);
            }
            if !moved {
                break;
            }
        }
    }

    pub fn check_rest(&mut self) {
        let towers = self.towers.len();
        for (channel, gate) in self.gates.clone() {
            let left = self.disk.queued(&channel);
            let coverage = self.client.coverage(channel);
            assert!(
                left.is_empty(),
                "{channel}: rows are left over: {left:?}, {} required, {coverage:?}",
                self.required
            );
            assert!(
                gate.queued.is_none() || self.required == 0 || gate.held >= gate.queued,
                "{channel} waits: {gate:?}"
            );
            assert!(self.client.missing(channel).is_empty());
            let revoked = self.disk.revoked[&channel];
            for coverage in self.client.coverage(channel) {
                let far = &self.towers[self.at(coverage.tower)];
                let held = coverage.receipts.iter().map(|receipt| receipt.held.up_to).max();
                assert_eq!((coverage.trouble, coverage.waiting, held), (None, 0, far.held(&channel).min(held)));
                if far.mode == Mode::Own {
                    assert_eq!(held, revoked, "an own tower has everything");
                    assert!(coverage.is_complete());
                } else {
                    assert!(held >= gate.queued.filter(|_| held.is_some()));
                }
            }
        }
        // A channel that is over is forgotten by everybody.
        for number in (0..self.next_channel).filter(|number| !self.gates.contains_key(&channel(*number))) {
            for far in self.towers.iter().filter(|far| !far.was_removed) {
                assert_eq!(far.held(&channel(number)), None, "a tower was not told that channel {number} is over");
            }
        }
        let rows = self.disk.rows.len();
        let most = towers + self.gates.len() * towers * 20;
        assert!(rows <= most, "{rows} rows of {most} are left over");
        // And life goes on.
        for channel in self.gates.keys().copied().collect::<Vec<_>>() {
            self.revoke(channel);
        }
    }
}

/// The same bytes each time.
pub fn backup(name: ChannelName, channel: &ChannelId, number: CommitmentNumber, mode: Mode) -> Backup {
    let body = match mode {
        Mode::Blind => {
            let mut hint = number.0.to_be_bytes();
            hint[0] = channel.0[0];
            BackupBody::Blind { hint: Hint(hint), sealed: [&name.tag.0[..], &[number.0 as u8; 20]].concat() }
        }
        Mode::Own => BackupBody::Own { secret: duo(channel).secret(number.0), htlcs: Vec::new() },
    };
    Backup { channel: name, number, body }
}
