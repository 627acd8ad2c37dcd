//! The running Lightning node behind the API: each call in the domain's own types, over the tasks of `driver`.

mod announcing;
mod backups;
mod bumping;
mod channels;
mod closed;
mod closing;
mod closing_rates;
mod closings;
mod crossings;
mod custom;
mod deciding;
mod experience;
mod figures;
mod forgetting;
mod forwarding;
mod funding;
mod graph;
mod here;
mod holding;
mod invoices;
mod messages;
mod network_map;
mod payments;
mod peers;
mod psbts;
mod recovery;
mod routes;
mod signing;
mod swap_prices;
mod swaps;
mod towers;
mod wallet;
mod wallet_kit;
mod warnings;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bitcoin::{OutPoint, Transaction};
use leyden_channels::{
    channel::{StateName, Summary},
    types::ChannelId,
};
use leyden_node::TipDoubt;
use tokio::{
    sync::{
        mpsc::{self, UnboundedSender},
        oneshot,
    },
    time::timeout,
};

use crate::{
    api::{ApiError, Lightning, NodeInfo},
    driver::{
        committer::{PendingEffects, Stopped},
        crossing::{CrossingCalls, CrossingNode, CrossingTask},
        peer::{ChannelState, Command, PeerState},
        runtime::Runtime,
        services::{Begun, Services},
    },
    limits::LimitUse,
    store::StoreError,
    wallet::{musig2_sessions::Musig2Sessions, onchain::Tip},
};

pub(crate) use here::NodeHere;

/// For how long a call waits until what it did is seen.
const SEEING_LIMIT: Duration = Duration::from_secs(10);

/// The open wallet, its channels and payments.
pub(crate) struct LightningNode {
    runtime: Runtime,
    crossings: CrossingCalls,
    /// That of the daemon's second network, if this is the first's.
    second: Option<NodeHere>,
    /// That of the daemon's other network, whichever this one is.
    beside: Option<NodeHere>,
    signing_sessions: Arc<Musig2Sessions>,
}

impl LightningNode {
    /// `other` is the node on another network, to and from whose network payments cross; `second`, if this is the daemon's first network, that of
    /// its second; `beside`, that of its other one. `fatal` ends the process with its message.
    pub(crate) fn new(
        mut runtime: Runtime,
        other: Option<Arc<dyn CrossingNode>>,
        second: Option<NodeHere>,
        beside: Option<NodeHere>,
        fatal: mpsc::UnboundedSender<String>,
    ) -> Result<Arc<Self>, StoreError> {
        let loaded = CrossingTask::load(&runtime.services)?;
        Ok(Arc::new_cyclic(|node| {
            let node = Weak::clone(node);
            let own = NodeHere::new(move || node.upgrade(), "this node is starting or stopping".to_owned());
            let (crossings, task) = CrossingCalls::new(Arc::new(own), other);
            runtime.keep("the crossings' task", task.run(Arc::clone(&runtime.services), loaded, fatal));
            Self { runtime, crossings, second, beside, signing_sessions: Arc::default() }
        }))
    }

    /// What others may make the node hold and do, and how much of that is used.
    pub(crate) fn limits(&self) -> Vec<LimitUse> {
        let services = self.services();
        let handshakes = services.handshakes.limits("lightning.handshakes", "lightning.known_handshakes");
        let times = [
            LimitUse::of_time(
                "lightning.strangers_time",
                &services.strangers_time,
                "milliseconds of processor time spent for strangers; more has to wait",
            ),
            LimitUse::of_time(
                "lightning.handshakes_time",
                &services.handshakes_time,
                "milliseconds of processor time spent for handshakes with unknown nodes; more has to wait",
            ),
        ];
        handshakes.into_iter().chain(services.peers.limits()).chain(times).chain(services.gossip.limits()).collect()
    }

    /// Whether no macaroon is ever to be left on the disk.
    pub(crate) fn leaves_no_macaroons(&self) -> bool {
        // What cannot be read is treated as if somebody had wanted none.
        self.services().store.is_stateless().unwrap_or(true)
    }

    /// The lowest block of the other network's chain that a swap of this node may still ask for.
    pub(crate) fn blocks_needed_of_other(&self) -> u32 {
        self.services().swaps.needed_of_other()
    }

    pub(crate) fn listen(&self) -> std::net::SocketAddr {
        self.runtime.listen
    }

    /// Whether the wallet has seen every block that the chain has.
    pub(crate) fn wallet_is_synced(&self) -> bool {
        let services = self.services();
        services.wallet.tip().1 == services.node.tip().hash
    }

    /// Waits until the wallet has seen a block and the channels have been told of it, but not for long: a wallet that
    /// looks at the whole chain again has more to do.
    pub(crate) async fn wait_for_block(&self, block: Tip) {
        let _ = timeout(SEEING_LIMIT, self.services().watch.wait_for(block)).await;
    }

    /// The wallet takes note of a transaction that was handed to the mempool here.
    pub(crate) fn note_transaction(&self, transaction: &Transaction) -> Result<(), ApiError> {
        let services = self.services();
        services.wallet.transaction_seen(transaction.clone(), services.now().0).map_err(internal)
    }

    /// The hash of the address to which mining pays by default.
    pub(crate) fn reward_script(&self) -> Result<bitcoin::ScriptBuf, ApiError> {
        self.services().wallet.new_script().map_err(internal)
    }

    /// The script to which mining pays that begins by itself. It moves nothing, however often the daemon is started.
    pub(crate) fn standing_reward_script(&self) -> bitcoin::ScriptBuf {
        self.services().wallet.channel_script(&rand::random())
    }

    fn services(&self) -> &Arc<Services> {
        &self.runtime.services
    }

    /// Reads what grows with the node's age on a thread that may take its time: no task waits behind a long list.
    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Arc<Services>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let services = Arc::clone(self.services());
        tokio::task::spawn_blocking(move || look(&services)).await.map_err(internal)?
    }

    /// Waits until a change is durable and done. In a task of its own: a caller that hangs up must not leave half of it.
    async fn carry_out(&self, underway: PendingEffects) -> Result<(), ApiError> {
        let services = Arc::clone(self.services());
        self.carry_to_the_end(async move { services.run(underway).await }).await
    }

    /// The same for what was begun.
    async fn carry_out_begun(&self, begun: Begun) -> Result<(), ApiError> {
        let services = Arc::clone(self.services());
        self.carry_to_the_end(async move { services.run_begun(begun).await }).await
    }

    async fn carry_to_the_end(
        &self,
        run: impl Future<Output = Result<(), Stopped>> + Send + 'static,
    ) -> Result<(), ApiError> {
        let run = tokio::spawn(run);
        let stopped = |_| ApiError::unavailable("the daemon is stopping; try again when it runs");
        run.await.map_err(internal)?.map_err(stopped)
    }

    /// One channel as it is now, from the task that owns it.
    async fn channel_state(&self, funding: OutPoint) -> Option<ChannelState> {
        let channel = ChannelId::from_funding(funding);
        let (answer, state) = oneshot::channel();
        let asked = self.services().peers.to_channel(&channel, Command::DescribeChannel { channel, answer });
        let state = if asked { state.await.ok().flatten() } else { None };
        state.filter(|state| state.summary.established.is_some())
    }

    /// The figures of all channels, as they are now.
    async fn summaries(&self) -> Vec<Summary> {
        let (shown, others) = self.services().peers.described();
        let ask = |mailbox: UnboundedSender<Command>| {
            let (answer, summaries) = oneshot::channel();
            mailbox.send(Command::Summaries(answer)).is_ok().then_some(summaries)
        };
        let answers: Vec<_> = others.into_iter().filter_map(ask).collect();
        let mut all: Vec<Summary> = shown.into_iter().flat_map(|state| state.channels).collect();
        for answer in answers {
            // A task that has ended has nothing to tell.
            all.extend(answer.await.unwrap_or_default());
        }
        all
    }

    /// All peers with their channels, as they are now.
    async fn peer_states(&self) -> Vec<PeerState> {
        let mut answers = Vec::new();
        let (mut states, others) = self.services().peers.described();
        for mailbox in others {
            let (answer, state) = oneshot::channel();
            if mailbox.send(Command::Describe(answer)).is_ok() {
                answers.push(state);
            }
        }
        for answer in answers {
            // A task that has ended has nothing to tell.
            states.extend(answer.await);
        }
        states
    }
}

pub(crate) fn internal(error: impl std::fmt::Display) -> ApiError {
    ApiError::internal(error.to_string())
}

/// What a call is told that needs a tip that may be relied on.
pub(crate) fn tip_error(refused: &str, doubt: &TipDoubt) -> ApiError {
    ApiError::unavailable(format!("{refused} while it is not known how far the chain is. {}", sentence(doubt)))
}

/// With a capital at its beginning.
fn sentence(doubt: &TipDoubt) -> String {
    let text = doubt.to_string();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        internal(error)
    }
}

#[async_trait]
impl Lightning for LightningNode {
    async fn info(&self) -> Result<NodeInfo, ApiError> {
        let services = self.services();
        let tip = services.node.tip();
        let announced = services.announced();
        let states = self.peer_states().await;
        let channels = || states.iter().flat_map(|state| &state.channels);
        let count = |wanted: fn(&leyden_channels::channel::Summary) -> bool| {
            u32::try_from(channels().filter(|channel| wanted(channel)).count()).unwrap_or(u32::MAX)
        };
        let synced = self.wallet_is_synced();
        // As many as `pending_channels` lists: one that both have closed in a block is among the closed ones.
        let pending = self.pending_of(&states);
        let pending = pending.opening.len() + pending.waiting_close.len() + pending.force_closing.len();
        Ok(NodeInfo {
            node_id: services.node_id(),
            alias: announced.alias,
            color: announced.color,
            pending_channels: u32::try_from(pending).unwrap_or(u32::MAX),
            active_channels: count(|channel| channel.state == StateName::Normal && channel.usable),
            inactive_channels: count(|channel| channel.state == StateName::Normal && !channel.usable),
            peers: u32::try_from(states.iter().filter(|state| state.connection.is_some()).count()).unwrap_or(u32::MAX),
            height: services.tip(),
            tip: tip.hash,
            tip_time: leyden_channels::types::UnixTime(u64::from(tip.time)),
            synced_to_chain: synced
                && services.node.best_header().hash == tip.hash
                && services.node.check_tip().is_ok(),
            wallet_synced: synced,
            synced_to_graph: services.gossip.has_caught_up(),
            keeps_final_htlcs: services.policy.keeps_final_htlcs,
            addresses: match announced.addresses.as_slice() {
                [] => vec![self.listen().to_string()],
                addresses => addresses.iter().map(graph::address).collect(),
            },
            features: services.local.features.clone(),
        })
    }
}
