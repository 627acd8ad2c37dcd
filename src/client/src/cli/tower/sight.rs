//! What a watchtower sees of the chain: one without blocks answers no breach, whatever it holds.

use leyden_proto::leyden::{GetTipRequest, GetTipResponse, ListChainPeersRequest};
use serde_json::{Value, json};

use super::super::{CliError, context::if_allowed, json};
use crate::client::Client;

pub(super) struct Sight {
    /// `None` where the macaroon does not allow to ask.
    tip: Option<GetTipResponse>,
    peers: Option<usize>,
}

impl Sight {
    pub(super) async fn of(client: &Client) -> Result<Self, CliError> {
        let tip = if_allowed(client.chain().get_tip(GetTipRequest {}).await)?;
        let peers = if_allowed(client.chain().list_peers(ListChainPeersRequest {}).await)?;
        Ok(Self { tip, peers: peers.map(|answer| answer.peers.len()) })
    }

    pub(super) fn value(&self) -> Result<Value, CliError> {
        let tip = self.tip.as_ref().map(json::value).transpose()?;
        Ok(json!({ "tip": tip, "num_peers": self.peers }))
    }

    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = Vec::new();
        if let Some(tip) = &self.tip {
            let height = match tip.syncing {
                true => format!("{} (catching up with {})", tip.height, tip.header_height),
                false => tip.height.to_string(),
            };
            facts.push(("height", height));
            facts.push(("synced", if tip.current { "yes".to_owned() } else { format!("no: {}", tip.doubt) }));
        }
        if let Some(peers) = self.peers {
            facts.push(("chain peers", peers.to_string()));
        }
        facts
    }

    /// Below everything else; nothing if the tower sees what happens.
    pub(super) fn warning(&self) -> String {
        let is_current = self.tip.as_ref().is_none_or(|tip| tip.current);
        match (self.peers, is_current) {
            (Some(0), _) => {
                "\n\nWARNING: no chain peer is connected: this tower sees no blocks but those that this machine \
                             mines, and answers no breach in others. Start leydend with --chain-connect HOST:PORT"
                    .to_owned()
            }
            (_, false) => {
                "\n\nWARNING: this tower does not see the chain's newest blocks, and answers no breach in them \
                           until it does"
                    .to_owned()
            }
            (_, true) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tower_that_sees_no_blocks_says_so() {
        let sight = |peers, current| Sight {
            tip: Some(GetTipResponse { height: 7, current, doubt: "no block came".to_owned(), ..Default::default() }),
            peers: Some(peers),
        };
        assert!(sight(0, true).warning().contains("--chain-connect"));
        assert!(sight(1, false).warning().contains("answers no breach"));
        assert_eq!(sight(1, true).warning(), "");
        let facts = sight(2, false).facts();
        let shown = |name: &str| facts.iter().find(|fact| fact.0 == name).map(|fact| fact.1.as_str());
        assert_eq!((shown("height"), shown("chain peers")), (Some("7"), Some("2")));
        assert_eq!(shown("synced"), Some("no: no block came"));
    }
}
