//! Output descriptors (BIP 380 and after): what one says, and the scripts that it stands for.

use bdk_wallet::miniscript::{Descriptor, DescriptorPublicKey, descriptor::checksum::desc_checksum};
use bitcoin::{
    Address, Network, ScriptBuf,
    address::NetworkUnchecked,
    secp256k1::{All, Secp256k1},
};
use leyden_jsonrpc::Call;
use leyden_node::Node;
use serde_json::{Value, json};

use super::error::RpcError;

/// Scripts of one call: each costs a derivation of its keys, some tens of microseconds.
pub(super) const MAX_SCRIPTS: u32 = 100_000;

/// What was parsed of a descriptor.
pub(super) struct ParsedDescriptor {
    /// As it was written, without its checksum.
    plain: String,
    kind: Kind,
    has_private_keys: bool,
    secp: Secp256k1<All>,
}

enum Kind {
    /// `addr(…)` and `raw(…)`: nobody knows from it how to spend.
    Script(ScriptBuf),
    /// One list for each path that it has for its keys (BIP 389), of the forms that `combo(…)` has several of.
    Keys(Vec<Vec<Descriptor<DescriptorPublicKey>>>),
}

/// A script, and the descriptor of it alone.
pub(super) type DerivedScript = (ScriptBuf, String);

fn wrong(text: &str, why: impl std::fmt::Display) -> RpcError {
    RpcError::not_found(format!("'{text}' is not a valid descriptor: {why}"))
}

fn checksum(text: &str) -> Result<String, RpcError> {
    desc_checksum(text).map_err(|error| wrong(text, error))
}

fn with_checksum(text: &str) -> Result<String, RpcError> {
    Ok(format!("{text}#{}", checksum(text)?))
}

/// The descriptor without its checksum, which has to be right if it is there.
fn without_checksum(text: &str) -> Result<&str, RpcError> {
    let Some((plain, _)) = text.split_once('#') else { return Ok(text) };
    let right = with_checksum(plain)?;
    if right == text { Ok(plain) } else { Err(wrong(text, format!("with its checksum it is {right}"))) }
}

impl ParsedDescriptor {
    /// Reads a descriptor; its checksum may be left out.
    pub(super) fn parse(text: &str, network: Network) -> Result<Self, RpcError> {
        let plain = without_checksum(text)?;
        let secp = Secp256k1::new();
        let inner = |name: &str| plain.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        let mut has_private_keys = false;
        let mut keys = |text: &str| -> Result<Vec<Descriptor<DescriptorPublicKey>>, RpcError> {
            let parsed = Descriptor::<DescriptorPublicKey>::parse_descriptor(&secp, text);
            let (descriptor, private) = parsed.map_err(|error| wrong(plain, error))?;
            has_private_keys |= !private.is_empty();
            descriptor.into_single_descriptors().map_err(|error| wrong(plain, error))
        };
        let kind = if let Some(address) = inner("addr") {
            let address = address.parse::<Address<NetworkUnchecked>>();
            let address = address.and_then(|address| address.require_network(network));
            Kind::Script(address.map_err(|error| wrong(plain, error))?.script_pubkey())
        } else if let Some(hexadecimal) = inner("raw") {
            Kind::Script(hex::decode(hexadecimal).map_err(|error| wrong(plain, error))?.into())
        } else if let Some(key) = inner("combo") {
            let mut forms = vec![keys(&format!("pk({key})"))?, keys(&format!("pkh({key})"))?];
            // Keys that are not compressed have no outputs with witnesses.
            if let Ok(witness) = keys(&format!("wpkh({key})")) {
                forms.extend([witness, keys(&format!("sh(wpkh({key}))"))?]);
            }
            let paths = forms.iter().map(Vec::len).min().unwrap_or(0);
            let path = |path: usize| forms.iter().filter_map(|form| form.get(path).cloned()).collect();
            Kind::Keys((0..paths).map(path).collect())
        } else {
            Kind::Keys(keys(plain)?.into_iter().map(|single| vec![single]).collect())
        };
        Ok(Self { plain: plain.to_owned(), kind, has_private_keys, secp })
    }

    /// Whether there is a script for each index.
    pub(super) fn is_ranged(&self) -> bool {
        match &self.kind {
            Kind::Script(_) => false,
            Kind::Keys(paths) => paths.iter().flatten().any(Descriptor::has_wildcard),
        }
    }

    /// How many descriptors it stands for (BIP 389); 1 unless it has several paths.
    pub(super) fn paths(&self) -> usize {
        match &self.kind {
            Kind::Script(_) => 1,
            Kind::Keys(paths) => paths.len(),
        }
    }

    /// The scripts of one of its paths at an index, which counts for nothing without a range.
    pub(super) fn scripts(&self, path: usize, index: u32) -> Result<Vec<DerivedScript>, RpcError> {
        let forms = match &self.kind {
            Kind::Script(script) => return Ok(vec![(script.clone(), with_checksum(&self.plain)?)]),
            Kind::Keys(paths) => paths.get(path).map(Vec::as_slice).unwrap_or_default(),
        };
        let derive = |form: &Descriptor<DescriptorPublicKey>| {
            let derived = form.derived_descriptor(&self.secp, index).map_err(|error| wrong(&self.plain, error))?;
            Ok((derived.script_pubkey(), derived.to_string()))
        };
        forms.iter().map(derive).collect()
    }

    /// Without private keys, each of its paths by itself.
    fn public_paths(&self) -> Vec<String> {
        match &self.kind {
            Kind::Script(_) => Vec::new(),
            Kind::Keys(paths) => paths
                .iter()
                .filter_map(|forms| match forms.as_slice() {
                    [single] => Some(single.to_string()),
                    // Of `combo`, which has no descriptor for all of its forms but itself.
                    [first, ..] => {
                        let text = first.to_string();
                        let key = text.strip_prefix("pk(")?.split_once(")#")?.0.to_owned();
                        with_checksum(&format!("combo({key})")).ok()
                    }
                    [] => None,
                })
                .collect(),
        }
    }
}

/// What a descriptor says of itself.
pub(super) fn info(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let text = call.text(0)?;
    let descriptor = ParsedDescriptor::parse(text, node.params().address_network)?;
    let paths = descriptor.public_paths();
    // What has no private keys is public as it is written.
    let public = match (descriptor.has_private_keys, paths.as_slice()) {
        (false, _) => with_checksum(&descriptor.plain)?,
        (true, [single]) => single.clone(),
        (true, _) => {
            return Err(wrong(text, "with private keys it may have one path only"));
        }
    };
    let mut value = json!({
        "descriptor": public,
        "checksum": checksum(&descriptor.plain)?,
        "isrange": descriptor.is_ranged(),
        "issolvable": match &descriptor.kind {
            Kind::Script(_) => false,
            Kind::Keys(_) => true,
        },
        "hasprivatekeys": descriptor.has_private_keys,
    });
    if paths.len() > 1 {
        value["multipath_expansion"] = json!(paths);
    }
    Ok(value)
}

/// The addresses that a descriptor stands for.
pub(super) fn addresses(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let text = call.text(0)?;
    let network = node.params().address_network;
    if !text.contains('#') {
        return Err(RpcError::not_found("Missing checksum"));
    }
    let descriptor = ParsedDescriptor::parse(text, network)?;
    let range = match (descriptor.is_ranged(), call.optional(1)) {
        (false, Some(_)) => {
            return Err(RpcError::parameter("Range should not be specified for an un-ranged descriptor"));
        }
        (true, None) => return Err(RpcError::parameter("Range must be specified for a ranged descriptor")),
        (false, None) => (0, 0),
        (true, Some(given)) => range(given)?,
    };
    let scripts = u64::from(range.1 - range.0).saturating_add(1).saturating_mul(descriptor.paths() as u64);
    if scripts > u64::from(MAX_SCRIPTS) {
        return Err(RpcError::parameter("Range is too large"));
    }
    let missing = || RpcError::not_found("Descriptor does not have a corresponding address");
    let of_path = |path: usize| {
        let mut found = Vec::new();
        for index in range.0..=range.1 {
            let scripts = descriptor.scripts(path, index)?;
            let has_several = scripts.len() > 1;
            for (script, _) in scripts {
                match Address::from_script(&script, network).ok().filter(|_| !script.is_p2pk()) {
                    Some(address) => found.push(address.to_string()),
                    // A bare key, which `combo` has beside others.
                    None if has_several => {}
                    None => return Err(missing()),
                }
            }
        }
        Ok(found)
    };
    match descriptor.paths() {
        1 => Ok(json!(of_path(0)?)),
        paths => Ok(json!((0..paths).map(of_path).collect::<Result<Vec<_>, RpcError>>()?)),
    }
}

/// The last index, or the first and the last one.
pub(super) fn range(value: &Value) -> Result<(u32, u32), RpcError> {
    let number = |value: &Value| value.as_i64();
    let range = match value {
        Value::Array(ends) => match ends.as_slice() {
            [first, last] => number(first).zip(number(last)),
            _ => None,
        },
        last => number(last).map(|last| (0, last)),
    };
    let (first, last) = range.ok_or_else(|| RpcError::parameter("Range must be specified as end or as [begin,end]"))?;
    if last < first {
        return Err(RpcError::parameter("Range specified as [begin,end] must not have begin after end"));
    }
    if first < 0 {
        return Err(RpcError::parameter("Range should be greater or equal than 0"));
    }
    if last >= 1 << 31 {
        return Err(RpcError::parameter("End of range is too high"));
    }
    if last - first >= i64::from(MAX_SCRIPTS) {
        return Err(RpcError::parameter("Range is too large"));
    }
    let index = |number: i64| u32::try_from(number).map_err(|_| RpcError::parameter("Range is too large"));
    Ok((index(first)?, index(last)?))
}
