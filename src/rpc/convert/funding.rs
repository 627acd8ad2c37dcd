//! Funding by PSBT, and of several channels at once.

use bitcoin::{OutPoint, Psbt, hashes::Hash as _};
use leyden_channels::types::ChannelId;
use leyden_proto::lnrpc::{self, funding_shim::Shim, funding_transition_msg::Trigger};

use super::{channels, edge};
use crate::api::{AfterVerify, ApiError, FundingStep, NetworkInfo, OpenChannels, PsbtPublisher, PsbtShim};

/// The most channels of one transaction: more outputs would make it larger than what is relayed, with coins and change.
const MAX_BATCH: usize = 1_000;

/// What is asked for beside the wallet's own funding. The refusals are in LND's words.
#[allow(deprecated)] // `sat_per_byte` is still sent by clients.
pub(crate) fn shim(shim: &lnrpc::FundingShim, request: &lnrpc::OpenChannelRequest) -> Result<PsbtShim, ApiError> {
    let shim = psbt_shim(shim)?;
    if request.fund_max {
        let words = "cannot provide a psbt funding shim while committing the maximum wallet balance towards the channel opening";
        return Err(ApiError::invalid(format!("{words}: name the amount")));
    }
    if request.sat_per_vbyte != 0 || request.sat_per_byte != 0 || request.target_conf != 0 {
        let words = "specifying fee estimation parameters is not supported for PSBT funding";
        return Err(ApiError::invalid(format!("{words}: the PSBT says what it pays")));
    }
    edge::refuse("outpoints", !request.outpoints.is_empty(), "the PSBT says which coins it spends")?;
    let base = match shim.base_psbt.as_slice() {
        [] => None,
        bytes => Some(psbt("error parsing base PSBT", bytes)?),
    };
    let publisher = if shim.no_publish { PsbtPublisher::Caller } else { PsbtPublisher::Node };
    Ok(PsbtShim { id: pending_id(&shim.pending_chan_id)?, base, publisher })
}

fn psbt_shim(shim: &lnrpc::FundingShim) -> Result<&lnrpc::PsbtShim, ApiError> {
    match &shim.shim {
        Some(Shim::PsbtShim(shim)) => Ok(shim),
        None => Err(edge::wrong("funding_shim", "it is empty; channels are funded by this wallet, or by a psbt_shim")),
    }
}

fn pending_id(bytes: &[u8]) -> Result<ChannelId, ApiError> {
    let id: [u8; 32] = bytes.try_into().map_err(|_| {
        ApiError::invalid("pending chan ID not set: pending_chan_id names the opening, 32 random bytes")
    })?;
    if ChannelId(id) == ChannelId::ALL {
        return Err(ApiError::invalid("pending channel ID is empty: take 32 random bytes"));
    }
    Ok(ChannelId(id))
}

fn psbt(words: &str, bytes: &[u8]) -> Result<Psbt, ApiError> {
    Psbt::deserialize(bytes).map_err(|error| ApiError::invalid(format!("{words}: {error}")))
}

/// Which opening, and what is done for it.
pub(crate) fn step(request: lnrpc::FundingTransitionMsg) -> Result<(ChannelId, FundingStep), ApiError> {
    let missing = "nothing to do is named; give shim_cancel, psbt_verify or psbt_finalize";
    match request.trigger.ok_or_else(|| edge::wrong("trigger", missing))? {
        Trigger::ShimRegister(shim) => {
            psbt_shim(&shim)?;
            Err(ApiError::invalid("PSBT shim must only be sent when opening a channel"))
        }
        Trigger::ShimCancel(cancel) => Ok((pending_id(&cancel.pending_chan_id)?, FundingStep::Cancel)),
        Trigger::PsbtVerify(verify) => {
            let psbt = Box::new(psbt("error parsing psbt", &verify.funded_psbt)?);
            let then = if verify.skip_finalize { AfterVerify::Fund } else { AfterVerify::Finalize };
            Ok((pending_id(&verify.pending_chan_id)?, FundingStep::Verify { psbt, then }))
        }
        Trigger::PsbtFinalize(finalize) => {
            let step = match (finalize.signed_psbt.as_slice(), finalize.final_raw_tx.as_slice()) {
                ([], []) => return Err(ApiError::invalid("PSBT or raw transaction to finalize missing")),
                (signed, []) => FundingStep::FinalizePsbt(Box::new(psbt("error parsing psbt", signed)?)),
                ([], raw) => FundingStep::FinalizeRaw(edge::transaction("final_raw_tx", raw)?),
                _ => return Err(ApiError::invalid("cannot set both signed PSBT and final raw TX at the same time")),
            };
            Ok((pending_id(&finalize.pending_chan_id)?, step))
        }
    }
}

pub(crate) fn batch(request: lnrpc::BatchOpenChannelRequest, network: &NetworkInfo) -> Result<OpenChannels, ApiError> {
    if request.channels.is_empty() {
        return Err(ApiError::invalid("specify at least one channel"));
    }
    if request.channels.len() > MAX_BATCH {
        let text = format!("{} channels; one transaction funds at most {MAX_BATCH}", request.channels.len());
        return Err(edge::wrong("channels", text));
    }
    let sat_per_vbyte = u64::try_from(request.sat_per_vbyte)
        .map_err(|_| edge::wrong("sat_per_vbyte", format!("{} is negative", request.sat_per_vbyte)))?;
    let fee = edge::fee(edge::FeeFields { target_conf: request.target_conf, sat_per_vbyte, sat_per_byte: 0 })?;
    let coins = edge::coins(request.min_confs, request.spend_unconfirmed, &[])?;
    let mut parsed: Vec<(ChannelId, _)> = Vec::with_capacity(request.channels.len());
    for (at, channel) in request.channels.into_iter().enumerate() {
        let id = match channel.pending_chan_id.as_slice() {
            [] => ChannelId(rand::random()),
            bytes => pending_id(bytes)?,
        };
        if parsed.iter().any(|(other, _)| *other == id) {
            return Err(ApiError::exists(format!("duplicate pending channel ID: {id} is given twice")));
        }
        let wrong = |error: ApiError| ApiError::invalid(format!("error parsing channel {at}: {error}"));
        parsed.push((id, channels::open_channel(one(channel), network).map_err(wrong)?));
    }
    Ok(OpenChannels {
        channels: parsed,
        fee,
        coins,
        label: edge::text("label", request.label, super::wallet_kit::MAX_LABEL)?,
    })
}

fn one(channel: lnrpc::BatchOpenChannel) -> lnrpc::OpenChannelRequest {
    lnrpc::OpenChannelRequest {
        node_pubkey: channel.node_pubkey,
        local_funding_amount: channel.local_funding_amount,
        push_sat: channel.push_sat,
        private: channel.private,
        min_htlc_msat: channel.min_htlc_msat,
        remote_csv_delay: channel.remote_csv_delay,
        close_address: channel.close_address,
        commitment_type: channel.commitment_type,
        remote_max_value_in_flight_msat: channel.remote_max_value_in_flight_msat,
        remote_max_htlcs: channel.remote_max_htlcs,
        max_local_csv: channel.max_local_csv,
        zero_conf: channel.zero_conf,
        scid_alias: channel.scid_alias,
        base_fee: channel.base_fee,
        fee_rate: channel.fee_rate,
        use_base_fee: channel.use_base_fee,
        use_fee_rate: channel.use_fee_rate,
        remote_chan_reserve_sat: channel.remote_chan_reserve_sat,
        memo: channel.memo,
        ..Default::default()
    }
}

pub(crate) fn batch_opened(points: &[OutPoint]) -> lnrpc::BatchOpenChannelResponse {
    let update = |point: &OutPoint| lnrpc::PendingUpdate {
        txid: point.txid.to_byte_array().to_vec(),
        output_index: point.vout,
        ..Default::default()
    };
    lnrpc::BatchOpenChannelResponse { pending_channels: points.iter().map(update).collect() }
}
