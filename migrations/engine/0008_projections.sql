-- Read models can be filled anew while they are written. Each filling is a build with tables of its own; what every transaction has to
-- write is named by its generation, which is compared in the row that every transaction takes. It is never NULL but to refuse one.
ALTER TABLE event_sequence
    ADD COLUMN generation INT UNSIGNED NOT NULL DEFAULT 1,
    ALGORITHM = INSTANT;
CREATE TABLE projections (
    name       VARCHAR(64)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- The number of its tables.
    build      SMALLINT UNSIGNED NOT NULL,
    -- Of the code that wrote it.
    version    SMALLINT UNSIGNED NOT NULL,
    -- inline: written with the events; log: from the log.
    mode       VARCHAR(8)        CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- building, ready, shown, kept, retired, dropped. Those that are ready, shown or kept are written. Never NULL but to refuse a change.
    state      VARCHAR(16)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- A digest of how its tables are described.
    shape      BINARY(16)        NOT NULL,
    -- The position after which whoever writes events writes it too.
    taken_over BIGINT UNSIGNED   NULL,
    -- A daemon that knows it and may write its tables has said so.
    vouched_at DATETIME(6)       NULL,
    since      DATETIME(6)       NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (name, build)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
