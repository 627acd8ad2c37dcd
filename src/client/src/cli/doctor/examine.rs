//! What is looked at, and how.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use leyden_common::layout::default_data_dir;
use leyden_proto::{
    leyden::{
        GetRecoveryRequest, GetTipRequest, ListChainPeersRequest, ListCoverageRequest, ListTowersRequest,
        ListWarningsRequest,
    },
    lnrpc::{GetInfoRequest, GetStateRequest, ListChannelsRequest, WalletBalanceRequest, WalletState},
};
use tokio::{net::TcpStream, time::timeout};

use super::super::{CliError, Context, context::if_allowed};
use crate::client::Client;

/// How long an address of our own may take to answer.
const DIAL_LIMIT: Duration = Duration::from_secs(5);

/// Everything that was seen. What lies on another machine is `None`.
pub(super) struct Examined {
    /// Seconds since 1970, by this machine's clock.
    pub now: u64,
    pub disk: Option<Disk>,
    pub files: Option<Files>,
    pub chain: Option<Chain>,
    pub reach: Reach,
}

/// The file system of the data directory, in bytes.
pub(super) struct Disk {
    pub free: u64,
    pub total: u64,
}

/// Who can read what the node keeps.
pub(super) struct Files {
    pub folder: String,
    pub readable_by_others: Option<String>,
}

/// The chain as the node sees it.
pub(super) struct Chain {
    pub tip_time: u64,
    pub height: u32,
    pub header_height: u32,
    /// Why the tip cannot be relied on; empty if it can.
    pub doubt: String,
    pub peers: usize,
    /// Others mine it: it is not a chain of one's own on which nothing happens.
    pub is_public: bool,
}

/// How far one gets.
pub(super) enum Reach {
    /// The node does not answer, and why.
    Silent(String),
    NoWallet,
    Locked,
    Open(Box<Node>),
}

/// An open wallet and its node.
pub(super) struct Node {
    pub height: u32,
    pub warnings: Vec<String>,
    pub backup: Backup,
    pub wallet: Option<Wallet>,
    pub recovery: Recovery,
    pub channels: Vec<Channel>,
    pub towers: usize,
    /// Channels that no tower covers, and why.
    pub uncovered: Vec<(String, String)>,
    pub ports: Vec<Port>,
    /// What the macaroon hides.
    pub unseen: Vec<&'static str>,
}

/// The file with the channel backup.
pub(super) enum Backup {
    Missing(String),
    There(String),
    /// The node runs on another machine.
    Elsewhere,
}

/// Satoshi on the chain, and how many of them should be kept.
pub(super) struct Wallet {
    pub confirmed: i64,
    pub reserve_wanted: i64,
}

/// What a restore has left undone.
#[derive(Default)]
pub(super) struct Recovery {
    pub lost_channels: usize,
    pub widest_gap: u32,
    pub window: u32,
}

/// An open channel.
pub(super) struct Channel {
    pub point: String,
    pub active: bool,
    /// The height at which the first of its payments ends.
    pub first_expiry: Option<u32>,
}

/// An address that the node tells others.
pub(super) struct Port {
    pub address: String,
    pub answers: bool,
}

/// Looks at everything.
pub(super) async fn examine(context: &Context) -> Result<Examined, CliError> {
    let folder = match context.remote_address() {
        Some(_) => None,
        None => Some(match context.data_dir() {
            Some(folder) => folder.to_owned(),
            None => default_data_dir()?,
        }),
    };
    let folder = folder.filter(|folder| folder.exists());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let disk = folder.as_deref().and_then(disk);
    let files = folder.as_deref().map(files);
    let client = match context.client().await {
        Ok(client) => client,
        Err(error @ (CliError::Client(_) | CliError::Io { .. })) => {
            return Ok(Examined { now, disk, files, chain: None, reach: Reach::Silent(error.to_string()) });
        }
        Err(error) => return Err(error),
    };
    let state = client.state().get_state(GetStateRequest {}).await?.into_inner().state();
    let reach = match state {
        WalletState::NonExisting => Reach::NoWallet,
        WalletState::Locked => Reach::Locked,
        WalletState::Unlocked | WalletState::RpcActive | WalletState::ServerActive | WalletState::WaitingToStart => {
            Reach::Open(Box::new(node(&client, folder.is_some()).await?))
        }
    };
    Ok(Examined { now, disk, files, chain: chain(&client).await?, reach })
}

fn disk(folder: &Path) -> Option<Disk> {
    let seen = rustix::fs::statvfs(folder).ok()?;
    Some(Disk { free: seen.f_bavail.saturating_mul(seen.f_frsize), total: seen.f_blocks.saturating_mul(seen.f_frsize) })
}

/// The folder itself and what lies in it directly: what is below is behind those.
fn files(folder: &Path) -> Files {
    let open_to_others = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        const OTHERS: u32 = 0o077;
        path.metadata().is_ok_and(|found| found.permissions().mode() & OTHERS != 0)
    };
    let readable = open_to_others(folder).then(|| folder.display().to_string());
    Files { folder: folder.display().to_string(), readable_by_others: readable }
}

async fn chain(client: &Client) -> Result<Option<Chain>, CliError> {
    // Neither needs a wallet, but there is no macaroon before one was made.
    let Ok(tip) = client.chain().get_tip(GetTipRequest {}).await else { return Ok(None) };
    let tip = tip.into_inner();
    let peers = if_allowed(client.chain().list_peers(ListChainPeersRequest {}).await)?;
    Ok(Some(Chain {
        tip_time: tip.time,
        height: tip.height,
        header_height: tip.header_height,
        doubt: if tip.current { String::new() } else { tip.doubt },
        peers: peers.map_or(0, |answer| answer.peers.len()),
        is_public: tip.network != "regtest",
    }))
}

async fn node(client: &Client, is_here: bool) -> Result<Node, CliError> {
    let info = client.lightning().get_info(GetInfoRequest {}).await?.into_inner();
    let mut unseen = Vec::new();
    let warnings = if_allowed(client.channels().list_warnings(ListWarningsRequest {}).await)?;
    let channels = if_allowed(client.lightning().list_channels(ListChannelsRequest::default()).await)?;
    let towers = if_allowed(client.towers().list_towers(ListTowersRequest {}).await)?;
    let coverage = if_allowed(client.towers().list_coverage(ListCoverageRequest::default()).await)?;
    if [warnings.is_none(), channels.is_none(), towers.is_none(), coverage.is_none()].contains(&true) {
        unseen.push("channels and watchtowers");
    }
    let balance = if_allowed(client.lightning().wallet_balance(WalletBalanceRequest::default()).await)?;
    if balance.is_none() {
        unseen.push("the wallet's coins");
    }
    let recovery = if_allowed(client.wallet().get_recovery(GetRecoveryRequest {}).await)?;
    let backup = match &recovery {
        Some(recovery) if is_here && Path::new(&recovery.backup_file).exists() => {
            Backup::There(recovery.backup_file.clone())
        }
        Some(recovery) if is_here => Backup::Missing(recovery.backup_file.clone()),
        Some(_) | None => Backup::Elsewhere,
    };
    let channels = channels.into_iter().flat_map(|answer| answer.channels).map(|channel| Channel {
        first_expiry: channel.pending_htlcs.iter().map(|htlc| htlc.expiration_height).min(),
        point: channel.channel_point,
        active: channel.active,
    });
    let uncovered = coverage.into_iter().flat_map(|answer| answer.channels).filter(|one| !one.covered).map(|one| {
        let why = one.towers.iter().map(|tower| tower.why_not.as_str()).find(|why| !why.is_empty());
        (one.channel_point, why.unwrap_or("no tower holds its old states yet").to_owned())
    });
    let mut ports = Vec::new();
    for uri in &info.uris {
        let address = uri.split_once('@').map_or(uri.as_str(), |(_, address)| address).to_owned();
        let answers = matches!(timeout(DIAL_LIMIT, TcpStream::connect(&address)).await, Ok(Ok(_)));
        ports.push(Port { address, answers });
    }
    Ok(Node {
        height: info.block_height,
        warnings: warnings.map(|answer| answer.warnings).unwrap_or_default(),
        backup,
        wallet: balance.map(|balance| Wallet {
            confirmed: balance.confirmed_balance,
            reserve_wanted: balance.reserved_balance_anchor_chan,
        }),
        recovery: recovery
            .map(|recovery| Recovery {
                lost_channels: recovery.lost_channels.len(),
                widest_gap: recovery.widest_gap,
                window: recovery.recovery_window,
            })
            .unwrap_or_default(),
        channels: channels.collect(),
        towers: towers.map_or(0, |answer| answer.towers.len()),
        uncovered: uncovered.collect(),
        ports,
        unseen,
    })
}
