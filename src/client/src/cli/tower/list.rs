//! `leyden tower list`: the towers.

use clap::Args;
use leyden_proto::leyden::{ListTowersRequest, TowerInfo};

use super::super::{CliError, Context, amount, format, table};

/// List the watchtowers that guard this node.
#[derive(Debug, Args)]
pub(super) struct List {}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let answer = context.client().await?.towers().list_towers(ListTowersRequest {}).await?.into_inner();
        context.show(&answer, || {
            let headings = ["tower", "address", "mode", "state", ">held", ">waiting", ">until height"];
            let rows = answer.towers.iter().map(row).collect();
            let mut text = table::list(headings, rows, "No watchtower guards this node: `leyden tower add` adds one.");
            if answer.required > 0 {
                text += &format!("\n\nPayments wait until {} towers hold the state before.", answer.required);
            }
            for tower in answer.towers.iter().filter(|tower| !tower.trouble.is_empty()) {
                text += &format!("\n{}: {}", format::short(&tower.pubkey), tower.trouble);
            }
            text
        })
    }
}

fn row(tower: &TowerInfo) -> [String; 7] {
    let state = match (tower.active, tower.connected) {
        _ if tower.proof.is_some() => "broke its word",
        (false, _) => "deactivated",
        (true, true) => "connected",
        (true, false) => "away",
    };
    [
        format::short(&tower.pubkey),
        tower.address.clone(),
        super::whose(tower.own).to_owned(),
        state.to_owned(),
        amount::grouped(i64::try_from(tower.states_held).unwrap_or(i64::MAX)),
        amount::grouped(i64::try_from(tower.states_waiting).unwrap_or(i64::MAX)),
        if tower.until_height == 0 { "-".to_owned() } else { tower.until_height.to_string() },
    ]
}
