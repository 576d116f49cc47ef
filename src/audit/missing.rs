//! Another copy of a log, for those who lack its newest leaves.
//!
//! Called by `hotcell log recover`. The copy's head must be signed by the log's key; its leaves are
//! handed on as they come, and whoever takes them compares them with that head.

use std::{path::Path, sync::Arc};

use super::{
    AuditError, Lie,
    heads::{self, Head},
    newest, open_folder,
    remote::Remote,
    source::{Part, Source},
    walk::present,
};
use crate::{
    proxy::Transport,
    tlog::{Tile, Tree, VerifierKey, text::parse_data_tile, tile::WIDTH},
};

/// A copy with a signed head.
pub struct Copy {
    source: Arc<dyn Source>,
    head: Head,
    notes: Option<(String, String)>,
}

impl Copy {
    /// The copy at an address, such as that of a mirror.
    ///
    /// # Errors
    /// When it shows no head of `key`, or two histories.
    pub async fn at_url(
        url: &str,
        key: &VerifierKey,
        http: Arc<dyn Transport>,
    ) -> Result<Self, AuditError> {
        let source: Arc<dyn Source> = Arc::new(Remote::new(url, http)?);
        Self::of(source, key).await
    }

    /// The copy in the data folder of a service.
    ///
    /// # Errors
    /// As [`Copy::at_url`].
    pub async fn in_folder(folder: &Path, key: &VerifierKey) -> Result<Self, AuditError> {
        let (_, source, _) = open_folder(folder, Some(key))?;
        Self::of(source, key).await
    }

    async fn of(source: Arc<dyn Source>, key: &VerifierKey) -> Result<Self, AuditError> {
        let heads = heads::newest(&source, key).await?;
        let head = newest(&heads)?;
        let notes = match heads.as_slice() {
            [.., checkpoint, note] if checkpoint.tree == note.tree => {
                Some((bare(&note.note, key), bare(&checkpoint.note, key)))
            }
            _ => None, // it has grown between two requests
        };
        Ok(Self {
            source,
            head,
            notes,
        })
    }

    /// Its signed size and root.
    #[must_use]
    pub fn tree(&self) -> Tree {
        self.head.tree
    }

    /// Note and checkpoint of the head, with the log's own signatures only; nothing when they were
    /// not of one size.
    #[must_use]
    pub fn notes(&self) -> Option<(&str, &str)> {
        let (note, checkpoint) = self.notes.as_ref()?;
        Some((note, checkpoint))
    }

    /// Leaves from `from` on that lie in one tile; none when there are no more.
    ///
    /// # Errors
    /// When the copy does not hold what its head covers.
    pub async fn leaves(&self, from: u64) -> Result<Vec<String>, AuditError> {
        leaves(self.source.as_ref(), self.head.tree.size, from).await
    }
}

/// Leaves of a log of `size` from `from` on that lie in one tile; nobody has verified them.
pub(super) async fn leaves(
    source: &dyn Source,
    size: u64,
    from: u64,
) -> Result<Vec<String>, AuditError> {
    if from >= size {
        return Ok(Vec::new());
    }
    let (number, skip) = (from / u64::from(WIDTH), from % u64::from(WIDTH));
    let width = (size - number * u64::from(WIDTH)).min(u64::from(WIDTH));
    let tile = u16::try_from(width).ok();
    let tile = tile.and_then(|width| Tile::new(0, number, width));
    let tile = tile.ok_or_else(|| Lie::new(format!("no tree has a leaf {from}")))?;
    let part = Part::Data(tile);
    let answer = source.read(part).await?;
    let texts = parse_data_tile(present(&part, &answer)?, tile.width());
    let texts =
        texts.map_err(|_| Lie::new(format!("`{}` does not hold {width} records", part.path())))?;
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    Ok(texts.into_iter().skip(skip).map(Into::into).collect())
}

/// A note without the lines of witnesses; those that the log keeps are beside it.
fn bare(note: &str, key: &VerifierKey) -> String {
    let (text, lines) = note.rsplit_once("\n\n").unwrap_or((note, ""));
    let own = format!("\u{2014} {} ", key.name());
    let own = lines
        .split_inclusive('\n')
        .filter(|line| line.starts_with(&own));
    format!("{text}\n\n{}", own.collect::<String>())
}
