//! Scripts for what channels pay back: a fixed set, so that nothing that a stranger does moves the wallet.
//!
//! ```text
//!   m/84'/coin'/0' ─┬─ 0/i                      addresses that are given out
//!                   └─ 1/i ─┬─ i < 500          what channels pay back: known from the words alone, always watched
//!                           └─ i ≥ 500          change
//! ```
//!
//! A channel's script follows from its keys' id, so taking one writes nothing, and an opening that comes to nothing has
//! cost nothing. A restore needs no window to find such a coin. Two channels may share a script once in a while: that
//! tells an observer that both are ours, and loses nothing.

use std::collections::HashSet;

use bdk_wallet::{KeychainKind, Wallet};
use bitcoin::ScriptBuf;

use super::{
    accounts::{AddressKind, Derivation},
    onchain::OnchainWallet,
};

/// How many there are. Each is derived at every start and watched from the first block; with fewer, channels of a
/// node would share them sooner.
pub(crate) const CHANNEL_SCRIPTS: u32 = 500;

/// Where they are; `bdk_wallet` knows two branches, and this one is never given to anybody as an address.
pub(super) const BRANCH: KeychainKind = KeychainKind::Internal;
const KIND: AddressKind = AddressKind::SegwitV0;

/// Has them all watched, and keeps change away from them. The wallet has to be saved afterwards.
pub(super) fn set_apart(wallet: &mut Wallet) {
    let last = CHANNEL_SCRIPTS - 1;
    if wallet.derivation_index(BRANCH).is_none_or(|revealed| revealed < last) {
        wallet.reveal_addresses_to(BRANCH, last).for_each(drop);
    }
    // That they are taken is not stored: a coin makes it so, and we do.
    for index in 0..CHANNEL_SCRIPTS {
        wallet.mark_used(BRANCH, index);
    }
}

/// Whether it is one of them.
pub(super) fn is_for_channels(place: Derivation) -> bool {
    place.kind == KIND && place.branch == BRANCH && place.index < CHANNEL_SCRIPTS
}

impl OnchainWallet {
    /// All scripts by which the wallet knows its coins, those of addresses included that it has not given out yet.
    pub(crate) fn scripts(&self) -> Vec<ScriptBuf> {
        let state = self.lock();
        let of = |kind| state.wallet.index(kind).inner().all_spks().values().cloned();
        AddressKind::ALL.into_iter().flat_map(of).collect()
    }

    /// The script for what the channel with these keys pays back: one that nobody has paid yet, while there are any.
    pub(crate) fn channel_script(&self, keys_id: &[u8; 32]) -> ScriptBuf {
        let state = self.lock();
        let paid: HashSet<u32> = state.wallet.index(KIND).keychain_outpoints(BRANCH).map(|(index, _)| index).collect();
        let [a, b, c, d, ..] = *keys_id;
        let first = u32::from_be_bytes([a, b, c, d]) % CHANNEL_SCRIPTS;
        let unpaid = (first..CHANNEL_SCRIPTS).chain(0..first).find(|index| !paid.contains(index));
        let place = Derivation { kind: KIND, branch: BRANCH, index: unpaid.unwrap_or(first) };
        state.wallet.script_at(place).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{Amount, FeeRate, ScriptBuf, hashes::Hash as _};

    use super::*;
    use crate::wallet::onchain::{
        Coins,
        tests::{MemoryLog, next_block, open_with, payment},
    };

    #[test]
    fn scripts_of_channels_move_no_address_and_are_found_without_a_window() {
        let wallet = open_with(&MemoryLog::default(), 10);
        let mut last = ScriptBuf::new();
        for number in 0..1_100_u32 {
            let mut keys_id = [9; 32];
            keys_id[..4].copy_from_slice(&number.to_be_bytes());
            last = wallet.channel_script(&keys_id);
        }
        let address = wallet.new_address(AddressKind::SegwitV0).unwrap().script_pubkey();
        let paid = [payment(last.clone(), 70_000, 0), payment(address, 30_000, 1)];
        let again = open_with(&MemoryLog::default(), 10);
        again.block_connected(&next_block(again.tip().1, 1, paid.to_vec()), 1).unwrap();
        assert_eq!(again.balance().confirmed, Amount::from_sat(100_000));
        // What is paid is not taken again, and can be spent; the change goes elsewhere.
        let mut keys_id = [9; 32];
        keys_id[..4].copy_from_slice(&1_099_u32.to_be_bytes());
        assert_ne!(again.channel_script(&keys_id), last);
        let to = [(ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_byte_array([0; 32])), Amount::from_sat(80_000))];
        let sent = again.pay(&to, FeeRate::BROADCAST_MIN, &Coins::default()).unwrap();
        let change = sent.output.iter().find(|output| output.value < to[0].1).unwrap();
        let state = again.lock();
        let place = state.wallet.derivation_of_spk(&change.script_pubkey).unwrap();
        assert_eq!(place, Derivation { kind: KIND, branch: BRANCH, index: CHANNEL_SCRIPTS });
    }
}
