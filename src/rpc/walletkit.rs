//! `walletrpc.WalletKit`: the wallet's coins, what waits for a block, and what other programs need of both.

use leyden_proto::{
    lnrpc,
    walletrpc::{
        self, AddrRequest, AddrResponse, BumpFeeRequest, BumpFeeResponse, EstimateFeeRequest, EstimateFeeResponse,
        GetTransactionRequest, LabelTransactionRequest, LabelTransactionResponse, LeaseOutputRequest,
        LeaseOutputResponse, ListAccountsRequest, ListAccountsResponse, ListLeasesRequest, ListLeasesResponse,
        ListUnspentRequest, ListUnspentResponse, PublishResponse, ReleaseOutputRequest, ReleaseOutputResponse,
        RequiredReserveRequest, RequiredReserveResponse, wallet_kit_server::WalletKit,
    },
};
use tonic::{Request, Response, Status};

use super::{
    Context, assemble,
    convert::{edge, wallet, wallet_kit},
};
use crate::api::{AddressKind, BumpFee};

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
            (AddressKind::SegwitV0, true) => lightning.change_address().await?,
            (kind, _) => lightning.new_address(kind, false).await?,
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
        if wallet_kit::wants_account(&request.into_inner())? {
            accounts.push(wallet_kit::account(&lightning.account().await?));
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
}
