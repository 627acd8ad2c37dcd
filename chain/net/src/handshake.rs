//! The handshake of one connection.
//!
//! ```text
//!   outbound                          inbound
//!      │ ── version ────────────────────▶ │
//!      │ ◀──────────────────── version ── │   each side then says what it can do (wtxidrelay, sendaddrv2)
//!      │ ◀─ wtxidrelay, sendaddrv2, verack│   and confirms the other's version
//!      │ ── wtxidrelay, sendaddrv2, verack▶
//!   Ready ◀──────────────────────────▶ Ready   sendheaders, feefilter, getheaders, …
//! ```
//!
//! Promises: nothing but the handshake's own messages has an effect before [`Handshake::Ready`], and what was
//! negotiated cannot change afterwards.

use std::net::SocketAddr;

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_network::VersionMessage;

use crate::config::{Config, MAX_USER_AGENT, MINIMUM_PEER_VERSION, PROTOCOL_VERSION};
use crate::event::{Direction, DisconnectReason};

/// How far a handshake is.
#[derive(Clone, Debug)]
pub(crate) enum Handshake {
    AwaitVersion,
    AwaitVerack(Negotiated),
    Ready(Negotiated),
}

/// What the two ends told each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub version: u32,
    pub services: ServiceFlags,
    pub user_agent: String,
    pub start_height: i32,
    /// Does the peer want transactions?
    pub relay: bool,
    /// Are transactions named by wtxid on this connection (BIP 339)?
    pub wtxid_relay: bool,
    /// Does the peer understand `addrv2` (BIP 155)?
    pub addrv2: bool,
}

impl Negotiated {
    /// Can blocks with their witnesses be asked of the peer?
    pub(crate) fn serves_blocks(&self) -> bool {
        self.services.has(ServiceFlags::WITNESS)
            && (self.services.has(ServiceFlags::NETWORK) || self.services.has(ServiceFlags::NETWORK_LIMITED))
    }
}

/// What a handshake message led to.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing to do.
    Wait,
    /// Answer with these messages.
    Reply(Vec<NetworkMessage>),
    /// The handshake is done.
    Done,
    Close(DisconnectReason),
}

/// What our own `version` message says.
#[derive(Clone, Debug)]
pub(crate) struct Introduction<'a> {
    pub config: &'a Config,
    /// By which a connection to ourselves is noticed.
    pub nonce: u64,
    /// Nonces that we sent on connections that we opened.
    pub own_nonces: &'a std::collections::BTreeSet<u64>,
    /// Are block filters served (BIP 157)?
    pub serves_filters: bool,
    pub unix_time: i64,
    pub height: i32,
    pub remote: SocketAddr,
}

impl Introduction<'_> {
    pub(crate) fn message(&self) -> NetworkMessage {
        let mut services = self.config.services;
        if self.serves_filters {
            services.add(ServiceFlags::COMPACT_FILTERS);
        }
        let unspecified = Address { services, address: [0; 8], port: 0 };
        NetworkMessage::Version(VersionMessage {
            version: PROTOCOL_VERSION,
            services,
            timestamp: self.unix_time,
            receiver: Address::new(&self.remote, ServiceFlags::NONE),
            sender: unspecified,
            nonce: self.nonce,
            user_agent: self.config.user_agent.clone(),
            start_height: self.height,
            relay: !self.config.light,
        })
    }
}

impl Handshake {
    pub(crate) fn ready(&self) -> Option<&Negotiated> {
        match self {
            Self::Ready(negotiated) => Some(negotiated),
            Self::AwaitVersion | Self::AwaitVerack(_) => None,
        }
    }

    /// What is known of the peer so far.
    pub(crate) fn negotiated(&self) -> Option<&Negotiated> {
        match self {
            Self::Ready(negotiated) | Self::AwaitVerack(negotiated) => Some(negotiated),
            Self::AwaitVersion => None,
        }
    }

    /// Takes any message. One that is out of place is ignored, unless honest software never sends it there.
    pub(crate) fn on_message(&mut self, direction: Direction, message: &NetworkMessage, own: &Introduction) -> Step {
        match (&mut *self, message) {
            (Self::AwaitVersion, NetworkMessage::Version(version)) => match accept_version(direction, version, own) {
                Ok(negotiated) => {
                    let replies = replies(direction, &negotiated, own);
                    *self = Self::AwaitVerack(negotiated);
                    Step::Reply(replies)
                }
                Err(reason) => Step::Close(reason),
            },
            (Self::AwaitVerack(negotiated), NetworkMessage::WtxidRelay) => {
                negotiated.wtxid_relay = negotiated.version >= PROTOCOL_VERSION;
                Step::Wait
            }
            (Self::AwaitVerack(negotiated), NetworkMessage::SendAddrV2) => {
                negotiated.addrv2 = true;
                Step::Wait
            }
            (Self::AwaitVerack(negotiated), NetworkMessage::Verack) => {
                *self = Self::Ready(negotiated.clone());
                Step::Done
            }
            // BIP 339 and BIP 155: both have their place between `version` and `verack` only.
            (Self::Ready(_), NetworkMessage::WtxidRelay) => {
                Step::Close(DisconnectReason::Handshake("wtxidrelay after verack"))
            }
            (Self::Ready(_), NetworkMessage::SendAddrV2) => {
                Step::Close(DisconnectReason::Handshake("sendaddrv2 after verack"))
            }
            (Self::AwaitVersion | Self::AwaitVerack(_) | Self::Ready(_), _) => Step::Wait,
        }
    }
}

fn accept_version(
    direction: Direction,
    version: &VersionMessage,
    own: &Introduction,
) -> Result<Negotiated, DisconnectReason> {
    if direction == Direction::Inbound && own.own_nonces.contains(&version.nonce) {
        return Err(DisconnectReason::SelfConnection);
    }
    if version.version < MINIMUM_PEER_VERSION {
        return Err(DisconnectReason::OldVersion { version: version.version, minimum: MINIMUM_PEER_VERSION });
    }
    if version.user_agent.len() > MAX_USER_AGENT {
        return Err(DisconnectReason::Handshake("the user agent is too long"));
    }
    let negotiated = Negotiated {
        version: version.version,
        services: version.services,
        // It ends up in logs and on terminals.
        user_agent: version.user_agent.chars().filter(|c| !c.is_control()).collect(),
        start_height: version.start_height,
        relay: version.relay,
        wtxid_relay: false,
        addrv2: false,
    };
    if direction == Direction::Outbound && !negotiated.serves_blocks() {
        return Err(DisconnectReason::MissingServices);
    }
    Ok(negotiated)
}

fn replies(direction: Direction, negotiated: &Negotiated, own: &Introduction) -> Vec<NetworkMessage> {
    let mut replies = Vec::new();
    if direction == Direction::Inbound {
        replies.push(own.message());
    }
    if negotiated.version >= PROTOCOL_VERSION {
        replies.push(NetworkMessage::WtxidRelay);
        replies.push(NetworkMessage::SendAddrV2);
    }
    replies.push(NetworkMessage::Verack);
    replies
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::pow::Work;

    fn with_own<R>(nonce: u64, run: impl FnOnce(&Introduction) -> R) -> R {
        let config = Config::full_node("/test/", Work::from_be_bytes([0; 32]));
        let nonces = std::collections::BTreeSet::from([nonce]);
        run(&Introduction {
            config: &config,
            nonce,
            own_nonces: &nonces,
            serves_filters: false,
            unix_time: 1,
            height: 0,
            remote: "127.0.0.1:1".parse().unwrap(),
        })
    }

    fn version(nonce: u64, change: impl FnOnce(&mut VersionMessage)) -> NetworkMessage {
        let NetworkMessage::Version(mut version) = with_own(nonce, |own| own.message()) else { unreachable!() };
        change(&mut version);
        NetworkMessage::Version(version)
    }

    #[test]
    fn two_nodes_come_to_agree() {
        let (mut inbound, mut outbound) = (Handshake::AwaitVersion, Handshake::AwaitVersion);
        let replies = with_own(1, |own| match inbound.on_message(Direction::Inbound, &version(2, |_| ()), own) {
            Step::Reply(replies) => replies,
            step => panic!("{step:?}"),
        });
        assert_eq!(
            replies.iter().map(NetworkMessage::cmd).collect::<Vec<_>>(),
            ["version", "wtxidrelay", "sendaddrv2", "verack"]
        );
        with_own(2, |own| {
            for reply in &replies {
                outbound.on_message(Direction::Outbound, reply, own);
            }
        });
        let negotiated = outbound.ready().expect("all of it arrived");
        assert!(negotiated.wtxid_relay && negotiated.addrv2 && negotiated.serves_blocks());
    }

    #[test]
    fn a_connection_to_ourselves_is_noticed() {
        let step = with_own(9, |own| Handshake::AwaitVersion.on_message(Direction::Inbound, &version(9, |_| ()), own));
        assert!(matches!(step, Step::Close(DisconnectReason::SelfConnection)));
    }

    #[test]
    fn old_and_useless_peers_are_refused() {
        let old = version(2, |version| version.version = MINIMUM_PEER_VERSION - 1);
        let step = with_own(1, |own| Handshake::AwaitVersion.on_message(Direction::Inbound, &old, own));
        assert!(matches!(step, Step::Close(DisconnectReason::OldVersion { .. })));
        let light = version(2, |version| version.services = ServiceFlags::NONE);
        let step = with_own(1, |own| Handshake::AwaitVersion.on_message(Direction::Outbound, &light, own));
        assert!(matches!(step, Step::Close(DisconnectReason::MissingServices)));
        let step = with_own(1, |own| Handshake::AwaitVersion.on_message(Direction::Inbound, &light, own));
        assert!(matches!(step, Step::Reply(_)));
    }

    #[test]
    fn messages_before_their_time_change_nothing() {
        with_own(1, |own| {
            let mut handshake = Handshake::AwaitVersion;
            for message in [NetworkMessage::Verack, NetworkMessage::WtxidRelay, NetworkMessage::Ping(1)] {
                assert!(matches!(handshake.on_message(Direction::Inbound, &message, own), Step::Wait));
            }
            handshake.on_message(Direction::Inbound, &version(2, |_| ()), own);
            handshake.on_message(Direction::Inbound, &NetworkMessage::Verack, own);
            assert!(!handshake.ready().expect("verack came").wtxid_relay);
            let step = handshake.on_message(Direction::Inbound, &NetworkMessage::WtxidRelay, own);
            assert!(matches!(step, Step::Close(DisconnectReason::Handshake(_))));
        });
    }
}
