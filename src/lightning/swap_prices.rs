//! What a submarine swap across two networks gives and gets, if its owner leaves one of the two to the rate that is set
//! (`leyden swap rate`): what is given on one network costs so much on the other, as a payment that crosses does.

use bitcoin::Amount;
use leyden_channels::{crossing::Rate, swap::submarine::Offer, types::Msat};

use super::LightningNode;
use crate::{
    api::{AcceptSubmarine, Amounts, ApiError, CoinsPlace, QuoteSubmarine, SubmarineTerms},
    driver::swaps,
};

/// The share of a payment that its route may cost if nothing else is said: half a percent, as of crossings. The invoice is the
/// other's, and so may be the only route to it: what is allowed is what it takes.
const ROUTE_FEE_SHARE: u64 = 200;

impl LightningNode {
    pub(super) async fn priced_quote(&self, request: QuoteSubmarine) -> Result<swaps::QuoteSubmarine, ApiError> {
        let QuoteSubmarine { direction, amounts, terms, place } = request;
        let coins_on = match &place {
            CoinsPlace::Here { .. } => None,
            CoinsPlace::There { network, .. } => Some(network.as_str()),
        };
        let (coins, payment) = match amounts {
            Amounts::GivesCoins { coins, payment: Some(payment) } | Amounts::Pays { payment, coins: Some(coins) } => {
                (coins, payment)
            }
            Amounts::GivesCoins { coins, payment: None } => {
                let given = Msat::from_sat(coins).ok_or_else(too_much)?;
                // Whole satoshi, rounded up as the price is.
                let payment = whole(self.price(coins_on, true, given).await?)?;
                (coins, Msat::from_sat(payment).ok_or_else(too_much)?)
            }
            Amounts::Pays { payment, coins: None } => (whole(self.price(coins_on, false, payment).await?)?, payment),
        };
        Ok(swaps::QuoteSubmarine { direction, coins, payment, terms: within(terms, payment), place })
    }

    pub(super) async fn priced_accept(&self, request: AcceptSubmarine) -> Result<swaps::AcceptSubmarine, ApiError> {
        let AcceptSubmarine { offer, direction, amounts, coins_on, terms, locked_for } = request;
        let (coins, payment) = match amounts {
            Amounts::GivesCoins { coins, payment: Some(payment) } | Amounts::Pays { payment, coins: Some(coins) } => {
                (coins, payment)
            }
            Amounts::GivesCoins { coins, payment: None } => {
                let given = Msat::from_sat(coins).ok_or_else(too_much)?;
                is_as_good(self.price(coins_on.as_deref(), true, given).await?, offer.payment)?;
                (coins, offer.payment)
            }
            Amounts::Pays { payment, coins: None } => {
                let gets = coins_of(&offer)?;
                is_as_good(self.price(coins_on.as_deref(), false, payment).await?, gets)?;
                (offer.coins, payment)
            }
        };
        let terms = within(terms, payment);
        Ok(swaps::AcceptSubmarine { offer, direction, coins, payment, coins_on, terms, locked_for })
    }

    /// What this node's owner asks for what is given: coins of the network of that name, or a payment on this one.
    async fn price(&self, coins_on: Option<&str>, gives_coins: bool, given: Msat) -> Result<Msat, ApiError> {
        let own = self.services().node.params().name.as_str();
        let coins_on = coins_on.unwrap_or(own);
        let (incoming, outgoing) = if gives_coins { (own, coins_on) } else { (coins_on, own) };
        let rates = self.crossings.rates().await.map_err(|error| ApiError::unavailable(error.to_string()))?;
        let is_it = |rate: &&crate::driver::crossing::RateView| rate.incoming == incoming && rate.outgoing == outgoing;
        let Some(rate) = rates.iter().find(is_it) else {
            return Err(ApiError::precondition(format!(
                "no rate is set here for {incoming} against {outgoing}: say what you get, or set one with `leyden --network {own} swap \
                 rate {incoming}/{outgoing} …`"
            )));
        };
        price_at(&rate.rate, rate.held, given)
    }
}

/// `held` is under way at the rate already.
fn price_at(rate: &Rate, held: Msat, given: Msat) -> Result<Msat, ApiError> {
    if given > rate.most {
        let most = rate.most;
        return Err(ApiError::precondition(format!("{given} are more than the {most} that the rate is set for")));
    }
    let Rate { most_held, .. } = *rate;
    if held.checked_add(given).is_none_or(|all| all > most_held) {
        return Err(ApiError::precondition(format!(
            "{held} are under way at this rate, and at most {most_held} may be: wait until some of it has ended, or say what you get"
        )));
    }
    rate.price(given).ok_or_else(too_much)
}

/// Whole satoshi, not less than this.
fn whole(price: Msat) -> Result<Amount, ApiError> {
    price.0.checked_add(999).map(|price| Amount::from_sat(price / 1_000)).ok_or_else(too_much)
}

fn coins_of(offer: &Offer) -> Result<Msat, ApiError> {
    Msat::from_sat(offer.coins).ok_or_else(too_much)
}

fn is_as_good(price: Msat, offered: Msat) -> Result<(), ApiError> {
    if offered >= price {
        return Ok(());
    }
    Err(ApiError::precondition(format!(
        "the offer gives {offered}, and {price} is what your rate asks: nothing was accepted"
    )))
}

fn within(terms: SubmarineTerms, payment: Msat) -> swaps::SubmarineTerms {
    let SubmarineTerms { depth, max_lock_fee, max_route_fee } = terms;
    swaps::SubmarineTerms {
        depth,
        max_lock_fee,
        max_route_fee: max_route_fee.unwrap_or(Msat(payment.0 / ROUTE_FEE_SHARE)),
    }
}

fn too_much() -> ApiError {
    ApiError::precondition("that is more than there are coins".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate() -> Rate {
        Rate {
            take: 1,
            give: 10,
            base_fee: Msat(1_000),
            fee_ppm: 5_000,
            most: Msat(1_000_000_000),
            most_held: Msat(2_000_000_000),
            route_fee_ppm: 5_000,
        }
    }

    #[test]
    fn no_more_is_under_way_at_a_rate_than_its_owner_allows() {
        let (most, given) = (rate().most_held, Msat(1_000_000_000));
        let held = Msat(most.0 - given.0);
        assert!(price_at(&rate(), held, given).is_ok());
        let refused = price_at(&rate(), Msat(held.0 + 1), given).unwrap_err();
        assert!(refused.to_string().contains("are under way at this rate"), "{refused}");
        assert!(price_at(&rate(), Msat(u64::MAX), given).is_err());
    }

    #[test]
    fn what_is_given_costs_what_the_rate_says_and_never_less() {
        // A tenth of it, half a percent more, and a satoshi.
        let price = price_at(&rate(), Msat::ZERO, Msat(1_000_000_000)).unwrap();
        assert_eq!((price, whole(price).unwrap()), (Msat(100_501_000), Amount::from_sat(100_501)));
        assert_eq!(whole(Msat(100_501_001)).unwrap(), Amount::from_sat(100_502));
        assert!(price_at(&rate(), Msat::ZERO, Msat(1_000_000_001)).is_err(), "more than the rate is for");
        assert!(is_as_good(price, price).is_ok() && is_as_good(price, Msat(price.0 + 1)).is_ok());
        assert!(is_as_good(price, Msat(price.0 - 1)).is_err());
    }
}
