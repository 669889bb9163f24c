-- Times are microseconds since the Unix epoch, UTC; booleans 0 or 1; documents JSON text.
-- Text is compared by bytes, as in SQLite, or keyset pages would come in another order.

CREATE TABLE counters (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BIGINT NOT NULL
) WITH (fillfactor = 10);
INSERT INTO counters (name, value) VALUES ('event_seq', 0);
CREATE SEQUENCE job_position;

CREATE TABLE sites (
    id         TEXT COLLATE "C" PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE hosts (
    id                     TEXT COLLATE "C" PRIMARY KEY,
    name                   TEXT COLLATE "C" NOT NULL,
    state                  TEXT COLLATE "C" NOT NULL,
    key_sha256             TEXT COLLATE "C" NOT NULL,
    certificate_expires_at BIGINT NOT NULL,
    facts                  TEXT NOT NULL,
    agent_build            TEXT COLLATE "C",
    last_seen_at           BIGINT,
    created_at             BIGINT NOT NULL,
    revoked_at             BIGINT,
    session_epoch          BIGINT NOT NULL DEFAULT 0
);
-- A revoked host keeps its row; its name and its key may be taken again.
CREATE UNIQUE INDEX hosts_name ON hosts (name) WHERE state = 'enrolled';
CREATE UNIQUE INDEX hosts_key ON hosts (key_sha256) WHERE state = 'enrolled';

CREATE TABLE host_sessions (
    host_id       TEXT COLLATE "C" PRIMARY KEY REFERENCES hosts (id),
    controller_id TEXT COLLATE "C" NOT NULL,
    epoch         BIGINT NOT NULL,
    connected_at  BIGINT NOT NULL
);

CREATE TABLE environments (
    id                 TEXT COLLATE "C" PRIMARY KEY,
    site_id            TEXT COLLATE "C" NOT NULL REFERENCES sites (id),
    host_id            TEXT COLLATE "C" NOT NULL REFERENCES hosts (id),
    name               TEXT COLLATE "C" NOT NULL,
    state              TEXT COLLATE "C" NOT NULL,
    doc                TEXT NOT NULL,
    redis_server       TEXT COLLATE "C",
    fastcgi_desired    BIGINT,
    fastcgi_applied    BIGINT,
    fastcgi_applied_at BIGINT,
    fastcgi_last_error TEXT COLLATE "C",
    redis_desired      BIGINT,
    redis_applied      BIGINT,
    redis_applied_at   BIGINT,
    redis_last_error   TEXT COLLATE "C",
    version            BIGINT NOT NULL,
    created_at         BIGINT NOT NULL,
    updated_at         BIGINT NOT NULL,
    UNIQUE (site_id, name)
);
CREATE INDEX environments_host ON environments (host_id, id);
CREATE INDEX environments_redis ON environments (redis_server) WHERE redis_server IS NOT NULL;

CREATE TABLE jobs (
    id                  TEXT COLLATE "C" PRIMARY KEY,
    position            BIGINT NOT NULL,
    job_type            TEXT COLLATE "C" NOT NULL,
    template            TEXT COLLATE "C" NOT NULL,
    host_id             TEXT COLLATE "C" NOT NULL,
    site_id             TEXT COLLATE "C",
    environment_id      TEXT COLLATE "C",
    state               TEXT COLLATE "C" NOT NULL,
    reason              TEXT COLLATE "C",
    priority            BIGINT NOT NULL,
    may_pass_waiting    BIGINT NOT NULL,
    request             TEXT NOT NULL,
    attempt             BIGINT NOT NULL,
    failures            BIGINT NOT NULL,
    crashes             BIGINT NOT NULL,
    timeout_secs        BIGINT NOT NULL,
    run_after           BIGINT NOT NULL,
    expires_at          BIGINT NOT NULL,
    created_at          BIGINT NOT NULL,
    started_at          BIGINT,
    accepted_at         BIGINT,
    cancel_requested_at BIGINT,
    finished_at         BIGINT,
    lease               BIGINT NOT NULL,
    request_id          TEXT COLLATE "C",
    retry_of            TEXT COLLATE "C",
    -- The largest progress sequence of the current attempt that is in the event log.
    progress_seen       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX jobs_runnable ON jobs (host_id, priority DESC, position) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (host_id) WHERE state = 'running';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_environment ON jobs (environment_id, id);

-- The lanes of every job that has not ended.
CREATE TABLE job_lanes (
    lane     TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    job_id   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (lane, position)
);
CREATE INDEX job_lanes_job ON job_lanes (job_id);

-- The lanes of every running job: the key is what keeps two jobs of a lane apart.
CREATE TABLE lane_holds (
    lane   TEXT COLLATE "C" PRIMARY KEY,
    job_id TEXT COLLATE "C" NOT NULL
);
CREATE INDEX lane_holds_job ON lane_holds (job_id);

-- The queue is written over and over: free room in each page keeps its rows in place.
ALTER TABLE jobs SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE lane_holds SET (autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE job_lanes SET (autovacuum_vacuum_scale_factor = 0.02);

-- The outcome of a job's last finished attempt.
CREATE TABLE job_outcomes (
    job_id  TEXT COLLATE "C" PRIMARY KEY,
    attempt BIGINT NOT NULL,
    outcome TEXT NOT NULL
);

-- Ended jobs, moved out of the way of the queue.
CREATE TABLE jobs_history (
    id                  TEXT COLLATE "C" PRIMARY KEY,
    position            BIGINT NOT NULL,
    job_type            TEXT COLLATE "C" NOT NULL,
    template            TEXT COLLATE "C" NOT NULL,
    host_id             TEXT COLLATE "C" NOT NULL,
    site_id             TEXT COLLATE "C",
    environment_id      TEXT COLLATE "C",
    state               TEXT COLLATE "C" NOT NULL,
    reason              TEXT COLLATE "C",
    priority            BIGINT NOT NULL,
    may_pass_waiting    BIGINT NOT NULL,
    request             TEXT NOT NULL,
    attempt             BIGINT NOT NULL,
    failures            BIGINT NOT NULL,
    crashes             BIGINT NOT NULL,
    timeout_secs        BIGINT NOT NULL,
    run_after           BIGINT NOT NULL,
    expires_at          BIGINT NOT NULL,
    created_at          BIGINT NOT NULL,
    started_at          BIGINT,
    accepted_at         BIGINT,
    cancel_requested_at BIGINT,
    finished_at         BIGINT,
    lease               BIGINT NOT NULL,
    request_id          TEXT COLLATE "C",
    retry_of            TEXT COLLATE "C",
    progress_seen       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX jobs_history_host ON jobs_history (host_id, id);
CREATE INDEX jobs_history_environment ON jobs_history (environment_id, id);
CREATE INDEX jobs_history_site ON jobs_history (site_id, id);
CREATE INDEX jobs_history_finished ON jobs_history (finished_at);

CREATE TABLE events (
    seq            BIGINT NOT NULL,
    at             BIGINT NOT NULL,
    kind           TEXT COLLATE "C" NOT NULL,
    site_id        TEXT COLLATE "C",
    environment_id TEXT COLLATE "C",
    host_id        TEXT COLLATE "C",
    job_id         TEXT COLLATE "C",
    document       TEXT NOT NULL,
    PRIMARY KEY (seq)
);
CREATE INDEX events_job ON events (job_id, seq) WHERE job_id IS NOT NULL;

CREATE TABLE enrolment_tokens (
    id                 TEXT COLLATE "C" PRIMARY KEY,
    secret_sha256      TEXT COLLATE "C" NOT NULL,
    host_name          TEXT COLLATE "C",
    created_at         BIGINT NOT NULL,
    expires_at         BIGINT NOT NULL,
    used_at            BIGINT,
    used_by_key_sha256 TEXT COLLATE "C",
    host_id            TEXT COLLATE "C"
);

CREATE TABLE api_tokens (
    id            TEXT COLLATE "C" PRIMARY KEY,
    name          TEXT COLLATE "C" NOT NULL,
    secret_sha256 TEXT COLLATE "C" NOT NULL,
    scope         TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT,
    revoked_at    BIGINT
);

CREATE TABLE idempotency (
    principal      TEXT COLLATE "C" NOT NULL,
    key            TEXT COLLATE "C" NOT NULL,
    request_sha256 TEXT COLLATE "C" NOT NULL,
    job_id         TEXT COLLATE "C" NOT NULL,
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_created ON idempotency (created_at);
