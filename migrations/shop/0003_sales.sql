-- A read model that is read from the log: what was ordered and cancelled on each day, by the database's clock.
CREATE TABLE sales_per_day (
    day       DATE            NOT NULL,
    orders    BIGINT UNSIGNED NOT NULL,
    revenue   DECIMAL(20,3)   NOT NULL,
    cancelled BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (day)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
