//! What a restart finds, step by step: node 0 pays node 4 through node 1, which dies at the worst moments.

use super::items::*;
use super::network::*;
use super::opening::Base;
use crate::channel::*;
use crate::payment::incoming::{Holder, Invoice, InvoiceState};
use crate::payment::outgoing::{AttemptState, Payment, PaymentLimits, PaymentRequest, PaymentState};
use crate::payment::route::{Hop, Route};
use crate::switch::*;
use crate::types::*;

const FRONT: (usize, usize) = (0, 1);
const BACK: (usize, usize) = (1, 4);
const AMOUNT: Msat = Msat(10_000_000);
const FEE: Msat = Msat(1_000 + 10);

fn preimage() -> PaymentPreimage {
    PaymentPreimage([0x33; 32])
}

struct Story {
    net: Network,
    front: ChannelId,
    back: ChannelId,
}

impl Story {
    /// The HTLC is irrevocably committed on both channels; node 4 has not looked at it yet. `payable`: it will take it.
    fn forwarded(payable: bool) -> Self {
        let base = Base::get();
        let channel = |ends| base.edges.iter().find(|edge| edge.ends == ends).unwrap();
        let (front, back) = (channel(FRONT), channel(BACK));
        let mut story = Self { net: Network::new(base, Bug::None), front: front.channel, back: back.channel };
        story.net.connect(FRONT);
        story.net.connect(BACK);
        story.run(&[FRONT, BACK], |_, _| true);
        let now = story.net.now;
        let invoice = Invoice {
            index: 1,
            payment_hash: preimage().hash(),
            preimage: Some(preimage()),
            payment_secret: PaymentSecret([5; 32]),
            amount: Some(AMOUNT),
            memo: String::new(),
            bolt11: String::new(),
            created: now,
            expiry_seconds: 3600,
            min_final_cltv_expiry_delta: 20,
            keysend: false,
            holder: Holder::Person,
            state: InvoiceState::Open,
        };
        let out = story.net.nodes[4].invoices.add(invoice).unwrap().convert();
        story.net.commit(4, vec![out], Crash::Never);
        let request = PaymentRequest {
            payment_hash: preimage().hash(),
            destination: node_key(4),
            amount: AMOUNT,
            payment_secret: Some(PaymentSecret([if payable { 5 } else { 6 }; 32])),
            payment_metadata: None,
            final_cltv_delta: 30,
            max_fee: Msat(1_000_000),
            deadline: now,
            bolt11: String::new(),
            hints: Vec::new(),
            limits: PaymentLimits::default(),
            keysend: None,
            custom_records: Vec::new(),
        };
        let out = story.net.nodes[0].payments.start(request, None, now).unwrap().convert();
        story.net.commit(0, vec![out], Crash::Never);
        story.net.nodes[0].lanes.clear();
        let tip = story.net.chain.tip.0;
        let hop = |node, edge: &super::opening::Edge, amount, blocks| Hop {
            node_id: node_key(node),
            channel: Some(edge.name),
            amount: Msat(amount),
            cltv_expiry: CltvExpiry(tip + blocks),
        };
        let route = Route::new(vec![hop(1, front, AMOUNT.0 + FEE.0, 110), hop(4, back, AMOUNT.0, 30)]).unwrap();
        let key = secp256k1::SecretKey::from_slice(&[0x11; 32]).unwrap();
        let payments = &mut story.net.nodes[0].payments;
        let out = payments.routes_found(&preimage().hash(), vec![route], || key, now).unwrap().convert();
        story.net.commit(0, vec![out], Crash::Never);

        // Node 4 lets its switch wait.
        story.run(&[FRONT, BACK], |node, lane| node != 4 || lane != Lane::Switch);
        assert_eq!(story.net.nodes[4].lanes[&Lane::Switch].len(), 1, "the HTLC is there");
        assert_eq!(story.net.nodes[1].switch.pending(), 1);
        story
    }

    /// Moves the lanes of a node that `which` names.
    fn work(&mut self, node: usize, which: impl Fn(Lane) -> bool) -> bool {
        let mut moved = false;
        while let Some(lane) = self.net.nodes[node]
            .lanes
            .iter()
            .find(|(lane, items)| which(**lane) && !items.is_empty())
            .map(|(lane, _)| *lane)
        {
            let item = self.net.nodes[node].lanes.get_mut(&lane).and_then(|items| items.pop_front());
            self.net.turn(node, item.into_iter().collect(), Crash::Never);
            moved = true;
        }
        moved
    }

    /// Delivers over `wires`, moves lanes and flushes until nothing moves.
    fn run(&mut self, wires: &[(usize, usize)], which: impl Fn(usize, Lane) -> bool) {
        loop {
            let mut moved = false;
            for pair in wires {
                for upward in [false, true] {
                    while self.net.deliver(*pair, upward) {
                        moved = true;
                    }
                }
            }
            for node in [0, 1, 4] {
                moved |= self.work(node, |lane| which(node, lane));
                for channel in [self.front, self.back] {
                    let core = self.net.nodes[node].channels.get(&channel);
                    if core.is_some_and(Channel::wants_flush) && which(node, Lane::Channel(channel)) {
                        self.net.turn(node, vec![Item::Channel(channel, Event::Flush)], Crash::Never);
                        moved = true;
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn finish(mut self) -> Self {
        self.net.connect(FRONT);
        self.net.connect(BACK);
        self.run(&[FRONT, BACK], |_, _| true);
        for node in &self.net.nodes {
            assert_eq!(node.switch.pending(), 0);
            let left = |channel: &Channel| channel.offered().count() + channel.unsettled().count();
            assert_eq!(node.channels.values().map(left).sum::<usize>(), 0);
        }
        self
    }

    fn payment(&self) -> Payment {
        self.net.nodes[0].stored_payment(&preimage().hash()).unwrap()
    }

    fn assert_paid(self) {
        let story = self.finish();
        assert!(matches!(story.payment().state, PaymentState::Succeeded { .. }));
        let records = story.net.nodes[1].forwards();
        assert_eq!(records.iter().map(ForwardRecord::fee).collect::<Vec<_>>(), [FEE]);
        assert_eq!((records[0].incoming.channel, records[0].outgoing.channel), (story.front, story.back));
        story.assert_clean();
    }

    fn assert_failed_by_the_recipient(self) {
        let story = self.finish();
        let payment = story.payment();
        let AttemptState::Failed(failure) = &payment.attempts[0].state else { panic!("{payment:?}") };
        assert_eq!((failure.source, failure.code), (Some(2), 0x400f));
        assert_eq!(story.net.nodes[1].forwards(), []);
        story.assert_clean();
    }

    /// After one more restart nothing is owed.
    fn assert_clean(mut self) {
        self.net.restart(1);
        let owed = self.net.nodes[1].store.0.keys().filter(|key| matches!(key, Key::Settlement { .. }));
        assert_eq!(owed.count(), 0);
    }
}

#[test]
fn a_forward_on_its_way_is_found_again() {
    let mut story = Story::forwarded(true);
    story.net.restart(1);
    assert_eq!(story.net.nodes[1].switch.pending(), 1);
    story.assert_paid();
    let mut story = Story::forwarded(false);
    story.net.restart(1);
    story.assert_failed_by_the_recipient();
}

#[test]
fn a_settlement_that_only_the_store_knows_is_made_after_all() {
    for payable in [true, false] {
        let mut story = Story::forwarded(payable);
        // The outcome is final behind, and the switch has not heard of it.
        story.run(&[BACK], |node, lane| node != 1 || lane == Lane::Channel(Base::get().edges[6].channel));
        assert_eq!(story.net.nodes[1].channels[&story.back].offered().count(), 0);
        story.net.restart(1);
        if payable { story.assert_paid() } else { story.assert_failed_by_the_recipient() }
    }
}

#[test]
fn an_outcome_that_overtakes_its_htlc_after_a_restart_is_not_lost() {
    for payable in [true, false] {
        let mut story = Story::forwarded(payable);
        story.net.restart(1);
        story.net.connect(BACK);
        let front = story.front;
        // The channel in front sleeps, so the switch hears of the outcome first.
        story.run(&[BACK], |node, lane| node != 1 || lane != Lane::Channel(front));
        assert_eq!(story.net.nodes[1].channels[&story.back].offered().count(), 0);
        if payable { story.assert_paid() } else { story.assert_failed_by_the_recipient() }
    }
}

/// A channel may have to be enforced before the others have told their HTLCs again.
#[test]
fn when_an_incoming_htlc_expires_is_known_at_once_after_a_restart() {
    let mut story = Story::forwarded(true);
    let incoming = HtlcRef { channel: story.front, id: HtlcId(0) };
    let expiry = Some(CltvExpiry(story.net.chain.tip.0 + 110));
    assert_eq!(story.net.nodes[1].switch.incoming_expiry(&incoming), expiry);
    story.net.restart(1);
    assert_eq!(story.net.nodes[1].switch.incoming_expiry(&incoming), expiry);
}

/// A closed channel's enforcement tells again after a restart that the chain left the HTLC out: it was fulfilled before.
#[test]
fn a_loss_that_the_chain_tells_does_not_undo_a_preimage_that_is_owed() {
    let mut story = Story::forwarded(true);
    story.run(&[BACK], |node, lane| node != 1 || lane == Lane::Channel(Base::get().edges[6].channel));
    story.net.restart(1);
    let [incoming, outgoing] = [story.front, story.back].map(|channel| HtlcRef { channel, id: HtlcId(0) });
    let lost = SwitchEvent::Failed { incoming, outgoing, failure: HtlcFailure::NotOnChain };
    story.net.turn(1, vec![Item::Switch(lost)], Crash::Never);
    story.assert_paid();
}

#[test]
fn a_forward_is_recorded_once_however_often_its_settlement_is_repeated() {
    let mut story = Story::forwarded(true);
    let front = story.front;
    for _ in 0..3 {
        // The switch has settled and recorded; the channel in front has not heard of it.
        story.net.connect(BACK);
        story.run(&[BACK], |node, lane| node != 1 || lane != Lane::Channel(front));
        story.net.restart(1);
        story.work(1, |lane| lane == Lane::Channel(front));
    }
    story.assert_paid();
}

#[test]
fn an_htlc_that_was_never_offered_is_decided_anew() {
    let mut story = Story::forwarded(true);
    // As if nobody had been told of it behind: the store of node 1 before the HTLC was signed there.
    let back = story.back;
    let fresh = Base::get().stores[1].iter().filter(|(key, _)| key.channel() == Some(back));
    let store = &mut story.net.nodes[1].store.0;
    store.retain(|key, _| key.channel() != Some(back));
    store.extend(fresh.map(|(key, value)| (*key, value.clone())));
    story.net.restart(1);
    story.work(1, |_| true);
    // Its next channel is offline: it goes back at once.
    story.net.connect(FRONT);
    story.run(&[FRONT], |_, _| true);
    let payment = story.payment();
    let AttemptState::Failed(failure) = &payment.attempts[0].state else { panic!("{payment:?}") };
    assert_eq!((failure.source, failure.code), (Some(1), 0x1007));
    assert_eq!(story.net.nodes[1].switch.pending(), 0);
}

#[test]
fn a_repeated_onion_is_known_after_a_restart() {
    let mut story = Story::forwarded(true);
    let (node, route, mut htlc) = story.net.truth.lately[0].clone();
    story.net.restart(1);
    let attempt = AttemptId(99);
    htlc.origin = Origin::Payment(attempt);
    story.net.truth.repeated.insert((node, attempt));
    story.net.offer(node, route, htlc);
    let forwards = story.net.truth.forwards;
    story.net.connect(FRONT);
    story.run(&[FRONT], |_, _| true);
    assert_eq!(story.net.truth.forwards, forwards);
    story.assert_paid();
}
