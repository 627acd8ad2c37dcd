//! The channels that are over, as ClosedChannels tells them, piece by piece.

use bitcoin::{BlockHash, OutPoint, Txid, hashes::Hash as _};

use super::{channels, closings, put_name, put_outpoint, scid, signed};
use crate::{
    api::{ClosedChannel, ResolvedOutput},
    parallel,
    rpc::long::{
        Pieces,
        wire::{Length, Message, Sink},
    },
};

/// `lnrpc.ClosedChannelsResponse`.
pub(crate) struct ClosedPieces {
    channels: Vec<ClosedChannel>,
    genesis: BlockHash,
    given: usize,
}

impl ClosedPieces {
    pub(crate) fn new(channels: Vec<ClosedChannel>, genesis: BlockHash) -> Self {
        Self { channels, genesis, given: 0 }
    }
}

const CHANNELS: u32 = 1;

impl Pieces for ClosedPieces {
    fn length(&self) -> usize {
        let Self { channels, genesis, .. } = self;
        parallel::sum(channels, |channel| Length::of(CHANNELS, &Closed { channel, genesis: *genesis }))
    }

    fn append(&mut self, bytes: &mut Vec<u8>, enough: usize) -> bool {
        while bytes.len() < enough {
            let Some(channel) = self.channels.get(self.given) else { return false };
            bytes.message(CHANNELS, &Closed { channel, genesis: self.genesis });
            self.given += 1;
        }
        true
    }
}

/// `lnrpc.ChannelCloseSummary`.
struct Closed<'a> {
    channel: &'a ClosedChannel,
    genesis: BlockHash,
}

impl Message for Closed<'_> {
    fn put<T: Sink>(&self, to: &mut T) {
        let Self { channel, genesis } = self;
        put_outpoint(to, 1, &channel.funding);
        to.uint(2, scid(channel.short_channel_id));
        put_name(to, 3, genesis.to_byte_array());
        put_name(to, 4, channel.closing_txid.unwrap_or(Txid::all_zeros()).to_byte_array());
        to.hex(5, &channel.node_id.0);
        to.int(6, signed(channel.capacity));
        to.uint(7, channel.height.0.into());
        to.int(8, channel.settled.map_or(channels::UNKNOWN_AMOUNT, signed));
        to.int(9, signed(channel.time_locked));
        to.int(10, channels::closure(channel.closure) as i64);
        to.int(11, channels::initiator(Some(channel.opener)) as i64);
        to.int(12, channels::initiator(channel.closer) as i64);
        channel.outputs.iter().for_each(|output| to.message(13, &Resolution(output)));
    }
}

/// `lnrpc.Resolution`.
struct Resolution<'a>(&'a ResolvedOutput);

impl Message for Resolution<'_> {
    fn put<T: Sink>(&self, to: &mut T) {
        let Self(output) = self;
        to.int(1, closings::resolution_type(output.kind) as i64);
        to.int(2, closings::outcome(output) as i64);
        to.message(3, &Place(&output.outpoint));
        to.uint(4, output.amount.to_sat());
        if let Some((txid, _)) = output.spent {
            put_name(to, 5, txid.to_byte_array());
        }
    }
}

/// `lnrpc.OutPoint`.
struct Place<'a>(&'a OutPoint);

impl Message for Place<'_> {
    fn put<T: Sink>(&self, to: &mut T) {
        let Self(OutPoint { txid, vout }) = self;
        let name = txid.to_byte_array();
        to.bytes(1, &name);
        put_name(to, 2, name);
        to.uint(3, u64::from(*vout));
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Amount;
    use leyden_channels::types::{Height, NodeId, ShortChannelId, Side};
    use leyden_proto::lnrpc;
    use prost::Message as _;

    use super::*;
    use crate::api::{ClosureType, ResolvedKind};

    const CLOSURES: [ClosureType; 6] = [
        ClosureType::Cooperative,
        ClosureType::LocalForce,
        ClosureType::RemoteForce,
        ClosureType::Breach,
        ClosureType::FundingCanceled,
        ClosureType::Abandoned,
    ];

    fn outpoint(number: u32) -> OutPoint {
        OutPoint { txid: Txid::from_byte_array([number as u8 | 1; 32]), vout: number }
    }

    /// Every end that an output can have.
    fn outputs() -> Vec<ResolvedOutput> {
        let kinds = [ResolvedKind::Commitment, ResolvedKind::IncomingHtlc, ResolvedKind::OutgoingHtlc];
        let ends = [None, Some(true), Some(false)].into_iter().flat_map(|end| [(end, false), (end, true)]);
        let each = kinds.into_iter().flat_map(|kind| ends.clone().map(move |end| (kind, end)));
        let output =
            |(number, (kind, (end, first_stage))): (u32, (ResolvedKind, (Option<bool>, bool)))| ResolvedOutput {
                outpoint: outpoint(number),
                amount: Amount::from_sat(u64::from(number) * 1_000),
                what: "told elsewhere".to_owned(),
                kind,
                spent: end.map(|ours| (outpoint(number + 7).txid, ours)),
                first_stage,
            };
        (0..).zip(each).map(output).collect()
    }

    fn nothing_said() -> ClosedChannel {
        ClosedChannel {
            node_id: NodeId([3; 33]),
            funding: outpoint(0),
            short_channel_id: None,
            capacity: Amount::ZERO,
            closing_txid: None,
            height: Height(0),
            settled: Some(Amount::ZERO),
            time_locked: Amount::ZERO,
            closure: ClosureType::Cooperative,
            opener: Side::Local,
            closer: None,
            reason: String::new(),
            fees: Amount::ZERO,
            outputs: Vec::new(),
        }
    }

    fn all_said(closure: ClosureType) -> ClosedChannel {
        ClosedChannel {
            node_id: NodeId([0xfe; 33]),
            funding: outpoint(u32::MAX),
            short_channel_id: Some(ShortChannelId(u64::MAX)),
            capacity: Amount::from_sat(u64::MAX),
            closing_txid: Some(outpoint(9).txid),
            height: Height(u32::MAX),
            settled: None,
            time_locked: Amount::from_sat(128),
            closure,
            opener: Side::Remote,
            closer: Some(Side::Remote),
            reason: "told elsewhere".to_owned(),
            fees: Amount::from_sat(1),
            outputs: outputs(),
        }
    }

    #[test]
    fn closed_channels_in_pieces_are_the_closed_channels_in_one() {
        let every_end: Vec<_> = CLOSURES.into_iter().map(all_said).chain([nothing_said()]).collect();
        // So many that several threads count them.
        let many = every_end.iter().cycle().take(2_003).cloned().collect();
        for channels in [Vec::new(), vec![nothing_said()], every_end, many] {
            let genesis = BlockHash::from_byte_array([0x0f; 32]);
            let expected = lnrpc::ClosedChannelsResponse {
                channels: channels.iter().map(|channel| super::channels::closed_channel(channel, genesis)).collect(),
            };
            for enough in [1, 1_000, usize::MAX] {
                let mut pieces = ClosedPieces::new(channels.clone(), genesis);
                let (length, mut all) = (pieces.length(), Vec::new());
                loop {
                    let mut piece = Vec::new();
                    let more = pieces.append(&mut piece, enough);
                    all.extend(piece);
                    if !more {
                        break;
                    }
                }
                assert_eq!(length, all.len());
                assert!(all == expected.encode_to_vec(), "other bytes than protobuf's");
            }
        }
    }
}
