import { deltaText } from "./display";
import { fitName } from "./names";
import { direct, type One } from "./flame/rows";
import { formatChange, formatShare, formatValue, type TypeInfo } from "./format";
import { ErrorNote } from "./notices";
import { go, near, scale, view } from "./state";

/** NearPanel shows the function that is chosen between those that call it and those that it calls. */
export function NearPanel(p: { type: TypeInfo }) {
  const { data: c, error, loading } = near.value;
  const fn = view.value.fn;
  const { now, base } = scale.value;
  const diff = c?.base_total !== undefined;
  const numbers = c && (diff
    ? `total ${deltaText(c.total * now - c.base_total! * base, p.type)} (${formatChange(c.total * now, c.base_total! * base)})`
    : `self ${formatValue(c.self, p.type.unit)}, total ${formatValue(c.total, p.type.unit)} (${formatShare(c.total, c.all)})`);
  return (
    <section class={`near ${loading ? "stale" : ""}`} aria-label="Callers and callees" aria-busy={loading}>
      <div class="tools">
        <h2 class="mono" title={fn}>{fitName(fn, 60).join("")}</h2>
        <span class="note num">{c && c.total + (c.base_total ?? 0) === 0 ? "not in this range" : numbers}</span>
        <span class="spring" />
        <button disabled={view.value.only === fn} onClick={() => go({ only: fn, zoom: "" })} title="Its callers above, what it calls below, as flame graphs">only</button>
        <button onClick={() => go({ fn: "" }, true)} aria-label="Close callers and callees">×</button>
      </div>
      {error && <ErrorNote message={error.message} hint={error.hint} />}
      {c && (
        <div class="sides">
          <Side title="called by" none="nothing calls it" list={direct(c.callers, now, base)} all={c.total * now} type={p.type} diff={diff} />
          <Side title="calls" none="it calls nothing" list={direct(c.callees, now, base)} all={c.total * now} type={p.type} diff={diff} />
        </div>
      )}
    </section>
  );
}

function Side(p: { title: string; none: string; list: One[]; all: number; type: TypeInfo; diff: boolean }) {
  return (
    <div class="side" role="group" aria-label={p.title}>
      <table class="numbers">
        <thead><tr><th scope="col">{p.title}</th><th scope="col">{p.diff ? "delta" : "total"}</th><th scope="col" /></tr></thead>
        <tbody>
          {p.list.slice(0, 100).map((o) => (
            <tr key={o.name}>
              <th scope="row" title={o.name}>
                <i class={`swatch k-${o.kind || "other"}`} />
                {o.name === "(other)" ? o.name : <button class="link mono" onClick={() => go({ fn: o.name }, true)}>{fitName(o.name, 32).join("")}</button>}
              </th>
              <td>{p.diff ? deltaText(o.now - o.base, p.type) : formatValue(o.now, p.type.unit)}</td>
              <td class="note">{p.diff ? formatChange(o.now, o.base) : formatShare(o.now, p.all)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {p.list.length === 0 && <p class="note">{p.none}</p>}
    </div>
  );
}
