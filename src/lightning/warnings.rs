//! What a person should do something about, each in a sentence.

use bitcoin::Amount;

use crate::{
    driver::{onchain::ResolutionState, peer::PeerState, services::Services},
    wallet::{
        rescan::Reach,
        reserve::{AT_MOST, PER_CHANNEL},
    },
};

pub(super) fn warnings(services: &Services, states: &[PeerState], crossing: Option<String>) -> Vec<String> {
    let (missing, reach) = (services.wallet.reserve_missing(), services.wallet.reach());
    let of_states = states.iter().flat_map(of_peer);
    let of_wallet = missing.map(short_reserve).into_iter().chain(many_unpaid(reach));
    let of_swaps = services.swaps.trouble().map(|trouble| {
        format!(
            "a swap is under way and cannot be followed on one of its chains ({trouble}): coins can be lost if that lasts for \
             hours"
        )
    });
    let of_crossings = crossing.map(|trouble| {
        format!(
            "a payment is crossing from one network to the other, and cannot be followed on one of them ({trouble}): money can be lost \
             if that lasts for hours"
        )
    });
    of_swaps.into_iter().chain(of_crossings).chain(of_wallet).chain(of_states).collect()
}

/// The second network of this daemon.
pub(super) fn not_open(absence: &str) -> String {
    format!(
        "{absence}: its channels are not watched, and nothing of them or of its swaps is claimed. `leyden unlock` opens it, or \
         says why it stays closed"
    )
}

/// Addresses in a row that nobody has paid from which on a person is told: half of what `leyden create` looks for.
const MANY_UNPAID: u32 = 500;

/// What a restore from the words would not find by itself.
fn many_unpaid(reach: Reach) -> Option<String> {
    let in_a_row = reach.widest_gap.max(reach.unpaid);
    let wide = in_a_row.saturating_mul(2);
    (in_a_row >= MANY_UNPAID).then(|| {
        format!(
            "{in_a_row} addresses in a row were given out and not paid: who restores this wallet from its words must look \
             further than usual to find its coins. Keep `--recovery-window {wide}` with your words, and give unpaid \
             addresses out again: `leyden newaddress --unused`"
        )
    })
}

fn short_reserve(missing: Amount) -> String {
    format!(
        "the wallet lacks {} sat of what it should reserve to pay for claims ({} sat a channel with anchors, {} at most): \
         send coins to `leyden newaddress`, or what is yours in these channels may not come home if one has to be closed \
         on the chain",
        missing.to_sat(),
        PER_CHANNEL.to_sat(),
        AT_MOST.to_sat()
    )
}

fn of_peer(state: &PeerState) -> Vec<String> {
    let mut warnings: Vec<String> = state.resolutions.iter().flat_map(of_closed_channel).collect();
    warnings.extend(state.refused.iter().map(|refused| {
        let channel = state.channels.iter().find(|channel| channel.channel_id == refused.channel);
        let funding = channel.and_then(|channel| channel.established.as_ref()).map(|known| known.funding.to_string());
        format!(
            "{} {} of channel {} is refused by the mempool: {}; it is rebroadcast at every block",
            refused.what,
            refused.txid,
            funding.unwrap_or_else(|| refused.channel.to_string()),
            refused.reason
        )
    }));
    warnings
}

fn of_closed_channel(one: &ResolutionState) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(lacking) = one.lacking {
        let deadline = one.reports.iter().filter_map(|report| report.deadline).min();
        let until = deadline.map(|height| format!(" before block {}", height.0)).unwrap_or_default();
        warnings.push(format!(
            "claims of the closed channel {} lack {} sat for their fees: send coins to `leyden newaddress`{until}, or what \
             they claim may be lost",
            one.funding,
            lacking.to_sat()
        ));
    }
    for (txid, reason) in &one.refused {
        warnings.push(format!(
            "the claim {txid} of the closed channel {} is refused by the mempool: {reason}; it is rebroadcast at every block",
            one.funding
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_out_more_addresses_than_a_restore_looks_for_is_told() {
        let reach = |widest_gap, unpaid| Reach { known: 2_000, widest_gap, unpaid };
        assert_eq!(many_unpaid(reach(499, 499)), None);
        for told in [many_unpaid(reach(0, 1_001)), many_unpaid(reach(1_001, 3))] {
            assert!(told.unwrap().contains("--recovery-window 2002"));
        }
    }
}
