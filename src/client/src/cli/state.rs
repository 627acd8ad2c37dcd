//! `leyden state`: how far the node has started.

use clap::Args;
use leyden_proto::lnrpc::{GetStateRequest, SubscribeStateRequest, WalletState};

use super::{CliError, Context};

/// Show whether the wallet exists, is locked, or is open.
#[derive(Debug, Args)]
pub struct State {
    /// Keep running and show every change
    #[arg(long)]
    watch: bool,
}

impl State {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        if !self.watch {
            let answer = client.state().get_state(GetStateRequest {}).await?.into_inner();
            return context.show(&answer, || for_people(answer.state()));
        }
        let mut changes = client.state().subscribe_state(SubscribeStateRequest {}).await?.into_inner();
        while let Some(change) = changes.message().await? {
            context.show(&change, || for_people(change.state()))?;
        }
        Ok(())
    }
}

fn for_people(state: WalletState) -> String {
    let meaning = match state {
        WalletState::NonExisting => "there is no wallet yet: `leyden create` makes one",
        WalletState::Locked => "the wallet is locked: `leyden unlock` opens it",
        WalletState::Unlocked => "the wallet is open, the node is starting",
        WalletState::RpcActive => "the node answers, and is still reading the chain",
        WalletState::ServerActive => "everything works",
        WalletState::WaitingToStart => "the node is not ready",
    };
    format!("{} ({meaning})", state.as_str_name())
}
