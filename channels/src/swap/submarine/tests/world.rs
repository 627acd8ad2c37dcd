//! A chain with a payment beside it, and two people with a submarine swap between them.

use bitcoin::{Amount, Transaction, constants::ChainHash};
use secp256k1::SecretKey;

use super::lightning::{Lightning, Travel};
use crate::{
    channel::{Outbox, Persist, Write},
    onchain::{EnforcementPolicy, FeeEstimates},
    payment::{Description, InvoiceNetwork, InvoiceRequest},
    swap::{
        self, BlockSeen, ChainCtx, Key, Refusal, Role, Start, SwapKeys as _, TermsError, Tip,
        submarine::{
            Acceptance, Bargain, Believed, Ctx, Direction, Effect, Event, Lightning as Leg, Offer, Payment,
            PaymentChain, Receipt, Request, Span, Submarine, SubmarineOutbox,
        },
        tests::{
            chain::{Chain, wallet_script},
            person::{Crash, Keys},
            world::{ALICE, BEGIN, BOB, OWNERS, PURSE},
        },
    },
    types::{FeeratePerKw, Height, Msat, PaymentHash, PaymentSecret, UnixTime},
};

pub const COINS: Amount = Amount::from_sat(1_000_000);
pub const PAYMENT: Msat = Msat(990_000_000);
pub const DEPTH: u32 = 3;
pub const NORTH: swap::Chain = swap::Chain { hash: ChainHash::REGTEST, spacing: 600 };
const NETWORK: InvoiceNetwork = InvoiceNetwork::Regtest;
const MAX_LOCK_FEE: Amount = Amount::from_sat(1_000);
const RESCAN: u32 = 20;
/// Blocks of the route beside those of its end.
pub const ROUTE: u32 = 80;

pub fn bargain(direction: Direction) -> Bargain {
    Bargain { direction, coins: COINS, payment: PAYMENT, chain: NORTH, span: Span::One { refund_blocks: None } }
}

pub fn believed(direction: Direction) -> Believed {
    Believed { direction, coins: (NORTH, COINS), payment: (NORTH, PAYMENT) }
}

pub fn request(id: u8, chain: &Chain) -> Request {
    let payment = PaymentChain { tip: chain.tip().height, measured: 0, is_current: true };
    Request {
        nonce: [0x40 + id; 32],
        depth: DEPTH,
        max_lock_fee: MAX_LOCK_FEE,
        max_route_fee: Msat(5_000_000),
        start: Start { destination: wallet_script(id), tip: chain.tip(), spacing: 0 },
        network: NETWORK,
        payment,
    }
}

/// The height above which the lock goes back, with both on one chain.
pub fn refund_height(offer: &Offer) -> u32 {
    offer.clock.refund_height().unwrap().0
}

/// A held invoice of somebody.
pub fn invoice(id: u8, hash: PaymentHash, amount: Msat, final_cltv: u32) -> String {
    let request = InvoiceRequest {
        network: NETWORK,
        payment_hash: hash,
        payment_secret: PaymentSecret([5; 32]),
        amount: Some(amount),
        description: Description::Text("submarine swap".to_owned()),
        timestamp: UnixTime(BEGIN),
        expiry_seconds: 1_000_000,
        min_final_cltv_expiry_delta: final_cltv,
        route_hints: Vec::new(),
        fallback: None,
    };
    request.sign(&SecretKey::from_slice(&[id; 32]).unwrap()).unwrap()
}

pub fn quote(direction: Direction, chain: &Chain) -> Result<(Submarine, SubmarineOutbox), TermsError> {
    quote_of(&bargain(direction), request(ALICE, chain))
}

/// Alice's offer, with her invoice if she is to be paid.
pub fn quote_of(bargain: &Bargain, request: Request) -> Result<(Submarine, SubmarineOutbox), TermsError> {
    let keys = Keys(ALICE);
    let hash = keys.secret(&request.nonce).hash();
    let own = match bargain.direction {
        Direction::In => invoice(ALICE, hash, PAYMENT, bargain.final_cltv(&request)),
        Direction::Out => String::new(),
    };
    Submarine::quote(bargain, own, request, UnixTime(BEGIN), &keys)
}

pub fn accept(offer: Offer, chain: &Chain) -> Result<(Submarine, SubmarineOutbox), TermsError> {
    let believed = believed(offer.direction);
    accept_of(offer, &believed, request(BOB, chain))
}

/// Bob's answer, with his invoice if he is to be paid.
pub fn accept_of(
    offer: Offer,
    believed: &Believed,
    request: Request,
) -> Result<(Submarine, SubmarineOutbox), TermsError> {
    let own = match offer.direction {
        Direction::In => String::new(),
        Direction::Out => invoice(BOB, offer.hash, offer.payment, offer.final_cltv),
    };
    Submarine::accept(offer, believed, own, request, UnixTime(BEGIN), &Keys(BOB))
}

#[derive(Default)]
pub struct Disk(pub Option<Vec<u8>>);

impl Persist<Key> for Disk {
    type Error = ();

    fn commit(&mut self, writes: Vec<Write<Key>>) -> Result<(), ()> {
        for write in writes {
            let Write::Put { value, .. } = write else { panic!("a swap deletes nothing") };
            self.0 = Some(value);
        }
        Ok(())
    }
}

pub struct Person {
    pub id: u8,
    pub keys: Keys,
    pub swap: Submarine,
    pub disk: Disk,
    /// Of the wallet's locks.
    pub lock_fee: Amount,
    pub estimate: FeeratePerKw,
    /// A stranger with a wrong clock, or headers without blocks: no tip is beyond doubt.
    pub doubts: bool,
    /// This person's node has an empty mempool.
    pub is_blind: bool,
    /// Seconds by which this person's clock is ahead.
    pub fast: u64,
    policy: EnforcementPolicy,
}

/// The payment's chain, if it is another one.
#[derive(Clone, Copy)]
pub struct Other {
    pub height: u32,
    pub measured: u32,
    /// Of the contract's chain.
    pub coins_measured: u32,
}

/// What is between the two.
pub struct Between {
    pub chain: Chain,
    pub other: Option<Other>,
    pub lightning: Lightning,
    pub now: u64,
    /// What the next payment does.
    pub travel: Travel,
    pub route: u32,
}

impl Between {
    /// The height of the payment's chain.
    pub fn payment_tip(&self) -> u32 {
        self.other.map_or(self.chain.height(), |other| other.height)
    }

    fn payment_chain(&self, is_current: bool) -> PaymentChain {
        let measured = self.other.map_or(0, |other| other.measured);
        PaymentChain { tip: Height(self.payment_tip()), measured, is_current }
    }
}

impl Person {
    pub fn new(id: u8, (swap, outbox): (Submarine, SubmarineOutbox)) -> Self {
        let mut disk = Disk::default();
        Outbox::commit_all(vec![outbox], &mut disk).unwrap();
        let (lock_fee, estimate) = (Amount::from_sat(500), FeeratePerKw(500));
        Self {
            id,
            keys: Keys(id),
            swap,
            disk,
            lock_fee,
            estimate,
            doubts: false,
            is_blind: false,
            fast: 0,
            policy: EnforcementPolicy::default(),
        }
    }

    pub fn restart(&mut self) {
        self.swap = Submarine::restore(self.disk.0.as_ref().unwrap()).unwrap();
    }

    /// One event, its commit, its effects, and what they lead to.
    pub fn handle(&mut self, event: Event<'_>, between: &mut Between, crash: Crash) -> Result<(), Refusal> {
        let estimates = FeeEstimates::flat(self.estimate);
        let is_fed = self.swap.leg().tip == between.chain.tip();
        let is_current = is_fed && !self.doubts;
        let spacing = between.other.map_or(0, |other| other.coins_measured);
        let ctx = Ctx {
            now: UnixTime(between.now + self.fast),
            keys: &self.keys,
            policy: &self.policy,
            chain: ChainCtx { estimates: &estimates, spacing, is_fed, is_current },
            payment: between.payment_chain(!self.doubts),
            network: NETWORK,
        };
        let before = self.swap.clone();
        let outbox = self.swap.handle(event, &ctx).inspect_err(|_| assert!(self.swap == before))?;
        if crash == Crash::Before {
            self.restart();
            return Ok(());
        }
        let effects = Outbox::commit_all(vec![outbox], &mut self.disk).unwrap();
        let restored = Submarine::restore(self.disk.0.as_ref().unwrap()).unwrap();
        assert_eq!(restored.encode(), self.swap.encode(), "what is kept is all that there is");
        if crash == Crash::After {
            self.restart();
            return Ok(());
        }
        for effect in effects.into_iter().flatten() {
            self.run(effect, between)?;
        }
        Ok(())
    }

    fn run(&mut self, effect: Effect, between: &mut Between) -> Result<(), Refusal> {
        let tip = between.payment_tip();
        match effect {
            Effect::Fund { script, amount, max_fee } => {
                assert!(amount == COINS && max_fee == MAX_LOCK_FEE, "nothing is locked beyond the quote");
                let fee = self.lock_fee;
                // A wallet looks for what it has made already.
                let made = between.chain.waiting(&script).filter(|_| !self.is_blind);
                let made = made.or_else(|| between.chain.fund(self.id, script, amount, fee));
                let event = match made {
                    Some(transaction) => Event::Funded { transaction, fee },
                    None => Event::NotFunded,
                };
                return self.handle(event, between, Crash::Never);
            }
            Effect::Release { .. } => {}
            Effect::Recall { lock, to, fee } => {
                if let Some(recall) = between.chain.recall(&lock, to, fee) {
                    between.chain.submit(&recall);
                }
            }
            Effect::Broadcast { transaction } => {
                self.check_refund_is_kept(&transaction);
                between.chain.submit(&transaction);
            }
            Effect::Pay { max_cltv, max_fee, invoice } => {
                assert!(max_fee == Msat(5_000_000) && !invoice.is_empty());
                between.lightning.pay(tip, between.route, max_cltv, between.travel);
                return self.learn_of_payment(between, Crash::Never);
            }
            Effect::Settle { preimage } => {
                assert_eq!(preimage.hash(), self.swap.id());
                between.lightning.settle(tip, preimage);
                return self.learn_of_payment(between, Crash::Never);
            }
            Effect::CancelInvoice => {
                between.lightning.cancel(tip);
                return self.learn_of_payment(between, Crash::Never);
            }
        }
        Ok(())
    }

    fn check_refund_is_kept(&self, transaction: &Transaction) {
        if self.swap.leg().funding.as_ref() == Some(transaction) {
            let kept = Submarine::restore(self.disk.0.as_ref().unwrap()).unwrap();
            let refund = kept.leg().refund.as_ref().expect("the signed refund is durable before the lock");
            assert_eq!(refund.input[0].previous_output.txid, transaction.compute_txid());
        }
    }

    pub fn wallet(&self) -> bitcoin::ScriptBuf {
        wallet_script(self.id)
    }

    /// What the payments, or the invoices, of this person's node say.
    pub fn learn_of_payment(&mut self, between: &mut Between, crash: Crash) -> Result<(), Refusal> {
        let event = match self.swap.lightning() {
            Leg::Pays(_) => Event::Payment(between.lightning.payment),
            Leg::Receives(_) => Event::Receipt(between.lightning.receipt),
        };
        self.handle(event, between, crash)
    }

    /// Sees everything that has happened since the last time.
    pub fn catch_up(&mut self, between: &mut Between, crash: &mut impl FnMut() -> Crash) {
        if !self.swap.is_followed() {
            return;
        }
        if !self.is_blind && self.swap.gives_coins() && self.swap.leg().funding.is_none() {
            let script = self.swap.contract().unwrap().script_pubkey().unwrap();
            if let Some(lock) = between.chain.waiting(&script) {
                self.handle(Event::OwnLock(&lock), between, crash()).unwrap();
            }
        }
        self.learn_of_payment(between, crash()).unwrap();
        // More than once if the process ends at it.
        while !between.chain.contains(&self.swap.leg().tip) {
            let next = self.swap.leg().tip.height.0 + 1;
            if next <= between.chain.height() {
                // Whoever reads on by height alone meets a block of another branch.
                assert_eq!(self.feed(next, between, Crash::Never), Err(Refusal::NoChild(next)));
            }
            // Further than any reorganisation: what still stands is found again.
            let known = self.swap.leg().tip.height.0.min(between.chain.height()) - RESCAN;
            let found = self.swap.leg().earliest().map_or(known, |found| found.0 - 1);
            let to = between.chain.tip_at(known.min(found));
            self.handle(Event::Reorganized(to), between, crash()).unwrap();
        }
        while self.swap.leg().tip.height.0 < between.chain.height() {
            self.feed(self.swap.leg().tip.height.0 + 1, between, crash()).unwrap();
        }
        let seen = if self.is_blind { Vec::new() } else { between.chain.mempool.clone() };
        for transaction in seen {
            self.handle(Event::Mempool(&transaction), between, crash()).unwrap();
        }
        self.handle(Event::Tick, between, crash()).unwrap();
    }

    fn feed(&mut self, height: u32, between: &mut Between, crash: Crash) -> Result<(), Refusal> {
        let (Tip { height, hash, median_time }, previous, transactions) = between.chain.block(height);
        let block = BlockSeen { height, hash, previous, median_time, transactions: &transactions };
        self.handle(Event::Block(block), between, crash)
    }
}

/// What a person has at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    pub coins: bool,
    pub payment: bool,
}

pub const BOTH_SWAPPED: (Holds, Holds) = (Holds { coins: false, payment: true }, Holds { coins: true, payment: false });
pub const NONE_SWAPPED: (Holds, Holds) = (Holds { coins: true, payment: false }, Holds { coins: false, payment: true });

pub struct World {
    pub between: Between,
    /// Knows the secret.
    pub alice: Person,
    pub bob: Person,
}

impl World {
    /// Both have agreed; nothing is locked or paid, but for the payment of a swap out that has begun.
    pub fn agreed(direction: Direction) -> Self {
        Self::agreed_with(direction, Travel::Arrives(0))
    }

    pub fn agreed_with(direction: Direction, travel: Travel) -> Self {
        let mut chain = Chain::new(0xaa, BEGIN);
        OWNERS.into_iter().for_each(|owner| chain.give(owner, PURSE));
        let alice = Person::new(ALICE, quote(direction, &chain).unwrap());
        let bob = Person::new(BOB, accept(alice.swap.offer().clone(), &chain).unwrap());
        Self::begin(chain, None, alice, bob, travel)
    }

    /// Alice has Bob's acceptance.
    pub fn begin(chain: Chain, other: Option<Other>, alice: Person, bob: Person, travel: Travel) -> Self {
        let offer = alice.swap.offer();
        let lightning = Lightning::new(offer.final_cltv, offer.direction.holder().hold());
        let between = Between { chain, other, lightning, now: BEGIN, travel, route: ROUTE };
        let mut world = Self { between, alice, bob };
        let acceptance = world.acceptance();
        world.alice.handle(Event::Initiate(acceptance), &mut world.between, Crash::Never).unwrap();
        world
    }

    pub fn acceptance(&self) -> Acceptance {
        self.bob.swap.acceptance().unwrap().clone()
    }

    pub fn person(&mut self, role: Role) -> (&mut Person, &mut Between) {
        match role {
            Role::Initiator => (&mut self.alice, &mut self.between),
            Role::Participant => (&mut self.bob, &mut self.between),
        }
    }

    pub fn mine(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.between.now += 600;
            self.between.chain.mine(self.between.now);
            self.advance(true);
        }
        self.check();
    }

    pub fn advance(&mut self, payee_is_there: bool) {
        let tip = self.between.payment_tip();
        self.between.lightning.advance(tip, payee_is_there);
    }

    pub fn look(&mut self, role: Role) {
        let (person, between) = self.person(role);
        person.catch_up(between, &mut || Crash::Never);
        self.advance(true);
        self.check();
    }

    pub fn both_look(&mut self) {
        self.look(Role::Initiator);
        self.look(Role::Participant);
    }

    pub fn mine_and_look(&mut self, blocks: u32) {
        for _ in 0..blocks {
            self.mine(1);
            self.both_look();
        }
    }

    /// Until the chain is so many blocks above the refund height.
    pub fn mine_past_refund(&mut self, above: u32, roles: &[Role]) {
        let end = refund_height(self.alice.swap.offer()) + above;
        while self.between.chain.height() < end {
            self.mine(1);
            roles.iter().for_each(|role| self.look(*role));
        }
    }

    /// Every satoshi is somebody's: in a wallet, in the contract, or in a block's fees.
    pub fn check(&self) {
        let chain = &self.between.chain;
        let held: Amount = chain.holdings().values().copied().sum();
        assert_eq!(held + chain.fees(), chain.issued());
        let contract = self.bob.swap.contract().unwrap().script_pubkey().unwrap();
        for (script, amount) in chain.holdings() {
            if script == contract {
                assert_eq!(amount, COINS, "nothing is locked beyond the offer");
            } else {
                assert!([wallet_script(ALICE), wallet_script(BOB)].contains(&script), "{amount} belong to nobody");
            }
        }
        assert!(self.between.lightning.taken <= 1, "paid twice");
    }

    /// What somebody has: the coins, give or take fees; the payment, once it cannot change hands any more.
    pub fn holds(&self, id: u8) -> Holds {
        let person = if id == ALICE { &self.alice } else { &self.bob };
        let least = if person.swap.gives_coins() { PURSE } else { PURSE + COINS };
        let coins = self.between.chain.balance(id) + COINS / 2 >= least;
        let payment = match person.swap.lightning() {
            Leg::Pays(_) => !matches!(self.between.lightning.payment, Payment::Paid(_)),
            Leg::Receives(_) => self.between.lightning.receipt == Receipt::Settled,
        };
        Holds { coins, payment }
    }

    /// Alice's and Bob's.
    pub fn end(&self) -> (Holds, Holds) {
        (self.holds(ALICE), self.holds(BOB))
    }
}
