//! The commitment transaction, in the steps and the order of BOLT 3, Commitment Transaction Construction.
//!
//! ```text
//!  CommitmentSetup ──once a channel──► CommitmentParams ┐
//!  balances, HTLCs, feerate, keys of number n ──────────┴──► build_commitment ──► CommitmentTx
//!                                                                 transaction n + what each output is
//! ```
//!
//! Promises: the same input gives the same bytes on both nodes; outputs, fee and trimmed amounts add up to the
//! funding amount; each output names what it is, so nobody has to recognise scripts later.

use bitcoin::{
    Amount, ScriptBuf, Sequence, Transaction, TxOut, Txid, absolute,
    hashes::{Hash as _, HashEngine as _, sha256},
    transaction::Version,
};
use secp256k1::{Message, PublicKey, ecdsa::Signature};

use super::{Funding, FundingSignatures, HtlcTx, fee, scripts};
use crate::{
    keys::{Basepoints, CommitmentKeys, CommitmentSignatures, KeyError, SignatureError, Signer, curve},
    types::{
        CltvExpiry, CommitmentNumber, CommitmentType, FeeratePerKw, HtlcDirection, HtlcId, Msat, PaymentHash, Side,
    },
    workers::{self, Workers},
};

/// An HTLC as a commitment's owner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitmentHtlc {
    /// Whether the owner offered it.
    pub direction: HtlcDirection,
    /// Unique within one direction only.
    pub id: HtlcId,
    /// What it moves.
    pub amount: Msat,
    /// The hash whose preimage claims it.
    pub payment_hash: PaymentHash,
    /// The height from which its offerer may take it back.
    pub cltv_expiry: CltvExpiry,
}

/// What [`CommitmentParams`] is made of.
#[derive(Clone, Debug)]
pub struct CommitmentSetup<'a> {
    /// The shape of the transactions.
    pub kind: CommitmentType,
    /// The output that is spent.
    pub funding: Funding,
    /// Whose commitment transactions these are.
    pub owner: Side,
    /// Who opened the channel and so pays the fee.
    pub opener: Side,
    /// Our public keys.
    pub local: &'a Basepoints,
    /// The peer's public keys.
    pub remote: &'a Basepoints,
    /// The owner's `dust_limit_satoshis`.
    pub owner_dust_limit: Amount,
    /// How long the owner must wait: the `to_self_delay` that the other node asked for.
    pub owner_to_self_delay: u16,
}

/// What stays the same in all commitment transactions of one owner, scripts included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentParams {
    /// The shape of the transactions.
    pub kind: CommitmentType,
    /// The output that is spent.
    pub funding: Funding,
    /// Who may broadcast them.
    pub owner: Side,
    /// Who pays the fees.
    pub opener: Side,
    /// Outputs below this are left to the miners.
    pub owner_dust_limit: Amount,
    /// Blocks that the owner waits for its balance.
    pub owner_to_self_delay: u16,
    /// What hides their numbers.
    pub obscuring: ObscuringFactor,
    /// `None` for a P2WPKH.
    to_remote_witness_script: Option<ScriptBuf>,
    to_remote_script_pubkey: ScriptBuf,
    owner_anchor: ScriptBuf,
    other_anchor: ScriptBuf,
}

impl CommitmentParams {
    /// Computes the scripts that do not change.
    pub fn new(setup: CommitmentSetup<'_>) -> Self {
        let CommitmentSetup { kind, funding, owner, opener, local, remote, owner_dust_limit, owner_to_self_delay } =
            setup;
        let (owner_points, other_points) = match owner {
            Side::Local => (local, remote),
            Side::Remote => (remote, local),
        };
        let (opener_points, accepter_points) = match opener {
            Side::Local => (local, remote),
            Side::Remote => (remote, local),
        };
        let to_remote_witness_script = match kind {
            CommitmentType::StaticRemoteKey => None,
            CommitmentType::Anchors => Some(scripts::to_remote_anchors(&other_points.payment)),
        };
        Self {
            kind,
            owner,
            opener,
            owner_dust_limit,
            owner_to_self_delay,
            obscuring: ObscuringFactor::new(&opener_points.payment, &accepter_points.payment),
            to_remote_script_pubkey: match &to_remote_witness_script {
                Some(script) => scripts::p2wsh(script),
                None => scripts::to_remote_p2wpkh(&other_points.payment),
            },
            to_remote_witness_script,
            owner_anchor: scripts::anchor(&owner_points.funding),
            other_anchor: scripts::anchor(&other_points.funding),
            funding,
        }
    }
}

impl CommitmentParams {
    /// The scripts of all outputs that are not HTLCs, whether or not they will exist.
    pub(super) fn fixed_outputs(&self, keys: &CommitmentKeys) -> impl Iterator<Item = (ScriptBuf, CommitmentOutput)> {
        let delayed = scripts::delayed(&keys.revocation, self.owner_to_self_delay, &keys.owner_delayed);
        let p2wsh = |kind: OutputKind, script: ScriptBuf| {
            (scripts::p2wsh(&script), CommitmentOutput { kind, witness_script: Some(script) })
        };
        let to_remote =
            CommitmentOutput { kind: OutputKind::ToRemote, witness_script: self.to_remote_witness_script.clone() };
        let main = [p2wsh(OutputKind::ToLocal, delayed), (self.to_remote_script_pubkey.clone(), to_remote)];
        let anchors = match self.kind {
            CommitmentType::StaticRemoteKey => None,
            CommitmentType::Anchors => Some([
                p2wsh(OutputKind::ToLocalAnchor, self.owner_anchor.clone()),
                p2wsh(OutputKind::ToRemoteAnchor, self.other_anchor.clone()),
            ]),
        };
        main.into_iter().chain(anchors.into_iter().flatten())
    }

    /// The other node's own output: the same in every commitment of this owner.
    pub fn to_remote_output(&self) -> (&ScriptBuf, CommitmentOutput) {
        let witness_script = self.to_remote_witness_script.clone();
        (&self.to_remote_script_pubkey, CommitmentOutput { kind: OutputKind::ToRemote, witness_script })
    }
}

/// Hides how many commitments a channel has had from everybody but its two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObscuringFactor(u64);

impl ObscuringFactor {
    /// The lower 48 bits of the hash of both payment basepoints, the opener's first.
    pub fn new(opener_payment: &PublicKey, accepter_payment: &PublicKey) -> Self {
        let mut engine = sha256::Hash::engine();
        engine.input(&opener_payment.serialize());
        engine.input(&accepter_payment.serialize());
        let [.., a, b, c, d, e, f] = sha256::Hash::from_engine(engine).to_byte_array();
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// The lock time and the sequence that carry a commitment number.
    fn hide(self, number: CommitmentNumber) -> (absolute::LockTime, Sequence) {
        let obscured = (number.0 & CommitmentNumber::MAX.0) ^ self.0;
        let lower = (obscured & 0xff_ffff) as u32;
        let upper = (obscured >> 24 & 0xff_ffff) as u32;
        (absolute::LockTime::from_consensus(0x2000_0000 | lower), Sequence(0x8000_0000 | upper))
    }

    /// The number of a commitment transaction; `None` if its fields do not have a commitment's form.
    pub fn reveal(self, tx: &Transaction) -> Option<CommitmentNumber> {
        let [input] = tx.input.as_slice() else { return None };
        let (lock_time, sequence) = (tx.lock_time.to_consensus_u32(), input.sequence.0);
        if lock_time >> 24 != 0x20 || sequence >> 24 != 0x80 {
            return None;
        }
        let obscured = u64::from(sequence & 0xff_ffff) << 24 | u64::from(lock_time & 0xff_ffff);
        Some(CommitmentNumber(obscured ^ self.0))
    }
}

/// One commitment transaction's content. The balances are the owner's and the other node's before fees, HTLCs
/// already taken out of them; with the HTLCs they add up to the funding amount.
#[derive(Clone, Debug)]
pub struct CommitmentInput<'a> {
    /// What stays the same.
    pub params: &'a CommitmentParams,
    /// The keys of this commitment.
    pub keys: &'a CommitmentKeys,
    /// Its number.
    pub number: CommitmentNumber,
    /// What the opener pays.
    pub feerate: FeeratePerKw,
    /// The owner's balance.
    pub to_local: Msat,
    /// The other node's balance.
    pub to_remote: Msat,
    /// All HTLCs, those too small for an output included.
    pub htlcs: &'a [CommitmentHtlc],
}

/// What an output of a commitment transaction is. "Local" is the owner here, as in BOLT 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// The owner's balance, after a delay.
    ToLocal,
    /// The other node's balance.
    ToRemote,
    /// The owner's anchor.
    ToLocalAnchor,
    /// The other node's anchor.
    ToRemoteAnchor,
    /// An HTLC.
    Htlc(CommitmentHtlc),
}

/// What the output at the same place in the transaction is, and its witness script (`None` for a P2WPKH).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentOutput {
    /// What it is.
    pub kind: OutputKind,
    /// The script that its address is the hash of.
    pub witness_script: Option<ScriptBuf>,
}

/// A commitment transaction without its witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentTx {
    /// The transaction, unsigned.
    pub tx: Transaction,
    /// Its id, which signatures do not change.
    pub txid: Txid,
    /// Its number.
    pub number: CommitmentNumber,
    /// Its shape.
    pub kind: CommitmentType,
    /// What it and its second stages pay.
    pub feerate: FeeratePerKw,
    /// In the order of `tx.output`.
    pub outputs: Vec<CommitmentOutput>,
    /// The witness script of `to_local` and of every second-stage output.
    pub delayed_script: ScriptBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum CommitmentTxError {
    #[error(
        "the outputs of a commitment need {outputs}, but only {funding} was funded: the opener cannot pay the anchors"
    )]
    Overspends { outputs: Amount, funding: Amount },
    #[error("the amounts of a commitment add up to more than can be counted")]
    AmountOverflow,
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Builds one commitment transaction. An opener who cannot afford the whole base fee pays what it has, as BOLT 3
/// wants; that it may get so far is BOLT 2's concern.
pub fn build_commitment(input: &CommitmentInput<'_>) -> Result<CommitmentTx, CommitmentTxError> {
    let CommitmentInput { params, keys, number, feerate, .. } = *input;
    let (lock_time, sequence) = params.obscuring.hide(number);
    let kind = params.kind;
    let dust_limit = params.owner_dust_limit;

    let offered_threshold = fee::trim_threshold(kind, HtlcDirection::Offered, feerate, dust_limit);
    let received_threshold = fee::trim_threshold(kind, HtlcDirection::Received, feerate, dust_limit);
    let is_untrimmed = |htlc: &CommitmentHtlc| match htlc.direction {
        HtlcDirection::Offered => htlc.amount.floor_sat() >= offered_threshold,
        HtlcDirection::Received => htlc.amount.floor_sat() >= received_threshold,
    };
    let untrimmed = input.htlcs.iter().filter(|htlc| is_untrimmed(htlc)).count();

    // The base fee and the anchors come out of the opener's output, whole satoshis.
    let cost = fee::commitment_fee(kind, feerate, untrimmed)
        .checked_add(fee::anchors_cost(kind))
        .ok_or(CommitmentTxError::AmountOverflow)?;
    let (mut to_local, mut to_remote) = (input.to_local.floor_sat(), input.to_remote.floor_sat());
    let payer = if params.opener == params.owner { &mut to_local } else { &mut to_remote };
    *payer = payer.checked_sub(cost).unwrap_or(Amount::ZERO);

    let delayed_script = scripts::delayed(&keys.revocation, params.owner_to_self_delay, &keys.owner_delayed);
    let mut outputs: Vec<(TxOut, CommitmentOutput)> = Vec::with_capacity(untrimmed + 4);
    let mut push = |value: Amount, script_pubkey: ScriptBuf, kind: OutputKind, witness_script: Option<ScriptBuf>| {
        outputs.push((TxOut { value, script_pubkey }, CommitmentOutput { kind, witness_script }));
    };
    for htlc in input.htlcs.iter().filter(|htlc| is_untrimmed(htlc)) {
        let script = scripts::htlc(htlc, kind, keys)?;
        push(htlc.amount.floor_sat(), scripts::p2wsh(&script), OutputKind::Htlc(*htlc), Some(script));
    }
    let has_to_local = to_local >= dust_limit;
    let has_to_remote = to_remote >= dust_limit;
    if has_to_local {
        push(to_local, scripts::p2wsh(&delayed_script), OutputKind::ToLocal, Some(delayed_script.clone()));
    }
    if has_to_remote {
        let script = params.to_remote_witness_script.clone();
        push(to_remote, params.to_remote_script_pubkey.clone(), OutputKind::ToRemote, script);
    }
    match kind {
        CommitmentType::StaticRemoteKey => {}
        CommitmentType::Anchors => {
            for (wanted, kind, script) in [
                (has_to_local, OutputKind::ToLocalAnchor, &params.owner_anchor),
                (has_to_remote, OutputKind::ToRemoteAnchor, &params.other_anchor),
            ] {
                if wanted || untrimmed > 0 {
                    push(fee::ANCHOR_AMOUNT, scripts::p2wsh(script), kind, Some(script.clone()));
                }
            }
        }
    }

    // BIP 69, then the expiry: HTLCs with one amount and hash have equal outputs but different second stages. The id
    // only makes the order total; HTLCs that differ in nothing else have interchangeable signatures.
    outputs.sort_unstable_by(|(a, a_info), (b, b_info)| {
        (a.value, a.script_pubkey.as_bytes(), a_info.kind.tie_break()).cmp(&(
            b.value,
            b.script_pubkey.as_bytes(),
            b_info.kind.tie_break(),
        ))
    });
    let (output, outputs): (Vec<TxOut>, Vec<CommitmentOutput>) = outputs.into_iter().unzip();

    let total = output
        .iter()
        .try_fold(Amount::ZERO, |sum, out| sum.checked_add(out.value))
        .ok_or(CommitmentTxError::AmountOverflow)?;
    if total > params.funding.amount {
        return Err(CommitmentTxError::Overspends { outputs: total, funding: params.funding.amount });
    }
    let tx = Transaction { version: Version::TWO, lock_time, input: vec![params.funding.input(sequence)], output };
    Ok(CommitmentTx { txid: tx.compute_txid(), tx, number, kind, feerate, outputs, delayed_script })
}

impl OutputKind {
    fn tie_break(&self) -> Option<(CltvExpiry, HtlcId)> {
        match self {
            Self::Htlc(htlc) => Some((htlc.cltv_expiry, htlc.id)),
            Self::ToLocal | Self::ToRemote | Self::ToLocalAnchor | Self::ToRemoteAnchor => None,
        }
    }
}

impl CommitmentTx {
    /// The digest that both funding keys sign.
    pub fn sighash(&self, funding: &Funding) -> Message {
        funding.sighash(&self.tx)
    }

    /// What `commitment_signed` carries: our signatures on the peer's commitment transaction and on its HTLC
    /// transactions in their order.
    pub fn sign<S: Signer + ?Sized>(
        &self,
        signer: &S,
        funding: &Funding,
        per_commitment_point: &PublicKey,
        workers: &dyn Workers,
    ) -> Result<CommitmentSignatures, KeyError> {
        let signature = signer.sign_funding_input(&self.sighash(funding));
        if !self.has_htlcs() {
            return Ok(CommitmentSignatures { commitment: signature, htlcs: Vec::new() });
        }
        let key = signer.htlc_key(per_commitment_point)?;
        let htlcs =
            workers::map(workers, &self.htlc_outputs(), |htlc| key.sign(&self.htlc_tx(*htlc).sighash_for_other()));
        Ok(CommitmentSignatures { commitment: signature, htlcs })
    }

    /// Whether an output of it is an HTLC.
    pub fn has_htlcs(&self) -> bool {
        self.outputs.iter().any(|output| matches!(output.kind, OutputKind::Htlc(_)))
    }

    /// How many of its outputs are HTLCs.
    pub fn htlc_count(&self) -> usize {
        self.outputs.iter().filter(|output| matches!(output.kind, OutputKind::Htlc(_))).count()
    }

    /// The second-stage transactions in the order of their outputs, which is that of `htlc_signatures`.
    pub fn htlc_txs(&self) -> impl Iterator<Item = HtlcTx<'_>> {
        self.htlc_outputs().into_iter().map(|htlc| self.htlc_tx(htlc))
    }

    fn htlc_outputs(&self) -> Vec<HtlcOutput<'_>> {
        let outputs = self.outputs.iter().zip(0..).filter_map(|(output, vout)| {
            let (OutputKind::Htlc(htlc), Some(script)) = (&output.kind, &output.witness_script) else { return None };
            Some(HtlcOutput { vout, htlc, script })
        });
        outputs.collect()
    }

    fn htlc_tx<'a>(&'a self, HtlcOutput { vout, htlc, script }: HtlcOutput<'a>) -> HtlcTx<'a> {
        HtlcTx::new(self, vout, htlc, script)
    }

    /// The outputs with their place and amount.
    pub fn outputs(&self) -> impl Iterator<Item = (u32, &TxOut, &CommitmentOutput)> {
        (0..).zip(&self.tx.output).zip(&self.outputs).map(|((vout, out), info)| (vout, out, info))
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

/// An HTLC that has an output.
#[derive(Clone, Copy)]
struct HtlcOutput<'a> {
    vout: u32,
    htlc: &'a CommitmentHtlc,
    script: &'a ScriptBuf,
}

/// Checks the peer's `commitment_signed` against our own commitment transaction. The HTLCs' checks are independent, and
/// shared among `workers`.
pub fn verify_commitment(
    commitment: &CommitmentTx,
    funding: &Funding,
    keys: &CommitmentKeys,
    signatures: &CommitmentSignatures,
    workers: &dyn Workers,
) -> Result<(), SignatureError> {
    let expected = commitment.htlc_count();
    if signatures.htlcs.len() != expected {
        return Err(SignatureError::HtlcCount { expected, got: signatures.htlcs.len() });
    }
    if !curve::verify(&commitment.sighash(funding), &signatures.commitment, funding.remote_key()) {
        return Err(SignatureError::Commitment);
    }
    let signed: Vec<(HtlcOutput<'_>, &Signature)> =
        commitment.htlc_outputs().into_iter().zip(&signatures.htlcs).collect();
    let is_right =
        |(htlc, signature): &(HtlcOutput<'_>, &Signature)| commitment.htlc_tx(*htlc).verify_other(signature, keys);
    match workers::map(workers, &signed, is_right).iter().position(|right| !right) {
        Some(index) => Err(SignatureError::Htlc { index }),
        None => Ok(()),
    }
}
