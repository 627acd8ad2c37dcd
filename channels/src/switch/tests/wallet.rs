//! A node's wallet: one key, and the coins that pay for what claims cannot pay themselves.
//!
//! In mild schedules a coin comes out of nowhere whenever one is asked for. In others there are coins of the chain and no
//! more: they come by deposits, the owner may move all of them to its vault, and one may vanish, by a reorganisation or
//! because a wallet with the same words spends it. An owner who reads that claims lack coins pays some in.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Weight, Witness};
use secp256k1::{Message, SecretKey};

use super::node::node_secret;
use crate::keys::secp;
use crate::onchain::tests::chain::Chain;
use crate::onchain::{ClaimId, Resolution};
use crate::tx::{FeeCoin, scripts};
use crate::types::{ChannelId, Height};

/// A P2WPKH input with its witness, and a P2WPKH output: what a coin weighs in a transfer, and the rest of it.
const COIN_WEIGHT: u64 = 41 * 4 + 108;
const TRANSFER_WEIGHT: u64 = 11 * 4 + 2 * 31 * 4;

pub(super) struct Wallet {
    secret: SecretKey,
    pub script: ScriptBuf,
    /// Where the owner moves coins to, out of the node's reach.
    pub vault: ScriptBuf,
    /// What claims may spend.
    set_aside: BTreeMap<(ChannelId, ClaimId), Vec<FeeCoin>>,
    /// There are coins of the chain and no others.
    pub is_real: bool,
    /// What the coins out of nowhere were worth.
    pub minted: Amount,
    coins: u32,
    /// Since when claims have lacked coins, and how much they lacked last.
    pub lacking: Option<(Height, Amount)>,
}

impl Wallet {
    pub fn of(node: usize) -> Self {
        let secret = node_secret(node);
        let script = scripts::to_remote_p2wpkh(&secret.public_key(secp()));
        let vault = SecretKey::from_slice(&[0xa1 + node as u8; 32]).unwrap();
        let vault = scripts::to_remote_p2wpkh(&vault.public_key(secp()));
        let (set_aside, minted) = (BTreeMap::new(), Amount::ZERO);
        Self { secret, script, vault, set_aside, is_real: false, minted, coins: 0, lacking: None }
    }

    /// After a restart: the coins that a closed channel's claims have.
    pub fn set_aside_again(&mut self, resolution: &Resolution) {
        for (claim, coins) in resolution.coins().filter(|(_, coins)| !coins.is_empty()) {
            self.set_aside.insert((resolution.channel().channel_id, claim), coins.to_vec());
        }
    }

    pub fn restart(mut self) -> Self {
        self.set_aside.clear();
        self
    }

    /// A name that no other coin has.
    fn new_outpoint(&mut self) -> OutPoint {
        self.coins += 1;
        let mut name = self.secret.public_key(secp()).x_only_public_key().0.serialize();
        name[..4].copy_from_slice(&self.coins.to_be_bytes());
        OutPoint { txid: Txid::from_byte_array(name), vout: 0 }
    }

    /// All coins of a claim, worth at least `amount` or all that there are. The wallet knows the chain to `tip`.
    pub fn set_aside(
        &mut self,
        claim: (ChannelId, ClaimId),
        amount: Amount,
        tip: Height,
        chain: &mut Chain,
    ) -> Vec<FeeCoin> {
        if self.is_real {
            return self.set_aside_real(claim, amount, tip, chain);
        }
        let mut coins = self.set_aside.get(&claim).cloned().unwrap_or_default();
        let have: Amount = coins.iter().map(|coin| coin.output.value).sum();
        if have < amount {
            let outpoint = self.new_outpoint();
            let output = TxOut { value: amount * 2, script_pubkey: self.script.clone() };
            chain.add(outpoint, output.clone());
            self.minted += output.value;
            coins.push(fee_coin(outpoint, output));
        }
        self.set_aside.insert(claim, coins.clone());
        coins
    }

    /// As the daemon's wallet: the smallest coin that is enough, else the largest one and then another.
    fn set_aside_real(
        &mut self,
        claim: (ChannelId, ClaimId),
        amount: Amount,
        tip: Height,
        chain: &Chain,
    ) -> Vec<FeeCoin> {
        let mut coins = self.set_aside.get(&claim).cloned().unwrap_or_default();
        let mut free = self.free(tip, chain);
        free.sort_by_key(|coin| (coin.output.value, coin.outpoint));
        loop {
            let have: Amount = coins.iter().map(|coin| coin.output.value).sum();
            let Some(missing) = amount.checked_sub(have).filter(|missing| *missing > Amount::ZERO) else {
                self.lacking = None;
                break;
            };
            let enough = free.iter().position(|coin| coin.output.value >= missing);
            let Some(index) = enough.or(free.len().checked_sub(1)) else {
                let since = self.lacking.map_or(tip, |(since, _)| since);
                self.lacking = Some((since, amount));
                break;
            };
            coins.push(free.remove(index));
        }
        self.set_aside.insert(claim, coins.clone());
        coins
    }

    pub fn put_back(&mut self, coins: &[FeeCoin]) {
        for kept in self.set_aside.values_mut() {
            kept.retain(|coin| coins.iter().all(|free| free.outpoint != coin.outpoint));
        }
    }

    pub fn put_back_all(&mut self, channel: &ChannelId) {
        self.set_aside.retain(|(owner, _), _| owner != channel);
    }

    /// Confirmed coins that no claim has.
    fn free(&self, tip: Height, chain: &Chain) -> Vec<FeeCoin> {
        let kept: Vec<OutPoint> = self.set_aside.values().flatten().map(|coin| coin.outpoint).collect();
        let coins = chain.coins_of(&self.script).filter(|(outpoint, _, height)| {
            *height <= tip && !kept.contains(outpoint) && !chain.is_spent_in_mempool(outpoint)
        });
        coins.map(|(outpoint, output, _)| fee_coin(*outpoint, output.clone())).collect()
    }

    /// A coin from outside, as a transaction of the next block.
    pub fn deposit(&mut self, value: Amount, chain: &mut Chain) -> Transaction {
        let outpoint = self.new_outpoint();
        chain.add(outpoint, TxOut { value, script_pubkey: outside() });
        from_outside(outpoint, value, &self.script)
    }

    /// The owner moves all free coins to the vault, but for `reserve`.
    pub fn sweep(&self, reserve: Amount, feerate: u32, tip: Height, chain: &Chain) -> Option<Transaction> {
        let coins = self.free(tip, chain);
        let total: Amount = coins.iter().map(|coin| coin.output.value).sum();
        let weight = TRANSFER_WEIGHT + COIN_WEIGHT * coins.len() as u64;
        let fee = Amount::from_sat((u64::from(feerate) * weight).div_ceil(1000));
        let moved = total.checked_sub(reserve)?.checked_sub(fee)?;
        if moved < self.vault.minimal_non_dust() {
            return None;
        }
        let mut outputs = vec![TxOut { value: moved, script_pubkey: self.vault.clone() }];
        if reserve > Amount::ZERO {
            outputs.push(TxOut { value: reserve, script_pubkey: self.script.clone() });
        }
        Some(self.sign(transfer(coins.iter().map(|coin| coin.outpoint).collect(), outputs), &coins))
    }

    /// A wallet with the same words spends one of the coins that claims have, or a free one.
    pub fn spend_elsewhere(&self, draw: u64, chain: &Chain) -> Option<Transaction> {
        let mut coins: Vec<FeeCoin> = self.set_aside.values().flatten().cloned().collect();
        if coins.is_empty() {
            coins = self.free(chain.tip, chain);
        }
        coins.retain(|coin| chain.is_unspent(&coin.outpoint));
        let coin = coins.get((draw % coins.len().max(1) as u64) as usize)?.clone();
        let value = coin.output.value;
        let output = TxOut { value, script_pubkey: self.vault.clone() };
        Some(self.sign(transfer(vec![coin.outpoint], vec![output]), &[coin]))
    }

    pub fn sign(&self, mut tx: Transaction, coins: &[FeeCoin]) -> Transaction {
        let public = self.secret.public_key(secp());
        for coin in coins {
            let index = tx.input.iter().position(|input| input.previous_output == coin.outpoint).unwrap();
            let all = bitcoin::EcdsaSighashType::All;
            let sighash = bitcoin::sighash::SighashCache::new(&tx)
                .p2wpkh_signature_hash(index, &self.script, coin.output.value, all)
                .unwrap();
            // As the daemon's wallet: a coin weighs what it says, or a claim at the least that is relayed pays too little.
            let signature = secp().sign_ecdsa_low_r(&Message::from_digest(sighash.to_byte_array()), &self.secret);
            let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
            tx.input[index].witness = bitcoin::Witness::p2wpkh(&signature, &public);
        }
        tx
    }
}

/// A script that anybody can spend from.
pub(super) const ANYBODY: &[u8] = &[0x51];

/// Spends a coin that anybody could spend.
pub(super) fn from_outside(coin: OutPoint, value: Amount, to: &ScriptBuf) -> Transaction {
    let mut tx = transfer(vec![coin], vec![TxOut { value, script_pubkey: to.clone() }]);
    tx.input[0].witness = Witness::from_slice(&[ANYBODY]);
    tx
}

/// Where coins come from.
pub(super) fn outside() -> ScriptBuf {
    ScriptBuf::from_bytes(ANYBODY.to_vec()).to_p2wsh()
}

fn fee_coin(outpoint: OutPoint, output: TxOut) -> FeeCoin {
    FeeCoin { outpoint, output, witness_weight: Weight::from_wu(107) }
}

fn transfer(from: Vec<OutPoint>, output: Vec<TxOut>) -> Transaction {
    let input = |previous_output| TxIn { previous_output, sequence: Sequence::MAX, ..TxIn::default() };
    let input = from.into_iter().map(input).collect();
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }
}
