//! How long the public network takes to come back from the disk: `leyden bench route` asks for it.

use std::{path::Path, time::Instant};

use leyden_channels::gossip::synthetic::{Size, SyntheticNetwork};
use leyden_common::bench::GraphLoaded;

use super::BenchError;
use crate::{
    driver::gossip::load_graph,
    store::{Store, Table},
};

/// Records in one commit.
const AT_ONCE: usize = 1_000;

/// Keeps a made-up network in a database in `folder`, as a node would, and loads it from there.
pub(super) fn measure(folder: &Path, size: Size) -> Result<GraphLoaded, BenchError> {
    let network = SyntheticNetwork::generate(size);
    let opened = Store::open(folder)?;
    let (count, bytes) = store(&opened, &network)?;
    drop(opened);
    // From opening the database to a graph that routes are found in.
    let begun = Instant::now();
    let store = Store::open(folder)?;
    let graph = load_graph(&store)?;
    let seconds = begun.elapsed().as_secs_f64();
    if graph.channel_count() != network.channels.len() {
        return Err(BenchError::Lost { stored: network.channels.len(), loaded: graph.channel_count() });
    }
    Ok(GraphLoaded { records: count, bytes, seconds })
}

/// Keeps a network in a node's database; how many records, and their bytes.
pub(super) fn store(store: &Store, network: &SyntheticNetwork) -> Result<(usize, usize), BenchError> {
    let records = network.records()?;
    let (count, bytes) = (records.len(), records.iter().map(|(key, value)| key.len() + value.len()).sum());
    let mut records = records.into_iter().map(|(key, value)| (key, Some(value))).peekable();
    while records.peek().is_some() {
        store.put_table(Table::Gossip, records.by_ref().take(AT_ONCE))?;
    }
    Ok((count, bytes))
}
