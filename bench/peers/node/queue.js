// The queue as producers see it, and how jobs get into it.

import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { Queue } from "bullmq";
import { Redis } from "ioredis";

// A job fails only when a server does, so it is tried again for as long as a server takes to come back.
const RETRIES = { attempts: 100, backoff: { type: "fixed", delay: 100 } };

// BullMQ wants to go on trying for ever.
export const broker = (task) => new Redis(task.broker, { maxRetriesPerRequest: null });

export function open(task) {
  return new Queue(task.stream, { connection: broker(task), defaultJobOptions: RETRIES });
}

// Jobs of the file as BullMQ takes them.
export async function* read(path) {
  for await (const line of createInterface({ input: createReadStream(path) })) {
    if (line) yield entry(JSON.parse(line));
  }
}

const entry = ({ id, type, key, data }) => ({ name: type, data: { key, data }, opts: { jobId: id } });

export async function readAll(path) {
  const jobs = [];
  for await (const job of read(path)) jobs.push(job);
  return jobs;
}
