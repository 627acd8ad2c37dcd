//! Clocks that are wrong for a while.

use super::super::announce::previous_time;
use super::super::limits::{CHAIN_LAG_SECONDS, FUTURE_SECONDS};
use super::*;

const THREE_WEEKS: u64 = 21 * 86_400;

/// The wall clock alone is ahead.
fn jumped(seconds: u64) -> Clocks {
    Clocks { wall: UnixTime(NOW.0 + THREE_WEEKS), ..after(seconds) }
}

#[test]
fn a_clock_that_jumps_ahead_forgets_nobody() {
    let mut peer = informed(30);
    assert!(peer.intake.prune(&jumped(5)).is_empty());
    assert_eq!(peer.intake.graph().channel_count(), 30);
    // Nor does it refuse what is said meanwhile.
    peer.clocks = jumped(5);
    let id = ShortChannelId::new(Height(100), 0, 0);
    peer.take(update(id, 1, 20, 77, TIME + 5), Some(node(7))).unwrap();
    // Time that has passed for the chain, too, has passed.
    assert!(!peer.intake.prune(&after(THREE_WEEKS)).is_empty());
}

#[test]
fn what_is_signed_while_the_clock_is_ahead_is_taken_by_others() {
    let mut others = with_channel();
    let mut previous = None;
    let mut own = |clocks: &Clocks, base: u32| {
        let terms = update(ID, 1, 2, base, TIME);
        let own = OwnUpdate {
            chain_hash: CHAIN,
            short_channel_id: ID,
            direction: own_channel(ID, 1, 2).direction(),
            announced: true,
            disabled: false,
            cltv_expiry_delta: terms.cltv_expiry_delta,
            htlc_minimum_msat: terms.htlc_minimum_msat,
            htlc_maximum_msat: terms.htlc_maximum_msat,
            fee_base_msat: base,
            fee_proportional_millionths: 10,
        };
        let last = previous.and_then(|time| previous_time(time, clocks));
        let signed = own.sign(clocks.present(), last, |digest| sign(digest, 1));
        assert!(previous.is_none_or(|previous| signed.timestamp > previous), "each is later than the one before");
        previous = Some(signed.timestamp);
        signed
    };
    let during = own(&jumped(5), 1);
    assert!(u64::from(during.timestamp) <= NOW.0 + CHAIN_LAG_SECONDS);
    others.take(during, Some(node(7))).unwrap();
    let afterwards = own(&after(10), 2);
    others.take(afterwards, Some(node(7))).unwrap();
    // And if the clock goes back to 1970.
    let back = own(&Clocks { wall: UnixTime(5), ..after(20) }, 3);
    others.take(back, Some(node(7))).unwrap();
    let direction = own_channel(ID, 1, 2).direction();
    let policy = others.intake.graph().channel_by_id(ID).unwrap().policies.get(direction).unwrap();
    assert_eq!(policy.fee_base_msat, 3);
}

#[test]
fn a_time_that_was_signed_too_far_ahead_is_left_behind() {
    let ahead = u32::try_from(NOW.0 + THREE_WEEKS).unwrap();
    let mut peer = with_channel();
    // Under a wrong clock of ours it was taken.
    peer.clocks = Clocks { wall: UnixTime(NOW.0 + THREE_WEEKS), ..after(0) };
    peer.take(update(ID, 1, 2, 1, ahead), Some(node(7))).unwrap();
    peer.take(node_announcement(1, ahead), Some(node(7))).unwrap();
    // The clock is right again: the owner is heard, ourselves included, and starts from the present.
    peer.clocks = after(60);
    assert!(is_refresh_due(ahead, &peer.clocks));
    assert_eq!(previous_time(ahead, &peer.clocks), None);
    assert_eq!(previous_time(TIME, &peer.clocks), Some(TIME));
    peer.take(update(ID, 1, 2, 2, TIME + 60), Some(node(7))).unwrap();
    peer.take(node_announcement(1, TIME + 60), Some(node(7))).unwrap();
    let graph = peer.intake.graph();
    let policy = graph.channel_by_id(ID).unwrap().policies.get(own_channel(ID, 1, 2).direction()).unwrap();
    assert_eq!((policy.fee_base_msat, policy.timestamp), (2, TIME + 60));
    assert_eq!(graph.info_of(&node(1)).unwrap().timestamp, TIME + 60);
    // What anybody's clock may show is no reason.
    let tolerated = u32::try_from(NOW.0 + 60 + FUTURE_SECONDS).unwrap();
    peer.take(update(ID, 1, 2, 3, tolerated), Some(node(7))).unwrap();
    assert_eq!(peer.take(update(ID, 1, 2, 4, TIME + 70), Some(node(7))), Err(Ignored::Known));
}
