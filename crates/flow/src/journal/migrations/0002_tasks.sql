-- A task's row is its state. Small columns stand before the bytes, which may be large.
CREATE TABLE tasks (
    task_id INTEGER PRIMARY KEY,
    status TEXT NOT NULL,
    agent_type TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    -- Raised by each change of status; who holds an older one may not write.
    version INTEGER NOT NULL DEFAULT 0,
    -- The process that runs it; null for a worker that came through the remote calls.
    owner TEXT,
    lease_expires_at INTEGER,
    run_at INTEGER,
    -- Dependencies that are not satisfied.
    unmet INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    max_retries INTEGER NOT NULL DEFAULT 3,
    deliveries INTEGER NOT NULL DEFAULT 0,
    recoveries INTEGER NOT NULL DEFAULT 0,
    durability TEXT NOT NULL DEFAULT 'best_effort',
    timeout_ms INTEGER,
    task_type TEXT NOT NULL DEFAULT 'task',
    parent INTEGER,
    -- A second task of the same name is not made.
    once TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    status_reason TEXT,
    description TEXT NOT NULL DEFAULT '',
    payload BLOB,
    result BLOB
) STRICT;
-- Every index serves one question and holds only the rows that it is about.
CREATE INDEX tasks_ready ON tasks (agent_type, priority DESC, task_id) WHERE status = 'ready';
CREATE INDEX tasks_due ON tasks (run_at) WHERE status = 'pending';
CREATE INDEX tasks_leased ON tasks (lease_expires_at, owner) WHERE status = 'running';
CREATE INDEX tasks_standing ON tasks (status) WHERE status IN ('blocked', 'paused');
CREATE INDEX tasks_children ON tasks (parent) WHERE parent IS NOT NULL;
CREATE UNIQUE INDEX tasks_once ON tasks (once) WHERE once IS NOT NULL;

-- `ttl` is the moment at which the value ends, in milliseconds since the epoch.
CREATE TABLE shared_state (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    version INTEGER NOT NULL,
    ttl INTEGER,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX shared_state_ends ON shared_state (ttl) WHERE ttl IS NOT NULL;

-- Numbers that never come twice, also after rows are gone.
CREATE TABLE sequences (
    name TEXT PRIMARY KEY NOT NULL,
    next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO sequences (name, next) VALUES ('task', 1), ('shared', 1);
