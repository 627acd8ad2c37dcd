//! What all tasks of the running node share.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use bitcoin::{Amount, ScriptBuf, constants::ChainHash};
use leyden_channels::{
    channel::{
        AttemptId, CannotAdd, Channel, ChannelPolicy, Ctx, Feerates, HtlcKey, Key, Origin, Outbox, RetiredHtlc,
        Settlement, Terms, decode_retired,
    },
    crossing,
    gossip::Clocks,
    keys::{KeysSigner, Signer},
    onchain::{self, FeeEstimates},
    payment::{
        InvoiceNetwork,
        incoming::{Invoice, InvoiceCtx, InvoiceEffect, Invoices},
        outgoing::{Payment, PaymentEffect, PaymentRequest, PaymentState, Payments, StartError},
        record,
    },
    routing::{Router, Scorer},
    swap,
    switch::{ForwardPolicy, Switch},
    tx::fee,
    types::{
        ChannelId, CltvExpiry, CommitmentType, DirectoryId, FeeratePerKw, Height, HtlcDirection, HtlcId, Msat,
        PaymentHash, TipTrust, UnixTime,
    },
    workers::Workers,
};
use leyden_node::{Node, TimeBudget, TipDoubt};
use secp256k1::PublicKey;
use tokio::time::{Instant, sleep, timeout};

use super::{
    acceptors::Acceptors,
    announced::Announced,
    backup::Backups,
    chain::ChainWatch,
    committer::{Committer, Left, NodeEffect, PendingEffects, Stopped},
    connection::Local,
    depth::DepthRule,
    events::{Events, OwnHtlc, OwnHtlcNews},
    feerates::LastFeerates,
    gossip::Gossip,
    interceptor::InterceptorPlace,
    payment_times::PaymentTimes,
    peer::Command,
    peers::Peers,
    psbt_funding::PsbtFundings,
    routing::FailureUpdates,
    swaps::Swaps,
    towers::Towers,
    workers::Cores,
};
use crate::{
    admission::ConnectionSlots,
    store::{CoreKey, Store, StoreError},
    wallet::{keys::NodeKeys, onchain::OnchainWallet},
    words::LogBudget,
};

/// For how long a call waits for a tip that may be relied on, and how often it looks.
const TIP_PATIENCE: Duration = Duration::from_secs(5);
const TIP_INTERVAL: Duration = Duration::from_millis(50);

/// Confirmation targets for claims of closed channels, in blocks.
const ESTIMATED_TARGETS: [u32; 5] = [2, 6, 12, 36, 144];

/// How long what was begun waits for the task that goes on with it, before it is written alone.
const PEERS_TASK_PATIENCE: Duration = Duration::from_millis(1);

/// What [`Services::begin`] has handed over.
#[must_use = "effects that nobody waits for do not happen"]
pub(crate) struct Begun {
    waiting: VecDeque<PendingEffects>,
    left: Left,
}

/// Shared by every task; nothing in it waits.
pub(crate) struct Services {
    pub keys: NodeKeys,
    pub local: Local,
    pub node: Node,
    pub wallet: Arc<OnchainWallet>,
    pub store: Store,
    /// The data directory's name.
    pub directory: DirectoryId,
    pub committer: Committer,
    pub watch: ChainWatch,
    pub peers: Peers,
    /// Who decides about channels that others open.
    pub acceptors: Arc<Acceptors>,
    /// Who decides about forwards.
    pub interceptor: Arc<InterceptorPlace>,
    /// Openings that the user funds by a transaction of his own.
    pub psbt_fundings: Arc<PsbtFundings>,
    /// Those who have connected to us and have not said who they are.
    pub handshakes: ConnectionSlots,
    pub events: Events,
    pub backups: Backups,
    pub towers: Towers,
    pub swaps: Swaps,
    pub invoices: Mutex<Invoices>,
    pub payments: Mutex<Payments>,
    pub payment_times: PaymentTimes,
    pub switch: Mutex<Switch>,
    pub policy: ChannelPolicy,
    /// How many confirmations a channel wants that a stranger funds.
    pub depth_rule: DepthRule,
    /// What channels see of the chain's fees.
    pub last_feerates: LastFeerates,
    /// Whose channels are used before they are confirmed.
    pub zero_conf_peers: Vec<PublicKey>,
    /// The terms of channels that are new.
    pub forwarding: ForwardPolicy,
    pub gossip: Gossip,
    /// The time of day at the start.
    pub begun: UnixTime,
    pub router: Mutex<Router>,
    /// What payments have taught about channels.
    pub learnt: Mutex<Scorer>,
    pub failure_updates: Mutex<FailureUpdates>,
    /// What we say of ourselves.
    pub announced: RwLock<Announced>,
    /// What enforcing closed channels may cost, and how careful it is.
    pub enforcement_policy: onchain::EnforcementPolicy,
    pub invoice_network: InvoiceNetwork,
    /// For lines of the log that come and go with nodes that have no channel with us.
    pub strangers_log: Arc<LogBudget>,
    /// Processor time for all that is done for strangers.
    pub strangers_time: Arc<TimeBudget>,
    /// Processor time for handshakes of callers of whom nothing is known.
    pub handshakes_time: Arc<TimeBudget>,
    /// Who helps with large commitments.
    pub cores: Cores,
}

impl Services {
    pub(crate) fn node_id(&self) -> PublicKey {
        self.keys.node_id()
    }

    /// What we say of ourselves now.
    pub(crate) fn announced(&self) -> Announced {
        self.announced.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn now(&self) -> UnixTime {
        UnixTime(self.node.clock().now())
    }

    /// All clocks, for gossip.
    pub(crate) fn clocks(&self) -> Clocks {
        let chain = UnixTime(u64::from(self.node.tip().median_time_past));
        Clocks { wall: self.now(), chain, uptime: self.gossip.uptime() }
    }

    /// The time of day at the start, and what has passed since: what has been learnt fades by it, however the clock is
    /// set meanwhile.
    pub(crate) fn steady_time(&self) -> UnixTime {
        UnixTime(self.begun.0.saturating_add(self.gossip.uptime().0 / 1_000))
    }

    pub(crate) fn tip(&self) -> Height {
        Height(self.node.tip().height)
    }

    /// Whether that tip may be relied on. [`Node::check_tip`] says why not.
    pub(crate) fn trust(&self) -> TipTrust {
        match self.node.check_tip() {
            Ok(()) => TipTrust::Current,
            Err(_) => TipTrust::InDoubt,
        }
    }

    /// Waits for a tip that may be relied on, but not for long: after a start, or a lost connection, that is a matter of
    /// seconds.
    pub(crate) async fn wait_for_tip(&self) -> Result<(), TipDoubt> {
        let begun = Instant::now();
        loop {
            match self.node.check_tip() {
                Ok(()) => return Ok(()),
                Err(doubt) if begun.elapsed() >= TIP_PATIENCE => return Err(doubt),
                Err(_) => sleep(TIP_INTERVAL).await,
            }
        }
    }

    /// Confirmations that a channel of this capacity wants before it is used, if a stranger funds it
    /// ([`DepthRule`]).
    pub(crate) fn depth_for(&self, capacity: Amount) -> u32 {
        let allowed = self.policy.minimum_depth..=self.policy.max_minimum_depth;
        self.depth_rule.confirmations(capacity, self.tip().0, self.node.params(), allowed)
    }

    /// What the invoices may know at this moment.
    pub(crate) fn invoice_ctx(&self) -> InvoiceCtx {
        InvoiceCtx { now: self.now(), tip: self.tip(), trust: self.trust() }
    }

    pub(crate) fn chain_hash(&self) -> ChainHash {
        self.local.chain
    }

    /// What a channel may know at this moment.
    pub(crate) fn ctx(&self) -> Ctx<'_> {
        Ctx {
            chain: self.local.chain,
            now: self.now(),
            tip: self.tip(),
            trust: self.trust(),
            feerates: self.feerates(),
            policy: &self.policy,
            towers: self.towers.policy(),
            environment: self,
        }
    }

    pub(crate) fn feerates(&self) -> Feerates {
        self.last_feerates.at(self.tip(), &self.node)
    }

    /// What it costs to be in a block soon, or later.
    pub(crate) fn fee_estimates(&self) -> FeeEstimates {
        fee_estimates(&self.node)
    }

    /// The keys of a channel.
    pub(crate) fn signer(&self, keys_id: &[u8; 32]) -> Option<Arc<dyn Signer + Send + Sync>> {
        // A seed that gives no valid keys has a probability below 2^-120.
        KeysSigner::from_channel_seed(&self.keys.channel_seed(keys_id))
            .map(|signer| Arc::new(signer) as Arc<dyn Signer + Send + Sync>)
            .ok()
    }

    pub(crate) fn invoices(&self) -> MutexGuard<'_, Invoices> {
        self.invoices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn payments(&self) -> MutexGuard<'_, Payments> {
        self.payments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Records that are not in memory any more.

    pub(crate) fn invoice_record(&self, hash: &PaymentHash) -> Result<Option<Invoice>, StoreError> {
        let Some(index) = self.index(&Key::InvoiceIndex(*hash))? else { return Ok(None) };
        self.invoice_at(index)
    }

    pub(crate) fn invoice_at(&self, index: u64) -> Result<Option<Invoice>, StoreError> {
        let Some(bytes) = self.store.core_record(&Key::Invoice(index).encode())? else { return Ok(None) };
        record::decode_invoice(&bytes).map(Some).map_err(|error| self.store.damaged(&error.to_string()))
    }

    /// The smallest HTLC for which a channel is closed by itself, in either direction and of either type: one whose claim pays
    /// for itself now.
    pub(crate) fn least_claim(&self) -> Msat {
        let feerate = self.feerates().closing;
        let of = |direction| {
            fee::fee_for_weight(feerate, fee::htlc_tx_weight(CommitmentType::StaticRemoteKey, direction))
                .max(fee::fee_for_weight(feerate, fee::htlc_tx_weight(CommitmentType::Anchors, direction)))
        };
        let fee = of(HtlcDirection::Offered).max(of(HtlcDirection::Received));
        let least = self.policy.dust_limit.checked_add(fee);
        least.and_then(Msat::from_sat).unwrap_or(Msat(u64::MAX))
    }

    /// Whether a submarine swap of ours has this hash, whatever has become of it.
    pub(crate) fn is_of_a_swap(&self, hash: &PaymentHash) -> Result<bool, StoreError> {
        Ok(self.store.core_record(&CoreKey::Swap(swap::Key::Submarine(*hash)).encode())?.is_some())
    }

    /// Whether an atomic swap of ours has this hash, likewise.
    pub(crate) fn is_of_an_atomic_swap(&self, hash: &PaymentHash) -> Result<bool, StoreError> {
        Ok(self.store.core_record(&CoreKey::Swap(swap::Key::Swap(*hash)).encode())?.is_some())
    }

    /// Whether a submarine swap has it that has not ended.
    pub(crate) fn is_of_an_open_swap(&self, hash: &PaymentHash) -> Result<bool, StoreError> {
        let Some(row) = self.store.core_record(&CoreKey::Swap(swap::Key::Submarine(*hash)).encode())? else {
            return Ok(false);
        };
        let swap = swap::submarine::Submarine::restore(&row).map_err(|error| self.store.damaged(&error.to_string()))?;
        Ok(swap.outcome().is_none())
    }

    /// Whether a crossing in our own book has this hash.
    pub(crate) fn is_of_a_crossing(&self, hash: &PaymentHash) -> Result<bool, StoreError> {
        Ok(self.store.core_record(&CoreKey::Crossing(crossing::Key::Crossing(*hash)).encode())?.is_some())
    }

    pub(crate) fn payment_record(&self, hash: &PaymentHash) -> Result<Option<Payment>, StoreError> {
        let Some(index) = self.index(&Key::PaymentIndex(*hash))? else { return Ok(None) };
        self.payment_at(index)
    }

    pub(crate) fn payment_at(&self, index: u64) -> Result<Option<Payment>, StoreError> {
        let Some(bytes) = self.store.core_record(&Key::Payment(index).encode())? else { return Ok(None) };
        record::decode_payment(&bytes).map(Some).map_err(|error| self.store.damaged(&error.to_string()))
    }

    fn index(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        let Some(bytes) = self.store.core_record(&key.encode())? else { return Ok(None) };
        bytes.try_into().map(|bytes| Some(u64::from_be_bytes(bytes))).map_err(|_| self.store.damaged("an index"))
    }

    /// A channel as it is stored; `None` if nothing of it is.
    pub(crate) fn stored_channel(&self, id: &ChannelId) -> Result<Option<Channel>, StoreError> {
        let mut rows = Vec::new();
        for prefix in [Key::live_prefix(id), Key::enforcement_prefix(id)] {
            for (key, value) in self.store.core_records(&prefix)? {
                rows.push((Key::decode(&key).ok_or_else(|| self.store.damaged("a channel's key"))?, value));
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let channel = Channel::restore(rows, |terms| self.signer(&terms.keys_id));
        channel.map(Some).map_err(|error| self.store.damaged(&error.to_string()))
    }

    /// The HTLCs of a channel that only old states have.
    pub(crate) fn retired_htlcs(&self, id: &ChannelId) -> Result<Vec<RetiredHtlc>, StoreError> {
        let mut retired = Vec::new();
        for (key, value) in self.store.core_records(&Key::retired_prefix(id))? {
            let Some(Key::RetiredHtlc { offered_by, id, .. }) = Key::decode(&key) else {
                return Err(self.store.damaged("the key of a retired HTLC"));
            };
            let read = decode_retired(HtlcKey { offered_by, id }, &value);
            retired.push(read.map_err(|error| self.store.damaged(&error.to_string()))?);
        }
        Ok(retired)
    }

    // Payments and invoices beside the channels' turns.

    /// Changes a core that several tasks share. The lock is held until what follows is handed over, so that the records
    /// of the core reach the disk in the order in which it made them.
    pub(crate) fn change<C, E>(&self, core: &Mutex<C>, change: impl FnOnce(&mut C) -> Outbox<E>) -> PendingEffects
    where
        NodeEffect: From<E>,
    {
        let Ok(underway) = self.try_change(core, |core| Ok::<_, Infallible>(change(core)));
        underway
    }

    /// Changes a core like [`Self::change`], where the change may be refused.
    pub(crate) fn try_change<C, E, R>(
        &self,
        core: &Mutex<C>,
        change: impl FnOnce(&mut C) -> Result<Outbox<E>, R>,
    ) -> Result<PendingEffects, R>
    where
        NodeEffect: From<E>,
    {
        let mut core = core.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody goes on with what is half changed.
        let _vital = self.committer.vital("what several tasks share");
        let outbox = change(&mut core)?;
        Ok(self.committer.submit(vec![outbox.convert()]))
    }

    /// Begins something that a peer's task goes on with, such as a payment, and decides what follows inside the node. It
    /// shares the write of that task.
    pub(crate) fn begin<E>(self: &Arc<Self>, begin: impl FnOnce() -> Result<PendingEffects, E>) -> Result<Begun, E> {
        let together = self.committer.gather();
        let mut waiting = VecDeque::new();
        self.decide_all(&mut vec![begin()?], &mut waiting);
        Ok(Begun { waiting, left: together.leave() })
    }

    /// Carries out what was begun.
    pub(crate) async fn run_begun(self: &Arc<Self>, begun: Begun) -> Result<(), Stopped> {
        let Begun { mut waiting, left } = begun;
        let Some(first) = waiting.pop_front() else { return Ok(()) };
        let mut effects = pin!(first.effects());
        let effects = match timeout(PEERS_TASK_PATIENCE, &mut effects).await {
            Ok(effects) => effects?,
            Err(_) => {
                drop(left);
                effects.await?
            }
        };
        self.run_on(effects.into_iter().filter_map(|effect| self.decide(effect)).collect(), waiting).await
    }

    /// Decides what follows inside the node, waits for what was handed over, and carries its effects out.
    pub(crate) async fn run(self: &Arc<Self>, underway: PendingEffects) -> Result<(), Stopped> {
        self.run_on(vec![underway], VecDeque::new()).await
    }

    async fn run_on(
        self: &Arc<Self>,
        mut new: Vec<PendingEffects>,
        mut waiting: VecDeque<PendingEffects>,
    ) -> Result<(), Stopped> {
        loop {
            self.decide_all(&mut new, &mut waiting);
            let Some(first) = waiting.pop_front() else { return Ok(()) };
            for effect in first.effects().await? {
                new.extend(self.decide(effect));
            }
        }
    }

    /// Decides until nothing more follows; what has been handed over goes to `waiting`.
    fn decide_all(self: &Arc<Self>, new: &mut Vec<PendingEffects>, waiting: &mut VecDeque<PendingEffects>) {
        let _together = self.committer.gather();
        while !new.is_empty() {
            for mut one in std::mem::take(new) {
                let inner = one.take_inner();
                waiting.push_back(one);
                new.extend(inner.into_iter().filter_map(|effect| self.decide(effect)));
            }
        }
    }

    fn decide(self: &Arc<Self>, effect: NodeEffect) -> Option<PendingEffects> {
        match effect {
            NodeEffect::Payment(effect) => self.payment_effect(effect),
            NodeEffect::Invoice(effect) => self.invoice_effect(effect),
            NodeEffect::Switch(effect) => self.switch_effect(effect),
            NodeEffect::News(news) => {
                self.events.own_htlc(news);
                None
            }
            // Channels belong to their peers' tasks, and towers to theirs.
            NodeEffect::Channel { .. } | NodeEffect::Towers(_) => None,
        }
    }

    /// Begins a payment; what follows arrives as events.
    pub(crate) fn start_payment(&self, request: PaymentRequest) -> Result<PendingEffects, StartOrStore> {
        self.try_change(&self.payments, |payments| {
            // Under the lock: a payment that ends in between must not be begun again.
            let stored = self.payment_record(&request.payment_hash)?;
            let hash = request.payment_hash;
            let outbox = payments.start(request, stored.as_ref(), self.now())?;
            self.payment_times.begin(hash);
            Ok(outbox)
        })
    }

    /// Begins a payment unless there has ever been one with its hash, or its deadline is past. Who asks again is refused, so
    /// that asking again never pays again.
    pub(crate) fn start_payment_once(&self, request: PaymentRequest) -> Result<PendingEffects, OnceError> {
        self.try_change(&self.payments, |payments| {
            let hash = request.payment_hash;
            // Under the lock: whoever looks for the payment afterwards finds it, or it is never begun.
            if payments.pending(&hash).is_some() || self.payment_record(&hash)?.is_some() {
                return Err(OnceError::Known);
            }
            if self.now() > request.deadline {
                return Err(OnceError::TooLate);
            }
            let outbox = payments.start(request, None, self.now()).map_err(|_| OnceError::Known)?;
            self.payment_times.begin(hash);
            Ok(outbox)
        })
    }

    /// A payment as it is now, or as it has ended; `None` if there has never been one.
    pub(crate) fn payment_now(&self, hash: &PaymentHash) -> Result<Option<Payment>, StoreError> {
        let payments = self.payments();
        match payments.pending(hash) {
            Some(payment) => Ok(Some(payment.clone())),
            None => self.payment_record(hash),
        }
    }

    /// Our channels did not take an HTLC of a payment.
    pub(crate) fn payment_refused(&self, attempt: AttemptId, cause: &CannotAdd) -> PendingEffects {
        self.change(&self.payments, |payments| payments.refused(attempt, cause, self.now()))
    }

    /// Does what a payment asks for; what follows from it has to be waited for too.
    pub(crate) fn payment_effect(self: &Arc<Self>, effect: PaymentEffect) -> Option<PendingEffects> {
        match effect {
            PaymentEffect::FindRoutes { payment_hash, request, amount, max_fee: _ } => {
                self.find_routes(payment_hash, &request, amount)
            }
            PaymentEffect::Offer { route, htlc } => {
                let (first, origin) = (route.first(), htlc.origin);
                if self.peers.to_peer(&first.node_id, Command::Offer { htlc, channel: first.channel }) {
                    return None;
                }
                // The peer's last channel has gone since the route was found.
                let Origin::Payment(attempt) = origin else { return None };
                Some(self.payment_refused(attempt, &CannotAdd::Offline))
            }
            PaymentEffect::Updated(payment) => {
                if payment.state != PaymentState::Pending {
                    let took = self.payment_times.end(&payment.request.payment_hash);
                    self.store.counters().payment_ended(&payment, took);
                    self.forget_told(&payment.request.payment_hash);
                }
                self.events.payment(payment);
                None
            }
        }
    }

    /// Does what an invoice asks for; what follows from it has to be waited for too.
    pub(crate) fn invoice_effect(&self, effect: InvoiceEffect) -> Option<PendingEffects> {
        match effect {
            InvoiceEffect::Decide(arrived) => self.receive(*arrived),
            InvoiceEffect::Settle { channel, id, settlement } => {
                let told = self.tell_received(channel, id, &settlement);
                self.peers.to_channel(&channel, Command::Settle { channel, id, settlement });
                Some(told)
            }
            InvoiceEffect::Updated(invoice) => {
                self.store.counters().invoice(&invoice);
                self.events.invoice(invoice);
                None
            }
        }
    }

    /// An HTLC that paid an invoice, or a part of it, has brought nothing on the chain.
    pub(crate) fn invoice_taken_back(
        &self,
        channel: ChannelId,
        id: HtlcId,
        hash: &PaymentHash,
    ) -> Result<PendingEffects, StoreError> {
        self.try_change(&self.invoices, |invoices| {
            // Under the lock, so that no change comes in between. Forwarded HTLCs have no invoice.
            let stored = self.invoice_record(hash)?;
            Ok(stored.map(|invoice| invoices.taken_back(invoice, channel, id)).unwrap_or_default())
        })
    }

    // News.

    /// Tells who listens of an HTLC that begins or ends here, once what has happened so far is durable.
    pub(crate) fn tell_own_htlc(&self, channel: ChannelId, id: Option<HtlcId>, news: OwnHtlcNews) -> PendingEffects {
        self.committer.submit(vec![self.own_htlc(channel, id, news)])
    }

    /// The same, to be handed over with what else belongs together.
    pub(crate) fn own_htlc(&self, channel: ChannelId, id: Option<HtlcId>, news: OwnHtlcNews) -> Outbox<NodeEffect> {
        let mut outbox = Outbox::default();
        outbox.emit(NodeEffect::News(OwnHtlc { at: self.now(), channel, id, news }));
        outbox
    }

    /// Tells who listens of the end of an HTLC that somebody pays us with.
    pub(crate) fn tell_received(&self, channel: ChannelId, id: HtlcId, settlement: &Settlement) -> PendingEffects {
        let news = match settlement {
            Settlement::Fulfill(preimage) => OwnHtlcNews::Taken { preimage: *preimage },
            Settlement::Fail { .. } | Settlement::FailMalformed { .. } => OwnHtlcNews::Rejected,
        };
        self.tell_own_htlc(channel, Some(id), news)
    }
}

impl leyden_channels::channel::Environment for Services {
    fn policy(&self) -> &onchain::EnforcementPolicy {
        &self.enforcement_policy
    }

    fn estimates(&self) -> FeeEstimates {
        self.fee_estimates()
    }

    fn newest(&self) -> Height {
        Height(self.node.best_header().height)
    }

    fn destination(&self, terms: &Terms) -> ScriptBuf {
        self.wallet.channel_script(&terms.keys_id)
    }

    fn upstream_expiry(&self, origin: Origin) -> Option<CltvExpiry> {
        Self::upstream_expiry(self, origin)
    }

    fn workers(&self) -> &dyn Workers {
        &self.cores
    }
}

/// Why a payment is not begun that is begun once.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OnceError {
    #[error("a payment with this hash is known already")]
    Known,
    #[error("it was to be begun earlier")]
    TooLate,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartOrStore {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What it costs to be in a block soon, or later, as our own mempool and blocks say.
pub(crate) fn fee_estimates(node: &Node) -> FeeEstimates {
    FeeEstimates::new(ESTIMATED_TARGETS.map(|blocks| (blocks, per_kw(node.estimate_fee(blocks)))).to_vec())
}

/// Satoshi per kilo-weight, rounded up and never below what relays.
pub(crate) fn per_kw(rate: bitcoin::FeeRate) -> FeeratePerKw {
    let rate = u32::try_from(rate.to_sat_per_kwu()).unwrap_or(u32::MAX);
    FeeratePerKw(rate.max(FeeratePerKw::FLOOR.0))
}
