-- Identities that last: a candidate key beside the committed one, returns counted, clocks seen,
-- two ways of being shut out.

ALTER TABLE hosts ADD COLUMN candidate_key_sha256 TEXT COLLATE "C";
ALTER TABLE hosts ADD COLUMN candidate_expires_at BIGINT;
ALTER TABLE hosts ADD COLUMN certificate_renewed_at BIGINT;
ALTER TABLE hosts ADD COLUMN recoveries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE hosts ADD COLUMN recovered_at BIGINT;
ALTER TABLE hosts ADD COLUMN clock_skew_ms BIGINT;
ALTER TABLE hosts ADD COLUMN revoked_as TEXT COLLATE "C";

-- Until now every revoked host could be enrolled again with a new token.
UPDATE hosts SET revoked_as = 'evict' WHERE state = 'revoked';

CREATE UNIQUE INDEX hosts_candidate ON hosts (candidate_key_sha256) WHERE state = 'enrolled';

-- Refused for good, also when the host they belonged to is forgotten.
CREATE TABLE banned_keys (
    key_sha256 TEXT COLLATE "C" PRIMARY KEY,
    host_id    TEXT COLLATE "C" NOT NULL,
    host_name  TEXT COLLATE "C" NOT NULL,
    banned_at  BIGINT NOT NULL
);
