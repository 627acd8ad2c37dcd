//! The task that owns all atomic swaps.

use std::{collections::BTreeMap, sync::Arc};

use bitcoin::Transaction;
use leyden_channels::{
    onchain::FeeEstimates,
    swap::{BlockSeen, Ctx, Effect, Event, Leg, Refusal, Request, Role, Start, Swap, SwapOutbox, Tip, Trade},
    types::{Height, PaymentHash},
};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    AcceptSwap, Call, LegBlock, LegError, LegStatus, QuoteSwap, SwapInfo, SwapLeg, SwapOrder, SwapRefused, SwapTerms,
    book::{Book, Desk, Ways, run},
    chains::Chains,
    leg::{away, back_to, own_lock},
    refused,
};
use crate::{driver::services::Services, store::StoreError};

pub(super) struct SwapTask {
    pub(super) mailbox: mpsc::Receiver<Call>,
    pub(super) ways: Ways,
    pub(super) other: Option<Arc<dyn SwapLeg>>,
}

impl SwapTask {
    /// Runs until the daemon ends. `fatal` ends it when the disk does not take what must be kept.
    pub(super) async fn run(
        self,
        services: Arc<Services>,
        swaps: BTreeMap<PaymentHash, Swap>,
        fatal: mpsc::UnboundedSender<String>,
    ) {
        let Self { mailbox, ways, other } = self;
        let chains = Chains::new(&services, other);
        let book = Book::new(services, swaps, ways);
        run(AtomicDesk { book, chains }, mailbox, fatal).await;
    }
}

/// All atomic swaps, and what is known of the two chains.
struct AtomicDesk {
    book: Book<Swap>,
    chains: Chains,
}

impl Desk for AtomicDesk {
    type Call = Call;

    async fn answer(&mut self, call: Call) -> Result<(), StoreError> {
        match call {
            Call::Quote(request, answer) => {
                let made = self.quote(request).await;
                let _ = answer.send(self.begin(made).await?);
            }
            Call::Accept(request, answer) => {
                let made = self.accept(*request).await;
                let _ = answer.send(self.begin(made).await?);
            }
            Call::Recover(row, answer) => {
                let _ = answer.send(self.book.recover(&row).await?);
            }
            Call::Initiate(acceptance, answer) => {
                let is_of = |swap: &&Swap| swap.offer().digest() == acceptance.offer && swap.role() == Role::Initiator;
                let id = self.book.swaps.values().find(is_of).map(Swap::id);
                let _ = answer.send(self.order(id, Event::Initiate(acceptance)).await?);
            }
            Call::Order(id, order, answer) => {
                let event = match order {
                    SwapOrder::Participate => Event::Participate,
                    SwapOrder::Redeem(secret) => Event::Redeem { secret },
                    SwapOrder::Refund => Event::Refund,
                    SwapOrder::Cancel => Event::Cancel,
                };
                let _ = answer.send(self.order(Some(id), event).await?);
            }
            Call::List(answer) => {
                let all = self.book.swaps.values().map(|swap| self.info(swap)).collect();
                let _ = answer.send(Ok(all));
            }
        }
        Ok(())
    }

    async fn look(&mut self, repeats: bool) -> Result<(), StoreError> {
        let followed = self.book.followed();
        if followed.is_empty() {
            self.book.note_needs();
            self.book.note_trouble(None);
            return Ok(());
        }
        let mut trouble = self.chains.look(true, true).await;
        for id in followed {
            let mut has_moved = repeats;
            for leg in Leg::ALL {
                match self.follow(id, leg, repeats).await? {
                    Ok(moved) => has_moved |= moved,
                    Err(LegError(error)) => trouble = Some(error),
                }
            }
            if has_moved {
                self.handle_or_log(id, Event::Tick).await?;
            }
        }
        self.book.note_needs();
        self.book.note_trouble(trouble);
        Ok(())
    }
}

impl AtomicDesk {
    async fn quote(&mut self, request: QuoteSwap) -> Result<(Swap, SwapOutbox), SwapRefused> {
        let QuoteSwap { give, get, give_other, terms, outer_seconds, inner_seconds } = request;
        let (own, other) = self.chains.ask_both().await?;
        let (give_on, get_on) = if give_other { (&other, &own) } else { (&own, &other) };
        let trade = Trade { give, give_on: give_on.chain, get, get_on: get_on.chain, outer_seconds, inner_seconds };
        let request = self.request(terms, give_on, get_on).await?;
        Swap::quote(trade, request, self.book.services.now(), &self.book.services.keys).map_err(refused)
    }

    async fn accept(&mut self, request: AcceptSwap) -> Result<(Swap, SwapOutbox), SwapRefused> {
        let AcceptSwap { offer, give, get, give_other, locked_for, terms } = request;
        self.book.check_new(&offer.hash)?;
        if self.book.services.is_of_a_swap(&offer.hash).map_err(refused)? {
            return Err(SwapRefused::SameSecret);
        }
        let (own, other) = self.chains.ask_both().await?;
        // The person says which of the two chains is given, never the offer.
        let (outer, inner) = if give_other { (&own, &other) } else { (&other, &own) };
        if offer.inner.chain.hash == outer.chain.hash && offer.outer.chain.hash == inner.chain.hash {
            return Err(SwapRefused::OtherDirection {
                asked: offer.inner.amount,
                asked_on: outer.network.clone(),
                given: offer.outer.amount,
                given_on: inner.network.clone(),
                instead: if give_other { "without --give-other" } else { "with --give-other" },
            });
        }
        let request = self.request(terms, outer, inner).await?;
        let (give, get) = ((inner.chain, give), (outer.chain, get));
        Swap::accept(offer, give, get, locked_for, request, self.book.services.now(), &self.book.services.keys)
            .map_err(refused)
    }

    async fn request(
        &mut self,
        terms: SwapTerms,
        outer: &LegStatus,
        inner: &LegStatus,
    ) -> Result<Request, SwapRefused> {
        self.book.check_room()?;
        self.chains.check_pruning([outer, inner])?;
        Ok(Request {
            nonce: rand::random(),
            by_hand: terms.by_hand,
            depth: terms.depth,
            max_lock_fee: terms.max_lock_fee,
            outer: self.start(outer).await?,
            inner: self.start(inner).await?,
        })
    }

    async fn start(&mut self, status: &LegStatus) -> Result<Start, SwapRefused> {
        let hash = status.chain.hash;
        let chain = self.chains.at(hash).ok_or(SwapRefused::NoOther)?;
        let destination = self.book.destination(hash, chain.as_ref()).await.map_err(SwapRefused::Away)?;
        Ok(Start { destination, tip: status.tip, spacing: status.spacing })
    }

    async fn begin(
        &mut self,
        made: Result<(Swap, SwapOutbox), SwapRefused>,
    ) -> Result<Result<SwapInfo, SwapRefused>, StoreError> {
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
        // Commands are judged by what the chains are now, not by what they were half a second ago.
        self.look(false).await?;
        if let Err(refusal) = self.handle(id, event).await? {
            return Ok(Err(refused(refusal)));
        }
        let info = self.book.swaps.get(&id).map(|swap| self.info(swap));
        Ok(info.ok_or(SwapRefused::Unknown))
    }

    fn info(&self, swap: &Swap) -> SwapInfo {
        let name = |leg| self.chains.name(swap.offer().leg(leg).chain.hash);
        let (give_on, get_on, warnings) = (name(swap.role().gives()), name(swap.role().gets()), self.warnings(swap));
        SwapInfo::Atomic { swap: Box::new(swap.clone()), give_on, get_on, warnings }
    }

    /// What a person should know of a swap that is under way.
    fn warnings(&self, swap: &Swap) -> Vec<String> {
        if swap.outcome().is_some() {
            return Vec::new();
        }
        let gives = swap.role().gives();
        let status =
            self.chains.status(swap.offer().leg(gives).chain.hash).filter(|_| swap.leg(gives).funding.is_none());
        let lacks = status.and_then(|status| status.lacks(swap.offer().leg(gives).amount));
        self.book.ways.trouble.get().into_iter().chain(lacks).collect()
    }

    /// One chain of one swap: a lock that the wallet knows (at times, and with each block), its blocks up to the tip, then the
    /// mempool. Whether anything was new.
    async fn follow(&mut self, id: PaymentHash, leg: Leg, repeats: bool) -> Result<Result<bool, LegError>, StoreError> {
        let Some(swap) = self.book.swaps.get(&id) else { return Ok(Ok(false)) };
        // Without an acceptance there is no contract to look for; these blocks are looked at when there is.
        let Some(contract) = swap.contract(leg) else { return Ok(Ok(false)) };
        let is_own = leg == swap.role().gives();
        // Of a swap that has ended only this person's lock may still come.
        if swap.outcome().is_some() && !is_own {
            return Ok(Ok(false));
        }
        let hash = swap.offer().leg(leg).chain.hash;
        let Some((status, chain)) = self.chains.status(hash).cloned().zip(self.chains.at(hash)) else {
            return Ok(Err(self.chains.not_followed(hash)));
        };
        let swap = swap.leg(leg);
        // Before the blocks: with the last of them a swap may end.
        let mut unknown = None;
        if is_own && swap.funding.is_none() && (repeats || swap.tip.hash != status.tip.hash) {
            match own_lock(chain.as_ref(), &contract).await {
                Ok(Some(transaction)) => {
                    self.handle_or_log(id, Event::OwnLock(&transaction)).await?;
                }
                Ok(None) => {}
                Err(error) => unknown = Some(error),
            }
        }
        let moved = self.follow_blocks(id, leg, &status, &chain).await?;
        // Also if a block is missing: the secret may be seen nevertheless.
        let followed = self.book.swaps.get(&id).map(|swap| swap.leg(leg)).filter(|state| state.taken.is_none());
        if let Some(lock) = followed.and_then(|state| state.lock) {
            match chain.spender(lock.outpoint).await {
                Ok(Some(transaction)) => {
                    self.handle_or_log(id, Event::Mempool { leg, transaction: &transaction }).await?;
                }
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(unknown.map_or(moved, Err))
    }

    async fn follow_blocks(
        &mut self,
        id: PaymentHash,
        leg: Leg,
        status: &LegStatus,
        chain: &Arc<dyn SwapLeg>,
    ) -> Result<Result<bool, LegError>, StoreError> {
        let Some(swap) = self.book.swaps.get(&id) else { return Ok(Ok(false)) };
        let mut has_moved = false;
        match back_to(chain.as_ref(), swap.leg(leg), status).await {
            Ok(Some(to)) => {
                self.handle_or_log(id, Event::Reorganized { leg, to }).await?;
            }
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        while let Some(next) = self.next_height(&id, leg, status.tip.height) {
            let block = match chain.block(next).await {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            let LegBlock { tip: Tip { height, hash, median_time }, previous, transactions } = block;
            let seen = BlockSeen { height, hash, previous, median_time, transactions: &transactions };
            // After a reorganisation in between the next look begins further back.
            if !self.handle_or_log(id, Event::Block { leg, block: seen }).await? {
                break;
            }
            has_moved = true;
        }
        Ok(Ok(has_moved))
    }

    fn next_height(&self, id: &PaymentHash, leg: Leg, end: Height) -> Option<Height> {
        let height = self.book.swaps.get(id)?.leg(leg).tip.height.0;
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
        let outbox = match self.apply(id, event) {
            Ok(outbox) => outbox,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut effects = self.book.commit(&id, outbox).await?;
        while let Some(effect) = effects.pop() {
            effects.extend(self.carry_out(id, effect).await?);
        }
        self.tell(id);
        Ok(Ok(()))
    }

    fn apply(&mut self, id: PaymentHash, event: Event<'_>) -> Result<SwapOutbox, Refusal> {
        let Some(swap) = self.book.swaps.get(&id) else { return Ok(SwapOutbox::default()) };
        let nothing = FeeEstimates::default();
        let chain = |leg| match self.chains.status(swap.offer().leg(leg).chain.hash) {
            Some(status) => status.seen_up_to(swap.leg(leg).tip),
            None => away(&nothing),
        };
        let services = Arc::clone(&self.book.services);
        let ctx = Ctx {
            now: services.now(),
            keys: &services.keys,
            policy: &services.enforcement_policy,
            outer: chain(Leg::Outer),
            inner: chain(Leg::Inner),
        };
        let mut next = swap.clone();
        let outbox = next.handle(event, &ctx)?;
        self.book.swaps.insert(id, next);
        Ok(outbox)
    }

    async fn carry_out(&mut self, id: PaymentHash, effect: Effect) -> Result<Vec<Effect>, StoreError> {
        let (Effect::Fund { leg, .. }
        | Effect::Release { leg, .. }
        | Effect::Recall { leg, .. }
        | Effect::Broadcast { leg, .. }) = &effect;
        let Some(chain) = self.book.swaps.get(&id).and_then(|swap| self.chains.at(swap.offer().leg(*leg).chain.hash))
        else {
            return Ok(Vec::new());
        };
        match effect {
            Effect::Fund { script, amount, max_fee, .. } => match chain.fund(script, amount, max_fee).await {
                Ok((transaction, fee)) => self.funded(id, &chain, transaction, fee).await,
                Err(error) => {
                    warn!(swap = %id, %error, "the wallet cannot make the lock of a swap; it is tried again at the next block");
                    self.effects_of(id, Event::NotFunded).await.map(|effects| effects.unwrap_or_default())
                }
            },
            Effect::Release { transaction, .. } => {
                if let Err(error) = chain.release(&transaction).await {
                    warn!(swap = %id, %error, "coins of a lock that is not broadcast stay reserved until that daemon's next start");
                }
                Ok(Vec::new())
            }
            Effect::Recall { lock, to, fee, .. } => {
                if let Err(error) = chain.recall(&lock, to, fee).await {
                    warn!(swap = %id, %error, "a lock that came too late is not called back yet; it is tried again at the next block");
                }
                Ok(Vec::new())
            }
            Effect::Broadcast { transaction, .. } => {
                if let Err(error) = chain.broadcast(&transaction).await {
                    let txid = transaction.compute_txid();
                    info!(swap = %id, %txid, %error, "a transaction of a swap was not taken; it is broadcast again at the next block");
                }
                Ok(Vec::new())
            }
        }
    }

    async fn funded(
        &mut self,
        id: PaymentHash,
        chain: &Arc<dyn SwapLeg>,
        transaction: Transaction,
        fee: bitcoin::Amount,
    ) -> Result<Vec<Effect>, StoreError> {
        match self.effects_of(id, Event::Funded { transaction: transaction.clone(), fee }).await? {
            Ok(effects) => Ok(effects),
            Err(refusal) => {
                warn!(swap = %id, %refusal, "the lock of a swap is not what was agreed: it is not broadcast");
                if let Err(error) = chain.release(&transaction).await {
                    warn!(swap = %id, %error, "coins of a lock that is not broadcast stay reserved until that daemon's next start");
                }
                self.effects_of(id, Event::NotFunded).await.map(|effects| effects.unwrap_or_default())
            }
        }
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

    /// What has changed for a person.
    fn tell(&mut self, id: PaymentHash) {
        let Some(swap) = self.book.is_news(&id).cloned() else { return };
        let _ = self.book.ways.news.send(self.info(&swap));
    }
}
