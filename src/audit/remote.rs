//! A log at an address: requests with limits, tried again when the network fails, not when the log
//! gives an answer that is wrong.

use std::{sync::Arc, time::Duration};

use super::{
    error::{AuditError, Lie},
    source::{Answer, Part, Source, boxed},
};
use crate::{
    proxy::{Boxed, GetError as HttpError, Limits, Transport, Url},
    spec::BuildKey,
    tlog::{
        HASH_BYTES, OfflineProof, Tile, TileSource,
        offline::OFFLINE_BYTES_MAX,
        text::{data_tile, parse_data_tile},
        tile::WIDTH,
    },
};

/// Longest time of one part.
const PART_TIME: Duration = Duration::from_secs(60);
/// Pauses between tries of a part, when the network or the server fails.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// A log at an address.
pub(super) struct Remote {
    /// Without a slash at the end.
    log: String,
    http: Arc<dyn Transport>,
    /// How long to wait before each further try.
    pauses: &'static [Duration],
}

impl Remote {
    /// The log at `url`, which ends in `/tlog` for an instance of ours.
    pub(super) fn new(url: &str, http: Arc<dyn Transport>) -> Result<Self, AuditError> {
        address(url)?;
        Ok(Self {
            log: url.trim_end_matches('/').to_owned(),
            http,
            pauses: &PAUSES,
        })
    }

    /// The same for those who have a patience of their own: each request is tried once.
    pub(super) fn impatient(url: &str, http: Arc<dyn Transport>) -> Result<Self, AuditError> {
        let pauses = &[];
        Ok(Self {
            pauses,
            ..Self::new(url, http)?
        })
    }

    async fn once(&self, path: &str, bytes_max: usize) -> Result<Answer, HttpError> {
        let url = format!("{}/{path}", self.log);
        let url = Url::parse(&url).map_err(|error| HttpError::Network(error.to_string()))?;
        let limits = Limits {
            bytes_max: bytes_max as u64,
            total: PART_TIME,
        };
        let mut body = Vec::new();
        match self.http.get(&url, limits, &mut body).await {
            Ok(()) => Ok(Answer::Bytes(body)),
            Err(HttpError::TooLong { .. }) => Ok(Answer::TooLong),
            Err(HttpError::Status {
                code: 404 | 410, ..
            }) => Ok(Answer::Missing),
            Err(error) => Err(error),
        }
    }

    async fn patiently(&self, part: Part) -> Result<Answer, AuditError> {
        self.get(part.path(), part.bytes_max()).await
    }

    /// Where the log says that the record of a build is, by the proof of its companion, which is
    /// the leaf after it; nothing when there is none.
    pub(super) async fn record_index(&self, key: &BuildKey) -> Result<Option<u64>, AuditError> {
        let path = format!("proof/by-key/{key}");
        let bytes = match self.get(path.clone(), OFFLINE_BYTES_MAX).await? {
            Answer::Bytes(bytes) => bytes,
            Answer::Missing => return Ok(None),
            Answer::TooLong => Vec::new(), // no proof has so many
        };
        let index = OfflineProof::parse(&bytes).ok();
        let index = index.and_then(|proof| proof.index.checked_sub(1));
        let lie = || Lie::new(format!("`{path}` is no proof of a record's companion"));
        index.map(Some).ok_or_else(|| lie().into())
    }

    async fn get(&self, path: String, bytes_max: usize) -> Result<Answer, AuditError> {
        let mut pauses = self.pauses.iter();
        loop {
            match self.once(&path, bytes_max).await {
                Ok(answer) => return Ok(answer),
                Err(source) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(AuditError::Unavailable { path, source }),
                },
            }
        }
    }

    /// A part; a partial tile may be gone once the full one is there (C2SP tlog-tiles), then that
    /// is cut.
    async fn part(&self, part: Part) -> Result<Answer, AuditError> {
        match (self.patiently(part).await?, part.tile()) {
            (Answer::Missing, Some(tile)) if !tile.is_full() => {
                let full = self.patiently(part.of(tile.full())).await?;
                Ok(match full {
                    Answer::Bytes(bytes) => Answer::Bytes(cut(part, &tile, bytes)),
                    other => other,
                })
            }
            (answer, _) => Ok(answer),
        }
    }
}

impl Source for Remote {
    fn read(&self, part: Part) -> Boxed<'_, Result<Answer, AuditError>> {
        boxed(self.part(part))
    }

    fn keeps(&self, _: &Part) -> bool {
        true // both forms have addresses, and each has clients who read it alone
    }
}

/// For proofs that are read through tiles: `follow` and a head that is older than what is asked.
impl TileSource for Remote {
    type Error = AuditError;

    async fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, AuditError> {
        let mut data = Vec::with_capacity(tiles.len());
        for tile in tiles {
            data.push(match self.part(Part::Sumdb(*tile)).await? {
                Answer::Bytes(bytes) => bytes,
                // Of the wrong length, which is a lie of the log and is judged as one.
                Answer::Missing | Answer::TooLong => Vec::new(),
            });
        }
        Ok(data)
    }
}

/// Checks that an address may be one of a log.
pub(super) fn address(url: &str) -> Result<Url, AuditError> {
    let bad = || AuditError::Url {
        url: url.to_owned(),
    };
    let parsed = Url::parse(url).map_err(|_| bad())?;
    let sane = matches!(parsed.scheme(), "http" | "https")
        && parsed.has_host()
        && parsed.query().is_none()
        && parsed.fragment().is_none();
    sane.then_some(parsed).ok_or_else(bad)
}

/// The beginning of a full part that a partial one has; what cannot be cut stays and is judged.
fn cut(part: Part, tile: &Tile, bytes: Vec<u8>) -> Vec<u8> {
    let width = usize::from(tile.width());
    let end = match part {
        Part::Data(_) => parse_data_tile(&bytes, WIDTH)
            .map(|texts| data_tile(texts.into_iter().take(width)).len())
            .ok(),
        Part::Entries(_) => (0..width).try_fold(0, |at: usize, _| {
            let length = bytes.get(at..at + 2)?.try_into().ok()?;
            Some(at + 2 + usize::from(u16::from_be_bytes(length)))
        }),
        _ => (bytes.len() == usize::from(WIDTH) * HASH_BYTES).then(|| tile.bytes()),
    };
    match end.filter(|end| *end <= bytes.len()) {
        Some(end) => bytes[..end].to_vec(),
        None => bytes,
    }
}
