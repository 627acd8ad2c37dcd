//! `leyden swap participate`, `redeem`, `refund` and `cancel`: the steps of a swap by hand; `reclaim`, for swaps of a lost disk.

use clap::Args;
use leyden_proto::leyden::{SwapReclaimRequest, SwapRedeemRequest, SwapRequest};

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
#[command(after_help = "Examples:\n  \
    leyden swap redeem 9f3c\n  \
    leyden swap redeem 9f3c --secret 51ab…     with what `leyden swap extractsecret` prints")]
pub(super) struct Redeem {
    /// The swap's id, or the beginning of it
    id: String,
    /// The secret as hex, if your node has not seen it on the chain itself
    #[arg(long, value_name = "HEX", default_value = "", hide_default_value = true)]
    secret: String,
}

/// Take your own coins back after the expiry.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leyden swap refund 9f3c")]
pub(super) struct Refund {
    /// The swap's id, or the beginning of it
    id: String,
}

/// Give up a swap of which you have locked or paid nothing yet.
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
        context.show(&swap, || super::for_people(context, &swap))
    }
}

impl Redeem {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let id = super::find(&client, &self.id).await?;
        let secret = super::bytes("a secret", &self.secret)?;
        let swap = client.swap().redeem(SwapRedeemRequest { id, secret }).await?.into_inner();
        context.show(&swap, || super::for_people(context, &swap))
    }
}

impl Refund {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let id = super::find(&client, &self.id).await?;
        let swap = client.swap().refund(SwapRequest { id }).await?.into_inner();
        context.show(&swap, || super::for_people(context, &swap))
    }
}

impl Cancel {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let id = super::find(&client, &self.id).await?;
        let swap = client.swap().cancel(SwapRequest { id }).await?.into_inner();
        context.show(&swap, || super::for_people(context, &swap))
    }
}

/// Take the coins of a contract that this node does not know any more, after its disk was lost.
///
/// The wallet's words and the contract's script are enough to take your own coins back after the expiry; for the other's the
/// secret is needed, too. `leyden swap show` prints script and lock while the node has them: keep them elsewhere.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap reclaim 6382… 4f0c…:1                  your own coins, after the expiry\n  \
    leyden swap reclaim 6382… 4f0c…:1 --secret 9e1b…   the other's")]
pub(super) struct Reclaim {
    /// The contract's witness script
    contract: String,
    /// The output that holds the coins
    #[arg(value_name = "TXID:INDEX")]
    lock: String,
    /// The secret, for coins that the other has locked
    #[arg(long, value_name = "HEX")]
    secret: Option<String>,
}

impl Reclaim {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let secret = self.secret.as_deref().map(|secret| super::bytes("a secret", secret)).transpose()?;
        let request = SwapReclaimRequest {
            contract: super::bytes("a contract", &self.contract)?,
            lock: self.lock,
            secret: secret.unwrap_or_default(),
        };
        let answer = context.client().await?.swap().reclaim(request).await?.into_inner();
        context.show(&answer, || {
            format!("Broadcast; the coins are yours with its first confirmation:\n{}", hex::encode(&answer.transaction))
        })
    }
}
