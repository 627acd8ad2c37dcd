//! Setup and control: `init`, `error`, `warning`, `ping`, `pong` (BOLT 1).

use bitcoin::constants::ChainHash;

use super::features::Features;
use crate::types::ChannelId;

message! {
    /// The first message of either side.
    Init = 16 {
        /// Historical: both vectors count as one, see [`Init::all_features`].
        globalfeatures: Features,
        features: Features,
    }
    extension {
        /// The chains that the sender gossips about or opens channels on; absent means any.
        1 => networks: Vec<ChainHash>,
        /// The address under which the sender sees us, as an address descriptor of `node_announcement`.
        3 => remote_addr: Vec<u8>,
    }
}

impl Init {
    /// What this node says first: its features, and the chain that its channels are on.
    pub fn new(features: Features, chain: ChainHash) -> Self {
        Self { globalfeatures: Features::empty(), features, networks: Some(vec![chain]), remote_addr: None }
    }

    /// The bits of both vectors together.
    pub fn all_features(&self) -> Features {
        self.features.clone().union(&self.globalfeatures)
    }

    /// Whether the sender is interested in `chain`: a sender that names no chain takes any.
    pub fn accepts_chain(&self, chain: ChainHash) -> bool {
        self.networks.as_ref().is_none_or(|networks| networks.contains(&chain))
    }
}

message! {
    /// The channel (or, with [`ChannelId::ALL`], every channel of the peer) cannot go on: the sender has failed it.
    ErrorMessage = 17 {
        channel_id: ChannelId,
        data: Vec<u8>,
    }
}

message! {
    /// Something is wrong, but the channel goes on.
    Warning = 1 {
        channel_id: ChannelId,
        data: Vec<u8>,
    }
}

message! {
    /// The sender asks that this be kept for it (BOLT 1, Peer storage).
    PeerStorage = 7 {
        blob: Vec<u8>,
    }
}

message! {
    /// What was kept for the receiver.
    PeerStorageRetrieval = 9 {
        blob: Vec<u8>,
    }
}

impl ErrorMessage {
    /// An error of one channel, or of all with the id of zeros.
    pub fn new(channel_id: ChannelId, text: impl Into<String>) -> Self {
        Self { channel_id, data: text.into().into_bytes() }
    }

    /// The text, fit to be shown.
    pub fn text(&self) -> String {
        printable(&self.data)
    }
}

impl Warning {
    /// A warning about one channel, or about all with the id of zeros.
    pub fn new(channel_id: ChannelId, text: impl Into<String>) -> Self {
        Self { channel_id, data: text.into().into_bytes() }
    }

    /// The text, fit to be shown.
    pub fn text(&self) -> String {
        printable(&self.data)
    }
}

/// BOLT 1 wants nothing shown verbatim that is not printable ASCII: such bytes are escaped.
fn printable(data: &[u8]) -> String {
    data.escape_ascii().to_string()
}

message! {
    /// Asks for a [`Pong`] with `num_pong_bytes` bytes.
    Ping = 18 {
        num_pong_bytes: u16,
        ignored: Vec<u8>,
    }
}

message! {
    /// The answer to a [`Ping`].
    Pong = 19 {
        ignored: Vec<u8>,
    }
}

impl Ping {
    /// From this number of bytes on a ping must not be answered.
    const NO_ANSWER: u16 = 65_532;

    /// The answer that is due, if one is (BOLT 1, The `ping` and `pong` Messages).
    pub fn answer(&self) -> Option<Pong> {
        (self.num_pong_bytes < Self::NO_ANSWER).then(|| Pong { ignored: vec![0; usize::from(self.num_pong_bytes)] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_for_too_many_bytes_is_not_answered() {
        let answer = |num_pong_bytes| Ping { num_pong_bytes, ignored: Vec::new() }.answer();
        assert_eq!(answer(3), Some(Pong { ignored: vec![0; 3] }));
        assert!(answer(65_531).is_some());
        assert_eq!(answer(65_532), None);
    }

    #[test]
    fn control_characters_of_an_error_are_escaped() {
        assert_eq!(ErrorMessage::new(ChannelId::ALL, "no\u{1b}[2J").text(), "no\\x1b[2J");
    }
}
