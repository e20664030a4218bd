import { isShellPipe } from "../data/file-list.js";
import type { LogInterval } from "../evaluation/watched-batches.js";
import type { ResumeOptions } from "../results/resumable-results.js";
import { FLAG_ALIASES, splitFlag } from "./arguments.js";
import type { ConfigFlags, ResumeFlags } from "./options.js";
import type { Run } from "./run.js";

/** What is done is saved so often where nobody says otherwise: a killed run loses this much. */
const SAVE_INTERVAL_MS = 10_000;
const LOG_INTERVAL_MS = 10_000;

/** How often `eval` and `infer` log: as --log-interval says, else every 10 s. */
export function logInterval({ logInterval: steps }: ConfigFlags): LogInterval {
  return steps === undefined ? { ms: LOG_INTERVAL_MS } : { steps };
}

/** How `eval` and `infer` keep what is done, as their flags say. */
export function resumeOptions(flags: ResumeFlags, { onSaveRequest }: Run): ResumeOptions {
  // Asked for at once, as an unheard SIGUSR1 opens a debugger's port.
  let save = (): void => undefined;
  onSaveRequest(() => save());
  return {
    resume: flags.resume ?? false,
    saveInterval: flags.saveInterval ?? { ms: SAVE_INTERVAL_MS },
    resumeCommand: resumeCommand(process.argv.slice(2)),
    onSaveRequest: (now) => {
      save = now;
    },
  };
}

/**
 * The shell command that resumes what a command line (its arguments) started: without the flags in `dropped`, and with `added` in the place of those given
 * before. A list that came through a pipe is gone: the command reads it from standard input, and says so.
 */
export function resumeCommand(args: readonly string[], added: readonly string[] = ["--resume"], dropped: readonly string[] = []): string {
  const gone = new Set([...dropped, ...added.filter(isFlag)]);
  const isGone = (arg: string): boolean => {
    const { flag } = splitFlag(arg);
    return gone.has(flag) || (FLAG_ALIASES[flag] ?? []).some((name) => gone.has(name));
  };
  const kept = args.filter((arg, i) => {
    if (isFlag(arg)) return !isGone(arg);
    const before = args[i - 1] ?? "";
    return !(isFlag(before) && splitFlag(before).value === "" && isGone(before));
  });
  const words = kept.map((arg, i) => (isPipedList(arg, kept[i - 1]) ? arg.replace(/[^=]*$/, "-") : arg));
  const note = kept.some((arg, i) => isPipedList(arg, kept[i - 1])) ? "  # give the same list of shards on standard input" : "";
  return ["nextvlad", ...words, ...added].map(quote).join(" ") + note;
}

/** Whether an argument names a shell's pipe as a list: `--filelist PIPE`, `--filelist=PIPE` or `--set SECTION.filelist=PIPE`. */
function isPipedList(arg: string, flag: string | undefined): boolean {
  if (flag === "--filelist") return isShellPipe(arg);
  return /filelist=/.test(arg) && isShellPipe(arg.slice(arg.indexOf("filelist=") + "filelist=".length));
}

/** `-` alone is a value: standard input. */
const isFlag = (arg: string): boolean => arg.startsWith("-") && arg !== "-";

function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** The last lines of a pass that a signal stopped: where it stands, and how to resume it. `keptIn`: null where nothing is done yet. */
export function tellStop(title: string, videos: number, keptIn: string | null): string {
  if (keptIn === null) return `${title} stopped after ${videos} videos: nothing to keep\n`;
  return `${title} stopped after ${videos} videos, which are kept in ${keptIn}\nresume with: ${resumeCommand(process.argv.slice(2))}\n`;
}
