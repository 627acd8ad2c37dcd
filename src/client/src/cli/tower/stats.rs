//! `leyden tower stats`: how many backups the node's towers hold, what the one that it runs guards, and which penalties are on
//! their way.

use clap::Args;
use leyden_proto::{
    leyden::{GetTowerStatsRequest, TowerClaim, TowerPenalty, TowerStats, tower_claim::State, tower_penalty::Mode},
    wtclientrpc::{StatsRequest, StatsResponse},
};
use prost::{Message, Name};
use serde_json::{Value, json};
use tonic::{Code, Response, Status};

use super::{
    super::{CliError, Context, amount, json, table},
    sight::Sight,
};

/// Show what this node's watchtowers hold, and what the one that it runs (leydend --tower) guards for others, with each breach
/// whose penalties are not final.
#[derive(Debug, Args)]
pub(super) struct Stats {}

impl Stats {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        // Each is absent on a node that is only the other: a tower alone has no wallet, and most nodes run no tower.
        let (guarded, guards) = (
            absent(client.watchtower_client().stats(StatsRequest {}).await)?,
            absent(client.tower().get_tower_stats(GetTowerStatsRequest {}).await)?,
        );
        // Only a tower has to see every block.
        let sight = match &guards {
            Some(_) => Some(Sight::of(&client).await?),
            None => None,
        };
        let chain = sight.as_ref().map(Sight::value).transpose()?;
        let value = json!({ "client": value(guarded.as_ref())?, "tower": value(guards.as_ref())?, "chain": chain });
        context.show_value(&value, || {
            let guarded = guarded.as_ref().map(by_towers);
            let guards = guards.as_ref().zip(sight.as_ref()).map(|(stats, sight)| for_people(stats, sight));
            guarded.into_iter().chain(guards).collect::<Vec<_>>().join("\n\n")
        })?;
        match guarded.is_none() && guards.is_none() {
            true => Err(CliError::Failed("no wallet is open, and no watchtower runs (`leydend --tower`)".to_owned())),
            false => Ok(()),
        }
    }
}

fn absent<T>(answer: Result<Response<T>, Status>) -> Result<Option<T>, Status> {
    match answer {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) if status.code() == Code::FailedPrecondition || is_absent(&status) => Ok(None),
        Err(status) => Err(status),
    }
}

/// LND's words for what is not there yet, or not at all, which have no code of their own.
fn is_absent(status: &Status) -> bool {
    let words = ["wallet locked", "wallet not created", "watchtower not active"];
    status.code() == Code::Unknown && words.iter().any(|words| status.message().starts_with(words))
}

fn value<M: Message + Name>(message: Option<&M>) -> Result<Value, CliError> {
    message.map_or(Ok(Value::Null), json::value)
}

fn by_towers(stats: &StatsResponse) -> String {
    table::facts([
        ("backups that towers hold", stats.num_backups.to_string()),
        ("backups that wait for them", stats.num_pending_backups.to_string()),
        ("failed since the start", stats.num_failed_backups.to_string()),
        ("sessions granted since the start", stats.num_sessions_acquired.to_string()),
        ("sessions that are full", stats.num_sessions_exhausted.to_string()),
    ])
}

fn for_people(stats: &TowerStats, sight: &Sight) -> String {
    let count = |number: u64| amount::grouped(i64::try_from(number).unwrap_or(i64::MAX));
    let facts = [
        ("blocks looked at, up to", count(stats.height.into())),
        ("clients", format!("{}, {} connected", count(stats.clients), count(stats.connected_clients))),
        ("clients on the allow list", count(stats.allowed_clients)),
        ("most other clients", count(stats.max_other_clients)),
        ("channels guarded", count(stats.channels)),
        ("revoked states held", count(stats.states)),
        ("bytes", count(stats.bytes)),
        ("breaches being answered", count(stats.penalties.len() as u64)),
    ];
    let facts = table::facts(facts.into_iter().chain(sight.facts())) + &sight.warning();
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
        State::Broadcast => format!("{} broadcast", claim.txid),
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
