//! Watchtowers: as LND's clients ask for them, and what Leyden tells beside.

use leyden_proto::{
    leyden::{channel_audit::Result as Found, towers_client::TowersClient},
    wtclientrpc::{self, PolicyType, watchtower_client_client::WatchtowerClientClient},
};

use super::*;
use crate::rpc::fake::{node_id, towers::OWN_TOWER};

#[tokio::test]
async fn a_tower_is_added_deactivated_and_removed_as_lnd_does_it() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut towers = WatchtowerClientClient::new(server.channel.clone());
    let pubkey = node_id().serialize().to_vec();
    for (given, meant) in
        [("10.0.0.2:9000", "\"10.0.0.2:9000\""), ("tower.example", "\"tower.example:9911\""), ("::1", "\"[::1]:9911\"")]
    {
        let request = wtclientrpc::AddTowerRequest { pubkey: pubkey.clone(), address: given.to_owned() };
        towers.add_tower(request).await.unwrap();
        assert!(server.asked().contains(meant) && server.asked().contains("Blind"), "{}", server.asked());
    }
    let nowhere = wtclientrpc::AddTowerRequest { pubkey: pubkey.clone(), address: String::new() };
    refused(towers.add_tower(nowhere).await, Code::InvalidArgument, "address");
    let nobody = wtclientrpc::AddTowerRequest { pubkey: vec![2; 32], address: "10.0.0.2".to_owned() };
    refused(towers.add_tower(nobody).await, Code::InvalidArgument, "pubkey");

    let deactivate = wtclientrpc::DeactivateTowerRequest { pubkey: pubkey.clone() };
    let status = towers.deactivate_tower(deactivate).await.unwrap().into_inner().status;
    assert!(status.contains(NODE) && server.asked().contains("deactivate"), "{status}");
    let remove =
        |address: &str| wtclientrpc::RemoveTowerRequest { pubkey: pubkey.clone(), address: address.to_owned() };
    towers.remove_tower(remove("")).await.unwrap();
    assert!(server.asked().contains("remove") && server.asked().contains("None"), "{}", server.asked());
    towers.remove_tower(remove("10.0.0.2")).await.unwrap();
    assert!(server.asked().contains("10.0.0.2:9911"), "{}", server.asked());
}

#[tokio::test]
#[allow(deprecated)]
async fn towers_are_listed_with_their_sessions_as_they_are_asked_for() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut towers = WatchtowerClientClient::new(server.channel.clone());
    let list = |include_sessions, exclude_exhausted_sessions| wtclientrpc::ListTowersRequest {
        include_sessions,
        exclude_exhausted_sessions,
    };
    let full = towers.list_towers(list(true, false)).await.unwrap().into_inner().towers;
    let [blind, own] = full.as_slice() else { panic!("{full:?}") };
    assert_eq!((blind.addresses.as_slice(), blind.num_sessions), (["127.0.0.1:9911".to_owned()].as_slice(), 1));
    let session = &blind.session_info[0].sessions[0];
    assert_eq!((session.num_backups, session.num_pending_backups, session.max_backups), (7, 2, 7));
    assert_eq!((session.sweep_sat_per_vbyte, session.id.len()), (10, 33));
    assert_eq!(blind.sessions, blind.session_info[0].sessions, "where older clients look");
    assert_eq!((own.num_sessions, own.session_info[0].num_sessions), (0, 0), "nothing is granted yet");
    let short = towers.list_towers(list(false, false)).await.unwrap().into_inner().towers;
    assert_eq!((short[0].num_sessions, short[0].session_info[0].sessions.len()), (1, 0));
    let with_room = towers.list_towers(list(true, true)).await.unwrap().into_inner().towers;
    assert_eq!((with_room.len(), with_room[0].num_sessions), (2, 0), "a full session is left out");

    let info = |key: &str| wtclientrpc::GetTowerInfoRequest { pubkey: hex::decode(key).unwrap(), ..Default::default() };
    assert_eq!(towers.get_tower_info(info(OWN_TOWER)).await.unwrap().into_inner().addresses, ["10.0.0.2:9911"]);
    let other = "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9";
    refused(towers.get_tower_info(info(other)).await, Code::NotFound, "leyden tower list");

    let stats = towers.stats(wtclientrpc::StatsRequest {}).await.unwrap().into_inner();
    assert_eq!((stats.num_backups, stats.num_pending_backups, stats.num_failed_backups), (7, 11, 1));
    assert_eq!((stats.num_sessions_acquired, stats.num_sessions_exhausted), (3, 1));
    let policy = |policy_type: PolicyType| wtclientrpc::PolicyRequest { policy_type: policy_type.into() };
    assert_eq!(towers.policy(policy(PolicyType::Legacy)).await.unwrap().into_inner().sweep_sat_per_vbyte, 10);
    refused(towers.policy(policy(PolicyType::Taproot)).await, Code::InvalidArgument, "taproot");
}

#[tokio::test]
async fn a_tower_of_the_users_own_is_named_as_such() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut towers = TowersClient::new(server.channel.clone());
    let add = |own| leyden::AddTowerRequest { pubkey: NODE.to_owned(), address: "10.0.0.2".to_owned(), own };
    for (own, mode) in [(true, "Own"), (false, "Blind")] {
        let added = towers.add_tower(add(own)).await.unwrap().into_inner();
        assert_eq!(added.client_pubkey, "02".repeat(33));
        assert!(server.asked().contains(mode), "{}", server.asked());
    }
    let list = towers.list_towers(leyden::ListTowersRequest {}).await.unwrap().into_inner();
    let shown: Vec<_> = list.towers.iter().map(|one| (one.own, one.connected, one.trouble.as_str())).collect();
    assert_eq!((list.required, shown), (1, vec![(false, true, ""), (true, false, "nobody answers")]));
    assert_eq!(list.towers.iter().map(|one| one.reached).collect::<Vec<_>>(), [true, false]);
    assert_eq!(list.towers.iter().map(|one| one.height).collect::<Vec<_>>(), [Some(700), None]);
    assert_eq!((list.towers[0].until_height, list.towers[0].sweep_sat_per_kw), (52_560, 2_500));
}

#[tokio::test]
async fn coverage_and_audits_tell_what_was_signed() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut towers = TowersClient::new(server.channel.clone());
    let point = funding().to_string();
    let ask = leyden::ListCoverageRequest { channel_point: point.clone() };
    let channels = towers.list_coverage(ask).await.unwrap().into_inner().channels;
    assert_eq!((channels.len(), channels[0].revoked, channels[0].covered), (1, Some(9), true));
    let [blind, own] = channels[0].towers.as_slice() else { panic!("{channels:?}") };
    assert_eq!((channels[0].payments_wait, blind.waited_for, own.waited_for), (true, false, true));
    assert_eq!((blind.first, blind.up_to, blind.complete, blind.receipts.len()), (Some(3), Some(9), true, 1));
    assert_eq!((blind.receipts[0].digest.as_str(), blind.receipts[0].signature.len()), (&*"07".repeat(32), 128));
    assert_eq!((own.first, own.up_to, own.complete, own.why_not.as_str()), (None, None, false, "nobody answers"));
    let wrong = leyden::ListCoverageRequest { channel_point: "x".to_owned() };
    refused(towers.list_coverage(wrong).await, Code::InvalidArgument, "channel_point");

    let ask = leyden::AuditRequest { pubkey: NODE.to_owned(), channel_point: String::new() };
    let audits = towers.audit(ask).await.unwrap().into_inner().channels;
    let results: Vec<_> = audits.iter().map(|audit| audit.result()).collect();
    let answered = [Found::Holds, Found::BrokeItsWord, Found::NoReceipt, Found::ChannelClosed, Found::TermOver];
    assert_eq!(results, [&answered[..], &[Found::NotShown]].concat());
    assert_eq!((audits[3].closed_by.clone(), audits[3].closed_height), (funding().txid.to_string(), 300));
    assert_eq!((audits[5].not_shown, audits[4].not_shown), (Some(4), None));
    assert_eq!((audits[0].first, audits[0].up_to), (Some(3), Some(9)));
    let proof = audits[1].proof.as_ref().unwrap();
    assert!(audits[1].contradiction.contains("up to 9") && proof.held_up_to.is_none(), "{:?}", audits[1]);
    let receipt = proof.receipt.as_ref().unwrap();
    assert_eq!((receipt.up_to, proof.tag.as_str(), proof.nonce.as_str()), (9, &*"03".repeat(16), &*"08".repeat(32)));
    assert_eq!((receipt.until_height, proof.at_height, proof.closed_by.as_str()), (52_560, 400, ""));
    assert_eq!((proof.client.len(), proof.held_signature.len(), proof.receipt_key.len()), (66, 128, 66));
}
