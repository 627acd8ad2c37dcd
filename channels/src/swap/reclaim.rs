//! Coins of a contract of which nothing is left but its script and the seed: after a disk was lost.

use secp256k1::SecretKey;

use super::{
    contract::{Contract, Path},
    event::SwapKeys,
    terms::Leg,
};
use crate::{keys::curve, types::PaymentPreimage};

/// Why a wallet cannot take the coins of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum NotOurs {
    #[error("neither key of this contract follows from this wallet's words")]
    OtherWallet,
    #[error(
        "of this contract this wallet can take the coins with the secret alone: it stands in the transaction of whoever has \
         redeemed the other contract, or in the payment"
    )]
    NeedsSecret,
    #[error("the secret does not have this contract's hash")]
    WrongSecret,
}

/// How the coins of a contract can be taken by a person with these keys: redeemed with a secret, or refunded.
pub fn way_out(
    contract: &Contract,
    keys: &dyn SwapKeys,
    secret: Option<PaymentPreimage>,
) -> Result<(Path, SecretKey), NotOurs> {
    let own = |wanted| {
        let mut all = Leg::ALL.into_iter().map(|leg| keys.key(&contract.hash, leg));
        all.find(|key| curve::public_key(key) == wanted)
    };
    match (own(contract.refund_key), own(contract.redeem_key), secret) {
        (Some(key), _, _) => Ok((Path::Refund, key)),
        (None, Some(_), Some(secret)) if secret.hash() != contract.hash => Err(NotOurs::WrongSecret),
        (None, Some(key), Some(secret)) => Ok((Path::Redeem(secret), key)),
        (None, Some(_), None) => Err(NotOurs::NeedsSecret),
        (None, None, _) => Err(NotOurs::OtherWallet),
    }
}
