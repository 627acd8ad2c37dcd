//! Our invoices and the HTLCs that pay them.
//!
//! ```text
//!            ┌── expires, or is cancelled ───────────────────────────┐
//!   Open ────┤                                                       ├──► Canceled
//!            │                       ┌── cancelled, or close to the ─┘
//!            │                       │   HTLCs' expiry
//!            ├── the whole amount ───► Accepted ── preimage told ────┐
//!            │   is here, no preimage                                ├──► Settled   (durable before any HTLC is
//!            └── the whole amount is here, preimage known ───────────┘               fulfilled)
//! ```
//!
//! An invoice without a preimage is held: its HTLCs wait until somebody tells it, or gives it up. A spontaneous payment
//! brings its own preimage and becomes an invoice that is settled from the start (bLIP 3).
//!
//! Promises:
//! * A preimage is released only for HTLCs that together pay at least what was asked, with the invoice's secret
//!   (BOLT 4, Payload for the Last Node), and only after the invoice is durably settled.
//! * Parts wait for one another, and are failed together with `mpp_timeout` if the rest does not come
//!   (BOLT 4, Basic Multi-Part Payments).
//! * An HTLC that is seen again after a restart gets the same answer; which HTLCs are held is durable.
//! * "Settled" says that the preimage is given for HTLCs that were ours to take, not that they were taken: of a closed
//!   channel the chain decides. What is taken back there is noted with the invoice, which is then not paid any more.
//! * HTLCs are not held so long that a channel would have to be closed for them.
//! * While the tip is in doubt no preimage is released, since what would be claimed with it may have expired: HTLCs
//!   wait, and whoever tells a preimage is refused. What was settled durably before is owed: its HTLCs are fulfilled
//!   at the latest when their channel would be closed for them by the known tip, and at once if it is closed.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::channel::{FailReason, IncomingHtlc, Key, Outbox, Settlement};
use crate::margins::CLAIM_MARGIN;
use crate::onion::{FailureMessage, ReceivePayload, SharedSecret, failure};
use crate::types::{ChannelId, Height, HtlcId, Msat, PaymentHash, PaymentPreimage, PaymentSecret, TipTrust, UnixTime};

use super::record;

mod invoice;
mod waiting;

use invoice::sum;
pub use invoice::{Accepted, Hold, Holder, Invoice, InvoiceState, PaidBy, Settled};
use waiting::Waiting;

/// How long parts of a payment wait for the rest, in seconds (BOLT 4 asks for at least 60).
pub const PART_TIMEOUT_SECONDS: u64 = 60;

/// What an invoice that nobody asked for says of its expiry, for the record.
const KEYSEND_EXPIRY_SECONDS: u64 = 3600;

/// An HTLC whose onion ends here.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The HTLC as its channel has it.
    pub htlc: IncomingHtlc,
    /// What the sender says to the recipient.
    pub payload: ReceivePayload,
    /// What failures to the sender are encrypted with.
    pub shared_secret: SharedSecret,
}

/// What the invoices may know of the world while they decide.
#[derive(Clone, Copy, Debug)]
pub struct InvoiceCtx {
    /// The clock.
    pub now: UnixTime,
    /// The height of the chain's tip.
    pub tip: Height,
    /// Whether the tip may be relied on.
    pub trust: TipTrust,
}

/// What the invoices ask their driver to do.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum InvoiceEffect {
    /// Hand the HTLC to [`Invoices::arrived`] again: it has waited for the tip.
    Decide(Box<Arrived>),
    /// Hand [`Event::Settle`](crate::channel::Event::Settle) to the channel.
    Settle { channel: ChannelId, id: HtlcId, settlement: Settlement },
    /// Tell whoever watches invoices.
    Updated(Box<Invoice>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum InvoiceError {
    #[error("there is an invoice for this payment hash already")]
    Exists,
    #[error("there is no open invoice with this payment hash")]
    NotOpen,
    #[error("nothing is held for this invoice: it has not been paid")]
    NotAccepted,
    #[error("what is held may have expired: it is not known how far the chain is")]
    TipInDoubt,
    #[error("what is held expires too soon to be claimed; it goes back to its payer")]
    TooLate,
}

/// Open invoices; those that are over live in the store alone.
#[derive(Debug, Default)]
pub struct Invoices {
    /// In order: what a tick does to them has one order, whatever process does it.
    open: BTreeMap<PaymentHash, Open>,
    /// What arrived while the tip was in doubt, in this order. In memory alone: the channels tell it again.
    waiting: Vec<Waiting>,
    last_index: u64,
    last_settle_index: u64,
    takes_keysend: bool,
}

#[derive(Debug)]
struct Open {
    invoice: Invoice,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    arrived: Arrived,
    at: UnixTime,
    height: Height,
}

impl Arrived {
    fn name(&self) -> (ChannelId, HtlcId) {
        (self.htlc.channel, self.htlc.id)
    }

    /// Whether it expires so soon, by the known tip, that its channel is about to be closed if its preimage is known.
    fn is_near_its_end(&self, tip: Height) -> bool {
        self.htlc.cltv_expiry.0 <= tip.0.saturating_add(CLAIM_MARGIN)
    }

    /// What the sender will send in all parts together; without `payment_data` there is one part.
    fn total(&self) -> Msat {
        self.payload.payment_data.as_ref().map_or(self.payload.amt_to_forward, |data| data.total_msat)
    }

    /// The preimage that a spontaneous payment of one part carries.
    fn brings_preimage(&self) -> Option<PaymentPreimage> {
        let preimage = self.payload.keysend_preimage?;
        (preimage.hash() == self.htlc.payment_hash && self.total() <= self.htlc.amount).then_some(preimage)
    }
}

impl Invoices {
    /// From the stored records, in any order. Without those that are over, [`super::start`] knows the last numbers.
    pub fn restore(records: impl IntoIterator<Item = Invoice>) -> Self {
        let mut invoices = Self::default();
        for invoice in records {
            invoices.last_index = invoices.last_index.max(invoice.index);
            match &invoice.state {
                InvoiceState::Open | InvoiceState::Accepted(_) => {
                    invoices.open.insert(invoice.payment_hash, Open { invoice, parts: Vec::new() });
                }
                InvoiceState::Settled(settled) => {
                    invoices.last_settle_index = invoices.last_settle_index.max(settled.index);
                }
                InvoiceState::Canceled => {}
            }
        }
        invoices
    }

    /// Takes payments that bring their own preimage from now on.
    pub fn taking_keysend(mut self, takes: bool) -> Self {
        self.takes_keysend = takes;
        self
    }

    /// Numbers up to this one were given, although the last of them may be over or forgotten.
    pub fn numbered_after(mut self, last: u64) -> Self {
        self.last_index = self.last_index.max(last);
        self
    }

    /// So many were settled before.
    pub(super) fn settled_after(mut self, last: u64) -> Self {
        self.last_settle_index = self.last_settle_index.max(last);
        self
    }

    /// Forgets an invoice that was canceled; its number is not given again.
    pub fn forget(&mut self, canceled: &Invoice) -> Outbox<InvoiceEffect> {
        let mut outbox = Outbox::default();
        // Another with the same hash may have been made since.
        if canceled.state == InvoiceState::Canceled && !self.open.contains_key(&canceled.payment_hash) {
            outbox.delete(Key::InvoiceIndex(canceled.payment_hash));
            outbox.delete(Key::Invoice(canceled.index));
        }
        outbox
    }

    /// The index that the next invoice will have.
    pub fn next_index(&self) -> u64 {
        self.last_index.saturating_add(1)
    }

    /// The invoice with this hash, if it can be paid or is held.
    pub fn open(&self, hash: &PaymentHash) -> Option<&Invoice> {
        self.open.get(hash).map(|open| &open.invoice)
    }

    /// How many can be paid or are held.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Adds an invoice; its index must be [`Self::next_index`].
    pub fn add(&mut self, invoice: Invoice) -> Result<Outbox<InvoiceEffect>, InvoiceError> {
        if self.open.contains_key(&invoice.payment_hash) {
            return Err(InvoiceError::Exists);
        }
        let mut outbox = Outbox::default();
        self.count(&invoice, &mut outbox);
        save(&mut outbox, &invoice);
        self.open.insert(invoice.payment_hash, Open { invoice, parts: Vec::new() });
        Ok(outbox)
    }

    /// Gives an invoice up that is not settled; HTLCs that have arrived are failed.
    pub fn cancel(&mut self, hash: &PaymentHash, height: Height) -> Result<Outbox<InvoiceEffect>, InvoiceError> {
        let mut outbox = Outbox::default();
        if self.give_up(hash, height, &mut outbox) { Ok(outbox) } else { Err(InvoiceError::NotOpen) }
    }

    /// Takes the HTLCs that are held for the hash of `preimage`.
    pub fn settle_held(
        &mut self,
        preimage: PaymentPreimage,
        ctx: &InvoiceCtx,
    ) -> Result<Outbox<InvoiceEffect>, InvoiceError> {
        let hash = preimage.hash();
        let Entry::Occupied(open) = self.open.entry(hash) else { return Err(InvoiceError::NotOpen) };
        let InvoiceState::Accepted(accepted) = &open.get().invoice.state else {
            return Err(InvoiceError::NotAccepted);
        };
        // What was paid elsewhere is paid, whether or not these HTLCs can still be had.
        if ctx.trust == TipTrust::InDoubt && open.get().invoice.holder.hold() == Hold::WhileSafe {
            return Err(InvoiceError::TipInDoubt);
        }
        if accepted.is_over(open.get().invoice.holder.hold(), ctx.tip) {
            // The next tick gives it up.
            return Err(InvoiceError::TooLate);
        }
        let htlcs = accepted.htlcs.clone();
        let open = open.remove();
        let mut outbox = Outbox::default();
        // Those that their channels have not told again since a restart are fulfilled when they come.
        self.settle(open, preimage, htlcs, ctx.now, &mut outbox);
        Ok(outbox)
    }

    /// An HTLC that paid an invoice was taken back on the chain. `stored` is the record of the invoice with its hash.
    /// Harmless to repeat.
    pub fn taken_back(&self, stored: Invoice, channel: ChannelId, id: HtlcId) -> Outbox<InvoiceEffect> {
        let mut outbox = Outbox::default();
        let InvoiceState::Settled(mut settled) = stored.state else { return outbox };
        let is_meant = |paid: &&mut PaidBy| paid.channel == channel && paid.htlc == id && !paid.taken_back;
        if let Some(paid) = settled.htlcs.iter_mut().find(is_meant) {
            paid.taken_back = true;
            save(&mut outbox, &Invoice { state: InvoiceState::Settled(settled), ..stored });
        }
        outbox
    }

    /// An HTLC is irrevocably committed and ours to take. `stored` is the record of an invoice with its hash that is not
    /// open any more.
    pub fn arrived(&mut self, arrived: Arrived, stored: Option<Invoice>, ctx: &InvoiceCtx) -> Outbox<InvoiceEffect> {
        let InvoiceCtx { now, tip: height, trust } = *ctx;
        let mut outbox = Outbox::default();
        let hash = arrived.htlc.payment_hash;
        let name = arrived.name();
        let is_new = |part: &Part| part.arrived.name() != name;
        if self.waiting.iter().any(|waiting| waiting.arrived.name() == name) {
            return outbox;
        }
        if let Some(Invoice { preimage: Some(preimage), state: InvoiceState::Settled(settled), .. }) = &stored {
            let known = settled.htlcs.iter().any(|paid| (paid.channel, paid.htlc) == name);
            let is_closed = arrived.htlc.must_fail == Some(FailReason::Closed);
            let must_claim = arrived.is_near_its_end(height) || is_closed;
            if known && trust == TipTrust::InDoubt && !must_claim {
                self.waiting.push(Waiting { arrived, since: now, is_owed: true });
            } else if known {
                fulfill(&mut outbox, &arrived, *preimage);
            } else {
                reject(&mut outbox, &arrived, &unknown(&arrived, height));
            }
            return outbox;
        }
        // Held before a restart: whatever has come closer meanwhile, it was taken.
        if let Some(open) = self.open.get_mut(&hash)
            && open.is_held(&arrived.htlc)
        {
            if open.parts.iter().all(is_new) {
                open.parts.push(Part { arrived, at: now, height });
            }
            return outbox;
        }
        if let Err(failure) = check_htlc(&arrived, height) {
            reject(&mut outbox, &arrived, &failure);
            return outbox;
        }
        if trust == TipTrust::InDoubt {
            self.waiting.push(Waiting { arrived, since: now, is_owed: false });
            return outbox;
        }
        if self.takes_keysend
            && stored.is_none()
            && !self.open.contains_key(&hash)
            && let Some(preimage) = arrived.brings_preimage()
        {
            self.spontaneous(arrived, preimage, now, height, &mut outbox);
            return outbox;
        }
        let mut entry = match self.open.entry(hash) {
            Entry::Occupied(entry) if entry.get().accepts(&arrived, now, height) => entry,
            Entry::Occupied(_) | Entry::Vacant(_) => {
                reject(&mut outbox, &arrived, &unknown(&arrived, height));
                return outbox;
            }
        };
        let open = entry.get_mut();
        if open.parts.iter().all(is_new) {
            open.parts.push(Part { arrived, at: now, height });
        }
        if !open.is_whole() {
            return outbox;
        }
        // Blocks may have come while the first parts waited for the last.
        if open.parts.iter().any(|part| check_htlc(&part.arrived, height).is_err()) {
            for part in open.parts.drain(..) {
                reject(&mut outbox, &part.arrived, &FailureMessage::MppTimeout);
            }
            return outbox;
        }
        let htlcs: Vec<PaidBy> = open.parts.iter().map(PaidBy::from).collect();
        match open.invoice.preimage {
            Some(preimage) => {
                let open = entry.remove();
                self.settle(open, preimage, htlcs, now, &mut outbox);
            }
            None => {
                open.invoice.state = InvoiceState::Accepted(Accepted { at: now, amount: sum(&htlcs), htlcs });
                save(&mut outbox, &open.invoice);
            }
        }
        outbox
    }

    /// A payment that nobody asked for and that brings its preimage, in one part: an invoice, settled at once.
    fn spontaneous(
        &mut self,
        arrived: Arrived,
        preimage: PaymentPreimage,
        now: UnixTime,
        height: Height,
        outbox: &mut Outbox<InvoiceEffect>,
    ) {
        let part = Part { arrived, at: now, height };
        let secret = part.arrived.payload.payment_data.as_ref().map(|data| data.payment_secret);
        let invoice = Invoice {
            index: self.next_index(),
            payment_hash: part.arrived.htlc.payment_hash,
            preimage: Some(preimage),
            payment_secret: secret.unwrap_or(PaymentSecret([0; 32])),
            amount: Some(part.arrived.htlc.amount),
            memo: String::new(),
            bolt11: String::new(),
            created: now,
            expiry_seconds: KEYSEND_EXPIRY_SECONDS,
            min_final_cltv_expiry_delta: CLAIM_MARGIN,
            keysend: true,
            holder: Holder::Person,
            state: InvoiceState::Open,
        };
        self.count(&invoice, outbox);
        let htlcs = vec![PaidBy::from(&part)];
        self.settle(Open { invoice, parts: vec![part] }, preimage, htlcs, now, outbox);
    }

    /// The time goes on: parts that wait too long are failed, invoices that nobody paid expire.
    pub fn tick(&mut self, ctx: &InvoiceCtx) -> Outbox<InvoiceEffect> {
        let InvoiceCtx { now, tip: height, .. } = *ctx;
        let mut outbox = Outbox::default();
        self.look_at_waiting(ctx, &mut outbox);
        let mut over = Vec::new();
        for (hash, open) in &mut self.open {
            if let InvoiceState::Accepted(accepted) = &open.invoice.state {
                if accepted.is_over(open.invoice.holder.hold(), height) {
                    over.push(*hash);
                }
                continue;
            }
            let late = open.parts.iter().any(|part| now.0 >= part.at.0.saturating_add(PART_TIMEOUT_SECONDS));
            let close_to_expiry = open.parts.iter().any(|part| check_htlc(&part.arrived, height).is_err());
            if late || close_to_expiry {
                for part in open.parts.drain(..) {
                    reject(&mut outbox, &part.arrived, &FailureMessage::MppTimeout);
                }
            }
            if open.parts.is_empty() && now > open.invoice.expires() {
                over.push(*hash);
            }
        }
        for hash in over {
            self.give_up(&hash, height, &mut outbox);
        }
        outbox
    }

    /// Notes a new invoice's number; the invoice itself is not saved yet.
    fn count(&mut self, invoice: &Invoice, outbox: &mut Outbox<InvoiceEffect>) {
        outbox.put(Key::InvoiceIndex(invoice.payment_hash), invoice.index.to_be_bytes().to_vec());
        self.last_index = self.last_index.max(invoice.index);
    }

    /// False if the invoice is not open.
    fn give_up(&mut self, hash: &PaymentHash, height: Height, outbox: &mut Outbox<InvoiceEffect>) -> bool {
        let Some(open) = self.open.remove(hash) else { return false };
        for part in &open.parts {
            reject(outbox, &part.arrived, &unknown(&part.arrived, height));
        }
        save(outbox, &Invoice { state: InvoiceState::Canceled, ..open.invoice });
        true
    }

    /// Ends an invoice that is not open any more.
    fn settle(
        &mut self,
        open: Open,
        preimage: PaymentPreimage,
        htlcs: Vec<PaidBy>,
        now: UnixTime,
        outbox: &mut Outbox<InvoiceEffect>,
    ) {
        self.last_settle_index = self.last_settle_index.saturating_add(1);
        let settled = Settled { index: self.last_settle_index, at: now, amount: sum(&htlcs), htlcs };
        let invoice = Invoice { preimage: Some(preimage), state: InvoiceState::Settled(settled), ..open.invoice };
        for part in &open.parts {
            fulfill(outbox, &part.arrived, preimage);
        }
        outbox.put(Key::LastSettled, self.last_settle_index.to_be_bytes().to_vec());
        save(outbox, &invoice);
    }
}

impl Open {
    /// BOLT 4, Payload for the Last Node: the secret must match, the total must be enough and at most twice what was
    /// asked, and all parts must name one total.
    fn accepts(&self, arrived: &Arrived, now: UnixTime, height: Height) -> bool {
        let invoice = &self.invoice;
        // What is held is whole already.
        let is_open = invoice.state == InvoiceState::Open;
        let total = arrived.total();
        let enough = invoice.amount.is_none_or(|asked| total >= asked && total.0 <= asked.0.saturating_mul(2));
        let one_total = self.parts.iter().all(|part| part.arrived.total() == total);
        let secret = arrived.payload.payment_data.as_ref().map(|data| data.payment_secret);
        let in_time = arrived.htlc.cltv_expiry.0 >= height.0.saturating_add(invoice.min_final_cltv_expiry_delta);
        is_open && secret == Some(invoice.payment_secret) && enough && one_total && in_time && now <= invoice.expires()
    }

    fn is_held(&self, htlc: &IncomingHtlc) -> bool {
        match &self.invoice.state {
            InvoiceState::Accepted(accepted) => {
                accepted.htlcs.iter().any(|held| held.channel == htlc.channel && held.htlc == htlc.id)
            }
            InvoiceState::Open | InvoiceState::Settled(_) | InvoiceState::Canceled => false,
        }
    }

    fn is_whole(&self) -> bool {
        let here = self.parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.arrived.htlc.amount.0));
        self.parts.first().is_some_and(|part| here >= part.arrived.total().0)
    }
}

impl From<&Part> for PaidBy {
    fn from(part: &Part) -> Self {
        let htlc = &part.arrived.htlc;
        Self {
            channel: htlc.channel,
            htlc: htlc.id,
            amount: htlc.amount,
            cltv_expiry: htlc.cltv_expiry,
            at: part.at,
            height: part.height,
            custom_records: part.arrived.payload.custom_records.clone(),
            taken_back: false,
        }
    }
}

/// BOLT 4: what was promised to the last hop must be what arrived, and there must be time to claim it.
fn check_htlc(arrived: &Arrived, height: Height) -> Result<(), FailureMessage> {
    let (htlc, payload) = (&arrived.htlc, &arrived.payload);
    if htlc.must_fail.is_some() {
        return Err(FailureMessage::TemporaryNodeFailure);
    }
    if htlc.amount < payload.amt_to_forward {
        return Err(FailureMessage::FinalIncorrectHtlcAmount { incoming_htlc_amt: htlc.amount });
    }
    if htlc.cltv_expiry < payload.outgoing_cltv_value {
        return Err(FailureMessage::FinalIncorrectCltvExpiry { cltv_expiry: htlc.cltv_expiry });
    }
    if htlc.cltv_expiry.0 <= height.0.saturating_add(CLAIM_MARGIN) {
        return Err(unknown(arrived, height));
    }
    Ok(())
}

fn unknown(arrived: &Arrived, height: Height) -> FailureMessage {
    FailureMessage::IncorrectOrUnknownPaymentDetails { htlc_msat: arrived.htlc.amount, height }
}

fn fulfill(outbox: &mut Outbox<InvoiceEffect>, arrived: &Arrived, preimage: PaymentPreimage) {
    outbox.emit(InvoiceEffect::Settle {
        channel: arrived.htlc.channel,
        id: arrived.htlc.id,
        settlement: Settlement::Fulfill(preimage),
    });
}

fn reject(outbox: &mut Outbox<InvoiceEffect>, arrived: &Arrived, failure: &FailureMessage) {
    outbox.emit(InvoiceEffect::Settle {
        channel: arrived.htlc.channel,
        id: arrived.htlc.id,
        settlement: Settlement::Fail { reason: failure::build(&arrived.shared_secret, failure) },
    });
}

/// An invoice that is not over is named as such with its record: a start looks for no other.
fn save(outbox: &mut Outbox<InvoiceEffect>, invoice: &Invoice) {
    outbox.put(Key::Invoice(invoice.index), record::encode_invoice(invoice));
    let name = Key::OpenInvoice(invoice.index);
    match invoice.state {
        InvoiceState::Open | InvoiceState::Accepted(_) => outbox.put(name, Vec::new()),
        InvoiceState::Settled(_) | InvoiceState::Canceled => outbox.delete(name),
    }
    outbox.emit(InvoiceEffect::Updated(Box::new(invoice.clone())));
}
