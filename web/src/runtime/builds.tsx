import { computed } from "@preact/signals";
import { get, type Params } from "../api";
import { Command } from "../command";
import { Problem } from "../fleet/problem";
import { count } from "../fleet/words";
import { formatValue } from "../format";
import { fetching, loaded, type Loaded } from "../loading";
import { withLabel } from "../selector";
import { clock } from "../time";
import { Field } from "./lines";
import { go, profilesAt, range, service, view } from "./state";
import { BuildLink } from "./vulns";

/** Use is what one service does with a build. */
interface Use {
  service: string;
  version: string;
  processes: number;
  running: number;
  first: number;
  last: number;
}

interface Build {
  id: string;
  module: string;
  version: string;
  go_version: string;
  size: number;
  stripped: string;
  uses: Use[] | null;
}

/** With is a build that has the module asked for. */
interface With extends Build {
  found: string; // the version compiled
  declared?: string; // what go.mod asks for where that was replaced
}

interface Change {
  name: string;
  a: string;
  b: string;
}

interface Diff {
  modules: (Change & { kind: "added" | "removed" | "up" | "down" | "changed" })[] | null;
  settings: Change[] | null;
}

const builds = loaded<Build[]>();
const having = loaded<With[]>();
const diff = loaded<Diff>();

const shown = computed(() => view.value.tab === "builds");
const text = (f: () => Params | null) => computed(() => (shown.value ? JSON.stringify(f()) : "null"));
const wanted = text(() => (range.value ? { service: service.value, since: range.value.from } : null));
const wantedWith = text(() => (view.value.module ? { module: view.value.module, version: view.value.version } : null));
const wantedDiff = text(() => (view.value.a && view.value.b ? { a: view.value.a, b: view.value.b } : null));

/** startBuilds keeps what the tab shows loaded. */
export function startBuilds(): void {
  const read = (w: { value: string }) => () => JSON.parse(w.value) as Params | null;
  fetching(builds, read(wanted), async (p, stop) => (await get<{ builds: Build[] | null }>("builds", p, stop)).builds ?? []);
  fetching(having, read(wantedWith), async (p, stop) => (await get<{ builds: With[] | null }>("builds/with", p, stop)).builds ?? []);
  fetching(diff, read(wantedDiff), (p, stop) => get<Diff>("builds/diff", p, stop));
}

const busy = (l: Loaded<unknown>, asked: boolean) => asked && l.loading;

/** BuildsTab is which binaries run where, what differs between two of them, and who has a module. */
export function BuildsTab() {
  const { data, error, loading } = builds.value;
  const v = view.value;
  return (
    <section class="runtime" aria-label="Builds" aria-busy={loading || busy(having.value, v.module !== "") || busy(diff.value, v.a !== "" && v.b !== "")}>
      <div class="tools fields">
        <Field label="who runs module" name="module" placeholder="golang.org/x/text" />
        <Field label="at" name="version" placeholder="<v0.3.8" />
        {v.module && <button onClick={() => go({ module: "", version: "" })}>all builds</button>}
      </div>
      {v.module && <Having />}
      {v.a && v.b && <DiffPanel />}
      {error && <Problem error={error} what="builds" />}
      {data && !v.module && (data.length ? <Builds list={data} stale={loading} /> : !loading && <NoBuilds />)}
    </section>
  );
}

function NoBuilds() {
  return (
    <div class="none">
      <p>No build{service.value ? ` of ${service.value}` : ""} ran in this range. They are learnt from the agent and from what runs on a node; of a file by</p>
      <Command what="the command" text="sonde builds add ./cart" />
    </div>
  );
}

function Where(p: { build: string; list: Use[] | null }) {
  const zone = view.value.zone;
  return (
    <>
      {(p.list ?? []).map((u) => (
        <div key={`${u.service} ${u.version}`}>
          <a href={profilesAt({ query: withLabel(withLabel("", "service_name", u.service), "service_version", u.version) })}>{u.service}</a> {u.version}{" "}
          <span class="note">{u.running ? `${count(u.running)} of ${count(u.processes)} processes run` : `${count(u.processes)} processes, last seen ${clock(u.last, zone, "minute")}`}</span>
        </div>
      ))}
    </>
  );
}

function Builds(p: { list: Build[]; stale: boolean }) {
  const { a, b, zone } = view.value;
  const pick = (side: "a" | "b", id: string) => go({ [side]: view.value[side] === id ? "" : id });
  return (
    <div class={`list ${p.stale ? "stale" : ""}`}>
      <table class="rows wrapped">
        <thead><tr><th scope="col">compare</th><th scope="col">build</th><th scope="col">module</th><th scope="col">version</th><th scope="col">Go</th><th scope="col" class="n">size</th><th scope="col">where</th><th scope="col">first seen</th></tr></thead>
        <tbody>
          {p.list.map((x) => (
            <tr key={x.id} class={x.id === a || x.id === b ? "picked" : ""}>
              <td>
                <span class="group">
                  <button class="quiet" aria-pressed={x.id === a} aria-label={`Compare from ${x.id.slice(0, 12)}`} onClick={() => pick("a", x.id)}>from</button>
                  <button class="quiet" aria-pressed={x.id === b} aria-label={`Compare to ${x.id.slice(0, 12)}`} onClick={() => pick("b", x.id)}>to</button>
                </span>
              </td>
              <td class="mono" title={x.id}>{x.id.slice(0, 12)}</td><td class="mono">{x.module}</td><td class="num">{x.version}</td><td class="num">{x.go_version}</td>
              <td class="n">{x.size ? formatValue(x.size, "bytes") : ""}</td><td class="wrap"><Where build={x.id} list={x.uses} /></td>
              <td class="num">{x.uses?.length ? clock(Math.min(...x.uses.map((u) => u.first)), zone, "minute") : ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Having() {
  const { data, error, loading } = having.value;
  const { module, version } = view.value;
  return (
    <>
      {error && <Problem error={error} what={`builds with ${module}`} />}
      {data && !error && data.length === 0 && !loading && <div class="nothing"><p>No build that is known has {module} {version}.</p></div>}
      {data && data.length > 0 && (
        <div class={`list ${loading ? "stale" : ""}`}>
          <table class="rows wrapped">
            <thead><tr><th scope="col">build</th><th scope="col">{module}</th><th scope="col">of</th><th scope="col">where</th></tr></thead>
            <tbody>
              {data.map((x) => (
                <tr key={x.id}>
                  <td><BuildLink id={x.id} /></td><td class="num">{x.found || <span class="note">a folder</span>}{x.declared && <span class="note"> in place of {x.declared}</span>}</td><td class="mono">{x.module} {x.version}</td><td class="wrap"><Where build={x.id} list={x.uses} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

function DiffPanel() {
  const { data, error, loading } = diff.value;
  const { a, b } = view.value;
  const modules = data?.modules ?? [], settings = data?.settings ?? [];
  return (
    <section aria-label="What differs" class={loading ? "stale" : ""}>
      <div class="tools">
        <h2>from <span class="mono">{a.slice(0, 12)}</span> to <span class="mono">{b.slice(0, 12)}</span></h2>
        <button onClick={() => go({ a: b, b: a }, true)}>swap</button>
        <button aria-label="Close what differs" onClick={() => go({ a: "", b: "" })}>×</button>
      </div>
      {error && <Problem error={error} what="what differs" />}
      {data && !modules.length && !settings.length && <p class="note none">The same modules, the same settings.</p>}
      {modules.length > 0 && <Changes what="module" list={modules.map((m) => [m.kind, m.name, m.a, m.b])} />}
      {settings.length > 0 && <Changes what="setting" list={settings.map((s) => ["changed", s.name, s.a, s.b])} />}
    </section>
  );
}

function Changes(p: { what: string; list: [string, string, string, string][] }) {
  return (
    <div class="list">
      <table class="rows places">
        <thead><tr><th scope="col">{p.what}</th><th scope="col">how</th><th scope="col">from</th><th scope="col">to</th></tr></thead>
        <tbody>{p.list.map(([how, name, from, to]) => <tr key={name}><td class="mono">{name}</td><td>{how}</td><td class="num">{from}</td><td class="num">{to}</td></tr>)}</tbody>
      </table>
    </div>
  );
}
