//! Agreeing on the fee of the closing transaction (BOLT 2, Legacy Closing Negotiation).
//!
//! ```text
//!   funder ──closing_signed(fee, range)──► fundee           fee within the fundee's range: it repeats the fee, agreed
//!   funder ◄─closing_signed(fee', range)── fundee           otherwise it picks one in both ranges
//!   funder ──closing_signed(fee')────────► fundee           the funder repeats it: agreed
//! ```
//!
//! A peer that sends no `fee_range` is met halfway, step by step. Whoever sees both signatures on one transaction
//! stores it and broadcasts it; until that is seen on the chain a reconnection negotiates again from the start, because
//! the last `closing_signed` may have been lost.

use bitcoin::{Amount, ScriptBuf, Transaction};

use super::shutdown::CloseFees;
use super::{Established, Phase};
use crate::channel::effect::{Effect, Notice};
use crate::channel::error::{Fault, Invariant, Wrong};
use crate::channel::turn::Turn;
use crate::keys::SignatureError;
use crate::tx::{ClosingInput, ClosingTx, FundingSignatures, build_closing, closing_weight, fee, verify_closing};
use crate::types::{FeeratePerKw, Side};
use crate::wire::{ClosingSigned, FeeRange, Message, Shutdown};

/// A channel without HTLCs whose closing fee is being agreed on.
#[derive(Clone, Debug, PartialEq)]
pub struct Negotiating {
    pub local_script: ScriptBuf,
    pub remote_script: ScriptBuf,
    pub fees: Option<CloseFees>,
    /// The transaction that both have signed.
    pub agreed: Option<Agreed>,
    /// The fee that we have sent since the connection began.
    sent: Option<Amount>,
    /// The fee that the peer sent last since then.
    received: Option<Amount>,
}

impl Negotiating {
    pub const fn new(local_script: ScriptBuf, remote_script: ScriptBuf, fees: Option<CloseFees>) -> Self {
        Self { local_script, remote_script, fees, agreed: None, sent: None, received: None }
    }

    /// Only what was agreed on outlives a connection.
    pub fn start_again(&mut self) {
        self.sent = None;
        self.received = None;
    }
}

/// A closing transaction that both have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
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
            Message::ClosingSigned(signed) => self.closing_signed(&signed, turn),
            Message::ChannelReestablish(message) => self.reestablish(&message, turn),
            // Sent again after a reconnection.
            Message::Shutdown(shutdown) => self.receive_shutdown_again(&shutdown),
            Message::ChannelReady(_) => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    fn receive_shutdown_again(&self, shutdown: &Shutdown) -> Result<(), Fault> {
        match &self.phase {
            Phase::Negotiating(negotiating) if negotiating.remote_script != shutdown.scriptpubkey => {
                Err(Wrong::ShutdownScriptChanged.into())
            }
            _ => Ok(()),
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

    fn negotiating(&self) -> Result<&Negotiating, Invariant> {
        match &self.phase {
            Phase::Negotiating(negotiating) => Ok(negotiating),
            Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Shutdown(_)
            | Phase::Lost
            | Phase::Restored
            | Phase::Closing(_)
            | Phase::Closed => Err(Invariant::WrongState("the closing negotiation")),
        }
    }

    fn closing_bounds(&self, turn: &Turn<'_>) -> Result<Bounds, Invariant> {
        let negotiating = self.negotiating()?;
        let weight = closing_weight(&negotiating.local_script, &negotiating.remote_script);
        let balance = self.commitments.local.spec.balance.of(self.terms.opener).floor_sat();
        let at = |feerate: FeeratePerKw| fee::fee_for_weight(feerate, weight).min(balance);
        let wanted = negotiating.fees.map_or(turn.ctx.feerates.closing, |fees| fees.wanted);
        // What both have signed once stays the proposal: another one would only conflict with it.
        let again = negotiating.agreed.as_ref().map(|agreed| agreed.fee);
        let wanted = again.unwrap_or_else(|| at(wanted));
        Ok(match (self.terms.opener, negotiating.fees) {
            (Side::Local, Some(fees)) => {
                Bounds { wanted, minimum: at(fees.minimum).min(wanted), maximum: at(fees.maximum).max(wanted) }
            }
            // The peer wants to close and we pay: up to twice what we would choose.
            (Side::Local, None) => Bounds {
                wanted,
                minimum: at(FeeratePerKw::FLOOR).min(wanted),
                maximum: at(FeeratePerKw(turn.ctx.feerates.closing.0.saturating_mul(2))).max(wanted),
            },
            // The peer pays: whatever relays.
            (Side::Remote, _) => Bounds { wanted, minimum: at(FeeratePerKw::FLOOR).min(wanted), maximum: balance },
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
        let closing =
            build_closing(&self.closing_input(self.negotiating()?, fee)).map_err(|_| Wrong::ClosingFee(fee))?;
        self.send_closing_signed(&closing, fee, bounds, turn);
        Ok(())
    }

    fn send_closing_signed(&mut self, closing: &ClosingTx, fee: Amount, bounds: Bounds, turn: &mut Turn<'_>) {
        let signature = self.factory.signer.sign_funding_input(&closing.sighash(&self.factory.funding));
        turn.send(ClosingSigned {
            channel_id: self.terms.channel_id,
            fee_satoshis: fee,
            signature,
            fee_range: Some(FeeRange { min_fee_satoshis: bounds.minimum, max_fee_satoshis: bounds.maximum }),
        });
        if let Phase::Negotiating(negotiating) = &mut self.phase {
            negotiating.sent = Some(fee);
        }
    }

    fn closing_signed(&mut self, message: &ClosingSigned, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let fee = message.fee_satoshis;
        let negotiating = self.negotiating()?;
        let sides = &self.terms.sides;
        let dust_limit = sides.local.dust_limit.max(sides.remote.dust_limit);
        let input = ClosingInput { dust_limit, ..self.closing_input(negotiating, fee) };
        let closing = verify_closing(&input, &message.signature).ok_or(SignatureError::Closing)?;
        let (sent, previous) = (negotiating.sent, negotiating.received);
        let mut bounds = self.closing_bounds(turn)?;
        if let Phase::Negotiating(negotiating) = &mut self.phase {
            negotiating.received = Some(fee);
        }

        if sent == Some(fee) {
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
            let (theirs_min, theirs_max) = (range.min_fee_satoshis, range.max_fee_satoshis);
            let (min, max) = (bounds.minimum, bounds.maximum);
            return Err(Wrong::NoCommonClosingFee { theirs_min, theirs_max, min, max }.into());
        }
        match (self.terms.opener, sent) {
            // The funder has told its range: a fee outside of it is no answer. The fundee has chosen before.
            (Side::Local, Some(_)) | (Side::Remote, Some(_)) => Err(Wrong::ClosingFee(fee).into()),
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
                return Err(Wrong::ClosingFee(fee).into());
            }
        }
        let middle = Amount::from_sat(u64::midpoint(fee.to_sat(), sent.to_sat()));
        if middle == sent || middle == fee || !bounds.contains(middle) {
            return Err(Wrong::ClosingFee(fee).into());
        }
        self.sign_closing(middle, bounds, turn)
    }

    fn agreed(&mut self, closing: &ClosingTx, message: &ClosingSigned, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let local = self.factory.signer.sign_funding_input(&closing.sighash(&self.factory.funding));
        let signatures = FundingSignatures { local, remote: message.signature };
        let transaction = closing.signed(&self.factory.funding, &signatures);
        if let Phase::Negotiating(negotiating) = &mut self.phase {
            negotiating.agreed = Some(Agreed { fee: message.fee_satoshis, transaction: transaction.clone() });
        }
        turn.touched.state = true;
        turn.emit(Effect::Broadcast(transaction));
        turn.notice(Notice::ClosingSigned { transaction: closing.txid });
        Ok(())
    }

    /// After a reconnection: `shutdown` and, from the funder, a first fee.
    pub(super) fn negotiate_again(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let script = self.negotiating()?.local_script.clone();
        turn.send(Shutdown { channel_id: self.terms.channel_id, scriptpubkey: script });
        self.propose_closing_fee(turn)
    }
}
