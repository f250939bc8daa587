-- Environment that was set after a sandbox was made, as JSON.

ALTER TABLE sandboxes ADD COLUMN later_env TEXT NOT NULL DEFAULT '{}';
