//! Calls of LND's that have a command in lncli and none in leyden: how their arguments make the request.

use leyden_proto::LND_CALLS;

use super::shape::{self, Shape};

/// A command of lncli's, and the call that it is.
#[derive(Debug)]
pub(super) struct Entry {
    /// lncli's words.
    pub lncli: &'static str,
    /// Service and method.
    pub call: &'static str,
    /// Its arguments; those that may stand without a flag in their order.
    pub args: &'static [Arg],
    /// A channel may be named in lncli's ways.
    pub joins: bool,
    /// If this flag is given, it is another call.
    pub or: Option<(&'static str, &'static Entry)>,
    /// What lncli prints in place of the answer's message.
    pub shape: Option<Shape>,
    /// What cannot be undone, which lncli asks about unless `--force` is given.
    pub asks: Option<&'static str>,
}

/// An argument, and the field that it becomes.
#[derive(Debug)]
pub(super) struct Arg {
    pub name: &'static str,
    /// Words without a flag fill it.
    pub is_place: bool,
    pub kind: Kind,
    /// Where in the request, fields of fields with a dot.
    pub field: &'static str,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As the field says: text, a number, bytes as hex; more than one with commas, or the flag again.
    Plain,
    /// A flag without a value.
    Switch,
    /// Text whose bytes are meant.
    Utf8,
    /// A PSBT: base64.
    Base64,
    /// A hash as it is shown, of which LND takes the bytes the other way round.
    Hash,
    /// TXID:INDEX, an outpoint.
    Outpoint,
    /// TXID:INDEX, a channel's.
    ChannelPoint,
    /// JSON; bytes in it as hex.
    Json,
    /// JSON with a route in it, alone or as other commands print it.
    Route,
    /// `90s`, `2m`, or seconds.
    Seconds,
    /// As seconds, for the one model of what payments teach, which it names.
    DecayTime,
    /// Satoshi, of which the field wants thousandths.
    SatAsMsat,
    /// Blocks' number, or `103x1x0`.
    ChannelId,
    /// The name of an enum's value in any case.
    Name,
    /// KEY@HOST:PORT, or the key alone.
    NodeAddress,
    /// KEY:KEY.
    NodePair,
    /// An address to which this is to be done.
    Updated(&'static str),
    /// A flag without a value that says this.
    Const(&'static str),
    /// A flag without a value: it asks for what is done anyway.
    Nothing,
    /// It asks for what is not served.
    NotServed(&'static str),
    /// A part of the channel's name ([`super::words::Given::join_channel_point`]).
    Joined,
}

const fn arg(name: &'static str, kind: Kind, field: &'static str) -> Arg {
    Arg { name, is_place: false, kind, field }
}

/// May stand without its flag.
const fn word(name: &'static str, kind: Kind, field: &'static str) -> Arg {
    Arg { name, is_place: true, kind, field }
}

const fn call(lncli: &'static str, call: &'static str, args: &'static [Arg]) -> Entry {
    Entry { lncli, call, args, joins: false, or: None, shape: None, asks: None }
}

const fn shaped(lncli: &'static str, call: &'static str, args: &'static [Arg], shape: Shape) -> Entry {
    Entry { lncli, call, args, joins: false, or: None, shape: Some(shape), asks: None }
}

use Kind::{
    Base64, ChannelId, ChannelPoint, Const, DecayTime, Hash, Joined, Json, Name, NodeAddress, NodePair, Nothing,
    Outpoint, Plain, Route, SatAsMsat, Seconds, Switch, Updated, Utf8,
};

const CONF_TARGET: Arg = arg("conf-target", Plain, "target_conf");
const SAT_PER_VBYTE: Arg = arg("sat-per-vbyte", Plain, "sat_per_vbyte");
const SAT_PER_BYTE: Arg = arg("sat-per-byte", Plain, "sat_per_vbyte");
const MIN_CONFS: Arg = arg("min-confs", Plain, "min_confs");
const STRATEGY: Arg = arg("coin-selection-strategy", Name, "coin_selection_strategy");
const OUTGOING: Arg = arg("outgoing-chan-id", ChannelId, "outgoing_chan_ids");
const SESSIONS: [Arg; 2] = [
    arg("include-sessions", Switch, "include_sessions"),
    arg("exclude-exhausted-sessions", Switch, "exclude_exhausted_sessions"),
];

pub(super) const CALLS: &[Entry] = &[
    call(
        "estimatefee",
        "lnrpc.Lightning/EstimateFee",
        &[word("send-json-string", Json, "AddrToAmount"), CONF_TARGET, STRATEGY, arg("utxo", Outpoint, "inputs")],
    ),
    call(
        "sendmany",
        "lnrpc.Lightning/SendMany",
        &[
            word("send-json-string", Json, "AddrToAmount"),
            CONF_TARGET,
            SAT_PER_BYTE,
            SAT_PER_VBYTE,
            MIN_CONFS,
            STRATEGY,
            arg("label", Plain, "label"),
        ],
    ),
    call(
        "batchopenchannel",
        "lnrpc.Lightning/BatchOpenChannel",
        &[
            word("channels-json", Json, "channels"),
            CONF_TARGET,
            SAT_PER_VBYTE,
            MIN_CONFS,
            arg("label", Plain, "label"),
            arg("coin-selection-strategy", ONE_WAY, ""),
        ],
    ),
    call("getdebuginfo", "lnrpc.Lightning/GetDebugInfo", &[arg("include-log", Switch, "include_log")]),
    call("getrecoveryinfo", "lnrpc.Lightning/GetRecoveryInfo", &[]),
    call(
        "sendtoroute",
        "routerrpc.Router/SendToRouteV2",
        &[
            word("payment-hash", Plain, "payment_hash"),
            arg("pay-hash", Plain, "payment_hash"),
            word("routes", Route, "route"),
            arg("r", Route, "route"),
            arg("skip-temp-err", Switch, "skip_temp_err"),
        ],
    ),
    call(
        "deletecanceledinvoice",
        "lnrpc.Lightning/DeleteCanceledInvoice",
        &[word("invoice-hash", Plain, "invoice_hash")],
    ),
    call(
        "describegraph",
        "lnrpc.Lightning/DescribeGraph",
        &[arg("include-unannounced", Switch, "include_unannounced"), PROOF],
    ),
    call("getnodemetrics", "lnrpc.Lightning/GetNodeMetrics", &[]),
    call(
        "getchaninfo",
        "lnrpc.Lightning/GetChanInfo",
        &[word("chan-id", ChannelId, "chan_id"), arg("chan-point", Plain, "chan_point"), PROOF],
    ),
    call(
        "getnodeinfo",
        "lnrpc.Lightning/GetNodeInfo",
        &[word("pub-key", Plain, "pub_key"), arg("include-channels", Switch, "include_channels"), PROOF],
    ),
    call(
        "queryroutes",
        "lnrpc.Lightning/QueryRoutes",
        &[
            word("dest", Plain, "pub_key"),
            word("amt", Plain, "amt"),
            arg("fee-limit", Plain, "fee_limit.fixed"),
            arg("fee-limit-percent", Plain, "fee_limit.percent"),
            arg("final-cltv-delta", Plain, "final_cltv_delta"),
            arg("use-mc", Switch, "use_mission_control"),
            OUTGOING,
            arg("ignore-pair", NodePair, "ignored_pairs"),
            arg("time-pref", Plain, "time_pref"),
            arg("cltv-limit", Plain, "cltv_limit"),
            arg("route-hints", Json, "route_hints"),
            arg("introduction-node", BLINDED, ""),
            arg("blinding-point", BLINDED, ""),
            arg("blinded-hops", BLINDED, ""),
            arg("blinded-base-fee", BLINDED, ""),
            arg("blinded-ppm-fee", BLINDED, ""),
            arg("blinded-cltv", BLINDED, ""),
        ],
    ),
    call("getnetworkinfo", "lnrpc.Lightning/GetNetworkInfo", &[]),
    call("debuglevel", "lnrpc.Lightning/DebugLevel", &[arg("show", Switch, "show"), arg("level", Plain, "level_spec")]),
    call("signmessage", "lnrpc.Lightning/SignMessage", &[word("msg", Utf8, "msg")]),
    call(
        "verifymessage",
        "lnrpc.Lightning/VerifyMessage",
        &[word("msg", Utf8, "msg"), word("sig", Plain, "signature")],
    ),
    shaped("version", "verrpc.Versioner/GetVersion", &[], shape::version),
    Entry {
        lncli: "deletepayments",
        call: "lnrpc.Lightning/DeletePayment",
        args: &[arg("payment-hash", Plain, "payment_hash"), arg("failed-htlcs-only", Switch, "failed_htlcs_only")],
        joins: false,
        or: Some(("all", &DELETE_FAILED_PAYMENTS)),
        shape: None,
        asks: None,
    },
    call(
        "sendcustom",
        "lnrpc.Lightning/SendCustomMessage",
        &[arg("peer", Plain, "peer"), arg("type", Plain, "type"), arg("data", Plain, "data")],
    ),
    call("subscribecustom", "lnrpc.Lightning/SubscribeCustomMessages", &[]),
    Entry {
        lncli: "deletefwdhistory",
        call: "routerrpc.Router/DeleteForwardingHistory",
        args: &[
            arg("age", Plain, "delete_before_duration"),
            arg("before", Plain, "delete_before_time"),
            arg("force", Nothing, ""),
            arg("f", Nothing, ""),
        ],
        joins: false,
        or: None,
        shape: None,
        asks: Some("what is deleted of the forwarding history cannot be had again"),
    },
    call("listaliases", "lnrpc.Lightning/ListAliases", &[]),
    call(
        "estimateroutefee",
        "routerrpc.Router/EstimateRouteFee",
        &[
            arg("dest", Plain, "dest"),
            arg("amt", Plain, "amt_sat"),
            arg("pay-req", Plain, "payment_request"),
            arg("timeout", Seconds, "timeout"),
            OUTGOING,
        ],
    ),
    Entry {
        lncli: IMPORTS_ONE,
        call: IMPORT,
        args: &[
            word("source-node", Plain, "pairs.node_from"),
            word("dest-node", Plain, "pairs.node_to"),
            word("unix-ts-seconds", Plain, "pairs.history.success_time"),
            word("amount-in-msat", Plain, "pairs.history.success_amt_msat"),
            arg("force", Switch, "force"),
        ],
        joins: false,
        or: Some(("failure", &IMPORT_FAILURE)),
        shape: None,
        asks: None,
    },
    call("querymc", "routerrpc.Router/QueryMissionControl", &[]),
    call(
        "queryprob",
        "routerrpc.Router/QueryProbability",
        &[word("from-node", Plain, "from_node"), word("to-node", Plain, "to_node"), word("amt", SatAsMsat, "amt_msat")],
    ),
    call("getmccfg", "routerrpc.Router/GetMissionControlConfig", &[]),
    call(
        "setmccfg",
        "routerrpc.Router/SetMissionControlConfig",
        &[
            arg("estimator", Name, "config.model"),
            arg("bimodaldecaytime", DecayTime, "config.bimodal.decay_time"),
            arg("bimodalscale", ONE_MODEL, ""),
            arg("bimodalweight", ONE_MODEL, ""),
            arg("apriorihalflife", ONE_MODEL, ""),
            arg("apriorihopprob", ONE_MODEL, ""),
            arg("aprioriweight", ONE_MODEL, ""),
            arg("aprioricapacityfraction", ONE_MODEL, ""),
            arg("pmtnr", ONE_MODEL, ""),
            arg("failrelax", ONE_MODEL, ""),
        ],
    ),
    call(
        "buildroute",
        "routerrpc.Router/BuildRoute",
        &[
            arg("amt", SatAsMsat, "amt_msat"),
            arg("final-cltv-delta", Plain, "final_cltv_delta"),
            arg("hops", Plain, "hop_pubkeys"),
            arg("outgoing-chan-id", ChannelId, "outgoing_chan_id"),
            arg("payment-addr", Plain, "payment_addr"),
        ],
    ),
    Entry {
        lncli: "updatechanstatus",
        call: "routerrpc.Router/UpdateChanStatus",
        args: &[
            word("chan-point", ChannelPoint, "chan_point"),
            arg("funding-txid", Joined, ""),
            arg("output-index", Joined, ""),
            word("action", Name, "action"),
        ],
        joins: true,
        or: None,
        shape: None,
        asks: None,
    },
    shaped(
        "wallet estimatefeerate",
        "walletrpc.WalletKit/EstimateFee",
        &[word("conf-target", Plain, "conf_target")],
        shape::fee_rate,
    ),
    shaped("wallet pendingsweeps", "walletrpc.WalletKit/PendingSweeps", &[], shape::sweeps),
    call(
        "wallet listsweeps",
        "walletrpc.WalletKit/ListSweeps",
        &[arg("verbose", Switch, "verbose"), arg("startheight", Plain, "start_height")],
    ),
    call(
        "wallet labeltx",
        "walletrpc.WalletKit/LabelTransaction",
        &[word("txid", Hash, "txid"), word("label", Plain, "label"), arg("overwrite", Switch, "overwrite")],
    ),
    shaped(
        "wallet publishtx",
        "walletrpc.WalletKit/PublishTransaction",
        &[word("tx-hex", Plain, "tx_hex"), arg("label", Plain, "label")],
        shape::published,
    ),
    call(
        "wallet submitpackage",
        "walletrpc.WalletKit/SubmitPackage",
        &[word("tx-hex", Plain, "raw_txs"), SAT_PER_VBYTE],
    ),
    call("wallet gettx", "walletrpc.WalletKit/GetTransaction", &[word("txid", Plain, "txid")]),
    call("wallet removetx", "walletrpc.WalletKit/RemoveTransaction", &[word("txid", Plain, "txid")]),
    call(
        "wallet releaseoutput",
        "walletrpc.WalletKit/ReleaseOutput",
        &[word("outpoint", Outpoint, "outpoint"), arg("lockid", Plain, "id")],
    ),
    call(
        "wallet leaseoutput",
        "walletrpc.WalletKit/LeaseOutput",
        &[
            word("outpoint", Outpoint, "outpoint"),
            arg("lockid", Plain, "id"),
            arg("expiry", Plain, "expiration_seconds"),
        ],
    ),
    shaped("wallet listleases", "walletrpc.WalletKit/ListLeases", &[], shape::leases),
    shaped(
        "wallet psbt fund",
        "walletrpc.WalletKit/FundPsbt",
        &[
            arg("template-psbt", Base64, "psbt"),
            arg("outputs", Json, "raw.outputs"),
            arg("inputs", Json, "raw.inputs"),
            CONF_TARGET,
            SAT_PER_VBYTE,
            arg("sat-per-kw", Plain, "sat_per_kw"),
            arg("account", Plain, "account"),
            arg("change-type", Name, "change_type"),
            MIN_CONFS,
            STRATEGY,
            arg("max-fee-ratio", Plain, "max_fee_ratio"),
        ],
        shape::funded,
    ),
    shaped(
        "wallet psbt fundtemplate",
        "walletrpc.WalletKit/FundPsbt",
        &[
            arg("template-psbt", Base64, "coin_select.psbt"),
            arg("outputs", TEMPLATE_ONLY, ""),
            arg("inputs", TEMPLATE_ONLY, ""),
            arg("change-output-index", Plain, "coin_select.existing_output_index"),
            CONF_TARGET,
            SAT_PER_VBYTE,
            arg("account", Plain, "account"),
            arg("change-type", Name, "change_type"),
            MIN_CONFS,
            STRATEGY,
        ],
        shape::funded,
    ),
    shaped(
        "wallet psbt finalize",
        "walletrpc.WalletKit/FinalizePsbt",
        &[word("funded-psbt", Base64, "funded_psbt"), arg("account", Plain, "account")],
        shape::finalized,
    ),
    shaped(
        "wallet psbt sign",
        "walletrpc.WalletKit/SignPsbt",
        &[word("funded-psbt", Base64, "funded_psbt")],
        shape::signed,
    ),
    call(
        "wallet accounts list",
        "walletrpc.WalletKit/ListAccounts",
        &[arg("name", Plain, "name"), arg("address-type", Name, "address_type")],
    ),
    call("wallet accounts create", "walletrpc.WalletKit/XCreateAccount", &[]),
    call("wallet accounts import", "walletrpc.WalletKit/ImportAccount", &[]),
    call("wallet accounts import-pubkey", "walletrpc.WalletKit/ImportPublicKey", &[]),
    call(
        "wallet requiredreserve",
        "walletrpc.WalletKit/RequiredReserve",
        &[arg("additional-channels", Plain, "additional_public_channels")],
    ),
    call(
        "wallet addresses list",
        "walletrpc.WalletKit/ListAddresses",
        &[arg("account-name", Plain, "account_name"), arg("show-custom-accounts", Switch, "show_custom_accounts")],
    ),
    call(
        "wallet addresses signmessage",
        "walletrpc.WalletKit/SignMessageWithAddr",
        &[word("address", Plain, "addr"), word("msg", Utf8, "msg")],
    ),
    call(
        "wallet addresses verifymessage",
        "walletrpc.WalletKit/VerifyMessageWithAddr",
        &[word("address", Plain, "addr"), word("sig", Plain, "signature"), word("msg", Utf8, "msg")],
    ),
    call("wtclient add", WTCLIENT_ADD, &[word("tower", NodeAddress, "pubkey")]),
    call("wtclient remove", "wtclientrpc.WatchtowerClient/RemoveTower", &[word("tower", NodeAddress, "pubkey")]),
    call("wtclient deactivate", "wtclientrpc.WatchtowerClient/DeactivateTower", &[word("pubkey", Plain, "pubkey")]),
    call("wtclient towers", "wtclientrpc.WatchtowerClient/ListTowers", &SESSIONS),
    call(
        "wtclient tower",
        "wtclientrpc.WatchtowerClient/GetTowerInfo",
        &[
            word("pubkey", Plain, "pubkey"),
            arg("include-sessions", Switch, "include_sessions"),
            arg("exclude-exhausted-sessions", Switch, "exclude_exhausted_sessions"),
        ],
    ),
    call("wtclient stats", "wtclientrpc.WatchtowerClient/Stats", &[]),
    call(
        "wtclient policy",
        "wtclientrpc.WatchtowerClient/Policy",
        &[
            arg("legacy", Nothing, ""),
            arg("anchor", Const("ANCHOR"), "policy_type"),
            arg("taproot", Const("TAPROOT"), "policy_type"),
        ],
    ),
    call(
        "wtclient session terminate",
        "wtclientrpc.WatchtowerClient/TerminateSession",
        &[word("id", Plain, "session_id")],
    ),
    call(
        "peers updatenodeannouncement",
        "peersrpc.Peers/UpdateNodeAnnouncement",
        &[
            arg("address-add", Updated("ADD"), "address_updates"),
            arg("address-remove", Updated("REMOVE"), "address_updates"),
            arg("alias", Plain, "alias"),
            arg("color", Plain, "color"),
            arg("feature-bit-add", OWN_FEATURES, ""),
            arg("feature-bit-remove", OWN_FEATURES, ""),
        ],
    ),
    shaped("chain getblock", "chainrpc.ChainKit/GetBlock", &[word("hash", Hash, "block_hash")], shape::block),
    shaped("chain getbestblock", "chainrpc.ChainKit/GetBestBlock", &[], shape::block_hash),
    shaped(
        "chain getblockhash",
        "chainrpc.ChainKit/GetBlockHash",
        &[word("height", Plain, "block_height")],
        shape::block_hash,
    ),
    call("chain getblockheader", "chainrpc.ChainKit/GetBlockHeader", &[word("hash", Hash, "block_hash")]),
    call("autopilot status", "autopilotrpc.Autopilot/Status", &[]),
    call("autopilot enable", "autopilotrpc.Autopilot/ModifyStatus", &[]),
    call("autopilot disable", "autopilotrpc.Autopilot/ModifyStatus", &[]),
    call("autopilot query", "autopilotrpc.Autopilot/QueryScores", &[]),
    call("neutrino status", "neutrinorpc.NeutrinoKit/Status", &[]),
    call("neutrino addpeer", "neutrinorpc.NeutrinoKit/AddPeer", &[]),
    call("neutrino disconnectpeer", "neutrinorpc.NeutrinoKit/DisconnectPeer", &[]),
    call("neutrino isbanned", "neutrinorpc.NeutrinoKit/IsBanned", &[]),
    call("neutrino getblockheader", "neutrinorpc.NeutrinoKit/GetBlockHeader", &[]),
    call("neutrino getcfilter", "neutrinorpc.NeutrinoKit/GetCFilter", &[]),
];

/// A batch is funded by the wallet as any channel is.
const ONE_WAY: Kind = Kind::NotServed("the wallet has one way to choose coins");
const TEMPLATE_ONLY: Kind =
    Kind::NotServed("give --template_psbt; `leyden wallet psbt fund` makes a PSBT of outputs and inputs");
const OWN_FEATURES: Kind = Kind::NotServed("the node tells the features that it has");
const ONE_MODEL: Kind =
    Kind::NotServed("what was learnt is weighed in one way; --bimodaldecaytime says how fast it fades");
const BLINDED: Kind = Kind::NotServed("routes with blinded hops are not served");

/// Gossip's signatures are not kept beside channels.
const PROOF: Arg = arg("include-auth-proof", Nothing, "");

const WTCLIENT_ADD: &str = "wtclientrpc.WatchtowerClient/AddTower";

/// The command of lncli's whose request is a list of the one thing that it is told.
pub(super) const IMPORTS_ONE: &str = "importmc";
const IMPORT: &str = "routerrpc.Router/XImportMissionControl";

static IMPORT_FAILURE: Entry = Entry {
    lncli: IMPORTS_ONE,
    call: IMPORT,
    args: &[
        word("source-node", Plain, "pairs.node_from"),
        word("dest-node", Plain, "pairs.node_to"),
        word("unix-ts-seconds", Plain, "pairs.history.fail_time"),
        word("amount-in-msat", Plain, "pairs.history.fail_amt_msat"),
        arg("force", Switch, "force"),
        arg("failure", Nothing, ""),
    ],
    joins: false,
    or: None,
    shape: None,
    asks: None,
};

static DELETE_FAILED_PAYMENTS: Entry = Entry {
    lncli: "deletepayments",
    call: DELETE_ALL,
    args: &[arg("all", Const("true"), "failed_payments_only"), arg("failed-htlcs-only", Switch, "failed_htlcs_only")],
    joins: false,
    or: Some(("include-non-failed", &DELETE_ALL_PAYMENTS)),
    shape: None,
    asks: None,
};

static DELETE_ALL_PAYMENTS: Entry = call(
    "deletepayments",
    DELETE_ALL,
    &[
        arg("all", Nothing, ""),
        arg("include-non-failed", Switch, "all_payments"),
        arg("failed-htlcs-only", Switch, "failed_htlcs_only"),
    ],
);

const DELETE_ALL: &str = "lnrpc.Lightning/DeleteAllPayments";

impl Entry {
    /// Whether a flag of this name takes a value; `None`: there is none.
    pub(super) fn takes_value(&self, name: &str) -> Option<bool> {
        match self.args.iter().find(|arg| arg.name == name) {
            Some(arg) => Some(!matches!(arg.kind, Switch | Const(_) | Nothing)),
            None => self.or.and_then(|(_, other)| other.takes_value(name)),
        }
    }

    /// What may be typed, for `--help`.
    pub(super) fn usage(&self) -> String {
        format!(
            "A command of lncli's. It prints what LND's call {} answers, as JSON.\n\nUsage: {}",
            self.call,
            self.usage_lines().join("\n       ")
        )
    }

    fn usage_lines(&self) -> Vec<String> {
        let shown = |arg: &Arg| match (arg.is_place, arg.kind) {
            (true, _) => format!("[{}]", arg.name.replace('-', "_").to_uppercase()),
            (false, Nothing) if arg.name.len() == 1 => format!("[-{}]", arg.name),
            (false, Switch | Const(_) | Nothing) => format!("[--{}]", arg.name),
            (false, _) => format!("[--{} …]", arg.name),
        };
        let args: Vec<String> = self.args.iter().map(shown).collect();
        let line = format!("leyden {} {}", self.lncli, args.join(" "));
        let others = self.or.map(|(_, other)| other.usage_lines()).unwrap_or_default();
        std::iter::once(line).chain(others).collect()
    }
}

/// Why a call of LND's is not served; `None`: it is.
pub(super) fn absent(call: &str) -> Option<&'static str> {
    let (service, method) = call.split_once('/')?;
    let rows = LND_CALLS.split("## ").find(|rows| rows.lines().next() == Some(service))?;
    let row = rows.lines().find(|row| row.trim_start_matches("| ").split(' ').next() == Some(method))?;
    let state = row.trim_end_matches([' ', '|']).rsplit("| ").next()?.trim();
    let why = state.strip_prefix("not yet: ").or_else(|| state.strip_prefix("no: "));
    why.filter(|_| state != "served")
}
