//! The two that judge: Leyden's node and Bitcoin Core's engine, each with its own database.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bitcoin::consensus::{deserialize_partial, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, TxOut};
use bitcoinkernel::prelude::*;
use bitcoinkernel::{BlockValidationStateRef, ChainType, ChainstateManager, ContextBuilder, ValidationMode};
use leyden_consensus::Params;
use leyden_node::core::Core;
use leyden_node::store::{STEP_BYTES, Store, StoreOptions};
use leyden_node::{Backend, BlockRejected, Clock, MempoolPolicy};

/// Leyden's chainstate, mempool and database.
pub struct Ours {
    core: Core,
    store: Arc<Store>,
}

impl Ours {
    /// With little memory for the changes of a step, reorganisations take the way of large ones.
    pub fn open(folder: &std::path::Path, large_steps: bool) -> Self {
        let params = Params::regtest();
        let step_bytes = if large_steps { 1 } else { STEP_BYTES };
        let options = StoreOptions { sync: false, step_bytes, ..StoreOptions::new(folder.join("ours")) };
        let store = Arc::new(Store::open(options, &params.genesis).expect("the store opens"));
        let policy = MempoolPolicy::default();
        let core = Core::open(Arc::new(params), policy, Clock::System, Arc::clone(&store), 1_000, None)
            .expect("the chain opens");
        Self { core, store }
    }

    /// Why the block is refused, if it is.
    pub fn submit(&self, bytes: &[u8]) -> Result<(), String> {
        // As Bitcoin Core's does, which does not look at bytes behind the block.
        let (block, _): (Block, usize) = deserialize_partial(bytes).map_err(|error| error.to_string())?;
        match self.core.submit_block(block) {
            Ok(_) => Ok(()),
            Err(BlockRejected::Node(error)) => panic!("our node: {error}"),
            Err(refused) => Err(format!("{refused:?}")),
        }
    }

    pub fn submit_header(&self, block: &Block) -> bool {
        self.core.accept_headers(&[block.header]).is_ok()
    }

    pub fn tip(&self) -> BlockHash {
        self.core.tip().hash
    }

    /// Number and value of the unspent outputs.
    pub fn unspent(&self) -> (u64, u64) {
        let (_, stats) = self.store.utxo_set().expect("the store is read");
        (stats.coins, stats.amount.to_sat())
    }

    /// What a block of the active chain has spent.
    pub fn spent(&self, hash: &BlockHash) -> Vec<TxOut> {
        let undo = self.store.undo(hash).expect("the store is read").expect("a block of the active chain");
        undo.spent.into_iter().flatten().map(|coin| coin.output).collect()
    }
}

/// Bitcoin Core's.
pub struct Theirs {
    manager: ChainstateManager,
    /// What was found wrong since the last look.
    invalid: Arc<Mutex<HashSet<[u8; 32]>>>,
    /// What was found wrong on the way to another block.
    tried: HashSet<[u8; 32]>,
}

impl Theirs {
    pub fn open(folder: &std::path::Path) -> Self {
        let invalid: Arc<Mutex<HashSet<[u8; 32]>>> = Arc::default();
        let noted = Arc::clone(&invalid);
        let checked = move |block: bitcoinkernel::Block, state: BlockValidationStateRef<'_>| {
            if state.mode() == ValidationMode::Invalid {
                noted.lock().expect("no panic").insert(block.hash().to_bytes());
            }
        };
        let context = ContextBuilder::new()
            .chain_type(ChainType::Regtest)
            .with_block_checked_validation(checked)
            .build()
            .expect("a context");
        let path = |name: &str| folder.join(name).to_str().expect("a path in UTF-8").to_owned();
        let manager = ChainstateManager::builder(&context, &path("theirs"), &path("theirs/blocks"))
            .expect("settings")
            .block_tree_db_in_memory(true)
            .chainstate_db_in_memory(true)
            .worker_threads(0)
            .build()
            .expect("the chain opens");
        manager.import_blocks().expect("nothing to import");
        Self { manager, invalid, tried: HashSet::new() }
    }

    /// Whether the block is refused, at once or when it is connected.
    pub fn submit(&mut self, bytes: &[u8]) -> Result<(), String> {
        let block = bitcoinkernel::Block::new(bytes).map_err(|_| "it cannot be read".to_owned())?;
        let hash = block.hash().to_bytes();
        let result = self.manager.process_block(&block);
        let mut invalid = std::mem::take(&mut *self.invalid.lock().expect("no panic"));
        let connected = !invalid.remove(&hash);
        self.tried.extend(invalid);
        if result.is_rejected() || !connected { Err(format!("{result:?}, connected: {connected}")) } else { Ok(()) }
    }

    /// Whether the block was tried on the way to another one, and found wrong.
    pub fn has_tried_in_vain(&self, hash: &BlockHash) -> bool {
        self.tried.contains(hash.as_byte_array())
    }

    pub fn submit_header(&self, block: &Block) -> bool {
        let header = bitcoinkernel::BlockHeader::new(&serialize(&block.header)).expect("80 bytes");
        let result = self.manager.process_block_header(&header).expect("an answer");
        matches!(result, bitcoinkernel::ProcessBlockHeaderResult::Valid)
    }

    pub fn tip(&self) -> BlockHash {
        BlockHash::from_byte_array(self.manager.active_chain().tip().block_hash().to_bytes())
    }

    pub fn spent(&self, hash: &BlockHash) -> Vec<TxOut> {
        let hash = bitcoinkernel::BlockHash::new(hash.as_byte_array()).expect("32 bytes");
        let entry = self.manager.get_block_tree_entry(&hash).expect("a block of the active chain");
        let spent = self.manager.read_spent_outputs(&entry).expect("undo data");
        let outputs = spent.iter().flat_map(|of_one| {
            let coins: Vec<TxOut> = of_one.coins().map(|coin| output(&coin.output())).collect();
            coins
        });
        outputs.collect()
    }
}

fn output(theirs: &impl TxOutExt) -> TxOut {
    TxOut {
        value: bitcoin::Amount::from_sat(theirs.value() as u64),
        script_pubkey: theirs.script_pubkey().to_bytes().into(),
    }
}
