//! Transactions that bring outputs of a closed channel home: which way through the script, which locks, which key.
//!
//! ```text
//!  ClaimInput (one output, one way to spend it) ─┐
//!  ClaimInput ───────────────────────────────────┼──► build_claim ──► ClaimTx ──sign──► transaction
//!  destination, fee, current height ─────────────┘
//! ```
//!
//! Promises: every claim can be replaced (BIP 125); its weight is known before it is signed and is never exceeded;
//! its locks are those that its inputs' scripts ask for.

use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Weight, Witness, absolute,
    sighash::SighashCache, transaction::Version,
};
use secp256k1::{Message, PublicKey, ecdsa::Signature};

use super::{CommitmentHtlc, HtlcTx, htlc::htlc_witness, scripts};
use crate::{
    keys::{ClaimKey, ClaimSecret, ClaimSigner, KeyError},
    types::{CltvExpiry, CommitmentType, Height, HtlcDirection, PaymentPreimage},
};

/// The longest signature that [`ClaimSecret::sign`] makes: low R, low S, and the sighash byte.
pub const CLAIM_SIGNATURE_LEN: usize = 71;

/// One output on the chain and the way in which we spend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimInput {
    /// The output's name.
    pub outpoint: OutPoint,
    /// The output as the chain has it.
    pub output: TxOut,
    /// `None` for a P2WPKH.
    pub witness_script: Option<ScriptBuf>,
    /// The key that signs.
    pub key: ClaimKey,
    /// Which branch of its script is taken.
    pub path: ClaimPath,
}

/// Which branch of the script a claim takes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum ClaimPath {
    /// `to_remote` of `option_static_remotekey` on the peer's commitment: the payment key itself.
    ToRemote { payment_key: PublicKey },
    /// `to_remote` with anchors: one block after the commitment.
    ToRemoteAnchors,
    /// Our `to_local` or second-stage output, after our delay.
    Delayed { to_self_delay: u16 },
    /// An HTLC that we received, on the peer's commitment.
    HtlcPreimage { kind: CommitmentType, preimage: PaymentPreimage },
    /// An HTLC that we offered, on the peer's commitment.
    HtlcTimeout { kind: CommitmentType, cltv_expiry: CltvExpiry },
    /// `to_local` or a second-stage output of a revoked commitment.
    PenaltyDelayed,
    /// An HTLC output of a revoked commitment.
    PenaltyHtlc { revocation_key: PublicKey },
    /// An HTLC on our commitment, by its second stage. With anchors it can share a transaction with other inputs: the
    /// peer's signature covers this input and the output at the same index.
    SecondStage(Box<SecondStage>),
    /// Our anchor on either commitment.
    Anchor,
}

impl ClaimPath {
    /// For a penalty: whether this witness takes that branch, which nobody else can sign for. What a transaction pays, and
    /// to whom, says nothing: a cheater may pay us a trifle to be taken for us. Nor does the length of an item: the branches
    /// without a preimage take any that is not 32 bytes long. `None` for what is no penalty.
    pub fn is_penalty_by(&self, witness: &Witness) -> Option<bool> {
        let before_script = witness.second_to_last();
        match self {
            // BOLT 3: the penalty's branch is chosen by 1, the delayed one by nothing.
            Self::PenaltyDelayed => Some(before_script == Some(&[1])),
            // By the revocation key itself.
            Self::PenaltyHtlc { revocation_key } => Some(before_script == Some(revocation_key.serialize().as_slice())),
            Self::ToRemote { .. }
            | Self::ToRemoteAnchors
            | Self::Delayed { .. }
            | Self::HtlcPreimage { .. }
            | Self::HtlcTimeout { .. }
            | Self::SecondStage(_)
            | Self::Anchor => None,
        }
    }
}

/// An HTLC of our own commitment with all that its second stage needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondStage {
    /// The shape of the commitment.
    pub kind: CommitmentType,
    /// The HTLC.
    pub htlc: CommitmentHtlc,
    /// The peer's signature from `commitment_signed`.
    pub other_signature: Signature,
    /// Needed for a received HTLC.
    pub preimage: Option<PaymentPreimage>,
    /// The output that the peer has signed.
    pub output: TxOut,
}

/// A claim without its witnesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTx {
    /// The transaction, unsigned.
    pub tx: Transaction,
    /// The outputs that it claims, in the order of its first inputs.
    pub inputs: Vec<ClaimInput>,
    /// What it pays.
    pub fee: Amount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ClaimError {
    #[error("a claim needs at least one input")]
    NoInputs,
    #[error("a fee of {fee} leaves less than {dust} of the {amount} to claim; wait for lower fees")]
    Uneconomic { amount: Amount, fee: Amount, dust: Amount },
    #[error("the second stage of this channel's HTLCs must be broadcast as it was signed, alone")]
    NotCombinable,
    #[error("the amounts of this claim add up to more than can be counted")]
    AmountOverflow,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("input {index} of a claim cannot be hashed for signing")]
    Sighash { index: usize },
}

impl ClaimPath {
    /// `nSequence`: the relative lock that the script asks for, else a value that allows replacement.
    pub fn sequence(&self) -> Sequence {
        let by_kind = |kind: CommitmentType| match kind {
            CommitmentType::StaticRemoteKey => Sequence::ENABLE_RBF_NO_LOCKTIME,
            CommitmentType::Anchors => Sequence(1),
        };
        match self {
            ClaimPath::ToRemoteAnchors => Sequence(1),
            ClaimPath::Delayed { to_self_delay } => Sequence(u32::from(*to_self_delay)),
            ClaimPath::HtlcPreimage { kind, .. } | ClaimPath::HtlcTimeout { kind, .. } => by_kind(*kind),
            // What the peer signed.
            ClaimPath::SecondStage(stage) => match stage.kind {
                CommitmentType::StaticRemoteKey => Sequence(0),
                CommitmentType::Anchors => Sequence(1),
            },
            ClaimPath::ToRemote { .. }
            | ClaimPath::PenaltyDelayed
            | ClaimPath::PenaltyHtlc { .. }
            | ClaimPath::Anchor => Sequence::ENABLE_RBF_NO_LOCKTIME,
        }
    }

    /// The witness with `signature` (DER and sighash byte) in its place; `script` is `None` for a P2WPKH.
    pub fn witness(&self, script: Option<&ScriptBuf>, signature: &[u8]) -> Witness {
        let mut witness = Witness::new();
        match self {
            ClaimPath::ToRemote { payment_key } => {
                witness.push(signature);
                witness.push(payment_key.serialize());
            }
            ClaimPath::ToRemoteAnchors | ClaimPath::Anchor => witness.push(signature),
            ClaimPath::Delayed { .. } | ClaimPath::HtlcTimeout { .. } => {
                witness.push(signature);
                witness.push([]);
            }
            ClaimPath::HtlcPreimage { preimage, .. } => {
                witness.push(signature);
                witness.push(preimage.0);
            }
            ClaimPath::PenaltyDelayed => {
                witness.push(signature);
                witness.push([1]);
            }
            ClaimPath::PenaltyHtlc { revocation_key } => {
                witness.push(signature);
                witness.push(revocation_key.serialize());
            }
            ClaimPath::SecondStage(stage) => {
                let script = script.cloned().unwrap_or_default();
                let other = stage.other_signature;
                let preimage = stage.preimage.as_ref();
                return htlc_witness(stage.kind, other, signature, preimage, stage.htlc.direction, &script);
            }
        }
        if let Some(script) = script {
            witness.push(script);
        }
        witness
    }
}

impl ClaimInput {
    /// `nSequence`: see [`ClaimPath::sequence`].
    pub fn sequence(&self) -> Sequence {
        self.path.sequence()
    }

    /// How many blocks must lie on the spent output, its own included, before a claim can be in the next one.
    pub fn confirmations_needed(&self) -> u16 {
        match self.sequence() {
            Sequence(blocks @ 0..=0xffff) => blocks as u16,
            _ => 0,
        }
    }

    /// The height up to which the chain must have come before a claim can be in the next block.
    pub fn height_needed(&self) -> Height {
        match &self.path {
            ClaimPath::HtlcTimeout { cltv_expiry, .. } => Height(cltv_expiry.0),
            ClaimPath::SecondStage(stage) => match stage.htlc.direction {
                HtlcDirection::Offered => Height(stage.htlc.cltv_expiry.0),
                HtlcDirection::Received => Height(0),
            },
            ClaimPath::ToRemote { .. }
            | ClaimPath::ToRemoteAnchors
            | ClaimPath::Delayed { .. }
            | ClaimPath::HtlcPreimage { .. }
            | ClaimPath::PenaltyDelayed
            | ClaimPath::PenaltyHtlc { .. }
            | ClaimPath::Anchor => Height(0),
        }
    }

    /// Whether the peer has signed the transaction that spends this as a whole: alone, with the fee that it has.
    pub fn is_presigned(&self) -> bool {
        matches!(&self.path, ClaimPath::SecondStage(stage) if !stage.kind.has_anchors())
    }

    /// The weight that this input adds, its witness with the longest signature included.
    pub fn weight(&self) -> Weight {
        let witness = self.witness(&[0; CLAIM_SIGNATURE_LEN]);
        Weight::from_wu((super::fee::INPUT * 4).saturating_add(witness.size() as u64))
    }

    /// The witness with `signature` (DER and sighash byte) in its place.
    fn witness(&self, signature: &[u8]) -> Witness {
        self.path.witness(self.witness_script.as_ref(), signature)
    }

    fn sighash(&self, cache: &mut SighashCache<&Transaction>, index: usize) -> Result<Message, ClaimError> {
        let all = EcdsaSighashType::All;
        let value = self.output.value;
        match &self.witness_script {
            Some(script) => cache.p2wsh_signature_hash(index, script, value, all).map(Message::from).ok(),
            None => cache.p2wpkh_signature_hash(index, &self.output.script_pubkey, value, all).map(Message::from).ok(),
        }
        .ok_or(ClaimError::Sighash { index })
    }
}

impl SecondStage {
    /// The second stage of an HTLC on our own commitment as a claim.
    pub fn claim(
        htlc: HtlcTx<'_>,
        other_signature: Signature,
        preimage: Option<PaymentPreimage>,
        key: ClaimKey,
    ) -> Option<ClaimInput> {
        let outpoint = htlc.tx.input.first()?.previous_output;
        let output = htlc.tx.output.into_iter().next()?;
        Some(ClaimInput {
            outpoint,
            output: TxOut { value: htlc.input_amount, script_pubkey: scripts::p2wsh(htlc.witness_script) },
            witness_script: Some(htlc.witness_script.clone()),
            key,
            path: ClaimPath::SecondStage(Box::new(Self {
                kind: htlc.kind,
                htlc: *htlc.htlc,
                other_signature,
                preimage,
                output,
            })),
        })
    }
}

/// A coin of the wallet that pays for a claim which cannot pay for itself (second stages with anchors, anchors).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeCoin {
    /// The coin's name.
    pub outpoint: OutPoint,
    /// Its value and script.
    pub output: TxOut,
    /// The weight of the witness with which the wallet spends it.
    pub witness_weight: Weight,
}

/// What a claim is made of.
#[derive(Clone, Debug)]
pub struct ClaimRequest<'a> {
    /// Those that fix an output (second stages) come first in the transaction, the others keep their order.
    pub inputs: Vec<ClaimInput>,
    /// Wallet coins that the driver will have signed.
    pub fee_coins: &'a [FeeCoin],
    /// Where everything goes that is not fixed.
    pub destination: &'a ScriptBuf,
    /// What it is to pay.
    pub fee: Amount,
    /// The height of the tip: the transaction is locked to it, as wallets do, or to what its HTLCs need.
    pub tip: Height,
}

/// The predicted weight of a claim once it is signed, with an output to `destination`.
pub fn claim_weight(inputs: &[ClaimInput], fee_coins: &[FeeCoin], destination: &ScriptBuf) -> Weight {
    let fixed_outputs = inputs.iter().filter_map(ClaimInput::fixed_output).map(TxOut::weight);
    let outputs: Weight =
        fixed_outputs.sum::<Weight>() + TxOut { value: Amount::ZERO, script_pubkey: destination.clone() }.weight();
    let coins: Weight = fee_coins.iter().map(|coin| Weight::from_wu(super::fee::INPUT * 4) + coin.witness_weight).sum();
    let inputs_count = inputs.len().saturating_add(fee_coins.len());
    let outputs_count = inputs.iter().filter_map(ClaimInput::fixed_output).count().saturating_add(1);
    let counts = [inputs_count, outputs_count].map(|count| bitcoin::VarInt::from(count).size() as u64);
    let frame = Weight::from_wu((8 + counts.iter().sum::<u64>()) * 4 + 2);
    frame + inputs.iter().map(ClaimInput::weight).sum::<Weight>() + coins + outputs
}

impl ClaimInput {
    fn fixed_output(&self) -> Option<&TxOut> {
        match &self.path {
            ClaimPath::SecondStage(stage) => Some(&stage.output),
            ClaimPath::ToRemote { .. }
            | ClaimPath::ToRemoteAnchors
            | ClaimPath::Delayed { .. }
            | ClaimPath::HtlcPreimage { .. }
            | ClaimPath::HtlcTimeout { .. }
            | ClaimPath::PenaltyDelayed
            | ClaimPath::PenaltyHtlc { .. }
            | ClaimPath::Anchor => None,
        }
    }
}

/// Builds a claim that pays `fee`. A second stage without anchors is complete as the peer signed it: it can only be
/// built alone and carries its own fee, whatever is asked for.
pub fn build_claim(request: ClaimRequest<'_>) -> Result<ClaimTx, ClaimError> {
    let ClaimRequest { mut inputs, fee_coins, destination, fee, tip } = request;
    if inputs.is_empty() {
        return Err(ClaimError::NoInputs);
    }
    if inputs.iter().any(ClaimInput::is_presigned) {
        return build_presigned(inputs, fee_coins);
    }
    inputs.sort_by_key(|input| input.fixed_output().is_none());

    let coin_amounts = fee_coins.iter().map(|coin| coin.output.value);
    let amount = checked_sum(inputs.iter().map(|input| input.output.value).chain(coin_amounts))?;
    let fixed = checked_sum(inputs.iter().filter_map(ClaimInput::fixed_output).map(|output| output.value))?;
    let needed = fixed.checked_add(fee).ok_or(ClaimError::AmountOverflow)?;
    let dust = destination.minimal_non_dust();
    let rest = amount.checked_sub(needed).unwrap_or(Amount::ZERO);
    let mut output: Vec<TxOut> = inputs.iter().filter_map(ClaimInput::fixed_output).cloned().collect();
    // Without fixed outputs there must be something left; with them a rest that is dust goes to the fee.
    let fee = if rest >= dust {
        output.push(TxOut { value: rest, script_pubkey: destination.clone() });
        fee
    } else if output.is_empty() || amount < needed {
        return Err(ClaimError::Uneconomic { amount, fee, dust });
    } else {
        amount.checked_sub(fixed).unwrap_or(fee)
    };

    let height = inputs.iter().map(ClaimInput::height_needed).fold(tip, Ord::max);
    let fixes_lock_time = inputs.iter().any(|input| input.fixed_output().is_some());
    let lock_time = if fixes_lock_time {
        // SIGHASH_SINGLE still covers the lock time: it must be the one that the peer signed.
        inputs.iter().map(ClaimInput::height_needed).fold(Height(0), Ord::max)
    } else {
        height
    };
    let claims = inputs.iter().map(|input| (input.outpoint, input.sequence()));
    let coins = fee_coins.iter().map(|coin| (coin.outpoint, Sequence::ENABLE_RBF_NO_LOCKTIME));
    let tx = Transaction {
        version: Version::TWO,
        lock_time: absolute::LockTime::from_consensus(lock_time.0),
        input: claims.chain(coins).map(|(outpoint, sequence)| unsigned_input(outpoint, sequence)).collect(),
        output,
    };
    Ok(ClaimTx { tx, inputs, fee })
}

fn build_presigned(inputs: Vec<ClaimInput>, fee_coins: &[FeeCoin]) -> Result<ClaimTx, ClaimError> {
    let [input] = inputs.as_slice() else { return Err(ClaimError::NotCombinable) };
    let (ClaimPath::SecondStage(stage), []) = (&input.path, fee_coins) else { return Err(ClaimError::NotCombinable) };
    let tx = Transaction {
        version: Version::TWO,
        lock_time: absolute::LockTime::from_consensus(input.height_needed().0),
        input: vec![unsigned_input(input.outpoint, input.sequence())],
        output: vec![stage.output.clone()],
    };
    let fee = input.output.value.checked_sub(stage.output.value).ok_or(ClaimError::AmountOverflow)?;
    Ok(ClaimTx { tx, inputs, fee })
}

fn checked_sum(mut amounts: impl Iterator<Item = Amount>) -> Result<Amount, ClaimError> {
    amounts.try_fold(Amount::ZERO, Amount::checked_add).ok_or(ClaimError::AmountOverflow)
}

fn unsigned_input(previous_output: OutPoint, sequence: Sequence) -> TxIn {
    TxIn { previous_output, script_sig: ScriptBuf::new(), sequence, witness: Witness::new() }
}

impl ClaimTx {
    /// Signs all inputs but the wallet's coins, whose witnesses stay empty.
    pub fn sign(&self, signer: &(impl ClaimSigner + ?Sized)) -> Result<Transaction, ClaimError> {
        let mut cache = SighashCache::new(&self.tx);
        let mut witnesses = Vec::with_capacity(self.inputs.len());
        // Deriving costs as much as signing, and all penalties of one state share the key.
        let mut derived: Option<(&ClaimKey, ClaimSecret)> = None;
        for (index, input) in self.inputs.iter().enumerate() {
            let sighash = input.sighash(&mut cache, index)?;
            let secret = match derived.take() {
                Some((key, secret)) if *key == input.key => secret,
                _ => signer.claim_secret(&input.key)?,
            };
            let signature = secret.sign(&sighash);
            derived = Some((&input.key, secret));
            let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
            witnesses.push(input.witness(&signature.serialize()));
        }
        let mut tx = self.tx.clone();
        for (input, witness) in tx.input.iter_mut().zip(witnesses) {
            input.witness = witness;
        }
        Ok(tx)
    }
}
