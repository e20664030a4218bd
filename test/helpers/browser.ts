import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];

/** The path of Chromium; null if it is not installed. Throws instead if CI requires it (`NEXTVLAD_TEST_BROWSER=True`). */
export function findChromium(): string | null {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const found = NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find((path) => existsSync(path));
  if (found === undefined && process.env.NEXTVLAD_TEST_BROWSER === "True") throw new Error("Chromium is missing: apt-get install chromium");
  return found ?? null;
}

/** Starts Chromium without a window. */
export function launchChromium(executablePath: string): Promise<Browser> {
  // The tests may run as root, for whom Chromium has no sandbox, and with a small /dev/shm.
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** A page that is open, what it has requested besides itself, and its errors. */
export interface OpenPage {
  readonly page: Page;
  readonly requests: readonly string[];
  readonly errors: readonly string[];
  /** Processor time of the page's thread until it was loaded and painted: other processes do not change it. */
  readonly openedMs: number;
}

/** Opens a file in a new window. */
export async function openFile(browser: Browser, path: string, options: BrowserContextOptions = {}): Promise<OpenPage> {
  const page = await (await browser.newContext(options)).newPage();
  const url = pathToFileURL(path).href;
  const [requests, errors]: [string[], string[]] = [[], []];
  page.on("request", (request) => {
    if (request.url() !== url && !request.url().startsWith("data:")) requests.push(request.url());
  });
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) errors.push(message.text());
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  await page.goto(url, { waitUntil: "load" });
  await page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve())))");
  const { metrics } = await session.send("Performance.getMetrics");
  const { value: seconds = Number.NaN } = metrics.find(({ name }) => name === "TaskDuration") ?? {};
  return { page, requests, errors, openedMs: 1000 * seconds };
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Returns the accessibility problems that axe-core finds, as text. */
export async function findAccessibilityProblems(page: Page): Promise<readonly string[]> {
  await page.evaluate(axe);
  const described = "id + ', ' + impact + ': ' + nodes[0].html.slice(0, 200)";
  return page.evaluate<string[]>(`axe.run().then(({ violations }) => violations.map(({ id, impact, nodes }) => ${described}))`);
}

/** Waits until a JavaScript expression is true in the page. Playwright's `waitForFunction` evaluates it with `eval`, which the page's security policy forbids. */
export async function waitUntil(page: Page, expression: string): Promise<void> {
  const end = Date.now() + 30_000;
  while (!(await page.evaluate<boolean>(expression))) {
    if (Date.now() > end) throw new Error(`not true within 30 s: ${expression}`);
    await setTimeout(20);
  }
}
