//! A small wallet of one key: coins that pay for claims, and the signatures for them.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, PrivateKey, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Weight, Witness,
    absolute::LockTime, sighash::SighashCache, transaction::Version,
};
use leyden_channels::{keys::secp, onchain::ClaimId, tx::FeeCoin};
use secp256k1::{PublicKey, SecretKey};

use crate::chain::Chain;

#[derive(Clone)]
pub struct Wallet {
    key: SecretKey,
    coins: BTreeMap<OutPoint, TxOut>,
    reserved: BTreeMap<ClaimId, BTreeSet<OutPoint>>,
}

impl Wallet {
    pub fn new(seed: u8) -> Self {
        let key = SecretKey::from_slice(&[seed; 32]).expect("a key");
        Self { key, coins: BTreeMap::new(), reserved: BTreeMap::new() }
    }

    fn public_key(&self) -> PublicKey {
        self.key.public_key(secp())
    }

    pub fn script(&self) -> ScriptBuf {
        let key = PrivateKey::new(self.key, bitcoin::Network::Regtest).public_key(secp());
        ScriptBuf::new_p2wpkh(&key.wpubkey_hash().expect("compressed"))
    }

    /// Takes note of what a transaction pays to this wallet.
    pub fn receive(&mut self, tx: &Transaction) {
        let (txid, script) = (tx.compute_txid(), self.script());
        let ours = (0..).zip(&tx.output).filter(|(_, output)| output.script_pubkey == script);
        self.coins.extend(ours.map(|(vout, output)| (OutPoint { txid, vout }, output.clone())));
    }

    /// Coins of at least `amount` for a claim, or as many as there are, those that it has already among them.
    pub fn set_aside(&mut self, claim: ClaimId, amount: Amount, chain: &Chain) -> Vec<FeeCoin> {
        let taken: BTreeSet<OutPoint> = self.reserved.values().flatten().copied().collect();
        let mine = self.reserved.entry(claim).or_default();
        let mut sum: Amount = mine.iter().map(|outpoint| self.coins[outpoint].value).sum();
        for (outpoint, output) in &self.coins {
            let free = !taken.contains(outpoint) && chain.spender(outpoint).is_none() && chain.is_unspent(outpoint);
            if sum < amount && free {
                mine.insert(*outpoint);
                sum += output.value;
            }
        }
        self.reserved_for(claim)
    }

    /// Spends the coins of one of this wallet's transactions for something else, as a copy of the wallet would.
    pub fn spend_like(&self, tx: &Transaction, to: &ScriptBuf, fee: Amount, chain: &Chain) -> Transaction {
        let inputs = tx.input.iter().map(|input| input.previous_output).filter(|coin| self.owns(coin));
        let coins: Vec<FeeCoin> = inputs
            .map(|outpoint| FeeCoin { outpoint, output: chain.output(&outpoint), witness_weight: Weight::from_wu(107) })
            .collect();
        self.spend_all(&coins, vec![(to.clone(), None)], fee)
    }

    /// These coins to the outputs with an amount, and the rest to the one without.
    fn spend_all(&self, coins: &[FeeCoin], to: Vec<(ScriptBuf, Option<Amount>)>, fee: Amount) -> Transaction {
        let total: Amount = coins.iter().map(|coin| coin.output.value).sum();
        let fixed: Amount = to.iter().filter_map(|(_, amount)| *amount).sum();
        let sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
        let input = |coin: &FeeCoin| TxIn { previous_output: coin.outpoint, sequence, ..Default::default() };
        let output = |(script_pubkey, amount): (ScriptBuf, Option<Amount>)| TxOut {
            value: amount.unwrap_or(total - fixed - fee),
            script_pubkey,
        };
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output: to.into_iter().map(output).collect(),
        };
        self.sign(tx, coins)
    }

    /// The owner sends everything away but this much.
    pub fn sweep(&mut self, to: &ScriptBuf, left: Amount, fee: Amount, chain: &Chain) -> Transaction {
        let free = |outpoint: &OutPoint| chain.is_unspent(outpoint) && chain.spender(outpoint).is_none();
        let coin = |(outpoint, output): (&OutPoint, &TxOut)| FeeCoin {
            outpoint: *outpoint,
            output: output.clone(),
            witness_weight: Weight::from_wu(107),
        };
        let coins: Vec<FeeCoin> = self.coins.iter().filter(|(outpoint, _)| free(outpoint)).map(coin).collect();
        let kept = (left > Amount::ZERO).then(|| (self.script(), Some(left)));
        self.spend_all(&coins, kept.into_iter().chain([(to.clone(), None)]).collect(), fee)
    }

    fn reserved_for(&self, claim: ClaimId) -> Vec<FeeCoin> {
        let coins = self.reserved.get(&claim).into_iter().flatten();
        let coin = |outpoint: &OutPoint| FeeCoin {
            outpoint: *outpoint,
            output: self.coins[outpoint].clone(),
            witness_weight: Weight::from_wu(107),
        };
        coins.map(coin).collect()
    }

    /// After a restart only what a claim's record names is set aside.
    pub fn set_aside_again<'a>(&mut self, claims: impl IntoIterator<Item = (ClaimId, &'a [FeeCoin])>) {
        let of = |(claim, coins): (ClaimId, &'a [FeeCoin])| (claim, coins.iter().map(|coin| coin.outpoint).collect());
        self.reserved = claims.into_iter().map(of).collect();
    }

    pub fn put_back(&mut self, coins: &[FeeCoin]) {
        for reserved in self.reserved.values_mut() {
            reserved.retain(|outpoint| coins.iter().all(|coin| coin.outpoint != *outpoint));
        }
    }

    /// Whether a coin that there still is is set aside.
    pub fn is_reserved(&self, chain: &Chain) -> bool {
        self.reserved.values().flatten().any(|outpoint| chain.is_unspent(outpoint))
    }

    pub fn owns(&self, outpoint: &OutPoint) -> bool {
        self.coins.contains_key(outpoint)
    }

    pub fn sign(&self, mut tx: Transaction, coins: &[FeeCoin]) -> Transaction {
        for coin in coins {
            let index = tx.input.iter().position(|input| input.previous_output == coin.outpoint).expect("its input");
            let all = EcdsaSighashType::All;
            let sighash = SighashCache::new(&tx)
                .p2wpkh_signature_hash(index, &coin.output.script_pubkey, coin.output.value, all)
                .expect("a P2WPKH coin");
            let signature = secp().sign_ecdsa_low_r(&sighash.into(), &self.key);
            let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
            tx.input[index].witness = Witness::p2wpkh(&signature, &self.public_key());
        }
        tx
    }

    /// Spends a coin that was this wallet's once, whatever has become of it, for these outputs.
    pub fn pay_with(&self, outpoint: OutPoint, output: Vec<TxOut>) -> Transaction {
        let sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
        let input = TxIn { previous_output: outpoint, script_sig: ScriptBuf::new(), sequence, witness: Witness::new() };
        let tx = Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output };
        let coin = FeeCoin { outpoint, output: self.coins[&outpoint].clone(), witness_weight: Weight::from_wu(107) };
        self.sign(tx, &[coin])
    }

    /// Spends the first coin that is free for these outputs, with change.
    pub fn pay(&mut self, mut output: Vec<TxOut>, fee: Amount, chain: &Chain) -> Transaction {
        let needed: Amount = output.iter().map(|output| output.value).sum::<Amount>() + fee;
        let free = |outpoint: &OutPoint| chain.is_unspent(outpoint) && chain.spender(outpoint).is_none();
        let (outpoint, coin) = self
            .coins
            .iter()
            .find(|(outpoint, coin)| coin.value >= needed && free(outpoint))
            .map(|(outpoint, coin)| (*outpoint, coin.clone()))
            .expect("a coin that is large enough");
        let change = coin.value - needed;
        if change > Amount::from_sat(1_000) {
            output.push(TxOut { value: change, script_pubkey: self.script() });
        }
        let sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
        let input = TxIn { previous_output: outpoint, script_sig: ScriptBuf::new(), sequence, witness: Witness::new() };
        let tx = Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output };
        let coin = FeeCoin { outpoint, output: coin, witness_weight: Weight::from_wu(107) };
        self.sign(tx, &[coin])
    }
}
