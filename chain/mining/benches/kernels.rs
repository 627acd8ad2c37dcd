//! How fast each kernel is on this machine, in hashes (criterion's elements) a second.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a measurement may panic")]

use std::time::Duration;

use bitcoin::constants::genesis_block;
use bitcoin::{Network, Target};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leyden_mining::kernel::available;
use leyden_mining::{Job, NonceRange};

fn kernels(criterion: &mut Criterion) {
    let job = Job::with_target(&genesis_block(Network::Bitcoin).header, Target::ZERO);
    let range = NonceRange { start: 0, count: 1 << 16 };
    let mut group = criterion.benchmark_group("kernel");
    group.throughput(Throughput::Elements(u64::from(range.count)));
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for kernel in available() {
        group.bench_function(kernel.name(), |bencher| bencher.iter(|| kernel.scan(&job, range)));
    }
    group.finish();
}

criterion_group!(benches, kernels);
criterion_main!(benches);
