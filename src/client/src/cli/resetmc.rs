//! `leyden resetmc`: forget what payments have taught.

use clap::Args;
use leyden_proto::routerrpc::ResetMissionControlRequest;

use super::{CliError, Context};

/// Reset mission control: forget what payments have taught about the liquidity of channels. It fades by itself within
/// two days.
#[derive(Debug, Args)]
pub struct ResetMissionControl {}

impl ResetMissionControl {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ResetMissionControlRequest {};
        let answer = context.client().await?.router().reset_mission_control(request).await?.into_inner();
        context.show(&answer, || "forgotten: routes are looked for by what gossip says alone".to_owned())
    }
}
