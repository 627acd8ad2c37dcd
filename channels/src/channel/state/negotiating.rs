//! Agreeing on the fee of the closing transaction (BOLT 2, Legacy Closing Negotiation).
//!
//! ```text
//!   funder ──closing_signed(fee, range)──► fundee           fee within the fundee's range: it repeats the fee, agreed
//!   funder ◄─closing_signed(fee', range)── fundee           otherwise it picks one in both ranges
//!   funder ──closing_signed(fee')────────► fundee           the funder repeats it: agreed
//! ```
//!
//! A peer that sends no `fee_range` is met halfway, step by step. Whoever sees both signatures on one transaction
//! stores it and broadcasts it. From then on we speak only when the peer does (`settled.rs`): a peer that has not seen the
//! agreement, because the last `closing_signed` was lost, sends `channel_reestablish`, and all is negotiated again.

use bitcoin::{Amount, ScriptBuf, Transaction};

use super::shutdown::CloseFees;
use super::{ConnectionState, Established, Phase};
use crate::channel::closing_fee::ClosingFunds;
use crate::channel::effect::{Effect, Notice};
use crate::channel::error::{Fault, Invariant, ProtocolViolation};
use crate::channel::turn::Turn;
use crate::keys::SignatureError;
use crate::tx::{
    ClosingInput, ClosingTx, ClosingTxError, FundingSignatures, build_closing, closing_weight, fee, verify_closing,
};
use crate::types::{FeeratePerKw, Height, Side};
use crate::wire::{ClosingSigned, ErrorMessage, FeeRange, Message, Shutdown};

/// A channel without HTLCs whose closing fee is being agreed on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Negotiating {
    pub local_script: ScriptBuf,
    pub remote_script: ScriptBuf,
    pub fees: Option<CloseFees>,
    /// The transaction that both have signed: of several the one that pays most.
    pub agreed: Option<Agreed>,
    /// The block from which on an agreement is waited for, or then the confirmation; `None`: from the next one.
    pub since: Option<Height>,
    /// The peer's fees and ours have nothing in common, as one of both has said.
    pub disagreed: bool,
    /// The fee that we have sent since the connection began.
    sent: Option<Amount>,
    /// The fee that the peer sent last since then.
    received: Option<Amount>,
    /// The highest fee that both have signed since then.
    settled: Option<Amount>,
    /// How often the peer has begun again since the last block.
    begun_again: u8,
}

/// So often a peer may begin an agreed close again between two blocks: enough for a person who changes a fee some times.
/// Without a bound, each side would answer one `channel_reestablish` too many for ever.
const MOST_BEGUN_AGAIN: u8 = 8;

impl Negotiating {
    pub(crate) const fn new(local_script: ScriptBuf, remote_script: ScriptBuf, fees: Option<CloseFees>) -> Self {
        let (agreed, since, disagreed) = (None, None, false);
        let (sent, received, settled) = (None, None, None);
        Self { local_script, remote_script, fees, agreed, since, disagreed, sent, received, settled, begun_again: 0 }
    }

    /// We have proposed a higher fee than the one that both have signed.
    pub(crate) fn proposes_more(&self) -> bool {
        self.agreed.as_ref().is_some_and(|agreed| self.sent.is_some_and(|sent| sent > agreed.fee))
    }

    /// Only what was agreed on outlives a connection.
    pub(crate) fn start_again(&mut self) {
        (self.sent, self.received, self.settled) = (None, None, None);
    }

    pub(crate) fn new_block(&mut self) {
        self.begun_again = 0;
    }

    /// The peer wants to begin again: whether it may.
    pub(crate) fn may_begin_again(&mut self) -> bool {
        let may = self.begun_again < MOST_BEGUN_AGAIN;
        self.begun_again += u8::from(may);
        may
    }
}

/// A closing transaction that both have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub fee: Amount,
    pub transaction: Transaction,
}

/// The fees that our side signs.
#[derive(Clone, Copy)]
struct Bounds {
    wanted: Amount,
    minimum: Amount,
    maximum: Amount,
}

impl Bounds {
    fn contains(&self, fee: Amount) -> bool {
        self.minimum <= fee && fee <= self.maximum
    }
}

impl Established {
    pub(super) fn negotiating_message(&mut self, message: Message, turn: &mut Turn<'_>) -> Result<(), Fault> {
        match message {
            // What was still on its way for a fee when one of both began to negotiate.
            Message::CommitmentSigned(signed) if !self.commitments.is_drained() => self.commitment_signed(signed, turn),
            Message::RevokeAndAck(revoke) if self.commitments.remote.next().is_some() => self.revoked(&revoke, turn),
            Message::ClosingSigned(signed) => self.closing_signed(&signed, turn),
            Message::ChannelReestablish(message) => self.reestablish(&message, turn),
            // Sent again after a reconnection.
            Message::Shutdown(shutdown) => self.receive_shutdown_again(&shutdown),
            Message::ChannelReady(_) => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(super) fn receive_shutdown_again(&self, shutdown: &Shutdown) -> Result<(), Fault> {
        match self.negotiation() {
            Some(negotiating) if negotiating.remote_script != shutdown.scriptpubkey => {
                Err(ProtocolViolation::ShutdownScriptChanged.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The funder speaks first.
    pub(super) fn propose_closing_fee(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        if self.terms.opener != Side::Local {
            return Ok(());
        }
        let bounds = self.closing_bounds(turn)?;
        self.sign_closing(bounds.wanted, bounds, turn)
    }

    /// What is, or was, agreed on: also while the closing transaction is on its way, or in a block.
    pub(super) fn negotiation(&self) -> Option<&Negotiating> {
        match &self.phase {
            Phase::Negotiating(negotiating) => Some(negotiating),
            Phase::Closing(closing) if closing.is_mutual() => closing.negotiated.as_deref(),
            Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Shutdown(_)
            | Phase::Lost
            | Phase::Restored
            | Phase::Closing(_)
            | Phase::Closed => None,
        }
    }

    pub(super) fn negotiation_mut(&mut self) -> Option<&mut Negotiating> {
        match &mut self.phase {
            Phase::Negotiating(negotiating) => Some(negotiating),
            Phase::Closing(closing) if closing.is_mutual() => closing.negotiated.as_deref_mut(),
            Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Shutdown(_)
            | Phase::Lost
            | Phase::Restored
            | Phase::Closing(_)
            | Phase::Closed => None,
        }
    }

    fn negotiating(&self) -> Result<&Negotiating, Invariant> {
        self.negotiation().ok_or(Invariant::WrongState("the closing negotiation"))
    }

    /// What a closing transaction of this channel costs at a rate, whether or not the opener has so much.
    pub(super) fn closing_cost(&self, negotiating: &Negotiating, feerate: FeeratePerKw) -> Amount {
        fee::fee_for_weight(feerate, closing_weight(&negotiating.local_script, &negotiating.remote_script))
    }

    /// What one pays at a rate, as we propose it.
    pub(super) fn closing_fee_at(&self, negotiating: &Negotiating, feerate: FeeratePerKw, turn: &Turn<'_>) -> Amount {
        let weight = closing_weight(&negotiating.local_script, &negotiating.remote_script);
        self.closing_funds().fee_at(feerate, turn.ctx.feerates.mempool_minimum, weight)
    }

    fn closing_funds(&self) -> ClosingFunds {
        let (terms, spec) = (&self.terms, &self.commitments.local.spec);
        let dust_limit = terms.sides.local.dust_limit.max(terms.sides.remote.dust_limit);
        ClosingFunds::new(terms.opener, &spec.balance, dust_limit, terms.commitment_type(), spec.feerate)
    }

    fn closing_bounds(&self, turn: &Turn<'_>) -> Result<Bounds, Invariant> {
        let negotiating = self.negotiating()?;
        let at = |feerate: FeeratePerKw| self.closing_fee_at(negotiating, feerate, turn);
        let feerates = &turn.ctx.feerates;
        let funds = self.closing_funds();
        let weight = closing_weight(&negotiating.local_script, &negotiating.remote_script);
        // Nobody here has asked for it: not at any price.
        let unasked = |feerate| funds.sane_feerate(feerate, feerates.mempool_minimum, weight);
        // What our mempool does not take does not get to a miner, whatever was asked for.
        let relays = |fees: CloseFees| fees.wanted.max(feerates.mempool_minimum).min(fees.maximum);
        let wanted = at(negotiating.fees.map_or_else(|| unasked(feerates.closing), relays));
        // What both have signed once stays the proposal, unless somebody asked for more: another one would only conflict
        // with it.
        let wanted = match (&negotiating.agreed, negotiating.fees, self.terms.opener) {
            (Some(agreed), Some(_), Side::Local) => wanted.max(agreed.fee),
            (Some(agreed), _, _) => agreed.fee,
            (None, _, _) => wanted,
        };
        Ok(match (self.terms.opener, negotiating.fees) {
            (Side::Local, Some(fees)) => {
                let minimum = fees.minimum.max(feerates.mempool_minimum);
                Bounds { wanted, minimum: at(minimum).min(wanted), maximum: at(fees.maximum).max(wanted) }
            }
            // The peer wants to close and we pay: up to twice what we would choose.
            (Side::Local, None) => Bounds {
                wanted,
                minimum: at(feerates.mempool_minimum).min(wanted),
                maximum: at(unasked(FeeratePerKw(feerates.closing.0.saturating_mul(2)))).max(wanted),
            },
            // The peer pays: whatever relays. If that turns out to be too little, a child on our output pays more.
            (Side::Remote, _) => {
                let relays = at(feerates.mempool_minimum);
                let minimum = negotiating.agreed.as_ref().map_or(relays, |agreed| relays.min(agreed.fee));
                Bounds { wanted: wanted.max(minimum), minimum, maximum: funds.most() }
            }
        })
    }

    fn closing_input<'a>(&'a self, negotiating: &'a Negotiating, fee: Amount) -> ClosingInput<'a> {
        let balance = &self.commitments.local.spec.balance;
        ClosingInput {
            funding: &self.factory.funding,
            to_local: balance.local,
            to_remote: balance.remote,
            opener: self.terms.opener,
            fee,
            local_script: &negotiating.local_script,
            remote_script: &negotiating.remote_script,
            dust_limit: self.terms.sides.local.dust_limit,
        }
    }

    /// Proposes a fee, for the closing transaction as we would build it.
    fn sign_closing(&mut self, fee: Amount, bounds: Bounds, turn: &mut Turn<'_>) -> Result<(), Fault> {
        match build_closing(&self.closing_input(self.negotiating()?, fee)) {
            Ok(closing) => {
                self.send_closing_signed(&closing, fee, bounds, turn);
                Ok(())
            }
            Err(error) => Ok(self.cannot_be_closed_together(&error, turn)?),
        }
    }

    /// There is no closing transaction to sign, whatever the fee: neither node has enough for an output. That is nobody's
    /// wrong, and another connection would change nothing. One side has to end it, once.
    fn cannot_be_closed_together(&mut self, error: &ClosingTxError, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        if self.is_settled_together() {
            self.left_alone(turn);
            return Ok(());
        }
        if self.connection != ConnectionState::Offline {
            turn.send(ErrorMessage::new(self.terms.channel_id, format!("it cannot be closed together: {error}")));
        }
        self.force_close(turn)
    }

    fn send_closing_signed(&mut self, closing: &ClosingTx, fee: Amount, bounds: Bounds, turn: &mut Turn<'_>) {
        let signature = self.factory.signer.sign_funding_input(&closing.sighash(&self.factory.funding));
        turn.send(ClosingSigned {
            channel_id: self.terms.channel_id,
            fee_satoshis: fee,
            signature,
            fee_range: Some(FeeRange { min_fee_satoshis: bounds.minimum, max_fee_satoshis: bounds.maximum }),
        });
        if let Some(negotiating) = self.negotiation_mut() {
            negotiating.sent = Some(fee);
        }
    }

    pub(super) fn closing_signed(&mut self, message: &ClosingSigned, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let fee = message.fee_satoshis;
        let negotiating = self.negotiating()?;
        let sides = &self.terms.sides;
        let dust_limit = sides.local.dust_limit.max(sides.remote.dust_limit);
        let input = ClosingInput { dust_limit, ..self.closing_input(negotiating, fee) };
        let closing = verify_closing(&input, &message.signature).ok_or(SignatureError::Closing)?;
        let (sent, previous, settled) = (negotiating.sent, negotiating.received, negotiating.settled);
        let mut bounds = self.closing_bounds(turn)?;
        if let Some(negotiating) = self.negotiation_mut() {
            negotiating.received = Some(fee);
        }

        // Where both have signed more already, this is of a conversation that is over. Two of them at a time, each answered
        // with a fee of the other, would never end.
        if sent == Some(fee) || settled.is_some_and(|settled| fee <= settled) {
            return self.agreed(&closing, message, turn);
        }
        if bounds.contains(fee) {
            // The peer needs our signature, on the very transaction that it has signed: dust limits may differ.
            self.send_closing_signed(&closing, fee, bounds, turn);
            return self.agreed(&closing, message, turn);
        }
        let Some(range) = &message.fee_range else {
            return self.meet_halfway(fee, sent, previous, bounds, turn);
        };
        let (low, high) = (range.min_fee_satoshis.max(bounds.minimum), range.max_fee_satoshis.min(bounds.maximum));
        if low > high {
            return Err(self.no_common_fee((range.min_fee_satoshis, range.max_fee_satoshis), bounds, turn));
        }
        match (self.terms.opener, sent) {
            // The funder has told its range: a fee outside of it is no answer. The fundee has chosen before.
            (Side::Local, Some(_)) | (Side::Remote, Some(_)) => Err(ProtocolViolation::ClosingFee(fee).into()),
            (Side::Local, None) | (Side::Remote, None) => {
                bounds.maximum = bounds.maximum.max(range.max_fee_satoshis);
                self.sign_closing(bounds.wanted.clamp(low, high), bounds, turn)
            }
        }
    }

    /// Without `fee_range`: strictly between the last two fees, so that every step gets closer.
    fn meet_halfway(
        &mut self,
        fee: Amount,
        sent: Option<Amount>,
        previous: Option<Amount>,
        bounds: Bounds,
        turn: &mut Turn<'_>,
    ) -> Result<(), Fault> {
        let Some(sent) = sent else {
            return self.sign_closing(bounds.wanted, bounds, turn);
        };
        if let Some(previous) = previous {
            let (low, high) = (sent.min(previous), sent.max(previous));
            if fee <= low || fee >= high {
                return Err(ProtocolViolation::ClosingFee(fee).into());
            }
        }
        // BOLT 2 lets it want what we do not: that is no wrong, but there may be nothing between both that we sign.
        let middle = Amount::from_sat(u64::midpoint(fee.to_sat(), sent.to_sat()));
        if middle == sent || middle == fee || !bounds.contains(middle) {
            return Err(self.no_common_fee((fee, fee), bounds, turn));
        }
        self.sign_closing(middle, bounds, turn)
    }

    fn no_common_fee(&mut self, theirs: (Amount, Amount), bounds: Bounds, turn: &mut Turn<'_>) -> Fault {
        self.disagree(turn);
        let ((theirs_min, theirs_max), min, max) = (theirs, bounds.minimum, bounds.maximum);
        ProtocolViolation::NoCommonClosingFee { theirs_min, theirs_max, min, max }.into()
    }

    fn agreed(&mut self, closing: &ClosingTx, message: &ClosingSigned, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let local = self.factory.signer.sign_funding_input(&closing.sighash(&self.factory.funding));
        let signatures = FundingSignatures { local, remote: message.signature };
        let transaction = closing.signed(&self.factory.funding, &signatures);
        self.violations = 0;
        let tip = turn.ctx.tip;
        let Some(negotiating) = self.negotiation_mut() else { return Ok(()) };
        negotiating.disagreed = false;
        negotiating.settled = negotiating.settled.max(Some(message.fee_satoshis));
        let (fee, transaction) = match &negotiating.agreed {
            Some(known) if known.fee >= message.fee_satoshis => (known.fee, known.transaction.clone()),
            Some(_) | None => {
                negotiating.since = Some(tip);
                (message.fee_satoshis, transaction)
            }
        };
        let txid = transaction.compute_txid();
        negotiating.agreed = Some(Agreed { fee, transaction: transaction.clone() });
        turn.touched.state = true;
        turn.emit(Effect::Broadcast(transaction));
        turn.notice(Notice::ClosingSigned { transaction: txid });
        Ok(())
    }

    /// The fees that both would pay have nothing in common: people may change theirs for a while.
    pub(super) fn disagree(&mut self, turn: &mut Turn<'_>) {
        let tip = turn.ctx.tip;
        if let Some(negotiating) = self.negotiation_mut()
            && negotiating.agreed.is_none()
            && !negotiating.disagreed
        {
            negotiating.disagreed = true;
            negotiating.since = Some(tip);
            turn.touched.state = true;
        }
    }

    /// This node's user asks again, with other fees.
    pub(super) fn close_again(&mut self, fees: CloseFees, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let (connection, opener) = (self.connection, self.terms.opener);
        let Some(negotiating) = self.negotiation_mut() else { return Ok(()) };
        negotiating.fees = Some(fees);
        turn.touched.state = true;
        if negotiating.agreed.is_some() {
            return self.raise(fees.wanted, turn);
        }
        if negotiating.disagreed && connection == ConnectionState::Online && opener == Side::Local {
            negotiating.disagreed = false;
            negotiating.since = None;
            negotiating.start_again();
            return self.propose_closing_fee(turn);
        }
        Ok(())
    }

    /// After a reconnection: `shutdown` and, from the funder, a first fee.
    pub(super) fn negotiate_again(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let script = self.negotiating()?.local_script.clone();
        turn.send(Shutdown { channel_id: self.terms.channel_id, scriptpubkey: script });
        self.propose_closing_fee(turn)
    }
}
