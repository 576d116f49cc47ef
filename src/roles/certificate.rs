//! The role `certificate`: reads certificate and key for a `serve` that can reach no file.
//!
//! As the role `config` it keeps the user that started the program and has the rules of a relay. It
//! may read the folders in which the two files lie when it starts, those that links lead to, too;
//! it opens these two names only, understands neither, and never writes.

use std::{
    fs::{self, File, Metadata},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Child,
};

use hotcell_sandbox::channel::Channel;
use serde::{Deserialize, Serialize};

use super::{
    RoleResult, StartError,
    given::Given,
    launch,
    reread::{read_file, read_when_asked},
    say,
};

/// Longest chain, in bytes of PEM: ten certificates. With each byte escaped, chain and key are one
/// message.
const CHAIN_BYTES_MAX: u64 = 20 * 1024;
/// Longest key, in bytes of PEM: one of RSA with 8192 bits.
const KEY_BYTES_MAX: u64 = 8 * 1024;
/// What a key's mode must not have: others, and a group that does more than read. A group reads
/// keys where a program of another user renews them.
const MODE_REFUSED: u32 = 0o037;

/// Where certificate and key lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairFiles {
    /// The chain, in PEM.
    pub chain: PathBuf,
    /// The key, in PEM.
    pub key: PathBuf,
}

/// What the two files have. No `Debug`: it holds the key.
#[derive(Clone, Serialize, Deserialize)]
pub struct PairText {
    /// The chain, in PEM.
    pub chain: String,
    /// The key, in PEM.
    pub key: String,
}

/// Both files, or why one of them cannot be read.
pub type PairAnswer = Result<PairText, String>;

/// Starts the role for these files and adds it to the children. Any byte on the socket asks for a
/// [`PairAnswer`]. Called as [`start`](super::start) is.
///
/// # Errors
/// See [`StartError`].
pub fn start_certificate(
    files: &PairFiles,
    children: &mut Vec<(&'static str, Child)>,
) -> Result<Channel, StartError> {
    let role = "certificate";
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|source| StartError::Start { role, source })
    };
    let files = PairFiles {
        chain: absolute(&files.chain)?,
        key: absolute(&files.key)?,
    };
    let folder = files.chain.parent().unwrap_or(Path::new("/"));
    let channel = launch(role, folder, &[], children)?;
    say(role, &channel, &files)?;
    Ok(channel)
}

pub(super) fn run(given: &Given) -> RoleResult {
    read_when_asked(given, "certificate", folders, read_pair)
}

/// The folders of both names, and of what they lead to: a renewal makes new files there.
fn folders(files: &PairFiles) -> Vec<PathBuf> {
    let paths = [&files.chain, &files.key].into_iter();
    let both = paths.flat_map(|path| [Some(path.clone()), fs::canonicalize(path).ok()]);
    let parent = |path: PathBuf| path.parent().map(Path::to_owned);
    both.flatten().filter_map(parent).collect()
}

/// Reads certificate and key.
///
/// # Errors
/// A sentence, when one of them cannot be read, is no file, too long, or no text in PEM; when
/// others than its owner and a group may read the key.
pub fn read_pair(files: &PairFiles) -> PairAnswer {
    let read = |path: &Path, most, check| {
        read_pem(path, most, check).map_err(|why| format!("`{}` {why}", path.display()))
    };
    Ok(PairText {
        chain: read(&files.chain, CHAIN_BYTES_MAX, check_kind)?,
        key: read(&files.key, KEY_BYTES_MAX, check_key)?,
    })
}

fn read_pem(
    path: &Path,
    most: u64,
    check: fn(&File) -> Result<(), String>,
) -> Result<String, String> {
    let bytes = read_file(path, most, check)?;
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    // Nothing else stands in PEM (RFC 7468), and nothing of this grows more than twofold in JSON.
    let plain = |byte: &u8| byte.is_ascii_graphic() || b" \t\r\n".contains(byte);
    if !bytes.iter().all(plain) {
        return Err("is no text in PEM: convert it with openssl".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "is no text in PEM".to_owned())
}

fn metadata(file: &File) -> Result<Metadata, String> {
    file.metadata()
        .map_err(|error| format!("cannot be read: {error}"))
}

fn check_kind(file: &File) -> Result<(), String> {
    match metadata(file)?.is_file() {
        true => Ok(()),
        false => Err("is no file".to_owned()),
    }
}

fn check_key(file: &File) -> Result<(), String> {
    check_kind(file)?;
    let mode = metadata(file)?.permissions().mode();
    if mode & MODE_REFUSED == 0 {
        return Ok(());
    }
    Err(format!(
        "has the mode {:o}, and other users must not reach a key: chmod 600, or 640 for a group",
        mode & 0o777
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::durable;

    fn said(chain: &[u8], key: &[u8], mode: u32) -> PairAnswer {
        let folder = tempfile::tempdir().unwrap();
        let files = PairFiles {
            chain: folder.path().join("c.pem"),
            key: folder.path().join("k.pem"),
        };
        durable::write_new(&files.chain, chain, 0o644).unwrap();
        durable::write_new(&files.key, key, 0o600).unwrap();
        fs::set_permissions(&files.key, fs::Permissions::from_mode(mode)).unwrap();
        read_pair(&files)
    }

    #[test]
    fn both_files_are_read_up_to_their_maximum_and_everything_else_is_told() {
        let most = |most: u64| vec![b'\n'; usize::try_from(most).unwrap()];
        let more = |most_bytes| [most(most_bytes), vec![b'a']].concat();
        let (chain, key) = (most(CHAIN_BYTES_MAX), most(KEY_BYTES_MAX));
        assert!(said(&chain, &key, 0o600).is_ok());
        for (chain, key, part) in [
            (&b""[..], &b"k"[..], "c.pem` is empty"),
            (b"c", b"", "k.pem` is empty"),
            (&more(CHAIN_BYTES_MAX), b"k", "c.pem` is longer"),
            (b"c", &more(KEY_BYTES_MAX), "k.pem` is longer"),
            (b"\x30\x82", b"k", "c.pem` is no text in PEM"),
            (b"c", b"\0", "k.pem` is no text in PEM"),
        ] {
            let why = said(chain, key, 0o600).err().unwrap();
            assert!(why.contains(part), "{part}: {why}");
        }
        let folder = tempfile::tempdir().unwrap();
        let files = PairFiles {
            chain: folder.path().to_owned(),
            key: folder.path().join("none"),
        };
        assert!(read_pair(&files).err().unwrap().ends_with("is no file"));
    }

    #[test]
    fn a_key_that_others_reach_is_refused() {
        for mode in [0o600, 0o400, 0o640, 0o440] {
            assert!(said(b"c", b"k", mode).is_ok(), "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o602, 0o601, 0o660, 0o650, 0o777] {
            let why = said(b"c", b"k", mode).err().unwrap();
            assert!(why.contains("chmod 600"), "{mode:o}: {why}");
        }
    }

    #[test]
    fn the_longest_pair_fits_into_one_message() {
        let (ours, theirs) = Channel::pair().unwrap();
        let text = |most: u64| "\"".repeat(usize::try_from(most).unwrap());
        let pair = PairText {
            chain: text(CHAIN_BYTES_MAX),
            key: text(KEY_BYTES_MAX),
        };
        let answer: PairAnswer = Ok(pair.clone());
        ours.send(&answer, &[]).unwrap();
        let (told, _) = theirs.receive::<PairAnswer>().unwrap().unwrap();
        assert_eq!(told.ok().unwrap().chain, pair.chain);
    }

    #[test]
    fn folders_are_those_of_the_names_and_of_what_links_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let (live, archive) = (folder.path().join("live"), folder.path().join("archive"));
        fs::create_dir(&live).unwrap();
        fs::create_dir(&archive).unwrap();
        durable::write_new(&archive.join("k1.pem"), b"k", 0o600).unwrap();
        std::os::unix::fs::symlink("../archive/k1.pem", live.join("k.pem")).unwrap();
        let files = PairFiles {
            chain: live.join("none.pem"),
            key: live.join("k.pem"),
        };
        let archive = fs::canonicalize(archive).unwrap();
        assert_eq!(folders(&files), [live.clone(), live, archive]);
    }
}
