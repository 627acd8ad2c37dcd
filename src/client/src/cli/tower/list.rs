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
            let headings =
                ["tower", "address", "~mode", "state", ">states held", ">waiting", ">chain", ">kept until block"];
            let rows = answer.towers.iter().map(row).collect();
            let mut text = table::list(headings, rows, "No watchtower guards this node: `leyden tower add` adds one.");
            if answer.required > 0 {
                let towers = if answer.required == 1 {
                    "1 tower holds".to_owned()
                } else {
                    format!("{} towers hold", answer.required)
                };
                text +=
                    &format!("\n\nPayments of a channel wait until {towers} its last revoked state (--tower-require).");
            }
            for tower in answer.towers.iter().filter(|tower| !tower.trouble.is_empty()) {
                text += &format!("\n{}: {}{}", format::short(&tower.pubkey), tower.trouble, allow(tower));
            }
            text
        })
    }
}

/// What an own tower that does not serve us has to be started with.
fn allow(tower: &TowerInfo) -> String {
    match tower.own && tower.reached && !tower.connected {
        true => format!(" (this node is its client {0}: start the tower with --tower-allow {0})", tower.client_pubkey),
        false => String::new(),
    }
}

fn row(tower: &TowerInfo) -> [String; 8] {
    let state = match (tower.active, tower.connected) {
        _ if tower.proof.is_some() => "broke its word",
        (false, _) => "deactivated",
        (true, true) => "connected",
        (true, false) if tower.reached => "refuses",
        (true, false) => "away",
    };
    [
        format::short(&tower.pubkey),
        tower.address.clone(),
        super::whose(tower.own).to_owned(),
        state.to_owned(),
        amount::grouped(i64::try_from(tower.states_held).unwrap_or(i64::MAX)),
        amount::grouped(i64::try_from(tower.states_waiting).unwrap_or(i64::MAX)),
        tower.height.map_or_else(|| "-".to_owned(), |height| height.to_string()),
        if tower.until_height == 0 { "-".to_owned() } else { tower.until_height.to_string() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tower_that_answers_and_refuses_is_not_away() {
        let tower = |reached, connected| TowerInfo {
            own: true,
            active: true,
            reached,
            connected,
            client_pubkey: "02ab".to_owned(),
            ..TowerInfo::default()
        };
        assert_eq!(row(&tower(true, false))[3], "refuses");
        assert!(allow(&tower(true, false)).contains("--tower-allow 02ab"));
        assert_eq!((row(&tower(false, false))[3].as_str(), allow(&tower(false, false)).as_str()), ("away", ""));
        assert_eq!(row(&tower(true, true))[3], "connected");
    }
}
