// Bundles test/unit/*.test.ts and runs them with node's test runner.
import { run } from "./run.mjs";
await run("unit", ["--test"]);
