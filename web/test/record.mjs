// Records the fixtures of the browser tests from a running server that holds the corpus:
//   node test/record.mjs http://127.0.0.1:7070 prometheus FROM MIDDLE TO
// FROM, MIDDLE and TO are Unix milliseconds: the whole range, and where its two halves meet for the diff.
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [base, service, from, middle, to] = process.argv.slice(2);
if (!to) {
  console.error("usage: node test/record.mjs URL SERVICE FROM MIDDLE TO");
  process.exit(2);
}
const out = join(dirname(fileURLToPath(import.meta.url)), "fixtures");
const all = { from, to };
const one = { query: service, type: "cpu:cpu", from, to };
const diff = { query: service, type: "cpu:cpu", from: middle, to, base_from: from, base_to: middle };
const wanted = {
  services: ["services", all],
  types: ["types", all],
  labels: ["labels", all],
  events: ["events", all],
  series: ["series", { ...all, type: "cpu:cpu", by: "service_name", step: 30 }],
  flamegraph: ["flamegraph", { ...one, max_nodes: 8192 }],
  top: ["top", { ...one, limit: 1500 }],
  "diff-flame": ["diff", { ...diff, max_nodes: 8192 }],
  "diff-top": ["diff", { ...diff, view: "top", limit: 1000 }],
};
for (const [name, [path, params]] of Object.entries(wanted)) {
  const res = await fetch(`${base}/api/v1/${path}?${new URLSearchParams(params)}`);
  const text = await res.text();
  if (!res.ok) throw new Error(`record ${name}: ${res.status} ${text}`);
  writeFileSync(join(out, `${name}.json`), JSON.stringify(JSON.parse(text)) + "\n");
  console.log(`${name}: ${text.length} bytes`);
}
