// A job's two packets: what it reads, and what it writes up to its COMMIT.

import mysql from "mysql2";
import { eventId, fingerprint, jobBytes } from "./digests.js";
import { items, order, outcome } from "./shop.js";

const text = (value) => mysql.escape(value);
const bytes = (hex) => `x'${hex}'`;
const list = (values, write) => values.map(write).join(",");

// Rows of the three questions come in this order.
export function load(job) {
  const receipt = `SELECT HEX(fingerprint) AS fingerprint FROM receipts WHERE job_id = ${bytes(jobBytes(job.id))}`;
  const rows = `SELECT item_id, total_price, is_tax_free, stock, sale_status, version FROM items
    WHERE item_id IN (${list(items(job), text)})`;
  const placed = order(job) === null ? "" : `; SELECT 1 FROM orders WHERE order_id = ${text(order(job))}`;
  return `START TRANSACTION; ${receipt}; ${rows}${placed}`;
}

// The sequence row keeps all others waiting, so it is taken last and held for no answer of ours.
export function commit(job, decision) {
  const { events } = decision;
  const count = events.length;
  if (count === 0) return `${receipt(job, decision, "NULL", "NULL")}; COMMIT`;
  return `${models(events)}; UPDATE event_sequence SET position = LAST_INSERT_ID(position + ${count}) WHERE id = 1;
    ${receipt(job, decision, position(count, 0), position(count, count - 1))}; ${append(job, events)}; COMMIT`;
}

// None of the tables counts rows by itself, so this stays what the sequence row was set to.
const position = (count, index) => `LAST_INSERT_ID()-${count - 1 - index}`;

function receipt(job, decision, first, last) {
  return `INSERT INTO receipts (job_id, outcome, reason, first_position, last_position, fingerprint, recorded_at)
    VALUES (${bytes(jobBytes(job.id))},'${outcome(decision)}',${text(decision.reason)},${first},${last},
    ${bytes(fingerprint(job))},UTC_TIMESTAMP(6))`;
}

function append(job, events) {
  const metadata = text(JSON.stringify({ job: job.id }));
  const row = ({ kind, id, version, type, payload }, index) =>
    `(${position(events.length, index)},'${kind}',${text(id)},${version},${bytes(eventId(job.id, index))},'${type}',1,
    ${text(JSON.stringify(payload))},${metadata},UTC_TIMESTAMP(6))`;
  return `INSERT INTO events (position, aggregate_type, aggregate_id, version, event_id, event_type, schema_version,
    payload, metadata, recorded_at) VALUES ${list(events, row)}`;
}

const lineOf = (order, { item_id, quantity, price, is_tax_free }) =>
  `(${text(order)},${text(item_id)},${price},${quantity},${is_tax_free})`;

// Events that move stock say what is left then; all of a job's are one statement.
function models(events) {
  const moved = events.filter((event) => event.stock !== undefined);
  const others = events.filter((event) => event.stock === undefined).map((event) => writers[event.type](event));
  return [...others, ...(moved.length > 0 ? [setStock(moved)] : [])].join("; ");
}

function setStock(events) {
  const cases = (name) => events.map((event) => `WHEN ${text(event.id)} THEN ${event[name]}`).join(" ");
  const set = (name) => `${name} = CASE item_id ${cases(name)} END`;
  return `UPDATE items SET ${set("stock")}, ${set("version")} WHERE item_id IN (${list(events, ({ id }) => text(id))})`;
}

const writers = {
  "item.registered": ({ id, version, payload, total_price }) =>
    `INSERT INTO items VALUES (${text(id)},${text(payload.name)},${payload.supply_price},${payload.vat},${total_price},
    ${payload.is_tax_free},${payload.stock},'DENY',${payload.member_id},${version})`,
  "item.sale_allowed": ({ id, version }) =>
    `UPDATE items SET sale_status = 'ALLOW', version = ${version} WHERE item_id = ${text(id)}`,
  "order.placed": ({ id, version, payload }) =>
    `INSERT INTO orders VALUES (${text(id)},${payload.member_id},${payload.total_price},'PLACED',${version});
    INSERT INTO order_items VALUES ${list(payload.lines, (line) => lineOf(id, line))}`,
};
