import { parentPort } from "node:worker_threads";
import { STOP } from "../../src/data/worker-thread.js";

// A reading thread that exits or throws on the shard it is given, or never replies, depending on the path.
parentPort?.on("message", (request: { path?: string } | typeof STOP) => {
  if (request === STOP) parentPort?.close();
  else if (request.path === "exit") process.exit(3);
  else if (request.path === "throw") throw new Error("something unforeseen");
});
