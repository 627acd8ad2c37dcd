//! What `leyden bench` needs of the database, the daemon's program does for it.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::process::{Command, Output};

use harness::{Folder, leyden};
use leyden_client::cluster::DaemonProcess;
use leyden_proto::lnrpc::{ClosedChannelsRequest, ForwardingHistoryRequest, ListPaymentsRequest};

#[test]
fn network_of_the_route_benchmark_is_stored_and_loaded() {
    let folder = Folder::new();
    let command = ["--json", "bench", "route", "--nodes", "30", "--channels", "60", "--queries", "5"];
    let printed = leyden(folder.path(), &command);
    let value: serde_json::Value = serde_json::from_str(&printed).unwrap();
    // An announcement and two updates of each channel, and an announcement of each node.
    assert_eq!(value["records"], 3 * 60 + 30, "{printed}");
    assert!(value["graph_load_ms"].as_f64().is_some_and(|time| time > 0.0), "{printed}");
}

#[test]
fn chain_of_the_benchmark_is_made_and_validated() {
    let folder = Folder::new();
    let printed = leyden(folder.path(), &["--json", "bench", "chain", "--blocks", "1"]);
    let value: serde_json::Value = serde_json::from_str(&printed).unwrap();
    // A full block is two thousand payments at the very least, of two inputs each.
    assert!(value["inputs"].as_u64().is_some_and(|inputs| inputs > 4_000), "{printed}");
    assert!(value["inputs_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{printed}");
    assert!(value["peak_memory_bytes"].as_u64().is_some(), "{printed}");
}

#[test]
fn a_node_with_a_past_is_timed_call_by_call_with_its_memory() {
    let folder = Folder::new();
    let small = ["--payments", "20", "--forwards", "1500", "--nodes", "10", "--channels", "15"];
    let printed = leyden(folder.path(), &[["--json", "bench", "api"].as_slice(), &small].concat());
    let value: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let call = |name: &str| value["calls"].as_array().unwrap().iter().find(|call| call["call"] == name).unwrap();
    for (name, rows) in [("ListPayments", 20), ("ListInvoices", 20), ("ClosedChannels", 20), ("DescribeGraph", 15)] {
        assert_eq!(call(name)["rows"], rows, "{printed}");
    }
    let forwards = call("ForwardingHistory");
    assert_eq!((&forwards["rows"], &forwards["pages"]), (&1_500.into(), &16.into()), "{printed}");
    let times = [&forwards["first_byte_ms"], &forwards["whole_ms"]].map(|time| time.as_f64().unwrap());
    assert!(0.0 < times[0] && times[0] <= times[1], "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn past_is_written_while_the_node_is_stopped_and_is_then_its_own() {
    let folder = Folder::new();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    let write_past = |data_dir: &std::path::Path| -> Output {
        let mut leydend = Command::new(env!("CARGO_BIN_EXE_leydend"));
        leydend.args(["bench", "past", "--count", "3", "--data-dir"]).arg(data_dir).output().unwrap()
    };
    let absent = write_past(alice.data_dir());
    assert!(String::from_utf8_lossy(&absent.stderr).contains("start `leydend`"), "{absent:?}");
    alice.start().await.unwrap();
    let locked = write_past(alice.data_dir());
    assert!(!locked.status.success(), "the database is the running node's: {locked:?}");
    alice.terminate();
    let written = write_past(alice.data_dir());
    assert!(written.status.success(), "{written:?}");
    alice.start().await.unwrap();

    let lightning = || alice.client().unwrap().lightning();
    let payments = ListPaymentsRequest { include_incomplete: true, max_payments: 1_000_000, ..Default::default() };
    assert_eq!(lightning().list_payments(payments).await.unwrap().into_inner().payments.len(), 3);
    let forwards = ForwardingHistoryRequest { num_max_events: 10, start_time: 1, ..Default::default() };
    assert_eq!(lightning().forwarding_history(forwards).await.unwrap().into_inner().forwarding_events.len(), 3);
    let closed = ClosedChannelsRequest::default();
    assert_eq!(lightning().closed_channels(closed).await.unwrap().into_inner().channels.len(), 3);
}
