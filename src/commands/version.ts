import { existsSync, readFileSync } from "node:fs";

/** The version in the package's own package.json, which lies some folders above the compiled code. */
export function version(): string {
  let place = new URL("../package.json", import.meta.url);
  while (!existsSync(place)) {
    const above = new URL("../package.json", place);
    if (above.href === place.href) return "unknown";
    place = above;
  }
  return (JSON.parse(readFileSync(place, "utf8")) as { version: string }).version;
}
