// Shows that this peer keeps its promises, on throwaway servers: node selftest.js LOCKKEEPER_PROGRAM
//
// `lockkeeper dev` starts the servers. Jobs come from a file and from a producer, some of them twice and some to be
// rejected; afterwards the tables must be what the rules of src/bin/lockkeeper/shop make of them. The bench itself runs lockkeeper's
// audit after every run; this is for whoever changes the peer.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import mysql from "mysql2/promise";

const LIMIT_MS = 120_000;
const folder = mkdtempSync(join(tmpdir(), "original-peer-"));

async function eventually(what, check) {
  for (const deadline = Date.now() + LIMIT_MS; Date.now() < deadline; await sleep(50)) {
    const found = await check();
    if (found) return found;
  }
  throw new Error(`${what} should have happened by now`);
}

async function servers(program) {
  const process = spawn(program, ["dev", "--keep", join(folder, "servers")], { stdio: "ignore" });
  const file = join(folder, "servers", "lockkeeper.toml");
  await eventually("the servers are up", () => existsSync(file));
  const [database, broker, ...nodes] = readFileSync(file, "utf8").match(/(mysql|redis):[^"]+/g);
  return { process, task: { database, broker, nodes } };
}

// A contender that is ready.
async function contender(task) {
  const process = spawn("node", [join(import.meta.dirname, "main.js")], { stdio: ["pipe", "pipe", "inherit"] });
  const answers = createInterface({ input: process.stdout })[Symbol.asyncIterator]();
  const tell = (line) => process.stdin.write(`${line}\n`);
  const hear = async () => (await answers.next()).value;
  tell(JSON.stringify(task));
  assert.equal(await hear(), "ready");
  return {
    go: () => tell("go"),
    async stop() {
      tell("stop");
      const figures = JSON.parse(await hear());
      process.stdin.end();
      return figures;
    },
  };
}

function file(name, jobs) {
  const path = join(folder, name);
  writeFileSync(path, jobs.map((job) => `${JSON.stringify(job)}\n`).join(""));
  return path;
}

const ITEMS = 10;
const TOTAL_PRICE = "1.650";
const item = (number) => `it'em-${number}`;
const job = (type, key, data) => ({ id: randomUUID(), type, key, data });
const some = (count, make) => Array.from({ length: count }, (_, i) => make(i));
const lines = (i) => [0, 1, 2].map((step) => ({ item_id: item((i + 3 * step) % ITEMS), quantity: step + 1 }));

function jobs() {
  const pen = { name: "Pen \\ 'é'", supply_price: "1.5", vat: "0.15", is_tax_free: false, stock: 1000, member_id: 7 };
  const shop = some(ITEMS, (i) => [job("item.register", item(i), pen), job("item.allow_sale", item(i), {})]).flat();
  const mixed = [
    ...some(300, (i) => job("item.restock", item(i % ITEMS), { quantity: 2 })),
    ...some(100, (i) => job("item.restock", item(0), { quantity: 1 + (i % 2) })),
    ...some(200, (i) => job("order.place", `order-${i}`, { member_id: i, lines: lines(i) })),
  ];
  const refused = [
    job("item.restock", "nothing", { quantity: 1 }),
    job("item.restock", item(1), { quantity: 2 ** 32 - 1 }),
    job("order.place", "order-0", { member_id: 1, lines: lines(1) }),
    job("order.place", "order-many", { member_id: 1, lines: [{ item_id: item(2), quantity: 1_000_000 }] }),
  ];
  return { shop, mixed, refused };
}

async function tables(connection) {
  const rows = async (sql) => (await connection.query(sql))[0];
  return {
    events: await rows(
      `SELECT position, aggregate_type AS kind, CAST(aggregate_id AS CHAR) AS id, version, event_type AS type,
       CAST(payload AS CHAR) AS payload, CAST(metadata AS CHAR) AS metadata, recorded_at FROM events ORDER BY position`,
    ),
    receipts: await rows("SELECT HEX(job_id) AS job, outcome, reason, first_position, last_position FROM receipts"),
    items: await rows("SELECT CAST(item_id AS CHAR) AS id, stock, sale_status, total_price, version FROM items"),
    orders: await rows("SELECT CAST(order_id AS CHAR) AS id, member_id, total_price, status, version FROM orders"),
    lines: await rows(
      `SELECT CAST(order_id AS CHAR) AS order_id, CAST(item_id AS CHAR) AS item_id, price, quantity, is_tax_free
       FROM order_items ORDER BY order_id, item_id`,
    ),
    sequence: (await rows("SELECT position FROM event_sequence"))[0].position,
  };
}

// What the events say that the read models should be.
function fold(events) {
  const [items, orders, lines] = [new Map(), [], []];
  for (const { id, version, type, payload: text } of events) {
    const payload = JSON.parse(text);
    if (type === "order.placed") {
      const { member_id, total_price } = payload;
      orders.push({ id, member_id, total_price, status: "PLACED", version });
      lines.push(...payload.lines.map((line) => ({ order_id: id, ...line, is_tax_free: Number(line.is_tax_free) })));
      continue;
    }
    if (type === "item.registered") {
      items.set(id, { id, stock: payload.stock, sale_status: "DENY", total_price: TOTAL_PRICE });
    }
    const now = items.get(id);
    if (type === "item.sale_allowed") now.sale_status = "ALLOW";
    if (type === "item.restocked") now.stock += payload.quantity;
    if (type === "item.stock_reserved") now.stock -= payload.quantity;
    now.version = version;
  }
  return { items: [...items.values()], orders, lines };
}

// The order of rows does not matter.
const same = (is, should) => assert.deepEqual(sorted(is), sorted(should));
const sorted = (rows) => rows.map((row) => JSON.stringify(Object.entries(row).sort())).sort();

const hex = (id) => id.replaceAll("-", "").toUpperCase();

function check({ events, receipts, items, orders, lines, sequence }, given) {
  assert.deepEqual(events.map((event) => event.position), some(sequence, (i) => i + 1), "positions are dense");
  const heads = new Map();
  for (const { kind, id, version } of events) {
    assert.equal(version, (heads.get(`${kind}/${id}`) ?? 0) + 1, `the version of ${kind}/${id}`);
    heads.set(`${kind}/${id}`, version);
  }
  assert.deepEqual(receipts.map((receipt) => receipt.job).sort(), given.map((job) => hex(job.id)).sort());
  const jobOf = (event) => hex(JSON.parse(event.metadata).job);
  for (const { job, first_position: first, last_position: last } of receipts) {
    const positions = events.filter((event) => jobOf(event) === job).map((event) => event.position);
    assert.deepEqual(positions, first === null ? [] : some(last - first + 1, (i) => first + i), `the events of ${job}`);
  }
  const folded = fold(events);
  same(items, folded.items);
  same(orders, folded.orders);
  same(lines, folded.lines);
}

async function run(program) {
  const { process: dev, task: urls } = await servers(program);
  const connection = await mysql.createConnection({ uri: urls.database, multipleStatements: false });
  const receipts = async () => (await connection.query("SELECT COUNT(*) AS count FROM receipts"))[0][0].count;
  try {
    const { shop, mixed, refused } = jobs();
    const task = { ...urls, contender: "original", concurrency: 16, lock_ttl_ms: 2000, reply: null };
    const works = async (stream, given, total) => {
      const worker = await contender({ ...task, role: "work", stream, jobs: given && file(stream, given) });
      worker.go();
      await eventually(`${total} receipts`, async () => (await receipts()) === total);
      return worker;
    };
    // Registration and sale of one item are two jobs that must come in this order.
    const registered = shop.filter(({ type }) => type === "item.register");
    await (await works("register", registered, ITEMS)).stop();
    await (await works("allow", shop.filter((job) => !registered.includes(job)), 2 * ITEMS)).stop();
    const finished = await works("mixed", mixed, 2 * ITEMS + mixed.length);
    const { ran_out, failures } = await finished.stop();
    assert.deepEqual({ ran_out, failures }, { ran_out: true, failures: 0 });

    // The same jobs once more, under another queue: not one of them has an effect.
    const again = mixed.slice(0, 50);
    const given = file("open", [...again, ...refused]);
    const times = { rate: 200, start_unix_ms: Date.now() + 1500 };
    const producer = await contender({ ...task, ...times, role: "produce", stream: "again", jobs: given });
    const total = 2 * ITEMS + mixed.length + refused.length;
    producer.go();
    const worker = await works("again", null, total);
    const { sent, late_max_ms: late } = await producer.stop();
    assert.equal(sent, again.length + refused.length);
    const { jobs: done } = await worker.stop();
    assert.equal(done, sent);

    const found = await tables(connection);
    check(found, [...shop, ...mixed, ...refused]);
    const reasons = found.receipts.map(({ reason }) => reason).filter(Boolean).sort();
    assert.deepEqual(reasons, ["item_not_found", "item_stock_shortage", "order_exists", "out_of_range"]);
    console.log(`ok: ${total} jobs, ${found.sequence} events; the producer was ${late.toFixed(1)} ms late at most`);
  } finally {
    await connection.end();
    dev.kill("SIGTERM");
    await new Promise((resolve) => dev.once("exit", resolve));
  }
}

try {
  await run(process.argv[2] ?? "lockkeeper");
} finally {
  rmSync(folder, { recursive: true, force: true });
}
