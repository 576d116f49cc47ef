//! A checksum database: a tree over the records of all modules, a key, signed heads, tiles.
//!
//! The arithmetic is written down here a second time on purpose, straight from RFC 6962, section
//! 2.1, so that it shares no mistake with the program under test.

use base64::{Engine, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

/// Name of the key.
pub const NAME: &str = "sumdb.example";

/// Height of the tiles that the Go command asks for.
const TILE_HEIGHT: u32 = 8;

type Hash = [u8; 32];

/// All records, fixed from the start.
pub struct SumDb {
    records: Vec<(String, String)>,
    /// Hashes of all complete subtrees: `levels[0]` are the leaves.
    levels: Vec<Vec<Hash>>,
    key: SigningKey,
}

/// The hash that go.sum files hold: over the sorted list of files and their hashes.
pub fn h1(entries: &[(String, Vec<u8>)]) -> String {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    let mut list = String::new();
    for (name, data) in sorted {
        list.push_str(&format!("{}  {name}\n", hex(&Sha256::digest(data))));
    }
    format!(
        "h1:{}",
        BASE64_STANDARD.encode(Sha256::digest(list.as_bytes()))
    )
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl SumDb {
    /// A tree over `records`: key of the lookup and text, in this order.
    ///
    /// The signing key follows from the records, so that another set is another database: a client
    /// that remembers the heads of one never sees them contradicted by the other.
    pub fn new(records: Vec<(String, String)>) -> Self {
        let leaves = records
            .iter()
            .map(|(_, text)| hashed(0, &[text.as_bytes()]))
            .collect();
        let mut levels: Vec<Vec<Hash>> = vec![leaves];
        while let Some(below) = levels.last()
            && below.len() > 1
        {
            let above = below
                .chunks_exact(2)
                .map(|pair| hashed(1, &[&pair[0], &pair[1]]));
            levels.push(above.collect());
        }
        let mut sumdb = Self {
            records,
            levels,
            key: SigningKey::from_bytes(&[7; 32]),
        };
        sumdb.key = SigningKey::from_bytes(&sumdb.root());
        sumdb
    }

    /// `sumdb.example+<hash>+<key>`
    pub fn verifier_key(&self) -> String {
        let mut public = vec![1]; // Ed25519, the only algorithm of signed notes here
        public.extend_from_slice(self.key.verifying_key().as_bytes());
        format!(
            "{NAME}+{}+{}",
            hex(&self.key_hash()),
            BASE64_STANDARD.encode(public)
        )
    }

    fn key_hash(&self) -> [u8; 4] {
        let mut hash = Sha256::new();
        hash.update(format!("{NAME}\n\x01"));
        hash.update(self.key.verifying_key().as_bytes());
        let whole: Hash = hash.finalize().into();
        whole[..4].try_into().expect("four bytes are four bytes")
    }

    fn root(&self) -> Hash {
        self.range(0, self.records.len())
    }

    /// RFC 6962's MTH over the leaves from `from` to `to`.
    fn range(&self, from: usize, to: usize) -> Hash {
        let count = to - from;
        if count == 0 {
            return Sha256::digest([]).into();
        }
        if count == 1 {
            return self.levels[0][from];
        }
        let left = count.next_power_of_two() / 2;
        hashed(
            1,
            &[&self.range(from, from + left), &self.range(from + left, to)],
        )
    }

    /// The signed tree head.
    pub fn latest(&self) -> String {
        let root = BASE64_STANDARD.encode(self.root());
        let text = format!("go.sum database tree\n{}\n{root}\n", self.records.len());
        let mut signature = self.key_hash().to_vec();
        signature.extend_from_slice(&self.key.sign(text.as_bytes()).to_bytes());
        format!("{text}\n— {NAME} {}\n", BASE64_STANDARD.encode(signature))
    }

    /// The record of an unescaped `path@version`, with the head.
    pub fn lookup(&self, key: &str) -> Option<String> {
        let index = self.records.iter().position(|(known, _)| known == key)?;
        Some(format!(
            "{index}\n{}\n{}",
            self.records[index].1,
            self.latest()
        ))
    }

    /// A tile by its path after `tile/`, such as `8/0/001.p/17`.
    pub fn tile(&self, path: &str) -> Option<Vec<u8>> {
        let mut parts = path.split('/');
        if parts.next()?.parse() != Ok(TILE_HEIGHT) {
            return None;
        }
        let level = parts.next()?;
        let rest: Vec<&str> = parts.collect();
        let (number, width) = tile_number(&rest)?;
        if level == "data" {
            let texts = self.records.get(number * 256..(number * 256 + width))?;
            let joined: String = texts.iter().map(|(_, text)| format!("{text}\n")).collect();
            return Some(joined.into_bytes());
        }
        let row = self
            .levels
            .get(level.parse::<usize>().ok()? * TILE_HEIGHT as usize)?;
        Some(row.get(number * 256..number * 256 + width)?.concat())
    }
}

/// `["x001", "234.p", "17"]` → (1234, 17)
fn tile_number(parts: &[&str]) -> Option<(usize, usize)> {
    let (parts, width) = match parts {
        [head @ .., last, width] if last.ends_with(".p") => {
            let mut all = head.to_vec();
            all.push(last.strip_suffix(".p")?);
            (all, width.parse().ok()?)
        }
        _ => (parts.to_vec(), 256),
    };
    let mut number = 0;
    for part in parts {
        number = number * 1000 + part.trim_start_matches('x').parse::<usize>().ok()?;
    }
    Some((number, width))
}

/// SHA-256 over a domain byte and parts (RFC 6962: 0 for leaves, 1 for nodes).
fn hashed(domain: u8, parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([domain]);
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
