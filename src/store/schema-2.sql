-- Witnesses, from version 2 on.

-- What witnesses said to our heads. A line that was lost before it was written here is asked for
-- again: the witness gives a new one for the same head.
CREATE TABLE log_cosignature (
    witness TEXT NOT NULL,                -- verifier key of the witness
    size INTEGER NOT NULL,                -- of our head
    line TEXT NOT NULL,                   -- as it is put under the checkpoint
    PRIMARY KEY (witness, size)
) STRICT, WITHOUT ROWID;
