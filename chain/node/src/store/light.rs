//! What a light node keeps instead of blocks: the transactions that concern it, each with its way to the merkle root, and
//! the scripts by which it knows them.

use bitcoin::bip158::FilterHash;
use bitcoin::consensus::encode::{self, Decodable, Encodable, ReadExt as _, WriteExt as _};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, ScriptBuf, Transaction, TxMerkleNode, io};
use rocksdb::IteratorMode;

use super::{Batch, Store, codec, family};
use crate::error::StoreError;
use crate::merkle_proof::MerkleProof;
use crate::store::codec::TxPosition;

/// A block's kept transactions by their place in it.
pub(super) type Proofs = Vec<MerkleProof>;

/// What a light node knows of a block's filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilterWord {
    /// Peers have named this hash, and nobody else another one.
    Named(FilterHash),
    /// The block itself was looked at, since peers named different ones: it does not matter which is right.
    Looked,
}

/// What a row of [`FilterWord::Looked`] holds. A hash is longer.
const LOOKED: &[u8] = &[];

impl Store {
    /// What is known of the filter of this block; nothing of blocks from before anything was watched.
    pub(crate) fn filter_word(&self, block: &BlockHash) -> Result<Option<FilterWord>, StoreError> {
        let Some(bytes) = self.get(family::FILTER_HEADERS, block.as_byte_array())? else { return Ok(None) };
        if bytes.is_empty() {
            return Ok(Some(FilterWord::Looked));
        }
        // Earlier versions kept a filter header behind it.
        let hash = bytes.first_chunk().ok_or_else(|| self.corrupt("a filter's hash"))?;
        Ok(Some(FilterWord::Named(FilterHash::from_byte_array(*hash))))
    }

    /// The transactions of this block that are kept, in its order.
    pub(crate) fn proofs(&self, block: &BlockHash) -> Result<Proofs, StoreError> {
        let Some(bytes) = self.get(family::PROOFS, block.as_byte_array())? else { return Ok(Vec::new()) };
        decode(&bytes).map_err(|_| self.corrupt("kept transactions"))
    }

    /// All kept transactions, on whatever branch.
    pub(crate) fn kept(&self) -> Result<Vec<Transaction>, StoreError> {
        let mut all = Vec::new();
        for row in self.db.iterator_cf(self.family(family::PROOFS)?, IteratorMode::Start) {
            let (_, value) = row.map_err(|error| self.error(error))?;
            let proofs = decode(&value).map_err(|_| self.corrupt("kept transactions"))?;
            all.extend(proofs.into_iter().map(|proof| proof.transaction));
        }
        Ok(all)
    }

    /// The watched scripts: no block of the active chain that concerns one of them was passed over.
    pub(crate) fn watched(&self) -> Result<Vec<ScriptBuf>, StoreError> {
        let rows = self.db.iterator_cf(self.family(family::WATCHED)?, IteratorMode::Start);
        rows.map(|row| Ok(ScriptBuf::from_bytes(row.map_err(|error| self.error(error))?.0.into_vec()))).collect()
    }
}

impl Batch {
    /// Keeps these transactions of a block, in the place of those that were kept before.
    pub(crate) fn put_proofs(&mut self, block: &BlockHash, proofs: &[MerkleProof]) {
        self.put(family::PROOFS, block.as_byte_array(), &encode(proofs));
    }

    /// Keeps what is known of a block's filter.
    pub(crate) fn put_filter_word(&mut self, block: &BlockHash, word: FilterWord) {
        let key = block.as_byte_array();
        match word {
            FilterWord::Named(hash) => self.put(family::FILTER_HEADERS, key, hash.as_byte_array()),
            FilterWord::Looked => self.put(family::FILTER_HEADERS, key, LOOKED),
        }
    }

    /// The script is watched from here on.
    pub(crate) fn put_watched(&mut self, script: &ScriptBuf) {
        self.put(family::WATCHED, script.as_bytes(), &[]);
    }

    /// The block with these transactions, of which more may be in it, is now at this height of the active chain.
    pub(crate) fn put_active_some(&mut self, height: u32, hash: &BlockHash, proofs: &[MerkleProof]) {
        self.put(family::ACTIVE, &height.to_be_bytes(), hash.as_byte_array());
        for MerkleProof { transaction, index, .. } in proofs {
            let txid = transaction.compute_txid();
            let position = TxPosition { height, index: *index };
            self.put(family::TXIDS, txid.as_byte_array(), &position.encode());
            self.put(family::POSITIONS, &position.key(), txid.as_byte_array());
            if *index > 0 {
                self.put_spends(transaction, &txid, height);
            }
        }
    }

    /// The block with these transactions leaves this height of the active chain.
    pub(crate) fn remove_active_some(&mut self, height: u32, proofs: &[MerkleProof]) {
        self.delete(family::ACTIVE, &height.to_be_bytes());
        for MerkleProof { transaction, index, .. } in proofs {
            self.delete(family::TXIDS, transaction.compute_txid().as_byte_array());
            self.delete(family::POSITIONS, &TxPosition { height, index: *index }.key());
            for spent in transaction.input.iter().filter(|_| *index > 0) {
                self.delete(family::SPENDS, &codec::outpoint_key(&spent.previous_output));
            }
        }
    }
}

fn encode(proofs: &[MerkleProof]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for MerkleProof { transaction, index, siblings } in proofs {
        // Writing to memory does not fail.
        let written = |bytes: &mut Vec<u8>| -> Result<(), io::Error> {
            transaction.consensus_encode(bytes)?;
            bytes.emit_u32(*index)?;
            siblings.consensus_encode(bytes).map(drop)
        };
        let _ = written(&mut bytes);
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Result<Proofs, encode::Error> {
    let mut proofs = Vec::new();
    while !bytes.is_empty() {
        let transaction = Transaction::consensus_decode(&mut bytes)?;
        let index = bytes.read_u32()?;
        proofs.push(MerkleProof { transaction, index, siblings: Vec::<TxMerkleNode>::consensus_decode(&mut bytes)? });
    }
    Ok(proofs)
}
