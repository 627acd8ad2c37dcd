//! `leyden tower add`: one more tower.

use clap::Args;
use leyden_proto::leyden::{AddTowerRequest, ListTowersRequest, TowerInfo};

use super::super::{CliError, Context, connect};

/// Add a watchtower, or give one that is there another address.
///
/// Its owner reads KEY@HOST:PORT from `leyden tower info`. The tower is used from now on; `leyden tower list` shows whether it
/// can be reached, and `leyden tower coverage` what it covers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden tower add 02ab…@tower.example          port 9911 is meant\n  \
    leyden tower add --own 02ab…@10.0.0.2:9911\n\n\
    Without --own the tower may be a stranger's: it gets claims that are signed already and pay your wallet alone, sealed \
    so that it can read them only when it sees the breach. With --own it gets the channels' revocation secrets, and covers \
    all outputs and second stages: whoever has that tower can keep what it takes. Use --own for a machine of yours alone.")]
pub(super) struct Add {
    /// The tower as KEY@HOST:PORT, as `leyden tower info` shows it on the tower's machine
    #[arg(value_name = "KEY@HOST[:PORT]")]
    tower: String,
    /// The tower is yours: give it what it needs to take every output
    #[arg(long)]
    own: bool,
}

impl Add {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let address = connect::address(&self.tower, "leyden tower info")?;
        let client = context.client().await?;
        // For the words alone.
        let before = client.towers().list_towers(ListTowersRequest {}).await.map(tonic::Response::into_inner);
        let before = before.unwrap_or_default().towers.into_iter().find(|tower| tower.pubkey == address.pubkey);
        let request = AddTowerRequest { pubkey: address.pubkey.clone(), address: address.host, own: self.own };
        let answer = client.towers().add_tower(request).await?.into_inner();
        let after = client.towers().list_towers(ListTowersRequest {}).await.map(tonic::Response::into_inner);
        let after = after.unwrap_or_default().towers.into_iter().find(|tower| tower.pubkey == address.pubkey);
        context.show(&answer, || {
            let allow = if self.own { format!("\n\n{}", start_with(&answer.client_pubkey)) } else { String::new() };
            format!(
                "{} `leyden tower list` shows whether it is reached, and `leyden tower coverage` what it covers.{allow}",
                done(before.as_ref(), after.as_ref())
            )
        })
    }
}

/// What adding it has changed.
fn done(before: Option<&TowerInfo>, after: Option<&TowerInfo>) -> String {
    let (Some(before), Some(after)) = (before, after) else { return "The tower is added.".to_owned() };
    let again = if before.active { "" } else { ", and it is used again" };
    match before.address == after.address {
        true if before.active => format!("The tower was there already, at {}.", after.address),
        true => "The tower is used again.".to_owned(),
        false => format!("The tower's address is now {}, and no longer {}{again}.", after.address, before.address),
    }
}

/// How an own tower has to be started, beside everything that it is started with anyway.
fn start_with(client_pubkey: &str) -> String {
    format!(
        "It serves this node in own mode once it allows it. Add this to the tower's command, and leave the rest of it as it \
         is:\n  --tower-allow {client_pubkey}\nAdd `--tower-strangers N` too if it serves others: with --tower-allow alone it \
         takes no new ones."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_a_tower_again_says_what_has_changed() {
        let tower = |address: &str, active| TowerInfo { address: address.to_owned(), active, ..TowerInfo::default() };
        let (here, there) = (tower("10.0.0.2:9911", true), tower("10.0.0.3:9911", true));
        assert_eq!(done(None, Some(&here)), "The tower is added.");
        let moved = done(Some(&here), Some(&there));
        assert!(moved.contains("now 10.0.0.3:9911") && moved.contains("no longer 10.0.0.2:9911"), "{moved}");
        assert!(done(Some(&here), Some(&here)).contains("already"));
        assert!(done(Some(&tower("10.0.0.2:9911", false)), Some(&here)).contains("used again"));
    }

    #[test]
    fn an_own_tower_keeps_the_rest_of_its_command() {
        let text = start_with("02ab");
        assert!(text.contains("--tower-allow 02ab") && text.contains("--tower-strangers N"), "{text}");
        assert!(!text.contains("leydend"), "{text}");
    }
}
