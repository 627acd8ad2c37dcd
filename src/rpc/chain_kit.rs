//! `chainrpc`: blocks of the best chain, and news of them.

use bitcoin::{BlockHash, consensus, hashes::Hash as _};
use leyden_channels::types::Height;
use leyden_proto::chainrpc::{
    BlockEpoch, ConfEvent, ConfRequest, GetBestBlockRequest, GetBestBlockResponse, GetBlockHashRequest,
    GetBlockHashResponse, GetBlockHeaderRequest, GetBlockHeaderResponse, GetBlockRequest, GetBlockResponse, SpendEvent,
    SpendRequest, chain_kit_server::ChainKit, chain_notifier_server::ChainNotifier,
};
use tonic::{Request, Response, Status};

use super::{
    Context,
    convert::{chain_watch, edge},
    status::{Replies, replies},
};
use crate::api::{ApiError, BlockSelector};

#[derive(Clone)]
pub(super) struct ChainKitService {
    context: Context,
}

impl ChainKitService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

/// In internal byte order, as all of these calls have it.
fn block_hash(field: &str, bytes: &[u8]) -> Result<BlockHash, ApiError> {
    Ok(BlockHash::from_byte_array(edge::bytes32(field, bytes)?))
}

#[tonic::async_trait]
impl ChainKit for ChainKitService {
    async fn get_block(&self, request: Request<GetBlockRequest>) -> Result<Response<GetBlockResponse>, Status> {
        let hash = block_hash("block_hash", &request.into_inner().block_hash)?;
        let found = self.context.chain()?.block(BlockSelector::Hash(hash)).await?;
        Ok(Response::new(GetBlockResponse { raw_block: consensus::serialize(found.block.as_ref()) }))
    }

    async fn get_block_header(
        &self,
        request: Request<GetBlockHeaderRequest>,
    ) -> Result<Response<GetBlockHeaderResponse>, Status> {
        let hash = block_hash("block_hash", &request.into_inner().block_hash)?;
        let header = self.context.chain()?.header(hash).await?;
        Ok(Response::new(GetBlockHeaderResponse { raw_block_header: consensus::serialize(&header) }))
    }

    async fn get_best_block(
        &self,
        _request: Request<GetBestBlockRequest>,
    ) -> Result<Response<GetBestBlockResponse>, Status> {
        let tip = self.context.chain()?.status().await?.tip;
        let block_height = i32::try_from(tip.height).unwrap_or(i32::MAX);
        Ok(Response::new(GetBestBlockResponse { block_hash: tip.hash.to_byte_array().to_vec(), block_height }))
    }

    async fn get_block_hash(
        &self,
        request: Request<GetBlockHashRequest>,
    ) -> Result<Response<GetBlockHashResponse>, Status> {
        let height = request.into_inner().block_height;
        let height = u32::try_from(height)
            .map_err(|_| edge::wrong("block_height", format_args!("{height} is no height of a block")))?;
        let hash = self.context.chain()?.block_hash(Height(height)).await?;
        Ok(Response::new(GetBlockHashResponse { block_hash: hash.to_byte_array().to_vec() }))
    }
}

#[tonic::async_trait]
impl ChainNotifier for ChainKitService {
    type RegisterConfirmationsNtfnStream = Replies<ConfEvent>;
    type RegisterSpendNtfnStream = Replies<SpendEvent>;
    type RegisterBlockEpochNtfnStream = Replies<BlockEpoch>;

    async fn register_confirmations_ntfn(
        &self,
        request: Request<ConfRequest>,
    ) -> Result<Response<Self::RegisterConfirmationsNtfnStream>, Status> {
        let wanted = chain_watch::transaction(request.into_inner())?;
        let found = self.context.chain()?.confirmations(wanted).await?;
        Ok(replies(found, &self.context.stopping, |sight| Some(chain_watch::confirmation(sight))))
    }

    async fn register_spend_ntfn(
        &self,
        request: Request<SpendRequest>,
    ) -> Result<Response<Self::RegisterSpendNtfnStream>, Status> {
        let wanted = chain_watch::spend(request.into_inner())?;
        let found = self.context.chain()?.spends(wanted).await?;
        Ok(replies(found, &self.context.stopping, |sight| Some(chain_watch::spending(sight))))
    }

    async fn register_block_epoch_ntfn(
        &self,
        request: Request<BlockEpoch>,
    ) -> Result<Response<Self::RegisterBlockEpochNtfnStream>, Status> {
        let BlockEpoch { hash, height } = request.into_inner();
        let from = match (hash.as_slice(), height) {
            ([], 0) => None,
            ([], _) => return Err(edge::wrong("hash", "a height alone names no block: give its hash too").into()),
            (hash, height) => {
                let hash = block_hash("hash", hash)?;
                let known = self.context.chain()?.height_of(hash).await?;
                if height != 0 && known != Height(height) {
                    return Err(edge::wrong("height", format_args!("the block lies at height {}", known.0)).into());
                }
                Some(hash)
            }
        };
        let blocks = self.context.chain()?.block_epochs(from).await?;
        Ok(replies(blocks, &self.context.stopping, |block| {
            Some(BlockEpoch { hash: block.hash.to_byte_array().to_vec(), height: block.height })
        }))
    }
}
