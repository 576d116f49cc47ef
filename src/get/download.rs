//! The download: decompressed, measured and hashed while it is written, then given its name.

use std::{
    io::{self, Write},
    path::Path,
};

use flate2::write::GzDecoder;
use sha2::{Digest, Sha256};

use super::{
    GetError,
    remote::{Remote, failed},
};
use crate::{
    proxy::{GetError as HttpError, Sink},
    spec::{Record, Sum},
    store::durable::{self, Staged},
};

/// What gzip may add to bytes that cannot be compressed (RFC 1952: 18 bytes, and 5 per block).
const GZIP_EXTRA: u64 = 64 * 1024;

/// Fetches the binary of a verified record to `target`; returns its SHA-256. A crash leaves the
/// file that was there before, or the new one.
pub(super) async fn fetch(
    remote: &Remote,
    record: &Record,
    sha256: Option<[u8; 32]>,
    target: &Path,
) -> Result<[u8; 32], GetError> {
    let name = record.key.download_name();
    let mut file = Download::new(target, record.size, true);
    let compressed = record
        .size
        .saturating_add(record.size / 1000)
        .saturating_add(GZIP_EXTRA);
    let gz = remote
        .download(record, &format!("{name}.gz"), compressed, &mut file)
        .await;
    let fetched = match gz {
        Err(error) if error.is_missing() => {
            file = Download::new(target, record.size, false);
            remote.download(record, &name, record.size, &mut file).await
        }
        other => other,
    };
    let other = |what: String| GetError::OtherBinary { what };
    fetched.map_err(|error| match error {
        HttpError::Sink(error) => file.failed(error),
        HttpError::TooLong { .. } => other("it is larger".to_owned()),
        error => failed("download", error),
    })?;
    let (staged, hash, size) = file.finish()?;
    if size != record.size {
        return Err(other(format!(
            "it has {size} bytes, the record says {}",
            record.size
        )));
    }
    if Sum::of(&hash) != record.sum || sha256.is_some_and(|sha256| sha256 != hash) {
        return Err(other("its hash differs".to_owned()));
    }
    staged.replace(durable::PROGRAM).map_err(GetError::Write)?;
    Ok(hash)
}

/// A file that is being received.
struct Download<'a> {
    target: &'a Path,
    bytes_max: u64,
    gzip: bool,
    body: Option<Body>,
}

enum Body {
    Plain(Hashed),
    Gzip(GzDecoder<Hashed>),
}

/// Writes, hashes and counts; refuses the byte that is one too many.
struct Hashed {
    staged: Staged,
    hasher: Sha256,
    bytes: u64,
    bytes_max: u64,
    /// Why the file system refused, which the decoder would else hide.
    disk: bool,
}

impl<'a> Download<'a> {
    fn new(target: &'a Path, bytes_max: u64, gzip: bool) -> Self {
        Self {
            target,
            bytes_max,
            gzip,
            body: None,
        }
    }

    fn failed(&self, error: io::Error) -> GetError {
        let disk = match &self.body {
            None => true,
            Some(Body::Plain(hashed)) => hashed.disk,
            Some(Body::Gzip(decoder)) => decoder.get_ref().disk,
        };
        match disk {
            true => GetError::Write(durable::DurableError::Io {
                path: self.target.to_owned(),
                source: error,
            }),
            false => GetError::OtherBinary {
                what: error.to_string(),
            },
        }
    }

    fn finish(mut self) -> Result<(Staged, [u8; 32], u64), GetError> {
        let hashed = match self.body.take() {
            Some(Body::Plain(hashed)) => hashed,
            Some(Body::Gzip(decoder)) => {
                let cut = |error: io::Error| GetError::OtherBinary {
                    what: error.to_string(),
                };
                decoder.finish().map_err(cut)?
            }
            None => return Err(GetError::Malformed { what: "download" }),
        };
        Ok((hashed.staged, hashed.hasher.finalize().into(), hashed.bytes))
    }
}

impl Sink for Download<'_> {
    fn begin(&mut self, _: Option<u64>) -> io::Result<()> {
        let staged = Staged::new(self.target).map_err(io::Error::other)?;
        let hashed = Hashed {
            staged,
            hasher: Sha256::new(),
            bytes: 0,
            bytes_max: self.bytes_max,
            disk: false,
        };
        self.body = Some(match self.gzip {
            true => Body::Gzip(GzDecoder::new(hashed)),
            false => Body::Plain(hashed),
        });
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.body {
            Some(Body::Plain(hashed)) => hashed.write_all(bytes),
            Some(Body::Gzip(decoder)) => decoder.write_all(bytes),
            None => Err(io::Error::other("a body without beginning")),
        }
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > self.bytes_max {
            return Err(io::Error::other("it is larger than the record says"));
        }
        let written = self.staged.write_all(bytes);
        self.disk |= written.is_err();
        written?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.staged.flush()
    }
}
