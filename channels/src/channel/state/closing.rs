//! A commitment transaction is on its way to the chain, or something has spent the funding output.
//!
//! ```text
//!   force_close ──► our commitment broadcast ─┐
//!                                             ├── funding output spent, by whom? ──deep enough──► closed
//!   the peer's, or a mutual close ────────────┘
//! ```
//!
//! Promises: our commitment is broadcast only from here, is always the latest, and never leaves a channel that has
//! lost data. What is on the chain, and with which keys to claim it, goes out in one effect; claiming is the business of
//! the enforcement (BOLT 5).

use bitcoin::{OutPoint, Transaction, Txid};
use secp256k1::ecdsa::Signature;

use super::{Established, Fault, Negotiating, Phase};
use crate::channel::commitment::Built;
use crate::channel::commitment::remote::RemoteCommitment;
use crate::channel::effect::Effect;
use crate::channel::error::Invariant;
use crate::channel::turn::Turn;
use crate::keys::{ClaimKey, CommitmentKeys, PerCommitmentSecret};
use crate::tx::{
    ClaimInput, ClaimPath, CommitmentTx, FundingSignatures, OutputKind, RecognisedOutput, to_remote_claim,
};
use crate::types::{CommitmentNumber, Height, Side};
use crate::wire::Message;

/// A channel that ends on the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Closing {
    /// Whether we have broadcast our commitment.
    pub broadcast: bool,
    pub knowledge: Knowledge,
    /// What has spent the funding output.
    pub spend: Option<Spend>,
    /// The transaction behind `spend`, to be broadcast again after a restart: a mempool may have lost it, or a
    /// reorganisation have taken it back while we were away, and then nobody could close this channel any more. Of our
    /// own commitment only the signatures are kept.
    pub transaction: Option<Transaction>,
    /// The cooperative close that led here, or that was under way: whose transaction may still be the one that confirms.
    pub negotiated: Option<Box<Negotiating>>,
}

/// How much a node knows of its own channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// The latest state.
    Current,
    /// An old state, as the peer has proved: our commitment must never be broadcast.
    Old,
    /// No state at all, only a backup.
    Nothing,
}

/// A transaction that spends the funding output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    pub txid: Txid,
    /// `None` while it is only in the mempool.
    pub height: Option<Height>,
    pub kind: SpendKind,
}

/// Who closed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendKind {
    /// Both together.
    Mutual,
    /// Our commitment.
    Local,
    /// The peer's commitment of this number, the latest or the one before it.
    Remote(CommitmentNumber),
    /// A commitment of the peer's that it had revoked.
    Revoked(CommitmentNumber),
    /// A commitment of the peer's newer than any that we know: our data is old.
    Future(CommitmentNumber),
}

/// Our own commitment with all that claiming its outputs needs.
#[derive(Clone, Debug)]
pub struct LocalClose {
    /// Signed by both.
    pub transaction: Transaction,
    pub commitment: CommitmentTx,
    pub keys: CommitmentKeys,
    /// The peer's signatures on the HTLC transactions, in the order of [`CommitmentTx::htlc_txs`].
    pub htlc_signatures: Vec<Signature>,
    /// `to_local`, to be claimed once the commitment is `to_self_delay` blocks deep. Empty if it was dust.
    pub claims: Vec<ClaimInput>,
    pub height: Option<Height>,
}

/// The peer's commitment, or a mutual close, with all that claiming its outputs needs.
#[derive(Clone, Debug)]
pub struct RemoteClose {
    pub transaction: Transaction,
    pub spend: Spend,
    pub outputs: RemoteOutputs,
    /// `to_remote`, which is ours alone. Empty after a mutual close, or if it was dust.
    pub claims: Vec<ClaimInput>,
}

/// What is known of the outputs of a [`RemoteClose`].
#[derive(Clone, Debug)]
pub enum RemoteOutputs {
    /// Ours has gone to the script that we asked for.
    Mutual,
    /// Everything.
    Known { commitment: Box<CommitmentTx>, keys: Box<CommitmentKeys> },
    /// Everything once the retired HTLCs of that state have been read from the store: those whose range of
    /// commitment numbers includes it, and those that are still live.
    Revoked { secret: PerCommitmentSecret },
    /// Only `to_remote` can be told.
    Unknown,
}

impl Closing {
    /// Both have closed it together, as far as is known.
    pub fn is_mutual(&self) -> bool {
        matches!(&self.spend, Some(Spend { kind: SpendKind::Mutual, .. }))
    }

    /// Closed together, but not in a block: another transaction may still take its place.
    pub fn can_be_raised(&self) -> bool {
        let unconfirmed = matches!(&self.spend, Some(Spend { kind: SpendKind::Mutual, height: None, .. }));
        unconfirmed && self.knowledge == Knowledge::Current
    }
}

impl Established {
    pub(super) fn closing_message(&mut self, message: &Message, turn: &mut Turn<'_>) -> Result<(), Fault> {
        match message {
            Message::ChannelReestablish(message) => self.reestablish(message, turn),
            Message::ClosingSigned(signed) if self.negotiation().is_some() => self.closing_signed(signed, turn),
            Message::Shutdown(shutdown) => self.receive_shutdown_again(shutdown),
            _ => Ok(()),
        }
    }

    /// What this state hands on to [`Phase::Closing`].
    fn negotiated(&self) -> Option<Box<Negotiating>> {
        match &self.phase {
            Phase::Negotiating(negotiating) => Some(negotiating.clone()),
            Phase::Closing(closing) => closing.negotiated.clone(),
            Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Shutdown(_)
            | Phase::Lost
            | Phase::Restored
            | Phase::Closed => None,
        }
    }

    /// Broadcasts our commitment, unless that could be a revoked one or the channel is closing already. One that is not
    /// funded and in which nothing is ours is forgotten: no commitment could be mined, and none would bring us anything.
    pub(super) fn force_close(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let negotiated = self.negotiated();
        let (spend, transaction) = match &self.phase {
            // A transaction of both in the mempool may never confirm: whichever gets into a block counts.
            Phase::Closing(closing) if closing.can_be_raised() && !closing.broadcast => {
                (closing.spend.clone(), closing.transaction.clone())
            }
            Phase::Lost | Phase::Restored | Phase::Closing(_) | Phase::Closed => return Ok(()),
            Phase::Funding | Phase::Ready | Phase::Normal | Phase::Shutdown(_) | Phase::Negotiating(_) => (None, None),
        };
        if self.is_double_spent() {
            // Nothing can confirm, and the channel ends without.
            return Ok(());
        }
        if self.is_worth_nothing() {
            self.forget_unfunded(turn);
            return Ok(());
        }
        self.give_up_proposals(turn);
        let close = self.local_close(None)?;
        turn.emit(Effect::Broadcast(close.transaction.clone()));
        turn.emit(Effect::LocalClose(Box::new(close)));
        let knowledge = Knowledge::Current;
        let closing = Closing { broadcast: true, knowledge, spend, transaction, negotiated };
        self.set_phase(Phase::Closing(Box::new(closing)), turn);
        Ok(())
    }

    pub fn knowledge(&self) -> Knowledge {
        match &self.phase {
            Phase::Lost => Knowledge::Old,
            Phase::Restored => Knowledge::Nothing,
            Phase::Closing(closing) => closing.knowledge,
            Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Shutdown(_)
            | Phase::Negotiating(_)
            | Phase::Closed => Knowledge::Current,
        }
    }

    /// Our latest commitment, signed by both, and what to claim from it.
    pub fn local_close(&self, height: Option<Height>) -> Result<LocalClose, Invariant> {
        let Built { tx: commitment, keys } = self.local_commitment()?;
        let funding = &self.factory.funding;
        let local = self.factory.signer.sign_funding_input(&commitment.sighash(funding));
        let signatures = &self.commitments.local.signatures;
        let transaction = commitment.signed(funding, &FundingSignatures { local, remote: signatures.commitment });
        let claims = commitment
            .outputs()
            .filter(|(_, _, output)| output.kind == OutputKind::ToLocal)
            .map(|(vout, output, _)| ClaimInput {
                outpoint: OutPoint { txid: commitment.txid, vout },
                output: output.clone(),
                witness_script: Some(commitment.delayed_script.clone()),
                key: ClaimKey::Delayed { per_commitment_point: keys.per_commitment_point },
                path: ClaimPath::Delayed { to_self_delay: self.terms.delay_of(Side::Local) },
            })
            .collect();
        Ok(LocalClose { transaction, keys, htlc_signatures: signatures.htlcs.clone(), claims, height, commitment })
    }

    fn local_commitment(&self) -> Result<Built, Invariant> {
        let local = &self.commitments.local;
        let point = self.factory.signer.per_commitment_point(local.number)?;
        self.factory.build(&self.terms, Side::Local, local.number, &local.spec, point).map_err(|e| e.invariant())
    }

    /// The peer's commitment, without its signature.
    pub fn remote_commitment(&self, of: &RemoteCommitment) -> Result<Built, Invariant> {
        self.factory
            .build(&self.terms, Side::Remote, of.number, &of.spec, of.per_commitment_point)
            .map_err(|e| e.invariant())
    }

    pub(super) fn funding_spent(
        &mut self,
        transaction: Transaction,
        height: Option<Height>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Invariant> {
        if self.phase == Phase::Closed {
            return Ok(());
        }
        let txid = transaction.compute_txid();
        let params = self.factory.params(Side::Remote);
        let knowledge = self.knowledge();
        let kind = match params.obscuring.reveal(&transaction) {
            None => SpendKind::Mutual,
            Some(number) if knowledge == Knowledge::Nothing => SpendKind::Future(number),
            Some(_) if self.local_commitment()?.tx.txid == txid => SpendKind::Local,
            Some(number) => self.remote_kind(number, txid)?,
        };
        // Nobody signs for us but we: a commitment that we do not know was signed by what we have forgotten. Ours may be
        // revoked then, and whatever becomes of that transaction, it must not be broadcast.
        let knowledge = match (kind, knowledge) {
            (SpendKind::Future(_), Knowledge::Current) => Knowledge::Old,
            (_, knowledge) => knowledge,
        };
        let spend = Spend { txid, height, kind };
        let broadcast = match &self.phase {
            Phase::Closing(closing) if closing.spend.as_ref() == Some(&spend) => return Ok(()),
            Phase::Closing(closing) => closing.broadcast,
            Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Shutdown(_)
            | Phase::Negotiating(_)
            | Phase::Lost
            | Phase::Restored
            | Phase::Closed => false,
        };
        self.give_up_proposals(turn);
        let mut kept = None;
        if kind == SpendKind::Local {
            turn.emit(Effect::LocalClose(Box::new(self.local_close(height)?)));
        } else {
            kept = Some(transaction.clone());
            let close = self.remote_close(transaction, spend.clone())?;
            turn.emit(Effect::RemoteClose(Box::new(close)));
        }
        let negotiated = self.negotiated();
        let closing = Closing { broadcast, knowledge, spend: Some(spend), transaction: kept, negotiated };
        self.set_phase(Phase::Closing(Box::new(closing)), turn);
        Ok(())
    }

    fn remote_kind(&self, number: CommitmentNumber, txid: Txid) -> Result<SpendKind, Invariant> {
        let remote = &self.commitments.remote;
        for known in std::iter::once(&remote.current).chain(remote.next()) {
            if known.number == number && self.remote_commitment(known)?.tx.txid == txid {
                return Ok(SpendKind::Remote(number));
            }
        }
        Ok(if number < remote.current.number { SpendKind::Revoked(number) } else { SpendKind::Future(number) })
    }

    fn remote_close(&self, transaction: Transaction, spend: Spend) -> Result<RemoteClose, Invariant> {
        let remote = &self.commitments.remote;
        let outputs = match spend.kind {
            SpendKind::Mutual => RemoteOutputs::Mutual,
            SpendKind::Local => return Err(Invariant::WrongState("the peer's commitment")),
            SpendKind::Remote(number) => {
                let known = remote.next().filter(|next| next.number == number).unwrap_or(&remote.current);
                let Built { tx, keys } = self.remote_commitment(known)?;
                RemoteOutputs::Known { commitment: Box::new(tx), keys: Box::new(keys) }
            }
            SpendKind::Revoked(number) => match self.commitments.secrets.get(number) {
                Some(secret) => RemoteOutputs::Revoked { secret },
                None => return Err(Invariant::WrongState("the secret of a revoked commitment")),
            },
            SpendKind::Future(_) => RemoteOutputs::Unknown,
        };
        let claims = match spend.kind {
            SpendKind::Mutual | SpendKind::Local => Vec::new(),
            SpendKind::Remote(_) | SpendKind::Revoked(_) | SpendKind::Future(_) => {
                self.to_remote_claims(&transaction, spend.txid)
            }
        };
        Ok(RemoteClose { transaction, spend, outputs, claims })
    }

    /// `to_remote` depends on no commitment number: it is found whatever we have forgotten.
    fn to_remote_claims(&self, transaction: &Transaction, txid: Txid) -> Vec<ClaimInput> {
        let (script, info) = self.factory.params(Side::Remote).to_remote_output();
        let local = &self.terms.sides.local.basepoints;
        (0..)
            .zip(&transaction.output)
            .filter(|(_, output)| output.script_pubkey == *script)
            .map(|(vout, output)| {
                let recognised = RecognisedOutput { vout, output: output.clone(), info: info.clone() };
                to_remote_claim(OutPoint { txid, vout }, &recognised, self.terms.commitment_type(), local)
            })
            .collect()
    }

    /// After a restart.
    pub(super) fn closing_again(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        if let Phase::Closing(closing) = &self.phase {
            if let Some(agreed) = closing.negotiated.as_ref().and_then(|one| one.agreed.as_ref())
                && closing.can_be_raised()
                && closing.transaction.as_ref() != Some(&agreed.transaction)
            {
                turn.emit(Effect::Broadcast(agreed.transaction.clone()));
            }
            if let Some(transaction) = &closing.transaction {
                turn.emit(Effect::Broadcast(transaction.clone()));
            }
            let open = closing.spend.is_none() || closing.can_be_raised();
            let local = matches!(&closing.spend, Some(Spend { kind: SpendKind::Local, .. }));
            if closing.broadcast && (open || local) {
                let height = closing.spend.as_ref().and_then(|spend| spend.height);
                let close = self.local_close(height)?;
                turn.emit(Effect::Broadcast(close.transaction.clone()));
                turn.emit(Effect::LocalClose(Box::new(close)));
            }
        }
        Ok(())
    }

    /// Blocks above `to` are gone: a spend that was in one of them is unconfirmed again.
    pub(super) fn reorganized(&mut self, to: Height, turn: &mut Turn<'_>) {
        if let Phase::Closing(closing) = &mut self.phase
            && let Some(spend) = &mut closing.spend
            && spend.height.is_some_and(|height| height > to)
        {
            spend.height = None;
            // What it had waited for has come, and is waited for anew.
            if let Some(negotiated) = &mut closing.negotiated {
                negotiated.since = None;
            }
            turn.touched.state = true;
        }
    }

    pub(super) fn close_confirmed(&mut self, turn: &mut Turn<'_>) {
        if matches!(&self.phase, Phase::Closing(closing) if closing.spend.is_some()) {
            self.set_phase(Phase::Closed, turn);
            turn.emit(Effect::Forget);
        }
    }
}
