-- Durable channels.
CREATE TABLE message_channels (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL UNIQUE,
    -- The newest sequence number, and what is stored.
    head INTEGER NOT NULL DEFAULT 0,
    stored INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The key is channel * 2^40 + sequence number, so each channel's messages stand together in order.
CREATE TABLE message_log (
    id INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    source TEXT NOT NULL,
    key TEXT,
    task_id INTEGER,
    payload TEXT NOT NULL,
    reply_to TEXT,
    correlation_id TEXT,
    -- The only subscriber that it is for.
    target TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX message_log_once ON message_log (channel, message_id);

CREATE VIEW messages AS
SELECT
    c.channel AS channel, l.id & 0xffffffffff AS seq, l.message_id AS message_id, l.source AS source, l.key AS key,
    l.task_id AS task_id, l.payload AS payload, l.reply_to AS reply_to, l.correlation_id AS correlation_id,
    l.created_at AS created_at
FROM message_log AS l JOIN message_channels AS c ON c.id = l.channel;

CREATE TABLE message_cursors (
    id INTEGER PRIMARY KEY,
    subscriber TEXT NOT NULL,
    channel TEXT NOT NULL,
    -- Everything up to here is acknowledged, and the ranges of sequence numbers in `ahead`, a JSON list of pairs.
    position INTEGER NOT NULL,
    ahead TEXT,
    -- Failed attempts at the first message that is not acknowledged.
    attempts INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    version INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL,
    UNIQUE (subscriber, channel)
) STRICT;
CREATE INDEX message_cursors_by_channel ON message_cursors (channel, position);

-- Messages that failed and will be tried again.
CREATE TABLE message_retries (
    cursor INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    PRIMARY KEY (cursor, seq)
) STRICT, WITHOUT ROWID;
