// Registers an item, puts it on sale and orders one of it; prints what became of each job.
//
//   npm ci && REDIS_URL=redis://localhost:6379 node order.js ITEM_ID

import { crc32 } from "node:zlib"; // Node 20.15 and newer

import Redis from "ioredis";
import { v7 as uuidv7 } from "uuid";

const STREAMS = (process.env.JOBS_STREAM || "jobs").split(",");
const LIMIT_MS = 30_000;

const item = process.argv[2];
if (!item) {
  console.error("usage: node order.js ITEM_ID");
  process.exit(1);
}

// Of several streams: what belongs together goes into one, since there is an order within a stream only. Here that is an item with
// its orders, so that all of their jobs go by the item, and not each by its key.
const stream = STREAMS[crc32(item) % STREAMS.length];

const redis = new Redis(process.env.REDIS_URL || "redis://localhost:6379");
redis.on("error", (error) => console.error(`redis: ${error.message}`));
const replies = `reply:order:${uuidv7()}`; // ours alone, so that nobody else's outcomes are in it
let last = "0-0";

// Pushes one job and waits for its outcome, because the next job builds on it.
async function run(type, key, data) {
  // Chosen before the first XADD. When a connection breaks, ioredis sends the command again, and the job may stand in
  // the stream twice: with the same id it is still one job. A program that must survive its own crash stores the id first.
  const id = uuidv7();
  // One XADD, without MAXLEN: that would throw away jobs which nobody has run.
  await redis.xadd(stream, "*", "id", id, "type", type, "key", key, "data", JSON.stringify(data), "reply", replies);
  const outcome = await outcomeOf(id);
  console.log([type, outcome.outcome, outcome.reason].filter(Boolean).join(" "));
  if (outcome.outcome !== "applied") throw new Error(`${type} was not applied`);
}

// An outcome may come more than once, so an older job's can come again: only the one that bears our id counts.
async function outcomeOf(id) {
  const deadline = Date.now() + LIMIT_MS;
  while (Date.now() < deadline) {
    const read = await redis.xread("BLOCK", 1000, "STREAMS", replies, last);
    for (const [entry, fields] of read?.[0][1] ?? []) {
      last = entry;
      const reply = Object.fromEntries(fields.flatMap((name, i) => (i % 2 ? [] : [[name, fields[i + 1]]])));
      if (reply.id === id) return reply;
    }
  }
  throw new Error(`job ${id} has no outcome after ${LIMIT_MS / 1000} s; it is in the stream and may still run`);
}

try {
  await run("item.register", item, {
    name: "Pen", supply_price: "1.000", vat: "0.100", is_tax_free: false, stock: 100, member_id: 7,
  });
  await run("item.allow_sale", item, {});
  await run("order.place", uuidv7(), { member_id: 42, lines: [{ item_id: item, quantity: 1 }] });
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await redis.del(replies).catch(() => {});
  redis.disconnect();
}
