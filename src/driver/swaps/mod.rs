//! Atomic swaps of this person: the machines of `leyden_channels::swap` between two chains and two wallets.
//!
//! ```text
//!   calls ─────────────► mailbox ─┐                        ┌─► commit ─► effects: fund, broadcast, release
//!   own chain and wallet ─────────┼─► task: Swap::handle ──┤
//!   the second daemon's ──────────┘                        └─► news for whoever listens
//! ```
//!
//! One task does it all: there are few swaps, and none is in a hurry that a second would matter to. After a start each
//! swap is fed what it has missed; then a tick broadcasts again whatever waits, so that refund and redeem are armed.

mod leg;
mod submarine;
mod task;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bitcoin::Amount;
use leyden_channels::{
    payment::HintHop,
    swap::{
        Acceptance, Offer, Swap,
        submarine::{Acceptance as SubmarineAcceptance, Submarine},
    },
    types::{PaymentHash, PaymentPreimage},
};
use tokio::sync::{broadcast, mpsc, oneshot};

pub(crate) use leg::{LegBlock, LegError, LegStatus, OwnLeg, SwapLeg};
pub(crate) use submarine::{AcceptSubmarine, QuoteSubmarine, SubmarineTask, SubmarineTerms};
pub(crate) use task::SwapTask;

/// Swaps that may be under way at a time: each is looked at in every block.
pub(crate) const MAX_OPEN: usize = 100;

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
    /// Coins for a Lightning payment.
    Submarine { swap: Box<Submarine>, network: String, warnings: Vec<String> },
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
        "no second daemon is known here: a swap needs one for the other chain. Start leydend with --swap-with DATA_DIR"
    )]
    NoOther,
    #[error("a chain of the swap cannot be asked: {0}")]
    Away(LegError),
    #[error("this swap goes on by itself: `leyden swap list` says where it is")]
    ByItself,
    #[error("there is no such swap here: see `leyden swap list`")]
    Unknown,
    #[error("this offer was accepted already: see `leyden swap list`")]
    Known,
    #[error(
        "the offer goes the other way round: it asks you for {asked} sat of {asked_on}, and gives {given} sat of {given_on}. \
         Nothing was accepted; if that is the trade you want, accept it {instead}",
        asked = asked.to_sat(),
        given = given.to_sat()
    )]
    OtherDirection { asked: Amount, asked_on: String, given: Amount, given_on: String, instead: &'static str },
    #[error(
        "the daemon on {0} gives up old blocks (--prune), also such as a swap could need: nothing was begun. Run it without, on a \
         new data directory if it has given up some"
    )]
    Pruned(String),
    #[error("{MAX_OPEN} swaps are under way already: wait until one has ended")]
    TooMany,
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
    Order(PaymentHash, SwapOrder, Answer<SwapInfo>),
    List(Answer<Vec<SwapInfo>>),
}

/// The way to the tasks of all swaps.
pub(crate) struct Swaps {
    atomic: mpsc::Sender<Call>,
    submarine: mpsc::Sender<submarine::Call>,
    news: broadcast::Sender<SwapInfo>,
    /// Of the atomic ones, and of the submarine ones.
    troubles: [Trouble; 2],
}

/// Why a chain of a swap that is under way cannot be followed, while it cannot.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<Option<String>>>);

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
    pub(crate) fn new(other: Option<Arc<dyn SwapLeg>>) -> (Self, SwapTask, SubmarineTask) {
        let (atomic, mailbox) = mpsc::channel(MAILBOX);
        let (submarine, its_mailbox) = mpsc::channel(MAILBOX);
        let news = broadcast::Sender::new(NEWS);
        let troubles: [Trouble; 2] = Default::default();
        let [of_atomic, of_submarine] = troubles.clone();
        let task = SwapTask::new(mailbox, news.clone(), of_atomic, other);
        let its_task = SubmarineTask { mailbox: its_mailbox, news: news.clone(), trouble: of_submarine };
        (Self { atomic, submarine, news, troubles }, task, its_task)
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
        ask(&self.submarine, |answer| submarine::Call::Quote(request, hints, answer)).await
    }

    pub(crate) async fn accept_submarine(
        &self,
        request: AcceptSubmarine,
        hints: Vec<Vec<HintHop>>,
    ) -> Result<SwapInfo, SwapRefused> {
        ask(&self.submarine, |answer| submarine::Call::Accept(Box::new(request), hints, answer)).await
    }

    pub(crate) async fn initiate_submarine(&self, acceptance: SubmarineAcceptance) -> Result<SwapInfo, SwapRefused> {
        ask(&self.submarine, |answer| submarine::Call::Initiate(acceptance, answer)).await
    }

    pub(crate) async fn order(&self, id: PaymentHash, order: SwapOrder) -> Result<SwapInfo, SwapRefused> {
        match ask(&self.atomic, |answer| Call::Order(id, order, answer)).await {
            Err(SwapRefused::Unknown) => ask(&self.submarine, |answer| submarine::Call::Order(id, order, answer)).await,
            known => known,
        }
    }

    pub(crate) async fn list(&self) -> Result<Vec<SwapInfo>, SwapRefused> {
        let mut all = ask(&self.atomic, Call::List).await?;
        all.extend(ask(&self.submarine, submarine::Call::List).await?);
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
