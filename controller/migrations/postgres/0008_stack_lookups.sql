-- What came of a request that carried a key is more than one job: a document.

ALTER TABLE idempotency ADD COLUMN answered TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE idempotency SET answered = '{"job":"' || job_id || '"}';
ALTER TABLE idempotency DROP COLUMN job_id;

-- Stacks are found by their project, and whether anything about them changed is told without reading
-- them. A document begins with the project; one that does not is damaged, and names none.

ALTER TABLE stacks ADD COLUMN project TEXT COLLATE "C" NOT NULL DEFAULT '';
UPDATE stacks SET project =
    left(coalesce(substring(facts FROM '^\{"project":"([a-z0-9_-]*)"'), ''), 255);
CREATE INDEX stacks_project ON stacks (project);
CREATE INDEX stacks_versions ON stacks (id, version);
CREATE INDEX stack_hosts_versions ON stack_hosts (stack_id, host_id, version);
CREATE INDEX stack_hosts_job ON stack_hosts (job_id) WHERE job_id IS NOT NULL;

-- What a controller says of hosts for stacks that name none; null: it looks at no repository.

ALTER TABLE controllers ADD COLUMN rules TEXT COLLATE "C";
