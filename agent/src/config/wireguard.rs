//! What the operator calls WireGuard's peers. Which peers there are is not known here.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use super::ConfigError;
use super::resolve::Resolver;

/// Names of peers by their public keys.
pub type PeerNames = BTreeMap<[u8; 32], String>;

/// Bytes of the longest name: it is a label of four series.
const LONGEST: usize = 128;

/// The names of all layers, each key's from the strongest that has it.
pub(super) fn names(resolver: &mut Resolver) -> Result<PeerNames, ConfigError> {
    let layers = resolver.layers.strongest_first().into_iter();
    let given = layers.filter_map(|(_, input)| input.wireguard.as_ref()?.peers.as_ref());
    let keys: Vec<String> = given.flat_map(BTreeMap::keys).cloned().collect();
    let mut names = PeerNames::new();
    for text in keys {
        let place = quoted(&text);
        let Some(found) = resolver.take(&place, |input| input.wireguard.as_ref()?.peers.as_ref()?.get(&text).cloned())
        else {
            continue;
        };
        let wanted = "a public key: 32 bytes in base64, 44 characters with the = at the end";
        let key = BASE64_STANDARD.decode(&text).ok().and_then(|key| key.try_into().ok()).ok_or_else(|| {
            ConfigError::new(format!(
                "{} names {text:?}, wanted {wanted}",
                found.place.replace(&place, "wireguard.peers")
            ))
            .hint("`wg show` prints the keys of peers as they are wanted here")
        })?;
        if found.value.is_empty() || found.value.len() > LONGEST || found.value.chars().any(char::is_control) {
            return Err(found.wrong(format!("a name of 1 to {LONGEST} bytes without control characters")));
        }
        names.insert(key, found.value);
    }
    Ok(names)
}

/// The key of the configuration that names a peer.
pub(super) fn place(key: &[u8; 32]) -> String {
    quoted(&BASE64_STANDARD.encode(key))
}

fn quoted(key: &str) -> String {
    format!("wireguard.peers.{key:?}")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::path::PathBuf;

    use super::super::{Layers, file, resolve};
    use super::*;

    const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

    fn of(line: &str) -> Result<PeerNames, String> {
        let file = file::parse(&format!("[wireguard.peers]\n{line}\n"), "test.toml").unwrap();
        let layers = Layers { file, file_name: Some(PathBuf::from("test.toml")), ..Layers::default() };
        resolve::resolve(layers).map(|effective| effective.settings.peers).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_belongs_to_the_bytes_of_its_key() {
        let names = of(&format!("{KEY:?} = \"office \u{e9}\"")).unwrap();
        let [(key, name)] = names.iter().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((key[..4].to_vec(), key[31], name.as_str()), (vec![0xc5, 0x32, 0x01, 0x03], 0x38, "office \u{e9}"));
        assert_eq!(place(key), format!("wireguard.peers.\"{KEY}\""));
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        // Too short, without its end, of 31 bytes, with bits behind its end, of the other alphabet, and none at all.
        let (short, other) = (&KEY[..42], KEY.replace('B', "-"));
        let thirty_one = BASE64_STANDARD.encode([7; 31]);
        let bits = KEY.replace("Dg=", "Dh=");
        for key in [short, &KEY[..43], &thirty_one, &bits, &other, ""] {
            assert_eq!(
                of(&format!("{key:?} = \"x\"")).unwrap_err(),
                format!(
                    "test.toml: wireguard.peers names {key:?}, wanted a public key: 32 bytes in base64, 44 characters with \
                     the = at the end\nhint: `wg show` prints the keys of peers as they are wanted here"
                )
            );
        }
    }

    #[test]
    fn a_name_is_short_and_of_one_line() {
        assert_eq!(of(&format!("{KEY:?} = {:?}", "n".repeat(128))).unwrap().len(), 1);
        for name in [String::new(), "n".repeat(129), "a\nb".to_owned(), "\u{7f}".to_owned()] {
            assert_eq!(
                of(&format!("{KEY:?} = {}", toml::Value::from(name.clone()))).unwrap_err(),
                format!(
                    "test.toml: wireguard.peers.\"{KEY}\" is {name:?}, wanted a name of 1 to 128 bytes without control \
                     characters"
                )
            );
        }
    }
}
