-- What came of a request that carried a key is more than one job: a document.

ALTER TABLE idempotency ADD COLUMN answered TEXT NOT NULL DEFAULT '';
UPDATE idempotency SET answered = '{"job":"' || job_id || '"}';
ALTER TABLE idempotency DROP COLUMN job_id;

-- Stacks are found by their project, and whether anything about them changed is told without reading
-- them.

ALTER TABLE stacks ADD COLUMN project TEXT NOT NULL DEFAULT '';
UPDATE stacks SET project = substr(coalesce(json_extract(facts, '$.project'), ''), 1, 255)
    WHERE json_valid(facts);
CREATE INDEX stacks_project ON stacks (project);
CREATE INDEX stacks_versions ON stacks (id, version);
CREATE INDEX stack_hosts_versions ON stack_hosts (stack_id, host_id, version);
CREATE INDEX stack_hosts_job ON stack_hosts (job_id) WHERE job_id IS NOT NULL;

-- What a controller says of hosts for stacks that name none; null: it looks at no repository.

ALTER TABLE controllers ADD COLUMN rules TEXT;
