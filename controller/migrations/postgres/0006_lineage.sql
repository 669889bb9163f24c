-- Which of a host's processes were welcomed last, by which two agents with one identity are told
-- from one that comes back; and since when the host is held because there are two.

ALTER TABLE hosts ADD COLUMN lineage TEXT COLLATE "C" NOT NULL DEFAULT '[]';
ALTER TABLE hosts ADD COLUMN held_at BIGINT;
