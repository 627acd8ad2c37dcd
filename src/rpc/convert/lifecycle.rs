//! The wallet's beginning, and the node at a glance.

use bitcoin::Network;
use leyden_common::names::KEYS;
use leyden_proto::lnrpc;
use tonic::metadata::MetadataMap;
use zeroize::Zeroizing;

use super::{backups, edge, features};
use crate::{
    api::{ApiError, ChangePassword, InitWallet, NetworkInfo, NodeInfo, UnlockWallet, WalletState},
    wallet::seed::{KeyScheme, UnknownScheme},
};

/// The version of LND whose interface is served.
pub(crate) const COMPATIBLE: (u32, u32, u32) = (0, 21, 0);

/// The shortest password; what the wallet's file demands too.
const MIN_PASSWORD: usize = crate::wallet::seed::MIN_PASSWORD;

/// This program and its version, where LND names its commit.
pub(crate) fn build_commit() -> String {
    concat!("leyden-", env!("CARGO_PKG_VERSION")).to_owned()
}

pub(crate) fn wallet_state(state: WalletState) -> lnrpc::WalletState {
    match state {
        WalletState::NonExisting => lnrpc::WalletState::NonExisting,
        WalletState::Locked => lnrpc::WalletState::Locked,
        WalletState::Unlocked => lnrpc::WalletState::Unlocked,
        WalletState::RpcActive => lnrpc::WalletState::RpcActive,
        WalletState::ServerActive => lnrpc::WalletState::ServerActive,
    }
}

pub(crate) fn seed_entropy(request: lnrpc::GenSeedRequest) -> Result<Option<[u8; 32]>, ApiError> {
    if request.seed_entropy.is_empty() {
        return Ok(None);
    }
    let entropy = Zeroizing::new(request.seed_entropy);
    edge::bytes32("seed_entropy", &entropy).map(Some)
}

pub(crate) fn init_wallet(request: lnrpc::InitWalletRequest) -> Result<InitWallet, ApiError> {
    let password = Zeroizing::new(request.wallet_password);
    let passphrase = Zeroizing::new(request.aezeed_passphrase);
    edge::refuse(
        "extended_master_key",
        !request.extended_master_key.is_empty(),
        "a wallet is made from seed words, not from an extended key",
    )?;
    if std::str::from_utf8(&password).map_or(0, |text| text.chars().count()) < MIN_PASSWORD {
        let text = format!("a password of at least {MIN_PASSWORD} characters of UTF-8 text is needed");
        return Err(edge::wrong("wallet_password", text));
    }
    let words = request.cipher_seed_mnemonic;
    if words.len() != 24 {
        let text = format!("{} words where 24 are needed; WalletUnlocker.GenSeed makes new ones", words.len());
        return Err(edge::wrong("cipher_seed_mnemonic", text));
    }
    let passphrase = std::str::from_utf8(&passphrase)
        .map_err(|_| edge::wrong("aezeed_passphrase", "it must be UTF-8 text"))?
        .to_owned();
    Ok(InitWallet {
        password,
        words,
        passphrase: Zeroizing::new(passphrase),
        recovery_window: recovery_window(request.recovery_window)?,
        backups: request.channel_backups.map(backups::sealed).transpose()?.unwrap_or_default(),
        stateless: request.stateless_init,
        keys: None,
    })
}

/// How the keys of a wallet follow that is made; LND has no field for it.
pub(crate) fn keys(metadata: &MetadataMap) -> Result<Option<KeyScheme>, ApiError> {
    let Some(value) = metadata.get(KEYS) else { return Ok(None) };
    let scheme = value.to_str().ok().and_then(|text| text.parse().ok());
    scheme.map(Some).ok_or_else(|| edge::wrong(KEYS, UnknownScheme.to_string()))
}

pub(crate) fn unlock_wallet(request: lnrpc::UnlockWalletRequest) -> Result<UnlockWallet, ApiError> {
    let password = Zeroizing::new(request.wallet_password);
    if password.is_empty() {
        return Err(edge::wrong("wallet_password", "the wallet's password is needed"));
    }
    let recovery_window = recovery_window(request.recovery_window)?;
    let backups = request.channel_backups.map(backups::sealed).transpose()?.unwrap_or_default();
    Ok(UnlockWallet { password, recovery_window, backups, stateless: request.stateless_init })
}

pub(crate) fn change_password(request: lnrpc::ChangePasswordRequest) -> Result<ChangePassword, ApiError> {
    let (current, new) = (Zeroizing::new(request.current_password), Zeroizing::new(request.new_password));
    if std::str::from_utf8(&new).map_or(0, |text| text.chars().count()) < MIN_PASSWORD {
        let text = format!("password must have at least {MIN_PASSWORD} characters: of UTF-8 text, in new_password");
        return Err(ApiError::invalid(text));
    }
    Ok(ChangePassword { current, new, stateless: request.stateless_init, new_root_key: request.new_macaroon_root_key })
}

pub(super) fn recovery_window(addresses: i32) -> Result<Option<u32>, ApiError> {
    match u32::try_from(addresses) {
        Ok(0) => Ok(None),
        Ok(addresses @ 1..=100_000) => Ok(Some(addresses)),
        Ok(_) | Err(_) => {
            Err(edge::wrong("recovery_window", format!("{addresses} addresses; it lies between 0 and 100000")))
        }
    }
}

#[allow(deprecated)] // `testnet` and `chain` are still read by clients.
pub(crate) fn node_info(info: &NodeInfo, network: &NetworkInfo) -> lnrpc::GetInfoResponse {
    let (major, minor, patch) = COMPATIBLE;
    let [red, green, blue] = info.color;
    lnrpc::GetInfoResponse {
        version: format!("{major}.{minor}.{patch}-beta commit={}", build_commit()),
        commit_hash: String::new(),
        identity_pubkey: info.node_id.to_string(),
        alias: info.alias.clone(),
        color: format!("#{red:02x}{green:02x}{blue:02x}"),
        num_pending_channels: info.pending_channels,
        num_active_channels: info.active_channels,
        num_inactive_channels: info.inactive_channels,
        num_peers: info.peers,
        block_height: info.height.0,
        block_hash: info.tip.to_string(),
        best_header_timestamp: i64::try_from(info.tip_time.0).unwrap_or(i64::MAX),
        synced_to_chain: info.synced_to_chain,
        synced_to_graph: info.synced_to_graph,
        testnet: network.addresses != Network::Bitcoin,
        chains: vec![lnrpc::Chain { chain: "bitcoin".to_owned(), network: network.name.clone() }],
        uris: info.addresses.iter().map(|host| format!("{}@{host}", info.node_id)).collect(),
        features: features(&info.features),
        wallet_synced: info.wallet_synced,
        store_final_htlc_resolutions: info.keeps_final_htlcs,
    }
}
