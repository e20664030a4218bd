import { connect } from "node:net";
import { setTimeout } from "node:timers/promises";

/** Time between attempts to connect, and maximum time of one: a host that does not exist may never refuse. */
const PAUSE_MS = 100;
const ATTEMPT_MS = 5000;

/** Waits until a process listens at each of the addresses (`host:port`), for at most `limitMs`. Returns the addresses at which none did. */
export async function awaitListeners(addresses: readonly string[], limitMs: number): Promise<readonly string[]> {
  const endMs = performance.now() + limitMs;
  const listens = await Promise.all(
    addresses.map(async (address) => {
      for (;;) {
        const leftMs = endMs - performance.now();
        if (leftMs <= 0) return false;
        if (await canConnect(address, Math.min(leftMs, ATTEMPT_MS))) return true;
        await setTimeout(Math.min(PAUSE_MS, Math.max(0, endMs - performance.now())));
      }
    }),
  );
  return addresses.filter((_, i) => !listens[i]);
}

/** Whether a connection to the address can be opened; closes it at once. */
function canConnect(address: string, timeoutMs: number): Promise<boolean> {
  const [, host = "", port = ""] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(port) });
    socket.setTimeout(timeoutMs, () => socket.destroy());
    socket.once("connect", () => {
      // A port of outgoing connections that nothing listens at may connect to itself. It must be free at once for the process that will listen.
      const isItself = socket.localPort === socket.remotePort && socket.localAddress === socket.remoteAddress;
      resolve(!isItself);
      if (isItself) socket.resetAndDestroy();
      else socket.destroy();
    });
    socket.on("error", () => undefined);
    socket.once("close", () => resolve(false));
  });
}
