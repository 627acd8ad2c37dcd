//! Channel backups as they leave the node: encrypted and authenticated with a key from the seed, so that they can lie
//! anywhere, and readable by nobody without the 24 words.
//!
//! ```text
//!   "LYCB" · version · genesis block · nonce │ ChaCha20-Poly1305 of: count, then each channel with its length
//!   └──────── authenticated too ─────────────┘
//! ```
//!
//! One channel and all channels have the same form. What is sealed for one chain is refused on another.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use leyden_channels::channel::{BackupError, ChannelBackup};

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
    ) -> Result<Vec<u8>, SealedBackupError> {
        let encoded: Vec<Vec<u8>> = channels.into_iter().map(ChannelBackup::encode).collect();
        self.seal_plain(&plain(&encoded)?)
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

    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Vec<ChannelBackup>, SealedBackupError> {
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
        let (count, mut rest) = take_length(&plain)?;
        let mut channels = Vec::new();
        for _ in 0..count {
            let (len, tail) = take_length(rest)?;
            let (channel, tail) = tail.split_at_checked(len).ok_or(Closed)?;
            channels.push(ChannelBackup::decode(channel)?);
            rest = tail;
        }
        Ok(channels)
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
        let keys = NodeKeys::new(&Seed::from_entropy([seed; 32], ""), NetworkKind::Test);
        BackupSeal::new(&keys, genesis_block(network).block_hash())
    }

    #[test]
    fn only_the_same_seed_on_the_same_chain_opens_a_backup_and_only_if_it_is_whole() {
        let ours = seal(1, Network::Regtest);
        let sealed = ours.seal([]).unwrap();
        assert_eq!(ours.open(&sealed), Ok(Vec::new()));
        assert_ne!(ours.seal([]).unwrap(), sealed, "nonces differ");
        assert_eq!(seal(2, Network::Regtest).open(&sealed), Err(SealedBackupError::Closed));
        assert_eq!(seal(1, Network::Signet).open(&sealed), Err(SealedBackupError::OtherChain));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(ours.open(&damaged).is_err(), "byte {at}");
            assert!(ours.open(&sealed[..at]).is_err(), "{at} bytes");
        }
        let padded = ours.seal_padded(&[], 500).unwrap();
        assert_eq!((padded.len(), ours.open(&padded)), (500, Ok(Vec::new())));
        let mut newer = sealed;
        newer[4] = 9;
        assert_eq!(ours.open(&newer), Err(SealedBackupError::Newer { found: 9 }));
    }
}
