//! The payment of one hash, with the channels between the two people under the test's control.
//!
//! ```text
//!   payer    Unpaid ─ pay ─► InFlight ─────────────────────────────────► Paid | Failed
//!   between                  ├─ on its way ─► (hangs | arrives)            ▲ news on its way, by force if need be
//!   payee    Open ───────────┴──────────────► Held ─► Settled | Canceled ──┘
//! ```
//!
//! Every HTLC has its own expiry. What is not taken by then is failed by force; a preimage that was given in time travels
//! for as long as the chain allows, which is [`RESOLVE_BLOCKS`](crate::swap::margins::RESOLVE_BLOCKS) after the payer's.

use crate::{
    margins::CLAIM_MARGIN,
    payment::incoming::Hold,
    swap::{
        margins,
        submarine::{Payment, Receipt},
    },
    types::{CltvExpiry, PaymentPreimage},
};

/// What a payment does on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Travel {
    /// Arrives when the chain is that many blocks higher.
    Arrives(u32),
    /// Comes back when the chain is that many blocks higher.
    Fails(u32),
    /// Stays with somebody on the way until the payer's HTLC is closed for.
    Hangs,
}

#[derive(Clone, Copy, Debug)]
struct Htlc {
    /// Of the payer's own.
    offered: u32,
    /// Of what the payee gets; only known once it is there.
    received: u32,
    /// The height at which it arrives.
    arrives: Option<u32>,
    /// The height at which the payer knows that it has failed.
    failed: Option<u32>,
    /// The height at which the payer has the preimage.
    paid: Option<(u32, PaymentPreimage)>,
}

impl Htlc {
    /// The payer knows then that it has failed; by force at the latest.
    fn fails(&mut self, at: u32) {
        self.failed.get_or_insert(at.min(self.offered + margins::RESOLVE_BLOCKS));
    }
}

pub struct Lightning {
    /// `min_final_cltv_expiry_delta` of the invoice.
    final_cltv: u32,
    /// For how long the payee's node holds what has come in.
    hold: Hold,
    htlc: Option<Htlc>,
    pub payment: Payment,
    pub receipt: Receipt,
    /// How often it was begun.
    pub begun: u32,
    /// How often it was taken.
    pub taken: u32,
    /// A preimage that was given for an HTLC that the payer can take back all the same.
    pub shown: Option<PaymentPreimage>,
    /// How news travels back.
    pub delay: u32,
}

impl Lightning {
    pub fn new(final_cltv: u32, hold: Hold) -> Self {
        let (payment, receipt) = (Payment::Unpaid, Receipt::Open);
        Self { final_cltv, hold, htlc: None, payment, receipt, begun: 0, taken: 0, shown: None, delay: 0 }
    }

    /// The payer's node begins, unless it has begun or has paid.
    pub fn pay(&mut self, tip: u32, route: u32, max_cltv: u32, travel: Travel) {
        if matches!(self.payment, Payment::InFlight | Payment::Paid(_)) {
            return;
        }
        let offered = tip + self.final_cltv + route;
        if self.final_cltv + route > max_cltv {
            self.payment = Payment::Failed;
            return;
        }
        self.begun += 1;
        self.payment = Payment::InFlight;
        let (arrives, failed) = match travel {
            Travel::Arrives(after) => (Some(tip + after), None),
            Travel::Fails(after) => (None, Some(tip + after)),
            Travel::Hangs => (None, None),
        };
        self.htlc = Some(Htlc { offered, received: offered - route, arrives, failed, paid: None });
    }

    /// The payee's node takes what is held.
    pub fn settle(&mut self, tip: u32, preimage: PaymentPreimage) {
        let (Receipt::Held(expiry), Some(htlc)) = (self.receipt, &mut self.htlc) else { return };
        if expiry.0 <= tip + self.hold.margin() {
            return;
        }
        if expiry.0 <= tip + CLAIM_MARGIN {
            // The payer, who may do what it likes, has the channel closed, and its timeout is in a block before the claim.
            self.receipt = Receipt::TakenBack;
            self.shown = Some(preimage);
            htlc.fails(tip + self.delay);
            return;
        }
        self.receipt = Receipt::Settled;
        self.taken += 1;
        htlc.paid = Some(((tip + self.delay).min(htlc.offered + margins::RESOLVE_BLOCKS), preimage));
    }

    /// The payee's node gives the invoice up.
    pub fn cancel(&mut self, tip: u32) {
        match self.receipt {
            Receipt::Open | Receipt::Held(_) => self.receipt = Receipt::Canceled,
            Receipt::Settled | Receipt::TakenBack | Receipt::Canceled => return,
        }
        if let Some(htlc) = self.htlc.as_mut().filter(|htlc| htlc.arrives.is_none() && htlc.paid.is_none()) {
            htlc.fails(tip + self.delay);
        }
    }

    /// The chain is this high now; `payee_is_there` if the payee's node looks at what it holds.
    pub fn advance(&mut self, tip: u32, payee_is_there: bool) {
        let is_held_too_long = matches!(self.receipt, Receipt::Held(expiry) if expiry.0 <= tip + self.hold.margin());
        if is_held_too_long && payee_is_there {
            self.cancel(tip);
        }
        let Some(htlc) = &mut self.htlc else { return };
        if htlc.arrives.is_some_and(|at| at <= tip) {
            htlc.arrives = None;
            let has_time = htlc.received > tip + CLAIM_MARGIN;
            match self.receipt {
                Receipt::Open if has_time => self.receipt = Receipt::Held(CltvExpiry(htlc.received)),
                Receipt::Open | Receipt::Held(_) | Receipt::Settled | Receipt::TakenBack | Receipt::Canceled => {
                    htlc.fails(tip + self.delay);
                }
            }
        }
        // By force, and the payee cannot take it any more either.
        if htlc.paid.is_none() && tip >= htlc.offered + margins::RESOLVE_BLOCKS {
            htlc.failed.get_or_insert(tip);
            htlc.arrives = None;
            if matches!(self.receipt, Receipt::Held(_)) {
                self.receipt = Receipt::Canceled;
            }
        }
        match (htlc.paid, htlc.failed) {
            (Some((at, preimage)), _) if at <= tip => self.payment = Payment::Paid(preimage),
            (None, Some(at)) if at <= tip => self.payment = Payment::Failed,
            _ => return,
        }
        self.htlc = None;
    }

    /// The payer's node knows how it ended.
    pub fn is_over(&self) -> bool {
        self.htlc.is_none()
    }
}
