//! `leyden tower info`: where clients reach the watchtower, and whether it sees the chain.

use std::net::{SocketAddr, UdpSocket};

use clap::Args;
use leyden_proto::watchtowerrpc::GetInfoRequest;

use super::{
    super::{CliError, Context, table},
    sight::Sight,
};

/// Show the watchtower's key and addresses, as its clients need them, and whether it sees the chain's blocks.
#[derive(Debug, Args)]
pub(super) struct Info {}

impl Info {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let info = client.watchtower().get_info(GetInfoRequest {}).await?.into_inner();
        let sight = Sight::of(&client).await?;
        context.show_with(&info, vec![("chain", sight.value()?)], || {
            let key = hex::encode(&info.pubkey);
            let clients = match info.uris.is_empty() {
                true => reached(&key, &info.listeners, own_address()),
                false => info.uris.join(" "),
            };
            let facts = [("key", key), ("listens on", info.listeners.join(" ")), ("clients add", clients)];
            table::facts(facts.into_iter().chain(sight.facts())) + &sight.warning()
        })
    }
}

/// What clients are to add, where the tower listens on all addresses of the machine and no other is known to it.
fn reached(key: &str, listeners: &[String], own: Option<String>) -> String {
    let port = listeners.iter().find_map(|one| one.parse::<SocketAddr>().ok()).map_or(9911, |one| one.port());
    match own {
        Some(host) => format!(
            "{key}@{host}:{port} (from this machine's own network; from elsewhere the machine's public address in place of \
             {host}: `leydend --announce` names it)"
        ),
        None => format!(
            "{key}@HOST:{port}, where HOST is an address of this machine that they can reach: `ip address` lists them, and \
             `leydend --announce HOST:PORT` has it shown here"
        ),
    }
}

/// The address by which this machine reaches others. Nothing is sent: a UDP socket that is connected has chosen its address.
fn own_address() -> Option<String> {
    /// Of the documentation (RFC 5737): what counts is that it is not on this machine.
    const ELSEWHERE: (&str, u16) = ("192.0.2.1", 9);
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(ELSEWHERE).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then(|| own.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tower_that_listens_everywhere_names_an_address_or_says_how_to_find_one() {
        let listeners = ["0.0.0.0:9000".to_owned()];
        let found = reached("02ab", &listeners, Some("10.0.0.7".to_owned()));
        assert!(found.starts_with("02ab@10.0.0.7:9000 "), "{found}");
        let unknown = reached("02ab", &listeners, None);
        assert!(unknown.contains("02ab@HOST:9000") && unknown.contains("ip address"), "{unknown}");
    }
}
