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
  instances: number;
  first: number;
  last: number;
  types: string[];
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
  version: string;
  go_version: string;
  since: string;
  services: string[] | null;
}

interface Unknown {
  build: string;
  services: string[] | null;
  why: string;
}

/** Answer has the vulnerabilities that were seen running first, then those that are in the binary. */
interface Answer {
  vulns: Vuln[] | null;
  unsupported: Unsupported[] | null;
  unknown: Unknown[] | null;
  types: string[] | null;
  database: { modified: string; entries: number } | null;
  note?: string;
  more?: boolean;
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

/** VulnsTab is what is known to be wrong with what runs, and whether it was seen running. */
export function VulnsTab() {
  const { data, error, loading } = vulns.value;
  const list = data?.vulns ?? [], old = data?.unsupported ?? [], unknown = data?.unknown ?? [];
  const seen = list.filter((v) => v.seen?.length).length;
  const unseen = (in_binary: string) => count(list.filter((v) => !v.seen?.length && v.in_binary === in_binary).length);
  return (
    <section class="runtime" aria-label="Vulnerabilities" aria-busy={loading}>
      {error && <Problem error={error} what="vulnerabilities" />}
      {data && (
        <div class={loading ? "stale" : ""}>
          <ul class="figures">
            {data.database && (
              <>
                <li class={seen ? "short" : ""}><b class="num">{count(seen)}</b> seen running</li>
                <li><b class="num">{unseen("yes")}</b> in the binary, not seen</li>
                <li><b class="num">{unseen("unknown")}</b> by version, the binary is not known</li>
                <li><b class="num">{unseen("no")}</b> linked out</li>
              </>
            )}
            <li><b class="num">{count(old.length)}</b> {old.length === 1 ? "build" : "builds"} of an unsupported Go</li>
            {data.database && <li class="note">database of {data.database.modified.slice(0, 10)}, {count(data.database.entries)} entries; profiles looked at: {(data.types ?? []).join(", ") || "none"}</li>}
          </ul>
          {!data.database && <NoDatabase note={data.note} />}
          {data.database && list.length === 0 && <div class="nothing"><p>Nothing in the database is about what ran since the start of this range.</p></div>}
          {list.length > 0 && <Vulns list={list} />}
          {data.more && <p class="note none">More processes ran than were looked at: choose a service, or a shorter range.</p>}
          {old.length > 0 && <Unsupporteds list={old} />}
          {unknown.length > 0 && <Unknowns list={unknown} />}
        </div>
      )}
    </section>
  );
}

function NoDatabase(p: { note?: string }) {
  return (
    <div class="none">
      <p>No vulnerabilities are looked for{p.note && `: ${p.note}`}. The Go vulnerability database is one file to fetch:</p>
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
  return <a class="mono" title={p.id} href={linkTo({ tab: "builds", build: p.id })} onClick={(e) => (e.preventDefault(), go({ tab: "builds", build: p.id }))}>{p.id.slice(0, 12)}</a>;
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
                    <span class="seen">seen</span> <a class="mono" href={where(s)}>{s.function}</a> <span class="note">{s.service}, {count(s.instances)} {s.instances === 1 ? "process" : "processes"}, {clock(s.first, zone, "minute")} to {clock(s.last, zone, "minute")}, in {s.types.join(", ")}</span>
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
            {p.list.map((u) => <tr key={u.build}><td><BuildLink id={u.build} /></td><td class="num">{u.go_version}</td><td class="num">{u.since}</td><td><Services list={u.services} /></td></tr>)}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Unknowns(p: { list: Unknown[] }) {
  return (
    <>
      <div class="tools"><h2>not judged, or not all of it</h2></div>
      <div class="list">
        <table class="rows places">
          <thead><tr><th scope="col">build</th><th scope="col">services</th><th scope="col">why</th></tr></thead>
          <tbody>{p.list.map((u) => <tr key={`${u.build} ${u.why}`}><td><BuildLink id={u.build} /></td><td><Services list={u.services} /></td><td class="wrap">{u.why}</td></tr>)}</tbody>
        </table>
      </div>
    </>
  );
}
