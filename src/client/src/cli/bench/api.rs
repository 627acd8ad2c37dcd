//! `leyden bench api`: how long a node with much behind it takes to answer, and what that costs it.
//!
//! ```text
//!   blocks ─► outputs of channels that never were ─► invoices ─► payments, forwards, closed channels, gossip: written
//!          ─► start ─► each call: first byte · whole · bytes, page by page where LND has pages ─► the daemon's peak memory
//! ```

use std::{collections::HashMap, fs, process::Command, time::Duration};

use bitcoin::{Address, Block, Network, OutPoint, Script, consensus};
use clap::Args;
use leyden_channels::{
    gossip::synthetic::{Size, SyntheticNetwork},
    tx::funding_script_pubkey,
    types::{Height, NodeId, ShortChannelId},
};
use leyden_proto::{
    leyden::{GetBlockRequest, get_block_request},
    lnrpc::{
        ChannelGraph, ChannelGraphRequest, ClosedChannelsRequest, ClosedChannelsResponse, ForwardingHistoryRequest,
        ForwardingHistoryResponse, GetInfoRequest, GetInfoResponse, GetTransactionsRequest, ListInvoiceRequest,
        ListInvoiceResponse, ListPaymentsRequest, ListPaymentsResponse, ListUnspentRequest, ListUnspentResponse,
        SendManyRequest, TransactionDetails,
    },
};
use prost::Message;
use serde_json::json;

use super::{
    super::{CliError, Context, table},
    growth::{RIPENING, failed, generate, make_invoices},
};
use crate::{
    client::Client,
    cluster::{DaemonProcess, leydend_program},
    demo::NOBODY,
};

/// What the first byte of an answer may take with a program that was built for speed.
const FIRST_BYTE_GOAL: Duration = Duration::from_millis(50);
/// Items in a page: as many as LND gives who does not say.
const PAGE: u32 = 100;
/// Outputs of one transaction, which is relayed with so many.
const OUTPUTS: usize = 2_000;
/// What a channel's output is worth on the chain: it is only there.
const OUTPUT_SAT: i64 = 1_000;
/// Blocks with a reward for the wallet: each pays for some transactions.
const REWARDS: u32 = 50;

/// Measure how long a node with a long history and the whole network's graph takes to answer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden bench api\n  \
    leyden bench api --payments 1000 --forwards 1000 --nodes 300 --channels 1000      a quick look")]
pub(super) struct Api {
    /// Payments, invoices and closed channels
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    payments: u32,
    /// Forwards
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    forwards: u32,
    /// Nodes of the network
    #[arg(long, default_value_t = Size::PUBLIC.nodes, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    nodes: u32,
    /// Channels of the network
    #[arg(long, default_value_t = Size::PUBLIC.channels, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    channels: u32,
}

/// A call, or all of its pages.
#[derive(Default)]
struct Measured {
    pages: u32,
    rows: usize,
    bytes: usize,
    /// The longest of all pages.
    first_byte: Duration,
    /// All pages together.
    whole: Duration,
    /// The daemon's, after it.
    memory: u64,
}

impl Api {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let folder = tempfile::Builder::new()
            .prefix("leyden-bench-")
            .tempdir()
            .map_err(|source| CliError::Io { what: "a temporary folder".into(), source })?;
        let mut node = DaemonProcess::new(folder.path(), "old", &["--log", "warn"]).map_err(failed)?;
        context.note(&format!("a node with {} invoices, payments and closed channels", self.payments));
        node.start().await.map_err(failed)?;
        let client = node.client().map_err(failed)?;
        generate(client, REWARDS, "").await?;
        generate(client, RIPENING, NOBODY).await?;
        make_invoices(client, self.payments).await?;
        context.note(&format!("a network of {} nodes and {} channels", self.nodes, self.channels));
        let places = self.fund(client).await?;
        if node.terminate().is_none_or(|status| !status.success()) {
            return Err(CliError::Failed(format!("a node did not end well: {}", node.log())));
        }
        let file = folder.path().join("places");
        let text: String = places.iter().map(|(id, output)| format!("{} {output}\n", id.0)).collect();
        fs::write(&file, text).map_err(failed)?;
        let mut daemon = Command::new(leydend_program().map_err(failed)?);
        daemon.args(["bench", "past", "--count", &self.payments.to_string()]);
        daemon.args(["--forwards", &self.forwards.to_string(), "--nodes", &self.nodes.to_string()]);
        daemon.args(["--channels", &self.channels.to_string(), "--places"]).arg(&file);
        let output = daemon.arg("--data-dir").arg(node.data_dir()).output().map_err(failed)?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim()));
        }
        node.start().await.map_err(failed)?;
        context.note("each call");
        let before = node.peak_memory();
        let calls = measure(&node).await?;
        show(context, before, &calls)?;
        let whole = |name: &str| calls.iter().find(|(call, _)| *call == name).map_or(0, |(_, measured)| measured.rows);
        let expected = [
            ("ListPayments", self.payments),
            ("ListInvoices", self.payments),
            ("ClosedChannels", self.payments),
            ("ForwardingHistory", self.forwards),
            // Nodes, too.
            ("DescribeGraph", self.channels),
        ];
        for (name, least) in expected {
            if whole(name) < least as usize {
                return Err(CliError::Failed(format!("{name} told {} of {least}", whole(name))));
            }
        }
        let late: Vec<&str> =
            calls.iter().filter(|(_, call)| call.first_byte > FIRST_BYTE_GOAL).map(|(name, _)| *name).collect();
        // Without optimisation nothing is as fast as it should be.
        if late.is_empty() || cfg!(debug_assertions) {
            return Ok(());
        }
        Err(CliError::Failed(format!("the first byte came after more than 50 ms: {}", late.join(", "))))
    }

    /// Puts an output of each channel into the chain; where each of them lies.
    async fn fund(&self, client: &Client) -> Result<Vec<(ShortChannelId, OutPoint)>, CliError> {
        let network = SyntheticNetwork::generate(Size { nodes: self.nodes, channels: self.channels, ..Size::PUBLIC });
        let script = |node_1: &NodeId, node_2: &NodeId| {
            Some(funding_script_pubkey(&node_1.public_key().ok()?, &node_2.public_key().ok()?))
        };
        let scripts = network.channels.iter().map(|made| script(&made.channel.node_id_1, &made.channel.node_id_2));
        let scripts: Vec<_> = scripts.collect::<Option<_>>().ok_or_else(|| failed("a made-up node has no key"))?;
        let mut places: Vec<Option<(ShortChannelId, OutPoint)>> = vec![None; scripts.len()];
        let mut left: Vec<usize> = (0..scripts.len()).collect();
        while !left.is_empty() {
            // Two nodes may have several channels, whose outputs are alike: each in a transaction of its own.
            let (mut paid, mut later) = (HashMap::new(), Vec::new());
            for at in left {
                match scripts.get(at) {
                    Some(script) if paid.len() < OUTPUTS && !paid.contains_key(script) => {
                        paid.insert(script.clone(), at);
                    }
                    Some(_) | None => later.push(at),
                }
            }
            left = later;
            let address = |script: &Script| Address::from_script(script, Network::Regtest).map(|to| to.to_string());
            let outputs = paid.keys().map(|script| Ok((address(script)?, OUTPUT_SAT)));
            let addr_to_amount = outputs.collect::<Result<_, bitcoin::address::FromScriptError>>().map_err(failed)?;
            let request = SendManyRequest {
                addr_to_amount,
                sat_per_vbyte: 2,
                spend_unconfirmed: true,
                ..SendManyRequest::default()
            };
            client.lightning().send_many(request).await?;
            generate(client, 1, NOBODY).await?;
            let info = client.lightning().get_info(GetInfoRequest {}).await?.into_inner();
            let wanted =
                GetBlockRequest { block: Some(get_block_request::Block::Height(info.block_height)), include_raw: true };
            let raw = client.chain().get_block(wanted).await?.into_inner().raw_block;
            let block: Block = consensus::deserialize(&raw).map_err(failed)?;
            for (index, transaction) in (0..).zip(&block.txdata) {
                let txid = transaction.compute_txid();
                for (output, paid_to) in (0..).zip(&transaction.output) {
                    if let Some(place) = paid.get(&paid_to.script_pubkey).and_then(|at| places.get_mut(*at)) {
                        let id = ShortChannelId::new(Height(info.block_height), index, output);
                        *place = Some((id, OutPoint { txid, vout: u32::from(output) }));
                    }
                }
            }
        }
        places.into_iter().collect::<Option<_>>().ok_or_else(|| failed("an output was not in the block after it"))
    }
}

/// Each call, page by page where LND has pages.
async fn measure(node: &DaemonProcess) -> Result<Vec<(&'static str, Measured)>, CliError> {
    let mut calls = Vec::new();
    let info = |_: u64| GetInfoRequest {};
    calls.push(("GetInfo", pages(node, "GetInfo", info, |_: &GetInfoResponse| (1, None)).await?));
    // The graph comes right after the start, when nothing of it has been looked at.
    let graph = |_: u64| ChannelGraphRequest::default();
    let of_graph = |graph: &ChannelGraph| (graph.edges.len(), None);
    calls.push(("DescribeGraph, first", pages(node, "DescribeGraph", graph, of_graph).await?));
    let payments = |index_offset: u64| ListPaymentsRequest {
        include_incomplete: true,
        index_offset,
        max_payments: u64::from(PAGE),
        ..ListPaymentsRequest::default()
    };
    let of_payments = |answer: &ListPaymentsResponse| (answer.payments.len(), Some(answer.last_index_offset));
    calls.push(("ListPayments", pages(node, "ListPayments", payments, of_payments).await?));
    let invoices = |index_offset: u64| ListInvoiceRequest {
        index_offset,
        num_max_invoices: u64::from(PAGE),
        ..ListInvoiceRequest::default()
    };
    let of_invoices = |answer: &ListInvoiceResponse| (answer.invoices.len(), Some(answer.last_index_offset));
    calls.push(("ListInvoices", pages(node, "ListInvoices", invoices, of_invoices).await?));
    let forwards = |index_offset: u64| ForwardingHistoryRequest {
        start_time: 1,
        index_offset: u32::try_from(index_offset).unwrap_or(u32::MAX),
        num_max_events: PAGE,
        ..ForwardingHistoryRequest::default()
    };
    let of_forwards = |answer: &ForwardingHistoryResponse| {
        (answer.forwarding_events.len(), Some(u64::from(answer.last_offset_index)))
    };
    calls.push(("ForwardingHistory", pages(node, "ForwardingHistory", forwards, of_forwards).await?));
    let transactions = |index_offset: u64| GetTransactionsRequest {
        index_offset: u32::try_from(index_offset).unwrap_or(u32::MAX),
        max_transactions: PAGE,
        ..GetTransactionsRequest::default()
    };
    let of_transactions =
        |answer: &TransactionDetails| (answer.transactions.len(), Some(answer.last_index.saturating_add(1)));
    calls.push(("GetTransactions", pages(node, "GetTransactions", transactions, of_transactions).await?));
    let closed = |_: u64| ClosedChannelsRequest::default();
    let of_closed = |answer: &ClosedChannelsResponse| (answer.channels.len(), None);
    calls.push(("ClosedChannels", pages(node, "ClosedChannels", closed, of_closed).await?));
    let coins = |_: u64| ListUnspentRequest { max_confs: i32::MAX, ..ListUnspentRequest::default() };
    let of_coins = |answer: &ListUnspentResponse| (answer.utxos.len(), None);
    calls.push(("ListUnspent", pages(node, "ListUnspent", coins, of_coins).await?));
    calls.push(("DescribeGraph", pages(node, "DescribeGraph", graph, of_graph).await?));
    Ok(calls)
}

/// A call with each page's offset, until a page is not full. `rows` tells how many there are, and where the next page begins.
async fn pages<Q: Message, A: Message + Default>(
    node: &DaemonProcess,
    method: &str,
    request: impl Fn(u64) -> Q,
    rows: impl Fn(&A) -> (usize, Option<u64>),
) -> Result<Measured, CliError> {
    let client = node.client().map_err(failed)?;
    let path = format!("/lnrpc.Lightning/{method}");
    let mut all = Measured::default();
    let mut offset = 0;
    loop {
        let answer = client.timed(&path, &request(offset).encode_to_vec()).await?;
        let (count, next) = rows(&A::decode(answer.message.clone()).map_err(failed)?);
        all.pages += 1;
        all.rows += count;
        all.bytes += answer.message.len();
        all.first_byte = all.first_byte.max(answer.first_byte);
        all.whole += answer.whole;
        match next {
            Some(next) if count >= PAGE as usize => offset = next,
            Some(_) | None => break,
        }
    }
    all.memory = node.peak_memory();
    Ok(all)
}

fn show(context: &Context, before: u64, calls: &[(&'static str, Measured)]) -> Result<(), CliError> {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let value: Vec<_> = calls
        .iter()
        .map(|(name, call)| {
            json!({
                "call": name,
                "pages": call.pages,
                "rows": call.rows,
                "bytes": call.bytes,
                "first_byte_ms": milliseconds(call.first_byte),
                "whole_ms": milliseconds(call.whole),
                "peak_memory_bytes": call.memory,
            })
        })
        .collect();
    context.show_value(&json!({ "peak_memory_before_bytes": before, "calls": value }), || {
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        let cells = calls.iter().map(|(name, call)| {
            [
                (*name).to_owned(),
                call.pages.to_string(),
                call.rows.to_string(),
                megabytes(call.bytes as u64),
                format!("{:.1}", milliseconds(call.first_byte)),
                format!("{:.1}", milliseconds(call.whole)),
                megabytes(call.memory),
            ]
        });
        let headings = ["", ">pages", ">rows", ">MB", ">first byte ms", ">whole ms", ">daemon's peak MB"];
        format!(
            "{}\n\nfirst byte: of the slowest page; whole: of all pages. The daemon held {} MB before.",
            table::list(headings, cells.collect(), ""),
            megabytes(before)
        )
    })
}
