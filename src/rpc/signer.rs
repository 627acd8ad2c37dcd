//! `signrpc.Signer`: keys that are lent to programs.

use leyden_proto::signrpc::{
    InputScriptResp, MuSig2CleanupRequest, MuSig2CleanupResponse, MuSig2CombineKeysRequest, MuSig2CombineKeysResponse,
    MuSig2CombineSigRequest, MuSig2CombineSigResponse, MuSig2GetCombinedNonceRequest, MuSig2GetCombinedNonceResponse,
    MuSig2RegisterCombinedNonceRequest, MuSig2RegisterCombinedNonceResponse, MuSig2RegisterNoncesRequest,
    MuSig2RegisterNoncesResponse, MuSig2SessionRequest, MuSig2SessionResponse, MuSig2SignRequest, MuSig2SignResponse,
    SharedKeyRequest, SharedKeyResponse, SignMessageReq, SignMessageResp, SignReq, SignResp, VerifyMessageReq,
    VerifyMessageResp, signer_server::Signer,
};
use tonic::{Request, Response, Status};

use super::{Context, convert::signer};

pub(super) struct SignerService {
    context: Context,
}

impl SignerService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Signer for SignerService {
    async fn sign_output_raw(&self, request: Request<SignReq>) -> Result<Response<SignResp>, Status> {
        let lightning = self.context.lightning()?;
        let (transaction, spent, asked) = signer::outputs_to_sign(&request.into_inner())?;
        let raw_sigs = lightning.sign_outputs(transaction, spent, asked).await?;
        Ok(Response::new(SignResp { raw_sigs }))
    }

    async fn compute_input_script(&self, request: Request<SignReq>) -> Result<Response<InputScriptResp>, Status> {
        let lightning = self.context.lightning()?;
        let (transaction, spent, coins) = signer::coins_to_sign(&request.into_inner())?;
        let witnesses = lightning.input_scripts(transaction, spent, coins).await?;
        Ok(Response::new(InputScriptResp { input_scripts: witnesses.iter().map(signer::input_script).collect() }))
    }

    async fn sign_message(&self, request: Request<SignMessageReq>) -> Result<Response<SignMessageResp>, Status> {
        let lightning = self.context.lightning()?;
        let signature = lightning.sign_with_key(signer::sign_message(request.into_inner())?).await?;
        Ok(Response::new(SignMessageResp { signature }))
    }

    async fn verify_message(&self, request: Request<VerifyMessageReq>) -> Result<Response<VerifyMessageResp>, Status> {
        self.context.lightning()?;
        Ok(Response::new(VerifyMessageResp { valid: signer::is_valid(request.into_inner())? }))
    }

    async fn derive_shared_key(
        &self,
        request: Request<SharedKeyRequest>,
    ) -> Result<Response<SharedKeyResponse>, Status> {
        let lightning = self.context.lightning()?;
        let (key, other) = signer::shared_key(&request.into_inner())?;
        Ok(Response::new(SharedKeyResponse { shared_key: lightning.shared_key(key, other).await?.to_vec() }))
    }

    async fn mu_sig2_combine_keys(
        &self,
        request: Request<MuSig2CombineKeysRequest>,
    ) -> Result<Response<MuSig2CombineKeysResponse>, Status> {
        let lightning = self.context.lightning()?;
        let (keys, tweaks) = signer::keys_to_combine(&request.into_inner())?;
        Ok(Response::new(signer::combined(&lightning.combine_keys(keys, tweaks).await?)))
    }

    async fn mu_sig2_create_session(
        &self,
        request: Request<MuSig2SessionRequest>,
    ) -> Result<Response<MuSig2SessionResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let session = lightning.open_signing_session(signer::session_to_open(&request)?).await?;
        Ok(Response::new(signer::opened(&session, request.taproot_tweak.is_some())))
    }

    async fn mu_sig2_register_nonces(
        &self,
        request: Request<MuSig2RegisterNoncesRequest>,
    ) -> Result<Response<MuSig2RegisterNoncesResponse>, Status> {
        let lightning = self.context.lightning()?;
        let (session, nonces) = signer::more_nonces(&request.into_inner())?;
        let have_all_nonces = lightning.add_nonces(session, nonces).await?;
        Ok(Response::new(MuSig2RegisterNoncesResponse { have_all_nonces }))
    }

    async fn mu_sig2_register_combined_nonce(
        &self,
        request: Request<MuSig2RegisterCombinedNonceRequest>,
    ) -> Result<Response<MuSig2RegisterCombinedNonceResponse>, Status> {
        let lightning = self.context.lightning()?;
        let (session, nonce) = signer::combined_nonce(&request.into_inner())?;
        lightning.set_combined_nonce(session, nonce).await?;
        Ok(Response::new(MuSig2RegisterCombinedNonceResponse {}))
    }

    async fn mu_sig2_get_combined_nonce(
        &self,
        request: Request<MuSig2GetCombinedNonceRequest>,
    ) -> Result<Response<MuSig2GetCombinedNonceResponse>, Status> {
        let lightning = self.context.lightning()?;
        let nonce = lightning.combined_nonce(signer::session(&request.into_inner().session_id)?).await?;
        Ok(Response::new(MuSig2GetCombinedNonceResponse { combined_public_nonce: nonce.to_vec() }))
    }

    async fn mu_sig2_sign(&self, request: Request<MuSig2SignRequest>) -> Result<Response<MuSig2SignResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let (session, digest) = signer::digest(&request)?;
        let part = lightning.sign_in_session(session, digest, request.cleanup).await?;
        Ok(Response::new(MuSig2SignResponse { local_partial_signature: part.to_vec() }))
    }

    async fn mu_sig2_combine_sig(
        &self,
        request: Request<MuSig2CombineSigRequest>,
    ) -> Result<Response<MuSig2CombineSigResponse>, Status> {
        let lightning = self.context.lightning()?;
        let (session, parts) = signer::parts(&request.into_inner())?;
        let signature = lightning.add_signatures(session, parts).await?;
        Ok(Response::new(MuSig2CombineSigResponse {
            have_all_signatures: signature.is_some(),
            final_signature: signature.map(|signature| signature.to_vec()).unwrap_or_default(),
        }))
    }

    async fn mu_sig2_cleanup(
        &self,
        request: Request<MuSig2CleanupRequest>,
    ) -> Result<Response<MuSig2CleanupResponse>, Status> {
        let lightning = self.context.lightning()?;
        lightning.end_signing_session(signer::session(&request.into_inner().session_id)?).await?;
        Ok(Response::new(MuSig2CleanupResponse {}))
    }
}
