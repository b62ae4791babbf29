-- How far each reader of the log has come, and whose turn it is to read on. What a reader does in the database is committed with its
-- position, so that both are there or none. Rows are marked as dropped and never deleted.
CREATE TABLE checkpoints (
    name     VARCHAR(64)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- More than one only while something is built.
    part     SMALLINT UNSIGNED NOT NULL DEFAULT 0,
    kind     VARCHAR(16)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- All events up to this one are done.
    position BIGINT UNSIGNED   NOT NULL DEFAULT 0,
    -- The event there: another one means another log.
    event_id BINARY(16)        NULL,
    state    VARCHAR(16)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Why it is stopped or paused.
    reason   VARCHAR(500)      NULL,
    -- Of whoever reads on, and its signs of life. `beats` is never NULL but to refuse a packet of somebody else.
    token    BINARY(16)        NULL,
    beats    BIGINT UNSIGNED   NOT NULL DEFAULT 0,
    holder   VARCHAR(255)      NOT NULL DEFAULT '',
    moved_at DATETIME(6)       NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (name, part)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
