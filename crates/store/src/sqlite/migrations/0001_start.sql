-- Sandboxes, snapshots, keys, settings and events of one server.
-- Ids are 16 bytes; *_wall is milliseconds since the Unix epoch; *_mono counts in the boot that the
-- setting `store.boot` names.

CREATE TABLE sandboxes (
    id BLOB PRIMARY KEY NOT NULL,
    organization BLOB NOT NULL,
    name TEXT NOT NULL,
    name_folded TEXT NOT NULL,
    snapshot BLOB NOT NULL,
    snapshot_name TEXT NOT NULL,
    user TEXT NOT NULL,
    env TEXT NOT NULL,
    labels TEXT NOT NULL,
    public INTEGER NOT NULL,
    target TEXT NOT NULL,
    cpu INTEGER NOT NULL,
    memory_gib INTEGER NOT NULL,
    disk_gib INTEGER NOT NULL,
    profile TEXT NOT NULL,
    state TEXT NOT NULL,
    desired TEXT NOT NULL,
    resume_to TEXT,
    error_reason TEXT,
    recoverable INTEGER NOT NULL,
    auto_stop INTEGER NOT NULL,
    auto_pause INTEGER NOT NULL,
    auto_archive INTEGER NOT NULL,
    auto_delete INTEGER NOT NULL,
    ttl INTEGER NOT NULL,
    created_wall INTEGER NOT NULL,
    created_mono INTEGER NOT NULL,
    ttl_from_wall INTEGER NOT NULL,
    ttl_from_mono INTEGER NOT NULL,
    stopped_wall INTEGER,
    stopped_mono INTEGER,
    updated_at INTEGER NOT NULL,
    server BLOB NOT NULL,
    idempotency_key TEXT,
    warm INTEGER NOT NULL,
    version INTEGER NOT NULL,
    last_wall INTEGER NOT NULL,
    last_mono INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX sandboxes_by_name ON sandboxes (organization, name) WHERE state <> 'destroyed';
CREATE UNIQUE INDEX sandboxes_by_idempotency_key
    ON sandboxes (organization, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE snapshots (
    id BLOB PRIMARY KEY NOT NULL,
    organization BLOB,
    name TEXT NOT NULL,
    source_kind TEXT NOT NULL,
    source_value TEXT NOT NULL,
    cpu INTEGER NOT NULL,
    memory_gib INTEGER NOT NULL,
    disk_gib INTEGER NOT NULL,
    user TEXT NOT NULL,
    workdir TEXT,
    env TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER
) STRICT;

CREATE TABLE keys (
    hash BLOB PRIMARY KEY NOT NULL,
    organization BLOB NOT NULL,
    name TEXT NOT NULL,
    masked TEXT NOT NULL,
    permissions TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE UNIQUE INDEX keys_by_name ON keys (organization, name);

CREATE TABLE settings (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    organization BLOB NOT NULL,
    sandbox BLOB NOT NULL,
    kind TEXT NOT NULL,
    first TEXT,
    second TEXT
) STRICT;

CREATE INDEX events_by_sandbox ON events (sandbox, id);
