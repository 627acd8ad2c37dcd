//! `leyden chain …`: the proof-of-work chain that the node carries.

mod block;
mod broadcast_note;
mod connect;
mod generate;
mod hashrate;
mod mempool;
mod mine;
mod peers;
mod proof;
mod send;
mod tip;
mod tx;
mod utxohash;
mod verify_proof;

use clap::{Args, Subcommand};

pub(super) use self::broadcast_note::broadcast_note;
use super::{CliError, Context};

/// Show the node's proof-of-work chain, mine blocks and send transactions.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden chain tip\n  \
    leyden chain generate 101          mine 101 blocks now, for this node's wallet\n  \
    leyden chain mine start            mine in the background\n  \
    leyden chain block 0               the genesis block")]
pub struct Chain {
    #[command(subcommand)]
    command: ChainCommand,
}

#[derive(Debug, Subcommand)]
enum ChainCommand {
    Tip(tip::Tip),
    Block(block::Block),
    Tx(tx::Tx),
    Proof(proof::Proof),
    VerifyProof(verify_proof::VerifyProof),
    Mempool(mempool::Mempool),
    Generate(generate::Generate),
    Mine(mine::Mine),
    Hashrate(hashrate::Hashrate),
    Utxohash(utxohash::UtxoHash),
    Peers(peers::Peers),
    Connect(connect::Connect),
    Send(send::Send),
}

impl Chain {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.command {
            ChainCommand::Tip(command) => command.run(context).await,
            ChainCommand::Block(command) => command.run(context).await,
            ChainCommand::Tx(command) => command.run(context).await,
            ChainCommand::Proof(command) => command.run(context).await,
            ChainCommand::VerifyProof(command) => command.run(context).await,
            ChainCommand::Mempool(command) => command.run(context).await,
            ChainCommand::Generate(command) => command.run(context).await,
            ChainCommand::Mine(command) => command.run(context).await,
            ChainCommand::Hashrate(command) => command.run(context).await,
            ChainCommand::Utxohash(command) => command.run(context).await,
            ChainCommand::Peers(command) => command.run(context).await,
            ChainCommand::Connect(command) => command.run(context).await,
            ChainCommand::Send(command) => command.run(context).await,
        }
    }
}

/// A count as the tables print it.
fn count(number: u64) -> String {
    super::amount::grouped(i64::try_from(number).unwrap_or(i64::MAX))
}

fn time(seconds: u64) -> String {
    super::format::time(i64::try_from(seconds).unwrap_or(i64::MAX))
}
