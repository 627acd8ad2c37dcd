//! `leyden.Limits`: what others may make this node hold and do, and how much of that is used.

use leyden_proto::leyden::{self, limits_server::Limits};
use tonic::{Request, Response, Status};

use super::Context;
use crate::limits::LimitUse;

pub(super) struct LimitsService {
    context: Context,
}

impl LimitsService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Limits for LimitsService {
    async fn list_limits(
        &self,
        _request: Request<leyden::ListLimitsRequest>,
    ) -> Result<Response<leyden::ListLimitsResponse>, Status> {
        let limits = self.context.daemon.limits().into_iter().map(limit).collect();
        Ok(Response::new(leyden::ListLimitsResponse { limits }))
    }
}

fn limit(one: LimitUse) -> leyden::Limit {
    let LimitUse { name, used, limit, refused, what } = one;
    leyden::Limit { name: name.to_owned(), used, limit, refused, what: what.to_owned() }
}
