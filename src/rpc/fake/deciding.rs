//! Programs that decide.

use leyden_channels::{
    channel::ChannelType,
    switch::{HtlcRef, InterceptedHtlc},
    types::{CltvExpiry, CommitmentType, FeeratePerKw, HtlcId, ShortChannelId},
    wire::{OnionRoutingPacket, tlv::RawRecord},
};

use super::*;

pub(crate) fn question() -> ChannelQuestion {
    ChannelQuestion {
        node_id: node_id(),
        chain: bitcoin::constants::ChainHash::using_genesis_block(Network::Regtest),
        id: ChannelId([7; 32]),
        capacity: Amount::from_sat(1_000_000),
        push: Msat(5),
        dust_limit: Amount::from_sat(354),
        max_in_flight: Msat(6),
        reserve: Amount::from_sat(10_000),
        htlc_minimum: Msat(1),
        feerate: FeeratePerKw(1_000),
        delay: 144,
        max_htlcs: 483,
        flags: 1,
        channel_type: ChannelType { commitment: CommitmentType::Anchors, scid_alias: true, zero_conf: false },
    }
}

pub(crate) fn intercepted() -> InterceptedHtlc {
    InterceptedHtlc {
        incoming: HtlcRef { channel: ChannelId([1; 32]), id: HtlcId(3) },
        incoming_channel: ShortChannelId(77),
        incoming_amount: Msat(1_100),
        incoming_expiry: CltvExpiry(500),
        payment_hash: PaymentPreimage([9; 32]).hash(),
        outgoing_channel: ShortChannelId(88),
        outgoing_amount: Msat(1_000),
        outgoing_expiry: CltvExpiry(460),
        custom_records: vec![RawRecord { kind: 65_537, value: vec![7] }],
        next: OnionRoutingPacket(Box::new([4; OnionRoutingPacket::LEN])),
        auto_fail: Height(481),
    }
}

#[async_trait]
impl Deciding for Fake {
    async fn accept_channels(&self, mut answers: Updates<ChannelAnswer>) -> Result<Updates<ChannelQuestion>, ApiError> {
        let first = answers.next().await;
        let questions = self.updates(vec![question()]);
        self.asked(first, questions)
    }

    async fn intercept(&self, mut answers: Updates<InterceptionAnswer>) -> Result<Updates<InterceptedHtlc>, ApiError> {
        let first = answers.next().await;
        let questions = self.updates(vec![intercepted()]);
        self.asked(first, questions)
    }
}
