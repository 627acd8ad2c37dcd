//! The task that owns all submarine swaps: the machines of `leyden_channels::swap::submarine` between this daemon's chain and
//! wallet, its payments and its invoices.
//!
//! ```text
//!   calls ────────────────► mailbox ─┐                             ┌─► commit ─► effects: fund, broadcast, pay, settle, …
//!   chain and wallet ────────────────┼─► task: Submarine::handle ──┤
//!   payments, invoices: as stored ───┘                             └─► news for whoever listens
//! ```
//!
//! How the payment of a hash stands is asked before anything else at each look: at a start that is its fate meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use bitcoin::{Amount, Transaction};
use leyden_channels::{
    payment::{
        self, Description, HintHop, InvoiceRequest,
        incoming::{self, InvoiceState},
        outgoing::{PaymentLimits, PaymentRequest, PaymentState},
    },
    swap::{
        BlockSeen, Refusal, Role, Start, SwapKeys as _, Tip, margins,
        submarine::{
            Bargain, Ctx, Direction, Effect, Event, Lightning, Offer, Payment, Receipt, Request, Submarine,
            SubmarineOutbox,
        },
    },
    types::{CltvExpiry, Height, Msat, PaymentHash, PaymentSecret, UnixTime},
    wire::Feature,
};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    AcceptSubmarine, BlockClock, LegBlock, LegError, LegStatus, OwnLeg, QuoteSubmarine, SubmarineCall, SubmarineFacts,
    SubmarineTerms, SwapInfo, SwapLeg, SwapOrder, SwapRefused,
    book::{Book, Desk, Ways, run},
    leg::{Doubt, away, back_to, measured_pace, own_lock},
    refused,
};
use crate::{driver::services::Services, store::StoreError};

/// Parts of a payment at most, if the recipient takes several.
const MAX_PARTS: u64 = 16;
/// A part is on average at least so many times what is worth a claim on the chain: of smaller ones it is known only days after
/// their expiry what has become of them, and the coins may have gone back by then.
const WORTH_A_PART: u64 = 8;
/// What the payer reads in the invoice.
const MEMO: &str = "submarine swap";

pub(super) struct SubmarineTask {
    pub(super) mailbox: mpsc::Receiver<SubmarineCall>,
    pub(super) ways: Ways,
}

impl SubmarineTask {
    /// Runs until the daemon ends. `fatal` ends it when the disk does not take what must be kept.
    pub(super) async fn run(
        self,
        services: Arc<Services>,
        swaps: BTreeMap<PaymentHash, Submarine>,
        fatal: mpsc::UnboundedSender<String>,
    ) {
        let Self { mailbox, ways } = self;
        let chain = OwnLeg(Arc::clone(&services));
        let book = Book::new(services, swaps, ways);
        run(SubmarineDesk { book, chain, status: None, doubt: Doubt::default() }, mailbox, fatal).await;
    }
}

/// All submarine swaps, and what is known of the chain.
struct SubmarineDesk {
    book: Book<Submarine>,
    chain: OwnLeg,
    status: Option<LegStatus>,
    /// Since when the tip has been in doubt.
    doubt: Doubt,
}

/// A swap that is about to begin.
type Made = Result<(Submarine, SubmarineOutbox), SwapRefused>;

impl Desk for SubmarineDesk {
    type Call = SubmarineCall;

    async fn answer(&mut self, call: SubmarineCall) -> Result<(), StoreError> {
        match call {
            SubmarineCall::Quote(request, hints, answer) => {
                let made = self.quote(&request, hints).await;
                let _ = answer.send(self.begin(made).await?);
            }
            SubmarineCall::Accept(request, hints, answer) => {
                let made = self.accept(*request, hints).await;
                let _ = answer.send(self.begin(made).await?);
            }
            SubmarineCall::Recover(row, answer) => {
                let _ = answer.send(self.book.recover(&row).await?);
            }
            SubmarineCall::Initiate(acceptance, answer) => {
                let is_of =
                    |swap: &&Submarine| swap.offer().digest() == acceptance.offer && swap.role() == Role::Initiator;
                let id = self.book.swaps.values().find(is_of).map(Submarine::id);
                let _ = answer.send(self.order(id, Event::Initiate(acceptance)).await?);
            }
            SubmarineCall::Order(id, order, answer) => {
                let done = match order {
                    SwapOrder::Cancel => self.order(Some(id), Event::Cancel).await?,
                    SwapOrder::Participate | SwapOrder::Redeem(_) | SwapOrder::Refund
                        if self.book.swaps.contains_key(&id) =>
                    {
                        Err(SwapRefused::ByItself)
                    }
                    SwapOrder::Participate | SwapOrder::Redeem(_) | SwapOrder::Refund => Err(SwapRefused::Unknown),
                };
                let _ = answer.send(done);
            }
            SubmarineCall::List(answer) => {
                let all = self.book.swaps.values().map(|swap| self.info(swap)).collect();
                let _ = answer.send(Ok(all));
            }
        }
        Ok(())
    }

    async fn look(&mut self, repeats: bool) -> Result<(), StoreError> {
        let followed = self.book.followed();
        let mut trouble = None;
        if !followed.is_empty() {
            self.status = self.chain.status().await.map_err(|error| trouble = Some(error.0)).ok();
            trouble = trouble.or(self.doubt.of(&self.status));
        }
        for id in followed {
            // Before anything is decided without it.
            self.look_for_own_lock(id, repeats).await?;
            self.hear_of_payment(id).await?;
            let has_moved = match self.follow(id).await? {
                Ok(moved) => moved,
                Err(LegError(error)) => {
                    trouble = Some(error);
                    false
                }
            };
            if has_moved || repeats {
                self.handle_or_log(id, Event::Tick).await?;
            }
        }
        self.book.note_needs();
        self.book.note_trouble(trouble);
        Ok(())
    }
}

impl SubmarineDesk {
    async fn quote(&mut self, request: &QuoteSubmarine, hints: Vec<Vec<HintHop>>) -> Made {
        let status = self.now().await?;
        let QuoteSubmarine { direction, coins, payment, terms, refund_blocks } = *request;
        let bargain = Bargain { direction, coins, payment, chain: status.chain, refund_blocks };
        let request = self.request(terms, &status).await?;
        let hash = self.book.services.keys.secret(&request.nonce).hash();
        let invoice = match direction {
            Direction::In => {
                let seconds = invoice_seconds(bargain.blocks(terms.depth), status.chain.spacing);
                Some(self.invoice(direction, hash, payment, bargain.final_cltv(terms.depth), seconds, hints)?)
            }
            Direction::Out => None,
        };
        let text = invoice.as_ref().map(|invoice| invoice.bolt11.clone()).unwrap_or_default();
        let made = Submarine::quote(&bargain, text, request, self.book.services.now(), &self.book.services.keys);
        self.keep_invoice(made.map_err(refused)?, invoice).await
    }

    async fn accept(&mut self, request: AcceptSubmarine, hints: Vec<Vec<HintHop>>) -> Made {
        let AcceptSubmarine { offer, direction, coins, payment, terms, locked_for } = request;
        if self.book.swaps.contains_key(&offer.hash) {
            return Err(SwapRefused::Known);
        }
        if self.book.services.is_of_a_crossing(&offer.hash).map_err(refused)?
            || (offer.direction == Direction::In
                && self.book.services.payment_now(&offer.hash).map_err(refused)?.is_some())
        {
            return Err(SwapRefused::Refused(
                "a payment with this hash is known here already: ask for a new offer".into(),
            ));
        }
        if offer.direction == Direction::In {
            self.check_worth(offer.payment)?;
        }
        let status = self.now().await?;
        if offer.direction == Direction::Out {
            check_lock_time(&offer, &status, locked_for)?;
        }
        let request = self.request(terms, &status).await?;
        let invoice = match offer.direction {
            Direction::In => None,
            Direction::Out => {
                let blocks = offer.refund_height.0.saturating_sub(status.tip.height.0);
                let seconds = invoice_seconds(blocks, status.chain.spacing);
                Some(self.invoice(offer.direction, offer.hash, offer.payment, offer.final_cltv, seconds, hints)?)
            }
        };
        let text = invoice.as_ref().map(|invoice| invoice.bolt11.clone()).unwrap_or_default();
        let bargain = (direction, status.chain, coins, payment);
        let made = Submarine::accept(offer, bargain, text, request, self.book.services.now(), &self.book.services.keys);
        self.keep_invoice(made.map_err(refused)?, invoice).await
    }

    async fn request(&self, terms: SubmarineTerms, status: &LegStatus) -> Result<Request, SwapRefused> {
        self.book.check_room()?;
        let destination = self.chain.new_script().await.map_err(SwapRefused::Away)?;
        Ok(Request {
            nonce: rand::random(),
            depth: terms.depth,
            max_lock_fee: terms.max_lock_fee,
            max_route_fee: terms.max_route_fee,
            start: Start { destination, tip: status.tip, spacing: status.spacing },
            network: self.book.services.invoice_network,
        })
    }

    /// A held invoice, signed and not kept yet.
    fn invoice(
        &self,
        direction: Direction,
        hash: PaymentHash,
        amount: Msat,
        final_cltv: u32,
        expiry_seconds: u64,
        route_hints: Vec<Vec<HintHop>>,
    ) -> Result<incoming::Invoice, SwapRefused> {
        if self.book.services.invoice_record(&hash).map_err(refused)?.is_some() {
            return Err(SwapRefused::Refused("there is an invoice with this hash already: ask for a new offer".into()));
        }
        let (payment_secret, created) = (PaymentSecret(rand::random()), self.book.services.now());
        let asked = InvoiceRequest {
            network: self.book.services.invoice_network,
            payment_hash: hash,
            payment_secret,
            amount: Some(amount),
            description: Description::Text(MEMO.to_owned()),
            timestamp: created,
            expiry_seconds,
            min_final_cltv_expiry_delta: final_cltv,
            route_hints,
        };
        let bolt11 = asked.sign(&self.book.services.keys.node_secret()).map_err(refused)?;
        Ok(incoming::Invoice {
            index: 0,
            payment_hash: hash,
            preimage: None,
            payment_secret,
            amount: Some(amount),
            memo: MEMO.to_owned(),
            bolt11,
            created,
            expiry_seconds,
            min_final_cltv_expiry_delta: final_cltv,
            keysend: false,
            holder: direction.holder(),
            state: InvoiceState::Open,
        })
    }

    /// What is not worth its claim on the chain may be taken long after its expiry, when the coins are back.
    fn check_worth(&self, payment: Msat) -> Result<(), SwapRefused> {
        let least = self.book.services.least_claim();
        if payment >= least {
            return Ok(());
        }
        Err(SwapRefused::Refused(format!(
            "{payment} are too little to be claimed on the chain if they have to be, at today's fees: at least {least} are paid for \
             coins"
        )))
    }

    /// The invoice is durable before the swap that relies on it.
    async fn keep_invoice(&self, made: (Submarine, SubmarineOutbox), invoice: Option<incoming::Invoice>) -> Made {
        if let Some(mut invoice) = invoice {
            let services = &self.book.services;
            let added = services.try_change(&services.invoices, |invoices| {
                invoice.index = invoices.next_index();
                invoices.add(invoice)
            });
            services.run(added.map_err(refused)?).await.map_err(|_| SwapRefused::Stopping)?;
        }
        Ok(made)
    }

    async fn begin(&mut self, made: Made) -> Result<Result<SwapInfo, SwapRefused>, StoreError> {
        let begun = self.book.begin(made).await?;
        Ok(begun.map(|swap| {
            self.tell(swap.id());
            self.info(&swap)
        }))
    }

    async fn order(
        &mut self,
        id: Option<PaymentHash>,
        event: Event<'_>,
    ) -> Result<Result<SwapInfo, SwapRefused>, StoreError> {
        let Some(id) = id.filter(|id| self.book.swaps.contains_key(id)) else { return Ok(Err(SwapRefused::Unknown)) };
        // Commands are judged by what the chain is now, not by what it was half a second ago.
        self.look(false).await?;
        if let Err(refusal) = self.handle(id, event).await? {
            return Ok(Err(refused(refusal)));
        }
        let info = self.book.swaps.get(&id).map(|swap| self.info(swap));
        Ok(info.ok_or(SwapRefused::Unknown))
    }

    /// The chain as it is at this moment.
    async fn now(&mut self) -> Result<LegStatus, SwapRefused> {
        let status = self.chain.status().await.map_err(SwapRefused::Away)?;
        self.status = Some(status.clone());
        Ok(status)
    }

    fn info(&self, swap: &Submarine) -> SwapInfo {
        let network = self.book.services.node.params().name.clone();
        let (facts, warnings) = (self.facts(swap), self.warnings(swap));
        SwapInfo::Submarine { swap: Box::new(swap.clone()), network, facts, warnings }
    }

    fn facts(&self, swap: &Submarine) -> SubmarineFacts {
        let services = &self.book.services;
        let is_paid = matches!(swap.lightning(), Lightning::Pays(Payment::Paid(_)));
        // A swap that was taken back from a backup has no record of its payment; one that cannot be read is told of elsewhere.
        let payment = if is_paid { services.payment_record(&swap.id()).ok().flatten() } else { None };
        let spacing = match measured_pace(&services.node) {
            0 => services.node.params().spacing.get(),
            measured => measured,
        };
        let clock = BlockClock { tip: services.tip(), now: services.now(), spacing };
        let clock = swap.outcome().is_none().then_some(clock);
        SubmarineFacts { route_fee: payment.map(|payment| payment.fee()), clock }
    }

    /// What a person should know of a swap that is under way.
    fn warnings(&self, swap: &Submarine) -> Vec<String> {
        if swap.outcome().is_some() {
            return Vec::new();
        }
        let status = self.status.as_ref().filter(|_| swap.gives_coins() && swap.leg().funding.is_none());
        let lacks = status.and_then(|status| status.lacks(swap.offer().coins));
        self.book.ways.trouble.get().into_iter().chain(lacks).collect()
    }

    /// How the payment stands, if that is another than before.
    async fn hear_of_payment(&mut self, id: PaymentHash) -> Result<(), StoreError> {
        let Some(before) = self.book.swaps.get(&id).map(Submarine::lightning) else { return Ok(()) };
        let (now, event) = match before {
            Lightning::Pays(_) => {
                let payment = self.payment(&id)?;
                (Lightning::Pays(payment), Event::Payment(payment))
            }
            Lightning::Receives(_) => {
                let receipt = self.receipt(&id)?;
                (Lightning::Receives(receipt), Event::Receipt(receipt))
            }
        };
        if now != before {
            self.handle_or_log(id, event).await?;
        }
        Ok(())
    }

    fn payment(&self, hash: &PaymentHash) -> Result<Payment, StoreError> {
        if self.book.services.payments().pending(hash).is_some() {
            return Ok(Payment::InFlight);
        }
        let record = self.book.services.payment_record(hash)?;
        Ok(match record.map(|payment| payment.state) {
            None => Payment::Unpaid,
            // It has just ended and is being written.
            Some(PaymentState::Pending) => Payment::InFlight,
            Some(PaymentState::Succeeded { preimage, .. }) => Payment::Paid(preimage),
            Some(PaymentState::Failed { .. }) => Payment::Failed,
        })
    }

    fn receipt(&self, hash: &PaymentHash) -> Result<Receipt, StoreError> {
        let record = self.book.services.invoice_record(hash)?;
        Ok(match record.map(|invoice| invoice.state) {
            Some(InvoiceState::Open) => Receipt::Open,
            Some(InvoiceState::Accepted(accepted)) => {
                let first = accepted.htlcs.iter().map(|paid| paid.cltv_expiry.0).min();
                Receipt::Held(CltvExpiry(first.unwrap_or_default()))
            }
            Some(InvoiceState::Settled(settled)) if settled.kept() == Msat::default() => Receipt::TakenBack,
            Some(InvoiceState::Settled(_)) => Receipt::Settled,
            Some(InvoiceState::Canceled) | None => Receipt::Canceled,
        })
    }

    /// A lock that the wallet knows: at times, and with each block.
    async fn look_for_own_lock(&mut self, id: PaymentHash, repeats: bool) -> Result<(), StoreError> {
        let tip = self.status.as_ref().map(|status| status.tip.hash);
        let is_due = |swap: &&Submarine| repeats || tip.is_some_and(|tip| tip != swap.leg().tip.hash);
        let waits = |swap: &&Submarine| swap.gives_coins() && swap.leg().funding.is_none();
        let contract = self.book.swaps.get(&id).filter(waits).filter(is_due).and_then(Submarine::contract);
        if let Some(contract) = contract
            && let Ok(Some(transaction)) = own_lock(&self.chain, &contract).await
        {
            self.handle_or_log(id, Event::OwnLock(&transaction)).await?;
        }
        Ok(())
    }

    /// The chain up to its tip, then the mempool. Whether any block was new.
    async fn follow(&mut self, id: PaymentHash) -> Result<Result<bool, LegError>, StoreError> {
        let moved = self.follow_blocks(id).await?;
        // Look for a redeem before refunding, in the mempool too; also if a block is missing.
        let watched = self.book.swaps.get(&id).map(Submarine::leg).filter(|state| state.taken.is_none());
        if let Some(lock) = watched.and_then(|state| state.lock) {
            match self.chain.spender(lock.outpoint).await {
                Ok(Some(transaction)) => {
                    self.handle_or_log(id, Event::Mempool(&transaction)).await?;
                }
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(moved)
    }

    /// The blocks up to the tip. Whether any was new.
    async fn follow_blocks(&mut self, id: PaymentHash) -> Result<Result<bool, LegError>, StoreError> {
        let Some(status) = &self.status else { return Ok(Ok(false)) };
        let end = status.tip;
        let Some(known) = self.book.swaps.get(&id).map(Submarine::leg) else { return Ok(Ok(false)) };
        match back_to(&self.chain, known, status).await {
            Ok(Some(to)) => {
                self.handle_or_log(id, Event::Reorganized(to)).await?;
            }
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        let mut has_moved = false;
        while let Some(next) = self.next_height(&id, end.height) {
            let block = match self.chain.block(next).await {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            let LegBlock { tip: Tip { height, hash, median_time }, previous, transactions } = block;
            let seen = BlockSeen { height, hash, previous, median_time, transactions: &transactions };
            // After a reorganisation in between the next look begins further back.
            if !self.handle_or_log(id, Event::Block(seen)).await? {
                break;
            }
            has_moved = true;
        }
        Ok(Ok(has_moved))
    }

    fn next_height(&self, id: &PaymentHash, end: Height) -> Option<Height> {
        let height = self.book.swaps.get(id)?.leg().tip.height.0;
        (height < end.0).then(|| Height(height.saturating_add(1)))
    }

    /// Whether it was taken.
    async fn handle_or_log(&mut self, id: PaymentHash, event: Event<'_>) -> Result<bool, StoreError> {
        match self.handle(id, event).await? {
            Ok(()) => Ok(true),
            Err(refusal) => {
                warn!(swap = %id, %refusal, "a swap did not take what has happened");
                Ok(false)
            }
        }
    }

    /// One event, its commit, its effects, and what they lead to.
    async fn handle(&mut self, id: PaymentHash, event: Event<'_>) -> Result<Result<(), Refusal>, StoreError> {
        let mut effects = match self.effects_of(id, event).await? {
            Ok(effects) => effects,
            Err(refusal) => return Ok(Err(refusal)),
        };
        while let Some(effect) = effects.pop() {
            effects.extend(self.carry_out(id, effect).await?);
        }
        self.tell(id);
        Ok(Ok(()))
    }

    async fn effects_of(
        &mut self,
        id: PaymentHash,
        event: Event<'_>,
    ) -> Result<Result<Vec<Effect>, Refusal>, StoreError> {
        match self.apply(id, event) {
            Ok(outbox) => self.book.commit(&id, outbox).await.map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn apply(&mut self, id: PaymentHash, event: Event<'_>) -> Result<SubmarineOutbox, Refusal> {
        let Some(swap) = self.book.swaps.get(&id) else { return Ok(SubmarineOutbox::default()) };
        let nothing = Default::default();
        let chain = match &self.status {
            Some(status) => status.seen_up_to(swap.leg().tip),
            None => away(&nothing),
        };
        let ctx = Ctx {
            now: self.book.services.now(),
            keys: &self.book.services.keys,
            policy: &self.book.services.enforcement_policy,
            chain,
            network: self.book.services.invoice_network,
        };
        let mut next = swap.clone();
        let outbox = next.handle(event, &ctx)?;
        self.book.swaps.insert(id, next);
        Ok(outbox)
    }

    async fn carry_out(&mut self, id: PaymentHash, effect: Effect) -> Result<Vec<Effect>, StoreError> {
        match effect {
            Effect::Fund { script, amount, max_fee } => match self.chain.fund(script, amount, max_fee).await {
                Ok((transaction, fee)) => return self.funded(id, transaction, fee).await,
                Err(error) => {
                    warn!(swap = %id, %error, "the wallet cannot make the lock of a swap; it is tried again at the next block");
                    return self.effects_of(id, Event::NotFunded).await.map(Result::unwrap_or_default);
                }
            },
            Effect::Release { transaction } => self.release(id, &transaction).await,
            Effect::Recall { lock, to, fee } => {
                if let Err(error) = self.chain.recall(&lock, to, fee).await {
                    warn!(swap = %id, %error, "a lock that came too late is not called back yet; it is tried again at the next block");
                }
            }
            Effect::Broadcast { transaction } => {
                if let Err(error) = self.chain.broadcast(&transaction).await {
                    let txid = transaction.compute_txid();
                    info!(swap = %id, %txid, %error, "a transaction of a swap was not taken; it is broadcast again at the next block");
                }
            }
            Effect::Pay { invoice, max_fee, max_cltv } => {
                if let Err(error) = self.pay(id, &invoice, max_fee, max_cltv).await {
                    warn!(swap = %id, %error, "the payment of a swap does not begin; it is tried again at the next block");
                }
            }
            Effect::Settle { preimage } => {
                let services = &self.book.services;
                let ctx = services.invoice_ctx();
                let settled = services.try_change(&services.invoices, |invoices| invoices.settle_held(preimage, &ctx));
                match settled {
                    // An error says that the daemon is stopping.
                    Ok(underway) => {
                        let _ = services.run(underway).await;
                    }
                    Err(error) => info!(swap = %id, %error, "the payment of a swap cannot be taken now"),
                }
            }
            Effect::CancelInvoice => {
                let services = &self.book.services;
                let canceled = services.try_change(&services.invoices, |invoices| invoices.cancel(&id, services.tip()));
                match canceled {
                    Ok(underway) => {
                        let _ = services.run(underway).await;
                    }
                    Err(error) => info!(swap = %id, %error, "the invoice of a swap cannot be given up now"),
                }
            }
        }
        self.hear(id).await
    }

    /// What follows from how the payment stands after an effect.
    async fn hear(&mut self, id: PaymentHash) -> Result<Vec<Effect>, StoreError> {
        let event = match self.book.swaps.get(&id).map(Submarine::lightning) {
            Some(Lightning::Pays(_)) => Event::Payment(self.payment(&id)?),
            Some(Lightning::Receives(_)) => Event::Receipt(self.receipt(&id)?),
            None => return Ok(Vec::new()),
        };
        self.effects_of(id, event).await.map(Result::unwrap_or_default)
    }

    async fn pay(&self, id: PaymentHash, text: &str, max_fee: Msat, max_cltv: u32) -> Result<(), SwapRefused> {
        let services = &self.book.services;
        let invoice = payment::Invoice::parse(text, services.invoice_network).map_err(refused)?;
        let takes_parts = invoice.features.supports(Feature::BasicMpp);
        let amount = invoice.amount.ok_or_else(|| refused("the invoice names no amount"))?;
        // Fees may have risen since it was accepted. In a swap out the payer's coins are the other's, and wait for nobody.
        if self.book.swaps.get(&id).is_some_and(|swap| swap.offer().direction == Direction::In) {
            self.check_worth(amount)?;
        }
        let parts = amount.0 / self.book.services.least_claim().0.saturating_mul(WORTH_A_PART).max(1);
        let max_parts = if takes_parts { u16::try_from(parts.clamp(1, MAX_PARTS)).unwrap_or(1) } else { 1 };
        let request = PaymentRequest {
            payment_hash: invoice.payment_hash,
            destination: invoice.payee,
            amount,
            payment_secret: Some(invoice.payment_secret),
            payment_metadata: invoice.payment_metadata,
            final_cltv_delta: invoice.min_final_cltv_expiry_delta,
            max_fee,
            deadline: UnixTime(services.now().0.saturating_add(margins::PAY_SECONDS)),
            bolt11: text.to_owned(),
            hints: invoice.route_hints,
            limits: PaymentLimits { max_parts, max_cltv: Some(max_cltv), ..PaymentLimits::default() },
            keysend: None,
            custom_records: Vec::new(),
        };
        let underway = services.start_payment(request).map_err(refused)?;
        services.run(underway).await.map_err(|_| SwapRefused::Stopping)
    }

    async fn release(&self, id: PaymentHash, transaction: &Transaction) {
        if let Err(error) = self.chain.release(transaction).await {
            warn!(swap = %id, %error, "coins of a lock that is not broadcast stay reserved until the next start");
        }
    }

    async fn funded(
        &mut self,
        id: PaymentHash,
        transaction: Transaction,
        fee: Amount,
    ) -> Result<Vec<Effect>, StoreError> {
        match self.effects_of(id, Event::Funded { transaction: transaction.clone(), fee }).await? {
            Ok(effects) => Ok(effects),
            Err(refusal) => {
                warn!(swap = %id, %refusal, "the lock of a swap is not what was agreed: it is not broadcast");
                self.release(id, &transaction).await;
                self.effects_of(id, Event::NotFunded).await.map(Result::unwrap_or_default)
            }
        }
    }

    /// What has changed for a person.
    fn tell(&mut self, id: PaymentHash) {
        let Some(swap) = self.book.is_news(&id).cloned() else { return };
        let _ = self.book.ways.news.send(self.info(&swap));
    }
}

/// Whether the coins come back within so many seconds, at the slower of the spacing that the chain should have and the one that it has.
fn check_lock_time(offer: &Offer, status: &LegStatus, locked_for: u64) -> Result<(), SwapRefused> {
    let blocks = offer.refund_height.0.saturating_sub(status.tip.height.0);
    let seconds = u64::from(blocks).saturating_mul(u64::from(status.chain.spacing.max(status.spacing)));
    if seconds <= locked_for {
        return Ok(());
    }
    Err(SwapRefused::Refused(format!(
        "the offer locks your coins for {blocks} blocks, some {} hours, and {} is what you allow: ask for an offer of fewer blocks, or \
         allow more with --inner-hours",
        seconds.div_ceil(3_600),
        locked_for / 3_600
    )))
}

/// For how long the invoice can be paid: twice the time until the coins go back, so that slow blocks do not end it.
fn invoice_seconds(blocks: u32, spacing: u32) -> u64 {
    u64::from(blocks).saturating_mul(u64::from(spacing)).saturating_mul(2)
}
