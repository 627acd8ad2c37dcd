//! `leyden tower stats`: what the watchtower guards, and which penalties are on their way.

use clap::Args;
use leyden_proto::leyden::{
    GetTowerStatsRequest, TowerClaim, TowerPenalty, TowerStats, tower_claim::State, tower_penalty::Mode,
};

use super::super::{CliError, Context, amount, table};

/// Show what the watchtower holds, and each breach whose penalties are not final.
#[derive(Debug, Args)]
pub(super) struct Stats {}

impl Stats {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let stats = context.client().await?.tower().get_tower_stats(GetTowerStatsRequest {}).await?.into_inner();
        context.show(&stats, || for_people(&stats))
    }
}

fn for_people(stats: &TowerStats) -> String {
    let count = |number: u64| amount::grouped(i64::try_from(number).unwrap_or(i64::MAX));
    let facts = table::facts([
        ("block", count(stats.height.into())),
        ("clients", format!("{}, {} connected", count(stats.clients), count(stats.connected_clients))),
        (
            "room",
            format!("{} clients by name, {} others", count(stats.allowed_clients), count(stats.max_other_clients)),
        ),
        ("channels", count(stats.channels)),
        ("states", count(stats.states)),
        ("bytes", count(stats.bytes)),
        ("breaches", count(stats.penalties.len() as u64)),
    ]);
    let penalties = stats.penalties.iter().map(penalty);
    let broken = stats.broken.iter().map(|text| format!("Cannot be guarded any more, report this: {text}"));
    std::iter::once(facts).chain(penalties).chain(broken).collect::<Vec<_>>().join("\n\n")
}

fn penalty(penalty: &TowerPenalty) -> String {
    let mode = match penalty.mode() {
        Mode::Blind => "blind",
        Mode::Own => "own",
    };
    let place = match penalty.height {
        0 => "in no block now".to_owned(),
        height => format!("in block {height}"),
    };
    let heading = format!(
        "Client {}, channel {} ({mode}): revoked state {} was published by {}, {place}",
        penalty.client, penalty.channel_tag, penalty.commitment_number, penalty.breach_txid
    );
    let rows = penalty.claims.iter().map(row).collect();
    let claims = table::list(["output", ">sat", ">deadline", "penalty", ">fee"], rows, "Nothing of it can be claimed.");
    format!("{heading}\n{claims}")
}

fn row(claim: &TowerClaim) -> [String; 5] {
    let what = match claim.state() {
        State::Waiting => "waits".to_owned(),
        State::Broadcast => format!("{} on its way", claim.txid),
        State::Claimed => format!("{} in block {}", claim.txid, claim.spent_height),
        State::Lost => format!("lost to {} in block {}", claim.txid, claim.spent_height),
    };
    let or_none = |is_there: bool, text: String| if is_there { text } else { "-".to_owned() };
    [
        claim.outpoint.clone(),
        amount::grouped(claim.amount),
        or_none(claim.deadline > 0, claim.deadline.to_string()),
        what,
        or_none(claim.fee > 0, amount::grouped(claim.fee)),
    ]
}
