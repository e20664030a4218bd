import type { ResumeOptions } from "../results/resumable-results.js";
import type { ResumeFlags } from "./options.js";
import type { Run } from "./run.js";

/** What is done is saved so often where nobody says otherwise: a killed run loses this much. */
const SAVE_INTERVAL_MS = 10_000;

/** How `eval` and `infer` keep what is done, as their flags say. */
export function resumeOptions(flags: ResumeFlags, { onSaveRequest }: Run): ResumeOptions {
  // Asked for at once, as an unheard SIGUSR1 opens a debugger's port.
  let save = (): void => undefined;
  onSaveRequest(() => save());
  return {
    resume: flags.resume ?? false,
    saveInterval: flags.saveInterval ?? { ms: SAVE_INTERVAL_MS },
    goOn: goOnCommand(process.argv.slice(2)),
    onSaveRequest: (now) => {
      save = now;
    },
  };
}

/** The command line that goes on with what this one (its arguments) left, for a shell. */
export function goOnCommand(args: readonly string[]): string {
  const words = args.includes("--resume") ? args : [...args, "--resume"];
  return ["nextvlad", ...words].map(quote).join(" ");
}

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** The last lines of a pass that a signal stopped: where it stands, and how it goes on. `keptIn`: null where nothing is done yet. */
export function tellStop(title: string, videos: number, keptIn: string | null): string {
  if (keptIn === null) return `${title} stopped after ${videos} videos: nothing to keep\n`;
  return `${title} stopped after ${videos} videos, which are kept in ${keptIn}\ngo on with: ${goOnCommand(process.argv.slice(2))}\n`;
}
