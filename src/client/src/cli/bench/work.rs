//! What daemons have done: curve operations, synced writes, messages and waits, from their metrics and from Linux.
//!
//! Counts do not depend on the machine, as times do: two versions can be compared on a busy one.

use std::{collections::BTreeMap, fs, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::cluster::{ClusterError, DaemonProcess};

/// Hops of a payment; each of them needs the same.
pub(super) type Hops = u32;

/// One kind of work: where it is counted, and what a payment alone needs of it, if the protocol says.
struct Kind {
    name: &'static str,
    series: &'static str,
    needed: Option<fn(Hops) -> u32>,
}

/// A payment alone makes four commitments a hop, two of them with its HTLC (BOLT 2): a signature each and one for each
/// HTLC; a point each, made by one node and checked by the other; keys on both sides: delayed and revocation, and two
/// HTLC keys where there is an HTLC. The onion has a key and a secret for each hop, and is peeled at each (BOLT 4).
/// The payer finds out who signed the invoice (BOLT 11).
const KINDS: [Kind; 11] = [
    Kind {
        name: "signatures",
        series: "leyden_curve_operations_total{operation=\"sign\"}",
        needed: Some(|hops| 6 * hops),
    },
    Kind {
        name: "checks of signatures",
        series: "leyden_curve_operations_total{operation=\"verify\"}",
        needed: Some(|hops| 6 * hops),
    },
    Kind { name: "signers found", series: "leyden_curve_operations_total{operation=\"recover\"}", needed: Some(|_| 1) },
    Kind {
        name: "public keys of secrets",
        series: "leyden_curve_operations_total{operation=\"public_key\"}",
        needed: Some(|hops| 8 * hops + hops),
    },
    Kind {
        name: "generator added to points",
        series: "leyden_curve_operations_total{operation=\"add_generator\"}",
        needed: Some(|hops| (8 + 8) * hops),
    },
    Kind {
        name: "multiples of points",
        series: "leyden_curve_operations_total{operation=\"multiply\"}",
        needed: Some(|hops| 16 * hops + hops.saturating_sub(1)),
    },
    Kind {
        name: "shared secrets",
        series: "leyden_curve_operations_total{operation=\"shared_secret\"}",
        needed: Some(|hops| 2 * hops),
    },
    // update_add_htlc or update_fulfill_htlc, and commitment_signed with revoke_and_ack from either side, twice.
    Kind { name: "messages", series: "leyden_messages_total{direction=\"sent\"}", needed: Some(|hops| 10 * hops) },
    Kind { name: "synced writes", series: "leyden_commit_seconds_count{database=\"node\"}", needed: None },
    Kind { name: "rows written", series: "leyden_commit_rows_sum{database=\"node\"}", needed: None },
    Kind { name: "waits of threads", series: WAITS, needed: None },
];

/// Not a metric: Linux counts it for each thread.
const WAITS: &str = "voluntary_ctxt_switches";

/// What daemons have done since their start, all together.
#[derive(Clone, Debug, Default)]
pub(super) struct Work(BTreeMap<&'static str, f64>);

/// A line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    pub name: &'static str,
    pub each: f64,
    pub needed: Option<u32>,
}

impl Work {
    pub(super) async fn of(nodes: &[DaemonProcess]) -> Result<Self, ClusterError> {
        let mut all = Self::default();
        for node in nodes {
            let page = match node.metrics_address()? {
                Some(address) => fetch(address)
                    .await
                    .map_err(|_| ClusterError::Waited { what: format!("the metrics of {}", node.name()) })?,
                None => String::new(),
            };
            for kind in &KINDS {
                let value =
                    if kind.series == WAITS { node.pid().map_or(0.0, waits) } else { value(&page, kind.series) };
                *all.0.entry(kind.series).or_default() += value;
            }
        }
        Ok(all)
    }

    /// What each of `count` payments over `hops` hops took since `before`.
    pub(super) fn since(&self, before: &Self, count: usize, hops: Hops) -> Vec<Share> {
        let of = |work: &Self, series| work.0.get(series).copied().unwrap_or_default();
        let each = |series| (of(self, series) - of(before, series)) / count.max(1) as f64;
        KINDS
            .iter()
            .map(|kind| Share {
                name: kind.name,
                each: each(kind.series),
                needed: kind.needed.map(|needed| needed(hops)),
            })
            .collect()
    }
}

async fn fetch(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The value of a series on a page of metrics; 0 if it is not there.
fn value(page: &str, series: &str) -> f64 {
    page.lines()
        .filter_map(|line| line.rsplit_once(' '))
        .find(|(name, _)| *name == series)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_default()
}

/// How often the threads of a process have waited for something; 0 where the system does not tell.
fn waits(pid: u32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    let of = |status: String| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(WAITS))?;
        line.trim_start_matches(':').trim().parse().ok()
    };
    threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok()).filter_map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_its_whole_name() {
        let page = "# HELP a_total x\n# TYPE a_total counter\na_total{kind=\"x\"} 3\na_total{kind=\"xy\"} 4\n";
        assert_eq!((value(page, "a_total{kind=\"x\"}"), value(page, "a_total")), (3.0, 0.0));
    }

    #[test]
    fn work_is_shared_among_the_payments() {
        let series = KINDS[0].series;
        let (before, after) = (Work(BTreeMap::from([(series, 10.0)])), Work(BTreeMap::from([(series, 250.0)])));
        let shares = after.since(&before, 20, 2);
        assert_eq!(shares[0], Share { name: "signatures", each: 12.0, needed: Some(12) });
    }
}
