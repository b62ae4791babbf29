-- The log. Rows are inserted and never changed: the daemon's account needs no UPDATE or DELETE here.
CREATE TABLE events (
    position       BIGINT UNSIGNED   NOT NULL,
    aggregate_type VARCHAR(64)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    aggregate_id   VARBINARY(128)    NOT NULL,
    version        BIGINT UNSIGNED   NOT NULL,
    event_id       BINARY(16)        NOT NULL,
    event_type     VARCHAR(128)      CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    schema_version SMALLINT UNSIGNED NOT NULL,
    payload        MEDIUMBLOB        NOT NULL,
    metadata       BLOB              NOT NULL,
    recorded_at    DATETIME(6)       NOT NULL,
    PRIMARY KEY (position),
    UNIQUE KEY uq_events_version (aggregate_type, aggregate_id, version)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What each job ended as. Written in the transaction of the job's events.
CREATE TABLE receipts (
    job_id         BINARY(16)      NOT NULL,
    outcome        VARCHAR(16)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    reason         VARCHAR(500)    CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    first_position BIGINT UNSIGNED NULL,
    last_position  BIGINT UNSIGNED NULL,
    fingerprint    BINARY(16)      NOT NULL,
    recorded_at    DATETIME(6)     NOT NULL,
    PRIMARY KEY (job_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row. Its lock is what gives positions without gaps, in commit order. `unchanged` is never anything but 1: a batch
-- that finds the ground of its decisions changed sets it to NULL, which the server refuses, and so nothing is committed.
CREATE TABLE event_sequence (
    id        TINYINT UNSIGNED NOT NULL,
    position  BIGINT UNSIGNED  NOT NULL,
    unchanged TINYINT UNSIGNED NOT NULL,
    PRIMARY KEY (id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO event_sequence (id, position, unchanged) VALUES (1, 0, 1);
