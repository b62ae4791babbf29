// The ids and digests that rows carry, as hexadecimal text.

import { createHash } from "node:crypto";

export const jobBytes = (id) => id.replaceAll("-", "");

// UUIDv5 of the job's id and the event's place among the job's events, as lockkeeper has it.
export function eventId(job, index) {
  const place = Buffer.alloc(4);
  place.writeUInt32BE(index);
  const digest = createHash("sha1").update(jobBytes(job), "hex").update(place).digest().subarray(0, 16);
  digest[6] = (digest[6] & 0x0f) | 0x50;
  digest[8] = (digest[8] & 0x3f) | 0x80;
  return digest.toString("hex");
}

// What tells two jobs of the same id apart. Ids, types and keys have no control characters.
export function fingerprint({ type, key, data }) {
  return createHash("md5").update(`${type}\n${key}\n${JSON.stringify(data)}`).digest("hex");
}
