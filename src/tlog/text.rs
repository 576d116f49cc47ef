//! Text forms of heads and records: `go.sum database tree`, C2SP checkpoint, lookup answers, data
//! tiles and entry bundles.

use super::{Hash, SIZE_MAX, Tree, note::NAME_BYTES_MAX};

/// Longest record, in bytes: a C2SP entry has a length of 16 bits.
pub const RECORD_BYTES_MAX: usize = 65_535;
/// Longest text of a head, in bytes; three lines need about 100, extension lines may follow.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const TREE_LINE: &str = "go.sum database tree";

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not a tree head.
    #[error("malformed tree head")]
    Head,
    /// Not a record, or not framed as one.
    #[error("malformed record")]
    Record,
}

/// Text of a head in the form of the checksum database.
pub fn tree_text(tree: &Tree) -> String {
    format!("{TREE_LINE}\n{}\n{}\n", tree.size, tree.root)
}

/// Parses a head in the form of the checksum database; further lines are ignored, as x/mod does.
pub fn parse_tree(text: &str) -> Result<Tree, TextError> {
    let (first, tree) = parse_head(text)?;
    if first == TREE_LINE {
        Ok(tree)
    } else {
        Err(TextError::Head)
    }
}

/// Text of a C2SP checkpoint.
pub fn checkpoint_text(origin: &str, tree: &Tree) -> String {
    format!("{origin}\n{}\n{}\n", tree.size, tree.root)
}

/// Parses a C2SP checkpoint into origin and tree; extension lines are ignored.
pub fn parse_checkpoint(text: &str) -> Result<(&str, Tree), TextError> {
    let (origin, tree) = parse_head(text)?;
    let sane = !origin.is_empty() && origin.len() <= NAME_BYTES_MAX;
    if sane {
        Ok((origin, tree))
    } else {
        Err(TextError::Head)
    }
}

fn parse_head(text: &str) -> Result<(&str, Tree), TextError> {
    let parse = || {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (first, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let tree = Tree {
            size: parse_decimal(size)?,
            root: Hash::parse(root)?,
        };
        (text.len() <= HEAD_BYTES_MAX && tree.size <= SIZE_MAX).then_some((first, tree))
    };
    parse().ok_or(TextError::Head)
}

/// A canonical decimal number.
pub fn parse_decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = digits && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical)
}

/// Whether a record may be in a log: no control character but newline, a newline at the end, no
/// empty line.
pub fn is_record(text: &str) -> bool {
    let sane = |byte: u8| byte >= 0x20 || byte == b'\n';
    let lines = text.ends_with('\n') && !text.starts_with('\n') && !text.contains("\n\n");
    lines && text.len() <= RECORD_BYTES_MAX && text.bytes().all(sane)
}

/// A record as the start of a lookup answer: number, text, empty line.
pub fn format_record(index: u64, text: &str) -> Result<String, TextError> {
    if is_record(text) {
        Ok(format!("{index}\n{text}\n"))
    } else {
        Err(TextError::Record)
    }
}

/// Parses the start of a lookup answer into number, text, and the rest (the signed note).
pub fn parse_record(answer: &[u8]) -> Result<(u64, &str, &[u8]), TextError> {
    let parse = || {
        let end = answer.windows(2).position(|pair| pair == b"\n\n")?;
        let head = std::str::from_utf8(&answer[..=end]).ok()?;
        let (index, text) = head.split_once('\n')?;
        let index = parse_decimal(index).filter(|&index| index < SIZE_MAX)?;
        is_record(text).then(|| (index, text, &answer[end + 2..]))
    };
    parse().ok_or(TextError::Record)
}

/// A data tile of the checksum database: each record and an empty line, without numbers
/// (x/mod v0.22.0 and newer).
pub fn data_tile<'a>(records: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let framed = |text: &'a str| text.bytes().chain(*b"\n");
    records.into_iter().flat_map(framed).collect()
}

/// Splits a data tile into exactly `width` records.
pub fn parse_data_tile(bytes: &[u8], width: u16) -> Result<Vec<&str>, TextError> {
    let parse = || {
        let body = std::str::from_utf8(bytes).ok()?.strip_suffix("\n\n")?;
        // Every record ends with a newline, which the separator has eaten but for its slice.
        let mut records = Vec::new();
        let mut start = 0;
        for text in body.split("\n\n") {
            let end = start + text.len() + 1;
            records.push(std::str::from_utf8(&bytes[start..end]).ok()?);
            start = end + 1;
        }
        let sane = records.len() == usize::from(width) && records.iter().all(|r| is_record(r));
        sane.then_some(records)
    };
    parse().ok_or(TextError::Record)
}

/// A C2SP entry bundle: each record after its length in two bytes.
pub fn entry_bundle<'a>(records: impl IntoIterator<Item = &'a str>) -> Option<Vec<u8>> {
    let mut bundle = Vec::new();
    for record in records {
        bundle.extend_from_slice(&u16::try_from(record.len()).ok()?.to_be_bytes());
        bundle.extend_from_slice(record.as_bytes());
    }
    Some(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::testing::{NaiveTree, record, vectors};
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn heads_and_lookups_equal_the_vectors() {
        let naive = NaiveTree::of_vectors();
        for vector in vectors()["trees"].as_array().unwrap() {
            let tree = naive.tree(vector["n"].as_u64().unwrap());
            assert_eq!(tree.root.to_string(), vector["root"]);
            let note = vector["sumdb_note"].as_str().unwrap();
            assert!(note.starts_with(&format!("{}\n", tree_text(&tree))));
            assert_eq!(parse_tree(&tree_text(&tree)), Ok(tree));
            let text = checkpoint_text("log.example.org", &tree);
            assert!(
                vector["checkpoint"]
                    .as_str()
                    .unwrap()
                    .starts_with(&format!("{text}\n"))
            );
            assert_eq!(parse_checkpoint(&text), Ok(("log.example.org", tree)));
            let lookup = vector["lookup_body_last"].as_str().unwrap();
            let last = tree.size - 1;
            assert_eq!(lookup, format_record(last, &record(last)).unwrap() + note);
            let parsed = parse_record(lookup.as_bytes()).unwrap();
            assert_eq!(parsed, (last, &*record(last), note.as_bytes()));
        }
    }

    #[test]
    fn record_tiles_equal_the_vectors() {
        let records: Vec<_> = (0..256).map(record).collect();
        let data = data_tile(records.iter().map(String::as_str));
        let entries = entry_bundle(records.iter().map(String::as_str)).unwrap();
        for (bytes, name) in [(&data, "tile_8_data_000"), (&entries, "tile_entries_000")] {
            let hex: String = Sha256::digest(bytes)
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            assert_eq!(hex, vectors()[name]["sha256"], "{name}");
        }
        assert_eq!(parse_data_tile(&data, 256).unwrap(), records);
        assert_eq!(parse_data_tile(&data, 255), Err(TextError::Record));
        assert_eq!(
            parse_data_tile(&data[..data.len() - 1], 256),
            Err(TextError::Record)
        );
        assert_eq!(parse_data_tile(b"", 1), Err(TextError::Record));
        assert_eq!(parse_data_tile(b"\n\n", 1), Err(TextError::Record));
        assert_eq!(parse_data_tile(b"a\n\n\nb\n\n", 2), Err(TextError::Record));
    }

    #[test]
    fn malformed_heads_are_refused() {
        let root = super::super::empty_root();
        for bad in [
            String::new(),
            format!("go.sum database tree\n1\n{root}"),
            format!("go.sum database tree\n01\n{root}\n"),
            format!("go.sum database tree\n-1\n{root}\n"),
            format!("go.sum database tree\n+1\n{root}\n"),
            format!("go.sum database tree\n18446744073709551615\n{root}\n"),
            format!("go.sum database tree v2\n1\n{root}\n"),
            "go.sum database tree\n1\nAAAA\n".to_owned(),
            format!(
                "go.sum database tree\n1\n{root}\n{}\n",
                "x".repeat(HEAD_BYTES_MAX)
            ),
        ] {
            assert_eq!(parse_tree(&bad), Err(TextError::Head), "{bad:?}");
        }
        assert!(parse_tree(&format!("go.sum database tree\n1\n{root}\nmore\n")).is_ok());
        assert!(parse_checkpoint(&format!("\n1\n{root}\n")).is_err());
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            "", "a", "\n", "a\n\nb\n", "a\tb\n", "\na\n", "a\n\n", "\u{0}\n",
        ] {
            assert_eq!(format_record(0, bad), Err(TextError::Record), "{bad:?}");
        }
        for bad in [
            "",
            "1\n",
            "1\na\n",
            "01\na\n\n",
            "x\na\n\n",
            "-1\na\n\n",
            "1\n\na\n\n",
        ] {
            assert_eq!(
                parse_record(bad.as_bytes()),
                Err(TextError::Record),
                "{bad:?}"
            );
        }
        assert_eq!(parse_record(b"1\n\xff\n\n"), Err(TextError::Record));
        assert!(!is_record(&format!("{}\n", "x".repeat(RECORD_BYTES_MAX))));
    }

    proptest! {
        #[test]
        fn lookups_print_back(index in 0..SIZE_MAX, text in "([ -~é]{1,20}\n){1,4}", rest in ".*") {
            let answer = format_record(index, &text).unwrap() + &rest;
            let parsed = parse_record(answer.as_bytes()).unwrap();
            prop_assert_eq!(parsed, (index, &*text, rest.as_bytes()));
        }

        #[test]
        fn no_bytes_make_the_parsers_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let parsed = parse_record(&bytes);
            prop_assert!(parsed.is_err() || bytes.contains(&b'\n'));
            prop_assert!(parse_data_tile(&bytes, 300).is_err());
        }
    }
}
