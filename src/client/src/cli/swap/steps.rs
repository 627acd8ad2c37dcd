//! `leyden swap participate`, `redeem`, `refund` and `cancel`: the steps of a swap by hand.

use clap::Args;
use leyden_proto::leyden::SwapRequest;

use super::super::{CliError, Context};

/// Lock your coins: the participant's second step by hand. It waits until the initiator's lock is deep enough.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leyden swap participate 9f3c     the beginning of its id will do")]
pub(super) struct Participate {
    /// The swap's id, or the beginning of it
    id: String,
}

/// Take the other's coins. An initiator shows the secret by it, and is refused when too little time is left for that.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leyden swap redeem 9f3c")]
pub(super) struct Redeem {
    /// The swap's id, or the beginning of it
    id: String,
}

/// Take your own coins back after the expiry.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leyden swap refund 9f3c")]
pub(super) struct Refund {
    /// The swap's id, or the beginning of it
    id: String,
}

/// Give up a swap of which you have locked nothing yet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leyden swap cancel 9f3c")]
pub(super) struct Cancel {
    /// The swap's id, or the beginning of it
    id: String,
}

impl Participate {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let id = super::find(&client, &self.id).await?;
        let swap = client.swap().participate(SwapRequest { id }).await?.into_inner();
        context.show(&swap, || super::for_people(&swap))
    }
}

impl Redeem {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let id = super::find(&client, &self.id).await?;
        let swap = client.swap().redeem(SwapRequest { id }).await?.into_inner();
        context.show(&swap, || super::for_people(&swap))
    }
}

impl Refund {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let id = super::find(&client, &self.id).await?;
        let swap = client.swap().refund(SwapRequest { id }).await?.into_inner();
        context.show(&swap, || super::for_people(&swap))
    }
}

impl Cancel {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let id = super::find(&client, &self.id).await?;
        let swap = client.swap().cancel(SwapRequest { id }).await?.into_inner();
        context.show(&swap, || super::for_people(&swap))
    }
}
