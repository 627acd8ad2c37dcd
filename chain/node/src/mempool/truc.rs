//! Version-3 transactions (BIP 431, "topologically restricted until confirmation"): at most one unconfirmed parent, at
//! most one unconfirmed child, both small. In exchange such a parent may pay no fee at all, and replacing the child
//! costs little whatever an attacker attaches: what Lightning's commitment transactions need.

use std::collections::BTreeSet;

use bitcoin::{Transaction, Txid};

use super::pool::Mempool;
use crate::error::TrucViolation;

const VERSION: i32 = 3;
/// Virtual bytes of a version-3 transaction, and of one with an unconfirmed parent.
const MAX_BYTES: u64 = 10_000;
const MAX_CHILD_BYTES: u64 = 1_000;

/// Whether the transaction asks for the rules of BIP 431 by its version, 3.
pub fn is_truc(transaction: &Transaction) -> bool {
    transaction.version.0 == VERSION
}

/// An unconfirmed transaction that is spent: of the pool, or of the package that is being looked at.
pub struct Parent {
    /// The transaction.
    pub txid: Txid,
    /// Whether it is a version-3 transaction.
    pub truc: bool,
    /// Has itself unconfirmed parents?
    pub has_parents: bool,
    /// Its other unconfirmed children.
    pub other_children: BTreeSet<Txid>,
}

impl Parent {
    /// A parent in the pool; `leaving` are entries that would be replaced.
    pub fn of_pool(pool: &Mempool, txid: &Txid, leaving: &BTreeSet<Txid>) -> Option<Self> {
        let entry = pool.get(txid)?;
        Some(Self {
            txid: *txid,
            truc: is_truc(&entry.transaction),
            has_parents: !entry.parents.is_empty(),
            other_children: entry.children.difference(leaving).copied().collect(),
        })
    }
}

/// Checks a transaction against its unconfirmed parents.
pub fn check(transaction: &Transaction, virtual_bytes: u64, parents: &[Parent]) -> Result<(), TrucViolation> {
    if !is_truc(transaction) {
        return match parents.iter().find(|parent| parent.truc) {
            Some(parent) => Err(TrucViolation::ChildNotTruc { parent: parent.txid }),
            None => Ok(()),
        };
    }
    if virtual_bytes > MAX_BYTES {
        return Err(TrucViolation::TooLarge { virtual_bytes, limit: MAX_BYTES });
    }
    if let Some(parent) = parents.iter().find(|parent| !parent.truc) {
        return Err(TrucViolation::ParentNotTruc { parent: parent.txid });
    }
    let parent = match parents {
        [] => return Ok(()),
        [parent] => parent,
        _ => return Err(TrucViolation::TooManyAncestors),
    };
    if parent.has_parents {
        return Err(TrucViolation::TooManyAncestors);
    }
    if virtual_bytes > MAX_CHILD_BYTES {
        return Err(TrucViolation::ChildTooLarge { virtual_bytes, limit: MAX_CHILD_BYTES });
    }
    if !parent.other_children.is_empty() {
        return Err(TrucViolation::TooManyDescendants { parent: parent.txid });
    }
    Ok(())
}

/// The one other child of a version-3 parent: a newcomer that pays more may take its place although the two do not
/// conflict ("sibling eviction").
pub fn evictable_sibling(pool: &Mempool, transaction: &Transaction) -> Option<Txid> {
    if !is_truc(transaction) {
        return None;
    }
    let parents = pool.parents_of(transaction);
    let [parent] = parents.iter().collect::<Vec<_>>()[..] else { return None };
    let parent = pool.get(parent)?;
    // A sibling with descendants of its own can only be left from a reorganisation.
    match parent.children.iter().collect::<Vec<_>>()[..] {
        [sibling] if pool.get(sibling)?.descendants.count == 1 && parent.ancestors.count == 1 => Some(*sibling),
        _ => None,
    }
}
