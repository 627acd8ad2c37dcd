//! Two chains, and two people with a swap between them.

use bitcoin::{Amount, constants::ChainHash};

use super::{
    chain::{Chain, wallet_script},
    person::{Crash, Keys, Person},
};
use crate::{
    swap::{self, Leg, Offer, Refusal, Request, Role, Start, Swap, TermsError, Trade, margins},
    types::UnixTime,
};

pub const ALICE: u8 = 1;
pub const BOB: u8 = 2;
pub const OWNERS: [u8; 2] = [ALICE, BOB];

pub const BEGIN: u64 = 1_700_000_000;
/// The white paper's trade: one coin for ten.
pub const ONE: Amount = Amount::from_sat(100_000_000);
pub const TEN: Amount = Amount::from_sat(1_000_000_000);
/// What everybody begins with on each chain.
pub const PURSE: Amount = Amount::from_sat(2_000_000_000);
pub const DEPTH: u32 = 3;
/// Seconds; a divisor of both spacings.
const STEP: u64 = 300;

pub const NORTH: swap::Chain = swap::Chain { hash: ChainHash::REGTEST, spacing: 600 };
pub const SOUTH: swap::Chain = swap::Chain { hash: ChainHash::SIGNET, spacing: 900 };

pub struct Chains {
    pub now: u64,
    pub outer: Chain,
    pub inner: Chain,
}

impl Chains {
    pub fn new() -> Self {
        let (mut outer, mut inner) = (Chain::new(0xaa, BEGIN), Chain::new(0xbb, BEGIN));
        for owner in OWNERS {
            outer.give(owner, PURSE);
            inner.give(owner, PURSE);
        }
        Self { now: BEGIN, outer, inner }
    }

    pub fn leg(&self, leg: Leg) -> &Chain {
        match leg {
            Leg::Outer => &self.outer,
            Leg::Inner => &self.inner,
        }
    }

    pub fn leg_mut(&mut self, leg: Leg) -> &mut Chain {
        match leg {
            Leg::Outer => &mut self.outer,
            Leg::Inner => &mut self.inner,
        }
    }
}

pub fn trade() -> Trade {
    Trade {
        give: ONE,
        give_on: NORTH,
        get: TEN,
        get_on: SOUTH,
        outer_seconds: margins::OUTER_SECONDS,
        inner_seconds: margins::INNER_SECONDS,
    }
}

pub fn request(id: u8, chains: &Chains, by_hand: bool) -> Request {
    let start = |leg| Start {
        destination: wallet_script(id),
        tip: chains.leg(leg).tip(),
        spacing: chains.leg(leg).measured_spacing(),
    };
    Request {
        nonce: [0x40 + id; 32],
        by_hand,
        depth: DEPTH,
        max_lock_fee: Amount::from_sat(1_000),
        outer: start(Leg::Outer),
        inner: start(Leg::Inner),
    }
}

pub fn accept(offer: Offer, chains: &Chains, by_hand: bool) -> Result<Person, TermsError> {
    let request = request(BOB, chains, by_hand);
    let swap = Swap::accept(
        offer,
        (SOUTH, TEN),
        (NORTH, ONE),
        margins::INNER_SECONDS,
        request,
        UnixTime(chains.now),
        &Keys(BOB),
    )?;
    Ok(Person::new(BOB, swap))
}

/// What a person has at the end, beside what they began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    pub outer: bool,
    pub inner: bool,
}

pub struct World {
    pub chains: Chains,
    pub alice: Person,
    pub bob: Person,
}

impl World {
    /// Both have agreed; nothing is locked.
    pub fn agreed(by_hand: bool) -> Self {
        let mut chains = Chains::new();
        let quoted = Swap::quote(trade(), request(ALICE, &chains, by_hand), UnixTime(BEGIN), &Keys(ALICE)).unwrap();
        let mut alice = Person::new(ALICE, quoted);
        let bob = accept(*alice.swap.offer(), &chains, by_hand).unwrap();
        let acceptance = *bob.swap.acceptance().unwrap();
        alice.handle(swap::Event::Initiate(acceptance), &mut chains, Crash::Never).unwrap();
        Self { chains, alice, bob }
    }

    pub fn person(&mut self, role: Role) -> (&mut Person, &mut Chains) {
        match role {
            Role::Initiator => (&mut self.alice, &mut self.chains),
            Role::Participant => (&mut self.bob, &mut self.chains),
        }
    }

    pub fn order(&mut self, role: Role, event: swap::Event<'_>) -> Result<(), Refusal> {
        let (person, chains) = self.person(role);
        person.handle(event, chains, Crash::Never)
    }

    pub fn mine(&mut self, leg: Leg, blocks: u32) {
        let now = self.chains.now;
        for _ in 0..blocks {
            self.chains.leg_mut(leg).mine(now);
        }
        self.check();
    }

    pub fn look(&mut self, role: Role) {
        let (person, chains) = self.person(role);
        person.catch_up(chains, &mut || Crash::Never);
        self.check();
    }

    pub fn both_look(&mut self) {
        self.look(Role::Initiator);
        self.look(Role::Participant);
    }

    /// Alice's lock is deep, and Bob's is in the mempool.
    pub fn both_locked(by_hand: bool) -> Self {
        let mut world = Self::agreed(by_hand);
        world.mine(Leg::Outer, DEPTH);
        if by_hand {
            world.look(Role::Participant);
            world.order(Role::Participant, swap::Event::Participate).unwrap();
        }
        world.both_look();
        assert!(world.bob.swap.leg(Leg::Inner).funding.is_some(), "{:?}", world.bob.swap.phase());
        world
    }

    /// Until `seconds` after the beginning, with blocks of both chains at their rates.
    pub fn pass(&mut self, until: u64, mut every: impl FnMut(&mut Self)) {
        while self.chains.now < BEGIN + until {
            self.step();
            every(self);
        }
    }

    /// Five minutes, and the blocks that are due.
    pub fn step(&mut self) {
        self.chains.now += STEP;
        for (leg, chain) in [(Leg::Outer, NORTH), (Leg::Inner, SOUTH)] {
            let is_due = (self.chains.now - BEGIN).is_multiple_of(u64::from(chain.spacing));
            self.mine(leg, u32::from(is_due));
        }
    }

    /// Both look at everything until long after both expiries.
    pub fn run_out(&mut self) {
        self.pass(margins::OUTER_SECONDS + 24 * 3600, Self::both_look);
    }

    /// Every satoshi is somebody's: in a wallet, in one of the two contracts, or in a block's fees.
    pub fn check(&self) {
        for leg in Leg::ALL {
            let chain = self.chains.leg(leg);
            let held: Amount = chain.holdings().values().copied().sum();
            assert_eq!(held + chain.fees(), chain.issued());
            let contract = self.bob.swap.contract(leg).unwrap().script_pubkey().unwrap();
            let known = [self.alice.wallet(), self.bob.wallet(), contract.clone()];
            for (script, amount) in chain.holdings() {
                assert!(known.contains(&script), "{amount} of {leg:?} belong to nobody");
                if script == contract {
                    assert_eq!(
                        amount,
                        self.alice.swap.offer().leg(leg).amount,
                        "{leg:?}: nothing is locked beyond the offer"
                    );
                }
            }
        }
    }

    /// Which of the two amounts somebody has, give or take the fees.
    pub fn holds(&self, id: u8) -> Holds {
        let has = |leg: Leg, began_with_it: bool| {
            let amount = self.alice.swap.offer().leg(leg).amount;
            let least = if began_with_it { PURSE } else { PURSE + amount };
            // Fees of locks, and of claims that rose.
            self.chains.leg(leg).balance(id) + amount / 2 >= least
        };
        Holds { outer: has(Leg::Outer, id == ALICE), inner: has(Leg::Inner, id == BOB) }
    }
}
