//! Channel backups as they leave the node: encrypted and authenticated with a key from the seed, so that they can lie
//! anywhere, and readable by nobody without the 24 words.
//!
//! ```text
//!   "LYCB" · version · genesis block · nonce │ ChaCha20-Poly1305 of: count, then each channel with its length;
//!   └──────── authenticated too ─────────────┘                       count, then each swap with its length
//! ```
//!
//! The swaps came later: programs that do not know them pass over them, and backups from before have none.
//! One channel and all channels have the same form. What is sealed for one chain is refused on another.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use leyden_channels::{
    channel::{BackupError, ChannelBackup},
    swap,
    types::PaymentHash,
};

use super::keys::NodeKeys;

const MAGIC: &[u8; 4] = b"LYCB";
const VERSION: u8 = 1;
const NONCE: usize = 24;
const TAG: usize = 16;
const HEADER: usize = MAGIC.len() + 1 + 32 + NONCE;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedBackupError {
    #[error("this is no channel backup of Leyden")]
    NotABackup,
    #[error("the backup was written by a newer Leyden (format {found}, this one reads {VERSION}): use that one")]
    Newer { found: u8 },
    #[error("the backup is of channels on another chain: start leydend with the --network that it was made on")]
    OtherChain,
    #[error("the backup cannot be opened: it was made with another seed, or it is damaged")]
    Closed,
    #[error("the backup cannot be sealed")]
    NotSealed,
    #[error(transparent)]
    Content(#[from] BackupError),
}

/// What a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub channels: Vec<ChannelBackup>,
    pub swaps: Vec<SwapBackup>,
}

/// A swap of which something may be on a chain, as its row is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SwapBackup {
    pub key: swap::Key,
    pub row: Vec<u8>,
}

/// The first byte of a swap's entry; its hash and its row follow.
const ATOMIC: u8 = 0;
/// The first byte of a submarine swap's entry; its hash and its row follow.
const SUBMARINE: u8 = 1;

impl SwapBackup {
    fn encode(&self) -> Vec<u8> {
        let (kind, id) = match self.key {
            swap::Key::Swap(id) => (ATOMIC, id),
            swap::Key::Submarine(id) => (SUBMARINE, id),
        };
        [&[kind], id.0.as_slice(), &self.row].concat()
    }

    /// `None` for a kind that a newer program has written.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (id, row) = rest.split_first_chunk::<32>()?;
        let id = PaymentHash(*id);
        let key = match *kind {
            ATOMIC => swap::Key::Swap(id),
            SUBMARINE => swap::Key::Submarine(id),
            _ => return None,
        };
        Some(Self { key, row: row.to_vec() })
    }
}

/// Seals and opens backups of one node on one chain.
pub(crate) struct BackupSeal {
    cipher: XChaCha20Poly1305,
    genesis: BlockHash,
}

impl BackupSeal {
    pub(crate) fn new(keys: &NodeKeys, genesis: BlockHash) -> Self {
        Self { cipher: XChaCha20Poly1305::new(&keys.backup_key().into()), genesis }
    }

    pub(crate) fn seal<'a>(
        &self,
        channels: impl IntoIterator<Item = &'a ChannelBackup>,
        swaps: impl IntoIterator<Item = &'a SwapBackup>,
    ) -> Result<Vec<u8>, SealedBackupError> {
        let channels: Vec<Vec<u8>> = channels.into_iter().map(ChannelBackup::encode).collect();
        let swaps: Vec<Vec<u8>> = swaps.into_iter().map(SwapBackup::encode).collect();
        self.seal_plain(&[plain(&channels)?, plain(&swaps)?].concat())
    }

    /// As many of the channels, in their order, as fit into exactly `size` bytes.
    pub(crate) fn seal_padded(&self, channels: &[&ChannelBackup], size: usize) -> Result<Vec<u8>, SealedBackupError> {
        let room = size.checked_sub(HEADER + TAG).ok_or(SealedBackupError::NotSealed)?;
        let mut used = PREFIX;
        let fits = |one: &Vec<u8>| {
            used = used.saturating_add(PREFIX).saturating_add(one.len());
            used <= room
        };
        let encoded: Vec<Vec<u8>> = channels.iter().map(|channel| channel.encode()).take_while(fits).collect();
        let mut plain_text = plain(&encoded)?;
        plain_text.resize(room, 0);
        self.seal_plain(&plain_text)
    }

    fn seal_plain(&self, plain: &[u8]) -> Result<Vec<u8>, SealedBackupError> {
        let nonce: [u8; NONCE] = rand::random();
        let mut sealed = MAGIC.to_vec();
        sealed.push(VERSION);
        sealed.extend(self.genesis.to_byte_array());
        sealed.extend(nonce);
        let payload = Payload { msg: plain, aad: &sealed };
        let content = self.cipher.encrypt(&nonce.into(), payload).map_err(|_| SealedBackupError::NotSealed)?;
        sealed.extend(content);
        Ok(sealed)
    }

    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Contents, SealedBackupError> {
        use SealedBackupError::{Closed, Newer, NotABackup, OtherChain};

        let rest = sealed.strip_prefix(MAGIC).ok_or(NotABackup)?;
        match rest.first() {
            Some(&VERSION) => {}
            Some(&found) if found > VERSION => return Err(Newer { found }),
            Some(_) | None => return Err(NotABackup),
        }
        let (header, content) = sealed.split_at_checked(HEADER).ok_or(NotABackup)?;
        let nonce: [u8; NONCE] = header.last_chunk().copied().ok_or(NotABackup)?;
        if header.get(MAGIC.len() + 1..MAGIC.len() + 33) != Some(&self.genesis.to_byte_array()[..]) {
            return Err(OtherChain);
        }
        let payload = Payload { msg: content, aad: header };
        let plain = self.cipher.decrypt(&nonce.into(), payload).map_err(|_| Closed)?;
        let (channels, rest) = take_list(&plain)?;
        let channels = channels.into_iter().map(ChannelBackup::decode).collect::<Result<_, _>>()?;
        // What is padded has zeros there, if there is room for a count at all.
        let (swaps, _) = if rest.len() < PREFIX { (Vec::new(), rest) } else { take_list(rest)? };
        let swaps = swaps.into_iter().filter_map(SwapBackup::decode).collect();
        Ok(Contents { channels, swaps })
    }
}

/// Bytes of a length.
const PREFIX: usize = 4;

fn plain(encoded: &[Vec<u8>]) -> Result<Vec<u8>, SealedBackupError> {
    let mut plain = length(encoded.len())?.to_vec();
    for channel in encoded {
        plain.extend(length(channel.len())?);
        plain.extend_from_slice(channel);
    }
    Ok(plain)
}

fn length(len: usize) -> Result<[u8; PREFIX], SealedBackupError> {
    u32::try_from(len).map(u32::to_be_bytes).map_err(|_| SealedBackupError::NotSealed)
}

/// A count, and as many entries, each with its length; and what follows them.
fn take_list(bytes: &[u8]) -> Result<(Vec<&[u8]>, &[u8]), SealedBackupError> {
    let (count, mut rest) = take_length(bytes)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (len, tail) = take_length(rest)?;
        let (entry, tail) = tail.split_at_checked(len).ok_or(SealedBackupError::Closed)?;
        entries.push(entry);
        rest = tail;
    }
    Ok((entries, rest))
}

fn take_length(bytes: &[u8]) -> Result<(usize, &[u8]), SealedBackupError> {
    let (len, rest) = bytes.split_first_chunk::<PREFIX>().ok_or(SealedBackupError::Closed)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| SealedBackupError::Closed)?;
    Ok((len, rest))
}

#[cfg(test)]
mod tests {
    use bitcoin::{Network, NetworkKind, constants::genesis_block};

    use super::*;
    use crate::wallet::seed::Seed;

    fn seal(seed: u8, network: Network) -> BackupSeal {
        let genesis = genesis_block(network).block_hash();
        let keys = NodeKeys::new(&Seed::from_entropy([seed; 32], ""), NetworkKind::Test, &genesis);
        BackupSeal::new(&keys, genesis)
    }

    #[test]
    fn only_the_same_seed_on_the_same_chain_opens_a_backup_and_only_if_it_is_whole() {
        let ours = seal(1, Network::Regtest);
        let sealed = ours.seal([], []).unwrap();
        assert_eq!(ours.open(&sealed), Ok(Contents::default()));
        assert_ne!(ours.seal([], []).unwrap(), sealed, "nonces differ");
        assert_eq!(seal(2, Network::Regtest).open(&sealed), Err(SealedBackupError::Closed));
        assert_eq!(seal(1, Network::Signet).open(&sealed), Err(SealedBackupError::OtherChain));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(ours.open(&damaged).is_err(), "byte {at}");
            assert!(ours.open(&sealed[..at]).is_err(), "{at} bytes");
        }
        let padded = ours.seal_padded(&[], 500).unwrap();
        assert_eq!((padded.len(), ours.open(&padded)), (500, Ok(Contents::default())));
        let mut newer = sealed;
        newer[4] = 9;
        assert_eq!(ours.open(&newer), Err(SealedBackupError::Newer { found: 9 }));
    }

    #[test]
    fn swaps_lie_in_a_backup_and_those_from_before_them_have_none() {
        let ours = seal(1, Network::Regtest);
        let swap = |key| SwapBackup { key, row: vec![2; 300] };
        let hash = PaymentHash([7; 32]);
        let swaps = vec![swap(swap::Key::Swap(hash)), swap(swap::Key::Submarine(hash))];
        let sealed = ours.seal([], &swaps).unwrap();
        assert_eq!(ours.open(&sealed), Ok(Contents { channels: Vec::new(), swaps }));
        let before = ours.seal_plain(&plain(&[]).unwrap()).unwrap();
        assert_eq!(ours.open(&before), Ok(Contents::default()));
        let newer = plain(&[vec![9; 40]]).unwrap();
        let newer = ours.seal_plain(&[plain(&[]).unwrap(), newer].concat()).unwrap();
        assert_eq!(ours.open(&newer), Ok(Contents::default()), "kinds of swap that are not known are passed over");
    }
}
