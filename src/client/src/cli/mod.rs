//! `leyden`, the command line: one file a command, each a thin shell around one gRPC call.
//!
//! ```text
//!   arguments ─► Command::run ─► client ─► message ─┬─► table, for people
//!                                                   └─► --json, for programs: what lncli would print
//! ```
//!
//! Results go to stdout; progress and errors go to stderr, so that stdout can be piped. The exit code is 0 if what
//! was asked for has happened, 1 if not, 2 if the arguments make no sense.

mod amount;
mod backup;
mod context;
mod error;
mod format;
mod json;
mod password;
mod table;

mod abandonchannel;
mod addholdinvoice;
mod addinvoice;
mod bakemacaroon;
mod bench;
mod bumpfee;
mod cancelinvoice;
mod chain;
mod changepassword;
mod channel;
mod channelbalance;
mod closeallchannels;
mod closechannel;
mod closedchannels;
mod completions;
mod connect;
mod create;
mod decodepayreq;
mod demo;
mod disconnect;
mod doctor;
mod exportchanbackup;
mod feereport;
mod fwdinghistory;
mod getinfo;
mod graph;
mod keysend;
mod lab;
mod listchaintxns;
mod listchannels;
mod listinvoices;
mod listpayments;
mod listpeers;
mod listunspent;
mod lncli;
mod lookupinvoice;
mod newaddress;
mod openchannel;
mod payinvoice;
mod pendingchannels;
mod recoveryinfo;
mod rescan;
mod resetmc;
mod restorechanbackup;
mod risk;
mod route;
mod sendcoins;
mod sendpayment;
mod settleinvoice;
mod state;
mod stop;
mod subscribeinvoices;
mod swap;
mod tower;
mod trackpayment;
mod unlock;
mod updatechanpolicy;
mod verifychanbackup;
mod walletbalance;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use self::{
    context::{Context, Global},
    error::CliError,
};

/// Talk to a Leyden node: its wallet, its Lightning channels and its proof-of-work chain.
#[derive(Debug, Parser)]
#[command(
    name = "leyden",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "First steps:\n  \
    leydend &                                start a node on a chain of its own (regtest)\n  \
    leyden create                            make its wallet; write down the 24 words\n  \
    leyden chain generate 101                mine coins that can be spent\n  \
    leyden walletbalance\n  \
    leyden connect 02ab…@127.0.0.1:9736      meet another node\n  \
    leyden openchannel 02ab… 1000000         open a channel to it\n  \
    leyden chain generate 6                  confirm it\n  \
    leyden payinvoice lnbcrt…                pay through it\n\n\
    Every command explains itself with --help, and prints what programs want with --json.\n\
    lncli's commands and flags are understood too: `leyden lncli` lists them."
)]
pub struct Cli {
    /// The options that every command has.
    #[command(flatten)]
    pub global: Global,
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// A command and its arguments; the struct of a command holds its help text.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "the struct of a command says what it does")]
pub enum Command {
    Create(create::Create),
    Unlock(unlock::Unlock),
    #[command(name = "changepassword")]
    ChangePassword(changepassword::ChangePassword),
    State(state::State),
    Stop(stop::Stop),
    #[command(name = "getinfo")]
    GetInfo(getinfo::GetInfo),
    #[command(name = "newaddress")]
    NewAddress(newaddress::NewAddress),
    #[command(name = "walletbalance")]
    WalletBalance(walletbalance::WalletBalance),
    #[command(name = "channelbalance")]
    ChannelBalance(channelbalance::ChannelBalance),
    #[command(name = "sendcoins")]
    SendCoins(sendcoins::SendCoins),
    #[command(name = "bumpfee")]
    BumpFee(bumpfee::BumpFee),
    #[command(name = "listchaintxns")]
    ListChainTxns(listchaintxns::ListChainTxns),
    #[command(name = "listunspent")]
    ListUnspent(listunspent::ListUnspent),
    Connect(connect::Connect),
    #[command(name = "listpeers", visible_alias = "peers")]
    ListPeers(listpeers::ListPeers),
    Disconnect(disconnect::Disconnect),
    #[command(name = "openchannel")]
    OpenChannel(openchannel::OpenChannel),
    #[command(name = "closechannel")]
    CloseChannel(closechannel::CloseChannel),
    #[command(name = "closeallchannels", hide = true)]
    CloseAllChannels(closeallchannels::CloseAllChannels),
    #[command(name = "abandonchannel")]
    AbandonChannel(abandonchannel::AbandonChannel),
    #[command(name = "listchannels")]
    ListChannels(listchannels::ListChannels),
    #[command(name = "pendingchannels")]
    PendingChannels(pendingchannels::PendingChannels),
    #[command(name = "closedchannels")]
    ClosedChannels(closedchannels::ClosedChannels),
    #[command(name = "exportchanbackup")]
    ExportChanBackup(exportchanbackup::ExportChanBackup),
    #[command(name = "verifychanbackup")]
    VerifyChanBackup(verifychanbackup::VerifyChanBackup),
    #[command(name = "restorechanbackup")]
    RestoreChanBackup(restorechanbackup::RestoreChanBackup),
    #[command(name = "recoveryinfo")]
    RecoveryInfo(recoveryinfo::RecoveryInfo),
    Rescan(rescan::Rescan),
    #[command(name = "addinvoice")]
    AddInvoice(addinvoice::AddInvoice),
    #[command(name = "addholdinvoice")]
    AddHoldInvoice(addholdinvoice::AddHoldInvoice),
    #[command(name = "settleinvoice")]
    SettleInvoice(settleinvoice::SettleInvoice),
    #[command(name = "cancelinvoice")]
    CancelInvoice(cancelinvoice::CancelInvoice),
    #[command(name = "lookupinvoice")]
    LookupInvoice(lookupinvoice::LookupInvoice),
    #[command(name = "listinvoices")]
    ListInvoices(listinvoices::ListInvoices),
    #[command(name = "subscribeinvoices", visible_alias = "watchinvoices")]
    SubscribeInvoices(subscribeinvoices::SubscribeInvoices),
    #[command(name = "decodepayreq")]
    DecodePayReq(decodepayreq::DecodePayReq),
    #[command(name = "resetmc")]
    ResetMissionControl(resetmc::ResetMissionControl),
    #[command(name = "payinvoice")]
    PayInvoice(payinvoice::PayInvoice),
    #[command(name = "sendpayment", hide = true)]
    SendPayment(sendpayment::SendPayment),
    Keysend(keysend::Keysend),
    #[command(name = "trackpayment")]
    TrackPayment(trackpayment::TrackPayment),
    #[command(name = "listpayments")]
    ListPayments(listpayments::ListPayments),
    Graph(graph::Graph),
    Route(route::FindRoute),
    #[command(name = "feereport")]
    FeeReport(feereport::FeeReport),
    #[command(name = "updatechanpolicy")]
    UpdateChanPolicy(updatechanpolicy::UpdateChanPolicy),
    #[command(name = "fwdinghistory")]
    FwdingHistory(fwdinghistory::FwdingHistory),
    #[command(name = "bakemacaroon")]
    BakeMacaroon(bakemacaroon::BakeMacaroon),
    #[command(name = "listmacaroonids")]
    ListMacaroonIds(bakemacaroon::ListMacaroonIds),
    #[command(name = "deletemacaroonid")]
    DeleteMacaroonId(bakemacaroon::DeleteMacaroonId),
    #[command(name = "listpermissions")]
    ListPermissions(bakemacaroon::ListPermissions),
    Doctor(doctor::Doctor),
    Channel(channel::Channel),
    Swap(swap::Swap),
    Tower(tower::Tower),
    Chain(chain::Chain),
    Demo(demo::Demo),
    Risk(risk::Risk),
    Completions(completions::Completions),
    #[command(hide = true)]
    Lncli(lncli::Lncli),
    Lab(lab::Lab),
    Bench(bench::Bench),
}

impl Command {
    /// Does what was asked, and prints it.
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Create(command) => command.run(context).await,
            Self::Unlock(command) => command.run(context).await,
            Self::ChangePassword(command) => command.run(context).await,
            Self::State(command) => command.run(context).await,
            Self::Stop(command) => command.run(context).await,
            Self::GetInfo(command) => command.run(context).await,
            Self::NewAddress(command) => command.run(context).await,
            Self::WalletBalance(command) => command.run(context).await,
            Self::ChannelBalance(command) => command.run(context).await,
            Self::SendCoins(command) => command.run(context).await,
            Self::BumpFee(command) => command.run(context).await,
            Self::ListChainTxns(command) => command.run(context).await,
            Self::ListUnspent(command) => command.run(context).await,
            Self::Connect(command) => command.run(context).await,
            Self::ListPeers(command) => command.run(context).await,
            Self::Disconnect(command) => command.run(context).await,
            Self::OpenChannel(command) => command.run(context).await,
            Self::CloseChannel(command) => command.run(context).await,
            Self::CloseAllChannels(command) => command.run(context).await,
            Self::AbandonChannel(command) => command.run(context).await,
            Self::ListChannels(command) => command.run(context).await,
            Self::PendingChannels(command) => command.run(context).await,
            Self::ClosedChannels(command) => command.run(context).await,
            Self::ExportChanBackup(command) => command.run(context).await,
            Self::VerifyChanBackup(command) => command.run(context).await,
            Self::RestoreChanBackup(command) => command.run(context).await,
            Self::RecoveryInfo(command) => command.run(context).await,
            Self::Rescan(command) => command.run(context).await,
            Self::AddInvoice(command) => command.run(context).await,
            Self::AddHoldInvoice(command) => command.run(context).await,
            Self::SettleInvoice(command) => command.run(context).await,
            Self::CancelInvoice(command) => command.run(context).await,
            Self::ResetMissionControl(command) => command.run(context).await,
            Self::SendPayment(command) => command.run(context).await,
            Self::Keysend(command) => command.run(context).await,
            Self::LookupInvoice(command) => command.run(context).await,
            Self::ListInvoices(command) => command.run(context).await,
            Self::SubscribeInvoices(command) => command.run(context).await,
            Self::DecodePayReq(command) => command.run(context).await,
            Self::PayInvoice(command) => command.run(context).await,
            Self::TrackPayment(command) => command.run(context).await,
            Self::ListPayments(command) => command.run(context).await,
            Self::Graph(command) => command.run(context).await,
            Self::Route(command) => command.run(context).await,
            Self::FeeReport(command) => command.run(context).await,
            Self::UpdateChanPolicy(command) => command.run(context).await,
            Self::FwdingHistory(command) => command.run(context).await,
            Self::BakeMacaroon(command) => command.run(context).await,
            Self::ListMacaroonIds(command) => command.run(context).await,
            Self::DeleteMacaroonId(command) => command.run(context).await,
            Self::ListPermissions(command) => command.run(context).await,
            Self::Doctor(command) => command.run(context).await,
            Self::Channel(command) => command.run(context).await,
            Self::Swap(command) => command.run(context).await,
            Self::Tower(command) => command.run(context).await,
            Self::Chain(command) => command.run(context).await,
            Self::Demo(command) => command.run(context).await,
            Self::Completions(command) => command.run(context),
            Self::Risk(command) => command.run(context),
            Self::Lncli(command) => command.run(context).await,
            Self::Lab(command) => command.run(context).await,
            Self::Bench(command) => command.run(context).await,
        }
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let typed: Vec<_> = std::env::args_os().collect();
    let wants_json = typed.iter().any(|word| word == "--json");
    let Cli { global, command } = match lncli::translated(typed) {
        Ok(words) => Cli::parse_from(words),
        Err(error) => return Context::new(Global { json: wants_json, ..Global::default() }).fail(&error),
    };
    let context = Context::new(global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return context.fail(&CliError::Runtime(error)),
    };
    match runtime.block_on(command.run(&context)) {
        // Whoever reads our output has had enough of it.
        Ok(()) | Err(CliError::Closed) => ExitCode::SUCCESS,
        Err(error) => context.fail(&error),
    }
}

#[cfg(test)]
mod tests;
