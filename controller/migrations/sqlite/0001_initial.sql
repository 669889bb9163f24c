-- Times are microseconds since the Unix epoch, UTC; booleans 0 or 1; documents JSON text.

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
) WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('event_seq', 0), ('job_position', 0);

CREATE TABLE sites (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

CREATE TABLE hosts (
    id                     TEXT PRIMARY KEY,
    name                   TEXT NOT NULL,
    state                  TEXT NOT NULL,
    key_sha256             TEXT NOT NULL,
    certificate_expires_at BIGINT NOT NULL,
    facts                  TEXT NOT NULL,
    agent_build            TEXT,
    last_seen_at           BIGINT,
    created_at             BIGINT NOT NULL,
    revoked_at             BIGINT,
    session_epoch          BIGINT NOT NULL DEFAULT 0
);
-- A revoked host keeps its row; its name and its key may be taken again.
CREATE UNIQUE INDEX hosts_name ON hosts (name) WHERE state = 'enrolled';
CREATE UNIQUE INDEX hosts_key ON hosts (key_sha256) WHERE state = 'enrolled';

CREATE TABLE host_sessions (
    host_id       TEXT PRIMARY KEY REFERENCES hosts (id),
    controller_id TEXT NOT NULL,
    epoch         BIGINT NOT NULL,
    connected_at  BIGINT NOT NULL
);

CREATE TABLE environments (
    id                 TEXT PRIMARY KEY,
    site_id            TEXT NOT NULL REFERENCES sites (id),
    host_id            TEXT NOT NULL REFERENCES hosts (id),
    name               TEXT NOT NULL,
    state              TEXT NOT NULL,
    doc                TEXT NOT NULL,
    redis_server       TEXT,
    fastcgi_desired    BIGINT,
    fastcgi_applied    BIGINT,
    fastcgi_applied_at BIGINT,
    fastcgi_last_error TEXT,
    redis_desired      BIGINT,
    redis_applied      BIGINT,
    redis_applied_at   BIGINT,
    redis_last_error   TEXT,
    version            BIGINT NOT NULL,
    created_at         BIGINT NOT NULL,
    updated_at         BIGINT NOT NULL,
    UNIQUE (site_id, name)
);
CREATE INDEX environments_host ON environments (host_id, id);
CREATE INDEX environments_redis ON environments (redis_server) WHERE redis_server IS NOT NULL;

CREATE TABLE jobs (
    id                  TEXT PRIMARY KEY,
    position            BIGINT NOT NULL,
    job_type            TEXT NOT NULL,
    template            TEXT NOT NULL,
    host_id             TEXT NOT NULL,
    site_id             TEXT,
    environment_id      TEXT,
    state               TEXT NOT NULL,
    reason              TEXT,
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
    request_id          TEXT,
    retry_of            TEXT,
    -- The largest progress sequence of the current attempt that is in the event log.
    progress_seen       BIGINT NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX jobs_runnable ON jobs (host_id, priority DESC, position) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (host_id) WHERE state = 'running';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_environment ON jobs (environment_id, id);

-- The lanes of every job that has not ended.
CREATE TABLE job_lanes (
    lane     TEXT NOT NULL,
    position BIGINT NOT NULL,
    job_id   TEXT NOT NULL,
    PRIMARY KEY (lane, position)
) WITHOUT ROWID;
CREATE INDEX job_lanes_job ON job_lanes (job_id);

-- The lanes of every running job: the key is what keeps two jobs of a lane apart.
CREATE TABLE lane_holds (
    lane   TEXT PRIMARY KEY,
    job_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX lane_holds_job ON lane_holds (job_id);

-- The outcome of a job's last finished attempt.
CREATE TABLE job_outcomes (
    job_id  TEXT PRIMARY KEY,
    attempt BIGINT NOT NULL,
    outcome TEXT NOT NULL
);

-- Ended jobs, moved out of the way of the queue.
CREATE TABLE jobs_history (
    id                  TEXT PRIMARY KEY,
    position            BIGINT NOT NULL,
    job_type            TEXT NOT NULL,
    template            TEXT NOT NULL,
    host_id             TEXT NOT NULL,
    site_id             TEXT,
    environment_id      TEXT,
    state               TEXT NOT NULL,
    reason              TEXT,
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
    request_id          TEXT,
    retry_of            TEXT,
    progress_seen       BIGINT NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX jobs_history_host ON jobs_history (host_id, id);
CREATE INDEX jobs_history_environment ON jobs_history (environment_id, id);
CREATE INDEX jobs_history_site ON jobs_history (site_id, id);
CREATE INDEX jobs_history_finished ON jobs_history (finished_at);

CREATE TABLE events (
    seq            BIGINT NOT NULL,
    at             BIGINT NOT NULL,
    kind           TEXT NOT NULL,
    site_id        TEXT,
    environment_id TEXT,
    host_id        TEXT,
    job_id         TEXT,
    document       TEXT NOT NULL,
    PRIMARY KEY (seq)
) WITHOUT ROWID;
CREATE INDEX events_job ON events (job_id, seq) WHERE job_id IS NOT NULL;

CREATE TABLE enrolment_tokens (
    id                 TEXT PRIMARY KEY,
    secret_sha256      TEXT NOT NULL,
    host_name          TEXT,
    created_at         BIGINT NOT NULL,
    expires_at         BIGINT NOT NULL,
    used_at            BIGINT,
    used_by_key_sha256 TEXT,
    host_id            TEXT
);

CREATE TABLE api_tokens (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL,
    scope         TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT,
    revoked_at    BIGINT
);

CREATE TABLE idempotency (
    principal      TEXT NOT NULL,
    key            TEXT NOT NULL,
    request_sha256 TEXT NOT NULL,
    job_id         TEXT NOT NULL,
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (principal, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_created ON idempotency (created_at);
