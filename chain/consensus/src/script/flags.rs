//! Which rules a script is judged by.
//!
//! Every flag is a soft fork: what passes under more flags also passes under fewer. Consensus turns a flag on for
//! all blocks from some height; policy turns on more of them for transactions that are not yet in a block.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// A set of script rules. The names are those of Bitcoin Core's `SCRIPT_VERIFY_*`, so its vectors can name them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ScriptFlags(u32);

/// Declares the flags once, with their bit and their name.
macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl ScriptFlags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            /// Every single flag with its name.
            pub const NAMED: &'static [(&'static str, Self)] = &[$((stringify!($name), Self::$name)),*];
        }
    };
}

flags! {
    /// BIP 16: the last push of the input script is itself a script.
    P2SH = 0;
    /// Signatures are strict DER with a defined hash type, keys have a known form (policy only).
    STRICTENC = 1;
    /// BIP 66: signatures are strict DER.
    DERSIG = 2;
    /// The S value of a signature is the lower one (policy; BIP 146).
    LOW_S = 3;
    /// BIP 147: the extra item which CHECKMULTISIG removes is empty.
    NULLDUMMY = 4;
    /// The input script only pushes (policy; for pay-to-script-hash it is consensus anyway).
    SIGPUSHONLY = 5;
    /// Pushes and numbers use their shortest form (policy).
    MINIMALDATA = 6;
    /// The no-operations that are left for future rules fail (policy).
    DISCOURAGE_UPGRADABLE_NOPS = 7;
    /// One single item remains on the stack (policy; consensus in witness scripts).
    CLEANSTACK = 8;
    /// BIP 65: absolute lock times in scripts.
    CHECKLOCKTIMEVERIFY = 9;
    /// BIP 112: relative lock times in scripts.
    CHECKSEQUENCEVERIFY = 10;
    /// BIP 141 and 143: segregated witness version 0.
    WITNESS = 11;
    /// Unknown witness programs fail (policy).
    DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM = 12;
    /// IF takes exactly empty or 1 in version 0 witness scripts (policy; consensus in tapscript).
    MINIMALIF = 13;
    /// A signature check that fails had empty signatures (policy; BIP 146).
    NULLFAIL = 14;
    /// Keys in version 0 witness scripts are compressed (policy).
    WITNESS_PUBKEYTYPE = 15;
    /// CODESEPARATOR and FindAndDelete fail in legacy scripts (policy).
    CONST_SCRIPTCODE = 16;
    /// BIP 341 and 342: taproot and tapscript.
    TAPROOT = 17;
    /// Unknown leaf versions fail (policy).
    DISCOURAGE_UPGRADABLE_TAPROOT_VERSION = 18;
    /// OP_SUCCESS opcodes fail (policy).
    DISCOURAGE_OP_SUCCESS = 19;
    /// Keys of an unknown length fail in tapscript (policy).
    DISCOURAGE_UPGRADABLE_PUBKEYTYPE = 20;
}

impl ScriptFlags {
    /// The rules of the first version.
    pub const NONE: Self = Self(0);
    /// Every flag.
    pub const ALL: Self = Self((1 << 21) - 1);
    /// What every block obeys on a chain where all soft forks are active.
    pub const CONSENSUS: Self = Self(
        Self::P2SH.0
            | Self::DERSIG.0
            | Self::NULLDUMMY.0
            | Self::CHECKLOCKTIMEVERIFY.0
            | Self::CHECKSEQUENCEVERIFY.0
            | Self::WITNESS.0
            | Self::TAPROOT.0,
    );
    /// What an unconfirmed transaction obeys before it is relayed: everything but `SIGPUSHONLY`, which standardness
    /// of the output script implies.
    pub const STANDARD: Self = Self(Self::ALL.0 & !Self::SIGPUSHONLY.0);

    /// Whether every flag of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any flag of `other` is in this set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The flags of both sets; `|` does the same outside constants.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the flags of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The flag of this name, as Bitcoin Core's vectors write it.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag)
    }

    /// The set with these low 21 bits; higher bits are dropped.
    pub const fn from_bits_truncate(bits: u32) -> Self {
        Self(bits & Self::ALL.0)
    }
}

impl BitOr for ScriptFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for ScriptFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for ScriptFlags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for ScriptFlags {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

impl fmt::Debug for ScriptFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, flag) in Self::NAMED {
            if self.contains(*flag) {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        if separator.is_empty() { f.write_str("NONE") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_agree() {
        let all = ScriptFlags::NAMED.iter().fold(ScriptFlags::NONE, |set, (_, flag)| set | *flag);
        assert_eq!(all, ScriptFlags::ALL);
        assert_eq!(ScriptFlags::by_name("TAPROOT"), Some(ScriptFlags::TAPROOT));
        assert_eq!(ScriptFlags::by_name("taproot"), None);
        assert_eq!(format!("{:?}", ScriptFlags::P2SH | ScriptFlags::WITNESS), "P2SH,WITNESS");
        assert!(ScriptFlags::STANDARD.contains(ScriptFlags::CONSENSUS));
        assert!(!ScriptFlags::STANDARD.contains(ScriptFlags::SIGPUSHONLY));
    }
}
