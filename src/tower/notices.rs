//! What whoever runs the tower reads in the log.

use leyden_watchtower::tower::Notice;
use tracing::{error, info, warn};

pub(super) fn log(notice: &Notice) {
    match notice {
        Notice::Breach { client, channel, mode, number, txid, height } => warn!(
            %client, channel = %channel.tag, ?mode, state = number.0, %txid, block = height.0,
            "a revoked state was published: the penalties go out"
        ),
        Notice::BreachInMempool { txid } => warn!(
            %txid,
            "a revoked state is in the mempool: its penalties go out as soon as it is in a block"
        ),
        Notice::BreachTakenBack { client, channel, txid } => warn!(
            %client, channel = %channel.tag, %txid,
            "a reorganisation has taken a revoked state back: it is watched for again"
        ),
        Notice::Punished { client, channel } => {
            info!(%client, channel = %channel.tag, "the penalties of a channel are final");
        }
        Notice::Useless { client, channel, number, cause } => warn!(
            %client, channel = %channel.tag, state = number.0, %cause,
            "a backup has the hint of a transaction and is of no use against it"
        ),
        Notice::Closed { client, channel, txid } => {
            info!(%client, channel = %channel.tag, %txid, "a channel was closed by a state that is not revoked");
        }
        Notice::Broken { client, channel, cause } => error!(
            %client, channel = %channel.tag, %cause,
            "a channel cannot be guarded any more: report this; its rows are left as they are"
        ),
        Notice::TermEnded { client } => info!(%client, "a client's term has ended: what was kept for it is deleted"),
    }
}
