//! The record of a closed channel, as the API shows it.

use crate::{api, store};

impl From<store::ClosedChannel> for api::ClosedChannel {
    fn from(channel: store::ClosedChannel) -> Self {
        Self {
            node_id: channel.node_id,
            funding: channel.funding,
            short_channel_id: channel.short_channel_id,
            capacity: channel.capacity,
            closing_txid: channel.closing_txid,
            height: channel.height,
            settled: channel.settled,
            time_locked: channel.time_locked,
            closure: match channel.closure {
                store::ClosureType::Cooperative => api::ClosureType::Cooperative,
                store::ClosureType::LocalForce => api::ClosureType::LocalForce,
                store::ClosureType::RemoteForce => api::ClosureType::RemoteForce,
                store::ClosureType::Breach => api::ClosureType::Breach,
                store::ClosureType::FundingCanceled => api::ClosureType::FundingCanceled,
                store::ClosureType::Abandoned => api::ClosureType::Abandoned,
            },
            opener: channel.opener,
            closer: channel.closer,
            reason: channel.reason,
            fees: channel.fees,
            outputs: channel.outputs.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<store::ResolvedOutput> for api::ResolvedOutput {
    fn from(output: store::ResolvedOutput) -> Self {
        Self {
            outpoint: output.outpoint,
            amount: output.amount,
            what: output.what,
            kind: match output.kind {
                store::ResolvedKind::Commitment => api::ResolvedKind::Commitment,
                store::ResolvedKind::IncomingHtlc => api::ResolvedKind::IncomingHtlc,
                store::ResolvedKind::OutgoingHtlc => api::ResolvedKind::OutgoingHtlc,
            },
            spent: output.spent,
            first_stage: output.first_stage,
        }
    }
}
