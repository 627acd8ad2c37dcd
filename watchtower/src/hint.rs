//! How a tower finds a breach without knowing whose it is: the first half of the breaching transaction's id.
//!
//! The id of a revoked commitment is unknown to the world until somebody broadcasts it. A client gives the tower sixteen
//! bytes of it; the other sixteen stay secret and, with the rest, open the sealed answer (see [`crate::seal`]).

use bitcoin::{Txid, hashes::Hash as _};

/// The first 16 bytes of a txid, in the order in which it is serialised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Hint(pub [u8; 16]);

impl From<&Txid> for Hint {
    fn from(txid: &Txid) -> Self {
        let mut hint = [0; 16];
        for (to, from) in hint.iter_mut().zip(txid.as_byte_array()) {
            *to = *from;
        }
        Self(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_is_the_first_half_of_the_serialised_id() {
        let mut bytes = [0; 32];
        (0_u8..).zip(&mut bytes).for_each(|(value, byte)| *byte = value);
        assert_eq!(Hint::from(&Txid::from_byte_array(bytes)).0, bytes[..16]);
    }
}
