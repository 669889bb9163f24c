-- Several controllers on one database: whose installation it is, and who serves it.

-- One row: the root all controllers and agents of this installation are certified by.
CREATE TABLE installation (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    root_pin   TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

-- `beats` only ever grows: who watches it needs no clock but its own.
CREATE TABLE controllers (
    id             TEXT COLLATE "C" PRIMARY KEY,
    name           TEXT COLLATE "C" NOT NULL,
    addresses      TEXT NOT NULL,
    build          TEXT COLLATE "C" NOT NULL,
    schema_version BIGINT NOT NULL,
    state          TEXT COLLATE "C" NOT NULL,
    beats          BIGINT NOT NULL,
    started_at     BIGINT NOT NULL,
    ended_at       BIGINT
);
CREATE INDEX host_sessions_controller ON host_sessions (controller_id);
