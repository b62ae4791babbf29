-- What the database knows by itself need not be in the text of a statement. The daemon's sessions are in UTC.
ALTER TABLE events
    MODIFY recorded_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    ALGORITHM = INSTANT;
ALTER TABLE receipts
    MODIFY recorded_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    ALGORITHM = INSTANT;
