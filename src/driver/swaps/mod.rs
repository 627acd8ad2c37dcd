//! Swaps of this person: the machines of `leyden_channels::swap` between two chains and two wallets.
//!
//! ```text
//!   calls ─────────────► mailbox ─┐                        ┌─► commit ─► effects: fund, broadcast, release
//!   own chain and wallet ─────────┼─► task: Swap::handle ──┤
//!   the second daemon's ──────────┘                        └─► news for whoever listens
//! ```
//!
//! One task for each kind does it all: there are few swaps, and none is in a hurry that a second would matter to. After a start each
//! swap is fed what it has missed; then a tick broadcasts again whatever waits, so that refund and redeem are armed. A swap that
//! has ended with nothing locked is followed on for a while: see [`leyden_channels::swap`].
//!
//! Whatever may be on a chain lies in the channel backup, too, before its lock is broadcast; and no block is pruned that a
//! followed swap may still ask for.

mod book;
mod chains;
mod leg;
mod submarine;
mod task;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use bitcoin::{Amount, constants::ChainHash};
use leyden_channels::{
    payment::HintHop,
    swap::{
        Acceptance, Key, Offer, Swap,
        submarine::{Acceptance as SubmarineAcceptance, Direction, Offer as SubmarineOffer, Submarine},
    },
    types::{Height, Msat, PaymentHash, PaymentPreimage, UnixTime},
};
use leyden_node::{Keeper, Needed};
use tokio::sync::{Mutex, MutexGuard, broadcast, mpsc, oneshot};

use book::{Book, Needs, Ways};
pub(crate) use leg::{LegBlock, LegError, LegStatus, OwnLeg, SwapLeg, measured_pace, reclaim};

use crate::{driver::services::Services, store::StoreError, wallet::backup::SwapBackup};

/// Swaps that may be under way at a time: each is looked at in every block.
pub(crate) const MAX_OPEN: usize = 100;
/// Swaps that are looked at in every block, with those that have ended with nothing locked: whoever has others accept what is then
/// given up must not make this node look for ever more locks that never come, and be late with those that matter.
pub(crate) const MAX_FOLLOWED: usize = 1_000;

/// Calls that wait for the task.
const MAILBOX: usize = 64;
/// News that a listener may be behind.
const NEWS: usize = 256;

/// How often the chains are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often what waits is broadcast again, blocks or not.
const REPEAT: Duration = Duration::from_secs(30);

/// A swap, and what its networks are called.
#[derive(Clone, Debug)]
pub(crate) enum SwapInfo {
    /// Coins of one chain for coins of another. The warnings say what stands in its way, each in a sentence.
    Atomic { swap: Box<Swap>, give_on: String, get_on: String, warnings: Vec<String> },
    /// Coins for a Lightning payment, on one chain or on two.
    Submarine {
        swap: Box<Submarine>,
        coins_on: String,
        payment_on: String,
        facts: SubmarineFacts,
        warnings: Vec<String>,
    },
}

impl SwapInfo {
    /// When it was quoted or accepted.
    fn created(&self) -> UnixTime {
        match self {
            Self::Atomic { swap, .. } => swap.created(),
            Self::Submarine { swap, .. } => swap.created(),
        }
    }
}

/// What is told of a submarine swap that its machine does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubmarineFacts {
    /// What the routes of its payment have cost, if this node has paid.
    pub route_fee: Option<Msat>,
    /// For when a block of the payment's chain may come.
    pub clock: Option<BlockClock>,
}

/// How far a chain is, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockClock {
    pub tip: Height,
    pub now: UnixTime,
    /// Seconds between blocks.
    pub spacing: u32,
}

impl BlockClock {
    /// About when the block at this height is found, if it is not here yet.
    pub(crate) fn about(&self, height: Height) -> Option<UnixTime> {
        let blocks = height.0.checked_sub(self.tip.0).filter(|blocks| *blocks > 0)?;
        let seconds = u64::from(blocks).checked_mul(u64::from(self.spacing))?;
        self.now.0.checked_add(seconds).map(UnixTime)
    }
}

/// What is quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuoteSwap {
    pub give: Amount,
    pub get: Amount,
    /// Coins of the second daemon's chain are given.
    pub give_other: bool,
    pub terms: SwapTerms,
    pub outer_seconds: u64,
    pub inner_seconds: u64,
}

/// What is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcceptSwap {
    pub offer: Offer,
    pub give: Amount,
    pub get: Amount,
    /// Coins of the second daemon's chain are given.
    pub give_other: bool,
    /// For at most how many seconds this person's coins may be locked.
    pub locked_for: u64,
    pub terms: SwapTerms,
}

/// What each side decides for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SwapTerms {
    pub by_hand: bool,
    pub depth: u32,
    pub max_lock_fee: Amount,
}

/// A submarine swap that is quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuoteSubmarine {
    pub direction: Direction,
    pub coins: Amount,
    pub payment: Msat,
    pub terms: SubmarineTerms,
    pub place: CoinsPlace,
}

/// Where the coins of a submarine swap are, and for how long they are locked; `None`: for as long as leaves time for all of it.
/// The payment is on this daemon's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CoinsPlace {
    Here {
        refund_blocks: Option<u32>,
    },
    /// On the other network, of this name.
    There {
        network: String,
        refund_seconds: Option<u64>,
    },
}

/// A submarine swap that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcceptSubmarine {
    pub offer: SubmarineOffer,
    /// What the caller believes the bargain to be.
    pub direction: Direction,
    pub coins: Amount,
    pub payment: Msat,
    /// The other network, of this name, if the coins are there.
    pub coins_on: Option<String>,
    pub terms: SubmarineTerms,
    /// For at most how many seconds the caller's coins may be locked, if it gives some.
    pub locked_for: u64,
}

/// What each side of a submarine swap decides for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubmarineTerms {
    /// Confirmations that the other's lock needs.
    pub depth: u32,
    pub max_lock_fee: Amount,
    pub max_route_fee: Msat,
}

/// What a person orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwapOrder {
    Participate,
    Redeem(Option<PaymentPreimage>),
    Refund,
    Cancel,
}

/// Why a call about swaps was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum SwapRefused {
    #[error(
        "no other chain is known here: a swap needs one. Start leydend with --also and the other network's file, or with --swap-with \
         and the data directory of its daemon"
    )]
    NoOther,
    #[error("a chain of the swap cannot be asked: {0}")]
    Away(LegError),
    #[error("this swap goes on by itself: `leyden swap list` says where it is")]
    ByItself,
    #[error(
        "there is no such swap here: see `leyden swap list`. Of two networks each keeps its own: say the --network with which the swap \
         was quoted or accepted"
    )]
    Unknown,
    #[error("this offer was accepted already: see `leyden swap list`")]
    Known,
    #[error("this offer was accepted here before, and that swap has ended: ask for a new offer")]
    KnownEnded,
    #[error("this offer is your own: send it to the other, who accepts it")]
    Own,
    #[error(
        "a swap of another kind with this offer's secret is known here, and one lock could stand for both: you would give twice for \
         what is locked once. Nothing was accepted: ask for a new offer"
    )]
    SameSecret,
    #[error(
        "the offer goes the other way round: it asks you for {asked} sat of {asked_on}, and gives {given} sat of {given_on}. \
         Nothing was accepted; if that is the trade you want, accept it {instead}",
        asked = asked.to_sat(),
        given = given.to_sat()
    )]
    OtherDirection { asked: Amount, asked_on: String, given: Amount, given_on: String, instead: &'static str },
    #[error(
        "the node on {0} gives up old blocks (--prune), and does not know which of them a swap of this one needs: nothing was begun. \
         Run it without --prune, hold both networks in one daemon (--also), or quote or accept the swap there"
    )]
    Pruned(String),
    #[error("{wanted} is no network that coins could be on here: this one is {own}, the other one {other}")]
    NoSuchNetwork { wanted: String, own: String, other: String },
    #[error(
        "the offer has coins on {coins_on} and the payment on {payment_on}, and that is not what you said: nothing was accepted. If \
         that is the bargain you want, accept it on {payment_on} with --coins-on {coins_on}"
    )]
    OtherPlaces { coins_on: String, payment_on: String },
    #[error(
        "{MAX_OPEN} swaps are under way already: wait until one has ended, or give up one of which nothing is locked with `leyden swap \
         cancel`"
    )]
    TooMany,
    #[error(
        "{MAX_FOLLOWED} swaps are looked for in every block already, most of them given up: a lock of theirs may still come until two weeks \
         after the expiry. Begin another one then"
    )]
    TooManyFollowed,
    #[error("{0}")]
    Refused(String),
    #[error("the daemon is stopping")]
    Stopping,
}

type Answer<T> = oneshot::Sender<Result<T, SwapRefused>>;

enum Call {
    Quote(QuoteSwap, Answer<SwapInfo>),
    Accept(Box<AcceptSwap>, Answer<SwapInfo>),
    Initiate(Acceptance, Answer<SwapInfo>),
    /// A row of a backup. Whether it was not here.
    Recover(Vec<u8>, Answer<bool>),
    Order(PaymentHash, SwapOrder, Answer<SwapInfo>),
    List(Answer<Vec<SwapInfo>>),
}

enum SubmarineCall {
    /// With route hints for an invoice.
    Quote(QuoteSubmarine, Vec<Vec<HintHop>>, Answer<SwapInfo>),
    Accept(Box<AcceptSubmarine>, Vec<Vec<HintHop>>, Answer<SwapInfo>),
    /// A row of a backup. Whether it was not here.
    Recover(Vec<u8>, Answer<bool>),
    Initiate(SubmarineAcceptance, Answer<SwapInfo>),
    Order(PaymentHash, SwapOrder, Answer<SwapInfo>),
    List(Answer<Vec<SwapInfo>>),
}

/// The way to the tasks of all swaps.
pub(crate) struct Swaps {
    atomic: mpsc::Sender<Call>,
    submarine: mpsc::Sender<SubmarineCall>,
    news: broadcast::Sender<SwapInfo>,
    /// Of the atomic ones, and of the submarine ones.
    troubles: [Trouble; 2],
    needs: [Needs; 2],
    /// Of the other chain, likewise.
    needs_of_other: [Needs; 2],
    exchanged: Exchanged,
    beginning: Mutex<()>,
    other: Option<Arc<dyn SwapLeg>>,
}

/// What submarine swaps under way get on one network and give on another, by the two: the latter's millisatoshi.
#[derive(Clone, Default)]
struct Exchanged(Arc<SyncMutex<BTreeMap<(ChainHash, ChainHash), Msat>>>);

impl Exchanged {
    fn note<'a>(&self, swaps: impl IntoIterator<Item = &'a Submarine>) {
        let mut now = BTreeMap::new();
        // What is not agreed on yet is not under way.
        let under_way = swaps.into_iter().filter(|swap| swap.outcome().is_none() && swap.acceptance().is_some());
        for (from, to, amount) in under_way.filter_map(Submarine::exchanged) {
            let all: &mut Msat = now.entry((from, to)).or_default();
            // More than there can be is as full as can be.
            *all = Msat(all.0.saturating_add(amount.0));
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// All swaps as they were kept.
pub(crate) struct Loaded {
    atomic: BTreeMap<PaymentHash, Swap>,
    submarine: BTreeMap<PaymentHash, Submarine>,
}

impl Loaded {
    /// Reads them back. A row that cannot be read is an error: coins may depend on it.
    pub(crate) fn read(services: &Services) -> Result<Self, StoreError> {
        let submarine = Book::load(services)?;
        // Before anything is paid at a rate.
        services.swaps.exchanged.note(submarine.values());
        Ok(Self { atomic: Book::load(services)?, submarine })
    }

    /// What the channel backup has of them.
    pub(crate) fn backups(&self) -> Vec<SwapBackup> {
        let submarine = self.submarine.values().filter_map(book::backup);
        self.atomic.values().filter_map(book::backup).chain(submarine).collect()
    }

    /// Whether it is one of them, be it that it has ended.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        match key {
            Key::Swap(id) => self.atomic.contains_key(id),
            Key::Submarine(id) => self.submarine.contains_key(id),
        }
    }
}

/// The tasks of all swaps.
pub(crate) struct SwapTasks {
    atomic: task::SwapTask,
    submarine: submarine::SubmarineTask,
}

impl SwapTasks {
    /// Runs until the daemon ends. `fatal` ends it when the disk does not take what must be kept.
    pub(crate) async fn run(self, services: Arc<Services>, loaded: Loaded, fatal: mpsc::UnboundedSender<String>) {
        let Self { atomic, submarine } = self;
        tokio::join!(
            atomic.run(Arc::clone(&services), loaded.atomic, fatal.clone()),
            submarine.run(services, loaded.submarine, fatal)
        );
    }
}

/// Why a chain of a swap that is under way cannot be followed, while it cannot.
#[derive(Clone, Default)]
struct Trouble(Arc<SyncMutex<Option<String>>>);

impl Trouble {
    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is another than before.
    fn set(&self, trouble: Option<String>) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *now != trouble;
        *now = trouble;
        is_new
    }
}

impl Swaps {
    /// The way, and where it leads to. `other` is the second daemon's chain.
    pub(crate) fn new(other: Option<Arc<dyn SwapLeg>>) -> (Self, SwapTasks) {
        let news = broadcast::Sender::new(NEWS);
        let way = || Ways {
            news: news.clone(),
            trouble: Trouble::default(),
            needs: Needs::default(),
            needs_of_other: Needs::default(),
        };
        let [of_atomic, of_submarine] = [way(), way()];
        let needs_of_other = [of_atomic.needs_of_other.clone(), of_submarine.needs_of_other.clone()];
        let troubles = [of_atomic.trouble.clone(), of_submarine.trouble.clone()];
        let needs = [of_atomic.needs.clone(), of_submarine.needs.clone()];
        let (atomic, mailbox) = mpsc::channel(MAILBOX);
        let (submarine, its_mailbox) = mpsc::channel(MAILBOX);
        let exchanged = Exchanged::default();
        let tasks = SwapTasks {
            atomic: task::SwapTask { mailbox, ways: of_atomic, other: other.clone() },
            submarine: submarine::SubmarineTask {
                mailbox: its_mailbox,
                ways: of_submarine,
                exchanged: exchanged.clone(),
                other: other.clone(),
            },
        };
        let beginning = Mutex::default();
        (Self { atomic, submarine, news, troubles, needs, needs_of_other, exchanged, beginning, other }, tasks)
    }

    /// Whoever begins a swap has looked at all others, of either kind: no two begin at once.
    pub(crate) async fn begins(&self) -> MutexGuard<'_, ()> {
        self.beginning.lock().await
    }

    /// What submarine swaps under way give on the network `to` for what they get on `from`, in the former's millisatoshi.
    pub(crate) fn exchanged(&self, from: ChainHash, to: ChainHash) -> Msat {
        let all = self.exchanged.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(from, to)).copied().unwrap_or_default()
    }

    /// The other chain of swaps.
    pub(crate) fn other(&self) -> Option<Arc<dyn SwapLeg>> {
        self.other.clone()
    }

    /// The lowest block of the other chain that a swap still has to look through, or may have to once more.
    pub(crate) fn needed_of_other(&self) -> u32 {
        self.needs_of_other.iter().map(Needs::get).min().unwrap_or_default()
    }

    /// The blocks of this daemon's chain that a swap still has to look through, or may have to once more.
    pub(crate) fn keeper(&self) -> Keeper {
        let needs = self.needs.clone();
        Arc::new(move || {
            Ok(Needed { from: needs.iter().map(Needs::get).min().unwrap_or_default(), blocks: BTreeSet::new() })
        })
    }

    /// Takes a swap back from a backup. Whether it was not here.
    pub(crate) async fn recover(&self, key: Key, row: Vec<u8>) -> Result<bool, SwapRefused> {
        match key {
            Key::Swap(_) => ask(&self.atomic, |answer| Call::Recover(row, answer)).await,
            Key::Submarine(_) => ask(&self.submarine, |answer| SubmarineCall::Recover(row, answer)).await,
        }
    }

    pub(crate) async fn quote(&self, request: QuoteSwap) -> Result<SwapInfo, SwapRefused> {
        ask(&self.atomic, |answer| Call::Quote(request, answer)).await
    }

    pub(crate) async fn accept(&self, request: AcceptSwap) -> Result<SwapInfo, SwapRefused> {
        ask(&self.atomic, |answer| Call::Accept(Box::new(request), answer)).await
    }

    pub(crate) async fn initiate(&self, acceptance: Acceptance) -> Result<SwapInfo, SwapRefused> {
        ask(&self.atomic, |answer| Call::Initiate(acceptance, answer)).await
    }

    /// `hints` lead to this node over channels that the network does not know.
    pub(crate) async fn quote_submarine(
        &self,
        request: QuoteSubmarine,
        hints: Vec<Vec<HintHop>>,
    ) -> Result<SwapInfo, SwapRefused> {
        ask(&self.submarine, |answer| SubmarineCall::Quote(request, hints, answer)).await
    }

    pub(crate) async fn accept_submarine(
        &self,
        request: AcceptSubmarine,
        hints: Vec<Vec<HintHop>>,
    ) -> Result<SwapInfo, SwapRefused> {
        ask(&self.submarine, |answer| SubmarineCall::Accept(Box::new(request), hints, answer)).await
    }

    pub(crate) async fn initiate_submarine(&self, acceptance: SubmarineAcceptance) -> Result<SwapInfo, SwapRefused> {
        ask(&self.submarine, |answer| SubmarineCall::Initiate(acceptance, answer)).await
    }

    pub(crate) async fn order(&self, id: PaymentHash, order: SwapOrder) -> Result<SwapInfo, SwapRefused> {
        match ask(&self.atomic, |answer| Call::Order(id, order, answer)).await {
            Err(SwapRefused::Unknown) => ask(&self.submarine, |answer| SubmarineCall::Order(id, order, answer)).await,
            known => known,
        }
    }

    pub(crate) async fn list(&self) -> Result<Vec<SwapInfo>, SwapRefused> {
        let mut all = ask(&self.atomic, Call::List).await?;
        all.extend(ask(&self.submarine, SubmarineCall::List).await?);
        all.sort_by_key(SwapInfo::created);
        Ok(all)
    }

    /// Why a swap that is under way cannot be followed on one of its chains, if it cannot.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.troubles.iter().find_map(Trouble::get)
    }

    /// Each change from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<SwapInfo> {
        self.news.subscribe()
    }
}

async fn ask<C, T>(to: &mpsc::Sender<C>, call: impl FnOnce(Answer<T>) -> C) -> Result<T, SwapRefused> {
    let (answer, answered) = oneshot::channel();
    to.send(call(answer)).await.map_err(|_| SwapRefused::Stopping)?;
    answered.await.map_err(|_| SwapRefused::Stopping)?
}

fn refused(error: impl std::fmt::Display) -> SwapRefused {
    SwapRefused::Refused(error.to_string())
}
