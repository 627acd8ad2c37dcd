//! Money on the chain, and peers.

use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

use bitcoin::{Address, Network, Script, TxOut, consensus};
use leyden_channels::types::Height;
use leyden_common::names::IMMATURE;
use leyden_proto::{lnrpc, walletrpc};

use super::{edge, features, sat, signed};
use crate::{
    api::{
        AddressKind, ApiError, BumpFee, NetworkInfo, PeerAddress, PeerEvent, PeerInfo, SendAmount, SendCoins,
        TransactionPage, WalletBalance, WalletCoin, WalletTx,
    },
    wallet::reserve::Reserve,
};

/// BOLT 1's port, meant where none is given.
pub(super) const LIGHTNING_PORT: u16 = 9735;

/// The longest label that LND keeps.
const MAX_LABEL: usize = 500;

/// The kind of address, and whether one that nobody has paid will do.
pub(crate) fn address_kind(request: &lnrpc::NewAddressRequest) -> Result<(AddressKind, bool), ApiError> {
    use lnrpc::AddressType;
    edge::account(&request.account)?;
    let kind = AddressType::try_from(request.r#type)
        .map_err(|_| edge::wrong("type", format!("there is no address type {}", request.r#type)))?;
    match kind {
        AddressType::WitnessPubkeyHash => Ok((AddressKind::SegwitV0, false)),
        AddressType::UnusedWitnessPubkeyHash => Ok((AddressKind::SegwitV0, true)),
        AddressType::TaprootPubkey => Ok((AddressKind::Taproot, false)),
        AddressType::UnusedTaprootPubkey => Ok((AddressKind::Taproot, true)),
        AddressType::NestedPubkeyHash | AddressType::UnusedNestedPubkeyHash => {
            Err(edge::wrong("type", "this wallet has no nested addresses; ask for WITNESS_PUBKEY_HASH"))
        }
    }
}

pub(crate) fn balance_confirmations(request: &lnrpc::WalletBalanceRequest) -> Result<u32, ApiError> {
    edge::account(&request.account)?;
    u32::try_from(request.min_confs)
        .map(|confirmations| confirmations.max(1))
        .map_err(|_| edge::wrong("min_confs", format!("{} is negative; 0 means 1", request.min_confs)))
}

pub(crate) fn balance(balance: &WalletBalance) -> lnrpc::WalletBalanceResponse {
    let confirmed_balance = signed(balance.confirmed);
    let unconfirmed_balance = signed(balance.unconfirmed);
    let account = lnrpc::WalletAccountBalance { confirmed_balance, unconfirmed_balance };
    // Not in the sums, where LND's clients expect what can be sent.
    let immature = lnrpc::WalletAccountBalance { confirmed_balance: 0, unconfirmed_balance: signed(balance.immature) };
    lnrpc::WalletBalanceResponse {
        total_balance: confirmed_balance.saturating_add(unconfirmed_balance),
        confirmed_balance,
        unconfirmed_balance,
        locked_balance: signed(balance.locked),
        reserved_balance_anchor_chan: signed(balance.anchor_reserve),
        account_balance: HashMap::from([("default".to_owned(), account), (IMMATURE.to_owned(), immature)]),
    }
}

#[allow(deprecated)] // `sat_per_byte` is still sent by clients.
pub(crate) fn send_coins(request: lnrpc::SendCoinsRequest, network: &NetworkInfo) -> Result<SendCoins, ApiError> {
    let amount = match (request.send_all, request.amount) {
        (true, 0) => SendAmount::All,
        (true, _) => return Err(edge::wrong("amount", "send_all sends everything; leave the amount 0 with it")),
        (false, amount) => SendAmount::Exactly(edge::positive_amount("amount", amount)?),
    };
    edge::refuse(
        "coin_selection_strategy",
        request.coin_selection_strategy != lnrpc::CoinSelectionStrategy::StrategyUseGlobalConfig as i32,
        "the wallet has one way to choose coins",
    )?;
    let fee = edge::fee(edge::FeeFields {
        target_conf: request.target_conf,
        sat_per_vbyte: request.sat_per_vbyte,
        sat_per_byte: request.sat_per_byte,
    })?;
    Ok(SendCoins {
        to: edge::address("addr", &request.addr, network)?,
        amount,
        fee,
        coins: edge::coins(request.min_confs, request.spend_unconfirmed, &request.outpoints)?,
        refuses_high_fee: false,
        label: edge::text("label", request.label, MAX_LABEL)?,
    })
}

/// Which of the wallet's transactions GetTransactions asks for.
/// LND's rules: an end of 0 or -1 is the tip with what is unconfirmed; a start above the end turns the range around.
pub(crate) fn transaction_page(request: &lnrpc::GetTransactionsRequest) -> Result<TransactionPage, ApiError> {
    edge::account(&request.account)?;
    // Clients count blocks back from the tip, on a young chain to before its first.
    let start = u32::try_from(request.start_height).unwrap_or(0);
    let (end, unconfirmed) = match request.end_height {
        -1 | 0 => (u32::MAX, true),
        end => {
            let height = u32::try_from(end);
            (height.map_err(|_| edge::wrong("end_height", format!("{end} is no block height")))?, false)
        }
    };
    let position = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(TransactionPage {
        heights: start.min(end)..=start.max(end),
        unconfirmed,
        skip: position(request.index_offset),
        limit: (request.max_transactions != 0).then(|| position(request.max_transactions)),
    })
}

/// A page whose first `skip` transactions are left out.
pub(crate) fn transactions(skip: usize, page: &[WalletTx], network: &NetworkInfo) -> lnrpc::TransactionDetails {
    let (first_index, last_index) = page_indices(skip, page.len());
    let transactions = page.iter().map(|tx| transaction(tx, network)).collect();
    lnrpc::TransactionDetails { transactions, first_index, last_index }
}

/// The first's and the last's.
pub(super) fn page_indices(skip: usize, length: usize) -> (u64, u64) {
    let index = |index: usize| u64::try_from(index).unwrap_or(u64::MAX);
    length.checked_sub(1).map_or((0, 0), |last| (index(skip), index(skip.saturating_add(last))))
}

#[allow(deprecated)] // `dest_addresses` is still read by clients.
pub(crate) fn transaction(tx: &WalletTx, network: &NetworkInfo) -> lnrpc::Transaction {
    let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let outputs: Vec<_> = (tx.transaction.output.iter().enumerate())
        .map(|(at, output)| output_detail(output, index(at), tx.local_outputs.contains(&index(at)), network.addresses))
        .collect();
    let inputs = (tx.transaction.input.iter().enumerate())
        .map(|(at, input)| lnrpc::PreviousOutPoint {
            outpoint: input.previous_output.to_string(),
            is_our_output: tx.local_inputs.contains(&index(at)),
        })
        .collect();
    let (block_hash, height, confirmations) = match tx.confirmation {
        Some(found) => (found.block.to_string(), found.height, found.confirmations),
        None => (String::new(), Height(0), 0),
    };
    lnrpc::Transaction {
        tx_hash: tx.txid.to_string(),
        amount: tx.net.to_sat(),
        num_confirmations: small(confirmations),
        block_hash,
        block_height: small(height.0),
        time_stamp: i64::try_from(tx.time.0).unwrap_or(i64::MAX),
        total_fees: tx.fee.map_or(0, signed),
        dest_addresses: outputs.iter().map(|output| output.address.clone()).filter(|a| !a.is_empty()).collect(),
        output_details: outputs,
        raw_tx_hex: consensus::encode::serialize_hex(tx.transaction.as_ref()),
        label: tx.label.clone(),
        previous_outpoints: inputs,
    }
}

fn output_detail(output: &TxOut, index: u32, is_our_address: bool, network: Network) -> lnrpc::OutputDetail {
    lnrpc::OutputDetail {
        output_type: script_type(&output.script_pubkey).into(),
        address: address_text(&output.script_pubkey, network),
        pk_script: output.script_pubkey.to_hex_string(),
        output_index: i64::from(index),
        amount: signed(output.value),
        is_our_address,
    }
}

/// Empty if the script has no address.
pub(crate) fn address_text(script: &Script, network: Network) -> String {
    Address::from_script(script, network).map(|address| address.to_string()).unwrap_or_default()
}

pub(super) fn script_type(script: &Script) -> lnrpc::OutputScriptType {
    use lnrpc::OutputScriptType as Type;
    match script {
        script if script.is_p2pkh() => Type::ScriptTypePubkeyHash,
        script if script.is_p2sh() => Type::ScriptTypeScriptHash,
        script if script.is_p2wpkh() => Type::ScriptTypeWitnessV0PubkeyHash,
        script if script.is_p2wsh() => Type::ScriptTypeWitnessV0ScriptHash,
        script if script.is_p2tr() => Type::ScriptTypeWitnessV1Taproot,
        script if script.is_p2pk() => Type::ScriptTypePubkey,
        script if script.is_multisig() => Type::ScriptTypeMultisig,
        script if script.is_op_return() => Type::ScriptTypeNulldata,
        script if script.is_witness_program() => Type::ScriptTypeWitnessUnknown,
        _ => Type::ScriptTypeNonStandard,
    }
}

/// The confirmations that ListUnspent asks for. Both bounds 0 means every coin, which is what callers that set
/// neither expect. (differs: LND gives unconfirmed coins alone.)
pub(crate) fn confirmation_range(request: &lnrpc::ListUnspentRequest) -> Result<RangeInclusive<u32>, ApiError> {
    edge::account(&request.account)?;
    let bound = |field, confirmations: i32| {
        u32::try_from(confirmations).map_err(|_| edge::wrong(field, format!("{confirmations} is negative")))
    };
    let min = bound("min_confs", request.min_confs)?;
    let max = match bound("max_confs", request.max_confs)? {
        0 => u32::MAX,
        max if max < min => return Err(edge::wrong("max_confs", format!("{max} is less than min_confs, {min}"))),
        max => max,
    };
    Ok(min..=max)
}

/// What `walletrpc` asks for.
pub(crate) fn kit_range(request: &walletrpc::ListUnspentRequest) -> Result<RangeInclusive<u32>, ApiError> {
    let range = confirmation_range(&lnrpc::ListUnspentRequest {
        min_confs: request.min_confs,
        max_confs: request.max_confs,
        account: request.account.clone(),
    })?;
    if !request.unconfirmed_only {
        return Ok(range);
    }
    let bounded = request.min_confs != 0 || request.max_confs != 0;
    edge::refuse("unconfirmed_only", bounded, "it does not go with min_confs and max_confs")?;
    Ok(0..=0)
}

pub(crate) fn utxo(coin: &WalletCoin, network: &NetworkInfo) -> lnrpc::Utxo {
    let address_type = match coin.kind {
        AddressKind::SegwitV0 => lnrpc::AddressType::WitnessPubkeyHash,
        AddressKind::Taproot => lnrpc::AddressType::TaprootPubkey,
    };
    lnrpc::Utxo {
        address_type: address_type.into(),
        address: address_text(&coin.output.script_pubkey, network.addresses),
        amount_sat: signed(coin.output.value),
        pk_script: coin.output.script_pubkey.to_hex_string(),
        outpoint: Some(outpoint(coin.outpoint)),
        confirmations: i64::from(coin.confirmations),
    }
}

pub(super) fn outpoint(outpoint: bitcoin::OutPoint) -> lnrpc::OutPoint {
    use bitcoin::hashes::Hash as _;
    lnrpc::OutPoint {
        txid_bytes: outpoint.txid.to_byte_array().to_vec(),
        txid_str: outpoint.txid.to_string(),
        output_index: outpoint.vout,
    }
}

pub(crate) fn peer_address(request: &lnrpc::ConnectPeerRequest) -> Result<PeerAddress, ApiError> {
    let address = request.addr.as_ref().ok_or_else(|| edge::wrong("addr", "the node's pubkey and host are needed"))?;
    let node_id = edge::node_id_hex("addr.pubkey", &address.pubkey)?;
    let host = with_port(&address.host);
    edge::host_and_port("addr.host", &host)?;
    let timeout = (request.timeout != 0).then(|| Duration::from_secs(request.timeout.min(3600)));
    Ok(PeerAddress { node_id, host, timeout })
}

fn with_port(host: &str) -> String {
    let bare_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    let has_port = !bare_v6 && host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    match (has_port, bare_v6) {
        (true, _) => host.to_owned(),
        (false, true) => format!("[{host}]:{LIGHTNING_PORT}"),
        (false, false) => format!("{host}:{LIGHTNING_PORT}"),
    }
}

pub(crate) fn peer(peer: &PeerInfo, latest_error: bool) -> lnrpc::Peer {
    let skip = if latest_error { peer.errors.len().saturating_sub(1) } else { 0 };
    let errors = peer.errors.iter().skip(skip);
    let sync_type = match peer.tells_gossip {
        true => lnrpc::peer::SyncType::ActiveSync,
        false => lnrpc::peer::SyncType::PassiveSync,
    };
    lnrpc::Peer {
        pub_key: peer.node_id.to_string(),
        address: peer.address.clone(),
        bytes_sent: peer.bytes_sent,
        bytes_recv: peer.bytes_received,
        sat_sent: sat(peer.amount_sent),
        sat_recv: sat(peer.amount_received),
        inbound: peer.inbound,
        ping_time: peer.ping.map_or(0, |ping| i64::try_from(ping.as_micros()).unwrap_or(i64::MAX)),
        sync_type: sync_type.into(),
        features: features(&peer.features),
        errors: errors
            .map(|error| lnrpc::TimestampedError { timestamp: error.time.0, error: error.text.clone() })
            .collect(),
    }
}

pub(crate) fn peer_event(event: &PeerEvent) -> lnrpc::PeerEvent {
    use lnrpc::peer_event::EventType;
    let kind = if event.is_online { EventType::PeerOnline } else { EventType::PeerOffline };
    lnrpc::PeerEvent { pub_key: event.node_id.to_string(), r#type: kind.into() }
}

pub(super) fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[allow(deprecated)] // `sat_per_byte` is still sent by clients.
pub(crate) fn bump_fee(request: &walletrpc::BumpFeeRequest) -> Result<BumpFee, ApiError> {
    let outpoint = request.outpoint.as_ref().ok_or_else(|| edge::wrong("outpoint", "an output is needed"))?;
    let has_other = request.target_conf != 0 || request.sat_per_vbyte != 0 || request.sat_per_byte != 0;
    if request.deadline_delta != 0 && has_other {
        return Err(edge::wrong(
            "deadline_delta",
            "it says what target_conf does: give it alone, or a rate without it",
        ));
    }
    let blocks = request.target_conf.max(request.deadline_delta);
    let fee = edge::fee(edge::FeeFields {
        target_conf: i32::try_from(blocks).unwrap_or(i32::MAX),
        sat_per_vbyte: request.sat_per_vbyte,
        sat_per_byte: i64::from(request.sat_per_byte),
    })?;
    let budget = i64::try_from(request.budget).unwrap_or(i64::MAX);
    Ok(BumpFee {
        reserve: Reserve::Keep,
        outpoint: edge::outpoint("outpoint", outpoint)?,
        fee,
        budget: Some(edge::amount("budget", budget)?).filter(|budget| budget.to_sat() > 0),
    })
}
