//! Why nothing is quoted.

use super::{
    book::{MAX_INVOICE_BYTES, MAX_UNDER_WAY, MAX_WAITING},
    margins::MOST_HOLD_BLOCKS,
    state::Outcome,
};
use crate::types::Msat;

/// Why a crossing is not begun. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum Refusal {
    #[error(
        "no rate is set for payments from that network to this one: the owner of this node sets it with `leyden swap rate`"
    )]
    NoRate,
    #[error("the {0} network cannot be asked at the moment, or it is not known how far its chain is: try again later")]
    Away(&'static str),
    #[error("this is an invoice of this owner's own node: it can be paid on its own network, for nothing")]
    OwnInvoice,
    #[error("the invoice is longer than {MAX_INVOICE_BYTES} bytes")]
    TooLong,
    #[error("the invoice asks for {asked}, not for {given}")]
    OtherAmount { asked: Msat, given: Msat },
    #[error("the invoice leaves the amount open: say how much the payee is to get")]
    NoAmount,
    #[error("{amount} is more than the {most} that are paid at once: ask the payee for several invoices")]
    TooMuch { amount: Msat, most: Msat },
    #[error("{amount} is too little to be claimed on the chain if it has to be: at least {least} cross")]
    TooLittle { amount: Msat, least: Msat },
    #[error("{held} are under way already, and at most {most} may be: try again in some minutes")]
    TooMuchHeld { held: Msat, most: Msat },
    #[error("the invoice expires too soon to be paid through another network: ask the payee for a new one")]
    ExpiresSoon,
    #[error(
        "the payer's network would have to hold the payment for {} blocks so that the payee's has its time, and at most \
         {MOST_HOLD_BLOCKS} are asked for: these two networks' blocks lie too far apart, or the invoice asks for too many blocks",
        .blocks.map_or_else(|| "countless".to_owned(), |blocks| blocks.to_string())
    )]
    Clocks { blocks: Option<u32> },
    #[error("a payment with this invoice's hash is known already: ask the payee for another invoice")]
    Known,
    #[error("this invoice has crossed, or tried to: {0}. Ask the payee for another one")]
    Ended(Outcome),
    #[error("{MAX_WAITING} quotes wait to be paid already: try again in some minutes")]
    TooManyWaiting,
    #[error("{MAX_UNDER_WAY} payments are under way already: try again in some minutes")]
    TooManyUnderWay,
}
