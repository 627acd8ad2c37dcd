//! Settings and log.

use super::*;

#[tokio::test]
async fn the_level_of_the_log_is_set_and_its_parts_are_listed() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut lightning = server.lightning();
    let ask = |show, level_spec: &str| lnrpc::DebugLevelRequest { show, level_spec: level_spec.to_owned() };
    let shown = lightning.debug_level(ask(true, "")).await.unwrap().into_inner();
    assert_eq!(shown.sub_systems, "leyden leyden_node");
    let set = lightning.debug_level(ask(false, "debug")).await.unwrap().into_inner();
    assert_eq!((set.sub_systems.as_str(), server.asked().as_str()), ("debug", "\"debug\""));
}

#[tokio::test]
async fn settings_are_told_and_the_log_on_request() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut lightning = server.lightning();
    let told = lightning.get_debug_info(lnrpc::GetDebugInfoRequest { include_log: false }).await.unwrap().into_inner();
    assert_eq!((told.config["alias"].as_str(), told.log.len()), ("alice", 0));
    let told = lightning.get_debug_info(lnrpc::GetDebugInfoRequest { include_log: true }).await.unwrap().into_inner();
    assert_eq!(told.log, ["all is well"]);
}
