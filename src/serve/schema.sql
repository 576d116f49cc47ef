-- Jobs that wait or run. A row lives until its build ends or nobody is interested any more.
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- the place in the queue follows from it
    key TEXT NOT NULL UNIQUE,             -- log key; identical requests share one job
    created_ms INTEGER NOT NULL,
    interest_ms INTEGER NOT NULL,         -- when somebody last showed interest
    publish INTEGER NOT NULL DEFAULT 1,   -- 0: for another instance, which only asks for the bits
    client TEXT NOT NULL DEFAULT ''       -- whose turn it takes; other instances are one together
) STRICT;

-- What was built and is in the log; written in the transaction of the log's entry.
CREATE TABLE IF NOT EXISTS result (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    log_index INTEGER NOT NULL,
    sum TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    size INTEGER NOT NULL,
    built_ms INTEGER NOT NULL,
    built TEXT NOT NULL,                  -- JSON of what the build said
    envelope BLOB NOT NULL                -- DSSE envelope of the provenance
) STRICT;

-- Machine code of a result's binary by package. A result without a row does not say, or is older
-- than this table.
CREATE TABLE IF NOT EXISTS code (
    result INTEGER PRIMARY KEY,           -- id of the result
    sums TEXT NOT NULL,                   -- JSON: by module
    largest TEXT NOT NULL,                -- JSON: the packages that its page lists
    packages TEXT NOT NULL                -- JSON: all of them
) STRICT;

-- Licences of modules that were built, as they were recognised. A module without a row was not
-- looked at.
CREATE TABLE IF NOT EXISTS licence (
    module TEXT PRIMARY KEY,              -- module@version
    found TEXT NOT NULL                   -- JSON
) STRICT, WITHOUT ROWID;

-- The newest of a module.
CREATE INDEX IF NOT EXISTS result_module ON result (substr(key, 1, instr(key, '@') - 1), id);
CREATE INDEX IF NOT EXISTS result_built ON result (built_ms, key); -- what was built in a day

-- What searches show: every package that has a result, with the newest one as a list has it. Not
-- the result's id: packages that are found together lie together here, and their results do not.
CREATE TABLE IF NOT EXISTS package_line (
    path TEXT PRIMARY KEY,                -- import path
    key TEXT NOT NULL,                    -- of its newest result, as all that follows
    sum TEXT NOT NULL,
    size INTEGER NOT NULL,
    built_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
DROP TABLE IF EXISTS package;             -- what was there before it

-- Where their paths can be looked up: the rest of a path from each of its words on, in small
-- letters, cut to 64 bytes. A search reads a range of these, however many packages there are.
CREATE TABLE IF NOT EXISTS package_word (
    word TEXT NOT NULL,
    path TEXT NOT NULL,
    PRIMARY KEY (word, path)
) STRICT, WITHOUT ROWID;

-- Commands of modules at a version, as listed in a cell, or why they cannot be.
CREATE TABLE IF NOT EXISTS listing (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    module TEXT NOT NULL UNIQUE,          -- module@version
    listed_ms INTEGER NOT NULL,
    commands TEXT NOT NULL,               -- JSON
    failure TEXT                          -- JSON
) STRICT;

-- Builds that are kept and are not in the log: nobody has asked for that yet, or verifiers do not
-- agree. The binary lies with the others. A row goes when its result comes.
CREATE TABLE IF NOT EXISTS observation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    policy TEXT NOT NULL,                 -- SHA-256 of the policy file, hex
    built_ms INTEGER NOT NULL,
    built TEXT NOT NULL                   -- JSON of what the build said
) STRICT;

-- Verifiers that got the same bits before a result was published. Their words, signed, are in the
-- result's envelope.
CREATE TABLE IF NOT EXISTS agreement (
    result INTEGER NOT NULL,              -- id of the result
    verifier TEXT NOT NULL,               -- its name
    PRIMARY KEY (result, verifier)
) STRICT, WITHOUT ROWID;

-- What verifiers said of bits that are not ours, with their signatures. A person must look.
CREATE TABLE IF NOT EXISTS disagreement (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    verifier TEXT NOT NULL,
    ours BLOB NOT NULL,                   -- SHA-256
    theirs TEXT NOT NULL,                 -- `SHA-256 …`, or `sum …`
    content BLOB NOT NULL,                -- as signed
    seen_ms INTEGER NOT NULL,
    UNIQUE (key, verifier, ours, theirs)
) STRICT;

-- Failures that would repeat; forgotten by a retry, and void under another policy.
-- The SDK is part of the key.
CREATE TABLE IF NOT EXISTS failure (
    key TEXT PRIMARY KEY,
    policy TEXT NOT NULL,                 -- SHA-256 of the policy file, hex
    failed_ms INTEGER NOT NULL,
    code TEXT NOT NULL,                   -- of the failure, for lists
    sentence TEXT NOT NULL,
    failure TEXT NOT NULL                 -- JSON, with what was printed
) STRICT;
CREATE INDEX IF NOT EXISTS failure_at ON failure (failed_ms);

-- Builds that gave other bytes than the log has. Never logged; both binaries are kept.
CREATE TABLE IF NOT EXISTS mismatch (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    size INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    built TEXT NOT NULL,
    UNIQUE (key, sha256)
) STRICT;

-- When a client last made us forget a failure.
CREATE TABLE IF NOT EXISTS retry (
    client TEXT NOT NULL,
    key TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (client, key)
) STRICT;
CREATE INDEX IF NOT EXISTS retry_at ON retry (at_ms);
