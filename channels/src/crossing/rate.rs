//! The owner's price.

use crate::types::Msat;

/// What the owner asks on the incoming network for what is paid on the outgoing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many units of the incoming network ...
    pub take: u64,
    /// ... for so many of the outgoing one.
    pub give: u64,
    /// Added to each price, in millisatoshi of the incoming network.
    pub base_fee: Msat,
    /// Added to each price, in millionths of it.
    pub fee_ppm: u32,
    /// The largest payment, in millisatoshi of the outgoing network.
    pub most: Msat,
    /// The most that may be under way at once, likewise.
    pub most_held: Msat,
    /// What the route to the payee may cost, in millionths of the payment.
    pub route_fee_ppm: u32,
}

/// Why a rate is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum RateError {
    #[error("both numbers of a rate lie between 1 and {MOST_UNITS}")]
    Units,
    #[error("{0} millionths are more than all of it: a fee has at most {MILLION}")]
    Fee(u32),
    #[error("the largest payment is {most}, and {most_held} may be under way at once: that would never be paid")]
    Limits { most: Msat, most_held: Msat },
    #[error("an amount is more than there are coins")]
    TooMuch,
}

/// So large, and no price of an amount that exists overflows.
const MOST_UNITS: u64 = 1_000_000_000_000;
const MILLION: u32 = 1_000_000;
/// 21 million coins.
const ALL_COINS: Msat = Msat(2_100_000_000_000_000_000);

impl Rate {
    /// Whether it can be meant.
    pub fn check(&self) -> Result<(), RateError> {
        let Self { take, give, base_fee, fee_ppm, most, most_held, route_fee_ppm } = *self;
        if [take, give].into_iter().any(|units| !(1..=MOST_UNITS).contains(&units)) {
            return Err(RateError::Units);
        }
        if let Some(fee) = [fee_ppm, route_fee_ppm].into_iter().find(|fee| *fee > MILLION) {
            return Err(RateError::Fee(fee));
        }
        if base_fee > ALL_COINS || most_held > ALL_COINS {
            return Err(RateError::TooMuch);
        }
        if most == Msat::ZERO || most > most_held {
            return Err(RateError::Limits { most, most_held });
        }
        Ok(())
    }

    /// What a payer has to bring for `amount`: the exact price, rounded up to the next millisatoshi. `None` if it is more than
    /// there are coins.
    pub fn price(&self, amount: Msat) -> Option<Msat> {
        let million = u128::from(MILLION);
        // 2^61 times 2^40 times 2^21: below 2^128.
        let exact = u128::from(amount.0) * u128::from(self.take) * (million + u128::from(self.fee_ppm));
        let price = exact.div_ceil(u128::from(self.give) * million);
        let price = Msat(u64::try_from(price).ok()?).checked_add(self.base_fee)?;
        (amount <= ALL_COINS && price <= ALL_COINS).then_some(price)
    }

    /// The most that the routes to the payee may cost.
    pub fn most_route_fee(&self, amount: Msat) -> Msat {
        let fee = u128::from(amount.0) * u128::from(self.route_fee_ppm) / u128::from(MILLION);
        // At most the amount itself.
        Msat(u64::try_from(fee).unwrap_or(amount.0))
    }
}
