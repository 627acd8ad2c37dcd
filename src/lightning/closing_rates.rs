//! At which rates a channel is closed together: what the user asks for, within what makes sense for so much money.

use bitcoin::Weight;
use leyden_channels::{channel::ClosingFunds, tx::fee, types::FeeratePerKw};

use crate::api::ApiError;

/// What blocks and mempools ask for.
#[derive(Clone, Copy)]
pub(super) struct Market {
    pub estimate: FeeratePerKw,
    pub relays: FeeratePerKw,
}

/// What somebody has asked for.
#[derive(Clone, Copy, Default)]
pub(super) struct ClosingRates {
    pub proposed: Option<FeeratePerKw>,
    pub most: Option<FeeratePerKw>,
}

/// How much more than we propose the peer may have, if nobody says otherwise: as in LND.
const MOST_OVER_PROPOSED: u32 = 3;

/// The rate that a close is proposed with, and the highest that the peer may move it to. Of what is ours (`funds`, if we
/// pay) an estimate takes half at most; a rate that somebody has asked for is refused if it takes more: nobody means that.
pub(super) fn closing_rates(
    funds: Option<ClosingFunds>,
    wishes: ClosingRates,
    market: Market,
    weight: Weight,
) -> Result<(FeeratePerKw, FeeratePerKw), ApiError> {
    let sane = |feerate| funds.map_or(feerate, |funds| funds.sane_feerate(feerate, market.relays, weight));
    let usual = sane(market.estimate);
    let feerate = wishes.proposed.unwrap_or(usual);
    let cost = fee::fee_for_weight(feerate, weight);
    if let Some(funds) = funds.filter(|funds| feerate > usual && cost > funds.sane()) {
        let (cost, ours, usual) = (cost.to_sat(), funds.opener.to_sat(), per_vbyte(usual));
        return Err(ApiError::invalid(format!(
            "closing at that fee rate costs about {cost} sat, more than half of the {ours} sat that are yours in the channel: \
             choose a lower rate, or none, which is {usual} sat/vB now"
        )));
    }
    let most = || sane(FeeratePerKw(feerate.0.saturating_mul(MOST_OVER_PROPOSED)));
    Ok((feerate, wishes.most.unwrap_or_else(most).max(feerate)))
}

/// Rounded up.
const fn per_vbyte(feerate: FeeratePerKw) -> u32 {
    feerate.0.div_ceil(250)
}

#[cfg(test)]
mod tests {
    use bitcoin::Amount;

    use super::*;

    const WEIGHT: Weight = Weight::from_wu(670);

    fn of(ours: u64, asked: Option<u32>, estimate: u32) -> Result<(u32, u32), String> {
        let [opener, other, dust_limit, alone] = [ours, 0, 354, 1_784].map(Amount::from_sat);
        let funds = ClosingFunds { opener, other, dust_limit, alone };
        let market = Market { estimate: FeeratePerKw(estimate), relays: FeeratePerKw::FLOOR };
        let wishes = ClosingRates { proposed: asked.map(FeeratePerKw), most: None };
        let rates = closing_rates(Some(funds), wishes, market, WEIGHT);
        rates.map(|(rate, most)| (rate.0, most.0)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_close_does_not_burn_what_it_is_to_bring_home() {
        let refused = of(49_000, Some(500_000), 250).unwrap_err();
        assert!(refused.contains("335000 sat") && refused.contains("49000 sat"), "2,000 sat/vB: {refused}");
        assert_eq!(of(49_000, Some(10_000), 250), Ok((10_000, 30_000)), "asked again with less");
        assert_eq!(of(4_900_000, Some(500_000), 250), Ok((500_000, 1_500_000)), "dear, but it is there to be paid");
        assert_eq!(of(300, Some(253), 253), Ok((253, 759)), "there is no cheaper way");
    }

    #[test]
    fn an_estimate_gives_way_to_what_is_sane_for_so_much_money() {
        assert_eq!(of(1_000_000, None, 37_500), Ok((37_500, 112_500)));
        assert_eq!(of(20_000, None, 37_500), Ok((14_925, 14_925)), "half of it");
        assert_eq!(of(1_000, None, 37_500), Ok((2_662, 2_662)), "closing alone would cost that too");
        assert!(of(20_000, Some(37_500), 37_500).is_err(), "the market does not make it sane");
    }

    #[test]
    fn what_the_peer_pays_is_not_our_concern() {
        let market = Market { estimate: FeeratePerKw(37_500), relays: FeeratePerKw::FLOOR };
        let rates = closing_rates(None, ClosingRates::default(), market, WEIGHT);
        assert_eq!(rates.map(|(rate, most)| (rate.0, most.0)).ok(), Some((37_500, 112_500)));
    }
}
