//! Closed channels on their way to the wallet: the driver's part of what `leyden_channels::channel` asks for them.
//!
//! ```text
//!   channel, closing ──Onchain──► publish · find coins · read the revoked HTLCs · show to people
//!          ▲                           │
//!          └──── Event::Onchain ◄──┘          Event::Chain ◄── spends, tips, reorganisations (`chain`)
//! ```
//!
//! Promises: nothing is broadcast or told before what it rests on is durable; a broadcast that the mempool refuses is
//! told, and tried again at every block; the channel ends when its enforcement says so, never earlier.

use std::collections::{BTreeMap, HashMap, HashSet};

use bitcoin::{Amount, OutPoint, ScriptBuf, SignedAmount, Transaction, TxIn, Txid};
use leyden_channels::{
    channel::{Channel, Event, revoked_htlcs},
    onchain::{self, Closer, Effect, Notice, OutputReport, OutputStatus, Rejection, Resolution, TrackedOutput},
    tx::FeeCoin,
    types::{ChannelId, CommitmentNumber, FeeratePerKw, Height, Side},
};
use leyden_node::{MempoolError, Node, NodeError, error::PackageError};
use tracing::{debug, error, info, warn};

use super::{
    cause::reason,
    chain,
    peer::{CloseProgress, Peer, Slot},
};
use crate::{
    driver::events::ChannelNews,
    store::{ClosedChannel, ClosureType, ResolvedKind, ResolvedOutput, StoreError},
    wallet::onchain::WalletError,
};

/// A closed channel at one moment, for people.
#[derive(Clone, Debug)]
pub(crate) struct ResolutionState {
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

impl ResolutionState {
    /// Whether an output is claimed here, or belongs to a claim, to our commitment or to the funding.
    pub(crate) fn concerns(&self, outpoint: &OutPoint) -> bool {
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

impl Slot {
    /// What became of the newest version of a claim. Older ones are of no interest any more.
    fn note_claim_refusal(&mut self, txid: Txid, refusal: Option<String>) {
        let claims = self.channel.resolution().into_iter().flat_map(|one| one.claims().values());
        let sent = claims.filter_map(|claim| claim.sent.as_ref());
        let current: HashSet<Txid> = sent.map(|sent| sent.tx.compute_txid()).collect();
        self.refused.retain(|txid, _| current.contains(txid));
        match refusal {
            Some(reason) => drop(self.refused.insert(txid, reason)),
            None => drop(self.refused.remove(&txid)),
        }
    }
}

impl Peer {
    /// A channel from the store may have coins of the wallet's in claims.
    pub(super) fn set_coins_aside(&self, channel: &Channel) {
        let id = channel.id();
        for (claim, coins) in channel.resolution().into_iter().flat_map(Resolution::coins) {
            self.services.wallet.set_aside_again((id, claim), coins);
        }
    }

    fn resolution(&self, id: ChannelId) -> Option<&Resolution> {
        self.slots.get(&id)?.channel.resolution()
    }

    /// We have closed: our own commitment has to get into the chain.
    pub(super) async fn closed_by_us(&mut self, id: ChannelId, commitment: Txid) {
        // If the mempool has refused it, whoever asked hears that instead.
        if self.services.node.transaction(commitment).await.is_ok_and(|found| found.is_some()) {
            self.tell_closing(id, &CloseProgress::Pending { txid: commitment, by: Side::Local });
        }
        self.underway.extend(self.services.channel_closed(id));
    }

    /// Somebody else has closed with this transaction.
    pub(super) fn closed_by_peer(&mut self, id: ChannelId, transaction: Txid) {
        self.tell_closing(id, &CloseProgress::Pending { txid: transaction, by: Side::Remote });
        self.underway.extend(self.services.channel_closed(id));
    }

    /// Whether this channel's end is for its enforcement to tell.
    pub(super) fn is_enforced(&self, id: &ChannelId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.channel.needs_enforcement())
    }

    /// Watches an output for a channel. What the chain says of it already is told at the end of the turn.
    pub(super) fn watch_output(&mut self, id: ChannelId, outpoint: OutPoint) {
        let channel = self.slots.get(&id).map(|slot| &slot.channel);
        let known = channel.and_then(|channel| channel.known_spend(&outpoint));
        let closing = channel.is_some_and(|channel| channel.resolution().is_some());
        self.services.watch.watch_output(id, &self.mailbox, outpoint, known, closing);
        self.unseen.insert(id);
    }

    /// News of the chain for a channel's outputs; what they say of the closing transaction is kept for people too.
    pub(super) fn chain_news(&mut self, id: ChannelId, events: Vec<onchain::Event>, tip: Height) {
        for event in events {
            let is_tip = event == onchain::Event::Tip;
            // What they may show decides what the tip means. The look that is due ends with a tip.
            if is_tip && !self.has_looked_at_outputs(id) {
                continue;
            }
            let is_reorganisation = matches!(event, onchain::Event::Reorganized { .. });
            let close = self.spends_funding(id, &event);
            self.event(id, Event::Chain { event, tip });
            if is_reorganisation || close.is_some() {
                self.keep_close(id, close.as_ref());
            }
            if is_tip {
                self.keep_reserve(id);
            }
        }
    }

    fn spends_funding(&self, id: ChannelId, event: &onchain::Event) -> Option<Transaction> {
        let funding = self.slots.get(&id)?.channel.terms()?.funding;
        let onchain::Event::Spent { tx, .. } = event else { return None };
        tx.input.iter().any(|input| input.previous_output == funding).then(|| tx.clone())
    }

    fn has_looked_at_outputs(&self, id: ChannelId) -> bool {
        self.slots.get(&id).is_none_or(|slot| self.services.watch.has_looked_at(&id, slot.channel.watched()))
    }

    fn enforce(&mut self, id: ChannelId, event: onchain::Event) {
        self.event(id, Event::Onchain(event));
    }

    /// Does what an enforcement asks for, once its record is durable.
    pub(super) async fn onchain_effect(&mut self, id: ChannelId, effect: Effect) {
        match effect {
            Effect::Broadcast { tx, parents, coins } => self.publish(id, tx, &parents, &coins).await,
            Effect::LoadRevokedHtlcs { number } => match self.load_revoked_htlcs(id, number) {
                Ok(event) => self.enforce(id, event),
                Err(error) => error!(channel = %self.point(&id), %error, "the HTLCs of a revoked state cannot be read"),
            },
            Effect::NeedCoins { claim, amount } => {
                let coins = self.services.wallet.set_aside((id, claim), amount);
                let have: Amount = coins.iter().map(|coin| coin.output.value).sum();
                if have < amount {
                    // It is asked for again at every block.
                    warn!(channel = %self.point(&id), needed = amount.to_sat(), available = have.to_sat(),
                        "the wallet has too few coins for the fee of a claim: send some to `leyden newaddress`");
                }
                self.enforce(id, onchain::Event::Coins { claim, coins });
            }
            Effect::CheckCoins { coins, ours } => {
                let lost = self.lost_coins(id, &coins, &ours).await;
                if !lost.is_empty() {
                    warn!(channel = %self.point(&id), ?lost, "coins of a claim were spent elsewhere; other coins replace them");
                    self.enforce(id, onchain::Event::CoinsLost(lost));
                }
            }
            Effect::ReleaseCoins(coins) => self.services.wallet.put_back(&coins),
            Effect::TakenBack { htlc, payment_hash } => {
                error!(channel = %self.point(&id), htlc = htlc.0, hash = %payment_hash,
                    "an HTLC whose preimage was shown has brought nothing on the chain");
                match self.services.invoice_taken_back(id, htlc, &payment_hash) {
                    Ok(underway) => self.underway.push(underway),
                    // It is told again after a restart.
                    Err(error) => {
                        error!(channel = %self.point(&id), %error, "that its invoice was not paid could not be stored")
                    }
                }
            }
            Effect::Notice(notice) => self.enforcement_notice(id, &notice),
            Effect::Resolved => {
                if let Err(error) = self.resolved(id) {
                    error!(channel = %self.point(&id), %error, "the record of a closed channel could not be stored; it is tried again");
                }
            }
            Effect::Watch { .. } | Effect::Fulfilled { .. } | Effect::Failed { .. } => {
                error!(channel = %self.point(&id), ?effect, "the channel has an effect of its own for this; report this");
            }
        }
    }

    /// Looks at the outputs that have been asked for in this turn.
    pub(super) async fn look_at_new_outputs(&mut self) {
        for id in std::mem::take(&mut self.unseen) {
            if let Err(error) = self.services.watch.look_at_outputs(id).await {
                error!(channel = %self.point(&id), %error, "the chain cannot be watched");
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
        match self.slots.get_mut(&id) {
            // A child goes with its commitment.
            Some(slot) if slot.channel.resolution().is_some_and(|one| one.close().is_none()) => {
                self.commitment_handed_over(id, parents.first().unwrap_or(&signed), words);
            }
            Some(slot) => slot.note_claim_refusal(txid, words),
            None => {}
        }
        if let Some(error) = refusal {
            debug!(channel = %self.point(&id), %txid, %error, "a claim was refused");
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
                Err(error) => error!(channel = %self.point(&id), %coin, %error, "a claim's coin cannot be looked up"),
            }
        }
        lost
    }

    fn not_published(&mut self, id: ChannelId, txid: Txid, error: &WalletError) {
        error!(channel = %self.point(&id), %txid, %error, "a claim's coins cannot be signed");
        self.enforce(id, onchain::Event::Rejected { txid, cause: Rejection::Other });
    }

    fn load_revoked_htlcs(&self, id: ChannelId, number: CommitmentNumber) -> Result<onchain::Event, StoreError> {
        let retired = self.services.retired_htlcs(&id)?;
        Ok(onchain::Event::RevokedHtlcs { number, htlcs: revoked_htlcs(number, retired) })
    }

    fn enforcement_notice(&mut self, id: ChannelId, notice: &Notice) {
        self.services.store.counters().closing(notice);
        match notice {
            // Its record tells of it.
            Notice::Closed { .. } if !self.is_enforced(&id) => {}
            Notice::Closed { by, txid, height } => {
                info!(channel = %self.point(&id), %txid, height = height.0, "closed by {by}");
                self.tell_closing(id, &CloseProgress::Closed { txid: *txid });
            }
            Notice::Reopened => warn!(channel = %self.point(&id), "a reorganisation took the closing transaction back"),
            Notice::Breach { number, txid } => {
                error!(channel = %self.point(&id), %txid, state = number.0,
                    "the peer has published a revoked state: its outputs are taken as a penalty");
                self.tell_closing(id, &CloseProgress::Closed { txid: *txid });
            }
            Notice::UnknownSpend { txid } => {
                error!(channel = %self.point(&id), %txid, "the funding output was spent by a transaction that we never signed: \
                    its keys may have leaked");
                self.tell_closing(id, &CloseProgress::Closed { txid: *txid });
            }
            Notice::OldLocalState { number } => {
                error!(channel = %self.point(&id), state = number.0,
                    "an old state of our own was published, by a copy of our data: the peer may take everything");
            }
            Notice::DataLoss { number } => {
                error!(channel = %self.point(&id), state = number.0,
                    "the peer closed with a state that we have lost: only our plain balance can be claimed");
            }
        }
    }

    /// Everything is claimed and deep enough. The record for people first: it is written again if a crash follows.
    fn resolved(&mut self, id: ChannelId) -> Result<(), StoreError> {
        if self.is_enforced(&id)
            && let Some(closed) = self.resolution(id).and_then(|one| self.closed_channel(id, one))
        {
            self.services.store.put_closed_channel(&closed)?;
            self.services.events.channel(ChannelNews::Closed(closed.funding));
            self.services.events.channel(ChannelNews::Resolved(closed.funding));
            info!(channel = %self.point(&id), settled = closed.settled.map(Amount::to_sat), "the channel is resolved");
        }
        self.event(id, Event::CloseConfirmed);
        Ok(())
    }

    fn closed_channel(&self, id: ChannelId, one: &Resolution) -> Option<ClosedChannel> {
        let summary = self.slots.get(&id)?.channel.summary()?;
        let known = summary.established.as_ref()?;
        let (txid, height) = one.close()?;
        let (closure, closer) = match one.closer()? {
            Closer::Mutual => (ClosureType::Cooperative, None),
            Closer::Local(_) | Closer::LocalOld { .. } => (ClosureType::LocalForce, Some(Side::Local)),
            Closer::Remote { .. } | Closer::RemoteFuture { .. } => (ClosureType::RemoteForce, Some(Side::Remote)),
            Closer::Revoked { .. } => (ClosureType::Breach, Some(Side::Remote)),
            Closer::Unknown => (ClosureType::RemoteForce, None),
        };
        let delayed = one.outputs().filter(|output| is_delayed(output));
        Some(ClosedChannel {
            node_id: self.node_id.into(),
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
            outputs: one.outputs().map(resolved).collect(),
        })
    }

    fn reason(&self, one: &Resolution) -> String {
        reason(one.closer(), self.cause(&one.channel().funding).as_ref())
    }

    /// What our confirmed claims have paid to miners.
    fn fees(&self, one: &Resolution) -> Amount {
        let tracked: HashMap<OutPoint, Amount> =
            one.outputs().map(|output| (output.outpoint, output.output.value)).collect();
        let spends = one.outputs().filter_map(|output| output.spend.as_ref());
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
        one.spends().map(fee).sum()
    }

    /// Makes what claims an output pay at least this.
    pub(super) fn bump(&mut self, id: ChannelId, outpoint: OutPoint, feerate: FeeratePerKw) -> Result<(), String> {
        let Some(one) = self.resolution(id) else { return Err("this channel is not closing any more".to_owned()) };
        let outpoint = one.bumped_by(&outpoint).ok_or_else(|| {
            "nothing that could pay more claims this output now: it is spent, it is still locked, or its fee was fixed \
             when it was signed"
                .to_owned()
        })?;
        self.enforce(id, onchain::Event::Bump { outpoint, feerate });
        Ok(())
    }

    /// What a channel can become on the chain.
    pub(super) fn tree(&self, id: &ChannelId) -> Option<onchain::Tree> {
        let closing = match self.resolution(*id) {
            Some(one) => one.channel().clone(),
            None => self.slots.get(id)?.channel.closing_channel(ScriptBuf::new()).ok()??,
        };
        onchain::tree(&closing).ok()
    }

    fn recovered(&self, one: &Resolution) -> SignedAmount {
        one.spends().map(|(tx, _)| self.services.wallet.gain(tx)).sum()
    }

    pub(super) fn describe_enforcements(&self) -> Vec<ResolutionState> {
        let describe = |(id, slot): (&ChannelId, &Slot)| {
            let one = slot.channel.resolution().filter(|_| slot.channel.needs_enforcement())?;
            let channel = one.channel();
            let txid = |state| channel.remote_commitment(state).ok().map(|commitment| commitment.txid);
            Some(ResolutionState {
                channel: *id,
                close: one.close(),
                closing: one.closing_in_mempool().cloned(),
                local_commitment: channel.local_commitment().ok().flatten().map(|commitment| commitment.txid),
                remote_commitment: channel.remote_state.as_ref().and_then(txid),
                outputs: one.outputs().cloned().collect(),
                recovered: self.recovered(one),
                funding: channel.funding,
                reports: one.report(self.services.tip(), &self.services.enforcement_policy),
                reason: self.reason(one),
                fees: self.fees(one),
                lacking: one.lacking(),
                refused: slot.refused.clone(),
            })
        };
        self.slots.iter().filter_map(describe).collect()
    }
}

/// Whether a claim's coin was reorganised away, or is spent by anything but a claim of one of `ours`.
async fn is_lost(node: &Node, coin: &OutPoint, ours: &[OutPoint]) -> Result<bool, NodeError> {
    let Some(spend) = node.spender(*coin).await? else {
        return Ok(node.height_of(&coin.txid)?.is_none() && node.transaction(coin.txid).await?.is_none());
    };
    let Some(found) = node.transaction(spend.txid).await? else { return Ok(false) };
    Ok(!found.transaction.input.iter().any(|input| ours.contains(&input.previous_output)))
}

fn resolved(output: &TrackedOutput) -> ResolvedOutput {
    use onchain::Role;
    let kind = match output.role {
        Role::ToLocal | Role::ToRemote | Role::RevokedToLocal | Role::RevokedSecondStage | Role::Anchor => {
            ResolvedKind::Commitment
        }
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
pub(crate) fn is_delayed(output: &TrackedOutput) -> bool {
    use onchain::Role;
    match output.role {
        Role::ToLocal | Role::LocalSecondStage(_) => true,
        Role::ToRemote
        | Role::LocalHtlc(_)
        | Role::RemoteHtlc(_)
        | Role::RevokedToLocal
        | Role::RevokedHtlc(_)
        | Role::RevokedSecondStage
        | Role::Anchor => false,
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
