//! Compiles the `.proto` files to Rust and to the descriptor set that the reflection service serves. `protox`
//! does what `protoc` would, so nothing but cargo is needed on the machine.

use std::{env, error::Error, fs, path::PathBuf};

const FILES: &[&str] = &[
    "lnd/lightning.proto",
    "lnd/chainrpc/chainkit.proto",
    "lnd/chainrpc/chainnotifier.proto",
    "lnd/invoicesrpc/invoices.proto",
    "lnd/peersrpc/peers.proto",
    "lnd/routerrpc/router.proto",
    "lnd/signrpc/signer.proto",
    "lnd/stateservice.proto",
    "lnd/verrpc/verrpc.proto",
    "lnd/walletrpc/walletkit.proto",
    "lnd/walletunlocker.proto",
    "lnd/watchtowerrpc/watchtower.proto",
    "lnd/wtclientrpc/wtclient.proto",
    "leyden/browse.proto",
    "leyden/chain.proto",
    "leyden/channels.proto",
    "leyden/crossing.proto",
    "leyden/limits.proto",
    "leyden/session.proto",
    "leyden/swap.proto",
    "leyden/tower.proto",
    "leyden/towers.proto",
    "leyden/wallet.proto",
];

/// Where an `import` is looked for. LND's files import each other relative to their own root.
const ROOTS: &[&str] = &["lnd", "."];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    for folder in ["lnd", "leyden"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let mut compiler = protox::Compiler::new(ROOTS)?;
    compiler.include_imports(true).open_files(FILES)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("leyden.descriptors"), compiler.encode_file_descriptor_set())?;

    // The comments become the docs of the generated types; what the daemon serves does without them.
    let descriptors = compiler.include_source_info(true).file_descriptor_set();
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .codec_path("crate::codec::CheckedCodec")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
