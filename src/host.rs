//! For which name a request over HTTP has come: a page of the web must not read what is served on this machine.
//!
//! A browser lets a page read answers of the page's own name only. Whoever owns a name may have it point to 127.0.0.1, after
//! the page is loaded: "DNS rebinding". The browser then takes this machine for the page's server, and sends the page's name
//! as `Host`. Where no password is asked for, that name alone shows it. An address cannot be pointed elsewhere.

use std::net::IpAddr;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Names for which answers are given, beside all addresses and `localhost`.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostNames {
    names: Vec<String>,
    /// Whose names count too, as PEM.
    certificate: Option<String>,
}

impl HostNames {
    /// The names of `--tls-extra`: by those this node is known.
    pub(crate) fn new(names: &[String]) -> Self {
        Self { names: names.iter().map(|name| name.to_ascii_lowercase()).collect(), certificate: None }
    }

    /// Those for which a certificate is valid, too.
    pub(crate) fn and_of(self, certificate: &str) -> Self {
        Self { certificate: Some(certificate.to_owned()), ..self }
    }

    /// Whether a request with these headers may be meant for this node. Every browser says for whom a request is; a client that
    /// does not (HTTP/1.0) is none.
    pub(crate) fn allow(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        match (hosts.next(), hosts.next()) {
            (None, _) => true,
            (Some(host), None) => host.to_str().is_ok_and(|host| self.knows(host)),
            (Some(_), Some(_)) => false,
        }
    }

    /// `HOST` or `HOST:PORT`; an IPv6 address is in brackets.
    fn knows(&self, host: &str) -> bool {
        if let Some((address, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return address.parse::<std::net::Ipv6Addr>().is_ok() && (port.is_empty() || port.starts_with(':'));
        }
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.names.contains(&name) || self.certifies(&name)
    }
}

impl HostNames {
    fn certifies(&self, name: &str) -> bool {
        let is_valid = |name: &str| {
            self.certificate.as_ref().is_some_and(|certificate| crate::tls::is_valid_for(certificate, name))
        };
        let any_host = name.split_once('.').map(|(_, domain)| format!("*.{domain}"));
        !name.is_empty() && (is_valid(name) || any_host.is_some_and(|name| is_valid(&name)))
    }
}

/// Refuses requests for other names, as a layer of a router.
pub(crate) async fn check(State(names): State<HostNames>, request: Request, next: Next) -> Response {
    if names.allow(request.headers()) { next.run(request).await } else { refusal() }
}

/// What a request for another name is told.
pub(crate) const REFUSAL: &str =
    "this node is not known by the name in Host: ask by its address or as localhost, or name it with --tls-extra";

pub(crate) fn refusal() -> Response {
    (StatusCode::MISDIRECTED_REQUEST, format!("{REFUSAL}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_own_names_are_answered_and_no_others() {
        let names = HostNames::new(&["Node.example".to_owned()]);
        let answered = |hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            names.allow(&headers)
        };
        for host in
            ["127.0.0.1:8080", "192.0.2.7", "[::1]:80", "[2001:db8::1]", "localhost", "LOCALHOST:1", "node.example:9"]
        {
            assert!(answered(&[host]), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "", "[evil.example]", "[::1]x"]
        {
            assert!(!answered(&[host]), "{host}");
        }
        assert!(answered(&[]), "a client that names none is no browser");
        assert!(!answered(&["localhost", "evil.example"]));

        let certified = rcgen::generate_simple_self_signed(["own.example".to_owned(), "*.home.example".to_owned()]);
        let names = names.and_of(&certified.unwrap().cert.pem());
        for host in ["node.example", "own.example", "OWN.example", "a.home.example:8080", "localhost"] {
            assert!(names.knows(host), "{host}");
        }
        for host in ["evil.example", "home.example", "a.b.home.example", "example", "*.evil.example"] {
            assert!(!names.knows(host), "{host}");
        }
    }
}
