-- Desired state: what the config repository says, which stacks there are, and how each stands on
-- each of its hosts.

ALTER TABLE jobs ADD COLUMN stack_id TEXT;
ALTER TABLE jobs_history ADD COLUMN stack_id TEXT;
CREATE INDEX jobs_stack ON jobs (stack_id, id) WHERE stack_id IS NOT NULL;
CREATE INDEX jobs_history_stack ON jobs_history (stack_id, id) WHERE stack_id IS NOT NULL;
ALTER TABLE events ADD COLUMN stack_id TEXT;

-- Every look at the repository that was asked for; one that was replaced while it waited says by
-- which other.
CREATE TABLE refreshes (
    id           TEXT PRIMARY KEY,
    caused_by    TEXT NOT NULL,
    state        TEXT NOT NULL,
    replaced_by  TEXT,
    delivery     TEXT,
    controller   TEXT,
    requested_at BIGINT NOT NULL,
    started_at   BIGINT,
    finished_at  BIGINT,
    revision     TEXT,
    report       TEXT
);
CREATE INDEX refreshes_open ON refreshes (id) WHERE finished_at IS NULL;
CREATE INDEX refreshes_finished ON refreshes (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX refreshes_delivery ON refreshes (delivery) WHERE delivery IS NOT NULL;

-- One row: the snapshot that holds.
CREATE TABLE desired_state (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    source     TEXT NOT NULL,
    revision   TEXT NOT NULL,
    commit_doc TEXT NOT NULL,
    refresh_id TEXT NOT NULL,
    taken_at   BIGINT NOT NULL
);

CREATE TABLE stacks (
    id         TEXT PRIMARY KEY,
    path       TEXT NOT NULL UNIQUE,
    present    BIGINT NOT NULL,
    suspended  BIGINT NOT NULL,
    removal    TEXT NOT NULL,
    revision   TEXT NOT NULL,
    facts      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version    BIGINT NOT NULL
);

CREATE TABLE stack_hosts (
    stack_id    TEXT NOT NULL,
    host_id     TEXT NOT NULL,
    status      TEXT NOT NULL,
    targeted    BIGINT NOT NULL,
    wanted      TEXT,
    applied     TEXT,
    outcome     TEXT,
    retry_at    BIGINT,
    job_id      TEXT,
    containers  TEXT NOT NULL,
    watch       TEXT NOT NULL,
    version     BIGINT NOT NULL,
    PRIMARY KEY (stack_id, host_id)
);
CREATE INDEX stack_hosts_host ON stack_hosts (host_id);
