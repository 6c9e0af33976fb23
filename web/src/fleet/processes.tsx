import { useState } from "preact/hooks";
import { clock } from "../time";
import { AskDialog, type Subject } from "./ask";
import { Problem } from "./problem";
import { go, moreProcesses, processes, view, type Process } from "./state";
import { count, profilesOf, span } from "./words";

const states = ["running", "recent", "exited", "crashed", "lost", "all"];
const stateTitle: Record<string, string> = {
  running: "running", recent: "running or just ended", exited: "exited", crashed: "crashed", lost: "lost: silent, and nobody saw it end", all: "any state",
};

/** What the columns are ordered by, and what they are called. */
const columns: { key: string; name: string; class?: string }[] = [
  { key: "service", name: "service" }, { key: "version", name: "version" }, { key: "go_version", name: "go" }, { key: "node", name: "node" }, { key: "pod", name: "pod" },
  { key: "pid", name: "pid", class: "n" }, { key: "started", name: "uptime", class: "n" }, { key: "gatherer", name: "gathered by" }, { key: "last_seen", name: "seen", class: "n" },
  { key: "state", name: "state" },
];

/** ProcessesTab lists the fleet's processes. */
export function ProcessesTab() {
  const v = view.value;
  const { data, error, loading } = processes.value;
  const [subject, setSubject] = useState<Subject | null>(null);
  const filtered = v.search || v.service || v.node || v.gatherer || (v.state && v.state !== "running");
  return (
    <section class="fleet" aria-label="Processes" aria-busy={loading}>
      {error && <Problem error={error} what="processes" />}
      <div class="tools">
        <h2>processes</h2>
        <span class="num total" role="status">{data ? `${count(data.processes.length)} of ${count(data.total)}` : " "}{data?.more ? ", and more that ended" : ""}</span>
        <span class="spring" />
        <label class="by">state
          <select value={v.state || "running"} onChange={(e) => go({ state: e.currentTarget.value === "running" ? "" : e.currentTarget.value })}>
            {states.map((s) => <option key={s} value={s}>{stateTitle[s]}{data?.states[s] ? ` (${count(data.states[s])})` : ""}</option>)}
          </select>
        </label>
        <label class="by">gathered by
          <select value={v.gatherer} onChange={(e) => go({ gatherer: e.currentTarget.value })}>
            <option value="">anything or nothing</option>
            {["agent", "scrape", "gops", "perf", "sdk", "otlp", "push", "none"].map((g) => <option key={g} value={g}>{g === "none" ? "nothing" : g}{data?.gatherers[g] ? ` (${count(data.gatherers[g])})` : ""}</option>)}
          </select>
        </label>
        {v.service && <button onClick={() => setSubject({ service: v.service })} title={`Take a capture of a process of ${v.service}, or of all`}>capture {v.service}…</button>}
      </div>
      {data && data.processes.length === 0 && !loading && (
        <div class="nothing">
          {filtered ? <><p>No process is selected.</p><button onClick={() => go({ search: "", service: "", node: "", gatherer: "", state: "" })}>show all that run</button></>
            : <p>Nothing runs here yet. <code>sonde sidecar --upstream {location.origin}</code> on a node reports its Go processes.</p>}
        </div>
      )}
      {data && data.processes.length > 0 && (
        <div class={`list ${loading ? "stale" : ""}`}>
          <table class="rows">
            <thead><tr>{columns.map((c) => <Head key={c.key} column={c} />)}<th scope="col">why not profiled, or how it ended</th><th scope="col"><span class="sr">capture</span></th></tr></thead>
            <tbody>{data.processes.map((p) => <Row key={p.instance} p={p} at={data.at} onCapture={setSubject} />)}</tbody>
          </table>
          {data.next && <p class="next"><button onClick={() => void moreProcesses()} disabled={loading}>show more</button></p>}
        </div>
      )}
      <AskDialog subject={subject} onClose={() => setSubject(null)} />
    </section>
  );
}

function Head(p: { column: (typeof columns)[number] }) {
  const v = view.value;
  const { key, name } = p.column;
  const sort = v.sort || "service";
  const dir = sort === key ? "ascending" : sort === `-${key}` ? "descending" : undefined;
  const first = key === "last_seen" ? "-last_seen" : key; // the latest first
  return (
    <th scope="col" class={p.column.class} aria-sort={dir}>
      <button onClick={() => go({ sort: dir ? (dir === "ascending" ? `-${key}` : key) : first === "service" ? "" : first })}>
        {name}{dir && <span class="arrow">{dir === "ascending" ? "▲" : "▼"}</span>}
      </button>
    </th>
  );
}

function Row(props: { p: Process; at: number; onCapture: (s: Subject) => void }) {
  const { p, at } = props;
  const zone = view.value.zone;
  const name = p.service || p.exe || p.instance;
  return (
    <tr class={p.state === "running" ? "" : p.state}>
      <td>{p.gatherer ? <a href={profilesOf(p)} title={`Profiles of this process: ${p.instance}`}>{name}</a> : <span title={p.exe}>{name}</span>}</td>
      <td>{p.version}</td>
      <td class="mono">{p.go_version.replace(/^go/, "")}</td>
      <td>{p.node && <button class="link" title={`Only node ${p.node}`} onClick={() => go({ node: p.node })}>{p.node}</button>}</td>
      <td title={p.pod}>{p.pod}</td>
      <td class="n">{p.pid || ""}</td>
      <td class="n" title={p.started ? `started ${clock(p.started, zone)}` : ""}>{span(p.uptime_ms)}</td>
      <td>{p.gatherers.join(", ") || <span class="note">nothing</span>}</td>
      <td class="n" title={clock(p.last_seen, zone)}>{span(Math.max(at - p.last_seen, 1)) || "0s"}</td>
      <td><span class="state">{p.state}</span></td>
      <td class="why" title={p.reason}>{p.reason}</td>
      <td>{p.state === "running" && p.gatherer && <button class="quiet" aria-label={`Capture ${name} ${p.pid || ""}`} onClick={() => props.onCapture({ service: p.service, process: p })}>capture…</button>}</td>
    </tr>
  );
}
