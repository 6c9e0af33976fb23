// Builds dist/: for each page a script and a style sheet (content hashes in their names) and its HTML; the icon, and the licences of what is bundled.
//   node build.mjs          write dist/
//   node build.mjs --check  fail if dist/ is not what the source builds, or is too large
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");
// The pages: their entry, their HTML, and how much gzipped JavaScript each may load.
const pages = [
  { name: "explorer", entry: "src/main.tsx", html: "index.html", maxGzip: 60 * 1024 },
  { name: "fleet", entry: "src/fleet/main.tsx", html: "fleet.html", maxGzip: 40 * 1024 },
  { name: "runtime", entry: "src/runtime/main.tsx", html: "runtime.html", maxGzip: 40 * 1024 },
];

async function bundle() {
  const result = await build({
    absWorkingDir: here,
    entryPoints: Object.fromEntries(pages.map((p) => [p.name, p.entry])),
    bundle: true,
    minify: true,
    format: "iife",
    target: ["es2022"],
    charset: "utf8",
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none", // they are in licenses.txt
    define: { "process.env.NODE_ENV": '"production"' },
    outdir: "dist",
    write: false,
    metafile: true,
    logLevel: "warning",
  });
  const files = new Map();
  const names = {};
  for (const out of result.outputFiles) {
    const ext = out.path.slice(out.path.lastIndexOf("."));
    const page = out.path.slice(out.path.lastIndexOf("/") + 1, -ext.length);
    const hash = createHash("sha256").update(out.contents).digest("hex").slice(0, 12);
    names[page + ext] = `${page}-${hash}${ext}`;
    files.set(names[page + ext], Buffer.from(out.contents));
  }
  for (const p of pages) {
    let html = await readFile(join(here, "src", p.html), "utf8");
    for (const ext of [".js", ".css"]) html = html.replace(p.name + ext, names[p.name + ext]);
    files.set(p.html, Buffer.from(html));
  }
  files.set("favicon.svg", await readFile(join(here, "src/favicon.svg")));
  files.set("licenses.txt", Buffer.from(await licences(result.metafile)));
  return files;
}

// licences returns the licence texts of the packages that the bundle holds, in a fixed order.
async function licences(metafile) {
  const packages = new Set();
  for (const input of Object.keys(metafile.inputs)) {
    const m = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (m) packages.add(m[1]);
  }
  let text = "The page holds code of these packages.\n";
  for (const name of [...packages].sort()) {
    const dir = join(here, "node_modules", name);
    const { version } = JSON.parse(await readFile(join(dir, "package.json"), "utf8"));
    text += `\n${"=".repeat(72)}\n${name} ${version}\n\n${await readFile(join(dir, "LICENSE"), "utf8")}`;
  }
  return text;
}

function checkSize(files) {
  for (const p of pages) {
    let total = 0;
    for (const [name, data] of files) {
      if (name.startsWith(`${p.name}-`) && name.endsWith(".js")) total += gzipSync(data, { level: 9 }).length;
    }
    console.log(`JavaScript of ${p.html}: ${total} bytes gzipped, at most ${p.maxGzip} allowed`);
    if (total > p.maxGzip) throw new Error(`check size: ${total} bytes of gzipped JavaScript in ${p.html}, more than ${p.maxGzip}`);
  }
}

async function checkFresh(files) {
  const stale = [];
  for (const [name, data] of files) {
    const there = await readFile(join(dist, name)).catch(() => null);
    if (!there || !there.equals(data)) stale.push(name);
  }
  for (const name of await readdir(dist)) if (!files.has(name)) stale.push(`${name} (left over)`);
  if (stale.length) throw new Error(`dist/ is not what the source builds: ${stale.join(", ")}\nhint: run npm run build in web/ and commit dist/`);
  console.log("dist/ is fresh");
}

async function write(files) {
  await rm(dist, { recursive: true, force: true });
  await mkdir(dist, { recursive: true });
  for (const [name, data] of files) await writeFile(join(dist, name), data);
}

try {
  const files = await bundle();
  checkSize(files);
  if (process.argv.includes("--check")) await checkFresh(files);
  else await write(files);
} catch (err) {
  console.error(`error: ${err.message}`);
  process.exit(1);
}
