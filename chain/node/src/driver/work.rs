//! Worker threads: where headers, blocks and transactions are checked. Each kind has its own thread and its own
//! order, so a transaction does not wait behind a block, nor a header behind either.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use bitcoin::block::Header;
use bitcoin::{Block, Transaction};
use leyden_net::{BlockOutcome, Event, HeadersOutcome, PeerId, TransactionOutcome};
use tokio::sync::mpsc::UnboundedSender;

use crate::backend::Backend;
use crate::error::{BlockRejected, HeadersRejected, MempoolError};

/// A transaction, or a parent with a child that pays for it.
pub(super) enum Offer {
    Single(Arc<Transaction>),
    Package { parent: Arc<Transaction>, child: Arc<Transaction> },
}

/// The three threads. They end when this is dropped; [`Workers::join`] waits for that.
pub(super) struct Workers {
    headers: mpsc::Sender<(PeerId, Vec<Header>)>,
    blocks: mpsc::Sender<(PeerId, Block)>,
    transactions: mpsc::Sender<(PeerId, Offer)>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub(super) fn start(backend: &Arc<dyn Backend>, outcomes: &UnboundedSender<Event>) -> std::io::Result<Self> {
        let (headers, header_jobs) = mpsc::channel();
        let (blocks, block_jobs) = mpsc::channel();
        let (transactions, transaction_jobs) = mpsc::channel();
        let threads = vec![
            spawn("p2p-headers", backend, outcomes, header_jobs, check_headers)?,
            spawn("p2p-blocks", backend, outcomes, block_jobs, check_block)?,
            spawn("p2p-transactions", backend, outcomes, transaction_jobs, check_transaction)?,
        ];
        Ok(Self { headers, blocks, transactions, threads })
    }

    /// Each of these is false if the thread is gone, which only a bug in a check can cause.
    #[must_use]
    pub(super) fn headers(&self, peer: PeerId, headers: Vec<Header>) -> bool {
        self.headers.send((peer, headers)).is_ok()
    }

    #[must_use]
    pub(super) fn block(&self, peer: PeerId, block: Block) -> bool {
        self.blocks.send((peer, block)).is_ok()
    }

    #[must_use]
    pub(super) fn transaction(&self, peer: PeerId, offer: Offer) -> bool {
        self.transactions.send((peer, offer)).is_ok()
    }

    /// Waits for the checks that are under way. Those that were not begun are given up.
    pub(super) fn join(self) {
        let Self { headers, blocks, transactions, threads } = self;
        drop((headers, blocks, transactions));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a check of the peer-to-peer driver panicked");
            }
        }
    }
}

fn spawn<Job: Send + 'static>(
    name: &str,
    backend: &Arc<dyn Backend>,
    outcomes: &UnboundedSender<Event>,
    jobs: mpsc::Receiver<(PeerId, Job)>,
    check: fn(&dyn Backend, PeerId, Job, &mut dyn FnMut(Event)),
) -> std::io::Result<JoinHandle<()>> {
    let (backend, outcomes) = (Arc::clone(backend), outcomes.clone());
    std::thread::Builder::new().name(name.into()).spawn(move || {
        while let Ok((peer, job)) = jobs.recv() {
            // The core is gone: nobody wants to know, so nothing more is checked.
            if outcomes.is_closed() {
                return;
            }
            check(backend.as_ref(), peer, job, &mut |event| {
                let _ = outcomes.send(event);
            });
        }
    })
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

fn check_block(backend: &dyn Backend, peer: PeerId, block: Block, report: &mut dyn FnMut(Event)) {
    let hash = block.block_hash();
    let outcome = match backend.submit_block(block) {
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
    report(Event::BlockProcessed { peer, hash, outcome });
}

fn check_transaction(backend: &dyn Backend, peer: PeerId, offer: Offer, report: &mut dyn FnMut(Event)) {
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
                    TransactionOutcome::Rejected
                }
            };
            report(Event::TransactionProcessed { peer, transaction, outcome });
        }
        Offer::Package { parent, child } => {
            let both = vec![parent.as_ref().clone(), child.as_ref().clone()];
            let outcome = match backend.submit_package(both) {
                Ok(_) => TransactionOutcome::Accepted,
                Err(error) => {
                    tracing::debug!(peer = peer.0, %error, "package refused");
                    TransactionOutcome::Rejected
                }
            };
            for transaction in [parent, child] {
                report(Event::TransactionProcessed { peer, transaction, outcome: outcome.clone() });
            }
        }
    }
}
