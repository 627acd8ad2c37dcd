//! `walletrpc.WalletKit`: the wallet's coins, what waits for a block, and what other programs need of both.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use leyden_proto::{
    lnrpc,
    signrpc::{KeyDescriptor, KeyLocator},
    walletrpc::{
        self, AddrRequest, AddrResponse, BumpFeeRequest, BumpFeeResponse, BumpForceCloseFeeRequest,
        BumpForceCloseFeeResponse, EstimateFeeRequest, EstimateFeeResponse, FinalizePsbtRequest, FinalizePsbtResponse,
        FundPsbtRequest, FundPsbtResponse, GetTransactionRequest, KeyReq, LabelTransactionRequest,
        LabelTransactionResponse, LeaseOutputRequest, LeaseOutputResponse, ListAccountsRequest, ListAccountsResponse,
        ListAddressesRequest, ListAddressesResponse, ListLeasesRequest, ListLeasesResponse, ListSweepsRequest,
        ListSweepsResponse, ListUnspentRequest, ListUnspentResponse, PendingSweepsRequest, PendingSweepsResponse,
        PublishResponse, ReleaseOutputRequest, ReleaseOutputResponse, RemoveTransactionResponse,
        RequiredReserveRequest, RequiredReserveResponse, SendOutputsRequest, SendOutputsResponse,
        SignMessageWithAddrRequest, SignMessageWithAddrResponse, SignPsbtRequest, SignPsbtResponse,
        SubmitPackageRequest, SubmitPackageResponse, VerifyMessageWithAddrRequest, VerifyMessageWithAddrResponse,
        wallet_kit_server::WalletKit,
    },
};
use tonic::{Request, Response, Status};

use super::{
    Context, assemble,
    convert::{edge, psbts, signer, sweeps, wallet, wallet_kit},
};
use crate::api::{AddressKind, ApiError, BumpFee, TransactionPage};

pub(super) struct WalletKitService {
    context: Context,
}

impl WalletKitService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl WalletKit for WalletKitService {
    async fn list_unspent(
        &self,
        request: Request<ListUnspentRequest>,
    ) -> Result<Response<ListUnspentResponse>, Status> {
        let lightning = self.context.lightning()?;
        let wanted = wallet::kit_range(&request.into_inner())?;
        let network = self.context.daemon.network();
        let coins = lightning.unspent().await?;
        let make = move || {
            let utxos = coins.iter().filter(|coin| wanted.contains(&coin.confirmations));
            ListUnspentResponse { utxos: utxos.map(|coin| wallet::utxo(coin, &network)).collect() }
        };
        Ok(Response::new(assemble(make).await?))
    }

    async fn bump_fee(&self, request: Request<BumpFeeRequest>) -> Result<Response<BumpFeeResponse>, Status> {
        let lightning = self.context.lightning()?;
        let reserve = edge::reserve(request.metadata())?;
        let request = BumpFee { reserve, ..wallet::bump_fee(&request.into_inner())? };
        Ok(Response::new(BumpFeeResponse { status: lightning.bump_fee(request).await? }))
    }

    async fn estimate_fee(
        &self,
        request: Request<EstimateFeeRequest>,
    ) -> Result<Response<EstimateFeeResponse>, Status> {
        let lightning = self.context.lightning()?;
        let blocks = wallet_kit::target(&request.into_inner())?;
        Ok(Response::new(wallet_kit::feerates(&lightning.chain_feerates(blocks).await?)))
    }

    async fn next_addr(&self, request: Request<AddrRequest>) -> Result<Response<AddrResponse>, Status> {
        let lightning = self.context.lightning()?;
        let address = match wallet_kit::next_address(&request.into_inner())? {
            (kind, true) => lightning.change_address(kind).await?,
            (kind, false) => lightning.new_address(kind, false).await?,
        };
        Ok(Response::new(AddrResponse { addr: address.to_string() }))
    }

    async fn get_transaction(
        &self,
        request: Request<GetTransactionRequest>,
    ) -> Result<Response<lnrpc::Transaction>, Status> {
        let lightning = self.context.lightning()?;
        let txid = edge::txid("txid", &request.into_inner().txid)?;
        let found = lightning.wallet_transaction(txid).await?;
        Ok(Response::new(wallet::transaction(&found, &self.context.daemon.network())))
    }

    async fn publish_transaction(
        &self,
        request: Request<walletrpc::Transaction>,
    ) -> Result<Response<PublishResponse>, Status> {
        let lightning = self.context.lightning()?;
        let (transaction, label) = wallet_kit::publication(request.into_inner())?;
        lightning.publish(transaction, label).await?;
        Ok(Response::new(PublishResponse { publish_error: String::new() }))
    }

    async fn label_transaction(
        &self,
        request: Request<LabelTransactionRequest>,
    ) -> Result<Response<LabelTransactionResponse>, Status> {
        let lightning = self.context.lightning()?;
        let (txid, label, overwrite) = wallet_kit::label(request.into_inner())?;
        let status = format!("transaction label '{label}' added");
        lightning.label_transaction(txid, label, overwrite).await?;
        Ok(Response::new(LabelTransactionResponse { status }))
    }

    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        let lightning = self.context.lightning()?;
        let mut accounts = Vec::new();
        for kind in wallet_kit::wanted_accounts(&request.into_inner())? {
            accounts.push(wallet_kit::account(&lightning.account(kind).await?));
        }
        Ok(Response::new(ListAccountsResponse { accounts }))
    }

    async fn required_reserve(
        &self,
        request: Request<RequiredReserveRequest>,
    ) -> Result<Response<RequiredReserveResponse>, Status> {
        let more = request.into_inner().additional_public_channels;
        let reserve = self.context.lightning()?.required_reserve(more).await?;
        Ok(Response::new(wallet_kit::reserve(reserve)))
    }

    async fn lease_output(
        &self,
        request: Request<LeaseOutputRequest>,
    ) -> Result<Response<LeaseOutputResponse>, Status> {
        let lightning = self.context.lightning()?;
        let (id, coin, time) = wallet_kit::lease(&request.into_inner())?;
        Ok(Response::new(LeaseOutputResponse { expiration: lightning.lease_coin(id, coin, time).await?.0 }))
    }

    async fn release_output(
        &self,
        request: Request<ReleaseOutputRequest>,
    ) -> Result<Response<ReleaseOutputResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let (id, coin) = wallet_kit::leased(&request.id, request.outpoint.as_ref())?;
        lightning.release_coin(id, coin).await?;
        Ok(Response::new(ReleaseOutputResponse { status: format!("output {coin} released") }))
    }

    async fn list_leases(&self, _request: Request<ListLeasesRequest>) -> Result<Response<ListLeasesResponse>, Status> {
        let leases = self.context.lightning()?.leases().await?;
        Ok(Response::new(ListLeasesResponse { locked_utxos: leases.iter().map(wallet_kit::utxo_lease).collect() }))
    }

    async fn list_addresses(
        &self,
        request: Request<ListAddressesRequest>,
    ) -> Result<Response<ListAddressesResponse>, Status> {
        let lightning = self.context.lightning()?;
        psbts::wants_addresses(&request.into_inner())?;
        let mut account_with_addresses = Vec::new();
        for kind in AddressKind::ALL {
            let (account, addresses) = (lightning.account(kind).await?, lightning.addresses(kind).await?);
            account_with_addresses.push(assemble(move || psbts::account_addresses(&account, &addresses)).await?);
        }
        Ok(Response::new(ListAddressesResponse { account_with_addresses }))
    }

    async fn fund_psbt(&self, request: Request<FundPsbtRequest>) -> Result<Response<FundPsbtResponse>, Status> {
        let lightning = self.context.lightning()?;
        let reserve = edge::reserve(request.metadata())?;
        let request = psbts::funding(request.into_inner(), reserve, &self.context.daemon.network())?;
        Ok(Response::new(psbts::funded(&lightning.fund_psbt(request).await?)?))
    }

    async fn sign_psbt(&self, request: Request<SignPsbtRequest>) -> Result<Response<SignPsbtResponse>, Status> {
        let lightning = self.context.lightning()?;
        let psbt = psbts::psbt("error parsing PSBT", &request.into_inner().funded_psbt)?;
        let (psbt, inputs) = lightning.sign_psbt(psbt).await?;
        Ok(Response::new(psbts::signed(&psbt, &inputs)))
    }

    async fn finalize_psbt(
        &self,
        request: Request<FinalizePsbtRequest>,
    ) -> Result<Response<FinalizePsbtResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        edge::account(&request.account)?;
        let psbt = psbts::psbt("error parsing PSBT", &request.funded_psbt)?;
        let (psbt, transaction) = lightning.finalize_psbt(psbt).await?;
        Ok(Response::new(psbts::finalized(&psbt, &transaction)))
    }

    async fn derive_next_key(&self, request: Request<KeyReq>) -> Result<Response<KeyDescriptor>, Status> {
        let lightning = self.context.lightning()?;
        let (at, key) = lightning.derive_next_key(signer::family(&request.into_inner())?).await?;
        Ok(Response::new(signer::descriptor(at, &key)?))
    }

    async fn derive_key(&self, request: Request<KeyLocator>) -> Result<Response<KeyDescriptor>, Status> {
        let lightning = self.context.lightning()?;
        let at = signer::locator(&request.into_inner())?;
        Ok(Response::new(signer::descriptor(at, &lightning.derive_key(at).await?)?))
    }

    async fn sign_message_with_addr(
        &self,
        request: Request<SignMessageWithAddrRequest>,
    ) -> Result<Response<SignMessageWithAddrResponse>, Status> {
        let lightning = self.context.lightning()?;
        let (address, message) = signer::for_address(request.into_inner(), &self.context.daemon.network())?;
        let signature = lightning.sign_for_address(address, message).await?;
        Ok(Response::new(SignMessageWithAddrResponse { signature: STANDARD.encode(signature) }))
    }

    async fn verify_message_with_addr(
        &self,
        request: Request<VerifyMessageWithAddrRequest>,
    ) -> Result<Response<VerifyMessageWithAddrResponse>, Status> {
        self.context.lightning()?;
        let verified = signer::verified_for_address(&request.into_inner(), &self.context.daemon.network())?;
        Ok(Response::new(verified))
    }

    async fn pending_sweeps(
        &self,
        _request: Request<PendingSweepsRequest>,
    ) -> Result<Response<PendingSweepsResponse>, Status> {
        Ok(Response::new(sweeps::pending(&self.context.lightning()?.closing_channels().await?)))
    }

    async fn list_sweeps(&self, request: Request<ListSweepsRequest>) -> Result<Response<ListSweepsResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        sweeps::from_height(&request)?;
        let closing = lightning.closing_channels().await?;
        let claims = sweeps::claims(&closing, &lightning.closed_channels().await?);
        let transactions = lightning.wallet_transactions(TransactionPage::all()).await?;
        let network = self.context.daemon.network();
        Ok(Response::new(assemble(move || sweeps::sweeps(&request, &claims, transactions, &network)).await??))
    }

    async fn bump_force_close_fee(
        &self,
        request: Request<BumpForceCloseFeeRequest>,
    ) -> Result<Response<BumpForceCloseFeeResponse>, Status> {
        let lightning = self.context.lightning()?;
        let reserve = edge::reserve(request.metadata())?;
        let bump = sweeps::close_bump(&request.into_inner(), reserve)?;
        if !lightning.closing_channels().await?.iter().any(|channel| channel.funding == bump.outpoint) {
            let text = format!("channel {} is not closing: BumpFee raises what a payment pays", bump.outpoint);
            return Err(ApiError::precondition(text).into());
        }
        Ok(Response::new(BumpForceCloseFeeResponse { status: lightning.bump_fee(bump).await? }))
    }

    async fn send_outputs(
        &self,
        request: Request<SendOutputsRequest>,
    ) -> Result<Response<SendOutputsResponse>, Status> {
        let lightning = self.context.lightning()?;
        let reserve = edge::reserve(request.metadata())?;
        let sent = lightning.send_outputs(sweeps::to_send(request.into_inner(), reserve)?).await?;
        Ok(Response::new(SendOutputsResponse { raw_tx: bitcoin::consensus::serialize(&sent) }))
    }

    async fn submit_package(
        &self,
        request: Request<SubmitPackageRequest>,
    ) -> Result<Response<SubmitPackageResponse>, Status> {
        let lightning = self.context.lightning()?;
        let transactions = sweeps::package(&request.into_inner())?;
        Ok(Response::new(sweeps::submitted(&lightning.submit_package(transactions).await?)))
    }

    async fn remove_transaction(
        &self,
        request: Request<GetTransactionRequest>,
    ) -> Result<Response<RemoveTransactionResponse>, Status> {
        let lightning = self.context.lightning()?;
        let text = request.into_inner().txid;
        if text.is_empty() {
            return Err(ApiError::invalid("must provide a transaction hash").into());
        }
        lightning.forget_transaction(edge::txid("txid", &text)?).await?;
        Ok(Response::new(RemoveTransactionResponse { status: "Successfully removed transaction".to_owned() }))
    }
}
