//! Who may depend on whom, held by `cargo metadata`: an edge that the picture in the README forbids fails here.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Every crate of the workspace with the crates of the workspace that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("leyden-consensus", &[]),
    ("leyden-proto", &[]),
    ("leyden-common", &[]),
    ("leyden-jsonrpc", &[]),
    ("leyden-mining", &["leyden-consensus"]),
    ("leyden-net", &["leyden-consensus"]),
    ("leyden-node", &["leyden-consensus", "leyden-mining", "leyden-net"]),
    ("leyden-channels", &["leyden-consensus"]),
    ("leyden-watchtower", &["leyden-consensus", "leyden-channels"]),
    ("leyden-client", &["leyden-channels", "leyden-common", "leyden-consensus", "leyden-mining", "leyden-proto"]),
    (
        "leyden",
        &[
            "leyden-channels",
            "leyden-common",
            "leyden-consensus",
            "leyden-jsonrpc",
            "leyden-mining",
            "leyden-net",
            "leyden-node",
            "leyden-proto",
            "leyden-watchtower",
        ],
    ),
    // Tests and benchmarks only.
    ("leyden-clients", &[]),
    ("leyden-interop", &[]),
    ("leyden-kernel", &[]),
    ("leyden-web", &[]),
    ("leyden-fuzz", &["leyden-channels", "leyden-consensus", "leyden-jsonrpc", "leyden-net"]),
];

/// Crates that know no clock, randomness, socket, database, async or thread.
const PURE: &[&str] = &["leyden-consensus", "leyden-net", "leyden-channels", "leyden-watchtower", "leyden-jsonrpc"];

/// What a pure crate must not depend on, outside its tests.
const IMPURE: &[&str] = &["tokio", "tonic", "rocksdb", "rand", "rayon", "axum", "hyper", "tracing", "getrandom"];

/// What a pure crate's sources must not name, outside their tests.
const IMPURE_NAMES: &[&str] =
    &["std::fs", "std::thread", "Instant::now", "SystemTime", "std::env", "std::process", "TcpStream", "UdpSocket"];

#[test]
fn crates_depend_only_in_the_allowed_direction() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs");
    let members: BTreeSet<String> = metadata.workspace_packages().iter().map(|p| p.name.to_string()).collect();
    for package in metadata.workspace_packages() {
        let (_, may_use) = ALLOWED
            .iter()
            .find(|(name, _)| *name == package.name.as_str())
            .unwrap_or_else(|| panic!("{} is not in the picture: add it to ALLOWED on purpose", package.name));
        for dependency in &package.dependencies {
            if dependency.kind != DependencyKind::Development && members.contains(&dependency.name) {
                let name = dependency.name.as_str();
                assert!(may_use.contains(&name), "{} must not depend on {name}", package.name);
            }
        }
    }
    assert_eq!(members.len(), ALLOWED.len(), "a crate of the picture is missing from the workspace");
}

#[test]
fn pure_crates_depend_on_nothing_that_does_io() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs");
    for package in metadata.workspace_packages() {
        if !PURE.contains(&package.name.as_str()) {
            continue;
        }
        for dependency in package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development) {
            let name = dependency.name.as_str();
            assert!(!IMPURE.contains(&name), "{} is pure and must not depend on {name}", package.name);
        }
    }
}

/// What only the daemon may depend on: other crates keep plain numbers, and the daemon says what they are called.
const DAEMON_ONLY: &[&str] = &["metrics", "metrics-exporter-prometheus"];

#[test]
fn only_the_daemon_knows_of_metrics() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs");
    let uses = |package: &cargo_metadata::Package| {
        package.dependencies.iter().any(|dependency| DAEMON_ONLY.contains(&dependency.name.as_str()))
    };
    let packages = metadata.workspace_packages();
    let users: Vec<&str> =
        packages.iter().filter(|package| uses(package)).map(|package| package.name.as_str()).collect();
    assert_eq!(users, ["leyden"]);
}

/// What the client must not link: all of this is the daemon's.
const DAEMONS_OWN: &[&str] = &["rocksdb", "librocksdb-sys", "bdk_wallet", "bip39", "rcgen", "leyden-node", "leyden"];

#[test]
fn client_links_no_database_no_wallet_and_no_chain() {
    let metadata = MetadataCommand::new().other_options(["--locked".to_owned()]).exec().expect("cargo metadata runs");
    let resolve = metadata.resolve.as_ref().expect("the dependencies are resolved");
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let client = metadata.workspace_packages().into_iter().find(|package| package.name == "leyden-client");
    let mut todo = vec![&client.expect("the client's package").id];
    let mut linked = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if linked.insert(id) {
            let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
            let normal = dependencies
                .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
            todo.extend(normal.map(|dependency| &dependency.pkg));
        }
    }
    let names: BTreeSet<&str> = linked.iter().map(|id| metadata[id].name.as_str()).collect();
    assert!(names.contains("leyden-proto") && names.contains("tokio"), "the client's dependencies were followed");
    for name in DAEMONS_OWN {
        assert!(!names.contains(name), "leyden-client must not link {name}");
    }
}

#[test]
fn pure_crates_name_no_clock_thread_file_or_socket() {
    let root = Path::new(".");
    let mut files = 0;
    for folder in ["chain/consensus/src", "chain/net/src", "channels/src", "watchtower/src", "src/requests/src"] {
        for_each_source(&root.join(folder), &mut |path, text| {
            files += 1;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                for name in IMPURE_NAMES {
                    assert!(!line.contains(name), "{} uses {name}: hand it in as an argument", path.display());
                }
            }
        });
    }
    assert!(files > 20, "the pure crates' sources were read, but only {files} files");
}

/// Whoever works on the curve for a channel, a payment or a watchtower, beside the one place that counts it.
const CURVE: [&str; 7] =
    ["sign_ecdsa", "verify_ecdsa", "recover_ecdsa", "add_exp_tweak", "public_key(secp", "ecdh::", "SharedSecret::new("];

#[test]
fn operations_on_the_curve_are_counted() {
    let mut files = 0;
    for folder in ["channels/src", "watchtower/src", "src/driver"] {
        for_each_source(Path::new(folder), &mut |path, text| {
            files += 1;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let counted = path.ends_with("keys/curve.rs")
                || path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("synthetic"));
            for name in CURVE.iter().filter(|_| !counted) {
                assert!(!code.contains(name), "{} uses {name}: use keys::curve, which counts it", path.display());
            }
        });
    }
    assert!(files > 50, "the sources were read, but only {files} files");
}

/// The modules of the daemon in `src`, each with those that it may use. A module may only use what stands above it, so
/// there is no circle.
const LAYERS: &[(&str, &[&str])] = &[
    ("words", &[]),
    ("address", &[]),
    ("limits", &[]),
    ("log_level", &[]),
    ("admission", &["limits"]),
    ("callers", &["admission", "limits"]),
    ("request_room", &["admission", "limits"]),
    ("counters", &[]),
    ("zmq", &["admission", "callers", "limits"]),
    ("config", &["address", "words", "zmq"]),
    ("wallet", &[]),
    ("macaroon", &["admission"]),
    ("tls", &["config"]),
    ("host", &["tls"]),
    ("parallel", &[]),
    ("store", &["counters", "parallel", "wallet"]),
    ("driver", &["admission", "counters", "limits", "store", "wallet", "words"]),
    ("tower", &["admission", "counters", "driver", "limits", "store", "words"]),
    ("api", &["driver", "limits", "wallet"]),
    ("lightning", &["api", "driver", "limits", "parallel", "store", "wallet"]),
    ("sibling", &["driver"]),
    ("rpc", &["admission", "api", "callers", "limits", "macaroon", "parallel", "request_room", "tls", "wallet"]),
    ("web", &[]),
    ("rest", &["admission", "callers", "host", "limits", "request_room", "rpc", "web"]),
    ("jsonrpc", &["admission", "callers", "host", "limits", "zmq"]),
    ("metrics", &["admission", "api", "callers", "counters", "host", "limits"]),
    ("bench", &["config", "driver", "store"]),
    (
        "daemon",
        &[
            "admission",
            "api",
            "config",
            "counters",
            "driver",
            "host",
            "jsonrpc",
            "lightning",
            "limits",
            "log_level",
            "macaroon",
            "metrics",
            "rest",
            "rpc",
            "sibling",
            "store",
            "tls",
            "tower",
            "wallet",
            "zmq",
        ],
    ),
];

#[test]
fn the_modules_of_the_daemon_use_only_what_stands_below_them() {
    for (at, (module, may_use)) in LAYERS.iter().enumerate() {
        for used in *may_use {
            assert!(
                LAYERS[..at].iter().any(|(name, _)| name == used),
                "{module} may use {used}, which stands above it"
            );
        }
    }
    let mut files = 0;
    for_each_source(Path::new("src"), &mut |path, text| {
        let module = module_of(path, Path::new("src"));
        let Some((_, may_use)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            // Packages of their own, and the roots.
            assert!(
                matches!(module.as_str(), "lib" | "bin" | "client" | "common" | "requests"),
                "{} is not in the picture: add it to LAYERS",
                path.display()
            );
            return;
        };
        files += 1;
        for used in modules_used(text) {
            let allowed = used == module || may_use.contains(&used.as_str());
            assert!(allowed, "{} must not use crate::{used}: {module} may use {may_use:?}", path.display());
        }
    });
    assert!(files > 100, "the daemon's sources were read, but only {files} files");
}

/// The sources of crates whose top-level modules form no circle.
const WITHOUT_CIRCLES: &[&str] = &[
    "chain/consensus/src",
    "chain/mining/src",
    "chain/net/src",
    "chain/node/src",
    "channels/src",
    "src/client/src",
    "src/common/src",
    "src/requests/src",
    "watchtower/src",
];

#[test]
fn the_modules_of_a_library_form_no_circle() {
    for folder in WITHOUT_CIRCLES {
        let folder = Path::new(folder);
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for_each_source(folder, &mut |path, text| {
            let module = module_of(path, folder);
            let code = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
            let mut used = modules_used(code);
            used.remove(&module);
            edges.entry(module).or_default().extend(used);
        });
        assert!(!edges.is_empty(), "{}: its sources were read", folder.display());
        assert_eq!(circle(&edges), None, "{}: these modules use one another", folder.display());
    }
}

#[test]
fn a_circle_of_modules_is_seen() {
    let edges = |list: &[(&str, &str)]| {
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in list {
            edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        edges
    };
    assert_eq!(circle(&edges(&[("a", "b"), ("a", "c"), ("b", "c"), ("d", "a")])), None);
    let found = circle(&edges(&[("a", "b"), ("b", "c"), ("c", "b")])).expect("a circle");
    assert_eq!(found, ["b", "c"]);
}

/// Modules that use one another in a ring, if there are some.
fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    // Modules that lead into no ring are taken away until nothing changes; what uses a ring is not part of it.
    let mut left = edges.clone();
    loop {
        let leads_on = |used: &BTreeSet<String>| used.iter().any(|name| left.contains_key(name));
        let is_used = |name: &String| left.values().any(|used| used.contains(name));
        let ends: Vec<String> = left
            .iter()
            .filter(|(name, used)| !leads_on(used) || !is_used(name))
            .map(|(name, _)| name.clone())
            .collect();
        if ends.is_empty() {
            break;
        }
        ends.iter().for_each(|name| drop(left.remove(name)));
    }
    (!left.is_empty()).then(|| left.into_keys().collect())
}

#[test]
fn a_forbidden_edge_between_modules_is_seen_in_every_form() {
    let text = "
        use crate::{
            api::{self, Channels}, // crate::words::said
            driver::peer::{Command, PeerState},
            limits,
        };
        pub(in crate::store) fn one() -> crate::wallet::onchain::Tip { crate :: daemon::run() }
        pub(crate) mod inner {}
    ";
    assert_eq!(modules_used(text), ["api", "driver", "limits", "store", "wallet", "daemon"].map(str::to_owned).into());
}

/// The top-level module that a file below `folder` belongs to.
fn module_of(path: &Path, folder: &Path) -> String {
    let inside = path.strip_prefix(folder).expect("a file of the folder");
    let first = inside.components().next().expect("a name").as_os_str();
    Path::new(first).file_stem().expect("a name").to_string_lossy().into_owned()
}

/// The modules that a source file names as `crate::module`, alone or in a group.
fn modules_used(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    for after in code.split("crate").skip(1) {
        let Some(path) = after.trim_start().strip_prefix("::") else { continue };
        match path.trim_start().strip_prefix('{') {
            Some(group) => used.extend(heads(group)),
            None => used.extend(name(path)),
        }
    }
    used
}

/// The first names of the paths of a group, whose opening brace has been read.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut begins, mut names) = (1, true, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => begins = true,
            letter if letter.is_whitespace() => {}
            _ if begins => {
                begins = false;
                names.extend(name(&group[at..]));
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// The name of a module at the beginning of a path. A type begins with a capital: it is no module.
fn name(path: &str) -> Option<String> {
    let name: String =
        path.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    name.starts_with(|first: char| first.is_ascii_lowercase()).then_some(name)
}

/// Every source file but those that only tests are made of: they may read vectors and clocks.
fn for_each_source(folder: &Path, check: &mut impl FnMut(&Path, &str)) {
    let roots = ["lib.rs", "mod.rs"].map(|name| fs::read_to_string(folder.join(name)).unwrap_or_default());
    let is_for_tests = |path: &Path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        roots.iter().any(|root| {
            let lines: Vec<&str> = root.lines().collect();
            lines.windows(2).any(|pair| {
                pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start_matches("pub(crate) ") == format!("mod {stem};")
            })
        })
    };
    for entry in fs::read_dir(folder).expect("the crate's folder is readable") {
        let path = entry.expect("a folder entry").path();
        if is_for_tests(&path) {
            continue;
        }
        if path.is_dir() {
            for_each_source(&path, check);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            check(&path, &fs::read_to_string(&path).expect("a source file"));
        }
    }
}
