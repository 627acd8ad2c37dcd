//! What `leyden bench` and `leyden lab` have the daemon's program do, for the client has no database: no commands for people.
//!
//! ```text
//!   leydend bench past   writes what a long life leaves into a node's database, between two runs of that node
//!   leydend bench tower  has a watchtower back up, start again and answer breaches; prints JSON
//!   leydend bench graph  keeps a made-up network on the disk and times how long it takes to load; prints JSON
//!   leydend bench double-spend  races a payment against its double spend on a chain of its own; prints JSON
//!   leydend bench make-chain      writes a chain of full blocks to a file; prints JSON
//!   leydend bench validate-chain  validates them from an empty database; prints JSON
//!   leydend bench disk-use        compares an archival, a pruned and a light node of that chain; prints JSON
//! ```

mod chain;
mod double_spend;
mod graph;
mod past;
mod tower;

use std::{ffi::OsString, path::PathBuf};

use clap::Parser;
use leyden_channels::{gossip::synthetic::Size, wire::EncodeError};
use leyden_node::synthetic::SyntheticError;

use crate::{
    config::Layout,
    store::{Store, StoreError},
};

/// The first argument that leads here.
pub const COMMAND: &str = "bench";

/// Work for `leyden bench`.
#[derive(Debug, Parser)]
#[command(name = "leydend bench")]
enum Bench {
    /// Write payments, forwards and closed channels that never were into the database of a regtest node that is stopped
    Past {
        /// The node's data directory
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        #[command(flatten)]
        past: past::PastSize,
    },
    /// Have a watchtower back up states that never were, start again and answer breaches
    Tower {
        /// An empty folder for the databases
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        size: tower::TowerSize,
    },
    /// Store a made-up network and time how long it takes to load
    Graph {
        /// An empty folder for the database
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
        #[arg(long)]
        nodes: u32,
        #[arg(long)]
        channels: u32,
        #[arg(long)]
        seed: u64,
    },
    /// Race payments against their double spends
    DoubleSpend {
        /// An empty folder for the chain
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        races: double_spend::Races,
    },
    /// Write a chain that never was to a file
    MakeChain {
        /// The file
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Full blocks at its end
        #[arg(long)]
        blocks: u32,
    },
    /// Validate the blocks of such a file
    ValidateChain {
        /// The file
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// An empty folder for the database
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
    },
    /// Compare what the validated chain takes on the disk, by how much of it a node keeps
    DiskUse {
        /// The folder of the validated chain; most of it is pruned in the end
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
        /// An empty folder for a light node
        #[arg(long, value_name = "DIR")]
        light_folder: PathBuf,
    },
}

/// Why the work was not done.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum BenchError {
    #[error("{0} has no regtest node's database: start `leydend` on that data directory first")]
    NoNode(PathBuf),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the network cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("the network has {channels} channels, and {places} places were given for them")]
    Places { channels: usize, places: usize },
    #[error("{stored} channels were stored, and {loaded} came back from the disk")]
    Lost { stored: usize, loaded: usize },
    #[error("the watchtower could not be measured: {0}")]
    Tower(String),
    #[error("the races cannot go on: {0}")]
    DoubleSpend(String),
    #[error(transparent)]
    Chain(#[from] SyntheticError),
    #[error("the result cannot be printed: {0}")]
    Print(#[from] serde_json::Error),
}

/// Does what the arguments say; they begin with the program's name.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), BenchError> {
    match Bench::parse_from(arguments) {
        Bench::Past { data_dir, past } => {
            let database = Layout::new(data_dir.clone(), "regtest").node_database();
            if !database.is_dir() {
                return Err(BenchError::NoNode(data_dir));
            }
            past.write(&mut Store::open(&database)?)
        }
        Bench::Tower { folder, size } => {
            println!("{}", serde_json::to_string(&tower::measure(&folder, size)?)?);
            Ok(())
        }
        Bench::Graph { folder, nodes, channels, seed } => {
            let loaded = graph::measure(&folder, Size { seed, nodes, channels })?;
            println!("{}", serde_json::to_string(&loaded)?);
            Ok(())
        }
        Bench::DoubleSpend { folder, races } => {
            println!("{}", serde_json::to_string(&double_spend::run(&folder, &races)?)?);
            Ok(())
        }
        Bench::MakeChain { file, blocks } => {
            println!("{}", serde_json::to_string(&chain::make(&file, blocks)?)?);
            Ok(())
        }
        Bench::ValidateChain { file, folder } => {
            println!("{}", serde_json::to_string(&chain::validate(&file, &folder)?)?);
            Ok(())
        }
        Bench::DiskUse { folder, light_folder } => {
            println!("{}", serde_json::to_string(&chain::compare_disk_use(&folder, &light_folder)?)?);
            Ok(())
        }
    }
}
