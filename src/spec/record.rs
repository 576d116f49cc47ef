//! One line on an artifact, its companion, and the sum that both stand for.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{BuildKey, GoVersion, ModuleVersion, PackageDir, SpecError, Target, Variant};

/// `0` and the unpadded base64url form of the first 20 bytes of a binary's SHA-256.
///
/// 160 bits name an artifact in URLs and records as gobuild's do; the companion has all 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sum([u8; 20]);

impl Sum {
    /// Length of the text in bytes: one digit and 27 characters of base64.
    pub const LEN: usize = 28;

    /// The sum of a binary with this SHA-256.
    #[must_use]
    pub fn of(sha256: &[u8; 32]) -> Self {
        let mut bytes = [0; 20];
        bytes.copy_from_slice(&sha256[..20]);
        Self(bytes)
    }

    /// Parses the canonical text.
    ///
    /// # Errors
    /// Wrong length, alphabet or trailing bits.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let error = || SpecError::new("sum", text, "it is `0` and 27 characters of base64url");
        let body = text
            .strip_prefix('0')
            .filter(|_| text.len() == Self::LEN)
            .ok_or_else(error)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| error())?;
        Ok(Self(bytes.try_into().map_err(|_| error())?))
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// One line on an artifact: nine fields, one space between, a newline at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it was built from.
    pub key: BuildKey,
    /// Bytes of the binary, never 0.
    pub size: u64,
    /// Sum of the binary.
    pub sum: Sum,
}

impl Record {
    /// Longest accepted text in bytes (the log's own bound for one record).
    pub const LEN_MAX: usize = 1024;

    /// The text that is hashed into the log, with its newline.
    #[must_use]
    pub fn text(&self) -> String {
        let BuildKey {
            module,
            dir,
            target,
            go,
            variant,
        } = &self.key;
        format!(
            "{} {} /{dir} {} {} {go} {} {} {}\n",
            module.path,
            module.version,
            target.goos(),
            target.goarch(),
            self.size,
            self.sum,
            variant.as_str()
        )
    }

    /// Parses a text that prints back to itself.
    ///
    /// # Errors
    /// Says which field is wrong.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let error = |why| SpecError::new("record", text, why);
        if text.len() > Self::LEN_MAX {
            return Err(error("it is too long"));
        }
        let line = text
            .strip_suffix('\n')
            .ok_or_else(|| error("it does not end with a newline"))?;
        let fields: Vec<_> = line.split(' ').collect();
        let [path, version, dir, goos, goarch, go, size, sum, variant] = fields[..] else {
            return Err(error("it does not have nine fields"));
        };
        let dir = dir
            .strip_prefix('/')
            .ok_or_else(|| error("its folder has no slash"))?;
        let variant = match variant {
            "" => Variant::Plain,
            "stripped" => Variant::Stripped,
            _ => return Err(error("its variant is unknown")),
        };
        let record = Self {
            key: BuildKey {
                module: ModuleVersion::parse(path, version)?,
                dir: PackageDir::parse(dir)?,
                target: Target::new(goos, goarch)?,
                go: GoVersion::parse(go)?,
                variant,
            },
            size: size
                .parse()
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| error("its size is wrong"))?,
            sum: Sum::parse(sum)?,
        };
        if record.text() != text {
            return Err(error("it is not in canonical form"));
        }
        Ok(record)
    }
}

/// The leaf after a record: binds the full SHA-256 and the provenance to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// Key of the record.
    pub key: BuildKey,
    /// Index of the record's leaf; the companion's own is the next one.
    pub record_index: u64,
    /// SHA-256 of the binary.
    pub sha256: [u8; 32],
    /// SHA-256 of the stored DSSE envelope.
    pub provenance_sha256: [u8; 32],
}

impl Companion {
    /// The text that is hashed into the log, with its newline. No record starts like it: the first
    /// element of a module path has a dot.
    #[must_use]
    pub fn text(&self) -> String {
        let Self {
            key, record_index, ..
        } = self;
        let (binary, provenance) = (hex(&self.sha256), hex(&self.provenance_sha256));
        format!("attest/1 {key} {record_index} sha256:{binary} prov-sha256:{provenance}\n")
    }

    /// Parses a text that prints back to itself.
    ///
    /// # Errors
    /// Says which field is wrong.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let error = || SpecError::new("companion record", text, "it is not in canonical form");
        if text.len() > Record::LEN_MAX + 256 {
            return Err(error());
        }
        let fields: Vec<_> = text
            .strip_suffix('\n')
            .ok_or_else(error)?
            .split(' ')
            .collect();
        let ["attest/1", key, index, binary, provenance] = fields[..] else {
            return Err(error());
        };
        let companion = Self {
            key: BuildKey::parse(key)?,
            record_index: index.parse().map_err(|_| error())?,
            sha256: unhex(binary.strip_prefix("sha256:").ok_or_else(error)?).ok_or_else(error)?,
            provenance_sha256: unhex(provenance.strip_prefix("prov-sha256:").ok_or_else(error)?)
                .ok_or_else(error)?,
        };
        if companion.text() != text {
            return Err(error());
        }
        Ok(companion)
    }
}

/// Lower-case hex, as digests are written everywhere here.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all text");
            text
        })
}

/// Reads 32 bytes of lower-case hex.
#[must_use]
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::key::tests::any_key, *};

    proptest! {
        #[test]
        fn records_and_companions_print_and_parse_back(
            key in any_key(), size in 1_u64.., sha256: [u8; 32], provenance_sha256: [u8; 32],
        ) {
            let record = Record { key: key.clone(), size, sum: Sum::of(&sha256) };
            prop_assert_eq!(Record::parse(&record.text()), Ok(record));
            let companion = Companion { key, record_index: size, sha256, provenance_sha256 };
            prop_assert_eq!(Companion::parse(&companion.text()), Ok(companion));
        }

        #[test]
        fn damaged_records_print_back_or_are_refused(at in 0_usize..120, c in "[ -~\n]") {
            let mut text = RECORD.to_owned();
            text.replace_range(at.min(text.len() - 1)..=at.min(text.len() - 1), &c);
            if let Ok(record) = Record::parse(&text) {
                prop_assert_eq!(record.text(), text);
            }
        }
    }

    const RECORD: &str = "github.com/mjl-/sherpa v0.6.0 /cmd/sherpaclient linux amd64 go1.14.1 \
                          3456789 0m32pSahHbf-fptQdDyWD87GJNXI \n";

    #[test]
    fn gobuilds_own_example_parses() {
        let record = Record::parse(RECORD).unwrap();
        assert_eq!(record.text(), RECORD);
        assert_eq!(
            record.key.to_string(),
            "github.com/mjl-/sherpa@v0.6.0/cmd/sherpaclient/linux-amd64-go1.14.1/"
        );
    }

    #[test]
    fn sums_of_real_builds_are_right() {
        let sha256 = "92634b25f7620314e3174d66a71b519ac52020e71b604a0f3b6fa0516978d6f9";
        let sum = Sum::of(&unhex(sha256).unwrap());
        assert_eq!(sum.to_string(), "0kmNLJfdiAxTjF01mpxtRmsUgIOc");
        for bad in [
            "",
            "0",
            "1kmNLJfdiAxTjF01mpxtRmsUgIOc",
            "0kmNLJfdiAxTjF01mpxtRmsUgIOd",
        ] {
            assert!(Sum::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn records_of_other_forms_are_refused() {
        for bad in [
            RECORD.trim_end(),
            &RECORD.replace(" \n", "\n"),
            &RECORD.replace("3456789", "0"),
            &RECORD.replace("3456789", "03456789"),
            &RECORD.replace(" /cmd", " cmd"),
            &RECORD.replace(" \n", " x\n"),
        ] {
            assert!(Record::parse(bad).is_err(), "{bad:?}");
        }
    }
}
