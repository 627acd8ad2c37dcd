//! PSBTs, keys that are lent, claims as LND tells them.

use bitcoin::{Psbt, Transaction, TxIn, TxOut};
use leyden_proto::{
    signrpc::{self, signer_client::SignerClient},
    walletrpc::{self, wallet_kit_client::WalletKitClient},
};

use super::*;
use crate::rpc::fake::{node_id, swaps};

fn kit(server: &Server) -> WalletKitClient<Channel> {
    WalletKitClient::new(server.channel.clone())
}

fn signer(server: &Server) -> SignerClient<Channel> {
    SignerClient::new(server.channel.clone())
}

fn raw(outputs: u64) -> walletrpc::FundPsbtRequest {
    use walletrpc::fund_psbt_request::{Fees, Template};
    let outputs = (0..outputs).map(|_| (ADDRESS.to_owned(), 50_000)).collect();
    walletrpc::FundPsbtRequest {
        template: Some(Template::Raw(walletrpc::TxTemplate { outputs, ..Default::default() })),
        fees: Some(Fees::SatPerVbyte(3)),
        ..Default::default()
    }
}

fn unsigned() -> Psbt {
    let mut transaction: Transaction = swaps::transaction();
    transaction.input = vec![TxIn::default()];
    Psbt::from_unsigned_tx(transaction).unwrap()
}

#[tokio::test]
async fn a_psbt_is_funded_in_each_of_lnds_ways_and_what_is_wrong_is_told_in_its_words() {
    use walletrpc::{
        PsbtCoinSelect,
        fund_psbt_request::{Fees, Template},
        psbt_coin_select::ChangeOutput,
    };
    let server = Server::start(WalletState::ServerActive).await;
    let mut kit = kit(&server);
    let funded = kit.fund_psbt(raw(1)).await.unwrap().into_inner();
    assert_eq!((funded.change_output_index, funded.locked_utxos.len()), (1, 1));
    let psbt = Psbt::deserialize(&funded.funded_psbt).unwrap();
    assert_eq!(psbt.unsigned_tx.output[0].value.to_sat(), 50_000);
    assert!(server.asked().contains("lock_id: [237, 225, 154, 146"), "LND's own: {}", server.asked());
    assert!(server.asked().contains("600s") && server.asked().contains("Whole"), "{}", server.asked());

    let template = unsigned().serialize();
    let whole = walletrpc::FundPsbtRequest { template: Some(Template::Psbt(template.clone())), ..raw(1) };
    kit.fund_psbt(whole.clone()).await.unwrap();
    let select = |change_output| walletrpc::FundPsbtRequest {
        template: Some(Template::CoinSelect(PsbtCoinSelect { psbt: template.clone(), change_output })),
        ..raw(1)
    };
    kit.fund_psbt(select(Some(ChangeOutput::Add(true)))).await.unwrap();
    assert!(server.asked().contains("Added { change: None }") && server.asked().contains("Some(0.2)"));
    kit.fund_psbt(select(Some(ChangeOutput::ExistingOutputIndex(0)))).await.unwrap();
    assert!(server.asked().contains("Added { change: Some(0) }"), "{}", server.asked());

    let invalid = Code::InvalidArgument;
    refused(
        kit.fund_psbt(select(Some(ChangeOutput::ExistingOutputIndex(9)))).await,
        invalid,
        "change output index out of range: 9",
    );
    refused(kit.fund_psbt(select(None)).await, invalid, "unknown change output type");
    let none = walletrpc::FundPsbtRequest { template: None, ..raw(1) };
    refused(
        kit.fund_psbt(none).await,
        invalid,
        "transaction template missing, need to specify either PSBT or raw TX template",
    );
    let no_fee = walletrpc::FundPsbtRequest { fees: None, ..raw(1) };
    let words = "fee definition missing, need to specify either target_conf, sat_per_vbyte or sat_per_kw";
    refused(kit.fund_psbt(no_fee).await, invalid, words);
    let broken = walletrpc::FundPsbtRequest { template: Some(Template::Psbt(vec![1])), ..raw(1) };
    refused(kit.fund_psbt(broken).await, invalid, "could not parse PSBT: ");
    let short = walletrpc::FundPsbtRequest { custom_lock_id: vec![1], ..raw(1) };
    refused(kit.fund_psbt(short).await, invalid, "custom lock ID must be exactly 32 bytes");
    let long = walletrpc::FundPsbtRequest { lock_expiration_seconds: u64::MAX, ..raw(1) };
    refused(kit.fund_psbt(long).await, invalid, "lock_expiration_seconds");
    let much = walletrpc::FundPsbtRequest { fees: Some(Fees::SatPerKw(25_000_001)), ..raw(1) };
    refused(kit.fund_psbt(much).await, invalid, "sat_per_kw");
    let other = walletrpc::FundPsbtRequest { account: "savings".to_owned(), ..raw(1) };
    refused(kit.fund_psbt(other).await, invalid, "account");
    refused(kit.fund_psbt(raw(0)).await, invalid, "outputs: 0 addresses");

    let request = walletrpc::SignPsbtRequest { funded_psbt: template.clone() };
    let signed = kit.sign_psbt(request).await.unwrap().into_inner();
    assert_eq!((signed.signed_inputs, signed.signed_psbt), (vec![0], template.clone()));
    let request = walletrpc::FinalizePsbtRequest { funded_psbt: template, account: String::new() };
    let done = kit.finalize_psbt(request).await.unwrap().into_inner();
    assert_eq!(done.raw_final_tx, bitcoin::consensus::serialize(&unsigned().unsigned_tx));
    refused(kit.sign_psbt(walletrpc::SignPsbtRequest::default()).await, invalid, "error parsing PSBT: ");
    server.fake.fail_with(ApiError::invalid("PSBT is already fully signed"));
    let again = walletrpc::FinalizePsbtRequest { funded_psbt: unsigned().serialize(), account: String::new() };
    refused(kit.finalize_psbt(again).await, invalid, "PSBT is already fully signed");
}

#[tokio::test]
async fn addresses_and_accounts_are_told_of_both_kinds() {
    let server = Server::start(WalletState::ServerActive).await;
    let listed = kit(&server).list_addresses(walletrpc::ListAddressesRequest::default()).await.unwrap().into_inner();
    let paths: Vec<_> = listed.account_with_addresses.iter().map(|one| one.derivation_path.as_str()).collect();
    assert_eq!(paths, ["m/84'/1'/0'", "m/86'/1'/0'"]);
    let first = &listed.account_with_addresses[1].addresses[0];
    assert_eq!((first.balance, first.derivation_path.as_str(), first.public_key.len()), (1_000, "m/86'/1'/0'/0/2", 33));
    let custom = walletrpc::ListAddressesRequest { show_custom_accounts: true, ..Default::default() };
    refused(kit(&server).list_addresses(custom).await, Code::InvalidArgument, "show_custom_accounts");
}

#[tokio::test]
async fn keys_sign_messages_and_wrong_requests_are_told_in_lnds_words() {
    let server = Server::start(WalletState::ServerActive).await;
    let (mut kit, mut signer) = (kit(&server), signer(&server));
    let at = signrpc::KeyLocator { key_family: 99, key_index: 4 };
    let derived = kit.derive_key(at).await.unwrap().into_inner();
    assert_eq!((derived.raw_key_bytes.len(), derived.key_loc), (33, Some(at)));
    let next = walletrpc::KeyReq { key_family: 99, ..Default::default() };
    let next = kit.derive_next_key(next).await.unwrap().into_inner();
    assert_eq!(next.key_loc.unwrap().key_index, 3);
    let invalid = Code::InvalidArgument;
    let negative = signrpc::KeyLocator { key_family: -1, key_index: 0 };
    refused(kit.derive_key(negative).await, invalid, "key_family");

    let request = signrpc::SignMessageReq { msg: vec![7], key_loc: Some(at), ..Default::default() };
    assert_eq!(signer.sign_message(request.clone()).await.unwrap().into_inner().signature.len(), 64);
    let wrong = [
        (signrpc::SignMessageReq { msg: Vec::new(), ..request.clone() }, "a message to sign MUST be passed in"),
        (signrpc::SignMessageReq { key_loc: None, ..request.clone() }, "a key locator MUST be passed in"),
        (
            signrpc::SignMessageReq { compact_sig: true, schnorr_sig: true, ..request.clone() },
            "compact format can not be used for Schnorr signatures",
        ),
        (
            signrpc::SignMessageReq { tag: vec![1], ..request.clone() },
            "tag can only be used when the Schnorr signature option is set",
        ),
        (
            signrpc::SignMessageReq { tag: b"BIP0340/x".to_vec(), schnorr_sig: true, ..request.clone() },
            "tag cannot have BIP0340 prefix",
        ),
        (
            signrpc::SignMessageReq { tag: b"TapSighash".to_vec(), schnorr_sig: true, ..request.clone() },
            "tag cannot be TapSighash",
        ),
        (
            signrpc::SignMessageReq { tag: vec![1], schnorr_sig: true, double_hash: true, ..request },
            "double hash and tag can't be set at the same time",
        ),
    ];
    for (request, words) in wrong {
        refused(signer.sign_message(request).await, invalid, words);
    }
    let verify = signrpc::VerifyMessageReq {
        msg: vec![7],
        signature: vec![0x30, 6, 2, 1, 1, 2, 1, 1],
        pubkey: node_id().serialize().to_vec(),
        ..Default::default()
    };
    assert!(!signer.verify_message(verify.clone()).await.unwrap().into_inner().valid);
    let no_key = signrpc::VerifyMessageReq { pubkey: vec![1], ..verify.clone() };
    refused(signer.verify_message(no_key).await, invalid, "unable to parse pubkey");
    let short = signrpc::VerifyMessageReq { signature: vec![1; 63], ..verify };
    refused(signer.verify_message(short).await, invalid, "failed to decode signature");

    let shared = signrpc::SharedKeyRequest { ephemeral_pubkey: node_id().serialize().to_vec(), ..Default::default() };
    assert_eq!(signer.derive_shared_key(shared.clone()).await.unwrap().into_inner().shared_key, vec![4; 32]);
    assert!(server.asked().contains("family: 6, index: 0"), "the node's own: {}", server.asked());
    refused(
        signer.derive_shared_key(signrpc::SharedKeyRequest::default()).await,
        invalid,
        "must provide ephemeral pubkey",
    );
    let without = signrpc::SharedKeyRequest { key_desc: Some(signrpc::KeyDescriptor::default()), ..shared };
    refused(signer.derive_shared_key(without).await, invalid, "when setting key_desc");

    let with_address = walletrpc::SignMessageWithAddrRequest { msg: vec![7], addr: ADDRESS.to_owned() };
    let signed = kit.sign_message_with_addr(with_address).await.unwrap().into_inner().signature;
    assert_eq!(signed.len(), 88);
    let verify = |signature: &str| walletrpc::VerifyMessageWithAddrRequest {
        msg: vec![7],
        signature: signature.to_owned(),
        addr: ADDRESS.to_owned(),
    };
    refused(kit.verify_message_with_addr(verify("§")).await, invalid, "malformed base64 encoding of the signature");
    refused(kit.verify_message_with_addr(verify("AAAA")).await, invalid, "unable to recover public key");
}

#[tokio::test]
async fn inputs_are_signed_and_wrong_descriptors_are_refused_by_name() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut signer = signer(&server);
    let transaction = unsigned().unsigned_tx;
    let told = |script: &bitcoin::ScriptBuf| signrpc::TxOut { value: 900, pk_script: script.to_bytes() };
    let segwit = TxOut { value: bitcoin::Amount::ZERO, script_pubkey: bitcoin::ScriptBuf::from_bytes(vec![0; 22]) };
    let key = signrpc::KeyDescriptor { raw_key_bytes: node_id().serialize().to_vec(), key_loc: None };
    let descriptor = signrpc::SignDescriptor {
        key_desc: Some(key),
        output: Some(told(&segwit.script_pubkey)),
        witness_script: vec![0x51],
        sighash: 1,
        ..Default::default()
    };
    let request = |descriptor: signrpc::SignDescriptor| signrpc::SignReq {
        raw_tx_bytes: bitcoin::consensus::serialize(&transaction),
        sign_descs: vec![descriptor],
        prev_outputs: Vec::new(),
    };
    let signed = signer.sign_output_raw(request(descriptor.clone())).await.unwrap().into_inner();
    assert_eq!(signed.raw_sigs.len(), 1);
    assert!(server.asked().contains("Public { family: 0"), "{}", server.asked());
    let bare = signrpc::SignDescriptor { key_desc: None, ..descriptor.clone() };
    let scripts = signer.compute_input_script(request(bare)).await.unwrap().into_inner().input_scripts;
    assert_eq!(scripts[0].witness, vec![vec![7]]);

    let invalid = Code::InvalidArgument;
    let wrong = [
        (
            signrpc::SignDescriptor { witness_script: Vec::new(), ..descriptor.clone() },
            "witness script MUST be specified",
        ),
        (signrpc::SignDescriptor { sign_method: 1, ..descriptor.clone() }, "is not compatible with given pk script"),
        (signrpc::SignDescriptor { input_index: -1, ..descriptor.clone() }, "input_index"),
        (signrpc::SignDescriptor { single_tweak: vec![1], ..descriptor.clone() }, "single_tweak"),
        (signrpc::SignDescriptor { output: None, ..descriptor.clone() }, "output"),
        (signrpc::SignDescriptor { key_desc: None, ..descriptor.clone() }, "key_desc"),
    ];
    for (descriptor, words) in wrong {
        refused(signer.sign_output_raw(request(descriptor)).await, invalid, words);
    }
    let none = signrpc::SignReq { sign_descs: Vec::new(), ..request(descriptor.clone()) };
    refused(signer.sign_output_raw(none).await, invalid, "at least one SignDescs MUST be passed in");
    let empty = signrpc::SignReq { raw_tx_bytes: Vec::new(), ..request(descriptor.clone()) };
    refused(signer.sign_output_raw(empty).await, invalid, "a transaction to sign MUST be passed in");
    let two = [told(&segwit.script_pubkey), told(&segwit.script_pubkey)];
    let many = signrpc::SignReq { prev_outputs: two.to_vec(), ..request(descriptor) };
    refused(signer.sign_output_raw(many).await, invalid, "provided previous outputs doesn't match");
}

#[tokio::test]
async fn musig2_sessions_speak_as_lnds() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut signer = signer(&server);
    let key = node_id().serialize().to_vec();
    let version = signrpc::MuSig2Version::Musig2VersionV100rc2.into();
    let combine = signrpc::MuSig2CombineKeysRequest {
        all_signer_pubkeys: vec![key.clone(), key.clone()],
        version,
        ..Default::default()
    };
    let combined = signer.mu_sig2_combine_keys(combine.clone()).await.unwrap().into_inner();
    assert_eq!((combined.combined_key.len(), combined.taproot_internal_key.len(), combined.version), (32, 32, 2));
    let invalid = Code::InvalidArgument;
    for old in [0, 1, 9] {
        let request = signrpc::MuSig2CombineKeysRequest { version: old, ..combine.clone() };
        refused(signer.mu_sig2_combine_keys(request).await, invalid, "version");
    }
    let x_only = signrpc::MuSig2CombineKeysRequest { all_signer_pubkeys: vec![vec![2; 32]], ..combine };
    refused(signer.mu_sig2_combine_keys(x_only).await, invalid, "error parsing signer public key 0");

    let open = signrpc::MuSig2SessionRequest {
        key_loc: Some(signrpc::KeyLocator { key_family: 99, key_index: 0 }),
        all_signer_pubkeys: vec![key.clone(), key],
        taproot_tweak: Some(signrpc::TaprootTweakDesc { key_spend_only: true, ..Default::default() }),
        version,
        ..Default::default()
    };
    let opened = signer.mu_sig2_create_session(open.clone()).await.unwrap().into_inner();
    let lengths = (opened.session_id.len(), opened.local_public_nonces.len(), opened.taproot_internal_key.len());
    assert_eq!(lengths, (32, 66, 32));
    let plain = signrpc::MuSig2SessionRequest { taproot_tweak: None, ..open.clone() };
    assert!(signer.mu_sig2_create_session(plain).await.unwrap().into_inner().taproot_internal_key.is_empty());
    let no_key = signrpc::MuSig2SessionRequest { key_loc: None, ..open.clone() };
    refused(signer.mu_sig2_create_session(no_key).await, invalid, "missing key_loc");
    let many = signrpc::MuSig2SessionRequest { other_signer_public_nonces: vec![vec![2; 66]; 2], ..open.clone() };
    refused(signer.mu_sig2_create_session(many).await, invalid, "too many other signer public nonces, got 2");
    let both = signrpc::MuSig2SessionRequest { tweaks: vec![signrpc::TweakDesc::default()], ..open };
    refused(signer.mu_sig2_create_session(both).await, invalid, "tweaks");

    let session_id = opened.session_id;
    let nonces = signrpc::MuSig2RegisterNoncesRequest {
        session_id: session_id.clone(),
        other_signer_public_nonces: vec![vec![2; 66]],
    };
    assert!(signer.mu_sig2_register_nonces(nonces.clone()).await.unwrap().into_inner().have_all_nonces);
    let none = signrpc::MuSig2RegisterNoncesRequest { other_signer_public_nonces: Vec::new(), ..nonces };
    refused(signer.mu_sig2_register_nonces(none).await, invalid, "at least one other signer public nonce");
    let one = signrpc::MuSig2RegisterCombinedNonceRequest {
        session_id: session_id.clone(),
        combined_public_nonce: vec![2; 65],
    };
    refused(signer.mu_sig2_register_combined_nonce(one).await, invalid, "invalid combined nonce length, got 65");
    let sign =
        signrpc::MuSig2SignRequest { session_id: session_id.clone(), message_digest: vec![1; 32], cleanup: false };
    assert_eq!(signer.mu_sig2_sign(sign.clone()).await.unwrap().into_inner().local_partial_signature.len(), 32);
    let short = signrpc::MuSig2SignRequest { message_digest: vec![1], ..sign };
    refused(signer.mu_sig2_sign(short).await, invalid, "invalid message digest size, got 1");
    let parts = signrpc::MuSig2CombineSigRequest {
        session_id: session_id.clone(),
        other_partial_signatures: vec![vec![1; 32]],
    };
    let done = signer.mu_sig2_combine_sig(parts).await.unwrap().into_inner();
    assert_eq!((done.have_all_signatures, done.final_signature.len()), (true, 64));
    let short = signrpc::MuSig2CleanupRequest { session_id: vec![1] };
    refused(signer.mu_sig2_cleanup(short).await, invalid, "invalid session ID size, got 1 but expected 32");
    signer.mu_sig2_cleanup(signrpc::MuSig2CleanupRequest { session_id }).await.unwrap();
}

#[tokio::test]
async fn claims_are_told_and_transactions_taken_as_lnd_does() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut kit = kit(&server);
    let pending = kit.pending_sweeps(walletrpc::PendingSweepsRequest {}).await.unwrap().into_inner();
    assert!(pending.pending_sweeps.is_empty());
    use walletrpc::list_sweeps_response::Sweeps;
    let list = |verbose, start_height| walletrpc::ListSweepsRequest { verbose, start_height };
    let told = kit.list_sweeps(list(false, 0)).await.unwrap().into_inner().sweeps.unwrap();
    assert!(matches!(told, Sweeps::TransactionIds(_)));
    let told = kit.list_sweeps(list(true, -1)).await.unwrap().into_inner().sweeps.unwrap();
    assert!(matches!(told, Sweeps::TransactionDetails(_)));
    let invalid = Code::InvalidArgument;
    refused(kit.list_sweeps(list(true, -2)).await, invalid, "start_height");

    let point = |output_index| lnrpc::ChannelPoint {
        output_index,
        funding_txid: Some(lnrpc::channel_point::FundingTxid::FundingTxidStr(funding().txid.to_string())),
    };
    let bump = |output_index| walletrpc::BumpForceCloseFeeRequest {
        chan_point: Some(point(output_index)),
        starting_feerate: 9,
        ..Default::default()
    };
    kit.bump_force_close_fee(bump(1)).await.unwrap();
    refused(kit.bump_force_close_fee(bump(0)).await, Code::FailedPrecondition, "is not closing");
    let limited = walletrpc::BumpForceCloseFeeRequest { budget: 5_000, ..bump(1) };
    refused(kit.bump_force_close_fee(limited).await, invalid, "budget");

    let script = bitcoin::ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_raw_hash(
        bitcoin::hashes::Hash::from_byte_array([3; 20]),
    ));
    let outputs = vec![signrpc::TxOut { value: 5_000, pk_script: script.to_bytes() }];
    let send = walletrpc::SendOutputsRequest { sat_per_kw: 500, outputs, ..Default::default() };
    let sent = kit.send_outputs(send.clone()).await.unwrap().into_inner();
    assert_eq!(sent.raw_tx, bitcoin::consensus::serialize(&swaps::transaction()));
    let none = walletrpc::SendOutputsRequest { outputs: Vec::new(), ..send.clone() };
    refused(kit.send_outputs(none).await, invalid, "must specify at least one output to create");
    let free = walletrpc::SendOutputsRequest { sat_per_kw: 0, ..send };
    refused(kit.send_outputs(free).await, invalid, "sat_per_kw");

    let raw = bitcoin::consensus::serialize(&swaps::transaction());
    let package = |raw_txs, sat_per_vbyte| walletrpc::SubmitPackageRequest { raw_txs, sat_per_vbyte };
    let taken = kit.submit_package(package(vec![raw.clone()], Some(0))).await.unwrap().into_inner();
    assert_eq!((taken.package_msg.as_str(), taken.tx_results.len()), ("success", 1));
    assert_eq!(taken.replaced_transactions, [funding().txid.to_string()]);
    refused(kit.submit_package(package(Vec::new(), None)).await, invalid, "must provide at least one transaction");
    refused(kit.submit_package(package(vec![raw.clone()], Some(5))).await, invalid, "sat_per_vbyte");
    let words = "package of 26 transactions exceeds the maximum of 25";
    refused(kit.submit_package(package(vec![raw; 26], None)).await, invalid, words);
    refused(kit.submit_package(package(vec![vec![1]], None)).await, invalid, "unable to decode tx");

    let remove = |txid: String| walletrpc::GetTransactionRequest { txid };
    let removed = kit.remove_transaction(remove(funding().txid.to_string())).await.unwrap().into_inner();
    assert_eq!(removed.status, "Successfully removed transaction");
    refused(kit.remove_transaction(remove(String::new())).await, invalid, "must provide a transaction hash");
}
