//! The instance: addresses, requests with limits, tiles. Nothing from here is verified yet.

use std::convert::Infallible;
use std::time::Duration;

use super::{GetError, Http};
use crate::{
    proxy::{GetError as HttpError, Limits, Sink, Url},
    receipt::RECEIPT_BYTES_MAX,
    spec::{BuildKey, Record, url::result_path},
    tlog::{
        ReadError, Tile, TileSource, VerifierKey,
        text::parse_data_tile,
        tile::{self, WIDTH},
    },
};

/// Longest lookup answer, in bytes: a record and a note with a few cosignatures.
const LOOKUP_BYTES_MAX: u64 = 64 * 1024;
/// Longest data tile, in bytes: 256 leaves of a log of builds have at most 1,280 each.
const DATA_BYTES_MAX: u64 = 512 * 1024;
/// Longest time of a lookup: the instance builds what it does not have yet, after its queue.
pub(super) const LOOKUP_TIME: Duration = Duration::from_secs(30 * 60);
/// Longest time of a tile, and of a receipt.
const TILE_TIME: Duration = Duration::from_secs(60);
/// Longest time of a download; a large binary over a slow line.
const DOWNLOAD_TIME: Duration = Duration::from_secs(60 * 60);

/// An instance.
pub(super) struct Remote {
    /// The log's address, without a slash at the end.
    log: String,
    /// The pages' address, without a slash at the end.
    base: String,
    http: Http,
}

impl Remote {
    /// The instance at an address of its log, or where the name of its key says.
    pub(super) fn new(url: Option<&str>, key: &VerifierKey, http: Http) -> Result<Self, GetError> {
        let default = || match key.name().contains('.') {
            true => format!("https://{}/tlog", key.name()),
            false => format!("http://{}:8000/tlog", key.name()),
        };
        let log = url.map_or_else(default, |url| url.trim_end_matches('/').to_owned());
        let bad = || GetError::Url { url: log.clone() };
        let parsed = Url::parse(&log).map_err(|_| bad())?;
        let sane = matches!(parsed.scheme(), "http" | "https")
            && parsed.query().is_none()
            && parsed.fragment().is_none();
        let base = log
            .strip_suffix("/tlog")
            .filter(|_| sane)
            .ok_or_else(bad)?
            .to_owned();
        Ok(Self { log, base, http })
    }

    /// The answer to a lookup: record, empty line, note.
    pub(super) async fn lookup(&self, key: &str) -> Result<Vec<u8>, GetError> {
        let url = parse(&format!("{}/lookup/{key}", self.log))?;
        let limits = Limits {
            bytes_max: LOOKUP_BYTES_MAX,
            total: LOOKUP_TIME,
        };
        let mut body = Vec::new();
        let asked = self.http.lookup.get(&url, limits, &mut body).await;
        asked.map_err(|error| failed("log", error))?;
        Ok(body)
    }

    /// The text of a leaf, unverified, from the data tile of a tree of `size`.
    pub(super) async fn leaf(&self, index: u64, size: u64) -> Result<String, GetError> {
        let (number, at) = (index / u64::from(WIDTH), index % u64::from(WIDTH));
        let width = size
            .saturating_sub(number * u64::from(WIDTH))
            .min(u64::from(WIDTH));
        let malformed = || GetError::Malformed { what: "data tile" };
        let width = u16::try_from(width).map_err(|_| malformed())?;
        let tile = Tile::new(0, number, width).ok_or_else(malformed)?;
        // The instance may have grown meanwhile and have the full tile only.
        let (body, width) = match self.read(&tile::data_path(&tile), DATA_BYTES_MAX).await {
            Err(GetError::Unavailable { source, .. }) if source.is_missing() && !tile.is_full() => {
                let path = tile::data_path(&tile.full());
                (self.read(&path, DATA_BYTES_MAX).await?, WIDTH)
            }
            other => (other?, width),
        };
        let records = parse_data_tile(&body, width).map_err(|_| malformed())?;
        let at = usize::try_from(at).map_err(|_| malformed())?;
        records
            .get(at)
            .map(|text| (*text).to_owned())
            .ok_or_else(malformed)
    }

    /// The receipt of a build, unverified; nothing when the instance has none.
    pub(super) async fn receipt(&self, key: &BuildKey) -> Result<Option<Vec<u8>>, GetError> {
        match self
            .read(&format!("proof/by-key/{key}"), RECEIPT_BYTES_MAX as u64)
            .await
        {
            Err(GetError::Unavailable { source, .. }) if source.is_missing() => Ok(None),
            other => other.map(Some),
        }
    }

    /// A part of the log below its address.
    async fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, GetError> {
        let url = parse(&format!("{}/{path}", self.log))?;
        let mut body = Vec::new();
        let limits = Limits {
            bytes_max,
            total: TILE_TIME,
        };
        let asked = self.http.rest.get(&url, limits, &mut body).await;
        // A tile that is not there is no refusal to build: the log is incomplete, or not up yet.
        asked.map_err(|source| match source {
            HttpError::TooLong { .. } => GetError::Malformed {
                what: "answer (it is too long)",
            },
            source => GetError::Unavailable {
                what: "log",
                source,
            },
        })?;
        Ok(body)
    }

    /// Hands the binary of a record to `sink`: the file `name`, below the page of the result.
    pub(super) async fn download(
        &self,
        record: &Record,
        name: &str,
        bytes_max: u64,
        sink: &mut dyn Sink,
    ) -> Result<(), HttpError> {
        let path = result_path(&record.key, &record.sum);
        let address = format!("{}{path}{name}", self.base);
        let url = Url::parse(&address).map_err(|error| HttpError::Network(error.to_string()))?;
        let limits = Limits {
            bytes_max,
            total: DOWNLOAD_TIME,
        };
        self.http.rest.get(&url, limits, sink).await
    }
}

impl TileSource for Remote {
    type Error = GetError;

    async fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, GetError> {
        let mut data = Vec::with_capacity(tiles.len());
        for tile in tiles {
            let bytes_max = tile::TILE_BYTES as u64;
            let mut bytes = match self.read(&tile.sumdb_path(), bytes_max).await {
                Err(GetError::Unavailable { source, .. })
                    if source.is_missing() && !tile.is_full() =>
                {
                    self.read(&tile.full().sumdb_path(), bytes_max).await?
                }
                other => other?,
            };
            bytes.truncate(tile.bytes());
            data.push(bytes);
        }
        Ok(data)
    }
}

/// What a failed reading means.
pub(super) fn error(error: ReadError<GetError>) -> GetError {
    let wrong: ReadError<Infallible> = match error {
        ReadError::Source(error) => return error,
        ReadError::Inconsistent => ReadError::Inconsistent,
        ReadError::NotInTree { size } => ReadError::NotInTree { size },
        ReadError::NotContained { what } => ReadError::NotContained { what },
    };
    GetError::Proof(wrong)
}

fn parse(address: &str) -> Result<Url, GetError> {
    Url::parse(address).map_err(|_| GetError::Url {
        url: address.to_owned(),
    })
}

/// What a failed request means: the instance cannot, or cannot now, or does not speak as a log.
pub(super) fn failed(what: &'static str, source: HttpError) -> GetError {
    match source {
        HttpError::Status {
            code: 400 | 403 | 404 | 414 | 422,
            ..
        } => GetError::Refused(source),
        HttpError::Status {
            code: 410 | 451, ..
        } => GetError::Withdrawn(source),
        HttpError::TooLong { .. } => GetError::Malformed {
            what: "answer (it is too long)",
        },
        source => GetError::Unavailable { what, source },
    }
}
