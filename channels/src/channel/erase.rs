//! What is stored of a channel, once nothing of it can matter any more.

use super::effect::Effect;
use super::key::Key;
use super::outbox::Outbox;
use crate::types::ChannelId;

/// Under which prefixes the rows of a channel lie that [`erase`] removes.
pub fn prefixes(channel: &ChannelId) -> [Vec<u8>; 4] {
    [
        Key::live_prefix(channel),
        Key::retired_prefix(channel),
        Key::settlements_prefix(channel),
        Key::tower_backups_prefix(channel),
    ]
}

/// Removes those of `keys` that are rows of `channel`, which has said [`Effect::Forget`].
pub fn erase(channel: &ChannelId, keys: impl IntoIterator<Item = Key>) -> Outbox<Effect> {
    let mut outbox = Outbox::default();
    let prefixes = prefixes(channel);
    for key in keys {
        let name = key.encode();
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            outbox.delete(key);
        }
    }
    outbox
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::channel::outbox::{Persist, Write};
    use crate::types::{CommitmentNumber, HtlcId, Side};

    #[derive(Default)]
    struct Deleted(Vec<Key>);

    impl Persist for Deleted {
        type Error = Infallible;

        fn commit(&mut self, writes: Vec<Write>) -> Result<(), Infallible> {
            assert!(writes.iter().all(|write| matches!(write, Write::Delete { .. })));
            self.0.extend(writes.iter().map(|write| *write.key()));
            Ok(())
        }
    }

    #[test]
    fn only_rows_of_the_channel_are_erased() {
        let (over, alive) = (ChannelId([1; 32]), ChannelId([2; 32]));
        let retired = |channel| Key::RetiredHtlc { channel, offered_by: Side::Local, id: HtlcId(7) };
        let queued = |channel| Key::TowerBackup { channel, number: CommitmentNumber(9) };
        let of_channel = |channel| [Key::State(channel), retired(channel), queued(channel)];
        let keys = of_channel(over).into_iter().chain(of_channel(alive)).chain([Key::Closing(over)]);
        let mut store = Deleted::default();
        Outbox::commit_all(vec![erase(&over, keys)], &mut store).unwrap();
        assert_eq!(store.0, of_channel(over));
    }
}
