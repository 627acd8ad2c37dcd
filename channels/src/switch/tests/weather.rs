//! How a schedule is disposed.

use bitcoin::Transaction;

use super::items::Lane;
use super::network::{EDGES, NODES};
use super::opening::Base;
use super::random::Random;
use crate::types::ChannelId;

/// How often each thing happens, drawn anew for each schedule.
pub(super) struct Weather {
    pub pay: u64,
    pub work: u64,
    pub deliver: u64,
    pub flush: u64,
    pub cut: u64,
    pub restart: u64,
    pub crash_percent: u64,
    pub tell: u64,
    /// Of a lost connection, at each step.
    pub reconnect_percent: u64,
    /// Comes back late, so that what is owed over it waits.
    pub bad_wire: (usize, usize),
    pub lazy_percent: u64,
    /// This channel's task is slow on this node, so that others overtake it.
    pub lazy: (usize, Lane),
    pub repeat_percent: u64,
    pub bad_route_percent: u64,
    pub block: u64,
    pub hold_percent: u64,
    /// Nodes close channels alone, and the bad wire may stay cut.
    pub closes: Option<Closes>,
}

pub(super) struct Closes {
    pub force: u64,
    pub glance: u64,
    pub reorganise: u64,
    /// How many blocks a node may be behind.
    pub lag: u32,
    /// How many more times a node closes for no reason.
    pub left: usize,
    /// Who publishes an old commitment, and that, once it has been put aside.
    pub cheater: Option<(usize, Option<(ChannelId, Transaction)>)>,
    /// For how many blocks the bad wire stays cut after everything else has come to rest.
    pub silence: u32,
}

impl Weather {
    pub fn draw(random: &mut Random) -> Self {
        let stormy = random.chance(70);
        let closes = random.chance(60).then(|| Closes {
            force: random.between(0, 4),
            glance: random.between(0, 10),
            reorganise: if random.chance(30) { 1 } else { 0 },
            lag: random.between(0, 2) as u32,
            left: random.below(5),
            cheater: random.chance(25).then(|| (random.below(NODES), None)),
            silence: if random.chance(50) { random.between(20, 200) as u32 } else { 0 },
        });
        Self {
            pay: random.between(2, 10),
            work: random.between(20, 50),
            deliver: random.between(20, 50),
            flush: random.between(10, 30),
            cut: if stormy { random.between(0, 8) } else { 0 },
            restart: if stormy { random.between(0, 6) } else { 0 },
            crash_percent: if stormy { random.between(0, 5) } else { 0 },
            reconnect_percent: random.between(2, 25),
            tell: random.between(0, 3),
            bad_wire: EDGES[random.below(EDGES.len())],
            lazy_percent: if random.chance(50) { 97 } else { 0 },
            lazy: {
                let edge = Base::get().edges[random.below(EDGES.len())];
                (if random.chance(50) { edge.ends.0 } else { edge.ends.1 }, Lane::Channel(edge.channel))
            },
            repeat_percent: if random.chance(40) { 15 } else { 0 },
            bad_route_percent: random.between(0, 20),
            hold_percent: random.between(0, 60),
            block: if closes.is_some() { random.between(1, 30) } else { 1 },
            closes,
        }
    }
}
