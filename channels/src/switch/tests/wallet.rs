//! A node's wallet: one key, and coins out of nowhere for what claims cannot pay themselves.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid, Weight};
use secp256k1::{Message, SecretKey};

use super::node::node_secret;
use crate::keys::secp;
use crate::onchain::tests::chain::Chain;
use crate::onchain::{ClaimId, Resolution};
use crate::tx::{FeeCoin, scripts};
use crate::types::ChannelId;

pub(super) struct Wallet {
    secret: SecretKey,
    pub script: ScriptBuf,
    /// What claims may spend.
    set_aside: BTreeMap<(ChannelId, ClaimId), Vec<FeeCoin>>,
    /// What the coins out of nowhere were worth.
    pub minted: Amount,
    coins: u32,
}

impl Wallet {
    pub fn of(node: usize) -> Self {
        let secret = node_secret(node);
        let script = scripts::to_remote_p2wpkh(&secret.public_key(secp()));
        Self { secret, script, set_aside: BTreeMap::new(), minted: Amount::ZERO, coins: 0 }
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

    /// All coins of a claim, worth at least `amount`.
    pub fn set_aside(&mut self, claim: (ChannelId, ClaimId), amount: Amount, chain: &mut Chain) -> Vec<FeeCoin> {
        let coins = self.set_aside.entry(claim).or_default();
        let have: Amount = coins.iter().map(|coin| coin.output.value).sum();
        if have < amount {
            self.coins += 1;
            let mut name = self.secret.public_key(secp()).x_only_public_key().0.serialize();
            name[..4].copy_from_slice(&self.coins.to_be_bytes());
            let outpoint = OutPoint { txid: Txid::from_byte_array(name), vout: 0 };
            let output = TxOut { value: amount * 2, script_pubkey: self.script.clone() };
            chain.add(outpoint, output.clone());
            self.minted += output.value;
            coins.push(FeeCoin { outpoint, output, witness_weight: Weight::from_wu(107) });
        }
        coins.clone()
    }

    pub fn sign(&self, mut tx: Transaction, coins: &[FeeCoin]) -> Transaction {
        let public = self.secret.public_key(secp());
        for coin in coins {
            let index = tx.input.iter().position(|input| input.previous_output == coin.outpoint).unwrap();
            let all = bitcoin::EcdsaSighashType::All;
            let sighash = bitcoin::sighash::SighashCache::new(&tx)
                .p2wpkh_signature_hash(index, &self.script, coin.output.value, all)
                .unwrap();
            let signature = secp().sign_ecdsa(&Message::from_digest(sighash.to_byte_array()), &self.secret);
            let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
            tx.input[index].witness = bitcoin::Witness::p2wpkh(&signature, &public);
        }
        tx
    }
}
