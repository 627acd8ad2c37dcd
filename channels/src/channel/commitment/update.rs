//! Single updates: ours, checked before they are sent, and the peer's, checked when they arrive.

use super::changes::Update;
use super::limits::{self, CannotAdd};
use super::spec::{Htlc, HtlcKey};
use super::{Commitments, HtlcDetails};
use crate::channel::error::{Fault, Invariant, ProtocolViolation};
use crate::channel::event::AddHtlc;
use crate::channel::exposure::{Admission, Exposure};
use crate::channel::params::{ChannelPolicy, Feerates};
use crate::channel::terms::Terms;
use crate::types::{ChannelId, FeeratePerKw, HtlcId, PaymentPreimage, Side};
use crate::wire::{Message, UpdateAddHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc, UpdateFee, UpdateFulfillHtlc};

/// The bit that every failure code of `update_fail_malformed_htlc` has.
const BADONION: u16 = 0x8000;

/// How an HTLC is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HtlcRemoval {
    Fulfill(PaymentPreimage),
    Fail { reason: Vec<u8> },
    FailMalformed { sha256_of_onion: [u8; 32], failure_code: u16 },
}

impl HtlcRemoval {
    fn into_update(self, id: HtlcId) -> Update {
        match self {
            Self::Fulfill(preimage) => Update::Fulfill { id, preimage },
            Self::Fail { reason } => Update::Fail { id, reason },
            Self::FailMalformed { sha256_of_onion, failure_code } => {
                Update::FailMalformed { id, sha256_of_onion, failure_code }
            }
        }
    }
}

impl Commitments {
    /// Proposes an HTLC of ours. The inner error is a refusal; nothing has changed then.
    pub(crate) fn offer_add(
        &mut self,
        add: &AddHtlc,
        terms: &Terms,
        mut admission: Admission,
    ) -> Result<Result<Message, CannotAdd>, Invariant> {
        if let Err(refused) = limits::check_htlc_alone(add.amount, add.cltv_expiry, terms) {
            return Ok(Err(refused));
        }
        let htlc = Htlc {
            offered_by: Side::Local,
            id: self.next_id.local,
            amount: add.amount,
            payment_hash: add.payment_hash,
            cltv_expiry: add.cltv_expiry,
        };
        let details = HtlcDetails {
            htlc,
            origin: Some(add.origin),
            onion: Some(add.onion.clone()),
            path_key: add.path_key,
            first_remote: None,
            preimage_told: false,
            must_fail: false,
        };
        let message = add_message(terms.channel_id, &htlc, &details)?;
        let next_id = next(htlc.id)?;
        let mut view = self.take_view(Side::Remote)?;
        let offered = view.offer(htlc, terms, |htlc| {
            let over = |Exposure { now: exposure, limit: maximum }| CannotAdd::DustExposure { maximum, exposure };
            admission.admit(htlc).map_err(over)
        })?;
        if offered.is_ok() {
            self.details.insert(htlc.key(), details);
            self.local_changes.proposed.push(Update::Add(htlc));
            self.next_id.local = next_id;
        }
        self.keep_view(Side::Remote, view);
        Ok(offered.map(|()| message))
    }

    /// Proposes to remove an HTLC of the peer. `None`, and nothing changes, if it is not there, not irrevocably
    /// committed, or being removed already.
    pub(crate) fn settle(&mut self, id: HtlcId, settle: HtlcRemoval, channel_id: ChannelId) -> Option<Message> {
        if !self.is_removable(HtlcKey { offered_by: Side::Remote, id }) {
            return None;
        }
        let update = settle.into_update(id);
        let message = removal_message(channel_id, &update);
        self.local_changes.proposed.push(update);
        message
    }

    /// Whether we are the opener, can pay this fee rate, and lose no HTLCs to it.
    pub(crate) fn can_offer_fee(
        &self,
        feerate: FeeratePerKw,
        terms: &Terms,
        feerates: &Feerates,
        policy: &ChannelPolicy,
    ) -> Result<bool, Invariant> {
        let view = self.remote_view(Some(&Update::Fee(feerate)))?;
        let sane = feerate >= feerates.minimum && feerate <= feerates.maximum;
        Ok(sane
            && terms.opener == Side::Local
            && limits::can_offer_fee(&view, terms)
            && self.overexposed_by_fee(feerate, terms, feerates, policy).is_none())
    }

    /// Proposes a fee rate, if it can be. `None`, and nothing changes, otherwise.
    pub(crate) fn offer_fee(
        &mut self,
        feerate: FeeratePerKw,
        terms: &Terms,
        feerates: &Feerates,
        policy: &ChannelPolicy,
    ) -> Result<Option<Message>, Invariant> {
        if !self.can_offer_fee(feerate, terms, feerates, policy)? {
            return Ok(None);
        }
        let update = Update::Fee(feerate);
        // A later fee replaces an earlier one of the same commitment, but both have been sent: both stay listed.
        self.local_changes.proposed.push(update);
        Ok(Some(UpdateFee { channel_id: terms.channel_id, feerate_per_kw: feerate }.into()))
    }

    pub(crate) fn receive_add(&mut self, message: UpdateAddHtlc, terms: &Terms) -> Result<(), Fault> {
        let expected = self.next_id.remote;
        if message.id != expected {
            return Err(ProtocolViolation::HtlcIdOutOfOrder { expected, got: message.id }.into());
        }
        limits::check_received_alone(message.amount_msat, message.cltv_expiry, terms)?;
        let htlc = Htlc {
            offered_by: Side::Remote,
            id: message.id,
            amount: message.amount_msat,
            payment_hash: message.payment_hash,
            cltv_expiry: message.cltv_expiry,
        };
        let next_id = next(htlc.id)?;
        let mut view = self.take_view(Side::Local)?;
        view.receive(htlc, terms)??;
        let details = HtlcDetails {
            htlc,
            origin: None,
            onion: Some(message.onion_routing_packet),
            path_key: message.path_key,
            first_remote: None,
            preimage_told: false,
            must_fail: false,
        };
        self.next_id.remote = next_id;
        self.details.insert(htlc.key(), details);
        self.remote_changes.proposed.push(Update::Add(htlc));
        self.keep_view(Side::Local, view);
        Ok(())
    }

    /// The peer removes an HTLC of ours; the HTLC that it removes.
    pub(crate) fn receive_removal(&mut self, id: HtlcId, settle: HtlcRemoval) -> Result<Htlc, Fault> {
        let key = HtlcKey { offered_by: Side::Local, id };
        let htlc = *self.local.spec.htlc(key).ok_or(ProtocolViolation::UnknownHtlc(id))?;
        if !self.is_removable(key) {
            return Err(ProtocolViolation::UnknownHtlc(id).into());
        }
        match &settle {
            HtlcRemoval::Fulfill(preimage) if preimage.hash() != htlc.payment_hash => {
                return Err(ProtocolViolation::WrongPreimage(id).into());
            }
            HtlcRemoval::FailMalformed { failure_code, .. } if failure_code & BADONION == 0 => {
                return Err(ProtocolViolation::MissingBadOnion(*failure_code).into());
            }
            HtlcRemoval::Fulfill(_) | HtlcRemoval::Fail { .. } | HtlcRemoval::FailMalformed { .. } => {}
        }
        if let (HtlcRemoval::Fulfill(_), Some(details)) = (&settle, self.details.get_mut(&key)) {
            details.preimage_told = true;
        }
        self.remote_changes.proposed.push(settle.into_update(id));
        Ok(htlc)
    }

    pub(crate) fn receive_fee(
        &mut self,
        feerate: FeeratePerKw,
        terms: &Terms,
        feerates: &Feerates,
        policy: &ChannelPolicy,
    ) -> Result<(), Fault> {
        if terms.opener != Side::Remote {
            return Err(ProtocolViolation::FeeFromFundee.into());
        }
        let (minimum, maximum) = (feerates.minimum, feerates.maximum);
        if feerate < minimum || feerate > maximum {
            return Err(ProtocolViolation::FeerateOutOfBounds { minimum, maximum, got: feerate }.into());
        }
        let update = Update::Fee(feerate);
        let view = self.local_view(Some(&update))?;
        limits::check_receive_fee(&view, terms)?;
        if let Some(Exposure { now: exposure, limit }) = self.overexposed_by_fee(feerate, terms, feerates, policy) {
            return Err(ProtocolViolation::FeeOverexposes { feerate, exposure, limit }.into());
        }
        // The last one counts; a peer that repeats itself shall not fill our memory.
        self.views.local = None;
        self.remote_changes.proposed.retain(|update| !matches!(update, Update::Fee(_)));
        self.remote_changes.proposed.push(update);
        Ok(())
    }

    /// The message that `update` was or will be sent as.
    pub(crate) fn message_of(&self, update: &Update, channel_id: ChannelId) -> Result<Message, Invariant> {
        match update {
            Update::Add(htlc) => {
                let details = self.details.get(&htlc.key()).ok_or(Invariant::DetailsMissing(htlc.key()))?;
                add_message(channel_id, htlc, details)
            }
            Update::Fee(feerate) => Ok(UpdateFee { channel_id, feerate_per_kw: *feerate }.into()),
            Update::Fulfill { .. } | Update::Fail { .. } | Update::FailMalformed { .. } => {
                removal_message(channel_id, update).ok_or(Invariant::WrongState("a removal"))
            }
        }
    }
}

fn add_message(channel_id: ChannelId, htlc: &Htlc, details: &HtlcDetails) -> Result<Message, Invariant> {
    Ok(UpdateAddHtlc {
        channel_id,
        id: htlc.id,
        amount_msat: htlc.amount,
        payment_hash: htlc.payment_hash,
        cltv_expiry: htlc.cltv_expiry,
        onion_routing_packet: details.onion.clone().ok_or(Invariant::DetailsMissing(htlc.key()))?,
        path_key: details.path_key,
    }
    .into())
}

fn removal_message(channel_id: ChannelId, update: &Update) -> Option<Message> {
    match update {
        Update::Fulfill { id, preimage } => {
            Some(UpdateFulfillHtlc { channel_id, id: *id, payment_preimage: *preimage }.into())
        }
        Update::Fail { id, reason } => Some(UpdateFailHtlc { channel_id, id: *id, reason: reason.clone() }.into()),
        Update::FailMalformed { id, sha256_of_onion, failure_code } => Some(
            UpdateFailMalformedHtlc {
                channel_id,
                id: *id,
                sha256_of_onion: *sha256_of_onion,
                failure_code: *failure_code,
            }
            .into(),
        ),
        Update::Add(_) | Update::Fee(_) => None,
    }
}

fn next(id: HtlcId) -> Result<HtlcId, Invariant> {
    id.0.checked_add(1).map(HtlcId).ok_or(Invariant::Overflow)
}
