//! The form of a macaroon, a token that anybody can narrow by adding a caveat, and nobody can widen without the root key.
//!
//! ```text
//!   binary v2:  2 │ field 2 identifier │ 0 │ (field 2 caveat │ 0)* │ 0 │ field 6 signature
//!   signature:  HMAC(… HMAC(HMAC(derived root key, identifier), caveat 1) …, caveat n)
//! ```
//!
//! The format is that of libmacaroons and gopkg.in/macaroon.v2. What the identifier and the caveats mean is the daemon's.

use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, cmp::fixed_time_eq, sha256};

const VERSION: u8 = 2;
const FIELD_END: u8 = 0;
const FIELD_LOCATION: u8 = 1;
const FIELD_IDENTIFIER: u8 = 2;
const FIELD_VERIFICATION_ID: u8 = 4;
const FIELD_SIGNATURE: u8 = 6;

/// What libmacaroons keys the root key with.
const KEY_GENERATOR: &[u8; 32] = b"macaroons-key-generator\0\0\0\0\0\0\0\0\0";

/// These bytes are no macaroon, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the macaroon cannot be read: {0}")]
pub struct Malformed(pub &'static str);

/// A token with its first-party caveats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macaroon {
    location: Vec<u8>,
    identifier: Vec<u8>,
    caveats: Vec<Vec<u8>>,
    signature: [u8; 32],
}

impl Macaroon {
    /// A token without caveats that whoever has the root key knows again.
    pub fn new(root_key: &[u8; 32], identifier: Vec<u8>) -> Self {
        let signature = hmac(&hmac(KEY_GENERATOR, root_key), &identifier);
        Self { location: b"lnd".to_vec(), identifier, caveats: Vec::new(), signature }
    }

    /// The same token, allowed only where `caveat` holds.
    pub fn narrowed(mut self, caveat: &[u8]) -> Self {
        self.signature = hmac(&self.signature, caveat);
        self.caveats.push(caveat.to_vec());
        self
    }

    /// What names the root key and says what the token allows: for whoever made it.
    pub fn identifier(&self) -> &[u8] {
        &self.identifier
    }

    /// What the token was narrowed by, in order.
    pub fn caveats(&self) -> impl Iterator<Item = &[u8]> {
        self.caveats.iter().map(Vec::as_slice)
    }

    /// In binary v2.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_field(&mut out, FIELD_LOCATION, &self.location);
        put_field(&mut out, FIELD_IDENTIFIER, &self.identifier);
        out.push(FIELD_END);
        for caveat in &self.caveats {
            put_field(&mut out, FIELD_IDENTIFIER, caveat);
            out.push(FIELD_END);
        }
        out.push(FIELD_END);
        put_field(&mut out, FIELD_SIGNATURE, &self.signature);
        out
    }

    /// From binary v2.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (version, mut rest) = bytes.split_first().ok_or(Malformed("it is empty"))?;
        if *version != VERSION {
            return Err(Malformed("it is not a binary macaroon of version 2"));
        }
        let header = take_section(&mut rest)?;
        let field = |section: &[(u8, &[u8])], kind| {
            section.iter().find(|(field, _)| *field == kind).map(|(_, data)| data.to_vec())
        };
        let location = field(&header, FIELD_LOCATION).unwrap_or_default();
        let identifier = field(&header, FIELD_IDENTIFIER).ok_or(Malformed("it has no identifier"))?;
        let mut caveats = Vec::new();
        loop {
            let section = take_section(&mut rest)?;
            if section.is_empty() {
                break;
            }
            if field(&section, FIELD_VERIFICATION_ID).is_some() {
                return Err(Malformed("third-party caveats are not supported"));
            }
            caveats.push(field(&section, FIELD_IDENTIFIER).ok_or(Malformed("a caveat is empty"))?);
        }
        let signature = match take_field(&mut rest)? {
            Some((FIELD_SIGNATURE, data)) if rest.is_empty() => data.try_into().ok(),
            _ => None,
        };
        let signature = signature.ok_or(Malformed("its signature is missing or too long"))?;
        Ok(Self { location, identifier, caveats, signature })
    }

    /// Whether it was made with this root key, and narrowed by these caveats and no others.
    pub fn is_signed_by(&self, root_key: &[u8; 32]) -> bool {
        let first = hmac(&hmac(KEY_GENERATOR, root_key), &self.identifier);
        let expected = self.caveats.iter().fold(first, |signature, caveat| hmac(&signature, caveat));
        // Compared in constant time: a prefix that matches must not be seen on the clock.
        fixed_time_eq(&expected, &self.signature)
    }
}

fn hmac(key: &[u8; 32], data: &[u8]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    engine.input(data);
    Hmac::from_engine(engine).to_byte_array()
}

fn put_field(out: &mut Vec<u8>, field: u8, data: &[u8]) {
    out.push(field);
    let mut length = data.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(data);
}

/// The next field, or `None` at the end of a section.
fn take_field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, Malformed> {
    let cut = || Malformed("it is cut short");
    let mut byte = || {
        let (first, tail) = rest.split_first()?;
        *rest = tail;
        Some(*first)
    };
    let field = byte().ok_or_else(cut)?;
    if field == FIELD_END {
        return Ok(None);
    }
    let mut length = 0_usize;
    for shift in [0, 7, 14] {
        let part = byte().ok_or_else(cut)?;
        length |= usize::from(part & 0x7f) << shift;
        if part & 0x80 == 0 {
            let (data, tail) = rest.split_at_checked(length).ok_or_else(cut)?;
            *rest = tail;
            return Ok(Some((field, data)));
        }
    }
    Err(Malformed("a field is too long"))
}

fn take_section<'a>(rest: &mut &'a [u8]) -> Result<Vec<(u8, &'a [u8])>, Malformed> {
    let mut fields = Vec::new();
    while let Some(field) = take_field(rest)? {
        fields.push(field);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_libmacaroons() {
        // The example of libmacaroons' README: key, identifier and the signatures before and after a caveat.
        let derived = hmac(KEY_GENERATOR, b"this is our super secret key; only we should know it");
        let signature = hmac(&derived, b"we used our secret key");
        assert_eq!(hex::encode(signature), "e3d9e02908526c4c0039ae15114115d97fdd68bf2ba379b342aaf0f617d0552f");
        let narrowed = hmac(&signature, b"account = 3735928559");
        assert_eq!(hex::encode(narrowed), "1efe4763f290dbce0c1d08477367e11f4eee456a64933cf662d79772dbb82128");
    }
}
