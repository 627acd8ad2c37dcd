//! `routerrpc.Router`: outgoing payments.

use leyden_proto::{
    lnrpc,
    routerrpc::{self, router_server::Router},
};
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Context, assemble,
    convert::{deciding, edge, experience, forgetting, forwarding, payments, routes},
    status::{Replies, replies, requests},
};
use crate::api::{Payment, Updates};

pub(super) struct RouterService {
    context: Context,
}

impl RouterService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }

    /// Every change of a payment, or only its end.
    fn follow(&self, updates: Updates<Payment>, only_end: bool) -> Response<Replies<lnrpc::Payment>> {
        replies(updates, &self.context.stopping, move |payment| {
            (!only_end || payment.state.is_final()).then(|| payments::payment(&payment))
        })
    }
}

#[tonic::async_trait]
impl Router for RouterService {
    type HtlcInterceptorStream = Replies<routerrpc::ForwardHtlcInterceptRequest>;
    type SendPaymentV2Stream = Replies<lnrpc::Payment>;
    type TrackPaymentV2Stream = Replies<lnrpc::Payment>;
    type TrackPaymentsStream = Replies<lnrpc::Payment>;
    type SubscribeHtlcEventsStream = Replies<routerrpc::HtlcEvent>;

    async fn send_payment_v2(
        &self,
        request: Request<routerrpc::SendPaymentRequest>,
    ) -> Result<Response<Self::SendPaymentV2Stream>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let only_end = request.no_inflight_updates;
        let updates = lightning.send_payment(payments::send_payment(request)?).await?;
        Ok(self.follow(updates, only_end))
    }

    async fn track_payment_v2(
        &self,
        request: Request<routerrpc::TrackPaymentRequest>,
    ) -> Result<Response<Self::TrackPaymentV2Stream>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let hash = edge::payment_hash("payment_hash", &request.payment_hash)?;
        Ok(self.follow(lightning.track_payment(hash).await?, request.no_inflight_updates))
    }

    async fn track_payments(
        &self,
        request: Request<routerrpc::TrackPaymentsRequest>,
    ) -> Result<Response<Self::TrackPaymentsStream>, Status> {
        let updates = self.context.lightning()?.track_payments().await?;
        Ok(self.follow(updates, request.into_inner().no_inflight_updates))
    }

    async fn htlc_interceptor(
        &self,
        request: Request<Streaming<routerrpc::ForwardHtlcInterceptResponse>>,
    ) -> Result<Response<Self::HtlcInterceptorStream>, Status> {
        let lightning = self.context.lightning()?;
        let answers = requests(request.into_inner(), |answer| deciding::interception(answer).map(Some));
        let questions = lightning.intercept(answers).await?;
        Ok(replies(questions, &self.context.stopping, |question| Some(deciding::intercepted(question))))
    }

    async fn update_chan_status(
        &self,
        request: Request<routerrpc::UpdateChanStatusRequest>,
    ) -> Result<Response<routerrpc::UpdateChanStatusResponse>, Status> {
        let lightning = self.context.lightning()?;
        let (funding, status) = forwarding::channel_status(&request.into_inner())?;
        lightning.set_channel_status(funding, status).await?;
        Ok(Response::new(routerrpc::UpdateChanStatusResponse {}))
    }

    async fn estimate_route_fee(
        &self,
        request: Request<routerrpc::RouteFeeRequest>,
    ) -> Result<Response<routerrpc::RouteFeeResponse>, Status> {
        let lightning = self.context.lightning()?;
        let query = routes::fee_query(request.into_inner())?;
        Ok(Response::new(routes::fee_estimate(&lightning.estimate_fee(query).await?)))
    }

    async fn build_route(
        &self,
        request: Request<routerrpc::BuildRouteRequest>,
    ) -> Result<Response<routerrpc::BuildRouteResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = routes::build_route(request.into_inner())?;
        let route = Some(routes::route(&lightning.build_route(request).await?));
        Ok(Response::new(routerrpc::BuildRouteResponse { route }))
    }

    async fn send_to_route_v2(
        &self,
        request: Request<routerrpc::SendToRouteRequest>,
    ) -> Result<Response<lnrpc::HtlcAttempt>, Status> {
        let lightning = self.context.lightning()?;
        let (hash, route) = routes::send_to_route(request.into_inner())?;
        Ok(Response::new(payments::attempt(&lightning.send_to_route(hash, route).await?)))
    }

    async fn reset_mission_control(
        &self,
        _request: Request<routerrpc::ResetMissionControlRequest>,
    ) -> Result<Response<routerrpc::ResetMissionControlResponse>, Status> {
        self.context.lightning()?.forget_experience().await?;
        Ok(Response::new(routerrpc::ResetMissionControlResponse {}))
    }

    async fn delete_forwarding_history(
        &self,
        request: Request<routerrpc::DeleteForwardingHistoryRequest>,
    ) -> Result<Response<routerrpc::DeleteForwardingHistoryResponse>, Status> {
        let lightning = self.context.lightning()?;
        let forgotten = lightning.forget_forwards(forgetting::forwards(request.into_inner())?).await?;
        Ok(Response::new(forgetting::forgotten(&forgotten)))
    }

    async fn query_mission_control(
        &self,
        _request: Request<routerrpc::QueryMissionControlRequest>,
    ) -> Result<Response<routerrpc::QueryMissionControlResponse>, Status> {
        let known = self.context.lightning()?.experience().await?;
        let make =
            move || routerrpc::QueryMissionControlResponse { pairs: known.iter().map(experience::pair).collect() };
        Ok(Response::new(assemble(make).await?))
    }

    async fn x_import_mission_control(
        &self,
        request: Request<routerrpc::XImportMissionControlRequest>,
    ) -> Result<Response<routerrpc::XImportMissionControlResponse>, Status> {
        let lightning = self.context.lightning()?;
        let request = request.into_inner();
        let force = request.force;
        lightning.import_experience(experience::to_import(&request)?, force).await?;
        Ok(Response::new(routerrpc::XImportMissionControlResponse {}))
    }

    async fn query_probability(
        &self,
        request: Request<routerrpc::QueryProbabilityRequest>,
    ) -> Result<Response<routerrpc::QueryProbabilityResponse>, Status> {
        let lightning = self.context.lightning()?;
        let (from, to, amount) = experience::question(&request.into_inner())?;
        let (probability, known) = lightning.pair_chance(from, to, amount).await?;
        let history = Some(experience::history(&known));
        Ok(Response::new(routerrpc::QueryProbabilityResponse { probability, history }))
    }

    async fn get_mission_control_config(
        &self,
        _request: Request<routerrpc::GetMissionControlConfigRequest>,
    ) -> Result<Response<routerrpc::GetMissionControlConfigResponse>, Status> {
        let config = Some(experience::config(self.context.lightning()?.half_life().await?));
        Ok(Response::new(routerrpc::GetMissionControlConfigResponse { config }))
    }

    async fn set_mission_control_config(
        &self,
        request: Request<routerrpc::SetMissionControlConfigRequest>,
    ) -> Result<Response<routerrpc::SetMissionControlConfigResponse>, Status> {
        let lightning = self.context.lightning()?;
        let half_life = experience::half_life(request.into_inner(), lightning.half_life().await?)?;
        lightning.set_half_life(half_life).await?;
        Ok(Response::new(routerrpc::SetMissionControlConfigResponse {}))
    }

    async fn subscribe_htlc_events(
        &self,
        _request: Request<routerrpc::SubscribeHtlcEventsRequest>,
    ) -> Result<Response<Self::SubscribeHtlcEventsStream>, Status> {
        let events = self.context.lightning()?.htlc_events().await?;
        let events = replies(events, &self.context.stopping, |event| Some(forwarding::htlc_event(&event)));
        let first = tokio_stream::once(Ok(forwarding::subscribed()));
        Ok(events.map(|events| Box::pin(first.chain(events)) as Replies<_>))
    }
}
