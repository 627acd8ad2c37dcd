//! What of a channel is enough, with the seed, to get its money back from a peer that is still there (a static channel
//! backup: it never changes while the channel lives).
//!
//! ```text
//!   Channel ──backup──► ChannelBackup ──encode──► bytes, which the driver seals and keeps elsewhere
//!                                                   │  the disk is gone
//!   Channel in state restored ◄──recover── ChannelBackup ◄──decode
//! ```
//!
//! Promises: a recovered channel never broadcasts a commitment; it only asks the peer to close, and finds `to_remote`
//! in whatever the peer broadcasts.

use std::sync::Arc;

use secp256k1::ecdsa::Signature;
use thiserror::Error;

use super::commitment::spec::CommitmentSpec;
use super::commitment::{Commitments, Factory};
use super::effect::Effect;
use super::error::RestoreError;
use super::funding::FundingState;
use super::outbox::Outbox;
use super::record::{decode_terms, encode_terms};
use super::state::{ConnectionState, Established, Phase};
use super::terms::Terms;
use super::towers::TowerQueue;
use super::turn::{Ctx, Touched, Turn};
use super::{Channel, Sides, State, write_touched};
use crate::keys::{CommitmentSignatures, Signer};
use crate::types::{FeeratePerKw, Msat, ShortChannelId};
use crate::wire::codec::{DecodeError, Field, Reader};

const FORMAT: u8 = 1;

/// A channel as a backup has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBackup {
    /// Peer, funding output, type, delays, both sides' basepoints, and the name of our keys.
    pub terms: Terms,
    /// Where the funding output was in the chain when the backup was made.
    pub short_channel_id: Option<ShortChannelId>,
    /// Where the peer was reached, as host:port.
    pub addresses: Vec<String>,
}

/// Why the bytes of a backup cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum BackupError {
    #[error("the backup was written by a newer Leyden (format {found}, this one reads {FORMAT}): use that one")]
    Newer { found: u8 },
    #[error("the backup is damaged: {0}")]
    Damaged(String),
}

impl From<DecodeError> for BackupError {
    fn from(error: DecodeError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl ChannelBackup {
    /// The bytes that [`Self::decode`] reads. They hold no secret, but tell who has a channel with whom.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        encode_terms(&self.terms).write(&mut out);
        self.short_channel_id.map_or(0, |id| id.0).write(&mut out);
        (self.addresses.len().min(MAX_ADDRESSES) as u16).write(&mut out);
        for address in self.addresses.iter().take(MAX_ADDRESSES) {
            address.as_bytes().to_vec().write(&mut out);
        }
        out
    }

    /// Reads exactly one backup, of this version or an earlier one.
    pub fn decode(bytes: &[u8]) -> Result<Self, BackupError> {
        let mut reader = Reader::new(bytes);
        match reader.field::<u8>()? {
            FORMAT => {}
            found if found > FORMAT => return Err(BackupError::Newer { found }),
            found => return Err(BackupError::Damaged(format!("{found} is no format"))),
        }
        let terms: Vec<u8> = reader.field()?;
        let terms = decode_terms(&terms).map_err(|error| BackupError::Damaged(error.to_string()))?;
        let short_channel_id: u64 = reader.field()?;
        let mut addresses = Vec::new();
        for _ in 0..reader.field::<u16>()? {
            let text: Vec<u8> = reader.field()?;
            addresses.push(String::from_utf8(text).map_err(|_| BackupError::Damaged("an address is not text".into()))?);
        }
        reader.finish()?;
        let short_channel_id = (short_channel_id != 0).then_some(ShortChannelId(short_channel_id));
        Ok(Self { terms, short_channel_id, addresses })
    }
}

/// No peer is known at more places.
const MAX_ADDRESSES: usize = 64;

impl Channel {
    /// What to keep of this channel elsewhere; `None` while nothing is at stake.
    pub fn backup(&self, addresses: Vec<String>) -> Option<ChannelBackup> {
        let channel = self.established().filter(|channel| channel.phase != Phase::Closed)?;
        let (terms, short_channel_id) = (channel.terms.clone(), channel.short_channel_id);
        Some(ChannelBackup { terms, short_channel_id, addresses })
    }

    /// A channel of which nothing but a backup is left, and what has to be written and done to begin with it.
    /// `signer` has the keys that [`Terms::keys_id`] names.
    pub fn recover(
        backup: ChannelBackup,
        signer: Arc<dyn Signer + Send + Sync>,
        ctx: &Ctx<'_>,
    ) -> Result<(Self, Outbox), RestoreError> {
        let ChannelBackup { terms, short_channel_id, .. } = backup;
        if *signer.basepoints() != terms.sides.local.basepoints {
            return Err(RestoreError::ForeignKeys);
        }
        let factory = Factory::new(&terms, signer);
        let channel = Established {
            commitments: Commitments::unknown(&terms)?,
            factory,
            phase: Phase::Restored,
            connection: ConnectionState::Offline,
            short_channel_id,
            aliases: Sides::default(),
            opened_at: ctx.tip,
            low_since: None,
            falling_since: None,
            funding_transaction: None,
            violations: 0,
            funding_state: FundingState::Confirmed,
            funding_inputs: Vec::new(),
            towers: TowerQueue::default(),
            separate_rows: false,
            terms,
        };
        let mut turn = Turn::new(ctx);
        turn.touched = Touched { terms: true, state: true, signatures: true, secrets: true, inputs: false };
        let (funding, script) = (channel.terms.funding, channel.factory.funding.script_pubkey());
        let depth = channel.terms.minimum_depth;
        turn.emit(Effect::WatchFunding { funding, script: script.clone(), depth, inputs: Vec::new() });
        turn.emit(Effect::Watch { outpoint: funding, script });
        write_touched(&channel, &mut turn);
        Ok((Self { state: State::Established(Box::new(channel)), stopped: false }, turn.out))
    }
}

impl Commitments {
    /// Stands where the real ones were. Nobody builds a transaction of these: [`Knowledge::Nothing`] says so.
    ///
    /// [`Knowledge::Nothing`]: super::state::Knowledge::Nothing
    fn unknown(terms: &Terms) -> Result<Self, RestoreError> {
        let balance = Sides { local: Msat::ZERO, remote: terms.capacity_msat() };
        let nobodys = Signature::from_compact(&[1; 64])
            .map_err(|error| RestoreError::Damaged { what: "signatures", why: error.to_string() })?;
        let signatures = CommitmentSignatures { commitment: nobodys, htlcs: Vec::new() };
        Ok(Self::first(
            CommitmentSpec::new(balance, FeeratePerKw::FLOOR),
            signatures,
            terms.sides.remote.basepoints.payment,
        ))
    }
}
