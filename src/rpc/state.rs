//! `lnrpc.State`: how far the daemon has started.

use leyden_proto::lnrpc::{self, state_server::State};
use tonic::{Request, Response, Status};

use super::{
    Context,
    convert::lifecycle,
    status::{Replies, replies},
};

pub(super) struct StateService {
    context: Context,
}

impl StateService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl State for StateService {
    type SubscribeStateStream = Replies<lnrpc::SubscribeStateResponse>;

    async fn subscribe_state(
        &self,
        _request: Request<lnrpc::SubscribeStateRequest>,
    ) -> Result<Response<Self::SubscribeStateStream>, Status> {
        Ok(replies(self.context.daemon.subscribe_state(), &self.context.stopping, |state| {
            Some(lnrpc::SubscribeStateResponse { state: lifecycle::wallet_state(state).into() })
        }))
    }

    async fn get_state(
        &self,
        _request: Request<lnrpc::GetStateRequest>,
    ) -> Result<Response<lnrpc::GetStateResponse>, Status> {
        let state = lifecycle::wallet_state(self.context.daemon.state()).into();
        Ok(Response::new(lnrpc::GetStateResponse { state }))
    }
}
