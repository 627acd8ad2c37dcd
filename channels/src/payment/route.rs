//! A route through the network for one HTLC.

use secp256k1::PublicKey;

use crate::types::{CltvExpiry, Msat, ShortChannelId};

/// One node on the way and what it is handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The node's key.
    pub node_id: PublicKey,
    /// The channel over which the HTLC reaches this node; `None` for the first hop of a direct payment, where any
    /// channel with the peer will do.
    pub channel: Option<ShortChannelId>,
    /// The HTLC's amount on that channel.
    pub amount: Msat,
    /// The HTLC's expiry on that channel.
    pub cltv_expiry: CltvExpiry,
}

/// Hops from our peer to the recipient. Amounts and expiries fall from hop to hop by what each node charges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    hops: Vec<Hop>,
}

impl Route {
    /// The longest route whose onion still fits.
    pub const MAX_HOPS: usize = 27;

    /// `None` for a route without hops, with too many, or whose amounts or expiries rise on the way.
    pub fn new(hops: Vec<Hop>) -> Option<Self> {
        let falls = hops.windows(2).all(|pair| match pair {
            [from, to] => from.amount >= to.amount && from.cltv_expiry >= to.cltv_expiry,
            _ => true,
        });
        (!hops.is_empty() && hops.len() <= Self::MAX_HOPS && falls).then_some(Self { hops })
    }

    /// The nodes in order, the payee last; at least one.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// Our peer, who gets the HTLC from us.
    pub fn first(&self) -> &Hop {
        self.hops.first().unwrap_or_else(|| unreachable!("a route has a hop"))
    }

    /// The recipient.
    pub fn last(&self) -> &Hop {
        self.hops.last().unwrap_or_else(|| unreachable!("a route has a hop"))
    }

    /// What all nodes on the way keep.
    pub fn fee(&self) -> Msat {
        self.first().amount.saturating_sub(self.last().amount)
    }
}

#[cfg(test)]
mod tests {
    use secp256k1::{SECP256K1, SecretKey};

    use super::*;

    fn hop(amount: u64, expiry: u32) -> Hop {
        let node_id = SecretKey::from_slice(&[1; 32]).unwrap().public_key(SECP256K1);
        Hop { node_id, channel: None, amount: Msat(amount), cltv_expiry: CltvExpiry(expiry) }
    }

    #[test]
    fn fee_is_what_is_lost_on_the_way() {
        let route = Route::new(vec![hop(1_020, 300), hop(1_010, 200), hop(1_000, 100)]).unwrap();
        assert_eq!(route.fee(), Msat(20));
    }

    #[test]
    fn impossible_routes_are_not_built() {
        assert!(Route::new(vec![]).is_none());
        assert!(Route::new(vec![hop(1, 1); 28]).is_none());
        assert!(Route::new(vec![hop(10, 5), hop(11, 5)]).is_none());
        assert!(Route::new(vec![hop(10, 5), hop(10, 6)]).is_none());
    }
}
