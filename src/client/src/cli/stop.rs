//! `leyden stop`: end the daemon.

use clap::Args;
use leyden_proto::lnrpc::StopRequest;

use super::{CliError, Context};

/// Stop the daemon cleanly.
#[derive(Debug, Args)]
pub struct Stop {}

impl Stop {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let answer = context.client().await?.lightning().stop_daemon(StopRequest {}).await?.into_inner();
        context.show(&answer, || answer.status.clone())
    }
}
