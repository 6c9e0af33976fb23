import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

// SONDE_TEST=hostile runs only the files whose names start so.
// run bundles the tests of one folder into node_modules/.tests (packages stay outside: node finds them from there) and exits with their result.
export async function run(folder, flags) {
  const dir = join(here, folder);
  const only = process.env.SONDE_TEST ?? "";
  const tests = readdirSync(dir).filter((f) => f.startsWith(only)).filter((f) => f.endsWith(".test.ts") || f.endsWith(".test.tsx")).sort();
  if (!tests.length) throw new Error(`find tests: none in ${folder} starts with ${only}`);
  const cache = join(here, "../node_modules");
  const out = mkdtempSync(join(cache, `.tests-${folder}-`));
  try {
    await build({
      entryPoints: tests.map((f) => join(dir, f)), outdir: out, outExtension: { ".js": ".mjs" },
      bundle: true, platform: "node", format: "esm", target: "node20", packages: "external", sourcemap: "inline", logLevel: "warning",
      jsx: "automatic", jsxImportSource: "preact", loader: { ".css": "empty" },
    });
    const files = tests.map((f) => join(out, f.replace(/\.tsx?$/, ".mjs")));
    const result = spawnSync(process.execPath, ["--enable-source-maps", ...flags, ...files], { stdio: "inherit", env: { ...process.env, SONDE_WEB: join(here, "..") } });
    process.exitCode = result.status ?? 1;
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}
