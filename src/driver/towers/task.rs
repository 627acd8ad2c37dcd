//! The task: events in, one commit, effects out.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use leyden_channels::{
    channel,
    keys::PerCommitmentSecret,
    types::{ChannelId, CommitmentNumber, FeeratePerKw, TipTrust},
};
use leyden_watchtower::{
    client::{
        Client, ClientOutbox, Ctx, Effect, Event, Work,
        record::{TowerId, TowerRow},
    },
    message::Mode,
    receipt::Held,
};
use secp256k1::PublicKey;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tracing::debug;

use super::{
    AuditOutcome, TICK, TowerChannel, TowerError, TowersView,
    connections::{ConnectionState, TowerConnection},
    encode_policy,
    link::{LineName, Received},
    make::{Job, Secrets, What},
    signed::SignedStates,
};
use crate::driver::{
    committer::{NodeEffect, Stopped},
    connection, peer,
    services::Services,
};

/// Commands that one turn takes at most: what they lead to shares a commit.
const TURN: usize = 1_024;

/// Secrets of a channel that are remembered until its backups are made: a few at a time are on their way while it keeps up.
const FRESH: usize = 64;

/// What the rest of the node, the connections and the makers tell the task.
pub(super) enum Command {
    Channel(TowerChannel),
    ChannelOver(ChannelId),
    /// A state is queued; with its secret it need not be read from the store.
    Queued {
        channel: ChannelId,
        number: CommitmentNumber,
        secret: Option<PerCommitmentSecret>,
    },
    Event(Event),
    Dialled {
        line: LineName,
        established: Box<connection::Line>,
    },
    NotReached {
        line: LineName,
        why: String,
    },
    Received {
        line: LineName,
        received: Received,
    },
    Ended {
        line: LineName,
        why: String,
    },
    Add {
        key: PublicKey,
        address: String,
        mode: Mode,
        answer: oneshot::Sender<Result<(), TowerError>>,
    },
    Remove {
        key: PublicKey,
        address: Option<String>,
        answer: oneshot::Sender<Result<(), TowerError>>,
    },
    Deactivate {
        key: PublicKey,
        answer: oneshot::Sender<Result<(), TowerError>>,
    },
    View(oneshot::Sender<TowersView>),
    Audit {
        tower: TowerId,
        channel: ChannelId,
        answer: oneshot::Sender<AuditOutcome>,
    },
}

pub(super) struct WaitingAudit {
    pub(super) tower: TowerId,
    pub(super) channel: ChannelId,
    pub(super) held: Held,
    pub(super) answer: oneshot::Sender<AuditOutcome>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) failed: u64,
    pub(super) registered: u64,
}

/// Owns the towers' client.
pub(crate) struct Task {
    client: Client,
    sweep_feerate: FeeratePerKw,
    mailbox: mpsc::UnboundedSender<Command>,
    commands: mpsc::UnboundedReceiver<Command>,
    policy: Arc<AtomicU8>,
    answered: watch::Sender<bool>,
}

impl Task {
    pub(super) fn new(
        client: Client,
        sweep_feerate: FeeratePerKw,
        mailbox: mpsc::UnboundedSender<Command>,
        commands: mpsc::UnboundedReceiver<Command>,
        policy: Arc<AtomicU8>,
        answered: watch::Sender<bool>,
    ) -> Self {
        Self { client, sweep_feerate, mailbox, commands, policy, answered }
    }

    /// Runs until the daemon stops. `channels` are all that there are.
    pub(crate) async fn run(self, services: Arc<Services>, channels: Vec<TowerChannel>) {
        let Self { client, sweep_feerate, mailbox, mut commands, policy, answered } = self;
        let mut running = Running {
            services,
            client,
            sweep_feerate,
            mailbox,
            policy,
            answered,
            channels: BTreeMap::new(),
            connections: BTreeMap::new(),
            audits: Vec::new(),
            fresh: BTreeMap::new(),
            signed: Arc::default(),
            answers: Vec::new(),
            counts: Counts::default(),
            batch: Vec::new(),
        };
        channels.into_iter().for_each(|channel| running.channel(channel));
        running.event(Event::Started);
        if running.finish_turn().await.is_err() {
            return;
        }
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut some = Vec::new();
        loop {
            tokio::select! {
                count = commands.recv_many(&mut some, TURN) => {
                    if count == 0 {
                        return;
                    }
                }
                _ = ticks.tick() => running.tick(),
            }
            for command in some.drain(..) {
                running.command(command);
            }
            if running.finish_turn().await.is_err() {
                return;
            }
        }
    }
}

pub(super) struct Running {
    pub(super) services: Arc<Services>,
    pub(super) client: Client,
    pub(super) sweep_feerate: FeeratePerKw,
    pub(super) mailbox: mpsc::UnboundedSender<Command>,
    pub(super) policy: Arc<AtomicU8>,
    pub(super) answered: watch::Sender<bool>,
    pub(super) channels: BTreeMap<ChannelId, TowerChannel>,
    pub(super) connections: BTreeMap<TowerId, TowerConnection>,
    pub(super) audits: Vec<WaitingAudit>,
    /// The last secrets of each channel.
    pub(super) fresh: BTreeMap<ChannelId, Secrets>,
    pub(super) signed: Arc<SignedStates>,
    /// To be given once what was asked for is durable.
    pub(super) answers: Vec<oneshot::Sender<Result<(), TowerError>>>,
    pub(super) counts: Counts,
    pub(super) batch: Vec<ClientOutbox>,
}

impl Running {
    fn command(&mut self, command: Command) {
        match command {
            Command::Channel(channel) => self.channel(channel),
            Command::ChannelOver(channel) => {
                self.channels.remove(&channel);
                self.fresh.remove(&channel);
                self.event(Event::ChannelOver(channel));
            }
            Command::Queued { channel, number, secret } => {
                if let Some(secret) = secret {
                    let fresh = self.fresh.entry(channel).or_default();
                    fresh.insert(number, secret);
                    if fresh.len() > FRESH {
                        fresh.pop_first();
                    }
                }
                self.event(Event::Queued { channel, number });
            }
            Command::Event(event) => {
                self.counts.failed += u64::from(matches!(event, Event::NotPrepared { .. }));
                self.event(event);
            }
            Command::Dialled { line, established } => self.dialled(line, *established),
            Command::NotReached { line, why } => {
                if let Some(connection) = self.connection(line) {
                    debug!(tower = line.tower.0, why, "not reached, trying again");
                    (connection.is_reached, connection.trouble) = (false, Some(why));
                }
            }
            Command::Received { line, received } => self.received(line, received.message),
            Command::Ended { line, why } => self.ended(line, why),
            Command::Add { key, address, mode, answer } => {
                let other = self.client.towers().find(|(_, row)| row.key == key && row.mode != mode);
                let refused = other.map(|(_, row)| TowerError::OtherMode { key, mode: row.mode });
                self.do_or_refuse(refused, answer, vec![Event::Add { key, address, mode }]);
            }
            Command::Remove { key, address, answer } => {
                let known: Vec<(TowerId, String)> = self.named(&key, |row| row.address.clone());
                let refused = match (known.first(), address) {
                    (None, _) => Some(TowerError::Unknown(key)),
                    (Some(_), None) => None,
                    (Some((_, known)), Some(address)) if *known == address => Some(TowerError::LastAddress { address }),
                    (Some((_, known)), Some(address)) => {
                        Some(TowerError::OtherAddress { address, known: known.clone() })
                    }
                };
                let events = known.iter().map(|(id, _)| Event::Remove(*id)).collect();
                self.do_or_refuse(refused, answer, events);
            }
            Command::Deactivate { key, answer } => {
                let known = self.named(&key, |_| ());
                let refused = known.is_empty().then_some(TowerError::Unknown(key));
                let events = known.iter().map(|(id, ())| Event::Deactivate(*id)).collect();
                self.do_or_refuse(refused, answer, events);
            }
            Command::View(answer) => {
                let _ = answer.send(self.view());
            }
            Command::Audit { tower, channel, answer } => self.audit(tower, channel, answer),
        }
    }

    fn named<T>(&self, key: &PublicKey, of: impl Fn(&TowerRow) -> T) -> Vec<(TowerId, T)> {
        let towers = self.client.towers().filter(|(_, row)| row.key == *key);
        towers.map(|(id, row)| (id, of(row))).collect()
    }

    fn do_or_refuse(
        &mut self,
        refused: Option<TowerError>,
        answer: oneshot::Sender<Result<(), TowerError>>,
        events: Vec<Event>,
    ) {
        if let Some(error) = refused {
            let _ = answer.send(Err(error));
            return;
        }
        events.into_iter().for_each(|event| self.event(event));
        self.answers.push(answer);
    }

    fn channel(&mut self, channel: TowerChannel) {
        self.channels.insert(channel.channel, channel);
        self.event(Event::Channel { channel: channel.channel, revoked: channel.revoked });
    }

    pub(super) fn event(&mut self, event: Event) {
        let services = Arc::clone(&self.services);
        let ctx = Ctx {
            chain: services.chain_hash(),
            tip: services.tip(),
            keys: &services.keys,
            sweep_feerate: self.sweep_feerate,
        };
        let outbox = self.client.handle(event, &ctx);
        if !outbox.is_empty() {
            self.batch.push(outbox);
        }
    }

    /// Commits and carries out until nothing is left to do.
    async fn finish_turn(&mut self) -> Result<(), Stopped> {
        while !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch).into_iter().map(ClientOutbox::convert).collect();
            for effect in self.services.committer.submit(batch).effects().await? {
                match effect {
                    NodeEffect::Towers(effect) => self.effect(effect),
                    NodeEffect::Channel { .. }
                    | NodeEffect::Invoice(_)
                    | NodeEffect::Payment(_)
                    | NodeEffect::Switch(_)
                    | NodeEffect::News(_) => {}
                }
            }
        }
        for connection in self.connections.values_mut() {
            if let ConnectionState::Up(link) = &mut connection.state {
                link.flush();
            }
        }
        self.policy.store(encode_policy(self.client.policy()), Ordering::Relaxed);
        for answer in self.answers.drain(..) {
            let _ = answer.send(Ok(()));
        }
        if self.client.has_answered() {
            self.answered.send_if_modified(|answered| !std::mem::replace(answered, true));
        }
        Ok(())
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Connect(tower) => self.connect(tower),
            Effect::Disconnect { tower, again } => self.disconnect(tower, again),
            Effect::Send(tower, message) => self.send(tower, &message),
            Effect::Describe { place, destination } => {
                self.job(place.tower, Job { place, what: What::Constants { destination } });
            }
            Effect::Prepare { place, destination, work } => {
                let secrets = self.secrets(place.channel, &work);
                self.job(place.tower, Job { place, what: What::Backups { destination, work, secrets } });
            }
            Effect::TowersHold { channel, up_to } => {
                self.tell_channel(channel, channel::Event::TowersHold { up_to });
            }
            Effect::LookForClose { tower, channel } => self.look_for_close(tower, channel),
            Effect::TowerKnowsRevoked { channel, number } => {
                self.tell_channel(channel, channel::Event::TowerKnowsRevoked { number });
            }
            Effect::NameChannels => {
                // Each says it anew, as it is now.
                for channel in self.channels.keys() {
                    self.services.peers.to_channel(channel, peer::Command::NameToTowers { channel: *channel });
                }
            }
            Effect::Continue => {
                let _ = self.mailbox.send(Command::Event(Event::Continue));
            }
            Effect::Notice(notice) => self.notice(notice),
        }
    }

    /// What our own chain says, if it may be relied on.
    fn look_for_close(&self, tower: TowerId, channel: ChannelId) {
        let Some(funding) = self.channels.get(&channel).map(|known| known.funding) else { return };
        let (services, mailbox) = (Arc::clone(&self.services), self.mailbox.clone());
        tokio::spawn(async move {
            // Before the look: what is unspent later was so then.
            let at = services.tip();
            let is_unspent = matches!(services.node.coin(funding).await, Ok(Some(_)));
            let is_sure = services.trust() == TipTrust::Current;
            let unspent_at = (is_unspent && is_sure).then_some(at);
            let _ = mailbox.send(Command::Event(Event::ClosedLookedFor { tower, channel, unspent_at }));
        });
    }

    /// Those that were told lately.
    fn secrets(&self, channel: ChannelId, work: &Work) -> Secrets {
        match (work, self.fresh.get(&channel)) {
            (Work::States { numbers, .. }, Some(fresh)) => {
                fresh.range(numbers.clone()).map(|(number, secret)| (*number, *secret)).collect()
            }
            (Work::States { .. } | Work::Past, _) => Secrets::new(),
        }
    }

    fn tell_channel(&self, channel: ChannelId, event: channel::Event) {
        // A task that is not there yet asks by itself, with what its channel has queued last.
        self.services.peers.to_channel(&channel, peer::Command::Towers { channel, event: Box::new(event) });
    }
}
