// A lock client in Node that does what it is told: one JSON object per line on standard input, one answer per line.
//
//   node peer.js VERSION RETRY_COUNT RETRY_DELAY_MS NODE_URL...
//
//   {"do": "acquire", "keys": [...], "ttl": ms}   {"lock": number}, or {"lock": null, "why": "..."} when it is not granted
//   {"do": "extend", "lock": number, "ttl": ms}   {}
//   {"do": "release", "lock": number}             {}
//   {"do": "contend", "keys": [...], "ttl": ms, "arbiter": url, "name": "..."}   {}, and goes on until
//   {"do": "stop"}                                {}

import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import Redlock5 from "redlock";
import Redlock4 from "redlock-4";

const [version, retryCount, retryDelay, ...urls] = process.argv.slice(2);
const nodes = urls.map((url) => new Redis(url));
const settings = { retryCount: Number(retryCount), retryDelay: Number(retryDelay), retryJitter: 0 };

// The two versions differ in the names of what they can do.
const clients = {
  5: () => {
    const redlock = new Redlock5(nodes, settings);
    return {
      acquire: (keys, ttl) => redlock.acquire(keys, ttl),
      extend: (lock, ttl) => lock.extend(ttl),
      release: (lock) => lock.release(),
    };
  },
  4: () => {
    const redlock = new Redlock4(nodes, settings);
    return {
      acquire: (keys, ttl) => redlock.lock(keys, ttl),
      extend: (lock, ttl) => lock.extend(ttl),
      release: (lock) => lock.unlock(),
    };
  },
};
const client = clients[version]();

// Both throw an error of their own, with the attempts in it, when the keys are not granted; all else is a fault.
const isRefusal = (error) => Array.isArray(error.attempts) || error.name === "LockError";

const locks = new Map();
let contention = null;

async function contend({ keys, ttl, arbiter: url, name }, signal) {
  const arbiter = new Redis(url);
  while (!signal.aborted) {
    let lock;
    try {
      lock = await client.acquire(keys, ttl);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await sleep(Math.random() * 4);
      continue;
    }
    if ((await arbiter.incr("inside")) !== 1) await arbiter.incr("met");
    await arbiter.incr(`entered:${name}`);
    await arbiter.decr("inside");
    await client.release(lock);
    // Whoever comes back at once would hardly ever let the others in.
    await sleep(Math.random() * 4);
  }
  await arbiter.quit();
}

const commands = {
  async acquire({ keys, ttl }) {
    try {
      const number = locks.size + 1;
      locks.set(number, await client.acquire(keys, ttl));
      return { lock: number };
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return { lock: null, why: error.message };
    }
  },
  async extend({ lock, ttl }) {
    locks.set(lock, await client.extend(locks.get(lock), ttl));
    return {};
  },
  // Releasing what has expired is an error for node-redlock; what matters here is what happens to the keys.
  async release({ lock }) {
    await client.release(locks.get(lock)).catch((error) => {
      if (!isRefusal(error)) throw error;
    });
    return {};
  },
  async contend(command) {
    const stop = new AbortController();
    contention = { stop, ended: contend(command, stop.signal) };
    return {};
  },
  async stop() {
    contention.stop.abort();
    await contention.ended;
    return {};
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  console.log(JSON.stringify(await commands[command.do](command)));
}
process.exit(0);
