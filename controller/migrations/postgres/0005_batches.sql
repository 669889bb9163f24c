-- Labels, and requests for many environments.

ALTER TABLE environments ADD COLUMN labels TEXT COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE hosts ADD COLUMN labels TEXT COLLATE "C" NOT NULL DEFAULT '{}';

CREATE TABLE batches (
    id              TEXT COLLATE "C" PRIMARY KEY,
    state           TEXT COLLATE "C" NOT NULL,
    reason          TEXT COLLATE "C",
    action          TEXT COLLATE "C" NOT NULL,
    options         TEXT COLLATE "C" NOT NULL,
    principal       TEXT COLLATE "C" NOT NULL,
    idempotency_key TEXT COLLATE "C",
    request_sha256  TEXT COLLATE "C",
    request_id      TEXT COLLATE "C",
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
    batch_id       TEXT COLLATE "C" NOT NULL,
    place          BIGINT NOT NULL,
    environment_id TEXT COLLATE "C" NOT NULL,
    host_id        TEXT COLLATE "C" NOT NULL,
    name           TEXT COLLATE "C" NOT NULL,
    host_name      TEXT COLLATE "C" NOT NULL,
    state          TEXT COLLATE "C" NOT NULL,
    reason         TEXT COLLATE "C",
    message        TEXT COLLATE "C",
    job_id         TEXT COLLATE "C",
    PRIMARY KEY (batch_id, place)
);
CREATE UNIQUE INDEX batch_targets_job ON batch_targets (job_id) WHERE job_id IS NOT NULL;
