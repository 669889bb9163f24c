-- Labels, and requests for many environments.

ALTER TABLE environments ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE hosts ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';

CREATE TABLE batches (
    id              TEXT PRIMARY KEY,
    state           TEXT NOT NULL,
    reason          TEXT,
    action          TEXT NOT NULL,
    options         TEXT NOT NULL,
    principal       TEXT NOT NULL,
    idempotency_key TEXT,
    request_sha256  TEXT,
    request_id      TEXT,
    created_at      BIGINT NOT NULL,
    stopped_at      BIGINT,
    finished_at     BIGINT
);
CREATE UNIQUE INDEX batches_key ON batches (principal, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX batches_open ON batches (id) WHERE finished_at IS NULL;
CREATE INDEX batches_finished ON batches (finished_at) WHERE finished_at IS NOT NULL;

-- One row for each environment a batch is about, in the order they are taken up. What became of
-- its job is noted here when it has ended, so that it outlives the job.
CREATE TABLE batch_targets (
    batch_id       TEXT NOT NULL,
    place          BIGINT NOT NULL,
    environment_id TEXT NOT NULL,
    host_id        TEXT NOT NULL,
    name           TEXT NOT NULL,
    host_name      TEXT NOT NULL,
    state          TEXT NOT NULL,
    reason         TEXT,
    message        TEXT,
    job_id         TEXT,
    PRIMARY KEY (batch_id, place)
);
CREATE UNIQUE INDEX batch_targets_job ON batch_targets (job_id) WHERE job_id IS NOT NULL;
