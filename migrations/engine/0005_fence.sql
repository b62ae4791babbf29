-- Every transaction of a daemon changes `batch`, also one that appends no event. So each has the sequence row among what it writes,
-- and a cluster that certifies write sets refuses whichever has not seen its predecessor.
ALTER TABLE event_sequence
    ADD COLUMN batch BIGINT UNSIGNED NOT NULL DEFAULT 0,
    ALGORITHM = INSTANT;
