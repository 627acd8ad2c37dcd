//! Settings and log, for whoever looks for a fault.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use async_trait::async_trait;

use super::LeydenDaemon;
use crate::{
    api::{ApiError, Diagnosis},
    config::Config,
    limits::MAX_LOG_ANSWER,
    log_level,
};

#[async_trait]
impl Diagnosis for LeydenDaemon {
    fn log_parts(&self) -> Vec<&'static str> {
        log_level::PARTS.to_vec()
    }

    fn set_log_level(&self, spec: &str) -> Result<String, ApiError> {
        log_level::set(spec).map_err(|error| ApiError::invalid(error.to_string()))
    }

    fn settings(&self) -> BTreeMap<String, String> {
        settings(&self.config)
    }

    async fn log_lines(&self) -> Result<Vec<String>, ApiError> {
        let Some(path) = self.config.log_file.clone() else {
            return Err(ApiError::precondition(
                "error reading log file: the log goes to the terminal, start leydend with --log-file to keep it",
            ));
        };
        tokio::task::spawn_blocking(move || end_of(&path, MAX_LOG_ANSWER))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?
            .map_err(|error| ApiError::internal(format!("error reading log file: {error}")))
    }
}

/// The last whole lines of a file, of so many bytes at most.
fn end_of(path: &Path, most: u64) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let begin = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line may have begun before.
    Ok(text.lines().skip(usize::from(begin > 0)).map(str::to_owned).collect())
}

/// Without what unlocks anything.
fn settings(config: &Config) -> BTreeMap<String, String> {
    let list = |items: Vec<String>| items.join(",");
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
    set("data-dir", config.layout.root().display().to_string());
    set("network", config.params.name.clone());
    set("alias", config.alias.clone());
    set("listen", config.listen.to_string());
    set("announce", list(config.announce.iter().map(ToString::to_string).collect()));
    set("rpc-listen", config.rpc_listen.to_string());
    set("no-rest", config.rest.is_none().to_string());
    set("chain-listen", config.chain_listen.to_string());
    set("chain-connect", list(config.chain_connect.iter().map(ToString::to_string).collect()));
    set("chain-rest", config.chain_rest.to_string());
    set("mine", config.mine.to_string());
    set("no-wallet-password", config.no_wallet_password.to_string());
    set("tls-extra", list(config.tls_extra.clone()));
    set("to-self-delay", config.to_self_delay.to_string());
    set("min-depth", config.min_depth.to_string());
    set("zero-conf-peer", list(config.zero_conf_peers.iter().map(ToString::to_string).collect()));
    set("tower-require", config.tower_require.to_string());
    set("light", config.light.to_string());
    set("block-filters", config.block_filters.to_string());
    set("accept-keysend", config.accept_keysend.to_string());
    set("store-final-htlc-resolutions", config.keeps_final_htlcs.to_string());
    set("require-interceptor", config.require_interceptor.to_string());
    set("tower", config.tower.is_some().to_string());
    set("log", config.log.clone());
    let mut optional = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            set(name, value);
        }
    };
    optional("bitcoin-rpc", config.bitcoin_rpc.map(|address| address.to_string()));
    optional("metrics", config.metrics.map(|address| address.to_string()));
    optional("mine-threads", config.mine_threads.map(|threads| threads.to_string()));
    optional("attacker-share", config.attacker_share.map(|share| share.to_string()));
    optional("max-mempool", config.max_mempool.map(|megabytes| megabytes.to_string()));
    optional("assume-valid", config.assume_valid.map(|hash| hash.to_string()));
    optional("swap-with", config.swap_with.as_ref().map(|folder| folder.display().to_string()));
    optional("tower-listen", config.tower.as_ref().map(|tower| tower.listen.to_string()));
    optional("log-file", config.log_file.as_ref().map(|path| path.display().to_string()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_its_last_whole_lines_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(end_of(&path, 100).unwrap(), ["one", "two", "three"]);
        assert_eq!(end_of(&path, 8).unwrap(), ["three"]);
        assert_eq!(end_of(&path, 0).unwrap(), Vec::<String>::new());
    }
}
