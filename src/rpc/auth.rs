//! Who may call what: every call needs a macaroon that allows it, but for the few that come before there is one.
//!
//! A layer before all services decides by the call's path alone, so a service cannot forget to ask. A path that is not
//! in the table is answered with UNIMPLEMENTED, whatever service may be mounted there.

use std::{
    collections::BTreeMap,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll},
};

use leyden_common::macaroon::Malformed;
use leyden_node::Clock;
use prost_reflect::MethodDescriptor;
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{Extensions, HeaderMap, Request, Response},
    metadata::MetadataMap,
    transport::server::TlsConnectInfo,
};
use tower::{Layer, Service};

use super::bodies::{AnswerBody, RequestBody};
use super::words;
use crate::{
    admission::CallerTrust,
    callers::{Caller, OpenCall},
    macaroon::{Call, MacaroonError, Permission, RootKey, Shown},
    request_room::{RequestLimit, RequestRoom},
};

/// The metadata key that carries the token in hex, as all of LND's clients send it.
pub(crate) const METADATA_KEY: &str = "macaroon";

/// How calls are judged.
#[derive(Clone)]
pub(crate) enum Authorizer {
    /// By macaroons made with this key.
    Macaroons(Arc<RootKey>),
    /// Everybody may do everything, in tests of the calls.
    #[cfg(test)]
    Open,
}

/// What a call needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing.
    Open,
    /// A macaroon that allows all of these.
    Needs(&'static [Permission]),
    /// There is no such call.
    Unknown,
}

const fn may(entity: &'static str, action: &'static str) -> Permission {
    Permission { entity, action }
}

const INFO_READ: &[Permission] = &[may("info", "read")];
const INFO_WRITE: &[Permission] = &[may("info", "write")];
/// Settings and log tell of everything.
const DEBUG_READ: &[Permission] =
    &[may("info", "read"), may("offchain", "read"), may("onchain", "read"), may("peers", "read")];
const ADDRESS_READ: &[Permission] = &[may("address", "read")];
const ADDRESS_WRITE: &[Permission] = &[may("address", "write")];
const MESSAGE_READ: &[Permission] = &[may("message", "read")];
const MESSAGE_WRITE: &[Permission] = &[may("message", "write")];
const ONCHAIN_READ: &[Permission] = &[may("onchain", "read")];
const ONCHAIN_WRITE: &[Permission] = &[may("onchain", "write")];
const OFFCHAIN_READ: &[Permission] = &[may("offchain", "read")];
const OFFCHAIN_WRITE: &[Permission] = &[may("offchain", "write")];
/// Spends both coins of the chain and the balance of channels.
const BOTH_WRITE: &[Permission] = &[may("onchain", "write"), may("offchain", "write")];
const PEERS_READ: &[Permission] = &[may("peers", "read")];
const PEERS_WRITE: &[Permission] = &[may("peers", "write")];
const INVOICES_READ: &[Permission] = &[may("invoices", "read")];
const INVOICES_WRITE: &[Permission] = &[may("invoices", "write")];
const MACAROON_GENERATE: &[Permission] = &[may("macaroon", "generate")];
const MACAROON_READ: &[Permission] = &[may("macaroon", "read")];
const MACAROON_WRITE: &[Permission] = &[may("macaroon", "write")];
const SIGNER_READ: &[Permission] = &[may("signer", "read")];
const SIGNER_GENERATE: &[Permission] = &[may("signer", "generate")];
/// What moves money between the chain and channels.
const CHANNELS_WRITE: &[Permission] = &[may("onchain", "write"), may("offchain", "write")];

/// What the call at `path` needs. LND's services need what LND asks for, so that its macaroons mean the same here.
pub(crate) fn access(path: &str) -> Access {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
        return Access::Unknown;
    };
    match service {
        "lnrpc.State" | "lnrpc.WalletUnlocker" | "grpc.health.v1.Health" => Access::Open,
        "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection" => Access::Open,
        "lnrpc.Lightning" => lightning(method),
        "routerrpc.Router" => match method {
            "SendPaymentV2" | "SendToRouteV2" | "ResetMissionControl" | "XImportMissionControl" => {
                Access::Needs(OFFCHAIN_WRITE)
            }
            "UpdateChanStatus" | "HtlcInterceptor" | "SetMissionControlConfig" | "DeleteForwardingHistory" => {
                Access::Needs(OFFCHAIN_WRITE)
            }
            "QueryMissionControl" | "QueryProbability" | "GetMissionControlConfig" => Access::Needs(OFFCHAIN_READ),
            "BuildRoute" | "EstimateRouteFee" => Access::Needs(OFFCHAIN_READ),
            "TrackPaymentV2" | "TrackPayments" | "SubscribeHtlcEvents" => Access::Needs(OFFCHAIN_READ),
            _ => Access::Unknown,
        },
        "invoicesrpc.Invoices" => match method {
            "AddHoldInvoice" | "SettleInvoice" | "CancelInvoice" => Access::Needs(INVOICES_WRITE),
            // Reading needs `write` here: LND has it so.
            "LookupInvoiceV2" => Access::Needs(INVOICES_WRITE),
            "SubscribeSingleInvoice" => Access::Needs(INVOICES_READ),
            _ => Access::Unknown,
        },
        "walletrpc.WalletKit" => match method {
            "ListUnspent" | "EstimateFee" | "GetTransaction" | "ListAccounts" | "RequiredReserve" | "ListLeases" => {
                Access::Needs(ONCHAIN_READ)
            }
            "ListAddresses" | "PendingSweeps" | "ListSweeps" => Access::Needs(ONCHAIN_READ),
            "FundPsbt" | "SignPsbt" | "FinalizePsbt" => Access::Needs(ONCHAIN_WRITE),
            "SignMessageWithAddr" | "VerifyMessageWithAddr" => Access::Needs(ONCHAIN_WRITE),
            "BumpForceCloseFee" | "SendOutputs" | "SubmitPackage" | "RemoveTransaction" => Access::Needs(ONCHAIN_WRITE),
            // Reading suffices, though DeriveNextKey counts: LND has it so.
            "DeriveKey" | "DeriveNextKey" => Access::Needs(ADDRESS_READ),
            "BumpFee" | "PublishTransaction" | "LabelTransaction" | "LeaseOutput" | "ReleaseOutput" => {
                Access::Needs(ONCHAIN_WRITE)
            }
            // Reading suffices: LND has it so.
            "NextAddr" => Access::Needs(ADDRESS_READ),
            _ => Access::Unknown,
        },
        "chainrpc.ChainKit" => match method {
            "GetBlock" | "GetBlockHeader" | "GetBestBlock" | "GetBlockHash" => Access::Needs(ONCHAIN_READ),
            _ => Access::Unknown,
        },
        "chainrpc.ChainNotifier" => match method {
            "RegisterConfirmationsNtfn" | "RegisterSpendNtfn" | "RegisterBlockEpochNtfn" => Access::Needs(ONCHAIN_READ),
            _ => Access::Unknown,
        },
        "peersrpc.Peers" => match method {
            "UpdateNodeAnnouncement" => Access::Needs(PEERS_WRITE),
            _ => Access::Unknown,
        },
        "signrpc.Signer" => match method {
            "VerifyMessage" | "MuSig2CombineKeys" | "MuSig2GetCombinedNonce" => Access::Needs(SIGNER_READ),
            "SignOutputRaw" | "ComputeInputScript" | "SignMessage" | "DeriveSharedKey" => {
                Access::Needs(SIGNER_GENERATE)
            }
            "MuSig2CreateSession"
            | "MuSig2RegisterNonces"
            | "MuSig2RegisterCombinedNonce"
            | "MuSig2Sign"
            | "MuSig2CombineSig"
            | "MuSig2Cleanup" => Access::Needs(SIGNER_GENERATE),
            _ => Access::Unknown,
        },
        "verrpc.Versioner" => match method {
            "GetVersion" => Access::Needs(INFO_READ),
            _ => Access::Unknown,
        },
        "watchtowerrpc.Watchtower" => match method {
            "GetInfo" => Access::Needs(INFO_READ),
            _ => Access::Unknown,
        },
        "leyden.Tower" => match method {
            "GetTowerStats" => Access::Needs(OFFCHAIN_READ),
            _ => Access::Unknown,
        },
        "leyden.Channels" => match method {
            "GetTree" | "ListClosing" | "ListClosed" | "ListWarnings" => Access::Needs(OFFCHAIN_READ),
            _ => Access::Unknown,
        },
        "leyden.Browse" => match method {
            "ListChannels" | "ListPayments" => Access::Needs(OFFCHAIN_READ),
            "ListInvoices" => Access::Needs(INVOICES_READ),
            "ListCoins" => Access::Needs(ONCHAIN_READ),
            "GetMap" => Access::Needs(INFO_READ),
            _ => Access::Unknown,
        },
        "wtclientrpc.WatchtowerClient" => match method {
            "AddTower" | "RemoveTower" | "DeactivateTower" => Access::Needs(OFFCHAIN_WRITE),
            "ListTowers" | "GetTowerInfo" | "Stats" | "Policy" => Access::Needs(OFFCHAIN_READ),
            _ => Access::Unknown,
        },
        "leyden.Towers" => match method {
            // An audit may convict a tower, which then counts no more.
            "AddTower" | "Audit" => Access::Needs(OFFCHAIN_WRITE),
            "ListTowers" | "ListCoverage" => Access::Needs(OFFCHAIN_READ),
            _ => Access::Unknown,
        },
        "leyden.Swap" => match method {
            "List" | "Subscribe" => Access::Needs(ONCHAIN_READ),
            // They read what the caller brings.
            "Audit" | "ExtractSecret" => Access::Needs(INFO_READ),
            "Quote" | "Accept" | "Initiate" | "Participate" | "Redeem" | "Refund" | "Cancel" | "Reclaim" => {
                Access::Needs(ONCHAIN_WRITE)
            }
            "QuoteSubmarine" | "AcceptSubmarine" | "InitiateSubmarine" => Access::Needs(BOTH_WRITE),
            _ => Access::Unknown,
        },
        "leyden.SwapChain" => match method {
            "GetStatus" | "GetBlock" | "GetSpender" => Access::Needs(INFO_READ),
            "GetWaiting" => Access::Needs(ONCHAIN_READ),
            "NewScript" | "Fund" | "Release" | "Recall" | "Broadcast" => Access::Needs(ONCHAIN_WRITE),
            _ => Access::Unknown,
        },
        "leyden.Crossing" => match method {
            "List" | "ListRates" => Access::Needs(OFFCHAIN_READ),
            "SetRate" => Access::Needs(OFFCHAIN_WRITE),
            // What the owner lets others ask for, each by a macaroon for the call alone.
            "Cross" => Access::Needs(OFFCHAIN_WRITE),
            "Look" => Access::Needs(OFFCHAIN_READ),
            _ => Access::Unknown,
        },
        "leyden.CrossingNode" => match method {
            "GetStatus" => Access::Needs(INFO_READ),
            "Hold" | "Settle" | "GiveUp" => Access::Needs(INVOICES_WRITE),
            "LookAtHeld" => Access::Needs(INVOICES_READ),
            "Pay" => Access::Needs(OFFCHAIN_WRITE),
            "LookAtPayment" => Access::Needs(OFFCHAIN_READ),
            _ => Access::Unknown,
        },
        "leyden.Session" => match method {
            "Login" => Access::Open,
            "GetPermissions" | "Logout" => Access::Needs(&[]),
            _ => Access::Unknown,
        },
        "leyden.Limits" => match method {
            "ListLimits" => Access::Needs(INFO_READ),
            _ => Access::Unknown,
        },
        "leyden.Wallet" => match method {
            "GetRecovery" => Access::Needs(INFO_READ),
            "Rescan" => Access::Needs(ONCHAIN_WRITE),
            _ => Access::Unknown,
        },
        "leyden.Chain" => match method {
            "GetTip" | "GetBlock" | "GetTransaction" | "ProveInclusion" | "VerifyInclusion" | "GetMempool"
            | "GetMiningInfo" | "GetUtxoSetHash" => Access::Needs(INFO_READ),
            "SubmitTransaction" | "Generate" | "StartMining" | "StopMining" => Access::Needs(ONCHAIN_WRITE),
            "ConnectPeer" => Access::Needs(PEERS_WRITE),
            "ListPeers" => Access::Needs(PEERS_READ),
            _ => Access::Unknown,
        },
        _ => Access::Unknown,
    }
}

fn lightning(method: &str) -> Access {
    Access::Needs(match method {
        "GetInfo" | "GetRecoveryInfo" => INFO_READ,
        "SignMessage" => MESSAGE_WRITE,
        "VerifyMessage" => MESSAGE_READ,
        "NewAddress" => ADDRESS_WRITE,
        "WalletBalance" | "GetTransactions" | "ListUnspent" => ONCHAIN_READ,
        "SubscribeTransactions" | "EstimateFee" => ONCHAIN_READ,
        "SendCoins" | "SendMany" => ONCHAIN_WRITE,
        "SendCustomMessage" => OFFCHAIN_WRITE,
        "SubscribeCustomMessages" | "ListAliases" | "LookupHtlcResolution" => OFFCHAIN_READ,
        "ConnectPeer" | "DisconnectPeer" => PEERS_WRITE,
        "ListPeers" | "SubscribePeerEvents" => PEERS_READ,
        "OpenChannel" | "OpenChannelSync" | "CloseChannel" | "AbandonChannel" => CHANNELS_WRITE,
        "BatchOpenChannel" | "FundingStateStep" | "ChannelAcceptor" => CHANNELS_WRITE,
        "ChannelBalance" | "ListChannels" | "PendingChannels" | "ClosedChannels" => OFFCHAIN_READ,
        "ExportChannelBackup" | "ExportAllChannelBackups" => OFFCHAIN_READ,
        "SubscribeChannelBackups" | "VerifyChanBackup" => OFFCHAIN_READ,
        "RestoreChannelBackups" => OFFCHAIN_WRITE,
        "SubscribeChannelEvents" | "DecodePayReq" | "ListPayments" => OFFCHAIN_READ,
        "FeeReport" | "ForwardingHistory" => OFFCHAIN_READ,
        "UpdateChannelPolicy" | "DeletePayment" | "DeleteAllPayments" => OFFCHAIN_WRITE,
        "DescribeGraph"
        | "GetChanInfo"
        | "GetNodeInfo"
        | "GetNetworkInfo"
        | "QueryRoutes"
        | "SubscribeChannelGraph" => INFO_READ,
        "AddInvoice" | "DeleteCanceledInvoice" => INVOICES_WRITE,
        "LookupInvoice" | "ListInvoices" | "SubscribeInvoices" => INVOICES_READ,
        "ListPermissions" => INFO_READ,
        "BakeMacaroon" => MACAROON_GENERATE,
        "ListMacaroonIDs" | "CheckMacaroonPermissions" => MACAROON_READ,
        "DeleteMacaroonID" => MACAROON_WRITE,
        "StopDaemon" | "DebugLevel" => INFO_WRITE,
        "GetDebugInfo" => DEBUG_READ,
        _ => return Access::Unknown,
    })
}

/// What there is in place of a call of LND's that would mean nothing here.
fn instead(path: &str) -> Option<&'static str> {
    match path {
        "/wtclientrpc.WatchtowerClient/TerminateSession" => {
            Some("a tower has one session, which DeactivateTower ends and AddTower begins again")
        }
        _ => None,
    }
}

/// LND's words, and what there is.
fn unknown(path: &str) -> String {
    let next = instead(path).unwrap_or("server reflection lists what it answers");
    let (service, method) = path.strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or((path, ""));
    let what = match leyden_proto::pool().get_service_by_name(service) {
        Some(_) => format!("unknown method {method} for service {service}"),
        None => format!("unknown service {service}"),
    };
    format!("{what}: leydend does not answer {path}; {next}")
}

impl Authorizer {
    /// What the call shows of its sender, if it may be made.
    pub(super) fn judge(&self, path: &str, headers: &HeaderMap, from: Option<IpAddr>) -> Result<Admitted, Status> {
        let needed = match access(path) {
            Access::Open => return Ok(Admitted { trust: CallerTrust::Caller, shown: None }),
            Access::Unknown => {
                return Err(words::status(Code::Unimplemented, unknown(path)));
            }
            Access::Needs(needed) => needed,
        };
        let key = match self {
            Self::Macaroons(key) => key,
            #[cfg(test)]
            Self::Open => return Ok(Admitted { trust: CallerTrust::Known, shown: None }),
        };
        let token = token(headers)?;
        let now = Clock::System.now();
        let shown = key.check(&token, &Call { path, needed, now, from }).map_err(refused)?;
        Ok(Admitted { trust: CallerTrust::Known, shown: Some(shown) })
    }
}

/// A call that may be made.
#[derive(Debug)]
pub(super) struct Admitted {
    pub trust: CallerTrust,
    /// The token, if it needs one.
    shown: Option<Shown>,
}

/// What is streamed in a call: its requests, its answers.
#[derive(Clone, Copy, Debug, Default)]
struct Streams {
    requests: bool,
    answers: bool,
}

impl Streams {
    fn of(path: &str) -> Self {
        static ALL: LazyLock<BTreeMap<String, Streams>> = LazyLock::new(|| {
            let streams = |method: &MethodDescriptor| Streams {
                requests: method.is_client_streaming(),
                answers: method.is_server_streaming(),
            };
            methods().map(|(path, method)| (path, streams(&method))).collect()
        });
        // Those of others' packages: reflection, and health's watch.
        let of_others = Self { requests: path.starts_with("/grpc.reflection."), answers: true };
        ALL.get(path).copied().unwrap_or(of_others)
    }
}

/// Every call by its path.
fn methods() -> impl Iterator<Item = (String, MethodDescriptor)> {
    let methods = leyden_proto::pool().services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.map(|method| (format!("/{}/{}", method.parent_service().full_name(), method.name()), method))
}

/// What the request of a call may take, once it is known who calls.
pub(super) fn limit(path: &str, admitted: &Admitted) -> RequestLimit {
    RequestLimit::of(path, admitted.trust, Streams::of(path).requests)
}

/// Where a call comes from, as the listener saw it.
fn caller(extensions: &Extensions) -> Option<&Caller> {
    extensions.get::<Caller>().or_else(|| extensions.get::<TlsConnectInfo<Caller>>().map(TlsConnectInfo::get_ref))
}

/// The address that a call comes from.
pub(super) fn address(extensions: &Extensions) -> Option<IpAddr> {
    caller(extensions).map(|caller| caller.address().ip())
}

/// The connection may stay, if there is room for one more of which so much is known.
pub(super) fn welcome(caller: Option<&Caller>, admitted: &Admitted) -> Result<(), Status> {
    let holder = admitted.shown.as_ref().map(|shown| shown.holder);
    if caller.is_none_or(|caller| caller.rise_as(admitted.trust, holder)) {
        return Ok(());
    }
    Err(Status::resource_exhausted("too many connections are open: close some that are not used, then try again"))
}

/// Counts a call without a token, of which one connection may have few at a time.
fn count_open(caller: Option<&Caller>, admitted: &Admitted) -> Result<Option<OpenCall>, Status> {
    let Some(caller) = caller.filter(|_| admitted.trust != CallerTrust::Known) else { return Ok(None) };
    let refused = || Status::resource_exhausted("too many calls without a macaroon are open on this connection");
    caller.open_call().map(Some).ok_or_else(refused)
}

/// What every call needs, by its path, for those that need anything.
pub(crate) fn permissions() -> &'static BTreeMap<String, &'static [Permission]> {
    static ALL: LazyLock<BTreeMap<String, &[Permission]>> = LazyLock::new(|| {
        let needs = |(path, _): (String, _)| match access(&path) {
            Access::Needs(needed) => Some((path, needed)),
            Access::Open | Access::Unknown => None,
        };
        methods().filter_map(needs).collect()
    });
    &ALL
}

/// The token that came with a call that was let through; nothing if it needed none.
pub(super) fn shown(metadata: &MetadataMap) -> Vec<u8> {
    metadata.get(METADATA_KEY).and_then(|value| hex::decode(value.as_bytes()).ok()).unwrap_or_default()
}

fn token(headers: &HeaderMap) -> Result<Vec<u8>, Status> {
    let value = headers.get(METADATA_KEY).ok_or_else(|| refused(MacaroonError::Missing))?;
    hex::decode(value.as_bytes()).map_err(|_| refused(Malformed("it is not hex").into()))
}

pub(super) fn refused(error: MacaroonError) -> Status {
    match error {
        MacaroonError::NotAllowed { .. } => words::status(Code::PermissionDenied, error.to_string()),
        MacaroonError::Missing
        | MacaroonError::Malformed(_)
        | MacaroonError::WrongSignature
        | MacaroonError::UnknownCaveat(_)
        | MacaroonError::UnknownKey
        | MacaroonError::OtherAddress { .. }
        | MacaroonError::Expired => Status::unauthenticated(error.to_string()),
    }
}

/// Puts an [`Authorizer`] before all services.
#[derive(Clone)]
pub(crate) struct AuthLayer {
    authorizer: Authorizer,
    room: RequestRoom,
}

impl AuthLayer {
    pub(crate) fn new(authorizer: Authorizer, room: RequestRoom) -> Self {
        Self { authorizer, room }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthService { inner, authorizer: self.authorizer.clone(), room: self.room.clone() }
    }
}

/// A service that is reached only by calls that are allowed.
#[derive(Clone)]
pub(crate) struct AuthService<S> {
    inner: S,
    authorizer: Authorizer,
    room: RequestRoom,
}

impl<S> Service<Request<Body>> for AuthService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let caller = caller(request.extensions());
        let path = request.uri().path();
        let admitted = self.authorizer.judge(path, request.headers(), caller.map(|one| one.address().ip()));
        let counted = admitted.and_then(|admitted| {
            welcome(caller, &admitted)?;
            let open = count_open(caller, &admitted)?;
            Ok((admitted, open))
        });
        let (admitted, open) = match counted {
            Ok(counted) => counted,
            Err(status) => return Box::pin(async move { Ok(status.into_http()) }),
        };
        let held = Arc::new(Mutex::new(self.room.begin(limit(path, &admitted))));
        let term = admitted.shown.map(|shown| shown.term).filter(|_| Streams::of(path).answers);
        let request = request.map(|body| Body::new(RequestBody::new(body, Arc::clone(&held))));
        let answered = self.inner.call(request);
        Box::pin(async move {
            let answer = answered.await?;
            // So long the request may be held by whoever answers it.
            drop(held);
            Ok(answer.map(|body| Body::new(AnswerBody::new(body, term, open))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::macaroon::{ADMIN, INVOICE, READONLY};

    #[test]
    fn every_declared_call_has_a_rule() {
        let pool = leyden_proto::pool();
        let mut calls = 0;
        for service in pool.services() {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                assert_ne!(access(&path), Access::Unknown, "{path}");
                calls += 1;
            }
        }
        assert!(calls > 40, "only {calls} calls are declared");
    }

    #[test]
    fn what_is_not_declared_is_not_answered() {
        for path in ["", "/", "lnrpc.Lightning/GetInfo", "/lnrpc.Lightning/Steal", "/evil.Service/Call"] {
            assert_eq!(access(path), Access::Unknown, "{path}");
        }
    }

    #[test]
    fn the_admin_macaroon_suffices_for_every_call() {
        let pool = leyden_proto::pool();
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            if let Access::Needs(needed) = access(&path) {
                assert!(needed.iter().all(|permission| ADMIN.contains(permission)), "{path}");
            }
        }
    }

    #[test]
    fn a_macaroon_opens_what_it_allows_and_nothing_else() {
        let key = Arc::new(RootKey::new([7; 32]));
        let authorizer = Authorizer::Macaroons(key.clone());
        let headers = |permissions| {
            let token = hex::encode(key.bake(permissions, [1; 16]).to_bytes());
            HeaderMap::from_iter([(METADATA_KEY.parse().unwrap(), token.parse().unwrap())])
        };
        let code =
            |path, headers: &HeaderMap| authorizer.judge(path, headers, None).map(drop).map_err(|status| status.code());

        use tonic::Code::{PermissionDenied, Unauthenticated, Unimplemented};
        assert_eq!(code("/lnrpc.Lightning/SendCoins", &headers(ADMIN)), Ok(()));
        assert_eq!(code("/lnrpc.Lightning/SendCoins", &headers(READONLY)), Err(PermissionDenied));
        assert_eq!(code("/lnrpc.Lightning/GetInfo", &headers(READONLY)), Ok(()));
        assert_eq!(code("/lnrpc.Lightning/AddInvoice", &headers(INVOICE)), Ok(()));
        assert_eq!(code("/lnrpc.Lightning/ListPeers", &headers(INVOICE)), Err(PermissionDenied));
        assert_eq!(code("/invoicesrpc.Invoices/LookupInvoiceV2", &headers(READONLY)), Err(PermissionDenied));
        assert_eq!(code("/routerrpc.Router/ResetMissionControl", &headers(READONLY)), Err(PermissionDenied));
        assert_eq!(code("/lnrpc.Lightning/GetInfo", &HeaderMap::new()), Err(Unauthenticated));
        assert_eq!(code("/lnrpc.State/GetState", &HeaderMap::new()), Ok(()));
        assert_eq!(code("/lnrpc.Lightning/Nonsense", &headers(ADMIN)), Err(Unimplemented));
        let path = "/wtclientrpc.WatchtowerClient/TerminateSession";
        let refused = authorizer.judge(path, &headers(ADMIN), None).err().unwrap();
        assert_eq!(refused.code(), Unimplemented);
        assert_eq!(refused.message(), "unknown method TerminateSession for service wtclientrpc.WatchtowerClient");
        let said = words::with_advice(&refused);
        assert!(said.contains(path) && said.contains("DeactivateTower"), "{said}");

        let garbage = HeaderMap::from_iter([(METADATA_KEY.parse().unwrap(), "zz".parse().unwrap())]);
        assert_eq!(code("/lnrpc.Lightning/GetInfo", &garbage), Err(Unauthenticated));
        let other = RootKey::new([8; 32]).bake(ADMIN, [1; 16]).to_bytes();
        let forged = HeaderMap::from_iter([(METADATA_KEY.parse().unwrap(), hex::encode(other).parse().unwrap())]);
        assert_eq!(code("/lnrpc.Lightning/GetInfo", &forged), Err(Unauthenticated));
        assert!(Authorizer::Open.judge("/lnrpc.Lightning/GetInfo", &HeaderMap::new(), None).is_ok());
    }
}
