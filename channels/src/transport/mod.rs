//! Encrypted and authenticated transport (BOLT 8): Noise XK over secp256k1, then frames under rotating keys.
//!
//! ```text
//!   initiator                                    responder
//!   AwaitingActTwo  ── act one (50 bytes) ─────► AwaitingActOne
//!                   ◄─ act two (50) ──────────── AwaitingActThree
//!   Session         ── act three (66) ─────────► Session
//!
//!   frame = encrypted length (2 + 16) ‖ encrypted message (n + 16)
//! ```
//!
//! Promises: each act is a type of its own, so no act can be played out of turn or twice; the first act that does
//! not check ends the handshake. A session encrypts into the buffer that it is given and decrypts in place: no copy
//! and no allocation a message. Keys change after 500 messages in either direction, as both sides count them.
//! Entropy (the ephemeral key) comes from the caller, sockets are the caller's.

mod cipher;
mod handshake;

pub use cipher::{CipherError, Decryptor, Encryptor, FRAME_OVERHEAD, ReceiveBuffer};
pub use handshake::{
    ACT_ONE_LEN, ACT_THREE_LEN, ACT_TWO_LEN, AwaitingActOne, AwaitingActThree, AwaitingActTwo, HandshakeError, Session,
};
