-- Events that a reader of the log could not do and has gone past: of a read model of aggregates with all later ones of their aggregate, in
-- their order.
CREATE TABLE parked (
    name           VARCHAR(64)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    position       BIGINT UNSIGNED NOT NULL,
    aggregate_type VARCHAR(64)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    aggregate_id   VARBINARY(128)  NOT NULL,
    reason         VARCHAR(500)    NOT NULL,
    parked_at      DATETIME(6)     NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (name, position),
    KEY ix_parked_aggregate (name, aggregate_type, aggregate_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
