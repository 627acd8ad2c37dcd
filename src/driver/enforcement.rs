//! Closed channels on their way to the wallet: carries out what `leyden_channels::onchain` asks for.
//!
//! ```text
//!   channel closed by one side ─► begin ─► Resolution ◄── spends, tips, reorganisations (`chain`)
//!                                              │     ◄── preimages of incoming HTLCs (invoices)
//!          committed with the peer's batch ◄───┤
//!                                              ▼
//!     watch · broadcast · coins of the wallet · payments' outcomes · news ──► resolved: the record for people
//! ```
//!
//! Promises: nothing is broadcast or told before what it rests on is durable; a broadcast that the mempool refuses is
//! told, and tried again at every block; the channel ends when its enforcement says so, never earlier.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use bitcoin::{Amount, OutPoint, ScriptBuf, SignedAmount, Transaction, TxIn, Txid};
use leyden_channels::{
    channel::{Channel, Event, HtlcFailure, HtlcKey, Key, Origin, Settlement, decode_retired, revoked_htlcs},
    keys::Signer,
    onchain::{
        self, Closer, ClosingChannel, Effect, Notice, OutputReport, OutputStatus, Rejection, Resolution, TrackedOutput,
    },
    switch::HtlcRef,
    tx::FeeCoin,
    types::{ChannelId, CltvExpiry, CommitmentNumber, FeeratePerKw, Height, HtlcId, Side},
};
use leyden_node::{MempoolError, Node, NodeError, error::PackageError};
use tracing::{debug, error, info, warn};

use super::{
    cause::reason,
    chain,
    peer::{Closing, Peer},
};
use crate::{
    driver::events::ChannelNews,
    store::{ClosedChannel, ClosureType, ResolvedKind, ResolvedOutput, StoreError},
    wallet::onchain::WalletError,
};

/// Blocks that a closing transaction of the peer's may wait in the mempool before we broadcast our own commitment.
const PATIENCE: u32 = 12;

/// One closed channel.
pub struct Enforcement {
    resolution: Resolution,
    signer: Arc<dyn Signer + Send + Sync>,
    /// Whose our outgoing HTLCs are.
    origins: HashMap<HtlcId, Origin>,
    /// The tip when this began, or began again.
    begun: Height,
    /// The tip up to which it knows the chain.
    tip: Height,
    /// Claims that the mempool has refused, and why.
    refused: BTreeMap<Txid, String>,
}

/// A closed channel at one moment, for people.
#[derive(Clone, Debug)]
pub struct EnforcementState {
    pub channel: ChannelId,
    /// The closing transaction, once it is in the chain.
    pub close: Option<(Txid, Height)>,
    /// What has spent the funding output, while that is only in the mempool.
    pub closing: Option<Transaction>,
    /// Our own commitment, if we may broadcast it.
    pub local_commitment: Option<Txid>,
    pub remote_commitment: Option<Txid>,
    pub outputs: Vec<TrackedOutput>,
    /// What confirmed transactions have brought the wallet, fees taken off.
    pub recovered: SignedAmount,
    pub funding: OutPoint,
    /// Each output with its claim.
    pub reports: Vec<OutputReport>,
    /// Why it closes.
    pub reason: String,
    /// What our confirmed claims have paid to miners.
    pub fees: Amount,
    /// What the wallet lacks for claims that cannot pay for themselves.
    pub lacking: Option<Amount>,
    /// Claims that the mempool has refused, and why.
    pub refused: BTreeMap<Txid, String>,
}

impl EnforcementState {
    /// Whether an output is claimed here, or belongs to a claim, to our commitment or to the funding.
    pub fn concerns(&self, outpoint: &OutPoint) -> bool {
        let claimed = |report: &OutputReport| match report.status {
            OutputStatus::Claimed { txid, .. } => report.outpoint == *outpoint || txid == outpoint.txid,
            OutputStatus::Locked { .. }
            | OutputStatus::NoPreimage
            | OutputStatus::Undecided
            | OutputStatus::Uneconomic
            | OutputStatus::NeedsCoins => report.outpoint == *outpoint,
            OutputStatus::Spent { .. } => false,
        };
        let waiting = self.close.is_none();
        self.reports.iter().any(claimed)
            || waiting && (self.local_commitment == Some(outpoint.txid) || self.funding == *outpoint)
    }
}

impl Enforcement {
    fn new(resolution: Resolution, channel: &Channel, signer: Arc<dyn Signer + Send + Sync>, tip: Height) -> Self {
        let outgoing = resolution.channel().outgoing();
        let origins = outgoing.keys().filter_map(|id| channel.origin_of(*id).map(|origin| (*id, origin))).collect();
        Self { resolution, signer, origins, begun: tip, tip, refused: BTreeMap::new() }
    }

    /// Something has closed the channel in a block.
    pub fn is_closed(&self) -> bool {
        self.resolution.close().is_some()
    }

    /// Whether coins of the wallet may be needed to bring something home.
    pub fn needs_coins(&self) -> bool {
        self.resolution.needs_coins()
    }

    /// What became of the newest version of a claim. Older ones are of no interest any more.
    fn note_refusal(&mut self, txid: Txid, refusal: Option<String>) {
        let sent = self.resolution.claims().values().filter_map(|claim| claim.sent.as_ref());
        let current: HashSet<Txid> = sent.map(|sent| sent.tx.compute_txid()).collect();
        self.refused.retain(|txid, _| current.contains(txid));
        match refusal {
            Some(reason) => drop(self.refused.insert(txid, reason)),
            None => drop(self.refused.remove(&txid)),
        }
    }

    /// The confirmed spend of an output that the resolution knows of.
    fn known_spend(&self, outpoint: &OutPoint) -> Option<onchain::Told> {
        let spends = |tx: &Transaction| tx.input.iter().any(|input| input.previous_output == *outpoint);
        let (tx, height) = self.resolution.spends().find(|(tx, _)| spends(tx))?;
        Some(onchain::Told { txid: tx.compute_txid(), height: Some(height) })
    }
}

impl Peer {
    /// An enforcement from the store, whose channel is there already.
    pub fn restore_enforcement(&mut self, resolution: Resolution) {
        let id = resolution.channel().channel_id;
        let Some(channel) = self.slots.get(&id).map(|slot| &slot.channel) else { return };
        let Some(signer) = self.signer_of(channel) else { return };
        for (claim, coins) in resolution.coins() {
            self.services.wallet.set_aside_again((id, claim), coins);
        }
        let enforcement = Enforcement::new(resolution, channel, signer, self.services.tip());
        self.enforced.insert(id, enforcement);
    }

    /// After a restart: what a crash swallowed comes again. The look at the outputs that are watched now ends with a tip,
    /// also if nothing has happened and no block comes: that sets the claims going.
    pub(super) fn restart_enforcements(&mut self) {
        for id in self.enforced.keys().copied().collect::<Vec<_>>() {
            self.enforce(id, onchain::Event::Restarted);
        }
        // A crash may have come between the close and the record of its enforcement.
        let closed = self.slots.iter().filter(|(_, slot)| slot.channel.needs_enforcement());
        for id in closed.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.begin_enforcement(id);
        }
    }

    /// Begins to enforce a channel that one side has closed alone. Safe to repeat.
    pub(super) fn begin_enforcement(&mut self, id: ChannelId) {
        if self.enforced.contains_key(&id) {
            return;
        }
        let Some(channel) = self.slots.get(&id).map(|slot| &slot.channel) else { return };
        let Some(signer) = self.signer_of(channel) else { return };
        let Some(terms) = channel.terms() else { return };
        let destination = self.services.wallet.channel_script(&terms.keys_id);
        let closing = match channel.closing_channel(destination) {
            Ok(Some(closing)) => {
                ClosingChannel { upstream_expiries: self.upstream_expiries(channel, &closing), ..closing }
            }
            Ok(None) => return,
            Err(error) => {
                error!(channel = %id, %error, "a closed channel cannot be enforced");
                return;
            }
        };
        let (resolution, outbox) = Resolution::begin(closing);
        let enforcement = Enforcement::new(resolution, channel, signer, self.services.tip());
        self.enforced.insert(id, enforcement);
        self.push(id, self.link_id(), outbox);
        self.enforce(id, onchain::Event::Restarted);
    }

    /// When the incoming HTLCs end that are forwarded through this channel.
    fn upstream_expiries(&self, channel: &Channel, closing: &ClosingChannel) -> BTreeMap<HtlcId, CltvExpiry> {
        let expiry = |id: HtlcId| self.services.upstream_expiry(channel.origin_of(id)?);
        closing.outgoing().into_keys().filter_map(|id| expiry(id).map(|expiry| (id, expiry))).collect()
    }

    /// We have closed: our own commitment has to get into the chain.
    pub(super) async fn closed_by_us(&mut self, id: ChannelId, commitment: Txid) {
        // If the mempool has refused it, whoever asked hears that instead.
        if self.services.node.transaction(commitment).await.is_ok_and(|found| found.is_some()) {
            self.tell_closing(id, &Closing::Pending { txid: commitment, by: Side::Local });
        }
        self.underway.extend(self.services.channel_closed(id));
        self.begin_enforcement(id);
        if self.enforced.get(&id).is_some_and(|one| !one.resolution.is_forced()) {
            self.enforce(id, onchain::Event::ForceClose);
        }
    }

    /// The peer has closed with this transaction.
    pub(super) fn closed_by_peer(&mut self, id: ChannelId, transaction: Txid) {
        self.tell_closing(id, &Closing::Pending { txid: transaction, by: Side::Remote });
        self.underway.extend(self.services.channel_closed(id));
        self.begin_enforcement(id);
    }

    /// Whether this channel's end is not for the depth of its closing transaction to tell.
    pub(super) fn is_enforced(&self, id: &ChannelId) -> bool {
        self.enforced.contains_key(id) || self.slots.get(id).is_some_and(|slot| slot.channel.needs_enforcement())
    }

    /// How an incoming HTLC ends: on the chain, if its channel is closed.
    pub(super) fn settle(&mut self, id: ChannelId, htlc: HtlcId, settlement: Settlement) {
        match settlement {
            Settlement::Fulfill(preimage) if self.is_enforced(&id) => {
                self.begin_enforcement(id);
                self.enforce(id, onchain::Event::Preimage(preimage));
            }
            settlement => self.event(id, Event::Settle { id: htlc, settlement }),
        }
    }

    /// News of the chain for a closed channel.
    pub(super) fn enforce_all(&mut self, id: ChannelId, events: Vec<onchain::Event>, tip: Height) {
        if let Some(one) = self.enforced.get_mut(&id) {
            one.tip = tip;
        }
        for event in events {
            let is_tip = event == onchain::Event::Tip;
            // What they may show decides what the tip means. The look that is due ends with a tip.
            if is_tip && !self.has_looked_at_outputs(id) {
                continue;
            }
            self.enforce(id, event);
            if is_tip {
                self.lose_patience(id);
                self.keep_reserve(id);
            }
        }
    }

    fn has_looked_at_outputs(&self, id: ChannelId) -> bool {
        let Some(one) = self.enforced.get(&id) else { return true };
        let outputs = one.resolution.outputs().map(|output| output.outpoint);
        self.services.watch.has_looked_at(&id, outputs.chain([one.resolution.channel().funding]))
    }

    /// The peer's closing transaction may have left the mempool for good, and the peer with it.
    fn lose_patience(&mut self, id: ChannelId) {
        let Some(one) = self.enforced.get(&id) else { return };
        let waited = self.services.tip().0.saturating_sub(one.begun.0);
        if one.resolution.close().is_none() && !one.resolution.is_forced() && waited >= PATIENCE {
            info!(channel = %id, "the closing transaction does not confirm; our own commitment is broadcast");
            self.enforce(id, onchain::Event::ForceClose);
        }
    }

    /// Hands an event to an enforcement. What comes of it is committed with this turn.
    pub(super) fn enforce(&mut self, id: ChannelId, event: onchain::Event) {
        let services = Arc::clone(&self.services);
        let Some(one) = self.enforced.get_mut(&id) else { return };
        let estimates = services.fee_estimates();
        let ctx = onchain::Ctx {
            tip: one.tip,
            newest: Height(services.node.best_header().height),
            estimates: &estimates,
            policy: &services.enforcement,
            signer: one.signer.as_ref(),
        };
        match one.resolution.handle(event, &ctx) {
            Ok(outbox) => self.push(id, self.link_id(), outbox),
            Err(error) => {
                error!(channel = %id, %error, "the enforcement of a closed channel is stopped; report this");
                self.enforced.remove(&id);
            }
        }
    }

    /// Does what an enforcement asks for, once its record is durable.
    pub(super) async fn enforcement_effect(&mut self, id: ChannelId, effect: Effect) {
        match effect {
            Effect::Watch { outpoint, .. } => {
                let known = self.enforced.get(&id).and_then(|one| one.known_spend(&outpoint));
                self.services.watch.watch_output(id, &self.mailbox, outpoint, known);
                self.unseen.insert(id);
            }
            Effect::Broadcast { tx, parents, coins } => self.publish(id, tx, &parents, &coins).await,
            Effect::LoadRevokedHtlcs { number } => match self.load_revoked_htlcs(id, number) {
                Ok(event) => self.enforce(id, event),
                Err(error) => error!(channel = %id, %error, "the HTLCs of a revoked state cannot be read"),
            },
            Effect::NeedCoins { claim, amount } => {
                let coins = self.services.wallet.set_aside((id, claim), amount);
                let have: Amount = coins.iter().map(|coin| coin.output.value).sum();
                if have < amount {
                    // It is asked for again at every block.
                    warn!(channel = %id, needed = amount.to_sat(), available = have.to_sat(),
                        "the wallet has too few coins for the fee of a claim: send some to `leyden newaddress`");
                }
                self.enforce(id, onchain::Event::Coins { claim, coins });
            }
            Effect::CheckCoins { coins, ours } => {
                let lost = self.lost_coins(id, &coins, &ours).await;
                if !lost.is_empty() {
                    warn!(channel = %id, ?lost, "coins of a claim are gone; others take their place");
                    self.enforce(id, onchain::Event::CoinsLost(lost));
                }
            }
            Effect::ReleaseCoins(coins) => self.services.wallet.put_back(&coins),
            Effect::Fulfilled { htlc, preimage, .. } => {
                if let Some(origin) = self.origin(id, htlc) {
                    self.fulfilled(origin, HtlcRef { channel: id, id: htlc }, preimage);
                }
            }
            Effect::Failed { htlc, .. } => {
                if let Some(origin) = self.origin(id, htlc) {
                    self.failed(origin, HtlcRef { channel: id, id: htlc }, HtlcFailure::NotOnChain);
                }
            }
            Effect::TakenBack { htlc, payment_hash } => {
                error!(channel = %id, htlc = htlc.0, hash = %payment_hash,
                    "an HTLC whose preimage was shown has brought nothing on the chain");
                match self.services.invoice_taken_back(id, htlc, &payment_hash) {
                    Ok(underway) => self.underway.push(underway),
                    // It is told again after a restart.
                    Err(error) => error!(channel = %id, %error, "an invoice that was not paid cannot be noted"),
                }
            }
            Effect::Notice(notice) => self.enforcement_notice(id, &notice),
            Effect::Resolved => {
                if let Err(error) = self.resolved(id) {
                    error!(channel = %id, %error, "the record of a closed channel is not kept; it is tried again");
                }
            }
        }
    }

    /// Looks at the outputs that have been asked for in this turn.
    pub(super) async fn look_at_new_outputs(&mut self) {
        for id in std::mem::take(&mut self.unseen) {
            if let Err(error) = self.services.watch.look_at_outputs(id).await {
                error!(channel = %id, %error, "the chain cannot be watched");
                // Until that look has ended with a tip, claims wait.
                self.unseen.insert(id);
            }
        }
    }

    async fn publish(&mut self, id: ChannelId, tx: Transaction, parents: &[Transaction], coins: &[FeeCoin]) {
        let txid = tx.compute_txid();
        let signed = match self.services.wallet.sign_coins(tx, coins) {
            Ok(signed) => signed,
            Err(error) => {
                self.not_published(id, txid, &error);
                return;
            }
        };
        let (node, wallet) = (&self.services.node, &self.services.wallet);
        let refusal = chain::broadcast(node, wallet, parents, &signed).await.err();
        let words = refusal.as_ref().map(ToString::to_string);
        match self.enforced.get_mut(&id) {
            // A child goes with its commitment.
            Some(one) if one.resolution.close().is_none() => {
                self.commitment_handed_over(id, parents.first().unwrap_or(&signed), words);
            }
            Some(one) => one.note_refusal(txid, words),
            None => {}
        }
        if let Some(error) = refusal {
            debug!(channel = %id, %txid, %error, "a claim was refused");
            self.enforce(id, onchain::Event::Rejected { txid, cause: rejection(&error) });
        }
    }

    /// Those of a claim's coins that no version of it can spend any more.
    async fn lost_coins(&self, id: ChannelId, coins: &[OutPoint], ours: &[OutPoint]) -> Vec<OutPoint> {
        let mut lost = Vec::new();
        for coin in coins {
            match is_lost(&self.services.node, coin, ours).await {
                Ok(true) => lost.push(*coin),
                Ok(false) => {}
                Err(error) => error!(channel = %id, %coin, %error, "a claim's coin cannot be looked up"),
            }
        }
        lost
    }

    fn not_published(&mut self, id: ChannelId, txid: Txid, error: &WalletError) {
        error!(channel = %id, %txid, %error, "a claim's coins cannot be signed");
        self.enforce(id, onchain::Event::Rejected { txid, cause: Rejection::Other });
    }

    fn load_revoked_htlcs(&self, id: ChannelId, number: CommitmentNumber) -> Result<onchain::Event, StoreError> {
        let store = &self.services.store;
        let mut retired = Vec::new();
        for (key, value) in store.core_records(&Key::retired_prefix(&id))? {
            let Some(Key::RetiredHtlc { offered_by, id, .. }) = Key::decode(&key) else {
                return Err(store.damaged("the key of a retired HTLC"));
            };
            let read = decode_retired(HtlcKey { offered_by, id }, &value);
            retired.push(read.map_err(|error| store.damaged(&error.to_string()))?);
        }
        Ok(onchain::Event::RevokedHtlcs { number, htlcs: revoked_htlcs(number, retired) })
    }

    fn origin(&self, id: ChannelId, htlc: HtlcId) -> Option<Origin> {
        self.enforced.get(&id)?.origins.get(&htlc).copied()
    }

    fn enforcement_notice(&mut self, id: ChannelId, notice: &Notice) {
        match notice {
            Notice::Closed { by, txid, height } => {
                info!(channel = %id, %txid, height = height.0, "closed by {by}");
                self.tell_closing(id, &Closing::Closed { txid: *txid });
            }
            Notice::Reopened => warn!(channel = %id, "a reorganisation took the closing transaction back"),
            Notice::Breach { number, txid } => {
                error!(channel = %id, %txid, state = number.0,
                    "the peer has published a revoked state: all of the channel is taken");
                self.tell_closing(id, &Closing::Closed { txid: *txid });
            }
            Notice::UnknownSpend { txid } => {
                error!(channel = %id, %txid, "the funding output was spent by a transaction that we never signed: \
                    its keys may have leaked");
            }
            Notice::OldLocalState { number } => {
                error!(channel = %id, state = number.0,
                    "an old state of our own was published, by a copy of our data: the peer may take everything");
            }
            Notice::DataLoss { number } => {
                error!(channel = %id, state = number.0,
                    "the peer closed with a state that we have lost: only our plain balance can be claimed");
            }
        }
    }

    /// The channel is over for another reason: it was never funded, for example.
    pub(super) fn forget_enforcement(&mut self, id: ChannelId) {
        if let Some(one) = self.enforced.remove(&id) {
            self.services.wallet.put_back_all(&id);
            self.push(id, self.link_id(), one.resolution.forget());
        }
    }

    /// Everything is claimed and deep enough. The record for people first: it is written again if a crash follows.
    fn resolved(&mut self, id: ChannelId) -> Result<(), StoreError> {
        let Some(one) = self.enforced.get(&id) else { return Ok(()) };
        let forgotten = one.resolution.forget();
        if let Some(closed) = self.closed_channel(id, one) {
            self.services.store.put_closed_channel(&closed)?;
            self.services.events.channel(ChannelNews::Closed(closed.funding));
            info!(channel = %id, settled = closed.settled.map(Amount::to_sat), "the channel is resolved");
        }
        self.enforced.remove(&id);
        self.services.wallet.put_back_all(&id);
        self.push(id, self.link_id(), forgotten);
        self.event(id, Event::CloseConfirmed);
        Ok(())
    }

    fn closed_channel(&self, id: ChannelId, one: &Enforcement) -> Option<ClosedChannel> {
        let summary = self.slots.get(&id)?.channel.summary()?;
        let known = summary.established.as_ref()?;
        let (txid, height) = one.resolution.close()?;
        let (closure, closer) = match one.resolution.closer()? {
            Closer::Mutual => (ClosureType::Cooperative, None),
            Closer::Local(_) | Closer::LocalOld { .. } => (ClosureType::LocalForce, Some(Side::Local)),
            Closer::Remote { .. } | Closer::RemoteFuture { .. } => (ClosureType::RemoteForce, Some(Side::Remote)),
            Closer::Revoked { .. } => (ClosureType::Breach, Some(Side::Remote)),
            Closer::Unknown => (ClosureType::RemoteForce, None),
        };
        let delayed = one.resolution.outputs().filter(|output| is_delayed(output));
        Some(ClosedChannel {
            node_id: self.node_id,
            funding: known.funding,
            short_channel_id: known.short_channel_id,
            capacity: summary.capacity,
            closing_txid: Some(txid),
            height,
            settled: Some(self.recovered(one).to_unsigned().unwrap_or_default()),
            time_locked: delayed.map(|output| output.output.value).sum(),
            closure,
            opener: summary.opener,
            closer: closer.or_else(|| self.cause(&known.funding).map(|cause| cause.by)),
            reason: self.reason(one),
            fees: self.fees(one),
            outputs: one.resolution.outputs().map(resolved).collect(),
        })
    }

    fn reason(&self, one: &Enforcement) -> String {
        reason(one.resolution.closer(), self.cause(&one.resolution.channel().funding).as_ref())
    }

    /// What our confirmed claims have paid to miners.
    fn fees(&self, one: &Enforcement) -> Amount {
        let tracked: HashMap<OutPoint, Amount> =
            one.resolution.outputs().map(|output| (output.outpoint, output.output.value)).collect();
        let spends = one.resolution.outputs().filter_map(|output| output.spend.as_ref());
        let claims: HashSet<Txid> = spends.filter(|spend| spend.ours).map(|spend| spend.txid).collect();
        let input = |input: &TxIn| {
            let outpoint = &input.previous_output;
            tracked.get(outpoint).copied().or_else(|| self.services.wallet.amount_of(outpoint))
        };
        let fee = |(tx, _): (&Transaction, Height)| {
            let ours = claims.contains(&tx.compute_txid());
            let paid: Amount = tx.output.iter().map(|output| output.value).sum();
            let inputs: Option<Amount> = tx.input.iter().map(input).sum();
            inputs.filter(|_| ours).and_then(|inputs| inputs.checked_sub(paid)).unwrap_or(Amount::ZERO)
        };
        one.resolution.spends().map(fee).sum()
    }

    /// Makes what claims an output pay at least this.
    pub(super) fn bump(&mut self, id: ChannelId, outpoint: OutPoint, feerate: FeeratePerKw) -> Result<(), String> {
        let Some(one) = self.enforced.get(&id) else { return Err("this channel is not closing any more".to_owned()) };
        let outpoint = one.resolution.bumped_by(&outpoint).ok_or_else(|| {
            "nothing that could pay more claims this output now: it is spent, it is still locked, or its fee was fixed \
             when it was signed"
                .to_owned()
        })?;
        self.enforce(id, onchain::Event::Bump { outpoint, feerate });
        Ok(())
    }

    /// What a channel can become on the chain.
    pub(super) fn tree(&self, id: &ChannelId) -> Option<onchain::Tree> {
        let closing = match self.enforced.get(id) {
            Some(one) => one.resolution.channel().clone(),
            None => self.slots.get(id)?.channel.closing_channel(ScriptBuf::new()).ok()??,
        };
        onchain::tree(&closing).ok()
    }

    fn recovered(&self, one: &Enforcement) -> SignedAmount {
        one.resolution.spends().map(|(tx, _)| self.services.wallet.gain(tx)).sum()
    }

    pub(super) fn describe_enforcements(&self) -> Vec<EnforcementState> {
        let describe = |(id, one): (&ChannelId, &Enforcement)| {
            let channel = one.resolution.channel();
            let txid = |state| channel.remote_commitment(state).ok().map(|commitment| commitment.txid);
            EnforcementState {
                channel: *id,
                close: one.resolution.close(),
                closing: one.resolution.closing_in_mempool().cloned(),
                local_commitment: channel.local_commitment().ok().flatten().map(|commitment| commitment.txid),
                remote_commitment: channel.remote_state.as_ref().and_then(txid),
                outputs: one.resolution.outputs().cloned().collect(),
                recovered: self.recovered(one),
                funding: channel.funding,
                reports: one.resolution.report(self.services.tip(), &self.services.enforcement),
                reason: self.reason(one),
                fees: self.fees(one),
                lacking: one.resolution.lacking(),
                refused: one.refused.clone(),
            }
        };
        self.enforced.iter().map(describe).collect()
    }

    fn signer_of(&self, channel: &Channel) -> Option<Arc<dyn Signer + Send + Sync>> {
        self.services.signer(&channel.terms()?.keys_id)
    }
}

/// Whether a claim's coin was reorganised away, or is spent by anything but a claim of one of `ours`.
async fn is_lost(node: &Node, coin: &OutPoint, ours: &[OutPoint]) -> Result<bool, NodeError> {
    let Some(spend) = node.spender(*coin).await? else { return Ok(node.transaction(coin.txid).await?.is_none()) };
    let Some(found) = node.transaction(spend.txid).await? else { return Ok(false) };
    Ok(!found.transaction.input.iter().any(|input| ours.contains(&input.previous_output)))
}

fn resolved(output: &TrackedOutput) -> ResolvedOutput {
    use onchain::Role;
    let kind = match output.role {
        Role::ToLocal | Role::ToRemote | Role::RevokedToLocal | Role::RevokedSecondStage => ResolvedKind::Commitment,
        Role::LocalHtlc(_) | Role::LocalSecondStage(_) | Role::RemoteHtlc(_) | Role::RevokedHtlc(_) => {
            if output.role.outgoing().is_some() { ResolvedKind::OutgoingHtlc } else { ResolvedKind::IncomingHtlc }
        }
    };
    ResolvedOutput {
        outpoint: output.outpoint,
        amount: output.output.value,
        what: output.role.describe().to_owned(),
        kind,
        spent: output.spend.as_ref().map(|spend| (spend.txid, spend.ours)),
        first_stage: matches!(output.role, Role::LocalHtlc(_)),
    }
}

/// Whether an output had, or has, to wait for `to_self_delay`.
pub fn is_delayed(output: &TrackedOutput) -> bool {
    use onchain::Role;
    match output.role {
        Role::ToLocal | Role::LocalSecondStage(_) => true,
        Role::ToRemote
        | Role::LocalHtlc(_)
        | Role::RemoteHtlc(_)
        | Role::RevokedToLocal
        | Role::RevokedHtlc(_)
        | Role::RevokedSecondStage => false,
    }
}

/// What a refusal means for a claim.
pub fn rejection(error: &MempoolError) -> Rejection {
    match error {
        MempoolError::Package(PackageError::Transaction { error, .. }) => rejection(error),
        MempoolError::FeeBelowMinimumRelay { .. }
        | MempoolError::FeeBelowMempoolMinimum { .. }
        | MempoolError::MempoolFull
        | MempoolError::Package(PackageError::FeeTooLow { .. }) => Rejection::FeeTooLow,
        MempoolError::ReplacementFeeRateTooLow { .. }
        | MempoolError::ReplacementFeeTooLow { .. }
        | MempoolError::TooManyReplacements { .. }
        | MempoolError::ReplacementAddsUnconfirmed(_)
        | MempoolError::SpendsConflicting(_)
        | MempoolError::Package(PackageError::ReplacementShape) => Rejection::Conflict,
        _ => Rejection::Other,
    }
}
