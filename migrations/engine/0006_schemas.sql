-- The versions of events' schemas that programs may have written which were started on this log. A program that does not read all of
-- them does not start. Rows are only added; one costs nothing but what it says.
CREATE TABLE event_schemas (
    event_type     VARCHAR(128)      CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    schema_version SMALLINT UNSIGNED NOT NULL,
    since          DATETIME(6)       NOT NULL,
    PRIMARY KEY (event_type, schema_version)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
