//! `leyden resetmc`: forget what payments have taught.

use clap::Args;
use leyden_proto::routerrpc::ResetMissionControlRequest;

use super::{CliError, Context};

/// Forget what payments have taught about where channels' money is. It fades by itself within two days.
#[derive(Debug, Args)]
pub struct ResetMissionControl {}

impl ResetMissionControl {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ResetMissionControlRequest {};
        let answer = context.client().await?.router().reset_mission_control(request).await?.into_inner();
        context.show(&answer, || "forgotten: ways are looked for by what gossip says alone".to_owned())
    }
}
