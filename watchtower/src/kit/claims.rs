//! The tower's side: what an opened kit can claim of the breach, every signature checked.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Txid, Witness};
use leyden_channels::{
    keys::{CommitmentKeys, KeyError, curve},
    tx::{ClaimPath, scripts},
    types::{CltvExpiry, CommitmentType, FeeratePerKw, HtlcDirection},
};
use secp256k1::{PublicKey, ecdsa::Signature};

use super::{Constants, JusticeKit, Sweep, constants::ConstantsError, layout::HtlcKit};
use crate::{
    appointment::ChannelName,
    codec::ReadError,
    seal::{self, SealError},
};

/// What of a breach a claim takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KitRole {
    /// What the cheater would have kept for itself.
    ToLocal,
    /// The client's own: nobody else can take it.
    ToRemote,
    /// An HTLC. The cheater can move on one that it offered after the expiry, one that it received with the preimage at any
    /// time.
    #[expect(missing_docs, reason = "the text of the variant says what its fields are")]
    Htlc { direction: HtlcDirection, expiry: CltvExpiry },
    /// The output of the cheater's HTLC transaction.
    SecondStage,
}

/// A checked claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KitClaim {
    /// What is claimed.
    pub role: KitRole,
    /// The input, without its signature.
    pub sweep: Sweep,
    /// And with it.
    pub witness: Witness,
}

impl KitClaim {
    /// Whether this witness spends the output the way that the client alone can sign.
    pub fn is_our_way(&self, witness: &Witness) -> bool {
        self.sweep.path.is_penalty_by(witness).unwrap_or(self.role == KitRole::ToRemote)
    }
}

/// Waits for the cheater's second stage of one HTLC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondStage {
    /// The HTLC output that it spends.
    pub htlc: OutPoint,
    signature: Signature,
}

/// All that a kit can do about a breach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// In the order of the outputs.
    pub claims: Vec<KitClaim>,
    stages: Vec<SecondStage>,
    delayed_script: ScriptBuf,
    revocation: PublicKey,
    constants: Constants,
}

/// What a kit is held against: a transaction's outputs, or those of them that are claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreachOutputs {
    /// The transaction that opens the kit.
    pub txid: Txid,
    /// By their places in it.
    pub outputs: BTreeMap<u32, TxOut>,
}

impl From<&Transaction> for BreachOutputs {
    fn from(tx: &Transaction) -> Self {
        Self { txid: tx.compute_txid(), outputs: (0..).zip(tx.output.iter().cloned()).collect() }
    }
}

impl BreachOutputs {
    /// Without what `claims` do not take: whoever pays for a large transaction once must not have it kept for each kit.
    #[must_use]
    pub fn claimed_by(&self, claims: &Claims) -> Self {
        let claimed = claims.claims.iter().map(|claim| (claim.sweep.outpoint.vout, claim.sweep.output.clone()));
        Self { txid: self.txid, outputs: claimed.collect() }
    }
}

/// Why a sealed kit is of no use against a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum OpenError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("a justice kit cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error(transparent)]
    Constants(#[from] ConstantsError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("a justice kit claims nothing of the transaction that opens it")]
    Nothing,
    #[error("a justice kit has a signature that does not fit the transaction that opens it")]
    Signature,
    #[error("a justice kit is for {kit:?} commitments and its channel has {constants:?}")]
    Kind { kit: CommitmentType, constants: CommitmentType },
}

/// Opens a sealed kit and checks it against the transaction that opens it. Outputs that are not there are left out; one
/// signature that is wrong makes the kit an error, as does a kit of which nothing is left: a client that signs nonsense loses
/// by it, and costs one check of a signature.
pub fn open(
    breach: &BreachOutputs,
    channel: &ChannelName,
    sealed_constants: &[u8],
    sealed: &[u8],
) -> Result<Claims, OpenError> {
    let kit = JusticeKit::decode(&seal::open(&breach.txid, channel, sealed)?)?;
    let constants = Constants::open(&kit.key, channel, sealed_constants)?;
    if constants.kind != kit.kind {
        return Err(OpenError::Kind { kit: kit.kind, constants: constants.kind });
    }
    let keys = constants.keys(kit.per_commitment_point)?;
    let claims = Claims::new(breach, constants, &kit, &keys)?;
    if claims.claims.is_empty() { Err(OpenError::Nothing) } else { Ok(claims) }
}

impl Claims {
    fn new(
        breach: &BreachOutputs,
        constants: Constants,
        kit: &JusticeKit,
        keys: &CommitmentKeys,
    ) -> Result<Self, OpenError> {
        let txid = breach.txid;
        let delayed_script = scripts::delayed(&keys.revocation, constants.remote_delay, &keys.owner_delayed);
        let mut this =
            Self { claims: Vec::new(), stages: Vec::new(), delayed_script, revocation: keys.revocation, constants };
        let at = |vout: u32| Some((OutPoint { txid, vout }, breach.outputs.get(&vout)?));
        let find = |script: &ScriptBuf| {
            breach.outputs.iter().map(|(vout, output)| (*vout, output)).find(|(_, out)| out.script_pubkey == *script)
        };

        if let Some(signature) = kit.to_local
            && let Some((vout, output)) = find(&scripts::p2wsh(&this.delayed_script))
        {
            let script = this.delayed_script.clone();
            let outpoint = OutPoint { txid, vout };
            this.penalty(KitRole::ToLocal, outpoint, output, script, ClaimPath::PenaltyDelayed, signature)?;
        }
        if let Some(signature) = kit.to_remote {
            let (script, script_pubkey) = this.to_remote_scripts();
            let path = this.constants.to_remote_path();
            if let Some((vout, output)) = find(&script_pubkey) {
                let key = this.constants.local_payment;
                this.add(KitRole::ToRemote, OutPoint { txid, vout }, output, script, path, signature, &key)?;
            }
        }
        for htlc in &kit.htlcs {
            let Some((outpoint, output)) = at(u32::from(htlc.vout)) else { continue };
            let script = this.htlc_script(htlc, keys)?;
            if output.script_pubkey != scripts::p2wsh(&script) {
                continue;
            }
            let role = KitRole::Htlc { direction: htlc.direction, expiry: htlc.cltv_expiry };
            let path = ClaimPath::PenaltyHtlc { revocation_key: keys.revocation };
            this.penalty(role, outpoint, output, script, path, htlc.signature)?;
            let stage = htlc.second_stage.map(|signature| SecondStage { htlc: outpoint, signature });
            this.stages.extend(stage);
        }
        Ok(this)
    }

    /// The claim on what the cheater has made of an HTLC output, if the client knew that transaction in advance.
    /// `txid` and `output` are its id and its first output.
    pub fn second_stage(&self, htlc: &OutPoint, txid: Txid, output: &TxOut) -> Option<KitClaim> {
        let stage = self.stages.iter().find(|stage| stage.htlc == *htlc)?;
        let outpoint = OutPoint { txid, vout: 0 };
        if output.script_pubkey != scripts::p2wsh(&self.delayed_script) {
            return None;
        }
        let script = Some(self.delayed_script.clone());
        let sweep = Sweep::new(outpoint, output.clone(), script, ClaimPath::PenaltyDelayed, self.terms())?;
        checked(KitRole::SecondStage, sweep, stage.signature, &self.revocation)
    }

    /// Whether [`Self::second_stage`] would know what to do about this HTLC output.
    pub fn covers_second_stage(&self, htlc: &OutPoint) -> bool {
        self.stages.iter().any(|stage| stage.htlc == *htlc)
    }

    /// How many blocks after the block of an output the cheater can take it.
    pub fn remote_delay(&self) -> u16 {
        self.constants.remote_delay
    }

    /// Where everything goes.
    pub fn sweep_script(&self) -> &ScriptBuf {
        &self.constants.sweep_script
    }

    fn terms(&self) -> (&ScriptBuf, FeeratePerKw) {
        (&self.constants.sweep_script, self.constants.sweep_feerate)
    }

    fn to_remote_scripts(&self) -> (Option<ScriptBuf>, ScriptBuf) {
        match self.constants.kind {
            CommitmentType::StaticRemoteKey => (None, scripts::to_remote_p2wpkh(&self.constants.local_payment)),
            CommitmentType::Anchors => {
                let script = scripts::to_remote_anchors(&self.constants.local_payment);
                (Some(script.clone()), scripts::p2wsh(&script))
            }
        }
    }

    fn htlc_script(&self, htlc: &HtlcKit, keys: &CommitmentKeys) -> Result<ScriptBuf, KeyError> {
        let kind = self.constants.kind;
        match htlc.direction {
            HtlcDirection::Offered => scripts::offered_htlc(&htlc.payment_hash160, kind, keys),
            HtlcDirection::Received => scripts::received_htlc(&htlc.payment_hash160, htlc.cltv_expiry, kind, keys),
        }
    }

    fn penalty(
        &mut self,
        role: KitRole,
        outpoint: OutPoint,
        output: &TxOut,
        script: ScriptBuf,
        path: ClaimPath,
        signature: Signature,
    ) -> Result<(), OpenError> {
        let key = self.revocation;
        self.add(role, outpoint, output, Some(script), path, signature, &key)
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different type, and both callers stand above")]
    fn add(
        &mut self,
        role: KitRole,
        outpoint: OutPoint,
        output: &TxOut,
        script: Option<ScriptBuf>,
        path: ClaimPath,
        signature: Signature,
        key: &PublicKey,
    ) -> Result<(), OpenError> {
        if let Some(sweep) = Sweep::new(outpoint, output.clone(), script, path, self.terms()) {
            self.claims.push(checked(role, sweep, signature, key).ok_or(OpenError::Signature)?);
        }
        Ok(())
    }
}

fn checked(role: KitRole, sweep: Sweep, signature: Signature, key: &PublicKey) -> Option<KitClaim> {
    let sighash = sweep.sighash()?;
    let witness = sweep.witness(signature);
    curve::verify(&sighash, &signature, key).then_some(KitClaim { role, sweep, witness })
}
