//! How backups are made: for each tower, away from the channels' tasks. Some 20 µs a signature in blind mode, once for all
//! towers with the same terms ([`SignedState`]); nothing is signed in own mode.
//!
//! The same state gives the same bytes each time: what was sent and not acknowledged is made again after a restart, and the
//! digest of a receipt is that of our own backups.

use bitcoin::{ScriptBuf, Txid};
use leyden_channels::{
    channel::{RebuildRevokedError, RetiredHtlc, RevokedHtlc, RevokedPast, RevokedState, Terms},
    keys::{ClaimSigner, PerCommitmentSecret},
    tx::CommitmentHtlc,
    types::{CommitmentNumber, FeeratePerKw, HtlcDirection, HtlcId, Side},
};

use super::event::{Constants, Place};
use crate::{
    kit::{self, ConstantsKey, JusticeKit, KitError, KitRequest, SweepTerms},
    message::{Backup, BackupBody, Mode, PastHtlc, StateHtlc},
    own::{OwnChannel, RevocationSecret},
    seal::SealError,
};

/// `to_remote` is ours whoever publishes, and no hurry makes it worth 64 bytes in each state.
const WITH_TO_REMOTE: bool = false;

/// HTLCs in one part of the past, some 75 bytes each: a part stays below [`crate::message::MAX_BODY`].
const PAST_HTLCS: usize = 1_500;

/// With what the backups of one channel are made for one tower.
#[derive(Clone, Copy)]
pub struct Maker<'a> {
    /// For whom.
    pub place: Place,
    /// What both sides of the channel agreed on.
    pub terms: &'a Terms,
    /// The wallet's script that penalties pay.
    pub destination: &'a ScriptBuf,
    /// As the tower has granted it.
    pub sweep_feerate: FeeratePerKw,
    /// With what they are signed.
    pub keys: MakerKeys<'a>,
}

/// What a mode needs of our keys, and no more.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum MakerKeys<'a> {
    /// A blind tower: everything is signed in advance.
    Blind {
        /// [`TowerKeys::secret`](super::keys::TowerKeys::secret) of the tower.
        secret: &'a [u8; 32],
        signer: &'a dyn ClaimSigner,
    },
    /// An own tower: it signs itself.
    Own { revocation: &'a RevocationSecret },
}

/// The signatures for one revoked state, before they are sealed for a tower. They name the commitment, the destination and
/// the feerate, and nothing of the tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedState {
    number: CommitmentNumber,
    txid: Txid,
    kit: JusticeKit,
}

/// Why there is no backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum BuildError {
    #[error("the keys are not those of a {0:?} tower")]
    Mode(Mode),
    #[error("the revoked commitment cannot be built again: {0}")]
    Commitment(#[from] RebuildRevokedError),
    #[error(transparent)]
    Kit(#[from] KitError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Maker<'_> {
    /// For [`Event::Described`](super::Event::Described).
    pub fn constants(&self) -> Result<Constants, BuildError> {
        let Self { place, terms, destination, .. } = *self;
        match (place.mode, self.keys) {
            (Mode::Blind, MakerKeys::Blind { secret, .. }) => {
                let key = ConstantsKey::derive(secret, &place.name);
                Ok(Constants::Blind(self.kit_constants().seal(&key, &place.name)?))
            }
            (Mode::Own, MakerKeys::Own { revocation }) => {
                let channel = OwnChannel {
                    kind: terms.commitment_type(),
                    opener: terms.opener,
                    funding: terms.funding,
                    capacity: terms.capacity,
                    local: terms.sides.local.basepoints.clone(),
                    remote: terms.sides.remote.basepoints.clone(),
                    remote_delay: terms.delay_of(Side::Remote),
                    destination: destination.clone(),
                    revocation: revocation.clone(),
                };
                Ok(Constants::Own(channel.encode()))
            }
            (mode, _) => Err(BuildError::Mode(mode)),
        }
    }

    /// One revoked state. `first` is the first one that the tower gets under this tag.
    pub fn state(
        &self,
        state: &RevokedState,
        secret: PerCommitmentSecret,
        first: CommitmentNumber,
    ) -> Result<Backup, BuildError> {
        let Self { place, .. } = *self;
        match (place.mode, self.keys) {
            (Mode::Blind, MakerKeys::Blind { .. }) => self.seal(&self.sign(state, secret)?),
            (Mode::Own, MakerKeys::Own { .. }) => {
                // The tower has every HTLC that an earlier one of its states had.
                let named = |one: &RevokedHtlc| match one.is_new || state.number <= first {
                    true => StateHtlc::New(one.htlc),
                    false => StateHtlc::Known { direction: one.htlc.direction, id: one.htlc.id },
                };
                let body = BackupBody::Own { secret, htlcs: state.htlcs.iter().map(named).collect() };
                Ok(Backup { channel: place.name, number: state.number, body })
            }
            (mode, _) => Err(BuildError::Mode(mode)),
        }
    }

    /// The dear half of a blind tower's backup.
    pub fn sign(&self, state: &RevokedState, secret: PerCommitmentSecret) -> Result<SignedState, BuildError> {
        let MakerKeys::Blind { secret: tower, signer } = self.keys else {
            return Err(BuildError::Mode(self.place.mode));
        };
        let commitment = state.commitment(self.terms, &secret)?;
        let kit = kit::build(&KitRequest {
            constants: &self.kit_constants(),
            key: ConstantsKey::derive(tower, &self.place.name),
            commitment: &commitment,
            secret,
            signer,
            with_to_remote: WITH_TO_REMOTE,
        })?;
        Ok(SignedState { number: state.number, txid: commitment.txid, kit })
    }

    /// The other half. `signed` may be from the maker of another blind tower, if it is of the same channel and has the same
    /// destination and feerate.
    pub fn seal(&self, signed: &SignedState) -> Result<Backup, BuildError> {
        let (Mode::Blind, MakerKeys::Blind { secret: tower, .. }) = (self.place.mode, self.keys) else {
            return Err(BuildError::Mode(self.place.mode));
        };
        let name = self.place.name;
        let kit = JusticeKit { key: ConstantsKey::derive(tower, &name), ..signed.kit.clone() };
        Ok(kit.to_backup(name, signed.number, &signed.txid)?)
    }

    /// Everything that the peer has revoked so far, in parts. `retired` are all HTLCs that are stored as such, read after
    /// `past` was taken.
    pub fn past(
        &self,
        past: &RevokedPast,
        retired: impl IntoIterator<Item = RetiredHtlc>,
    ) -> Result<Vec<Backup>, BuildError> {
        if !matches!((self.place.mode, self.keys), (Mode::Own, MakerKeys::Own { .. })) {
            return Err(BuildError::Mode(self.place.mode));
        }
        let number = past.number;
        let live = past.htlcs.iter().filter(|(_, first)| *first <= number);
        let mut all: Vec<PastHtlc> =
            live.map(|(htlc, first)| PastHtlc { htlc: *htlc, first: *first, last: None }).collect();
        let name = |htlc: &CommitmentHtlc| -> (HtlcDirection, HtlcId) { (htlc.direction, htlc.id) };
        let known: std::collections::BTreeSet<_> = all.iter().map(|one| name(&one.htlc)).collect();
        for one in retired {
            let htlc = one.in_remote();
            if one.first_remote <= number && !known.contains(&name(&htlc)) {
                let last = Some(one.last_remote.min(number));
                all.push(PastHtlc { htlc, first: one.first_remote, last });
            }
        }
        let parts = all.chunks(PAST_HTLCS).map(<[PastHtlc]>::to_vec);
        let mut parts: Vec<Vec<PastHtlc>> = parts.collect();
        let last = parts.pop().unwrap_or_default();
        let parts = parts.into_iter().map(|part| (part, true)).chain([(last, false)]);
        let body = |(htlcs, more)| BackupBody::OwnPast { secrets: past.secrets.clone(), htlcs, more };
        Ok(parts.map(|part| Backup { channel: self.place.name, number, body: body(part) }).collect())
    }

    fn kit_constants(&self) -> kit::Constants {
        let Self { terms, destination, .. } = *self;
        let sweep = SweepTerms {
            remote_delay: terms.delay_of(Side::Remote),
            feerate: self.sweep_feerate,
            script: destination.clone(),
        };
        let sides = &terms.sides;
        kit::Constants::new(terms.commitment_type(), &sides.local.basepoints, &sides.remote.basepoints, sweep)
    }
}
