//! The thread that owns the tower: it takes the jobs that wait, makes what they lead to durable in one write, and hands the effects
//! on.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bitcoin::{Block, BlockHash, Transaction, Txid, hashes::Hash as _};
use leyden_channels::{
    onchain::{EnforcementPolicy, FeeEstimates, Rejection},
    types::{Height, Uptime},
};
use leyden_node::Node;
use leyden_watchtower::{
    appointment::ClientId,
    message::{Ask, TowerMessage},
    record::TipRow,
    tower::{BlockSeen, Ctx, Effect, Event, Outbox, Tower, TowerError, TowerOutbox, newest_receipts},
};
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};
use tracing::{debug, error, info};

use super::{
    TowerReport,
    connection::{Link, Outgoing, Share},
    notices::Notices,
};
use crate::{
    counters,
    driver::services::fee_estimates,
    store::{StoreError, TowerStore},
};

/// Jobs that share a write. More would let the first ones wait for milliseconds without making the write any cheaper.
const BATCH: usize = 1_024;
/// While clients keep the thread busy, idle work has one turn in this time: a thousand rows, some milliseconds.
const IDLE_TURN: Duration = Duration::from_millis(100);
/// How old an answer may be to whether the tip can be relied on.
const TIP_LOOK: Duration = Duration::from_secs(1);
/// After idle work that could not be done.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

/// What the worker is asked for.
#[derive(Debug)]
pub(super) enum Job {
    Connected(Arc<Link>),
    Disconnected(Arc<Link>),
    Message {
        link: Arc<Link>,
        message: TowerMessage,
        /// Given back once it is durable.
        share: Share,
    },
    /// The block up to which everything was looked at.
    Position(oneshot::Sender<Option<TipRow>>),
    Block {
        height: Height,
        hash: BlockHash,
        block: Arc<Block>,
        answer: oneshot::Sender<Result<(), TowerError>>,
    },
    /// The blocks above `to` were disconnected.
    Reorganized {
        to: Height,
        hash: BlockHash,
        answer: oneshot::Sender<Result<(), TowerError>>,
    },
    /// All blocks that there are have been looked at.
    Tip,
    Mempool(Arc<Transaction>),
    Rejected {
        txid: Txid,
        cause: Rejection,
    },
    Report(oneshot::Sender<TowerReport>),
    Stop,
}

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Go,
    Stop,
}

pub(super) struct Worker {
    tower: Tower,
    store: TowerStore,
    node: Node,
    policy: EnforcementPolicy,
    estimates: FeeEstimates,
    begun: Instant,
    jobs: mpsc::Receiver<Job>,
    broadcasts: mpsc::UnboundedSender<Transaction>,
    rereads: mpsc::UnboundedSender<Height>,
    links: HashMap<ClientId, Arc<Link>>,
    /// What waits for the next write.
    outboxes: Vec<TowerOutbox>,
    shares: Vec<Share>,
    idle_due: bool,
    last_idle: Instant,
    notices: Notices,
    /// Whether the tip could be relied on, and when that was looked at.
    tip_doubt: (bool, Option<Instant>),
    /// A thread is giving space back.
    reclaiming: Arc<AtomicBool>,
}

impl Worker {
    pub(super) fn new(
        tower: Tower,
        store: TowerStore,
        node: Node,
        policy: EnforcementPolicy,
        jobs: mpsc::Receiver<Job>,
        broadcasts: mpsc::UnboundedSender<Transaction>,
        rereads: mpsc::UnboundedSender<Height>,
    ) -> Self {
        let begun = Instant::now();
        Self {
            tower,
            store,
            estimates: fee_estimates(&node),
            node,
            policy,
            begun,
            jobs,
            broadcasts,
            rereads,
            links: HashMap::new(),
            outboxes: Vec::new(),
            shares: Vec::new(),
            // The last run may have been about to do something.
            idle_due: true,
            last_idle: begun,
            notices: Notices::default(),
            tip_doubt: (false, None),
            reclaiming: Arc::default(),
        }
    }

    /// Until it is told to stop, or nobody is left who could ask for anything. An error: a write has failed.
    pub(super) fn run(mut self) -> Result<(), StoreError> {
        loop {
            let first = if self.idle_due {
                match self.jobs.try_recv() {
                    Ok(job) => job,
                    Err(TryRecvError::Empty) => {
                        self.idle()?;
                        continue;
                    }
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            } else {
                match self.jobs.blocking_recv() {
                    Some(job) => job,
                    None => return Ok(()),
                }
            };
            let mut next = self.take(first)?;
            for _ in 1..BATCH {
                if next == Next::Stop {
                    break;
                }
                let Ok(job) = self.jobs.try_recv() else { break };
                next = self.take(job)?;
            }
            self.commit()?;
            if next == Next::Stop {
                return Ok(());
            }
            if self.idle_due && self.last_idle.elapsed() > IDLE_TURN {
                self.idle()?;
            }
        }
    }

    fn take(&mut self, job: Job) -> Result<Next, StoreError> {
        match job {
            Job::Connected(link) => self.connected(link),
            Job::Disconnected(link) => self.disconnected(&link),
            Job::Message { link, message, share } => {
                self.shares.push(share);
                self.message(&link, message);
            }
            Job::Position(answer) => drop(answer.send(self.tower.tip())),
            Job::Block { height, hash, block, answer } => {
                self.estimates = fee_estimates(&self.node);
                let seen = BlockSeen { height, hash: hash.to_byte_array(), transactions: &block.txdata };
                let done = self.alone(Event::Block(seen))?;
                let _ = answer.send(done);
            }
            Job::Reorganized { to, hash, answer } => {
                let done = self.alone(Event::Reorganized { to, hash: hash.to_byte_array() })?;
                let _ = answer.send(done);
            }
            Job::Tip => {
                self.estimates = fee_estimates(&self.node);
                if let Err(error) = self.alone(Event::Tip)? {
                    error!(%error, "open penalties could not be looked at; they are at the next block");
                }
            }
            Job::Mempool(transaction) => {
                if let Err(error) = self.handle(Event::Mempool(&transaction)) {
                    debug!(%error, "a transaction in the mempool could not be looked at; it will be in its block");
                }
            }
            Job::Rejected { txid, cause } => {
                if let Err(error) = self.handle(Event::Rejected { txid, cause }) {
                    error!(%error, %txid, "the refusal of a penalty could not be noted; it is tried again at the next block");
                }
            }
            Job::Report(answer) => drop(answer.send(self.report())),
            Job::Stop => return Ok(Next::Stop),
        }
        Ok(Next::Go)
    }

    fn handle(&mut self, event: Event<'_>) -> Result<(), TowerError> {
        let now = Uptime(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        let newest = Height(self.node.best_header().height);
        let tip_is_sure = self.tip_is_sure(&event);
        let ctx =
            Ctx { newest, tip_is_sure, now, estimates: &self.estimates, policy: &self.policy, archive: &self.store };
        self.outboxes.push(self.tower.handle(event, &ctx)?);
        Ok(())
    }

    /// Asked where it matters, and not for each of a crowd that registers or asks.
    fn tip_is_sure(&mut self, event: &Event<'_>) -> bool {
        if !matches!(event, Event::Message(_, TowerMessage::Register(_) | TowerMessage::Ask(Ask::Chain))) {
            return false;
        }
        let (is_sure, looked) = self.tip_doubt;
        if looked.is_none_or(|looked| looked.elapsed() > TIP_LOOK) {
            let is_sure = self.node.check_tip().is_ok();
            self.tip_doubt = (is_sure, Some(Instant::now()));
            return is_sure;
        }
        is_sure
    }

    /// With everything before it durable, and durable itself before anything else.
    fn alone(&mut self, event: Event<'_>) -> Result<Result<(), TowerError>, StoreError> {
        self.commit()?;
        let done = self.handle(event);
        self.commit()?;
        Ok(done)
    }

    /// Makes durable what waits, and then does what it leads to.
    fn commit(&mut self) -> Result<(), StoreError> {
        let effects = Outbox::commit_all(std::mem::take(&mut self.outboxes), &mut self.store)?;
        self.tower.settled();
        for effect in newest_receipts(effects.into_iter().flatten().collect()) {
            self.carry_out(effect);
        }
        self.shares.clear();
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(client, message) => {
                if matches!(message, TowerMessage::Registered(_)) {
                    self.note_registered(&client);
                }
                self.tell(&client, Outgoing::Message(message));
            }
            Effect::Sign(client, to_sign) => self.tell(&client, Outgoing::Sign(to_sign)),
            Effect::HangUp(client, why) => {
                self.tell(&client, Outgoing::HangUp(why));
                self.links.remove(&client);
            }
            // Their receivers end with the daemon.
            Effect::Broadcast(transaction) => {
                counters::tower_broadcast();
                drop(self.broadcasts.send(transaction));
            }
            Effect::Reread(height) => drop(self.rereads.send(height)),
            Effect::Notice(notice) => {
                counters::tower_notice(&notice);
                self.notices.log(&notice);
            }
            Effect::MoreWhenIdle => self.idle_due = true,
        }
    }

    fn tell(&self, client: &ClientId, outgoing: Outgoing) {
        if let Some(link) = self.links.get(client) {
            link.send(outgoing);
        }
    }

    fn note_registered(&self, client: &ClientId) {
        if let Some(link) = self.links.get(client) {
            link.registered(self.tower.config().admission.is_listed(client));
        }
    }

    fn connected(&mut self, link: Arc<Link>) {
        let client = link.client;
        if let Err(error) = self.handle(Event::Connected(client)) {
            error!(%client, %error, "a client could not be let in");
            return link.cut();
        }
        if let Some(older) = self.links.insert(client, link) {
            older.cut();
        }
        if self.tower.is_client(&client) {
            self.note_registered(&client);
        }
    }

    fn disconnected(&mut self, link: &Link) {
        if self.is_current(link) {
            self.links.remove(&link.client);
            if let Err(error) = self.handle(Event::Disconnected(link.client)) {
                error!(client = %link.client, %error, "the end of a connection could not be noted");
            }
        }
    }

    /// Whether it is the newest connection of its client.
    fn is_current(&self, link: &Link) -> bool {
        self.links.get(&link.client).is_some_and(|newest| newest.id == link.id)
    }

    fn message(&mut self, link: &Link, message: TowerMessage) {
        if !self.is_current(link) {
            return;
        }
        let name = message.name();
        if let Err(error) = self.handle(Event::Message(link.client, message)) {
            // What follows would come out of its order: the client comes again, and sends it again.
            error!(client = %link.client, message = name, %error, "a client's message could not be handled");
            link.cut();
            self.disconnected(link);
        }
    }

    fn idle(&mut self) -> Result<(), StoreError> {
        self.idle_due = false;
        self.last_idle = Instant::now();
        if let Err(error) = self.alone(Event::Idle)? {
            error!(%error, "idle work of the watchtower could not be done; it is tried again");
            self.idle_due = true;
            thread::sleep(IDLE_PAUSE);
        }
        if !self.idle_due && self.store.is_worth_reclaiming() && !self.reclaiming.swap(true, Ordering::Relaxed) {
            let (store, reclaiming) = (self.store.clone(), Arc::clone(&self.reclaiming));
            tokio::task::spawn_blocking(move || {
                let begun = Instant::now();
                match store.reclaim() {
                    Ok(()) => {
                        info!(took = ?begun.elapsed(), "the watchtower gave back the space of what it has deleted")
                    }
                    Err(error) => error!(%error, "space could not be given back"),
                }
                reclaiming.store(false, Ordering::Relaxed);
            });
        }
        Ok(())
    }

    fn report(&self) -> TowerReport {
        let broken = self.tower.broken().map(|(slot, error)| format!("channel {}: {error}", slot.0));
        let damaged = self.tower.damaged().map(|(row, damage)| format!("the row {row:?}: {damage}"));
        let unnamed = self.store.unnamed();
        let unnamed = unnamed.iter().map(|key| format!("a row whose key {} cannot be read", hex::encode(key)));
        TowerReport {
            tip: self.tower.tip().map(|tip| tip.height),
            stats: self.tower.stats(),
            connected: self.links.len(),
            penalties: self.tower.penalties(&self.policy),
            broken: broken.chain(damaged).chain(unnamed).collect(),
        }
    }
}
