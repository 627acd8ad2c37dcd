//! PSBTs that the wallet pays for and signs.

use bitcoin::Psbt;

use super::*;

#[async_trait]
impl Psbts for Fake {
    async fn fund_psbt(&self, request: FundPsbt) -> Result<PsbtFunded, ApiError> {
        let psbt = request.template.clone();
        let leases = self.leases().await?;
        self.asked(request, PsbtFunded { psbt, change: Some(1), leases })
    }

    async fn sign_psbt(&self, psbt: Psbt) -> Result<(Psbt, Vec<usize>), ApiError> {
        self.asked(psbt.clone(), (psbt, vec![0]))
    }

    async fn finalize_psbt(&self, psbt: Psbt) -> Result<(Psbt, Transaction), ApiError> {
        let transaction = psbt.unsigned_tx.clone();
        self.asked(psbt.clone(), (psbt, transaction))
    }
}
