// What a job needs to know and what it brings about, by the rules of src/bin/lockkeeper/shop. Pure.

import { MAX_MONEY, money, thousandths } from "./money.js";

const MAX_STOCK = 2 ** 32 - 1;

// The items that a job is about, sorted, as the original service locks them.
export function items({ type, key, data }) {
  return type === "order.place" ? data.lines.map((line) => line.item_id).sort() : [key];
}

export const order = ({ type, key }) => (type === "order.place" ? key : null);

const rejected = (reason) => ({ reason, events: [] });
const applied = (...events) => ({ reason: null, events });

// Each of these takes the job and what was loaded: the rows of its items by id, and whether its order is there. An
// event also carries what the read models need beside its payload.
const decisions = {
  "item.register"({ key, data }, { rows }) {
    if (rows.has(key)) return rejected("item_exists");
    const [supply, vat] = [thousandths(data.supply_price), thousandths(data.vat)];
    if (supply + vat > MAX_MONEY || data.stock > MAX_STOCK) return rejected("out_of_range");
    const { name, is_tax_free, stock, member_id } = data;
    const payload = { name, supply_price: money(supply), vat: money(vat), is_tax_free, stock, member_id };
    return applied({ ...itemEvent(key, undefined, "item.registered", payload), total_price: money(supply + vat) });
  },
  "item.allow_sale"({ key }, { rows }) {
    const item = rows.get(key);
    if (!item) return rejected("item_not_found");
    return applied(itemEvent(key, item, "item.sale_allowed", {}));
  },
  "item.restock"({ key, data: { quantity } }, { rows }) {
    const item = rows.get(key);
    if (!item) return rejected("item_not_found");
    const stock = item.stock + quantity;
    if (stock > MAX_STOCK) return rejected("out_of_range");
    return applied({ ...itemEvent(key, item, "item.restocked", { quantity }), stock });
  },
  "order.place"({ key, data: { member_id, lines: wishes } }, { rows, isPlaced }) {
    if (isPlaced) return rejected("order_exists");
    const [lines, reserved] = [[], []];
    let total = 0;
    for (const { item_id, quantity } of wishes) {
      const item = rows.get(item_id);
      if (!item) return rejected("item_not_found");
      if (item.sale_status !== "ALLOW") return rejected("item_not_on_sale");
      const stock = item.stock - quantity;
      if (stock < 0) return rejected("item_stock_shortage");
      // A sum that is too large for exact arithmetic is also too large for the column.
      total += thousandths(item.total_price) * quantity;
      lines.push({ item_id, quantity, price: item.total_price, is_tax_free: item.is_tax_free === 1 });
      reserved.push({ ...itemEvent(item_id, item, "item.stock_reserved", { order_id: key, quantity }), stock });
    }
    if (total > MAX_MONEY) return rejected("out_of_range");
    const payload = { member_id, total_price: money(total), lines };
    return applied({ kind: "order", id: key, version: 1, type: "order.placed", payload }, ...reserved);
  },
};

function itemEvent(id, item, type, payload) {
  return { kind: "item", id, version: (item?.version ?? 0) + 1, type, payload };
}

export const decide = (job, loaded) => decisions[job.type](job, loaded);

export const outcome = ({ reason }) => (reason === null ? "applied" : "rejected");

export const isKnown = (type) => Object.hasOwn(decisions, type);
