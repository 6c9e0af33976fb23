import { computed } from "@preact/signals";
import { get, type Params } from "../api";
import { Command } from "../command";
import { Problem } from "../fleet/problem";
import { profilesOf, several } from "../fleet/words";
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
  running: number;
  processes: number;
  nodes?: string[];
  first: number;
  last: number;
}

interface Build {
  id: string;
  go_version: string;
  module: string;
  version: string;
  vcs_revision?: string;
  vcs_modified?: boolean;
  modules: number;
  size?: number;
  known: boolean;
  first_seen: number;
  services: Use[];
}

interface List<T> {
  builds: T[];
  more: boolean;
}

/** With is a build that has the module asked for, in a version that is in the range, or may be. */
interface With extends Build {
  found: { path: string; version: string; declared?: string; unknown?: boolean };
}

interface Module {
  path: string;
  version?: string;
  replace?: Module;
}

interface Detail {
  build: { id: string; go_version: string; path?: string; main: Module; deps: Module[]; settings: Record<string, string>; size?: number; stripped?: string };
  processes: { instance: string; service: string; node: string; pod?: string; pid: number; state: string; started: number; conditions?: Record<string, string> }[];
}

interface Diff {
  modules: { path: string; change: string; from: string; to: string }[];
  settings: { name: string; from: string; to: string }[];
}

const builds = loaded<List<Build>>();
const having = loaded<List<With>>();
const detail = loaded<Detail>();
const diff = loaded<Diff>();

/** when are the parameters of a request while the tab is shown and they are there; text, so that they change only when they do. */
const when = (f: () => Params | null) => computed(() => JSON.stringify(view.value.tab === "builds" && range.value ? f() : null));
const since = () => range.value?.from;
const wanted = when(() => ({ service: service.value, since: since() }));
const wantedWith = when(() => (view.value.module ? { module: view.value.module, version: view.value.version, since: since() } : null));
const wantedDetail = when(() => (view.value.build ? { id: view.value.build, since: since() } : null));
const wantedDiff = when(() => (view.value.a && view.value.b ? { a: view.value.a, b: view.value.b } : null));

/** startBuilds keeps what the tab shows loaded. */
export function startBuilds(): void {
  const read = (w: { value: string }) => () => JSON.parse(w.value) as Params | null;
  fetching(builds, read(wanted), (p, stop) => get<List<Build>>("builds", p, stop));
  fetching(having, read(wantedWith), (p, stop) => get<List<With>>("builds/with", p, stop));
  fetching(detail, read(wantedDetail), ({ id, ...p }, stop) => get<Detail>(`builds/${encodeURIComponent(String(id))}`, p, stop));
  fetching(diff, read(wantedDiff), (p, stop) => get<Diff>("builds/diff", p, stop));
}

const busy = (l: Loaded<unknown>, w: { value: string }) => w.value !== "null" && l.loading;

/** BuildsTab is which binaries run where, what differs between two of them, and who has a module. */
export function BuildsTab() {
  const { data, error, loading } = builds.value;
  const v = view.value;
  return (
    <section class="runtime" aria-label="Builds" aria-busy={loading || busy(having.value, wantedWith) || busy(detail.value, wantedDetail) || busy(diff.value, wantedDiff)}>
      <div class="tools fields">
        <Field label="who runs module" name="module" placeholder="golang.org/x/text, or std" />
        <Field label="in versions" name="version" placeholder="<v0.3.8" />
        {v.module && <button onClick={() => go({ module: "", version: "" })}>all builds</button>}
      </div>
      {v.a && v.b && <DiffPanel />}
      {v.build && <DetailPanel />}
      {v.module && <Having />}
      {!v.module && error && <Problem error={error} what="builds" />}
      {!v.module && data && (data.builds.length ? <Builds list={data} stale={loading} /> : !loading && <NoBuilds />)}
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

/** Where is who runs a build, or ran it. */
function Where(p: { list: Use[] }) {
  const zone = view.value.zone;
  return (
    <>
      {p.list.map((u) => (
        <div key={`${u.service} ${u.version}`} title={u.nodes?.join(", ")}>
          <a href={profilesAt({ query: withLabel(withLabel("", "service_name", u.service), "service_version", u.version) })}>{u.service}</a> {u.version}{" "}
          {u.running ? <>runs in {several(u.running, "process", "processes")}</> : <span class="note">ran until {clock(u.last, zone, "minute")}</span>}
        </div>
      ))}
      {p.list.length === 0 && <span class="note">nobody ran it</span>}
    </>
  );
}

/** Path is a module's path, shortened from the left where there is no room: what it is called stays. */
function Path(p: { path: string }) {
  const name = /[^/]+(\/v\d+)?$/.exec(p.path)?.[0] ?? p.path;
  return <span class="module mono" title={p.path}><span class="note" style={{ maxWidth: `calc(100% - ${name.length}ch)` }}><bdi>{p.path.slice(0, p.path.length - name.length)}</bdi></span><span>{name}</span></span>;
}

/** Version is the build's own; of one that has none, what its processes are called. */
function Version(p: { b: Build }) {
  const told = [...new Set(p.b.services.map((u) => u.version))].filter(Boolean).join(", ");
  return p.b.version ? <>{p.b.version}</> : <span class="note" title="The build has no version of its own: service_version of its processes">{told}</span>;
}

function Builds(p: { list: List<Build>; stale: boolean }) {
  const { a, b, zone } = view.value;
  const pick = (side: "a" | "b", id: string) => go({ [side]: view.value[side] === id ? "" : id });
  return (
    <div class={`list ${p.stale ? "stale" : ""}`}>
      <table class="rows wrapped">
        <thead><tr><th scope="col">build</th><th scope="col">compare</th><th scope="col">where</th><th scope="col">module</th><th scope="col">version</th><th scope="col">revision</th><th scope="col">Go</th><th scope="col" class="n">modules</th><th scope="col" class="n">size</th><th scope="col">first seen</th></tr></thead>
        <tbody>
          {p.list.builds.map((x) => (
            <tr key={x.id} class={x.id === a || x.id === b || x.id === view.value.build ? "picked" : ""}>
              <td><BuildLink id={x.id} /></td>
              <td class="pair">
                <button class="quiet" disabled={!x.known} aria-pressed={x.id === a} aria-label={`Compare from ${x.id.slice(0, 12)}`} onClick={() => pick("a", x.id)}>from</button>
                <button class="quiet" disabled={!x.known} aria-pressed={x.id === b} aria-label={`Compare to ${x.id.slice(0, 12)}`} onClick={() => pick("b", x.id)}>to</button>
              </td>
              <td class="wrap"><Where list={x.services} /></td>
              <td class="mod">{x.known ? <Path path={x.module} /> : <span class="note">only its id is known</span>}</td><td class="num"><Version b={x} /></td>
              <td class="num" title={x.vcs_revision}>{x.vcs_revision?.slice(0, 10)}{x.vcs_modified && " dirty"}</td><td class="num">{x.go_version}</td><td class="n">{x.known && x.modules}</td>
              <td class="n">{x.size ? formatValue(x.size, "bytes") : <span class="note" title="Nobody who can read the file has told its size: sonde builds add FILE tells it, and a collector on the node">—</span>}</td><td class="num">{clock(x.first_seen, zone, "minute")}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {p.list.more && <p class="note none">There are more: choose a service, or a shorter range.</p>}
    </div>
  );
}

function Having() {
  const { data, error, loading } = having.value;
  const { module, version } = view.value;
  const list = error ? [] : (data?.builds ?? []);
  return (
    <>
      {error && <Problem error={error} what={`builds with ${module}`} />}
      {data && !error && !list.length && !loading && <div class="nothing"><p>No build that is known has {module} {version}.</p></div>}
      {list.length > 0 && (
        <div class={`list ${loading ? "stale" : ""}`}>
          <table class="rows wrapped">
            <thead><tr><th scope="col">build</th><th scope="col">version of {module}</th><th scope="col">where</th><th scope="col">in</th></tr></thead>
            <tbody>
              {list.map((x) => (
                <tr key={x.id}>
                  <td><BuildLink id={x.id} /></td>
                  <td><span class="num">{x.found.path !== module && `${x.found.path} `}{x.found.version || "no version"}</span>{x.found.unknown && <span class="note"> may be in the range</span>}{x.found.declared && <span class="note"> in place of {x.found.declared}</span>}</td>
                  <td class="wrap"><Where list={x.services} /></td>
                  <td class="mod"><Path path={x.module} /> <Version b={x} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

const named = (m: Module): string => [m.version ?? "", m.replace && `=> ${m.replace.path} ${m.replace.version ?? ""}`].filter(Boolean).join(" ");

function DetailPanel() {
  const { data, error, loading } = detail.value;
  const settings = Object.entries(data?.build.settings ?? {}).sort();
  return (
    <section aria-label="Build" class={`panel ${loading ? "stale" : ""}`}>
      <div class="tools">
        <h2 class="mono">{view.value.build}</h2>
        {data && <span class="note num">{[data.build.path || data.build.main.path, data.build.main.version, data.build.go_version, data.build.size ? formatValue(data.build.size, "bytes") : "", data.build.stripped === "yes" ? "stripped" : ""].filter(Boolean).join(" ")}</span>}
        <span class="spring" />
        <button aria-label="Close the build" onClick={() => go({ build: "" })}>×</button>
      </div>
      {error && <Problem error={error} what="build" />}
      {data && (
        <>
          <details open={settings.length > 0}><summary>{several(settings.length, "setting")}</summary><ul class="attrs mono">{settings.map(([k, v]) => <li key={k}>{k}={v}</li>)}</ul></details>
          <details><summary>{several(data.build.deps.length, "module")}</summary><ul class="attrs mono">{data.build.deps.map((m) => <li key={m.path}><button class="link" title="Who else runs it?" onClick={() => go({ module: m.path, version: "" })}>{m.path}</button> {named(m)}</li>)}</ul></details>
          <details>
            <summary>{several(data.processes.length, "process", "processes")} ran it</summary>
            <ul class="attrs">
              {data.processes.map((q) => (
                <li key={q.instance}><a href={profilesOf(q)}>{q.pod || `${q.node}:${q.pid}`}</a> {q.state} <span class="note">since {clock(q.started, view.value.zone)}</span> <span class="mono note">{Object.entries(q.conditions ?? {}).map(([k, v]) => `${k}=${v}`).join(" ")}</span></li>
              ))}
            </ul>
          </details>
        </>
      )}
    </section>
  );
}

function DiffPanel() {
  const { data, error, loading } = diff.value;
  const { a, b } = view.value;
  const changes = [...(data?.modules ?? []).map((m) => ({ name: m.path, ...m })), ...(data?.settings ?? []).map((s) => ({ change: "setting", ...s }))];
  return (
    <section aria-label="What differs" class={`panel ${loading ? "stale" : ""}`}>
      <div class="tools">
        <h2>from <span class="mono">{a.slice(0, 12)}</span> to <span class="mono">{b.slice(0, 12)}</span></h2>
        <button onClick={() => go({ a: b, b: a }, true)}>swap</button>
        <span class="spring" />
        <button aria-label="Close what differs" onClick={() => go({ a: "", b: "" })}>×</button>
      </div>
      {error && <Problem error={error} what="what differs" />}
      {data && !error && !changes.length && <p class="note none">The same modules, the same settings.</p>}
      {changes.length > 0 && (
        <div class="list">
          <table class="rows differs">
            <thead><tr><th scope="col">module or setting</th><th scope="col">change</th><th scope="col">from</th><th scope="col">to</th></tr></thead>
            <tbody>{changes.map((c) => <tr key={`${c.change} ${c.name}`}><td class="mod"><Path path={c.name} /></td><td>{c.change}</td><td class="num" title={c.from}>{c.from}</td><td class="num" title={c.to}>{c.to}</td></tr>)}</tbody>
          </table>
        </div>
      )}
    </section>
  );
}
