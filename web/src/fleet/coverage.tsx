import { clock } from "../time";
import { Problem } from "./problem";
import { coverage, go, view, type Gap, type NodeTally, type Tally } from "./state";
import { count, percent } from "./words";

/** CoverageTab says how much of what runs is watched, and what would close each gap. */
export function CoverageTab() {
  const { data, error, loading } = coverage.value;
  const by = view.value.by === "service" ? "service" : "node";
  return (
    <section class="fleet" aria-label="Coverage" aria-busy={loading}>
      {error && <Problem error={error} what="coverage" />}
      {data && (
        <div class={loading ? "stale" : ""}>
          <ul class="figures">
            <Figure t={data.processes} what="Go processes watched" />
            <Figure t={data.pods} what="pods watched" />
            <Figure t={data.units} what="systemd units watched" />
            <Figure t={data.nodes} what="nodes report" />
          </ul>
          {data.processes.expected + data.nodes.expected === 0 && (
            <div class="nothing"><p>No node reports Go processes. <code>sonde sidecar --upstream {location.origin}</code> on each node does.</p></div>
          )}
          {data.gaps.length > 0 && <Gaps gaps={data.gaps} />}
          {data.gaps.length === 0 && data.processes.expected > 0 && <div class="nothing"><p>No gaps: everything that was seen is watched.</p></div>}
          {(data.by_node.length > 0 || data.by_service.length > 0) && (
            <>
              <div class="tools">
                <h2>by {by}</h2>
                <span class="group" role="group" aria-label="By">
                  <button aria-pressed={by === "node"} onClick={() => go({ by: "" }, true)}>node</button>
                  <button aria-pressed={by === "service"} onClick={() => go({ by: "service" }, true)}>service</button>
                </span>
              </div>
              <Places list={by === "node" ? data.by_node : data.by_service} by={by} />
            </>
          )}
        </div>
      )}
    </section>
  );
}

function Figure(p: { t: Tally; what: string }) {
  if (!p.t.expected) return null;
  const whole = p.t.watched === p.t.expected;
  return (
    <li class={whole ? "" : "short"}>
      <b class="num">{count(p.t.watched)}</b> of <b class="num">{count(p.t.expected)}</b> {p.what} <span class="note num">{percent(p.t.watched, p.t.expected)}</span>
    </li>
  );
}

function Gaps(p: { gaps: Gap[] }) {
  return (
    <>
      <div class="tools"><h2>gaps</h2></div>
      <div class="list">
        <table class="rows gaps">
          <thead><tr><th scope="col" class="n">processes</th><th scope="col">why</th><th scope="col">what cures it</th><th scope="col">services</th><th scope="col">nodes</th></tr></thead>
          <tbody>
            {p.gaps.map((g) => (
              <tr key={`${g.partial} ${g.reason}`}>
                <td class="n">{g.processes ? count(g.processes) : ""}</td>
                <td>
                  <details>
                    <summary>{g.partial && <span class="note">watched, but </span>}{g.reason}</summary>
                    <ul class="examples">
                      {g.examples.map((e) => (
                        <li key={e.instance}>
                          <span class="mono">{e.service || e.exe}{e.pid ? ` ${e.pid}` : ""}</span> <span class="note">{[e.node, e.pod || e.unit].filter(Boolean).join(", ")}</span>
                          {e.text !== g.reason && <div class="note">{e.text}</div>}
                        </li>
                      ))}
                    </ul>
                  </details>
                </td>
                <td>{g.cure}</td>
                <td><Names list={g.services} name="service" /></td>
                <td><Names list={g.nodes} name="node" /></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Names(p: { list: string[]; name: "service" | "node" }) {
  const some = p.list.slice(0, 3);
  return (
    <>
      {some.map((s, i) => <>{i > 0 && ", "}<button class="link" title={`Only ${p.name} ${s}`} onClick={() => go({ [p.name]: s })}>{s}</button></>)}
      {p.list.length > some.length && <span class="note"> and {p.list.length - some.length} more</span>}
    </>
  );
}

function Places(p: { list: NodeTally[]; by: "node" | "service" }) {
  return (
    <div class="list">
      <table class="rows places">
        <thead><tr><th scope="col" class="n">watched</th><th scope="col" class="n">of</th><th scope="col" class="n">missing</th><th scope="col">{p.by}</th>{p.by === "node" && <th scope="col">reports</th>}<th scope="col"><span class="sr">processes</span></th></tr></thead>
        <tbody>
          {p.list.map((n) => (
            <tr key={n.name} class={n.silent ? "lost" : ""}>
              <td class="n">{count(n.watched)}</td>
              <td class="n">{count(n.expected)}</td>
              <td class="n">{n.expected - n.watched ? count(n.expected - n.watched) : ""}</td>
              <td>{n.name || <span class="note">not known</span>}</td>
              {p.by === "node" && <td>{reports(n)}</td>}
              <td><button class="link" onClick={() => go({ tab: "processes", [p.by]: n.name, gatherer: "", search: "", state: "" })}>processes</button></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function reports(n: NodeTally): string {
  const more = [
    n.unknown ? `${count(n.unknown)} processes cannot be read` : "", n.more ? `${count(n.more)} more than it reports` : "",
  ].filter(Boolean);
  const who = n.silent ? `${n.gatherer || "its sidecar"} silent since ${clock(n.reported ?? 0, view.value.zone)}` : n.reports ? (n.gatherer ?? "") : "nothing reports what runs there";
  return [who, ...more].join("; ");
}
