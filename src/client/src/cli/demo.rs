//! `leyden demo`: real daemons play a story, with every balance checked.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{CliError, Context};
use crate::demo::{
    DemoOptions, breach, crossing, force_close, multihop, seed, submarine, submarine_across, swap, tower,
};

/// Run a demonstration with real nodes. By default two nodes mine, open a channel, pay each other through it, survive a
/// SIGKILL and close it.
///
/// The nodes run in a temporary folder on free ports and are deleted at the end. The exit code is 0 if every balance was
/// as expected, and 1 otherwise.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden demo\n  \
    leyden demo --story breach\n  \
    leyden demo --story tower\n  \
    leyden demo --story multihop\n  \
    leyden demo --story swap\n  \
    leyden demo --story submarine\n  \
    leyden demo --story submarine-across\n  \
    leyden demo --story crossing\n  \
    leyden demo --story crossing-in-one\n  \
    leyden demo --keep     leave the nodes running and say how to talk to them")]
pub struct Demo {
    /// Which demonstration to run
    #[arg(long, value_enum, default_value_t = Story::Seed)]
    story: Story,
    /// Leave the nodes running at the end
    #[arg(long)]
    keep: bool,
    /// Keep the nodes' data in this folder instead of a temporary one
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Story {
    /// Payments in both directions, a SIGKILL, a cooperative close
    Seed,
    /// Bob disappears in the middle of payments: Alice force-closes, and waits 1000 blocks for her balance
    ForceClose,
    /// Bob broadcasts a revoked commitment: Alice takes everything
    Breach,
    /// Bob does so, and spends HTLCs, while Alice's daemon is dead: a watchtower takes everything for her
    Tower,
    /// Alice gives 1 coin of one network for 10 of Bob's on another, without trusting him
    Swap,
    /// The same, each step on command, with contracts and transactions as bytes
    SwapByHand,
    /// Bob disappears from such a trade: after 48 hours Alice has her coin back
    SwapRefund,
    /// Alice fills a channel with coins of the chain and empties it again, without closing it and without trusting Bob
    Submarine,
    /// The same with the coins on north and the channel on south: each of them has one daemon that holds both networks
    SubmarineAcross,
    /// Alice pays Bob over Lightning from north to south: over Carol, who has a node on both networks
    Crossing,
    /// The same, and Carol has one daemon that holds both networks
    CrossingInOne,
    /// The paper's payment of 0.05 over two nodes that keep 0.001 each: paid; refunded, as the payee is silent; and settled
    /// on the chain, as a node on the route is offline
    Multihop,
}

impl Demo {
    pub async fn run(self, _context: &Context) -> Result<(), CliError> {
        let options = DemoOptions { keep: self.keep, folder: self.folder };
        let played = match self.story {
            Story::Seed => seed::play(options).await,
            Story::Multihop => multihop::play(options).await,
            Story::ForceClose => force_close::play(options).await,
            Story::Breach => breach::play(options).await,
            Story::Swap => swap::play(options).await,
            Story::SwapByHand => swap::play_by_hand(options).await,
            Story::SwapRefund => swap::play_refund(options).await,
            Story::Submarine => submarine::play(options).await,
            Story::SubmarineAcross => submarine_across::play(options).await,
            Story::Crossing => crossing::play(options).await,
            Story::CrossingInOne => crossing::play_in_one(options).await,
            Story::Tower => tower::play(options).await,
        };
        played.map_err(|error| CliError::Failed(error.to_string()))
    }
}
