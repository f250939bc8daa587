-- Ways into sandboxes: SSH tokens, known as hashes, and signed links that were ended before their time.
CREATE TABLE ssh_accesses (
    hash BLOB PRIMARY KEY NOT NULL,
    id BLOB NOT NULL,
    sandbox BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX ssh_accesses_by_sandbox ON ssh_accesses (sandbox);

CREATE TABLE ended_links (
    hash BLOB PRIMARY KEY NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
