// Adds jobs at fixed times, whether or not the earlier ones are done.

import { setImmediate, setTimeout } from "node:timers/promises";
import { open, readAll } from "./queue.js";

// Timers of Node count in whole milliseconds and come late; what is left is slept through as a whole.
const TIMER_MS = 1.5;
const nobody = new Int32Array(new SharedArrayBuffer(4));

const now = () => performance.timeOrigin + performance.now();

async function until(due) {
  if (due - now() > TIMER_MS) await setTimeout(due - now() - TIMER_MS);
  const left = due - now();
  if (left > 0) Atomics.wait(nobody, 0, 0, Math.min(left, TIMER_MS));
}

export async function produce(task) {
  const jobs = await readAll(task.jobs);
  const queue = open(task);
  await queue.waitUntilReady();

  let stopped = false;
  let late = 0;
  const adding = [];

  async function run() {
    const start = task.start_unix_ms || now();
    for (const [i, { name, data, opts }] of jobs.entries()) {
      const due = start + (i * 1000) / task.rate;
      while (!stopped && now() < due) await until(due);
      if (stopped) return;
      late = Math.max(late, now() - due);
      adding.push(queue.add(name, data, opts));
      // Lets the command out.
      await setImmediate();
    }
  }

  let running;
  return {
    go: () => (running = run()),
    async stop() {
      stopped = true;
      await running;
      await Promise.all(adding);
      return { sent: adding.length, late_max_ms: late };
    },
  };
}
