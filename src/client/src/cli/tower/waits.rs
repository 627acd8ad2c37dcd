//! Channels whose payments wait for watchtowers (`leydend --tower-require`).

use leyden_proto::leyden::{ChannelCoverage, ListCoverageRequest};

use super::super::format;
use crate::client::Client;

/// A sentence for each such channel; none where the call is not allowed.
pub(crate) async fn of(client: &Client) -> Vec<String> {
    let answer = client.towers().list_coverage(ListCoverageRequest::default()).await;
    let channels = answer.map(|answer| answer.into_inner().channels).unwrap_or_default();
    channels.iter().filter_map(sentence).collect()
}

/// For whom the payments of a channel wait, and why; `None` if they do not.
pub(crate) fn sentence(channel: &ChannelCoverage) -> Option<String> {
    if !channel.payments_wait {
        return None;
    }
    let point = format::short_point(&channel.channel_point);
    let of =
        |tower: &leyden_proto::leyden::TowerCoverage| format!("{} ({})", format::short(&tower.pubkey), tower.why_not);
    let towers: Vec<String> = channel.towers.iter().filter(|tower| tower.waited_for).map(of).collect();
    Some(match towers.as_slice() {
        [] => format!("payments of channel {point} wait: fewer watchtowers are in use than --tower-require asks for"),
        [tower] => format!("payments of channel {point} wait for watchtower {tower}"),
        [_, ..] => format!("payments of channel {point} wait for watchtowers {}", towers.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use leyden_proto::leyden::TowerCoverage;

    use super::*;

    #[test]
    fn a_channel_that_waits_names_the_tower_that_it_waits_for() {
        let tower = |key: &str, waited_for| TowerCoverage {
            pubkey: key.repeat(33),
            waited_for,
            why_not: "nobody answers".to_owned(),
            ..TowerCoverage::default()
        };
        let mut channel = ChannelCoverage {
            channel_point: format!("{}:1", "cd".repeat(32)),
            towers: vec![tower("02", false), tower("03", true)],
            ..ChannelCoverage::default()
        };
        assert_eq!(sentence(&channel), None);
        channel.payments_wait = true;
        let text = sentence(&channel).unwrap();
        assert_eq!(text, "payments of channel cdcdcdcdcdcd…:1 wait for watchtower 030303030303… (nobody answers)");
        channel.towers.clear();
        assert!(sentence(&channel).unwrap().contains("--tower-require"));
    }
}
