//! A node of the pair: a channel, what is durable of it, and what it has let go.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock, OnceLock};

use bitcoin::constants::ChainHash;
use leyden_channels::channel::{
    AttemptId, Channel, ChannelPolicy, Ctx, Feerates, FixedEnvironment, IncomingHtlc, Key, Persist, TowerPolicy, Write,
};
use leyden_channels::keys::{KeysSigner, PerCommitmentSecret, Signer as _};
use leyden_channels::types::{CommitmentNumber, Height, HtlcId, TipTrust, UnixTime};

use super::world::World;

/// What is durable.
pub type KeptRows = BTreeMap<Key, Vec<u8>>;

#[derive(Clone, Debug, Default)]
pub struct Store {
    pub rows: KeptRows,
}

impl Persist for Store {
    type Error = Infallible;

    fn commit(&mut self, writes: Vec<Write>) -> Result<(), Infallible> {
        for write in writes {
            match write {
                Write::Put { key, value } => drop(self.rows.insert(key, value)),
                Write::Delete { key } => drop(self.rows.remove(&key)),
            }
        }
        Ok(())
    }
}

impl Store {
    /// The rows that the channel is restored from.
    pub fn live(&self) -> Vec<(Key, Vec<u8>)> {
        let live = |key: &Key| key.encode().starts_with(&Key::all_live_prefix());
        self.rows.iter().filter(|(key, _)| live(key)).map(|(key, value)| (*key, value.clone())).collect()
    }
}

/// How an attempt to pay has ended so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Fulfilled,
    Failed,
    Refused,
}

pub struct Node {
    /// `None` after a restart in the middle of an opening.
    pub channel: Option<Channel>,
    pub store: Store,
    pub signer: Arc<KeysSigner>,
    pub policy: ChannelPolicy,
    pub incoming: BTreeMap<HtlcId, IncomingHtlc>,
    pub outcomes: BTreeMap<AttemptId, Outcome>,
    /// The commitments below this number are revoked: the peer has their secrets.
    pub released: u64,
    /// The commitment of ours that was broadcast.
    pub broadcast: Option<CommitmentNumber>,
    /// The latest commitment that was signed and run.
    pub executed: Option<CommitmentNumber>,
}

impl Node {
    pub fn new(channel: Option<Channel>, signer: Arc<KeysSigner>) -> Self {
        Self {
            channel,
            store: Store::default(),
            signer,
            policy: ChannelPolicy::default(),
            incoming: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            released: 0,
            broadcast: None,
            executed: None,
        }
    }

    /// Takes note that `secret` has left, which must be that of a commitment before `latest`.
    pub fn release(&mut self, secret: &PerCommitmentSecret, latest: CommitmentNumber) {
        let is_it = |number: &u64| self.signer.release_commitment_secret(CommitmentNumber(*number)).0 == secret.0;
        let number = (0..latest.0)
            .rev()
            .find(is_it)
            .expect("a secret of an older commitment, and of none that may be broadcast");
        self.released = self.released.max(number + 1);
    }

    /// The channel as a restart would find it; `None` if nothing is durable yet.
    pub fn stored(&self) -> Option<Channel> {
        let rows = self.store.live();
        if rows.is_empty() {
            return None;
        }
        let signer = self.signer.clone();
        Some(Channel::restore(rows, |_| Some(signer)).unwrap_or_else(|error| panic!("{error}")))
    }
}

static ENVIRONMENT: LazyLock<FixedEnvironment> = LazyLock::new(FixedEnvironment::default);

pub fn ctx(policy: &ChannelPolicy, tip: Height) -> Ctx<'_> {
    Ctx {
        chain: ChainHash::REGTEST,
        now: UnixTime(1_700_000_000),
        tip,
        trust: TipTrust::Current,
        feerates: Feerates::default(),
        policy,
        towers: TowerPolicy::None,
        environment: &*ENVIRONMENT,
    }
}

/// Alice's rows of a channel that has seen payments and has two of them on their way.
pub fn ready_rows() -> &'static KeptRows {
    static ROWS: OnceLock<KeptRows> = OnceLock::new();
    ROWS.get_or_init(|| World::busy().take_rows())
}
