//! Two networks with clocks of their own, the owner's node on each, and the owner's crossings with their disk.

use std::collections::BTreeMap;

use bitcoin::constants::ChainHash;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use super::clocks::rate;
use crate::{
    channel::{Outbox, Persist, Write},
    crossing::*,
    payment::{Description, Invoice, InvoiceNetwork},
    swap::Chain,
    types::{CltvExpiry, DirectoryId, Height, Msat, PaymentHash, PaymentPreimage, PaymentSecret, UnixTime},
    wire::Features,
};

/// The begin of a block on both networks.
pub const BEGIN: u64 = 1_700_000_400;
pub const NORTH: Chain = Chain { hash: ChainHash::REGTEST, spacing: 600 };
pub const SOUTH: Chain = Chain { hash: ChainHash::SIGNET, spacing: 600 };
pub const PAIR: Pair = Pair { incoming: NORTH.hash, outgoing: SOUTH.hash };
/// Blocks that payees want to have left.
pub const FINAL_BLOCKS: u32 = 18;
/// Satoshi of a usual payment.
pub const AMOUNT: Msat = Msat(500_000_000);

pub fn key(byte: u8) -> PublicKey {
    SecretKey::from_slice(&[byte; 32]).unwrap().public_key(SECP256K1)
}

pub fn preimage(number: u8) -> PaymentPreimage {
    PaymentPreimage([number; 32])
}

/// An invoice on south, made now.
pub fn invoice(number: u8, now: u64) -> Invoice {
    Invoice {
        network: InvoiceNetwork::Leyden,
        payee: key(9),
        payment_hash: preimage(number).hash(),
        payment_secret: PaymentSecret([number; 32]),
        amount: Some(AMOUNT),
        timestamp: UnixTime(now),
        expiry_seconds: 3_600,
        description: Description::Text("tea".into()),
        min_final_cltv_expiry_delta: FINAL_BLOCKS,
        features: Features::invoice(),
        payment_metadata: None,
        route_hints: Vec::new(),
        fallbacks: Vec::new(),
    }
}

pub fn ask(invoice: &Invoice) -> Ask {
    let text = format!("lnsb{}", hex::encode(invoice.payment_hash.0));
    Ask { pair: PAIR, text, invoice: invoice.clone(), amount: None, known: Outgoing::NeverBegun(records(0)) }
}

/// Of the owner's node on south.
pub fn records(count: u64) -> PaymentRecords {
    PaymentRecords { directory: DirectoryId([2; 32]), count }
}

/// What is written to the disk.
#[derive(Clone, Default)]
pub struct Disk(pub BTreeMap<Key, Vec<u8>>);

impl Persist<Key> for Disk {
    type Error = ();

    fn commit(&mut self, writes: Vec<Write<Key>>) -> Result<(), ()> {
        for write in writes {
            match write {
                Write::Put { key, value } => self.0.insert(key, value),
                Write::Delete { key } => self.0.remove(&key),
            };
        }
        Ok(())
    }
}

impl Disk {
    pub fn restore(&self) -> Crossings {
        let names: BTreeMap<Vec<u8>, &[u8]> = self
            .0
            .iter()
            .filter_map(|(key, row)| match key {
                Key::Rate(pair) => Some((pair.encode(), row.as_slice())),
                Key::Crossing(_) => None,
            })
            .collect();
        let crossings = self.0.iter().filter(|(key, _)| matches!(key, Key::Crossing(_)));
        let rates = names.iter().map(|(name, row)| (name.as_slice(), *row));
        Crossings::restore(rates, crossings.map(|(_, row)| row.as_slice())).unwrap()
    }
}

/// A held invoice of the owner's node on north.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    pub price: Msat,
    pub expires: UnixTime,
    pub blocks: u32,
    pub state: Incoming,
}

/// What a payee and the routes to it do with a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// No route: it fails as soon as it is begun.
    NoRoute,
    /// An HTLC is offered; it ends as soon as so much is over of the time that it may take, in thousandths: paid or failed.
    Ends { paid: bool, at: u64 },
}

/// A payment of the owner's node on south.
#[derive(Clone, Debug)]
pub struct Payment {
    pub order: PayOrder,
    pub begun: Height,
    /// When its last HTLC runs out.
    pub expiry: Height,
    pub conduct: Conduct,
    pub state: Outgoing,
}

/// A network and the owner's node on it.
pub struct Network {
    pub chain: Chain,
    /// Seconds between its blocks, as the node has seen them; 0 if it has not.
    pub measured: u32,
    pub height: Height,
    pub is_up: bool,
    pub records: PaymentRecords,
}

impl Network {
    fn now(&self, node: u8) -> Option<NodeNow> {
        self.is_up.then(|| NodeNow {
            chain: self.chain,
            measured: self.measured,
            tip: self.height,
            is_current: true,
            node_id: key(node),
            least_claim: Msat(1_000_000),
            records: self.records,
        })
    }
}

/// When the owner's process ends, seen from a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    Never,
    Before,
    After,
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Done,
    /// Nothing arrives.
    Lost,
    /// It is done, and nobody learns of it.
    Unanswered,
    /// Nobody learns of it, and it is done that many seconds later.
    Late(u64),
}

/// What a node answers.
enum Said {
    Request(String),
    Incoming(Incoming),
    Outgoing(Outgoing),
}

pub struct World {
    pub now: u64,
    pub north: Network,
    pub south: Network,
    pub holds: BTreeMap<PaymentHash, Hold>,
    pub payments: BTreeMap<PaymentHash, Payment>,
    pub late: Vec<(u64, PaymentHash, PayOrder)>,
    pub conducts: BTreeMap<PaymentHash, Conduct>,
    pub crossings: Crossings,
    pub disk: Disk,
    /// What swaps have under way.
    pub swapped: Msat,
    /// Decides what becomes of calls and commits.
    pub fate: Box<dyn FnMut() -> (Crash, Call)>,
}

impl World {
    pub fn new(fate: Box<dyn FnMut() -> (Crash, Call)>) -> Self {
        let network =
            |chain, height| Network { chain, measured: 0, height: Height(height), is_up: true, records: records(0) };
        let mut world = Self {
            now: BEGIN,
            north: network(NORTH, 5_000),
            south: network(SOUTH, 90_000),
            holds: BTreeMap::new(),
            payments: BTreeMap::new(),
            late: Vec::new(),
            conducts: BTreeMap::new(),
            crossings: Crossings::default(),
            disk: Disk::default(),
            swapped: Msat::ZERO,
            fate,
        };
        let outbox = world.crossings.set_rate(PAIR, Some(rate())).unwrap();
        Outbox::commit_all(vec![outbox], &mut world.disk).unwrap();
        world
    }

    /// Nothing is lost, and nobody crashes.
    pub fn calm() -> Self {
        Self::new(Box::new(|| (Crash::Never, Call::Done)))
    }

    pub fn ctx(&self) -> Ctx {
        Ctx { now: UnixTime(self.now), incoming: self.north.now(1), outgoing: self.south.now(2), swapped: self.swapped }
    }

    pub fn ask(&mut self, number: u8) -> Result<(), Refusal> {
        let known = self.payments.get(&preimage(number).hash());
        let known = known.map_or(Outgoing::NeverBegun(self.south.records), |payment| payment.state.clone());
        let ask = Ask { known, ..ask(&invoice(number, self.now)) };
        let outbox = self.crossings.ask(ask, &self.ctx())?;
        self.carry_out(outbox);
        Ok(())
    }

    pub fn restart(&mut self) {
        self.crossings = self.disk.restore();
    }

    /// One commit, its effects, and what they lead to.
    pub fn carry_out(&mut self, outbox: CrossingOutbox) {
        let mut waiting = vec![outbox];
        while let Some(outbox) = waiting.pop() {
            let (crash, _) = if outbox.needs_commit() { (self.fate)() } else { (Crash::Never, Call::Done) };
            if crash == Crash::Before {
                self.restart();
                return;
            }
            let effects = Outbox::commit_all(vec![outbox], &mut self.disk).unwrap();
            let restored = self.disk.restore();
            assert!(
                restored.rates().eq(self.crossings.rates()) && restored.all().eq(self.crossings.all()),
                "what is kept is all that there is"
            );
            if crash == Crash::After {
                self.restart();
                return;
            }
            for effect in effects.into_iter().flatten() {
                if let Some(answer) = self.call(effect) {
                    waiting.push(answer);
                }
            }
        }
    }

    fn call(&mut self, Effect { hash, order, .. }: Effect) -> Option<CrossingOutbox> {
        let (_, call) = (self.fate)();
        let is_up = match order {
            Order::Hold(_) | Order::LookAtIncoming | Order::Settle(_) | Order::GiveUp => self.north.is_up,
            Order::LookAtOutgoing | Order::Pay(_) => self.south.is_up,
        };
        if !is_up || call == Call::Lost {
            return None;
        }
        if let (Call::Late(seconds), Order::Pay(pay)) = (call, &order) {
            self.late.push((self.now + seconds, hash, pay.clone()));
            return None;
        }
        let said = self.obey(hash, order)?;
        if call != Call::Done {
            return None;
        }
        let ctx = self.ctx();
        Some(match said {
            Said::Request(request) => self.crossings.opened(&hash, request),
            Said::Incoming(said) => self.crossings.incoming(&hash, said, &ctx),
            Said::Outgoing(said) => self.crossings.outgoing(&hash, said, &ctx),
        })
    }

    /// What a node does, and says.
    fn obey(&mut self, hash: PaymentHash, order: Order) -> Option<Said> {
        match order {
            Order::Hold(HoldOrder { hash, amount, expires, blocks }) => {
                let hold = Hold { price: amount, expires, blocks, state: Incoming::Open };
                let held = self.holds.entry(hash).or_insert(hold);
                assert_eq!((held.price, held.blocks), (amount, blocks), "one order for one hash");
                let open = held.state == Incoming::Open;
                open.then(|| Said::Request(format!("lnsb{}", hex::encode(hash.0))))
            }
            Order::LookAtIncoming => {
                let said = self.holds.get(&hash).map_or(Incoming::Missing, |hold| hold.state);
                Some(Said::Incoming(said))
            }
            Order::Settle(preimage) => {
                assert_eq!(preimage.hash(), hash);
                let hold = self.holds.get_mut(&hash)?;
                if matches!(hold.state, Incoming::Held { .. }) {
                    hold.state = Incoming::Settled;
                }
                None
            }
            Order::GiveUp => {
                let hold = self.holds.get_mut(&hash)?;
                if matches!(hold.state, Incoming::Open | Incoming::Held { .. }) {
                    hold.state = Incoming::Canceled;
                }
                None
            }
            Order::LookAtOutgoing => {
                let never = Outgoing::NeverBegun(self.south.records);
                let said = self.payments.get(&hash).map_or(never, |payment| payment.state.clone());
                Some(Said::Outgoing(said))
            }
            Order::Pay(order) => {
                self.pay(hash, order);
                None
            }
        }
    }

    /// The owner's node on south pays, if it may.
    fn pay(&mut self, hash: PaymentHash, order: PayOrder) {
        let tip = self.south.height;
        let limit = order.last_expiry.0.saturating_sub(tip.0);
        if self.now > order.deadline.0 || self.payments.contains_key(&hash) || limit < FINAL_BLOCKS {
            return;
        }
        let conduct = self.conducts.get(&hash).copied().unwrap_or(Conduct::Ends { paid: true, at: 0 });
        let state = match conduct {
            Conduct::NoRoute => Outgoing::Failed { reason: "no route".into() },
            Conduct::Ends { .. } => Outgoing::UnderWay,
        };
        let payment = Payment { order, begun: tip, expiry: Height(tip.0 + limit), conduct, state };
        self.payments.insert(hash, payment);
        self.south.records.count += 1;
    }

    /// What the two nodes do by themselves.
    pub fn nodes(&mut self) {
        let now = self.now;
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.late).into_iter().partition(|late| late.0 <= now);
        self.late = later;
        for (_, hash, order) in due {
            if self.south.is_up {
                self.pay(hash, order);
            }
        }
        for hold in self.holds.values_mut() {
            let is_over = match hold.state {
                Incoming::Open => now > hold.expires.0,
                // Then the payer takes it back, whether or not the owner's node is there.
                Incoming::Held { expiry, .. } => self.north.height.0 >= expiry.0,
                Incoming::Missing | Incoming::Settled | Incoming::Canceled => false,
            };
            if is_over {
                hold.state = Incoming::Canceled;
            }
        }
        if self.south.is_up {
            for (hash, payment) in &mut self.payments {
                let Conduct::Ends { paid, at } = payment.conduct else { continue };
                // An HTLC can be fulfilled until the chain has its timeout, deep enough.
                let most = payment.expiry.0 - payment.begun.0 + margins::RESOLVE_BLOCKS;
                let end = u64::from(payment.begun.0) + u64::from(most) * at / 1_000;
                if payment.state == Outgoing::UnderWay && u64::from(self.south.height.0) >= end {
                    payment.state = if paid {
                        let number = (0..=u8::MAX).find(|number| preimage(*number).hash() == *hash).unwrap();
                        Outgoing::Paid { preimage: preimage(number), fee: payment.order.most_fee }
                    } else {
                        Outgoing::Failed { reason: "it came back".into() }
                    };
                }
            }
        }
    }

    /// The payer on north pays what was quoted, with so many blocks and millisatoshi more than asked for.
    pub fn payer_pays(&mut self, hash: &PaymentHash, more_blocks: u32, more: u64) {
        let (tip, now) = (self.north.height, self.now);
        if let Some(hold) = self.holds.get_mut(hash)
            && hold.state == Incoming::Open
            && now <= hold.expires.0
        {
            let expiry = CltvExpiry(tip.0 + hold.blocks + more_blocks);
            hold.state = Incoming::Held { amount: Msat(hold.price.0 + more), expiry, since: UnixTime(now) };
        }
    }

    /// The owner's process looks at everything once.
    pub fn look(&mut self) {
        let open: Vec<PaymentHash> =
            self.crossings.all().filter(|crossing| !crossing.is_over()).map(|crossing| crossing.hash).collect();
        for hash in open {
            let outbox = self.crossings.tick(&hash, &self.ctx());
            self.carry_out(outbox);
        }
    }

    /// So many seconds, looking every few of them, with blocks as they should come.
    pub fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds.div_ceil(30) {
            self.now += 30;
            if self.now.is_multiple_of(600) {
                self.north.height.0 += 1;
                self.south.height.0 += 1;
            }
            self.nodes();
            self.look();
            self.check();
        }
    }

    /// Whatever happens: nobody is paid on south for what is not held or taken on north, and the other way round.
    pub fn check(&self) {
        for (hash, payment) in &self.payments {
            let incoming = self.holds[hash].state;
            if matches!(payment.state, Outgoing::UnderWay | Outgoing::Paid { .. }) {
                let is_covered = matches!(incoming, Incoming::Held { .. } | Incoming::Settled);
                assert!(is_covered, "{:?} on south, and on north {incoming:?}", payment.state);
            }
        }
        for (hash, hold) in &self.holds {
            if hold.state == Incoming::Settled {
                let outgoing = self.payments.get(hash).map(|payment| &payment.state);
                assert!(matches!(outgoing, Some(Outgoing::Paid { .. })), "taken on north, and on south {outgoing:?}");
            }
        }
        let under_way = self.payments.values().filter(|payment| payment.state == Outgoing::UnderWay);
        let sum: u64 = under_way.map(|payment| payment.order.amount.0).sum();
        assert!(sum <= rate().most_held.0, "{sum} are under way");
    }
}
