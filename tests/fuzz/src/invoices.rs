//! Invoices: any text is answered; what we sign is read as it was meant; what is read can be signed again with the same
//! terms.

use bitcoin::ScriptBuf;
use bitcoin::bech32::primitives::checksum::{Checksum, Engine, PackedFe32 as _};
use bitcoin::bech32::{Bech32, Fe32, Hrp};
use leyden_channels::payment::{Description, HintHop, Invoice, InvoiceError, InvoiceNetwork, InvoiceRequest};
use leyden_channels::types::{Msat, PaymentHash, PaymentSecret, ShortChannelId, UnixTime};
use secp256k1::{SECP256K1, SecretKey};

use crate::input::Input;

const NETWORKS: [InvoiceNetwork; 5] = [
    InvoiceNetwork::Regtest,
    InvoiceNetwork::Leyden,
    InvoiceNetwork::Mainnet,
    InvoiceNetwork::Testnet,
    InvoiceNetwork::Signet,
];

pub fn invoices(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 3 {
        0 => text(&String::from_utf8_lossy(input.rest())),
        1 => fields(&mut input),
        _ => request(&mut input),
    }
}

fn secret() -> SecretKey {
    SecretKey::from_slice(&[7; 32]).expect("a secret key")
}

fn text(text: &str) {
    let Ok(invoice) = Invoice::parse_any(text) else { return };
    for network in NETWORKS {
        let expected = if network == invoice.network {
            Ok(invoice.clone())
        } else {
            Err(InvoiceError::WrongNetwork { expected: network, got: invoice.network })
        };
        assert_eq!(Invoice::parse(text, network), expected);
    }
    assert!(invoice.expires_at().0 >= invoice.timestamp.0);

    // Our own invoice with the terms of this one, as far as an invoice of ours can have them.
    let request = InvoiceRequest {
        network: invoice.network,
        payment_hash: invoice.payment_hash,
        payment_secret: invoice.payment_secret,
        amount: invoice.amount,
        timestamp: invoice.timestamp,
        expiry_seconds: invoice.expiry_seconds,
        description: invoice.description,
        min_final_cltv_expiry_delta: invoice.min_final_cltv_expiry_delta,
        route_hints: invoice.route_hints,
        fallback: invoice.fallbacks.into_iter().next(),
    };
    signed_and_read(&request);
}

fn signed_and_read(request: &InvoiceRequest) {
    let Ok(text) = request.sign(&secret()) else { return };
    let read = Invoice::parse(&text, request.network).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(read.payee, secret().public_key(SECP256K1));
    let again = InvoiceRequest {
        network: read.network,
        payment_hash: read.payment_hash,
        payment_secret: read.payment_secret,
        amount: read.amount,
        timestamp: read.timestamp,
        expiry_seconds: read.expiry_seconds,
        description: read.description,
        min_final_cltv_expiry_delta: read.min_final_cltv_expiry_delta,
        route_hints: read.route_hints,
        fallback: read.fallbacks.into_iter().next(),
    };
    assert_eq!(&again, request);
}

/// Any groups of five bits behind any prefix, with the checksum that makes them pass for an invoice.
fn fields(input: &mut Input<'_>) {
    let prefix = NETWORKS[input.index(NETWORKS.len())].prefix();
    let amount: String = input.short().iter().take(12).map(|byte| char::from(byte & 0x7f)).collect();
    let human = format!("{prefix}{}", amount.to_ascii_lowercase());
    let Ok(hrp) = Hrp::parse(&human) else { return };
    let mut engine = Engine::<Bech32>::new();
    engine.input_hrp(hrp);
    let mut encoded = format!("{human}1");
    for byte in input.rest() {
        let group = Fe32::try_from(byte & 31).expect("five bits");
        engine.input_fe(group);
        encoded.push(group.to_char());
    }
    engine.input_target_residue();
    for place in (0..Bech32::CHECKSUM_LENGTH).rev() {
        encoded.push(Fe32::try_from(engine.residue().unpack(place)).expect("five bits").to_char());
    }
    text(&encoded);
}

fn request(input: &mut Input<'_>) {
    let node_id = secret().public_key(SECP256K1);
    let network = NETWORKS[input.index(NETWORKS.len())];
    let amount = input.flag().then(|| Msat(input.u64()));
    let description = match input.flag() {
        true => Description::Text(String::from_utf8_lossy(input.short()).into_owned()),
        false => Description::Hash(input.array()),
    };
    let hop = |input: &mut Input<'_>| HintHop {
        node_id,
        short_channel_id: ShortChannelId(input.u64()),
        fee_base_msat: input.u32(),
        fee_proportional_millionths: input.u32(),
        cltv_expiry_delta: input.u16(),
    };
    let route_hints = (0..input.index(4)).map(|_| (0..input.index(14)).map(|_| hop(input)).collect()).collect();
    signed_and_read(&InvoiceRequest {
        network,
        payment_hash: PaymentHash([1; 32]),
        payment_secret: PaymentSecret(input.array()),
        amount,
        timestamp: UnixTime(input.u64() >> input.index(64)),
        expiry_seconds: input.u64() >> input.index(64),
        description,
        min_final_cltv_expiry_delta: input.u32() >> input.index(32),
        route_hints,
        fallback: input.flag().then(|| ScriptBuf::from(input.short().to_vec())),
    });
}
