//! Where tests find the published test vectors: `$LEYDEN_VECTORS`, else `../shared/vectors` beside the workspace.

use std::path::PathBuf;

fn folder() -> PathBuf {
    match std::env::var_os("LEYDEN_VECTORS") {
        Some(folder) => folder.into(),
        None => "../../shared/vectors".into(),
    }
}

/// A vector file, or `None` with a word about it where the folder is missing: that is fine on a developer's
/// machine, and a failure where `CI=true`.
pub(crate) fn json(path: &str) -> Option<serde_json::Value> {
    let file = folder().join(path);
    match std::fs::read(&file) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"))),
        Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{}: {error}", file.display()),
        Err(_) => {
            println!("{path}: skipped, no vectors at {}", folder().display());
            None
        }
    }
}

/// Says how many cases of a file ran, and fails if it was not all of them.
pub(crate) fn ran(path: &str, count: usize, expected: usize) {
    println!("{path}: {count} cases");
    assert_eq!(count, expected, "{path}: not every case was run");
}

/// Decodes the hex string at `key`.
pub(crate) fn hex_field(value: &serde_json::Value, key: &str) -> Vec<u8> {
    let text = value[key].as_str().unwrap_or_else(|| panic!("no string {key}"));
    hex::decode(text).unwrap_or_else(|error| panic!("{key}: {error}"))
}

/// The first 32 bytes at `key`: of a private key, a trailing 01 is dropped.
pub(crate) fn bytes32_field(value: &serde_json::Value, key: &str) -> [u8; 32] {
    hex_field(value, key)[..32].try_into().expect("32 bytes")
}
