//! The tower's own key, in a file of its own: 32 bytes in hexadecimal.

use std::{fs, io, path::Path};

use leyden_common::files::write_new;
use secp256k1::SecretKey;

use crate::driver::connection::ephemeral_key;

/// The key at `path`, made on first use.
pub(crate) fn open(path: &Path) -> io::Result<SecretKey> {
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map_err(|_| {
            let text = format!(
                "{} is damaged: restore it from a copy, or delete it to have a new key made; clients then have to add this \
                 tower anew",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = ephemeral_key();
            write_new(path, hex::encode(key.secret_bytes()).as_bytes())?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tower_keeps_its_key_and_a_damaged_one_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tower.key");
        let key = open(&path).unwrap();
        assert_eq!(open(&path).unwrap(), key);
        fs::write(&path, "garbage").unwrap();
        assert_eq!(open(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_to_string(&path).unwrap(), "garbage");
    }
}
