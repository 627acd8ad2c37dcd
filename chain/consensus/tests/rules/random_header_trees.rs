//! Random trees of headers against the plain definition: walk the parents, add the work.

use std::collections::HashMap;
use std::sync::Arc;

use bitcoin::BlockHash;
use leyden_consensus::header_tree::Validity;
use leyden_consensus::{HeaderTree, KnownHeader, Params};
use proptest::prelude::*;

use crate::support::LATE;
use crate::traps_headers::child;

/// One step: grow a child somewhere, judge a block, or note a body.
#[derive(Clone, Debug)]
enum Step {
    Grow(prop::sample::Index, u16),
    Invalidate(prop::sample::Index),
    Reconsider(prop::sample::Index),
    Store(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<prop::sample::Index>(), 1u16..2000).prop_map(|(at, seconds)| Step::Grow(at, seconds)),
        1 => any::<prop::sample::Index>().prop_map(Step::Invalidate),
        1 => any::<prop::sample::Index>().prop_map(Step::Reconsider),
        6 => any::<prop::sample::Index>().prop_map(Step::Store),
    ]
}

struct Model {
    order: Vec<BlockHash>,
    parent: HashMap<BlockHash, BlockHash>,
    failed: Vec<BlockHash>,
    stored: Vec<BlockHash>,
}

impl Model {
    fn ancestry(&self, hash: &BlockHash) -> Vec<BlockHash> {
        let mut chain = vec![*hash];
        while let Some(parent) = self.parent.get(chain.last().unwrap()) {
            chain.push(*parent);
        }
        chain
    }

    fn is_valid(&self, hash: &BlockHash) -> bool {
        self.ancestry(hash).iter().all(|ancestor| !self.failed.contains(ancestor))
    }

    fn is_complete(&self, hash: &BlockHash) -> bool {
        self.ancestry(hash).iter().all(|ancestor| self.stored.contains(ancestor))
    }
}

fn check(tree: &HeaderTree, model: &Model) {
    let known = |hash: &BlockHash| tree.get(hash).unwrap();
    // On regtest every header has the same work, so work is height.
    let best = model.order.iter().filter(|hash| model.is_valid(hash)).map(|hash| known(hash).height).max().unwrap();
    assert_eq!(tree.best().height, best);
    assert!(model.is_valid(&tree.best().hash));
    let complete = model.order.iter().filter(|hash| model.is_valid(hash) && model.is_complete(hash));
    assert_eq!(tree.best_stored().height, complete.map(|hash| known(hash).height).max().unwrap());
    assert!(model.is_complete(&tree.best_stored().hash) && model.is_valid(&tree.best_stored().hash));
    for through in &model.order {
        let of_it = model.order.iter().filter(|hash| model.ancestry(hash).contains(through));
        let complete = of_it.filter(|hash| model.is_valid(hash) && model.is_complete(hash));
        let best = tree.best_stored_through(through).map(|best| best.height);
        assert_eq!(best, complete.map(|hash| known(hash).height).max());
    }

    for hash in &model.order {
        let header = known(hash);
        assert_eq!(header.validity.is_valid(), model.is_valid(hash));
        assert_eq!(header.validity == Validity::Failed, model.failed.contains(hash));
        assert_eq!(header.connectable, model.is_complete(hash));
        let chain = model.ancestry(hash);
        assert_eq!(header.height as usize, chain.len() - 1);
        for (depth, ancestor) in chain.iter().enumerate() {
            let height = header.height - depth as u32;
            assert_eq!(tree.ancestor(hash, height).map(|known| known.hash), Some(*ancestor));
        }
        assert!(tree.ancestor(hash, header.height + 1).is_none());
        let mut times: Vec<u32> = chain.iter().take(11).map(|hash| known(hash).header.time).collect();
        times.sort_unstable();
        assert_eq!(header.median_time_past, times[times.len() / 2]);
    }
    for pair in model.order.windows(2) {
        let (a, b) = (model.ancestry(&pair[0]), model.ancestry(&pair[1]));
        let fork = a.iter().find(|hash| b.contains(hash)).unwrap();
        assert_eq!(tree.fork_point(&pair[0], &pair[1]).unwrap().hash, *fork);
        let path = tree.path(&pair[0], &pair[1]).unwrap();
        assert_eq!(path.disconnect, a.iter().take_while(|hash| *hash != fork).copied().collect::<Vec<_>>());
        let mut up: Vec<_> = b.iter().take_while(|hash| *hash != fork).copied().collect();
        up.reverse();
        assert_eq!(path.connect, up);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn random_header_trees_agree_with_the_definition_and_can_be_rebuilt(
        steps in prop::collection::vec(step(), 1..90),
        shuffle in any::<u64>(),
    ) {
        let params = Arc::new(Params::regtest());
        let mut tree = HeaderTree::new(params.clone());
        let genesis = tree.best().hash;
        let mut model =
            Model { order: vec![genesis], parent: HashMap::new(), failed: Vec::new(), stored: vec![genesis] };
        for step in steps {
            match step {
                // Mostly at the end, so that chains get long.
                Step::Grow(at, seconds) => {
                    let recent = model.order.len().min(4);
                    let parent = model.order[model.order.len() - 1 - at.index(recent)];
                    let header = child(&tree, &parent, i64::from(seconds));
                    match tree.accept(header, LATE) {
                        Ok(accepted) if accepted.is_new => {
                            model.parent.insert(accepted.hash, parent);
                            model.order.push(accepted.hash);
                        }
                        Ok(_) => {}
                        Err(error) => prop_assert!(!model.is_valid(&parent) || tree.contains(&header.block_hash()), "{}", error),
                    }
                }
                Step::Invalidate(at) => {
                    let hash = *at.get(&model.order);
                    tree.invalidate(&hash);
                    if hash != genesis && !model.failed.contains(&hash) {
                        model.failed.push(hash);
                    }
                }
                Step::Reconsider(at) => {
                    let hash = *at.get(&model.order);
                    tree.reconsider(&hash);
                    let failed = std::mem::take(&mut model.failed);
                    let related = |other: &BlockHash| {
                        model.ancestry(&hash).contains(other) || model.ancestry(other).contains(&hash)
                    };
                    model.failed = failed.into_iter().filter(|other| !related(other)).collect();
                }
                Step::Store(at) => {
                    let hash = *at.get(&model.order);
                    tree.mark_stored(&hash);
                    if !model.stored.contains(&hash) {
                        model.stored.push(hash);
                    }
                }
            }
        }
        check(&tree, &model);

        // From storage, in another order that keeps parents first.
        let mut pending: Vec<KnownHeader> = tree.iter().collect();
        let mut rebuilt = HeaderTree::new(params);
        let mut random = shuffle;
        while !pending.is_empty() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let ready: Vec<usize> = (0..pending.len())
                .filter(|index| pending[*index].height == 0 || rebuilt.contains(&pending[*index].header.prev_blockhash))
                .collect();
            let next = pending.swap_remove(ready[(random >> 33) as usize % ready.len()]);
            rebuilt.restore(next.header, next.stored, next.validity == Validity::Failed).unwrap();
        }
        check(&rebuilt, &model);
        prop_assert_eq!(rebuilt.len(), tree.len());
    }
}
