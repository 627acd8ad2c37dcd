//! The network's channels, opened once for all schedules.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bitcoin::absolute::LockTime;
use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};

use super::network::{EDGES, NODES, node_key};
use super::single::Store;
use super::wallet;
use crate::channel::FixedEnvironment;
use crate::channel::*;
use crate::keys::{KeysSigner, Signer};
use crate::types::*;
use crate::wire::Message;

/// One channel, as the test knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub ends: (usize, usize),
    pub channel: ChannelId,
    pub name: ShortChannelId,
    pub capacity: Amount,
}

/// What every schedule starts from.
pub(super) struct Base {
    pub edges: Vec<Edge>,
    pub stores: Vec<BTreeMap<Key, Vec<u8>>>,
    pub tip: Height,
    /// The funding transactions, in the order of the edges.
    pub fundings: Vec<Transaction>,
    signers: HashMap<[u8; 32], Arc<dyn Signer + Send + Sync>>,
}

const TIP: Height = Height(200);
pub(super) const OPENING_TIP: Height = Height(100);
/// Where schedules begin whose funding transactions may still be taken back.
pub(super) const YOUNG_TIP: Height = Height(106);
/// Blocks that whoever closes alone waits for its money.
const DELAY: u16 = 20;

pub(super) fn ctx(tip: Height, now: UnixTime) -> Ctx<'static> {
    static POLICY: OnceLock<ChannelPolicy> = OnceLock::new();
    let policy = POLICY.get_or_init(ChannelPolicy::default);
    let (trust, feerates) = (TipTrust::Current, Feerates::default());
    static ENVIRONMENT: OnceLock<FixedEnvironment> = OnceLock::new();
    let environment = ENVIRONMENT.get_or_init(FixedEnvironment::default);
    let towers = TowerPolicy::None;
    Ctx { chain: ChainHash::REGTEST, now, tip, trust, feerates, policy, towers, environment }
}

impl Base {
    pub fn get() -> &'static Self {
        static BASE: OnceLock<Base> = OnceLock::new();
        BASE.get_or_init(|| Self::open(TIP))
    }

    /// The channels of [`Self::get`], opened just now.
    pub fn young() -> &'static Self {
        static BASE: OnceLock<Base> = OnceLock::new();
        BASE.get_or_init(|| Self::open(YOUNG_TIP))
    }

    pub fn signer(&self, keys_id: &[u8; 32]) -> Arc<dyn Signer + Send + Sync> {
        self.signers[keys_id].clone()
    }

    pub fn edge(&self, channel: &ChannelId) -> &Edge {
        self.edges.iter().find(|edge| edge.channel == *channel).unwrap()
    }

    pub fn named(&self, name: ShortChannelId) -> &Edge {
        self.edges.iter().find(|edge| edge.name == name).unwrap()
    }

    fn open(tip: Height) -> Self {
        let mut stores: Vec<Store> = (0..NODES).map(|_| Store::default()).collect();
        let mut signers = HashMap::new();
        let (mut edges, mut fundings) = (Vec::new(), Vec::new());
        for (index, ends) in EDGES.into_iter().enumerate() {
            let capacity = Amount::from_sat([1_000_000, 600_000, 2_000_000][index % 3]);
            let (opened, funding) = Opening::run(index, ends, capacity, &mut stores, &mut signers);
            fundings.push(funding);
            edges.push(Edge { ends, channel: opened, name: short_name(index), capacity });
        }
        Self { edges, stores: stores.into_iter().map(|store| store.0).collect(), tip, fundings, signers }
    }
}

fn short_name(index: usize) -> ShortChannelId {
    ShortChannelId::new(OPENING_TIP, index as u32 + 1, 0)
}

/// Two cores until both are ready.
struct Opening<'a> {
    channels: [Channel; 2],
    inboxes: [VecDeque<Message>; 2],
    stores: &'a mut [Store],
    ends: (usize, usize),
    index: usize,
}

impl Opening<'_> {
    fn run(
        index: usize,
        ends: (usize, usize),
        capacity: Amount,
        stores: &mut [Store],
        signers: &mut HashMap<[u8; 32], Arc<dyn Signer + Send + Sync>>,
    ) -> (ChannelId, Transaction) {
        let keys_ids = [0, 1].map(|side| [(2 * index + side + 1) as u8; 32]);
        let [first, second] = keys_ids.map(|id| {
            let signer: Arc<dyn Signer + Send + Sync> = Arc::new(KeysSigner::from_channel_seed(&id).unwrap());
            signers.insert(id, signer.clone());
            signer
        });
        let commitment =
            if index.is_multiple_of(2) { CommitmentType::Anchors } else { CommitmentType::StaticRemoteKey };
        let request = OpenRequest {
            remote_node: node_key(ends.1).into(),
            temporary_channel_id: ChannelId([index as u8 + 1; 32]),
            keys_id: keys_ids[0],
            capacity,
            push: Msat(capacity.to_sat() * 500),
            feerate: FeeratePerKw(500),
            channel_type: ChannelType { commitment, scid_alias: false, zero_conf: false },
            announce: false,
            overrides: OpenOverrides { to_self_delay: Some(DELAY), ..OpenOverrides::default() },
            shutdown_script: ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([1; 20])),
            commit_to_script: false,
            alias: ShortChannelId(1_000 + 2 * index as u64),
            large_channels: false,
        };
        let context = ctx(OPENING_TIP, UnixTime(1_600_000_000));
        let (funder, outbox) = Channel::open(request, first, &context).unwrap();
        let effects = Outbox::commit_all(vec![outbox], &mut stores[ends.0]).unwrap();
        let open = effects.into_iter().flatten().find_map(|effect| match effect {
            Effect::Send(Message::OpenChannel(open)) => Some(*open),
            _ => None,
        });
        let accept = AcceptRequest {
            remote_node: node_key(ends.0).into(),
            keys_id: keys_ids[1],
            overrides: AcceptOverrides { to_self_delay: Some(DELAY), ..AcceptOverrides::default() },
            shutdown_script: ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([2; 20])),
            commit_to_script: false,
            alias: ShortChannelId(1_001 + 2 * index as u64),
            large_channels: false,
            minimum_depth: 0,
            trusts_funder: false,
        };
        let (fundee, outbox) = Channel::accept(open.unwrap(), accept, second, &context).unwrap();
        let mut opening = Opening { channels: [funder, fundee], inboxes: Default::default(), stores, ends, index };
        opening.commit(1, outbox);
        opening.settle();
        let script_pubkey = opening.channels[0].terms().unwrap().funding().script_pubkey();
        let output = bitcoin::TxOut { value: capacity, script_pubkey };
        let depth = FundingDepth { height: OPENING_TIP, index: index as u32 + 1, confirmations: 6, output };
        opening.event(0, Event::FundingDepth(depth.clone()));
        opening.event(1, Event::FundingDepth(depth));
        opening.settle();
        for channel in &opening.channels {
            assert_eq!(channel.state_name(), StateName::Normal);
        }
        let script = opening.channels[0].terms().unwrap().funding().script_pubkey();
        (opening.channels[0].id(), funding_transaction(index, script, capacity))
    }

    fn event(&mut self, side: usize, event: Event) {
        let context = ctx(OPENING_TIP, UnixTime(1_600_000_000));
        let outbox = self.channels[side].handle(event, &context).unwrap();
        self.commit(side, outbox);
    }

    fn commit(&mut self, side: usize, outbox: Outbox) {
        let node = if side == 0 { self.ends.0 } else { self.ends.1 };
        let effects = Outbox::commit_all(vec![outbox], &mut self.stores[node]).unwrap();
        for effect in effects.into_iter().flatten() {
            match effect {
                Effect::Send(message) => self.inboxes[1 - side].push_back(message),
                Effect::Fund { script, amount } => {
                    let transaction = funding_transaction(self.index, script, amount);
                    self.event(side, Event::Funded { transaction, output: 0, publisher: Publisher::Channel });
                }
                _ => {}
            }
        }
    }

    fn settle(&mut self) {
        while let Some(side) = (0..2).find(|side| !self.inboxes[*side].is_empty()) {
            let message = self.inboxes[side].pop_front().unwrap();
            self.event(side, Event::Message(message));
        }
    }
}

fn funding_transaction(index: usize, script: ScriptBuf, amount: Amount) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([index as u8 + 1; 32]), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[wallet::ANYBODY]),
        }],
        output: vec![TxOut { value: amount, script_pubkey: script }],
    }
}
