//! Channels from their opening to their end.

use bitcoin::{BlockHash, FeeRate, OutPoint, Txid, consensus, hashes::Hash as _, secp256k1::PublicKey};
use leyden_channels::types::{CommitmentType, HtlcDirection, Msat, Side};
use leyden_proto::lnrpc::{self, pending_channels_response as pending};

use super::{both, closings, edge, funding, sat, scid, seconds, signed};
use crate::api::{
    ApiError, ChannelBalance, ChannelConstraints, ChannelEvent, ChannelFunding, ChannelHtlc, ChannelInfo,
    ChannelSummary, CloseChannel, CloseKind, CloseOutput, CloseUpdate, ClosedChannel, ClosureType, ForceClosingChannel,
    NetworkInfo, OpenChannel, OpenStage, OpenUpdate, OpeningChannel, PendingChannels, PendingHtlc, WaitingCloseChannel,
};

/// The most HTLCs that a commitment transaction may hold in one direction (BOLT 2, `max_accepted_htlcs`).
const MAX_HTLCS: u16 = 483;

/// The longest memo that LND keeps.
const MAX_MEMO: usize = 500;

/// What stands for an amount that is not known, where LND has a plain number: no amount of that kind is below zero.
pub(super) const UNKNOWN_AMOUNT: i64 = -1;

#[allow(deprecated)] // `sat_per_byte` and `node_pubkey_string` are still sent by clients.
pub(crate) fn open_channel(request: lnrpc::OpenChannelRequest, network: &NetworkInfo) -> Result<OpenChannel, ApiError> {
    let shim = request.funding_shim.as_ref().map(|shim| funding::shim(shim, &request)).transpose()?;
    let node_id = match (request.node_pubkey.as_slice(), request.node_pubkey_string.as_str()) {
        ([], "") => return Err(edge::wrong("node_pubkey", "the node to open a channel with is needed")),
        ([], text) => edge::node_id_hex("node_pubkey_string", text)?,
        (bytes, text) => {
            let node_id = edge::node_id("node_pubkey", bytes)?;
            if !text.is_empty() && text != node_id.to_string() {
                return Err(edge::wrong(
                    "node_pubkey_string",
                    "it names another node than node_pubkey; give one of them",
                ));
            }
            node_id
        }
    };
    let funding = match (request.fund_max, request.local_funding_amount) {
        (true, 0) => ChannelFunding::Everything,
        (true, _) => {
            return Err(edge::wrong("local_funding_amount", "fund_max takes everything; leave the amount 0 with it"));
        }
        (false, amount) => ChannelFunding::Exactly(edge::positive_amount("local_funding_amount", amount)?),
    };
    let push = edge::amount("push_sat", request.push_sat)?;
    if matches!(funding, ChannelFunding::Exactly(capacity) if push >= capacity) {
        return Err(edge::wrong("push_sat", "it must be less than local_funding_amount"));
    }
    if request.scid_alias && !request.private {
        return Err(edge::wrong("scid_alias", "a channel that is announced has a public name; set private with it"));
    }
    let fee = edge::fee(edge::FeeFields {
        target_conf: request.target_conf,
        sat_per_vbyte: request.sat_per_vbyte,
        sat_per_byte: request.sat_per_byte,
    })?;
    let remote_max_htlcs = edge::optional_u16("remote_max_htlcs", request.remote_max_htlcs)?;
    if remote_max_htlcs.is_some_and(|htlcs| htlcs > MAX_HTLCS) {
        return Err(edge::wrong("remote_max_htlcs", format!("at most {MAX_HTLCS} HTLCs fit into a commitment")));
    }
    let fee_ppm = u32::try_from(request.fee_rate)
        .map_err(|_| edge::wrong("fee_rate", format!("{} ppm is too much", request.fee_rate)))?;
    let in_flight = i64::try_from(request.remote_max_value_in_flight_msat).unwrap_or(i64::MAX);
    let reserve = i64::try_from(request.remote_chan_reserve_sat).unwrap_or(i64::MAX);
    let base_fee = i64::try_from(request.base_fee).unwrap_or(i64::MAX);
    Ok(OpenChannel {
        node_id,
        funding,
        shim,
        push: Msat::from_sat(push).ok_or_else(|| edge::wrong("push_sat", "too large an amount"))?,
        fee,
        coins: edge::coins(request.min_confs, request.spend_unconfirmed, &request.outpoints)?,
        announce: !request.private,
        zero_conf: request.zero_conf,
        scid_alias: request.scid_alias,
        commitment_type: commitment_type(request.commitment_type)?,
        shutdown_address: edge::optional_address("close_address", &request.close_address, network)?,
        htlc_minimum: positive(edge::amount_msat("min_htlc_msat", request.min_htlc_msat)?),
        remote_delay: edge::optional_u16("remote_csv_delay", request.remote_csv_delay)?,
        max_local_delay: edge::optional_u16("max_local_csv", request.max_local_csv)?,
        remote_max_in_flight: positive(edge::amount_msat("remote_max_value_in_flight_msat", in_flight)?),
        remote_max_htlcs,
        remote_reserve: Some(edge::amount("remote_chan_reserve_sat", reserve)?).filter(|a| a.to_sat() > 0),
        base_fee: request.use_base_fee.then_some(edge::amount_msat("base_fee", base_fee)?),
        fee_ppm: request.use_fee_rate.then_some(fee_ppm),
        memo: edge::text("memo", request.memo, MAX_MEMO)?,
    })
}

fn positive(amount: Msat) -> Option<Msat> {
    Some(amount).filter(|amount| *amount > Msat::ZERO)
}

fn commitment_type(number: i32) -> Result<Option<CommitmentType>, ApiError> {
    use lnrpc::CommitmentType as Type;
    let kind = Type::try_from(number).map_err(|_| {
        edge::wrong("commitment_type", format!("channels of type {number} are not opened; ask for ANCHORS"))
    })?;
    match kind {
        Type::UnknownCommitmentType => Ok(None),
        Type::StaticRemoteKey => Ok(Some(CommitmentType::StaticRemoteKey)),
        Type::Anchors => Ok(Some(CommitmentType::Anchors)),
        Type::Legacy => Err(edge::wrong("commitment_type", "LEGACY channels are not opened; ask for ANCHORS")),
    }
}

#[allow(deprecated)] // `sat_per_byte` is still sent by clients.
pub(crate) fn close_channel(
    request: lnrpc::CloseChannelRequest,
    network: &NetworkInfo,
) -> Result<CloseChannel, ApiError> {
    let funding = edge::channel_point("channel_point", request.channel_point.as_ref())?;
    let fee = edge::fee(edge::FeeFields {
        target_conf: request.target_conf,
        sat_per_vbyte: request.sat_per_vbyte,
        sat_per_byte: request.sat_per_byte,
    })?;
    let max_fee_rate = edge::fee_rate("max_fee_per_vbyte", request.max_fee_per_vbyte)?;
    if !request.force {
        let to = edge::optional_address("delivery_address", &request.delivery_address, network)?;
        let kind = CloseKind::Cooperative { fee, max_fee_rate, to, wait_for_htlcs: request.no_wait };
        return Ok(CloseChannel { funding, kind });
    }
    let fixed = [
        ("target_conf", request.target_conf != 0),
        ("sat_per_vbyte", request.sat_per_vbyte != 0 || request.sat_per_byte != 0),
        ("delivery_address", !request.delivery_address.is_empty()),
        ("max_fee_per_vbyte", request.max_fee_per_vbyte != 0),
    ];
    for (field, given) in fixed {
        edge::refuse(field, given, "a force close broadcasts a transaction that is signed already")?;
    }
    Ok(CloseChannel { funding, kind: CloseKind::Force })
}

/// The channel that is to be given up. That costs a word of consent.
pub(crate) fn abandon_channel(request: &lnrpc::AbandonChannelRequest) -> Result<OutPoint, ApiError> {
    let funding = edge::channel_point("channel_point", request.channel_point.as_ref())?;
    let why = "whether somebody has published a funding transaction elsewhere is not known here";
    edge::refuse("pending_funding_shim_only", request.pending_funding_shim_only, why)?;
    if !request.i_know_what_i_am_doing {
        let why = "what an abandoned channel holds is lost, unless the chain never has its funding transaction: set it to true";
        return Err(edge::wrong("i_know_what_i_am_doing", why));
    }
    Ok(funding)
}

pub(crate) fn channel_point(funding: OutPoint) -> lnrpc::ChannelPoint {
    use lnrpc::channel_point::FundingTxid;
    lnrpc::ChannelPoint {
        funding_txid: Some(FundingTxid::FundingTxidBytes(funding.txid.to_byte_array().to_vec())),
        output_index: funding.vout,
    }
}

pub(crate) fn open_update(update: &OpenUpdate) -> lnrpc::OpenStatusUpdate {
    use lnrpc::open_status_update::Update;
    let stage = match &update.stage {
        OpenStage::Awaited { output, address, psbt } => Update::PsbtFund(lnrpc::ReadyForPsbtFunding {
            funding_address: address.to_string(),
            funding_amount: signed(output.value),
            psbt: psbt.serialize(),
        }),
        OpenStage::Pending { funding, fee_rate } => Update::ChanPending(lnrpc::PendingUpdate {
            txid: funding.txid.to_byte_array().to_vec(),
            output_index: funding.vout,
            fee_per_vbyte: per_vbyte(*fee_rate),
            local_close_tx: false,
        }),
        OpenStage::Open { funding } => {
            Update::ChanOpen(lnrpc::ChannelOpenUpdate { channel_point: Some(channel_point(*funding)) })
        }
    };
    lnrpc::OpenStatusUpdate { update: Some(stage), pending_chan_id: update.temporary_id.0.to_vec() }
}

pub(crate) fn close_update(update: &CloseUpdate) -> lnrpc::CloseStatusUpdate {
    use lnrpc::close_status_update::Update;
    let update = match update {
        CloseUpdate::Pending { txid, fee_rate, by } => Update::ClosePending(lnrpc::PendingUpdate {
            txid: txid.to_byte_array().to_vec(),
            output_index: 0,
            fee_per_vbyte: per_vbyte(*fee_rate),
            local_close_tx: *by == Side::Local,
        }),
        CloseUpdate::Closed { txid, local, remote } => Update::ChanClose(lnrpc::ChannelCloseUpdate {
            closing_txid: txid.to_byte_array().to_vec(),
            success: true,
            local_close_output: local.as_ref().map(|output| close_output(output, Side::Local)),
            remote_close_output: remote.as_ref().map(|output| close_output(output, Side::Remote)),
        }),
    };
    lnrpc::CloseStatusUpdate { update: Some(update) }
}

fn close_output(output: &CloseOutput, side: Side) -> lnrpc::CloseOutput {
    lnrpc::CloseOutput {
        amount_sat: signed(output.amount),
        pk_script: output.script.to_bytes(),
        is_local: side == Side::Local,
    }
}

/// 0 for an unknown rate.
fn per_vbyte(rate: Option<FeeRate>) -> i64 {
    rate.map_or(0, |rate| i64::try_from(rate.to_sat_per_vb_ceil()).unwrap_or(i64::MAX))
}

#[allow(deprecated)] // `balance` and `pending_open_balance` are still read by clients.
pub(crate) fn balance(balance: &ChannelBalance) -> lnrpc::ChannelBalanceResponse {
    lnrpc::ChannelBalanceResponse {
        balance: sat(balance.local),
        pending_open_balance: sat(balance.pending_local),
        local_balance: both(balance.local),
        remote_balance: both(balance.remote),
        unsettled_local_balance: both(balance.unsettled_local),
        unsettled_remote_balance: both(balance.unsettled_remote),
        pending_open_local_balance: both(balance.pending_local),
        pending_open_remote_balance: both(balance.pending_remote),
    }
}

/// Which channels ListChannels asks for.
pub(crate) struct ChannelFilter {
    active: Option<bool>,
    announced: Option<bool>,
    peer: Option<PublicKey>,
}

impl ChannelFilter {
    pub(crate) fn new(request: &lnrpc::ListChannelsRequest) -> Result<Self, ApiError> {
        let one_of = |field, yes, no| match (yes, no) {
            (true, true) => Err(edge::wrong(field, "it asks for the contrary of another field; set one of the two")),
            (yes, no) => Ok((yes || no).then_some(yes)),
        };
        Ok(Self {
            active: one_of("active_only", request.active_only, request.inactive_only)?,
            announced: one_of("public_only", request.public_only, request.private_only)?,
            peer: match request.peer.as_slice() {
                [] => None,
                bytes => Some(edge::node_id("peer", bytes)?),
            },
        })
    }

    pub(crate) fn takes(&self, channel: &ChannelInfo) -> bool {
        self.active.is_none_or(|active| channel.active == active)
            && self.announced.is_none_or(|announced| channel.summary.announce == announced)
            && self.peer.is_none_or(|peer| channel.summary.node_id == peer)
    }
}

#[allow(deprecated)] // The fields that `local_constraints` replaced are still read by clients.
pub(crate) fn channel(channel: &ChannelInfo) -> lnrpc::Channel {
    let summary = &channel.summary;
    let unsettled = channel.htlcs.iter().fold(0, |sum: u64, htlc| sum.saturating_add(htlc.amount.0));
    lnrpc::Channel {
        active: channel.active,
        remote_pubkey: summary.node_id.to_string(),
        channel_point: summary.funding.to_string(),
        chan_id: scid(channel.short_channel_id.or(channel.alias)),
        capacity: signed(summary.capacity),
        local_balance: sat(summary.local_balance),
        remote_balance: sat(summary.remote_balance),
        commit_fee: signed(channel.commit_fee),
        commit_weight: i64::try_from(channel.commit_weight).unwrap_or(i64::MAX),
        fee_per_kw: i64::from(channel.feerate.0),
        unsettled_balance: sat(Msat(unsettled)),
        total_satoshis_sent: sat(channel.total_sent),
        total_satoshis_received: sat(channel.total_received),
        num_updates: channel.commitment_number.0,
        pending_htlcs: channel.htlcs.iter().map(htlc).collect(),
        csv_delay: u32::from(channel.local.delay),
        private: !summary.announce,
        initiator: summary.opener == Side::Local,
        chan_status_flags: status_flags(summary),
        local_chan_reserve_sat: signed(channel.local.reserve),
        remote_chan_reserve_sat: signed(channel.remote.reserve),
        static_remote_key: is_static_remote_key(summary.commitment_type),
        lifetime: seconds(channel.lifetime),
        uptime: seconds(channel.uptime),
        commitment_type: commitment(summary.commitment_type).into(),
        close_address: channel.shutdown_address.as_ref().map(ToString::to_string).unwrap_or_default(),
        push_amount_sat: channel.push.map_or(0, |push| push.0 / 1000),
        local_constraints: Some(constraints(&channel.local)),
        remote_constraints: Some(constraints(&channel.remote)),
        alias_scids: channel.alias.iter().map(|alias| alias.0).collect(),
        zero_conf: channel.zero_conf,
        zero_conf_confirmed_scid: scid(channel.short_channel_id.filter(|_| channel.zero_conf)),
        // Looked up for all channels at once, where it is asked for.
        peer_alias: String::new(),
        peer_scid_alias: scid(channel.remote_alias),
        memo: summary.memo.clone(),
    }
}

/// The names that the peer and payers may use beside the channel's own; none without an alias.
pub(crate) fn alias_map(channel: &ChannelInfo) -> Option<lnrpc::AliasMap> {
    let alias = channel.alias?;
    // LND's base of a channel that was used before it was confirmed stays its first alias.
    let base = channel.short_channel_id.filter(|_| !channel.zero_conf).unwrap_or(alias);
    Some(lnrpc::AliasMap { base_scid: base.0, aliases: vec![alias.0] })
}

/// LND's word for a channel without anchors.
fn is_static_remote_key(kind: CommitmentType) -> bool {
    match kind {
        CommitmentType::StaticRemoteKey => true,
        CommitmentType::Anchors => false,
    }
}

pub(super) fn commitment(kind: CommitmentType) -> lnrpc::CommitmentType {
    match kind {
        CommitmentType::StaticRemoteKey => lnrpc::CommitmentType::StaticRemoteKey,
        CommitmentType::Anchors => lnrpc::CommitmentType::Anchors,
    }
}

fn constraints(limits: &ChannelConstraints) -> lnrpc::ChannelConstraints {
    lnrpc::ChannelConstraints {
        csv_delay: u32::from(limits.delay),
        chan_reserve_sat: limits.reserve.to_sat(),
        dust_limit_sat: limits.dust_limit.to_sat(),
        max_pending_amt_msat: limits.max_in_flight.0,
        min_htlc_msat: limits.htlc_minimum.0,
        max_accepted_htlcs: u32::from(limits.max_htlcs),
    }
}

fn htlc(htlc: &ChannelHtlc) -> lnrpc::Htlc {
    lnrpc::Htlc {
        incoming: htlc.direction == HtlcDirection::Received,
        amount: sat(htlc.amount),
        hash_lock: htlc.payment_hash.0.to_vec(),
        expiration_height: htlc.expiry.0,
        htlc_index: htlc.id.0,
        forwarding_channel: htlc.forwarded.map_or(0, |(channel, _)| channel.0),
        forwarding_htlc_index: htlc.forwarded.map_or(0, |(_, id)| id.0),
        locked_in: htlc.locked_in,
    }
}

pub(crate) fn pending_channels(channels: &PendingChannels, with_transactions: bool) -> lnrpc::PendingChannelsResponse {
    let waiting = channels.waiting_close.iter().map(|channel| channel.limbo);
    let force_closing = channels.force_closing.iter().map(|channel| channel.limbo);
    lnrpc::PendingChannelsResponse {
        total_limbo_balance: waiting.chain(force_closing).fold(0, |sum: i64, limbo| sum.saturating_add(signed(limbo))),
        pending_open_channels: channels.opening.iter().map(opening).collect(),
        pending_force_closing_channels: channels.force_closing.iter().map(force_closing_channel).collect(),
        waiting_close_channels: channels
            .waiting_close
            .iter()
            .map(|channel| waiting_close(channel, with_transactions))
            .collect(),
    }
}

fn summary(summary: &ChannelSummary) -> Option<pending::PendingChannel> {
    Some(pending::PendingChannel {
        remote_node_pub: summary.node_id.to_string(),
        channel_point: summary.funding.to_string(),
        capacity: signed(summary.capacity),
        local_balance: sat(summary.local_balance),
        remote_balance: sat(summary.remote_balance),
        initiator: initiator(Some(summary.opener)).into(),
        commitment_type: commitment(summary.commitment_type).into(),
        private: !summary.announce,
        memo: summary.memo.clone(),
        chan_status_flags: status_flags(summary),
    })
}

/// LND's word for a channel without anything to tell, or what is wrong with it.
fn status_flags(summary: &ChannelSummary) -> String {
    summary.trouble.clone().unwrap_or_else(|| "ChanStatusDefault".to_owned())
}

pub(super) fn initiator(side: Option<Side>) -> lnrpc::Initiator {
    match side {
        Some(Side::Local) => lnrpc::Initiator::Local,
        Some(Side::Remote) => lnrpc::Initiator::Remote,
        None => lnrpc::Initiator::Unknown,
    }
}

fn opening(channel: &OpeningChannel) -> pending::PendingOpenChannel {
    pending::PendingOpenChannel {
        channel: summary(&channel.summary),
        commit_fee: signed(channel.commit_fee),
        commit_weight: i64::try_from(channel.commit_weight).unwrap_or(i64::MAX),
        fee_per_kw: i64::from(channel.feerate.0),
        funding_expiry_blocks: channel.blocks_until_forgotten.map_or(0, small),
        confirmations_until_active: channel.confirmations_missing,
        confirmation_height: channel.confirmed_at.map_or(0, |height| height.0),
    }
}

fn waiting_close(channel: &WaitingCloseChannel, with_transaction: bool) -> pending::WaitingCloseChannel {
    let text = |txid: Option<Txid>| txid.map(|txid| txid.to_string()).unwrap_or_default();
    let closing = channel.closing.as_ref();
    pending::WaitingCloseChannel {
        channel: summary(&channel.summary),
        limbo_balance: signed(channel.limbo),
        commitments: Some(pending::Commitments {
            local_txid: text(channel.local_commitment),
            remote_txid: text(channel.remote_commitment),
            local_commit_fee_sat: channel.local_commit_fee.to_sat(),
            remote_commit_fee_sat: channel.remote_commit_fee.to_sat(),
        }),
        closing_txid: text(closing.map(|closing| closing.compute_txid())),
        closing_tx_hex: closing.filter(|_| with_transaction).map(consensus::encode::serialize_hex).unwrap_or_default(),
    }
}

fn force_closing_channel(channel: &ForceClosingChannel) -> pending::ForceClosedChannel {
    pending::ForceClosedChannel {
        channel: summary(&channel.summary),
        closing_txid: channel.closing_txid.to_string(),
        limbo_balance: signed(channel.limbo),
        maturity_height: channel.matures_at.map_or(0, |height| height.0),
        blocks_til_maturity: small(channel.blocks_until_mature),
        recovered_balance: signed(channel.recovered),
        pending_htlcs: channel.htlcs.iter().map(pending_htlc).collect(),
    }
}

fn pending_htlc(htlc: &PendingHtlc) -> lnrpc::PendingHtlc {
    lnrpc::PendingHtlc {
        incoming: htlc.direction == HtlcDirection::Received,
        amount: signed(htlc.amount),
        outpoint: htlc.outpoint.to_string(),
        maturity_height: htlc.matures_at.0,
        blocks_til_maturity: small(htlc.blocks_until_mature),
        stage: if htlc.second_stage { 2 } else { 1 },
    }
}

/// Without any wish, every kind is wanted.
pub(crate) fn closure_is_wanted(wanted: &lnrpc::ClosedChannelsRequest, closure: ClosureType) -> bool {
    let any = wanted.cooperative
        || wanted.local_force
        || wanted.remote_force
        || wanted.breach
        || wanted.funding_canceled
        || wanted.abandoned;
    !any || match closure {
        ClosureType::Cooperative => wanted.cooperative,
        ClosureType::LocalForce => wanted.local_force,
        ClosureType::RemoteForce => wanted.remote_force,
        ClosureType::Breach => wanted.breach,
        ClosureType::FundingCanceled => wanted.funding_canceled,
        ClosureType::Abandoned => wanted.abandoned,
    }
}

pub(super) fn closure(closure: ClosureType) -> lnrpc::channel_close_summary::ClosureType {
    use lnrpc::channel_close_summary::ClosureType as Type;
    match closure {
        ClosureType::Cooperative => Type::CooperativeClose,
        ClosureType::LocalForce => Type::LocalForceClose,
        ClosureType::RemoteForce => Type::RemoteForceClose,
        ClosureType::Breach => Type::BreachClose,
        ClosureType::FundingCanceled => Type::FundingCanceled,
        ClosureType::Abandoned => Type::Abandoned,
    }
}

pub(crate) fn closed_channel(channel: &ClosedChannel, genesis: BlockHash) -> lnrpc::ChannelCloseSummary {
    lnrpc::ChannelCloseSummary {
        channel_point: channel.funding.to_string(),
        chan_id: scid(channel.short_channel_id),
        chain_hash: genesis.to_string(),
        closing_tx_hash: channel.closing_txid.unwrap_or(Txid::all_zeros()).to_string(),
        remote_pubkey: channel.node_id.to_string(),
        capacity: signed(channel.capacity),
        close_height: channel.height.0,
        settled_balance: channel.settled.map_or(UNKNOWN_AMOUNT, signed),
        time_locked_balance: signed(channel.time_locked),
        close_type: closure(channel.closure).into(),
        open_initiator: initiator(Some(channel.opener)).into(),
        close_initiator: initiator(channel.closer).into(),
        resolutions: channel.outputs.iter().map(closings::resolution).collect(),
    }
}

pub(crate) fn channel_event(event: &ChannelEvent, genesis: BlockHash) -> lnrpc::ChannelEventUpdate {
    use lnrpc::channel_event_update::{Channel, UpdateType};
    let (kind, channel) = match event {
        ChannelEvent::PendingOpen(funding) => {
            let update = lnrpc::PendingUpdate {
                txid: funding.txid.to_byte_array().to_vec(),
                output_index: funding.vout,
                ..Default::default()
            };
            (UpdateType::PendingOpenChannel, Channel::PendingOpenChannel(update))
        }
        ChannelEvent::Open(info) => (UpdateType::OpenChannel, Channel::OpenChannel(channel(info))),
        ChannelEvent::Active(funding) => (UpdateType::ActiveChannel, Channel::ActiveChannel(channel_point(*funding))),
        ChannelEvent::Inactive(funding) => {
            (UpdateType::InactiveChannel, Channel::InactiveChannel(channel_point(*funding)))
        }
        ChannelEvent::Closed(closed) => {
            (UpdateType::ClosedChannel, Channel::ClosedChannel(closed_channel(closed, genesis)))
        }
        ChannelEvent::FullyResolved(funding) => {
            (UpdateType::FullyResolvedChannel, Channel::FullyResolvedChannel(channel_point(*funding)))
        }
    };
    lnrpc::ChannelEventUpdate { r#type: kind.into(), channel: Some(channel) }
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
