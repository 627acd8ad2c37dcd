//! Payments that we make: what may happen twice, at once, or too late.

use secp256k1::{PublicKey, SECP256K1, SecretKey};

use super::outgoing::*;
use super::route::{Hop, Route};
use crate::channel::{AttemptId, CannotAdd, HtlcFailure, Outbox, Persist, Write};
use crate::onion::{FailureMessage, failure, sphinx};
use crate::routing::LocalChannel;
use crate::types::*;

struct Nowhere;

impl Persist for Nowhere {
    type Error = std::convert::Infallible;

    fn commit(&mut self, _: Vec<Write>) -> Result<(), Self::Error> {
        Ok(())
    }
}

const NOW: UnixTime = UnixTime(1_000);
const PREIMAGE: PaymentPreimage = PaymentPreimage([7; 32]);

fn effects(outbox: Outbox<PaymentEffect>) -> Vec<PaymentEffect> {
    Outbox::commit_all(vec![outbox], &mut Nowhere).unwrap().into_iter().flatten().collect()
}

/// The amounts that routes are asked for.
fn searches(effects: &[PaymentEffect]) -> Vec<Msat> {
    let of = |effect: &PaymentEffect| match effect {
        PaymentEffect::FindRoutes { amount, .. } => Some(*amount),
        PaymentEffect::Offer { .. } | PaymentEffect::Updated(_) => None,
    };
    effects.iter().filter_map(of).collect()
}

fn latest(effects: &[PaymentEffect]) -> Payment {
    let of = |effect: &PaymentEffect| match effect {
        PaymentEffect::Updated(payment) => Some(payment.as_ref().clone()),
        PaymentEffect::FindRoutes { .. } | PaymentEffect::Offer { .. } => None,
    };
    effects.iter().rev().find_map(of).unwrap()
}

fn session_key() -> SecretKey {
    SecretKey::from_slice(&[3; 32]).unwrap()
}

fn node(byte: u8) -> PublicKey {
    SecretKey::from_slice(&[byte; 32]).unwrap().public_key(SECP256K1)
}

fn request(amount: Msat) -> PaymentRequest {
    PaymentRequest {
        payment_hash: PREIMAGE.hash(),
        destination: node(9),
        amount,
        payment_secret: Some(PaymentSecret([1; 32])),
        payment_metadata: None,
        final_cltv_delta: 18,
        max_fee: Msat::ZERO,
        deadline: UnixTime(NOW.0 + 60),
        bolt11: String::new(),
        hints: Vec::new(),
        limits: PaymentLimits { max_parts: 16, ..PaymentLimits::default() },
        keysend: None,
        custom_records: Vec::new(),
    }
}

fn route(amount: u64, hops: u8) -> Route {
    let hop = |byte| Hop {
        node_id: node(byte),
        channel: Some(ShortChannelId(u64::from(byte))),
        amount: Msat(amount),
        cltv_expiry: CltvExpiry(200),
    };
    Route::new((0..hops).map(|index| hop(9 + index)).collect()).unwrap()
}

/// A payment of 1000 under way in parts of 400 and 600.
fn in_two_parts() -> Payments {
    let mut payments = Payments::default();
    effects(payments.start(request(Msat(1_000)), None, NOW).unwrap());
    let hash = PREIMAGE.hash();
    effects(payments.routes_found(&hash, vec![route(400, 1), route(600, 1)], session_key, NOW).unwrap());
    payments
}

fn refuse(payments: &mut Payments, attempt: u64) -> Vec<PaymentEffect> {
    effects(payments.refused(AttemptId(attempt), &CannotAdd::Offline, NOW))
}

#[test]
fn a_payment_whose_end_is_not_written_yet_is_not_begun_again() {
    let mut payments = Payments::default();
    let pending = latest(&effects(payments.start(request(Msat(1_000)), None, NOW).unwrap()));
    effects(payments.routes_found(&PREIMAGE.hash(), vec![route(1_000, 1)], session_key, NOW).unwrap());
    let _unwritten = payments.fulfilled(AttemptId(1), PREIMAGE, NOW);
    // The store still has the record from before.
    assert_eq!(payments.start(request(Msat(1_000)), Some(&pending), NOW).unwrap_err(), StartError::InFlight);
}

#[test]
fn parts_that_fail_together_are_looked_for_one_search_at_a_time() {
    let mut payments = in_two_parts();
    assert_eq!(searches(&refuse(&mut payments, 1)), [Msat(400)]);
    assert_eq!(searches(&refuse(&mut payments, 2)), [], "the first search is still under way");
    let hash = PREIMAGE.hash();
    let found = effects(payments.routes_found(&hash, vec![route(400, 1)], session_key, NOW).unwrap());
    assert_eq!(searches(&found), [Msat(600)]);
    let found = effects(payments.routes_found(&hash, vec![route(600, 1)], session_key, NOW).unwrap());
    assert_eq!(searches(&found), []);
    assert_eq!(latest(&found).attempts.iter().filter(|one| one.state == AttemptState::InFlight).count(), 2);
}

#[test]
fn routes_for_more_than_is_missing_are_refused() {
    let mut payments = in_two_parts();
    refuse(&mut payments, 1);
    let error = payments.routes_found(&PREIMAGE.hash(), vec![route(401, 1)], session_key, NOW).unwrap_err();
    assert_eq!(error, RouteError::TooMuch { missing: Msat(400), got: Msat(401) });
}

#[test]
fn a_route_without_an_onion_leaves_no_attempt_behind() {
    let mut payments = Payments::default();
    let request = PaymentRequest { payment_metadata: Some(vec![0; 1_100]), ..request(Msat(1_000)) };
    effects(payments.start(request, None, NOW).unwrap());
    let hash = PREIMAGE.hash();
    let routes = vec![route(400, 1), route(600, 20)];
    let error = payments.routes_found(&hash, routes, session_key, NOW).unwrap_err();
    assert!(matches!(error, RouteError::Onion(_)), "{error:?}");
    let failed = latest(&effects(payments.no_route(&hash, PaymentFailure::NoRoute, NOW)));
    assert!(matches!(failed.state, PaymentState::Failed { reason: PaymentFailure::NoRoute, .. }));
}

#[test]
fn no_routes_at_all_end_a_payment() {
    let mut payments = Payments::default();
    effects(payments.start(request(Msat(1_000)), None, NOW).unwrap());
    let failed = latest(&effects(payments.routes_found(&PREIMAGE.hash(), vec![], session_key, NOW).unwrap()));
    assert!(matches!(failed.state, PaymentState::Failed { reason: PaymentFailure::NoRoute, .. }));
}

#[test]
fn a_payment_fails_only_when_its_last_part_has_failed_and_succeeds_with_any() {
    let failure = HtlcFailure::NotOnChain;
    let late = UnixTime(NOW.0 + 61);
    let mut payments = in_two_parts();
    let first = latest(&effects(payments.failed(AttemptId(1), &failure, late)));
    assert_eq!(first.state, PaymentState::Pending);
    let second = latest(&effects(payments.failed(AttemptId(2), &failure, late)));
    assert!(matches!(second.state, PaymentState::Failed { .. }));

    let mut payments = in_two_parts();
    effects(payments.failed(AttemptId(1), &failure, late));
    let paid = latest(&effects(payments.fulfilled(AttemptId(2), PREIMAGE, late)));
    assert!(matches!(paid.state, PaymentState::Succeeded { preimage: PREIMAGE, .. }));
    assert!(effects(payments.failed(AttemptId(2), &failure, late)).is_empty(), "a failure after the preimage");
}

#[test]
fn a_payment_whose_rest_has_no_route_does_not_fail_for_want_of_time() {
    let timed_out = AttemptFailure { source: Some(1), code: 23, refused: None };
    let late = UnixTime(NOW.0 + 61);
    let hash = PREIMAGE.hash();
    let end = |payments: &mut Payments| {
        let ended = latest(&effects(payments.end_attempt(AttemptId(2), timed_out.clone(), late)));
        let PaymentState::Failed { reason, .. } = ended.state else { panic!("{:?}", ended.state) };
        reason
    };

    let mut payments = in_two_parts();
    refuse(&mut payments, 1);
    assert!(effects(payments.no_route(&hash, PaymentFailure::NoRoute, NOW)).is_empty(), "the other part may be taken");
    assert_eq!(end(&mut payments), PaymentFailure::NoRoute);

    // It was on its way when the recipient gave up.
    let mut payments = in_two_parts();
    refuse(&mut payments, 1);
    effects(payments.no_route(&hash, PaymentFailure::NoRoute, NOW));
    effects(payments.routes_found(&hash, vec![route(400, 1)], session_key, NOW).unwrap());
    effects(payments.end_attempt(AttemptId(3), timed_out.clone(), late));
    assert_eq!(end(&mut payments), PaymentFailure::Timeout);
}

#[test]
fn no_part_of_a_payment_that_succeeded_is_under_way() {
    let mut payments = in_two_parts();
    let paid = latest(&effects(payments.fulfilled(AttemptId(1), PREIMAGE, NOW)));
    assert!(paid.attempts.iter().all(|attempt| attempt.state == AttemptState::Succeeded), "{:?}", paid.attempts);
}

#[test]
fn parts_over_chosen_ways_make_one_payment() {
    let mut payments = Payments::default();
    let hash = PREIMAGE.hash();
    let send = |amount, total, payments: &mut Payments, stored: Option<&Payment>| {
        let sent = payments.send_on_route(request(Msat(total)), route(amount, 1), stored, session_key(), NOW);
        sent.map(|(id, outbox)| (id, effects(outbox)))
    };
    let (first, sent) = send(400, 1_000, &mut payments, None).unwrap();
    assert!(sent.iter().any(|effect| matches!(effect, PaymentEffect::Offer { .. })));
    assert_eq!(searches(&sent), [], "no other route is looked for");
    assert!(matches!(send(600, 900, &mut payments, None), Err(OnRouteError::Differs)));
    assert!(matches!(
        send(601, 1_000, &mut payments, None),
        Err(OnRouteError::Route(RouteError::TooMuch { missing: Msat(600), got: Msat(601) }))
    ));
    let (second, _) = send(600, 1_000, &mut payments, None).unwrap();
    assert!(matches!(payments.start(request(Msat(1_000)), None, NOW), Err(StartError::InFlight)));

    let failed = effects(payments.refused(first, &CannotAdd::Offline, NOW));
    assert_eq!(searches(&failed), []);
    assert_eq!(latest(&failed).state, PaymentState::Pending, "the other part may still arrive");
    let failed = latest(&effects(payments.refused(second, &CannotAdd::Offline, NOW)));
    assert!(matches!(failed.state, PaymentState::Failed { .. }));
    assert!(payments.pending(&hash).is_none());

    let (third, _) = send(1_000, 1_000, &mut payments, Some(&failed)).unwrap();
    let paid = latest(&effects(payments.fulfilled(third, PREIMAGE, NOW)));
    assert_eq!((paid.index, paid.attempts.len()), (2, 1));
    assert!(matches!(
        send(1_000, 1_000, &mut payments, Some(&paid)),
        Err(OnRouteError::Start(StartError::AlreadyPaid))
    ));
}

#[test]
fn a_payment_that_looks_for_its_ways_takes_no_strangers_part() {
    let mut payments = in_two_parts();
    let sent = payments.send_on_route(request(Msat(1_000)), route(1, 1), None, session_key(), NOW);
    assert!(matches!(sent, Err(OnRouteError::Start(StartError::InFlight))));
}

#[test]
fn a_payment_that_is_called_off_makes_no_further_attempt() {
    let mut payments = Payments::default();
    let hash = PREIMAGE.hash();
    effects(payments.start(request(Msat(1_000)), None, NOW).unwrap());
    let sent = payments.routes_found(&hash, vec![route(1_000, 1)], session_key, NOW).unwrap();
    let attempt = latest(&effects(sent)).attempts[0].id;
    effects(payments.stop_trying(&hash, NOW));
    let ended = effects(payments.refused(attempt, &CannotAdd::Offline, NOW));
    assert_eq!(searches(&ended), []);
    assert!(matches!(latest(&ended).state, PaymentState::Failed { .. }));
}

#[test]
fn parts_that_the_recipient_was_tired_of_waiting_for_are_sent_again() {
    let told = |message: FailureMessage| {
        let mut payments = Payments::default();
        let hash = PREIMAGE.hash();
        effects(payments.start(request(Msat(1_000)), None, NOW).unwrap());
        let sent = payments.routes_found(&hash, vec![route(1_000, 1)], session_key, NOW).unwrap();
        let attempt = latest(&effects(sent)).attempts[0].clone();
        let secrets = sphinx::shared_secrets(&attempt.session_key, &[node(9)]).unwrap();
        let failure = HtlcFailure::Remote { reason: failure::build(&secrets[0], &message) };
        assert_eq!(attempt.read(&failure).failure.source, Some(1), "the recipient");
        searches(&effects(payments.failed(attempt.id, &failure, NOW)))
    };
    assert_eq!(told(FailureMessage::MppTimeout), [Msat(1_000)]);
    let unknown = FailureMessage::IncorrectOrUnknownPaymentDetails { htlc_msat: Msat(1_000), height: Height(1) };
    assert_eq!(told(unknown), []);
}

/// What the recipient of an attempt answers, under its own key.
fn answer(payments: &mut Payments, id: AttemptId, message: &FailureMessage) -> Vec<PaymentEffect> {
    let attempt = payments.attempt(id).unwrap().clone();
    let nodes: Vec<PublicKey> = attempt.route.hops().iter().map(|hop| hop.node_id).collect();
    let secrets = sphinx::shared_secrets(&attempt.session_key, &nodes).unwrap();
    let mut reason = failure::build(secrets.last().unwrap(), message);
    for secret in secrets.iter().rev().skip(1) {
        failure::wrap(secret, &mut reason);
    }
    effects(payments.failed(id, &HtlcFailure::Remote { reason }, NOW))
}

/// To node 9 over `before`.
fn over(before: u8, amount: u64) -> Route {
    let hop = |byte, channel| Hop {
        node_id: node(byte),
        channel: Some(ShortChannelId(channel)),
        amount: Msat(amount),
        cltv_expiry: CltvExpiry(200),
    };
    Route::new(vec![hop(before, 1), hop(9, 100 + u64::from(before))]).unwrap()
}

/// A payment of 1000 whose attempts go over a node of their own each, and are all answered so; the payment at its end, and
/// how many attempts there were.
fn answered_by_everybody(message: &FailureMessage) -> (Payment, usize) {
    let mut payments = Payments::default();
    let hash = PREIMAGE.hash();
    effects(payments.start(request(Msat(1_000)), None, NOW).unwrap());
    for before in 20..=255 {
        let sent = latest(&effects(payments.routes_found(&hash, vec![over(before, 1_000)], session_key, NOW).unwrap()));
        let ended = answer(&mut payments, sent.attempts.last().unwrap().id, message);
        if searches(&ended).is_empty() {
            return (latest(&ended), sent.attempts.len());
        }
        let suspects = payments.pending(&hash).unwrap().suspects();
        assert!(suspects.is_empty() || suspects.contains(&node(before)));
    }
    panic!("it is tried for ever")
}

fn unknown_details(amount: u64, height: u32) -> FailureMessage {
    FailureMessage::IncorrectOrUnknownPaymentDetails { htlc_msat: Msat(amount), height: Height(height) }
}

#[test]
fn what_the_node_before_the_recipient_can_cause_is_tried_over_others_and_not_for_ever() {
    let less = FailureMessage::FinalIncorrectHtlcAmount { incoming_htlc_amt: Msat(999) };
    let sooner = FailureMessage::FinalIncorrectCltvExpiry { cltv_expiry: CltvExpiry(199) };
    // The expiry of 200 leaves the 18 blocks that the request promises up to block 182.
    let cases = [(less, 5), (sooner, 5), (unknown_details(999, 182), 5), (unknown_details(1_000, 183), 4)];
    for (message, tries) in cases {
        let (failed, tried) = answered_by_everybody(&message);
        assert_eq!(tried, tries, "{message:?}");
        let reason = PaymentFailure::IncorrectPaymentDetails;
        assert_eq!(failed.state, PaymentState::Failed { reason, at: NOW }, "{message:?}");
    }
    for message in [FailureMessage::TemporaryNodeFailure, unknown_details(1_000, 182)] {
        let is_busy = message == FailureMessage::TemporaryNodeFailure;
        let (failed, tries) = answered_by_everybody(&message);
        assert_eq!(tries, if is_busy { 4 } else { 1 }, "{message:?}");
        let reason = if is_busy { PaymentFailure::RecipientBusy } else { PaymentFailure::IncorrectPaymentDetails };
        assert_eq!(failed.state, PaymentState::Failed { reason, at: NOW }, "{message:?}");
    }
}

#[test]
fn a_recipient_that_is_busy_is_not_said_to_know_no_such_invoice() {
    let mut payments = Payments::default();
    let hash = PREIMAGE.hash();
    effects(payments.start(request(Msat(1_000)), None, NOW).unwrap());
    effects(payments.routes_found(&hash, vec![over(20, 1_000)], session_key, NOW).unwrap());
    let busy = FailureMessage::TemporaryNodeFailure;
    assert_eq!(searches(&answer(&mut payments, AttemptId(1), &busy)), [Msat(1_000)], "it is tried again");
    let failed = latest(&effects(payments.no_route(&hash, PaymentFailure::NoRoute, NOW)));
    assert_eq!(failed.state, PaymentState::Failed { reason: PaymentFailure::RecipientBusy, at: NOW });
}

#[test]
fn a_payment_over_the_only_way_says_that_the_recipient_refused_it() {
    let mut payments = Payments::default();
    let hash = PREIMAGE.hash();
    effects(payments.start(request(Msat(1_000)), None, NOW).unwrap());
    effects(payments.routes_found(&hash, vec![over(20, 1_000)], session_key, NOW).unwrap());
    let less = FailureMessage::FinalIncorrectHtlcAmount { incoming_htlc_amt: Msat(999) };
    assert_eq!(searches(&answer(&mut payments, AttemptId(1), &less)), [Msat(1_000)]);
    let failed = latest(&effects(payments.no_route(&hash, PaymentFailure::NoRoute, NOW)));
    assert_eq!(failed.state, PaymentState::Failed { reason: PaymentFailure::IncorrectPaymentDetails, at: NOW });
}

#[test]
fn after_a_final_refusal_no_other_part_is_tried_again() {
    let mut payments = Payments::default();
    let hash = PREIMAGE.hash();
    let request =
        PaymentRequest { limits: PaymentLimits { max_parts: 2, ..Default::default() }, ..request(Msat(1_000)) };
    effects(payments.start(request, None, NOW).unwrap());
    effects(payments.routes_found(&hash, vec![over(20, 400), over(21, 600)], session_key, NOW).unwrap());
    assert_eq!(searches(&answer(&mut payments, AttemptId(1), &unknown_details(400, 100))), []);
    let ended = effects(payments.refused(AttemptId(2), &CannotAdd::Offline, NOW));
    assert_eq!(searches(&ended), []);
    assert!(matches!(latest(&ended).state, PaymentState::Failed { .. }));
}

#[test]
fn no_more_parts_are_under_way_at_once_than_the_payment_may_have() {
    let mut payments = Payments::default();
    let hash = PREIMAGE.hash();
    let request =
        PaymentRequest { limits: PaymentLimits { max_parts: 3, ..Default::default() }, ..request(Msat(1_000)) };
    effects(payments.start(request, None, NOW).unwrap());
    let routes = vec![route(400, 1), route(300, 1), route(300, 1)];
    effects(payments.routes_found(&hash, routes, session_key, NOW).unwrap());
    effects(payments.refused(AttemptId(1), &CannotAdd::Offline, NOW));
    assert_eq!(payments.pending(&hash).unwrap().parts_left(), 1);
    let two = payments.routes_found(&hash, vec![route(200, 1), route(200, 1)], session_key, NOW);
    assert_eq!(two.unwrap_err(), RouteError::TooManyParts { left: 1, got: 2 });
    effects(payments.routes_found(&hash, vec![route(400, 1)], session_key, NOW).unwrap());
    assert_eq!(payments.pending(&hash).unwrap().parts_left(), 0);
}

#[test]
fn a_channel_of_ours_that_refuses_is_not_chosen_again_and_one_that_lacks_balance_for_less() {
    let local = |id| LocalChannel {
        short_channel_id: ShortChannelId(id),
        peer: node(10).into(),
        available: Msat(5_000),
        htlc_minimum_msat: Msat(1),
        htlc_maximum_msat: Msat(5_000),
    };
    let mut payments = Payments::default();
    let hash = PREIMAGE.hash();
    effects(payments.start(request(Msat(1_000)), None, NOW).unwrap());
    let mut attempt = 0;
    let mut refused = |payments: &mut Payments, amount, channel, cause: CannotAdd| {
        attempt += 1;
        let mut hops = over(20, amount).hops().to_vec();
        hops[0].channel = Some(ShortChannelId(channel));
        let routes = vec![Route::new(hops).unwrap()];
        effects(payments.routes_found(&hash, routes, session_key, NOW).unwrap());
        effects(payments.refused(AttemptId(attempt), &cause, NOW));
        let most =
            |id| payments.pending(&hash).unwrap().first_channel(&local(id)).map(|channel| channel.htlc_maximum_msat.0);
        [most(1), most(2), most(3)]
    };
    let lacks = CannotAdd::Balance { balance: Msat(1), needed: Msat(2) };
    assert_eq!(
        refused(&mut payments, 1_000, 1, CannotAdd::TooManyHtlcs { maximum: 1 }),
        [None, Some(5_000), Some(5_000)]
    );
    assert_eq!(refused(&mut payments, 1_000, 2, lacks.clone()), [None, Some(500), Some(5_000)]);
    assert_eq!(refused(&mut payments, 500, 2, lacks.clone()), [None, Some(250), Some(5_000)]);
    assert_eq!(refused(&mut payments, 250, 2, lacks), [None, None, Some(5_000)]);
    let exposed = CannotAdd::DustExposure { maximum: Msat(1), exposure: Msat(2) };
    assert_eq!(refused(&mut payments, 1_000, 3, exposed), [None, None, None]);
}

/// What is written, as keys, and whether the value stays.
#[derive(Default)]
struct Keys(Vec<(crate::channel::Key, bool)>);

impl Persist for Keys {
    type Error = std::convert::Infallible;

    fn commit(&mut self, writes: Vec<Write>) -> Result<(), Self::Error> {
        self.0.extend(writes.into_iter().map(|write| (*write.key(), matches!(write, Write::Put { .. }))));
        Ok(())
    }
}

#[test]
fn a_payment_is_forgotten_only_when_it_is_over_and_its_numbers_are_never_given_again() {
    use crate::channel::Key;
    let written = |outbox| {
        let mut keys = Keys::default();
        Outbox::commit_all(vec![outbox], &mut keys).unwrap();
        keys.0
    };
    let mut payments = in_two_parts();
    let under_way = payments.pending(&PREIMAGE.hash()).unwrap().clone();
    assert!(written(payments.delete(&under_way, true)).is_empty());
    assert_eq!(payments.forget_failed_attempts(under_way).map(written), None);
    assert_eq!(payments.under_way().count(), 1);

    refuse(&mut payments, 1);
    let ended = latest(&effects(payments.fulfilled(AttemptId(2), PREIMAGE, NOW)));
    let index = ended.index;
    let whole = [(Key::Payment(index), false), (Key::PaymentIndex(PREIMAGE.hash()), false)];
    assert_eq!(written(payments.delete(&ended, true)), whole);
    assert_eq!(written(payments.delete(&ended, false)), whole[..1]);
    let kept = payments.forget_failed_attempts(ended.clone()).map(written);
    assert_eq!(kept, Some(vec![(Key::Payment(index), true)]));

    let mut restarted = Payments::restore([]);
    restarted.begin_after(payments.numbers());
    assert_eq!(restarted.numbers(), Numbers { index, attempt: 2 });
    effects(restarted.start(request(Msat(1_000)), None, NOW).unwrap());
    assert_eq!(restarted.last_index(), index + 1);
}
