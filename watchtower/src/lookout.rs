//! Which transactions of a block answer to a hint.
//!
//! Promises: every transaction of the block is looked at; a hint that matches by chance costs one failed opening and
//! nothing else; several clients may have left the same hint, and each gets its answer.

use std::collections::HashMap;

use bitcoin::{Block, Txid};

use crate::{hint::Hint, seal};

/// Names one appointment with one client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppointmentId(pub u64);

/// A breach that was found, with what the client wants done about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sighting {
    pub appointment: AppointmentId,
    pub breach: Txid,
    /// The opened answer.
    pub answer: Vec<u8>,
}

/// All hints that a tower watches for, with the sealed answers.
#[derive(Debug, Default)]
pub struct Lookout {
    watched: HashMap<Hint, Vec<(AppointmentId, Vec<u8>)>>,
}

impl Lookout {
    pub fn watch(&mut self, hint: Hint, appointment: AppointmentId, sealed: Vec<u8>) {
        self.watched.entry(hint).or_default().push((appointment, sealed));
    }

    /// Gives the space of an appointment back, once its channel is final.
    pub fn forget(&mut self, hint: &Hint, appointment: AppointmentId) {
        if let Some(list) = self.watched.get_mut(hint) {
            list.retain(|(id, _)| *id != appointment);
            if list.is_empty() {
                self.watched.remove(hint);
            }
        }
    }

    /// How many appointments are watched.
    pub fn len(&self) -> usize {
        self.watched.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// The breaches in a block. Appointments stay until they are forgotten: a reorganisation may bring them back.
    pub fn look(&self, block: &Block) -> Vec<Sighting> {
        let mut sightings = Vec::new();
        for transaction in &block.txdata {
            let breach = transaction.compute_txid();
            for (appointment, sealed) in self.watched.get(&Hint::from(&breach)).into_iter().flatten() {
                if let Ok(answer) = seal::open(&breach, sealed) {
                    sightings.push(Sighting { appointment: *appointment, breach, answer });
                }
            }
        }
        sightings
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{Network, Transaction, absolute::LockTime, constants::genesis_block, transaction};

    use super::*;

    fn transaction(number: u32) -> Transaction {
        Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::from_consensus(number),
            input: vec![],
            output: vec![],
        }
    }

    #[test]
    fn breach_is_found_among_other_transactions_and_again_after_a_reorganisation() {
        let breach = transaction(7).compute_txid();
        let mut lookout = Lookout::default();
        let hint = Hint::from(&breach);
        lookout.watch(hint, AppointmentId(1), seal::seal(&breach, b"penalty").unwrap());
        // Somebody else's guess at the same hint opens nothing.
        let other = transaction(8).compute_txid();
        lookout.watch(hint, AppointmentId(2), seal::seal(&other, b"guess").unwrap());

        let mut block = genesis_block(Network::Regtest);
        block.txdata.extend((0..20).map(transaction));
        let sightings = lookout.look(&block);
        let expected = Sighting { appointment: AppointmentId(1), breach, answer: b"penalty".to_vec() };
        assert_eq!(sightings, vec![expected.clone()]);
        assert_eq!(lookout.look(&block), [expected]);

        lookout.forget(&hint, AppointmentId(1));
        assert!(lookout.look(&block).is_empty());
        assert_eq!(lookout.len(), 1);
    }
}
