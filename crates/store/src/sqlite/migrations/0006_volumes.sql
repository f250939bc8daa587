-- Volumes, and which of them each sandbox mounts, as JSON.
CREATE TABLE volumes (
    id BLOB PRIMARY KEY NOT NULL,
    organization BLOB NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    size_gib INTEGER NOT NULL,
    error_reason TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    last_used_at INTEGER
) STRICT;

CREATE UNIQUE INDEX volumes_by_name ON volumes (organization, name) WHERE state <> 'deleted';

ALTER TABLE sandboxes ADD COLUMN volumes TEXT NOT NULL DEFAULT '[]';
