//! The task that owns all swaps.

use std::{collections::BTreeMap, sync::Arc};

use bitcoin::Transaction;
use leyden_channels::{
    channel::Outbox,
    onchain::FeeEstimates,
    swap::{BlockSeen, Ctx, Effect, Event, Leg, Phase, Refusal, Request, Role, Start, Swap, SwapOutbox, Tip, Trade},
    types::{Height, PaymentHash},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{
    AcceptSwap, Call, LOOK, LegBlock, LegError, LegStatus, MAX_OPEN, OwnLeg, QuoteSwap, REPEAT, SwapInfo, SwapLeg,
    SwapOrder, SwapRefused, SwapTerms, Trouble,
    leg::{Doubt, away, back_to},
};
use crate::{
    driver::services::Services,
    store::{CoreKey, SWAP, StoreError},
};

/// Which of the two daemons.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Own,
    Other,
}

pub(crate) struct SwapTask {
    mailbox: mpsc::Receiver<Call>,
    news: broadcast::Sender<SwapInfo>,
    trouble: Trouble,
    other: Option<Arc<dyn SwapLeg>>,
}

impl SwapTask {
    pub(super) fn new(
        mailbox: mpsc::Receiver<Call>,
        news: broadcast::Sender<SwapInfo>,
        trouble: Trouble,
        other: Option<Arc<dyn SwapLeg>>,
    ) -> Self {
        Self { mailbox, news, trouble, other }
    }

    /// Reads the swaps back. A row that cannot be read is an error: coins may depend on it.
    pub(crate) fn load(services: &Services) -> Result<BTreeMap<PaymentHash, Swap>, StoreError> {
        let rows = services.store.core_records(&[SWAP])?;
        let restore = |(_, row): (Vec<u8>, Vec<u8>)| Swap::restore(&row).map(|swap| (swap.id(), swap));
        rows.into_iter()
            .map(restore)
            .collect::<Result<_, _>>()
            .map_err(|error| services.store.damaged(&error.to_string()))
    }

    /// Runs until the daemon ends. `fatal` ends it when the disk does not take what must be kept.
    pub(crate) async fn run(
        self,
        services: Arc<Services>,
        swaps: BTreeMap<PaymentHash, Swap>,
        fatal: mpsc::UnboundedSender<String>,
    ) {
        let Self { mut mailbox, news, trouble, other } = self;
        let own: Arc<dyn SwapLeg> = Arc::new(OwnLeg(Arc::clone(&services)));
        let mut book = Book {
            services,
            swaps,
            own,
            other,
            own_status: None,
            other_status: None,
            told: BTreeMap::new(),
            trouble,
            doubt: Doubt::default(),
            news,
        };
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut repeat_at = Instant::now();
        loop {
            let done = tokio::select! {
                call = mailbox.recv() => match call {
                    Some(call) => book.answer(call).await,
                    None => return,
                },
                _ = look.tick() => {
                    let repeats = Instant::now() >= repeat_at;
                    if repeats {
                        repeat_at = Instant::now() + REPEAT;
                    }
                    book.look(repeats).await
                }
            };
            if let Err(error) = done {
                let _ = fatal.send(error.to_string());
                return;
            }
        }
    }
}

/// All swaps, and what is known of the two chains.
struct Book {
    services: Arc<Services>,
    swaps: BTreeMap<PaymentHash, Swap>,
    own: Arc<dyn SwapLeg>,
    other: Option<Arc<dyn SwapLeg>>,
    own_status: Option<LegStatus>,
    other_status: Option<LegStatus>,
    /// The phase that was told last.
    told: BTreeMap<PaymentHash, Phase>,
    /// What a chain is in trouble with: it is written once.
    trouble: Trouble,
    /// Since when a tip has been in doubt.
    doubt: Doubt,
    news: broadcast::Sender<SwapInfo>,
}

impl Book {
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
            Call::Initiate(acceptance, answer) => {
                let is_of = |swap: &&Swap| swap.offer().digest() == acceptance.offer && swap.role() == Role::Initiator;
                let id = self.swaps.values().find(is_of).map(Swap::id);
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
                let all = self.swaps.values().map(|swap| self.info(swap)).collect();
                let _ = answer.send(Ok(all));
            }
        }
        Ok(())
    }

    async fn quote(&mut self, request: QuoteSwap) -> Result<(Swap, SwapOutbox), SwapRefused> {
        let QuoteSwap { give, get, give_other, terms, outer_seconds, inner_seconds } = request;
        let (own, other) = self.both().await?;
        let (give_on, get_on) = if give_other { (&other, &own) } else { (&own, &other) };
        let trade = Trade { give, give_on: give_on.chain, get, get_on: get_on.chain, outer_seconds, inner_seconds };
        let request = self.request(terms, give_on, get_on).await?;
        Swap::quote(trade, request, self.services.now(), &self.services.keys).map_err(refused)
    }

    async fn accept(&mut self, request: AcceptSwap) -> Result<(Swap, SwapOutbox), SwapRefused> {
        let AcceptSwap { offer, give, get, give_other, locked_for, terms } = request;
        if self.swaps.contains_key(&offer.hash) {
            return Err(SwapRefused::Known);
        }
        let (own, other) = self.both().await?;
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
        Swap::accept(offer, give, get, locked_for, request, self.services.now(), &self.services.keys).map_err(refused)
    }

    async fn request(&self, terms: SwapTerms, outer: &LegStatus, inner: &LegStatus) -> Result<Request, SwapRefused> {
        let open = self.swaps.values().filter(|swap| swap.outcome().is_none()).count();
        if open >= MAX_OPEN {
            return Err(SwapRefused::TooMany);
        }
        if let Some(pruned) = [outer, inner].into_iter().find(|status| status.is_pruned) {
            return Err(SwapRefused::Pruned(pruned.network.clone()));
        }
        Ok(Request {
            nonce: rand::random(),
            by_hand: terms.by_hand,
            depth: terms.depth,
            max_lock_fee: terms.max_lock_fee,
            outer: self.start(outer).await?,
            inner: self.start(inner).await?,
        })
    }

    async fn start(&self, status: &LegStatus) -> Result<Start, SwapRefused> {
        let chain = self.chain_at(status.chain.hash).ok_or(SwapRefused::NoOther)?;
        let destination = chain.new_script().await.map_err(SwapRefused::Away)?;
        Ok(Start { destination, tip: status.tip, spacing: status.spacing })
    }

    async fn begin(
        &mut self,
        made: Result<(Swap, SwapOutbox), SwapRefused>,
    ) -> Result<Result<SwapInfo, SwapRefused>, StoreError> {
        let (swap, outbox) = match made {
            Ok(made) => made,
            Err(refused) => return Ok(Err(refused)),
        };
        self.commit(outbox).await?;
        let (id, info) = (swap.id(), self.info(&swap));
        self.swaps.insert(id, swap);
        self.tell(id);
        Ok(Ok(info))
    }

    async fn order(
        &mut self,
        id: Option<PaymentHash>,
        event: Event<'_>,
    ) -> Result<Result<SwapInfo, SwapRefused>, StoreError> {
        let Some(id) = id.filter(|id| self.swaps.contains_key(id)) else { return Ok(Err(SwapRefused::Unknown)) };
        // Commands are judged by what the chains are now, not by what they were half a second ago.
        self.look(false).await?;
        if let Err(refusal) = self.handle(id, event).await? {
            return Ok(Err(refused(refusal)));
        }
        let info = self.swaps.get(&id).map(|swap| self.info(swap));
        Ok(info.ok_or(SwapRefused::Unknown))
    }

    /// Both chains as they are at this moment.
    async fn both(&mut self) -> Result<(LegStatus, LegStatus), SwapRefused> {
        let other = self.other.clone().ok_or(SwapRefused::NoOther)?;
        let own = self.own.status().await.map_err(SwapRefused::Away)?;
        let other = other.status().await.map_err(SwapRefused::Away)?;
        (self.own_status, self.other_status) = (Some(own.clone()), Some(other.clone()));
        Ok((own, other))
    }

    fn place(&self, hash: bitcoin::constants::ChainHash) -> Place {
        if hash == self.services.chain_hash() { Place::Own } else { Place::Other }
    }

    fn chain_at(&self, hash: bitcoin::constants::ChainHash) -> Option<Arc<dyn SwapLeg>> {
        match self.place(hash) {
            Place::Own => Some(Arc::clone(&self.own)),
            // Whatever answers there now may be on another chain.
            Place::Other => {
                let is_it = self.other_status.as_ref().is_some_and(|status| status.chain.hash == hash);
                self.other.clone().filter(|_| is_it)
            }
        }
    }

    fn status_of(&self, swap: &Swap, leg: Leg) -> Option<&LegStatus> {
        let hash = swap.offer().leg(leg).chain.hash;
        let status = match self.place(hash) {
            Place::Own => self.own_status.as_ref(),
            Place::Other => self.other_status.as_ref(),
        };
        status.filter(|status| status.chain.hash == hash)
    }

    fn info(&self, swap: &Swap) -> SwapInfo {
        let name = |leg| {
            let status = self.status_of(swap, leg);
            status.map_or_else(|| swap.offer().leg(leg).chain.hash.to_string(), |status| status.network.clone())
        };
        let (give_on, get_on, warnings) = (name(swap.role().gives()), name(swap.role().gets()), self.warnings(swap));
        SwapInfo::Atomic { swap: Box::new(swap.clone()), give_on, get_on, warnings }
    }

    /// What a person should know of a swap that is under way.
    fn warnings(&self, swap: &Swap) -> Vec<String> {
        if swap.outcome().is_some() {
            return Vec::new();
        }
        let gives = swap.role().gives();
        let status = self.status_of(swap, gives).filter(|_| swap.leg(gives).funding.is_none());
        let lacks = status.and_then(|status| status.lacks(swap.offer().leg(gives).amount));
        self.trouble.get().into_iter().chain(lacks).collect()
    }

    /// Feeds every swap what has happened.
    async fn look(&mut self, repeats: bool) -> Result<(), StoreError> {
        let open: Vec<PaymentHash> =
            self.swaps.values().filter(|swap| swap.outcome().is_none()).map(Swap::id).collect();
        if open.is_empty() {
            self.trouble.set(None);
            return Ok(());
        }
        let mut trouble = None;
        self.own_status = self.own.status().await.map_err(|error| trouble = Some(error.0)).ok();
        self.other_status = match &self.other {
            None => {
                trouble = Some(SwapRefused::NoOther.to_string());
                None
            }
            Some(other) => other.status().await.map_err(|error| trouble = Some(error.0)).ok(),
        };
        let doubted = self.doubt.of([&self.own_status, &self.other_status].into_iter().flatten());
        trouble = trouble.or(doubted);
        for id in open {
            let mut has_moved = repeats;
            for leg in Leg::ALL {
                match self.follow(id, leg).await? {
                    Ok(moved) => has_moved |= moved,
                    Err(LegError(error)) => trouble = Some(error),
                }
            }
            if has_moved {
                self.handle_or_log(id, Event::Tick).await?;
            }
        }
        if self.trouble.set(trouble.clone())
            && let Some(trouble) = trouble
        {
            warn!(%trouble, "a chain of a swap that is under way cannot be followed; it is tried until it can");
        }
        Ok(())
    }

    /// One chain of one swap: its blocks up to the tip, then the mempool. Whether anything was new.
    async fn follow(&mut self, id: PaymentHash, leg: Leg) -> Result<Result<bool, LegError>, StoreError> {
        let Some(swap) = self.swaps.get(&id) else { return Ok(Ok(false)) };
        // Without an acceptance there is no contract to look for; these blocks are looked at when there is.
        if swap.acceptance().is_none() {
            return Ok(Ok(false));
        }
        let hash = swap.offer().leg(leg).chain.hash;
        let Some((status, chain)) = self.status_of(swap, leg).cloned().zip(self.chain_at(hash)) else {
            return Ok(Err(LegError(format!(
                "none of your two daemons follows the chain with the genesis block {hash}: start the one that did, with its \
                 --network and --data-dir"
            ))));
        };
        let moved = self.follow_blocks(id, leg, &status, &chain).await?;
        // Also if a block is missing: the secret may be seen nevertheless.
        let followed = self.swaps.get(&id).map(|swap| swap.leg(leg)).filter(|state| state.taken.is_none());
        if let Some(lock) = followed.and_then(|state| state.lock) {
            match chain.spender(lock.outpoint).await {
                Ok(Some(transaction)) => {
                    self.handle_or_log(id, Event::Mempool { leg, transaction: &transaction }).await?;
                }
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(moved)
    }

    async fn follow_blocks(
        &mut self,
        id: PaymentHash,
        leg: Leg,
        status: &LegStatus,
        chain: &Arc<dyn SwapLeg>,
    ) -> Result<Result<bool, LegError>, StoreError> {
        let Some(swap) = self.swaps.get(&id) else { return Ok(Ok(false)) };
        let mut has_moved = false;
        match back_to(chain.as_ref(), swap.leg(leg), status.tip).await {
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
        let height = self.swaps.get(id)?.leg(leg).tip.height.0;
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
        let mut effects = self.commit(outbox).await?;
        while let Some(effect) = effects.pop() {
            effects.extend(self.carry_out(id, effect).await?);
        }
        self.tell(id);
        Ok(Ok(()))
    }

    fn apply(&mut self, id: PaymentHash, event: Event<'_>) -> Result<SwapOutbox, Refusal> {
        let Some(swap) = self.swaps.get(&id) else { return Ok(SwapOutbox::default()) };
        let nothing = FeeEstimates::default();
        let chain = |leg| match self.status_of(swap, leg) {
            Some(status) => status.seen_up_to(swap.leg(leg).tip),
            None => away(&nothing),
        };
        let services = Arc::clone(&self.services);
        let ctx = Ctx {
            now: services.now(),
            keys: &services.keys,
            policy: &services.enforcement_policy,
            outer: chain(Leg::Outer),
            inner: chain(Leg::Inner),
        };
        let mut next = swap.clone();
        let outbox = next.handle(event, &ctx)?;
        self.swaps.insert(id, next);
        Ok(outbox)
    }

    /// On the disk when this returns; only then its effects are known.
    async fn commit(&self, outbox: SwapOutbox) -> Result<Vec<Effect>, StoreError> {
        let mut store = self.services.store.clone();
        let commit = move || Outbox::commit_all(vec![outbox.with_keys::<CoreKey>()], &mut store);
        let done = tokio::task::spawn_blocking(commit).await;
        let effects = done.map_err(|error| self.services.store.damaged(&error.to_string()))??;
        Ok(effects.into_iter().flatten().collect())
    }

    async fn carry_out(&mut self, id: PaymentHash, effect: Effect) -> Result<Vec<Effect>, StoreError> {
        let (Effect::Fund { leg, .. }
        | Effect::Release { leg, .. }
        | Effect::Recall { leg, .. }
        | Effect::Broadcast { leg, .. }) = &effect;
        let Some(chain) = self.swaps.get(&id).and_then(|swap| self.chain_at(swap.offer().leg(*leg).chain.hash)) else {
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
            Ok(outbox) => self.commit(outbox).await.map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// What has changed for a person.
    fn tell(&mut self, id: PaymentHash) {
        let Some(swap) = self.swaps.get(&id) else { return };
        let phase = swap.phase();
        if self.told.insert(id, phase) != Some(phase) {
            info!(swap = %id, ?phase, "a swap goes on");
            let _ = self.news.send(self.info(swap));
        }
    }
}

fn refused(error: impl std::fmt::Display) -> SwapRefused {
    SwapRefused::Refused(error.to_string())
}
