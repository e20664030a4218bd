import { setMaxListeners } from "node:events";
import { constants } from "node:os";
import { setStopRequest } from "../base/waiting.js";

/** The ways to ask a run to stop: Ctrl-C, what systems send before they kill, and a terminal that closes. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * npm and npx pass on a Ctrl-C that the terminal has sent already: what comes this soon after is the same wish.
 * Long enough for that, too short for a person to have read the message.
 */
const ECHO_MS = 500;

/**
 * From now on SIGINT, SIGTERM and SIGHUP do not kill the process: the work is over, and the exit code must say how it ended. The promise resolves at the first
 * of them.
 */
export function outlastSignals(): Promise<void> {
  return new Promise((resolve) => {
    for (const name of SIGNALS) process.on(name, () => resolve());
  });
}

/** A watch for SIGINT, SIGTERM and SIGHUP, and for SIGUSR1 where somebody asks for it. */
export interface SignalWatch {
  /** Aborted by the first signal. */
  readonly signal: AbortSignal;
  /** 130, 143 or 129 once a signal came, else 0. */
  exitCode(): number;
  /** Calls `save` at each SIGUSR1 from now on, until the watch ends: that signal's default in Node is to open a debugger's port. */
  onSaveRequest(save: () => void): void;
  /** Ends the watch: signals do what they do by default. */
  end(): void;
}

/**
 * Turns the first signal into an abort, and tells so; a second one, half a second later or more, ends the process at once, in the midst of a kernel too:
 * the signal's default action is back in force then, which shells report as 130, 143 or 129 all the same.
 */
export function watchSignals(tell: (message: string) => void): SignalWatch {
  const controller = new AbortController();
  // Each wait for an input listens to it.
  setMaxListeners(0, controller.signal);
  let exitCode = 0;
  let echo: NodeJS.Timeout | undefined;
  const restoreDefaults = (): void => {
    clearTimeout(echo);
    for (const name of SIGNALS) process.off(name, onSignal);
  };
  const saveListeners: (() => void)[] = [];
  const onSignal = (name: NodeJS.Signals): void => {
    if (exitCode !== 0) return;
    exitCode = 128 + constants.signals[name];
    echo = setTimeout(restoreDefaults, ECHO_MS);
    echo.unref();
    tell(`${name}: finishing the step and saving; once more to leave at once`);
    controller.abort();
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  setStopRequest({ signal: controller.signal, exitCode: () => exitCode });
  const onSaveRequest = (save: () => void): void => {
    const listener = (): void => {
      tell("SIGUSR1: saving, and going on");
      save();
    };
    saveListeners.push(listener);
    process.on("SIGUSR1", listener);
  };
  const end = (): void => {
    restoreDefaults();
    setStopRequest(null);
    // runProcess has a listener of its own, so that no debugger's port opens after this.
    for (const listener of saveListeners) process.off("SIGUSR1", listener);
  };
  return { signal: controller.signal, exitCode: () => exitCode, onSaveRequest, end };
}
