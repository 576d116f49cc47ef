//! All SQL of the log. Called by the appender (within its one transaction per batch), by start-up
//! and by readers.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    spec::{Companion, Record},
    tlog::{Hash, Tree, witness::WITNESSES_MAX},
};

/// A head as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) tree: Tree,
    /// Both notes, when it has been signed.
    pub(super) notes: Option<(String, String)>,
}

/// Verifier key that the database names; nothing in a new one.
pub(super) fn key(db: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM log_meta WHERE name = 'key'";
    db.query_row(sql, [], |row| row.get(0)).optional()
}

/// Names the key in a new database.
pub(super) fn set_key(db: &Connection, key: &str) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO log_meta (name, value) VALUES ('key', ?1)",
        [key],
    )
    .map(drop)
}

/// The newest head.
pub(super) fn head(db: &Connection) -> rusqlite::Result<Option<Head>> {
    let sql = "SELECT size, root, note, checkpoint FROM log_head ORDER BY size DESC LIMIT 1";
    db.prepare_cached(sql)?.query_row([], read_head).optional()
}

/// The newest signed head.
pub(super) fn signed_head(db: &Connection) -> rusqlite::Result<Option<Head>> {
    let sql = "SELECT size, root, note, checkpoint FROM log_head WHERE note IS NOT NULL
               ORDER BY size DESC LIMIT 1";
    db.query_row(sql, [], read_head).optional()
}

fn read_head(row: &Row<'_>) -> rusqlite::Result<Head> {
    let tree = Tree {
        size: row.get(0)?,
        root: Hash(row.get(1)?),
    };
    let notes: (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
    Ok(Head {
        tree,
        notes: notes.0.zip(notes.1),
    })
}

/// Adds an unsigned head after `old`; false when `old` is not the newest: somebody else appended.
pub(super) fn advance(db: &Connection, old: &Tree, new: &Tree) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO log_head (size, root)
               SELECT ?1, ?2 WHERE ?3 = (SELECT coalesce(max(size), 0) FROM log_head)
               AND (?3 = 0 OR ?4 = (SELECT root FROM log_head WHERE size = ?3))";
    let values = params![new.size, new.root.0, old.size, old.root.0];
    Ok(db.prepare_cached(sql)?.execute(values)? == 1)
}

/// Keeps the signatures of a head that is there; false when it is not.
pub(super) fn set_notes(
    db: &Connection,
    tree: &Tree,
    note: &str,
    checkpoint: &str,
) -> rusqlite::Result<bool> {
    let sql = "UPDATE log_head SET note = ?3, checkpoint = ?4 WHERE size = ?1 AND root = ?2";
    let values = params![tree.size, tree.root.0, note, checkpoint];
    Ok(db.prepare_cached(sql)?.execute(values)? == 1)
}

/// As [`set_notes`], in a transaction of its own that does not wait for the disk: the next commit
/// takes them there. When a power cut does not let it, start-up has the head signed again, with the
/// same signatures.
pub(super) fn store_notes(
    db: &Connection,
    tree: &Tree,
    note: &str,
    checkpoint: &str,
) -> rusqlite::Result<bool> {
    db.execute_batch("PRAGMA synchronous = NORMAL")?;
    let changed = set_notes(db, tree, note, checkpoint);
    db.execute_batch("PRAGMA synchronous = FULL")?;
    changed
}

/// Keeps what a witness said to a head; a newer line takes the place of an older one.
pub(super) fn keep_line(
    db: &Connection,
    witness: &str,
    size: u64,
    line: &str,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO log_cosignature (witness, size, line) VALUES (?1, ?2, ?3)
               ON CONFLICT (witness, size) DO UPDATE SET line = excluded.line";
    db.execute(sql, params![witness, size, line]).map(drop)
}

/// All that witnesses said to the head of `size`: key of the witness and line.
pub(super) fn lines(db: &Connection, size: u64) -> rusqlite::Result<Vec<(String, String)>> {
    let sql = "SELECT witness, line FROM log_cosignature WHERE size = ?1 ORDER BY witness LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![size, WITNESSES_MAX], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    rows.collect()
}

/// The largest head that a witness cosigned; 0 when none.
pub(super) fn cosigned(db: &Connection, witness: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(size), 0) FROM log_cosignature WHERE witness = ?1";
    db.query_row(sql, [witness], |row| row.get(0))
}

/// Number of leaves; nothing when they have gaps.
pub(super) fn count(db: &Connection) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT count(*), coalesce(max(id) + 1, 0), coalesce(min(id), 0) FROM log_record";
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (count, end, start): (u64, u64, u64) = db.query_row(sql, [], read)?;
    Ok((count == end && start == 0).then_some(count))
}

/// Texts of leaves `from..to`.
pub(super) fn bodies(db: &Connection, from: u64, to: u64) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT body FROM log_record WHERE id >= ?1 AND id < ?2 ORDER BY id";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![from, to], |row| row.get(0))?;
    rows.collect()
}

/// As [`bodies`], of a database that nothing is known of: no text is longer than one more character
/// than a leaf may have.
pub(super) fn bodies_cut(db: &Connection, from: u64, to: u64) -> rusqlite::Result<Vec<String>> {
    let sql =
        "SELECT substr(body, 1, 65536) FROM log_record WHERE id >= ?1 AND id < ?2 ORDER BY id";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![from, to], |row| row.get(0))?;
    rows.collect()
}

/// Indexes and keys of records `from..to`.
pub(super) fn keys(db: &Connection, from: u64, to: u64) -> rusqlite::Result<Vec<(u64, String)>> {
    let sql = "SELECT record, substr(key, 1, 2048) FROM log_key WHERE record >= ?1 AND record < ?2
               ORDER BY record";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![from, to], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// Heads of more than `size` leaves, the smallest first.
pub(super) fn heads_after(db: &Connection, size: u64, count: u32) -> rusqlite::Result<Vec<Head>> {
    let sql = "SELECT size, root, note, checkpoint FROM log_head WHERE size > ?1
               ORDER BY size LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![size, count], read_head)?;
    rows.collect()
}

/// Index and text of the record of a key.
pub(super) fn find_record(db: &Connection, key: &str) -> rusqlite::Result<Option<(u64, String)>> {
    let sql = "SELECT k.record, r.body FROM log_key k JOIN log_record r ON r.id = k.record
               WHERE k.key = ?1";
    let mut statement = db.prepare_cached(sql)?;
    statement
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Index, text and companion of the record of a key.
pub(super) fn find(db: &Connection, key: &str) -> rusqlite::Result<Option<(u64, String, String)>> {
    let sql = "SELECT k.record, r.body, c.body FROM log_key k
               JOIN log_record r ON r.id = k.record JOIN log_record c ON c.id = k.record + 1
               WHERE k.key = ?1";
    let mut statement = db.prepare_cached(sql)?;
    statement
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
}

/// Gives a record its key; false when another one has it.
pub(super) fn add_key(db: &Connection, key: &str, record: u64) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO log_key (key, record) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING";
    Ok(db.prepare_cached(sql)?.execute(params![key, record])? == 1)
}

/// Adds one leaf.
pub(super) fn add(db: &Connection, index: u64, body: &str) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached("INSERT INTO log_record (id, body) VALUES (?1, ?2)")?;
    statement.execute(params![index, body]).map(drop)
}

/// Adds a record and its companion, and the key that no other record may have.
pub(super) fn add_pair(
    db: &Connection,
    record: &Record,
    companion: &Companion,
) -> rusqlite::Result<()> {
    let index = companion.record_index;
    add(db, index, &record.text())?;
    add(db, index + 1, &companion.text())?;
    let sql = "INSERT INTO log_key (key, record) VALUES (?1, ?2)";
    db.prepare_cached(sql)?
        .execute(params![record.key.to_string(), index])
        .map(drop)
}
