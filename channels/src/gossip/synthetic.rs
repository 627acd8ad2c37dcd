//! A made-up network with the shape of the real one, for benchmarks and tests.
//!
//! A seed gives one network, on every machine:
//!
//! - **Shape**: nodes join one after the other and open channels to those that are there, nine times out of ten to
//!   one chosen in proportion to its channels (preferential attachment), else to any. Most nodes open one or two
//!   channels, few open many: 50 % one, 20 % two, 15 % three or four, 10 % five to ten, 5 % eleven to thirty. The
//!   channels still missing are opened between nodes that are both chosen in proportion to their channels.
//!   Degrees follow a power law; the largest hub has some 400 channels.
//! - **Capacity**: log-normal, median 2,000,000 sat, standard deviation 1.5 in natural logarithms, between 20,000
//!   sat and 5 coins.
//! - **Balance**: half of the channels anywhere, half near one of their ends, as channels are that payments run
//!   through mostly one way. The graph does not know it; simulations do.
//! - **Policy**, for each direction: base fee 0 (half) or 1000 msat; rate 1 to 2,500 millionths, logarithmically
//!   even; `cltv_expiry_delta` 40, 80 or 144; `htlc_minimum_msat` 1 or 1000; `htlc_maximum_msat` 99 % of the
//!   capacity, or in one of five a half of it; 3 % are disabled.

mod records;

use bitcoin::Amount;
use secp256k1::SecretKey;

use super::graph::{Direction, Graph, NewChannel, PerDirection, RoutingPolicy};
use crate::keys::secp;
use crate::types::{Height, Msat, NodeId, ShortChannelId};

/// How large a network to make, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Another seed makes another network of the same kind.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u32,
    /// How many channels.
    pub channels: u32,
}

impl Size {
    /// The size of the public network.
    pub const PUBLIC: Self = Self { seed: 1, nodes: 15_000, channels: 50_000 };
}

/// A channel of a made-up network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntheticChannel {
    /// Its ends and capacity.
    pub channel: NewChannel,
    /// What node 1 could send.
    pub balance_1: Msat,
    /// What its ends charge.
    pub policies: PerDirection<Option<RoutingPolicy>>,
}

impl SyntheticChannel {
    /// What can be sent in a direction.
    pub fn balance(&self, direction: Direction) -> Msat {
        match direction {
            Direction::FromNode1 => self.balance_1,
            Direction::FromNode2 => self.channel.capacity_msat().saturating_sub(self.balance_1),
        }
    }
}

/// A made-up network.
#[derive(Clone, Debug)]
pub struct SyntheticNetwork {
    /// The keys of all nodes.
    pub nodes: Vec<NodeId>,
    /// All channels.
    pub channels: Vec<SyntheticChannel>,
}

/// splitmix64: a few lines, so that the network does not change with a library's version.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// The same seed draws the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, evenly drawn.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to before `limit`, which must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.draw() % (limit.max(1) as u64)) as usize
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normally distributed, mean 0, deviation 1: the sum of twelve even numbers. Only sums and products go into
    /// it, so it comes out the same everywhere.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

impl SyntheticNetwork {
    /// Draws the network; the same size gives the same one on every machine.
    pub fn generate(size: Size) -> Self {
        let mut random = SplitMix::new(size.seed);
        let nodes: Vec<NodeId> = (0..size.nodes).map(|_| secret_key(&mut random).public_key(secp()).into()).collect();
        let pairs = connect(size, &mut random);
        let channels = pairs
            .into_iter()
            .enumerate()
            .filter_map(|(number, (a, b))| {
                Some(make_channel(number as u32, *nodes.get(a as usize)?, *nodes.get(b as usize)?, &mut random))
            })
            .collect();
        Self { nodes, channels }
    }

    /// The network as gossip would have told it: without balances.
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        for made in &self.channels {
            graph.add_channel(made.channel);
            for direction in [Direction::FromNode1, Direction::FromNode2] {
                graph.set_policy(made.channel.short_channel_id, direction, *made.policies.get(direction));
            }
        }
        graph
    }
}

fn secret_key(random: &mut SplitMix) -> SecretKey {
    loop {
        let mut bytes = [0; 32];
        bytes.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.draw().to_be_bytes()));
        if let Ok(secret) = SecretKey::from_slice(&bytes) {
            return secret;
        }
    }
}

/// The pairs of nodes that have channels.
fn connect(size: Size, random: &mut SplitMix) -> Vec<(u32, u32)> {
    let wanted = size.channels as usize;
    let mut pairs = Vec::with_capacity(wanted);
    // Every end of every channel: an entry drawn evenly is a node drawn in proportion to its channels.
    let mut ends: Vec<u32> = Vec::with_capacity(2 * wanted);
    for joining in 1..size.nodes {
        let count = match random.below(100) {
            0..50 => 1,
            50..70 => 2,
            70..85 => 3 + random.below(2),
            85..95 => 5 + random.below(6),
            _ => 11 + random.below(20),
        };
        // Every node still to come needs a channel of its own.
        let reserved = (size.nodes - 1 - joining) as usize;
        for turn in 0..count.min(joining as usize) {
            if turn > 0 && pairs.len() + reserved >= wanted {
                break;
            }
            let preferential = ends.get(random.below(ends.len())).copied().filter(|_| random.below(10) > 0);
            let peer = preferential.filter(|peer| *peer < joining).unwrap_or(random.below(joining as usize) as u32);
            pairs.push((joining, peer));
            ends.extend([joining, peer]);
        }
    }
    while pairs.len() < wanted && ends.len() > 2 {
        let (a, b) = (random.below(ends.len()), random.below(ends.len()));
        if let (Some(a), Some(b)) = (ends.get(a).copied(), ends.get(b).copied())
            && a != b
        {
            pairs.push((a, b));
            ends.extend([a, b]);
        }
    }
    pairs
}

fn make_channel(number: u32, a: NodeId, b: NodeId, random: &mut SplitMix) -> SyntheticChannel {
    let capacity = log_normal(random).clamp(20_000.0, 500_000_000.0) as u64;
    let capacity_msat = capacity * 1000;
    // The power draws an even number towards 0, and half of those go to the other end.
    let even = random.unit();
    let share = match random.below(4) {
        0 => even * even * even * even * 0.5,
        1 => 1.0 - even * even * even * even * 0.5,
        _ => even,
    };
    let policies = PerDirection {
        from_node_1: Some(policy(capacity_msat, random)),
        from_node_2: Some(policy(capacity_msat, random)),
    };
    SyntheticChannel {
        channel: NewChannel {
            short_channel_id: ShortChannelId::new(Height(500_000 + number / 20), number % 20, 0),
            node_id_1: a.min(b),
            node_id_2: a.max(b),
            capacity: Amount::from_sat(capacity),
            routable: true,
        },
        balance_1: Msat((capacity_msat as f64 * share) as u64),
        policies,
    }
}

/// The law of the balances that [`make_channel`] draws: the share of channels in which node 1 has at most the part `x` of
/// the capacity; for node 2 it is the same.
pub fn share_at_most(x: f64) -> f64 {
    let x = x.clamp(0.0, 1.0);
    let near_0 = (2.0 * x).min(1.0).sqrt().sqrt();
    let near_1 = 1.0 - (2.0 * (1.0 - x)).min(1.0).sqrt().sqrt();
    0.5 * x + 0.25 * (near_0 + near_1)
}

/// 2,000,000 · e^(1.5 z). The exponential is multiplied up from small steps, whose series needs two terms, rather
/// than taken from a mathematical library that differs between systems.
fn log_normal(random: &mut SplitMix) -> f64 {
    let step = 1.5 * random.normal() / 1024.0;
    let small = 1.0 + step + step * step / 2.0;
    (0..10).fold(small, |power, _| power * power) * 2_000_000.0
}

fn policy(capacity_msat: u64, random: &mut SplitMix) -> RoutingPolicy {
    // Logarithmically even: a power of two up to 2048, then anywhere up to the next.
    let octave = 1u32 << random.below(11);
    let rate = (octave + random.below(octave as usize) as u32).min(2500);
    let fee_base_msat = if random.below(2) == 0 { 0 } else { 1000 };
    let cltv_expiry_delta = match random.below(3) {
        0 => 40,
        1 => 80,
        _ => 144,
    };
    let htlc_minimum_msat = Msat(if random.below(2) == 0 { 1 } else { 1000 });
    let htlc_maximum_msat = Msat(if random.below(5) == 0 { capacity_msat / 2 } else { capacity_msat / 100 * 99 });
    RoutingPolicy {
        timestamp: 1_700_000_000,
        checksum: 0,
        disabled: random.below(100) < 3,
        cltv_expiry_delta,
        htlc_minimum_msat,
        htlc_maximum_msat,
        fee_base_msat,
        fee_proportional_millionths: rate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_network_has_its_size_and_its_hubs() {
        let network = SyntheticNetwork::generate(Size::PUBLIC);
        let graph = network.graph();
        assert_eq!((graph.node_count(), graph.channel_count()), (15_000, 50_000));
        let mut degrees: Vec<_> = graph.nodes().map(|(index, _)| graph.outgoing(index).len()).collect();
        degrees.sort_unstable();
        let (median, largest) = (degrees[7_500], degrees[14_999]);
        println!("degrees: median {median}, 99 % {}, largest {largest}", degrees[14_850]);
        assert!(median <= 4 && largest >= 300, "median {median}, largest {largest}");
        let mut capacities: Vec<_> = network.channels.iter().map(|made| made.channel.capacity.to_sat()).collect();
        capacities.sort_unstable();
        println!("capacities: median {} sat, 90 % {} sat", capacities[25_000], capacities[45_000]);
        assert!((1_800_000..2_200_000).contains(&capacities[25_000]));
    }

    #[test]
    fn balances_follow_their_law() {
        let network = SyntheticNetwork::generate(Size::PUBLIC);
        let share = |made: &SyntheticChannel| made.balance_1.0 as f64 / made.channel.capacity_msat().0 as f64;
        for x in [0.001, 0.1, 0.3, 0.5, 0.8, 0.99] {
            let below = network.channels.iter().filter(|made| share(made) <= x).count() as f64 / 50_000.0;
            assert!((below - share_at_most(x)).abs() < 0.01, "{x}: {below} and {}", share_at_most(x));
        }
        assert_eq!((share_at_most(0.0), share_at_most(1.0)), (0.0, 1.0));
    }

    #[test]
    fn the_same_seed_makes_the_same_network() {
        let size = Size { seed: 7, nodes: 100, channels: 300 };
        let (one, two) = (SyntheticNetwork::generate(size), SyntheticNetwork::generate(size));
        assert_eq!(one.channels, two.channels);
        assert_ne!(one.channels, SyntheticNetwork::generate(Size { seed: 8, ..size }).channels);
        assert_eq!(one.channels.len(), 300);
    }
}
