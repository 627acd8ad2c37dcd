//! `leyden.Swap` and `leyden.SwapChain`: swaps, and what this daemon does for another one that makes them.

use bitcoin::consensus;
use leyden_proto::leyden::{self, swap_chain_server::SwapChain, swap_server::Swap};
use tonic::{Request, Response, Status};

use super::{
    Context,
    convert::{edge, submarine, swaps},
    status::{Replies, replies},
};
use crate::api::SwapOrder;

pub(super) struct SwapService {
    context: Context,
}

impl SwapService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }

    async fn order(&self, id: &[u8], order: SwapOrder) -> Result<Response<leyden::SwapInfo>, Status> {
        let id = edge::payment_hash("id", id)?;
        Ok(Response::new(swaps::info(&self.context.lightning()?.order_swap(id, order).await?)))
    }
}

#[tonic::async_trait]
impl Swap for SwapService {
    type SubscribeStream = Replies<leyden::SwapInfo>;

    async fn quote(&self, request: Request<leyden::SwapQuoteRequest>) -> Result<Response<leyden::SwapInfo>, Status> {
        let request = swaps::quote(&request.into_inner())?;
        Ok(Response::new(swaps::info(&self.context.lightning()?.quote_swap(request).await?)))
    }

    async fn accept(&self, request: Request<leyden::SwapAcceptRequest>) -> Result<Response<leyden::SwapInfo>, Status> {
        let request = swaps::accept(&request.into_inner())?;
        Ok(Response::new(swaps::info(&self.context.lightning()?.accept_swap(request).await?)))
    }

    async fn initiate(
        &self,
        request: Request<leyden::SwapInitiateRequest>,
    ) -> Result<Response<leyden::SwapInfo>, Status> {
        let acceptance = swaps::acceptance(&request.into_inner().acceptance)?;
        Ok(Response::new(swaps::info(&self.context.lightning()?.initiate_swap(acceptance).await?)))
    }

    async fn quote_submarine(
        &self,
        request: Request<leyden::SubmarineQuoteRequest>,
    ) -> Result<Response<leyden::SwapInfo>, Status> {
        let request = submarine::quote(&request.into_inner())?;
        Ok(Response::new(swaps::info(&self.context.lightning()?.quote_submarine(request).await?)))
    }

    async fn accept_submarine(
        &self,
        request: Request<leyden::SubmarineAcceptRequest>,
    ) -> Result<Response<leyden::SwapInfo>, Status> {
        let request = submarine::accept(&request.into_inner())?;
        Ok(Response::new(swaps::info(&self.context.lightning()?.accept_submarine(request).await?)))
    }

    async fn initiate_submarine(
        &self,
        request: Request<leyden::SwapInitiateRequest>,
    ) -> Result<Response<leyden::SwapInfo>, Status> {
        let acceptance = submarine::acceptance(&request.into_inner().acceptance)?;
        Ok(Response::new(swaps::info(&self.context.lightning()?.initiate_submarine(acceptance).await?)))
    }

    async fn participate(&self, request: Request<leyden::SwapRequest>) -> Result<Response<leyden::SwapInfo>, Status> {
        self.order(&request.into_inner().id, SwapOrder::Participate).await
    }

    async fn redeem(&self, request: Request<leyden::SwapRedeemRequest>) -> Result<Response<leyden::SwapInfo>, Status> {
        let request = request.into_inner();
        let secret = swaps::secret(&request.secret)?;
        self.order(&request.id, SwapOrder::Redeem(secret)).await
    }

    async fn refund(&self, request: Request<leyden::SwapRequest>) -> Result<Response<leyden::SwapInfo>, Status> {
        self.order(&request.into_inner().id, SwapOrder::Refund).await
    }

    async fn cancel(&self, request: Request<leyden::SwapRequest>) -> Result<Response<leyden::SwapInfo>, Status> {
        self.order(&request.into_inner().id, SwapOrder::Cancel).await
    }

    async fn reclaim(
        &self,
        request: Request<leyden::SwapReclaimRequest>,
    ) -> Result<Response<leyden::SwapTransaction>, Status> {
        let request = swaps::reclaim(&request.into_inner())?;
        let transaction = consensus::serialize(&self.context.lightning()?.reclaim_swap(request).await?);
        Ok(Response::new(leyden::SwapTransaction { transaction }))
    }

    async fn audit(&self, request: Request<leyden::SwapAuditRequest>) -> Result<Response<leyden::SwapAudit>, Status> {
        Ok(Response::new(swaps::audit(&request.into_inner())?))
    }

    async fn extract_secret(
        &self,
        request: Request<leyden::ExtractSecretRequest>,
    ) -> Result<Response<leyden::ExtractSecretResponse>, Status> {
        Ok(Response::new(swaps::extract_secret(&request.into_inner())?))
    }

    async fn list(
        &self,
        _request: Request<leyden::ListSwapsRequest>,
    ) -> Result<Response<leyden::ListSwapsResponse>, Status> {
        let all = self.context.lightning()?.swaps().await?;
        Ok(Response::new(leyden::ListSwapsResponse { swaps: all.iter().map(swaps::info).collect() }))
    }

    async fn subscribe(
        &self,
        _request: Request<leyden::SubscribeSwapsRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let updates = self.context.lightning()?.subscribe_swaps().await?;
        Ok(replies(updates, &self.context.stopping, |swap| Some(swaps::info(&swap))))
    }
}

#[tonic::async_trait]
impl SwapChain for SwapService {
    async fn get_status(
        &self,
        _request: Request<leyden::SwapChainStatusRequest>,
    ) -> Result<Response<leyden::SwapChainStatus>, Status> {
        Ok(Response::new(swaps::chain_status(&self.context.lightning()?.swap_chain_status().await?)))
    }

    async fn get_block(
        &self,
        request: Request<leyden::SwapBlockRequest>,
    ) -> Result<Response<leyden::SwapBlock>, Status> {
        let height = leyden_channels::types::Height(request.into_inner().height);
        let found = self.context.lightning()?.swap_block(height).await?;
        Ok(Response::new(found.as_ref().map(swaps::block).unwrap_or_default()))
    }

    async fn get_spender(
        &self,
        request: Request<leyden::SwapSpenderRequest>,
    ) -> Result<Response<leyden::SwapSpender>, Status> {
        let outpoint = swaps::outpoint(&request.into_inner())?;
        let found = self.context.lightning()?.swap_spender(outpoint).await?;
        Ok(Response::new(leyden::SwapSpender {
            transaction: found.as_ref().map(consensus::serialize).unwrap_or_default(),
        }))
    }

    async fn get_waiting(
        &self,
        request: Request<leyden::SwapWaitingRequest>,
    ) -> Result<Response<leyden::SwapWaiting>, Status> {
        let script = bitcoin::ScriptBuf::from_bytes(request.into_inner().script);
        let found = self.context.lightning()?.swap_waiting(script).await?;
        Ok(Response::new(leyden::SwapWaiting {
            transaction: found.as_ref().map(consensus::serialize).unwrap_or_default(),
        }))
    }

    async fn new_script(
        &self,
        _request: Request<leyden::SwapNewScriptRequest>,
    ) -> Result<Response<leyden::SwapNewScriptResponse>, Status> {
        let script = self.context.lightning()?.swap_script().await?.into_bytes();
        Ok(Response::new(leyden::SwapNewScriptResponse { script }))
    }

    async fn fund(
        &self,
        request: Request<leyden::SwapFundRequest>,
    ) -> Result<Response<leyden::SwapFundResponse>, Status> {
        let request = swaps::fund(request.into_inner())?;
        let (transaction, fee) = self.context.lightning()?.swap_fund(request).await?;
        Ok(Response::new(swaps::funded(&transaction, fee)))
    }

    async fn release(&self, request: Request<leyden::SwapTransaction>) -> Result<Response<leyden::SwapDone>, Status> {
        let transaction = edge::transaction("transaction", &request.into_inner().transaction)?;
        self.context.lightning()?.swap_release(transaction).await?;
        Ok(Response::new(leyden::SwapDone {}))
    }

    async fn recall(&self, request: Request<leyden::SwapRecallRequest>) -> Result<Response<leyden::SwapDone>, Status> {
        let request = swaps::recall(request.into_inner())?;
        self.context.lightning()?.swap_recall(request).await?;
        Ok(Response::new(leyden::SwapDone {}))
    }

    async fn broadcast(&self, request: Request<leyden::SwapTransaction>) -> Result<Response<leyden::SwapDone>, Status> {
        let transaction = edge::transaction("transaction", &request.into_inner().transaction)?;
        self.context.lightning()?.swap_broadcast(transaction).await?;
        Ok(Response::new(leyden::SwapDone {}))
    }
}
