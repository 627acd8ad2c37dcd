//! What a node loses with one of its watchtowers.

use leyden_proto::leyden::{ChannelCoverage, ListCoverageRequest, ListTowersRequest, ListTowersResponse};

use crate::client::Client;

/// Looked at before the tower is given up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    required: u32,
    /// Towers that are in use and have kept their word, without it.
    left: usize,
    /// Channels whose revoked states no other tower holds.
    uncovered: usize,
}

impl Loss {
    /// Nothing, where the macaroon does not allow to ask.
    pub(super) async fn of(client: &Client, key: &str) -> Self {
        let towers = client.towers().list_towers(ListTowersRequest {}).await;
        let coverage = client.towers().list_coverage(ListCoverageRequest::default()).await;
        match (towers, coverage) {
            (Ok(towers), Ok(coverage)) => Self::without(key, &towers.into_inner(), &coverage.into_inner().channels),
            _ => Self { left: usize::MAX, ..Self::default() },
        }
    }

    fn without(key: &str, towers: &ListTowersResponse, channels: &[ChannelCoverage]) -> Self {
        let counts = |pubkey: &str| {
            let tower = towers.towers.iter().find(|tower| tower.pubkey == pubkey);
            pubkey != key && tower.is_some_and(|tower| tower.active && tower.proof.is_none())
        };
        let left = towers.towers.iter().filter(|tower| counts(&tower.pubkey)).count();
        let held =
            |channel: &ChannelCoverage| channel.towers.iter().any(|tower| tower.complete && counts(&tower.pubkey));
        let uncovered =
            channels.iter().filter(|channel| channel.revoked.is_some() && channel.covered && !held(channel));
        Self { required: towers.required, left, uncovered: uncovered.count() }
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if u32::try_from(self.left).unwrap_or(u32::MAX) < self.required {
            warnings.push(format!(
                "--tower-require is {}, and the watchtowers left are {}: payments wait until there are more (`leyden tower \
                 add`), or leydend is started with a lower number",
                self.required, self.left
            ));
        }
        match (self.left, self.uncovered) {
            (0, _) => warnings.push("no watchtower guards this node now: `leyden tower add` adds one".to_owned()),
            (_, 0) => {}
            (_, channels) => warnings.push(format!(
                "channels that no other watchtower covers whole: {channels}. `leyden tower coverage` shows what the others hold"
            )),
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use leyden_proto::leyden::{TowerCoverage, TowerInfo};

    use super::*;

    #[test]
    fn giving_up_a_tower_says_what_is_lost_with_it() {
        let tower = |key: &str| TowerInfo { pubkey: key.to_owned(), active: true, ..TowerInfo::default() };
        let holds =
            |key: &str, complete| TowerCoverage { pubkey: key.to_owned(), complete, ..TowerCoverage::default() };
        let channel =
            |towers| ChannelCoverage { revoked: Some(5), covered: true, towers, ..ChannelCoverage::default() };
        let list = |towers, required| ListTowersResponse { towers, required };

        let only = Loss::without("02", &list(vec![tower("02")], 1), &[channel(vec![holds("02", true)])]);
        let text = only.warnings().join("\n");
        assert!(text.contains("--tower-require is 1") && text.contains("no watchtower guards"), "{text}");

        let both = list(vec![tower("02"), tower("03")], 1);
        let channels =
            [channel(vec![holds("02", true), holds("03", false)]), channel(vec![holds("02", true), holds("03", true)])];
        let one = Loss::without("02", &both, &channels);
        assert_eq!(one, Loss { required: 1, left: 1, uncovered: 1 });
        assert_eq!(one.warnings().len(), 1);
        assert_eq!(Loss::without("03", &both, &channels).warnings(), Vec::<String>::new());
    }
}
