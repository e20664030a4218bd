import { CommanderError } from "commander";
import { NextvladError } from "../base/errors.js";

/** What the CLI prints of an error: one paragraph for stderr (empty: nothing), commands on lines of their own, and the exit code. */
export interface Failure {
  readonly text: string;
  readonly exitCode: number;
}

/** Finds the words for an error. `command` is the subcommand's name, to point at its help. NEXTVLAD_DEBUG=1 adds the stack. */
export function describeFailure(error: unknown, command: string | undefined): Failure {
  if (error instanceof CommanderError) return describeUsage(error, command);
  const stack = process.env.NEXTVLAD_DEBUG === "1" && error instanceof Error ? `\n${error.stack}` : "";
  if (error instanceof NextvladError) {
    const lines = [`nextvlad: error: ${oneParagraph(error.message)}${stack}`, ...(error.details.commands ?? [])];
    return { text: lines.map((line) => `${line}\n`).join(""), exitCode: error.exitCode };
  }
  const message = oneParagraph(error instanceof Error ? error.message || error.name : String(error));
  const advice = stack === "" ? " (the log, or NEXTVLAD_DEBUG=1, shows where)" : "";
  return { text: `nextvlad: internal error: ${message}${advice}${stack}\n`, exitCode: 1 };
}

function describeUsage(error: CommanderError, command: string | undefined): Failure {
  if (error.exitCode === 0) return { text: "", exitCode: 0 };
  if (error.code === "commander.help") return { text: "", exitCode: 2 };
  const help = command === undefined ? "nextvlad --help" : `nextvlad ${command} --help`;
  return { text: `nextvlad: ${oneParagraph(error.message)} (${help} tells more)\n`, exitCode: 2 };
}

function oneParagraph(text: string): string {
  return text.trim().replace(/\s*\n\s*/g, " ");
}
