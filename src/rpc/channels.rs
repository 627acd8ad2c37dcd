//! `leyden.Channels`: what a channel can become on the chain, and why and how channels end.

use leyden_proto::leyden::{self, channels_server::Channels};
use tonic::{Request, Response, Status};

use super::{
    Context, assemble,
    convert::{closings, edge},
};
use crate::parallel;

pub(super) struct ChannelsService {
    context: Context,
}

impl ChannelsService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Channels for ChannelsService {
    async fn get_tree(
        &self,
        request: Request<leyden::GetTreeRequest>,
    ) -> Result<Response<leyden::ChannelTree>, Status> {
        let lightning = self.context.lightning()?;
        let funding = edge::point("channel_point", &request.into_inner().channel_point)?;
        Ok(Response::new(closings::tree(&lightning.channel_tree(funding).await?)))
    }

    async fn list_closing(
        &self,
        _request: Request<leyden::ListClosingRequest>,
    ) -> Result<Response<leyden::ListClosingResponse>, Status> {
        let channels = self.context.lightning()?.closing_channels().await?;
        let block_height = channels.first().map_or(0, |channel| channel.height.0);
        let channels = channels.iter().map(closings::closing).collect();
        Ok(Response::new(leyden::ListClosingResponse { channels, block_height }))
    }

    async fn list_warnings(
        &self,
        _request: Request<leyden::ListWarningsRequest>,
    ) -> Result<Response<leyden::ListWarningsResponse>, Status> {
        let warnings = self.context.lightning()?.warnings().await?;
        Ok(Response::new(leyden::ListWarningsResponse { warnings }))
    }

    async fn list_closed(
        &self,
        request: Request<leyden::ListClosedRequest>,
    ) -> Result<Response<leyden::ListClosedResponse>, Status> {
        let channels = self.context.lightning()?.closed_channels().await?;
        let total = u32::try_from(channels.len()).unwrap_or(u32::MAX);
        let newest = request.into_inner().newest;
        let make = move || match newest {
            0 => parallel::map(&channels, closings::ended),
            newest => channels.iter().rev().take(newest as usize).map(closings::ended).collect(),
        };
        Ok(Response::new(leyden::ListClosedResponse { channels: assemble(make).await?, total }))
    }
}
