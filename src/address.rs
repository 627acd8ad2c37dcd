//! Addresses in settings: `127.0.0.1:9735`, `[::1]:9735`, `localhost:9735`.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs as _},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, de};

/// A host and a port, as the system resolves them when the settings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort(pub SocketAddr);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPortError {
    #[error("\"{0}\" is no host and port, such as 127.0.0.1:9735 or localhost:9735")]
    Form(String),
    #[error("\"{0}\" is no address of ZeroMQ over TCP, such as tcp://127.0.0.1:28332")]
    Endpoint(String),
    #[error("the name in \"{name}\" cannot be resolved: {why}")]
    Unresolved { name: String, why: String },
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let form = || HostPortError::Form(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
        let is_name = !host.is_empty() && !host.contains([':', '/', '@', ' ']);
        if !is_name || port.parse::<u16>().is_err() {
            return Err(form());
        }
        let unresolved = |why: String| HostPortError::Unresolved { name: text.to_owned(), why };
        let found: Vec<SocketAddr> = text.to_socket_addrs().map_err(|error| unresolved(error.to_string()))?.collect();
        // The defaults are IPv4 addresses, and so is what most people mean by localhost.
        let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
        address.copied().map(Self).ok_or_else(|| unresolved("it has no address".to_owned()))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An address as ZeroMQ writes it: `tcp://127.0.0.1:28332`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpEndpoint(pub SocketAddr);

impl FromStr for TcpEndpoint {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let address = text.strip_prefix("tcp://").ok_or_else(|| HostPortError::Endpoint(text.to_owned()))?;
        let HostPort(address) = address.parse()?;
        Ok(Self(address))
    }
}

impl<'de> Deserialize<'de> for TcpEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_and_what_is_no_address_is_told() {
        let parse = |text: &str| text.parse::<HostPort>().map(|address| address.to_string());
        assert_eq!(parse("localhost:1"), Ok("127.0.0.1:1".to_owned()));
        assert_eq!(parse("[::1]:9735"), Ok("[::1]:9735".to_owned()));
        for wrong in ["localhost", ":1", "localhost:x", "localhost:65536", "http://a:1", "::1:1"] {
            assert_eq!(parse(wrong), Err(HostPortError::Form(wrong.to_owned())));
        }
        let unknown = parse("no-such-host.invalid:1").unwrap_err();
        assert!(unknown.to_string().contains("no-such-host.invalid"), "{unknown}");
    }
}
