//! LND's paths of REST, each with the call that it stands for: facts of LND's `lnrpc/**/*.yaml`, for the calls that are served.
//!
//! ```text
//!   verb and path ──► a call; {field.of.field} in the path is a field of its request
//!   POST: the body is the request · GET and DELETE: the rest of the request is in the query
//! ```
//!
//! A test holds the table against the services: no call of LND's without a path, and no path without a call.

use std::sync::LazyLock;

use Verb::{Delete, Get, Post};

/// How a path is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// With the request in path and query.
    Get,
    /// With the request in path and body, or query if it has none ([`Binding::has_body`]).
    Post,
    /// With the request in path and query.
    Delete,
}

impl Verb {
    /// As HTTP writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Get => "GET",
            Post => "POST",
            Delete => "DELETE",
        }
    }
}

/// A path of REST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub verb: Verb,
    /// Begins with a slash; a segment in braces is a field of the request.
    pub path: &'static str,
    /// Service and method, as in the address of a gRPC call.
    pub call: &'static str,
}

/// Posts whose request stands in the address, as of a GET.
const WITHOUT_BODY: &[&str] = &["walletrpc.WalletKit/ListLeases", "wtclientrpc.WatchtowerClient/DeactivateTower"];

impl Binding {
    /// Whether the request is read from the body.
    pub fn has_body(&self) -> bool {
        self.verb == Post && !WITHOUT_BODY.contains(&self.call)
    }
}

const fn on(verb: Verb, path: &'static str, call: &'static str) -> Binding {
    Binding { verb, path, call }
}

/// Every path of LND's that is served.
pub const BINDINGS: &[Binding] = &[
    on(Get, "/v1/balance/blockchain", "lnrpc.Lightning/WalletBalance"),
    on(Get, "/v1/balance/channels", "lnrpc.Lightning/ChannelBalance"),
    on(Get, "/v1/channels", "lnrpc.Lightning/ListChannels"),
    on(Post, "/v1/channels", "lnrpc.Lightning/OpenChannelSync"),
    on(
        Delete,
        "/v1/channels/abandon/{channel_point.funding_txid_str}/{channel_point.output_index}",
        "lnrpc.Lightning/AbandonChannel",
    ),
    on(Get, "/v1/channels/backup", "lnrpc.Lightning/ExportAllChannelBackups"),
    on(Post, "/v1/channels/acceptor", "lnrpc.Lightning/ChannelAcceptor"),
    on(Post, "/v1/channels/batch", "lnrpc.Lightning/BatchOpenChannel"),
    on(Post, "/v1/channels/backup/restore", "lnrpc.Lightning/RestoreChannelBackups"),
    on(Get, "/v1/channels/backup/subscribe", "lnrpc.Lightning/SubscribeChannelBackups"),
    on(Post, "/v1/channels/backup/verify", "lnrpc.Lightning/VerifyChanBackup"),
    on(
        Get,
        "/v1/channels/backup/{chan_point.funding_txid_str}/{chan_point.output_index}",
        "lnrpc.Lightning/ExportChannelBackup",
    ),
    on(Get, "/v1/channels/closed", "lnrpc.Lightning/ClosedChannels"),
    on(Get, "/v1/channels/pending", "lnrpc.Lightning/PendingChannels"),
    on(Post, "/v1/channels/stream", "lnrpc.Lightning/OpenChannel"),
    on(Get, "/v1/channels/subscribe", "lnrpc.Lightning/SubscribeChannelEvents"),
    on(
        Delete,
        "/v1/channels/{channel_point.funding_txid_str}/{channel_point.output_index}",
        "lnrpc.Lightning/CloseChannel",
    ),
    on(Post, "/v1/chanpolicy", "lnrpc.Lightning/UpdateChannelPolicy"),
    on(Get, "/v1/aliases/list", "lnrpc.Lightning/ListAliases"),
    on(Get, "/v1/htlc-resolution/{chan_id}/{htlc_index}", "lnrpc.Lightning/LookupHtlcResolution"),
    on(Post, "/v1/custommessage", "lnrpc.Lightning/SendCustomMessage"),
    on(Get, "/v1/custommessage/subscribe", "lnrpc.Lightning/SubscribeCustomMessages"),
    on(Post, "/v1/debuglevel", "lnrpc.Lightning/DebugLevel"),
    on(Get, "/v1/fees", "lnrpc.Lightning/FeeReport"),
    on(Post, "/v1/funding/step", "lnrpc.Lightning/FundingStateStep"),
    on(Get, "/v1/getdebuginfo", "lnrpc.Lightning/GetDebugInfo"),
    on(Get, "/v1/getinfo", "lnrpc.Lightning/GetInfo"),
    on(Get, "/v1/getrecoveryinfo", "lnrpc.Lightning/GetRecoveryInfo"),
    on(Get, "/v1/graph", "lnrpc.Lightning/DescribeGraph"),
    on(Get, "/v1/graph/edge/{chan_id}", "lnrpc.Lightning/GetChanInfo"),
    on(Get, "/v1/graph/info", "lnrpc.Lightning/GetNetworkInfo"),
    on(Get, "/v1/graph/node/{pub_key}", "lnrpc.Lightning/GetNodeInfo"),
    on(Get, "/v1/graph/routes/{pub_key}/{amt}", "lnrpc.Lightning/QueryRoutes"),
    on(Post, "/v1/graph/routes/{pub_key}/{amt}", "lnrpc.Lightning/QueryRoutes"),
    on(Get, "/v1/graph/subscribe", "lnrpc.Lightning/SubscribeChannelGraph"),
    on(Get, "/v1/invoice/{r_hash_str}", "lnrpc.Lightning/LookupInvoice"),
    on(Post, "/v1/invoices", "lnrpc.Lightning/AddInvoice"),
    on(Get, "/v1/invoices", "lnrpc.Lightning/ListInvoices"),
    on(Delete, "/v1/invoices", "lnrpc.Lightning/DeleteCanceledInvoice"),
    on(Get, "/v1/invoices/subscribe", "lnrpc.Lightning/SubscribeInvoices"),
    on(Post, "/v1/macaroon", "lnrpc.Lightning/BakeMacaroon"),
    on(Post, "/v1/macaroon/checkpermissions", "lnrpc.Lightning/CheckMacaroonPermissions"),
    on(Get, "/v1/macaroon/ids", "lnrpc.Lightning/ListMacaroonIDs"),
    on(Get, "/v1/macaroon/permissions", "lnrpc.Lightning/ListPermissions"),
    on(Delete, "/v1/macaroon/{root_key_id}", "lnrpc.Lightning/DeleteMacaroonID"),
    on(Get, "/v1/newaddress", "lnrpc.Lightning/NewAddress"),
    on(Delete, "/v1/payment", "lnrpc.Lightning/DeletePayment"),
    on(Get, "/v1/payments", "lnrpc.Lightning/ListPayments"),
    on(Delete, "/v1/payments", "lnrpc.Lightning/DeleteAllPayments"),
    on(Get, "/v1/payreq/{pay_req}", "lnrpc.Lightning/DecodePayReq"),
    on(Post, "/v1/peers", "lnrpc.Lightning/ConnectPeer"),
    on(Get, "/v1/peers", "lnrpc.Lightning/ListPeers"),
    on(Get, "/v1/peers/subscribe", "lnrpc.Lightning/SubscribePeerEvents"),
    on(Delete, "/v1/peers/{pub_key}", "lnrpc.Lightning/DisconnectPeer"),
    on(Post, "/v1/signmessage", "lnrpc.Lightning/SignMessage"),
    on(Post, "/v1/stop", "lnrpc.Lightning/StopDaemon"),
    on(Post, "/v1/switch", "lnrpc.Lightning/ForwardingHistory"),
    on(Get, "/v1/transactions", "lnrpc.Lightning/GetTransactions"),
    on(Post, "/v1/transactions", "lnrpc.Lightning/SendCoins"),
    on(Get, "/v1/transactions/fee", "lnrpc.Lightning/EstimateFee"),
    on(Post, "/v1/transactions/many", "lnrpc.Lightning/SendMany"),
    on(Get, "/v1/transactions/subscribe", "lnrpc.Lightning/SubscribeTransactions"),
    on(Get, "/v1/utxos", "lnrpc.Lightning/ListUnspent"),
    on(Post, "/v1/verifymessage", "lnrpc.Lightning/VerifyMessage"),
    on(Get, "/v1/state", "lnrpc.State/GetState"),
    on(Get, "/v1/state/subscribe", "lnrpc.State/SubscribeState"),
    on(Get, "/v1/genseed", "lnrpc.WalletUnlocker/GenSeed"),
    on(Post, "/v1/initwallet", "lnrpc.WalletUnlocker/InitWallet"),
    on(Post, "/v1/changepassword", "lnrpc.WalletUnlocker/ChangePassword"),
    on(Post, "/v1/unlockwallet", "lnrpc.WalletUnlocker/UnlockWallet"),
    on(Post, "/v2/router/fwdhistory/delete", "routerrpc.Router/DeleteForwardingHistory"),
    on(Post, "/v2/router/htlcinterceptor", "routerrpc.Router/HtlcInterceptor"),
    on(Get, "/v2/router/htlcevents", "routerrpc.Router/SubscribeHtlcEvents"),
    on(Get, "/v2/router/mc", "routerrpc.Router/QueryMissionControl"),
    on(Get, "/v2/router/mc/probability/{from_node}/{to_node}/{amt_msat}", "routerrpc.Router/QueryProbability"),
    on(Post, "/v2/router/x/importhistory", "routerrpc.Router/XImportMissionControl"),
    on(Get, "/v2/router/mccfg", "routerrpc.Router/GetMissionControlConfig"),
    on(Post, "/v2/router/mccfg", "routerrpc.Router/SetMissionControlConfig"),
    on(Post, "/v2/router/mc/reset", "routerrpc.Router/ResetMissionControl"),
    on(Get, "/v2/router/payments", "routerrpc.Router/TrackPayments"),
    on(Post, "/v2/router/route", "routerrpc.Router/BuildRoute"),
    on(Post, "/v2/router/route/estimatefee", "routerrpc.Router/EstimateRouteFee"),
    on(Post, "/v2/router/route/send", "routerrpc.Router/SendToRouteV2"),
    on(Post, "/v2/router/send", "routerrpc.Router/SendPaymentV2"),
    on(Get, "/v2/router/track/{payment_hash}", "routerrpc.Router/TrackPaymentV2"),
    on(Post, "/v2/router/updatechanstatus", "routerrpc.Router/UpdateChanStatus"),
    on(Post, "/v2/invoices/cancel", "invoicesrpc.Invoices/CancelInvoice"),
    on(Post, "/v2/invoices/hodl", "invoicesrpc.Invoices/AddHoldInvoice"),
    on(Get, "/v2/invoices/lookup", "invoicesrpc.Invoices/LookupInvoiceV2"),
    on(Post, "/v2/invoices/settle", "invoicesrpc.Invoices/SettleInvoice"),
    on(Get, "/v2/invoices/subscribe/{r_hash}", "invoicesrpc.Invoices/SubscribeSingleInvoice"),
    on(Post, "/v2/peers/nodeannouncement", "peersrpc.Peers/UpdateNodeAnnouncement"),
    on(Get, "/v2/wallet/accounts", "walletrpc.WalletKit/ListAccounts"),
    on(Post, "/v2/wallet/address/next", "walletrpc.WalletKit/NextAddr"),
    on(Post, "/v2/wallet/BumpForceCloseFee", "walletrpc.WalletKit/BumpForceCloseFee"),
    on(Post, "/v2/wallet/address/signmessage", "walletrpc.WalletKit/SignMessageWithAddr"),
    on(Post, "/v2/wallet/address/verifymessage", "walletrpc.WalletKit/VerifyMessageWithAddr"),
    on(Get, "/v2/wallet/addresses", "walletrpc.WalletKit/ListAddresses"),
    on(Post, "/v2/wallet/bumpfee", "walletrpc.WalletKit/BumpFee"),
    on(Get, "/v2/wallet/estimatefee/{conf_target}", "walletrpc.WalletKit/EstimateFee"),
    on(Post, "/v2/wallet/key", "walletrpc.WalletKit/DeriveKey"),
    on(Post, "/v2/wallet/key/next", "walletrpc.WalletKit/DeriveNextKey"),
    on(Post, "/v2/wallet/psbt/finalize", "walletrpc.WalletKit/FinalizePsbt"),
    on(Post, "/v2/wallet/psbt/fund", "walletrpc.WalletKit/FundPsbt"),
    on(Post, "/v2/wallet/psbt/sign", "walletrpc.WalletKit/SignPsbt"),
    on(Post, "/v2/wallet/removetx", "walletrpc.WalletKit/RemoveTransaction"),
    on(Get, "/v2/wallet/reserve", "walletrpc.WalletKit/RequiredReserve"),
    on(Post, "/v2/wallet/send", "walletrpc.WalletKit/SendOutputs"),
    on(Get, "/v2/wallet/sweeps", "walletrpc.WalletKit/ListSweeps"),
    on(Get, "/v2/wallet/sweeps/pending", "walletrpc.WalletKit/PendingSweeps"),
    on(Get, "/v2/wallet/tx", "walletrpc.WalletKit/GetTransaction"),
    on(Post, "/v2/wallet/tx", "walletrpc.WalletKit/PublishTransaction"),
    on(Post, "/v2/wallet/tx/label", "walletrpc.WalletKit/LabelTransaction"),
    on(Post, "/v2/wallet/tx/package", "walletrpc.WalletKit/SubmitPackage"),
    on(Post, "/v2/wallet/utxos", "walletrpc.WalletKit/ListUnspent"),
    on(Post, "/v2/wallet/utxos/lease", "walletrpc.WalletKit/LeaseOutput"),
    on(Post, "/v2/wallet/utxos/leases", "walletrpc.WalletKit/ListLeases"),
    on(Post, "/v2/wallet/utxos/release", "walletrpc.WalletKit/ReleaseOutput"),
    on(Get, "/v2/chainkit/bestblock", "chainrpc.ChainKit/GetBestBlock"),
    on(Get, "/v2/chainkit/block", "chainrpc.ChainKit/GetBlock"),
    on(Get, "/v2/chainkit/blockhash", "chainrpc.ChainKit/GetBlockHash"),
    on(Get, "/v2/chainkit/blockheader", "chainrpc.ChainKit/GetBlockHeader"),
    on(Post, "/v2/chainnotifier/register/confirmations", "chainrpc.ChainNotifier/RegisterConfirmationsNtfn"),
    on(Post, "/v2/chainnotifier/register/spends", "chainrpc.ChainNotifier/RegisterSpendNtfn"),
    on(Post, "/v2/chainnotifier/register/blocks", "chainrpc.ChainNotifier/RegisterBlockEpochNtfn"),
    on(Post, "/v2/signer/inputscript", "signrpc.Signer/ComputeInputScript"),
    on(Post, "/v2/signer/musig2/cleanup", "signrpc.Signer/MuSig2Cleanup"),
    on(Post, "/v2/signer/musig2/combinekeys", "signrpc.Signer/MuSig2CombineKeys"),
    on(Post, "/v2/signer/musig2/combinesig", "signrpc.Signer/MuSig2CombineSig"),
    on(Post, "/v2/signer/musig2/createsession", "signrpc.Signer/MuSig2CreateSession"),
    on(Post, "/v2/signer/musig2/getcombinednonce", "signrpc.Signer/MuSig2GetCombinedNonce"),
    on(Post, "/v2/signer/musig2/registercombinednonce", "signrpc.Signer/MuSig2RegisterCombinedNonce"),
    on(Post, "/v2/signer/musig2/registernonces", "signrpc.Signer/MuSig2RegisterNonces"),
    on(Post, "/v2/signer/musig2/sign", "signrpc.Signer/MuSig2Sign"),
    on(Post, "/v2/signer/sharedkey", "signrpc.Signer/DeriveSharedKey"),
    on(Post, "/v2/signer/signmessage", "signrpc.Signer/SignMessage"),
    on(Post, "/v2/signer/signraw", "signrpc.Signer/SignOutputRaw"),
    on(Post, "/v2/signer/verifymessage", "signrpc.Signer/VerifyMessage"),
    on(Get, "/v2/versioner/version", "verrpc.Versioner/GetVersion"),
    on(Get, "/v2/watchtower/server", "watchtowerrpc.Watchtower/GetInfo"),
    on(Post, "/v2/watchtower/client", "wtclientrpc.WatchtowerClient/AddTower"),
    on(Get, "/v2/watchtower/client", "wtclientrpc.WatchtowerClient/ListTowers"),
    on(Get, "/v2/watchtower/client/info/{pubkey}", "wtclientrpc.WatchtowerClient/GetTowerInfo"),
    on(Get, "/v2/watchtower/client/policy", "wtclientrpc.WatchtowerClient/Policy"),
    on(Get, "/v2/watchtower/client/stats", "wtclientrpc.WatchtowerClient/Stats"),
    on(Post, "/v2/watchtower/client/tower/deactivate/{pubkey}", "wtclientrpc.WatchtowerClient/DeactivateTower"),
    on(Delete, "/v2/watchtower/client/{pubkey}", "wtclientrpc.WatchtowerClient/RemoveTower"),
];

/// Leyden's own calls, for which LND has no path: a POST to the path that gRPC gives them.
static OWN: LazyLock<Vec<Binding>> = LazyLock::new(|| {
    let own = crate::pool().services().filter(|service| service.package_name() == "leyden");
    let methods = own.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods
        .map(|method| {
            // As long as the process, like the table above.
            let path: &'static str = format!("/{}/{}", method.parent_service().full_name(), method.name()).leak();
            Binding { verb: Post, path, call: path.strip_prefix('/').unwrap_or(path) }
        })
        .collect()
});

/// Every path: LND's, and that of each call of our own.
pub fn all() -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().chain(OWN.iter())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use prost_reflect::Kind;

    use super::*;

    #[test]
    fn every_call_of_lnd_that_is_served_has_a_path_and_every_path_a_call() {
        let methods = crate::pool().services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let calls: BTreeMap<String, _> = methods
            .filter(|method| method.parent_service().package_name() != "leyden")
            .map(|method| (format!("{}/{}", method.parent_service().full_name(), method.name()), method))
            .collect();
        for binding in BINDINGS {
            let method = calls.get(binding.call).unwrap_or_else(|| panic!("{} is not served", binding.call));
            for part in binding.path.split('/').filter_map(|part| part.strip_prefix('{')) {
                let mut message = method.input();
                for name in part.trim_end_matches('}').split('.') {
                    let field =
                        message.get_field_by_name(name).unwrap_or_else(|| panic!("{}: no {name}", binding.path));
                    if let Kind::Message(inner) = field.kind() {
                        message = inner;
                    }
                }
            }
        }
        let bound: BTreeSet<&str> = BINDINGS.iter().map(|binding| binding.call).collect();
        let without: Vec<&String> = calls.keys().filter(|call| !bound.contains(call.as_str())).collect();
        assert!(without.is_empty(), "without a path: {without:?}");
    }

    #[test]
    fn no_two_paths_are_the_same_to_a_caller() {
        let shape = |binding: &Binding| {
            let parts = binding.path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
            (binding.verb.name(), parts.collect::<Vec<_>>().join("/"))
        };
        let shapes: BTreeSet<_> = BINDINGS.iter().map(shape).collect();
        assert_eq!(shapes.len(), BINDINGS.len());
    }
}
