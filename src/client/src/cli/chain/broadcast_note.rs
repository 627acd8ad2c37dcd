//! Where a transaction is that this node has just made.

use leyden_proto::leyden::ListChainPeersRequest;

use crate::client::Client;

/// What can be said of a transaction that this node's mempool has taken: without peers, nobody else has it.
pub(crate) async fn broadcast_note(client: &Client, what: &str) -> String {
    // A macaroon may not allow the question; then nothing is known of it.
    let peers = client.chain().list_peers(ListChainPeersRequest {}).await.ok();
    words(what, peers.is_some_and(|answer| answer.into_inner().peers.is_empty()))
}

fn words(what: &str, is_alone: bool) -> String {
    if is_alone {
        format!(
            "{what} is in this node's own mempool: no other node of the chain is connected, it goes out once one is"
        )
    } else {
        format!("{what} is broadcast")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_been_told_is_not_called_broadcast() {
        assert_eq!(words("the transaction", false), "the transaction is broadcast");
        assert!(!words("the transaction", true).contains("broadcast"));
    }
}
