//! Notifications as Bitcoin Core publishes them over ZeroMQ: for indexers, explorers and other Lightning nodes.
//!
//! ```text
//!   the chain's events ─► feed: blocks and transactions in order ─► every subscriber whose prefixes fit
//!                                                                       └─ its queue is full: it loses this message,
//!                                                                          and sees that by the numbers of the others
//!   topic       body                                                    number
//!   hashblock   the new tip's hash                                      of 4 bytes, little-endian,
//!   rawblock    the new tip                                             one more with each message
//!   hashtx      id of a transaction that is new, or in a block that     of the topic
//!               was connected or disconnected
//!   rawtx       that transaction
//!   sequence    a hash, and C or D: a block was connected or disconnected;
//!               A or R with the mempool's sequence (8 bytes): a transaction came in, or left but for a block
//! ```
//!
//! Hashes are as they are written for people, the first byte first. A subscriber can say nothing that changes anything, and
//! holds up nobody: the chain never waits for one, and what waits for it is bounded by number and bytes.

mod feed;
mod frame;
mod subscriber;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use leyden_node::Node;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{admission::ConnectionSlots, callers::CallerListener};
use frame::Message;
use subscriber::Queue;

pub(crate) use subscriber::HIGH_WATER_MARK;

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The hash of each new tip.
    HashBlock,
    /// The id of each transaction.
    HashTx,
    /// Each new tip.
    RawBlock,
    /// Each transaction.
    RawTx,
    /// Blocks and the mempool in order.
    Sequence,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::HashBlock, Self::HashTx, Self::RawBlock, Self::RawTx, Self::Sequence];

    /// As subscribers name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::HashBlock => "hashblock",
            Self::HashTx => "hashtx",
            Self::RawBlock => "rawblock",
            Self::RawTx => "rawtx",
            Self::Sequence => "sequence",
        }
    }
}

/// A topic, and where it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notifier {
    /// What is published.
    pub topic: Topic,
    /// At which address; port 0 until it is bound.
    pub address: SocketAddr,
}

/// One address with its topics and those who listen there.
struct Endpoint {
    topics: BTreeSet<Topic>,
    listener: TcpListener,
    subscribers: Arc<Mutex<Vec<Arc<Queue>>>>,
}

/// All addresses, bound and not served yet.
pub(crate) struct Publisher {
    endpoints: Vec<Endpoint>,
    notifiers: Vec<Notifier>,
}

/// An address that cannot be published on.
#[derive(Debug)]
pub(crate) struct BindError {
    /// What was to be published there.
    pub notifier: Notifier,
    /// What the system says.
    pub source: io::Error,
}

impl Publisher {
    /// Topics of one address share it.
    pub(crate) async fn bind(notifiers: &[Notifier]) -> Result<Self, BindError> {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let mut bound: Vec<(SocketAddr, SocketAddr)> = Vec::new();
        let mut actual = Vec::new();
        for notifier in notifiers {
            let at = bound.iter().position(|(asked, _)| *asked == notifier.address);
            if let Some((endpoint, (_, address))) = at.and_then(|at| endpoints.get_mut(at).zip(bound.get(at))) {
                endpoint.topics.insert(notifier.topic);
                actual.push(Notifier { address: *address, ..*notifier });
                continue;
            }
            let failed = |source| BindError { notifier: *notifier, source };
            let listener = TcpListener::bind(notifier.address).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            bound.push((notifier.address, address));
            actual.push(Notifier { address, ..*notifier });
            endpoints.push(Endpoint {
                topics: BTreeSet::from([notifier.topic]),
                listener,
                subscribers: Arc::default(),
            });
        }
        Ok(Self { endpoints, notifiers: actual })
    }

    /// With the addresses that were bound.
    pub(crate) fn notifiers(&self) -> &[Notifier] {
        &self.notifiers
    }

    /// Publishes until `stopping` is cancelled, on tasks of its own.
    pub(crate) fn serve(self, node: &Node, slots: &ConnectionSlots, stopping: &CancellationToken) {
        if self.endpoints.is_empty() {
            return;
        }
        let mut outlets = Vec::new();
        for Endpoint { topics, listener, subscribers } in self.endpoints {
            outlets.push(Outlet { topics, subscribers: Arc::clone(&subscribers) });
            let listener = CallerListener::new(listener, slots.clone(), None);
            let stopping = stopping.clone();
            tokio::spawn(async move {
                loop {
                    let stream = tokio::select! {
                        () = stopping.cancelled() => return,
                        stream = listener.next() => stream,
                    };
                    tokio::spawn(subscriber::serve(stream, Arc::clone(&subscribers), stopping.clone()));
                }
            });
        }
        let (feed, stopping) = (feed::Feed::new(node.clone(), Outlets(outlets)), stopping.clone());
        tokio::spawn(async move { stopping.run_until_cancelled(feed.run()).await });
    }
}

struct Outlet {
    topics: BTreeSet<Topic>,
    subscribers: Arc<Mutex<Vec<Arc<Queue>>>>,
}

struct Outlets(Vec<Outlet>);

impl Outlets {
    fn has(&self, topic: Topic) -> bool {
        self.0.iter().any(|outlet| outlet.topics.contains(&topic))
    }

    /// Whether anybody would get what is published.
    fn are_heard(&self) -> bool {
        self.0.iter().any(|outlet| !outlet.subscribers.lock().unwrap_or_else(PoisonError::into_inner).is_empty())
    }

    fn publish(&self, topic: Topic, message: &Arc<Message>) {
        for outlet in self.0.iter().filter(|outlet| outlet.topics.contains(&topic)) {
            for queue in outlet.subscribers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                queue.offer(message);
            }
        }
    }
}
