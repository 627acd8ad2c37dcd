//! Channels that never were, with states to back up and to breach: what measurements are made with.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid, WPubkeyHash, hashes::Hash as _};
use leyden_channels::{
    keys::{KeyError, KeysSigner, PerCommitmentSecret, Signer as _},
    onchain::{ClosingChannel, MutualScripts, RebuildError, RemoteState},
    tx::{CommitmentHtlc, CommitmentTx},
    types::{
        ChannelId, CltvExpiry, CommitmentNumber, CommitmentType, FeeratePerKw, HtlcDirection, HtlcId, Msat,
        PaymentHash, Side,
    },
};

use crate::{
    appointment::{ChannelName, ChannelTag, FundingIndex},
    kit::{self, Constants, ConstantsKey, KitError, KitRequest, SweepTerms},
    message::{Backup, BackupBody, Mode, OpenChannel, StateHtlc},
    own::{OwnChannel, RevocationSecret},
    seal::SealError,
};

const CAPACITY: Amount = Amount::from_sat(1_000_000);
const DUST_LIMIT: Amount = Amount::from_sat(546);
const DELAY: u16 = 144;
const HTLC: Msat = Msat(10_000_000);
const EXPIRY: CltvExpiry = CltvExpiry(100_000);
/// Of each commitment.
const FEERATE: FeeratePerKw = FeeratePerKw(1_000);

/// A channel whose every state has the same HTLCs, as many in each direction.
pub struct SyntheticChannel {
    client: KeysSigner,
    cheater: KeysSigner,
    closing: ClosingChannel,
    name: ChannelName,
    htlcs: u16,
    sweep_feerate: FeeratePerKw,
}

/// Why there is no such channel or state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum SyntheticError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Commitment(#[from] RebuildError),
    #[error(transparent)]
    Kit(#[from] KitError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl SyntheticChannel {
    /// Channel `number`; with more than 40 HTLCs the peer's balance would not pay for them.
    pub fn new(
        number: u32,
        kind: CommitmentType,
        htlcs: u16,
        sweep_feerate: FeeratePerKw,
    ) -> Result<Self, SyntheticError> {
        let named = |with: u8| {
            let mut bytes = [with; 32];
            bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, from)| *byte = from);
            bytes
        };
        let (client, cheater) = (KeysSigner::from_channel_seed(&named(1))?, KeysSigner::from_channel_seed(&named(2))?);
        let closing = ClosingChannel {
            channel_id: ChannelId(named(3)),
            kind,
            opener: Side::Local,
            funding: OutPoint { txid: Txid::from_byte_array(named(4)), vout: 0 },
            capacity: CAPACITY,
            local: client.basepoints().clone(),
            remote: cheater.basepoints().clone(),
            local_dust_limit: DUST_LIMIT,
            remote_dust_limit: DUST_LIMIT,
            local_delay: DELAY,
            remote_delay: DELAY,
            local_state: None,
            local_may_be_revoked: false,
            remote_state: None,
            remote_next: None,
            secrets: Default::default(),
            mutual_scripts: MutualScripts::Agreed(Vec::new()),
            preimages: Default::default(),
            upstream_expiries: Default::default(),
            destination: ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([1; 20])),
        };
        let [a, b, c, d] = number.to_be_bytes();
        let tag = ChannelTag([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let name = ChannelName { tag, funding: FundingIndex(0) };
        Ok(Self { client, cheater, closing, name, htlcs, sweep_feerate })
    }

    /// Its name at the tower.
    pub fn name(&self) -> ChannelName {
        self.name
    }

    /// What the tower is told of the channel.
    pub fn open(&self, mode: Mode) -> Result<OpenChannel, SyntheticError> {
        let constants = match mode {
            Mode::Blind => self.constants().seal(&self.key(), &self.name)?,
            Mode::Own => OwnChannel {
                kind: self.closing.kind,
                opener: self.closing.opener,
                funding: self.closing.funding,
                capacity: self.closing.capacity,
                local: self.closing.local.clone(),
                remote: self.closing.remote.clone(),
                remote_delay: self.closing.remote_delay,
                destination: self.closing.destination.clone(),
                revocation: RevocationSecret(self.client.release_revocation_secret()),
            }
            .encode(),
        };
        Ok(OpenChannel { channel: self.name, constants })
    }

    /// The backup of state `number`; in own mode the tower has that of the one before.
    pub fn backup(&self, mode: Mode, number: CommitmentNumber) -> Result<Backup, SyntheticError> {
        let secret = self.secret(number);
        match mode {
            Mode::Blind => {
                let commitment = self.commitment(number)?;
                let kit = kit::build(&KitRequest {
                    constants: &self.constants(),
                    key: self.key(),
                    commitment: &commitment,
                    secret,
                    signer: &self.client,
                    with_to_remote: false,
                })?;
                Ok(kit.to_backup(self.name, number, &commitment.txid)?)
            }
            Mode::Own => {
                let named = |htlc: CommitmentHtlc| match number.0 {
                    0 => StateHtlc::New(htlc),
                    _ => StateHtlc::Known { direction: htlc.direction, id: htlc.id },
                };
                let body = BackupBody::Own { secret, htlcs: self.commitment_htlcs().into_iter().map(named).collect() };
                Ok(Backup { channel: self.name, number, body })
            }
        }
    }

    /// What the peer publishes when it cheats, without its own signatures: a tower looks at no witness of it.
    pub fn breach(&self, number: CommitmentNumber) -> Result<Transaction, SyntheticError> {
        Ok(self.commitment(number)?.tx)
    }

    fn secret(&self, number: CommitmentNumber) -> PerCommitmentSecret {
        self.cheater.release_commitment_secret(number)
    }

    fn commitment(&self, number: CommitmentNumber) -> Result<CommitmentTx, SyntheticError> {
        let in_htlcs = HTLC.0.saturating_mul(u64::from(self.htlcs));
        let left = CAPACITY.to_sat().saturating_mul(1_000).saturating_sub(in_htlcs);
        let state = RemoteState {
            number,
            per_commitment_point: self.cheater.per_commitment_point(number)?,
            feerate: FEERATE,
            to_local: Msat(left / 2),
            to_remote: Msat(left - left / 2),
            htlcs: self.commitment_htlcs(),
        };
        Ok(self.closing.remote_commitment(&state)?)
    }

    fn commitment_htlcs(&self) -> Vec<CommitmentHtlc> {
        let one = |id: u16| {
            let mut hash = [9; 32];
            hash.iter_mut().zip(id.to_be_bytes()).for_each(|(byte, from)| *byte = from);
            let direction = if id.is_multiple_of(2) { HtlcDirection::Offered } else { HtlcDirection::Received };
            CommitmentHtlc {
                direction,
                id: HtlcId(u64::from(id / 2)),
                amount: HTLC,
                payment_hash: PaymentHash(hash),
                cltv_expiry: EXPIRY,
            }
        };
        (0..self.htlcs).map(one).collect()
    }

    fn constants(&self) -> Constants {
        let script = self.closing.destination.clone();
        let terms = SweepTerms { remote_delay: DELAY, feerate: self.sweep_feerate, script };
        Constants::new(self.closing.kind, &self.closing.local, &self.closing.remote, terms)
    }

    fn key(&self) -> ConstantsKey {
        ConstantsKey::derive(&[3; 32], &self.name)
    }
}
