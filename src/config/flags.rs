//! The flags of `leydend`, which are the names in `leyden.toml` too.

use std::path::PathBuf;

use bitcoin::BlockHash;
use clap::Parser;
use leyden_node::LEAST_TARGET_MB as LEAST_PRUNE_MB;
use serde::Deserialize;

use super::DEFAULT_BITCOIN_RPC;
use crate::address::{HostPort, TcpEndpoint};

/// A Lightning node that carries its own proof-of-work chain.
///
/// Everything can also stand in `leyden.toml` in the data directory, under the same names.
#[derive(Debug, Clone, Default, Parser, Deserialize)]
#[command(
    name = "leydend",
    version,
    after_help = "Examples:\n  \
    leydend                                  a regtest node in ~/.leyden, then `leyden create`\n  \
    leydend --mine --no-wallet-password      a throw-away node that mines\n  \
    leydend --chain-connect 10.0.0.2:18444   follow another node's chain\n  \
    leydend --network north.toml --also south.toml   two networks, between which payments can cross\n  \
    leydend --light --chain-connect 10.0.0.2:18444   wallet and channels without the blocks of the chain\n  \
    leydend --tower                          a node that is a watchtower for others too\n  \
    leydend --tower-only --chain-connect 10.0.0.2:18444   a watchtower alone: it has to see the chain"
)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Flags {
    /// Where everything is kept [default: ~/.leyden]
    #[arg(long, env = "LEYDEN_DATA_DIR")]
    #[serde(skip)]
    pub data_dir: Option<PathBuf>,
    /// Configuration file [default: leyden.toml in the data directory]
    #[arg(long)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// regtest, leyden, or the path of a network file (.toml) [default: regtest]
    #[arg(long)]
    pub network: Option<String>,
    /// A second network for the same daemon, as --network names it: with channels, peers and keys of its own, opened by the same
    /// words and password. `leyden --network NAME …` speaks to it, and `leyden swap rate` lets payments cross. Settings hold for
    /// both networks; mining, --zero-conf-peer, --assume-valid, the watchtower, --bitcoin-rpc, --metrics and the page are of the first
    #[arg(long, value_name = "NETWORK")]
    pub also: Option<String>,
    /// Where Lightning peers of that network connect [default: the port above that of --listen]
    #[arg(long, value_name = "HOST:PORT")]
    pub also_listen: Option<HostPort>,
    /// Address at which that network is told to reach us; may be given more than once [default: --also-listen, unless that is
    /// no address that others can reach]
    #[arg(long, value_name = "HOST:PORT")]
    pub also_announce: Vec<HostPort>,
    /// Where nodes of that chain connect [default: the port above that of --chain-listen]
    #[arg(long, value_name = "HOST:PORT")]
    pub also_chain_listen: Option<HostPort>,
    /// Nodes of that chain to stay connected to; may be given more than once
    #[arg(long, value_name = "HOST:PORT")]
    pub also_chain_connect: Vec<HostPort>,
    /// Name that other nodes see, at most 32 bytes
    #[arg(long)]
    pub alias: Option<String>,
    /// Where Lightning peers connect [default: 127.0.0.1:9735]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<HostPort>,
    /// Address at which the network is told to reach us; may be given more than once [default: --listen, unless that
    /// is no address that others can reach]
    #[arg(long, value_name = "HOST:PORT")]
    pub announce: Vec<HostPort>,
    /// Where `leyden` and other gRPC clients connect [default: 127.0.0.1:10009]
    #[arg(long, value_name = "HOST:PORT")]
    pub rpc_listen: Option<HostPort>,
    /// Where programs connect that speak LND's REST [default: 127.0.0.1:8080, unless that is taken]
    #[arg(long, value_name = "HOST:PORT", alias = "restlisten")]
    #[serde(alias = "restlisten")]
    pub rest_listen: Option<HostPort>,
    /// Origin of web pages that may use REST from a browser, or `*` for all; may be given more than once [default: none]
    #[arg(long, value_name = "ORIGIN", alias = "restcors")]
    #[serde(alias = "restcors")]
    pub rest_cors: Vec<String>,
    /// Serve REST without the page for people
    #[arg(long)]
    #[serde(default)]
    pub no_web: bool,
    /// Do not serve REST
    #[arg(long, alias = "norest")]
    #[serde(default, alias = "norest")]
    pub no_rest: bool,
    /// Where other nodes of the chain connect [default: 127.0.0.1:18444]
    #[arg(long, value_name = "HOST:PORT")]
    pub chain_listen: Option<HostPort>,
    /// Serve Bitcoin Core's JSON-RPC, for software that expects a bitcoind [default if given alone: 127.0.0.1:18443].
    /// It is not encrypted: keep it on this machine. A cookie lies in the network's folder
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = DEFAULT_BITCOIN_RPC)]
    pub bitcoin_rpc: Option<HostPort>,
    /// Serve Bitcoin Core's REST interface (blocks, headers, transactions, the mempool) on the port of --bitcoin-rpc. It asks
    /// for no password: whoever reaches the port can read the chain
    #[arg(long)]
    #[serde(default)]
    pub chain_rest: bool,
    /// User and password that the JSON-RPC takes beside the cookie
    #[arg(long, value_name = "USER:PASSWORD", env = "LEYDEN_BITCOIN_RPC_AUTH", hide_env_values = true)]
    pub bitcoin_rpc_auth: Option<String>,
    /// Publish each new tip's hash over ZeroMQ at tcp://HOST:PORT, as a bitcoind does; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    pub zmqpubhashblock: Vec<TcpEndpoint>,
    /// Publish the id of each transaction, when it comes into the mempool and when its block is connected or disconnected,
    /// over ZeroMQ at tcp://HOST:PORT, as a bitcoind does; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    pub zmqpubhashtx: Vec<TcpEndpoint>,
    /// Publish each new tip over ZeroMQ at tcp://HOST:PORT, as a bitcoind does; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    pub zmqpubrawblock: Vec<TcpEndpoint>,
    /// Publish each transaction, when it comes into the mempool and when its block is connected or disconnected, over
    /// ZeroMQ at tcp://HOST:PORT, as a bitcoind does; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    pub zmqpubrawtx: Vec<TcpEndpoint>,
    /// Publish what happens to blocks and the mempool, in order over ZeroMQ at tcp://HOST:PORT, as a bitcoind does; may be given more than once
    #[arg(long, value_name = "ADDRESS")]
    pub zmqpubsequence: Vec<TcpEndpoint>,
    /// Serve metrics for Prometheus at http://HOST:PORT/metrics. There is no password and no encryption, and balances are
    /// told: keep it on this machine, or on a network that only you reach [default: they are not served]
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<HostPort>,
    /// Nodes of the chain to stay connected to; may be given more than once
    #[arg(long, value_name = "HOST:PORT")]
    pub chain_connect: Vec<HostPort>,
    /// Mine on all cores from the start, to an address of the wallet
    #[arg(long)]
    #[serde(default)]
    pub mine: bool,
    /// Threads that mine [default: all cores]
    #[arg(long)]
    pub mine_threads: Option<usize>,
    /// Unlock the wallet at start with the password in this file
    #[arg(long, value_name = "FILE")]
    pub wallet_password_file: Option<PathBuf>,
    /// Make and open the wallet without a password: its seed then lies readable on the disk. For demonstrations only
    #[arg(long)]
    #[serde(default)]
    pub no_wallet_password: bool,
    /// More names or addresses that the TLS certificate is valid for, and for which --chain-rest and --metrics answer beside
    /// addresses and localhost
    #[arg(long, value_name = "NAME")]
    pub tls_extra: Vec<String>,
    /// Blocks that the peer waits for its own funds after its force close (to_self_delay) [default: 1000]
    #[arg(long)]
    pub to_self_delay: Option<u16>,
    /// Confirmations that a channel's funding needs at least; large ones need more [default: 3]
    #[arg(long)]
    pub min_depth: Option<u32>,
    /// What double spends of a stranger's funding may cost us, in sat for each channel on average: it wants as many
    /// confirmations as keep capacity times chance below this [default: so many that a double spend does not pay]
    #[arg(long, value_name = "SAT")]
    pub risk_budget: Option<u64>,
    /// The share of the hash rate that --risk-budget reckons with; `leyden risk` shows the chances [default: 0.3]
    #[arg(long, value_name = "Q")]
    pub attacker_share: Option<f64>,
    /// Node whose channels we use before their funding transaction is confirmed; may be given more than once. Until then
    /// it can take its coins back, and all that was paid in such a channel is lost, however much: name only whom you trust
    #[arg(long, value_name = "KEY")]
    pub zero_conf_peer: Vec<String>,
    /// Watchtowers that must hold a revoked state before its channel goes on: payments wait while fewer do. Towers are added
    /// with `leyden tower add` [default: 0, payments wait for none]
    #[arg(long, value_name = "N")]
    pub tower_require: Option<u16>,
    /// Fee rate up to which a stranger's watchtower can raise a penalty, in sat/vB: it is signed for when a state is backed up,
    /// and what is not needed comes back. Large channels may be worth more [default: 10]
    #[arg(long, value_name = "SAT_PER_VBYTE", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub tower_sweep_feerate: Option<u16>,
    /// Base fee of each payment that we forward, in msat [default: 1000]
    #[arg(long, value_name = "MSAT")]
    pub base_fee_msat: Option<u32>,
    /// Fee rate of each payment that we forward, in parts per million (ppm) of its amount [default: 1]
    #[arg(long, value_name = "PPM")]
    pub fee_rate_ppm: Option<u32>,
    /// Blocks between the expiries of an incoming HTLC and of the one that forwards it [default: 80]
    #[arg(long, value_name = "BLOCKS")]
    pub time_lock_delta: Option<u16>,
    /// What a channel may lose because HTLCs are too small to be worth a claim on the chain, in satoshi [default: 50000, or
    /// 500 ppm of the channel's capacity if that is more]
    #[arg(long, value_name = "SAT")]
    pub max_dust_exposure: Option<u32>,
    /// Megabytes of memory for the mempool; beyond that the lowest feerates are evicted [default: 300]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u16).range(5..))]
    pub max_mempool: Option<u16>,
    /// Keep headers only, and of the blocks what concerns this node: less than a hundredth of the disk. Blocks are found by
    /// the filters of other nodes (BIP 157): name some with --chain-connect, better two than one. It does not mine, does not
    /// see transactions before a block has them, and knows no channels but its own
    #[arg(long)]
    #[serde(default)]
    pub light: bool,
    /// Make no block filters (BIP 158): light clients cannot use this node then. They take some 2 % more disk
    #[arg(long)]
    #[serde(default)]
    pub no_block_filters: bool,
    /// Give up the bodies of old blocks while they and what they spent take more megabytes than this; 100 at least. The last
    /// 288 blocks stay in any case, and what the wallet, its channels and the watchtower still need. Restore a wallet before
    /// blocks are pruned, or without this [default: all blocks are kept]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(i64::from(LEAST_PRUNE_MB)..))]
    pub prune: Option<u32>,
    /// Block of whose chain scripts are not checked up to it, once it lies two weeks deep in the chain with most work. Name only
    /// one that you have from somebody who checked [default: all are checked]
    #[arg(long, value_name = "HASH")]
    pub assume_valid: Option<BlockHash>,
    /// Take payments that nobody has asked for and that bring their own preimage (keysend)
    #[arg(long)]
    #[serde(default)]
    pub accept_keysend: bool,
    /// Keep how each HTLC that a peer offers has ended, for lnrpc.Lightning/LookupHtlcResolution: of each channel the last 100,000
    #[arg(long)]
    #[serde(default)]
    pub store_final_htlc_resolutions: bool,
    /// Let forwards wait while no program is there that decides about them (routerrpc.Router/HtlcInterceptor)
    #[arg(long, alias = "requireinterceptor")]
    #[serde(default)]
    pub require_interceptor: bool,
    /// Seconds by which the clock is shown wrong, to try what a wrong clock does. For regtest alone
    #[arg(long, value_name = "SECONDS", hide = true, allow_negative_numbers = true)]
    pub regtest_clock_shift: Option<i64>,
    /// Bytes in the stead of --prune's megabytes, to try with few blocks what many do. For regtest alone
    #[arg(long, value_name = "BYTES", hide = true)]
    pub regtest_prune_bytes: Option<u64>,
    /// Data directory of your second daemon, on another chain: `leyden swap` trades coins of the one for coins of the other
    #[arg(long, value_name = "DATA_DIR")]
    pub swap_with: Option<PathBuf>,
    /// Run a watchtower beside the node: it guards other nodes' channels, or those of your own other nodes, while they are
    /// offline
    #[arg(long)]
    #[serde(default)]
    pub tower: bool,
    /// Run a watchtower alone: chain and tower, without a wallet and without channels. It sees blocks only from nodes of the
    /// chain: name some with --chain-connect
    #[arg(long)]
    #[serde(default)]
    pub tower_only: bool,
    /// Where the watchtower's clients connect [default: 127.0.0.1:9911]
    #[arg(long, value_name = "HOST:PORT")]
    pub tower_listen: Option<HostPort>,
    /// Client that the watchtower always serves, without a bound and also in own mode; may be given more than once. Others
    /// are then served only as far as --tower-strangers says
    #[arg(long, value_name = "KEY")]
    pub tower_allow: Vec<String>,
    /// How many clients may register at the watchtower whom --tower-allow does not name [default: 10000, or 0 with
    /// --tower-allow]. They are served in blind mode, and what they store is bounded
    #[arg(long, value_name = "COUNT")]
    pub tower_strangers: Option<u32>,
    /// Write the log into this file, in place of the terminal: 10 MB, then into a new one; the last five are kept
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or tracing's own syntax [default: info]
    #[arg(long, env = "LEYDEN_LOG")]
    pub log: Option<String>,
}
