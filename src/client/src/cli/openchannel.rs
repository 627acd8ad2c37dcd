//! `leyden openchannel`: put coins into a channel.

mod psbt;

use clap::{Args, ValueEnum};
use leyden_proto::lnrpc::{
    CommitmentType, ConnectPeerRequest, OpenChannelRequest, OutPoint, PendingChannelsRequest,
    channel_point::FundingTxid, open_status_update::Update, pending_channels_response::PendingOpenChannel,
};
use tonic::Code;

use super::{
    CliError, Context,
    amount::Sat,
    chain::broadcast_note,
    connect, format,
    sendcoins::{self, FeeArgs},
};
use crate::client::Client;

/// Open a channel with a node, funded by this wallet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden openchannel 02ab… 1,000,000                      all of it ours at first\n  \
    leyden openchannel 02ab… 1,000,000 500,000              half of it theirs from the start\n  \
    leyden openchannel 02ab…@127.0.0.1:9736 0.01btc --wait  connect, open, and wait until it can pay\n  \
    leyden openchannel 02ab… 1,000,000 --psbt               paid by another wallet, by PSBT\n\n\
    How many confirmations the channel waits for is said by the node that accepts it: it is the one whom a double-spend of\n\
    the funding would cost something, and only this wallet could make one. For channels that others open to you,\n\
    leydend --risk-budget and --attacker-share choose the depth by the amount; `leyden risk` shows the chances.")]
pub struct OpenChannel {
    /// The node's key; with @HOST:PORT it is connected first
    #[arg(value_name = "KEY[@HOST:PORT]")]
    node: String,
    /// The channel's capacity: satoshi, or coins such as 0.01btc
    #[arg(required_unless_present = "fundmax", conflicts_with = "fundmax")]
    local_amt: Option<Sat>,
    /// Amount to give to the other side at the start
    push_amt: Option<Sat>,
    /// Put everything into the channel except the reserve for anchor channels
    #[arg(long)]
    fundmax: bool,
    /// Do not announce the channel to the network
    #[arg(long)]
    private: bool,
    /// Use the channel before it is confirmed; the node must trust this one (its --zero-conf-peer)
    #[arg(long, alias = "zero_conf")]
    zero_conf: bool,
    #[command(flatten)]
    fee: FeeArgs,
    /// Commitment type [default: anchors if the node supports them]
    #[arg(long, alias = "channel_type", value_enum)]
    channel_type: Option<ChannelType>,
    /// Blocks that the other side waits for its money after a force close of its own
    #[arg(long, alias = "remote_csv_delay", default_value_t = 0, hide_default_value = true)]
    remote_csv_delay: u32,
    /// Address that receives our balance at a cooperative close
    #[arg(long, alias = "close_address", default_value = "", hide_default_value = true)]
    close_address: String,
    /// The smallest payment that we take through the channel, millisatoshi
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    min_htlc_msat: i64,
    /// The most blocks that the other side may have us wait for our money after a force close of ours
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    max_local_csv: u32,
    /// Only spend coins with so many confirmations
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    min_confs: i32,
    /// Base fee of each payment that passes through it, millisatoshi
    #[arg(long)]
    base_fee_msat: Option<u64>,
    /// Fee rate, in parts per million (ppm) of the amount
    #[arg(long)]
    fee_rate_ppm: Option<u64>,
    /// Name the channel by an alias to whoever pays through it; with --private
    #[arg(long, requires = "private")]
    scid_alias: bool,
    /// What the other side keeps in the channel at least, satoshi
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    remote_reserve_sats: u64,
    /// The most that the other side may have in flight, millisatoshi
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    remote_max_value_in_flight_msat: u64,
    /// Spend this coin, TXID:INDEX; may be given more than once
    #[arg(long, value_name = "COIN", value_parser = sendcoins::coin)]
    utxo: Vec<OutPoint>,
    /// Address of the node, which is connected first
    #[arg(long, hide = true)]
    connect: Option<String>,
    /// A note about the channel
    #[arg(long, default_value = "", hide_default_value = true)]
    memo: String,
    /// Also spend the reserve for anchor channels, which pays for fee bumps after a force close
    #[arg(long, alias = "spend_reserve")]
    spend_reserve: bool,
    #[command(flatten)]
    psbt: psbt::PsbtArgs,
    /// Wait until the channel can carry payments
    #[arg(long, alias = "block")]
    wait: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ChannelType {
    /// Two outputs for fee bumps; fees of the HTLC transactions are added when they are needed
    Anchors,
    /// static_remotekey without anchors, for old nodes
    Tweakless,
}

impl OpenChannel {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?.spending_reserve(self.spend_reserve);
        let key = self.meet(&client).await?;
        let node_pubkey = hex::decode(&key)
            .map_err(|_| CliError::Usage(format!("\"{key}\" is no node key: it has 66 hex digits")))?;
        let commitment_type = match self.channel_type {
            None => CommitmentType::UnknownCommitmentType,
            Some(ChannelType::Anchors) => CommitmentType::Anchors,
            Some(ChannelType::Tweakless) => CommitmentType::StaticRemoteKey,
        };
        let (funding_shim, psbt) = self.psbt.shim()?.unzip();
        let request = OpenChannelRequest {
            funding_shim,
            node_pubkey,
            local_funding_amount: self.local_amt.map_or(0, |amount| amount.0),
            push_sat: self.push_amt.map_or(0, |amount| amount.0),
            fund_max: self.fundmax,
            private: self.private,
            zero_conf: self.zero_conf,
            sat_per_vbyte: self.fee.sat_per_vbyte,
            target_conf: self.fee.conf_target,
            commitment_type: commitment_type.into(),
            remote_csv_delay: self.remote_csv_delay,
            close_address: self.close_address,
            memo: self.memo,
            min_htlc_msat: self.min_htlc_msat,
            max_local_csv: self.max_local_csv,
            min_confs: self.min_confs,
            use_base_fee: self.base_fee_msat.is_some(),
            base_fee: self.base_fee_msat.unwrap_or(0),
            use_fee_rate: self.fee_rate_ppm.is_some(),
            fee_rate: self.fee_rate_ppm.unwrap_or(0),
            scid_alias: self.scid_alias,
            remote_chan_reserve_sat: self.remote_reserve_sats,
            remote_max_value_in_flight_msat: self.remote_max_value_in_flight_msat,
            outpoints: self.utxo,
            ..Default::default()
        };
        let waiting = context.waiting("asking the node for a channel");
        let mut updates = client.lightning().open_channel(request).await?.into_inner();
        while let Some(update) = updates.message().await? {
            match update.update {
                Some(Update::PsbtFund(wanted)) => {
                    if let Some(psbt) = &psbt {
                        waiting.finish_and_clear();
                        psbt.fund(context, &client, &wanted).await?;
                    }
                }
                Some(Update::ChanPending(pending)) => {
                    let txid = format::txid(&pending.txid);
                    let point = format!("{txid}:{}", pending.output_index);
                    let value = serde_json::json!({ "funding_txid": txid, "output_index": pending.output_index });
                    if !self.wait {
                        waiting.finish_and_clear();
                        let follows = match context.is_json() {
                            true => String::new(),
                            false => broadcast_note(&client, "the funding transaction").await,
                        };
                        let opens = match context.is_json() {
                            true => String::new(),
                            false => opens_after(&client, &point).await,
                        };
                        return context.show_value(&value, || format!("{point}\n{follows}; the channel opens {opens}"));
                    }
                    waiting.set_message(format!("{point} is funded, waiting for confirmations"));
                }
                Some(Update::ChanOpen(open)) => {
                    waiting.finish_and_clear();
                    let point = open.channel_point.unwrap_or_default();
                    let txid = match point.funding_txid {
                        Some(FundingTxid::FundingTxidBytes(bytes)) => format::txid(&bytes),
                        Some(FundingTxid::FundingTxidStr(text)) => text,
                        None => String::new(),
                    };
                    let value = serde_json::json!({
                        "funding_txid": txid,
                        "output_index": point.output_index,
                        "channel_point": format!("{txid}:{}", point.output_index),
                    });
                    return context
                        .show_value(&value, || format!("{txid}:{}\nthe channel is open", point.output_index));
                }
                None => {}
            }
        }
        let text = "the node stopped telling of the channel: `leyden pendingchannels` shows how far it came";
        Err(CliError::Failed(text.to_owned()))
    }

    /// Connects to KEY@HOST, and gives the key.
    async fn meet(&self, client: &Client) -> Result<String, CliError> {
        let node = match &self.connect {
            Some(host) => format!("{}@{host}", self.node),
            None => self.node.clone(),
        };
        if !node.contains('@') {
            return Ok(node);
        }
        let addr = connect::address(&node, "leyden getinfo")?;
        let key = addr.pubkey.clone();
        let request = ConnectPeerRequest { addr: Some(addr), ..Default::default() };
        match client.lightning().connect_peer(request).await {
            Ok(_) => Ok(key),
            Err(status) if status.code() == Code::AlreadyExists => Ok(key),
            Err(status) => Err(status.into()),
        }
    }
}

/// How long the channel waits: the other side has chosen so many confirmations by the amount.
async fn opens_after(client: &Client, point: &str) -> String {
    let pending = client.lightning().pending_channels(PendingChannelsRequest::default()).await;
    let channels = pending.map(|answer| answer.into_inner().pending_open_channels).unwrap_or_default();
    let of_this =
        |channel: &PendingOpenChannel| channel.channel.as_ref().is_some_and(|known| known.channel_point == point);
    match channels.iter().find(|channel| of_this(channel)).map(|channel| channel.confirmations_until_active) {
        Some(count) if count > 0 => format!("after {}", format::counted(count, "confirmation")),
        // It is open by now, or this macaroon does not show it.
        Some(_) | None => "once it is confirmed".to_owned(),
    }
}
