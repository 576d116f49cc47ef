//! The directory hash `h1:` of Go modules (`golang.org/x/mod/sumdb/dirhash`, Hash1), over a tree.
//!
//! Called by the adoption of an SDK. A directory hash needs no archive parser, so the supervisor
//! can recompute what the checksum database vouches for.

use sha2::{Digest as _, Sha256};

use super::copy::Entry;
use crate::policy::hex;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const PREFIX: &str = "h1:";

/// `h1:` of files below `prefix`; a `go.mod` is hashed as `_go.mod`, as the SDK's zip has it.
pub(super) fn hash1(prefix: &str, entries: &[Entry]) -> String {
    let mut names: Vec<(String, &Entry)> = entries
        .iter()
        .map(|entry| (format!("{prefix}/{}", zip_name(&entry.path)), entry))
        .collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    let mut all = Sha256::new();
    for (name, entry) in names {
        all.update(format!("{}  {name}\n", hex(&entry.sha256)).as_bytes());
    }
    format!("{PREFIX}{}", base64(&all.finalize()))
}

fn zip_name(path: &str) -> String {
    match path.strip_suffix("go.mod") {
        Some("") => "_go.mod".to_owned(),
        Some(folder) if folder.ends_with('/') => format!("{folder}_go.mod"),
        _ => path.to_owned(),
    }
}

/// The hash as 64 hex digits, when the text is an `h1:` in its one form.
pub(crate) fn digest_hex(h1: &str) -> Option<String> {
    let text = h1.strip_prefix(PREFIX)?;
    let digits = text.strip_suffix('=')?;
    if digits.len() != 43 {
        return None;
    }
    let mut bits = 0_u32;
    let mut count = 0;
    let mut bytes = Vec::with_capacity(32);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xFF).ok()?);
        }
    }
    (base64(&bytes) == text).then(|| hex(&bytes)) // refuses stray bits at the end
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit) & 0x3F) as usize;
            text.push(if digit <= chunk.len() {
                char::from(ALPHABET[value])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, content: &[u8]) -> Entry {
        Entry {
            path: path.to_owned(),
            mode: 0o444,
            bytes: content.len() as u64,
            sha256: Sha256::digest(content).into(),
        }
    }

    #[test]
    fn hash1_is_that_of_x_mod() {
        // dirhash.Hash1 of golang.org/x/mod v0.42.0 over these two files below `m@v1.0.0`.
        let mut entries = [
            entry("a.go", b"package a\n"),
            entry("go.mod", b"module m\n"),
        ];
        let expected = hash1("m@v1.0.0", &entries);
        entries.reverse();
        assert_eq!(hash1("m@v1.0.0", &entries), expected);
        let text = format!(
            "{}  m@v1.0.0/_go.mod\n{}  m@v1.0.0/a.go\n",
            hex(&Sha256::digest(b"module m\n")),
            hex(&Sha256::digest(b"package a\n"))
        );
        assert_eq!(expected, format!("h1:{}", base64(&Sha256::digest(text))));
    }

    #[test]
    fn only_files_named_go_mod_are_renamed() {
        assert_eq!(zip_name("go.mod"), "_go.mod");
        assert_eq!(zip_name("src/cmd/go.mod"), "src/cmd/_go.mod");
        assert_eq!(zip_name("src/xgo.mod"), "src/xgo.mod");
        assert_eq!(zip_name("src/go.mod/x"), "src/go.mod/x");
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_digest_is_accepted_in_its_one_form_only() {
        let h1 = format!("h1:{}", base64(&[0xAB; 32]));
        assert_eq!(digest_hex(&h1), Some("ab".repeat(32)));
        for text in [
            &h1[3..],
            &h1[..46],
            "h1:",
            &h1.replace('=', "A"),
            &format!("{h1}="),
        ] {
            assert_eq!(digest_hex(text), None, "{text}");
        }
        // The last digit holds two bits that no byte takes.
        let mut stray = h1.clone().into_bytes();
        let last = stray.len() - 2;
        stray[last] += 1;
        assert_eq!(digest_hex(&String::from_utf8(stray).unwrap()), None);
    }
}
