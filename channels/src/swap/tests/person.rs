//! One person: a swap's machine, a disk, a wallet on each chain, crashes.

use bitcoin::{Amount, Transaction};
use secp256k1::SecretKey;

use super::{chain::wallet_script, world::Chains};
use crate::{
    channel::{Outbox, Persist, Write},
    onchain::{EnforcementPolicy, FeeEstimates},
    swap::{BlockSeen, ChainCtx, Ctx, Effect, Event, Key, Leg, Refusal, Swap, SwapKeys, SwapOutbox, Tip},
    types::{FeeratePerKw, PaymentHash, PaymentPreimage, UnixTime},
};

/// Blocks that are looked at again after a reorganisation.
const RESCAN: u32 = 20;

/// A person's clock is wrong by at most so many seconds.
pub const CLOCK: u64 = 3_600;

pub struct Keys(pub u8);

impl SwapKeys for Keys {
    fn secret(&self, nonce: &[u8; 32]) -> PaymentPreimage {
        PaymentPreimage(nonce.map(|byte| byte ^ self.0))
    }

    fn key(&self, hash: &PaymentHash, leg: Leg) -> SecretKey {
        let mut bytes = hash.0.map(|byte| byte.wrapping_add(self.0));
        bytes[0] = 1 + leg as u8;
        SecretKey::from_slice(&bytes).unwrap()
    }
}

/// When the process ends, seen from a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    Never,
    Before,
    After,
}

/// The secret of an initiator.
pub fn secret_of(person: &Person) -> PaymentPreimage {
    person.keys.secret(&[0x40 + person.id; 32])
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
    pub swap: Swap,
    pub disk: Disk,
    /// Of the wallet's locks.
    pub lock_fee: Amount,
    pub estimate: FeeratePerKw,
    /// A stranger with a wrong clock, or headers without blocks: no tip is beyond doubt.
    pub doubts: bool,
    /// How far this person's clock is ahead, in seconds, and [`CLOCK`] more.
    pub fast: u64,
    /// The daemon of this chain is away.
    pub away: Option<Leg>,
    /// This person's node has an empty mempool.
    pub is_blind: bool,
    /// What was ever broadcast.
    pub sent: Vec<(Leg, Transaction)>,
    policy: EnforcementPolicy,
}

impl Person {
    pub fn new(id: u8, (swap, outbox): (Swap, SwapOutbox)) -> Self {
        let mut disk = Disk::default();
        Outbox::commit_all(vec![outbox], &mut disk).unwrap();
        Self {
            id,
            keys: Keys(id),
            swap,
            disk,
            lock_fee: Amount::from_sat(500),
            estimate: FeeratePerKw(500),
            fast: CLOCK,
            doubts: false,
            away: None,
            is_blind: false,
            sent: Vec::new(),
            policy: EnforcementPolicy::default(),
        }
    }

    pub fn restart(&mut self) {
        self.swap = Swap::restore(self.disk.0.as_ref().unwrap()).unwrap();
    }

    /// One event, its commit, its effects, and what they lead to.
    pub fn handle(&mut self, event: Event<'_>, chains: &mut Chains, crash: Crash) -> Result<(), Refusal> {
        let estimates = FeeEstimates::flat(self.estimate);
        let current = |leg| self.swap.leg(leg).tip == chains.leg(leg).tip();
        let chain = |leg| ChainCtx {
            estimates: &estimates,
            spacing: chains.leg(leg).measured_spacing(),
            is_fed: current(leg) && self.away != Some(leg),
            is_current: current(leg) && !self.doubts && self.away.is_none(),
        };
        let ctx = Ctx {
            now: UnixTime(chains.now + self.fast - CLOCK),
            keys: &self.keys,
            policy: &self.policy,
            outer: chain(Leg::Outer),
            inner: chain(Leg::Inner),
        };
        let before = self.swap.clone();
        let outbox = self.swap.handle(event, &ctx).inspect_err(|_| assert!(self.swap == before))?;
        if crash == Crash::Before {
            self.restart();
            return Ok(());
        }
        let effects = Outbox::commit_all(vec![outbox], &mut self.disk).unwrap();
        let restored = Swap::restore(self.disk.0.as_ref().unwrap()).unwrap();
        assert_eq!(restored.encode(), self.swap.encode(), "what is kept is all that there is");
        if crash == Crash::After {
            self.restart();
            return Ok(());
        }
        for effect in effects.into_iter().flatten() {
            self.run(effect, chains)?;
        }
        Ok(())
    }

    fn run(&mut self, effect: Effect, chains: &mut Chains) -> Result<(), Refusal> {
        match effect {
            Effect::Fund { leg, script, amount, max_fee } => {
                let fee = self.lock_fee;
                // A wallet looks for what it has made already.
                let made = chains.leg(leg).waiting(&script).filter(|_| !self.is_blind);
                let made = made.or_else(|| chains.leg(leg).fund(self.id, script, amount, fee));
                assert!(amount == self.swap.offer().leg(leg).amount && max_fee == Amount::from_sat(1_000));
                let event = match made {
                    Some(transaction) => Event::Funded { transaction, fee },
                    None => Event::NotFunded,
                };
                self.handle(event, chains, Crash::Never)
            }
            Effect::Release { .. } => Ok(()),
            Effect::Recall { leg, lock, to, fee } => {
                if let Some(recall) = chains.leg(leg).recall(&lock, to, fee) {
                    chains.leg_mut(leg).submit(&recall);
                }
                Ok(())
            }
            Effect::Broadcast { leg, transaction } => {
                if leg == self.swap.role().gives() && self.swap.leg(leg).funding.as_ref() == Some(&transaction) {
                    let kept = Swap::restore(self.disk.0.as_ref().unwrap()).unwrap();
                    let refund = kept.leg(leg).refund.as_ref().expect("the signed refund is durable before the lock");
                    assert_eq!(refund.input[0].previous_output.txid, transaction.compute_txid());
                }
                if self.away != Some(leg) {
                    chains.leg_mut(leg).submit(&transaction);
                }
                self.sent.push((leg, transaction));
                Ok(())
            }
        }
    }

    /// Sees everything that has happened on both chains since the last time.
    pub fn catch_up(&mut self, chains: &mut Chains, crash: &mut impl FnMut() -> Crash) {
        if !self.swap.is_followed() {
            return;
        }
        let away = self.away;
        for leg in Leg::ALL.into_iter().filter(|leg| away != Some(*leg)) {
            if !self.is_blind && self.swap.role().gives() == leg && self.swap.leg(leg).funding.is_none() {
                let script = self.swap.contract(leg).unwrap().script_pubkey().unwrap();
                if let Some(lock) = chains.leg(leg).waiting(&script) {
                    self.handle(Event::OwnLock(&lock), chains, crash()).unwrap();
                }
            }
            // More than once if the process ends at it.
            while !chains.leg(leg).contains(&self.swap.leg(leg).tip) {
                // Further than any reorganisation: what still stands is found again.
                let next = self.swap.leg(leg).tip.height.0 + 1;
                if next <= chains.leg(leg).height() {
                    // Whoever reads on by height alone meets a block of another branch.
                    let refused = self.feed(leg, next, chains, Crash::Never);
                    assert_eq!(refused, Err(Refusal::NoChild(next)));
                }
                let known = self.swap.leg(leg).tip.height.0.min(chains.leg(leg).height()) - RESCAN;
                let found = self.swap.leg(leg).earliest().map_or(known, |found| found.0 - 1);
                let to = chains.leg(leg).tip_at(known.min(found));
                self.handle(Event::Reorganized { leg, to }, chains, crash()).unwrap();
            }
            while self.swap.leg(leg).tip.height.0 < chains.leg(leg).height() {
                let height = self.swap.leg(leg).tip.height.0 + 1;
                self.feed(leg, height, chains, crash()).unwrap();
            }
            let seen = if self.is_blind { Vec::new() } else { chains.leg(leg).mempool.clone() };
            for transaction in seen {
                self.handle(Event::Mempool { leg, transaction: &transaction }, chains, crash()).unwrap();
            }
        }
        self.handle(Event::Tick, chains, crash()).unwrap();
    }

    fn feed(&mut self, leg: Leg, height: u32, chains: &mut Chains, crash: Crash) -> Result<(), Refusal> {
        let (Tip { height, hash, median_time }, previous, transactions) = chains.leg(leg).block(height);
        let block = BlockSeen { height, hash, previous, median_time, transactions: &transactions };
        self.handle(Event::Block { leg, block }, chains, crash)
    }

    pub fn wallet(&self) -> bitcoin::ScriptBuf {
        wallet_script(self.id)
    }
}
