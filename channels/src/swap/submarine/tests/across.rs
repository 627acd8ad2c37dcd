//! Coins on one chain for a payment on another: what is refused, how much time the margins leave, and random schedules of two
//! chains whose clocks go as they like.
//!
//! A failure prints its seed: `LEYDEN_ACROSS_SEED=n cargo test --workspace --lib submarine::tests::across` runs that one alone.

use bitcoin::{Amount, constants::ChainHash};

use super::{
    lightning::Travel,
    schedule::{Conduct, is_settled, judge, take_everything, travel},
    world::*,
};
use crate::{
    margins::{CLAIM_MARGIN, MAX_HTLC_CLTV},
    swap::{
        self, RestoreError, Role, TermsError, margins,
        submarine::{
            Bargain, Believed, Clock, Direction, Lightning as Leg, Offer, Payment, Receipt, Request, Span, Submarine,
            across::Paces,
        },
        tests::{
            chain::Chain,
            schedule::{Dice, schedules},
            world::{ALICE, BEGIN, BOB, OWNERS, PURSE},
        },
    },
    types::{Height, UnixTime},
};

const SOUTH: swap::Chain = swap::Chain { hash: ChainHash::SIGNET, spacing: 600 };
const BOTH: [Direction; 2] = [Direction::In, Direction::Out];
/// Where the payment's chain begins.
const FIRST: u32 = 5_000;

fn bargain_across(direction: Direction, payment_chain: swap::Chain) -> Bargain {
    Bargain { span: Span::Two { payment_chain, refund_seconds: None }, ..bargain(direction) }
}

fn believed_across(direction: Direction, payment_chain: swap::Chain) -> Believed {
    Believed { payment: (payment_chain, PAYMENT), ..believed(direction) }
}

/// On chains of which so much is known.
fn request_across(id: u8, chain: &Chain, measured: u32) -> Request {
    let mut request = request(id, chain);
    request.start.spacing = chain.measured_spacing();
    request.payment.tip = Height(FIRST);
    request.payment.measured = measured;
    request
}

fn offered(direction: Direction) -> Offer {
    let chain = Chain::new(0xaa, BEGIN);
    let request = request_across(ALICE, &chain, 0);
    quote_of(&bargain_across(direction, SOUTH), request).unwrap().0.offer().clone()
}

fn answered(offer: Offer, believed: &Believed) -> Result<Submarine, TermsError> {
    let chain = Chain::new(0xaa, BEGIN);
    accept_of(offer, believed, request_across(BOB, &chain, 0)).map(|(swap, _)| swap)
}

/// Both have agreed, on chains of which nothing was measured; the payment arrives at once.
fn agreed(direction: Direction) -> World {
    let mut chain = Chain::new(0xaa, BEGIN);
    OWNERS.into_iter().for_each(|owner| chain.give(owner, PURSE));
    let quoted = quote_of(&bargain_across(direction, SOUTH), request_across(ALICE, &chain, 0)).unwrap();
    let offer = quoted.0.offer().clone();
    let believed = believed_across(direction, SOUTH);
    let answered = accept_of(offer, &believed, request_across(BOB, &chain, 0)).unwrap();
    let other = Other { height: FIRST, measured: 0, coins_measured: chain.measured_spacing() };
    World::begin(chain, Some(other), Person::new(ALICE, quoted), Person::new(BOB, answered), Travel::Arrives(0))
}

#[test]
fn an_offer_across_two_chains_survives_as_text_and_older_programs_refuse_it() {
    for direction in BOTH {
        let offer = offered(direction);
        let text = offer.encode();
        assert_eq!(text[1], 2, "another format than of one chain");
        assert_eq!(Offer::decode(&text), Ok(offer.clone()));
        for length in 0..text.len() {
            assert!(Offer::decode(&text[..length]).is_err());
        }
        let mut unknown = text;
        unknown[2] = 4;
        assert!(Offer::decode(&unknown).is_err());
        // A row, too, says that it is of a newer kind; one of a swap on one chain is what it was.
        let row = answered(offer, &believed_across(direction, SOUTH)).unwrap().encode();
        assert_eq!((row[0], Submarine::restore(&row).unwrap().encode()), (3, row));
        let (one, _) = quote(direction, &Chain::new(0xaa, BEGIN)).unwrap();
        assert_eq!((one.encode()[0], one.offer().encode()[1]), (2, 1));
        let newer = [&[4], &one.encode()[1..]].concat();
        assert!(matches!(Submarine::restore(&newer), Err(RestoreError::Newer { found: 4, known: 3 })));
    }
}

#[test]
fn an_offer_about_other_chains_than_was_believed_is_refused() {
    for direction in BOTH {
        let good = offered(direction);
        let means = believed_across(direction, SOUTH);
        assert!(answered(good.clone(), &means).is_ok());
        let refused = |offer: Offer, believed: &Believed| answered(offer, believed).unwrap_err();
        // On one chain, on two others, or the other way about.
        assert!(matches!(refused(good.clone(), &believed(direction)), TermsError::WrongChain(_)));
        let swapped = Believed { coins: (SOUTH, COINS), payment: (NORTH, PAYMENT), ..means };
        assert!(matches!(refused(good.clone(), &swapped), TermsError::WrongChain(_)));
        let (one, _) = quote(direction, &Chain::new(0xaa, BEGIN)).unwrap();
        assert!(matches!(refused(one.offer().clone(), &means), TermsError::WrongChain(_)));
        let Clock::Time { refund, .. } = good.clock else { panic!("it counts seconds") };
        let same = Offer { clock: Clock::Time { refund, payment_chain: NORTH }, ..good.clone() };
        assert_eq!(refused(same, &means), TermsError::OneChain);
        // A chain has one pace by its rules.
        let slower = swap::Chain { spacing: 601, ..SOUTH };
        let altered = Offer { clock: Clock::Time { refund, payment_chain: slower }, ..good.clone() };
        assert_eq!(refused(altered, &means), TermsError::WrongSpacing { chain: SOUTH, got: slower });
        let more = Offer { coins: COINS - Amount::from_sat(1), ..good.clone() };
        assert!(matches!(refused(more, &means), TermsError::WrongAmount { .. }));
    }
}

#[test]
fn an_offer_that_leaves_too_little_time_is_refused_by_name() {
    for direction in BOTH {
        let good = offered(direction);
        let means = believed_across(direction, SOUTH);
        let at = |seconds: u64| Offer {
            clock: Clock::Time { refund: UnixTime(BEGIN + seconds), payment_chain: SOUTH },
            ..good.clone()
        };
        let paces = Paces::new(&NORTH, 0, &SOUTH, 0);
        let needed = match direction {
            Direction::In => paces.begin_in_seconds(DEPTH),
            Direction::Out => paces.begin_out_seconds(DEPTH),
        };
        assert!(answered(at(needed), &means).is_ok());
        assert_eq!(
            answered(at(needed - 1), &means).unwrap_err(),
            TermsError::TooFewSeconds { left: needed - 1, needed }
        );
        let far = answered(Offer { final_cltv: 1_800, ..at(margins::MAX_SECONDS + 1) }, &means).unwrap_err();
        assert_eq!(far, TermsError::TooFar);
        let held = Offer { final_cltv: MAX_HTLC_CLTV - margins::ACROSS_ROUTE_BLOCKS + 1, ..good.clone() };
        assert!(matches!(answered(held, &means), Err(TermsError::ClocksApart { .. })));
    }
    // The payment goes back before the lock could.
    let good = offered(Direction::Out);
    let Clock::Time { refund, .. } = good.clock else { panic!("it counts seconds") };
    let least = Paces::new(&NORTH, 0, &SOUTH, 0).hold_blocks(refund.0 - BEGIN);
    let means = believed_across(Direction::Out, SOUTH);
    assert!(answered(Offer { final_cltv: least, ..good.clone() }, &means).is_ok());
    let short = Offer { final_cltv: least - 1, ..good };
    let refused = answered(short, &believed_across(Direction::Out, SOUTH)).unwrap_err();
    assert!(matches!(refused, TermsError::HeldTooShort { .. }), "{refused:?}");
    // A payment's chain that finds a block each minute cannot hold anything for so long.
    let quick = swap::Chain { spacing: 60, ..SOUTH };
    let quoted = |direction, measured| {
        let chain = Chain::new(0xaa, BEGIN);
        let payment_chain = if measured == 0 { quick } else { SOUTH };
        quote_of(&bargain_across(direction, payment_chain), request_across(ALICE, &chain, measured)).map(drop)
    };
    assert!(matches!(quoted(Direction::Out, 0), Err(TermsError::ClocksApart { .. })));
    assert!(matches!(quoted(Direction::Out, 60), Err(TermsError::ClocksApart { .. })), "measured is as good");
    // One that found a block each hour does not know what has become of a payment before two weeks are over.
    assert_eq!(quoted(Direction::In, 3_600), Err(TermsError::TooFar));
    assert_eq!((quoted(Direction::In, 60), quoted(Direction::Out, 3_600)), (Ok(()), Ok(())));
}

/// Bob's view of an offer when the payment's chain turns out to go otherwise than Alice had measured.
#[test]
fn what_is_measured_makes_an_offer_safer_and_never_less_safe() {
    let chain = Chain::new(0xaa, BEGIN);
    let answer = |direction, measured| {
        let offer = offered(direction);
        accept_of(offer, &believed_across(direction, SOUTH), request_across(BOB, &chain, measured)).map(drop)
    };
    for measured in [0, 600, 1_800] {
        assert_eq!(answer(Direction::Out, measured), Ok(()), "what is held lasts");
    }
    assert!(matches!(answer(Direction::Out, 300), Err(TermsError::HeldTooShort { .. })));
    for measured in [0, 200, 600] {
        assert_eq!(answer(Direction::In, measured), Ok(()), "what is paid is known in time");
    }
    assert!(matches!(answer(Direction::In, 7_200), Err(TermsError::TooFewSeconds { .. })));
}

#[test]
fn a_swap_goes_on_when_blocks_come_a_little_faster_than_when_it_was_quoted() {
    let chain = Chain::new(0xaa, BEGIN);
    for (before, now) in [(0, 540), (500, 455)] {
        for direction in BOTH {
            let request = request_across(ALICE, &chain, before);
            let offer = quote_of(&bargain_across(direction, SOUTH), request).unwrap().0.offer().clone();
            let answer =
                accept_of(offer, &believed_across(direction, SOUTH), request_across(BOB, &chain, now)).map(drop);
            assert_eq!(answer, Ok(()), "{direction:?} {before} {now}");
        }
    }
    let mut world = agreed(Direction::Out);
    world.look(Role::Initiator);
    world.between.other.as_mut().unwrap().measured = 540;
    world.look(Role::Participant);
    assert!(world.bob.swap.leg().funding.is_some(), "what is held lasts");
}

#[test]
fn a_lock_that_waits_is_called_back_once_the_payment_is_not_held_for_as_long_any_more() {
    let mut world = agreed(Direction::Out);
    world.look(Role::Initiator);
    world.between.chain.minimum = u64::MAX;
    world.look(Role::Participant);
    world.mine(1);
    world.look(Role::Participant);
    let leg = world.bob.swap.leg();
    assert!(leg.funding.is_some() && leg.recall.is_none());
    // What is held runs out three times as fast as it should. The lock is not due back for a day.
    let other = world.between.other.as_mut().unwrap();
    (other.height, other.measured) = (other.height + 60, 200);
    world.look(Role::Participant);
    assert!(world.bob.swap.leg().recall.is_some());
    world.between.chain.minimum = 0;
    for _ in 0..=margins::REORG_DEPTH {
        world.mine(1);
        world.look(Role::Participant);
    }
    assert_eq!(world.between.lightning.receipt, Receipt::Canceled, "the lock never comes");
    let (_, his) = world.end();
    assert_eq!(his, Holds { coins: true, payment: false });
}

/// Whoever accepts both pays twice for coins that are locked once: so no two swaps of a node have one hash.
#[test]
fn a_swap_across_two_chains_and_an_atomic_one_with_its_hash_can_have_the_same_lock() {
    for direction in BOTH {
        let leg = direction.contract_leg();
        let offer = offered(direction);
        let swap = answered(offer.clone(), &believed_across(direction, SOUTH)).unwrap();
        let key = swap.acceptance().unwrap().key;
        let Clock::Time { refund: expiry, .. } = offer.clock else { panic!("it counts seconds") };
        let terms = |chain| swap::LegTerms { chain, amount: COINS, expiry };
        let (outer, inner) = match leg {
            swap::Leg::Outer => (terms(NORTH), terms(SOUTH)),
            swap::Leg::Inner => (terms(SOUTH), terms(NORTH)),
        };
        let atomic = swap::Offer { hash: offer.hash, outer, inner, refund_key: offer.key, redeem_key: offer.key };
        let answer = swap::Acceptance { offer: atomic.digest(), redeem_key: key, refund_key: key };
        assert_eq!(Some(atomic.contract(leg, &answer)), swap.contract());
    }
}

#[test]
fn the_payment_is_over_or_held_as_long_as_the_lock_needs_however_both_clocks_go() {
    for (coins, payment) in [(600, 600), (600, 300), (300, 600), (900, 600), (60, 600), (600, 900)] {
        let north = swap::Chain { spacing: coins, ..NORTH };
        let south = swap::Chain { spacing: payment, ..SOUTH };
        let paces = Paces::new(&north, 0, &south, 0);
        let left = paces.usual_in_seconds(DEPTH);
        let limit = paces.pay_limit(left).unwrap();
        assert!(limit >= margins::IN_FINAL_CLTV + margins::ACROSS_ROUTE_BLOCKS, "{limit}");
        // At the slowest: the last attempt, the payment's chain at half its pace, the redeem with all that may delay it.
        let slowest = margins::PAY_SECONDS
            + u64::from(limit + margins::RESOLVE_BLOCKS) * u64::from(payment) * margins::PACE
            + margins::reveal_seconds(&north);
        assert!(slowest <= left, "{slowest} seconds against {left}");
        // At the fastest: the payment's chain at twice its pace, and the refund as late as it can be.
        let left = paces.usual_out_seconds(DEPTH);
        let blocks = paces.hold_blocks(left);
        let race = margins::MEDIAN_BLOCKS + margins::CONFIRMATION_BUDGET + margins::REORG_DEPTH;
        let latest = left + u64::from(race) * u64::from(coins) + margins::RESTART_ALLOWANCE + margins::CLOCK_SLACK;
        let fastest = u64::from(blocks - CLAIM_MARGIN) * u64::from(payment) / margins::PACE;
        assert!(latest <= fastest, "{latest} seconds against {fastest}");
        assert!(paces.held_seconds(blocks) >= latest);
    }
    let paces = Paces::new(&NORTH, 0, &SOUTH, 0);
    assert_eq!(paces.pay_limit(paces.begin_in_seconds(0)), Some(margins::IN_FINAL_CLTV));
    assert_eq!(paces.pay_limit(paces.begin_in_seconds(0) - 1), None);
    assert_eq!((paces.pay_limit(0), paces.pay_limit(u64::MAX)), (None, Some(MAX_HTLC_CLTV)));
    // Nothing that somebody could write into an offer is more than can be counted.
    let endless = Paces::new(&swap::Chain { spacing: u32::MAX, ..NORTH }, 0, &swap::Chain { spacing: 0, ..SOUTH }, 0);
    assert_eq!((endless.hold_blocks(u64::MAX), endless.held_seconds(u32::MAX)), (u32::MAX, 0));
    assert_eq!(endless.coins_blocks(7), 0);
}

struct Schedule {
    dice: Dice,
    world: World,
    conduct: [(Role, Conduct); 2],
    /// Seconds between blocks of the contract's chain and of the payment's, as they were before, and are on average.
    spacing: [u64; 2],
    /// How much faster, or slower, the payment's chain is now, in hundredths of its spacing.
    drift: u64,
    next_block: [u64; 2],
    next_look: [u64; 2],
    older: [Option<Vec<u8>>; 2],
    refund: u64,
}

/// Three times as fast, as it should be, three times as slow.
fn pace(dice: &mut Dice, spacing: u32) -> u64 {
    let spacing = u64::from(spacing);
    match dice.below(3) {
        0 => spacing / 3,
        1 => spacing,
        _ => spacing * 3,
    }
}

fn throw(dice: &mut Dice, span: u64) -> Conduct {
    let at = BEGIN + dice.below(span + 24 * 3_600);
    match dice.below(3) {
        0 => Conduct::Dead(at),
        1 => Conduct::Greedy(at),
        _ => Conduct::Honest,
    }
}

impl Schedule {
    /// An error if the two clocks leave too little.
    fn new(seed: u64) -> Result<Self, TermsError> {
        let mut dice = Dice(seed);
        let direction = if dice.percent(50) { Direction::In } else { Direction::Out };
        let south = swap::Chain { spacing: [300, 600, 900][dice.below(3) as usize], ..SOUTH };
        let spacing = [pace(&mut dice, NORTH.spacing), pace(&mut dice, south.spacing)];
        // Of a chain that goes as it should, at times nothing is measured.
        let is_unknown = spacing[1] == u64::from(south.spacing) && dice.percent(50);
        let measured = if is_unknown { 0 } else { u32::try_from(spacing[1]).unwrap() };
        let mut chain = Chain::with_spacing(0xaa, BEGIN, spacing[0]);
        OWNERS.into_iter().for_each(|owner| chain.give(owner, PURSE));
        let quoted = quote_of(&bargain_across(direction, south), request_across(ALICE, &chain, measured))?;
        let mut alice = Person::new(ALICE, quoted);
        let offer = alice.swap.offer().clone();
        let answer =
            accept_of(offer.clone(), &believed_across(direction, south), request_across(BOB, &chain, measured));
        let mut bob = Person::new(BOB, answer.unwrap());
        for person in [&mut alice, &mut bob] {
            person.fast = dice.below(3_600);
        }
        let Clock::Time { refund, .. } = offer.clock else { panic!("it counts seconds") };
        let span = refund.0 - BEGIN;
        // One of them at least is honest: between two thieves there is nothing to promise.
        let conduct = match dice.below(3) {
            0 => [(Role::Initiator, Conduct::Honest), (Role::Participant, Conduct::Honest)],
            1 => [(Role::Initiator, Conduct::Honest), (Role::Participant, throw(&mut dice, span))],
            _ => [(Role::Initiator, throw(&mut dice, span)), (Role::Participant, Conduct::Honest)],
        };
        let other = Other { height: FIRST, measured, coins_measured: chain.measured_spacing() };
        let travel = travel(&mut dice);
        let mut world = World::begin(chain, Some(other), alice, bob, travel);
        world.between.route = dice.below(160) as u32;
        // The safer of what is measured and what should be is doubted by a factor of two: so far it may go.
        let drift = [55, 100, 100, 190][dice.below(4) as usize];
        let drift = match drift {
            55 if spacing[1] > u64::from(south.spacing) => 100,
            190 if spacing[1] < u64::from(south.spacing) => 100,
            drift => drift,
        };
        let (next_block, next_look, older) = ([BEGIN; 2], [BEGIN; 2], [None, None]);
        Ok(Self { dice, world, conduct, spacing, drift, next_block, next_look, older, refund: refund.0 })
    }

    fn run(&mut self) {
        // Until nobody has anything to wait for: no HTLC is left, however late that is, and whoever may redeem or refund has had
        // days for it.
        let mut over = None;
        while over.is_none_or(|over| self.world.between.now < over + 3 * 24 * 3_600) && !is_settled(&self.world) {
            if over.is_none() && self.world.between.now > self.refund && self.world.between.lightning.is_over() {
                over = Some(self.world.between.now);
            }
            self.world.between.now += 60 + self.dice.below(600);
            self.contract_block();
            self.payment_blocks();
            for at in 0..2 {
                self.turn(at);
            }
            let now = self.world.between.now;
            let locks = self.world.alice.swap.offer().direction.locks();
            let payee = self.conduct.iter().find(|(role, _)| *role == locks).unwrap().1;
            let is_there = match payee {
                Conduct::Honest => true,
                Conduct::Dead(at) | Conduct::Greedy(at) => now < at,
            };
            self.world.advance(is_there);
            self.world.check();
        }
    }

    fn contract_block(&mut self) {
        let Self { dice, world, spacing, next_block, refund, .. } = self;
        let now = world.between.now;
        if now < next_block[0] {
            return;
        }
        next_block[0] = now + spacing[0] / 2 + dice.below(spacing[0]);
        // Clocks of miners are wrong by an hour.
        let time = now + dice.below(7_200) - 3_600;
        let chain = &mut world.between.chain;
        if now >= *refund {
            chain.minimum = 0;
        } else if dice.percent(10) {
            chain.minimum = dice.below(20) * 1_000;
        }
        let (depth, forgetful) = (1 + dice.below(u64::from(DEPTH) - 1) as u32, dice.percent(30));
        if dice.percent(2) {
            chain.reorganize(depth, time, forgetful);
        } else {
            chain.mine(time);
        }
        let coins_measured = chain.measured_spacing();
        if let Some(other) = &mut world.between.other {
            other.coins_measured = coins_measured;
        }
    }

    fn payment_blocks(&mut self) {
        let Self { dice, world, spacing, drift, next_block, .. } = self;
        let between = &mut world.between;
        between.travel = travel(dice);
        between.route = dice.below(160) as u32;
        if dice.percent(3) {
            between.lightning.delay = if dice.percent(30) { 10_000 } else { dice.below(5) as u32 };
        }
        let mean = spacing[1] * *drift / 100;
        while next_block[1] <= between.now {
            next_block[1] += mean / 2 + dice.below(mean);
            if let Some(other) = &mut between.other {
                other.height += 1;
            }
        }
    }

    fn turn(&mut self, at: usize) {
        let now = self.world.between.now;
        if now < self.next_look[at] {
            return;
        }
        // Mostly there, at times away for half of what is allowed.
        let pause = if self.dice.percent(3) { margins::RESTART_ALLOWANCE / 2 } else { 1_200 };
        self.next_look[at] = now + self.dice.below(pause);
        let (role, conduct) = self.conduct[at];
        match conduct {
            Conduct::Dead(from) if now >= from => return,
            Conduct::Greedy(from) if now >= from => return take_everything(&mut self.dice, &mut self.world, role),
            Conduct::Honest | Conduct::Dead(_) | Conduct::Greedy(_) => {}
        }
        let dice = &mut self.dice;
        let (person, between) = self.world.person(role);
        person.doubts = dice.percent(10);
        if dice.puts_back(&mut self.older[at], &mut person.disk.0) {
            person.restart();
        }
        person.catch_up(between, &mut || dice.crash());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The clocks leave too little.
    Refused,
    Swapped,
    Other,
}

fn run(seed: u64) -> End {
    let result = std::panic::catch_unwind(|| {
        let mut schedule = match Schedule::new(seed) {
            Ok(schedule) => schedule,
            Err(TermsError::ClocksApart { .. } | TermsError::TooFar) => return End::Refused,
            Err(error) => panic!("{error}"),
        };
        schedule.run();
        judge(&schedule.world, &schedule.conduct);
        let is_paid = matches!(schedule.world.between.lightning.payment, Payment::Paid(_));
        let is_swapped = is_paid && [ALICE, BOB].iter().any(|id| schedule.world.holds(*id).coins);
        if is_swapped { End::Swapped } else { End::Other }
    });
    result.unwrap_or_else(|_| panic!("schedule of seed {seed} failed; LEYDEN_ACROSS_SEED={seed} runs it alone"))
}

#[test]
fn schedules_of_swaps_across_two_chains_never_leave_one_side_with_both_nor_an_honest_one_with_none() {
    if let Ok(seed) = std::env::var("LEYDEN_ACROSS_SEED") {
        run(seed.parse().unwrap());
        return;
    }
    let (mut begun, mut swapped, mut refused) = (0, 0, 0);
    let wanted = schedules();
    for seed in 0.. {
        match run(seed) {
            End::Refused => refused += 1,
            End::Swapped => (begun, swapped) = (begun + 1, swapped + 1),
            End::Other => begun += 1,
        }
        if begun == wanted {
            break;
        }
    }
    println!("{begun} schedules, and {refused} refused before they began: {swapped} swapped");
    assert!(swapped > wanted / 4, "most schedules should get somewhere: {swapped}");
    assert!(refused < wanted / 2, "most clocks leave time enough: {refused}");
}

#[test]
fn a_payment_that_hangs_is_over_before_the_coins_go_back_on_another_chain() {
    for drift in [100, 190] {
        let seed = (0..).find(|seed| {
            Schedule::new(*seed).is_ok_and(|schedule| {
                let offer = schedule.world.alice.swap.offer();
                offer.direction == Direction::In && schedule.drift == drift
            })
        });
        let mut schedule = Schedule::new(seed.unwrap()).unwrap();
        schedule.conduct = [(Role::Initiator, Conduct::Honest), (Role::Participant, Conduct::Honest)];
        let mut hung = false;
        while !schedule.world.between.lightning.is_over() || !hung {
            schedule.world.between.now += 300;
            schedule.contract_block();
            schedule.payment_blocks();
            (schedule.world.between.travel, schedule.world.between.route) = (Travel::Hangs, ROUTE);
            schedule.turn(0);
            schedule.turn(1);
            schedule.world.advance(true);
            hung |= !schedule.world.between.lightning.is_over();
            assert!(schedule.world.between.now < schedule.refund, "Bob has time to redeem");
        }
        let left = schedule.refund - schedule.world.between.now;
        assert!(left >= margins::reveal_seconds(&NORTH), "{left}");
        assert!(matches!(schedule.world.bob.swap.lightning(), Leg::Pays(_)));
        assert_ne!(schedule.world.between.lightning.receipt, Receipt::Settled);
    }
}
