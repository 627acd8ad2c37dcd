//! Messages as JSON and back, for any message by its descriptor: the JSON of protobuf as LND writes and reads it.
//!
//! ```text
//!   written: every field, set or not, under its own name; 64-bit numbers as strings; enums by name; `null` for a message
//!            that is not there; a choice that is not made is left out
//!   read:    names of both spellings (`r_hash`, `rHash`); numbers as numbers or as strings; base64 of both alphabets, with
//!            or without padding; enums by name or number; `null` is unset; everything else is refused
//! ```

mod read;
mod write;

pub use read::{map_key, read, scalar};
pub use write::{BytesAs, Json};
