//! HTLCs offered to us that bring us nothing, although their preimages are shown: whoever keeps the books hears of it.

use super::{node::mine, *};

/// Bob offers 11 and 12, and 13, which is dust. Alice knows all preimages.
fn owed() -> State {
    State { alice: 500_000, received: vec![(11, 20_000), (12, 30_000), (13, 100)], ..State::default() }
}

fn shown(alice: &mut Node, chain: &mut Chain) {
    for id in [11, 12, 13] {
        alice.handle(Event::Preimage(preimage(id)), chain);
    }
}

#[test]
fn an_htlc_that_the_peer_has_taken_back_is_told_when_that_is_deep() {
    let duo = Duo::new(CommitmentType::Anchors, vec![owed(), owed()]);
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
    bob.handle(Event::Restarted, &mut chain);
    // There is no coin for the second stages.
    alice.purse = Some(Amount::ZERO);
    alice.handle(Event::ForceClose, &mut chain);
    shown(&mut alice, &mut chain);
    mine(7, &mut chain, &mut [&mut alice, &mut bob]);
    assert!(alice.taken_back(13), "dust went to the miners");
    assert!(!alice.taken_back(11) && !alice.taken_back(12));
    let until = EXPIRY + 11 + 5 - chain.tip.0;
    mine(until, &mut chain, &mut [&mut alice, &mut bob]);
    assert!(!alice.taken_back(11), "it could be reorganised out");
    mine(3, &mut chain, &mut [&mut alice, &mut bob]);
    assert!(alice.taken_back(11) && alice.taken_back(12));
}

#[test]
fn an_htlc_that_came_home_is_not_told() {
    for (kind, closer) in KINDS.iter().flat_map(|kind| [(*kind, Side::Local), (*kind, Side::Remote)]) {
        let duo = Duo::new(kind, vec![owed(), owed()]);
        let mut chain = duo.chain();
        let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
        let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
        for node in [&mut alice, &mut bob] {
            node.handle(Event::Restarted, &mut chain);
        }
        shown(&mut alice, &mut chain);
        let node = if closer == Side::Local { &mut alice } else { &mut bob };
        node.handle(Event::ForceClose, &mut chain);
        mine(100, &mut chain, &mut [&mut alice, &mut bob]);
        assert!(!alice.taken_back(11) && !alice.taken_back(12), "{kind:?}, closed by {closer:?}");
        assert!(alice.taken_back(13));
    }
}

/// Nobody has shown its preimage: that the peer takes it back is as it should be.
#[test]
fn an_htlc_whose_preimage_was_never_shown_is_not_told() {
    let duo = Duo::new(CommitmentType::Anchors, vec![owed(), owed()]);
    let mut chain = duo.chain();
    let mut alice = duo.node(Side::Local, duo.closing(Side::Local));
    let mut bob = duo.node(Side::Remote, duo.closing(Side::Remote));
    bob.handle(Event::Restarted, &mut chain);
    alice.handle(Event::ForceClose, &mut chain);
    mine(80, &mut chain, &mut [&mut alice, &mut bob]);
    assert!([11, 12, 13].iter().all(|id| !alice.taken_back(*id)));
}
