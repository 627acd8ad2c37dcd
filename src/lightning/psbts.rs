//! PSBTs that the wallet pays for and signs.

use async_trait::async_trait;
use bitcoin::{Psbt, Transaction};
use leyden_channels::types::UnixTime;

use super::{
    LightningNode,
    wallet::{fee_rate, wallet_error},
};
use crate::{
    api::{ApiError, FundPsbt, Lease, PsbtFunded, Psbts},
    wallet::{
        leases,
        lent_psbt::{LentPsbtError, sign_with_lent},
        psbt_funding::PsbtFunding,
        psbt_signing::PsbtError,
    },
};

#[async_trait]
impl Psbts for LightningNode {
    async fn fund_psbt(&self, request: FundPsbt) -> Result<PsbtFunded, ApiError> {
        // On a thread of its own, and to the end: what is leased in memory is leased on the disk, whoever hangs up.
        self.read(move |services| {
            let until = services.now().0.saturating_add(request.lock_time.as_secs());
            let lease = leases::Lease { id: request.lock_id, until };
            let funded = services.wallet.fund_psbt(PsbtFunding {
                template: request.template,
                selection: request.selection,
                rate: fee_rate(services, request.fee),
                min_confirmations: request.coins.min_confirmations,
                reserve: request.coins.reserve,
                change: request.change,
                max_fee_ratio: request.max_fee_ratio,
                lease,
                time: request.lock_time,
            });
            let funded = funded.map_err(psbt_error)?;
            let stored =
                funded.leased.iter().try_for_each(|(coin, _)| services.store.put_lease(coin, &request.lock_id, until));
            if let Err(error) = stored {
                for (coin, _) in &funded.leased {
                    // It was leased a moment ago under this very id.
                    let _ = services.wallet.end_lease(coin, &request.lock_id);
                }
                return Err(error.into());
            }
            let lease = |(outpoint, output)| Lease { id: request.lock_id, outpoint, output, until: UnixTime(until) };
            let leases = funded.leased.into_iter().map(lease).collect();
            Ok(PsbtFunded { psbt: funded.psbt, change: funded.change, leases })
        })
        .await
    }

    async fn sign_psbt(&self, mut psbt: Psbt) -> Result<(Psbt, Vec<usize>), ApiError> {
        self.sign_in_turn(move |services| {
            let mut signed = services.wallet.sign_psbt(&mut psbt).map_err(psbt_error)?;
            // A program that pays into scripts of its own finds its keys again.
            signed.extend(sign_with_lent(&mut psbt, &services.keys, &signed).map_err(lent_psbt_error)?);
            signed.sort_unstable();
            Ok((psbt, signed))
        })
        .await
    }

    async fn finalize_psbt(&self, psbt: Psbt) -> Result<(Psbt, Transaction), ApiError> {
        self.sign_in_turn(move |services| services.wallet.finalize_psbt(psbt).map_err(psbt_error)).await
    }
}

fn lent_psbt_error(error: LentPsbtError) -> ApiError {
    match error {
        LentPsbtError::Psbt(error) => psbt_error(error),
        LentPsbtError::Lent { .. } | LentPsbtError::Sign { .. } | LentPsbtError::Unclear { .. } => {
            ApiError::invalid(error.to_string())
        }
    }
}

pub(super) fn psbt_error(error: PsbtError) -> ApiError {
    match error {
        PsbtError::Wallet(error) => wallet_error(error),
        PsbtError::NoOutputs
        | PsbtError::NoSuchOutput { .. }
        | PsbtError::UnknownWeight { .. }
        | PsbtError::TooMuch
        | PsbtError::NoUtxo { .. }
        | PsbtError::WrongUtxo { .. }
        | PsbtError::Sighash { .. }
        | PsbtError::TooHeavy { .. }
        | PsbtError::Complete
        | PsbtError::NotFinal { .. }
        | PsbtError::Extract(_) => ApiError::invalid(error.to_string()),
        PsbtError::NotFree { .. }
        | PsbtError::NotLeased { .. }
        | PsbtError::FeeTooHigh { .. }
        | PsbtError::SetAside { .. }
        | PsbtError::Spent { .. } => ApiError::precondition(error.to_string()),
    }
}
