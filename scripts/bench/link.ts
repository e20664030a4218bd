/**
 * A TCP link with a delay, which can be cut: for the tests and measurements of several processes. As a program, `node dist/scripts/bench/link.js PORT HOST:PORT MS`
 * forwards connections to its port of 127.0.0.1.
 */
import { once } from "node:events";
import { realpathSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { fileURLToPath } from "node:url";

export interface Link {
  /** The port of 127.0.0.1 at which the link accepts connections. */
  readonly port: number;
  /** From now on, nothing arrives in either direction, but no connection is closed: as with a pulled cable. */
  cut(): void;
  close(): void;
}

/** Forwards connections to `host:port`; all bytes arrive `delayMs` later, in both directions. */
export async function openLink(port: number, target: { readonly host: string; readonly port: number }, delayMs: number): Promise<Link> {
  let isCut = false;
  const sockets = new Set<Socket>();
  const forward = (from: Socket, to: Socket): void => {
    sockets.add(from);
    const later = (act: () => void): void => {
      setTimeout(() => {
        if (!isCut) act();
      }, delayMs);
    };
    from.on("data", (bytes) => later(() => to.write(bytes)));
    from.on("end", () => later(() => to.end()));
    from.on("error", () => later(() => to.destroy()));
    from.on("close", () => sockets.delete(from));
  };
  const server = createServer((accepted) => {
    const other = connect(target);
    forward(accepted, other);
    forward(other, accepted);
  }).listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as { readonly port: number }).port,
    cut: () => {
      isCut = true;
    },
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

// Its real path: it may be started through a symbolic link.
if (fileURLToPath(import.meta.url) === realpathSync(process.argv[1] ?? ".")) {
  const [port, target = "", delay] = process.argv.slice(2);
  const [host = "", targetPort] = target.split(":");
  await openLink(Number(port), { host, port: Number(targetPort) }, Number(delay));
}
