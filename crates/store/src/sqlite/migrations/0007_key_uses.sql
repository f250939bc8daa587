-- When a key was last used; written in batches.
ALTER TABLE keys ADD COLUMN last_used_at INTEGER;
