// The original stack as a contender of `lockkeeper bench`: BullMQ, node-redlock and one mysql2 transaction per job.
//
// What it says and hears on its standard streams is told in bench/src/contender.rs.

import { createInterface } from "node:readline";
import { produce } from "./produce.js";
import { work } from "./work.js";

const roles = { work, produce };
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function expect(word) {
  const { value, done } = await lines.next();
  if (done || value !== word) throw new Error(`${word} should come, not ${value}`);
}

const task = JSON.parse((await lines.next()).value);
if (!Object.hasOwn(roles, task.role)) throw new Error(`no such role: ${task.role}`);

const part = await roles[task.role](task);
console.log("ready");
await expect("go");
part.go();
await expect("stop");
console.log(JSON.stringify(await part.stop()));
await lines.next();
process.exit(0);
