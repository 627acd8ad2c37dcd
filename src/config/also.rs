//! The second network of a daemon: `--also`, and what differs there.
//!
//! All settings hold for both networks, but for those that name something of one chain or serve it to others: addresses, blocks,
//! nodes, mining, the watchtower, Bitcoin Core's interfaces. These are of the first network; `--also-…` names what the second needs.

use std::net::SocketAddr;

use super::{Config, ConfigError, Flags, HostPort, Layout, first_named, load_network};

/// What the command line or the file says of the second network.
pub(super) struct AlsoFlags {
    network: Option<String>,
    listen: Option<HostPort>,
    announce: Vec<HostPort>,
    chain_listen: Option<HostPort>,
    chain_connect: Vec<HostPort>,
}

impl AlsoFlags {
    pub(super) fn of(flags: &Flags, file: &Flags) -> Self {
        Self {
            network: flags.also.clone().or_else(|| file.also.clone()),
            listen: flags.also_listen.or(file.also_listen),
            announce: first_named(flags.also_announce.clone(), file.also_announce.clone()),
            chain_listen: flags.also_chain_listen.or(file.also_chain_listen),
            chain_connect: first_named(flags.also_chain_connect.clone(), file.also_chain_connect.clone()),
        }
    }

    /// The settings of the second network, if there is one.
    pub(super) fn config(self, first: &Config) -> Result<Option<Box<Config>>, ConfigError> {
        let Self { network, listen, announce, chain_listen, chain_connect } = self;
        let Some(network) = network else {
            let unused = [
                (listen.is_some(), "also-listen"),
                (!announce.is_empty(), "also-announce"),
                (chain_listen.is_some(), "also-chain-listen"),
                (!chain_connect.is_empty(), "also-chain-connect"),
            ];
            return match unused.into_iter().find(|(is_set, _)| *is_set) {
                Some((_, name)) => Err(ConfigError::NoAlso(name)),
                None => Ok(None),
            };
        };
        let unfit = [
            (first.swap_with.is_some(), "swap-with"),
            (first.tower.as_ref().is_some_and(|tower| tower.alone), "tower-only"),
        ];
        if let Some((_, name)) = unfit.into_iter().find(|(is_set, _)| *is_set) {
            return Err(ConfigError::WithAlso(name));
        }
        let params = load_network(&network)?;
        if params.name == first.params.name || params.genesis_hash == first.params.genesis_hash {
            return Err(ConfigError::SameNetwork(params.name));
        }
        let mut taken = first.named_addresses();
        let mut place = |named: Option<HostPort>, beside: SocketAddr, flag: &'static str| {
            let address = match named {
                Some(HostPort(address)) => address,
                None => free_beside(beside, &taken).ok_or(ConfigError::NoPort(flag))?,
            };
            taken.push(address);
            Ok::<_, ConfigError>(address)
        };
        let listen = place(listen, first.listen, "also-listen")?;
        let chain_listen = place(chain_listen, first.chain_listen, "also-chain-listen")?;
        let addresses = |named: Vec<HostPort>| named.into_iter().map(|HostPort(address)| address).collect();
        Ok(Some(Box::new(Config {
            layout: Layout::new(first.layout.root().to_owned(), &params.name),
            params,
            listen,
            announce: addresses(announce),
            chain_listen,
            chain_connect: addresses(chain_connect),
            rest: None,
            bitcoin_rpc: None,
            bitcoin_rpc_auth: None,
            chain_rest: false,
            zmq: Vec::new(),
            mine: false,
            zero_conf_peers: Vec::new(),
            assume_valid: None,
            clock_shift: None,
            tower: None,
            also: None,
            ..first.clone()
        })))
    }
}

/// The next port above that no other listener of the daemon is told to take. Any free one stays any free one.
fn free_beside(address: SocketAddr, taken: &[SocketAddr]) -> Option<SocketAddr> {
    if address.port() == 0 {
        return Some(address);
    }
    let above = address.port().checked_add(1)?..=u16::MAX;
    let free = above.into_iter().find(|port| taken.iter().all(|other| other.port() != *port));
    free.map(|port| SocketAddr::new(address.ip(), port))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    const NORTH: &str = "name = \"north\"\nmagic = \"6e6f7274\"\n\n[genesis]\nmessage = \"north\"\ntime = 1700000000\n";
    const SOUTH: &str = "name = \"south\"\nmagic = \"736f7574\"\n\n[genesis]\nmessage = \"south\"\ntime = 1700000000\n";

    fn file(folder: &Path, name: &str, text: &str) -> String {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn load(settings: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let (north, south) = (file(folder.path(), "north.toml", NORTH), file(folder.path(), "south.toml", SOUTH));
        let settings = settings.replace("NORTH", &north).replace("SOUTH", &south);
        fs::write(folder.path().join("leyden.toml"), settings).unwrap();
        Config::load(Flags { data_dir: Some(folder.path().into()), ..Flags::default() })
    }

    #[test]
    fn a_second_network_needs_no_more_than_its_name() {
        let config = load(
            "network = \"NORTH\"\nalso = \"SOUTH\"\nmin-depth = 6\nmine = true\nbitcoin-rpc = \"127.0.0.1:18445\"\n",
        );
        let config = config.unwrap();
        let also = config.also.as_deref().unwrap();
        assert_eq!((config.params.name.as_str(), also.params.name.as_str()), ("north", "south"));
        assert_ne!(config.layout.wallet_seed(), also.layout.wallet_seed());
        assert_eq!(config.layout.lock(), also.layout.lock());
        assert_eq!((also.listen.to_string().as_str(), also.min_depth), ("127.0.0.1:9736", 6));
        assert_eq!(also.chain_listen.to_string(), "127.0.0.1:18446", "the next one is taken by the JSON-RPC");
        assert!(!also.mine && also.bitcoin_rpc.is_none() && also.rest.is_none(), "these are of the first");
        assert_eq!(load("").unwrap().also.map(|also| also.params.name), None);
    }

    #[test]
    fn any_free_port_is_another_free_port() {
        let config = load("also = \"SOUTH\"\nlisten = \"127.0.0.1:0\"\nalso-chain-listen = \"127.0.0.1:7\"\n").unwrap();
        let also = config.also.unwrap();
        assert_eq!((also.listen.port(), also.chain_listen.port()), (0, 7));
        assert!(matches!(
            load("also = \"SOUTH\"\nlisten = \"127.0.0.1:65535\"\n"),
            Err(ConfigError::NoPort("also-listen"))
        ));
    }

    #[test]
    fn two_networks_are_two() {
        assert!(matches!(load("also = \"regtest\"\n"), Err(ConfigError::SameNetwork(name)) if name == "regtest"));
        let folder = tempfile::tempdir().unwrap();
        let again = file(folder.path(), "again.toml", &NORTH.replace("name = \"north\"", "name = \"again\""));
        let error = load(&format!("network = \"NORTH\"\nalso = \"{again}\"\n")).unwrap_err().to_string();
        assert!(error.contains("again") && error.contains("another chain"), "{error}");
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        for (settings, name) in [
            ("also-listen = \"127.0.0.1:1\"\n", "also-listen"),
            ("also-chain-connect = [\"127.0.0.1:1\"]\n", "also-chain-connect"),
            ("also = \"SOUTH\"\nswap-with = \"elsewhere\"\n", "swap-with"),
            ("also = \"SOUTH\"\ntower-only = true\n", "tower-only"),
        ] {
            let error = load(settings).unwrap_err().to_string();
            assert!(error.contains(name), "{settings}: {error}");
        }
    }
}
