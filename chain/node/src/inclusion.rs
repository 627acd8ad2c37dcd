//! An inclusion proof as it is handed to others: text that can be mailed, checked by whoever has the headers.
//!
//! ```text
//!   header ─────── is it in a chain with enough work? the verifier's own header tree says
//!     └ merkle root ◀─── coinbase ──┐ both ways have the same length, so that nobody can take
//!                   ◀─── transaction┘ a transaction for a node of the tree, or a node for one
//! ```
//!
//! What it promises: if it verifies, the block with this header holds the transaction, and whoever mined the block has put
//! the header's work into it. It does not say that the block is valid in everything else (the work on top of it says that),
//! nor that the outputs of the transaction are still unspent. Witnesses are no part of it: a transaction's id does not cover
//! them, so those in a proof that somebody hands over could be anything. They are left out, and dropped from what is read.

use std::fmt;
use std::str::FromStr;

use bitcoin::block::Header;
use bitcoin::consensus::encode::{self, Decodable, Encodable, ReadExt as _, WriteExt as _};
use bitcoin::hex::{DisplayHex as _, FromHex as _};
use bitcoin::{Block, Transaction, TxMerkleNode, Txid, io};

use crate::merkle_proof::{MerkleProof, ProofError};

const BEGIN: &str = "-----BEGIN INCLUSION PROOF-----";
const END: &str = "-----END INCLUSION PROOF-----";
/// The form of what stands between them.
const FORM: u8 = 1;
/// Hex digits on a line, as mail likes it.
const LINE: usize = 64;

/// A block's header, and the way from its merkle root to one of its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// Of the block that holds the transaction.
    pub header: Header,
    /// The transaction and its way to the root.
    pub transaction: MerkleProof,
    /// The block's first transaction and its way, which tells how deep the tree is.
    pub coinbase: MerkleProof,
}

/// Why an inclusion proof is none.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum InclusionError {
    #[error("there is no proof in it: the lines between \"{BEGIN}\" and \"{END}\" are wanted")]
    Absent,
    #[error("what stands between the two lines is not hex: it was damaged on the way")]
    NotHex,
    #[error("the proof was cut off or damaged: {0}")]
    Damaged(encode::Error),
    #[error("the proof has form {0}, and this program knows form {FORM}: a newer one is needed")]
    Form(u8),
    #[error("the block's first transaction in the proof is none: {0}")]
    Coinbase(ProofError),
    #[error("the first transaction in the proof is no coinbase, or lies at another depth of the tree")]
    Depth,
    #[error("the transaction is not in the block: {0}")]
    Transaction(ProofError),
}

impl InclusionProof {
    /// The proof for the block's transaction at `index`; `None` if there is none.
    pub fn new(block: &Block, index: u32) -> Option<Self> {
        Some(Self::of(block.header, MerkleProof::new(block, index)?, MerkleProof::new(block, 0)?))
    }

    /// Of ways that are known already. The merkle root covers no witness, so none is part of a proof.
    pub(crate) fn of(header: Header, mut transaction: MerkleProof, mut coinbase: MerkleProof) -> Self {
        drop_witnesses(&mut transaction.transaction);
        drop_witnesses(&mut coinbase.transaction);
        Self { header, transaction, coinbase }
    }

    /// Checks all but the header's place in a chain, and gives the transaction's id.
    pub fn verify(&self) -> Result<Txid, InclusionError> {
        self.coinbase.verify(&self.header).map_err(InclusionError::Coinbase)?;
        let is_first = self.coinbase.index == 0 && self.coinbase.transaction.is_coinbase();
        if !is_first || self.coinbase.siblings.len() != self.transaction.siblings.len() {
            return Err(InclusionError::Depth);
        }
        self.transaction.verify(&self.header).map_err(InclusionError::Transaction)
    }
}

/// With what it is about for people, whom nobody need believe.
impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "transaction {}", self.transaction.transaction.compute_txid())?;
        writeln!(f, "is in block {}", self.header.block_hash())?;
        writeln!(f, "{BEGIN}")?;
        let mut bytes = vec![FORM];
        // Writing to memory does not fail.
        encode_proof(self, &mut bytes).map_err(|_| fmt::Error)?;
        let hex = bytes.to_lower_hex_string();
        let mut rest = hex.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
            writeln!(f, "{line}")?;
            rest = after;
        }
        write!(f, "{END}")
    }
}

impl FromStr for InclusionProof {
    type Err = InclusionError;

    /// Text before and after the proof does not matter.
    fn from_str(text: &str) -> Result<Self, InclusionError> {
        let (_, after) = text.split_once(BEGIN).ok_or(InclusionError::Absent)?;
        let (body, _) = after.split_once(END).ok_or(InclusionError::Absent)?;
        let hex: String = body.split_whitespace().collect();
        let bytes = Vec::from_hex(&hex).map_err(|_| InclusionError::NotHex)?;
        let mut rest = bytes.as_slice();
        let form = rest.read_u8().map_err(InclusionError::Damaged)?;
        if form != FORM {
            return Err(InclusionError::Form(form));
        }
        let proof = decode_proof(&mut rest).map_err(InclusionError::Damaged)?;
        if !rest.is_empty() {
            return Err(InclusionError::Damaged(encode::Error::ParseFailed("there is more than a proof")));
        }
        Ok(proof)
    }
}

fn drop_witnesses(transaction: &mut Transaction) {
    transaction.input.iter_mut().for_each(|input| input.witness.clear());
}

fn encode_proof(proof: &InclusionProof, to: &mut Vec<u8>) -> Result<(), io::Error> {
    proof.header.consensus_encode(to)?;
    for MerkleProof { transaction, index, siblings } in [&proof.transaction, &proof.coinbase] {
        transaction.consensus_encode(to)?;
        to.emit_u32(*index)?;
        siblings.consensus_encode(to)?;
    }
    Ok(())
}

fn decode_proof(from: &mut &[u8]) -> Result<InclusionProof, encode::Error> {
    let header = Header::consensus_decode(from)?;
    let mut merkle = || -> Result<MerkleProof, encode::Error> {
        let mut transaction = Transaction::consensus_decode(from)?;
        drop_witnesses(&mut transaction);
        let index = from.read_u32()?;
        Ok(MerkleProof { transaction, index, siblings: Vec::<TxMerkleNode>::consensus_decode(from)? })
    };
    Ok(InclusionProof { header, transaction: merkle()?, coinbase: merkle()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::absolute::LockTime;
    use bitcoin::constants::genesis_block;
    use bitcoin::{Network, Sequence, transaction::Version};

    fn block_of(count: u32) -> Block {
        let mut block = genesis_block(Network::Regtest);
        let coinbase = block.txdata[0].clone();
        let other = |number: u32| {
            let mut transaction = Transaction { version: Version::TWO, ..coinbase.clone() };
            transaction.lock_time = LockTime::from_consensus(number);
            transaction.input[0].previous_output.vout = number;
            transaction.input[0].sequence = Sequence::ZERO;
            transaction
        };
        block.txdata.extend((1..count).map(other));
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        block
    }

    #[test]
    fn a_proof_survives_the_mail() {
        for count in 1..=9 {
            let block = block_of(count);
            for index in 0..count {
                let proof = InclusionProof::new(&block, index).unwrap();
                let mail = format!("Hello,\r\n{}\r\nBye", proof.to_string().replace('\n', "\r\n"));
                let back: InclusionProof = mail.parse().unwrap();
                assert_eq!(back, proof);
                assert_eq!(back.verify().unwrap(), block.txdata[index as usize].compute_txid());
            }
        }
    }

    #[test]
    fn what_the_id_does_not_cover_is_not_proved() {
        let mut block = block_of(3);
        block.txdata[2].input[0].witness.push([7; 20]);
        let proof = InclusionProof::new(&block, 2).unwrap();
        let forged = InclusionProof {
            transaction: MerkleProof { transaction: block.txdata[2].clone(), ..proof.transaction.clone() },
            ..proof.clone()
        };
        let read: InclusionProof = forged.to_string().parse().unwrap();
        assert_eq!(read, proof);
        assert!(read.transaction.transaction.input[0].witness.is_empty());
        assert_eq!(read.verify().unwrap(), block.txdata[2].compute_txid());
    }

    #[test]
    fn a_proof_with_any_other_byte_is_refused() {
        let proof = InclusionProof::new(&block_of(5), 3).unwrap().to_string();
        let header = InclusionProof::new(&block_of(5), 3).unwrap().header;
        let start = proof.find(BEGIN).unwrap() + BEGIN.len() + 1;
        let mut refused = 0;
        for at in (start..proof.find(END).unwrap()).filter(|at| proof.as_bytes()[*at] != b'\n') {
            let mut other = proof.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            let read = String::from_utf8(other).unwrap().parse::<InclusionProof>();
            // Another header is another block: whether it has work is for the header tree to say.
            if let Ok(read) = read
                && read.header == header
            {
                assert!(read.verify().is_err(), "digit {at}");
            }
            refused += 1;
        }
        assert!(refused > 500);
        assert!(proof[..proof.len() - 40].parse::<InclusionProof>().is_err());
        assert!("nothing".parse::<InclusionProof>().is_err());
    }

    #[test]
    fn a_transaction_at_another_depth_is_no_transaction() {
        let block = block_of(4);
        let mut proof = InclusionProof::new(&block, 2).unwrap();
        // The coinbase of a block with one transaction less has a shorter way.
        proof.coinbase.siblings.pop();
        assert!(matches!(proof.verify(), Err(InclusionError::Coinbase(_))));
        let mut proof = InclusionProof::new(&block, 2).unwrap();
        proof.coinbase = proof.transaction.clone();
        assert!(matches!(proof.verify(), Err(InclusionError::Depth)));
    }
}
