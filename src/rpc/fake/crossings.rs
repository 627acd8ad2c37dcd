//! One crossing that waits to be paid.

use async_trait::async_trait;
use bitcoin::constants::ChainHash;
use leyden_channels::{
    crossing::{Crossing, HoldOrder, Incoming, NodeNow, Outgoing, Pair, PayOrder, PaymentRecords, Rate, State},
    payment::InvoiceNetwork,
    swap::Chain,
    types::{CltvExpiry, DirectoryId, Height, Msat, PaymentHash, PaymentPreimage, UnixTime},
};

use super::{Fake, node_id};
use crate::api::*;

fn networks() -> Networks {
    Networks { incoming: "north".to_owned(), outgoing: "south".to_owned() }
}

fn info() -> CrossingInfo {
    let crossing = Crossing {
        hash: PaymentHash([7; 32]),
        pair: Pair { incoming: ChainHash::REGTEST, outgoing: ChainHash::SIGNET },
        invoice: "lnsb2".to_owned(),
        invoice_expires: UnixTime(1_700_003_600),
        final_blocks: 18,
        amount: Msat(10_000),
        price: Msat(1_000),
        most_fee: Msat(100),
        most_parts: 1,
        hold_blocks: 964,
        created: UnixTime(1_700_000_000),
        expires: UnixTime(1_700_000_600),
        request: Some("lnsb1".to_owned()),
        held: None,
        state: State::Waiting,
    };
    CrossingInfo { crossing, networks: networks() }
}

fn rates() -> Vec<CrossingRate> {
    let rate = Rate {
        take: 1,
        give: 10,
        base_fee: Msat(1_000),
        fee_ppm: 5_000,
        most: Msat(1_000_000),
        most_held: Msat(2_000_000),
        route_fee_ppm: 10_000,
    };
    vec![CrossingRate { networks: networks(), rate, held: Msat(0) }]
}

#[async_trait]
impl Crossings for Fake {
    async fn set_crossing_rate(&self, networks: Networks, rate: Option<Rate>) -> Result<Vec<CrossingRate>, ApiError> {
        self.asked((networks, rate), rates())
    }

    async fn crossing_rates(&self) -> Result<Vec<CrossingRate>, ApiError> {
        self.answer(rates())
    }

    async fn cross(&self, request: Cross) -> Result<CrossingInfo, ApiError> {
        self.asked(request, info())
    }

    async fn crossing(&self, hash: PaymentHash) -> Result<CrossingInfo, ApiError> {
        self.asked(hash, info())
    }

    async fn crossings(&self) -> Result<Vec<CrossingInfo>, ApiError> {
        self.answer(vec![info()])
    }

    async fn crossing_status(&self) -> Result<CrossingStatus, ApiError> {
        let now = NodeNow {
            chain: Chain { hash: ChainHash::REGTEST, spacing: 600 },
            measured: 450,
            tip: Height(7),
            is_current: true,
            node_id: node_id(),
            least_claim: Msat(500_000),
            records: PaymentRecords { directory: DirectoryId([3; 32]), count: 12 },
        };
        self.answer(CrossingStatus { network: "north".to_owned(), invoices: InvoiceNetwork::Regtest, now })
    }

    async fn hold_crossing(&self, book: DirectoryId, order: HoldOrder) -> Result<String, ApiError> {
        self.asked((book, order), "lnsb1".to_owned())
    }

    async fn held_crossing(&self, book: DirectoryId, hash: PaymentHash) -> Result<Incoming, ApiError> {
        let held = Incoming::Held { amount: Msat(1_000), expiry: CltvExpiry(971), since: UnixTime(1_700_000_001) };
        self.asked((book, hash), held)
    }

    async fn settle_crossing(&self, book: DirectoryId, preimage: PaymentPreimage) -> Result<(), ApiError> {
        self.asked((book, preimage), ())
    }

    async fn give_up_crossing(&self, book: DirectoryId, hash: PaymentHash) -> Result<(), ApiError> {
        self.asked((book, hash), ())
    }

    async fn pay_crossing(&self, order: PayOrder) -> Result<(), ApiError> {
        self.asked(order, ())
    }

    async fn crossing_payment(&self, hash: PaymentHash) -> Result<Outgoing, ApiError> {
        self.asked(hash, Outgoing::Paid { preimage: PaymentPreimage([9; 32]), fee: Msat(3) })
    }
}
