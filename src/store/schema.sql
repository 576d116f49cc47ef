-- Tables of the log. Those of the service are beside its code; all live in one file, because a
-- result and its entry in the log are written in one transaction.

-- `key`: verifier key of the log, written once, together with leaf 0.
CREATE TABLE IF NOT EXISTS log_meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Every leaf: keys of the instance (0), then record, companion, record, companion, …
CREATE TABLE IF NOT EXISTS log_record (
    id INTEGER PRIMARY KEY,               -- index of the leaf, without gaps
    body TEXT NOT NULL
) STRICT;

-- One record per build key, ever.
CREATE TABLE IF NOT EXISTS log_key (
    key TEXT PRIMARY KEY,
    record INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;

-- Every head; the newest counts. One root per size, ever. The notes come after the commit.
CREATE TABLE IF NOT EXISTS log_head (
    size INTEGER PRIMARY KEY,
    root BLOB NOT NULL,
    note TEXT,
    checkpoint TEXT
) STRICT;
