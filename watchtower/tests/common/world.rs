//! A tower with its driver, its clients and a chain. It can be killed before and after any of its commits.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, Transaction, constants::ChainHash};
use leyden_channels::{
    channel::{Outbox, Persist, Write},
    keys::{PerCommitmentSecrets, Signer as _, secp},
    onchain::{EnforcementPolicy, FeeEstimates},
    tx::OutputKind,
    types::{CommitmentNumber, FeeratePerKw, Height, Side, Uptime},
};
use leyden_watchtower::{
    appointment::{ChannelName, ChannelTag, ClientId, FundingIndex},
    kit::{self, Constants, ConstantsKey, DEFAULT_SWEEP_FEERATE, KitRequest, SweepTerms},
    lookout::Lookout,
    mark::Mark,
    message::{
        Ask, Backup, BackupBody, CloseChannel, Hello, Mode, OpenChannel, PROTOCOL_VERSION, Refused, Register,
        SignedHeld, StateHtlc, TowerFeatures, TowerMessage,
    },
    own::{OwnChannel, RevocationSecret},
    receipt::{Held, Holding},
    record::{Archive, ChannelRow, Key, OwnStateRow, Row as _, Table, Unread},
    session::{Admission, Limits},
    tower::{BlockSeen, Config, Ctx, Effect, Event, HangUp, Notice, Tower, TowerError, newest_receipts},
};
use secp256k1::SecretKey;

use super::{CAPACITY, DELAY, Duo, START, chain::Chain, home};

/// What is durable.
#[derive(Clone, Default)]
pub struct Store {
    pub rows: BTreeMap<Vec<u8>, Vec<u8>>,
    pub commits: usize,
    /// Commits fail.
    pub full: bool,
    /// Reads fail.
    pub unreadable: bool,
}

impl Persist<Key> for Store {
    type Error = &'static str;

    fn commit(&mut self, writes: Vec<Write<Key>>) -> Result<(), Self::Error> {
        if self.full {
            return Err("the disk is full");
        }
        self.commits += 1;
        for write in writes {
            match write {
                Write::Put { key, value } => drop(self.rows.insert(key.encode(), value)),
                Write::Delete { key } => drop(self.rows.remove(&key.encode())),
            }
        }
        Ok(())
    }
}

impl Archive for Store {
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Unread> {
        if self.unreadable {
            return Err(Unread("a bad sector".into()));
        }
        Ok(self.rows.get(&key.encode()).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&Key>, limit: usize) -> Result<Vec<(Key, Vec<u8>)>, Unread> {
        if self.unreadable {
            return Err(Unread("a bad sector".into()));
        }
        let after = after.map(Key::encode);
        let rows = self.rows.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        let rows = rows.filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after)).take(limit);
        Ok(rows.map(|(key, value)| (Key::decode(key).unwrap(), value.clone())).collect())
    }
}

impl Store {
    pub fn lookout(&self) -> Lookout {
        let prefix = Table::Hint.prefix();
        let keys = self.rows.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(&prefix));
        Lookout::load(keys.map(|(key, _)| match Key::decode(key).unwrap() {
            Key::Hint { hint, .. } => hint,
            other => panic!("{other:?}"),
        }))
    }

    /// Whether a state's backup is there.
    pub fn holds(&self, client: ClientId, name: ChannelName, number: CommitmentNumber) -> bool {
        let channels = self.rows.iter().filter(|(key, _)| key.starts_with(&Table::Channel.prefix()));
        let mut own = channels.filter_map(|(key, value)| {
            let row = ChannelRow::decode(value).unwrap();
            let Key::Channel(slot) = Key::decode(key).unwrap() else { panic!("another table") };
            ((row.client, row.name) == (client, name)).then_some((slot, row.mode))
        });
        let Some((slot, mode)) = own.next() else { return false };
        match mode {
            Mode::Blind => self.rows.contains_key(&Key::Backup { slot, number }.encode()),
            Mode::Own => self
                .rows
                .get(&Key::OwnState(slot).encode())
                .is_some_and(|row| OwnStateRow::decode(row).unwrap().secrets.get(number).is_some()),
        }
    }

    pub fn count(&self, table: Table) -> usize {
        self.rows.keys().filter(|key| key.starts_with(&table.prefix())).count()
    }
}

/// The tower's secret key.
pub fn tower_key() -> SecretKey {
    SecretKey::from_slice(&[0x70; 32]).unwrap()
}

pub fn client_id(number: u32) -> ClientId {
    let mut secret = [0x71; 32];
    secret[..4].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_slice(&secret).unwrap().public_key(secp()).into()
}

pub fn config() -> Config {
    Config {
        chain: ChainHash::REGTEST,
        key: tower_key().public_key(secp()),
        features: TowerFeatures::BLIND.with(TowerFeatures::OWN),
        admission: Admission { open: true, listed: BTreeSet::new() },
        limits: Limits::default(),
    }
}

/// A client with one channel.
pub struct Client {
    pub id: ClientId,
    pub mode: Mode,
    pub duo: Duo,
    pub name: ChannelName,
    /// Where its money goes.
    pub home: bitcoin::ScriptBuf,
    /// What the tower has signed for, and until when.
    pub receipt: Option<Held>,
    pub until: Height,
    /// A backup was refused: the channel has to be opened again.
    pub must_open: bool,
    pub refused: Vec<Refused>,
    pub inbox: Vec<TowerMessage>,
    pub hung_up: Vec<HangUp>,
    pub connected: bool,
}

impl Client {
    pub fn new(number: u32, mode: Mode, duo: Duo) -> Self {
        Self {
            id: client_id(number),
            mode,
            duo,
            name: ChannelName { tag: ChannelTag([number as u8; 16]), funding: FundingIndex(0) },
            home: home(number as u8 + 1),
            receipt: None,
            until: Height(0),
            must_open: false,
            refused: Vec::new(),
            inbox: Vec::new(),
            hung_up: Vec::new(),
            connected: false,
        }
    }

    pub fn constants(&self) -> Constants {
        let terms = SweepTerms { remote_delay: DELAY, feerate: DEFAULT_SWEEP_FEERATE, script: self.home.clone() };
        Constants::new(self.duo.kind, self.duo.alice.basepoints(), self.duo.bob.basepoints(), terms)
    }

    pub fn key(&self) -> ConstantsKey {
        ConstantsKey::derive(&[3; 32], &self.name)
    }

    pub fn own_channel(&self) -> OwnChannel {
        let closing = self.duo.closing(Side::Local);
        OwnChannel {
            kind: closing.kind,
            opener: closing.opener,
            funding: closing.funding,
            capacity: closing.capacity,
            local: closing.local,
            remote: closing.remote,
            remote_delay: closing.remote_delay,
            destination: self.home.clone(),
            revocation: RevocationSecret(self.duo.alice.release_revocation_secret()),
        }
    }

    pub fn open(&self) -> OpenChannel {
        let constants = match self.mode {
            Mode::Blind => self.constants().seal(&self.key(), &self.name).unwrap(),
            Mode::Own => self.own_channel().encode(),
        };
        OpenChannel { channel: self.name, constants }
    }

    pub fn backup(&self, number: u64) -> Backup {
        match self.mode {
            Mode::Blind => {
                let request = KitRequest {
                    constants: &self.constants(),
                    key: self.key(),
                    commitment: &self.duo.bobs_commitment(number),
                    secret: self.duo.secret(number),
                    signer: &self.duo.alice,
                    with_to_remote: true,
                };
                let txid = self.duo.bobs_commitment(number).txid;
                kit::build(&request).unwrap().to_backup(self.name, CommitmentNumber(number), &txid).unwrap()
            }
            Mode::Own => {
                let known: BTreeSet<_> = match number.checked_sub(1) {
                    Some(before) if self.receipt.is_some() => {
                        let before = self.duo.states[before as usize].bobs_htlcs();
                        before.into_iter().map(|htlc| (htlc.direction, htlc.id)).collect()
                    }
                    _ => BTreeSet::new(),
                };
                let htlcs = self.duo.states[number as usize].bobs_htlcs().into_iter().map(|htlc| {
                    let (direction, id) = (htlc.direction, htlc.id);
                    let is_known = known.contains(&(direction, id));
                    if is_known { StateHtlc::Known { direction, id } } else { StateHtlc::New(htlc) }
                });
                let body = BackupBody::Own { secret: self.duo.secret(number), htlcs: htlcs.collect() };
                Backup { channel: self.name, number: CommitmentNumber(number), body }
            }
        }
    }

    pub fn mark(&self, number: u64) -> Mark {
        Mark::of(&[3; 32], &self.name, CommitmentNumber(number))
    }

    /// What the tower has signed last.
    pub fn holding(&self) -> Holding {
        let (chain, held) = (ChainHash::REGTEST, self.receipt.unwrap());
        Holding { chain, client: self.id, channel: self.name, held, until: self.until }
    }

    /// The next state that the tower does not hold.
    pub fn next(&self) -> u64 {
        self.receipt.map_or(0, |held| held.up_to.0 + 1)
    }
}

/// Where a tower is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    BeforeCommit,
    /// And before the effects.
    AfterCommit,
}

pub struct World {
    pub chain: Chain,
    pub store: Store,
    pub tower: Tower,
    pub config: Config,
    pub clients: Vec<Client>,
    pub policy: EnforcementPolicy,
    pub estimates: FeeEstimates,
    pub now: Uptime,
    pub notices: Vec<Notice>,
    pub broadcasts: usize,
    /// Blocks that cannot be read.
    pub unreadable: BTreeSet<u32>,
    /// Kills the tower at its so-manieth handled event with something to commit.
    pub crash_at: BTreeMap<usize, Crash>,
    pub handled: usize,
    pub crashes: usize,
    /// The tower's node knows how far the chain is.
    pub tip_is_sure: bool,
    /// The tower is not running.
    pub down: bool,
    idle: bool,
}

impl World {
    pub fn new(config: Config, clients: Vec<Client>) -> Self {
        let mut chain = Chain::new(START);
        for client in &clients {
            chain.add(client.duo.funding.outpoint, client.duo.funding_output());
        }
        let mut config = config;
        let own = clients.iter().filter(|client| client.mode == Mode::Own).map(|client| client.id);
        config.admission.listed.extend(own);
        let store = Store::default();
        let tower = Tower::restore(config.clone(), store.lookout(), &store).unwrap();
        let mut world = Self {
            chain,
            store,
            tower,
            config,
            clients,
            policy: EnforcementPolicy::default(),
            estimates: FeeEstimates::flat(FeeratePerKw(1_000)),
            now: Uptime(0),
            notices: Vec::new(),
            broadcasts: 0,
            unreadable: BTreeSet::new(),
            crash_at: BTreeMap::new(),
            handled: 0,
            crashes: 0,
            tip_is_sure: true,
            down: false,
            idle: false,
        };
        world.mine(1);
        world
    }

    /// One event: handled, committed, carried out, with all that follows from it.
    pub fn feed(&mut self, event: Event<'_>) -> Result<(), TowerError> {
        let ctx = Ctx {
            newest: self.chain.tip,
            tip_is_sure: self.tip_is_sure,
            now: self.now,
            estimates: &self.estimates,
            policy: &self.policy,
            archive: &self.store,
        };
        let outbox = self.tower.handle(event, &ctx)?;
        self.handled += usize::from(outbox.needs_commit());
        let crash = if outbox.needs_commit() { self.crash_at.remove(&self.handled) } else { None };
        if crash == Some(Crash::BeforeCommit) {
            self.restart();
            return Ok(());
        }
        let effects = Outbox::commit_all(vec![outbox], &mut self.store).expect("the disk has room").remove(0);
        self.tower.settled();
        if crash == Some(Crash::AfterCommit) {
            self.restart();
            return Ok(());
        }
        let crashes = self.crashes;
        for effect in newest_receipts(effects) {
            self.carry_out(effect);
            if self.crashes != crashes {
                break;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(client, message) => self.deliver(client, message),
            Effect::Sign(client, content) => self.deliver(client, content.sign(&tower_key())),
            Effect::HangUp(client, why) => {
                if let Some(client) = self.client_mut(client) {
                    client.connected = false;
                    client.hung_up.push(why);
                }
            }
            Effect::Broadcast(tx) => {
                self.broadcasts += 1;
                if let Err(cause) = self.chain.submit(&tx) {
                    self.feed(Event::Rejected { txid: tx.compute_txid(), cause }).unwrap();
                }
            }
            Effect::Notice(notice) => self.notices.push(notice),
            Effect::Reread(height) => self.feed_block(height).unwrap(),
            Effect::MoreWhenIdle => self.idle = true,
        }
    }

    fn client_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    /// A message reaches a client, who checks it.
    fn deliver(&mut self, id: ClientId, message: TowerMessage) {
        let message = TowerMessage::decode(&message.encode()).unwrap();
        let store = &self.store;
        let Some(client) = self.clients.iter_mut().find(|client| client.id == id) else { return };
        match &message {
            TowerMessage::Acknowledged(receipt) => {
                let SignedHeld { held, until, signature } = receipt.receipt;
                let holding = Holding { chain: ChainHash::REGTEST, client: id, channel: receipt.channel, held, until };
                assert!(holding.verify(&signature, &tower_key().public_key(secp())));
                client.until = until;
                // What is acknowledged is durable.
                assert!(store.holds(id, receipt.channel, held.up_to), "{held:?} is not durable");
                if client.receipt.is_none_or(|before| before.up_to < held.up_to) {
                    client.receipt = Some(held);
                }
            }
            TowerMessage::Refused(refused) => {
                client.must_open = true;
                client.refused.push(refused.clone());
            }
            _ => {}
        }
        client.inbox.push(message);
    }

    /// Killed, and started again from what is durable.
    pub fn restart(&mut self) {
        self.crashes += 1;
        self.clients.iter_mut().for_each(|client| client.connected = false);
        self.tower = Tower::restore(self.config.clone(), self.store.lookout(), &self.store).unwrap();
        self.idle = true;
        self.follow_reorganisation();
        self.sync();
        self.feed(Event::Tip).unwrap();
        self.be_idle();
    }

    pub fn send(&mut self, at: usize, message: TowerMessage) {
        let bytes = message.encode();
        let id = self.clients[at].id;
        self.feed(Event::Message(id, TowerMessage::decode(&bytes).unwrap())).unwrap();
    }

    /// As a client begins each of its connections.
    pub fn connect(&mut self, at: usize) {
        let (id, mode) = (self.clients[at].id, self.clients[at].mode);
        self.clients[at].connected = true;
        self.feed(Event::Connected(id)).unwrap();
        let features = TowerFeatures::default();
        self.send(at, Hello { version: PROTOCOL_VERSION, chain: ChainHash::REGTEST, features }.into());
        self.send(at, Register { mode, sweep_feerate: DEFAULT_SWEEP_FEERATE, term: 10_000 }.into());
        self.open(at);
    }

    pub fn open(&mut self, at: usize) {
        self.clients[at].must_open = false;
        let open = self.clients[at].open();
        self.send(at, open.into());
    }

    pub fn back_up_one(&mut self, at: usize, number: u64) {
        let mark = self.clients[at].mark(number);
        for message in self.clients[at].backup(number).to_messages(mark) {
            self.send(at, message);
        }
    }

    /// Backs up every state before this one; connects as often as the tower dies.
    pub fn back_up(&mut self, at: usize, until: u64) {
        for _ in 0..1_000 {
            if self.clients[at].next() >= until {
                return;
            }
            if !self.clients[at].connected {
                self.connect(at);
            }
            if std::mem::take(&mut self.clients[at].must_open) && self.clients[at].connected {
                self.open(at);
            }
            if self.clients[at].connected {
                self.back_up_one(at, self.clients[at].next());
            }
        }
        panic!("the tower takes no backup: {:?} {:?}", self.clients[at].refused, self.clients[at].hung_up);
    }

    pub fn ask(&mut self, at: usize, ask: Ask) -> Vec<TowerMessage> {
        self.clients[at].inbox.clear();
        self.send(at, ask.into());
        self.be_idle();
        std::mem::take(&mut self.clients[at].inbox)
    }

    pub fn close_channel(&mut self, at: usize) {
        let tag = self.clients[at].name.tag;
        self.send(at, CloseChannel { tag }.into());
    }

    /// Feeds what the tower has not seen.
    pub fn sync(&mut self) {
        if self.down {
            return;
        }
        loop {
            let next = self.tower.tip().map_or(self.chain.tip.0, |tip| tip.height.0 + 1);
            if next > self.chain.tip.0 || self.unreadable.contains(&next) {
                return;
            }
            match self.feed_block(Height(next)) {
                Ok(()) => {}
                Err(TowerError::Unread(_)) => return,
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn feed_block(&mut self, height: Height) -> Result<(), TowerError> {
        let transactions = self.chain.blocks.get(&height.0).cloned().unwrap_or_default();
        let hash = self.chain.hash(height);
        self.feed(Event::Block(BlockSeen { height, hash, transactions: &transactions }))
    }

    pub fn be_idle(&mut self) {
        while std::mem::take(&mut self.idle) {
            self.feed(Event::Idle).unwrap();
        }
    }

    pub fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.now = Uptime(self.now.0 + 600_000);
            self.chain.mine();
            self.sync();
        }
    }

    /// A transaction gets into the mempool, and the tower sees it there.
    /// Mined by whoever made it: the tower sees it in its block.
    pub fn publish_unseen(&mut self, tx: &Transaction) {
        self.chain.force(tx);
    }

    pub fn publish(&mut self, tx: &Transaction) {
        self.chain.force(tx);
        if !self.down {
            self.feed(Event::Mempool(tx)).unwrap();
        }
    }

    /// Takes blocks back; gives what was in them.
    pub fn disconnect(&mut self, to: Height) -> Vec<Transaction> {
        let gone = self.chain.disconnect(to);
        if !self.down {
            self.follow_reorganisation();
        }
        gone
    }

    /// Back to the last block that the tower and the chain have in common.
    fn follow_reorganisation(&mut self) {
        let Some(tip) = self.tower.tip() else { return };
        let agrees = |height: u32| {
            height <= self.chain.tip.0 && (height < tip.height.0 || self.chain.hash(Height(height)) == tip.hash)
        };
        if agrees(tip.height.0) {
            return;
        }
        // Only the newest hash is kept: a driver knows the others.
        let to = self.chain.tip.min(Height(tip.height.0 - 1));
        let hash = self.chain.hash(to);
        self.feed(Event::Reorganized { to, hash }).unwrap();
    }

    /// What is left of a breach that its client has not got: anchors, and what is too small to be swept.
    pub fn lost(&self, at: usize, number: u64) -> Amount {
        let client = &self.clients[at];
        let breach = client.duo.bobs_commitment(number);
        let anchors = breach
            .outputs()
            .filter(|(_, _, info)| matches!(info.kind, OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor));
        let anchors: Amount = anchors.map(|(_, output, _)| output.value).sum();
        let own = client.mode == Mode::Own;
        let to_remote = breach.outputs().filter(|(_, _, info)| own && info.kind == OutputKind::ToRemote);
        let to_remote: Amount = to_remote.map(|(_, output, _)| output.value).sum();
        let fees: Amount = self.fees(&breach.tx);
        CAPACITY - anchors - to_remote - fees - self.chain.balance(&client.home)
    }

    /// What all that came of a breach has paid to miners, itself included.
    fn fees(&self, breach: &Transaction) -> Amount {
        let mut family = BTreeSet::from([breach.compute_txid()]);
        let mut fees = Amount::ZERO;
        for tx in self.chain.blocks.values().flatten() {
            let txid = tx.compute_txid();
            let descends = tx.input.iter().any(|input| family.contains(&input.previous_output.txid));
            if descends || family.contains(&txid) {
                family.insert(txid);
                fees += self.chain.fee(tx);
            }
        }
        fees
    }

    pub fn has_notice(&self, wanted: impl Fn(&Notice) -> bool) -> bool {
        self.notices.iter().any(wanted)
    }

    /// Every row but those that outlive channels.
    pub fn rows_left(&self) -> Vec<Key> {
        let keys = self.store.rows.keys().map(|key| Key::decode(key).unwrap());
        keys.filter(|key| !matches!(key, Key::Tip | Key::Client(_) | Key::Recent(_) | Key::Closed { .. })).collect()
    }

    pub fn is_spent(&self, outpoint: &OutPoint) -> bool {
        !self.chain.is_unspent(outpoint)
    }
}

/// Secrets up to this number.
pub fn secrets_until(duo: &Duo, until: u64) -> PerCommitmentSecrets {
    let mut secrets = PerCommitmentSecrets::default();
    for number in 0..until {
        secrets.insert(CommitmentNumber(number), duo.secret(number)).unwrap();
    }
    secrets
}
