//! One swap that was quoted, and a chain of one block.

use async_trait::async_trait;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Transaction, absolute::LockTime, constants::ChainHash, secp256k1::SecretKey,
    transaction::Version,
};
use leyden_channels::{
    payment::InvoiceNetwork,
    swap::{
        Acceptance, Chain, Leg, Request, Start, Swap, SwapKeys, Tip, Trade, margins,
        submarine::{self, Direction, Submarine},
    },
    types::{FeeratePerKw, Height, Msat, PaymentHash, PaymentPreimage, UnixTime},
};

use super::Fake;
use crate::{api::*, driver::swaps::BlockClock};

struct Keys;

impl SwapKeys for Keys {
    fn secret(&self, nonce: &[u8; 32]) -> PaymentPreimage {
        PaymentPreimage(*nonce)
    }

    fn key(&self, _hash: &PaymentHash, leg: Leg) -> SecretKey {
        SecretKey::from_slice(&[1 + leg as u8; 32]).unwrap()
    }
}

const NORTH: Chain = Chain { hash: ChainHash::REGTEST, spacing: 600 };
const TIP: Tip = Tip { height: Height(7), hash: [3; 32], median_time: UnixTime(1_700_000_000) };

/// The initiator's side of one coin for ten.
pub(crate) fn swap() -> Swap {
    let coin = Amount::from_sat(100_000_000);
    let trade = Trade {
        give: coin,
        give_on: NORTH,
        get: coin * 10,
        get_on: Chain { hash: ChainHash::SIGNET, spacing: 600 },
        outer_seconds: margins::OUTER_SECONDS,
        inner_seconds: margins::INNER_SECONDS,
    };
    let start = || Start { destination: ScriptBuf::new(), tip: TIP, spacing: 0 };
    let request = Request {
        nonce: [7; 32],
        by_hand: false,
        depth: 6,
        max_lock_fee: Amount::from_sat(10_000),
        outer: start(),
        inner: start(),
    };
    Swap::quote(trade, request, UnixTime(1_700_000_000), &Keys).unwrap().0
}

/// What somebody could answer to it.
pub(crate) fn acceptance() -> Acceptance {
    let key = SecretKey::from_slice(&[9; 32]).unwrap().public_key(bitcoin::secp256k1::SECP256K1);
    Acceptance { offer: swap().offer().digest(), redeem_key: key, refund_key: key }
}

fn info() -> SwapInfo {
    SwapInfo::Atomic {
        swap: Box::new(swap()),
        give_on: "north".to_owned(),
        get_on: "south".to_owned(),
        warnings: vec!["wait".to_owned()],
    }
}

/// The initiator's side of a swap out.
pub(crate) fn submarine() -> Submarine {
    let bargain = submarine::Bargain {
        direction: Direction::Out,
        coins: Amount::from_sat(1_000_000),
        payment: Msat(1_001_000_000),
        chain: NORTH,
        span: submarine::Span::One { refund_blocks: None },
    };
    let request = submarine::Request {
        nonce: [8; 32],
        depth: 6,
        max_lock_fee: Amount::from_sat(10_000),
        max_route_fee: Msat(5_000),
        start: Start { destination: ScriptBuf::new(), tip: TIP, spacing: 0 },
        network: InvoiceNetwork::Regtest,
        payment: submarine::PaymentChain { tip: TIP.height, measured: 0, is_current: true },
    };
    Submarine::quote(&bargain, String::new(), request, UnixTime(1_700_000_000), &Keys).unwrap().0
}

fn submarine_info() -> SwapInfo {
    let clock = BlockClock { tip: Height(7), now: UnixTime(1_700_000_000), spacing: 600 };
    let facts = SubmarineFacts { route_fee: Some(Msat(7_500)), clock: Some(clock) };
    let warnings = vec!["wait".to_owned()];
    let (coins_on, payment_on) = ("north".to_owned(), "north".to_owned());
    SwapInfo::Submarine { swap: Box::new(submarine()), coins_on, payment_on, facts, warnings }
}

/// One that spends nothing known.
pub(crate) fn transaction() -> Transaction {
    let output = bitcoin::TxOut { value: Amount::from_sat(5), script_pubkey: ScriptBuf::new() };
    let input = vec![bitcoin::TxIn::default()];
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output: vec![output] }
}

#[async_trait]
impl Swaps for Fake {
    async fn quote_swap(&self, request: QuoteSwap) -> Result<SwapInfo, ApiError> {
        self.asked(request, info())
    }

    async fn accept_swap(&self, request: AcceptSwap) -> Result<SwapInfo, ApiError> {
        self.asked(request, info())
    }

    async fn initiate_swap(&self, acceptance: Acceptance) -> Result<SwapInfo, ApiError> {
        self.asked(acceptance, info())
    }

    async fn quote_submarine(&self, request: QuoteSubmarine) -> Result<SwapInfo, ApiError> {
        self.asked(request, submarine_info())
    }

    async fn accept_submarine(&self, request: AcceptSubmarine) -> Result<SwapInfo, ApiError> {
        self.asked(request, submarine_info())
    }

    async fn initiate_submarine(&self, acceptance: submarine::Acceptance) -> Result<SwapInfo, ApiError> {
        self.asked(acceptance, submarine_info())
    }

    async fn order_swap(&self, id: PaymentHash, order: SwapOrder) -> Result<SwapInfo, ApiError> {
        self.asked((id, order), info())
    }

    async fn swaps(&self) -> Result<Vec<SwapInfo>, ApiError> {
        self.answer(vec![info(), submarine_info()])
    }

    async fn subscribe_swaps(&self) -> Result<Updates<SwapInfo>, ApiError> {
        let update: Updates<SwapInfo> = Box::pin(tokio_stream::once(Ok(info())));
        self.answer(update)
    }

    async fn reclaim_swap(&self, request: ReclaimSwap) -> Result<Transaction, ApiError> {
        self.asked(request, transaction())
    }

    async fn swap_chain_status(&self) -> Result<SwapChainStatus, ApiError> {
        self.answer(SwapChainStatus {
            network: "north".to_owned(),
            chain: NORTH,
            tip: TIP,
            is_current: true,
            feerates: vec![(6, FeeratePerKw(253))],
            spacing: 600,
            is_pruned: true,
            confirmed: Amount::from_sat(5),
        })
    }

    async fn swap_block(&self, height: Height) -> Result<Option<SwapBlock>, ApiError> {
        self.asked(height, Some(SwapBlock { tip: TIP, previous: [2; 32], transactions: Vec::new() }))
    }

    async fn swap_spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, ApiError> {
        self.asked(outpoint, Some(transaction()))
    }

    async fn swap_waiting(&self, script: ScriptBuf) -> Result<Option<Transaction>, ApiError> {
        self.asked(script, Some(transaction()))
    }

    async fn swap_script(&self) -> Result<ScriptBuf, ApiError> {
        self.answer(ScriptBuf::new())
    }

    async fn swap_fund(&self, request: FundSwap) -> Result<(Transaction, Amount), ApiError> {
        self.asked(request, (transaction(), Amount::from_sat(200)))
    }

    async fn swap_release(&self, transaction: Transaction) -> Result<(), ApiError> {
        self.asked(transaction, ())
    }

    async fn swap_recall(&self, request: RecallSwap) -> Result<(), ApiError> {
        self.asked(request, ())
    }

    async fn swap_broadcast(&self, transaction: Transaction) -> Result<(), ApiError> {
        self.asked(transaction, ())
    }
}
