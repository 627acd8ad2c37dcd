//! Worker threads: where headers, blocks and transactions are checked. Each kind has its own thread, so a transaction
//! does not wait behind a block, nor a header behind either; and in each thread the peers take turns, so nobody's
//! transaction waits behind all those of another.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Instant;

use bitcoin::block::Header;
use bitcoin::{Block, Transaction};
use leyden_net::{BlockOutcome, Event, HeadersOutcome, PeerId, TransactionOutcome};
use tokio::sync::mpsc::UnboundedSender;

use super::fair_queue::FairQueue;
use crate::backend::Backend;
use crate::error::{BlockRejected, HeadersRejected, MempoolError};
use crate::prepared::PreparedBlock;
use crate::time_budget::TimeBudget;

/// A transaction, or a parent with a child that pays for it.
pub(super) enum Offer {
    Single(Arc<Transaction>),
    Package { parent: Arc<Transaction>, child: Arc<Transaction> },
}

impl Offer {
    fn into_transactions(self) -> Vec<Arc<Transaction>> {
        match self {
            Self::Single(transaction) => vec![transaction],
            Self::Package { parent, child } => vec![parent, child],
        }
    }
}

/// An offer, and out of what its check is paid, if it counts.
struct Charged {
    offer: Offer,
    time: Option<Arc<TimeBudget>>,
}

/// One of the threads, and the jobs that wait for it.
struct Worker<Job> {
    jobs: Arc<FairQueue<Job>>,
    /// Until it is waited for.
    thread: Option<JoinHandle<()>>,
}

/// The three threads. They end when this is dropped; [`Workers::join`] waits for that.
pub(super) struct Workers {
    headers: Worker<Vec<Header>>,
    /// While one block is connected, the next is prepared.
    blocks: Worker<Block>,
    connecting: JoinHandle<()>,
    transactions: Worker<Charged>,
    outcomes: UnboundedSender<Event>,
}

impl Workers {
    pub(super) fn start(backend: &Arc<dyn Backend>, outcomes: &UnboundedSender<Event>) -> std::io::Result<Self> {
        // One is prepared, one waits, one is connected: no more are in memory for it.
        let (prepared, blocks) = sync_channel::<(PeerId, PreparedBlock)>(1);
        let connecting = {
            let (backend, outcomes) = (Arc::clone(backend), outcomes.clone());
            std::thread::Builder::new().name("p2p-blocks".into()).spawn(move || {
                for (peer, block) in blocks {
                    let _ = outcomes.send(check_block(backend.as_ref(), peer, block));
                }
            })?
        };
        let prepare = move |backend: &dyn Backend, peer: PeerId, block: Block, _: &mut dyn FnMut(Event)| {
            // The other thread is gone only after a bug in a check: `Workers::block` tells.
            let _ = prepared.send((peer, backend.prepare_block(block)));
        };
        Ok(Self {
            headers: Worker::spawn("p2p-headers", backend, outcomes, check_headers)?,
            blocks: Worker::spawn("p2p-prepare", backend, outcomes, prepare)?,
            connecting,
            transactions: Worker::spawn("p2p-transactions", backend, outcomes, check_transaction)?,
            outcomes: outcomes.clone(),
        })
    }

    /// Each of these is false if the thread is gone, which only a bug in a check can cause.
    #[must_use]
    pub(super) fn headers(&self, peer: PeerId, headers: Vec<Header>) -> bool {
        self.headers.push(peer, headers)
    }

    #[must_use]
    pub(super) fn block(&self, peer: PeerId, block: Block) -> bool {
        self.blocks.push(peer, block) && !self.connecting.is_finished()
    }

    #[must_use]
    pub(super) fn transaction(&self, peer: PeerId, offer: Offer, time: Option<Arc<TimeBudget>>) -> bool {
        self.transactions.push(peer, Charged { offer, time })
    }

    /// What a peer that misbehaved has left to check is given up.
    pub(super) fn give_up_transactions(&self, peer: PeerId) {
        let given_up = self.transactions.jobs.take(peer).into_iter().map(|charged| charged.offer);
        for transaction in given_up.flat_map(Offer::into_transactions) {
            let outcome = TransactionOutcome::Rejected;
            // The core is gone: nobody wants to know.
            let _ = self.outcomes.send(Event::TransactionProcessed { peer, transaction, outcome });
        }
    }

    /// Waits for the checks that are under way. Those that were not begun are given up.
    pub(super) fn join(self) {
        let Self { headers, blocks, connecting, transactions, outcomes: _ } = self;
        // The third ends when the second has.
        for ended in [headers.join(), blocks.join(), connecting.join(), transactions.join()] {
            if ended.is_err() {
                tracing::error!("a check of the peer-to-peer driver panicked");
            }
        }
    }
}

impl<Job: Send + 'static> Worker<Job> {
    fn spawn(
        name: &str,
        backend: &Arc<dyn Backend>,
        outcomes: &UnboundedSender<Event>,
        mut check: impl FnMut(&dyn Backend, PeerId, Job, &mut dyn FnMut(Event)) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (backend, outcomes) = (Arc::clone(backend), outcomes.clone());
        let jobs = Arc::new(FairQueue::new());
        let queue = Arc::clone(&jobs);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            while let Some((peer, job)) = queue.pop() {
                check(backend.as_ref(), peer, job, &mut |event| {
                    let _ = outcomes.send(event);
                });
            }
        })?;
        Ok(Self { jobs, thread: Some(thread) })
    }

    fn push(&self, peer: PeerId, job: Job) -> bool {
        self.jobs.push(peer, job);
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl<Job> Worker<Job> {
    fn join(mut self) -> std::thread::Result<()> {
        self.jobs.close();
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl<Job> Drop for Worker<Job> {
    fn drop(&mut self) {
        self.jobs.close();
    }
}

fn check_headers(backend: &dyn Backend, peer: PeerId, headers: Vec<Header>, report: &mut dyn FnMut(Event)) {
    let count = headers.len();
    let outcome = match backend.accept_headers(&headers) {
        Ok(accepted) => match accepted.last {
            Some(last) => HeadersOutcome::Accepted { last },
            None => HeadersOutcome::Undecided,
        },
        Err(HeadersRejected::Header { hash, cause }) => {
            tracing::debug!(peer = peer.0, %hash, %cause, "header refused");
            if cause.may_pass_later() { HeadersOutcome::Undecided } else { HeadersOutcome::Invalid }
        }
        Err(HeadersRejected::Node(error)) => {
            tracing::error!(%error, "cannot check headers");
            HeadersOutcome::Undecided
        }
    };
    report(Event::HeadersProcessed { peer, count, outcome });
}

fn check_block(backend: &dyn Backend, peer: PeerId, block: PreparedBlock) -> Event {
    let hash = block.hash;
    let outcome = match backend.submit_prepared(block) {
        Ok(_) => BlockOutcome::Accepted,
        Err(error) => {
            tracing::debug!(peer = peer.0, %hash, %error, "block refused");
            match error {
                BlockRejected::Invalid { .. } => BlockOutcome::Invalid,
                BlockRejected::Mutated { .. } => BlockOutcome::Mutated,
                BlockRejected::Header { cause, .. } if !cause.may_pass_later() => BlockOutcome::Invalid,
                BlockRejected::Header { .. } | BlockRejected::Node(_) => BlockOutcome::Undecided,
            }
        }
    };
    Event::BlockProcessed { peer, hash, outcome }
}

fn check_transaction(backend: &dyn Backend, peer: PeerId, charged: Charged, report: &mut dyn FnMut(Event)) {
    let begun = Instant::now();
    let Charged { offer, time } = charged;
    check_offer(backend, peer, offer, report);
    if let Some(time) = time {
        time.charge(begun.elapsed());
    }
}

fn check_offer(backend: &dyn Backend, peer: PeerId, offer: Offer, report: &mut dyn FnMut(Event)) {
    match offer {
        Offer::Single(transaction) => {
            let outcome = match backend.submit_transaction(transaction.as_ref().clone()) {
                Ok(_) | Err(MempoolError::AlreadyInMempool(_)) => TransactionOutcome::Accepted,
                Err(MempoolError::MissingInputs(outpoint)) => {
                    TransactionOutcome::MissingInputs { parents: vec![outpoint.txid] }
                }
                Err(error) if error.is_fee_too_low() => TransactionOutcome::FeeTooLow,
                Err(error) => {
                    tracing::debug!(peer = peer.0, %error, "transaction refused");
                    if error.breaks_consensus() { TransactionOutcome::Invalid } else { TransactionOutcome::Rejected }
                }
            };
            report(Event::TransactionProcessed { peer, transaction, outcome });
        }
        Offer::Package { parent, child } => {
            let both = vec![parent.as_ref().clone(), child.as_ref().clone()];
            let (outcome, invalid) = match backend.submit_package(both) {
                Ok(_) => (TransactionOutcome::Accepted, None),
                Err(error) => {
                    tracing::debug!(peer = peer.0, %error, "package refused");
                    (TransactionOutcome::Rejected, error.invalid_of_package())
                }
            };
            for transaction in [parent, child] {
                let is_invalid = invalid == Some(transaction.compute_txid());
                let outcome = if is_invalid { TransactionOutcome::Invalid } else { outcome.clone() };
                report(Event::TransactionProcessed { peer, transaction, outcome });
            }
        }
    }
}
