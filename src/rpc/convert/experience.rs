//! What payments have taught, as LND's mission control tells it.

use std::time::Duration;

use leyden_channels::types::{Msat, NodeId, UnixTime};
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

/// What another node has learnt; LND's rules and words.
pub(crate) fn to_import(request: &routerrpc::XImportMissionControlRequest) -> Result<Vec<PairHistory>, ApiError> {
    if request.pairs.is_empty() {
        return Err(ApiError::invalid("at least one pair required for import"));
    }
    request.pairs.iter().map(to_pair).collect()
}

fn to_pair(pair: &routerrpc::PairHistory) -> Result<PairHistory, ApiError> {
    let from: NodeId = edge::node_id("node_from", &pair.node_from)?.into();
    let to: NodeId = edge::node_id("node_to", &pair.node_to)?.into();
    let wrong = |what: &str| ApiError::invalid(format!("pair: {from} -> {to}: {what}"));
    if from == to {
        return Err(wrong("source and destination node must differ"));
    }
    let data = pair.history.unwrap_or_default();
    // Both may be given, as this node's own answers have them.
    let amount = |sat: i64, msat: i64| match (sat, msat) {
        (sat, msat) if msat / 1000 == sat || sat == 0 => edge::amount_msat("amt_msat", msat),
        (sat, 0) => edge::either_amount("amt_sat", sat, 0),
        (sat, msat) => Err(wrong(&format!("msat: {msat} and sat: {sat} values not equal"))),
    };
    let (failed, passed) =
        (amount(data.fail_amt_sat, data.fail_amt_msat)?, amount(data.success_amt_sat, data.success_amt_msat)?);
    let time = |at: i64| u64::try_from(at).map(UnixTime).map_err(|_| wrong("the time lies before 1970"));
    let (failed_at, passed_at) = (time(data.fail_time)?, time(data.success_time)?);
    match (passed, passed_at) {
        (Msat::ZERO, at) if at.0 != 0 => {
            return Err(wrong("invalid success: non-zero timestamp requires non-zero amount for success pairs"));
        }
        (amount, UnixTime(0)) if amount > Msat::ZERO => {
            return Err(wrong("invalid success: non-zero amount for success pairs requires non-zero timestamp"));
        }
        (_, _) => {}
    }
    // A failure without one of both says nothing, as with LND.
    let known = |at: UnixTime, amount: Msat| (at.0 != 0 && amount > Msat::ZERO).then_some((at, amount));
    let result = PairResult { failed: known(failed_at, failed), passed: known(passed_at, passed) };
    if result == PairResult::default() {
        return Err(wrong("either success or failure result required"));
    }
    Ok(PairHistory { from, to, result })
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
