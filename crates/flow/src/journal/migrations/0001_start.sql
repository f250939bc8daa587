-- Runs, their log, artifacts, tasks and messages. Times are milliseconds since the Unix epoch.

-- Processes that work on this file. A run belongs to one of them.
CREATE TABLE owners (
    owner TEXT PRIMARY KEY NOT NULL,
    lease_expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Definitions as runs began with them, each once.
CREATE TABLE flow_definitions (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE flow_runs (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    flow_name TEXT NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    config TEXT NOT NULL,
    definition INTEGER NOT NULL REFERENCES flow_definitions (id),
    inputs TEXT NOT NULL,
    error TEXT,
    idempotency_key TEXT UNIQUE,
    parent_run_id TEXT,
    owner TEXT,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
-- What every step of a run changes, apart from the wide row that seldom changes.
CREATE TABLE run_heads (
    run INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    busy INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX flow_runs_unfinished ON flow_runs (status)
    WHERE status IN ('pending', 'running', 'paused', 'timed_out');
CREATE INDEX flow_runs_by_flow ON flow_runs (flow_name, id);

-- What happened in a run, in order, never changed: state is read from it, and it is what observers are told.
CREATE TABLE run_log (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    node TEXT,
    key TEXT,
    attempt INTEGER,
    input_hash BLOB,
    artifact TEXT,
    data TEXT
) STRICT;
CREATE UNIQUE INDEX run_log_order ON run_log (run, sequence);

-- The last word on each attempt. Kinds below 20 are states of an attempt.
CREATE VIEW node_runs AS
SELECT
    r.run_id AS run_id, l.node AS node_id, l.key AS invocation_key, l.attempt AS attempt,
    CASE l.kind
        WHEN 1 THEN 'running' WHEN 2 THEN 'completed' WHEN 3 THEN 'failed' WHEN 4 THEN 'skipped'
        WHEN 5 THEN 'cancelled' WHEN 6 THEN 'waiting' WHEN 7 THEN 'paused' WHEN 8 THEN 'ready' WHEN 9 THEN 'running'
    END AS state,
    coalesce(lower(hex(l.input_hash)), '') AS input_hash, l.artifact AS output_artifact_id,
    CASE WHEN l.kind IN (3, 4, 7, 8) THEN json_extract(l.data, '$.error') END AS error,
    l.at AS updated_at, h.version AS version,
    CASE WHEN l.kind IN (1, 9) THEN o.lease_expires_at END AS lease_expires_at
FROM (
    SELECT *, max(sequence) FROM run_log WHERE kind < 20 GROUP BY run, node, key, attempt
) AS l
JOIN flow_runs AS r ON r.id = l.run
JOIN run_heads AS h ON h.run = l.run
LEFT JOIN owners AS o ON o.owner = r.owner;

-- Outputs of equal inputs, of steps that allow their reuse.
CREATE TABLE reusable (
    input_hash BLOB PRIMARY KEY NOT NULL,
    artifact TEXT,
    data TEXT,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE artifacts (
    artifact_id TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    storage_location TEXT NOT NULL CHECK (storage_location IN ('inline', 'file')),
    inline_data BLOB,
    file_path TEXT,
    created_at INTEGER NOT NULL
) STRICT;

-- Who needs an artifact besides the log.
CREATE TABLE artifact_uses (
    artifact_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    PRIMARY KEY (artifact_id, run_id, node_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
    name TEXT PRIMARY KEY NOT NULL,
    flow_name TEXT NOT NULL,
    spec TEXT NOT NULL,
    next_at INTEGER,
    last_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE task_dependencies (
    task_id INTEGER NOT NULL,
    depends_on_task_id INTEGER NOT NULL,
    PRIMARY KEY (task_id, depends_on_task_id),
    CHECK (task_id <> depends_on_task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_dependents ON task_dependencies (depends_on_task_id);

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    event_type TEXT NOT NULL,
    payload BLOB NOT NULL,
    processed INTEGER NOT NULL DEFAULT 0,
    processed_at INTEGER
) STRICT;
CREATE INDEX outbox_open ON outbox (id) WHERE processed = 0;
