import { pino } from "pino";

/** Passes the warnings of what the library calls to `process.emitWarning`, which prints them to stderr unless the program handles them. */
export const warningLog = pino(
  { level: "warn", base: null, timestamp: false },
  { write: (line: string) => process.emitWarning((JSON.parse(line) as { msg: string }).msg, "NextvladWarning") },
);
