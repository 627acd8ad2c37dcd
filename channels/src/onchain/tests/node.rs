//! A node that enforces one channel on a [`Chain`]: carries out effects, signs wallet inputs, and is restarted from its
//! records after every single event.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid, hashes::Hash as _};

use super::*;
use crate::{
    keys::{ClaimKey, ClaimSigner as _, Signer as _},
    tx::{FeeCoin, scripts},
};

pub(in crate::onchain) struct Node {
    /// What is durable.
    record: Vec<u8>,
    pub resolution: Resolution,
    signer: KeysSigner,
    /// The peer's HTLCs by state.
    states: Vec<Vec<CommitmentHtlc>>,
    watched: BTreeMap<OutPoint, Height>,
    pub estimates: FeeEstimates,
    pub policy: EnforcementPolicy,
    /// Of all effects but watches and broadcasts, in their order.
    pub log: Vec<Effect>,
    pub coins: BTreeMap<ClaimId, Vec<FeeCoin>>,
    next_coin: u8,
    /// All coins that it ever had.
    made: Vec<OutPoint>,
    /// What the wallet can give for claims; `None`: whatever is asked for.
    pub purse: Option<Amount>,
    pub in_wallet: Amount,
    pub broadcasts: usize,
    /// Restarted after every so many events.
    pub crash_every: usize,
    /// Of these restarts, every so many come between a commit and its effects.
    pub lost_every: usize,
    handled: usize,
    /// The tip that this node knows, if it is not the chain's.
    pub behind: Option<Height>,
    begun: bool,
}

impl Node {
    pub fn new(channel: ClosingChannel, signer: KeysSigner, states: Vec<Vec<CommitmentHtlc>>) -> Self {
        let encoded = channel.encode();
        assert_eq!(ClosingChannel::decode(&encoded).unwrap(), channel);
        let resolution = Resolution::begin(channel);
        Self {
            record: resolution.encode(),
            resolution,
            signer,
            states,
            watched: BTreeMap::new(),
            estimates: FeeEstimates::flat(FeeratePerKw(1_000)),
            policy: EnforcementPolicy::default(),
            log: Vec::new(),
            coins: BTreeMap::new(),
            next_coin: 0,
            made: Vec::new(),
            purse: None,
            in_wallet: Amount::ZERO,
            broadcasts: 0,
            crash_every: 1,
            lost_every: usize::MAX,
            handled: 0,
            behind: None,
            begun: false,
        }
    }

    /// Handles an event and all that comes of it; then forgets everything that is not durable.
    pub fn handle(&mut self, event: Event, chain: &mut Chain) {
        if !std::mem::replace(&mut self.begun, true) {
            self.begin(chain);
        }
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let effects = self.step(event, chain);
            self.handled += 1;
            let crashes = self.handled.is_multiple_of(self.crash_every);
            if crashes && (self.handled / self.crash_every).is_multiple_of(self.lost_every) {
                self.crash(chain);
                continue;
            }
            for effect in effects {
                events.extend(self.carry_out(effect, chain));
            }
            if crashes {
                self.crash(chain);
            }
        }
    }

    fn step(&mut self, event: Event, chain: &Chain) -> Vec<Effect> {
        let tip = self.behind.unwrap_or(chain.tip);
        let ctx =
            Ctx { tip, newest: chain.tip, estimates: &self.estimates, policy: &self.policy, signer: &self.signer };
        let Turn { effects, changed } = self.resolution.handle(event, &ctx).unwrap();
        let record = self.resolution.encode();
        assert!(changed || record == self.record, "a change was not told");
        self.record = record;
        effects
    }

    /// Restarts from the records. What memory knows beyond them must not matter.
    pub fn crash(&mut self, chain: &mut Chain) {
        let channel = self.resolution.channel().clone();
        self.resolution = StoredResolution::decode(&self.record).unwrap().restore(channel).unwrap();
        self.watched.clear();
        self.begin(chain);
    }

    /// Watches, and looks at the chain. If that shows anything, [`Self::block`] tells it, and then the tip.
    fn begin(&mut self, chain: &mut Chain) {
        let mut effects = self.step(Event::Restarted, chain);
        for effect in &effects {
            if let Effect::Watch { outpoint, from, .. } = effect {
                self.watched.insert(*outpoint, *from);
            }
        }
        if self.first_news(chain, &BTreeSet::new()).is_none() {
            effects.extend(self.step(Event::Tip, chain));
        }
        for effect in effects {
            match effect {
                Effect::Watch { outpoint, from, .. } => drop(self.watched.insert(outpoint, from)),
                Effect::Broadcast { .. } => drop(self.carry_out(effect, chain)),
                // They come again at the next tip.
                Effect::LoadRevokedHtlcs { .. } | Effect::NeedCoins { .. } | Effect::CheckCoins { .. } => {}
                Effect::ReleaseCoins(_)
                | Effect::Fulfilled { .. }
                | Effect::Failed { .. }
                | Effect::TakenBack { .. }
                | Effect::Notice(_)
                | Effect::Resolved => self.log.push(effect),
            }
        }
    }

    fn carry_out(&mut self, effect: Effect, chain: &mut Chain) -> Option<Event> {
        match &effect {
            Effect::Watch { outpoint, from, .. } => drop(self.watched.insert(*outpoint, *from)),
            Effect::Broadcast { tx, parents, coins } => {
                self.broadcasts += 1;
                let Some(tx) = self.sign_coins(tx.clone(), coins, chain) else {
                    return Some(Event::Rejected { txid: tx.compute_txid(), cause: Rejection::Other });
                };
                if let Err(cause) = chain.submit_package(parents, &tx) {
                    return Some(Event::Rejected { txid: tx.compute_txid(), cause });
                }
            }
            Effect::LoadRevokedHtlcs { number } => {
                let htlcs = self.states[number.0 as usize].clone();
                return Some(Event::RevokedHtlcs { number: *number, htlcs });
            }
            Effect::NeedCoins { claim, amount } => {
                let coins = self.coins.entry(*claim).or_default();
                let have: Amount = coins.iter().map(|coin| coin.output.value).sum();
                let missing = amount.checked_sub(have).unwrap_or(Amount::ZERO);
                let value = match &mut self.purse {
                    None => missing * 2,
                    Some(purse) => std::mem::take(purse),
                };
                if missing > Amount::ZERO && value > Amount::ZERO {
                    self.next_coin += 1;
                    // Each node's coins have names of their own.
                    let mut name = wallet_key(&self.signer).x_only_public_key().0.serialize();
                    name[0] = self.next_coin;
                    let outpoint = OutPoint { txid: Txid::from_byte_array(name), vout: 0 };
                    let script_pubkey = scripts::to_remote_p2wpkh(&wallet_key(&self.signer));
                    let output = TxOut { value, script_pubkey };
                    chain.add(outpoint, output.clone());
                    self.in_wallet += output.value;
                    self.made.push(outpoint);
                    coins.push(FeeCoin { outpoint, output, witness_weight: bitcoin::Weight::from_wu(107) });
                }
                return Some(Event::Coins { claim: *claim, coins: coins.clone() });
            }
            Effect::CheckCoins { coins, ours } => {
                let lost: Vec<OutPoint> = coins.iter().filter(|coin| chain.is_lost(coin, ours)).copied().collect();
                return (!lost.is_empty()).then_some(Event::CoinsLost(lost));
            }
            Effect::ReleaseCoins(released) => {
                for coins in self.coins.values_mut() {
                    coins.retain(|coin| released.iter().all(|free| free.outpoint != coin.outpoint));
                }
                self.log.push(effect);
            }
            Effect::Fulfilled { .. }
            | Effect::Failed { .. }
            | Effect::TakenBack { .. }
            | Effect::Notice(_)
            | Effect::Resolved => self.log.push(effect),
        }
        None
    }

    /// What another wallet with the same words does.
    pub fn spend_elsewhere(&self, coin: &FeeCoin, to: ScriptBuf, chain: &Chain) -> Transaction {
        let input = bitcoin::TxIn { previous_output: coin.outpoint, ..Default::default() };
        let output = TxOut { value: coin.output.value - Amount::from_sat(2_000), script_pubkey: to };
        let tx = Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![bitcoin::TxIn { sequence: bitcoin::Sequence::ENABLE_RBF_NO_LOCKTIME, ..input }],
            output: vec![output],
        };
        self.sign_coins(tx, std::slice::from_ref(coin), chain).unwrap()
    }

    /// `None` if a coin is not there any more.
    fn sign_coins(&self, mut tx: Transaction, coins: &[FeeCoin], chain: &Chain) -> Option<Transaction> {
        for coin in coins {
            if chain.output(&coin.outpoint)? != coin.output {
                panic!("{} is another output", coin.outpoint);
            }
            let index = tx.input.iter().position(|input| input.previous_output == coin.outpoint).unwrap();
            let sighash = bitcoin::sighash::SighashCache::new(&tx)
                .p2wpkh_signature_hash(
                    index,
                    &coin.output.script_pubkey,
                    coin.output.value,
                    bitcoin::EcdsaSighashType::All,
                )
                .unwrap();
            let signature = self.signer.claim_secret(&ClaimKey::Payment).unwrap().sign(&sighash.into());
            let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
            tx.input[index].witness = bitcoin::Witness::p2wpkh(&signature, &wallet_key(&self.signer));
        }
        Some(tx)
    }

    /// A block: all spends of watched outputs, also in earlier blocks if they are watched only now, then the tip.
    pub fn block(&mut self, chain: &mut Chain) {
        let mut told = BTreeSet::new();
        while let Some((height, tx)) = self.first_news(chain, &told) {
            told.insert(tx.compute_txid());
            self.handle(Event::Spent { tx, height: Some(height) }, chain);
        }
        self.handle(Event::Tip, chain);
    }

    /// The first confirmed spend of a watched output that this node does not know.
    fn first_news(&self, chain: &Chain, told: &BTreeSet<Txid>) -> Option<(Height, Transaction)> {
        let tip = self.behind.unwrap_or(chain.tip);
        let news = self.watched.keys().filter_map(|outpoint| chain.spender(outpoint)).filter(|(height, _, tx)| {
            let known = |(spend, at): (&Transaction, Height)| at == *height && spend == *tx;
            *height <= tip && !told.contains(&tx.compute_txid()) && !self.resolution.spends().any(known)
        });
        let first = news.min_by_key(|(height, index, _)| (*height, *index));
        first.map(|(height, _, tx)| (height, tx.clone()))
    }

    /// What the channel has given to this node's destination, the wallet's own coins left out.
    pub fn gained(&self, chain: &Chain) -> i64 {
        let unspent = self.made.iter().filter(|coin| chain.is_unspent(coin)).filter_map(|coin| chain.output(coin));
        let unspent: Amount = unspent.map(|output| output.value).sum();
        let own = (self.in_wallet - unspent).to_sat();
        chain.balance(&self.resolution.channel().destination).to_sat() as i64 - own as i64
    }

    pub fn fulfilled(&self, id: u64) -> bool {
        self.log.iter().any(|effect| matches!(effect, Effect::Fulfilled { htlc, preimage: shown, .. } if htlc.0 == id && *shown == preimage(id)))
    }

    pub fn failed(&self, id: u64) -> bool {
        self.log.iter().any(|effect| matches!(effect, Effect::Failed { htlc, .. } if htlc.0 == id))
    }

    pub fn taken_back(&self, id: u64) -> bool {
        self.log.iter().any(|effect| matches!(effect, Effect::TakenBack { htlc, .. } if htlc.0 == id))
    }

    pub fn is_resolved(&self) -> bool {
        self.log.contains(&Effect::Resolved)
    }
}

fn wallet_key(signer: &KeysSigner) -> secp256k1::PublicKey {
    signer.basepoints().payment
}

/// Mines blocks and tells both nodes of each.
pub(super) fn mine(count: u32, chain: &mut Chain, nodes: &mut [&mut Node]) {
    for _ in 0..count {
        chain.mine();
        for node in nodes.iter_mut() {
            node.block(chain);
        }
    }
}
