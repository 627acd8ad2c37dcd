//! What a person can set: flags of `leydend`, and the same names in `leyden.toml`.
//!
//! A flag wins over the file, the file over the default.

mod also;
mod flags;

use std::{
    collections::BTreeSet,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use bitcoin::{Amount, BlockHash};
use leyden_channels::{
    switch::{ForwardPolicy, PolicyError},
    types::{FeeratePerKw, Msat},
};
use leyden_consensus::{NetworkFile, Params, Retarget};
use leyden_node::LEAST_TARGET_MB as LEAST_PRUNE_MB;
use leyden_watchtower::{appointment::ClientId, kit::DEFAULT_SWEEP_FEERATE};
use secp256k1::PublicKey;

use crate::{
    address::{HostPort, TcpEndpoint},
    words::on_one_line,
    zmq::{Notifier, Topic},
};

pub use leyden_common::layout::{AlsoRunning, DEFAULT_RPC, Layout, NoHome, Running, default_data_dir};

pub use flags::Flags;

use also::AlsoFlags;

/// 1 sat/vB in sat/kw.
const PER_VBYTE: u32 = 250;

/// Where other Lightning nodes are listened to, unless said otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9735";
/// And nodes of the chain.
pub const DEFAULT_CHAIN_LISTEN: &str = "127.0.0.1:18444";
/// And programs that speak LND's REST.
pub const DEFAULT_REST: &str = "127.0.0.1:8080";
/// And clients of the watchtower.
pub const DEFAULT_TOWER_LISTEN: &str = "127.0.0.1:9911";
/// And programs that speak to a bitcoind.
pub const DEFAULT_BITCOIN_RPC: &str = "127.0.0.1:18443";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ConfigError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} cannot be understood: {message}")]
    BadFile { path: PathBuf, message: String },
    #[error("network {name}: {message}. Use `regtest`, `leyden` or the path of a network file that ends in .toml")]
    BadNetwork { name: String, message: String },
    #[error("attacker-share {0} is no share below a half of the hash rate: against more no confirmations help")]
    AttackerShare(f64),
    #[error("attacker-share says what risk-budget reckons with: set that too")]
    NoRiskBudget,
    #[error(transparent)]
    NoHome(#[from] NoHome),
    #[error("zero-conf-peer \"{0}\" is no node's key: it has 66 hex digits")]
    BadNode(String),
    #[error("alias \"{alias}\" has {bytes} bytes, and other nodes see {ALIAS_BYTES} at most: choose a shorter one")]
    LongAlias { alias: String, bytes: usize },
    #[error("alias holds control characters: other nodes would not show it as you mean it")]
    StrangeAlias,
    #[error("regtest-clock-shift is for regtest: on this network the time counts")]
    ClockShift,
    #[error("chain-rest is served on the port of the JSON-RPC: add --bitcoin-rpc")]
    RestAlone,
    #[error("tower-allow \"{0}\" is no client's key: it has 66 hex digits")]
    BadTowerClient(String),
    #[error("{0} needs a wallet, and tower-only runs without one: leave one of them out")]
    TowerOnly(&'static str),
    #[error("{0} needs whole blocks, and a light node has none: leave {0} or light out")]
    Light(&'static str),
    #[error("{0} is for a watchtower: add --tower, or --tower-only")]
    NoTower(&'static str),
    #[error("prune = {0}: the least is {LEAST_PRUNE_MB} megabytes; leave it out to keep all blocks")]
    Prune(u32),
    #[error("regtest-prune-bytes is for regtest: use prune with megabytes")]
    PruneBytes,
    #[error("{0} is for REST, which no-rest turns off: leave one of them out")]
    NoRest(&'static str),
    #[error("{0} is for a second network: name one with --also")]
    NoAlso(&'static str),
    #[error("{0} and also exclude each other: leave one of them out")]
    WithAlso(&'static str),
    #[error("also names {0}, which is the network that the daemon is on already: name another chain")]
    SameNetwork(String),
    #[error("there is no port above that of the first network: name an address with --{0}")]
    NoPort(&'static str),
    #[error(transparent)]
    Terms(#[from] PolicyError),
}

/// The settings of one run, complete.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything lies.
    pub layout: Layout,
    /// The network.
    pub params: Params,
    /// What other nodes call this one.
    pub alias: String,
    /// Where Lightning nodes are listened to.
    pub listen: SocketAddr,
    /// Where the network is told to reach us; empty: at `listen`, if others can.
    pub announce: Vec<SocketAddr>,
    /// Where gRPC is served.
    pub rpc_listen: SocketAddr,
    /// How REST is served; `None`: not at all.
    pub rest: Option<RestConfig>,
    /// Where nodes of the chain are listened to.
    pub chain_listen: SocketAddr,
    /// Where Bitcoin Core's JSON-RPC is served; `None`: nowhere.
    pub bitcoin_rpc: Option<SocketAddr>,
    /// `user:password` that it takes beside the cookie.
    pub bitcoin_rpc_auth: Option<String>,
    /// Serve REST on that address too.
    pub chain_rest: bool,
    /// What is published over ZeroMQ, and where.
    pub zmq: Vec<Notifier>,
    /// Where metrics are served; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Nodes of the chain that are dialled, and dialled again.
    pub chain_connect: Vec<SocketAddr>,
    /// Mine from the start.
    pub mine: bool,
    /// On so many threads; `None`: on all cores.
    pub mine_threads: Option<usize>,
    /// The file whose first line unlocks the wallet.
    pub wallet_password_file: Option<PathBuf>,
    /// A new wallet is made without a password.
    pub no_wallet_password: bool,
    /// More names and addresses that the TLS certificate is for.
    pub tls_extra: Vec<String>,
    /// Blocks that a peer waits for its money after a forced close.
    pub to_self_delay: u16,
    /// Confirmations that a channel of a stranger needs at least.
    pub min_depth: u32,
    /// What double spends of a stranger's funding may cost on average.
    pub risk_budget: Option<Amount>,
    /// The attacker that the budget is for; below a half.
    pub attacker_share: Option<f64>,
    /// Whose channels are used before they are confirmed.
    pub zero_conf_peers: Vec<PublicKey>,
    /// Towers that must hold a revoked state before its channel goes on.
    pub tower_require: u16,
    /// At which rate penalties signed for strangers' towers pay for themselves at most.
    pub tower_sweep_feerate: FeeratePerKw,
    /// The terms under which new channels forward.
    pub forwarding: ForwardPolicy,
    /// What a channel may lose to HTLCs that are not enforced.
    pub max_dust_exposure: Option<Msat>,
    /// Megabytes.
    pub max_mempool: Option<u16>,
    /// Headers only, and what concerns this node.
    pub light: bool,
    /// Make block filters and serve them to light clients.
    pub block_filters: bool,
    /// Bytes of block bodies above which old ones are given up.
    pub prune: Option<u64>,
    /// Up to which block scripts are taken as valid.
    pub assume_valid: Option<BlockHash>,
    /// Take payments that nobody has asked for.
    pub accept_keysend: bool,
    /// Keep how each HTLC that a peer offers has ended.
    pub keeps_final_htlcs: bool,
    /// Forwards wait while no program is there that decides about them.
    pub require_interceptor: bool,
    /// Seconds by which the clock is shown wrong.
    pub clock_shift: Option<i64>,
    /// The data directory of the second daemon, for swaps between the two chains.
    pub swap_with: Option<PathBuf>,
    /// `None`: no watchtower runs.
    pub tower: Option<TowerConfig>,
    /// The settings of the second network, in the same data directory.
    pub also: Option<Box<Config>>,
    /// What is logged, as `RUST_LOG` says it.
    pub log: String,
    /// Where to; `None`: to the terminal.
    pub log_file: Option<PathBuf>,
}

/// The settings of REST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestConfig {
    /// Where it is served.
    pub listen: SocketAddr,
    /// Whether the user has named that address: without it there is no REST where the address is taken.
    pub is_named: bool,
    /// The origins of web pages that may use it from a browser.
    pub allowed_origins: Vec<String>,
    /// Whether the page for people is served there too.
    pub has_page: bool,
}

/// The settings of a watchtower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TowerConfig {
    /// Where its clients are listened to.
    pub listen: SocketAddr,
    /// Without a wallet and without channels.
    pub alone: bool,
    /// Clients that are always served.
    pub allowed: BTreeSet<ClientId>,
    /// How many others may register; `None`: as many as a tower has room for.
    pub strangers: Option<u32>,
}

/// The target in bytes.
fn prune(megabytes: Option<u32>) -> Result<Option<u64>, ConfigError> {
    match megabytes {
        Some(megabytes) if megabytes < LEAST_PRUNE_MB => Err(ConfigError::Prune(megabytes)),
        Some(megabytes) => Ok(Some(u64::from(megabytes).saturating_mul(1_000_000))),
        None => Ok(None),
    }
}

impl Config {
    /// Flags, then the file, then the defaults.
    pub fn load(flags: Flags) -> Result<Self, ConfigError> {
        let data_dir = match &flags.data_dir {
            Some(path) => path.clone(),
            None => default_data_dir()?,
        };
        let file = read_file(flags.config.as_deref(), &data_dir)?;
        let tower = tower(&flags, &file)?;
        let rest = rest(&flags, &file)?;
        let also = AlsoFlags::of(&flags, &file);
        let light = flags.light || file.light;
        if light && (flags.mine || file.mine) {
            return Err(ConfigError::Light("mine"));
        }
        if light && (flags.prune.or(file.prune).is_some() || flags.regtest_prune_bytes.is_some()) {
            return Err(ConfigError::Light("prune"));
        }
        if light && let Some(tower) = &tower {
            return Err(ConfigError::Light(if tower.alone { "tower-only" } else { "tower" }));
        }
        let (risk_budget, attacker_share) = risk(&flags, &file)?;
        let network = flags.network.or(file.network).unwrap_or_else(|| "regtest".into());
        let params = load_network(&network)?;
        let address = |flag: Option<HostPort>, file: Option<HostPort>, default: &'static str| {
            let named = flag.or(file).map(|HostPort(address)| address);
            named.or_else(|| default.parse().ok()).unwrap_or_else(|| unreachable!("defaults are addresses"))
        };
        let addresses = |flag: Vec<HostPort>, file: Vec<HostPort>| {
            let named = if flag.is_empty() { file } else { flag };
            named.into_iter().map(|HostPort(address)| address).collect()
        };
        let several = |flag: Vec<_>, file: Vec<_>| first_named(flag, file);
        let forwarding = ForwardPolicy {
            base_fee: Msat(u64::from(flags.base_fee_msat.or(file.base_fee_msat).unwrap_or(1000))),
            fee_ppm: flags.fee_rate_ppm.or(file.fee_rate_ppm).unwrap_or(1),
            cltv_expiry_delta: flags.time_lock_delta.or(file.time_lock_delta).unwrap_or(80),
            ..ForwardPolicy::default()
        };
        forwarding.check()?;
        if flags.regtest_prune_bytes.or(file.regtest_prune_bytes).is_some() && params.name != "regtest" {
            return Err(ConfigError::PruneBytes);
        }
        let clock_shift = flags.regtest_clock_shift.or(file.regtest_clock_shift);
        if clock_shift.is_some() && !matches!(params.retarget, Retarget::Never) {
            return Err(ConfigError::ClockShift);
        }
        let chain_rest = flags.chain_rest || file.chain_rest;
        if light && chain_rest {
            return Err(ConfigError::Light("chain-rest"));
        }
        if chain_rest && flags.bitcoin_rpc.or(file.bitcoin_rpc).is_none() {
            return Err(ConfigError::RestAlone);
        }
        let publish = |topic, flag, file| {
            let endpoints: Vec<TcpEndpoint> = first_named(flag, file);
            endpoints.into_iter().map(move |TcpEndpoint(address)| Notifier { topic, address })
        };
        let zmq: Vec<Notifier> = publish(Topic::HashBlock, flags.zmqpubhashblock, file.zmqpubhashblock)
            .chain(publish(Topic::HashTx, flags.zmqpubhashtx, file.zmqpubhashtx))
            .chain(publish(Topic::RawBlock, flags.zmqpubrawblock, file.zmqpubrawblock))
            .chain(publish(Topic::RawTx, flags.zmqpubrawtx, file.zmqpubrawtx))
            .chain(publish(Topic::Sequence, flags.zmqpubsequence, file.zmqpubsequence))
            .collect();
        if light && !zmq.is_empty() {
            return Err(ConfigError::Light("zmqpub"));
        }
        let node = |text: String| text.parse().map_err(|_| ConfigError::BadNode(text));
        let config = Self {
            layout: Layout::new(data_dir, &params.name),
            params,
            alias: checked_alias(flags.alias.or(file.alias).unwrap_or_default())?,
            listen: address(flags.listen, file.listen, DEFAULT_LISTEN),
            announce: addresses(flags.announce, file.announce),
            rpc_listen: address(flags.rpc_listen, file.rpc_listen, DEFAULT_RPC),
            rest,
            chain_listen: address(flags.chain_listen, file.chain_listen, DEFAULT_CHAIN_LISTEN),
            bitcoin_rpc: flags.bitcoin_rpc.or(file.bitcoin_rpc).map(|HostPort(address)| address),
            bitcoin_rpc_auth: flags.bitcoin_rpc_auth.or(file.bitcoin_rpc_auth),
            chain_rest,
            zmq,
            metrics: flags.metrics.or(file.metrics).map(|HostPort(address)| address),
            chain_connect: addresses(flags.chain_connect, file.chain_connect),
            mine: flags.mine || file.mine,
            mine_threads: flags.mine_threads.or(file.mine_threads),
            wallet_password_file: flags.wallet_password_file.or(file.wallet_password_file),
            no_wallet_password: flags.no_wallet_password || file.no_wallet_password,
            tls_extra: several(flags.tls_extra, file.tls_extra),
            to_self_delay: flags.to_self_delay.or(file.to_self_delay).unwrap_or(1000),
            min_depth: flags.min_depth.or(file.min_depth).unwrap_or(3),
            risk_budget,
            attacker_share,
            zero_conf_peers: several(flags.zero_conf_peer, file.zero_conf_peer)
                .into_iter()
                .map(node)
                .collect::<Result<_, _>>()?,
            tower_require: flags.tower_require.or(file.tower_require).unwrap_or(0),
            tower_sweep_feerate: flags
                .tower_sweep_feerate
                .or(file.tower_sweep_feerate)
                .map_or(DEFAULT_SWEEP_FEERATE, |rate| FeeratePerKw(u32::from(rate.max(1)).saturating_mul(PER_VBYTE))),
            forwarding,
            max_dust_exposure: flags
                .max_dust_exposure
                .or(file.max_dust_exposure)
                .map(|sat| Msat(u64::from(sat).saturating_mul(1_000))),
            light,
            block_filters: !(flags.no_block_filters || file.no_block_filters),
            max_mempool: flags.max_mempool.or(file.max_mempool),
            assume_valid: flags.assume_valid.or(file.assume_valid),
            prune: match flags.regtest_prune_bytes.or(file.regtest_prune_bytes) {
                Some(bytes) => Some(bytes),
                None => prune(flags.prune.or(file.prune))?,
            },
            accept_keysend: flags.accept_keysend || file.accept_keysend,
            keeps_final_htlcs: flags.store_final_htlc_resolutions || file.store_final_htlc_resolutions,
            require_interceptor: flags.require_interceptor || file.require_interceptor,
            clock_shift,
            swap_with: flags.swap_with.or(file.swap_with),
            tower,
            also: None,
            log: flags.log.or(file.log).unwrap_or_else(|| "info".into()),
            log_file: flags.log_file.or(file.log_file),
        };
        Ok(Self { also: also.config(&config)?, ..config })
    }

    /// Every address that somebody is told to listen on.
    fn named_addresses(&self) -> Vec<SocketAddr> {
        let rest = self.rest.as_ref().map(|rest| rest.listen);
        let tower = self.tower.as_ref().map(|tower| tower.listen);
        let others = [rest, tower, self.bitcoin_rpc, self.metrics].into_iter().flatten();
        let published = self.zmq.iter().map(|notifier| notifier.address);
        [self.listen, self.rpc_listen, self.chain_listen].into_iter().chain(others).chain(published).collect()
    }
}

/// Lists of the file do not add to those of the command line.
fn first_named<T>(flag: Vec<T>, file: Vec<T>) -> Vec<T> {
    if flag.is_empty() { file } else { flag }
}

fn rest(flags: &Flags, file: &Flags) -> Result<Option<RestConfig>, ConfigError> {
    let listen = flags.rest_listen.or(file.rest_listen);
    let origins = if flags.rest_cors.is_empty() { &file.rest_cors } else { &flags.rest_cors };
    if flags.no_rest || file.no_rest {
        let unused = [(listen.is_some(), "rest-listen"), (!origins.is_empty(), "rest-cors")];
        return match unused.into_iter().find(|(is_set, _)| *is_set) {
            Some((_, name)) => Err(ConfigError::NoRest(name)),
            None => Ok(None),
        };
    }
    let default = || DEFAULT_REST.parse().unwrap_or_else(|_| unreachable!("defaults are addresses"));
    Ok(Some(RestConfig {
        listen: listen.map_or_else(default, |HostPort(address)| address),
        is_named: listen.is_some(),
        allowed_origins: origins.clone(),
        has_page: !(flags.no_web || file.no_web),
    }))
}

fn tower(flags: &Flags, file: &Flags) -> Result<Option<TowerConfig>, ConfigError> {
    let alone = flags.tower_only || file.tower_only;
    let listen = flags.tower_listen.or(file.tower_listen);
    let allow = if flags.tower_allow.is_empty() { &file.tower_allow } else { &flags.tower_allow };
    let strangers = flags.tower_strangers.or(file.tower_strangers);
    if !(alone || flags.tower || file.tower) {
        let unused = [
            (listen.is_some(), "tower-listen"),
            (!allow.is_empty(), "tower-allow"),
            (strangers.is_some(), "tower-strangers"),
        ];
        return match unused.into_iter().find(|(is_set, _)| *is_set) {
            Some((_, name)) => Err(ConfigError::NoTower(name)),
            None => Ok(None),
        };
    }
    if alone && (flags.mine || file.mine) {
        return Err(ConfigError::TowerOnly("mine"));
    }
    let client = |text: &String| match text.parse::<PublicKey>() {
        Ok(key) => Ok(ClientId::from(key)),
        Err(_) => Err(ConfigError::BadTowerClient(text.clone())),
    };
    let allowed: BTreeSet<ClientId> = allow.iter().map(client).collect::<Result<_, _>>()?;
    let default = || DEFAULT_TOWER_LISTEN.parse().unwrap_or_else(|_| unreachable!("defaults are addresses"));
    Ok(Some(TowerConfig {
        listen: listen.map_or_else(default, |HostPort(address)| address),
        alone,
        strangers: strangers.or((!allowed.is_empty()).then_some(0)),
        allowed,
    }))
}

/// What double spends may cost, and the attacker that this is reckoned for.
fn risk(flags: &Flags, file: &Flags) -> Result<(Option<Amount>, Option<f64>), ConfigError> {
    let budget = flags.risk_budget.or(file.risk_budget).map(Amount::from_sat);
    match flags.attacker_share.or(file.attacker_share) {
        Some(share) if !(0.0..0.5).contains(&share) => Err(ConfigError::AttackerShare(share)),
        Some(_) if budget.is_none() => Err(ConfigError::NoRiskBudget),
        share => Ok((budget, share)),
    }
}

/// BOLT 7: an alias has 32 bytes. One that is longer would be cut for everybody else.
const ALIAS_BYTES: usize = 32;

fn checked_alias(alias: String) -> Result<String, ConfigError> {
    if alias.len() > ALIAS_BYTES {
        return Err(ConfigError::LongAlias { bytes: alias.len(), alias });
    }
    if on_one_line(&alias) != alias {
        return Err(ConfigError::StrangeAlias);
    }
    Ok(alias)
}

fn read_file(named: Option<&Path>, data_dir: &Path) -> Result<Flags, ConfigError> {
    let path = named.map_or_else(|| data_dir.join("leyden.toml"), Path::to_owned);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => return Ok(Flags::default()),
        Err(source) => return Err(ConfigError::Io { path, source }),
    };
    toml::from_str(&text).map_err(|error| ConfigError::BadFile { path, message: error.to_string() })
}

fn load_network(name: &str) -> Result<Params, ConfigError> {
    let bad = |message: String| ConfigError::BadNetwork { name: name.to_owned(), message };
    match name {
        "regtest" => Ok(Params::regtest()),
        "leyden" => Ok(Params::leyden()),
        path if path.ends_with(".toml") => {
            let text = fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
            let file: NetworkFile = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
            Params::try_from(&file).map_err(|error| bad(error.to_string()))
        }
        _ => Err(bad("it is not known".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trusted_node_is_named_by_its_key() {
        let key = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
        let load = |name: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("leyden.toml"), format!("zero-conf-peer = [\"{name}\"]\n")).unwrap();
            Config::load(Flags { data_dir: Some(folder.path().into()), ..Flags::default() })
        };
        assert_eq!(load(key).unwrap().zero_conf_peers, [key.parse().unwrap()]);
        assert!(matches!(load("bob"), Err(ConfigError::BadNode(name)) if name == "bob"));
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("leyden.toml"), "alias = \"file\"\nmin-depth = 6\n").unwrap();
        let flags = Flags { data_dir: Some(folder.path().into()), alias: Some("flag".into()), ..Flags::default() };
        let config = Config::load(flags).unwrap();
        assert_eq!((config.alias.as_str(), config.min_depth, config.to_self_delay), ("flag", 6, 1000));
    }

    #[test]
    fn an_attacker_is_below_a_half_and_needs_a_budget() {
        let load = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("leyden.toml"), text).unwrap();
            Config::load(Flags { data_dir: Some(folder.path().into()), ..Flags::default() })
        };
        let config = load("risk-budget = 500\nattacker-share = 0.1\n").unwrap();
        assert_eq!((config.risk_budget, config.attacker_share), (Some(Amount::from_sat(500)), Some(0.1)));
        assert!(matches!(load("attacker-share = 0.1\n"), Err(ConfigError::NoRiskBudget)));
        assert!(matches!(load("risk-budget = 500\nattacker-share = 0.5\n"), Err(ConfigError::AttackerShare(_))));
    }

    #[test]
    fn an_alias_that_is_too_long_is_refused_with_its_length() {
        let load = |alias: &str| {
            let folder = tempfile::tempdir().unwrap();
            let (data_dir, alias) = (Some(folder.path().into()), Some(alias.to_owned()));
            Config::load(Flags { data_dir, alias, ..Flags::default() })
        };
        assert_eq!(load(&"é".repeat(16)).unwrap().alias.len(), 32);
        let error = load(&"é".repeat(17)).unwrap_err().to_string();
        assert!(error.contains("34 bytes") && error.contains("32"), "{error}");
        assert!(matches!(load("a\nb"), Err(ConfigError::StrangeAlias)));
    }

    #[test]
    fn names_may_stand_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("leyden.toml"),
            "listen = \"localhost:0\"\nmetrics = \"localhost:2\"\nchain-connect = [\"localhost:1\"]\n",
        )
        .unwrap();
        let config = Config::load(Flags { data_dir: Some(folder.path().into()), ..Flags::default() }).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:0");
        assert_eq!(config.metrics, Some("127.0.0.1:2".parse().unwrap()));
        assert_eq!(config.chain_connect, ["127.0.0.1:1".parse().unwrap()]);
    }

    #[test]
    fn a_tower_serves_whom_it_is_told_to() {
        let load = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("leyden.toml"), text).unwrap();
            Config::load(Flags { data_dir: Some(folder.path().into()), ..Flags::default() })
        };
        assert_eq!(load("").unwrap().tower, None);
        let open = load("tower = true\n").unwrap().tower.unwrap();
        assert_eq!((open.strangers, open.alone, open.listen.port()), (None, false, 9911));
        let key = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";
        let listed = load(&format!("tower-only = true\ntower-allow = [\"{key}\"]\n")).unwrap().tower.unwrap();
        assert_eq!((listed.strangers, listed.alone, listed.allowed.len()), (Some(0), true, 1));
        for wrong in [
            "tower = true\ntower-allow = [\"bob\"]\n",
            "tower-listen = \"localhost:1\"\n",
            "tower-only = true\nmine = true\n",
        ] {
            assert!(load(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rest_is_served_unless_it_is_turned_off_and_lnds_names_are_taken() {
        let load = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("leyden.toml"), text).unwrap();
            Config::load(Flags { data_dir: Some(folder.path().into()), ..Flags::default() })
        };
        let usual = load("").unwrap().rest.unwrap();
        assert_eq!((usual.listen.to_string().as_str(), usual.is_named), (DEFAULT_REST, false));
        assert!(usual.allowed_origins.is_empty());
        let named = load("restlisten = \"127.0.0.1:1\"\nrestcors = [\"*\"]\n").unwrap().rest.unwrap();
        assert_eq!((named.listen.port(), named.is_named, named.allowed_origins.len()), (1, true, 1));
        assert_eq!(load("norest = true\n").unwrap().rest, None);
        assert!(matches!(load("no-rest = true\nrest-cors = [\"*\"]\n"), Err(ConfigError::NoRest("rest-cors"))));
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("leyden.toml"), "min-dept = 6\n").unwrap();
        let flags = Flags { data_dir: Some(folder.path().into()), ..Flags::default() };
        let error = Config::load(flags).unwrap_err().to_string();
        assert!(error.contains("min-dept"), "{error}");
    }

    #[test]
    fn an_unknown_network_says_which_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let flags = Flags { data_dir: Some(folder.path().into()), network: Some("moon".into()), ..Flags::default() };
        let error = Config::load(flags).unwrap_err().to_string();
        assert!(error.contains("regtest"), "{error}");
    }
}
