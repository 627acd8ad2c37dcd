//! `LND.md` tells of every call of LND's whether it is served: so it has to be true.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use leyden_proto::bindings::BINDINGS;
use prost_reflect::DescriptorPool;

/// In this package's folder, where Cargo runs its tests.
const TABLE: &str = "LND.md";

struct Row {
    rest: BTreeSet<String>,
    state: String,
}

/// By service and call.
fn rows(text: &str) -> BTreeMap<String, Row> {
    let mut service = "";
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            service = name;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [call, rest, state] = cells[..] else { continue };
        if !line.starts_with("| ") || call == "call" {
            continue;
        }
        let rest = rest.split(", ").map(|path| path.trim_matches('`').to_owned()).filter(|path| !path.is_empty());
        let row = Row { rest: rest.collect(), state: state.to_owned() };
        assert!(rows.insert(format!("{service}/{call}"), row).is_none(), "{call} stands there twice");
    }
    rows
}

#[test]
fn the_table_of_lnds_calls_says_what_is_served_and_why_the_rest_is_not() {
    let text = fs::read_to_string(TABLE).unwrap();
    let rows = rows(&text);
    let pool = DescriptorPool::decode(leyden_proto::DESCRIPTORS).unwrap();
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let served: BTreeSet<String> = methods
        .filter(|method| method.parent_service().package_name() != "leyden")
        .map(|method| format!("{}/{}", method.parent_service().full_name(), method.name()))
        .collect();
    for call in &served {
        assert!(
            rows.get(call).is_some_and(|row| row.state == "served"),
            "{call} is served and the table does not say so"
        );
    }
    for (call, row) in &rows {
        let bound: BTreeSet<String> = BINDINGS
            .iter()
            .filter(|binding| binding.call == call)
            .map(|binding| format!("{} {}", binding.verb.name(), binding.path))
            .collect();
        match row.state.as_str() {
            "served" => {
                assert!(served.contains(call), "{call} is not served");
                assert_eq!(bound, row.rest, "{call}");
            }
            state => assert!(
                state.starts_with("no: ") || state.starts_with("not yet: "),
                "{call} is not served, and the table does not say why"
            ),
        }
    }
    let counted = format!("{} calls, of which {} are served", rows.len(), served.len());
    assert!(text.contains(&counted), "the table's beginning does not say: {counted}");
}
