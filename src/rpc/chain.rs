//! `leyden.Chain`: the proof-of-work chain, its mempool, miner and peers.

use leyden_proto::leyden::{self, chain_server::Chain};
use tonic::{Request, Response, Status};

use super::{
    Context,
    convert::{chain, edge},
    status::{Replies, replies},
};

pub(super) struct ChainService {
    context: Context,
}

impl ChainService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Chain for ChainService {
    type GenerateStream = Replies<leyden::GenerateUpdate>;

    async fn get_tip(
        &self,
        _request: Request<leyden::GetTipRequest>,
    ) -> Result<Response<leyden::GetTipResponse>, Status> {
        let chain = self.context.chain()?;
        let (status, disk) = (chain.status().await?, chain.disk_use().await?);
        Ok(Response::new(chain::tip(&status, disk, &self.context.daemon.network())))
    }

    async fn get_block(
        &self,
        request: Request<leyden::GetBlockRequest>,
    ) -> Result<Response<leyden::GetBlockResponse>, Status> {
        let request = request.into_inner();
        let located = self.context.chain()?.block(chain::block_selector(&request)?).await?;
        Ok(Response::new(chain::block(&located, request.include_raw)))
    }

    async fn get_transaction(
        &self,
        request: Request<leyden::GetTransactionRequest>,
    ) -> Result<Response<leyden::GetTransactionResponse>, Status> {
        let txid = edge::txid("txid", &request.into_inner().txid)?;
        let chain = self.context.chain()?;
        let found = chain.transaction(txid).await?;
        let tip = chain.status().await?.tip.height;
        Ok(Response::new(chain::transaction(&found, tip, &self.context.daemon.network())))
    }

    async fn prove_inclusion(
        &self,
        request: Request<leyden::ProveInclusionRequest>,
    ) -> Result<Response<leyden::ProveInclusionResponse>, Status> {
        let txid = edge::txid("txid", &request.into_inner().txid)?;
        let chain = self.context.chain()?;
        let (block, proof) = chain.prove_inclusion(txid).await?;
        let tip = chain.status().await?.tip.height;
        Ok(Response::new(leyden::ProveInclusionResponse {
            proof: proof.to_string(),
            txid: txid.to_string(),
            block_hash: block.hash.to_string(),
            block_height: block.height,
            confirmations: tip.saturating_sub(block.height).saturating_add(1),
        }))
    }

    async fn verify_inclusion(
        &self,
        request: Request<leyden::VerifyInclusionRequest>,
    ) -> Result<Response<leyden::VerifyInclusionResponse>, Status> {
        let proof = edge::inclusion_proof("proof", &request.into_inner().proof)?;
        let chain = self.context.chain()?;
        let found = chain.verify_inclusion(proof).await?;
        let tip = chain.status().await?.tip.height;
        let mut transaction = chain::transaction(&found, tip, &self.context.daemon.network());
        // Without witnesses it is not known whether there are any.
        if found.transaction.input.iter().all(|input| input.witness.is_empty()) {
            transaction.wtxid.clear();
        }
        Ok(Response::new(leyden::VerifyInclusionResponse { transaction: Some(transaction) }))
    }

    async fn get_mempool(
        &self,
        request: Request<leyden::GetMempoolRequest>,
    ) -> Result<Response<leyden::GetMempoolResponse>, Status> {
        let leyden::GetMempoolRequest { include_transactions, include_levels } = request.into_inner();
        let mempool = self.context.chain()?.mempool(include_transactions || include_levels).await?;
        let mut answer = chain::mempool(&mempool);
        if include_levels {
            answer.levels = chain::mempool_levels(&mempool.entries);
        }
        if !include_transactions {
            answer.transactions.clear();
        }
        Ok(Response::new(answer))
    }

    async fn submit_transaction(
        &self,
        request: Request<leyden::SubmitTransactionRequest>,
    ) -> Result<Response<leyden::SubmitTransactionResponse>, Status> {
        let transaction = edge::transaction("raw_tx", &request.into_inner().raw_tx)?;
        let txid = self.context.chain()?.submit_transaction(transaction).await?;
        Ok(Response::new(leyden::SubmitTransactionResponse { txid: txid.to_string() }))
    }

    async fn generate(
        &self,
        request: Request<leyden::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let request = request.into_inner();
        let blocks = chain::block_count(request.blocks)?;
        let to = edge::optional_address("address", &request.address, &self.context.daemon.network())?;
        let updates = self.context.chain()?.generate(blocks, to).await?;
        let mut found = 0u32;
        Ok(replies(updates, &self.context.stopping, move |block| {
            found = found.saturating_add(1);
            Some(chain::generated(block, found))
        }))
    }

    async fn start_mining(
        &self,
        request: Request<leyden::StartMiningRequest>,
    ) -> Result<Response<leyden::StartMiningResponse>, Status> {
        let request = request.into_inner();
        let to = edge::optional_address("address", &request.address, &self.context.daemon.network())?;
        self.context.chain()?.start_mining(to, std::num::NonZeroU32::new(request.threads)).await?;
        Ok(Response::new(leyden::StartMiningResponse {}))
    }

    async fn stop_mining(
        &self,
        _request: Request<leyden::StopMiningRequest>,
    ) -> Result<Response<leyden::StopMiningResponse>, Status> {
        self.context.chain()?.stop_mining().await?;
        Ok(Response::new(leyden::StopMiningResponse {}))
    }

    async fn get_mining_info(
        &self,
        _request: Request<leyden::GetMiningInfoRequest>,
    ) -> Result<Response<leyden::GetMiningInfoResponse>, Status> {
        Ok(Response::new(chain::mining_info(&self.context.chain()?.mining_info().await?)))
    }

    async fn get_utxo_set_hash(
        &self,
        _request: Request<leyden::GetUtxoSetHashRequest>,
    ) -> Result<Response<leyden::GetUtxoSetHashResponse>, Status> {
        Ok(Response::new(chain::utxo_set_hash(&self.context.chain()?.utxo_set_hash().await?)))
    }

    async fn connect_peer(
        &self,
        request: Request<leyden::ConnectChainPeerRequest>,
    ) -> Result<Response<leyden::ConnectChainPeerResponse>, Status> {
        let address = request.into_inner().address;
        edge::host_and_port("address", &address)?;
        self.context.chain()?.connect_peer(&address).await?;
        Ok(Response::new(leyden::ConnectChainPeerResponse {}))
    }

    async fn list_peers(
        &self,
        _request: Request<leyden::ListChainPeersRequest>,
    ) -> Result<Response<leyden::ListChainPeersResponse>, Status> {
        let peers = self.context.chain()?.peers().await?;
        Ok(Response::new(leyden::ListChainPeersResponse { peers: peers.iter().map(chain::peer).collect() }))
    }
}
