//! `walletrpc.WalletKit`: the wallet's coins, and what waits for a block.

use leyden_proto::walletrpc::{
    BumpFeeRequest, BumpFeeResponse, ListUnspentRequest, ListUnspentResponse, wallet_kit_server::WalletKit,
};
use tonic::{Request, Response, Status};

use super::{
    Context, assemble,
    convert::{edge, wallet},
};
use crate::api::BumpFee;

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
}
