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
mod task;

use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::Amount;
use leyden_channels::{
    swap::{Acceptance, Offer, Swap},
    types::PaymentHash,
};
use tokio::sync::{broadcast, mpsc, oneshot};

pub(crate) use leg::{LegBlock, LegError, LegStatus, OwnLeg, SwapLeg};
pub(crate) use task::SwapTask;

/// Swaps that may be under way at a time: each is looked at in every block.
pub(crate) const MAX_OPEN: usize = 100;

/// Calls that wait for the task.
const MAILBOX: usize = 64;
/// News that a listener may be behind.
const NEWS: usize = 256;

/// A swap, and what its two networks are called.
#[derive(Clone, Debug)]
pub(crate) struct SwapView {
    pub swap: Swap,
    pub give_on: String,
    pub get_on: String,
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
    Redeem,
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
    #[error("the second daemon cannot be asked: {0}")]
    OtherAway(LegError),
    #[error("there is no such swap here: see `leyden swap list`")]
    Unknown,
    #[error("this offer was accepted already: see `leyden swap list`")]
    Known,
    #[error("{MAX_OPEN} swaps are under way already: wait until one has ended")]
    TooMany,
    #[error("{0}")]
    Refused(String),
    #[error("the daemon is stopping")]
    Stopping,
}

type Answer<T> = oneshot::Sender<Result<T, SwapRefused>>;

enum Call {
    Quote(QuoteSwap, Answer<SwapView>),
    Accept(Box<AcceptSwap>, Answer<SwapView>),
    Initiate(Acceptance, Answer<SwapView>),
    Order(PaymentHash, SwapOrder, Answer<SwapView>),
    List(Answer<Vec<SwapView>>),
}

/// The way to the task of all swaps.
pub(crate) struct Swaps {
    calls: mpsc::Sender<Call>,
    news: broadcast::Sender<SwapView>,
    trouble: Trouble,
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
    pub(crate) fn new(other: Option<Arc<dyn SwapLeg>>) -> (Self, SwapTask) {
        let (calls, mailbox) = mpsc::channel(MAILBOX);
        let news = broadcast::Sender::new(NEWS);
        let trouble = Trouble::default();
        let task = SwapTask::new(mailbox, news.clone(), trouble.clone(), other);
        (Self { calls, news, trouble }, task)
    }

    pub(crate) async fn quote(&self, request: QuoteSwap) -> Result<SwapView, SwapRefused> {
        self.ask(|answer| Call::Quote(request, answer)).await
    }

    pub(crate) async fn accept(&self, request: AcceptSwap) -> Result<SwapView, SwapRefused> {
        self.ask(|answer| Call::Accept(Box::new(request), answer)).await
    }

    pub(crate) async fn initiate(&self, acceptance: Acceptance) -> Result<SwapView, SwapRefused> {
        self.ask(|answer| Call::Initiate(acceptance, answer)).await
    }

    pub(crate) async fn order(&self, id: PaymentHash, order: SwapOrder) -> Result<SwapView, SwapRefused> {
        self.ask(|answer| Call::Order(id, order, answer)).await
    }

    pub(crate) async fn list(&self) -> Result<Vec<SwapView>, SwapRefused> {
        self.ask(Call::List).await
    }

    /// Why a swap that is under way cannot be followed on one of its chains, if it cannot.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.get()
    }

    /// Each change from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<SwapView> {
        self.news.subscribe()
    }

    async fn ask<T>(&self, call: impl FnOnce(Answer<T>) -> Call) -> Result<T, SwapRefused> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(call(answer)).await.map_err(|_| SwapRefused::Stopping)?;
        answered.await.map_err(|_| SwapRefused::Stopping)?
    }
}
