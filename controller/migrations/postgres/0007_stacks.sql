-- Desired state: what the config repository says, which stacks there are, and how each stands on
-- each of its hosts.

ALTER TABLE jobs ADD COLUMN stack_id TEXT COLLATE "C";
ALTER TABLE jobs_history ADD COLUMN stack_id TEXT COLLATE "C";
CREATE INDEX jobs_stack ON jobs (stack_id, id) WHERE stack_id IS NOT NULL;
CREATE INDEX jobs_history_stack ON jobs_history (stack_id, id) WHERE stack_id IS NOT NULL;
ALTER TABLE events ADD COLUMN stack_id TEXT COLLATE "C";

-- Every look at the repository that was asked for; one that was replaced while it waited says by
-- which other.
CREATE TABLE refreshes (
    id           TEXT COLLATE "C" PRIMARY KEY,
    caused_by    TEXT COLLATE "C" NOT NULL,
    state        TEXT COLLATE "C" NOT NULL,
    replaced_by  TEXT COLLATE "C",
    delivery     TEXT COLLATE "C",
    controller   TEXT COLLATE "C",
    requested_at BIGINT NOT NULL,
    started_at   BIGINT,
    finished_at  BIGINT,
    revision     TEXT COLLATE "C",
    report       TEXT COLLATE "C"
);
CREATE INDEX refreshes_open ON refreshes (id) WHERE finished_at IS NULL;
CREATE INDEX refreshes_finished ON refreshes (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX refreshes_delivery ON refreshes (delivery) WHERE delivery IS NOT NULL;

-- One row: the snapshot that holds.
CREATE TABLE desired_state (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    source     TEXT COLLATE "C" NOT NULL,
    revision   TEXT COLLATE "C" NOT NULL,
    commit_doc TEXT COLLATE "C" NOT NULL,
    refresh_id TEXT COLLATE "C" NOT NULL,
    taken_at   BIGINT NOT NULL
);

CREATE TABLE stacks (
    id         TEXT COLLATE "C" PRIMARY KEY,
    path       TEXT COLLATE "C" NOT NULL UNIQUE,
    present    BIGINT NOT NULL,
    suspended  BIGINT NOT NULL,
    removal    TEXT COLLATE "C" NOT NULL,
    revision   TEXT COLLATE "C" NOT NULL,
    facts      TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version    BIGINT NOT NULL
);

CREATE TABLE stack_hosts (
    stack_id    TEXT COLLATE "C" NOT NULL,
    host_id     TEXT COLLATE "C" NOT NULL,
    status      TEXT COLLATE "C" NOT NULL,
    targeted    BIGINT NOT NULL,
    wanted      TEXT COLLATE "C",
    applied     TEXT COLLATE "C",
    outcome     TEXT COLLATE "C",
    retry_at    BIGINT,
    job_id      TEXT COLLATE "C",
    containers  TEXT COLLATE "C" NOT NULL,
    watch       TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    PRIMARY KEY (stack_id, host_id)
);
CREATE INDEX stack_hosts_host ON stack_hosts (host_id);
