-- Organizations with their own limits (NULL = the server's default, 0 = none), their audit logs, and the order in
-- which sandboxes are listed.
CREATE TABLE organizations (
    id BLOB PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    sandboxes INTEGER,
    cpu INTEGER,
    memory_gib INTEGER,
    disk_gib INTEGER,
    volumes INTEGER,
    created_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX organizations_by_name ON organizations (name);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    organization BLOB NOT NULL,
    key TEXT,
    origin TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT,
    status INTEGER NOT NULL,
    rule TEXT,
    count INTEGER NOT NULL
) STRICT;

CREATE INDEX audit_by_organization ON audit (organization, id);

CREATE INDEX sandboxes_by_creation ON sandboxes (organization, created_wall, id)
    WHERE warm = 0 AND state <> 'destroyed';
