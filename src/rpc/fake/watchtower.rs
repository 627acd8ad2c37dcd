//! A watchtower in the middle of a penalty.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint, Txid, hashes::Hash as _};
use leyden_channels::types::{CommitmentNumber, FeeratePerKw, Height};
use leyden_watchtower::{
    appointment::{ChannelName, ChannelTag, ClientId, FundingIndex},
    message::Mode,
    responder::{ClaimReport, ClaimStatus},
    tower::{PenaltyReport, Stats},
};

use super::{Fake, node_id};
use crate::api::*;

pub(crate) const BREACH: [u8; 32] = [7; 32];

fn claim(vout: u32, deadline: Option<Height>, status: ClaimStatus) -> ClaimReport {
    let outpoint = OutPoint { txid: Txid::from_byte_array(BREACH), vout };
    ClaimReport { outpoint, amount: Amount::from_sat(50_000), deadline, status }
}

pub(crate) fn penalty() -> PenaltyReport {
    let txid = Txid::from_byte_array([8; 32]);
    let (fee, feerate) = (Amount::from_sat(900), FeeratePerKw(2_500));
    PenaltyReport {
        client: ClientId::from(node_id()),
        channel: ChannelName { tag: ChannelTag([3; 16]), funding: FundingIndex(0) },
        mode: Mode::Blind,
        number: CommitmentNumber(42),
        txid: Txid::from_byte_array(BREACH),
        height: Some(Height(200)),
        claims: vec![
            claim(0, Some(Height(344)), ClaimStatus::Broadcast { txid, fee, feerate }),
            claim(1, None, ClaimStatus::Waiting),
            claim(2, Some(Height(203)), ClaimStatus::Spent { txid, ours: true, height: Height(202) }),
        ],
    }
}

#[async_trait]
impl Watchtower for Fake {
    fn info(&self) -> WatchtowerInfo {
        let listen = "127.0.0.1:9911".parse().unwrap();
        WatchtowerInfo { key: node_id(), listen, addresses: vec![listen], allowed: 1, strangers: 10_000 }
    }

    async fn stats(&self) -> Result<WatchtowerStats, ApiError> {
        let stats = Stats { clients: 2, channels: 3, states: 1_000_000, bytes: 232_000_000, ..Stats::default() };
        self.answer(WatchtowerStats {
            tip: Some(Height(201)),
            stats,
            connected: 1,
            penalties: vec![penalty()],
            broken: Vec::new(),
        })
    }
}
