-- The job a job follows from, and the executor its environment chose when it was last handed out.

ALTER TABLE jobs ADD COLUMN parent_id TEXT COLLATE "C";
ALTER TABLE jobs ADD COLUMN executor TEXT COLLATE "C";
ALTER TABLE jobs_history ADD COLUMN parent_id TEXT COLLATE "C";
ALTER TABLE jobs_history ADD COLUMN executor TEXT COLLATE "C";
CREATE INDEX jobs_parent ON jobs (parent_id, id) WHERE parent_id IS NOT NULL;
CREATE INDEX jobs_history_parent ON jobs_history (parent_id, id) WHERE parent_id IS NOT NULL;
