// One transaction per job, in two round trips.

import mysql from "mysql2/promise";
import { fingerprint } from "./digests.js";
import { decide, outcome } from "./shop.js";
import { commit, load } from "./statements.js";

// Somebody else was faster, or holds what we want: all of it is worth another try, from what is there by then.
const PASSING = new Set(["ER_LOCK_DEADLOCK", "ER_LOCK_WAIT_TIMEOUT", "ER_DUP_ENTRY", "ER_CHECKREAD"]);
const ATTEMPTS = 10;

export function database(task) {
  const pool = mysql.createPool({
    uri: task.database,
    connectionLimit: task.concurrency,
    multipleStatements: true,
    charset: "utf8mb4",
    supportBigNumbers: true,
  });
  pool.on("connection", (connection) =>
    connection.query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", (error) => {
      if (error) connection.destroy();
    }),
  );
  let retries = 0;

  async function attempt(job, connection) {
    const [[, receipts, rows, placed]] = await connection.query(load(job));
    if (receipts.length > 0) {
      await connection.query("ROLLBACK");
      const isSame = receipts[0].fingerprint.toLowerCase() === fingerprint(job);
      if (!isSame) throw new Error(`${job.id} is the id of two jobs`);
      return "duplicate";
    }
    const byId = new Map(rows.map((row) => [row.item_id.toString(), row]));
    const decision = decide(job, { rows: byId, isPlaced: placed?.length > 0 });
    await connection.query(commit(job, decision));
    return outcome(decision);
  }

  return {
    // Opens all connections, so that none is opened while the clock runs.
    async ready() {
      const connections = await Promise.all(Array.from({ length: task.concurrency }, () => pool.getConnection()));
      await Promise.all(connections.map((connection) => connection.query("SELECT 1")));
      for (const connection of connections) connection.release();
    },
    retries: () => retries,
    // Returns the outcome once it is durable, be it by an earlier delivery.
    async run(job) {
      for (let tries = 1; ; tries++) {
        const connection = await pool.getConnection();
        try {
          return await attempt(job, connection);
        } catch (error) {
          await connection.query("ROLLBACK").catch(() => connection.destroy());
          if (!PASSING.has(error.code) || tries === ATTEMPTS) throw error;
          retries += 1;
        } finally {
          connection.release();
        }
      }
    },
  };
}
