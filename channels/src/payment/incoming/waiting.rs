//! HTLCs that end here and arrived while the tip was in doubt.
//!
//! ```text
//!   arrived, tip in doubt ──► Waiting ──┬── the tip is current ──► decided, by the new height
//!                                       ├── too long, or close to its expiry ──► failed, if nothing is owed for it
//!                                       └── its channel closes ──► dropped; claimed, if it is owed to us
//! ```

use crate::channel::{FailReason, Outbox};
use crate::margins::WAIT_FOR_TIP_SECONDS;
use crate::onion::FailureMessage;
use crate::types::{ChannelId, TipTrust, UnixTime};

use super::{Arrived, InvoiceCtx, InvoiceEffect, Invoices, reject};

#[derive(Debug)]
pub(super) struct Waiting {
    pub arrived: Arrived,
    pub since: UnixTime,
    /// Its invoice was settled with it before a restart.
    pub is_owed: bool,
}

impl Invoices {
    /// A channel has been closed by one side. What waits in it is the chain's to return, except what is owed.
    pub fn channel_closed(&mut self, channel: &ChannelId) -> Outbox<InvoiceEffect> {
        let mut outbox = Outbox::default();
        for waiting in self.waiting.extract_if(.., |waiting| waiting.arrived.htlc.channel == *channel) {
            if waiting.is_owed {
                let mut arrived = waiting.arrived;
                arrived.htlc.must_fail = Some(FailReason::Closed);
                outbox.emit(InvoiceEffect::Decide(Box::new(arrived)));
            }
        }
        outbox
    }

    /// What waits for the tip is decided once that is known, and else failed in time.
    pub(super) fn look_at_waiting(&mut self, ctx: &InvoiceCtx, outbox: &mut Outbox<InvoiceEffect>) {
        let InvoiceCtx { now, tip, trust } = *ctx;
        let is_over = |waiting: &Waiting| {
            let near = waiting.arrived.is_near_its_end(tip);
            match (trust, waiting.is_owed) {
                (TipTrust::Current, _) => true,
                (TipTrust::InDoubt, true) => near,
                (TipTrust::InDoubt, false) => near || now.0.saturating_sub(waiting.since.0) >= WAIT_FOR_TIP_SECONDS,
            }
        };
        for Waiting { arrived, is_owed, .. } in self.waiting.extract_if(.., |waiting| is_over(waiting)) {
            if trust == TipTrust::InDoubt && !is_owed {
                // Nothing was given for it: failing it is safe, whatever the chain has come to.
                reject(outbox, &arrived, &FailureMessage::TemporaryNodeFailure);
            } else {
                outbox.emit(InvoiceEffect::Decide(Box::new(arrived)));
            }
        }
    }
}
