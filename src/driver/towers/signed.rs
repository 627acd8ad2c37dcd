//! The signatures of revoked states, made once for all strangers' towers that pay out alike.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bitcoin::ScriptBuf;
use leyden_channels::types::{ChannelId, CommitmentNumber, FeeratePerKw};
use leyden_watchtower::client::build::SignedState;

/// States that are remembered: twice what one tower has on its way, so that a second one that lags a little finds them.
const STATES: usize = 2 * leyden_watchtower::client::IN_FLIGHT;

/// HTLCs in all of them together, some 200 bytes each.
const HTLCS: usize = 50_000;

/// What the signatures depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SignedFor {
    pub channel: ChannelId,
    pub number: CommitmentNumber,
    pub sweep_feerate: FeeratePerKw,
    pub destination: ScriptBuf,
}

type Signing = Arc<OnceLock<Result<Arc<SignedState>, String>>>;

/// The last ones.
#[derive(Default)]
pub(super) struct SignedStates(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    known: HashMap<SignedFor, Signing>,
    /// In the order in which they came, with the HTLCs of each.
    order: VecDeque<(SignedFor, usize)>,
    htlcs: usize,
}

impl SignedStates {
    /// What `sign` makes of this state with `htlcs`, or has made of it before. Who asks meanwhile waits for it; another state
    /// waits for nothing.
    pub(super) fn get_or_sign(
        &self,
        wanted: SignedFor,
        htlcs: usize,
        sign: impl FnOnce() -> Result<SignedState, String>,
    ) -> Result<Arc<SignedState>, String> {
        let signing = self.0.lock().unwrap_or_else(PoisonError::into_inner).signing(wanted, htlcs);
        signing.get_or_init(|| sign().map(Arc::new)).clone()
    }
}

impl Recent {
    fn signing(&mut self, wanted: SignedFor, htlcs: usize) -> Signing {
        if let Some(signing) = self.known.get(&wanted) {
            return Arc::clone(signing);
        }
        self.htlcs = self.htlcs.saturating_add(htlcs);
        let signing = Signing::default();
        self.known.insert(wanted.clone(), Arc::clone(&signing));
        self.order.push_back((wanted, htlcs));
        while (self.order.len() > STATES || self.htlcs > HTLCS)
            && let Some((oldest, htlcs)) = self.order.pop_front()
        {
            self.known.remove(&oldest);
            self.htlcs = self.htlcs.saturating_sub(htlcs);
        }
        signing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(number: u64) -> SignedFor {
        SignedFor {
            channel: ChannelId([1; 32]),
            number: CommitmentNumber(number),
            sweep_feerate: FeeratePerKw(2_500),
            destination: ScriptBuf::new(),
        }
    }

    #[test]
    fn who_pays_out_alike_shares_and_nobody_else() {
        let mut recent = Recent::default();
        let first = recent.signing(state(1), 3);
        assert!(Arc::ptr_eq(&first, &recent.signing(state(1), 3)));
        for other in [
            state(2),
            SignedFor { channel: ChannelId([2; 32]), ..state(1) },
            SignedFor { sweep_feerate: FeeratePerKw(2_501), ..state(1) },
            SignedFor { destination: ScriptBuf::from_bytes(vec![1]), ..state(1) },
        ] {
            assert!(!Arc::ptr_eq(&first, &recent.signing(other, 3)));
        }
        assert_eq!((recent.known.len(), recent.order.len(), recent.htlcs), (5, 5, 15));
    }

    #[test]
    fn few_are_remembered_however_many_come() {
        let mut recent = Recent::default();
        let some = u64::try_from(STATES).unwrap();
        for number in 0..3 * some {
            recent.signing(state(number), 0);
        }
        assert_eq!((recent.known.len(), recent.order.len()), (STATES, STATES));
        assert!(recent.known.contains_key(&state(3 * some - 1)));
        for number in 0..1_000 {
            recent.signing(state(1_000_000 + number), 966);
        }
        assert!(recent.htlcs <= HTLCS && recent.known.len() == HTLCS / 966, "{}", recent.known.len());
    }

    #[test]
    fn what_could_not_be_signed_is_said_to_each_who_asks() {
        let states = SignedStates::default();
        for _ in 0..2 {
            let failed = states.get_or_sign(state(1), 0, || Err("the channel is gone".to_owned()));
            assert_eq!(failed, Err("the channel is gone".to_owned()));
        }
    }
}
