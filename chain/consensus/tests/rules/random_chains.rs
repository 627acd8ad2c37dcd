//! Random chains of blocks with spends: whatever is put on comes off without a trace.

use bitcoin::OutPoint;
use leyden_consensus::Params;
use proptest::prelude::*;

use crate::support::{TestChain, outpoint, spend};

/// What one random transaction does.
#[derive(Clone, Debug)]
struct Plan {
    inputs: Vec<prop::sample::Index>,
    outputs: u8,
    burn: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    (prop::collection::vec(any::<prop::sample::Index>(), 1..4), 1u8..5, any::<bool>())
        .prop_map(|(inputs, outputs, burn)| Plan { inputs, outputs, burn })
}

/// Blocks of transactions; after each, whether the tip is taken off again at once.
fn plans() -> impl Strategy<Value = Vec<(Vec<Plan>, bool)>> {
    prop::collection::vec((prop::collection::vec(plan(), 0..6), any::<bool>()), 1..8)
}

/// Outputs that a block at this height may spend.
fn spendable(chain: &TestChain) -> Vec<OutPoint> {
    let height = chain.height() + 1;
    let mut found: Vec<OutPoint> = chain
        .coins
        .iter()
        .filter(|(_, coin)| !coin.is_coinbase || height - coin.height >= 100)
        .map(|(outpoint, _)| *outpoint)
        .collect();
    found.sort_unstable();
    found
}

fn run(plans: Vec<(Vec<Plan>, bool)>) {
    let mut chain = TestChain::new(Params::regtest());
    chain.mine(110);
    let base = chain.height();
    let mut states = vec![chain.coins_in_bytes()];
    let bottom = chain.stats.hash.finish();
    for (transactions, take_off) in plans {
        let mut available = spendable(&chain);
        let mut values: std::collections::HashMap<OutPoint, u64> =
            chain.coins.iter().map(|(outpoint, coin)| (*outpoint, coin.output.value.to_sat())).collect();
        let mut block = Vec::new();
        let mut fees = 0;
        for plan in transactions {
            let mut inputs = Vec::new();
            for index in &plan.inputs {
                if !available.is_empty() {
                    inputs.push(available.swap_remove(index.index(available.len())));
                }
            }
            let value: u64 = inputs.iter().map(|input| values[input]).sum();
            let each = value / (u64::from(plan.outputs) + 1);
            if inputs.is_empty() || each == 0 {
                available.extend(inputs);
                continue;
            }
            let mut tx = spend(&inputs, &vec![each; usize::from(plan.outputs)]);
            if plan.burn {
                tx.output[0].script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![0x6a, 0x51]);
            }
            fees += value - each * u64::from(plan.outputs);
            // Its outputs may be spent later in the same block.
            for vout in u32::from(plan.burn)..u32::from(plan.outputs) {
                available.push(outpoint(&tx, vout));
                values.insert(outpoint(&tx, vout), each);
            }
            block.push(tx);
        }
        chain.mine_with(block, fees).unwrap();
        if take_off {
            let block = chain.disconnect();
            assert!(chain.coins_in_bytes() == *states.last().unwrap());
            chain.connect(&block).unwrap();
        }
        states.push(chain.coins_in_bytes());
    }
    // All the way down and up again.
    let top = chain.stats.hash.finish();
    let blocks: Vec<_> = chain.connected[base as usize..].iter().map(|(block, _)| block.clone()).collect();
    for state in states.iter().rev() {
        assert!(chain.coins_in_bytes() == *state);
        if chain.height() > base {
            chain.disconnect();
        }
    }
    assert_eq!(chain.stats.hash.finish(), bottom);
    for block in &blocks {
        chain.connect(block).unwrap();
    }
    assert!(chain.coins_in_bytes() == *states.last().unwrap());
    assert_eq!(chain.stats.hash.finish(), top);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_chains_with_spends_come_off_without_a_trace(plans in plans()) {
        run(plans);
    }
}
