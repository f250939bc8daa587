-- What a sandbox may reach, as JSON. Those made before had loopback only, and said so.

ALTER TABLE sandboxes ADD COLUMN network TEXT NOT NULL
    DEFAULT '{"blockAll":true,"cidrs":"","domains":"","proxy":null}';
