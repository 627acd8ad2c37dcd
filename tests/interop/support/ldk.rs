//! An `ldk-node` in this process.

use std::{
    fmt,
    net::{SocketAddrV4, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Mutex,
};

use ldk_node::{
    Builder, ChannelDetails, Event, LightningBalance, Node, PendingSweepBalance,
    bitcoin::{Network, secp256k1::PublicKey},
    config::{AnchorChannelsConfig, Config},
    lightning::{
        events::PaymentFailureReason,
        ln::{channelmanager::PaymentId, msgs::SocketAddress},
        routing::{
            gossip::{NodeAlias, NodeId},
            router::RouteParametersConfig,
        },
    },
    lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description},
    lightning_types::payment::{PaymentHash, PaymentPreimage},
    logger::LogLevel,
    payment::PaymentStatus,
};
use leyden_client::cluster::{DaemonProcess, own_ip, wait_until};

use super::chain::Rpc;

/// The channels that a node opens; it accepts both kinds if it opens anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Anchors,
    StaticRemoteKey,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Anchors => "anchors",
            Self::StaticRemoteKey => "static_remotekey",
        })
    }
}

/// How a payment of LDK ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Paid { fee_msat: u64, preimage: PaymentPreimage },
    Failed(Option<PaymentFailureReason>),
}

pub struct Ldk {
    name: String,
    folder: PathBuf,
    kind: Kind,
    listen: SocketAddrV4,
    rpc: Rpc,
    log: LogLevel,
    /// Whose channels it uses before they are confirmed.
    trusted: Vec<PublicKey>,
    node: Option<Node>,
    /// What has happened since the node was made, also before it was last started.
    events: Mutex<Vec<Event>>,
}

impl Ldk {
    /// Starts a new node that logs everything into its folder.
    pub fn start(folder: &Path, name: &str, kind: Kind, rpc: Rpc) -> Self {
        Self::start_with(folder, name, kind, rpc, LogLevel::Debug, Vec::new())
    }

    /// Starts a new node that logs warnings only.
    pub fn quiet(folder: &Path, name: &str, kind: Kind, rpc: Rpc) -> Self {
        Self::start_with(folder, name, kind, rpc, LogLevel::Warn, Vec::new())
    }

    /// A new node that uses channels of `trusted` before they are confirmed.
    pub fn trusting(folder: &Path, name: &str, kind: Kind, rpc: Rpc, trusted: PublicKey) -> Self {
        Self::start_with(folder, name, kind, rpc, LogLevel::Debug, vec![trusted])
    }

    fn start_with(folder: &Path, name: &str, kind: Kind, rpc: Rpc, log: LogLevel, trusted: Vec<PublicKey>) -> Self {
        let mut ldk = Self {
            name: name.to_owned(),
            folder: folder.join(name),
            kind,
            listen: free_address(),
            rpc,
            log,
            trusted,
            node: None,
            events: Mutex::default(),
        };
        ldk.start_again();
        ldk
    }

    /// Starts the node from what it has stored.
    pub fn start_again(&mut self) {
        let mut alias = [0; 32];
        alias[..self.name.len()].copy_from_slice(self.name.as_bytes());
        let config = Config {
            storage_dir_path: self.folder.display().to_string(),
            network: Network::Regtest,
            listening_addresses: Some(vec![self.address()]),
            node_alias: Some(NodeAlias(alias)),
            trusted_peers_0conf: self.trusted.clone(),
            anchor_channels_config: (self.kind == Kind::Anchors).then(AnchorChannelsConfig::default),
            ..Config::default()
        };
        let mut builder = Builder::from_config(config);
        let Rpc { host, port, user, password } = self.rpc.clone();
        builder.set_chain_source_bitcoind_rpc(host, port, user, password);
        builder.set_filesystem_logger(None, Some(self.log));
        let node = builder.build().unwrap();
        node.start().unwrap();
        self.node = Some(node);
    }

    pub fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            self.drain(&node);
            node.stop().unwrap();
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn node(&self) -> &Node {
        self.node.as_ref().expect("the node runs")
    }

    pub fn id(&self) -> PublicKey {
        self.node().node_id()
    }

    pub fn address(&self) -> SocketAddress {
        SocketAddress::TcpIpV4 { addr: self.listen.ip().octets(), port: self.listen.port() }
    }

    /// host:port.
    pub fn host(&self) -> String {
        self.listen.to_string()
    }

    pub fn new_address(&self) -> String {
        self.node().onchain_payment().new_address().unwrap().to_string()
    }

    pub async fn wait_for_height(&self, height: u32) {
        wait_until(&format!("{} to reach height {height}", self.name), || async {
            // A poll that coincides with the node's own can fail.
            let _ = self.node().sync_wallets();
            Ok(self.node().status().current_best_block.height >= height)
        })
        .await
        .unwrap();
    }

    pub async fn connect(&self, other: &DaemonProcess) {
        let (id, address) = reach(other).await;
        self.node().connect(id, address, true).unwrap();
    }

    pub async fn is_connected(&self, id: PublicKey) -> bool {
        self.node().list_peers().iter().any(|peer| peer.node_id == id && peer.is_connected)
    }

    /// Opens a channel; the funding transaction follows.
    pub fn open(&self, (id, address): (PublicKey, SocketAddress), capacity: u64, push_sat: u64, announced: bool) {
        let push = Some(push_sat * 1_000);
        let node = self.node();
        match announced {
            true => node.open_announced_channel(id, address, capacity, push, None).unwrap(),
            false => node.open_channel(id, address, capacity, push, None).unwrap(),
        };
    }

    pub fn channels(&self) -> Vec<ChannelDetails> {
        self.node().list_channels()
    }

    pub async fn wait_for_usable_channels(&self, count: usize) {
        wait_until(&format!("{count} usable channels of {}", self.name), || async {
            Ok(self.channels().iter().filter(|channel| channel.is_usable).count() >= count)
        })
        .await
        .unwrap();
    }

    /// Waits until it is known what a node asks for handing on over a channel.
    pub async fn wait_for_terms(&self, short_channel_id: u64, of: PublicKey) {
        let of = NodeId::from_pubkey(&of);
        wait_until(&format!("{} to know a channel", self.name), || async {
            let known = self.node().network_graph().channel(short_channel_id);
            Ok(known.is_some_and(|channel| match channel.node_one == of {
                true => channel.one_to_two.is_some(),
                false => channel.two_to_one.is_some(),
            }))
        })
        .await
        .unwrap();
    }

    /// The channel with this funding output.
    pub fn channel(&self, point: &str) -> ChannelDetails {
        let is_it = |channel: &ChannelDetails| channel.funding_txo.is_some_and(|output| output.to_string() == point);
        self.channels().into_iter().find(is_it).unwrap_or_else(|| panic!("{} has no channel {point}", self.name))
    }

    pub fn invoice(&self, sat: u64) -> Bolt11Invoice {
        self.node().bolt11_payment().receive(sat * 1_000, &description(), 3_600).unwrap()
    }

    /// An invoice whose payment waits until it is claimed.
    pub fn hold_invoice(&self, sat: u64, hash: PaymentHash) -> Bolt11Invoice {
        self.node().bolt11_payment().receive_for_hash(sat * 1_000, &description(), 3_600, hash).unwrap()
    }

    pub fn pay(&self, invoice: &str) -> PaymentHash {
        self.pay_by(invoice, None)
    }

    /// Pays over a way on which the coins are locked for so many blocks at most.
    pub fn pay_within(&self, invoice: &str, max_total_cltv_expiry_delta: u32) -> PaymentHash {
        self.pay_by(invoice, Some(RouteParametersConfig { max_total_cltv_expiry_delta, ..Default::default() }))
    }

    fn pay_by(&self, invoice: &str, route: Option<RouteParametersConfig>) -> PaymentHash {
        let invoice = Bolt11Invoice::from_str(invoice).unwrap();
        let id = self.node().bolt11_payment().send(&invoice, route).unwrap();
        PaymentHash(id.0)
    }

    /// How far a payment is, given or taken.
    pub fn payment_status(&self, hash: PaymentHash) -> PaymentStatus {
        self.node().payment(&PaymentId(hash.0)).expect("the payment is known").status
    }

    /// Pays and waits for the end.
    pub async fn pay_to_end(&self, invoice: &str) -> End {
        let hash = self.pay(invoice);
        self.end(hash).await
    }

    /// Waits for the end of a payment.
    pub async fn end(&self, hash: PaymentHash) -> End {
        self.wait_for_event("the end of a payment", |event| match event {
            Event::PaymentSuccessful { payment_hash, fee_paid_msat, payment_preimage, .. } if *payment_hash == hash => {
                Some(End::Paid { fee_msat: fee_paid_msat.unwrap(), preimage: payment_preimage.unwrap() })
            }
            Event::PaymentFailed { payment_hash: Some(payment_hash), reason, .. } if *payment_hash == hash => {
                Some(End::Failed(*reason))
            }
            _ => None,
        })
        .await
    }

    /// Waits until a payment is received, and taken; gives its amount in msat.
    pub async fn received(&self, hash: PaymentHash) -> u64 {
        self.wait_for_event("a payment", |event| match event {
            Event::PaymentReceived { payment_hash, amount_msat, .. } if *payment_hash == hash => Some(*amount_msat),
            _ => None,
        })
        .await
    }

    /// Waits until a payment to a held invoice can be claimed.
    pub async fn claimable(&self, hash: PaymentHash) -> u64 {
        self.wait_for_event("a payment that can be claimed", |event| match event {
            Event::PaymentClaimable { payment_hash, claimable_amount_msat, .. } if *payment_hash == hash => {
                Some(*claimable_amount_msat)
            }
            _ => None,
        })
        .await
    }

    pub fn claim(&self, preimage: PaymentPreimage, sat: u64) {
        self.node().bolt11_payment().claim_for_hash(preimage.into(), sat * 1_000, preimage).unwrap();
    }

    pub async fn wait_for_event<T>(&self, what: &str, find: impl Fn(&Event) -> Option<T>) -> T {
        let look = || {
            self.drain(self.node());
            self.events.lock().unwrap().iter().find_map(&find)
        };
        wait_until(&format!("{what} at {}", self.name), || async { Ok(look().is_some()) }).await.unwrap();
        look().unwrap()
    }

    fn drain(&self, node: &Node) {
        let mut events = self.events.lock().unwrap();
        while let Some(event) = node.next_event() {
            events.push(event);
            node.event_handled().unwrap();
        }
    }

    /// Whether nothing is left in channels that closed, whatever the node still waits for blocks to bury.
    pub fn has_claimed_everything(&self) -> bool {
        let balances = self.node().list_balances();
        let mut sweeps = balances.pending_balances_from_channel_closures.iter();
        let is_open = |balance: &LightningBalance| matches!(balance, LightningBalance::ClaimableOnChannelClose { .. });
        balances.lightning_balances.iter().all(is_open)
            && sweeps.all(|sweep| matches!(sweep, PendingSweepBalance::AwaitingThresholdConfirmations { .. }))
    }

    /// Whether the chain has all HTLCs of closed channels whose preimages the node knows.
    pub fn has_taken_its_htlcs(&self) -> bool {
        let balances = self.node().list_balances();
        let mut balances = balances.lightning_balances.iter();
        !balances.any(|balance| matches!(balance, LightningBalance::ContentiousClaimable { .. }))
    }

    /// Satoshi in channels.
    pub fn in_channels(&self) -> u64 {
        self.node().list_balances().total_lightning_balance_sats
    }

    /// Satoshi on the chain, confirmed or not.
    pub fn wallet(&self) -> u64 {
        self.node().list_balances().total_onchain_balance_sats
    }
}

impl Drop for Ldk {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        // A node whose own task has panicked panics again here, and that would end the whole program.
        if catch_unwind(AssertUnwindSafe(|| node.stop())).is_err() {
            std::mem::forget(node);
        }
    }
}

/// Where a daemon is reached.
pub async fn reach(node: &DaemonProcess) -> (PublicKey, SocketAddress) {
    let address = node.lightning_address().unwrap();
    (id_of(node).await, SocketAddress::from_str(&address).unwrap())
}

pub async fn id_of(node: &DaemonProcess) -> PublicKey {
    PublicKey::from_str(&node.node_id().await.unwrap()).unwrap()
}

fn description() -> Bolt11InvoiceDescription {
    Bolt11InvoiceDescription::Direct(Description::new("interop".to_owned()).unwrap())
}

/// An address that nobody listens on, and that nobody is given soon again.
fn free_address() -> SocketAddrV4 {
    let ip = own_ip();
    let port = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().port();
    SocketAddrV4::new(ip, port)
}
