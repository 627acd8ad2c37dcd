//! `leyden swap list` and `leyden swap watch`.

use clap::Args;
use leyden_proto::leyden::{ListSwapsRequest, SubscribeSwapsRequest};

use super::super::{CliError, Context};

/// All swaps of this node, and where each of them is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap list\n  \
    leyden swap show 9f3c     one of them, with its transactions as hex")]
pub(super) struct List {}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let list = context.client().await?.swap().list(ListSwapsRequest {}).await?.into_inner();
        context.show(&list, || match list.swaps.as_slice() {
            [] => "There are no swaps. `leyden swap --help` says how one begins.".to_owned(),
            swaps => swaps.iter().map(|swap| super::for_people(context, swap)).collect::<Vec<_>>().join("\n\n"),
        })
    }
}

/// Watch swaps as they go on, until interrupted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leyden swap watch")]
pub(super) struct Watch {}

impl Watch {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let mut swaps = context.client().await?.swap().subscribe(SubscribeSwapsRequest {}).await?.into_inner();
        context.note("Watching swaps; Ctrl-C ends it.");
        while let Some(swap) = swaps.message().await? {
            context.show(&swap, || format!("{}  {}", hex::encode(&swap.id), super::phase(context, &swap)))?;
        }
        Ok(())
    }
}
