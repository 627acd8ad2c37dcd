//! What becomes of the fields of requests.
//!
//! ```text
//!   declared in our .proto files, and not named here ──► served, or refused by the service where it makes no sense
//!   declared, and named in IGNORED ────────────────────► without effect: it can cost nothing, and why is said there
//!   not declared ──────────────────────────────────────► refused by its name, if LND has it (UNSERVED), else by its number
//!      but named in HARMLESS ──────────────────────────► without effect, likewise
//! ```
//!
//! A test of the daemon sets every declared field and looks for its effect; what has none must be in [`IGNORED`]. A test
//! here compares [`UNSERVED`] and [`HARMLESS`] with the declarations.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::LazyLock,
};

use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{DescriptorPool, Kind};

/// Values that one request may hold, at any depth. Each costs memory however short it is written: two bytes can be a message
/// of a hundred. What a transaction has room for, and the backups of thousands of channels, fit.
pub const MAX_VALUES: usize = 20_000;

/// Messages within one another; protobuf's decoders refuse more.
const MAX_DEPTH: usize = 100;

/// A field of a request of LND that we do not declare.
pub struct Unserved {
    pub message: &'static str,
    pub number: u32,
    pub name: &'static str,
}

const fn field(message: &'static str, number: u32, name: &'static str) -> Unserved {
    Unserved { message, number, name }
}

/// Fields of LND that ask for what is not served: known by name, so that the answer can say which one it is.
pub const UNSERVED: &[Unserved] = &[
    field("invoicesrpc.LookupInvoiceMsg", 4, "lookup_modifier"),
    field("lnrpc.BatchOpenChannelRequest", 7, "coin_selection_strategy"),
    field("lnrpc.FundingShim", 1, "chan_point_shim"),
    field("lnrpc.Hop", 12, "amp_record"),
    field("lnrpc.Hop", 14, "blinding_point"),
    field("lnrpc.Hop", 15, "encrypted_data"),
    field("lnrpc.Hop", 16, "total_amt_msat"),
    field("lnrpc.InitWalletRequest", 8, "extended_master_key_birthday_timestamp"),
    field("lnrpc.InitWalletRequest", 9, "watch_only"),
    field("lnrpc.InitWalletRequest", 10, "macaroon_root_key"),
    field("lnrpc.Invoice", 28, "amp_invoice_state"),
    field("lnrpc.Invoice", 30, "blinded_path_config"),
    field("lnrpc.InvoiceHTLC", 11, "amp"),
    field("lnrpc.InvoiceHTLC", 12, "custom_channel_data"),
    field("lnrpc.PolicyUpdateRequest", 11, "create_missing_edge"),
    field("lnrpc.QueryRoutesRequest", 19, "blinded_payment_paths"),
    field("lnrpc.Route", 7, "first_hop_amount_msat"),
    field("lnrpc.Route", 8, "custom_channel_data"),
    field("routerrpc.BuildRouteRequest", 6, "first_hop_custom_records"),
    field("routerrpc.ForwardHtlcInterceptResponse", 6, "in_amount_msat"),
    field("routerrpc.ForwardHtlcInterceptResponse", 7, "out_amount_msat"),
    field("routerrpc.ForwardHtlcInterceptResponse", 8, "out_wire_custom_records"),
    field("routerrpc.SendPaymentRequest", 25, "first_hop_custom_records"),
    field("routerrpc.SendToRouteRequest", 4, "first_hop_custom_records"),
    field("signrpc.MuSig2SessionRequest", 7, "pregenerated_local_nonce"),
];

/// Fields of LND that are not declared, and whose absence from the answer costs nobody anything.
pub const HARMLESS: &[(Unserved, &str)] = &[
    (field("lnrpc.ChanInfoRequest", 3, "include_auth_proof"), "the answer has no proofs"),
    (field("lnrpc.ChannelGraphRequest", 2, "include_auth_proof"), "the answer has no proofs"),
    (field("lnrpc.NodeInfoRequest", 3, "include_auth_proof"), "the answer has no proofs"),
    (field("lnrpc.ListPaymentsRequest", 8, "omit_hops"), "the answer has more than was asked for"),
];

/// Declared fields that have no effect, and why that can cost nothing.
pub const IGNORED: &[(&str, &str)] = &[
    ("lnrpc.Invoice.settled", ANSWER),
    ("lnrpc.Invoice.creation_date", ANSWER),
    ("lnrpc.Invoice.settle_date", ANSWER),
    ("lnrpc.Invoice.payment_request", ANSWER),
    ("lnrpc.Invoice.add_index", ANSWER),
    ("lnrpc.Invoice.settle_index", ANSWER),
    ("lnrpc.Invoice.amt_paid", ANSWER),
    ("lnrpc.Invoice.amt_paid_sat", ANSWER),
    ("lnrpc.Invoice.amt_paid_msat", ANSWER),
    ("lnrpc.Invoice.state", ANSWER),
    ("lnrpc.Invoice.htlcs", ANSWER),
    ("lnrpc.Invoice.features", ANSWER),
    ("lnrpc.Invoice.payment_addr", ANSWER),
    ("lnrpc.InvoiceHTLC.chan_id", ANSWER),
    ("lnrpc.InvoiceHTLC.htlc_index", ANSWER),
    ("lnrpc.InvoiceHTLC.amt_msat", ANSWER),
    ("lnrpc.InvoiceHTLC.accept_height", ANSWER),
    ("lnrpc.InvoiceHTLC.accept_time", ANSWER),
    ("lnrpc.InvoiceHTLC.resolve_time", ANSWER),
    ("lnrpc.InvoiceHTLC.expiry_height", ANSWER),
    ("lnrpc.InvoiceHTLC.state", ANSWER),
    ("lnrpc.InvoiceHTLC.custom_records", ANSWER),
    ("lnrpc.InvoiceHTLC.mpp_total_amt_msat", ANSWER),
    ("lnrpc.GenSeedRequest.aezeed_passphrase", "the words are not enciphered; InitWallet takes the passphrase"),
    ("lnrpc.Hop.tlv_payload", "there is no other format"),
    (
        "routerrpc.SendToRouteRequest.skip_temp_err",
        "a payment of which no part is under way can be tried again in either case",
    ),
    ("walletrpc.BumpFeeRequest.force", "what replaces a transaction is broadcast at once"),
    ("walletrpc.BumpForceCloseFeeRequest.immediate", "what replaces a transaction is broadcast at once"),
    ("walletrpc.KeyReq.key_finger_print", "there is one root, and LND does not look at it either"),
    ("walletrpc.BumpFeeRequest.immediate", "what replaces a transaction is broadcast at once"),
];

const ANSWER: &str = "it is a part of answers, and LND ignores it in requests too";

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A field that LND has, by its name.
    Unserved(String),
    /// A field that nobody knows.
    Unknown { message: String, number: u32 },
    /// More than [`MAX_VALUES`].
    TooMany,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unserved(name) => write!(out, "{name}: it is not served; leave it unset"),
            Self::Unknown { message, number } => {
                write!(
                    out,
                    "field {number} of {message} is not known to this node: leave it unset, or use a newer node"
                )
            }
            Self::TooMany => write!(out, "the request has more than {MAX_VALUES} values: ask for less at a time"),
        }
    }
}

/// Request and response of every call.
static CALLS: LazyLock<HashSet<(String, String)>> = LazyLock::new(|| {
    let methods = crate::pool().services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods.map(|method| (method.input().full_name().to_owned(), method.output().full_name().to_owned())).collect()
});

/// Whether there is a call with this request and this response.
pub fn is_call(request: &str, response: &str) -> bool {
    CALLS.contains(&(request.to_owned(), response.to_owned()))
}

/// The messages as far as [`check`] needs them: looking a field up builds nothing.
struct Shapes {
    by_name: HashMap<String, usize>,
    all: Vec<Shape>,
}

struct Shape {
    name: String,
    /// Declared fields, and of those that hold messages which ones.
    fields: HashMap<u32, Option<usize>>,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| Shapes::of(crate::pool()));

impl Shapes {
    fn of(pool: &DescriptorPool) -> Self {
        let messages: Vec<_> = pool.all_messages().collect();
        let names = messages.iter().enumerate().map(|(index, message)| (message.full_name().to_owned(), index));
        let by_name: HashMap<String, usize> = names.collect();
        let inner = |kind: Kind| match kind {
            Kind::Message(message) => by_name.get(message.full_name()).copied(),
            _ => None,
        };
        let shape = |message: &prost_reflect::MessageDescriptor| Shape {
            name: message.full_name().to_owned(),
            fields: message.fields().map(|field| (field.number(), inner(field.kind()))).collect(),
        };
        let all = messages.iter().map(shape).collect();
        Self { by_name, all }
    }

    /// `room`: how many values may still come.
    fn check(&self, shape: usize, mut bytes: &[u8], depth: usize, room: &mut usize) -> Result<(), Refused> {
        let Some(shape) = self.all.get(shape).filter(|_| depth <= MAX_DEPTH) else { return Ok(()) };
        while !bytes.is_empty() {
            let Ok((number, wire)) = decode_key(&mut bytes) else { return Ok(()) };
            let Some(inner) = shape.fields.get(&number) else {
                check_unknown(&shape.name, number)?;
                if skip(wire, &mut bytes).is_none() {
                    return Ok(());
                }
                continue;
            };
            *room = room.checked_sub(1).ok_or(Refused::TooMany)?;
            let Some(value) = skip(wire, &mut bytes) else { return Ok(()) };
            if let (Some(inner), WireType::LengthDelimited) = (inner, wire) {
                self.check(*inner, value, depth + 1, room)?;
            }
        }
        Ok(())
    }
}

/// Goes over a value: what it holds, without its length. `None`: it is none, or a group, of which no message of ours has any.
fn skip<'a>(wire: WireType, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = match wire {
        WireType::Varint => {
            decode_varint(bytes).ok()?;
            0
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => usize::try_from(decode_varint(bytes).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (value, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(value)
}

/// Whether an encoded request says nothing that would be passed over, and holds no more than [`MAX_VALUES`]. It is walked over
/// and not decoded: that takes no memory. What is no message at all is left to its decoder.
pub fn check(message: &str, bytes: &[u8]) -> Result<(), Refused> {
    let Some(shape) = SHAPES.by_name.get(message) else { return Ok(()) };
    let mut room = MAX_VALUES;
    SHAPES.check(*shape, bytes, 1, &mut room)
}

/// What a field is that is not declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// LND has it, and its absence costs nobody anything.
    Harmless,
    /// LND has it, and it asks for what is not served.
    Unserved,
}

/// What is known of a field by its name, in either of JSON's spellings, that a request does not have here.
pub fn absent(message: &str, name: &str) -> Option<Absent> {
    let is_it = |field: &Unserved| field.message == message && (field.name == name || camel(field.name) == name);
    if HARMLESS.iter().any(|(field, _)| is_it(field)) {
        return Some(Absent::Harmless);
    }
    UNSERVED.iter().any(is_it).then_some(Absent::Unserved)
}

/// `peer_alias_lookup` as `peerAliasLookup`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut text = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        text.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        text.push_str(letters.as_str());
    }
    text
}

fn check_unknown(message: &str, number: u32) -> Result<(), Refused> {
    let is_it = |field: &Unserved| field.message == message && field.number == number;
    if HARMLESS.iter().any(|(field, _)| is_it(field)) {
        return Ok(());
    }
    Err(match UNSERVED.iter().find(|field| is_it(field)) {
        Some(field) => Refused::Unserved(field.name.to_owned()),
        None => Refused::Unknown { message: message.to_owned(), number },
    })
}

#[cfg(test)]
mod tests {
    use prost::{Message, Name};

    use super::*;
    use crate::{lnrpc, routerrpc};

    fn with_field(message: &impl Message, number: u32) -> Vec<u8> {
        let mut bytes = message.encode_to_vec();
        prost::encoding::uint64::encode(number, &7, &mut bytes);
        bytes
    }

    #[test]
    fn what_a_request_asks_and_nobody_would_look_at_is_refused_by_name_at_any_depth() {
        let payment = routerrpc::SendPaymentRequest { amt: 5, ..Default::default() };
        let name = routerrpc::SendPaymentRequest::full_name();
        assert_eq!(check(&name, &payment.encode_to_vec()), Ok(()));
        let refused = check(&name, &with_field(&payment, 25)).unwrap_err();
        assert_eq!(refused.to_string(), "first_hop_custom_records: it is not served; leave it unset");
        let unknown = Refused::Unknown { message: name.clone(), number: 900 };
        assert_eq!(check(&name, &with_field(&payment, 900)), Err(unknown));

        let hop = with_field(&lnrpc::Hop::default(), 16);
        let mut route = Vec::new();
        prost::encoding::bytes::encode(4, &hop, &mut route);
        let mut request = Vec::new();
        prost::encoding::bytes::encode(2, &route, &mut request);
        let refused = Refused::Unserved("total_amt_msat".to_owned());
        assert_eq!(check(&routerrpc::SendToRouteRequest::full_name(), &request), Err(refused));

        let channels = with_field(&lnrpc::ListChannelsRequest::default(), 6);
        assert_eq!(check(&lnrpc::ListChannelsRequest::full_name(), &channels), Ok(()));
    }

    #[test]
    fn a_request_of_very_many_values_is_refused_and_nothing_is_built_of_it() {
        let backup = |count: usize| {
            let mut single = Vec::new();
            prost::encoding::bytes::encode(1, &[0x0a, 0x02, 0x0a, 0x00].repeat(count), &mut single);
            let mut request = Vec::new();
            prost::encoding::bytes::encode(5, &single, &mut request);
            request
        };
        let name = lnrpc::InitWalletRequest::full_name();
        assert_eq!(check(&name, &backup(1_000)), Ok(()));
        assert_eq!(check(&name, &backup(1 << 20)), Err(Refused::TooMany));
        let words = [0x12, 0x00].repeat(MAX_VALUES);
        assert_eq!(check(&name, &words), Ok(()));
        assert_eq!(check(&name, &[words.as_slice(), &[0x12, 0x00]].concat()), Err(Refused::TooMany));
    }

    #[test]
    fn what_is_no_message_is_left_to_its_decoder() {
        let name = lnrpc::InitWalletRequest::full_name();
        for wrong in [&[0x0a, 0x05][..], &[0x0b], &[0x0c], &[0x80], &[0x00, 0x01], &[0x09, 1, 2], &[0x0a, 0xff, 0xff]] {
            assert_eq!(check(&name, wrong), Ok(()), "{wrong:?}");
            assert!(lnrpc::InitWalletRequest::decode(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn answers_are_not_requests() {
        let name = |message: &str| format!("lnrpc.{message}");
        assert!(is_call(&name("Invoice"), &name("AddInvoiceResponse")));
        assert!(!is_call(&name("Invoice"), &name("PaymentHash")));
    }

    #[test]
    fn the_tables_name_fields_of_requests_that_are_not_declared_and_those_that_are() {
        let pool = crate::pool();
        for field in UNSERVED.iter().chain(HARMLESS.iter().map(|(field, _)| field)) {
            let message = pool.get_message_by_name(field.message).unwrap_or_else(|| panic!("no {}", field.message));
            assert!(message.get_field(field.number).is_none(), "{}.{} is declared", field.message, field.name);
        }
        for (name, _) in IGNORED {
            let (message, field) = name.rsplit_once('.').unwrap();
            let message = pool.get_message_by_name(message).unwrap_or_else(|| panic!("no {message}"));
            assert!(message.get_field_by_name(field).is_some(), "no {name}");
        }
    }
}
