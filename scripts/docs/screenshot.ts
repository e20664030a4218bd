import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

// Takes a screenshot of the top of an HTML page: screenshot.js CHROMIUM PAGE.html IMAGE.png
const [executablePath = "", page = "", path = ""] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
try {
  const window = await browser.newPage({ viewport: { width: 1100, height: 1175 }, colorScheme: "light" });
  await window.goto(pathToFileURL(page).href);
  await window.screenshot({ path });
} finally {
  await browser.close();
}
