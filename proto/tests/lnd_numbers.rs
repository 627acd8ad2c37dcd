//! Existing clients speak to us in LND's numbers. `lnd_numbers.txt` lists, as facts read from LND 0.22-dev, every
//! field, enum value and method of the messages and services that we declare; nothing of ours may differ from it.
//!
//! With `LND_SOURCE=/path/to/lnd` the table is first written anew from LND's own files, which is how it is extended
//! when a message is added here.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

use std::{collections::BTreeMap, env, error::Error, fs, path::Path};

use prost_reflect::{Cardinality, DescriptorPool, Kind, MessageDescriptor, MethodDescriptor};

/// In this package's folder, where Cargo runs its tests.
const TABLE: &str = "tests/lnd_numbers.txt";

/// The packages whose names belong to LND.
const LND_PACKAGES: &[&str] = &[
    "chainrpc",
    "lnrpc",
    "invoicesrpc",
    "peersrpc",
    "routerrpc",
    "signrpc",
    "verrpc",
    "walletrpc",
    "watchtowerrpc",
    "wtclientrpc",
];

/// Fields that LND had up to 0.20 and that clients still send.
const FORMER: &[(&str, &str)] = &[
    ("lnrpc.QueryRoutesRequest.outgoing_chan_id", "14 uint64"),
    ("routerrpc.SendPaymentRequest.outgoing_chan_id", "8 uint64"),
];

/// What is told about one field, value or method: its number and type, or its request and response.
type Facts = BTreeMap<String, String>;

#[test]
fn every_name_number_and_type_is_that_of_lnd() -> Result<(), Box<dyn Error>> {
    let ours = facts(&DescriptorPool::decode(leyden_proto::DESCRIPTORS)?);
    if let Ok(source) = env::var("LND_SOURCE") {
        write_table(Path::new(&source), &ours)?;
    }
    let table = fs::read_to_string(TABLE)?;
    let lnd = table.lines().filter_map(|line| line.split_once(' ')).chain(FORMER.iter().copied());
    let lnd: Facts = lnd.map(owned).collect();

    let mut compared = 0;
    for (name, fact) in &ours {
        match lnd.get(name) {
            Some(expected) => assert_eq!(fact, expected, "{name} differs from LND"),
            None => panic!("LND has no {name} (if it has, extend the table: LND_SOURCE=… cargo test)"),
        }
        compared += 1;
    }
    println!("{compared} fields, values and methods have LND's names, numbers and types");
    assert!(compared > 400, "the descriptor has lost most of its content");
    Ok(())
}

#[test]
fn every_field_of_a_request_of_lnds_is_declared_or_told_by_its_name() -> Result<(), Box<dyn Error>> {
    use leyden_proto::fields::{HARMLESS, UNSERVED};
    let pool = DescriptorPool::decode(leyden_proto::DESCRIPTORS)?;
    let mut requests: Vec<MessageDescriptor> = pool
        .services()
        .flat_map(|service| service.methods().map(|method| method.input()).collect::<Vec<_>>())
        .filter(|message| is_lnd(message.package_name()))
        .collect();
    let mut at = 0;
    while let Some(message) = requests.get(at).cloned() {
        for field in message.fields() {
            if let Kind::Message(inner) = field.kind()
                && !requests.contains(&inner)
            {
                requests.push(inner);
            }
        }
        at += 1;
    }
    let named: Vec<String> = UNSERVED
        .iter()
        .chain(HARMLESS.iter().map(|(field, _)| field))
        .map(|field| format!("{}.{} {}", field.message, field.name, field.number))
        .collect();
    let table = fs::read_to_string(TABLE)?;
    for line in table.lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(Ok(number))) = (words.next(), words.next().map(str::parse::<u32>)) else { continue };
        let Some((message, field)) = name.rsplit_once('.') else { continue };
        let Some(message) = requests.iter().find(|request| request.full_name() == message) else { continue };
        let known = message.get_field_by_name(field).is_some() || named.contains(&format!("{name} {number}"));
        assert!(known, "{name} = {number} is neither declared nor in leyden_proto::fields");
    }
    Ok(())
}

#[test]
fn the_chain_service_is_in_the_descriptor() -> Result<(), Box<dyn Error>> {
    let pool = DescriptorPool::decode(leyden_proto::DESCRIPTORS)?;
    let chain = pool.get_service_by_name("leyden.Chain").ok_or("leyden.Chain is missing")?;
    assert!(chain.methods().any(|method| method.name() == "Generate" && method.is_server_streaming()));
    Ok(())
}

/// Keeps of LND's facts those about messages, enums and services that we declare too.
fn write_table(source: &Path, ours: &Facts) -> Result<(), Box<dyn Error>> {
    let root = source.join("lnrpc");
    let files = ["lightning.proto", "stateservice.proto", "walletunlocker.proto", "routerrpc/router.proto"];
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).open_files(files.map(|file| root.join(file)))?;
    compiler.open_file(root.join("chainrpc/chainkit.proto"))?;
    compiler.open_file(root.join("chainrpc/chainnotifier.proto"))?;
    compiler.open_file(root.join("invoicesrpc/invoices.proto"))?;
    compiler.open_file(root.join("signrpc/signer.proto"))?;
    compiler.open_file(root.join("peersrpc/peers.proto"))?;
    compiler.open_file(root.join("verrpc/verrpc.proto"))?;
    compiler.open_file(root.join("walletrpc/walletkit.proto"))?;
    compiler.open_file(root.join("wtclientrpc/wtclient.proto"))?;
    compiler.open_file(root.join("watchtowerrpc/watchtower.proto"))?;

    let declared: Vec<&str> = ours.keys().filter_map(|name| Some(name.rsplit_once('.')?.0)).collect();
    let mut text = String::new();
    for (name, fact) in facts(&compiler.descriptor_pool()) {
        if name.rsplit_once('.').is_some_and(|(parent, _)| declared.contains(&parent)) {
            text += &format!("{name} {fact}\n");
        }
    }
    fs::write(TABLE, text)?;
    Ok(())
}

fn facts(pool: &DescriptorPool) -> Facts {
    let mut facts = Facts::new();
    for message in pool.all_messages().filter(|message| is_lnd(message.package_name()) && !message.is_map_entry()) {
        for field in message.fields() {
            let fact = format!("{} {}", field.number(), type_name(&field));
            facts.insert(field.full_name().to_owned(), fact);
        }
    }
    for values in pool.all_enums().filter(|values| is_lnd(values.package_name())) {
        for value in values.values() {
            facts.insert(format!("{}.{}", values.full_name(), value.name()), value.number().to_string());
        }
    }
    for service in pool.services().filter(|service| is_lnd(service.package_name())) {
        for method in service.methods() {
            facts.insert(format!("{}.{}", service.full_name(), method.name()), signature(&method));
        }
    }
    facts
}

fn type_name(field: &prost_reflect::FieldDescriptor) -> String {
    let kind = |kind: Kind| match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(values) => values.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { return "map".to_owned() };
        let entry: MessageDescriptor = entry;
        return format!(
            "map<{},{}>",
            kind(entry.map_entry_key_field().kind()),
            kind(entry.map_entry_value_field().kind())
        );
    }
    let repeated = if field.cardinality() == Cardinality::Repeated { "repeated " } else { "" };
    let group = field.containing_oneof().map(|group| format!(" in {}", group.name())).unwrap_or_default();
    format!("{repeated}{}{group}", kind(field.kind()))
}

fn signature(method: &MethodDescriptor) -> String {
    let stream = |yes| if yes { "stream " } else { "" };
    format!(
        "{}{} -> {}{}",
        stream(method.is_client_streaming()),
        method.input().full_name(),
        stream(method.is_server_streaming()),
        method.output().full_name()
    )
}

fn is_lnd(package: &str) -> bool {
    LND_PACKAGES.contains(&package)
}

fn owned((name, fact): (&str, &str)) -> (String, String) {
    (name.to_owned(), fact.to_owned())
}
