//! The transaction of a cooperative close by `closing_signed` (BOLT 3, Legacy Closing Transaction).

use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxOut, Txid, Weight, absolute, transaction::Version};
use secp256k1::{Message, ecdsa::Signature};

use super::{Funding, FundingSignatures, fee};
use crate::{
    keys::curve,
    types::{Msat, Side},
};

/// What a closing transaction is made of. The balances are those after the last HTLC, before the fee.
#[derive(Clone, Debug)]
pub struct ClosingInput<'a> {
    /// The output that is spent.
    pub funding: &'a Funding,
    /// Our balance.
    pub to_local: Msat,
    /// The peer's balance.
    pub to_remote: Msat,
    /// The opener pays the fee.
    pub opener: Side,
    /// What the opener pays.
    pub fee: Amount,
    /// Where our balance goes.
    pub local_script: &'a ScriptBuf,
    /// Where the peer's balance goes.
    pub remote_script: &'a ScriptBuf,
    /// `dust_limit_satoshis` of the node that signs: an output below it is dropped. See [`verify_closing`] for its
    /// meaning there.
    pub dust_limit: Amount,
}

/// A closing transaction without its witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingTx {
    /// The transaction, unsigned.
    pub tx: Transaction,
    /// Its id, which signatures do not change.
    pub txid: Txid,
    /// What we get, zero if our output was dropped.
    pub to_local: Amount,
    /// What the peer gets.
    pub to_remote: Amount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ClosingTxError {
    #[error("a closing fee of {fee} is more than the opener's balance of {balance}; propose less")]
    FeeBeyondBalance { fee: Amount, balance: Amount },
    #[error("both outputs of the closing transaction are below the dust limit of {dust_limit}")]
    NothingLeft { dust_limit: Amount },
}

/// Builds the closing transaction with every output that is not dust.
pub fn build_closing(input: &ClosingInput<'_>) -> Result<ClosingTx, ClosingTxError> {
    build(input, None)
}

/// The variant of the closing transaction that the peer has signed; `None` if its signature fits none that we accept.
///
/// The peer has dropped what is below its own dust limit and may have left its own output out (BOLT 3). Ours may only be
/// missing if it is below `dust_limit`, here the larger one of both nodes: a peer that cannot have our money must not be
/// able to burn it either. An output that would not relay is never accepted (BOLT 2: such a channel must be failed).
pub fn verify_closing(input: &ClosingInput<'_>, signature: &Signature) -> Option<ClosingTx> {
    let everything = ClosingInput { dust_limit: Amount::ZERO, ..input.clone() };
    let ours = build(&everything, None).ok()?.to_local;
    let variants = [None, Some(Side::Remote), (ours < input.dust_limit).then_some(Side::Local)];
    variants.into_iter().find_map(|without| {
        let closing = build(&everything, without).ok()?;
        let relays = |output: &TxOut| output.value >= output.script_pubkey.minimal_non_dust();
        let signed = || curve::verify(&closing.sighash(input.funding), signature, input.funding.remote_key());
        (closing.tx.output.iter().all(relays) && signed()).then_some(closing)
    })
}

/// The weight of a closing transaction with both outputs, for the first fee proposal. Signatures count as 73 bytes,
/// as in all weights of BOLT 3.
pub fn closing_weight(local_script: &ScriptBuf, remote_script: &ScriptBuf) -> Weight {
    let output = |script: &ScriptBuf| TxOut { value: Amount::ZERO, script_pubkey: script.clone() }.weight();
    Weight::from_wu(fee::CLOSING_BASE_WEIGHT) + output(local_script) + output(remote_script)
}

fn build(input: &ClosingInput<'_>, without: Option<Side>) -> Result<ClosingTx, ClosingTxError> {
    let (mut to_local, mut to_remote) = (input.to_local.floor_sat(), input.to_remote.floor_sat());
    let payer = match input.opener {
        Side::Local => &mut to_local,
        Side::Remote => &mut to_remote,
    };
    *payer =
        payer.checked_sub(input.fee).ok_or(ClosingTxError::FeeBeyondBalance { fee: input.fee, balance: *payer })?;

    let mut output = Vec::with_capacity(2);
    for (side, value, script) in
        [(Side::Local, &mut to_local, input.local_script), (Side::Remote, &mut to_remote, input.remote_script)]
    {
        if *value >= input.dust_limit && *value > Amount::ZERO && without != Some(side) {
            output.push(TxOut { value: *value, script_pubkey: script.clone() });
        } else {
            *value = Amount::ZERO;
        }
    }
    if output.is_empty() {
        return Err(ClosingTxError::NothingLeft { dust_limit: input.dust_limit });
    }
    output.sort_by(|a, b| (a.value, a.script_pubkey.as_bytes()).cmp(&(b.value, b.script_pubkey.as_bytes())));
    let tx = Transaction {
        version: Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![input.funding.input(Sequence::MAX)],
        output,
    };
    Ok(ClosingTx { txid: tx.compute_txid(), tx, to_local, to_remote })
}

impl ClosingTx {
    /// The digest that both funding keys sign.
    pub fn sighash(&self, funding: &Funding) -> Message {
        funding.sighash(&self.tx)
    }

    /// What this transaction pays to the miner.
    pub fn fee(&self, funding: &Funding) -> Amount {
        let outputs = self.to_local.checked_add(self.to_remote).unwrap_or(funding.amount);
        funding.amount.checked_sub(outputs).unwrap_or(Amount::ZERO)
    }

    /// The transaction with its witness, ready for broadcast.
    pub fn signed(&self, funding: &Funding, signatures: &FundingSignatures) -> Transaction {
        let mut tx = self.tx.clone();
        if let Some(input) = tx.input.first_mut() {
            input.witness = funding.witness(signatures);
        }
        tx
    }
}
