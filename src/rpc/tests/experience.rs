//! What payments have taught is told, and how fast it fades is set.

use leyden_proto::routerrpc::{
    AprioriParameters, BimodalParameters, GetMissionControlConfigRequest, MissionControlConfig, PairData, PairHistory,
    QueryMissionControlRequest, QueryProbabilityRequest, SetMissionControlConfigRequest, XImportMissionControlRequest,
    mission_control_config::{EstimatorConfig, ProbabilityModel},
};

use super::*;
use crate::rpc::fake::node_id;

#[tokio::test]
async fn what_is_known_about_a_pair_is_told_with_its_amounts_and_times() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut router = server.router();
    let pairs = router.query_mission_control(QueryMissionControlRequest {}).await.unwrap().into_inner().pairs;
    let [pair] = &pairs[..] else { panic!("{pairs:?}") };
    assert_eq!((&pair.node_from, pair.node_to.len()), (&node_id().serialize().to_vec(), 33));
    let history = pair.history.unwrap();
    assert_eq!((history.fail_time, history.fail_amt_sat, history.fail_amt_msat), (1_700_000_000, 400, 400_500));
    assert_eq!((history.success_time, history.success_amt_sat, history.success_amt_msat), (1_700_000_000, 2, 2_000));

    let node = node_id().serialize().to_vec();
    let question = QueryProbabilityRequest { from_node: node.clone(), to_node: node, amt_msat: 5_000 };
    let answer = router.query_probability(question.clone()).await.unwrap().into_inner();
    assert_eq!((answer.probability, answer.history), (0.25, Some(history)));
    assert!(server.asked().contains("Msat(5000)"), "{}", server.asked());
    for (wrong, field) in [
        (QueryProbabilityRequest { from_node: vec![1], ..question.clone() }, "from_node"),
        (QueryProbabilityRequest { to_node: Vec::new(), ..question.clone() }, "to_node"),
        (QueryProbabilityRequest { amt_msat: -1, ..question }, "amt_msat"),
    ] {
        refused(router.query_probability(wrong).await, Code::InvalidArgument, field);
    }
}

#[tokio::test]
async fn what_another_node_has_learnt_is_taken_or_refused_in_lnds_words() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut router = server.router();
    let pairs = router.query_mission_control(QueryMissionControlRequest {}).await.unwrap().into_inner().pairs;
    let node = node_id().serialize().to_vec();
    let other =
        secp256k1::SecretKey::from_slice(&[9; 32]).unwrap().public_key(secp256k1::SECP256K1).serialize().to_vec();
    let data = pairs[0].history.unwrap();
    let import = |data: PairData, to: &[u8]| {
        let mut router = server.router();
        let pair = PairHistory { node_from: node.clone(), node_to: to.to_vec(), history: Some(data) };
        async move { router.x_import_mission_control(XImportMissionControlRequest { pairs: vec![pair], force: true }).await }
    };
    import(data, &other).await.unwrap();
    let asked = server.asked();
    assert!(asked.contains("Msat(400500)") && asked.contains("Msat(2000)") && asked.contains("true"), "{asked}");
    let none = router.x_import_mission_control(XImportMissionControlRequest::default()).await;
    refused(none, Code::InvalidArgument, "at least one pair required for import");
    refused(import(data, &node).await, Code::InvalidArgument, "source and destination node must differ");
    for (wrong, words) in [
        (PairData { success_time: 0, ..data }, "non-zero amount for success pairs requires non-zero timestamp"),
        (PairData { success_amt_sat: 0, success_amt_msat: 0, ..data }, "requires non-zero amount for success pairs"),
        (PairData { fail_amt_sat: 7, ..data }, "values not equal"),
        (PairData { fail_time: -1, ..data }, "before 1970"),
        (PairData { fail_time: 5, ..PairData::default() }, "either success or failure result required"),
    ] {
        refused(import(wrong, &other).await, Code::InvalidArgument, words);
    }
}

#[tokio::test]
#[allow(deprecated)]
async fn how_fast_it_fades_is_set_and_what_else_lnd_has_is_refused_by_name() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut router = server.router();
    let config = router.get_mission_control_config(GetMissionControlConfigRequest {}).await.unwrap().into_inner();
    let config = config.config.unwrap();
    let Some(EstimatorConfig::Bimodal(bimodal)) = config.estimator_config else { panic!("{config:?}") };
    assert_eq!((config.model(), bimodal.decay_time), (ProbabilityModel::Bimodal, 31_162), "e-folding of six hours");
    assert_eq!(config.half_life_seconds, 21_600);

    let set = |config: MissionControlConfig| {
        let mut router = server.router();
        async move { router.set_mission_control_config(SetMissionControlConfigRequest { config: Some(config) }).await }
    };
    // As it came.
    set(config).await.unwrap();
    assert!(server.asked().starts_with("21600"), "{}", server.asked());
    let with = |bimodal| MissionControlConfig { estimator_config: Some(EstimatorConfig::Bimodal(bimodal)), ..config };
    for (wrong, field) in [
        (with(BimodalParameters { node_weight: 0.2, ..bimodal }), "node_weight"),
        (with(BimodalParameters { scale_msat: 1, ..bimodal }), "scale_msat"),
        (with(BimodalParameters { decay_time: 0, ..bimodal }), "decay_time"),
        (with(BimodalParameters { decay_time: u64::MAX, ..bimodal }), "decay_time"),
        (MissionControlConfig { half_life_seconds: 1, ..config }, "half_life_seconds"),
        (MissionControlConfig { hop_probability: 0.5, ..config }, "hop_probability"),
        (MissionControlConfig { weight: 0.5, ..config }, "weight"),
        (MissionControlConfig { maximum_payment_results: 1, ..config }, "maximum_payment_results"),
        (MissionControlConfig { minimum_failure_relax_interval: 1, ..config }, "minimum_failure_relax_interval"),
        (MissionControlConfig { estimator_config: None, ..config }, "corresponding config not set"),
        (MissionControlConfig { model: 0, ..config }, "apriori model requested"),
        (MissionControlConfig::default(), "model"),
        (MissionControlConfig { model: 7, ..config }, "unknown estimator type 7"),
        (
            MissionControlConfig {
                model: 0,
                estimator_config: Some(EstimatorConfig::Apriori(AprioriParameters::default())),
                ..config
            },
            "model",
        ),
    ] {
        refused(set(wrong).await, Code::InvalidArgument, field);
    }
    let nothing = router.set_mission_control_config(SetMissionControlConfigRequest { config: None }).await;
    refused(nothing, Code::InvalidArgument, "config");
}
