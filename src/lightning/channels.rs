//! The channels' calls.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use bitcoin::{Address, Amount, OutPoint, ScriptBuf};
use leyden_channels::{
    channel::{
        ChannelType, CloseRequest, EstablishedSummary, FundingSpend, FundingState, Htlc, LARGE_CHANNEL, OpenOverrides,
        OpenRequest, SideLimits, SpendKind, StateName, Summary, feerate,
    },
    switch::ForwardPolicy,
    tx::{closing_weight, fee},
    types::{ChannelId, CommitmentType, FeeratePerKw, HtlcDirection, HtlcId, Msat, ShortChannelId, Side},
    wire::features::Feature,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{
    LightningNode, closing,
    closing_rates::{ClosingRates, Market, closing_rates},
    funding::{OpeningStream, step_error},
    invoices::futures_unfold,
    tip_error,
    wallet::{coins, fee_rate},
};
use crate::{
    api::{
        ApiError, ChannelBalance, ChannelConstraints, ChannelEvent, ChannelFunding, ChannelHtlc, ChannelInfo,
        ChannelSummary, Channels, CloseChannel, CloseKind, CloseUpdate, ClosedChannel, FeeChoice, OpenChannel,
        OpenUpdate, OpeningChannel, PendingChannels, PsbtPublisher, Updates, WaitingCloseChannel,
    },
    driver::{
        events::ChannelNews,
        peer::{ChannelState, CloseProgress, Command, FundingSource, OpenChoices, OpenPlan, PeerState, Presence},
        psbt_funding::PsbtFunding,
        services::{Services, per_kw},
    },
};

/// What the stream of an opening tells at most, without being read: it need not wait.
const MAX_OPEN_UPDATES: usize = 8;

#[async_trait]
impl Channels for LightningNode {
    async fn open_channel(&self, request: OpenChannel) -> Result<Updates<OpenUpdate>, ApiError> {
        let services = self.services();
        services.wait_for_tip().await.map_err(|doubt| tip_error("no channel is opened", &doubt))?;
        let node_id = request.node_id;
        let state = self.connected_peer(&node_id).await?;
        let features = state.connection.map(|connection| connection.features).unwrap_or_default();
        let funding_feerate = fee_rate(services, request.fee);
        let coins = coins(&request.coins);
        let large_channels = features.supports(Feature::SupportLargeChannel);
        let knows_zero_conf = [&features, &services.local.features].iter().all(|all| all.supports(Feature::Zeroconf));
        let commitment = match request.commitment_type {
            Some(CommitmentType::Anchors) | None if features.supports(Feature::Anchors) => CommitmentType::Anchors,
            Some(CommitmentType::Anchors) => {
                return Err(ApiError::precondition("the peer does not know anchor channels: choose STATIC_REMOTE_KEY"));
            }
            Some(CommitmentType::StaticRemoteKey) | None => CommitmentType::StaticRemoteKey,
        };
        let capacity = match request.funding {
            ChannelFunding::Exactly(amount) => amount,
            ChannelFunding::Everything => {
                // It keeps something back for itself too.
                let more = usize::from(commitment.has_anchors());
                let wanted = coins.clone();
                let look = move |services: &Arc<Services>| {
                    services.wallet.spendable(funding_feerate, &wanted, more).map_err(super::wallet::wallet_error)
                };
                let most = self.read(look).await?;
                if large_channels { most } else { most.min(LARGE_CHANNEL - Amount::from_sat(1)) }
            }
        };
        if request.scid_alias && !features.supports(Feature::ScidAlias) {
            return Err(ApiError::precondition("the peer does not know channels that are named by an alias alone"));
        }
        let feerate = feerate::target(commitment, &services.feerates());
        let keys_id = rand::random();
        let shutdown_script = match &request.shutdown_address {
            Some(address) => address.script_pubkey(),
            None => services.wallet.channel_script(&keys_id),
        };
        let temporary_channel_id = request.shim.as_ref().map_or_else(|| ChannelId(rand::random()), |shim| shim.id);
        let open = OpenRequest {
            remote_node: node_id.into(),
            temporary_channel_id,
            keys_id,
            capacity,
            push: request.push,
            feerate,
            channel_type: ChannelType {
                commitment,
                scid_alias: request.scid_alias,
                zero_conf: request.zero_conf && knows_zero_conf,
            },
            announce: request.announce,
            overrides: OpenOverrides {
                to_self_delay: request.remote_delay,
                max_to_self_delay: request.max_local_delay,
                htlc_minimum: request.htlc_minimum,
                max_in_flight: request.remote_max_in_flight,
                max_accepted_htlcs: request.remote_max_htlcs,
                reserve: request.remote_reserve,
                zero_conf: request.zero_conf,
            },
            commit_to_script: request.shutdown_address.is_some(),
            shutdown_script,
            alias: ShortChannelId(rand::random()),
            large_channels,
        };
        let defaults = services.forwarding;
        let forwarding = ForwardPolicy {
            base_fee: request.base_fee.unwrap_or(defaults.base_fee),
            fee_ppm: request.fee_ppm.unwrap_or(defaults.fee_ppm),
            ..defaults
        };
        forwarding.check().map_err(|error| ApiError::invalid(error.to_string()))?;
        let source = match &request.shim {
            None => FundingSource::Wallet { feerate: funding_feerate, coins },
            Some(shim) => {
                let publishes = shim.publisher == PsbtPublisher::Node;
                services.psbt_fundings.begin(shim.id, node_id, publishes).map_err(step_error)?;
                FundingSource::Psbt(PsbtFunding::new(Arc::clone(&services.psbt_fundings), shim.id))
            }
        };
        let (progress, news) = mpsc::unbounded_channel();
        let anchors = commitment.has_anchors();
        let choices = OpenChoices { source, anchors, forwarding, memo: request.memo };
        let plan = OpenPlan { request: open, choices };
        let command = Command::Open { plan: Box::new(plan), progress };
        if !services.peers.to_peer(&node_id, command) {
            return Err(ApiError::unavailable("the daemon is stopping"));
        }
        let (updates, mut receiver) = mpsc::channel(MAX_OPEN_UPDATES);
        let stream = OpeningStream {
            services: Arc::clone(services),
            id: temporary_channel_id,
            shim: request.shim,
            feerate: funding_feerate,
            pending_told: false,
            news,
            updates,
        };
        tokio::spawn(stream.run());
        // A refusal is an answer to the call, not an event of the stream.
        let interrupted = || ApiError::unavailable("the opening was interrupted; see `leyden pendingchannels`");
        let first = receiver.recv().await.ok_or_else(interrupted)??;
        Ok(Box::pin(tokio_stream::once(Ok(first)).chain(ReceiverStream::new(receiver))))
    }

    async fn close_channel(&self, request: CloseChannel) -> Result<Updates<CloseUpdate>, ApiError> {
        let services = self.services();
        if matches!(request.kind, CloseKind::Force) {
            // They may be about to say that our data is old.
            services.towers.answered().await;
        }
        let not_found =
            || ApiError::not_found(format!("there is no open channel {}; see `leyden listchannels`", request.funding));
        let ChannelState { summary, .. } = self.channel_state(request.funding).await.ok_or_else(not_found)?;
        let channel = summary.channel_id;
        if matches!(summary.state, StateName::Lost | StateName::Restored) {
            return Err(ApiError::precondition(format!(
                "this channel is {}: connect the peer (`leyden connect`), which then closes it",
                summary.state
            )));
        }
        let (progress, mut news) = mpsc::unbounded_channel();
        let command = match request.kind {
            CloseKind::Force => Command::ForceClose { channel, progress },
            CloseKind::Cooperative { fee, max_fee_rate, to, wait_for_htlcs } => {
                let pending = summary.established.as_ref().map_or(0, |known| known.htlcs.len());
                let raises = matches!(summary.spend, Some(FundingSpend { height: None, kind: SpendKind::Mutual, .. }));
                if is_closing_alone(&summary) {
                    return Err(ApiError::precondition(
                        "the channel is being closed alone already: `leyden bumpfee` with its channel point makes that pay \
                         more, `leyden pendingchannels` shows how far it is",
                    ));
                }
                if !summary.online && !raises {
                    return Err(ApiError::precondition(
                        "the peer is not connected: connect it, or close alone with `--force`",
                    ));
                }
                if pending > 0 && !wait_for_htlcs {
                    return Err(ApiError::precondition(format!(
                        "{pending} payments are in flight in this channel: wait for them, or let it close as soon as they \
                         have ended with --no-wait"
                    )));
                }
                let known = summary.established.as_ref();
                let committed = known.and_then(|known| known.upfront_shutdown_script.clone());
                let script = match (&to, committed) {
                    (Some(address), _) => address.script_pubkey(),
                    (None, Some(committed)) => committed,
                    (None, None) => services.wallet.channel_script(&channel.0),
                };
                let (asked, estimate) = match fee {
                    FeeChoice::Rate(rate) => (Some(per_kw(rate)), FeeChoice::Default),
                    FeeChoice::Default | FeeChoice::ConfirmWithin(_) => (None, fee),
                };
                let market = Market {
                    estimate: per_kw(fee_rate(services, estimate)),
                    relays: services.feerates().mempool_minimum,
                };
                let pays = known.filter(|_| summary.opener == Side::Local);
                let funds = pays.map(|known| known.closing_funds(Side::Local));
                let wishes = ClosingRates { proposed: asked, most: max_fee_rate.map(per_kw) };
                let (feerate, feerate_max) = closing_rates(funds, wishes, market, closing_weight(&script, &script))?;
                let request = CloseRequest { script, feerate, feerate_min: FeeratePerKw::FLOOR, feerate_max };
                Command::Close { channel, request, progress }
            }
        };
        if !services.peers.to_channel(&channel, command) {
            return Err(not_found());
        }
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(item) = news.recv().await {
                let item = match item {
                    CloseProgress::Refused { reason } => Err(ApiError::precondition(reason)),
                    CloseProgress::Pending { txid, by } => Ok(CloseUpdate::Pending { txid, fee_rate: None, by }),
                    CloseProgress::Closed { txid } => Ok(CloseUpdate::Closed { txid, local: None, remote: None }),
                };
                let over = !matches!(item, Ok(CloseUpdate::Pending { .. }));
                if sender.send(item).await.is_err() || over {
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn abandon_channel(&self, funding: OutPoint) -> Result<String, ApiError> {
        let not_found = || ApiError::not_found(format!("there is no channel {funding}; see `leyden pendingchannels`"));
        let ChannelState { summary, .. } = self.channel_state(funding).await.ok_or_else(not_found)?;
        let (answer, done) = oneshot::channel();
        let id = summary.channel_id;
        if !self.services().peers.to_channel(&id, Command::Abandon { channel: id, answer }) {
            return Err(not_found());
        }
        match done.await {
            Ok(Ok(())) if summary.state == StateName::DoubleSpent => {
                Ok("the channel is forgotten; its coins had been spent by another transaction".to_owned())
            }
            Ok(Ok(())) => {
                Ok("the channel is forgotten: if its funding transaction is or gets confirmed, what it holds is lost"
                    .to_owned())
            }
            Ok(Err(reason)) => Err(ApiError::precondition(reason)),
            Err(_) => Err(ApiError::unavailable("the daemon is stopping")),
        }
    }

    async fn channel_balance(&self) -> Result<ChannelBalance, ApiError> {
        Ok(balance(&self.summaries().await))
    }

    async fn channels(&self) -> Result<Vec<ChannelInfo>, ApiError> {
        Ok(open_channels(self.services(), &self.peer_states().await))
    }

    async fn pending_channels(&self) -> Result<PendingChannels, ApiError> {
        Ok(self.pending_of(&self.peer_states().await))
    }

    async fn closed_channels(&self) -> Result<Vec<ClosedChannel>, ApiError> {
        self.read(|services| Ok(services.store.closed_channels_as()?)).await
    }

    async fn channel_events(&self) -> Result<Updates<ChannelEvent>, ApiError> {
        let services = Arc::clone(self.services());
        let news = futures_unfold(services.events.channels(), move |news| match news {
            ChannelNews::Pending(funding) => Some(ChannelEvent::PendingOpen(funding)),
            ChannelNews::Open(summary) => {
                let known = summary.established.clone()?;
                let node_id = summary.remote_node.public_key().ok()?;
                // It is told of when both have just agreed on it: nobody has been waited for.
                let peer = Remote { node_id, connected: true, presence: Presence::default() };
                Some(ChannelEvent::Open(Box::new(info(&services, &peer, &summary, &known, &Forwards::default()))))
            }
            ChannelNews::Usable { funding, usable: true } => Some(ChannelEvent::Active(funding)),
            ChannelNews::Usable { funding, usable: false } => Some(ChannelEvent::Inactive(funding)),
            ChannelNews::Closed(funding) => {
                let closed = services.store.closed_channel(&funding).ok()??;
                Some(ChannelEvent::Closed(Box::new(closed.into())))
            }
            ChannelNews::Resolved(funding) => Some(ChannelEvent::FullyResolved(funding)),
        });
        Ok(Box::pin(news.filter_map(Result::transpose)))
    }
}

impl LightningNode {
    pub(super) fn pending_of(&self, states: &[PeerState]) -> PendingChannels {
        let tip = self.services().tip();
        let mut pending = PendingChannels::default();
        for state in states {
            for channel in &state.channels {
                let Some(known) = &channel.established else { continue };
                let summary = self.summary(state.node_id, channel, known);
                match channel.state {
                    StateName::Opening | StateName::Normal | StateName::Closed => {}
                    StateName::Funding | StateName::Ready => {
                        let is_there = known.funding_state.is_on_chain();
                        let confirmed_at = known.short_channel_id.filter(|_| is_there).map(ShortChannelId::block);
                        let depth = confirmed_at.map_or(0, |at| tip.0.saturating_add(1).saturating_sub(at.0));
                        pending.opening.push(OpeningChannel {
                            commit_fee: known.commitment_fee,
                            commit_weight: commitment_weight(known),
                            feerate: known.feerate,
                            confirmed_at,
                            confirmations_missing: known.minimum_depth.saturating_sub(depth),
                            blocks_until_forgotten: None,
                            summary,
                        });
                    }
                    // It ends without anything to get out of it.
                    StateName::DoubleSpent => pending.waiting_close.push(WaitingCloseChannel {
                        limbo: Amount::ZERO,
                        closing: None,
                        local_commitment: None,
                        remote_commitment: None,
                        local_commit_fee: known.commitment_fee,
                        remote_commit_fee: known.commitment_fee,
                        summary,
                    }),
                    StateName::Shutdown
                    | StateName::Negotiating
                    | StateName::Lost
                    | StateName::Restored
                    | StateName::Closing => {
                        if is_closed_together(channel) {
                            continue;
                        }
                        let id = channel.channel_id;
                        let resolution = state.resolutions.iter().find(|state| state.channel == id);
                        closing::add(&mut pending, summary, known, resolution, tip);
                    }
                }
            }
        }
        pending
    }

    async fn connected_peer(&self, node_id: &secp256k1::PublicKey) -> Result<PeerState, ApiError> {
        let offline = || {
            ApiError::precondition(format!("peer {node_id} is not online: `leyden connect {node_id}@host:port` first"))
        };
        let mailbox = self.services().peers.get(node_id).ok_or_else(offline)?;
        let (answer, state) = oneshot::channel();
        mailbox.send(Command::Describe(answer)).map_err(|_| offline())?;
        state.await.ok().filter(|state| state.connection.is_some()).ok_or_else(offline)
    }

    fn summary(&self, node_id: secp256k1::PublicKey, channel: &Summary, known: &EstablishedSummary) -> ChannelSummary {
        summary_of(node_id, channel, known, memo(self.services(), known))
    }
}

/// A confirmed closing of both is among the closed channels; we only wait until it is final.
pub(super) fn is_closed_together(channel: &Summary) -> bool {
    matches!(&channel.spend, Some(FundingSpend { height: Some(_), kind: SpendKind::Mutual, .. }))
}

/// A commitment has been published, by whichever side.
fn is_closing_alone(channel: &Summary) -> bool {
    matches!(&channel.spend, Some(spend) if spend.kind != SpendKind::Mutual)
}

/// The sums over all channels.
pub(super) fn balance(channels: &[Summary]) -> ChannelBalance {
    let mut balance = ChannelBalance::default();
    for channel in channels {
        let Some(known) = &channel.established else { continue };
        let add = |to: &mut Msat, amount: Msat| to.0 = to.0.saturating_add(amount.0);
        let (local, remote) = balances(channel, known);
        match channel.state {
            StateName::Funding | StateName::Ready => {
                add(&mut balance.pending_local, local);
                add(&mut balance.pending_remote, remote);
            }
            StateName::Normal | StateName::Shutdown => {
                add(&mut balance.local, local);
                add(&mut balance.remote, remote);
                for htlc in &known.htlcs {
                    match htlc.offered_by {
                        Side::Local => add(&mut balance.unsettled_remote, htlc.amount),
                        Side::Remote => add(&mut balance.unsettled_local, htlc.amount),
                    }
                }
            }
            StateName::Opening
            | StateName::Negotiating
            | StateName::Lost
            | StateName::Restored
            | StateName::Closing
            | StateName::DoubleSpent
            | StateName::Closed => {}
        }
    }
    balance
}

/// The halves of the HTLCs that pass through this node.
#[derive(Default)]
struct Forwards {
    /// What channels are called.
    names: HashMap<ChannelId, ShortChannelId>,
    /// By the incoming half.
    outgoing: HashMap<(ChannelId, HtlcId), (ShortChannelId, HtlcId)>,
}

impl Forwards {
    fn of<'a>(channels: impl Iterator<Item = &'a Summary>) -> Self {
        let mut forwards = Self::default();
        for channel in channels {
            let Some(known) = &channel.established else { continue };
            let Some(name) = known.short_channel_id.or(known.local_alias) else { continue };
            forwards.names.insert(channel.channel_id, name);
            for (outgoing, from, incoming) in &known.forwards {
                forwards.outgoing.insert((*from, *incoming), (name, *outgoing));
            }
        }
        forwards
    }

    /// Where the rest of an HTLC's way is.
    fn other_half(
        &self,
        channel: &ChannelId,
        known: &EstablishedSummary,
        htlc: &Htlc,
    ) -> Option<(ShortChannelId, HtlcId)> {
        match htlc.offered_by {
            Side::Remote => self.outgoing.get(&(*channel, htlc.id)).copied(),
            Side::Local => {
                let (_, from, incoming) = known.forwards.iter().find(|(id, ..)| *id == htlc.id)?;
                Some((*self.names.get(from)?, *incoming))
            }
        }
    }
}

fn open_channels(services: &Services, states: &[PeerState]) -> Vec<ChannelInfo> {
    let forwards = Forwards::of(states.iter().flat_map(|state| &state.channels));
    let mut list = Vec::new();
    for state in states {
        let peer = Remote { node_id: state.node_id, connected: state.connection.is_some(), presence: state.presence };
        for channel in state.channels.iter().filter(|channel| channel.state == StateName::Normal) {
            if let Some(known) = &channel.established {
                list.push(info(services, &peer, channel, known, &forwards));
            }
        }
    }
    list.sort_by_key(|channel| channel.short_channel_id);
    list
}

/// What each side has beside HTLCs; the opener's after the commitment's fee and the anchors.
fn balances(channel: &Summary, known: &EstablishedSummary) -> (Msat, Msat) {
    let costs = Msat((known.commitment_fee + known.anchors).to_sat().saturating_mul(1000));
    match channel.opener {
        Side::Local => (known.local_balance.saturating_sub(costs), known.remote_balance),
        Side::Remote => (known.local_balance, known.remote_balance.saturating_sub(costs)),
    }
}

/// What its opener wrote about the channel.
fn memo(services: &Services, known: &EstablishedSummary) -> String {
    services.store.memo(&known.funding).ok().flatten().unwrap_or_default()
}

fn summary_of(
    node_id: secp256k1::PublicKey,
    channel: &Summary,
    known: &EstablishedSummary,
    memo: String,
) -> ChannelSummary {
    let (local_balance, remote_balance) = balances(channel, known);
    ChannelSummary {
        node_id,
        funding: known.funding,
        capacity: channel.capacity,
        local_balance,
        remote_balance,
        opener: channel.opener,
        commitment_type: known.commitment_type,
        announce: known.announce,
        memo,
        trouble: trouble(channel, known),
    }
}

/// Why the channel takes no payments because of its funding transaction; also told of one that is used by trust.
fn trouble(channel: &Summary, known: &EstablishedSummary) -> Option<String> {
    let state = known.funding_state;
    match state {
        FundingState::Confirmed | FundingState::Awaited => None,
        FundingState::Shallow | FundingState::ReorgedOut | FundingState::DoubleSpent { .. } if channel.usable => {
            Some(format!("it takes payments by trust in its funder: {state}"))
        }
        FundingState::Shallow | FundingState::ReorgedOut | FundingState::DoubleSpent { .. } => {
            Some(format!("it takes no payments: {state}"))
        }
    }
}

fn commitment_weight(known: &EstablishedSummary) -> u64 {
    fee::commitment_weight(known.commitment_type, known.htlcs.len()).to_wu()
}

/// The peer of a channel, as far as the channel's description tells of it.
struct Remote {
    node_id: secp256k1::PublicKey,
    connected: bool,
    presence: Presence,
}

fn info(
    services: &Services,
    peer: &Remote,
    channel: &Summary,
    known: &EstablishedSummary,
    forwards: &Forwards,
) -> ChannelInfo {
    let network = services.node.params().address_network;
    let address = |script: &ScriptBuf| Address::from_script(script, network).ok();
    let constraints = |delay: u16, reserve: Amount, limits: SideLimits| {
        let SideLimits { dust_limit, max_in_flight, htlc_minimum, max_htlcs } = limits;
        ChannelConstraints { delay, reserve, dust_limit, max_in_flight, htlc_minimum, max_htlcs }
    };
    ChannelInfo {
        summary: summary_of(peer.node_id, channel, known, memo(services, known)),
        channel_id: channel.channel_id,
        active: channel.usable,
        connected: peer.connected,
        lifetime: peer.presence.watched,
        uptime: peer.presence.online,
        short_channel_id: known.short_channel_id,
        alias: known.local_alias,
        remote_alias: known.remote_alias,
        zero_conf: known.minimum_depth == 0,
        commit_fee: known.commitment_fee,
        commit_weight: commitment_weight(known),
        feerate: known.feerate,
        total_sent: known.total_sent,
        total_received: known.total_received,
        commitment_number: known.local_commitment,
        htlcs: known
            .htlcs
            .iter()
            .map(|htlc| ChannelHtlc {
                direction: match htlc.offered_by {
                    Side::Local => HtlcDirection::Offered,
                    Side::Remote => HtlcDirection::Received,
                },
                id: htlc.id,
                amount: htlc.amount,
                payment_hash: htlc.payment_hash,
                expiry: htlc.cltv_expiry,
                locked_in: !known.uncommitted.contains(&htlc.key()),
                forwarded: forwards.other_half(&channel.channel_id, known, htlc),
            })
            .collect(),
        push: known.push,
        shutdown_address: known.upfront_shutdown_script.as_ref().and_then(address),
        local: constraints(known.local_delay, known.local_reserve, known.local_limits),
        remote: constraints(known.remote_delay, known.remote_reserve, known.remote_limits),
    }
}
