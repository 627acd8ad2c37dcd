//! What closing together may cost (BOLT 2, Legacy Closing Negotiation): the opener pays, at most what it has.
//!
//! ```text
//!   fee at a rate ──► at most what leaves the opener an output; of an opener that is too poor for one, all that it has
//!                     ──► never so much that the transaction has no output at all: such a one cannot be built
//! ```
//!
//! What a fee is chosen by an estimate, nobody has looked at: it takes half of what the opener has at most, or what
//! closing alone would cost it too.

use bitcoin::{Amount, Weight};

use super::Sides;
use crate::tx::fee;
use crate::types::{CommitmentType, FeeratePerKw, Msat, Side};

/// What a closing fee is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosingFunds {
    /// The balance of the opener, who pays.
    pub opener: Amount,
    /// The balance of the other node, which pays nothing.
    pub other: Amount,
    /// The larger one of both nodes: an output of that much is dropped by neither.
    pub dust_limit: Amount,
    /// What the commitment transaction costs the opener.
    pub alone: Amount,
}

impl ClosingFunds {
    /// `feerate` is that of the commitments.
    pub fn new(
        opener: Side,
        balance: &Sides<Msat>,
        dust_limit: Amount,
        kind: CommitmentType,
        feerate: FeeratePerKw,
    ) -> Self {
        let fee = fee::commitment_fee(kind, feerate, 0);
        Self {
            opener: balance.of(opener).floor_sat(),
            other: balance.of(opener.other()).floor_sat(),
            dust_limit,
            alone: fee.checked_add(fee::anchors_cost(kind)).unwrap_or(fee),
        }
    }

    /// The most that any closing transaction of the channel can pay. One that paid more would have no output, or spend
    /// what the opener does not have.
    pub fn most(&self) -> Amount {
        if self.other >= self.dust_limit { self.opener } else { self.above_dust() }
    }

    /// What a closing transaction pays at `feerate`. `relays` is what mempools take at least.
    pub fn fee_at(&self, feerate: FeeratePerKw, relays: FeeratePerKw, weight: Weight) -> Amount {
        let keeps_output = self.above_dust() >= fee::fee_for_weight(relays, weight);
        let limit = if keeps_output { self.above_dust() } else { self.most() };
        fee::fee_for_weight(feerate, weight).min(limit)
    }

    /// The most that is spent without asking anybody.
    pub fn sane(&self) -> Amount {
        (self.opener / 2).max(self.alone)
    }

    /// `feerate`, or less where that would cost more than [`Self::sane`]; never less than what relays.
    pub fn sane_feerate(&self, feerate: FeeratePerKw, relays: FeeratePerKw, weight: Weight) -> FeeratePerKw {
        let sane = u128::from(self.sane().to_sat()) * 1000 / u128::from(weight.to_wu().max(1));
        let sane = u32::try_from(sane).map_or(feerate, FeeratePerKw);
        feerate.min(sane).max(relays)
    }

    fn above_dust(&self) -> Amount {
        self.opener.checked_sub(self.dust_limit).unwrap_or(Amount::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHT: Weight = Weight::from_wu(700);
    const RELAYS: FeeratePerKw = FeeratePerKw(250);

    fn funds(opener: u64, other: u64) -> ClosingFunds {
        let [opener, other, dust_limit, alone] = [opener, other, 354, 800].map(Amount::from_sat);
        ClosingFunds { opener, other, dust_limit, alone }
    }

    fn fee_at(funds: ClosingFunds, feerate: u32) -> u64 {
        funds.fee_at(FeeratePerKw(feerate), RELAYS, WEIGHT).to_sat()
    }

    #[test]
    fn a_closing_fee_leaves_the_opener_an_output_if_it_can_have_one() {
        assert_eq!(fee_at(funds(100_000, 0), 1_000), 700);
        assert_eq!(fee_at(funds(100_000, 0), 500_000), 100_000 - 354);
        assert_eq!(fee_at(funds(100_000, 50_000), 500_000), 100_000 - 354);
        assert_eq!(
            fee_at(funds(500, 50_000), 1_000),
            500,
            "what is left is too little for an output and a fee that relays"
        );
        assert_eq!(fee_at(funds(500, 353), 1_000), 500 - 354, "there has to be one");
        assert_eq!(funds(353, 353).most(), Amount::ZERO);
    }

    #[test]
    fn an_estimate_takes_half_of_what_the_opener_has_at_most() {
        let sane = |funds: ClosingFunds, feerate| funds.sane_feerate(FeeratePerKw(feerate), RELAYS, WEIGHT).0;
        assert_eq!(sane(funds(100_000, 0), 1_000), 1_000);
        assert_eq!(sane(funds(14_000, 0), 50_000), 10_000);
        assert_eq!(sane(funds(1_000, 0), 50_000), 1_142, "closing alone would cost that too");
        assert_eq!(sane(funds(100, 0), 100), RELAYS.0, "nothing below gets to a miner");
    }
}
