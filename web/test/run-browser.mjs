// Bundles test/browser/*.test.ts and runs them in a headless Chromium: CHROMIUM, else /usr/bin/chromium.
import { existsSync } from "node:fs";
import { run } from "./run.mjs";
const chromium = process.env.CHROMIUM || "/usr/bin/chromium";
if (!existsSync(chromium)) {
  console.error(`error: find chromium: there is no ${chromium}\nhint: apt-get install -y chromium, or set CHROMIUM to a Chromium or Chrome`);
  process.exit(1);
}
process.env.CHROMIUM = chromium;
await run("browser", ["--test", "--test-concurrency=1"]);
