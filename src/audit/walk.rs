//! One pass over a whole log: from the leaves, everything else that it serves is computed again.
//!
//! Memory: the tiles that are read ahead, one tile of each level, and a hash per build. What the
//! leaves say is judged after their hashes: a leaf that is not in the tree proves nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{
    ahead::Ahead,
    error::{AuditError, Lie},
    heads::{self, Form, Head},
    leaves::{Leaf, Leaves},
    sample::Sample,
    source::{Answer, Part, Source},
};
use crate::{
    log::StoredHead,
    receipt::KeysLeaf,
    tlog::{
        Edge, Frontier, HASH_BYTES, Tile, Tree, VerifierKey, leaf_hash,
        text::{entry_bundle, parse_data_tile},
        tile::{WIDTH, new_tiles},
    },
};

/// Most leaves of one audit: 67 million builds, whose hashes need 2.6 GB of memory.
pub(super) const LEAVES_MAX: u64 = 1 << 27;

/// What a pass has found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tree: Tree,
    pub(super) builds: u64,
    /// Heads whose root was computed again.
    pub(super) heads: u64,
    /// Tiles that were compared, bundles of leaves not among them.
    pub(super) tiles: u64,
    /// Full tiles that are no files yet.
    pub(super) missing: u64,
    /// What leaf 0 says.
    pub(super) keys: Option<KeysLeaf>,
    pub(super) sample: Sample,
}

/// The state of a pass.
struct Walk<'a> {
    source: &'a Arc<dyn Source>,
    key: &'a VerifierKey,
    /// Heads to come, the smallest first.
    marks: VecDeque<Head>,
    /// Stored heads to come.
    journal: VecDeque<StoredHead>,
    edge: Edge,
    frontier: Frontier,
    leaves: Leaves,
    /// After the last leaf and the last tile.
    is_over: bool,
    found: Found,
}

/// Goes through the log up to the largest of these heads, none of which is believed but its
/// signature.
pub(super) async fn walk(
    source: &Arc<dyn Source>,
    key: &VerifierKey,
    mut marks: Vec<Head>,
    sample: Sample,
) -> Result<Found, AuditError> {
    marks.sort_by_key(|head| head.tree.size);
    let Some(last) = marks.last() else {
        return Err(Lie::new("the log has no head").into());
    };
    let tree = last.tree;
    if tree.size > LEAVES_MAX {
        let (size, max) = (tree.size, LEAVES_MAX);
        return Err(AuditError::TooLarge { size, max });
    }
    let mut walk = Walk {
        source,
        key,
        marks: marks.into(),
        journal: source.heads_after(0)?.into(),
        edge: Edge::default(),
        frontier: Frontier::default(),
        leaves: Leaves::new(key),
        is_over: false,
        found: Found {
            tree,
            builds: 0,
            heads: 0,
            tiles: 0,
            missing: 0,
            keys: None,
            sample,
        },
    };
    let mut ahead = Ahead::new(Arc::clone(source), tree.size);
    for number in 0..tree.size.div_ceil(u64::from(WIDTH)) {
        let Some(tile) = ahead.tile(number) else {
            break; // no tree within limits has it
        };
        let parts = ahead.parts(number).await?;
        walk.bundle(&tile, &parts).await?;
    }
    walk.end().await
}

impl Walk<'_> {
    /// Takes the leaves of one tile.
    async fn bundle(&mut self, tile: &Tile, parts: &[(Part, Answer)]) -> Result<(), AuditError> {
        let Some((part, answer)) = parts.first() else {
            return Err(Lie::new(format!("there is no {}", tile.c2sp_path())).into());
        };
        let bytes = present(part, answer)?;
        let texts = parse_data_tile(bytes, tile.width()).map_err(|_| {
            let (path, width) = (part.path(), tile.width());
            Lie::new(format!("`{path}` does not hold {width} records")).with(
                path,
                Some(bytes),
                None,
            )
        })?;
        let hashes: Vec<u8> = texts
            .iter()
            .flat_map(|text| leaf_hash(text.as_bytes()).0)
            .collect();
        for (other, answer) in &parts[1..] {
            self.compare_leaves(tile, other, answer, &texts, &hashes)
                .map_err(|lie| lie.with(part.path(), Some(bytes), None))?;
        }
        let mut full = Vec::new();
        let mut records = Vec::new();
        for text in &texts {
            full.extend(self.leaf(text, &mut records).map_err(|error| match error {
                AuditError::Lie(lie) if lie.exhibits.is_empty() => {
                    lie.with(part.path(), Some(bytes), None).into()
                }
                other => other,
            })?);
        }
        self.check_keys(tile, records)?;
        for (tile, bytes) in full.iter().filter(|(tile, _)| tile.level() > 0) {
            self.compare_tile(tile, bytes).await?;
        }
        Ok(())
    }

    /// Takes one leaf; the tiles that it fills.
    fn leaf(
        &mut self,
        text: &str,
        records: &mut Vec<(u64, String)>,
    ) -> Result<Vec<(Tile, Vec<u8>)>, AuditError> {
        let index = self.edge.size();
        match self.leaves.push(text).map_err(Lie::new)? {
            Leaf::Keys(keys) => self.found.keys = Some(*keys),
            Leaf::Record(record) => records.push((index, record.key.to_string())),
            Leaf::Companion(companion, record) => self.found.sample.offer(&companion, record),
        }
        let hash = leaf_hash(text.as_bytes());
        self.frontier.push(hash);
        let full = self.edge.push(hash);
        self.check_heads()?;
        Ok(full)
    }

    /// Compares another form of the same leaves with what their texts say.
    fn compare_leaves(
        &mut self,
        tile: &Tile,
        part: &Part,
        answer: &Answer,
        texts: &[&str],
        hashes: &[u8],
    ) -> Result<(), Lie> {
        let bundle;
        let expected = match part {
            Part::Entries(_) => {
                bundle = entry_bundle(texts.iter().copied()).unwrap_or_default();
                &bundle
            }
            _ => hashes,
        };
        if self.is_late(answer) {
            self.found.missing += 1;
            return Ok(());
        }
        let served = present(part, answer)?;
        self.found.tiles += u64::from(matches!(part, Part::Sumdb(_) | Part::C2sp(_)));
        if served == expected {
            return Ok(());
        }
        let at = first_difference(part, served, expected, texts);
        let index = tile.number() * u64::from(WIDTH) + at;
        let what = match part {
            Part::Entries(_) => "text",
            _ => "hash",
        };
        let path = part.path();
        let sentence = format!(
            "leaf {index}: its {what} in `{path}` is not that of `{}`",
            Part::Data(*tile).path()
        );
        Err(Lie::new(sentence).with(path, Some(served), Some(expected)))
    }

    /// Compares a tile above the leaves with its bytes, in each form that there is.
    async fn compare_tile(&mut self, tile: &Tile, expected: &[u8]) -> Result<(), AuditError> {
        for part in [Part::Sumdb(*tile), Part::C2sp(*tile)] {
            if !self.source.keeps(&part) {
                continue;
            }
            let answer = self.source.read(part).await?;
            if self.is_late(&answer) {
                self.found.missing += 1;
                continue;
            }
            let served = present(&part, &answer)?;
            self.found.tiles += 1;
            if served != expected {
                let path = part.path();
                let at = first_difference(&part, served, expected, &[]);
                let below = tile.number() * u64::from(WIDTH) + at;
                let sentence = format!(
                    "`{path}`: its hash {at} is not the root of tile {below} of level {}",
                    tile.level() - 1
                );
                let lie = Lie::new(sentence).with(path, Some(served), Some(expected));
                return Err(lie.into());
            }
        }
        Ok(())
    }

    fn is_late(&self, answer: &Answer) -> bool {
        *answer == Answer::Missing && self.source.may_lack_tiles()
    }

    /// Compares the index by key with the records of this tile.
    fn check_keys(&self, tile: &Tile, records: Vec<(u64, String)>) -> Result<(), AuditError> {
        let first = tile.number() * u64::from(WIDTH);
        let end = first + u64::from(tile.width());
        let Some(keys) = self.source.keys(first, end)? else {
            return Ok(());
        };
        let mut keys: HashMap<u64, String> = keys.into_iter().collect();
        for (index, key) in records {
            let known = keys.remove(&index);
            if known.as_ref() != Some(&key) {
                let known = known.unwrap_or_default();
                let known = known.escape_default();
                let sentence = format!(
                    "leaf {index}: the database knows its record under the key `{known}`, the \
                     record is that of `{key}`"
                );
                return Err(Lie::new(sentence).into());
            }
        }
        match keys.into_iter().min() {
            Some((index, key)) => {
                let key = key.escape_default();
                let sentence =
                    format!("leaf {index} is no record, the database has it for `{key}`");
                Err(Lie::new(sentence).into())
            }
            None => Ok(()),
        }
    }

    /// Compares every head of this size with what the leaves give; the newest ones after all tiles,
    /// which can say better what is wrong.
    fn check_heads(&mut self) -> Result<(), AuditError> {
        let size = self.edge.size();
        if size < self.found.tree.size || self.is_over {
            self.check_heads_of(size)?;
        }
        Ok(())
    }

    fn check_heads_of(&mut self, size: u64) -> Result<(), AuditError> {
        while let Some(head) = self.marks.pop_front_if(|head| head.tree.size <= size) {
            self.check_root(&head)?;
        }
        while let Some(head) = self.journal.pop_front_if(|head| head.tree.size <= size) {
            self.check_stored(&head)?;
            if self.journal.is_empty() {
                self.journal = self.source.heads_after(head.tree.size)?.into();
            }
        }
        Ok(())
    }

    /// A head of the journal: signed in both forms, unless nothing was signed after it either.
    fn check_stored(&mut self, head: &StoredHead) -> Result<(), AuditError> {
        let size = head.tree.size;
        let Some((note, checkpoint)) = &head.notes else {
            let lie = Lie::new(format!("the stored head of {size} leaves was never signed"));
            return Err(lie.into());
        };
        for (form, text) in [(Form::Sumdb, note), (Form::C2sp, checkpoint)] {
            let from = format!("stored head of {size} leaves");
            let signed = heads::verify(self.key, form, &from, text.as_bytes())?;
            if signed.tree != head.tree {
                let sentence = format!("the {from} is signed for another tree");
                return Err(Lie::new(sentence).with_head(from, text).into());
            }
        }
        self.check_root(&Head {
            from: format!("stored head of {size} leaves"),
            note: note.clone(),
            tree: head.tree,
        })
    }

    fn check_root(&mut self, head: &Head) -> Result<(), AuditError> {
        self.found.heads += 1;
        let (signed, computed) = (head.tree, self.frontier.tree());
        if computed == signed {
            return Ok(());
        }
        let Head { from, note, .. } = head;
        let size = signed.size;
        let sentence = format!(
            "the first {size} leaves do not have the root that was signed for them (`{from}`)"
        );
        let path = format!("root of {size} leaves");
        let lie = Lie::new(sentence).with_head(from, note);
        Err(lie
            .with(path, Some(&signed.root.0), Some(&computed.root.0))
            .into())
    }

    /// After the last leaf: the tiles that are not full, above the leaves.
    async fn end(mut self) -> Result<Found, AuditError> {
        self.leaves.end().map_err(Lie::new)?;
        let size = self.edge.size();
        for tile in new_tiles(0, size) {
            if tile.level() > 0
                && let Some(bytes) = self.edge.partial(&tile).map(<[u8]>::to_vec)
            {
                self.compare_tile(&tile, &bytes).await?;
            }
        }
        self.is_over = true;
        self.check_heads()?;
        // The root once more, from the tiles that were compared.
        if self.edge.tree() != self.found.tree || !self.marks.is_empty() {
            let sentence = format!("its {size} leaves do not have the root of its head");
            return Err(Lie::new(sentence).into());
        }
        self.found.builds = self.leaves.builds();
        Ok(self.found)
    }
}

/// The bytes of an answer; a part that the head covers must be there.
pub(super) fn present<'a>(part: &Part, answer: &'a Answer) -> Result<&'a [u8], Lie> {
    let path = part.path();
    match answer {
        Answer::Bytes(bytes) => Ok(bytes),
        Answer::Missing => Err(Lie::new(format!(
            "the log has no `{path}`, which its signed head covers"
        ))
        .with(path, None, None)),
        Answer::TooLong => Err(Lie::new(format!(
            "`{path}` is longer than {} bytes",
            part.bytes_max()
        ))
        .with(path, None, None)),
    }
}

/// Position of the first hash, or entry, that differs.
fn first_difference(part: &Part, served: &[u8], expected: &[u8], texts: &[&str]) -> u64 {
    let same = served.iter().zip(expected).take_while(|(a, b)| a == b);
    let same = same.count();
    let at = match part {
        Part::Entries(_) => {
            let mut end = 0;
            let ends = texts.iter().map(|text| {
                end += 2 + text.len();
                end
            });
            ends.take_while(|end| *end <= same).count()
        }
        _ => same / HASH_BYTES,
    };
    at as u64
}
