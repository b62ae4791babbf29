-- Read models of the shop. They equal a fold of the events and are written in the same transaction.
-- Ids are bytes, because a collation that ignores case or trailing spaces would merge them.

CREATE TABLE items (
    item_id      VARBINARY(128)   NOT NULL,
    name         VARCHAR(255)     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    supply_price DECIMAL(10,3)    NOT NULL,
    vat          DECIMAL(10,3)    NOT NULL,
    total_price  DECIMAL(10,3)    NOT NULL,
    is_tax_free  BOOLEAN          NOT NULL,
    stock        INT UNSIGNED     NOT NULL,
    sale_status  VARCHAR(8)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    member_id    BIGINT UNSIGNED  NOT NULL,
    version      BIGINT UNSIGNED  NOT NULL,
    PRIMARY KEY (item_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE orders (
    order_id     VARBINARY(128)   NOT NULL,
    member_id    BIGINT UNSIGNED  NOT NULL,
    total_price  DECIMAL(10,3)    NOT NULL,
    status       VARCHAR(16)      CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version      BIGINT UNSIGNED  NOT NULL,
    PRIMARY KEY (order_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE order_items (
    order_id     VARBINARY(128)   NOT NULL,
    item_id      VARBINARY(128)   NOT NULL,
    -- The price of one piece when the order was placed.
    price        DECIMAL(10,3)    NOT NULL,
    quantity     INT UNSIGNED     NOT NULL,
    is_tax_free  BOOLEAN          NOT NULL,
    PRIMARY KEY (order_id, item_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
