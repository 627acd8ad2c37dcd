//! Why channels end, in words: noted when it is decided, told with the channel until nobody asks any more.

use bitcoin::OutPoint;
use leyden_channels::{
    channel::{FundingSpend, Notice, ProtocolViolation, Severity, SpendKind, StateName},
    onchain::Closer,
    types::{ChannelId, Side},
};
use tracing::warn;

use super::peer::Peer;
use crate::{store::CloseCause, words::said};

impl Peer {
    /// Takes note of why a channel begins to close. The latest decision is what counts.
    pub(super) fn note_cause(&self, id: ChannelId, by: Side, words: impl Into<String>) {
        let funding = self.slots.get(&id).and_then(|slot| slot.channel.terms()).map(|terms| terms.funding);
        let Some(funding) = funding else { return };
        if let Err(error) = self.services.store.put_cause(&funding, &CloseCause { by, words: words.into() }) {
            warn!(channel = %self.point(&id), %error, "the reason for closing this channel could not be stored");
        }
    }

    /// The user wants to close alone; nothing is noted if the channel is closing already.
    pub(super) fn note_force_close(&self, id: ChannelId) {
        let spend = self.slots.get(&id).and_then(|slot| slot.channel.summary()).and_then(|summary| summary.spend);
        if matches!(spend, Some(FundingSpend { kind: SpendKind::Mutual, height: None, .. })) {
            let words = "this node's user closed it without the peer, because what both had signed did not confirm";
            return self.note_cause(id, Side::Local, words);
        }
        let state = self.slots.get(&id).map(|slot| slot.channel.state_name());
        let can_close = matches!(
            state,
            Some(
                StateName::Funding
                    | StateName::Ready
                    | StateName::Normal
                    | StateName::Shutdown
                    | StateName::Negotiating
            )
        );
        if can_close {
            self.note_cause(id, Side::Local, "this node's user closed it without the peer");
        }
    }

    /// What the news of a channel say about why it closes.
    pub(super) fn note_cause_in(&self, id: ChannelId, notice: &Notice) {
        match notice {
            Notice::ProtocolViolation(violation) if violation.severity() == Severity::Fail => {
                self.note_cause(id, Side::Local, words_of(violation));
            }
            Notice::StateChanged { from: StateName::Funding | StateName::Ready | StateName::Normal, to }
                if *to == StateName::Shutdown =>
            {
                let ours = self.slots.get(&id).is_some_and(|slot| slot.wish_to_close);
                match ours {
                    true => self.note_cause(id, Side::Local, "this node's user asked the peer to close it together"),
                    false => self.note_cause(id, Side::Remote, "the peer asked to close it together"),
                }
            }
            Notice::DataLoss => {
                self.note_cause(
                    id,
                    Side::Local,
                    "our data was older than the peer's, so the peer was asked to close it",
                );
            }
            _ => {}
        }
    }

    /// Why a channel closes or has closed, as far as that was noted.
    pub(super) fn cause(&self, funding: &OutPoint) -> Option<CloseCause> {
        self.services.store.cause(funding).unwrap_or_else(|error| {
            warn!(%funding, %error, "the reason for closing this channel cannot be read");
            None
        })
    }
}

fn words_of(violation: &ProtocolViolation) -> String {
    match violation {
        ProtocolViolation::PeerFailed(text) => format!("the peer said that the channel has failed: {}", said(text)),
        ProtocolViolation::HtlcDeadline { .. } => format!("a payment had to be enforced on the chain: {violation}"),
        ProtocolViolation::PeerHasNothing | ProtocolViolation::ClosingStuck => violation.to_string(),
        ProtocolViolation::FundingTooLate(_) => violation.to_string(),
        _ => format!("the peer broke a rule: {violation}"),
    }
}

/// The whole reason, once it is known who closed.
pub(crate) fn reason(closer: Option<&Closer>, cause: Option<&CloseCause>) -> String {
    let ours = cause.filter(|cause| cause.by == Side::Local).map(|cause| cause.words.as_str());
    match (closer, cause) {
        (Some(Closer::Revoked { number, .. }), _) => {
            format!("the peer published state {}, which it had revoked: its outputs are taken as a penalty", number.0)
        }
        (Some(Closer::RemoteFuture { .. }), Some(cause)) => cause.words.clone(),
        (Some(Closer::RemoteFuture { .. }), None) => "the peer closed with a state that we have lost".to_owned(),
        (Some(Closer::LocalOld { number }), _) => {
            format!("an old state of our own ({}) was published, by a copy of our data", number.0)
        }
        (Some(Closer::Unknown), _) => "unknown spend: its funding output was spent by a transaction that we never signed, so its keys may have leaked"
            .to_owned(),
        (Some(Closer::Remote { .. }), _) => match ours {
            Some(words) => format!("the peer closed it alone, after we had begun to: {words}"),
            None => "the peer closed it alone".to_owned(),
        },
        (Some(Closer::Local(_) | Closer::Mutual) | None, Some(cause)) => cause.words.clone(),
        (Some(Closer::Local(_)), None) => "this node closed it alone".to_owned(),
        (Some(Closer::Mutual), None) => "both nodes closed it together".to_owned(),
        (None, None) => "it is closing".to_owned(),
    }
}
