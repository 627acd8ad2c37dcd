//! Payments that cross between this daemon's network and a second daemon's, both of the same person: the machine of
//! `leyden_channels::crossing` between two Lightning nodes.
//!
//! ```text
//!   calls ─────────────► mailbox ─┐                            ┌─► commit ─► effects: hold, pay, settle, give up
//!   own Lightning node ──────────┼─► task: Crossings::… ──┤
//!   the second daemon's ──────────┘                            └─► what they answer
//! ```
//!
//! One task does it all. While a crossing is open it looks at both nodes again and again; while none is, it asks nobody.

mod node;
mod task;

use std::sync::{Arc, Mutex, PoisonError};

use leyden_channels::{
    crossing::{Crossing, Rate, RateError, Refusal},
    types::{Msat, PaymentHash},
};
use tokio::sync::{mpsc, oneshot};

pub(crate) use node::{CrossingNode, NodeError, NodeStatus, PATIENCE};
pub(crate) use task::CrossingTask;

/// Calls that wait for the task.
const MAILBOX: usize = 64;

/// A crossing, and what its two networks are called.
#[derive(Clone, Debug)]
pub(crate) struct CrossingView {
    pub crossing: Crossing,
    pub incoming: String,
    pub outgoing: String,
}

/// A rate, and what its two networks are called.
#[derive(Clone, Debug)]
pub(crate) struct RateView {
    pub incoming: String,
    pub outgoing: String,
    pub rate: Rate,
    /// Under way now.
    pub held: Msat,
}

/// What somebody wants to have paid.
#[derive(Clone, Debug)]
pub(crate) struct CrossInvoice {
    pub invoice: String,
    pub amount: Option<Msat>,
    /// The invoice is of this daemon's network.
    pub to_own: bool,
}

/// Why a call about crossings was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CrossingRefused {
    #[error(
        "no other network is known here: payments cross between two. Start leydend with --also and the other network's file, or with \
         --swap-with and the data directory of its daemon"
    )]
    NoOther,
    #[error("{0}")]
    Away(String),
    #[error("the networks here are {0} and {1}: name them both, as in {0}/{1}")]
    OtherNetworks(String, String),
    #[error(transparent)]
    Rate(#[from] RateError),
    #[error("{0}")]
    Invoice(String),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the payer's node has another invoice with this hash: ask the payee for a new one")]
    HashTaken,
    #[error("nothing with this hash crosses here, or nobody has paid for it in time")]
    Unknown,
    #[error("the daemon is stopping")]
    Stopping,
}

type Answer<T> = oneshot::Sender<Result<T, CrossingRefused>>;

enum Call {
    SetRate { incoming: String, outgoing: String, rate: Option<Rate>, answer: Answer<Vec<RateView>> },
    Rates(Answer<Vec<RateView>>),
    Cross(CrossInvoice, Answer<CrossingView>),
    Look(PaymentHash, Answer<CrossingView>),
    List(Answer<Vec<CrossingView>>),
}

/// The way to the task of all crossings.
pub(crate) struct CrossingCalls {
    calls: mpsc::Sender<Call>,
    trouble: Trouble,
}

/// Why a payment that is crossing cannot be followed, while it cannot.
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

impl CrossingCalls {
    /// The way, and where it leads to. `other` is the second daemon.
    pub(crate) fn new(own: Arc<dyn CrossingNode>, other: Option<Arc<dyn CrossingNode>>) -> (Self, CrossingTask) {
        let (calls, mailbox) = mpsc::channel(MAILBOX);
        let trouble = Trouble::default();
        let task = CrossingTask::new(mailbox, trouble.clone(), own, other);
        (Self { calls, trouble }, task)
    }

    /// `None` takes the rate away.
    pub(crate) async fn set_rate(
        &self,
        incoming: String,
        outgoing: String,
        rate: Option<Rate>,
    ) -> Result<Vec<RateView>, CrossingRefused> {
        self.ask(|answer| Call::SetRate { incoming, outgoing, rate, answer }).await
    }

    pub(crate) async fn rates(&self) -> Result<Vec<RateView>, CrossingRefused> {
        self.ask(Call::Rates).await
    }

    pub(crate) async fn cross(&self, invoice: CrossInvoice) -> Result<CrossingView, CrossingRefused> {
        self.ask(|answer| Call::Cross(invoice, answer)).await
    }

    pub(crate) async fn look(&self, hash: PaymentHash) -> Result<CrossingView, CrossingRefused> {
        self.ask(|answer| Call::Look(hash, answer)).await
    }

    pub(crate) async fn list(&self) -> Result<Vec<CrossingView>, CrossingRefused> {
        self.ask(Call::List).await
    }

    /// Why a payment that is under way cannot be followed, if it cannot.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.get()
    }

    async fn ask<T>(&self, call: impl FnOnce(Answer<T>) -> Call) -> Result<T, CrossingRefused> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(call(answer)).await.map_err(|_| CrossingRefused::Stopping)?;
        answered.await.map_err(|_| CrossingRefused::Stopping)?
    }
}
