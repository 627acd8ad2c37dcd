//! How long it takes to find a route over a made-up network of the public one's size. `leyden bench route` shows percentiles
//! and what the routes are worth.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a measurement may panic")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use leyden_channels::gossip::synthetic::Size;
use leyden_channels::routing::{Router, Scorer, trial::Trial};
use leyden_channels::types::Msat;

/// 0.01 of a coin and 0.0001.
const AMOUNTS: [(&str, u64); 2] = [("0.01", 1_000_000_000), ("0.0001", 10_000_000)];

fn routes(criterion: &mut Criterion) {
    let (scorer, mut router) = (Scorer::new(), Router::new());
    for (name, amount) in AMOUNTS {
        let trial = Trial::new(Size::PUBLIC, 1_000, Msat(amount));
        let graph = trial.network.graph();
        let mut pairs = trial.pairs.iter().cycle();
        criterion.bench_function(&format!("route for {name}"), |bencher| {
            bencher.iter(|| {
                let (from, to) = *pairs.next().unwrap();
                black_box(router.find(&graph, &scorer, &trial.request(from, to)))
            });
        });
    }
}

criterion_group!(benches, routes);
criterion_main!(benches);
