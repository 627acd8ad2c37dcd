//! No field of a request is passed over: each is set in turn, and its effect looked for.

use std::collections::{BTreeMap, BTreeSet};

use leyden_channels::swap::Leg;
use leyden_proto::{chainrpc, fields::IGNORED, invoicesrpc, signrpc, walletrpc, wtclientrpc};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, MethodDescriptor, Value,
};
use tonic::{
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::*;
use crate::rpc::fake::{node_id, routes, swaps};

/// Messages as bytes.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buf, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = bytes::Buf::remaining(buf);
        Ok(Some(bytes::Buf::copy_to_bytes(buf, length).to_vec()))
    }
}

/// All that a call leads to, as far as anybody can see.
#[derive(PartialEq)]
struct Effect {
    answers: Result<Vec<DynamicMessage>, (Code, String)>,
    asked: String,
}

async fn call(open: &Server, method: &MethodDescriptor, request: &DynamicMessage) -> Effect {
    // The unlocker's calls change what the daemon is.
    if method.parent_service().name() == "WalletUnlocker" {
        let server = Server::start(WalletState::Locked).await;
        let effect = effect(&server, method, request).await;
        server.stopping.cancel();
        return effect;
    }
    open.fake.script().asked.clear();
    effect(open, method, request).await
}

/// Enough of everything for filters to have something to leave out.
fn fill(server: &Server) {
    let mut script = server.fake.script();
    let preimage = PaymentPreimage([9; 32]);
    script.payments = vec![payment(PaymentState::InFlight), payment(PaymentState::Succeeded { preimage })];
    script.invoices = vec![invoice(1, InvoiceState::Open)];
}

async fn effect(server: &Server, method: &MethodDescriptor, request: &DynamicMessage) -> Effect {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let mut client = Grpc::new(server.channel.clone());
    client.ready().await.unwrap();
    let request = Request::new(request.encode_to_vec());
    let answers = client.server_streaming(request, path.parse().unwrap(), Raw).await;
    let answers = match answers {
        Err(status) => Err((status.code(), status.message().to_owned())),
        Ok(answers) => {
            let mut answers = answers.into_inner();
            let mut read = Vec::new();
            // A single answer comes; a stream may have nothing more to say.
            let limit = Duration::from_millis(if method.is_server_streaming() { 300 } else { 60_000 });
            loop {
                match timeout(limit, answers.message()).await {
                    Ok(Ok(Some(answer))) => {
                        read.push(DynamicMessage::decode(method.output(), answer.as_slice()).unwrap());
                    }
                    Ok(Ok(None)) | Err(_) => break Ok(read),
                    Ok(Err(status)) => break Err((status.code(), status.message().to_owned())),
                }
            }
        }
    };
    Effect { answers, asked: server.asked() }
}

fn psbt() -> Vec<u8> {
    let mut transaction = swaps::transaction();
    for input in &mut transaction.input {
        input.script_sig = bitcoin::ScriptBuf::new();
        input.witness = bitcoin::Witness::new();
    }
    bitcoin::Psbt::from_unsigned_tx(transaction).unwrap().serialize()
}

fn psbt_shim() -> lnrpc::FundingShim {
    let shim = lnrpc::PsbtShim { pending_chan_id: vec![7; 32], ..Default::default() };
    lnrpc::FundingShim { shim: Some(lnrpc::funding_shim::Shim::PsbtShim(shim)) }
}

/// Requests that are taken, so that what is added to them comes to be looked at. Others begin from nothing.
fn bases(method: &MethodDescriptor) -> Vec<DynamicMessage> {
    let node = || node_id().serialize().to_vec();
    let point = || lnrpc::ChannelPoint {
        output_index: 1,
        funding_txid: Some(lnrpc::channel_point::FundingTxid::FundingTxidBytes(vec![7; 32])),
    };
    let route = || crate::rpc::convert::routes::route(&routes::route());
    let encoded: Vec<Vec<u8>> = match method.full_name() {
        "routerrpc.Router.SendPaymentV2" => vec![
            routerrpc::SendPaymentRequest { payment_request: "lnbcrt1".to_owned(), ..Default::default() }
                .encode_to_vec(),
            routerrpc::SendPaymentRequest { dest: node(), amt: 5, payment_hash: vec![7; 32], ..Default::default() }
                .encode_to_vec(),
        ],
        "routerrpc.Router.QueryProbability" => {
            let request = routerrpc::QueryProbabilityRequest { from_node: node(), to_node: node(), amt_msat: 5 };
            vec![request.encode_to_vec()]
        }
        "routerrpc.Router.SetMissionControlConfig" => {
            use routerrpc::mission_control_config::{EstimatorConfig, ProbabilityModel};
            let bimodal = routerrpc::BimodalParameters { decay_time: 100, ..Default::default() };
            let config = routerrpc::MissionControlConfig {
                model: ProbabilityModel::Bimodal.into(),
                estimator_config: Some(EstimatorConfig::Bimodal(bimodal)),
                ..Default::default()
            };
            vec![routerrpc::SetMissionControlConfigRequest { config: Some(config) }.encode_to_vec()]
        }
        "routerrpc.Router.XImportMissionControl" => {
            let history = routerrpc::PairData {
                fail_time: 5,
                fail_amt_sat: 400,
                fail_amt_msat: 400_500,
                success_time: 5,
                success_amt_sat: 2,
                success_amt_msat: 2_000,
            };
            let other = secp256k1::SecretKey::from_slice(&[9; 32]).unwrap().public_key(secp256k1::SECP256K1);
            let pair = routerrpc::PairHistory {
                node_from: node(),
                node_to: other.serialize().to_vec(),
                history: Some(history),
            };
            vec![routerrpc::XImportMissionControlRequest { pairs: vec![pair], force: false }.encode_to_vec()]
        }
        "chainrpc.ChainNotifier.RegisterConfirmationsNtfn" => {
            let request =
                chainrpc::ConfRequest { script: vec![0x51], num_confs: 2, height_hint: 2, ..Default::default() };
            vec![request.encode_to_vec()]
        }
        "chainrpc.ChainNotifier.RegisterSpendNtfn" => {
            let outpoint = Some(chainrpc::Outpoint { hash: vec![7; 32], index: 2 });
            vec![chainrpc::SpendRequest { outpoint, script: vec![0x51], height_hint: 2 }.encode_to_vec()]
        }
        "lnrpc.Lightning.SendCustomMessage" => {
            let request = lnrpc::SendCustomMessageRequest { peer: node(), r#type: 32_768, data: Vec::new() };
            vec![request.encode_to_vec()]
        }
        "lnrpc.WalletUnlocker.ChangePassword" => vec![
            lnrpc::ChangePasswordRequest {
                current_password: PASSWORD.to_vec(),
                new_password: b"another one".to_vec(),
                ..Default::default()
            }
            .encode_to_vec(),
        ],
        "routerrpc.Router.TrackPaymentV2" => {
            vec![routerrpc::TrackPaymentRequest { payment_hash: vec![7; 32], ..Default::default() }.encode_to_vec()]
        }
        "routerrpc.Router.EstimateRouteFee" => vec![
            routerrpc::RouteFeeRequest { dest: node(), amt_sat: 5, ..Default::default() }.encode_to_vec(),
            routerrpc::RouteFeeRequest { payment_request: "lnbcrt1".to_owned(), ..Default::default() }.encode_to_vec(),
        ],
        "routerrpc.Router.BuildRoute" => {
            vec![routerrpc::BuildRouteRequest { hop_pubkeys: vec![node()], ..Default::default() }.encode_to_vec()]
        }
        "routerrpc.Router.SendToRouteV2" => {
            let mut route = route();
            route.hops[1].mpp_record = Some(lnrpc::MppRecord { payment_addr: vec![5; 32], total_amt_msat: 10_000 });
            vec![
                routerrpc::SendToRouteRequest { payment_hash: vec![7; 32], route: Some(route), ..Default::default() }
                    .encode_to_vec(),
            ]
        }
        "lnrpc.Lightning.QueryRoutes" => {
            vec![lnrpc::QueryRoutesRequest { pub_key: NODE.to_owned(), amt: 5, ..Default::default() }.encode_to_vec()]
        }
        "lnrpc.Lightning.OpenChannel" | "lnrpc.Lightning.OpenChannelSync" => vec![
            lnrpc::OpenChannelRequest { node_pubkey: node(), local_funding_amount: 50_000, ..Default::default() }
                .encode_to_vec(),
            lnrpc::OpenChannelRequest {
                node_pubkey: node(),
                local_funding_amount: 50_000,
                funding_shim: Some(psbt_shim()),
                ..Default::default()
            }
            .encode_to_vec(),
        ],
        "lnrpc.Lightning.BatchOpenChannel" => {
            let channel = lnrpc::BatchOpenChannel {
                node_pubkey: node(),
                local_funding_amount: 50_000,
                pending_chan_id: vec![7; 32],
                ..Default::default()
            };
            vec![lnrpc::BatchOpenChannelRequest { channels: vec![channel], ..Default::default() }.encode_to_vec()]
        }
        "lnrpc.Lightning.ChannelAcceptor" => [false, true]
            .map(|accept| lnrpc::ChannelAcceptResponse { accept, pending_chan_id: vec![7; 32], ..Default::default() })
            .map(|answer| answer.encode_to_vec())
            .to_vec(),
        "routerrpc.Router.HtlcInterceptor" => {
            use routerrpc::ResolveHoldForwardAction as Action;
            let key = routerrpc::CircuitKey { chan_id: 77, htlc_id: 3 };
            let answer = |action: Action, preimage: Vec<u8>| routerrpc::ForwardHtlcInterceptResponse {
                incoming_circuit_key: Some(key),
                action: action.into(),
                preimage,
                ..Default::default()
            };
            [answer(Action::Settle, vec![9; 32]), answer(Action::Fail, Vec::new()), answer(Action::Resume, Vec::new())]
                .map(|answer| answer.encode_to_vec())
                .to_vec()
        }
        "lnrpc.Lightning.FundingStateStep" => {
            use lnrpc::funding_transition_msg::Trigger;
            let pending_chan_id = vec![7; 32];
            let (psbt, id) = (psbt, || pending_chan_id.clone());
            let triggers = [
                Trigger::ShimRegister(psbt_shim()),
                Trigger::ShimCancel(lnrpc::FundingShimCancel { pending_chan_id: id() }),
                Trigger::PsbtVerify(lnrpc::FundingPsbtVerify {
                    funded_psbt: psbt(),
                    pending_chan_id: id(),
                    skip_finalize: false,
                }),
                Trigger::PsbtFinalize(lnrpc::FundingPsbtFinalize {
                    signed_psbt: psbt(),
                    pending_chan_id: id(),
                    ..Default::default()
                }),
            ];
            triggers.map(|trigger| lnrpc::FundingTransitionMsg { trigger: Some(trigger) }.encode_to_vec()).to_vec()
        }
        "lnrpc.Lightning.CloseChannel" => {
            vec![lnrpc::CloseChannelRequest { channel_point: Some(point()), ..Default::default() }.encode_to_vec()]
        }
        "lnrpc.Lightning.SendCoins" => vec![
            lnrpc::SendCoinsRequest { addr: ADDRESS.to_owned(), amount: 5_000, ..Default::default() }.encode_to_vec(),
        ],
        "lnrpc.Lightning.ConnectPeer" => {
            let addr = lnrpc::LightningAddress { pubkey: NODE.to_owned(), host: "127.0.0.1:9735".to_owned() };
            vec![lnrpc::ConnectPeerRequest { addr: Some(addr), ..Default::default() }.encode_to_vec()]
        }
        "lnrpc.Lightning.UpdateChannelPolicy" => {
            let scope = lnrpc::policy_update_request::Scope::Global(true);
            let request = lnrpc::PolicyUpdateRequest { time_lock_delta: 40, scope: Some(scope), ..Default::default() };
            let with_minimum = lnrpc::PolicyUpdateRequest { min_htlc_msat_specified: true, ..request.clone() };
            vec![request.encode_to_vec(), with_minimum.encode_to_vec()]
        }
        "lnrpc.Lightning.GetChanInfo" => {
            vec![lnrpc::ChanInfoRequest { chan_id: 1, ..Default::default() }.encode_to_vec()]
        }
        "lnrpc.Lightning.GetNodeInfo" => {
            vec![lnrpc::NodeInfoRequest { pub_key: NODE.to_owned(), ..Default::default() }.encode_to_vec()]
        }
        "lnrpc.Lightning.BakeMacaroon" => {
            let permission = lnrpc::MacaroonPermission { entity: "info".to_owned(), action: "read".to_owned() };
            vec![lnrpc::BakeMacaroonRequest { permissions: vec![permission], ..Default::default() }.encode_to_vec()]
        }
        "lnrpc.WalletUnlocker.InitWallet" => vec![
            lnrpc::InitWalletRequest {
                wallet_password: PASSWORD.to_vec(),
                cipher_seed_mnemonic: vec!["abandon".to_owned(); 24],
                ..Default::default()
            }
            .encode_to_vec(),
        ],
        "leyden.Session.Login" => {
            vec![leyden::LoginRequest { wallet_password: PASSWORD.to_vec() }.encode_to_vec()]
        }
        "lnrpc.WalletUnlocker.UnlockWallet" => {
            vec![
                lnrpc::UnlockWalletRequest { wallet_password: PASSWORD.to_vec(), ..Default::default() }.encode_to_vec(),
            ]
        }
        "invoicesrpc.Invoices.AddHoldInvoice" => {
            vec![invoicesrpc::AddHoldInvoiceRequest { hash: vec![7; 32], ..Default::default() }.encode_to_vec()]
        }
        "wtclientrpc.WatchtowerClient.AddTower" => {
            let address = "127.0.0.1:9911".to_owned();
            vec![wtclientrpc::AddTowerRequest { pubkey: node(), address }.encode_to_vec()]
        }
        "wtclientrpc.WatchtowerClient.RemoveTower" => {
            vec![wtclientrpc::RemoveTowerRequest { pubkey: node(), address: String::new() }.encode_to_vec()]
        }
        "wtclientrpc.WatchtowerClient.ListTowers" => [false, true]
            .map(|include_sessions| wtclientrpc::ListTowersRequest { include_sessions, ..Default::default() })
            .map(|request| request.encode_to_vec())
            .to_vec(),
        "wtclientrpc.WatchtowerClient.GetTowerInfo" => [false, true]
            .map(|include_sessions| wtclientrpc::GetTowerInfoRequest {
                pubkey: node(),
                include_sessions,
                ..Default::default()
            })
            .map(|request| request.encode_to_vec())
            .to_vec(),
        "leyden.Swap.Quote" => {
            vec![leyden::SwapQuoteRequest { give: 5, get: 6, ..Default::default() }.encode_to_vec()]
        }
        "leyden.Swap.Accept" => {
            let offer = swaps::swap().offer().encode();
            vec![leyden::SwapAcceptRequest { offer, give: 5, get: 6, ..Default::default() }.encode_to_vec()]
        }
        "leyden.Swap.QuoteSubmarine" => [false, true]
            .map(|out| leyden::SubmarineQuoteRequest { out, coins: 5, payment: 6, ..Default::default() })
            .into_iter()
            .chain([leyden::SubmarineQuoteRequest { coins: 5, coins_on: "south".to_owned(), ..Default::default() }])
            .map(|request| request.encode_to_vec())
            .collect(),
        "leyden.Swap.AcceptSubmarine" => {
            let offer = swaps::submarine().offer().encode();
            vec![leyden::SubmarineAcceptRequest { offer, coins: 5, payment: 6, ..Default::default() }.encode_to_vec()]
        }
        "leyden.Swap.Reclaim" => {
            let contract = swaps::swap().offer().contract(Leg::Outer, &swaps::acceptance()).witness_script().unwrap();
            let lock = format!("{}:0", "07".repeat(32));
            let request = leyden::SwapReclaimRequest { contract: contract.into_bytes(), lock, ..Default::default() };
            vec![request.encode_to_vec()]
        }
        "leyden.Swap.Redeem" => {
            vec![leyden::SwapRedeemRequest { id: vec![7; 32], ..Default::default() }.encode_to_vec()]
        }
        "leyden.Swap.Audit" => {
            let contract = swaps::swap().offer().contract(Leg::Outer, &swaps::acceptance()).witness_script().unwrap();
            let transaction = bitcoin::consensus::serialize(&swaps::transaction());
            vec![leyden::SwapAuditRequest { contract: contract.into_bytes(), transaction }.encode_to_vec()]
        }
        "leyden.Swap.ExtractSecret" => {
            let transaction = bitcoin::consensus::serialize(&swaps::transaction());
            vec![leyden::ExtractSecretRequest { transaction, hash: vec![7; 32] }.encode_to_vec()]
        }
        "leyden.SwapChain.GetSpender" => {
            vec![leyden::SwapSpenderRequest { txid: vec![7; 32], output_index: 0 }.encode_to_vec()]
        }
        "leyden.SwapChain.Recall" => {
            let lock = bitcoin::consensus::serialize(&swaps::transaction());
            vec![leyden::SwapRecallRequest { lock, ..Default::default() }.encode_to_vec()]
        }
        "leyden.SwapChain.Fund" => {
            let script = swaps::swap().offer().contract(Leg::Outer, &swaps::acceptance()).script_pubkey().unwrap();
            vec![leyden::SwapFundRequest { script: script.into_bytes(), amount: 5, max_fee: 1 }.encode_to_vec()]
        }
        "leyden.SwapChain.Release" | "leyden.SwapChain.Broadcast" => {
            let transaction = bitcoin::consensus::serialize(&swaps::transaction());
            vec![leyden::SwapTransaction { transaction }.encode_to_vec()]
        }
        "leyden.Crossing.SetRate" => {
            let (incoming, outgoing) = ("north".to_owned(), "south".to_owned());
            let rate = leyden::CrossingRate { incoming, outgoing, take: 2, give: 3, ..Default::default() };
            vec![leyden::SetCrossingRateRequest { rate: Some(rate), off: false }.encode_to_vec()]
        }
        "leyden.CrossingNode.Hold" => {
            let (payment_hash, book) = (vec![7; 32], vec![3; 32]);
            vec![
                leyden::HoldCrossingRequest { payment_hash, amount_msat: 5, book, ..Default::default() }
                    .encode_to_vec(),
            ]
        }
        "leyden.CrossingNode.LookAtHeld" => {
            vec![leyden::LookAtHeldRequest { payment_hash: vec![7; 32], book: vec![3; 32] }.encode_to_vec()]
        }
        "leyden.CrossingNode.Settle" => {
            vec![leyden::SettleCrossingRequest { preimage: vec![7; 32], book: vec![3; 32] }.encode_to_vec()]
        }
        "leyden.CrossingNode.GiveUp" => {
            vec![leyden::GiveUpCrossingRequest { payment_hash: vec![7; 32], book: vec![3; 32] }.encode_to_vec()]
        }
        "leyden.CrossingNode.Pay" => {
            vec![leyden::PayCrossingRequest { amount_msat: 5, most_parts: 3, ..Default::default() }.encode_to_vec()]
        }
        "leyden.Towers.AddTower" => {
            let (pubkey, address) = (NODE.to_owned(), "127.0.0.1:9911".to_owned());
            vec![leyden::AddTowerRequest { pubkey, address, own: false }.encode_to_vec()]
        }
        "leyden.Towers.Audit" => {
            vec![leyden::AuditRequest { pubkey: NODE.to_owned(), ..Default::default() }.encode_to_vec()]
        }
        "lnrpc.Lightning.SendMany" | "lnrpc.Lightning.EstimateFee" => {
            let amounts = std::collections::HashMap::from([(ADDRESS.to_owned(), 5_000)]);
            vec![lnrpc::SendManyRequest { addr_to_amount: amounts, ..Default::default() }.encode_to_vec()]
        }
        "lnrpc.Lightning.SignMessage" | "lnrpc.Lightning.VerifyMessage" => {
            vec![lnrpc::SignMessageRequest { msg: vec![7], ..Default::default() }.encode_to_vec()]
        }
        "lnrpc.Lightning.DeletePayment" => {
            vec![lnrpc::DeletePaymentRequest { payment_hash: vec![7; 32], ..Default::default() }.encode_to_vec()]
        }
        "lnrpc.Lightning.CheckMacaroonPermissions" => {
            let full_method = "/lnrpc.Lightning/GetInfo".to_owned();
            vec![lnrpc::CheckMacPermRequest { full_method, ..Default::default() }.encode_to_vec()]
        }
        "routerrpc.Router.UpdateChanStatus" => {
            vec![routerrpc::UpdateChanStatusRequest { chan_point: Some(point()), ..Default::default() }.encode_to_vec()]
        }
        "walletrpc.WalletKit.EstimateFee" => {
            vec![walletrpc::EstimateFeeRequest { conf_target: 6 }.encode_to_vec()]
        }
        "walletrpc.WalletKit.LabelTransaction" => {
            let label = "tea".to_owned();
            let request = walletrpc::LabelTransactionRequest { txid: vec![7; 32], label, overwrite: false };
            vec![request.encode_to_vec()]
        }
        "walletrpc.WalletKit.PublishTransaction" => {
            let tx_hex = bitcoin::consensus::serialize(&swaps::transaction());
            vec![walletrpc::Transaction { tx_hex, label: String::new() }.encode_to_vec()]
        }
        "walletrpc.WalletKit.LeaseOutput" | "walletrpc.WalletKit.ReleaseOutput" => {
            let outpoint = lnrpc::OutPoint { txid_bytes: vec![7; 32], output_index: 1, ..Default::default() };
            let request =
                walletrpc::LeaseOutputRequest { id: vec![7; 32], outpoint: Some(outpoint), ..Default::default() };
            vec![request.encode_to_vec()]
        }
        "walletrpc.WalletKit.BumpFee" => {
            let outpoint = lnrpc::OutPoint { txid_bytes: vec![7; 32], output_index: 1, ..Default::default() };
            vec![walletrpc::BumpFeeRequest { outpoint: Some(outpoint), ..Default::default() }.encode_to_vec()]
        }
        "walletrpc.WalletKit.FundPsbt" => {
            use walletrpc::{
                fund_psbt_request::{Fees, Template},
                psbt_coin_select::ChangeOutput,
            };
            let outputs = std::collections::HashMap::from([(ADDRESS.to_owned(), 5_000)]);
            let raw = walletrpc::TxTemplate { outputs, ..Default::default() };
            let change_output = Some(ChangeOutput::Add(true));
            let select = walletrpc::PsbtCoinSelect { psbt: psbt(), change_output };
            [Template::Raw(raw), Template::CoinSelect(select)]
                .map(|template| walletrpc::FundPsbtRequest {
                    template: Some(template),
                    fees: Some(Fees::SatPerVbyte(3)),
                    ..Default::default()
                })
                .map(|request| request.encode_to_vec())
                .to_vec()
        }
        "walletrpc.WalletKit.SignPsbt" | "walletrpc.WalletKit.FinalizePsbt" => {
            vec![walletrpc::FinalizePsbtRequest { funded_psbt: psbt(), ..Default::default() }.encode_to_vec()]
        }
        "walletrpc.WalletKit.SignMessageWithAddr" => {
            vec![walletrpc::SignMessageWithAddrRequest { msg: vec![7], addr: ADDRESS.to_owned() }.encode_to_vec()]
        }
        "walletrpc.WalletKit.VerifyMessageWithAddr" => {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            use bitcoin::secp256k1::{Message as Digest, SECP256K1, SecretKey};
            let key = SecretKey::from_slice(&[7; 32]).unwrap();
            // Of any message some key can be recovered.
            let (number, signature) =
                SECP256K1.sign_ecdsa_recoverable(&Digest::from_digest([1; 32]), &key).serialize_compact();
            let header = 31 + u8::try_from(number.to_i32()).unwrap();
            let signature = STANDARD.encode([&[header], signature.as_slice()].concat());
            let addr = ADDRESS.to_owned();
            vec![walletrpc::VerifyMessageWithAddrRequest { msg: vec![7], signature, addr }.encode_to_vec()]
        }
        "walletrpc.WalletKit.BumpForceCloseFee" => {
            let txid = lnrpc::channel_point::FundingTxid::FundingTxidStr(funding().txid.to_string());
            let chan_point = Some(lnrpc::ChannelPoint { output_index: 1, funding_txid: Some(txid) });
            vec![walletrpc::BumpForceCloseFeeRequest { chan_point, ..Default::default() }.encode_to_vec()]
        }
        "walletrpc.WalletKit.SendOutputs" => {
            let outputs = vec![signrpc::TxOut { value: 5_000, pk_script: vec![0x51] }];
            vec![walletrpc::SendOutputsRequest { sat_per_kw: 500, outputs, ..Default::default() }.encode_to_vec()]
        }
        "walletrpc.WalletKit.SubmitPackage" => {
            let raw_txs = vec![bitcoin::consensus::serialize(&swaps::transaction())];
            vec![walletrpc::SubmitPackageRequest { raw_txs, ..Default::default() }.encode_to_vec()]
        }
        "signrpc.Signer.SignOutputRaw" | "signrpc.Signer.ComputeInputScript" => {
            let at = signrpc::KeyLocator { key_family: 99, key_index: 0 };
            let key_desc = signrpc::KeyDescriptor { key_loc: Some(at), ..Default::default() };
            let descriptor = |key_desc, pk_script: Vec<u8>, sign_method: signrpc::SignMethod| signrpc::SignDescriptor {
                key_desc,
                output: Some(signrpc::TxOut { value: 900, pk_script }),
                witness_script: vec![0x51],
                sighash: 1,
                sign_method: sign_method.into(),
                ..Default::default()
            };
            let taproot = [&[0x51, 0x20][..], &[2; 32]].concat();
            let mut key_spend =
                descriptor(Some(key_desc.clone()), taproot.clone(), signrpc::SignMethod::TaprootKeySpend);
            key_spend.tap_tweak = vec![3; 32];
            let with_key = [descriptor(Some(key_desc), vec![0x52], signrpc::SignMethod::WitnessV0), key_spend];
            let without = [descriptor(None, vec![0x52], signrpc::SignMethod::WitnessV0)];
            let is_raw = method.name() == "SignOutputRaw";
            let descriptors = if is_raw { with_key.to_vec() } else { without.to_vec() };
            let raw_tx_bytes = bitcoin::consensus::serialize(&swaps::transaction());
            let request = |one: signrpc::SignDescriptor| signrpc::SignReq {
                raw_tx_bytes: raw_tx_bytes.clone(),
                sign_descs: vec![one],
                prev_outputs: Vec::new(),
            };
            descriptors.into_iter().map(|one| request(one).encode_to_vec()).collect()
        }
        "signrpc.Signer.SignMessage" => {
            let request = signrpc::SignMessageReq {
                msg: vec![7],
                key_loc: Some(signrpc::KeyLocator { key_family: 99, key_index: 0 }),
                ..Default::default()
            };
            let schnorr = signrpc::SignMessageReq { schnorr_sig: true, ..request.clone() };
            vec![request.encode_to_vec(), schnorr.encode_to_vec()]
        }
        "signrpc.Signer.VerifyMessage" => {
            use bitcoin::{
                hashes::{Hash as _, sha256},
                secp256k1::{Message as Digest, SECP256K1, SecretKey},
            };
            let key = SecretKey::from_slice(&[7; 32]).unwrap();
            let digest = Digest::from_digest(sha256::Hash::hash(&[7]).to_byte_array());
            let request = signrpc::VerifyMessageReq {
                msg: vec![7],
                signature: SECP256K1.sign_ecdsa(&digest, &key).serialize_der().to_vec(),
                pubkey: key.public_key(SECP256K1).serialize().to_vec(),
                ..Default::default()
            };
            vec![request.encode_to_vec()]
        }
        "signrpc.Signer.DeriveSharedKey" => {
            let request = signrpc::SharedKeyRequest { ephemeral_pubkey: node(), ..Default::default() };
            let key_desc = Some(signrpc::KeyDescriptor {
                key_loc: Some(signrpc::KeyLocator { key_family: 9, key_index: 0 }),
                ..Default::default()
            });
            vec![request.encode_to_vec(), signrpc::SharedKeyRequest { key_desc, ..request }.encode_to_vec()]
        }
        "signrpc.Signer.MuSig2CombineKeys" => {
            let request = signrpc::MuSig2CombineKeysRequest {
                all_signer_pubkeys: vec![node(), node()],
                version: signrpc::MuSig2Version::Musig2VersionV100rc2.into(),
                ..Default::default()
            };
            vec![request.encode_to_vec()]
        }
        "signrpc.Signer.MuSig2CreateSession" => {
            let request = signrpc::MuSig2SessionRequest {
                key_loc: Some(signrpc::KeyLocator { key_family: 99, key_index: 0 }),
                all_signer_pubkeys: vec![node(), node()],
                version: signrpc::MuSig2Version::Musig2VersionV100rc2.into(),
                ..Default::default()
            };
            vec![request.encode_to_vec()]
        }
        "signrpc.Signer.MuSig2RegisterNonces" => {
            let request = signrpc::MuSig2RegisterNoncesRequest {
                session_id: vec![7; 32],
                other_signer_public_nonces: vec![vec![2; 66]],
            };
            vec![request.encode_to_vec()]
        }
        "signrpc.Signer.MuSig2RegisterCombinedNonce" => {
            let request = signrpc::MuSig2RegisterCombinedNonceRequest {
                session_id: vec![7; 32],
                combined_public_nonce: vec![2; 66],
            };
            vec![request.encode_to_vec()]
        }
        "signrpc.Signer.MuSig2Sign" => {
            let request =
                signrpc::MuSig2SignRequest { session_id: vec![7; 32], message_digest: vec![7; 32], cleanup: false };
            vec![request.encode_to_vec()]
        }
        "signrpc.Signer.MuSig2CombineSig" => {
            let request = signrpc::MuSig2CombineSigRequest {
                session_id: vec![7; 32],
                other_partial_signatures: vec![vec![7; 32]],
            };
            vec![request.encode_to_vec()]
        }
        _ => vec![Vec::new()],
    };
    encoded.iter().map(|bytes| DynamicMessage::decode(method.input(), bytes.as_slice()).unwrap()).collect()
}

/// Values that some check or other lets through.
fn values(kind: &Kind) -> Vec<Value> {
    let hex = "07".repeat(32);
    match kind {
        Kind::Bool => vec![Value::Bool(true)],
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => [1, 500, -1].map(Value::I32).to_vec(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => [1, 2_000, -1].map(Value::I64).to_vec(),
        Kind::Uint32 | Kind::Fixed32 => [1, 500, 70_000].map(Value::U32).to_vec(),
        Kind::Uint64 | Kind::Fixed64 => [1, 500, u64::MAX].map(Value::U64).to_vec(),
        Kind::Float => vec![Value::F32(0.5)],
        Kind::Double => vec![Value::F64(0.5), Value::F64(-5.0)],
        Kind::String => {
            let texts = ["x", NODE, ADDRESS, hex.as_str(), "127.0.0.1:9736", "lnbcrt2"];
            texts.map(|text| Value::String(text.to_owned())).to_vec()
        }
        Kind::Bytes => {
            let node = node_id().serialize().to_vec();
            [vec![1], vec![8; 32], node].map(|bytes| Value::Bytes(bytes.into())).to_vec()
        }
        Kind::Enum(values) => values.values().map(|value| Value::EnumNumber(value.number())).collect(),
        Kind::Message(message) => vec![Value::Message(DynamicMessage::new(message.clone()))],
    }
}

/// The values that a field may be set to; each with the name of the field that it changes, which may lie within.
fn variants_of(field: &FieldDescriptor, present: Option<&Value>, depth: usize) -> Vec<(String, Value)> {
    let name = field.full_name().to_owned();
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { return Vec::new() };
        let key = match entry.map_entry_key_field().kind() {
            Kind::String => MapKey::String("65537".to_owned()),
            Kind::Uint32 => MapKey::U32(65_537),
            _ => MapKey::U64(65_537),
        };
        let mut maps = Vec::new();
        for value in values(&entry.map_entry_value_field().kind()) {
            maps.push((name.clone(), Value::Map([(key.clone(), value)].into_iter().collect())));
        }
        return maps;
    }
    let single = |value: Value| if field.is_list() { Value::List(vec![value]) } else { value };
    let mut found: Vec<(String, Value)> =
        values(&field.kind()).into_iter().map(|value| (name.clone(), single(value))).collect();
    if let Kind::Message(message) = field.kind()
        && depth > 0
    {
        // Of a list, its last element is changed: routes take records there.
        let (before, inner) = match present {
            Some(Value::Message(inner)) => (Vec::new(), inner.clone()),
            Some(Value::List(values)) => match values.split_last() {
                Some((Value::Message(inner), before)) => (before.to_vec(), inner.clone()),
                _ => (Vec::new(), DynamicMessage::new(message.clone())),
            },
            _ => (Vec::new(), DynamicMessage::new(message)),
        };
        for (name, inner) in variants(&inner, depth - 1) {
            let inner = Value::Message(inner);
            let value =
                if field.is_list() { Value::List(before.iter().cloned().chain([inner]).collect()) } else { inner };
            found.push((name, value));
        }
    }
    found
}

/// The message with one field set to something else, by the name of the field.
fn variants(message: &DynamicMessage, depth: usize) -> Vec<(String, DynamicMessage)> {
    let descriptor: MessageDescriptor = prost_reflect::ReflectMessage::descriptor(message);
    let mut found = Vec::new();
    for field in descriptor.fields() {
        let present = message.has_field(&field).then(|| message.get_field(&field).into_owned());
        for (name, value) in variants_of(&field, present.as_ref(), depth) {
            let mut variant = message.clone();
            variant.set_field(&field, value);
            found.push((name, variant));
        }
    }
    found
}

const LIST: &str = "it is about a list that the stand-in has empty";
const WHOLE: &str = "the service looks at it, but what the request lacks beside it is told first, or in the same words";
const PARTS: &str = "empty it says nothing; the fields in it are tried";

/// Fields that are served, or refused, where this test cannot see it.
const NOT_SHOWN: &[(&str, &str)] = &[
    ("lnrpc.ClosedChannelsRequest.abandoned", LIST),
    ("lnrpc.ClosedChannelsRequest.breach", LIST),
    ("lnrpc.ClosedChannelsRequest.cooperative", LIST),
    ("lnrpc.ClosedChannelsRequest.funding_canceled", LIST),
    ("lnrpc.ClosedChannelsRequest.local_force", LIST),
    ("lnrpc.ClosedChannelsRequest.remote_force", LIST),
    ("lnrpc.GetTransactionsRequest.end_height", LIST),
    ("lnrpc.GetTransactionsRequest.index_offset", LIST),
    ("lnrpc.GetTransactionsRequest.max_transactions", LIST),
    ("lnrpc.ListChannelsRequest.active_only", LIST),
    ("lnrpc.ListChannelsRequest.inactive_only", LIST),
    ("lnrpc.ListChannelsRequest.peer_alias_lookup", LIST),
    ("lnrpc.ListChannelsRequest.private_only", LIST),
    ("lnrpc.ListChannelsRequest.public_only", LIST),
    ("lnrpc.ListPeersRequest.latest_error", LIST),
    ("lnrpc.PendingChannelsRequest.include_raw_tx", LIST),
    ("lnrpc.ListPaymentsRequest.count_total_payments", LIST),
    ("leyden.BrowseChannelsRequest.offset", LIST),
    ("leyden.BrowseChannelsRequest.search", LIST),
    ("leyden.BrowseChannelsRequest.which", LIST),
    ("leyden.ListClosedRequest.newest", LIST),
    ("leyden.GetMempoolRequest.include_levels", LIST),
    ("leyden.GetMempoolRequest.include_transactions", LIST),
    ("leyden.GetBlockRequest.include_raw", LIST),
    ("leyden.GenerateRequest.address", WHOLE),
    ("leyden.SubmitTransactionRequest.raw_tx", WHOLE),
    ("leyden.VerifyInclusionRequest.proof", WHOLE),
    ("lnrpc.AbandonChannelRequest.channel_point", WHOLE),
    ("lnrpc.AbandonChannelRequest.i_know_what_i_am_doing", WHOLE),
    ("lnrpc.AbandonChannelRequest.pending_funding_shim_only", WHOLE),
    ("lnrpc.BakeMacaroonRequest.allow_external_permissions", WHOLE),
    ("invoicesrpc.LookupInvoiceMsg.payment_addr", WHOLE),
    ("invoicesrpc.LookupInvoiceMsg.set_id", WHOLE),
    ("walletrpc.ListSweepsRequest.start_height", LIST),
    ("lnrpc.GetTransactionsRequest.start_height", LIST),
    ("lnrpc.ExportChannelBackupRequest.chan_point", PARTS),
    ("lnrpc.RestoreChanBackupRequest.chan_backups", PARTS),
    ("lnrpc.QueryRoutesRequest.fee_limit", PARTS),
    ("lnrpc.PolicyUpdateRequest.inbound_fee", PARTS),
    ("lnrpc.Hop.amt_to_forward", "the amount in millisatoshi beside it counts, as with LND"),
    ("lnrpc.PolicyUpdateRequest.global", "the request says so already"),
    ("lnrpc.InitWalletRequest.stateless_init", "the stand-in does not print it"),
    ("lnrpc.UnlockWalletRequest.stateless_init", "the stand-in does not print it"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_every_request_has_an_effect_or_is_refused_or_is_known_to_be_harmless() {
    let pool = DescriptorPool::decode(leyden_proto::DESCRIPTORS).unwrap();
    let server = Server::start(WalletState::ServerActive).await;
    fill(&server);
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        for base in bases(&method) {
            let usual = call(&server, &method, &base).await;
            let again = call(&server, &method, &base).await;
            let same = usual == again;
            assert!(same, "{} does not answer the same twice", method.full_name());
            for (name, variant) in variants(&base, 3) {
                let has_effect = seen.entry(name.clone()).or_default();
                if !*has_effect {
                    // Twice: an answer that came too late for us is no effect.
                    *has_effect = call(&server, &method, &variant).await != usual
                        && call(&server, &method, &variant).await != usual;
                }
            }
        }
    }
    assert!(seen.len() > 150, "only {} fields were tried", seen.len());
    let without: BTreeSet<&str> = seen.iter().filter(|(_, effect)| !**effect).map(|(name, _)| name.as_str()).collect();
    let ignored: BTreeSet<&str> = IGNORED.iter().map(|(name, _)| *name).collect();
    let not_shown: BTreeSet<&str> = NOT_SHOWN.iter().map(|(name, _)| *name).collect();
    let tried: BTreeSet<&str> = seen.keys().map(String::as_str).collect();
    assert!(not_shown.is_subset(&tried), "no fields of a request: {:#?}", not_shown.difference(&tried));
    let passed_over: Vec<_> =
        without.iter().filter(|name| !ignored.contains(**name) && !not_shown.contains(**name)).collect();
    assert!(passed_over.is_empty(), "passed over: {passed_over:#?}");
    let served: Vec<_> = ignored.difference(&without).collect();
    assert!(served.is_empty(), "have an effect, or are no fields of a request: {served:#?}");
}

#[tokio::test]
async fn what_this_node_does_not_know_is_refused_by_name() {
    let server = Server::start(WalletState::ServerActive).await;
    let pool = DescriptorPool::decode(leyden_proto::DESCRIPTORS).unwrap();
    let service = pool.get_service_by_name("routerrpc.Router").unwrap();
    let method = service.methods().find(|method| method.name() == "SendPaymentV2").unwrap();
    let mut bytes =
        routerrpc::SendPaymentRequest { payment_request: "lnbcrt1".to_owned(), ..Default::default() }.encode_to_vec();
    prost::encoding::bytes::encode(25, &vec![9], &mut bytes);
    let request = DynamicMessage::decode(method.input(), bytes.as_slice()).unwrap();
    let effect = effect(&server, &method, &request).await;
    let words = "first_hop_custom_records: it is not served; leave it unset".to_owned();
    assert_eq!(effect.answers, Err((Code::InvalidArgument, words)));
    assert_eq!(effect.asked, "", "nobody was asked");
}
