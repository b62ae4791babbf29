-- States of aggregates with many events, so that loading one reads few of them. A row is true as long as the log has the event
-- that it was taken after; every other is ignored. Nothing but loading rests on this table: TRUNCATE is safe at any time.
CREATE TABLE snapshots (
    aggregate_type VARCHAR(64)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    aggregate_id   VARBINARY(128)    NOT NULL,
    version        BIGINT UNSIGNED   NOT NULL,
    event_id       BINARY(16)        NOT NULL,
    schema_version SMALLINT UNSIGNED NOT NULL,
    -- Without a limit of its own, so that no state is refused.
    state          LONGBLOB          NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
