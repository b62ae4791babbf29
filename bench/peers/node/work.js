// The worker: for each job the locks, one transaction, and the reply.

import { Worker } from "bullmq";
import { database } from "./database.js";
import { locks } from "./lock.js";
import { broker, open, readAll } from "./queue.js";
import { isKnown, items, order } from "./shop.js";

// BullMQ adds so many jobs in one transaction of the broker.
const CHUNK = 1000;

function keys(job) {
  const ofItems = items(job).map((id) => `lock:item:${id}`);
  return order(job) === null ? ofItems : [...ofItems, `lock:order:${order(job)}`];
}

export async function work(task) {
  const [store, redlock, replies] = [database(task), locks(task), broker(task)];
  const backlog = task.jobs ? await preload(task) : null;
  let [jobs, inFlight, failures] = [0, 0, 0];

  async function run(job) {
    if (!isKnown(job.type)) throw new Error(`no such job type: ${job.type}`);
    const lock = await redlock.acquire(keys(job));
    let replied;
    try {
      replied = reply(job, await store.run(job));
    } finally {
      await redlock.release(lock);
    }
    await replied;
  }

  async function reply({ id }, outcome) {
    if (task.reply) await replies.xadd(task.reply, "MAXLEN", "~", 10_000, "*", "id", id, "outcome", outcome);
  }

  const worker = new Worker(
    task.stream,
    async ({ id, name, data }) => {
      inFlight += 1;
      try {
        await run({ id, type: name, ...data });
        jobs += 1;
      } finally {
        inFlight -= 1;
      }
    },
    { connection: broker(task), concurrency: task.concurrency, removeOnComplete: { count: 0 }, autorun: false },
  );
  worker.on("error", (error) => console.error(`worker: ${error.message}`));
  // BullMQ tries again.
  worker.on("failed", (job, error) => {
    failures += 1;
    console.error(`job ${job?.id}: ${error.message}`);
  });
  await Promise.all([worker.waitUntilReady(), store.ready(), redlock.ready()]);

  return {
    go: () => worker.run(),
    async stop() {
      const ranOut = backlog !== null && jobs + inFlight >= backlog;
      await worker.close();
      return { jobs, failures, retries: store.retries(), ran_out: ranOut };
    },
  };
}

async function preload(task) {
  const queue = open(task);
  const jobs = await readAll(task.jobs);
  for (let i = 0; i < jobs.length; i += CHUNK) await queue.addBulk(jobs.slice(i, i + CHUNK));
  await queue.close();
  return jobs.length;
}
