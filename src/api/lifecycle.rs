//! From the first start to an open wallet, and who the node is once it is open.
//!
//! ```text
//!   NonExisting ──init_wallet──┐
//!                              ├──► Unlocked ──► RpcActive ──► ServerActive
//!        Locked ──unlock───────┘
//! ```

use std::fmt;

use bitcoin::{BlockHash, Network, secp256k1::PublicKey};
use leyden_channels::{
    types::{Height, UnixTime},
    wire::features::Features,
};
use zeroize::Zeroizing;

use crate::wallet::seed::KeyScheme;

/// How far the daemon has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum WalletState {
    /// There is no wallet.
    NonExisting,
    /// There is one, and it needs its password.
    Locked,
    /// The wallet is open, the node is starting.
    Unlocked,
    /// Calls are answered; the wallet is still catching up with the chain.
    RpcActive,
    /// Everything works.
    ServerActive,
}

/// The network that the daemon is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkInfo {
    /// `regtest`, `leyden` or the name in the network file.
    pub name: String,
    /// Whose address prefixes it uses.
    pub addresses: Network,
    pub genesis: BlockHash,
}

/// A wallet to be made.
pub(crate) struct InitWallet {
    pub password: Zeroizing<Vec<u8>>,
    pub words: Vec<String>,
    /// BIP 39's passphrase; usually empty.
    pub passphrase: Zeroizing<String>,
    /// How many addresses to look for on the chain; `None`: the wallet is new.
    pub recovery_window: Option<u32>,
    /// Sealed backups of channels to be taken back.
    pub backups: Vec<Vec<u8>>,
    /// Write no macaroon files.
    pub stateless: bool,
    /// How keys follow from the words; `None`: as of a new wallet on this network.
    pub keys: Option<KeyScheme>,
}

impl fmt::Debug for InitWallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitWallet").field("recovery_window", &self.recovery_window).finish_non_exhaustive()
    }
}

/// A wallet to be opened.
pub(crate) struct UnlockWallet {
    pub password: Zeroizing<Vec<u8>>,
    /// How many addresses to look for on the chain; `None`: nothing to look for.
    pub recovery_window: Option<u32>,
    /// Sealed backups of channels to be taken back.
    pub backups: Vec<Vec<u8>>,
    /// Write no macaroon files.
    pub stateless: bool,
}

impl fmt::Debug for UnlockWallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnlockWallet").field("recovery_window", &self.recovery_window).finish_non_exhaustive()
    }
}

/// Another password for a wallet that is not open; it is opened then.
pub(crate) struct ChangePassword {
    pub current: Zeroizing<Vec<u8>>,
    pub new: Zeroizing<Vec<u8>>,
    /// Write no macaroon files, and take away those that are there.
    pub stateless: bool,
    /// Take back every macaroon that was made with the first key.
    pub new_root_key: bool,
}

impl fmt::Debug for ChangePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = f.debug_struct("ChangePassword");
        told.field("stateless", &self.stateless).field("new_root_key", &self.new_root_key).finish_non_exhaustive()
    }
}

/// The node at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeInfo {
    pub node_id: PublicKey,
    pub alias: String,
    /// Red, green, blue.
    pub color: [u8; 3],
    pub pending_channels: u32,
    /// Open channels whose peer is connected.
    pub active_channels: u32,
    /// Open channels whose peer is away.
    pub inactive_channels: u32,
    pub peers: u32,
    pub height: Height,
    pub tip: BlockHash,
    pub tip_time: UnixTime,
    /// Wallet and channels have seen the whole chain, and the chain is not catching up with its peers.
    pub synced_to_chain: bool,
    /// The wallet has seen the whole chain.
    pub wallet_synced: bool,
    /// Gossip has been exchanged with a peer.
    pub synced_to_graph: bool,
    /// How HTLCs have ended is stored.
    pub keeps_final_htlcs: bool,
    /// Where this node can be reached, as host:port.
    pub addresses: Vec<String>,
    pub features: Features,
}
