import { computed } from "@preact/signals";
import { get, type Params } from "../api";
import { Command } from "../command";
import { Problem } from "../fleet/problem";
import { count } from "../fleet/words";
import { fetching, loaded } from "../loading";
import { quote } from "../selector";
import { clock, toParam } from "../time";
import { defaultView as explorer, formatView as explorerAddress } from "../url";
import { go, linkTo, range, service, view } from "./state";

interface Seen {
  function: string;
  service: string;
  first: number;
  last: number;
}

interface Vuln {
  id: string;
  aliases: string[] | null;
  summary: string;
  module: string;
  found: string;
  fixed: string;
  build: string;
  services: string[] | null;
  symbols: string[] | null;
  in_binary: "yes" | "no" | "unknown";
  seen: Seen[] | null;
}

interface Unsupported {
  build: string;
  go_version: string;
  since: string | number;
  services: string[] | null;
}

interface Answer {
  vulns: Vuln[] | null;
  unsupported: Unsupported[] | null;
  database?: { modified: string | number; entries: number };
}

const vulns = loaded<Answer>();

const wanted = computed(() => {
  const r = range.value;
  return view.value.tab === "vulns" && r ? JSON.stringify({ service: service.value, since: r.from }) : "";
});

/** startVulns keeps the vulnerabilities loaded while their tab is shown. */
export function startVulns(): void {
  fetching(vulns, () => (wanted.value ? (JSON.parse(wanted.value) as Params) : null), (p, stop) => get<Answer>("vulns", p, stop));
}

/** urgency orders what was seen running before what is in the binary, that before what may be, and that before what is not. */
export function urgency(v: Pick<Vuln, "seen" | "in_binary">): number {
  if (v.seen?.length) return 0;
  return { yes: 1, unknown: 2, no: 3 }[v.in_binary] ?? 2;
}

const day = (t: string | number) => (typeof t === "number" ? clock(t, "utc").slice(0, 10) : t.slice(0, 10));

/** VulnsTab is what is known to be wrong with what runs, and whether it was seen running. */
export function VulnsTab() {
  const { data, error, loading } = vulns.value;
  const list = [...(data?.vulns ?? [])].sort((a, b) => urgency(a) - urgency(b) || (a.id < b.id ? 1 : -1));
  const old = data?.unsupported ?? [];
  return (
    <section class="runtime" aria-label="Vulnerabilities" aria-busy={loading}>
      {error && <Problem error={error} what="vulnerabilities" />}
      {data && (
        <div class={loading ? "stale" : ""}>
          <ul class="figures">
            <li><b class="num">{count(list.filter((v) => v.seen?.length).length)}</b> seen running</li>
            <li><b class="num">{count(list.filter((v) => urgency(v) === 1).length)}</b> in the binary, not seen</li>
            <li><b class="num">{count(list.filter((v) => urgency(v) === 2).length)}</b> by version, the binary is not known</li>
            <li><b class="num">{count(list.filter((v) => urgency(v) === 3).length)}</b> linked out</li>
            <li><b class="num">{count(old.length)}</b> builds of an unsupported Go</li>
            {data.database && data.database.entries > 0 && <li class="note">database of {day(data.database.modified)}, {count(data.database.entries)} entries</li>}
          </ul>
          {!data.database?.entries && <NoDatabase />}
          {data.database && data.database.entries > 0 && list.length === 0 && <div class="nothing"><p>Nothing in the database is about what ran in this range.</p></div>}
          {list.length > 0 && <Vulns list={list} />}
          {old.length > 0 && <Unsupporteds list={old} />}
        </div>
      )}
    </section>
  );
}

function NoDatabase() {
  return (
    <div class="none">
      <p>The collector has no copy of the Go vulnerability database. One is a file to fetch, whose place the configuration names as vulndb under builds:</p>
      <Command what="the command" text="curl -fsSLO https://vuln.go.dev/vulndb.zip" />
      <p class="note">Without touching the configuration: <code>sonde vulns --db vulndb.zip</code></p>
    </div>
  );
}

function Services(p: { list: string[] | null }) {
  return <>{(p.list ?? []).map((s, i) => <>{i > 0 && ", "}<button class="link" title={`Only ${s}`} onClick={() => go({ query: `{service_name=${quote(s)}}` })}>{s}</button></>)}</>;
}

/** BuildLink shows a build by the start of its id. */
export function BuildLink(p: { id: string }) {
  return <a class="mono" title={p.id} href={linkTo({ tab: "builds", a: p.id, b: "" })} onClick={(e) => (e.preventDefault(), go({ tab: "builds", a: p.id, b: "" }))}>{p.id.slice(0, 12)}</a>;
}

/** where is the explorer with the function between its callers and callees, at the time that it was seen. */
function where(s: Seen): string {
  return "/" + explorerAddress({ ...explorer, query: `{service_name=${quote(s.service)}}`, fn: s.function, q: s.function, from: toParam(s.first - 30_000), to: toParam(s.last + 30_000), zone: view.value.zone });
}

function Vulns(p: { list: Vuln[] }) {
  const zone = view.value.zone;
  return (
    <div class="list">
      <table class="rows wrapped">
        <thead><tr><th scope="col">vulnerability</th><th scope="col">module</th><th scope="col">found</th><th scope="col">fixed in</th><th scope="col">build</th><th scope="col">services</th><th scope="col">in the binary</th><th scope="col">in profiles</th></tr></thead>
        <tbody>
          {p.list.map((v) => (
            <tr key={`${v.id} ${v.build} ${v.module}`}>
              <td class="wrap"><a href={`https://pkg.go.dev/vuln/${encodeURIComponent(v.id)}`} target="_blank" rel="noopener noreferrer" title={(v.aliases ?? []).join(", ")}>{v.id}</a> {v.summary}</td>
              <td class="mono" title={v.module}>{v.module}</td><td class="num">{v.found}</td><td class="num">{v.fixed || <span class="note">no version</span>}</td>
              <td><BuildLink id={v.build} /></td>
              <td class="wrap"><Services list={v.services} /></td>
              <td title={(v.symbols ?? []).join("\n")}>{{ yes: "yes", no: "no: linked out", unknown: <span class="note">not known</span> }[v.in_binary] ?? v.in_binary}</td>
              <td class="wrap">
                {v.seen?.length ? v.seen.map((s) => (
                  <div key={`${s.function} ${s.service}`}>
                    <span class="seen">seen</span> <a class="mono" href={where(s)}>{s.function}</a> <span class="note">{s.service}, {clock(s.first, zone, "minute")} to {clock(s.last, zone, "minute")}</span>
                  </div>
                )) : <span class="note">not seen</span>}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Unsupporteds(p: { list: Unsupported[] }) {
  return (
    <>
      <div class="tools"><h2>built by a Go that gets no fixes any more</h2></div>
      <div class="list">
        <table class="rows places">
          <thead><tr><th scope="col">build</th><th scope="col">Go</th><th scope="col">unsupported since</th><th scope="col">services</th></tr></thead>
          <tbody>
            {p.list.map((u) => <tr key={u.build}><td><BuildLink id={u.build} /></td><td class="num">{u.go_version}</td><td class="num">{day(u.since)}</td><td><Services list={u.services} /></td></tr>)}
          </tbody>
        </table>
      </div>
    </>
  );
}
