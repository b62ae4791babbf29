"""Registers an item, puts it on sale and orders one of it; prints what became of each job.

    pip install -r requirements.txt
    REDIS_URL=redis://localhost:6379 python order.py ITEM_ID
"""

import json
import os
import sys
import time
import uuid
import zlib

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

STREAMS = (os.environ.get("JOBS_STREAM") or "jobs").split(",")
LIMIT_S = 30
new_id = getattr(uuid, "uuid7", uuid.uuid4)  # UUIDv7 from Python 3.14 on

# A broken connection is tried again, so a job may stand in the stream twice: with the same id it is still one job.
broker = redis.Redis.from_url(
    os.environ.get("REDIS_URL") or "redis://localhost:6379",
    decode_responses=True,
    retry=Retry(ExponentialWithJitterBackoff(), 5),
)
replies = f"reply:order:{new_id()}"  # ours alone, so that nobody else's outcomes are in it
last = "0-0"


def run(job_type: str, key: str, data: dict) -> None:
    """Pushes one job and waits for its outcome, because the next job builds on it."""
    # Chosen before the first XADD. A program that must survive its own crash stores the id first.
    job_id = str(new_id())
    # One XADD, without maxlen: that would throw away jobs which nobody has run.
    broker.xadd(stream, {"id": job_id, "type": job_type, "key": key, "data": json.dumps(data), "reply": replies})
    outcome = outcome_of(job_id)
    print(*filter(None, [job_type, outcome["outcome"], outcome["reason"]]))
    if outcome["outcome"] != "applied":
        sys.exit(f"{job_type} was not applied")


def outcome_of(job_id: str) -> dict:
    """An outcome may come more than once, so an older job's can come again: only the one that bears our id counts."""
    global last
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        for _, entries in broker.xread({replies: last}, block=1000):
            for last, reply in entries:
                if reply["id"] == job_id:
                    return reply
    sys.exit(f"job {job_id} has no outcome after {LIMIT_S} s; it is in the stream and may still run")


if len(sys.argv) != 2:
    sys.exit("usage: python order.py ITEM_ID")
item = sys.argv[1]
# Of several streams: what belongs together goes into one, since there is an order within a stream only. Here that is an item with its
# orders, so that all of their jobs go by the item, and not each by its key.
stream = STREAMS[zlib.crc32(item.encode()) % len(STREAMS)]
pen = {"name": "Pen", "supply_price": "1.000", "vat": "0.100", "is_tax_free": False, "stock": 100, "member_id": 7}
try:
    run("item.register", item, pen)
    run("item.allow_sale", item, {})
    run("order.place", str(new_id()), {"member_id": 42, "lines": [{"item_id": item, "quantity": 1}]})
finally:
    broker.delete(replies)
