//! What payments have taught, as LND's mission control tells it.

use std::time::Duration;

use leyden_channels::types::{Msat, NodeId};
use leyden_proto::routerrpc::{
    self, BimodalParameters, MissionControlConfig, PairData,
    mission_control_config::{EstimatorConfig, ProbabilityModel},
};

use super::{edge, msat, sat};
use crate::api::{ApiError, PairHistory, PairResult};

/// A year: what is older says nothing.
const LONGEST_DECAY_SECONDS: u64 = 365 * 24 * 3600;

pub(crate) fn pair(pair: &PairHistory) -> routerrpc::PairHistory {
    routerrpc::PairHistory {
        node_from: pair.from.0.to_vec(),
        node_to: pair.to.0.to_vec(),
        history: Some(history(&pair.result)),
    }
}

pub(crate) fn history(result: &PairResult) -> PairData {
    let mut data = PairData::default();
    if let Some((at, amount)) = result.failed {
        data.fail_time = i64::try_from(at.0).unwrap_or(i64::MAX);
        (data.fail_amt_sat, data.fail_amt_msat) = (sat(amount), msat(amount));
    }
    if let Some((at, amount)) = result.passed {
        data.success_time = i64::try_from(at.0).unwrap_or(i64::MAX);
        (data.success_amt_sat, data.success_amt_msat) = (sat(amount), msat(amount));
    }
    data
}

pub(crate) fn question(request: &routerrpc::QueryProbabilityRequest) -> Result<(NodeId, NodeId, Msat), ApiError> {
    let from = edge::node_id("from_node", &request.from_node)?;
    let to = edge::node_id("to_node", &request.to_node)?;
    Ok((from.into(), to.into(), edge::amount_msat("amt_msat", request.amt_msat)?))
}

/// LND's word for a model in which a channel's money is likely to lie near one of its ends; it counts the time in which all but
/// the e-th part has faded, not half. The older field for that is told too, for there are clients that want one.
#[allow(deprecated)]
pub(crate) fn config(half_life: Duration) -> MissionControlConfig {
    let decay_time = (half_life.as_secs_f64() / std::f64::consts::LN_2).round() as u64;
    let bimodal = BimodalParameters { node_weight: 0.0, scale_msat: 0, decay_time };
    MissionControlConfig {
        half_life_seconds: half_life.as_secs_f64().round() as u64,
        model: ProbabilityModel::Bimodal.into(),
        estimator_config: Some(EstimatorConfig::Bimodal(bimodal)),
        ..MissionControlConfig::default()
    }
}

/// The half-life that is wanted. Nothing else can be set, and what asks for it is refused by its name.
#[allow(deprecated)] // Clients may still send the fields of the one model that LND began with.
pub(crate) fn half_life(
    request: routerrpc::SetMissionControlConfigRequest,
    present: Duration,
) -> Result<Duration, ApiError> {
    let config = request.config.ok_or_else(|| edge::wrong("config", "say what is to be set"))?;
    let one_model = "this node's own model is the nearest to BIMODAL, and there is no other";
    let bimodal = match (ProbabilityModel::try_from(config.model), config.estimator_config) {
        (Ok(ProbabilityModel::Bimodal), Some(EstimatorConfig::Bimodal(bimodal))) => bimodal,
        (Ok(ProbabilityModel::Bimodal), Some(EstimatorConfig::Apriori(_)) | None) => {
            return Err(ApiError::invalid("bimodal estimator requested but corresponding config not set"));
        }
        (Ok(ProbabilityModel::Apriori), Some(EstimatorConfig::Bimodal(_))) => {
            return Err(ApiError::invalid("bimodal config provided, but apriori model requested"));
        }
        (Ok(ProbabilityModel::Apriori), Some(EstimatorConfig::Apriori(_)) | None) => {
            return Err(edge::wrong("model", one_model));
        }
        (Err(_), _) => return Err(edge::wrong("model", format_args!("unknown estimator type {}", config.model))),
    };
    // Who changes what was told sends the rest as it came.
    let is_changed = ![0, self::config(present).half_life_seconds].contains(&config.half_life_seconds);
    edge::refuse("half_life_seconds", is_changed, "bimodal.decay_time says the same")?;
    edge::refuse("hop_probability", config.hop_probability != 0.0, "it is of the model APRIORI")?;
    edge::refuse("weight", config.weight != 0.0, "it is of the model APRIORI")?;
    edge::refuse(
        "maximum_payment_results",
        config.maximum_payment_results != 0,
        "what is known fades, and is not counted",
    )?;
    let relax = config.minimum_failure_relax_interval != 0;
    edge::refuse("minimum_failure_relax_interval", relax, "what failed counts at once")?;
    edge::refuse("node_weight", bimodal.node_weight != 0.0, "a node's other channels say nothing about one")?;
    edge::refuse("scale_msat", bimodal.scale_msat != 0, "how a channel's money is spread is not set")?;
    match bimodal.decay_time {
        seconds @ 1..=LONGEST_DECAY_SECONDS => {
            Ok(Duration::from_secs((seconds as f64 * std::f64::consts::LN_2).round() as u64))
        }
        seconds => {
            let text = format_args!("{seconds} seconds; it lies between 1 and {LONGEST_DECAY_SECONDS}");
            Err(edge::wrong("decay_time", text))
        }
    }
}
