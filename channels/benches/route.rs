//! How long it takes to find a way over a made-up network of the public one's size (`gossip::synthetic`).

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use leyden_channels::gossip::synthetic::{Size, SplitMix, SyntheticNetwork};
use leyden_channels::routing::route::{DEFAULT_CLTV_LIMIT, DEFAULT_MAX_HOPS};
use leyden_channels::routing::{CostParams, RouteRequest, Router, Scorer, Source};
use leyden_channels::types::{Height, Msat, NodeId, UnixTime};

/// 0.01 of a coin and 0.0001.
const AMOUNTS: [(&str, u64); 2] = [("0.01", 1_000_000_000), ("0.0001", 10_000_000)];

fn request(source: NodeId, target: NodeId, amount: u64) -> RouteRequest<'static> {
    RouteRequest {
        source: Source::Graph(source),
        target,
        hints: &[],
        last_hop: None,
        amount: Msat(amount),
        final_cltv_delta: 40,
        height: Height(800_000),
        now: UnixTime(1_700_000_000),
        fee_limit: Msat(amount / 10),
        cltv_limit: DEFAULT_CLTV_LIMIT,
        max_parts: 16,
        max_hops: DEFAULT_MAX_HOPS,
        excluded_nodes: &[],
        excluded_edges: &[],
        told: &[],
        params: CostParams::default(),
    }
}

/// Percentiles over 1,000 random pairs: what criterion's mean does not show.
fn percentiles(network: &SyntheticNetwork) {
    let graph = network.graph();
    let scorer = Scorer::new();
    for (name, amount) in AMOUNTS {
        let mut random = SplitMix::new(42);
        let mut router = Router::new();
        let (mut times, mut found, mut parts, mut fees, mut chance) = (Vec::new(), 0u32, 0usize, 0f64, 0f64);
        let mut nats = 0f64;
        for _ in 0..1000 {
            let source = network.nodes[random.below(network.nodes.len())];
            let target = network.nodes[random.below(network.nodes.len())];
            let request = request(source, target, amount);
            let start = Instant::now();
            let plan = black_box(router.find(&graph, &scorer, &request));
            times.push(start.elapsed());
            if let Ok(plan) = plan {
                found += 1;
                parts += plan.routes.len();
                fees += plan.total_fee().0 as f64 / amount as f64;
                chance += plan.success_probability;
                nats -= plan.success_probability.ln();
            }
        }
        times.sort_unstable();
        let n = f64::from(found.max(1));
        println!(
            "{name}: p50 {:?}, p90 {:?}, p99 {:?}, max {:?}; {found} of 1000 found, {:.2} parts, fee {:.4} %, chance {:.3}, -ln chance {:.4}",
            times[500],
            times[900],
            times[990],
            times[999],
            parts as f64 / n,
            fees / n * 100.0,
            chance / n,
            nats / n
        );
    }
}

fn routes(criterion: &mut Criterion) {
    let network = SyntheticNetwork::generate(Size::PUBLIC);
    percentiles(&network);
    let graph = network.graph();
    let scorer = Scorer::new();
    let mut router = Router::new();
    for (name, amount) in AMOUNTS {
        let mut random = SplitMix::new(42);
        criterion.bench_function(&format!("route for {name}"), |bencher| {
            bencher.iter(|| {
                let source = network.nodes[random.below(network.nodes.len())];
                let target = network.nodes[random.below(network.nodes.len())];
                black_box(router.find(&graph, &scorer, &request(source, target, amount)))
            });
        });
    }
}

criterion_group!(benches, routes);
criterion_main!(benches);
