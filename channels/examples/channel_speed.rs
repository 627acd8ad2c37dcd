//! How long a payment takes in two channel cores, both nodes together and nothing else: no socket, no disk, no onion.
//!
//! `cargo run --release -p leyden-channels --example channel_speed [payments [how many at once]]`

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a measurement may panic")]

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::constants::ChainHash;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut, WPubkeyHash};
use leyden_channels::channel::FixedEnvironment;
use leyden_channels::channel::{
    AcceptOverrides, AcceptRequest, AddHtlc, AttemptId, Channel, ChannelPolicy, ChannelType, Ctx, Effect, Event,
    Feerates, FundingDepth, IncomingHtlc, OpenOverrides, OpenRequest, Origin, Outbox, Persist, Publisher, Settlement,
    TowerPolicy, Write,
};
use leyden_channels::keys::{KeysSigner, Signer};
use leyden_channels::types::*;
use leyden_channels::wire::{Message, OnionRoutingPacket};

/// Counts what a disk would have to do.
#[derive(Default)]
struct Counter {
    commits: usize,
    bytes: usize,
}

impl Persist for Counter {
    type Error = Infallible;

    fn commit(&mut self, writes: Vec<Write>) -> Result<(), Infallible> {
        self.commits += 1;
        for write in &writes {
            if let Write::Put { value, .. } = write {
                self.bytes += value.len();
            }
        }
        Ok(())
    }
}

struct Node {
    channel: Channel,
    store: Counter,
    inbox: VecDeque<Message>,
    incoming: VecDeque<IncomingHtlc>,
    fulfilled: usize,
    time: Duration,
}

struct World {
    nodes: [Node; 2],
    policy: ChannelPolicy,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

static ENVIRONMENT: LazyLock<FixedEnvironment> = LazyLock::new(FixedEnvironment::default);

fn ctx(policy: &ChannelPolicy) -> Ctx<'_> {
    let (trust, feerates) = (TipTrust::Current, Feerates::default());
    let environment = &*ENVIRONMENT;
    let (tip, towers) = (Height(100), TowerPolicy::None);
    Ctx { chain: ChainHash::REGTEST, now: UnixTime(0), tip, trust, feerates, policy, towers, environment }
}

fn script(tag: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([tag; 20]))
}

impl World {
    fn open(kind: CommitmentType) -> Outcome<Self> {
        let policy = ChannelPolicy::default();
        let signer = |seed: u8| -> Outcome<Arc<dyn Signer + Send + Sync>> {
            Ok(Arc::new(KeysSigner::from_channel_seed(&[seed; 32])?))
        };
        let request = OpenRequest {
            remote_node: NodeId([2; 33]),
            temporary_channel_id: ChannelId([1; 32]),
            keys_id: [0; 32],
            capacity: Amount::from_sat(100_000_000),
            push: Msat(50_000_000_000),
            feerate: FeeratePerKw(1000),
            channel_type: ChannelType { commitment: kind, scid_alias: false, zero_conf: false },
            announce: false,
            overrides: OpenOverrides::default(),
            shutdown_script: script(1),
            commit_to_script: false,
            alias: ShortChannelId(1),
            large_channels: true,
        };
        let (alice, outbox) = Channel::open(request, signer(1)?, &ctx(&policy))?;
        let mut store = Counter::default();
        let effects = Outbox::commit_all(vec![outbox], &mut store)?;
        let open = effects.into_iter().flatten().find_map(|effect| match effect {
            Effect::Send(Message::OpenChannel(open)) => Some(*open),
            _ => None,
        });
        let request = AcceptRequest {
            remote_node: NodeId([3; 33]),
            keys_id: [0; 32],
            overrides: AcceptOverrides::default(),
            shutdown_script: script(2),
            commit_to_script: false,
            alias: ShortChannelId(2),
            large_channels: true,
            minimum_depth: 0,
            trusts_funder: false,
        };
        let (bob, outbox) = Channel::accept(open.ok_or("no open_channel")?, request, signer(2)?, &ctx(&policy))?;
        let node = |channel, store| Node {
            channel,
            store,
            inbox: VecDeque::new(),
            incoming: VecDeque::new(),
            fulfilled: 0,
            time: Duration::ZERO,
        };
        let mut world = Self { nodes: [node(alice, store), node(bob, Counter::default())], policy };
        world.commit(1, vec![outbox])?;
        world.run(false)?;
        let script_pubkey = world.nodes[0].channel.terms().ok_or("no terms")?.funding().script_pubkey();
        let output = TxOut { value: Amount::from_sat(100_000_000), script_pubkey };
        let depth = FundingDepth { height: Height(98), index: 1, confirmations: 3, output };
        for who in 0..2 {
            world.turn(who, vec![Event::FundingDepth(depth.clone())])?;
        }
        world.run(false)?;
        for node in &mut world.nodes {
            node.time = Duration::ZERO;
            node.store = Counter::default();
        }
        Ok(world)
    }

    /// A batch of events for one node, as a driver hands them over.
    fn turn(&mut self, who: usize, events: Vec<Event>) -> Outcome<()> {
        let started = clock();
        let mut outboxes = Vec::with_capacity(events.len());
        let node = &mut self.nodes[who];
        for event in events {
            outboxes.push(node.channel.handle(event, &ctx(&self.policy))?);
        }
        node.time += clock() - started;
        self.commit(who, outboxes)
    }

    fn commit(&mut self, who: usize, outboxes: Vec<Outbox>) -> Outcome<()> {
        let started = clock();
        let effects = Outbox::commit_all(outboxes, &mut self.nodes[who].store)?;
        self.nodes[who].time += clock() - started;
        for effect in effects.into_iter().flatten() {
            match effect {
                Effect::Send(message) => self.nodes[1 - who].inbox.push_back(message),
                Effect::Incoming(htlc) => self.nodes[who].incoming.push_back(*htlc),
                Effect::Fulfilled { .. } => self.nodes[who].fulfilled += 1,
                Effect::Fund { script, amount } => {
                    let transaction = Transaction {
                        version: Version::TWO,
                        lock_time: LockTime::ZERO,
                        input: vec![],
                        output: vec![TxOut { value: amount, script_pubkey: script }],
                    };
                    self.turn(who, vec![Event::Funded { transaction, output: 0, publisher: Publisher::Channel }])?;
                }
                Effect::Refused { cause, .. } => return Err(cause.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Until nothing moves. `settle`: fulfill what arrives.
    fn run(&mut self, settle: bool) -> Outcome<()> {
        let preimages = PREIMAGES.with(|all| all.borrow().clone());
        loop {
            let mut moved = false;
            for who in 0..2 {
                let node = &mut self.nodes[who];
                let mut events: Vec<Event> = node.inbox.drain(..).map(Event::Message).collect();
                if settle {
                    events.extend(node.incoming.drain(..).filter_map(|htlc| {
                        let preimage = preimages.get(&htlc.payment_hash)?;
                        Some(Event::Settle { id: htlc.id, settlement: Settlement::Fulfill(*preimage) })
                    }));
                }
                if !events.is_empty() || node.channel.wants_flush() {
                    events.push(Event::Flush);
                    self.turn(who, events)?;
                    moved = true;
                }
            }
            if !moved {
                return Ok(());
            }
        }
    }
}

/// The processor time of this thread where the system tells it, so that a busy machine does not spoil the figure.
fn clock() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| START.with(|start| start.elapsed()), Duration::from_nanos)
}

thread_local! {
    static START: Instant = Instant::now();
}

thread_local! {
    static PREIMAGES: std::cell::RefCell<std::rc::Rc<HashMap<PaymentHash, PaymentPreimage>>> = Default::default();
}

fn main() -> Outcome<()> {
    let payments: usize = std::env::args().nth(1).map_or(Ok(2_000), |text| text.parse())?;
    let batches: Vec<usize> = match std::env::args().nth(2) {
        Some(text) => vec![text.parse()?],
        None => vec![1, 10, 100, 400],
    };
    for (kind, name) in [(CommitmentType::StaticRemoteKey, "static_remotekey"), (CommitmentType::Anchors, "anchors")] {
        for batch in batches.iter().copied() {
            let mut world = World::open(kind)?;
            let mut all = HashMap::new();
            let adds: Vec<Event> = (0..payments as u64)
                .map(|number| {
                    let hashed = sha256::Hash::hash(&number.to_be_bytes());
                    let preimage = PaymentPreimage(hashed.to_byte_array());
                    all.insert(preimage.hash(), preimage);
                    Event::Add(Box::new(AddHtlc {
                        origin: Origin::Payment(AttemptId(number)),
                        amount: Msat(10_000_000), // large enough for an output of its own
                        payment_hash: preimage.hash(),
                        cltv_expiry: CltvExpiry(600),
                        onion: OnionRoutingPacket(Box::new([0; 1366])),
                        path_key: None,
                    }))
                })
                .collect();
            PREIMAGES.with(|shared| *shared.borrow_mut() = std::rc::Rc::new(all));
            for chunk in adds.chunks(batch) {
                world.turn(0, chunk.to_vec())?;
                world.run(true)?;
            }
            let [alice, bob] = &world.nodes;
            assert_eq!(alice.fulfilled, payments);
            let time = alice.time + bob.time;
            let per = |total: usize| total as f64 / payments as f64;
            println!(
                "{name:>16}, {batch:>3} at once: {:>7.1} µs a payment (both nodes), {:.2} commits, {:.0} bytes stored",
                time.as_secs_f64() * 1e6 / payments as f64,
                per(alice.store.commits + bob.store.commits),
                per(alice.store.bytes + bob.store.bytes),
            );
        }
    }
    Ok(())
}
