//! A commitment transaction is on its way to the chain, or something has spent the funding output: the channel's end.
//!
//! ```text
//!   force_close ──► our commitment broadcast ─┐              ┌── spends, reorganisations, tips
//!                                             ├─► Closing ◄──┼── preimages, revoked HTLCs, coins, refusals
//!   the funding output is spent: classify ────┘      │       └── ForceClose, Bump
//!                                                    ▼
//!                      Resolution: each output of it ends with its rightful owner ──all deep enough──► closed
//! ```
//!
//! Promises: our commitment is broadcast only from here, is always the latest, and never leaves a channel that has
//! lost data. Who closed is told by [`classify`] alone. What the chain has done and what is claimed is a part of the
//! channel's state: the commit that learns of a close holds all that a restart needs to claim from it.

use bitcoin::{Transaction, Txid};
use secp256k1::ecdsa::Signature;

use super::{ConnectionState, Established, Fault, Negotiating, Phase};
use crate::channel::commitment::Built;
use crate::channel::commitment::spec::HtlcKey;
use crate::channel::effect::{Effect, HtlcFailure};
use crate::channel::error::Invariant;
use crate::channel::final_htlc::{FinalHtlc, ended};
use crate::channel::turn::Turn;
use crate::keys::CommitmentKeys;
use crate::onchain::{self, Closer, Resolution, classify};
use crate::tx::{CommitmentTx, FundingSignatures};
use crate::types::{CommitmentNumber, Height, HtlcId, Side};
use crate::wire::Message;

/// Blocks that a closing transaction of the peer's may wait in the mempool before we broadcast our own commitment: it may
/// have left the mempools for good, and the peer with it.
const PATIENCE: u32 = 12;

/// A channel that ends on the chain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Closing {
    pub knowledge: Knowledge,
    /// What has spent the funding output.
    pub spend: Option<FundingSpend>,
    /// The transaction behind `spend`, to be broadcast again after a restart: a mempool may have lost it, or a
    /// reorganisation have taken it back while we were away, and then nobody could close this channel any more.
    pub transaction: Option<Transaction>,
    /// The cooperative close that led here, or that was under way: whose transaction may still be the one that confirms.
    pub negotiated: Option<Box<Negotiating>>,
    /// What becomes of the outputs.
    pub resolution: Resolution,
    /// How far the chain has been told. Not stored.
    pub tip: Height,
    /// The tip when this began, or began again. Not stored.
    pub begun: Option<Height>,
}

/// How much a node knows of its own channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// The latest state.
    Current,
    /// An old state, as the peer has proved: our commitment must never be broadcast.
    Old,
    /// No state at all, only a backup.
    Nothing,
}

/// A transaction that spends the funding output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingSpend {
    /// The spending transaction.
    pub txid: Txid,
    /// `None` while it is only in the mempool.
    pub height: Option<Height>,
    /// Who made it, and of what state.
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
    /// A commitment of ours that is not the latest: an old copy of our data was used.
    LocalOld(CommitmentNumber),
    /// Nobody that we know, to scripts that were never agreed on: a key may have leaked.
    Unknown,
}

impl SpendKind {
    fn of(closer: &Closer) -> Self {
        match closer {
            Closer::Mutual => Self::Mutual,
            Closer::Local(_) => Self::Local,
            Closer::Remote { state, .. } => Self::Remote(state.number),
            Closer::Revoked { number, .. } => Self::Revoked(*number),
            Closer::RemoteFuture { number } => Self::Future(*number),
            Closer::LocalOld { number } => Self::LocalOld(*number),
            Closer::Unknown => Self::Unknown,
        }
    }
}

impl SpendKind {
    /// Whether the transaction is kept, to be broadcast again. Of our own commitment only the signatures are; one that only
    /// harms us may be forgotten by all.
    fn is_welcome(self) -> bool {
        match self {
            Self::Mutual | Self::Remote(_) | Self::Revoked(_) | Self::Future(_) => true,
            Self::Local | Self::LocalOld(_) | Self::Unknown => false,
        }
    }
}

/// Our own commitment, signed by both.
#[derive(Clone, Debug)]
pub struct LocalClose {
    /// The commitment transaction with both signatures.
    pub transaction: Transaction,
    /// What its outputs are.
    pub commitment: CommitmentTx,
    /// The keys in its scripts.
    pub keys: CommitmentKeys,
    /// The peer's signatures on the HTLC transactions, in the order of [`CommitmentTx::htlc_txs`].
    pub htlc_signatures: Vec<Signature>,
}

impl Closing {
    /// Both have closed it together, as far as is known.
    pub(crate) fn is_mutual(&self) -> bool {
        matches!(&self.spend, Some(FundingSpend { kind: SpendKind::Mutual, .. }))
    }

    /// Closed together, but not in a block: another transaction may still take its place.
    pub(crate) fn can_be_raised(&self) -> bool {
        let unconfirmed = matches!(&self.spend, Some(FundingSpend { kind: SpendKind::Mutual, height: None, .. }));
        unconfirmed && self.knowledge == Knowledge::Current
    }

    /// Whether we want our own commitment in the chain.
    pub(crate) fn is_forced(&self) -> bool {
        self.resolution.is_forced()
    }

    /// Whether it ends by a commitment, or may, or by what nobody knows: its outputs have to be claimed.
    pub(crate) fn needs_enforcement(&self) -> bool {
        self.is_forced() || !self.is_mutual()
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

    pub(crate) fn closing(&self) -> Option<&Closing> {
        if let Phase::Closing(closing) = &self.phase { Some(closing) } else { None }
    }

    fn closing_mut(&mut self) -> Option<&mut Closing> {
        if let Phase::Closing(closing) = &mut self.phase { Some(closing) } else { None }
    }

    /// A person wants it closed alone. If it is closing already, our own commitment may be what gets it there.
    pub(super) fn wish_force_close(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        self.force_close(turn)?;
        match self.closing() {
            Some(closing) if closing.needs_enforcement() => self.enforce(onchain::Event::ForceClose, turn),
            Some(_) | None => Ok(()),
        }
    }

    /// Broadcasts our commitment, unless that could be a revoked one or the channel is closing already. One that is not
    /// funded and in which nothing is ours is forgotten: no commitment could be mined, and none would bring us anything.
    pub(super) fn force_close(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        match &self.phase {
            // A transaction of both in the mempool may never confirm: whichever gets into a block counts.
            Phase::Closing(closing) if closing.can_be_raised() && !closing.is_forced() => {}
            Phase::Lost | Phase::Restored | Phase::Closing(_) | Phase::Closed => return Ok(()),
            Phase::Funding | Phase::Ready | Phase::Normal | Phase::Shutdown(_) | Phase::Negotiating(_) => {}
        }
        if self.is_double_spent() {
            // Nothing can confirm, and the channel ends without.
            return Ok(());
        }
        if self.is_worth_nothing() {
            self.forget_unfunded(turn);
            return Ok(());
        }
        self.give_up_proposals(turn);
        let LocalClose { transaction, commitment, .. } = self.local_close()?;
        turn.emit(Effect::Broadcast(transaction));
        turn.emit(Effect::Closing { transaction: commitment.txid, kind: SpendKind::Local });
        self.begin_closing(turn)?;
        self.enforce(onchain::Event::ForceClose, turn)
    }

    pub(crate) fn knowledge(&self) -> Knowledge {
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

    /// Our latest commitment, signed by both.
    pub(crate) fn local_close(&self) -> Result<LocalClose, Invariant> {
        let Built { tx: commitment, keys } = self.local_commitment()?;
        let funding = &self.factory.funding;
        let local = self.factory.signer.sign_funding_input(&commitment.sighash(funding));
        let signatures = &self.commitments.local.signatures;
        let transaction = commitment.signed(funding, &FundingSignatures { local, remote: signatures.commitment });
        Ok(LocalClose { transaction, keys, htlc_signatures: signatures.htlcs.clone(), commitment })
    }

    fn local_commitment(&self) -> Result<Built, Invariant> {
        let local = &self.commitments.local;
        let point = self.factory.signer.per_commitment_point(local.number)?;
        self.factory.build(&self.terms, Side::Local, local.number, &local.spec, point).map_err(|e| e.invariant())
    }

    /// Enters this state, and has its outputs watched. Nothing if the channel is closing already.
    fn begin_closing(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        if self.closing().is_some() {
            return Ok(());
        }
        let (knowledge, negotiated) = (self.knowledge(), self.negotiated());
        let mut channel = self.closing_channel(turn.ctx.environment.destination(&self.terms))?;
        channel.upstream_expiries = self.upstream_expiries(&channel, turn);
        let closing = Closing {
            knowledge,
            spend: None,
            transaction: None,
            negotiated,
            resolution: Resolution::begin(channel),
            tip: turn.ctx.tip,
            begun: Some(turn.ctx.tip),
        };
        self.set_phase(Phase::Closing(Box::new(closing)), turn);
        self.enforce(onchain::Event::Restarted, turn)
    }

    /// What the chain has done to the funding output, or to what came of it; all of it is told up to `tip` when it ends
    /// with a tip.
    pub(super) fn chain_news(
        &mut self,
        event: onchain::Event,
        tip: Height,
        turn: &mut Turn<'_>,
    ) -> Result<(), Invariant> {
        if let Some(closing) = self.closing_mut() {
            closing.tip = tip;
            closing.begun.get_or_insert(tip);
        }
        let is_tip = event == onchain::Event::Tip;
        match &event {
            onchain::Event::Spent { tx, height } => {
                if tx.input.iter().any(|input| input.previous_output == self.terms.funding) {
                    self.funding_spent(tx, *height, tip, turn)?;
                }
            }
            onchain::Event::Reorganized { to } => self.spend_taken_back(*to, turn),
            onchain::Event::Restarted
            | onchain::Event::ForceClose
            | onchain::Event::Tip
            | onchain::Event::RevokedHtlcs { .. }
            | onchain::Event::Preimage(_)
            | onchain::Event::Coins { .. }
            | onchain::Event::CoinsLost(_)
            | onchain::Event::Rejected { .. }
            | onchain::Event::Bump { .. } => {}
        }
        self.enforce(event, turn)?;
        if is_tip { self.lose_patience(turn) } else { Ok(()) }
    }

    /// Who has spent the funding output, and what follows for the channel itself.
    fn funding_spent(
        &mut self,
        transaction: &Transaction,
        height: Option<Height>,
        tip: Height,
        turn: &mut Turn<'_>,
    ) -> Result<(), Invariant> {
        if self.phase == Phase::Closed {
            return Ok(());
        }
        let kind = SpendKind::of(&match self.closing() {
            Some(closing) => classify(closing.resolution.channel(), transaction)?,
            // Where our part goes does not tell who closed.
            None => classify(&self.closing_channel(bitcoin::ScriptBuf::new())?, transaction)?,
        });
        let spend = FundingSpend { txid: transaction.compute_txid(), height, kind };
        if self.closing().is_some_and(|closing| closing.spend.as_ref() == Some(&spend)) {
            return Ok(());
        }
        self.give_up_proposals(turn);
        turn.emit(Effect::Closing { transaction: spend.txid, kind });
        self.begin_closing(turn)?;
        let Some(closing) = self.closing_mut() else { return Ok(()) };
        closing.tip = tip;
        closing.transaction = kind.is_welcome().then(|| transaction.clone());
        closing.spend = Some(spend);
        turn.touched.state = true;
        if kind == SpendKind::Local && height.is_some() && self.connection != ConnectionState::Offline {
            // A peer whose own view of the chain is kept from it hears of it here. Not before a block has it: the peer closes
            // alone then, and of two commitments in the mempools either might be the one that confirms.
            turn.send(self.end_for_peer());
        }
        let Some(closing) = self.closing_mut() else { return Ok(()) };
        match kind {
            // Nobody signs for us but we: a commitment that we do not know was signed by what we have forgotten. Ours may be
            // revoked then, and whatever becomes of that transaction, it must not be broadcast.
            SpendKind::Future(_) if closing.knowledge == Knowledge::Current => {
                closing.knowledge = Knowledge::Old;
                closing.resolution.distrust_local_state();
                Ok(())
            }
            SpendKind::Local if !closing.is_forced() && closing.knowledge == Knowledge::Current => {
                self.enforce(onchain::Event::ForceClose, turn)
            }
            SpendKind::Mutual
            | SpendKind::Local
            | SpendKind::Remote(_)
            | SpendKind::Revoked(_)
            | SpendKind::Future(_)
            | SpendKind::LocalOld(_)
            | SpendKind::Unknown => Ok(()),
        }
    }

    /// Blocks above `to` are gone: a spend that was in one of them is unconfirmed again.
    fn spend_taken_back(&mut self, to: Height, turn: &mut Turn<'_>) {
        let Some(closing) = self.closing_mut() else { return };
        if let Some(spend) = &mut closing.spend
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

    /// The peer's closing transaction may never confirm.
    fn lose_patience(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let Some(closing) = self.closing() else { return Ok(()) };
        let waited = closing.tip.0.saturating_sub(closing.begun.unwrap_or(closing.tip).0);
        let open = closing.resolution.close().is_none() && closing.needs_enforcement() && !closing.is_forced();
        if open && waited >= PATIENCE { self.enforce(onchain::Event::ForceClose, turn) } else { Ok(()) }
    }

    /// Hands an event to the resolution of the outputs. What comes of it is written with this turn.
    pub(super) fn enforce(&mut self, event: onchain::Event, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let Phase::Closing(closing) = &mut self.phase else { return Ok(()) };
        let environment = turn.ctx.environment;
        let estimates = environment.estimates();
        let ctx = onchain::Ctx {
            tip: closing.tip,
            newest: environment.newest(),
            estimates: &estimates,
            policy: environment.policy(),
            signer: self.factory.signer.as_ref(),
        };
        let onchain::Turn { effects, changed } = closing.resolution.handle(event, &ctx)?;
        turn.touched.state |= changed;
        for effect in effects {
            self.onchain_effect(effect, turn);
        }
        Ok(())
    }

    fn onchain_effect(&self, effect: onchain::Effect, turn: &mut Turn<'_>) {
        let origin = |id: HtlcId| {
            let key = HtlcKey { offered_by: Side::Local, id };
            self.commitments.details.get(&key).and_then(|details| details.origin)
        };
        match effect {
            onchain::Effect::Watch { outpoint, script_pubkey, .. } => {
                turn.emit(Effect::Watch { outpoint, script: script_pubkey });
            }
            onchain::Effect::Fulfilled { htlc, payment_hash, preimage } => {
                if let Some(origin) = origin(htlc) {
                    turn.emit(Effect::Fulfilled { origin, htlc, payment_hash, preimage });
                }
            }
            onchain::Effect::Failed { htlc, payment_hash } => {
                if let Some(origin) = origin(htlc) {
                    turn.emit(Effect::Failed { origin, htlc, payment_hash, failure: HtlcFailure::NotOnChain });
                }
            }
            effect @ (onchain::Effect::Broadcast { .. }
            | onchain::Effect::LoadRevokedHtlcs { .. }
            | onchain::Effect::NeedCoins { .. }
            | onchain::Effect::CheckCoins { .. }
            | onchain::Effect::ReleaseCoins(_)
            | onchain::Effect::TakenBack { .. }
            | onchain::Effect::Notice(_)
            | onchain::Effect::Resolved) => turn.emit(Effect::Onchain(Box::new(effect))),
        }
    }

    /// After a restart.
    pub(super) fn closing_again(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let Some(closing) = self.closing_mut() else { return Ok(()) };
        closing.tip = turn.ctx.tip;
        closing.begun = Some(turn.ctx.tip);
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
        let local = matches!(&closing.spend, Some(FundingSpend { kind: SpendKind::Local, .. }));
        if closing.is_forced() && (open || local) && closing.knowledge == Knowledge::Current {
            let close = self.local_close()?;
            turn.emit(Effect::Broadcast(close.transaction));
            turn.emit(Effect::Closing { transaction: close.commitment.txid, kind: SpendKind::Local });
        }
        self.enforce(onchain::Event::Restarted, turn)
    }

    /// The news of the end are kept elsewhere, and nothing is left to be claimed.
    pub(super) fn close_confirmed(&mut self, turn: &mut Turn<'_>) {
        if let Some(closing) = self.closing().filter(|closing| closing.spend.is_some()) {
            for (htlc, settled) in closing.resolution.incoming_ends() {
                ended(self.terms.channel_id, htlc, FinalHtlc { settled, on_chain: true }, turn);
            }
            self.set_phase(Phase::Closed, turn);
            turn.emit(Effect::Forget);
        }
    }
}
