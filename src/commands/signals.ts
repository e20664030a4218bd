import { setMaxListeners } from "node:events";
import { constants } from "node:os";
import { SIGNAL_ECHO_MS } from "../base/processes.js";
import { setStopRequest } from "../base/waiting.js";

/** Signals that request a stop: Ctrl-C, what batch systems and init send before SIGKILL, and a closed terminal. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * From now on, SIGINT, SIGTERM and SIGHUP do not kill the process: the work is done, and the exit code must report how it ended. The promise resolves at the
 * first of them.
 */
export function ignoreSignals(): Promise<void> {
  return new Promise((resolve) => {
    for (const name of SIGNALS) process.on(name, () => resolve());
  });
}

/** Handlers of SIGINT, SIGTERM and SIGHUP, and of SIGUSR1 once `onSaveRequest` is called. */
export interface SignalWatch {
  /** Aborted by the first signal. */
  readonly signal: AbortSignal;
  /** 130, 143 or 129 after a signal, else 0. */
  exitCode(): number;
  /** Calls `save` at each SIGUSR1 from now on, until `end`. By default, Node opens the inspector's port at that signal. */
  onSaveRequest(save: () => void): void;
  /** Removes the handlers: signals have their default effect again. */
  end(): void;
}

/**
 * Turns the first signal into an abort, and logs it. A second signal, half a second later or more, ends the process immediately, even inside a
 * kernel: the default action is restored by then, which shells report as 130, 143 or 129 too.
 */
export function watchSignals(log: (message: string) => void): SignalWatch {
  const controller = new AbortController();
  // Each pending input adds a listener, so the default limit of listeners does not apply.
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
    echo = setTimeout(restoreDefaults, SIGNAL_ECHO_MS);
    echo.unref();
    log(`${name}: finishing the step and saving; repeat the signal to exit immediately`);
    controller.abort();
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  setStopRequest({ signal: controller.signal, exitCode: () => exitCode });
  const onSaveRequest = (save: () => void): void => {
    const listener = (): void => {
      log("SIGUSR1: saving, then continuing");
      save();
    };
    saveListeners.push(listener);
    process.on("SIGUSR1", listener);
  };
  const end = (): void => {
    restoreDefaults();
    setStopRequest(null);
    // runProcess has its own listener, so that Node does not open the inspector's port afterwards.
    for (const listener of saveListeners) process.off("SIGUSR1", listener);
  };
  return { signal: controller.signal, exitCode: () => exitCode, onSaveRequest, end };
}
