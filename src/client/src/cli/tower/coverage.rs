//! `leyden tower coverage`: which states of which channel the towers hold.

use clap::Args;
use leyden_proto::leyden::{ChannelCoverage, ListCoverageRequest, TowerCoverage};

use super::super::{CliError, Context, channel::tree, format, table};

const HEADINGS: [&str; 8] =
    ["channel", ">last revoked", "tower", "~mode", ">from state", ">to state", ">waiting", "complete"];

/// Show which revoked states of each channel each watchtower holds.
///
/// A state is a commitment of the peer that it has revoked, by its number from 0 on. `complete` says that the tower has signed
/// for all of them. The receipts themselves are shown with --json.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden tower coverage\n  \
    leyden tower coverage 4a5e1e4b          one channel; the beginning of its channel point will do\n  \
    leyden tower coverage 4a5e1e4b --json   with the towers' receipts")]
pub(crate) struct Coverage {
    /// The channel point TXID:INDEX, or the beginning of it
    #[arg(value_name = "CHANNEL")]
    channel_point: Option<String>,
}

impl Coverage {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let channel_point = match &self.channel_point {
            Some(wanted) => tree::find(&client, wanted).await?,
            None => String::new(),
        };
        let answer = client.towers().list_coverage(ListCoverageRequest { channel_point }).await?.into_inner();
        context.show(&answer, || {
            let rows = answer.channels.iter().flat_map(rows).collect();
            let none = match answer.channels.is_empty() {
                true => "There is no channel.",
                false => "No watchtower guards this node: `leyden tower add` adds one.",
            };
            let mut text = table::list(HEADINGS, rows, none);
            for channel in &answer.channels {
                for tower in channel.towers.iter().filter(|tower| !tower.complete) {
                    let (point, key) = (format::short_point(&channel.channel_point), format::short(&tower.pubkey));
                    text += &format!("\n{point} at {key}: {}", tower.why_not);
                }
                text += &super::waits::sentence(channel).map(|waits| format!("\n{waits}")).unwrap_or_default();
            }
            text
        })
    }
}

fn rows(channel: &ChannelCoverage) -> Vec<[String; 8]> {
    channel.towers.iter().map(|tower| row(channel, tower)).collect()
}

fn row(channel: &ChannelCoverage, tower: &TowerCoverage) -> [String; 8] {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    [
        format::short_point(&channel.channel_point),
        number(channel.revoked),
        format::short(&tower.pubkey),
        super::whose(tower.own).to_owned(),
        number(tower.first),
        number(tower.up_to),
        tower.waiting.to_string(),
        format::yes_no(tower.complete).to_owned(),
    ]
}

/// What the list of channels says of one, in a word or two; `None` if there are no towers.
pub(crate) fn in_short(channel: &ChannelCoverage) -> Option<String> {
    let waiting = channel.towers.iter().map(|tower| tower.waiting).min()?;
    Some(match (channel.covered, waiting) {
        (true, _) => "covered".to_owned(),
        (false, 0) => "NOT COVERED".to_owned(),
        (false, 1) => "1 state waits".to_owned(),
        (false, waiting) => format!("{waiting} states wait"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_coverage_is_one_line_of_eighty_columns() {
        let tower = TowerCoverage {
            pubkey: "02".repeat(33),
            own: true,
            first: Some(0),
            up_to: Some(1_234_567),
            waiting: 12,
            complete: true,
            ..TowerCoverage::default()
        };
        let channel = ChannelCoverage {
            channel_point: format!("{}:0", "ab".repeat(32)),
            revoked: Some(1_234_567),
            towers: vec![tower.clone(), tower],
            ..ChannelCoverage::default()
        };
        let text = table::within(Some(80), HEADINGS, rows(&channel), "");
        let of_rows: Vec<&str> = text.lines().filter(|line| line.contains("abababababab…:0")).collect();
        assert!(of_rows.len() == 2 && of_rows.iter().all(|line| line.ends_with("yes")), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
