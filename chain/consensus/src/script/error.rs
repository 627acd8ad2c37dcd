//! Why a script failed.

use thiserror::Error;

/// Declares each cause once: our variant, Bitcoin Core's name of it, and what it means in plain words.
macro_rules! script_errors {
    ($($variant:ident = $core:literal, $text:literal;)*) => {
        /// Why a script failed: one variant for each cause which Bitcoin Core tells apart.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
        pub enum ScriptError {
            $(#[doc = concat!("Core's `", $core, "`: ", $text, ".")] #[error($text)] $variant,)*
            /// The transaction has no such input (a caller's mistake, never a script's).
            #[error("input {index} was asked for, but the transaction has {inputs} inputs")]
            NoSuchInput {
                /// The input that was asked for.
                index: usize,
                /// How many the transaction has.
                inputs: usize,
            },
        }

        impl ScriptError {
            /// The name which Bitcoin Core's vectors have for this cause (`SCRIPT_ERR_…` without the prefix, except
            /// that they say `NULLFAIL` for `SCRIPT_ERR_SIG_NULLFAIL`).
            pub const fn core_name(&self) -> &'static str {
                match self {
                    $(Self::$variant => $core,)*
                    Self::NoSuchInput { .. } => "UNKNOWN_ERROR",
                }
            }

            /// The cause with this name in Bitcoin Core's vectors.
            pub fn by_core_name(name: &str) -> Option<Self> {
                match name {
                    $($core => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

script_errors! {
    EvalFalse = "EVAL_FALSE", "the script ended with a false or missing result";
    OpReturn = "OP_RETURN", "RETURN was executed: this output can never be spent";
    ScriptNumber = "SCRIPTNUM", "an item is too long for a number or is not its shortest encoding";
    ScriptSize = "SCRIPT_SIZE", "the script is longer than 10,000 bytes";
    PushSize = "PUSH_SIZE", "an item is longer than 520 bytes";
    OpCount = "OP_COUNT", "the script has more than 201 counted operations";
    StackSize = "STACK_SIZE", "the stacks hold more than 1,000 items";
    SigCount = "SIG_COUNT", "the number of signatures is negative or larger than the number of keys";
    PubkeyCount = "PUBKEY_COUNT", "the number of keys is not between 0 and 20";
    Verify = "VERIFY", "VERIFY found false";
    EqualVerify = "EQUALVERIFY", "EQUALVERIFY found two different items";
    CheckMultisigVerify = "CHECKMULTISIGVERIFY", "CHECKMULTISIGVERIFY found too few good signatures";
    CheckSigVerify = "CHECKSIGVERIFY", "CHECKSIGVERIFY found a bad signature";
    NumEqualVerify = "NUMEQUALVERIFY", "NUMEQUALVERIFY found two different numbers";
    BadOpcode = "BAD_OPCODE", "an opcode is unknown or a push runs past the end of the script";
    DisabledOpcode = "DISABLED_OPCODE", "the script contains a disabled opcode";
    InvalidStackOperation = "INVALID_STACK_OPERATION", "an operation needs more items than the stack holds";
    InvalidAltstackOperation = "INVALID_ALTSTACK_OPERATION", "an operation needs more items than the second stack holds";
    UnbalancedConditional = "UNBALANCED_CONDITIONAL", "IF, ELSE and ENDIF do not match";
    NegativeLockTime = "NEGATIVE_LOCKTIME", "a lock time is negative";
    UnsatisfiedLockTime = "UNSATISFIED_LOCKTIME", "the lock time is not reached, or the transaction does not commit to it";
    SigHashType = "SIG_HASHTYPE", "a signature has an undefined hash type";
    SigDer = "SIG_DER", "a signature is not strict DER";
    MinimalData = "MINIMALDATA", "a push is not in its shortest form";
    SigPushOnly = "SIG_PUSHONLY", "the input script does more than push";
    SigHighS = "SIG_HIGH_S", "a signature has the higher S value";
    SigNullDummy = "SIG_NULLDUMMY", "the extra item of CHECKMULTISIG is not empty";
    PubkeyType = "PUBKEYTYPE", "a key is neither compressed nor uncompressed";
    CleanStack = "CLEANSTACK", "the script left more than its result on the stack";
    MinimalIf = "MINIMALIF", "IF found something else than empty or 1";
    SigNullFail = "NULLFAIL", "a signature check failed although a signature was given";
    DiscourageUpgradableNops = "DISCOURAGE_UPGRADABLE_NOPS", "a no-operation kept for future rules was executed";
    DiscourageUpgradableWitnessProgram = "DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM",
        "the witness version is kept for future rules";
    DiscourageUpgradableTaprootVersion = "DISCOURAGE_UPGRADABLE_TAPROOT_VERSION",
        "the taproot leaf version is kept for future rules";
    DiscourageOpSuccess = "DISCOURAGE_OP_SUCCESS", "an OP_SUCCESS opcode is kept for future rules";
    DiscourageUpgradablePubkeyType = "DISCOURAGE_UPGRADABLE_PUBKEYTYPE",
        "a key length in tapscript is kept for future rules";
    WitnessProgramWrongLength = "WITNESS_PROGRAM_WRONG_LENGTH", "a version 0 witness program is neither 20 nor 32 bytes";
    WitnessProgramWitnessEmpty = "WITNESS_PROGRAM_WITNESS_EMPTY", "the witness is empty";
    WitnessProgramMismatch = "WITNESS_PROGRAM_MISMATCH", "the witness does not open the witness program";
    WitnessMalleated = "WITNESS_MALLEATED", "a native witness spend has an input script";
    WitnessMalleatedP2sh = "WITNESS_MALLEATED_P2SH", "a nested witness spend has more than the one push in its input script";
    WitnessUnexpected = "WITNESS_UNEXPECTED", "a witness was given to an output that takes none";
    WitnessPubkeyType = "WITNESS_PUBKEYTYPE", "a key in a version 0 witness script is not compressed";
    SchnorrSigSize = "SCHNORR_SIG_SIZE", "a Schnorr signature is neither 64 nor 65 bytes";
    SchnorrSigHashType = "SCHNORR_SIG_HASHTYPE", "a Schnorr signature has an undefined hash type or signs a missing output";
    SchnorrSig = "SCHNORR_SIG", "a Schnorr signature is wrong";
    TaprootWrongControlSize = "TAPROOT_WRONG_CONTROL_SIZE", "the taproot control block has an impossible length";
    TapscriptValidationWeight = "TAPSCRIPT_VALIDATION_WEIGHT", "more signature checks than the witness size pays for";
    TapscriptCheckMultisig = "TAPSCRIPT_CHECKMULTISIG", "CHECKMULTISIG does not exist in tapscript";
    TapscriptMinimalIf = "TAPSCRIPT_MINIMALIF", "IF found something else than empty or 1 in tapscript";
    TapscriptEmptyPubkey = "TAPSCRIPT_EMPTY_PUBKEY", "a key in tapscript is empty";
    OpCodeSeparator = "OP_CODESEPARATOR", "a legacy script contains CODESEPARATOR";
    SigFindAndDelete = "SIG_FINDANDDELETE", "a legacy script contains the signature that it checks";
}
