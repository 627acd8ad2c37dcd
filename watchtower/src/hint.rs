//! How a tower finds a breach without knowing whose it is: the first bytes of the breaching transaction's id.
//!
//! The id of a revoked commitment is unknown to the world until somebody broadcasts it. A client gives the tower eight
//! bytes of it; the other twenty-four stay secret and, with the rest, open the sealed answer (see [`crate::seal`]).
//!
//! Eight, and not LND's sixteen: the tower keeps them in memory and twice on disk. Of ten million hints and a block of 3,000
//! transactions one in 600 million blocks meets a hint by chance, which costs one failed opening; and the fewer bytes the
//! tower has, the more of the key is unknown to it.

use bitcoin::{Txid, hashes::Hash as _};

/// The first 8 bytes of a txid, in the order in which it is serialised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Hint(pub [u8; 8]);

impl From<&Txid> for Hint {
    fn from(txid: &Txid) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = txid.to_byte_array();
        Self([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_is_the_beginning_of_the_serialised_id() {
        let mut bytes = [0; 32];
        (0_u8..).zip(&mut bytes).for_each(|(value, byte)| *byte = value);
        assert_eq!(Hint::from(&Txid::from_byte_array(bytes)).0, bytes[..8]);
    }
}
