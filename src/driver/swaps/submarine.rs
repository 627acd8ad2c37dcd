//! The task that owns all submarine swaps: the machines of `leyden_channels::swap::submarine` between this daemon's payments and
//! invoices, and the chain and wallet that the coins are on: its own, or those of the other network.
//!
//! ```text
//!   calls ────────────────► mailbox ─┐                             ┌─► commit ─► effects: fund, broadcast, pay, settle, …
//!   chain and wallet, own or other's ┼─► task: Submarine::handle ──┤
//!   payments, invoices: as stored ───┘                             └─► news for whoever listens
//! ```
//!
//! How the payment of a hash stands is asked before anything else at each look: at a start that is its fate meanwhile.

mod begin;
mod carry_out;
mod follow;

use std::{collections::BTreeMap, sync::Arc};

use leyden_channels::{
    swap::{
        Refusal, Role,
        submarine::{Ctx, Effect, Event, Lightning, Payment, Submarine, SubmarineOutbox},
    },
    types::PaymentHash,
};
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    BlockClock, Exchanged, LegError, SubmarineCall, SubmarineFacts, SwapInfo, SwapLeg, SwapOrder, SwapRefused,
    book::{Book, Desk, Ways, run},
    chains::Chains,
    leg::{away, measured_pace},
    refused,
};
use crate::{driver::services::Services, store::StoreError};

pub(super) struct SubmarineTask {
    pub(super) mailbox: mpsc::Receiver<SubmarineCall>,
    pub(super) ways: Ways,
    pub(super) exchanged: Exchanged,
    pub(super) other: Option<Arc<dyn SwapLeg>>,
}

impl SubmarineTask {
    /// Runs until the daemon ends. `fatal` ends it when the disk does not take what must be kept.
    pub(super) async fn run(
        self,
        services: Arc<Services>,
        swaps: BTreeMap<PaymentHash, Submarine>,
        fatal: mpsc::UnboundedSender<String>,
    ) {
        let Self { mailbox, ways, exchanged, other } = self;
        let chains = Chains::new(&services, other);
        let book = Book::new(services, swaps, ways);
        run(SubmarineDesk { book, chains, exchanged }, mailbox, fatal).await;
    }
}

/// All submarine swaps, and what is known of the chains that their coins are on.
struct SubmarineDesk {
    book: Book<Submarine>,
    chains: Chains,
    exchanged: Exchanged,
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
                // For the other network's name, if no swap that goes on has asked for it.
                let lacks_name =
                    |swap: &Submarine| self.is_across(swap) && self.chains.status(swap.offer().chain.hash).is_none();
                if self.book.swaps.values().any(lacks_name) {
                    self.chains.look(false, true).await;
                }
                let all = self.book.swaps.values().map(|swap| self.info(swap)).collect();
                let _ = answer.send(Ok(all));
            }
        }
        Ok(())
    }

    async fn look(&mut self, repeats: bool) -> Result<(), StoreError> {
        let followed = self.book.followed();
        let followed_swaps = || followed.iter().filter_map(|id| self.book.swaps.get(id));
        let needs_own = followed_swaps().any(|swap| !self.is_across(swap));
        let needs_other = followed_swaps().any(|swap| self.is_across(swap));
        let mut trouble = self.chains.look(needs_own, needs_other).await;
        for id in followed {
            // Before anything is decided without it.
            if let Err(LegError(error)) = self.look_for_own_lock(id, repeats).await? {
                trouble = Some(error);
            }
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
        self.exchanged.note(self.book.swaps.values());
        self.book.note_needs();
        self.book.note_trouble(trouble);
        Ok(())
    }
}

impl SubmarineDesk {
    async fn begin(&mut self, made: Made) -> Result<Result<SwapInfo, SwapRefused>, StoreError> {
        let begun = self.book.begin(made).await?;
        self.exchanged.note(self.book.swaps.values());
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

    /// Whether its coins are on the other chain.
    fn is_across(&self, swap: &Submarine) -> bool {
        swap.offer().chain.hash != self.book.services.chain_hash()
    }

    fn info(&self, swap: &Submarine) -> SwapInfo {
        let payment_on = self.book.services.node.params().name.clone();
        let coins_on =
            if self.is_across(swap) { self.chains.name(swap.offer().chain.hash) } else { payment_on.clone() };
        let (facts, warnings) = (self.facts(swap), self.warnings(swap));
        SwapInfo::Submarine { swap: Box::new(swap.clone()), coins_on, payment_on, facts, warnings }
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
        let status = self.chains.status(swap.offer().chain.hash);
        let status = status.filter(|_| swap.gives_coins() && swap.leg().funding.is_none());
        let lacks = status.and_then(|status| status.lacks(swap.offer().coins));
        self.book.ways.trouble.get().into_iter().chain(lacks).collect()
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
        let chain = match self.chains.status(swap.offer().chain.hash) {
            Some(status) => status.seen_up_to(swap.leg().tip),
            None => away(&nothing),
        };
        let ctx = Ctx {
            now: self.book.services.now(),
            keys: &self.book.services.keys,
            policy: &self.book.services.enforcement_policy,
            chain,
            payment: begin::payment_chain(&self.book.services),
            network: self.book.services.invoice_network,
        };
        let mut next = swap.clone();
        let outbox = next.handle(event, &ctx)?;
        self.book.swaps.insert(id, next);
        Ok(outbox)
    }

    /// What has changed for a person.
    fn tell(&mut self, id: PaymentHash) {
        let Some(swap) = self.book.is_news(&id).cloned() else { return };
        let _ = self.book.ways.news.send(self.info(&swap));
    }
}
